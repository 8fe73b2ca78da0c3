//! Arguments in, exit status out; everything else is the library's.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use kubepods_repair::cli::{self, Command, Exit, Options};
use kubepods_repair::diagnosis::Occasion;
use kubepods_repair::report::metrics::Timing;
use kubepods_repair::{repair, report, sys};

fn main() -> ExitCode {
    let (text, exit) = match cli::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => (cli::HELP.to_owned(), Exit::Fine),
        Ok(Command::Version) => (
            format!("kubepods-repair {}\n", env!("CARGO_PKG_VERSION")),
            Exit::Fine,
        ),
        Ok(Command::Explain(fault)) => (report::explain::explain(fault), Exit::Fine),
        Ok(Command::Run(options)) => return run(&options).into(),
        Ok(Command::Shutdown) => return shutdown().into(),
        Err(error) => {
            // A closed standard error leaves the exit status to tell.
            let _ = writeln!(
                io::stderr(),
                "kubepods-repair: {error}; see kubepods-repair --help"
            );
            (String::new(), Exit::Usage)
        }
    };
    print(&text);
    exit.into()
}

/// It never keeps a shutdown waiting, and never fails one.
fn shutdown() -> Exit {
    let to_journal = report::journal::is_stream_of(&io::stderr());
    sys::arm_deadline(sys::DEADLINE_AT_BOOT, to_journal);
    if let Err(error) = kubepods_repair::shutdown() {
        complain(
            to_journal,
            &format!("The next boot will not know that this one ended cleanly: {error}."),
        );
    }
    Exit::Fine
}

fn run(options: &Options) -> Exit {
    let start = Instant::now();
    let to_journal = report::journal::is_stream_of(&io::stderr());
    let seconds = match options.occasion {
        Occasion::Boot | Occasion::Early => sys::DEADLINE_AT_BOOT,
        Occasion::ByHand | Occasion::PreStart => sys::DEADLINE,
    };
    sys::arm_deadline(seconds, to_journal);
    let mut report = kubepods_repair::run(options);
    let mut exit = report.exit();
    sys::doing("writing the report");
    if let Some(folder) = &options.textfile
        && let Err(error) =
            repair::textfile::write(folder, &report::metrics::render(&report, timing(start)))
    {
        report
            .unnoted
            .push(format!("The metrics are not written: {error}."));
        exit = if options.occasion == Occasion::Boot {
            exit
        } else {
            Exit::Broken
        };
    }
    for sentence in &report.unnoted {
        complain(to_journal, sentence);
    }
    if to_journal {
        report::journal::send(&report);
    }
    if let Some(error) = &report.capture_error {
        let _ = writeln!(
            io::stderr(),
            "kubepods-repair: nothing was captured: {error}"
        );
    }
    if options.json {
        print(&report::json::render(&report));
    } else if !(to_journal && report::journal::is_stream_of(&io::stdout())) {
        let colour = io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        print(&report::text::render(&report, colour));
    }
    exit
}

/// The journal's stream understands a priority; a terminal would print it.
fn complain(to_journal: bool, sentence: &str) {
    let priority = if to_journal { "<4>" } else { "" };
    let _ = writeln!(io::stderr(), "{priority}kubepods-repair: {sentence}");
}

fn timing(start: Instant) -> Timing {
    Timing {
        ended: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
        took: start.elapsed(),
    }
}

/// A reader that has gone away is no failure of ours.
fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}
