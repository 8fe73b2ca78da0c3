//! A page of text: lines that fit the reader's terminal, in the characters and colours that it has.

use super::lines::printable;
use crate::cli::fill;
use crate::faults::Severity;

/// How the reader sees the text report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Columns.
    pub width: usize,
    /// Whether there are colours, and the reader wants them.
    pub colour: bool,
    /// Whether more than ASCII is shown.
    pub glyphs: bool,
    /// `--verbose`
    pub verbose: bool,
}

impl View {
    /// For a pipe, a file, or a terminal of which nothing is known.
    pub const PLAIN: Self = Self {
        width: 80,
        colour: false,
        glyphs: false,
        verbose: false,
    };
}

#[derive(Clone, Copy)]
pub(super) enum Paint {
    Red,
    Yellow,
    Cyan,
    Green,
    Bold,
}

impl Paint {
    /// ECMA-48's "select graphic rendition", the part in the middle.
    fn code(self) -> &'static str {
        match self {
            Self::Red => "1;31",
            Self::Yellow => "33",
            Self::Cyan => "36",
            Self::Green => "32",
            Self::Bold => "1",
        }
    }
}

impl From<Severity> for Paint {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Fatal => Self::Red,
            Severity::Degraded => Self::Yellow,
            Severity::Notice => Self::Cyan,
        }
    }
}

/// What is written so far. It escapes control characters, which come from names on the host.
pub(super) struct Page {
    pub view: View,
    pub text: String,
}

impl Page {
    pub fn new(view: View) -> Self {
        let text = String::new();
        Self { view, text }
    }

    /// An empty line, unless the page begins here.
    pub fn gap(&mut self) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
    }

    /// A paragraph, indented by the width of its bullet, which may be empty or blank.
    pub fn paragraph(&mut self, bullet: &str, text: &str) {
        let indent = bullet.chars().count();
        let text = fill(&printable(text), self.room(indent));
        for (index, line) in text.lines().enumerate() {
            if index == 0 {
                self.text += &format!("{bullet}{line}\n");
            } else {
                self.text += &format!("{:indent$}{line}\n", "");
            }
        }
    }

    /// A paragraph that is painted, behind `first` and, from its second line on, behind `rest`.
    pub fn column(&mut self, first: &str, rest: &str, paint: Option<Paint>, text: &str) {
        let mut before = first;
        for line in fill(&printable(text), self.room(first.chars().count())).lines() {
            let line = match paint {
                Some(paint) => self.painted(line, paint),
                None => line.to_owned(),
            };
            self.line(&format!("{before}{line}"));
            before = rest;
        }
    }

    /// A command on lines of its own, which can be pasted together.
    pub fn command(&mut self, indent: usize, command: &str) {
        for line in continued(&printable(command), self.room(indent)) {
            let line = self.painted(&line, Paint::Bold);
            self.text += &format!("{:indent$}{line}\n", "");
        }
    }

    /// A line that is not broken, and may hold colours.
    pub fn line(&mut self, line: &str) {
        self.text += line.trim_end();
        self.text.push('\n');
    }

    /// How many columns are left of this one.
    pub fn room(&self, column: usize) -> usize {
        self.view.width.saturating_sub(column).max(20)
    }

    pub fn painted(&self, text: &str, paint: Paint) -> String {
        if self.view.colour {
            format!("\x1b[{}m{text}\x1b[0m", paint.code())
        } else {
            text.to_owned()
        }
    }
}

/// A command in lines of at most `width` characters where its blanks allow it, each but the last
/// with the backslash that makes a shell read on. It is not broken inside quotes.
fn continued(command: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words(command) {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() + 2 > width {
            line.push_str(" \\");
            lines.push(format!("  {word}"));
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines
}

/// The words of a command; one that is quoted may have blanks in it.
fn words(command: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut quote) = (0, None);
    for (index, c) in command.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c == ' ' => {
                words.extend(command.get(start..index));
                start = index + 1;
            }
            None => {}
        }
    }
    words.extend(command.get(start..));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_command_goes_on_behind_a_backslash() {
        let lines = continued("systemctl stop a.service b.service && kubepods-repair", 28);
        assert_eq!(
            lines,
            [
                "systemctl stop a.service \\",
                "  b.service && \\",
                "  kubepods-repair"
            ]
        );
        let quoted = continued("printf 'one two three four five' >/file", 10);
        assert_eq!(
            quoted,
            ["printf \\", "  'one two three four five' \\", "  >/file"]
        );
    }

    #[test]
    fn no_line_of_a_paragraph_is_too_long() {
        let mut page = Page::new(View {
            width: 30,
            ..View::PLAIN
        });
        page.paragraph(
            "  1. ",
            "enable cpu in /sys/fs/cgroup/foo.slice/foo-bar.slice/cgroup.subtree_control",
        );
        assert_eq!(
            page.text,
            "  1. enable cpu in\n     /sys/fs/cgroup/foo.slice/\n     foo-bar.slice/\n     \
             cgroup.subtree_control\n"
        );
    }
}
