//! Files that are generated from the program's own tables: the journal's catalog, the manual page's
//! lists of options and faults, the table of faults in docs/troubleshooting.md, the faults and
//! outcomes in the schema of the JSON report, and the completions. The table of scenarios in
//! docs/testing.md is generated from their headers. `tests/generate` writes them; this test fails
//! if one of them is out of date.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use kubepods_repair::cli::{OPTIONS, Operand, OptionWords, help};
use kubepods_repair::faults::Fault;
use kubepods_repair::outcome::Outcome;
use kubepods_repair::report::catalog::journal_catalog;

/// Generates a file from its present content.
type Maker = fn(&str) -> String;

const FILES: [(&str, Maker); 8] = [
    ("systemd/catalog/kubepods-repair.catalog", |_| {
        journal_catalog()
    }),
    ("packaging/kubepods-repair.8", manual),
    ("packaging/completions/kubepods-repair.bash", |_| bash()),
    ("packaging/completions/kubepods-repair.fish", |_| fish()),
    ("packaging/completions/kubepods-repair.zsh", |_| zsh()),
    ("docs/troubleshooting.md", troubleshooting),
    ("docs/testing.md", testing),
    ("docs/report.schema.json", schema),
];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}

#[test]
fn generated_files_are_up_to_date() {
    let mut outdated = Vec::new();
    for (name, make) in FILES {
        let wanted = make(&text(name));
        if std::env::var_os("GENERATE").is_some() {
            fs::write(path(name), &wanted).unwrap();
        }
        if text(name) != wanted {
            outdated.push(name);
        }
    }
    assert!(outdated.is_empty(), "tests/generate writes {outdated:?}");
}

/// `whole` with `made` between the lines `begin` and `end`.
fn between(whole: &str, begin: &str, end: &str, made: &str) -> String {
    let (before, rest) = whole.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    format!("{before}{begin}{made}{end}{after}")
}

fn manual(page: &str) -> String {
    let mut options = String::new();
    for option in OPTIONS {
        let long = format!("\\-\\-{}", dashed(option.long));
        let _ = match (option.short, option.value) {
            (Some(short), _) => writeln!(options, ".TP\n.BR \\-{short} \", \" {long}"),
            (None, None) => writeln!(options, ".TP\n.B {long}"),
            (None, Some(Operand::Fault)) => {
                writeln!(options, ".TP\n.BR {long} \" [\\fIFAULT\\fR]\"")
            }
            (None, Some(value)) => {
                writeln!(options, ".TP\n.BI {long} \" {}\"", value.placeholder())
            }
        };
        let _ = writeln!(options, "{}", option.manual);
    }
    let mut faults = String::new();
    for fault in Fault::all() {
        let (name, title) = (dashed(fault.name), fault.title);
        let remedy = fault.remedy.replace(". ", ".\n");
        let _ = writeln!(faults, ".TP\n.B {name}\n{title}.\n{remedy}");
    }
    let page = between(
        page,
        ".\\\" Begin: options, made by tests/generate.\n",
        ".\\\" End: options.\n",
        &options,
    );
    between(
        &page,
        ".\\\" Begin: faults, made by tests/generate.\n",
        ".\\\" End: faults.\n",
        &faults,
    )
}

/// Escapes the dashes of a name, which man would show as hyphens otherwise.
fn dashed(name: &str) -> String {
    name.replace('-', "\\-")
}

fn troubleshooting(page: &str) -> String {
    let mut table = String::from("| fault | kubepods-repair |\n|---|---|\n");
    for fault in Fault::all() {
        let _ = writeln!(table, "| `{}` | {} |", fault.name, fault.does);
    }
    between(
        page,
        "<!-- Begin: faults, made by tests/generate. -->\n",
        "<!-- End: faults. -->\n",
        &table,
    )
}

