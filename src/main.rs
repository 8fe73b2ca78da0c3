//! Reads the arguments, prints the report and sets the exit status. The library does the rest.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use kubepods_repair::cli::{self, Command, Exit, Options};
use kubepods_repair::faults::Occasion;
use kubepods_repair::repair::textfile;
use kubepods_repair::report::metrics::Timing;
use kubepods_repair::{report, run, sys};

fn main() -> ExitCode {
    let exit = match cli::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => print(&cli::help()),
        Ok(Command::Version) => print(concat!("kubepods-repair ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Explain(fault)) => print(&report::explain::explain(fault)),
        Ok(Command::Run(options)) => examine(&options),
        Ok(Command::Shutdown) => shutdown(),
        Err(error) => {
            complain(false, &format!("{error}; see kubepods-repair --help"));
            Exit::Usage
        }
    };
    exit.into()
}

/// Records a clean shutdown. It never delays a shutdown for long, and never makes it fail.
fn shutdown() -> Exit {
    let to_journal = report::journal::is_stream_of(&io::stderr());
    sys::arm_deadline(sys::DEADLINE_AT_BOOT, to_journal, Exit::Fine as u8);
    run::shutdown().unwrap_or_else(|error| {
        let sentence = "Could not record that this boot ended cleanly";
        complain(to_journal, &format!("{sentence}: {error}."));
        Exit::Fine
    })
}

fn examine(options: &Options) -> Exit {
    let start = Instant::now();
    let to_journal = report::journal::is_stream_of(&io::stderr());
    let (seconds, timed_out) = match options.occasion {
        Occasion::Boot => (sys::DEADLINE_AT_BOOT, Exit::Fine),
        Occasion::Early => (sys::DEADLINE_AT_BOOT, Exit::Broken),
        Occasion::ByHand | Occasion::PreStart => (sys::DEADLINE, Exit::Broken),
    };
    sys::arm_deadline(seconds, to_journal, timed_out as u8);
    let mut report = run::run(options);
    sys::doing("writing the report");
    if let Some(folder) = &options.textfile {
        let metrics = report::metrics::render(&report, timing(start));
        if let Err(error) = textfile::write(folder, &metrics) {
            report
                .unwritten
                .push(format!("Could not write the metrics: {error}."));
        }
    }
    for sentence in report.unnoted.iter().chain(&report.unwritten) {
        complain(to_journal, sentence);
    }
    if to_journal {
        report::journal::send(&report);
    }
    if options.json {
        print(&report::json::render(&report));
    } else if !(to_journal && report::journal::is_stream_of(&io::stdout())) {
        print(&report::text::render(
            &report,
            report::terminal::view(options.verbose),
        ));
    }
    report.exit()
}

/// Prints a complaint to standard error, with a priority if that is the journal: a terminal would
/// show it. If standard error is closed, only the exit status shows the problem.
fn complain(to_journal: bool, sentence: &str) {
    let priority = if to_journal { "<4>" } else { "" };
    let _ = writeln!(io::stderr(), "{priority}kubepods-repair: {sentence}");
}

fn timing(start: Instant) -> Timing {
    let ended = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timing {
        ended,
        took: start.elapsed(),
    }
}

/// Prints to standard output. It is no error if the reader has closed it.
fn print(text: &str) -> Exit {
    let mut stdout = io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    Exit::Fine
}
