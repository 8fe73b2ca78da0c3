//! The name of a fault, and its descriptions.
//!
//! `--explain`, the journal's catalog, the manual page and the table of faults are made from these
//! words (`tests/generate`). A fault's words are in the file with its rule.

/// A kind of fault. Names and ids never change, because alerts and scripts rely on them.
#[derive(Debug)]
pub struct Fault {
    /// Its name in kebab case.
    pub name: &'static str,
    /// `MESSAGE_ID` of its journal entries.
    pub message_id: &'static str,
    /// A short headline, which also reads as a clause after "The kubelet will not start: ".
    pub title: &'static str,
    /// What it means for the kubelet: a paragraph, like the next three.
    pub meaning: &'static str,
    /// How it is recognised.
    pub signs: &'static str,
    /// What kubepods-repair does about it.
    pub remedy: &'static str,
    /// What the administrator can do.
    pub by_hand: &'static str,
    /// [`Self::remedy`] in a few words, for the table in docs/troubleshooting.md.
    pub does: &'static str,
    /// Public issues that report it: `owner/repository#number`.
    pub threads: &'static [&'static str],
    /// What happens without kubepods-repair.
    pub nature: Nature,
}

/// What happens to a fault without kubepods-repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// It remains until it is repaired.
    Fault,
    /// The kubelet fixes it when it starts, unless another fault prevents that.
    HealedByKubelet,
    /// It only reports what has happened, and needs no action.
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
