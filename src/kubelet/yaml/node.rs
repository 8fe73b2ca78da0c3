//! A value of YAML, as it is when aliases and merges are resolved.

use std::collections::BTreeMap;
use std::rc::Rc;

/// A value with its line.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Counted from 1.
    pub line: usize,
    /// Shared with every alias of it.
    pub value: Rc<Value>,
    /// How many levels of lists and maps it holds.
    pub(super) depth: usize,
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
    /// A string.
    Text(String),
    /// The items of a list, in their order.
    List(Vec<Node>),
    /// A map; if a key is given twice, its last value.
    Map(BTreeMap<String, Node>),
}

impl Value {
    /// What it is, in words: `the number 5`.
    pub fn describe(&self) -> String {
        match self {
            Self::Null => "empty".to_owned(),
            Self::Bool(value) => format!("the boolean {value}"),
            Self::Number(text) => format!("the number {text}"),
            Self::Text(text) => format!("the string {text:?}"),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a map".to_owned(),
        }
    }
}

impl Node {
    pub(super) fn new(line: usize, value: Value, depth: usize) -> Self {
        Self {
            line,
            value: Rc::new(value),
            depth,
        }
    }
}
