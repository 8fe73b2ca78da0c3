//! Arguments in, exit status out.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::diagnosis::Occasion;
use crate::diagnosis::catalogue::Fault;

/// What `--help` prints.
pub const HELP: &str = "\
kubepods-repair checks and repairs the cgroup tree that MicroK8s' kubelet needs.

Usage: kubepods-repair [OPTION]...

  -n, --dry-run    say what is wrong and what would be done; change nothing
      --pre-start  as kubelite's ExecStartPre: no kubelet runs now, so that stale
                   pod groups may go, damaged checkpoints may be set aside, and a
                   unit of MicroK8s that blocks a controller may be restarted
      --early      as k8s-dqlite's ExecStartPre: repair, but leave all that to
                   kubelite's
      --boot       as kubepods-repair.service: the same as --early, and note that
                   this boot has begun
      --shutdown   as kubepods-repair-shutdown.service: note that it ends cleanly
      --no-restart never restart a unit
      --root DIR   examine a captured copy of a host instead of this one;
                   implies --dry-run
      --capture FILE
                   keep what was read, as a tar to attach to a bug report: of
                   settings only what this program knows, of others the names;
                   implies --dry-run
      --json       report as JSON
      --explain [FAULT]
                   tell all about one fault, or name them all
      --textfile DIR
                   also write metrics for node_exporter's textfile collector
                   to DIR/kubepods-repair.prom, with --dry-run, too
  -h, --help       print this
  -V, --version    print the version

Exit status:
  0  the kubelet would start, or there is none to care for
  1  it would not, a repair failed, or something could not be read
  2  wrong usage
  3  --dry-run only: steps would be taken
--boot and --shutdown always exit with 0.
";

/// What the program was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Look at a host, and repair it.
    Run(Options),
    /// `--shutdown`
    Shutdown,
    /// `--explain`: one fault, or all.
    Explain(Option<Fault>),
    /// `--help`
    Help,
    /// `--version`
    Version,
}

/// How to look, and what may be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `--dry-run`
    pub dry_run: bool,
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
/// For whatever is not in [`HELP`].
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, lexopt::Error> {
    use lexopt::prelude::*;

    let mut options = Options {
        dry_run: false,
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
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Command::Run(options))
}

/// The word after `--explain`, if there is one.
fn explained(parser: &mut lexopt::Parser) -> Result<Option<Fault>, lexopt::Error> {
    let word = parser
        .optional_value()
        .or_else(|| parser.raw_args().ok()?.next());
    let Some(word) = word.map(|word| word.to_string_lossy().into_owned()) else {
        return Ok(None);
    };
    let unknown = || {
        lexopt::Error::from(format!(
            "no fault is called {word:?}; --explain alone names them all"
        ))
    };
    Fault::named(&word).map(Some).ok_or_else(unknown)
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
        assert_eq!(parsed("-n -V"), Some(Command::Version));
        assert_eq!(parsed("--json --help"), Some(Command::Help));
        assert_eq!(parsed("--explain"), Some(Command::Explain(None)));
        for one in ["--explain frozen", "--explain=frozen"] {
            assert_eq!(parsed(one), Some(Command::Explain(Some(Fault::Frozen))));
        }
    }
}
