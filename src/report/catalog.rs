//! How a run can end, and the journal's catalog: what `journalctl -x` says of every entry (catalog
//! format: systemd's "Journal Message Catalogs").

use super::lines::fill;
use crate::diagnosis::catalogue::Fault;

/// How a run ended, for the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing had to be done.
    Healthy,
    /// Something was done, and the second look finds nothing fatal.
    Repaired,
    /// A dry run that would do something.
    WouldRepair,
    /// The kubelet would not start.
    Broken,
    /// The host could not be examined.
    Unknown,
    /// No kubelet is about to start.
    Inactive,
}

/// What the catalogue says of one outcome.
#[derive(Debug)]
pub struct OutcomeEntry {
    /// Which.
    pub outcome: Outcome,
    /// Its name in the report.
    pub name: &'static str,
    /// Its `MESSAGE_ID`.
    pub message_id: &'static str,
    /// In a few words.
    pub title: &'static str,
    /// For the administrator who asks `journalctl -x`.
    pub meaning: &'static str,
}

/// All outcomes.
pub const OUTCOMES: &[OutcomeEntry] = &[
    OutcomeEntry {
        outcome: Outcome::Healthy,
        name: "healthy",
        message_id: "df29487aacd74fe0aae4c4b89bd6ef5a",
        title: "The cgroup tree is as the kubelet needs it",
        meaning: "Nothing had to be repaired. If the kubelet does not start all the same, cgroups \
                  are not the reason.",
    },
    OutcomeEntry {
        outcome: Outcome::Repaired,
        name: "repaired",
        message_id: "0bb18c0307e545afbd00af22c0c5ee9f",
        title: "The cgroup tree was repaired",
        meaning: "Each change has an entry of its own before this one. A second look after the \
                  last change found nothing that the kubelet would die of. Making kubepods after a \
                  boot is one of these changes and no sign of harm.",
    },
    OutcomeEntry {
        outcome: Outcome::WouldRepair,
        name: "would-repair",
        message_id: "878d840b8c8e4c3dbeaab6d88c5f3263",
        title: "The cgroup tree would be repaired",
        meaning: "This was a dry run: nothing has been changed.",
    },
    OutcomeEntry {
        outcome: Outcome::Broken,
        name: "broken",
        message_id: "8ba244a1a5ce4439bd850fd77a4ed031",
        title: "The kubelet would not start",
        meaning: "At least one fault remains that the kubelet dies of, or a change failed. Each \
                  has an entry of its own before this one that says what to do. The kubelet is \
                  started all the same.",
    },
    OutcomeEntry {
        outcome: Outcome::Unknown,
        name: "unknown",
        message_id: "171749c516a443658cb6e5230b9aea6c",
        title: "The cgroup tree could not be judged",
        meaning: "Something that the judgement rests on could not be read. Nothing has been \
                  changed since.",
    },
    OutcomeEntry {
        outcome: Outcome::Inactive,
        name: "inactive",
        message_id: "60ece892fa034863b304fd0271e1133e",
        title: "No kubelet is about to start",
        meaning: "MicroK8s is not installed or is disabled, or kubelite is: nothing was changed. \
                  What needs a repair gets it when kubelite is started.",
    },
];

impl Outcome {
    /// Its name in the report.
    pub fn name(self) -> &'static str {
        self.entry().map_or("unknown", |entry| entry.name)
    }

    /// Its `MESSAGE_ID`.
    pub fn message_id(self) -> &'static str {
        self.entry().map_or("", |entry| entry.message_id)
    }

    fn entry(self) -> Option<&'static OutcomeEntry> {
        OUTCOMES.iter().find(|entry| entry.outcome == self)
    }
}

/// The journal's catalog, as `systemd/catalog/kubepods-repair.catalog` holds it.
pub fn journal_catalog() -> String {
    let mut text =
        String::from("# Made from src/diagnosis/catalogue.rs; a test holds the two together.\n");
    let mut entry = |id: &str, subject: &str, paragraphs: &[&str]| {
        text.push_str(&format!(
            "\n-- {id}\nSubject: {subject}\nDefined-By: kubepods-repair\n"
        ));
        for paragraph in paragraphs {
            text.push_str(&format!("\n{}\n", fill(paragraph)));
        }
    };
    for fault in Fault::ALL.iter().map(|fault| fault.entry()) {
        let seen = format!(
            "Fault {0}, seen at @CGROUP_PATH@. More: kubepods-repair --explain {0}",
            fault.name
        );
        entry(
            fault.message_id,
            fault.title,
            &[fault.meaning, fault.remedy, fault.by_hand, &seen],
        );
    }
    for outcome in OUTCOMES {
        entry(outcome.message_id, outcome.title, &[outcome.meaning]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_are_unique_and_well_formed() {
        let faults = Fault::ALL.iter().map(|fault| fault.message_id());
        let ids: Vec<&str> = faults
            .chain(OUTCOMES.iter().map(|entry| entry.message_id))
            .collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        assert!(
            ids.iter()
                .all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
        );
    }

    /// With UPDATE_CATALOG in the environment the file is written instead of compared.
    #[test]
    fn the_installed_catalog_is_made_from_this_table() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/systemd/catalog/kubepods-repair.catalog"
        );
        if std::env::var_os("UPDATE_CATALOG").is_some() {
            std::fs::write(path, journal_catalog()).unwrap();
        }
        assert_eq!(journal_catalog(), std::fs::read_to_string(path).unwrap());
    }
}
