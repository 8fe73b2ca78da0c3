//! `--explain`: the catalogue, for somebody who reads it at three in the morning.

use std::fmt::Write;

use super::lines::fill;
use crate::diagnosis::catalogue::{Entry, Fault};

/// All that is known of one fault, or a line for each of them.
pub fn explain(fault: Option<Fault>) -> String {
    match fault {
        Some(fault) => one(fault.entry()),
        None => all(),
    }
}

fn all() -> String {
    let width = Fault::ALL
        .iter()
        .map(|fault| fault.name().len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for entry in Fault::ALL.iter().map(|fault| fault.entry()) {
        let _ = writeln!(text, "{:width$}  {}", entry.name, entry.title);
    }
    text.push_str("\nkubepods-repair --explain FAULT tells all about one of them.\n");
    text
}

fn one(entry: &Entry) -> String {
    let mut text = format!("{}: {}\n", entry.name, entry.title);
    for (heading, paragraph) in [
        ("What it means", entry.meaning),
        ("How it is recognised", entry.signs),
        ("What kubepods-repair does", entry.remedy),
        ("What you can do", entry.by_hand),
    ] {
        let _ = write!(text, "\n{heading}\n\n{}\n", fill(paragraph));
    }
    if !entry.threads.is_empty() {
        text.push_str("\nWhere others met it\n\n");
    }
    for (repository, number) in entry
        .threads
        .iter()
        .filter_map(|thread| thread.split_once('#'))
    {
        let _ = writeln!(text, "https://github.com/{repository}/issues/{number}");
    }
    text
}
