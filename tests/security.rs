//! Checks what SECURITY.md says about captured hosts and the report. Scenarios (`hostile-*`) check
//! what it says about a running machine.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

mod captured;

use captured::Cases;

/// A name that sets a terminal's title, changes colours and the direction of writing, and begins a
/// new line.
const NAME: &str = "a\u{1b}]0;b\u{7}\u{9b}1m\u{202e}\n<0>c";

fn run(root: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubepods-repair"));
    command
        .arg("--root")
        .arg(root)
        .args(args)
        .env_remove("JOURNAL_STREAM")
        .output()
        .unwrap()
}

fn is_deceptive(c: char) -> bool {
    c != '\n' && (c.is_control() || c == '\u{202e}')
}

#[test]
fn deceptive_names_are_escaped_in_the_report() {
    let cases = Cases::only("05-stray-in-kubepods");
    let root = cases.all[0].root();
    fs::write(root.join("proc/1322/comm"), format!("{NAME}\n")).unwrap();
    let (text, json) = (run(&root, &[]), run(&root, &["--json"]));
    for output in [&text, &json] {
        let told = std::str::from_utf8(&output.stdout).unwrap();
        assert!(
            told.contains("1322") && !told.contains(is_deceptive),
            "{told:?}"
        );
        assert!(
            !told.lines().any(|line| line.starts_with("<0>")),
            "{told:?}"
        );
    }
    let document: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let evidence = document["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["evidence"].as_str().unwrap());
    assert!(
        evidence.into_iter().any(|evidence| evidence.contains(NAME)),
        "a program gets the name as it is: {document}"
    );
}

#[test]
fn links_in_a_captured_tree_do_not_lead_out_of_it() {
    let cases = Cases::only("01-healthy");
    let root = cases.all[0].root();
    let secret = root.with_extension("secret");
    fs::write(&secret, "--cgroup-driver=docker-secret\n").unwrap();
    let args = root.join("var/snap/microk8s/6364/args/kubelet");
    let climbing = PathBuf::from("../".repeat(40)).join(secret.strip_prefix("/").unwrap());
    for target in [secret.clone(), climbing] {
        fs::remove_file(&args).unwrap();
        symlink(&target, &args).unwrap();
        let told = String::from_utf8(run(&root, &[]).stdout).unwrap();
        assert!(!told.contains("docker-secret"), "{told}");
    }
}
