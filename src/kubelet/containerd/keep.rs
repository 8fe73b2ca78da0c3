//! What a capture keeps of containerd's configuration: the values that are read and, beside them,
//! the names of the others, with an empty value of the same type.
//!
//! The file is rewritten, with one line for each of its topmost keys. Of a file that cannot be
//! parsed only the error is kept.

use toml::Table;

use crate::kubelet::containerd::format::{
    GRPC_PLUGIN, RUNC_OPTIONS, RUNTIME_PLUGIN, SHORT_PLUGIN, parse,
};
use crate::root::keep::{fault, is_name, quoted};

/// The paths of the values that are read, from the top down. `PLUGIN` means any of the CRI's
/// plugins, `OPTION` any of [`RUNC_OPTIONS`], `*` any name or item.
const READ: [&[&str]; 5] = [
    &["version"],
    &["imports", "*"],
    &["plugins", PLUGIN, "containerd", "default_runtime_name"],
    &[
        "plugins",
        PLUGIN,
        "containerd",
        "runtimes",
        "*",
        "runtime_type",
    ],
    &[
        "plugins",
        PLUGIN,
        "containerd",
        "runtimes",
        "*",
        "options",
        OPTION,
    ],
];

const PLUGIN: &str = "<plugin>";
const OPTION: &str = "<option>";

/// Whether a part of a path in [`READ`] matches this name.
fn is_meant(pattern: &str, name: &str) -> bool {
    match pattern {
        "*" => true,
        PLUGIN => [RUNTIME_PLUGIN, GRPC_PLUGIN, SHORT_PLUGIN].contains(&name),
        OPTION => {
            let mut options = RUNC_OPTIONS.iter();
            options.any(|(option, _)| option.eq_ignore_ascii_case(name))
        }
        _ => name == pattern,
    }
}

/// What a capture keeps of the file.
pub(super) fn keep(text: &str) -> String {
    match parse(text) {
        Ok(table) => entries(&table, &[]).map(|entry| entry + "\n").collect(),
        Err(error) => fault(&format!("{} {}", error.line, error.reason)),
    }
}

/// How many more names are on the way from `path` to a value that is read; `None` where there is
/// none.
fn way(path: &[&str]) -> Option<usize> {
    let leads = |read: &&&[&str]| {
        let mut pairs = read.iter().zip(path);
        path.len() <= read.len() && pairs.all(|(pattern, name)| is_meant(pattern, name))
    };
    READ.iter().find(leads).map(|read| read.len() - path.len())
}

fn entries<'a>(table: &'a Table, path: &'a [&'a str]) -> impl Iterator<Item = String> {
    table.iter().filter_map(move |(name, value)| {
        let path = [path, &[name]].concat();
        let is_kept = is_name(name) || way(&path).is_some();
        is_kept.then(|| format!("{} = {}", quoted(name), keep_value(value, &path)))
    })
}

fn keep_value(value: &toml::Value, path: &[&str]) -> String {
    let way = way(path);
    let (is_read, leads) = (way == Some(0), way.is_some_and(|more| more > 0));
    match value {
        toml::Value::String(text) => quoted(if is_read { text } else { "" }),
        toml::Value::Integer(number) => (if is_read { *number } else { 0 }).to_string(),
        toml::Value::Boolean(value) => (is_read && *value).to_string(),
        toml::Value::Float(_) => "0.0".to_owned(),
        toml::Value::Datetime(_) => "1970-01-01".to_owned(),
        toml::Value::Array(items) if leads => {
            let items = items
                .iter()
                .map(|item| keep_value(item, &[path, &["[]"]].concat()));
            format!("[{}]", items.collect::<Vec<_>>().join(", "))
        }
        toml::Value::Array(_) => "[]".to_owned(),
        toml::Value::Table(table) if leads => {
            let entries: Vec<String> = entries(table, path).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        toml::Value::Table(_) => "{}".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_read_is_kept() {
        for (text, expected) in [
            (
                "version = 3 # S\na = \"S\"\nb = 7\nc = true\nd = 7.5\ne = 2001-01-01\nf = \
                 [\"S\"]\n[g]\nS = 1\n[\"S@h\"]\n",
                "\"a\" = \"\"\n\"b\" = 0\n\"c\" = false\n\"d\" = 0.0\n\"e\" = 1970-01-01\n\"f\" = \
                 []\n\"g\" = {}\n\"version\" = 3\n",
            ),
            (
                "version = [\"S\"]\nimports = [\"é\\n\", 5, [\"S\"]]\n",
                "\"imports\" = [\"é\\U0000000a\", 5, []]\n\"version\" = []\n",
            ),
            (
                "[plugins.x.containerd]\nS = 1\n",
                "\"plugins\" = { \"x\" = {} }\n",
            ),
            (
                "[plugins.cri.containerd]\ndefault_runtime_name = \"$\"\nb = \
                 \"S\"\n[plugins.cri.containerd.runtimes.\"a b\"]\nruntime_type = \"t\"\noptions = \
                 { systemdcgroup = true, IoUid = -1, S = \"S\", Root = [\"S\"] }\n",
                "\"plugins\" = { \"cri\" = { \"containerd\" = { \"b\" = \"\", \
                 \"default_runtime_name\" = \"$\", \"runtimes\" = { \"a b\" = { \"options\" = { \
                 \"IoUid\" = -1, \"Root\" = [], \"S\" = \"\", \"systemdcgroup\" = true }, \
                 \"runtime_type\" = \"t\" } } } } }\n",
            ),
            ("", ""),
        ] {
            assert_eq!(keep(text), expected);
            assert_eq!(keep(expected), expected);
        }
        for text in [
            "a = S",
            "a = 1\nS = = 2\n",
            "S\n",
            "a = \"S\n",
            "S = 1\nS = 2\n",
            "[S\n",
            "S = 27182818284590452353602874713527\n",
            "S = -27182818284590452353602874713527\n",
            "S = 2718281828459045235360287471352727182818284590452353602874713527\n",
            "S = 0x7777777777777777777777777777\n",
            "S = 7e\n",
            "S = 2077-77-77\n",
        ] {
            let kept = keep(text);
            assert_eq!(parse(&kept), parse(text), "{text}");
            assert!(!kept.contains(['S', '7']), "{kept}");
        }
    }
}