fn testing(page: &str) -> String {
    let mut table = String::from("| area | in every run | only with `--long` |\n|---|---|---|\n");
    let areas = sorted(fs::read_dir(path("tests/vm/scenarios")).unwrap());
    for area in areas.iter().filter(|area| area.is_dir()) {
        let [mut usual, mut added] = [Counts::new(), Counts::new()];
        for scenario in sorted(fs::read_dir(area).unwrap()) {
            for (place, is_usual) in places(&fs::read_to_string(scenario).unwrap()) {
                let counts = if is_usual { &mut usual } else { &mut added };
                *counts.entry(place).or_default() += 1;
            }
        }
        let name = area.file_name().unwrap().display();
        let _ = writeln!(
            table,
            "| `{name}` | {} | {} |",
            listed(&usual),
            listed(&added)
        );
    }
    between(
        page,
        "<!-- Begin: scenarios, made by tests/generate. -->\n",
        "<!-- End: scenarios. -->\n",
        &table,
    )
}

/// Where the scenario with this text runs, as its header says: guest and mode, and whether in every
/// run. The defaults are those of tests/vm/run.
fn places(scenario: &str) -> Vec<(String, bool)> {
    let header = |key: &str| {
        let key = format!("# {key}: ");
        scenario.lines().find_map(|line| line.strip_prefix(&key))
    };
    let guests = header("suites").unwrap_or("bookworm trixie");
    let modes = header("mode").unwrap_or("v2");
    let usually = match header("long") {
        Some(_) => "",
        None => header("usually").unwrap_or(guests),
    };
    let mut places = Vec::new();
    for guest in guests.split(' ') {
        let is_usual = usually.split(' ').any(|name| name == guest);
        places.extend(modes.split(' ').map(|mode| match mode {
            "v2" => (guest.to_owned(), is_usual),
            mode => (format!("{guest}/{mode}"), is_usual),
        }));
    }
    places
}

/// How many scenarios run on a guest.
type Counts = BTreeMap<String, usize>;

fn listed(counts: &Counts) -> String {
    let counts: Vec<String> = counts
        .iter()
        .map(|(guest, count)| format!("{guest} {count}"))
        .collect();
    counts.join(", ")
}

fn sorted(folder: fs::ReadDir) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn schema(text: &str) -> String {
    let faults: Vec<&str> = Fault::all().iter().map(|fault| fault.name).collect();
    let text = enumerated(text, "faults", &faults);
    enumerated(&text, "outcomes", &Outcome::ALL.map(Outcome::name))
}

/// `text` with these names in the enum that has this comment.
fn enumerated(text: &str, what: &str, names: &[&str]) -> String {
    let begin = format!("\"$comment\": \"{what}, made by tests/generate\",\n      \"enum\": [");
    let names: Vec<String> = names
        .iter()
        .map(|name| format!("\n        \"{name}\""))
        .collect();
    between(text, &begin, "\n      ]", &names.join(","))
}

const HEAD: &str = "Made by tests/generate from src/cli.rs.";

/// The command that prints the names of all faults.
const FAULTS: &str = "kubepods-repair --explain 2>/dev/null | awk '/^  [a-z]/ {print $1}'";

/// The options that take this kind of value, with their dashes.
fn with_value(value: Operand) -> Vec<String> {
    let takes = |option: &&OptionWords| option.value == Some(value);
    let options = OPTIONS.iter().filter(takes);
    options.map(|option| format!("--{}", option.long)).collect()
}

fn bash() -> String {
    let mut words = Vec::new();
    for option in OPTIONS {
        words.extend(option.short.map(|short| format!("-{short}")));
        words.push(format!("--{}", option.long));
    }
    let case = |value: Operand, reply: &str| {
        let options = with_value(value).join("|");
        format!("    {options})\n      {reply} ;;\n")
    };
    let (files, reply) = ("compopt -o filenames", "mapfile -t COMPREPLY < <(compgen");
    let mut text = format!("# bash completion for kubepods-repair. {HEAD}\n");
    text += "_kubepods_repair() {\n";
    text += "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n";
    text += "  local options faults\n  COMPREPLY=()\n  case $before in\n";
    text += &case(
        Operand::Fault,
        &format!("faults=$({FAULTS})\n      {reply} -W \"$faults\" -- \"$word\")"),
    );
    let folders = format!("{files}\n      {reply} -d -- \"$word\")");
    text += &case(Operand::Folder, &folders);
    let all_files = format!("{files}\n      {reply} -f -- \"$word\")");
    text += &case(Operand::File, &all_files);
    text += "    *)\n";
    for words in words.chunks(8) {
        let _ = writeln!(text, "      options+=\" {}\"", words.join(" "));
    }
    let _ = writeln!(text, "      {reply} -W \"$options\" -- \"$word\") ;;");
    text + "  esac\n}\ncomplete -F _kubepods_repair kubepods-repair\n"
}

