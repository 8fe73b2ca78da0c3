//! MicroK8s' args files, read as kubelite reads them.
//!
//! Rests on MicroK8s' `pkg/k8s/lite` (unchanged from 1.27 to 1.36): each line is trimmed and passed
//! over when it is empty or begins with `#`; every quote, double or single, is removed; the rest
//! is split at single spaces, and each part goes through Go's `os.ExpandEnv`. So there are no
//! comments behind an argument, tabs do not separate, and quotes group nothing.

use crate::kubelet::arg_shape::{Reading, Shape, normal};
use crate::root::keep::{BLANK, is_name};

/// One argument, and where it is in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// After expansion.
    pub text: String,
    /// Counted from 1.
    pub line: usize,
    /// Its position in the line, counted from 1.
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
    part.replace(['"', '\''], "")
}

/// What a capture keeps of `text`: the flags that `reading` knows, of the others the names, and
/// that there is an argument. What is kept is parsed and refused as `text` is.
pub fn keep(
    text: &str,
    variables: &dyn Fn(&str) -> Option<String>,
    reading: &dyn Fn(&str) -> Option<Reading>,
) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut next = Next::Any;
    for line in text.split_inclusive('\n') {
        let args = line.trim();
        let mut parts = Vec::new();
        if args.starts_with('#') {
            parts.push("#".to_owned());
        } else if !args.is_empty() {
            for part in args.split(' ') {
                let (arg, _) = expand(&unquoted(part), variables);
                parts.push(keep_part(part, &arg, reading, &mut next));
            }
        }
        kept.push_str(&line.replacen(args, &parts.join(" "), 1));
    }
    kept
}

/// How the next argument is read, after the arguments before it.
enum Next {
    /// As a flag or a stray word, depending on its first characters.
    Any,
    /// As the value of a flag that this program uses.
    Value,
    /// As a stray word, because it follows `--`.
    Word,
}

/// One argument, as written in the file (`part`) and after expansion (`arg`).
fn keep_part(
    part: &str,
    arg: &str,
    reading: &dyn Fn(&str) -> Option<Reading>,
    next: &mut Next,
) -> String {
    let is_value = matches!(next, Next::Value);
    if is_value {
        *next = Next::Any;
    }
    let blank_more = |more: &str| if more.is_empty() { "" } else { BLANK };
    match Shape::of(arg) {
        Shape::Empty if part.is_empty() => String::new(),
        Shape::Empty => "\"\"".to_owned(),
        _ if matches!(next, Next::Word) => BLANK.to_owned(),
        // Another flag in the place of a value is a mistake, and may hold a secret.
        Shape::Long(name, value) => match (reading(&normal(name)), value) {
            (Some(Reading::Valued), None) => {
                if !is_value {
                    *next = Next::Value;
                }
                part.to_owned()
            }
            (Some(_), _) => part.to_owned(),
            (None, value) => {
                let name = if is_name(name) { name } else { BLANK };
                let value = value.map(|_| format!("={}", blank(part)));
                format!("--{name}{}", value.unwrap_or_default())
            }
        },
        _ if is_value => part.to_owned(),
        Shape::Short(flag, more) => format!("-{flag}{}", blank_more(more)),
        Shape::BadSyntax(begin, more) => format!("{begin}{}", blank_more(more)),
        Shape::End => {
            *next = Next::Word;
            "--".to_owned()
        }
        Shape::Dash => "-".to_owned(),
        Shape::Word => blank(part),
    }
}

/// In place of a word, with the quote behind it: the quote ends nothing, and shows that the author
/// thought it would.
fn blank(part: &str) -> String {
    if part.trim_matches('\0').is_empty() {
        return part.to_owned();
    }
    match part.chars().last() {
        Some(quote @ ('"' | '\'')) => format!("{BLANK}{quote}"),
        _ => BLANK.to_owned(),
    }
}

/// Replaces `$name` and `${name}` as Go's `os.Expand` does. If no name follows the `$`, the text is
/// kept or dropped as in Go. Also returns the last variable that `variables` does not know.
fn expand(part: &str, variables: &dyn Fn(&str) -> Option<String>) -> (String, Option<String>) {
    let mut expanded = String::with_capacity(part.len());
    let mut unknown = None;
    let mut rest = part;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let (name, width) = shell_name(after);
        match name.map(|name| (name, variables(name))) {
            Some((_, Some(value))) => expanded.push_str(&value),
            Some((name, None)) => unknown = Some(name.to_owned()),
            None if width == 0 => expanded.push('$'),
            None => {}
        }
        rest = after.get(width..).unwrap_or_default();
    }
    expanded.push_str(rest);
    (expanded, unknown)
}

/// Go's `getShellName`: the name after a `$`, and how many bytes belong to it. Bytes without a name
/// are bad syntax.
fn shell_name(after: &str) -> (Option<&str>, usize) {
    if let Some(braced) = after.strip_prefix('{') {
        return match braced.split_once('}') {
            Some(("", _)) => (None, 2),
            Some((name, _)) => (Some(name), name.len() + 2),
            None => (None, 1),
        };
    }
    let is_special = |c: char| c.is_ascii_digit() || "*#$@!?-".contains(c);
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let width = if after.starts_with(is_special) {
        1
    } else {
        after.find(|c| !is_part(c)).unwrap_or(after.len())
    };
    let name = after.get(..width).filter(|name| !name.is_empty());
    (name, width)
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
