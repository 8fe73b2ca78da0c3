//! Composes a document from a parser's events: aliases, merges, and what a key becomes.
//!
//! Rests on `decode.go` in go-yaml v2, and on `convertToJSONableObject` in `sigs.k8s.io/yaml`.

use std::collections::{BTreeMap, HashMap};

use granit_parser::{Event, Parser, ScalarStyle, StrInput, Tag};

use crate::kubelet::errors::LineError;
use crate::kubelet::yaml::node::{Node, Value};
use crate::kubelet::yaml::scalars;

/// How many keys all merges (`<<`) of a file may copy.
const MOST_MERGED: usize = 20_000;

/// How deep lists and maps may be nested; go-yaml accepts some more.
const MOST_NESTED: usize = 500;

/// The first document in `text`; an empty file is [`Value::Null`].
///
/// # Errors
/// If the text is not valid YAML, if go-yaml or its translation into JSON refuses it, or if the
/// result would be too large.
pub fn parse(text: &str) -> Result<Node, LineError> {
    if let Some(error) = LineError::kept(text) {
        return Err(error);
    }
    let mut composer = Composer {
        parser: Parser::new_from_str(text),
        line: 1,
        anchors: HashMap::new(),
        merged: 0,
    };
    let mut document = Node::new(1, Value::Null, 0);
    loop {
        match composer.next()? {
            None | Some(Event::DocumentEnd) => return Ok(document),
            Some(Event::StreamStart | Event::DocumentStart(..) | Event::StreamEnd) => {}
            Some(event) => document = composer.node(event, 0)?,
        }
    }
}

/// Composes nodes from the parser's events.
struct Composer<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// The line of the last event.
    line: usize,
    anchors: HashMap<usize, Node>,
    /// How many keys merges have copied so far.
    merged: usize,
}

impl<'a> Composer<'a> {
    fn next(&mut self) -> Result<Option<Event<'a>>, LineError> {
        match self.parser.next() {
            None => Ok(None),
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(Some(event))
            }
            Some(Err(error)) => Err(LineError::refused(error.marker().line(), error.info())),
        }
    }

    /// The node that begins with `event`, inside of `level` lists and maps.
    fn node(&mut self, event: Event<'a>, level: usize) -> Result<Node, LineError> {
        let line = self.line;
        let (value, depth, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_deref().map(short_tag);
                let is_plain = style == ScalarStyle::Plain;
                let value = scalars::resolve(tag.as_deref(), &text, is_plain);
                let refused = |(reason, kind)| LineError { line, reason, kind };
                (value.map_err(refused)?, 0, anchor)
            }
            Event::Alias(anchor) => {
                let target = self.anchors.get(&anchor).cloned();
                let error =
                    || self.refused("this alias refers to a value that contains the alias itself");
                return target.ok_or_else(error);
            }
            Event::SequenceStart(_, anchor, _) => {
                let (items, depth) = self.list(level + 1)?;
                (Value::List(items), depth, anchor)
            }
            Event::MappingStart(_, anchor, _) => {
                let (entries, depth) = self.map(level + 1)?;
                (Value::Map(entries), depth, anchor)
            }
            _ => {
                return Err(LineError::unknown(line, "a value is missing here"));
            }
        };
        let node = Node::new(line, value, depth);
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// The items of a list up to its end, and its depth.
    fn list(&mut self, level: usize) -> Result<(Vec<Node>, usize), LineError> {
        self.check_depth(level)?;
        let (mut items, mut depth) = (Vec::new(), 0);
        while let Some(event) = self.next()? {
            if event == Event::SequenceEnd {
                break;
            }
            let item = self.node(event, level)?;
            depth = depth.max(item.depth + 1);
            self.check_depth(depth)?;
            items.push(item);
        }
        Ok((items, depth))
    }

    /// The entries of a map up to its end, and its depth.
    fn map(&mut self, level: usize) -> Result<(BTreeMap<String, Node>, usize), LineError> {
        self.check_depth(level)?;
        let (mut entries, mut depth) = (BTreeMap::new(), 0);
        while let Some(event) = self.next()? {
            if event == Event::MappingEnd {
                break;
            }
            let key = if is_merge(&event) {
                None
            } else {
                let key = self.node(event, level)?;
                Some(self.key_name(&key)?)
            };
            let Some(event) = self.next()? else { break };
            let value = self.node(event, level)?;
            depth = depth.max(value.depth + 1);
            self.check_depth(depth)?;
            match key {
                Some(name) => drop(entries.insert(name, value)),
                None => self.merge(&mut entries, &value)?,
            }
        }
        Ok((entries, depth))
    }

    fn check_depth(&self, depth: usize) -> Result<(), LineError> {
        if depth <= MOST_NESTED {
            return Ok(());
        }
        let reason = format!("lists and maps are nested more than {MOST_NESTED} levels deep");
        Err(LineError::unknown(self.line, reason))
    }

    /// A key as `convertToJSONableObject` makes text of it.
    fn key_name(&self, node: &Node) -> Result<String, LineError> {
        match &*node.value {
            Value::Text(text) | Value::Number(text) => Ok(text.clone()),
            Value::Bool(value) => Ok(value.to_string()),
            other => Err(self.refused(format!(
                "a key is {}, which the kubelet does not accept as a key",
                other.describe()
            ))),
        }
    }

    /// go-yaml v2 merges at the position of `<<`: the merged keys override those before it, and
    /// those after it override the merged ones. Of several maps the first wins.
    fn merge(
        &mut self,
        entries: &mut BTreeMap<String, Node>,
        value: &Node,
    ) -> Result<(), LineError> {
        let maps = match &*value.value {
            Value::List(items) => items.iter().rev().collect(),
            _ => vec![value],
        };
        for map in maps {
            let Value::Map(more) = &*map.value else {
                let reason = "the value of << must be a map or a list of maps";
                return Err(self.refused(reason));
            };
            self.merged += more.len();
            if self.merged > MOST_MERGED {
                let reason = format!("the merges (<<) copy more than {MOST_MERGED} keys");
                return Err(LineError::unknown(self.line, reason));
            }
            entries.extend(more.clone());
        }
        Ok(())
    }

    fn refused(&self, reason: impl Into<String>) -> LineError {
        LineError::refused(self.line, reason)
    }
}

