//! What a fault is called, and what is said of it wherever it is named.
//!
//! `--explain`, the journal's catalog, the manual page and the table of faults are made from these
//! words (`tests/generate`). A fault's words stand in the file of its rule.

/// A fault, by what is wrong. Names and ids never change: alerts and scripts rely on them.
#[derive(Debug)]
pub struct Fault {
    /// In kebab case.
    pub name: &'static str,
    /// `MESSAGE_ID` of its journal entries.
    pub message_id: &'static str,
    /// In a few words.
    pub title: &'static str,
    /// What it means and why the kubelet cares: a paragraph, as are the next three.
    pub meaning: &'static str,
    /// How it is recognised.
    pub signs: &'static str,
    /// What this program does about it.
    pub remedy: &'static str,
    /// What is left to the administrator, or can be done without this program.
    pub by_hand: &'static str,
    /// [`Self::remedy`] in a few words, for the table in docs/troubleshooting.md.
    pub does: &'static str,
    /// Public issues in which others met it: `owner/repository#number`.
    pub threads: &'static [&'static str],
    /// What becomes of it without this program.
    pub nature: Nature,
}

/// What becomes of a fault without this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// It stays until it is repaired.
    Fault,
    /// The kubelet heals it at its start, unless another fault keeps it from doing so.
    HealedByKubelet,
    /// It only says what has happened; nothing has to be done about it.
    Note,
}

impl Fault {
    /// [`Self::title`] as part of a sentence: with a small first letter, unless its first word is a
    /// name.
    pub fn clause(&self) -> String {
        let (first, rest) = self.title.split_at(1);
        let word = rest.split(' ').next().unwrap_or_default();
        let is_plain = word
            .chars()
            .all(|c| c.is_ascii_lowercase() || c == '-' || c == '\'');
        if is_plain {
            format!("{}{rest}", first.to_ascii_lowercase())
        } else {
            self.title.to_owned()
        }
    }
}

impl PartialEq for Fault {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Fault {}

/// The faults of one file.
pub type Family = &'static [&'static Fault];

/// Families that `--explain` lists under one heading.
#[derive(Debug)]
pub struct Area {
    /// The heading.
    pub title: &'static str,
    pub(super) families: &'static [Family],
}

impl Area {
    /// Its faults, family by family.
    pub fn faults(&self) -> impl Iterator<Item = &'static Fault> {
        self.families.iter().copied().flatten().copied()
    }
}
