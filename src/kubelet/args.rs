//! MicroK8s' args files, read as kubelite reads them.
//!
//! Rests on MicroK8s' `pkg/k8s/lite` (unchanged from 1.27 to 1.36): each line is trimmed and passed
//! over when it is empty or begins with `#`; every quote, double or single, is taken out; the rest
//! is split at single spaces, and each part goes through Go's `os.ExpandEnv`. So there are no
//! comments behind an argument, tabs do not separate, and quotes group nothing.

use crate::kubelet::flags::{Given, Reading, normal};
use crate::root::keep::{BLANK, is_name};

/// One argument and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// After expansion.
    pub text: String,
    /// Counted from 1.
    pub line: usize,
    /// Which one of its line, counted from 1.
    pub number: usize,
    /// A variable in it whose value only the running service knows.
    pub unknown_variable: Option<String>,
}

/// The arguments in `text`. `variables` gives the value of those that are known.
pub fn parse(text: &str, variables: &dyn Fn(&str) -> Option<String>) -> Vec<Arg> {
    let mut args = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        for (number, part) in line.split(' ').enumerate() {
            let (text, unknown_variable) = expand(&unquoted(part), variables);
            args.push(Arg {
                text,
                line: index + 1,
                number: number + 1,
                unknown_variable,
            });
        }
    }
    args
}

fn unquoted(part: &str) -> String {
    part.chars().filter(|c| !matches!(c, '"' | '\'')).collect()
}

/// What a capture keeps of `text`: the flags that `reading` knows, of the others the names, and
/// that there is an argument. What is kept is parsed and refused as `text` is.
pub fn keep(
    text: &str,
    variables: &dyn Fn(&str) -> Option<String>,
    reading: &dyn Fn(&str) -> Option<Reading>,
) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut before = Before::Flags;
    for line in text.split_inclusive('\n') {
        let args = line.trim();
        let (margin, _) = line.split_at(line.len() - line.trim_start().len());
        kept.push_str(margin);
        if args.starts_with('#') {
            kept.push('#');
        } else if !args.is_empty() {
            let parts = args.split(' ').map(|part| {
                keep_part(
                    part,
                    &expand(&unquoted(part), variables).0,
                    reading,
                    &mut before,
                )
            });
            kept.push_str(&parts.collect::<Vec<_>>().join(" "));
        }
        kept.push_str(
            line.strip_prefix(margin)
                .and_then(|rest| rest.strip_prefix(args))
                .unwrap_or_default(),
        );
    }
    kept
}

/// What the arguments before make of the next one.
enum Before {
    /// Whatever it looks like.
    Flags,
    /// The value of a flag that is read.
    Name,
    /// Behind `--` nothing is a flag.
    Words,
}

/// One argument, as it stands in the file and as it is after expansion.
fn keep_part(
    part: &str,
    text: &str,
    reading: &dyn Fn(&str) -> Option<Reading>,
    before: &mut Before,
) -> String {
    let is_value = matches!(before, Before::Name);
    if is_value {
        *before = Before::Flags;
    }
    let or_less =
        |begin: &str, has_more: bool| format!("{begin}{}", if has_more { BLANK } else { "" });
    match Given::of(text) {
        Given::Empty if part.is_empty() => String::new(),
        Given::Empty => "\"\"".to_owned(),
        _ if matches!(before, Before::Words) => BLANK.to_owned(),
        // Another flag in a value's place may hold a secret, and is no value that somebody meant.
        Given::Long { name, value } => match reading(&normal(name)) {
            Some(known) => {
                if known == Reading::Valued && value.is_none() && !is_value {
                    *before = Before::Name;
                }
                part.to_owned()
            }
            None => format!(
                "--{}{}",
                if is_name(name) { name } else { BLANK },
                value
                    .map(|_| format!("={}", blank(part)))
                    .unwrap_or_default()
            ),
        },
        _ if is_value => part.to_owned(),
        Given::Short { flag, has_more } => or_less(&format!("-{flag}"), has_more),
        Given::BadSyntax { begin, has_more } => or_less(begin, has_more),
        Given::End => {
            *before = Before::Words;
            "--".to_owned()
        }
        Given::Dash => "-".to_owned(),
        Given::Word => blank(part),
    }
}

/// In place of a word, with the quote behind it: it ends nothing, and shows that somebody thought
/// so.
fn blank(part: &str) -> String {
    let is_quote = |c: char| matches!(c, '"' | '\'');
    if part.trim_matches('\0').is_empty() {
        part.to_owned()
    } else {
        format!(
            "{BLANK}{}",
            part.chars()
                .last()
                .filter(|c| is_quote(*c))
                .map(String::from)
                .unwrap_or_default()
        )
    }
}

