//! A command line, read as the kubelet's flag library reads it.
//!
//! Rests on `flag.go` of spf13/pflag (`parseArgs`, `parseLongArg`, `parseSingleShortArg`) and on
//! `k8s.io/component-base/cli/flag`: `WordSepNormalizeFunc` turns `_` in a name into `-`, and
//! `MapStringString` and `MapStringBool` read pairs.

use crate::kubelet::args::Arg;
use crate::kubelet::errors::LineError;

/// Why a command line cannot be used.
pub type FlagError = LineError;

/// One flag as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Without dashes, `_` turned into `-`.
    pub name: String,
    /// `None` for a flag that stands alone (a boolean).
    pub value: Option<String>,
    /// The line it stands in, counted from 1.
    pub line: usize,
    /// A variable in the value that only the running service knows.
    pub unknown_variable: Option<String>,
}

/// The kubelet's boolean flags that this program reads. They take a value only behind `=`.
const BOOLEANS: [&str; 4] = [
    "cgroups-per-qos",
    "fail-cgroupv1",
    "fail-swap-on",
    "protect-kernel-defaults",
];

/// The flags this program reads that swallow the next argument, whatever it is.
const VALUED: [&str; 16] = [
    "cgroup-driver",
    "cgroup-root",
    "config",
    "config-dir",
    "container-runtime-endpoint",
    "cpu-manager-policy",
    "cpu-manager-policy-options",
    "enforce-node-allocatable",
    "feature-gates",
    "kube-reserved",
    "kube-reserved-cgroup",
    "memory-manager-policy",
    "reserved-cpus",
    "root-dir",
    "system-reserved",
    "system-reserved-cgroup",
];

/// How a flag takes its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A boolean: only behind `=`.
    Switch,
    /// Behind `=`, or else the next argument.
    Valued,
}

/// How the kubelet's flag of this name takes its value; `None` for a flag that this program does
/// not read, so that a capture does not keep its value either.
pub fn reading(name: &str) -> Option<Reading> {
    if BOOLEANS.contains(&name) {
        Some(Reading::Switch)
    } else {
        VALUED.contains(&name).then_some(Reading::Valued)
    }
}

/// The kubelet's normalisation of a name.
pub fn normal(name: &str) -> String {
    name.replace('_', "-")
}

/// What an argument looks like by itself, before it is known whether a flag takes it as its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape<'a> {
    /// No text.
    Empty,
    /// `--`, which ends the flags.
    End,
    /// `--name` or `--name=value`: the name as it stands, and what stands behind `=`.
    Long(&'a str, Option<&'a str>),
    /// `-v`, `-v4` or `-v=4`: the letter, and all that stands behind it.
    Short(char, &'a str),
    /// `---` or `--=`, and all that stands behind it.
    BadSyntax(&'static str, &'a str),
    /// `-`
    Dash,
    /// Anything else.
    Word,
}

impl<'a> Shape<'a> {
    /// The shape of `text`, an argument after expansion.
    pub fn of(text: &'a str) -> Self {
        let Some(short) = text.strip_prefix('-') else {
            return if text.is_empty() {
                Self::Empty
            } else {
                Self::Word
            };
        };
        let Some(long) = short.strip_prefix('-') else {
            let mut letters = short.chars();
            let first = letters.next();
            return first.map_or(Self::Dash, |flag| Self::Short(flag, letters.as_str()));
        };
        if let Some(more) = long.strip_prefix('-') {
            return Self::BadSyntax("---", more);
        }
        match long.split_once('=') {
            Some(("", more)) => Self::BadSyntax("--=", more),
            Some((name, value)) => Self::Long(name, Some(value)),
            None if long.is_empty() => Self::End,
            None => Self::Long(long, None),
        }
    }
}

