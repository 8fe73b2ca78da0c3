//! `--help`, the manual page, the completions, the catalogue and the READMEs say the same.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kubepods_repair::cli::HELP;
use kubepods_repair::diagnosis::catalogue::Fault;
use kubepods_repair::report::catalog::OUTCOMES;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The manual page as it is read: `\-` is a dash.
fn manual() -> String {
    text("packaging/kubepods-repair.8").replace("\\-", "-")
}

/// Every long option in `text`.
fn long_options(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '-';
    let words = text
        .split(|c: char| !is_part(c))
        .filter(|word| word.starts_with("--") && word.len() > 3);
    words
        .map(|word| word.trim_start_matches('-').to_owned())
        .collect()
}

#[test]
fn options_are_the_same_everywhere() {
    let options = long_options(HELP);
    assert!(options.len() > 10, "{options:?}");
    let manual = manual();
    let section = manual
        .split(".SH OPTIONS")
        .nth(1)
        .unwrap()
        .split(".SH")
        .next()
        .unwrap();
    assert_eq!(long_options(section), options);
    for shell in ["bash", "zsh"] {
        assert_eq!(
            long_options(&text(&format!(
                "packaging/completions/kubepods-repair.{shell}"
            ))),
            options,
            "{shell}"
        );
    }
    let fish = text("packaging/completions/kubepods-repair.fish");
    let fish: BTreeSet<String> = fish
        .lines()
        .filter_map(|line| {
            line.split(" -l ")
                .nth(1)?
                .split(' ')
                .next()
                .map(str::to_owned)
        })
        .collect();
    assert_eq!(fish, options, "fish");
}

#[test]
fn exit_statuses_are_the_same_everywhere() {
    let manual = manual();
    let section = manual
        .split(".SH EXIT STATUS")
        .nth(1)
        .unwrap()
        .split(".SH")
        .next()
        .unwrap();
    for status in 0..=3 {
        assert!(HELP.contains(&format!("\n  {status}  ")));
        assert!(section.contains(&format!("\n.B {status}\n")), "{status}");
        assert!(
            text("README.md").contains(&format!("\n| {status} | ")),
            "{status}"
        );
    }
}

/// With `UPDATE_MANUAL` in the environment the manual's list of faults is written instead of
/// compared.
#[test]
fn faults_are_the_same_everywhere() {
    let mut list = String::new();
    for entry in Fault::ALL.iter().map(|fault| fault.entry()) {
        list += &format!(
            ".TP\n.B {}\n{}.\n{}\n",
            entry.name,
            entry.title,
            entry.remedy.replace(". ", ".\n")
        );
    }
    let page = text("packaging/kubepods-repair.8");
    let (before, rest) = page
        .split_once(".\\\" Begin: made from the catalogue.\n")
        .unwrap();
    let (_, after) = rest
        .split_once(".\\\" End: made from the catalogue.\n")
        .unwrap();
    let wanted = format!(
        "{before}.\\\" Begin: made from the catalogue.\n{list}.\\\" End: made from the \
         catalogue.\n{after}"
    );
    if std::env::var_os("UPDATE_MANUAL").is_some() {
        fs::write(path("packaging/kubepods-repair.8"), &wanted).unwrap();
    }
    assert!(
        text("packaging/kubepods-repair.8") == wanted,
        "UPDATE_MANUAL=1 cargo test --test manual writes it anew"
    );
    for name in Fault::ALL.iter().map(|fault| fault.name()) {
        assert!(
            text("README.md").contains(&format!("`{name}`")),
            "README.md does not name {name}"
        );
    }
}

#[test]
fn the_manual_names_fields_outcomes_and_files() {
    let manual = manual();
    for outcome in OUTCOMES {
        assert!(manual.contains(outcome.name), "{}", outcome.name);
    }
    let journal = text("src/report/journal.rs");
    let event = journal
        .split("tracing::event!(")
        .nth(1)
        .unwrap()
        .split(");")
        .next()
        .unwrap();
    let fields = event.lines().filter_map(|line| {
        line.trim()
            .split_once(" = ")
            .map(|(field, _)| field.to_uppercase())
    });
    let unnamed: Vec<String> = fields
        .filter(|field| field != "MESSAGE" && !manual.contains(field))
        .collect();
    assert!(
        unnamed.is_empty() && event.contains("message_id"),
        "{unnamed:?}"
    );
    for unit in fs::read_dir(path("systemd/system")).unwrap() {
        let name = unit.unwrap().file_name().into_string().unwrap();
        let named = name.replace("-check.service", "-check.timer");
        assert!(
            manual.contains(&format!("/usr/lib/systemd/system/{named}")),
            "{name}"
        );
    }
}

/// The Chinese README keeps step: as many headings of each level, the same blocks of commands and
/// output, the same names.
#[test]
fn the_chinese_readme_keeps_step() {
    let (english, chinese) = (text("README.md"), text("README.zh-CN.md"));
    assert_eq!(levels(&chinese), levels(&english));
    assert_eq!(blocks(&chinese), blocks(&english));
    for name in Fault::ALL.iter().map(|fault| format!("`{}`", fault.name())) {
        assert_eq!(chinese.contains(&name), english.contains(&name), "{name}");
    }
}

/// What stands between ``` and ```.
fn blocks(text: &str) -> Vec<&str> {
    text.split("\n```").skip(1).step_by(2).collect()
}

/// How deep each heading is.
fn levels(text: &str) -> Vec<usize> {
    let prose: String = text.split("\n```").step_by(2).collect();
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| line.bytes().take_while(|byte| *byte == b'#').count())
        .collect()
}
