//! MicroK8s' args files, read as kubelite reads them.
//!
//! Rests on MicroK8s' `pkg/k8s/lite` (unchanged from 1.27 to 1.36): each line is trimmed and passed over when it is empty
//! or begins with `#`; every quote, double or single, is taken out; the rest is split at single spaces, and each part goes
//! through Go's `os.ExpandEnv`. So there are no comments behind an argument, tabs do not separate, and quotes group nothing.

/// One argument and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// After expansion.
    pub text: String,
    /// Counted from 1.
    pub line: usize,
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
        let unquoted: String = line.chars().filter(|c| !matches!(c, '"' | '\'')).collect();
        for part in unquoted.split(' ') {
            let (text, unknown_variable) = expand(part, variables);
            args.push(Arg { text, line: index + 1, unknown_variable });
        }
    }
    args
}

/// Go's `os.Expand`: `$name` and `${name}`; what is not a name after `$` is kept or eaten exactly as there.
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
        _ => after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len()),
    };
    match after.get(..width) {
        Some("") | None => (Name::None, 0),
        Some(name) => (Name::Known(name), width),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(file: &str) -> Vec<String> {
        let known = |name: &str| (name == "SNAP_DATA").then(|| "/var/snap/microk8s/7".to_owned());
        parse(file, &known).into_iter().map(|arg| arg.text).collect()
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
    fn lines_are_counted_and_unknown_variables_named() {
        let args = parse("#\n--a=$HOME\n", &|_| None);
        assert_eq!(args, [Arg { text: "--a=".into(), line: 2, unknown_variable: Some("HOME".into()) }]);
    }
}
