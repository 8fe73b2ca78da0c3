//! Which value a scalar has: a boolean, a number, text or none.
//!
//! Rests on `resolve` in go-yaml v2's `resolve.go`.

use crate::kubelet::errors::ErrorKind;
use crate::kubelet::yaml::node::Value;

/// What is wrong with a scalar, and whether the kubelet refuses it.
type Wrong = (String, ErrorKind);

/// A scalar's value by its tag and, where it has none, by how it looks.
pub(super) fn resolve(tag: Option<&str>, text: &str, is_plain: bool) -> Result<Value, Wrong> {
    let plain = match tag {
        None if is_plain => resolve_plain(text),
        Some("!!bool" | "!!int" | "!!float" | "!!null" | "!!timestamp") => resolve_plain(text),
        Some("!!binary") => {
            let reason = "this value is base64 (!!binary), which kubepods-repair does not decode";
            return Err((reason.to_owned(), ErrorKind::Unknown));
        }
        None | Some(_) => Plain::Text,
    };
    let fits = match tag {
        Some("!!bool") => matches!(plain, Plain::Bool(_)),
        Some("!!int") => matches!(plain, Plain::Integer),
        Some("!!float") => matches!(plain, Plain::Integer | Plain::Float | Plain::NoNumber),
        Some("!!null") => matches!(plain, Plain::Null),
        // Dates stay text; whether go-yaml takes this one for a date is of no consequence to what
        // is read here.
        Some("!!timestamp") => matches!(plain, Plain::Text),
        None | Some(_) => true,
    };
    if let Some(tag) = tag.filter(|_| !fits) {
        // The value may be a secret.
        let reason = format!("this value is not a valid {tag}");
        return Err((reason, ErrorKind::Refused));
    }
    match plain {
        Plain::Null => Ok(Value::Null),
        Plain::Bool(value) => Ok(Value::Bool(value)),
        Plain::Integer | Plain::Float => Ok(Value::Number(text.to_owned())),
        Plain::NoNumber => {
            let reason =
                format!("{text} cannot be converted to JSON, so the kubelet refuses the file");
            Err((reason, ErrorKind::Refused))
        }
        Plain::Text => Ok(Value::Text(text.to_owned())),
    }
}

/// What a scalar without quotes is.
enum Plain {
    Null,
    Bool(bool),
    Integer,
    Float,
    /// `.nan` and `.inf`
    NoNumber,
    Text,
}

/// go-yaml's `resolve` without a tag.
fn resolve_plain(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Plain::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Plain::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Plain::Bool(false)
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF"
        | "-.inf" | "-.Inf" | "-.INF" => Plain::NoNumber,
        _ if text.starts_with('.') => {
            if underscores_separate_digits(text) && is_float(&text.replace('_', "")) {
                Plain::Float
            } else {
                Plain::Text
            }
        }
        _ if text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-')) => {
            number(&text.replace('_', ""))
        }
        _ => Plain::Text,
    }
}

