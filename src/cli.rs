//! The command line: its options, how they are read, and the exit status. `--help`, the manual
//! page's OPTIONS and the completions are generated from one table.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::faults::{Fault, Occasion};

/// An option and its descriptions.
#[derive(Debug)]
pub struct OptionWords {
    /// `-n`
    pub short: Option<char>,
    /// `--dry-run`, without the dashes.
    pub long: &'static str,
    /// The value that follows it.
    pub value: Option<Operand>,
    /// A few words for the completions.
    pub title: &'static str,
    /// A sentence for `--help`.
    pub help: &'static str,
    /// The text of the manual page, in its markup, one sentence per line.
    pub manual: &'static str,
}

/// The kind of value that follows an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A folder that exists.
    Folder,
    /// A file to be written.
    File,
    /// The name of a fault; may be left out.
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
        title: "show repairs without making them",
        help: "show what is wrong and what would be done about it, but change nothing",
        manual: "Show what is wrong and what would be done about it, but change nothing.",
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
        title: "run as kubelite's ExecStartPre=",
        help: "run as kubelite's ExecStartPre=: no kubelet is running, so also remove stale \
               cgroups of deleted pods, set damaged state files aside, and restart k8s-dqlite if \
               it blocks a controller",
        manual: "Run as kubelite's ExecStartPre=.\nNo kubelet is running then, so kubepods-repair \
                 also removes stale cgroups of deleted pods, sets damaged state files aside, and \
                 restarts k8s-dqlite (at most once per boot) if it blocks a controller.",
    },
    OptionWords {
        short: None,
        long: "early",
        value: None,
        title: "run as k8s-dqlite's ExecStartPre=",
        help: "run as k8s-dqlite's ExecStartPre=: make the repairs that need not wait for kubelite",
        manual: "Run as k8s-dqlite's ExecStartPre=: make the repairs that need not wait for \
                 kubelite.\nIt sends no request to systemd.",
    },
    OptionWords {
        short: None,
        long: "boot",
        value: None,
        title: "run as kubepods-repair.service",
        help: "run as kubepods-repair.service: the same as --early, and record that this boot has \
               begun",
        manual: "Run as\n.IR kubepods-repair.service :\nthe same as\n.BR \\-\\-early ,\nand record \
                 that this boot has begun.",
    },
    OptionWords {
        short: None,
        long: "shutdown",
        value: None,
        title: "run as kubepods-repair-shutdown.service",
        help: "run as kubepods-repair-shutdown.service: record that this boot ends cleanly",
        manual: "Run as\n.IR kubepods-repair-shutdown.service :\nrecord that this boot ends \
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
        help: "examine the captured copy of a host in DIR instead of this host; implies --dry-run",
        manual: "Examine the captured copy of a host in\n.I DIR\ninstead of this host.\n\
                 Implies\n.BR \\-\\-dry\\-run .",
    },
    OptionWords {
        short: None,
        long: "capture",
        value: Some(Operand::File),
        title: "save the examined data for a bug report",
        help: "save the data that was examined to a tar file for a bug report, without the values \
               of settings that this program does not use; implies --dry-run",
        manual: "Save the data that was examined to a tar file for a bug report.\nThe folder\n.I \
                 root\nin it can be given to\n.BR \\-\\-root ,\nwhich then gives the same \
                 report.\nOf settings, command lines, mounts and unit files, the tar file holds \
                 what this program uses; of everything else in them at most the names.\nOnly the \
                 owner can read the tar file, and it replaces an older one.\nImplies\n.BR \
                 \\-\\-dry\\-run .",
    },
    OptionWords {
        short: None,
        long: "json",
        value: None,
        title: "print the report as JSON",
        help: "print the report as JSON",
        manual: "Print the report as JSON.\nIts fields are described in\n.IR \
                 /usr/share/doc/kubepods\\-repair/report.schema.json .",
    },
    OptionWords {
        short: None,
        long: "explain",
        value: Some(Operand::Fault),
        title: "explain a fault",
        help: "explain a fault, or list all faults by area",
        manual: "Explain a fault, or list all faults by area.",
    },
    OptionWords {
        short: None,
        long: "textfile",
        value: Some(Operand::Folder),
        title: "also write metrics",
        help: "also write metrics for node_exporter's textfile collector to \
               DIR/kubepods-repair.prom, even with --dry-run",
        manual: "Also write metrics for node_exporter's textfile collector to\n.IR \
                 DIR/kubepods\\-repair.prom ,\neven with\n.BR \\-\\-dry\\-run .",
    },
    OptionWords {
        short: Some('h'),
        long: "help",
        value: None,
        title: "show help",
        help: "show this help",
        manual: "Show a summary of the options.",
    },
    OptionWords {
        short: Some('V'),
        long: "version",
        value: None,
        title: "show the version",
        help: "show the version",
        manual: "Show the version.",
    },
];

