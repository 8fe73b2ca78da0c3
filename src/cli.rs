//! Arguments in, exit status out. `--help`, the manual page's OPTIONS and the completions are made
//! from one table.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::faults::{Fault, Occasion};

/// An option, and what is said of it.
#[derive(Debug)]
pub struct OptionWords {
    /// `-n`
    pub short: Option<char>,
    /// `--dry-run`, without the dashes.
    pub long: &'static str,
    /// What comes after it.
    pub value: Option<Operand>,
    /// In a few words, for the completions.
    pub title: &'static str,
    /// For `--help`.
    pub help: &'static str,
    /// For the manual page, in its markup, a line a sentence.
    pub manual: &'static str,
}

/// What comes after an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A folder that exists.
    Folder,
    /// A file to be written.
    File,
    /// The name of a fault, or nothing.
    Fault,
}

impl Operand {
    /// As `--help` shows it.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Folder => "DIR",
            Self::File => "FILE",
            Self::Fault => "[FAULT]",
        }
    }
}

/// All options.
pub const OPTIONS: &[OptionWords] = &[
    OptionWords {
        short: Some('n'),
        long: "dry-run",
        value: None,
        title: "change nothing",
        help: "say what is wrong and what would be done; change nothing",
        manual: "Say what is wrong and what would be done; change nothing.",
    },
    OptionWords {
        short: Some('v'),
        long: "verbose",
        value: None,
        title: "show settings and controllers",
        help: "also show every setting with its origin and every controller",
        manual: "Also show every setting with its origin and every controller.",
    },
    OptionWords {
        short: None,
        long: "pre-start",
        value: None,
        title: "as before kubelite",
        help: "as kubelite's ExecStartPre: no kubelet runs now, so that stale pod groups may go, \
               damaged state files may be set aside, and a unit of MicroK8s that blocks a \
               controller may be restarted",
        manual: "What kubelite's ExecStartPre= calls: no kubelet runs now, so that stale pod \
                 groups may go, damaged state files may be set aside, and a unit of MicroK8s that \
                 blocks a controller may be restarted, once a boot.",
    },
    OptionWords {
        short: None,
        long: "early",
        value: None,
        title: "as before k8s-dqlite",
        help: "as k8s-dqlite's ExecStartPre: repair, but leave all that to kubelite's",
        manual: "What k8s-dqlite's ExecStartPre= calls: repair, but leave all that to kubelite's.",
    },
    OptionWords {
        short: None,
        long: "boot",
        value: None,
        title: "as at boot",
        help: "as kubepods-repair.service: the same as --early, and note that this boot has begun",
        manual: "What\n.I kubepods-repair.service\ncalls: the same as\n.BR \\-\\-early ,\nand note \
                 that this boot has begun.",
    },
    OptionWords {
        short: None,
        long: "shutdown",
        value: None,
        title: "note that this boot ends cleanly",
        help: "as kubepods-repair-shutdown.service: note that it ends cleanly",
        manual: "What\n.I kubepods-repair-shutdown.service\ncalls: note that this boot ends \
                 cleanly.",
    },
    OptionWords {
        short: None,
        long: "no-restart",
        value: None,
        title: "never restart a unit",
        help: "never restart a unit",
        manual: "Never restart a unit.",
    },
    OptionWords {
        short: None,
        long: "root",
        value: Some(Operand::Folder),
        title: "examine a captured copy",
        help: "examine a captured copy of a host instead of this one; implies --dry-run",
        manual: "Examine a captured copy of a host instead of this one.\nImplies\n.BR \
                 \\-\\-dry\\-run .",
    },
    OptionWords {
        short: None,
        long: "capture",
        value: Some(Operand::File),
        title: "save what was read",
        help: "save what was read to a tar file for a bug report: of settings only what this \
               program knows, of others the names; implies --dry-run",
        manual: "Save what was read to a tar file, to attach to a bug report; its folder\n.I root\n\
                 is what\n.B \\-\\-root\ntakes, and gives the same report again.\nOf settings, \
                 command lines, mounts and unit files it holds only what this program reads; of \
                 the rest the names at most.\nThe tar is a new file that only its owner can read, \
                 and takes the place of an older one.\nImplies\n.BR \\-\\-dry\\-run .",
    },
    OptionWords {
        short: None,
        long: "json",
        value: None,
        title: "report as JSON",
        help: "report as JSON",
        manual: "Report as JSON.\nIts fields are described in\n.IR \
                 /usr/share/doc/kubepods\\-repair/report.schema.json .",
    },
    OptionWords {
        short: None,
        long: "explain",
        value: Some(Operand::Fault),
        title: "explain a fault",
        help: "explain one fault, or list all of them by area",
        manual: "Explain one fault, or list all of them by area.",
    },
    OptionWords {
        short: None,
        long: "textfile",
        value: Some(Operand::Folder),
        title: "also write metrics",
        help: "also write metrics for node_exporter's textfile collector to \
               DIR/kubepods-repair.prom, with --dry-run, too",
        manual: "Also write metrics for node_exporter's textfile collector to\n.IR \
                 DIR/kubepods\\-repair.prom ,\nwith\n.BR \\-\\-dry\\-run ,\ntoo.",
    },
    OptionWords {
        short: Some('h'),
        long: "help",
        value: None,
        title: "print a summary",
        help: "print this",
        manual: "Print a summary.",
    },
    OptionWords {
        short: Some('V'),
        long: "version",
        value: None,
        title: "print the version",
        help: "print the version",
        manual: "Print the version.",
    },
];