/// Go takes an underscore in a number only between digits.
fn underscores_separate_digits(text: &str) -> bool {
    text.match_indices('_').all(|(at, _)| {
        let (before, after) = (text.get(..at), text.get(at + 1..));
        before.is_some_and(|text| text.ends_with(|c: char| c.is_ascii_digit()))
            && after.is_some_and(|text| text.starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// Text that begins with a digit or a sign, without its underscores. A date is not a number, and
/// stays text.
fn number(text: &str) -> Plain {
    // `0b-1`: a sign behind the prefix is go-yaml's own idea.
    let binary = text.strip_prefix("0b").unwrap_or_default();
    let binary = binary.strip_prefix(['+', '-']).unwrap_or(binary);
    if is_integer(text) || fits_integer(binary, 2, i64::MAX.unsigned_abs()) {
        Plain::Integer
    } else if is_float(text) {
        Plain::Float
    } else {
        Plain::Text
    }
}

/// Go's `ParseInt` and then `ParseUint` with base 0: the prefix says the base, and a leading 0 is
/// octal.
fn is_integer(text: &str) -> bool {
    let (limit, digits) = if let Some(digits) = text.strip_prefix('-') {
        (i64::MIN.unsigned_abs(), digits)
    } else if let Some(digits) = text.strip_prefix('+') {
        (i64::MAX.unsigned_abs(), digits)
    } else {
        (u64::MAX, text)
    };
    let (base, digits) = match digits.split_at_checked(2) {
        Some(("0x" | "0X", rest)) => (16, rest),
        Some(("0o" | "0O", rest)) => (8, rest),
        Some(("0b" | "0B", rest)) => (2, rest),
        Some(_) if digits.starts_with('0') => (8, digits),
        _ => (10, digits),
    };
    fits_integer(digits, base, limit)
}

fn fits_integer(digits: &str, base: u32, limit: u64) -> bool {
    digits.chars().all(|c| c.is_digit(base))
        && u64::from_str_radix(digits, base).is_ok_and(|value| value <= limit)
}

/// `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`, and not too large for 64 bits: that
/// stays text.
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    [whole, fraction, exponent].into_iter().all(is_digits)
        && !(whole.is_empty() && fraction.is_empty())
        && !exponent.is_empty()
        && unsigned.parse::<f64>().is_ok_and(f64::is_finite)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::yaml::parse;

    fn kind(scalar: &str) -> &'static str {
        let Ok(node) = parse(&format!("a: {scalar}\n")) else {
            return "refused";
        };
        let Value::Map(entries) = &*node.value else {
            panic!("{scalar}")
        };
        match &*entries["a"].value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::Text(_) => "text",
            Value::List(_) => "list",
            Value::Map(_) => "map",
        }
    }

    #[test]
    fn scalars_are_what_go_yaml_takes_them_for() {
        let table: &[(&str, &[&str])] = &[
            ("null", &["", "~", "null", "Null", "NULL", "!!null ''"]),
            (
                "bool",
                &[
                    "y",
                    "N",
                    "yes",
                    "No",
                    "on",
                    "OFF",
                    "true",
                    "False",
                    "TRUE",
                    "!!bool 'no'",
                ],
            ),
            (
                "number",
                &[
                    "5",
                    "-5",
                    "+5",
                    "0",
                    "-0",
                    "007",
                    "0o17",
                    "0O17",
                    "0x1F",
                    "0X1f",
                    "-0x1F",
                    "0b101",
                    "0B1",
                    "-0b1",
                    "0b-1",
                    "1_000",
                    "1__0",
                    "1_",
                    "0_7",
                    "18446744073709551615",
                    "18446744073709551616",
                    "-9223372036854775808",
                    "-9223372036854775809",
                    "08",
                    "09.5",
                    "1.",
                    "1.5",
                    ".5",
                    "-.5",
                    "+.5",
                    "1e3",
                    "1E-3",
                    "1.e+3",
                    ".5e1",
                    ".5_0",
                    "1_0.5",
                    "0777777777777777777777777",
                    "!!int '5'",
                    "!!float 5",
                    "1e-400",
                    "0.0",
                ],
            ),
            (
                "text",
                &[
                    "'5'",
                    "\"5\"",
                    "!!str 5",
                    "! 5",
                    "!foo 5",
                    "|\n  5",
                    ">\n  5",
                    "Yes!",
                    "yEs",
                    "nULL",
                    "tRue",
                    "+",
                    "--5",
                    "5a",
                    "0x",
                    "0xg",
                    "0b2",
                    "0o8",
                    "1e",
                    "1e+",
                    "1e400",
                    "._5",
                    ".5_",
                    ".e3",
                    "..5",
                    "1.2.3",
                    "1:30",
                    "190:20:30",
                    "2001-12-14",
                    "2001-12-14t21:59:43.10-05:00",
                    "2001-13-40",
                    "_1",
                    "0x1FFFFFFFFFFFFFFFFF",
                    "/a",
                    "a5",
                    "1 2",
                    "5\n  6",
                    "<x",
                    "inf",
                    "nan",
                    "Infinity",
                    "0x1.8p1",
                    "1,5",
                    "'<<'",
                    "+x",
                ],
            ),
            (
                "refused",
                &[
                    ".inf",
                    "-.Inf",
                    ".NAN",
                    "!!int x",
                    "!!bool 5",
                    "!!null x",
                    "!!binary aGk=",
                ],
            ),
        ];
        for (expected, scalars) in table {
            for scalar in *scalars {
                assert_eq!(kind(scalar), *expected, "{scalar:?}");
            }
        }
    }
}
