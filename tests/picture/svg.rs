//! `tests/picture/draw`: makes a picture of what a terminal shows, from standard input to standard
//! output. It knows bold and the colours that the report uses (ECMA-48, "select graphic
//! rendition"), and drops every other escape sequence.

#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::io::{self, Read};

/// Sizes in the picture's own unit. The font's characters are 0.6 of its size wide.
const FONT: f64 = 14.0;
const COLUMN: f64 = FONT * 0.6;
const LINE: f64 = 19.0;
const MARGIN: f64 = 16.0;

/// Dark, unless the reader's desktop is light.
const STYLE: &str = "\
text{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;\
font-size:14px;white-space:pre;fill:#d4d4d4}\
.page{fill:#1b1f24}.bold{font-weight:bold;fill:#fff}.red{font-weight:bold;fill:#ff7b72}\
.green{fill:#56d364}.yellow{fill:#e3b341}.cyan{fill:#76e3ea}\
@media (prefers-color-scheme:light){text{fill:#24292f}.page{fill:#f6f8fa}.bold{fill:#000}\
.red{fill:#cf222e}.green{fill:#1a7f37}.yellow{fill:#9a6700}.cyan{fill:#1b7c83}}";

fn main() {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).unwrap();
    print!("{}", picture(&text.replace('\r', "")));
}

fn picture(text: &str) -> String {
    let mut body = String::new();
    let (mut class, mut columns, mut rows) = ("", 0_u32, 0_u32);
    for line in text.trim_end().lines() {
        let (mut column, y) = (0_u32, MARGIN + FONT + f64::from(rows) * LINE);
        for (number, piece) in line.split("\x1b[").enumerate() {
            let shown = if number == 0 {
                piece
            } else {
                let end = piece.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                let (sequence, shown) = piece.split_at(end + 1);
                class = named(sequence).unwrap_or(class);
                shown
            };
            if !shown.is_empty() {
                let x = MARGIN + f64::from(column) * COLUMN;
                let width = u32::try_from(shown.chars().count()).unwrap();
                let length = f64::from(width) * COLUMN;
                let shown = escaped(shown);
                writeln!(
                    body,
                    "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" \
                     textLength=\"{length:.1}\">{shown}</text>"
                )
                .unwrap();
                column += width;
            }
        }
        columns = columns.max(column);
        rows += 1;
    }
    let width = f64::from(columns) * COLUMN + 2.0 * MARGIN;
    let height = f64::from(rows) * LINE + 2.0 * MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         role=\"img\" xml:space=\"preserve\">\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"100%\" \
         height=\"100%\" rx=\"8\"/>\n{body}</svg>\n"
    )
}

/// The class that a sequence switches to; `None` where it is about something else.
fn named(sequence: &str) -> Option<&'static str> {
    Some(match sequence {
        "m" | "0m" => "",
        "1m" => "bold",
        "1;31m" => "red",
        "32m" => "green",
        "33m" => "yellow",
        "36m" => "cyan",
        _ => return None,
    })
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
