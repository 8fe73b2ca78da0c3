//! The program's output when it examines no host: the list of faults, and errors that suggest the
//! most similar known word.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use kubepods_repair::faults::AREAS;

/// Exit status, standard output and standard error.
fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubepods-repair"));
    let output = command.args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn explain_lists_faults_by_area() {
    let (status, list, complaint) = run(&["--explain"]);
    assert_eq!((status, complaint.as_str()), (Some(0), ""));
    let paragraphs: Vec<&str> = list.split("\n\n").collect();
    for (area, paragraph) in AREAS.iter().zip(&paragraphs) {
        let (heading, rows) = paragraph.split_once('\n').unwrap();
        assert_eq!(heading, area.title);
        for fault in area.faults() {
            assert!(
                rows.contains(&format!("  {} ", fault.name)),
                "{}",
                fault.name
            );
        }
    }
    assert_eq!(paragraphs.len(), AREAS.len() + 1);
    assert!(list.ends_with("\n\nkubepods-repair --explain FAULT explains one of them.\n"));
}

#[test]
fn a_similar_word_is_suggested() {
    for (args, complaint) in [
        (
            &["--josn"][..],
            "invalid option '--josn' (did you mean --json?)",
        ),
        (
            &["--dryrun"],
            "invalid option '--dryrun' (did you mean --dry-run?)",
        ),
        (&["--xyzzy"], "invalid option '--xyzzy'"),
        (
            &["--explain", "frozn"],
            "unknown fault \"frozn\" (did you mean frozen?); --explain alone lists all faults",
        ),
        (
            &["--explain", "xyzzy"],
            "unknown fault \"xyzzy\"; --explain alone lists all faults",
        ),
    ] {
        let complaint = format!("kubepods-repair: {complaint}; see kubepods-repair --help\n");
        assert_eq!(run(args), (Some(2), String::new(), complaint));
    }
}