/// Whether this is the key `<<`, which merges the value behind it into its map.
fn is_merge(event: &Event<'_>) -> bool {
    let Event::Scalar(text, style, _, tag) = event else {
        return false;
    };
    let is_tagged_so = match tag.as_deref() {
        Some(tag) => short_tag(tag) == "!!merge",
        None => *style == ScalarStyle::Plain,
    };
    text == "<<" && is_tagged_so
}

/// `tag:yaml.org,2002:str` as `!!str`.
fn short_tag(tag: &Tag) -> String {
    match tag.handle() {
        "tag:yaml.org,2002:" => format!("!!{}", tag.suffix()),
        handle => format!("{handle}{}", tag.suffix()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        (*parse(text).unwrap().value).clone()
    }

    #[test]
    fn keys_become_text_and_the_last_of_two_wins() {
        let Value::Map(entries) = value("1: a\nyes: b\n'x': c\nx: d\n") else {
            panic!()
        };
        assert_eq!(entries.keys().collect::<Vec<_>>(), ["1", "true", "x"]);
        assert_eq!(*entries["x"].value, Value::Text("d".into()));
        assert_eq!(entries["x"].line, 4);
        for text in ["~: a", "[a]: b", "{a: b}: c", ": x"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn aliases_and_merges() {
        let Value::Map(entries) = value("a: &a {x: 1, w: 2}\nb: *a\nc: {x: 0, <<: *a, w: 3}\n")
        else {
            panic!()
        };
        assert_eq!(entries["a"].value, entries["b"].value);
        let Value::Map(merged) = &*entries["c"].value else {
            panic!()
        };
        assert_eq!(
            *merged["x"].value,
            Value::Number("1".into()),
            "what stands before << is overridden"
        );
        assert_eq!(*merged["w"].value, Value::Number("3".into()));
        let Value::Map(entries) = value("a: {<<: [{x: 1}, {x: 2, z: 3}]}") else {
            panic!()
        };
        let Value::Map(merged) = &*entries["a"].value else {
            panic!()
        };
        assert_eq!(*merged["x"].value, Value::Number("1".into()));
        for text in ["a: &a [*a]", "a: *b", "a: {<<: 5}", "a: {<<: [5]}"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_the_first_document_and_errors_with_their_line() {
        assert_eq!(value(""), Value::Null);
        assert_eq!(value("--- a\n---\n[broken"), Value::Text("a".into()));
        assert_eq!(parse("a: 1\nb: [\n").unwrap_err().line, 2);
        assert_eq!(parse("a: 1\nb: .inf\n").unwrap_err().line, 2);
    }

    #[test]
    fn what_would_grow_too_large_is_refused_or_shared() {
        let mut chain = String::from("a0: &a0 [x]\n");
        for level in 1..100_000 {
            chain.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
        }
        assert!(parse(&chain).unwrap_err().reason.contains("deep"));
        let many: String = (0..1_000)
            .map(|number| format!("  k{number}: 1\n"))
            .collect();
        let merges: String = (0..1_000)
            .map(|number| format!("m{number}: {{<<: *a}}\n"))
            .collect();
        assert!(
            parse(&format!("a: &a\n{many}{merges}"))
                .unwrap_err()
                .reason
                .contains("merges")
        );
    }
}
