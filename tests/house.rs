//! Rules for the source code that neither the compiler nor clippy can check.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use kubepods_repair::faults::Fault;

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else {
                found.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    assert!(found.len() > 20);
    found
}

/// The code of a file without its unit tests.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

fn offenders(is_meant: impl Fn(&str) -> bool, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources() {
        let name = path
            .strip_prefix(env!("CARGO_MANIFEST_DIR"))
            .unwrap()
            .display()
            .to_string();
        let hits = words
            .iter()
            .filter(|word| is_meant(&name) && code(&text).contains(**word));
        found.extend(hits.map(|word| format!("{name}: {word}")));
    }
    found
}

#[test]
fn diagnosis_and_plan_do_no_io() {
    let words = [
        "std::fs",
        "std::io",
        "std::env",
        "std::time",
        "std::process",
        "nix::fcntl",
        "nix::unistd",
        "Root::",
        "root::Root",
    ];
    let found = offenders(
        |name| name.starts_with("src/faults") || name == "src/plan.rs",
        &words,
    );
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn only_one_module_has_unsafe_code() {
    let words = ["unsafe {", "unsafe fn", "expect(unsafe_code"];
    let found = offenders(|name| name != "src/sys.rs", &words);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn source_files_stay_short() {
    let long = sources()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > 750);
    let long: Vec<_> = long.collect();
    assert!(long.is_empty(), "{long:?}");
}

/// Each fault is in the list of its file, so that `--explain` shows it, and has all its texts.
#[test]
fn every_fault_is_listed_and_fully_described() {
    let defined: usize = sources()
        .iter()
        .map(|(_, text)| text.matches(": Fault = Fault {").count())
        .sum();
    let all = Fault::all();
    assert_eq!(all.len(), defined, "a fault is missing from its FAULTS");
    for fault in all {
        let words = [
            fault.name,
            fault.title,
            fault.meaning,
            fault.signs,
            fault.remedy,
            fault.by_hand,
            fault.does,
        ];
        assert!(
            words.iter().all(|words| !words.is_empty()),
            "{}",
            fault.name
        );
    }
}

/// The modules from the bottom to the top. A module may use itself and those before it in this
/// list.
const MODULES: [&str; 16] = [
    "cgroup",
    "sys",
    "root",
    "kubelet",
    "host",
    "repair",
    "state",
    "faults",
    "cli",
    "outcome",
    "plan",
    "restraint",
    "verdict",
    "report",
    "run",
    "lib",
];

/// Exceptions. The steps of `repair` write one file of this program, whose format is in `state`.
const UPWARD: [(&str, &str); 1] = [("src/repair/units.rs", "state")];

/// docs/architecture.md shows this order.
#[test]
fn no_module_uses_one_above_it() {
    let rank = |module: &str| MODULES.iter().position(|known| *known == module);
    let mut upward = Vec::new();
    for (path, text) in sources() {
        let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
        let name = name.to_str().unwrap();
        let module = name.trim_start_matches("src/").split(['/', '.']).next();
        if name == "src/main.rs" {
            continue;
        }
        let own = rank(module.unwrap()).unwrap_or_else(|| panic!("{name} is in no known module"));
        for used in code(&text).split("crate::").skip(1) {
            let used = used.split(|c: char| !c.is_ascii_lowercase()).next();
            let Some(used) = used.filter(|used| rank(used) > Some(own)) else {
                continue;
            };
            if !UPWARD.contains(&(name, used)) {
                upward.push(format!("{name} uses {used}"));
            }
        }
    }
    assert!(upward.is_empty(), "{upward:#?}");
}
