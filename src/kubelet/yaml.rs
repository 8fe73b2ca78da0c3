//! YAML as the kubelet reads it: the first document of a file, its scalars typed by the rules of
//! YAML 1.1.
//!
//! Rests on go-yaml v2 (`resolve.go`, `decode.go`), whose answer `sigs.k8s.io/yaml` turns into JSON
//! before the kubelet's decoder sees it: a plain `5`, `0x1f`, `1_000`, `.5`, `no` or `~` is no
//! text, a date is, and so is all that is quoted.

mod keep;
mod scalars;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use granit_parser::{Event, Parser, ScalarStyle, Tag};

use crate::kubelet::ErrorKind;
pub use keep::keep;

/// How many keys all merges (`<<`) of a file may copy.
const MOST_MERGED: usize = 20_000;

/// How deep lists and maps may lie in each other; go-yaml takes some more.
const DEEPEST: usize = 500;

/// A value with the line it stands in.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Counted from 1.
    pub line: usize,
    /// What it is; shared with every alias of it.
    pub value: Rc<Value>,
    depth: usize,
}

/// A value as JSON knows them.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing at all, `~` or `null`.
    Null,
    /// `true`, `yes`, `on`, `y` and their opposites.
    Bool(bool),
    /// A number, as it is written.
    Number(String),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map; of a key that stands there twice, the last value.
    Map(BTreeMap<String, Node>),
}

/// Why a file has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
    /// Whether the kubelet refuses it, too.
    pub kind: ErrorKind,
}

/// Something wrong with what the parser is at.
type Fault = (String, ErrorKind);

fn refused<T>(reason: impl Into<String>) -> Result<T, Fault> {
    Err((reason.into(), ErrorKind::Refused))
}

/// What this program does not follow, and the kubelet may.
fn unknown<T>(reason: impl Into<String>) -> Result<T, Fault> {
    Err((reason.into(), ErrorKind::Unknown))
}

impl Value {
    /// What it is, in words: `the number 5`.
    pub fn describe(&self) -> String {
        match self {
            Self::Null => "empty".to_owned(),
            Self::Bool(value) => format!("the boolean {value}"),
            Self::Number(text) => format!("the number {text}"),
            Self::Text(text) => format!("the text {text:?}"),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a map".to_owned(),
        }
    }
}

/// The first document in `text`; an empty file is [`Value::Null`].
///
/// # Errors
/// For what is no YAML, what go-yaml or its translation into JSON refuses, and what would grow
/// beyond measure.
pub fn parse(text: &str) -> Result<Node, YamlError> {
    if let Some(error) = YamlError::of_capture(text) {
        return Err(error);
    }
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| YamlError {
            line: error.marker().line(),
            reason: error.info(),
            kind: ErrorKind::Refused,
        })?;
        let line = span.start.line();
        if builder
            .take(event, line)
            .map_err(|(reason, kind)| YamlError { line, reason, kind })?
        {
            break;
        }
    }
    Ok(builder
        .document
        .unwrap_or_else(|| Node::new(1, Value::Null, 0)))
}

impl Node {
    fn new(line: usize, value: Value, depth: usize) -> Self {
        Self {
            line,
            value: Rc::new(value),
            depth,
        }
    }
}

/// A list or map that has begun and not ended.
struct Open {
    line: usize,
    anchor: usize,
    depth: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Map {
        entries: BTreeMap<String, Node>,
        key: Option<Key>,
    },
}

/// What the next node in a map belongs to.
enum Key {
    Name(String),
    /// `<<`
    Merge,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    merged: usize,
    document: Option<Node>,
}

