//! `tests/case`: unpacks cases for shell scripts and for people.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::process::ExitCode;

#[path = "mod.rs"]
mod captured;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["--list"] => {
            for source in captured::sources() {
                println!("{}", source.display());
            }
        }
        ["--all", folder] => drop(captured::unpack_all(Path::new(folder))),
        [name, folder] if !name.starts_with('-') => {
            captured::Case::unpack(name, Path::new(folder));
        }
        _ => {
            eprintln!("usage: tests/case NAME FOLDER | --all FOLDER | --list");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