/// Where the explanations of `--help` begin.
const INDENT: usize = 19;

/// What `--help` prints.
pub fn help() -> String {
    let mut text = String::from(
        "kubepods-repair checks and repairs the cgroup tree that MicroK8s' kubelet needs.\n\n\
         Usage: kubepods-repair [OPTION]...\n\n",
    );
    for option in OPTIONS {
        let short = option.short.map(|short| format!("-{short}, "));
        let short = short.unwrap_or_else(|| "    ".to_owned());
        let value = option
            .value
            .map(|value| format!(" {}", value.placeholder()));
        let value = value.unwrap_or_default();
        let mut name = format!("  {short}--{}{value}", option.long);
        if name.len() + 2 > INDENT {
            text += &format!("{name}\n");
            name.clear();
        }
        for line in fill(option.help, 80 - INDENT).lines() {
            text += &format!("{name:INDENT$}{line}\n");
            name.clear();
        }
    }
    text + "
Exit status:
  0  the kubelet would start, or there is none to care for
  1  it would not, a repair failed, or something could not be read
  2  wrong usage
  3  --dry-run only: steps would be taken
--boot and --shutdown always exit with 0.
"
}

/// Breaks a paragraph into lines of at most `width` characters. A word that is longer is broken
/// after a `/`, if it has one.
pub fn fill(paragraph: &str, width: usize) -> String {
    let mut filled = String::new();
    let mut used = 0;
    for word in paragraph.split(' ') {
        if used > 0 && used + 1 + word.chars().count() > width {
            filled.push('\n');
            used = 0;
        } else if used > 0 {
            filled.push(' ');
            used += 1;
        }
        let mut rest = word;
        while let Some((head, tail)) = broken(rest, width) {
            filled.push_str(head);
            filled.push('\n');
            rest = tail;
        }
        filled.push_str(rest);
        used += rest.chars().count();
    }
    filled
}

/// A word in two parts, the first of which fits; `None` where the whole word does.
fn broken(word: &str, width: usize) -> Option<(&str, &str)> {
    let (end, _) = word.char_indices().nth(width)?;
    let slash = word.get(..end)?.rfind('/').filter(|index| *index > 0);
    word.split_at_checked(slash.map_or(end, |index| index + 1))
        .filter(|(head, _)| !head.is_empty())
}

/// What the program was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Look at a host, and repair it.
    Run(Options),
    /// `--shutdown`
    Shutdown,
    /// `--explain`: one fault, or all.
    Explain(Option<&'static Fault>),
    /// `--help`
    Help,
    /// `--version`
    Version,
}

/// How to look, and what may be done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option")]
pub struct Options {
    /// `--dry-run`
    pub dry_run: bool,
    /// `--verbose`
    pub verbose: bool,
    /// `--pre-start` or not.
    pub occasion: Occasion,
    /// `--root`
    pub root: Option<PathBuf>,
    /// `--capture`
    pub capture: Option<PathBuf>,
    /// `--json`
    pub json: bool,
    /// `--textfile`
    pub textfile: Option<PathBuf>,
    /// `--no-restart`
    pub no_restart: bool,
}

impl Options {
    /// The arguments that decide what is found, for a run on a captured copy.
    pub fn args(&self) -> String {
        let occasion = match self.occasion {
            Occasion::ByHand => "",
            Occasion::PreStart => "--pre-start",
            Occasion::Early => "--early",
            Occasion::Boot => "--boot",
        };
        let no_restart = if self.no_restart { "--no-restart" } else { "" };
        format!("{}\n", [occasion, no_restart].join(" ").trim())
    }
}

/// The numbers of the manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Healthy, repaired, or no business of ours.
    Fine = 0,
    /// The kubelet would not start, or that cannot be said.
    Broken = 1,
    /// Not a command line of this program.
    Usage = 2,
    /// A dry run, and there is something to do.
    Pending = 3,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Reads the arguments (without the program's name).
///
/// # Errors
/// For whatever is not in [`OPTIONS`].
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, lexopt::Error> {
    use lexopt::prelude::*;

    let mut options = Options {
        dry_run: false,
        verbose: false,
        occasion: Occasion::ByHand,
        root: None,
        capture: None,
        json: false,
        textfile: None,
        no_restart: false,
    };
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Short('n') | Long("dry-run") => options.dry_run = true,
            Short('v') | Long("verbose") => options.verbose = true,
            Long("pre-start") => options.occasion = Occasion::PreStart,
            Long("early") => options.occasion = Occasion::Early,
            Long("boot") => options.occasion = Occasion::Boot,
            Long("shutdown") => return Ok(Command::Shutdown),
            Long("no-restart") => options.no_restart = true,
            Long("root") => {
                options.root = Some(parser.value()?.into());
                options.dry_run = true;
            }
            Long("capture") => {
                options.capture = Some(parser.value()?.into());
                options.dry_run = true;
            }
            Long("json") => options.json = true,
            Long("explain") => return explained(&mut parser).map(Command::Explain),
            Long("textfile") => options.textfile = Some(parser.value()?.into()),
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('V') | Long("version") => return Ok(Command::Version),
            Long(name) => return Err(unknown_option(name)),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Command::Run(options))
}