impl Builder {
    /// Whether the document has ended.
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<bool, Fault> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain;
                let tag = tag.as_deref().map(short_tag);
                if is_merge(&text, is_plain, tag.as_deref()) && self.awaits_key() {
                    self.set_key(Key::Merge);
                    return Ok(false);
                }
                let value = scalars::resolve(tag.as_deref(), &text, is_plain)?;
                self.add(Node::new(line, value, 0), anchor)?;
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return refused("this alias stands inside of what it names");
                };
                self.add(node, 0)?;
            }
            Event::SequenceStart(_, anchor, _) => {
                self.begin(line, anchor, OpenKind::List(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, _) => {
                self.begin(
                    line,
                    anchor,
                    OpenKind::Map {
                        entries: BTreeMap::new(),
                        key: None,
                    },
                )?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end()?,
            Event::DocumentEnd => return Ok(true),
            _ => {}
        }
        Ok(false)
    }

    fn begin(&mut self, line: usize, anchor: usize, kind: OpenKind) -> Result<(), Fault> {
        if self.open.len() >= DEEPEST {
            return too_deep();
        }
        self.open.push(Open {
            line,
            anchor,
            depth: 0,
            kind,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Fault> {
        let Some(Open {
            line,
            anchor,
            depth,
            kind,
        }) = self.open.pop()
        else {
            return Ok(());
        };
        let value = match kind {
            OpenKind::List(items) => Value::List(items),
            OpenKind::Map { entries, .. } => Value::Map(entries),
        };
        self.add(Node::new(line, value, depth), anchor)
    }

    fn awaits_key(&self) -> bool {
        matches!(
            self.open.last(),
            Some(Open {
                kind: OpenKind::Map { key: None, .. },
                ..
            })
        )
    }

    fn set_key(&mut self, next: Key) {
        if let Some(Open {
            kind: OpenKind::Map { key, .. },
            ..
        }) = self.open.last_mut()
        {
            *key = Some(next);
        }
    }

    /// A whole node, into what is open.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        if self.awaits_key() {
            let name = key_name(&node)?;
            self.set_key(Key::Name(name));
            return Ok(());
        }
        let Some(open) = self.open.last_mut() else {
            self.document = Some(node);
            return Ok(());
        };
        open.depth = open.depth.max(node.depth + 1);
        if open.depth > DEEPEST {
            return too_deep();
        }
        match &mut open.kind {
            OpenKind::List(items) => items.push(node),
            OpenKind::Map { entries, key } => match key.take() {
                Some(Key::Name(name)) => drop(entries.insert(name, node)),
                Some(Key::Merge) => merge(entries, &node, &mut self.merged)?,
                None => {}
            },
        }
        Ok(())
    }
}

fn too_deep<T>() -> Result<T, Fault> {
    unknown(format!(
        "lists and maps lie more than {DEEPEST} deep in each other"
    ))
}

/// A key as `convertToJSONableObject` makes text of it.
fn key_name(node: &Node) -> Result<String, Fault> {
    match &*node.value {
        Value::Text(text) | Value::Number(text) => Ok(text.clone()),
        Value::Bool(value) => Ok(value.to_string()),
        other => refused(format!(
            "a key is {}, and the kubelet refuses such a key",
            other.describe()
        )),
    }
}

fn is_merge(text: &str, is_plain: bool, tag: Option<&str>) -> bool {
    text == "<<" && (tag == Some("!!merge") || (is_plain && tag.is_none()))
}

/// go-yaml v2 merges where `<<` stands: over the keys before it, and under those behind it. Of
/// several maps the first wins.
fn merge(
    entries: &mut BTreeMap<String, Node>,
    node: &Node,
    merged: &mut usize,
) -> Result<(), Fault> {
    let maps: Vec<&Node> = match &*node.value {
        Value::Map(_) => vec![node],
        Value::List(items) => items.iter().rev().collect(),
        _ => Vec::new(),
    };
    let only_maps = "<< takes a map or a list of maps, and the kubelet refuses anything else";
    if maps.is_empty() && !matches!(&*node.value, Value::List(_)) {
        return refused(only_maps);
    }
    for map in maps {
        let Value::Map(more) = &*map.value else {
            return refused(only_maps);
        };
        *merged += more.len();
        if *merged > MOST_MERGED {
            return unknown(format!("its merges copy more than {MOST_MERGED} keys"));
        }
        entries.extend(more.iter().map(|(name, node)| (name.clone(), node.clone())));
    }
    Ok(())
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
    fn what_would_grow_beyond_measure_is_refused_or_shared() {
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
