//! Captured hosts: each folder in `tests/cases` holds a `root`, the `args` beside `--root root`,
//! and what is expected on standard output (`stdout`) and as the exit status (`exit`). A new case
//! is a folder, not code.
//!
//! With UPDATE_CASES in the environment the expectations are written instead of compared; read them
//! before you commit.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Case {
    folder: PathBuf,
    args: Vec<String>,
}

impl Case {
    fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
        let mut folders: Vec<PathBuf> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        folders.retain(|path| path.join("root").is_dir());
        folders.sort();
        let args = |folder: &Path| {
            let line = fs::read_to_string(folder.join("args")).unwrap_or_default();
            line.split_whitespace().map(str::to_owned).collect()
        };
        folders
            .into_iter()
            .map(|folder| Self {
                args: args(&folder),
                folder,
            })
            .collect()
    }

    /// What the program prints and how it ends.
    fn run(&self, more: &[&str]) -> (String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubepods-repair"));
        command
            .current_dir(&self.folder)
            .args(["--root", "root"])
            .args(&self.args)
            .args(more);
        let output = command.env_remove("JOURNAL_STREAM").output().unwrap();
        let exit = output
            .status
            .code()
            .map_or("killed".to_owned(), |code| code.to_string());
        (String::from_utf8(output.stdout).unwrap(), exit)
    }

    /// The same host in a folder of its own, which goes with it.
    fn copy(&self) -> Copy {
        let folder = std::env::temp_dir().join(format!(
            "kubepods-repair-{}-{}",
            self.name(),
            std::process::id()
        ));
        fs::create_dir(&folder).unwrap();
        let copied = Command::new("cp")
            .arg("-a")
            .arg(self.folder.join("root"))
            .arg(&folder)
            .status()
            .unwrap();
        assert!(copied.success());
        Copy(Self {
            folder,
            args: self.args.clone(),
        })
    }

    fn expected(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }

    fn name(&self) -> String {
        self.folder
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned()
    }
}

struct Copy(Case);

impl Drop for Copy {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0.folder).unwrap();
    }
}

impl std::ops::Deref for Copy {
    type Target = Case;

    fn deref(&self) -> &Case {
        &self.0
    }
}

#[test]
fn captured_hosts_are_judged_as_expected() {
    let cases = Case::all();
    assert!(cases.len() >= 20, "only {} cases found", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let (stdout, exit) = case.run(&[]);
        if std::env::var_os("UPDATE_CASES").is_some() {
            fs::write(case.folder.join("stdout"), &stdout).unwrap();
            fs::write(case.folder.join("exit"), format!("{exit}\n")).unwrap();
        }
        if (stdout.as_str(), exit.as_str())
            != (&case.expected("stdout"), case.expected("exit").trim_end())
        {
            wrong.push(format!("== {}: exit {exit}\n{stdout}", case.name()));
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
    for case in Case::all() {
        let (text, exit) = case.run(&[]);
        let (json, json_exit) = case.run(&["--json"]);
        let document: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(exit, json_exit, "{}", case.name());
        assert_eq!(document["schema"], 1);
        assert_eq!(document["exit"].to_string(), exit, "{}", case.name());
        for finding in document["findings"].as_array().unwrap() {
            assert!(
                text.contains(finding["fault"].as_str().unwrap()),
                "{}: {finding}",
                case.name()
            );
        }
    }
}

#[test]
fn nothing_of_a_captured_host_is_written_to() {
    let case = Case::all()
        .into_iter()
        .find(|case| case.name().contains("clean-boot"))
        .unwrap();
    let before = listing(&case.folder.join("root"));
    case.run(&["--pre-start"]);
    assert_eq!(before, listing(&case.folder.join("root")));
}

/// Every path below, with its length and time of change.
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

/// Of a healthy version 1 host any one mount, directory or file that the judgement rests on is
/// taken away: it is noticed.
#[test]
fn any_one_piece_of_a_version_1_tree_that_is_pulled_is_noticed() {
    for name in ["hybrid-healthy", "legacy-healthy"] {
        let host = Case::all()
            .into_iter()
            .find(|case| case.name().ends_with(name))
            .unwrap()
            .copy();
        let noticed = |what: &str| {
            let (stdout, exit) = host.run(&[]);
            assert!(
                !stdout.starts_with("healthy:"),
                "{what} is pulled, and nobody notices"
            );
            assert!(
                exit != "0" || stdout.contains("Findings"),
                "{what} is pulled: exit {exit}\n{stdout}"
            );
        };
        let (root, aside) = (host.folder.join("root"), host.folder.join("aside"));
        let pieces: Vec<PathBuf> = listing(&root.join("sys/fs/cgroup"))
            .into_iter()
            .map(|(path, ..)| path)
            .collect();
        // A pod's own group is the kubelet's business, and git's .keep nobody's.
        let is_meant =
            |path: &Path| !path.ends_with(".keep") && !path.to_string_lossy().contains("/pod");
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
