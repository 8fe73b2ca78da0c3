//! What the terminal that the text report goes to can show.

use std::env;
use std::io::{self, IsTerminal};

use super::text::View;
use crate::sys;

/// Terminals without the characters of the picture: the kernel's console, whose font has 256 of
/// them, and what usually stands for a serial line (agetty(8) sets `vt220` there).
const ASCII_ONLY: [&str; 5] = ["", "dumb", "linux", "vt102", "vt220"];

/// No narrower and no wider, whatever the terminal says: a page has to stay readable.
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=10_000;

/// How standard output is to be written to. `COLUMNS` in the environment goes before the terminal's
/// own width; `NO_COLOR` is <https://no-color.org>.
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
