//! What one argument looks like to the kubelet's flag library, before it is known whether a flag
//! takes it as its value.
//!
//! Rests on `flag.go` of spf13/pflag (`parseArgs`, `parseLongArg`, `parseSingleShortArg`) and on
//! `WordSepNormalizeFunc` of `k8s.io/component-base/cli/flag`.

/// How a flag takes its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A boolean: only behind `=`.
    Switch,
    /// Behind `=`, or else the next argument.
    Valued,
}

/// The kubelet's normalisation of a name.
pub fn normal(name: &str) -> String {
    name.replace('_', "-")
}

/// An argument by its look alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape<'a> {
    /// No text.
    Empty,
    /// `--`, which ends the flags.
    End,
    /// `--name` or `--name=value`: the name as written, and what follows `=`.
    Long(&'a str, Option<&'a str>),
    /// `-v`, `-v4` or `-v=4`: the letter, and all that follows it.
    Short(char, &'a str),
    /// `---` or `--=`, and all that follows it.
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
