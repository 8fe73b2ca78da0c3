//! A command line, read as the kubelet's flag library reads it.
//!
//! Rests on spf13/pflag (`parseArgs`, `parseLongArg`, `parseSingleShortArg`) and on the kubelet's
//! normalisation of names (`k8s.io/component-base/cli/flag.WordSepNormalizeFunc`: `_` is `-`).

use crate::kubelet::ErrorKind;
use crate::kubelet::args::Arg;

/// One flag as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Without dashes, `_` turned into `-`.
    pub name: String,
    /// What it was given; `None` for a flag that stands alone (a boolean).
    pub value: Option<String>,
    /// The line it stands in, counted from 1.
    pub line: usize,
    /// A variable in the value that only the running service knows.
    pub unknown_variable: Option<String>,
}

/// Why the kubelet refuses the whole command line, or what it comes to cannot be known here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct FlagError {
    /// Counted from 1.
    pub line: usize,
    /// One sentence.
    pub reason: String,
    /// Which of the two.
    pub kind: ErrorKind,
}

impl FlagError {
    /// The kubelet refuses what stands in this line.
    pub(super) fn refused(line: usize, reason: String) -> Self {
        Self {
            line,
            reason,
            kind: ErrorKind::Refused,
        }
    }

    /// What this line comes to cannot be known here.
    pub(super) fn unknown(line: usize, reason: String) -> Self {
        Self {
            line,
            reason,
            kind: ErrorKind::Unknown,
        }
    }
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

/// How a flag is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A boolean.
    Switch,
    /// It takes the next argument where it has no value behind `=`.
    Valued,
}

/// How the kubelet's flag of this name is read; `None` where it is not, so that its value is not in
/// a capture either.
pub fn reading(name: &str) -> Option<Reading> {
    let is_switch = BOOLEANS.contains(&name).then_some(Reading::Switch);
    is_switch.or_else(|| VALUED.contains(&name).then_some(Reading::Valued))
}

/// The kubelet's normalisation of a name.
pub fn normal(name: &str) -> String {
    name.replace('_', "-")
}

/// One argument by itself, before it is known whether a flag takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given<'a> {
    /// Nothing at all.
    Empty,
    /// `--`, which ends the flags.
    End,
    /// `--name`, `--name=value`
    Long {
        /// Without dashes, as it stands.
        name: &'a str,
        /// Behind `=`.
        value: Option<&'a str>,
    },
    /// `-v`, `-v4`, `-v=4`
    Short {
        /// The letter.
        flag: char,
        /// Whether something stands behind it.
        has_more: bool,
    },
    /// `---` or `--=`
    BadSyntax {
        /// One of these.
        begin: &'static str,
        /// Whether something stands behind it.
        has_more: bool,
    },
    /// `-`
    Dash,
    /// Anything else.
    Word,
}

