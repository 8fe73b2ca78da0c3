//! Compares the program's output and exit status for each captured host in `tests/cases`. A new
//! case is a folder, not code: see `tests/README.md`.
//!
//! With `UPDATE_CASES` in the environment the expected output is written instead of compared. Read
//! it before you commit.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

mod captured;
mod schema;

use captured::{Case, Cases};

/// The program's output and exit status.
fn run(case: &Case, more: &[&str]) -> (String, String) {
    run_with(case, more, None)
}

/// The same, at this width.
fn run_with(case: &Case, more: &[&str], columns: Option<usize>) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubepods-repair"));
    command
        .current_dir(&case.folder)
        .args(["--root", "root"])
        .args(&case.args)
        .args(more);
    command.env_remove("COLUMNS").env_remove("JOURNAL_STREAM");
    command.envs(columns.map(|columns| ("COLUMNS", columns.to_string())));
    let output = command.output().unwrap();
    let code = output.status.code();
    let exit = code.map_or("killed".to_owned(), |code| code.to_string());
    (String::from_utf8(output.stdout).unwrap(), exit)
}

fn expected(case: &Case, name: &str) -> String {
    fs::read_to_string(case.source.join(name)).unwrap_or_default()
}

#[test]
fn captured_hosts_are_judged_as_expected() {
    let unpacked = Cases::unpack();
    let cases = &unpacked.all;
    assert!(cases.len() >= 20, "only {} cases found", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let (stdout, exit) = run(case, &[]);
        if std::env::var_os("UPDATE_CASES").is_some() {
            fs::write(case.source.join("stdout"), &stdout).unwrap();
            fs::write(case.source.join("exit"), format!("{exit}\n")).unwrap();
        }
        if (stdout.as_str(), exit.as_str())
            != (&expected(case, "stdout"), expected(case, "exit").trim_end())
        {
            wrong.push(format!("== {}: exit {exit}\n{stdout}", case.name));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} cases differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn json_says_the_same_as_text() {
    for case in &Cases::unpack().all {
        let (text, exit) = run(case, &[]);
        let (json, json_exit) = run(case, &["--json"]);
        let document: serde_json::Value = serde_json::from_str(&json).unwrap();
        let violations = schema::violations(&document);
        assert!(violations.is_empty(), "{}: {violations:#?}", case.name);
        assert_eq!(exit, json_exit, "{}", case.name);
        assert_eq!(document["schema"], 1);
        assert_eq!(document["exit"].to_string(), exit, "{}", case.name);
        for finding in document["findings"].as_array().unwrap() {
            assert!(
                text.contains(finding["fault"].as_str().unwrap()),
                "{}: {finding}",
                case.name
            );
        }
    }
}

/// A tired reader looks at one screen.
#[test]
fn reports_fit_a_terminal_and_begin_with_what_to_do() {
    for case in &Cases::unpack().all {
        for (columns, more) in [(80, &[][..]), (80, &["--verbose"]), (60, &[])] {
            let text = run_with(case, more, Some(columns)).0;
            let is_command = |line: &str| line.starts_with("    ") && !line.contains(". ");
            let too_long = |line: &&str| line.chars().count() > columns && !is_command(line);
            let long: Vec<&str> = text.lines().filter(too_long).collect();
            assert!(long.is_empty(), "{} at {columns}: {long:#?}", case.name);
        }
        let text = run_with(case, &[], Some(80)).0;
        let top: Vec<&str> = text.lines().take(12).collect();
        if text.contains("\nfatal: ") {
            let says_fix = top.iter().any(|line| line.starts_with("  Fix: "));
            assert!(says_fix, "{}: no fix at the top of\n{text}", case.name);
        }
    }
}

/// The schema has to reject everything that it does not describe.
#[test]
fn the_schema_rejects_fields_that_it_does_not_describe() {
    let case = &Cases::only("05-stray-in-kubepods").all[0];
    let report: serde_json::Value = serde_json::from_str(&run(case, &["--json"]).0).unwrap();
    assert_eq!(schema::violations(&report), [""; 0]);
    for (place, name, value) in [
        ("", "new", json!(1)),
        ("", "exit", json!(2)),
        ("", "host", json!([])),
        ("/host", "mounts", json!([1])),
        ("/findings/0", "new", json!(null)),
        ("/findings/0", "fault", json!("no-such-fault")),
        ("/steps/0", "faults", json!(["no-such-fault"])),
    ] {
        let mut changed = report.clone();
        changed.pointer_mut(place).unwrap()[name] = value;
        assert_eq!(schema::violations(&changed).len(), 1, "{place}/{name}");
    }
    let mut incomplete = report;
    incomplete.as_object_mut().unwrap().remove("exit");
    assert_eq!(schema::violations(&incomplete).len(), 1);
}

#[test]
fn a_captured_host_is_never_written_to() {
    let cases = Cases::unpack();
    let case = cases.find("02-clean-boot");
    let before = listing(&case.root());
    run(case, &["--pre-start"]);
    assert_eq!(before, listing(&case.root()));
}

/// Every path below, with its size and modification time.
fn listing(folder: &Path) -> Vec<(PathBuf, u64, std::time::SystemTime)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.path().symlink_metadata().unwrap();
        found.push((entry.path(), meta.len(), meta.modified().unwrap()));
        if meta.is_dir() {
            found.extend(listing(&entry.path()));
        }
    }
    found.sort();
    found
}

/// Removes any one mount, directory or file that matters from a healthy version 1 host: a fault has
/// to be found.
#[test]
fn any_missing_piece_of_a_version_1_tree_is_found() {
    let cases = Cases::unpack();
    for name in ["hybrid-healthy", "legacy-healthy"] {
        let host = cases.find(name);
        let noticed = |what: &str| {
            let (stdout, exit) = run(host, &[]);
            assert!(
                !stdout.starts_with("healthy:") || stdout.contains("Noticed:"),
                "{what} is pulled, and nobody notices"
            );
            assert!(
                exit != "0" || stdout.contains("--explain") || stdout.contains("Noticed:"),
                "{what} is pulled: exit {exit}\n{stdout}"
            );
        };
        let (root, aside) = (host.root(), host.folder.join("aside"));
        let pieces: Vec<PathBuf> = listing(&root.join("sys/fs/cgroup"))
            .into_iter()
            .map(|(path, ..)| path)
            .collect();
        // A pod's own group is the kubelet's business.
        let is_meant = |path: &Path| !path.to_string_lossy().contains("/pod");
        for path in pieces.iter().filter(|path| is_meant(path)) {
            fs::rename(path, &aside).unwrap();
            noticed(&path.display().to_string());
            fs::rename(&aside, path).unwrap();
        }
        let list = root.join("proc/self/mountinfo");
        let mountinfo = fs::read_to_string(&list).unwrap();
        // libcontainer makes no groups for misc.
        let is_meant = |line: &&str| line.contains(" - cgroup ") && !line.ends_with(",misc");
        for line in mountinfo.lines().filter(is_meant) {
            let point = root.join(line.split(' ').nth(4).unwrap().trim_start_matches('/'));
            fs::write(&list, mountinfo.replace(&format!("{line}\n"), "")).unwrap();
            fs::rename(&point, &aside).unwrap();
            fs::create_dir(&point).unwrap();
            noticed(line);
            fs::remove_dir(&point).unwrap();
            fs::rename(&aside, &point).unwrap();
        }
        assert!(pieces.len() > 60, "{name}: only {} pieces", pieces.len());
    }
}
