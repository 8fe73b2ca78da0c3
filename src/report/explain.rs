//! `--explain`: what is known of each fault.

use std::fmt::Write;

use super::lines::fill;
use crate::faults::Fault;

/// All that is known of one fault, or a line for each of them.
pub fn explain(fault: Option<&Fault>) -> String {
    fault.map_or_else(all, one)
}

fn all() -> String {
    let faults = Fault::all();
    let width = faults
        .iter()
        .map(|fault| fault.name.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for fault in faults {
        let _ = writeln!(text, "{:width$}  {}", fault.name, fault.title);
    }
    text + "\nkubepods-repair --explain FAULT tells all about one of them.\n"
}

fn one(fault: &Fault) -> String {
    let mut text = format!("{}: {}\n", fault.name, fault.title);
    for (heading, paragraph) in [
        ("What it means", fault.meaning),
        ("How it is recognised", fault.signs),
        ("What kubepods-repair does", fault.remedy),
        ("What you can do", fault.by_hand),
    ] {
        let _ = write!(text, "\n{heading}\n\n{}\n", fill(paragraph));
    }
    if !fault.threads.is_empty() {
        text += "\nWhere others met it\n\n";
    }
    for (repository, number) in fault
        .threads
        .iter()
        .filter_map(|thread| thread.split_once('#'))
    {
        let _ = writeln!(text, "https://github.com/{repository}/issues/{number}");
    }
    text
}