/// The flags in `args`, in their order.
///
/// Of flags that this program does not know, it cannot know either whether they take the next
/// argument: they do here unless that begins with a dash.
///
/// # Errors
/// What every kubelet refuses: arguments that are no flags, bad syntax, a missing value.
pub fn parse(args: &[Arg]) -> Result<Vec<Flag>, LineError> {
    let mut flags = Vec::new();
    let mut args = args.iter().peekable();
    while let Some(arg) = args.next() {
        let (name, value) = match Shape::of(&arg.text) {
            Shape::Long(name, value) => (name, value),
            // None of these matters here.
            Shape::Short(_, more) => {
                if more.is_empty() {
                    args.next_if(|next| !next.text.starts_with('-'));
                }
                continue;
            }
            Shape::End => return args.next().map_or(Ok(flags), |next| Err(stray(next))),
            Shape::Empty | Shape::Dash | Shape::Word => return Err(stray(arg)),
            Shape::BadSyntax(begin, _) => {
                let reason = format!(
                    "argument {} begins with {begin}, and the kubelet refuses it: bad flag syntax",
                    arg.number
                );
                return Err(LineError::refused(arg.line, reason));
            }
        };
        let mut flag = Flag {
            name: normal(name),
            value: value.map(str::to_owned),
            line: arg.line,
            unknown_variable: arg.unknown_variable.clone(),
        };
        let reading = reading(&flag.name);
        if value.is_none() && reading != Some(Reading::Switch) {
            let swallows_any = reading == Some(Reading::Valued);
            let next = args.next_if(|next| swallows_any || !next.text.starts_with('-'));
            if let Some(next) = next {
                flag.value = Some(next.text.clone());
                flag.unknown_variable = next.unknown_variable.clone().or(flag.unknown_variable);
            } else if swallows_any {
                return Err(flag.refused(format!(
                    "--{name} needs an argument, and the kubelet refuses to start without it"
                )));
            }
        }
        flags.push(flag);
    }
    Ok(flags)
}

impl Flag {
    pub(super) fn refused(&self, reason: String) -> LineError {
        LineError::refused(self.line, reason)
    }

    pub(super) fn unknown(&self, reason: String) -> LineError {
        LineError::unknown(self.line, reason)
    }
}

/// The argument itself may be part of a password with a blank in it, so the error tells only where
/// it stands.
fn stray(arg: &Arg) -> LineError {
    let reason = if arg.text.is_empty() {
        "an empty argument (two blanks in a row, or quotes around nothing), which the kubelet \
         refuses"
            .to_owned()
    } else {
        format!(
            "argument {} belongs to no flag, and the kubelet refuses it as an unknown command",
            arg.number
        )
    };
    LineError::refused(arg.line, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::args;

    fn flags(file: &str) -> Result<Vec<(String, Option<String>)>, FlagError> {
        let flags = parse(&args::parse(file, &|_| None))?;
        Ok(flags
            .into_iter()
            .map(|flag| (flag.name, flag.value))
            .collect())
    }

    #[test]
    fn forms_of_a_flag() {
        let table: &[(&str, &str, Option<&str>)] = &[
            ("--cgroup-root=/a", "cgroup-root", Some("/a")),
            ("--cgroup_root /a", "cgroup-root", Some("/a")),
            ("--cgroup-root --x", "cgroup-root", Some("--x")),
            ("--cgroup-root=", "cgroup-root", Some("")),
            ("--cgroup-root=a=b", "cgroup-root", Some("a=b")),
            ("--cgroups-per-qos", "cgroups-per-qos", None),
            ("--cgroups-per-qos=false", "cgroups-per-qos", Some("false")),
            ("--other value", "other", Some("value")),
            ("-v 4\n--cgroup-root\n/a", "cgroup-root", Some("/a")),
            ("-v=4 --cgroup-root=/a --", "cgroup-root", Some("/a")),
        ];
        for (file, name, value) in table {
            let expected = vec![((*name).to_owned(), value.map(str::to_owned))];
            assert_eq!(flags(file), Ok(expected), "{file}");
        }
    }

    #[test]
    fn what_the_kubelet_refuses() {
        for (file, line) in [
            ("--cgroups-per-qos false", 1),
            ("--a=1\nword", 2),
            ("--a=1  --b=2", 1),
            ("--cgroup-root", 1),
            ("---a", 1),
            ("--=a", 1),
            ("-", 1),
            ("-- a", 1),
        ] {
            assert_eq!(
                flags(file).map_err(|error| error.line),
                Err(line),
                "{file:?}"
            );
        }
    }
}