impl<'a> Given<'a> {
    /// What `text` is.
    pub fn of(text: &'a str) -> Self {
        if text.is_empty() {
            return Self::Empty;
        }
        let Some(short) = text.strip_prefix('-') else {
            return Self::Word;
        };
        let Some(long) = short.strip_prefix('-') else {
            let mut letters = short.chars();
            return letters.next().map_or(Self::Dash, |flag| Self::Short {
                flag,
                has_more: !letters.as_str().is_empty(),
            });
        };
        for (sign, begin) in [('-', "---"), ('=', "--=")] {
            if let Some(more) = long.strip_prefix(sign) {
                return Self::BadSyntax {
                    begin,
                    has_more: !more.is_empty(),
                };
            }
        }
        match long.split_once('=') {
            _ if long.is_empty() => Self::End,
            Some((name, value)) => Self::Long {
                name,
                value: Some(value),
            },
            None => Self::Long {
                name: long,
                value: None,
            },
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
pub fn parse(args: &[Arg]) -> Result<Vec<Flag>, FlagError> {
    let mut flags = Vec::new();
    let mut args = args.iter().peekable();
    while let Some(arg) = args.next() {
        let error = |reason: String| FlagError::refused(arg.line, reason);
        let (name, value) = match Given::of(&arg.text) {
            Given::End => return args.next().map_or(Ok(flags), |next| Err(stray(next))),
            Given::Empty | Given::Dash | Given::Word => return Err(stray(arg)),
            Given::BadSyntax { begin, .. } => {
                let number = arg.number;
                return Err(error(format!(
                    "argument {number} begins with {begin}, and the kubelet refuses it: bad flag \
                     syntax"
                )));
            }
            // None matters here.
            Given::Short { has_more, .. } => {
                if !has_more {
                    args.next_if(|next| !next.text.starts_with('-'));
                }
                continue;
            }
            Given::Long { name, value } => (name, value),
        };
        let mut flag = Flag {
            name: normal(name),
            value: value.map(str::to_owned),
            line: arg.line,
            unknown_variable: arg.unknown_variable.clone(),
        };
        if flag.value.is_none() && !BOOLEANS.contains(&flag.name.as_str()) {
            let swallows_any = VALUED.contains(&flag.name.as_str());
            let next = args.next_if(|next| swallows_any || !next.text.starts_with('-'));
            if swallows_any && next.is_none() {
                return Err(error(format!(
                    "--{name} needs an argument, and the kubelet refuses to start without it"
                )));
            }
            flag.value = next.map(|next| next.text.clone());
            flag.unknown_variable = next
                .and_then(|next| next.unknown_variable.clone())
                .or(flag.unknown_variable);
        }
        flags.push(flag);
    }
    Ok(flags)
}

/// Go's `strconv.ParseBool`; a boolean flag that stands alone is true.
///
/// # Errors
/// For anything that Go does not know as a boolean.
pub fn boolean(flag: &Flag) -> Result<bool, FlagError> {
    let Some(value) = flag.value.as_deref() else {
        return Ok(true);
    };
    parse_bool(value).ok_or_else(|| {
        let reason = format!(
            "--{}={value:?} is neither true nor false, and the kubelet refuses it",
            flag.name
        );
        FlagError::refused(flag.line, reason)
    })
}

/// Go's `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A flag of pairs, `a=b,c=d` (`k8s.io/component-base/cli/flag`, `MapStringString` and
/// `MapStringBool`).
///
/// # Errors
/// For a piece without `=`.
pub(super) fn pairs<'a>(flag: &Flag, value: &'a str) -> Result<Vec<(&'a str, &'a str)>, FlagError> {
    let pieces = value.split(',').filter(|piece| !piece.is_empty());
    let pair = |piece: &'a str| {
        if let Some((name, value)) = piece.split_once('=') {
            return Ok((name.trim(), value.trim()));
        }
        let reason = format!(
            "--{}: {piece:?} is no pair name=value, and the kubelet refuses it",
            flag.name
        );
        Err(FlagError::refused(flag.line, reason))
    };
    pieces.map(pair).collect()
}

/// It may be part of a password with a blank in it, so that only its place is told.
fn stray(arg: &Arg) -> FlagError {
    let number = arg.number;
    let reason = if arg.text.is_empty() {
        "an empty argument (two blanks in a row, or quotes around nothing), which the kubelet \
         refuses"
            .to_owned()
    } else {
        format!(
            "argument {number} belongs to no flag, and the kubelet refuses it as an unknown command"
        )
    };
    FlagError::refused(arg.line, reason)
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

    #[test]
    fn booleans_are_go_s() {
        let value = |text: &str| {
            let flags = parse(&args::parse(text, &|_| None)).unwrap_or_default();
            flags.first().and_then(|flag| boolean(flag).ok())
        };
        assert_eq!(value("--cgroups-per-qos=F"), Some(false));
        assert_eq!(value("--cgroups-per-qos"), Some(true));
        assert_eq!(value("--cgroups-per-qos=no"), None);
        assert_eq!(value("--cgroups-per-qos="), None);
    }
}
