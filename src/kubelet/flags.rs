//! A command line, read as the kubelet's flag library reads it.
//!
//! Rests on `parseArgs` in `flag.go` of spf13/pflag. arg_shape.rs distinguishes flags from
//! other arguments, and flag_values.rs interprets the values.

use crate::kubelet::arg_shape::{Reading, Shape, normal};
use crate::kubelet::args::Arg;
use crate::kubelet::errors::LineError;

/// Why a command line cannot be used.
pub type FlagError = LineError;

/// One flag as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Without dashes, `_` turned into `-`.
    pub name: String,
    /// `None` for a flag without a value (a boolean).
    pub value: Option<String>,
    /// The line that it is in, counted from 1.
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

/// How the kubelet's flag of this name takes its value; `None` for a flag that this program does
/// not read, so that a capture does not keep its value either.
pub fn reading(name: &str) -> Option<Reading> {
    if BOOLEANS.contains(&name) {
        Some(Reading::Switch)
    } else {
        VALUED.contains(&name).then_some(Reading::Valued)
    }
}

/// The flags in `args`, in their order.
///
/// Of flags that this program does not know, it cannot know either whether they take the next
/// argument: they do here unless that begins with a dash.
///
/// # Errors
/// What every kubelet refuses: arguments that are not flags, bad syntax, a missing value.
pub fn parse(args: &[Arg]) -> Result<Vec<Flag>, LineError> {
    let mut flags = Vec::new();
    let mut args = args.iter().peekable();
    let mut switch: Option<String> = None;
    while let Some(arg) = args.next() {
        let before = switch.take();
        let (name, value) = match Shape::of(&arg.text) {
            Shape::Long(name, value) => (name, value),
            // None of these matters here.
            Shape::Short(_, more) => {
                if more.is_empty() {
                    args.next_if(|next| !next.text.starts_with('-'));
                }
                continue;
            }
            Shape::End => return args.next().map_or(Ok(flags), |next| Err(behind_end(next))),
            Shape::Empty | Shape::Dash | Shape::Word => return Err(stray(arg, before)),
            Shape::BadSyntax(begin, _) => {
                let reason = format!(
                    "argument {} begins with {begin}, which is not a valid flag",
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
                return Err(flag.refused(format!("--{name} has no value")));
            }
        }
        if reading == Some(Reading::Switch) && value.is_none() {
            switch = Some(flag.name.clone());
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

/// An argument that belongs to no flag, and the boolean flag right before it. The argument itself
/// may be part of a password with a space in it, so the error says only where it is.
fn stray(arg: &Arg, switch: Option<String>) -> LineError {
    let reason = if arg.text.is_empty() {
        "there is an empty argument (two spaces in a row, or empty quotes)".to_owned()
    } else if let Some(switch) = switch {
        format!(
            "argument {} follows --{switch}, which takes a value only after an equals sign \
             (--{switch}=false)",
            arg.number
        )
    } else {
        format!(
            "argument {} does not belong to a flag (quotes do not group words in this file, and a \
             comment needs a line of its own)",
            arg.number
        )
    };
    LineError::refused(arg.line, reason)
}

fn behind_end(arg: &Arg) -> LineError {
    let reason = format!(
        "argument {} follows \"--\", which ends the flags",
        arg.number
    );
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
