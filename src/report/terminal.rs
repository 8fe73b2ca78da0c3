//! What the terminal on standard output can show.

use std::env;
use std::io::{self, IsTerminal};

use super::text::View;
use crate::sys;

/// Values of `TERM` for terminals that may lack the characters of the picture: the kernel's
/// console, whose font has 256 characters, and serial lines, for which agetty(8) sets `vt220`.
const ASCII_ONLY: [&str; 5] = ["", "dumb", "linux", "vt102", "vt220"];

/// The widths that are used. Outside of them a page is not readable.
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=10_000;

/// How to show the report on standard output. `COLUMNS` in the environment overrides the terminal's
/// own width, and `NO_COLOR` switches colours off (<https://no-color.org>).
pub fn view(verbose: bool) -> View {
    let stdout = io::stdout();
    let columns = variable("COLUMNS").parse().ok();
    let columns = columns.filter(|columns| WIDTHS.contains(columns));
    if !stdout.is_terminal() {
        return View {
            width: columns.unwrap_or(View::PLAIN.width),
            verbose,
            ..View::PLAIN
        };
    }
    let terminal = variable("TERM");
    let own = sys::columns(&stdout).filter(|columns| WIDTHS.contains(columns));
    View {
        width: columns.or(own).unwrap_or(View::PLAIN.width),
        colour: variable("NO_COLOR").is_empty() && !["", "dumb"].contains(&terminal.as_str()),
        glyphs: is_utf8() && !ASCII_ONLY.contains(&terminal.as_str()),
        verbose,
    }
}

/// Whether the locale's characters are UTF-8; the first of these that is set decides (locale(7)).
fn is_utf8() -> bool {
    let locales = ["LC_ALL", "LC_CTYPE", "LANG"].map(variable);
    let mut locales = locales.into_iter();
    let locale = locales.find(|locale| !locale.is_empty());
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    locale.ends_with("utf-8") || locale.ends_with("utf8")
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}
