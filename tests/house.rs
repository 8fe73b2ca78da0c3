//! The rules of the house that a compiler does not know.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};

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

/// What a file says outside of its unit tests.
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
        |name| name.starts_with("src/diagnosis") || name == "src/plan.rs",
        &words,
    );
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn only_one_room_writes_to_the_machine() {
    let words = [
        "O_WRONLY",
        "O_RDWR",
        "OpenOptions",
        "fs::write",
        "mkdir(",
        "unlinkat",
        "rename(",
        "renameat2(",
        "nix::mount",
    ];
    let found = offenders(|name| !name.starts_with("src/repair"), &words);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn unsafe_has_one_room_and_input_causes_no_panic() {
    let found = offenders(
        |name| name != "src/sys.rs",
        &["unsafe {", "unsafe fn", "expect(unsafe_code"],
    );
    assert!(found.is_empty(), "{found:?}");
    let found = offenders(
        |_| true,
        &[".unwrap()", ".expect(", "panic!", "unreachable!", "todo!"],
    );
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn no_file_of_the_program_outgrows_a_reader() {
    let long = sources()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > 750);
    let long: Vec<_> = long.collect();
    assert!(long.is_empty(), "{long:?}");
}
