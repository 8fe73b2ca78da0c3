//! `--explain`: each fault's meaning, signs, repair and discussions.

use super::lines::fill;
use crate::cli;
use crate::faults::{AREAS, Area, Fault};

/// The description of one fault, or the titles of all faults by area.
pub fn explain(fault: Option<&Fault>) -> String {
    fault.map_or_else(all, one)
}

fn all() -> String {
    let lengths = AREAS.iter().flat_map(Area::faults);
    let width = lengths.map(|fault| fault.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for area in AREAS {
        text += &format!("{}\n", area.title);
        for fault in area.faults() {
            let mut name = fault.name;
            for line in cli::fill(fault.title, 80 - width - 4).lines() {
                text += &format!("  {name:width$}  {line}\n");
                name = "";
            }
        }
        text.push('\n');
    }
    text + "kubepods-repair --explain FAULT explains one of them.\n"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_each_fault_once_and_fits_a_terminal() {
        let text = all();
        let is_name = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
        let rows = text.lines().filter(is_name);
        let mut names: Vec<&str> = rows
            .filter_map(|row| row.split_whitespace().next())
            .collect();
        names.sort_unstable();
        let known: Vec<&str> = Fault::all().iter().map(|fault| fault.name).collect();
        assert_eq!(names, known);
        let wide: Vec<&str> = text
            .lines()
            .filter(|line| line.chars().count() > 80)
            .collect();
        assert!(wide.is_empty(), "{wide:#?}");
    }
}
