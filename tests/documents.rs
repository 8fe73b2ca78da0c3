//! Checks that the options, faults, units, files of this project and link targets that the
//! documents name exist.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kubepods_repair::cli::OPTIONS;
use kubepods_repair::faults::Fault;

/// The two front pages, and all of `docs/`.
fn documents() -> Vec<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![top.join("README.md"), top.join("README.zh-CN.md")];
    for entry in fs::read_dir(top.join("docs")).unwrap() {
        found.push(entry.unwrap().path());
    }
    found.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
    found
}

fn name(path: &Path) -> String {
    let top = env!("CARGO_MANIFEST_DIR");
    path.strip_prefix(top).unwrap().display().to_string()
}

/// The lines inside of code blocks, and the lines outside.
fn code_and_prose(text: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut code, mut prose, mut is_code) = (Vec::new(), Vec::new(), false);
    for line in text.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
        } else if is_code {
            code.push(line);
        } else {
            prose.push(line);
        }
    }
    assert!(!is_code, "a block of code does not end");
    (code, prose)
}

/// Every piece of code: the lines of code blocks, and text between backticks.
fn code(text: &str) -> Vec<&str> {
    let (mut code, prose) = code_and_prose(text);
    for line in prose {
        code.extend(line.split('`').skip(1).step_by(2));
    }
    code
}

/// The words of `piece`, without the marks around them.
fn words(piece: &str) -> impl Iterator<Item = &str> {
    piece
        .split([' ', '|', '(', ')', '"', '\'', ',', ';', '='])
        .map(|word| word.trim_end_matches(['.', ':']))
}

fn is_option(word: &str) -> bool {
    OPTIONS.iter().any(|option| {
        let is_short = option
            .short
            .is_some_and(|short| word == format!("-{short}"));
        is_short || word == format!("--{}", option.long)
    })
}

#[test]
fn options_exist() {
    let mut wrong = Vec::new();
    let mut used = 0;
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        for piece in code(&text) {
            // Only the call of this program, up to a comment or the next command.
            let calls = piece
                .split(" #")
                .next()
                .unwrap_or_default()
                .split(['|', ';']);
            for call in calls {
                let Some((_, arguments)) = call.split_once("kubepods-repair ") else {
                    continue;
                };
                for word in words(arguments).filter(|word| word.starts_with('-')) {
                    used += 1;
                    if !is_option(word) {
                        wrong.push(format!("{}: {word}", name(&path)));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(used > 10, "only {used} options are named");
}

/// Checks the rows of tables that begin with names of faults.
#[test]
fn faults_exist() {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let mut wrong = Vec::new();
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        let (_, prose) = code_and_prose(&text);
        let mut is_table_of_faults = false;
        let mut named = BTreeSet::new();
        for line in prose {
            let Some(row) = line.strip_prefix('|') else {
                is_table_of_faults = false;
                continue;
            };
            let first = row.split('|').next().unwrap_or_default().trim();
            is_table_of_faults |= first == "fault" || first == "故障";
            if !is_table_of_faults {
                continue;
            }
            for word in first.split('`').skip(1).step_by(2) {
                if !word.chars().all(is_part) || Fault::named(word).is_none() {
                    wrong.push(format!("{}: {word}", name(&path)));
                }
                named.insert(word);
            }
        }
        if name(&path).starts_with("README") {
            assert!(named.len() >= 10, "{} names {named:?}", name(&path));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Checks the files and units of this project. C files belong to systemd, and `systemd/systemd#1`
/// is an issue.
#[test]
fn files_and_units_exist() {
    let folders = [
        "tests/",
        "packaging/",
        "docs/",
        "src/",
        "systemd/system",
        "systemd/catalog",
    ];
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    let mut named = 0;
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        for word in code(&text).into_iter().flat_map(words) {
            let is_file = folders.iter().any(|folder| word.starts_with(folder))
                && !word.contains(['<', '*', '$', '#'])
                && !word.ends_with(".c");
            let is_unit = word.starts_with("kubepods-repair")
                && (word.ends_with(".service") || word.ends_with(".timer"));
            let exists = if is_file {
                top.join(word).exists()
            } else if is_unit {
                top.join("systemd/system").join(word).exists()
            } else {
                continue;
            };
            named += 1;
            if !exists {
                wrong.push(format!("{}: {word}", name(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(named > 30, "only {named} are named");
}

/// The anchor that a forge generates from a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let heading: String = heading.to_lowercase().chars().filter(kept).collect();
    heading.replace(' ', "-")
}

/// Checks relative links, and the headings that they lead to.
#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        let (_, prose) = code_and_prose(&text);
        for link in prose.iter().flat_map(|line| line.split("](").skip(1)) {
            let link = link.split(')').next().unwrap_or_default();
            if link.starts_with("https:") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                path.clone()
            } else {
                path.with_file_name(file)
            };
            let Ok(text) = fs::read_to_string(&target) else {
                wrong.push(format!("{}: {link}", name(&path)));
                continue;
            };
            let (_, lines) = code_and_prose(&text);
            let mut headings = lines.iter().filter_map(|line| {
                let title = line.trim_start_matches('#').strip_prefix(' ')?;
                line.starts_with('#').then(|| anchor(title))
            });
            if !heading.is_empty() && !headings.any(|title| title == heading) {
                wrong.push(format!("{}: {link}", name(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// `tests/picture/draw` makes it again.
#[test]
fn the_picture_shows_what_the_program_says_now() {
    let shown = include_str!("../docs/terminal.txt");
    let mut said = String::new();
    for name in ["blockers/19-pinned-task", "groups/01-healthy"] {
        let file = format!("{}/tests/cases/{name}/stdout", env!("CARGO_MANIFEST_DIR"));
        said += &fs::read_to_string(file).unwrap();
    }
    let mut compared = 0;
    for line in shown.lines() {
        let line = line.trim_start_matches(['✗', '✓', ' ']);
        let starts = [
            "The kubelet will",
            "Fix: ",
            "fatal: ",
            "healthy: ",
            "Blocked by ",
        ];
        if starts.iter().any(|start| line.starts_with(start)) {
            assert!(said.contains(line), "the program no longer says: {line}");
            compared += 1;
        }
    }
    assert_eq!(compared, 5);
}