/// The word after `--explain`, if there is one.
fn explained(parser: &mut lexopt::Parser) -> Result<Option<&'static Fault>, lexopt::Error> {
    let word = parser
        .optional_value()
        .or_else(|| parser.raw_args().ok()?.next());
    let Some(word) = word.map(|word| word.to_string_lossy().into_owned()) else {
        return Ok(None);
    };
    let unknown = || {
        let faults = Fault::all().into_iter();
        let hint = did_you_mean(&word, faults.map(|fault| fault.name.to_owned()));
        format!("no fault is called {word:?}{hint}; --explain alone lists them all").into()
    };
    Fault::named(&word).map(Some).ok_or_else(unknown)
}

fn unknown_option(name: &str) -> lexopt::Error {
    let word = format!("--{name}");
    let known = OPTIONS.iter().map(|option| format!("--{}", option.long));
    format!("invalid option '{word}'{}", did_you_mean(&word, known)).into()
}

/// The known word that takes the fewest edits, in parentheses; nothing if those are more than a
/// third of the characters.
fn did_you_mean(word: &str, known: impl Iterator<Item = String>) -> String {
    let counted = known.map(|known| (edits(word, &known), known));
    match counted.min() {
        Some((edits, nearest)) if edits <= word.chars().count() / 3 => {
            format!(" (did you mean {nearest}?)")
        }
        _ => String::new(),
    }
}

/// How many characters have to be added, removed or replaced to make one word of the other
/// (Levenshtein's distance).
fn edits(from: &str, to: &str) -> usize {
    // For the part of `from` read so far: the edits to each beginning of `to`.
    let mut row: Vec<usize> = (1..=to.chars().count()).collect();
    for (read, a) in from.chars().enumerate() {
        let (mut diagonal, mut left) = (read, read + 1);
        for (b, cell) in to.chars().zip(&mut row) {
            let replaced = diagonal + usize::from(a != b);
            diagonal = *cell;
            left = replaced.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(from.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<Command> {
        parse(line.split_whitespace().map(OsString::from)).ok()
    }

    #[test]
    fn a_captured_host_is_never_repaired() {
        let Some(Command::Run(options)) = parsed("--root /x") else {
            panic!("no run")
        };
        assert!(options.dry_run && options.root == Some("/x".into()));
        let Some(Command::Run(options)) = parsed("--capture x.tar --pre-start") else {
            panic!("no run")
        };
        assert!(options.dry_run && options.args() == "--pre-start\n");
    }

    #[test]
    fn usage() {
        for wrong in [
            "--nope",
            "word",
            "--root",
            "--textfile",
            "--capture",
            "-x",
            "--dry-run=1",
            "--explain word",
            "--explain --json",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
        for (line, verbose) in [
            ("-v", true),
            ("--verbose --json", true),
            ("-nv", true),
            ("--boot -v --textfile /x", true),
            ("-n", false),
        ] {
            let Some(Command::Run(options)) = parsed(line) else {
                panic!("no run: {line}")
            };
            assert_eq!(options.verbose, verbose, "{line}");
            assert_eq!(options.dry_run, line.contains("-n"), "{line}");
        }
        assert_eq!(parsed("-n -V"), Some(Command::Version));
        assert_eq!(parsed("--json --help"), Some(Command::Help));
        assert_eq!(parsed("--explain"), Some(Command::Explain(None)));
        for one in ["--explain frozen", "--explain=frozen"] {
            assert_eq!(parsed(one), Some(Command::Explain(Fault::named("frozen"))));
        }
    }

    #[test]
    fn edits_are_counted() {
        for (from, to, count) in [
            ("frozen", "frozen", 0),
            ("frozn", "frozen", 1),
            ("--josn", "--json", 2),
            ("kitten", "sitting", 3),
            ("", "boot", 4),
            ("boot", "", 4),
        ] {
            assert_eq!(edits(from, to), count, "{from} {to}");
        }
    }

    #[test]
    fn only_a_word_that_is_close_is_suggested() {
        let suggested = |word| {
            let known = ["--json", "--boot", "--root"];
            did_you_mean(word, known.into_iter().map(str::to_owned))
        };
        assert_eq!(suggested("--josn"), " (did you mean --json?)");
        assert_eq!(suggested("--rot"), " (did you mean --root?)");
        for far in ["", "--", "--nope", "--version"] {
            assert_eq!(suggested(far), "", "{far}");
        }
    }
}