/// The column where the descriptions in `--help` begin.
const INDENT: usize = 19;

/// The output of `--help`.
pub fn help() -> String {
    let mut text = String::from(
        "Usage: kubepods-repair [OPTION]...\n\n\
         Check whether MicroK8s' kubelet can start on this node, and repair what keeps it\n\
         from starting: above all its cgroups. Run it as root.\n\n",
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
  0  nothing that was checked keeps the kubelet from starting, or no kubelet is
     to be started
  1  the kubelet would not start, a repair failed, or something could not be
     read
  2  invalid option or argument
  3  --dry-run only: there is something to repair
The exit status of --boot and --shutdown is always 0.
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
    /// `--explain`: one fault, or the list of all.
    Explain(Option<&'static Fault>),
    /// `--help`
    Help,
    /// `--version`
    Version,
}

/// What to examine, what may be changed, and how to report it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option")]
pub struct Options {
    /// `--dry-run`
    pub dry_run: bool,
    /// `--verbose`
    pub verbose: bool,
    /// `--pre-start`, `--early`, `--boot`, or none of them.
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
    /// The arguments that decide which faults are found, for a run on a captured copy.
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

/// The exit statuses, as the manual page lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Healthy, repaired, or no kubelet is to be started.
    Fine = 0,
    /// The kubelet would not start, or whether it would is unknown.
    Broken = 1,
    /// The command line is invalid.
    Usage = 2,
    /// A dry run found something to repair.
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
/// When an argument is not in [`OPTIONS`], or its value is missing or unknown.
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
    let (mut given, mut shutdown) = (0, false);
    while let Some(arg) = parser.next()? {
        given += 1;
        match arg {
            Short('n') | Long("dry-run") => options.dry_run = true,
            Short('v') | Long("verbose") => options.verbose = true,
            Long("pre-start") => options.occasion = Occasion::PreStart,
            Long("early") => options.occasion = Occasion::Early,
            Long("boot") => options.occasion = Occasion::Boot,
            Long("shutdown") => shutdown = true,
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
    match (shutdown, given) {
        (false, _) => Ok(Command::Run(options)),
        (true, 1) => Ok(Command::Shutdown),
        // With --dry-run nothing must be written, and --shutdown does nothing but write.
        (true, _) => Err("--shutdown takes no other option".into()),
    }
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
        format!("unknown fault {word:?}{hint}; --explain alone lists all faults").into()
    };
    Fault::named(&word).map(Some).ok_or_else(unknown)
}

fn unknown_option(name: &str) -> lexopt::Error {
    let word = format!("--{name}");
    let known = OPTIONS.iter().map(|option| format!("--{}", option.long));
    format!("invalid option '{word}'{}", did_you_mean(&word, known)).into()
}

/// The most similar known word, in parentheses; nothing if more than a third of the characters
/// would have to be edited.
fn did_you_mean(word: &str, known: impl Iterator<Item = String>) -> String {
    let counted = known.map(|known| (edits(word, &known), known));
    match counted.min() {
        Some((edits, nearest)) if edits <= word.chars().count() / 3 => {
            format!(" (did you mean {nearest}?)")
        }
        _ => String::new(),
    }
}

/// The number of characters that have to be added, removed or replaced to turn one word into the
/// other (Levenshtein distance).
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
    fn only_a_similar_word_is_suggested() {
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
