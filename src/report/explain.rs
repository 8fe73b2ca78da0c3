//! `--explain`: each fault's meaning, signs, repair and discussions.

use super::lines::fill;
use crate::faults::Fault;

/// All that is known of one fault, or a line for each of them.
pub fn explain(fault: Option<&Fault>) -> String {
    fault.map_or_else(all, one)
}

fn all() -> String {
    let faults = Fault::all();
    let width = faults.iter().map(|fault| fault.name.len()).max();
    let width = width.unwrap_or(0);
    let mut text = String::new();
    for fault in faults {
        text += &format!("{:width$}  {}\n", fault.name, fault.title);
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
        text += &format!("\n{heading}\n\n{}\n", fill(paragraph));
    }
    if !fault.threads.is_empty() {
        text += "\nWhere others met it\n\n";
    }
    for thread in fault.threads {
        let address = thread.replace('#', "/issues/");
        text += &format!("https://github.com/{address}\n");
    }
    text
}
