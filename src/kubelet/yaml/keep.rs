//! What a capture keeps of YAML: the values that are read and the names of the others, each in its
//! line.
//!
//! The document is rewritten as JSON, so that neither a comment nor anything else between the
//! values gets into the capture. Of a document that cannot be parsed only the error is kept.

use std::collections::BTreeMap;

use crate::kubelet::yaml::compose::parse;
use crate::kubelet::yaml::node::{Node, Value};
use crate::root::keep::{is_name, quoted};

/// A field that is read is a scalar, or a list or map of scalars.
const FIELD_LEVELS: usize = 2;

/// The document `text` with the values of `fields`.
pub fn keep(text: &str, fields: &[&str]) -> String {
    let document = match parse(text) {
        Ok(document) => document,
        Err(error) => return error.keep(),
    };
    let mut json = Json {
        text: String::new(),
        line: 1,
    };
    // Nothing is read of a document that is not a map.
    if let Value::Map(entries) = &*document.value {
        let mut kept = BTreeMap::new();
        for (name, node) in entries.iter().filter(|(name, _)| is_name(name)) {
            let node = if fields.contains(&name.as_str()) {
                node.clone()
            } else {
                Node::new(node.line, Value::Null, 0)
            };
            kept.insert(name.clone(), node);
        }
        json.map(&kept, 0);
        json.text.push('\n');
    }
    json.text
}

struct Json {
    text: String,
    /// The line that its end is in.
    line: usize,
}

impl Json {
    fn node(&mut self, node: &Node, depth: usize) {
        match &*node.value {
            Value::Null => self.text.push_str("null"),
            Value::Bool(value) => self.text.push_str(&value.to_string()),
            Value::Number(text) => self.text.push_str(text),
            Value::Text(text) => self.text.push_str(&quoted(text)),
            Value::List(items) => {
                self.text.push('[');
                for item in items.iter().filter(|_| depth < FIELD_LEVELS) {
                    self.begin(item);
                    self.node(item, depth + 1);
                }
                self.text.push(']');
            }
            Value::Map(entries) => self.map(entries, depth),
        }
    }

    fn map(&mut self, entries: &BTreeMap<String, Node>, depth: usize) {
        self.text.push('{');
        let mut entries: Vec<_> = entries.iter().filter(|_| depth < FIELD_LEVELS).collect();
        entries.sort_by_key(|(_, node)| node.line);
        for (name, node) in entries {
            self.begin(node);
            self.text.push_str(&format!("{}: ", quoted(name)));
            self.node(node, depth + 1);
        }
        self.text.push('}');
    }

    /// Continues with the next item or entry, in the line of `node`.
    fn begin(&mut self, node: &Node) {
        let lines = node.line.saturating_sub(self.line);
        self.line += lines;
        if !self.text.ends_with(['[', '{']) {
            self.text.push_str(if lines == 0 { ", " } else { "," });
        }
        self.text.push_str(&"\n".repeat(lines));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_read_is_kept_and_in_its_line() {
        for (text, expected) in [
            (
                "root: /a # S\ntoken: \"S s\"\n\nlist:\n- a\n- [S]\n- {S: S}\n",
                "{\"root\": \"/a\",\n\"token\": null,\n\n\n\"list\": [\"a\",\n[],\n{}]}\n",
            ),
            (
                "map:\n  A: no\n  B: 0x1f\n  C: {S: S}\n",
                "{\n\"map\": {\"A\": false,\n\"B\": 0x1f,\n\"C\": {}}}\n",
            ),
            (
                "k: &a {S: S}\nroot: ~\nS S: S\nb: *a\n",
                "{\"b\": null, \"k\": null,\n\"root\": null}\n",
            ),
            (
                "# S\nroot: |\n  é\n---\nS\n",
                "{\n\n\"root\": \"é\\U0000000a\"}\n",
            ),
            (
                "{\"root\": \"'\\\"\\\\\", \"k\": {\"root\": \"S\"}}",
                "{\"k\": null, \"root\": \"'\\\"\\\\\"}\n",
            ),
            (
                "k: !!int S\n",
                "%BLANKED refused 1 this value is not a valid !!int\n",
            ),
            (
                "k: !!binary S\n",
                "%BLANKED unknown 1 this value is base64 (!!binary), which kubepods-repair does \
                 not decode\n",
            ),
            ("S", ""),
            ("[S]", ""),
            ("# S\n", ""),
        ] {
            let kept = keep(text, &["root", "list", "map"]);
            assert_eq!(kept, expected);
            assert_eq!(keep(&kept, &["root", "list", "map"]), expected);
        }
        for text in [
            "a:\n\tS: S\n",
            "a: *S\n",
            "a: 1\nb: [S\n",
            "S\na: b\n",
            "~: S\n",
            "a: .inf\n",
            "a: !S!b c\n",
        ] {
            let kept = keep(text, &["a"]);
            assert_eq!(parse(&kept), parse(text), "{text:?}");
            assert!(
                parse(text).is_err() && !kept.replace("JSON", "").contains('S'),
                "{kept}"
            );
        }
    }
}