/// Go's `os.Expand`: `$name` and `${name}`; what is not a name after `$` is kept or eaten exactly
/// as there.
fn expand(part: &str, variables: &dyn Fn(&str) -> Option<String>) -> (String, Option<String>) {
    let mut expanded = String::with_capacity(part.len());
    let mut unknown = None;
    let mut rest = part;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let (name, width) = variable(after);
        match name {
            Name::Known(name) => match variables(name) {
                Some(value) => expanded.push_str(&value),
                None => unknown = Some(name.to_owned()),
            },
            Name::None => expanded.push('$'),
            Name::BadSyntax => {}
        }
        rest = after.get(width..).unwrap_or_default();
    }
    expanded.push_str(rest);
    (expanded, unknown)
}

enum Name<'a> {
    Known(&'a str),
    None,
    BadSyntax,
}

/// Go's `getShellName`: the name after a `$`, and how many bytes it takes.
fn variable(after: &str) -> (Name<'_>, usize) {
    if let Some(braced) = after.strip_prefix('{') {
        return match braced.split_once('}') {
            Some(("", _)) => (Name::BadSyntax, 2),
            Some((name, _)) => (Name::Known(name), name.len() + 2),
            None => (Name::BadSyntax, 1),
        };
    }
    let is_special = |c: char| c.is_ascii_digit() || "*#$@!?-".contains(c);
    let width = match after.chars().next() {
        Some(first) if is_special(first) => 1,
        _ => after
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(after.len()),
    };
    match after.get(..width) {
        Some("") | None => (Name::None, 0),
        Some(name) => (Name::Known(name), width),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::flags;

    fn texts(file: &str) -> Vec<String> {
        let known = |name: &str| (name == "SNAP_DATA").then(|| "/var/snap/microk8s/7".to_owned());
        parse(file, &known)
            .into_iter()
            .map(|arg| arg.text)
            .collect()
    }

    #[test]
    fn the_grammar_of_kubelite() {
        let table: &[(&str, &[&str])] = &[
            ("--a=1\n\n  --b 2  \r\n", &["--a=1", "--b", "2"]),
            ("# --a\n   # --b\n--c # d", &["--c", "#", "d"]),
            ("--a=\"x y\"", &["--a=x", "y"]),
            ("--a='x'\"y\"", &["--a=xy"]),
            ("--a  --b", &["--a", "", "--b"]),
            ("\"\"", &[""]),
            ("--a\t--b", &["--a\t--b"]),
            ("--a=$SNAP_DATA/x", &["--a=/var/snap/microk8s/7/x"]),
            ("--a=${SNAP_DATA}x", &["--a=/var/snap/microk8s/7x"]),
            ("--a=$NOPE.", &["--a=."]),
            ("--a=$", &["--a=$"]),
            ("--a=$/b", &["--a=$/b"]),
            ("--a=${}b", &["--a=b"]),
            ("--a=${b", &["--a=b"]),
            ("--a=$1b", &["--a=b"]),
            ("", &[]),
        ];
        for (file, expected) in table {
            assert_eq!(texts(file), *expected, "{file:?}");
        }
    }

    #[test]
    fn a_capture_keeps_the_flags_that_are_read() {
        for (file, kept) in [
            (
                "--cgroup-root=/a --token=S -v=4 -v 4\n",
                "--cgroup-root=/a --token=BLANKED -vBLANKED -v BLANKED\n",
            ),
            (
                "  # S\n\n\t--cgroup_root $HOME/S \r\n--x S",
                "  #\n\n\t--cgroup_root $HOME/S \r\n--x BLANKED",
            ),
            ("--cgroups-per-qos S", "--cgroups-per-qos BLANKED"),
            ("--x=\"S T\" 'S'", "--x=BLANKED BLANKED\" BLANKED'"),
            (
                "--cgroup-root --token=S T",
                "--cgroup-root --token=BLANKED BLANKED",
            ),
            (
                "--a  --b $S \"\" '$SNAP_DATA'",
                "--a  --b \"\" \"\" BLANKED'",
            ),
            (
                "--a\tS=1 ---S --=S --a- -",
                "--BLANKED=BLANKED ---BLANKED --=BLANKED --a- -",
            ),
            ("-- --cgroup-root=S $S S", "-- BLANKED \"\" BLANKED"),
            ("\0\0", "\0\0"),
        ] {
            let known =
                |name: &str| (name == "SNAP_DATA").then(|| "/var/snap/microk8s/7".to_owned());
            let keep = |file| keep(file, &known, &flags::reading);
            assert_eq!(keep(file), kept);
            let judged = |file| flags::parse(&parse(file, &known)).map(|flags| flags.len());
            assert_eq!(judged(kept), judged(file), "{file}");
            assert_eq!(keep(kept), kept);
        }
    }

    #[test]
    fn lines_are_counted_and_unknown_variables_named() {
        let args = parse("#\n--a=$HOME\n", &|_| None);
        let text = "--a=".into();
        assert_eq!(
            args,
            [Arg {
                text,
                line: 2,
                number: 1,
                unknown_variable: Some("HOME".into())
            }]
        );
    }
}