fn fish() -> String {
    let mut text = format!("# fish completion for kubepods-repair. {HEAD}\n");
    text += "complete -c kubepods-repair -f\n";
    for option in OPTIONS {
        let short = option.short.map(|short| format!(" -s {short}"));
        let value = match option.value {
            None => String::new(),
            Some(Operand::Folder) => " -x -a '(__fish_complete_directories)'".to_owned(),
            Some(Operand::File) => " -r -F".to_owned(),
            Some(Operand::Fault) => format!(" -x -a \"({})\"", FAULTS.replace('$', "\\$")),
        };
        let (short, long, title) = (short.unwrap_or_default(), option.long, option.title);
        let _ = writeln!(
            text,
            "complete -c kubepods-repair{short} -l {long}{value} -d '{title}'"
        );
    }
    text
}

fn zsh() -> String {
    let mut text = format!("#compdef kubepods-repair\n# {HEAD}\n");
    text += "_kubepods_repair_faults() {\n  local -a faults\n";
    let _ = writeln!(text, "  faults=(${{(f)\"$({FAULTS})\"}})");
    text += "  _describe fault faults\n}\n_arguments";
    for option in OPTIONS {
        let value = match option.value {
            None => "",
            Some(Operand::Folder) => ":folder:_directories",
            Some(Operand::File) => ":file:_files",
            Some(Operand::Fault) => ":fault:_kubepods_repair_faults",
        };
        let (long, title) = (option.long, option.title);
        let _ = match option.short {
            Some(short) => write!(
                text,
                " \\\n  '(-{short} --{long})'{{-{short},--{long}}}'[{title}]{value}'"
            ),
            None => write!(text, " \\\n  '--{long}[{title}]{value}'"),
        };
    }
    text + "\n"
}

#[test]
fn exit_statuses_are_the_same_everywhere() {
    let manual = text("packaging/kubepods-repair.8");
    let (_, section) = manual.split_once(".SH EXIT STATUS").unwrap();
    let (section, _) = section.split_once(".SH").unwrap();
    for status in 0..=3 {
        assert!(help().contains(&format!("\n  {status}  ")));
        assert!(section.contains(&format!("\n.B {status}\n")), "{status}");
        let row = format!("\n| {status} | ");
        assert!(text("docs/troubleshooting.md").contains(&row), "{status}");
    }
}

#[test]
fn help_fits_a_terminal() {
    let help = help();
    let wide: Vec<&str> = help.lines().filter(|line| line.len() > 80).collect();
    assert!(wide.is_empty(), "{wide:#?}");
}

#[test]
fn the_manual_names_fields_outcomes_and_files() {
    let manual = text("packaging/kubepods-repair.8").replace("\\-", "-");
    for outcome in Outcome::ALL {
        assert!(manual.contains(outcome.name()), "{}", outcome.name());
    }
    let journal = text("src/report/journal.rs");
    let (_, event) = journal.split_once("tracing::event!(").unwrap();
    let (event, _) = event.split_once("};").unwrap();
    let mut fields = 0;
    for (field, _) in event
        .lines()
        .filter_map(|line| line.trim().split_once(" = "))
    {
        let field = field.to_uppercase();
        assert!(field == "MESSAGE" || manual.contains(&field), "{field}");
        fields += 1;
    }
    assert!(fields > 8, "{event}");
    for unit in fs::read_dir(path("systemd/system")).unwrap() {
        let name = unit.unwrap().file_name().into_string().unwrap();
        let named = name.replace("-check.service", "-check.timer");
        let file = format!("/usr/lib/systemd/system/{named}");
        assert!(manual.contains(&file), "{name}");
    }
}
