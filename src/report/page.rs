//! A page of text that fits the terminal and uses only the characters and colours that it has.

use super::lines::printable;
use crate::cli::fill;
use crate::faults::Severity;

/// How the text report is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Its width in columns.
    pub width: usize,
    /// Whether to use colours.
    pub colour: bool,
    /// Whether to use characters outside ASCII.
    pub glyphs: bool,
    /// `--verbose`
    pub verbose: bool,
}

impl View {
    /// For a pipe, a file, or an unknown terminal.
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
    /// The parameters of ECMA-48's "select graphic rendition".
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

/// The text written so far, with control characters escaped: names on the host can contain them.
pub(super) struct Page {
    pub view: View,
    pub text: String,
}

impl Page {
    pub fn new(view: View) -> Self {
        let text = String::new();
        Self { view, text }
    }

    /// Adds an empty line, except at the beginning of the page.
    pub fn gap(&mut self) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
    }

    /// Adds a paragraph that is indented by the width of its bullet, which may be blank or empty.
    pub fn paragraph(&mut self, bullet: &str, text: &str) {
        self.painted_paragraph(bullet, None, text);
    }

    /// The same, painted.
    pub fn painted_paragraph(&mut self, bullet: &str, paint: Option<Paint>, text: &str) {
        let indent = " ".repeat(bullet.chars().count());
        self.column(bullet, &indent, paint, text);
    }

    /// Adds a painted paragraph with `first` before its first line and `rest` before the others.
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

    /// Adds a command on lines of its own, which can be pasted together.
    pub fn command(&mut self, indent: usize, command: &str) {
        for line in continued(&printable(command), self.room(indent)) {
            let line = self.painted(&line, Paint::Bold);
            self.text += &format!("{:indent$}{line}\n", "");
        }
    }

    /// Adds a line that is not broken and may contain colours.
    pub fn line(&mut self, line: &str) {
        self.text += line.trim_end();
        self.text.push('\n');
    }

    /// The number of columns to the right of this one.
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

/// Breaks a command into lines of at most `width` characters, as far as its blanks outside quotes
/// allow that. Every line but the last ends with a backslash, which makes a shell read on.
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

/// The words of a command. A quoted word can contain blanks.
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
