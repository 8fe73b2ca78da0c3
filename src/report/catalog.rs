//! The journal's catalog: what `journalctl -x` says of every entry (systemd's "Journal Message
//! Catalogs").

use super::lines::fill;
use crate::faults::Fault;
use crate::outcome::Outcome;

/// The catalog, as `systemd/catalog/kubepods-repair.catalog` holds it.
pub fn journal_catalog() -> String {
    let mut text = String::from("# Made by tests/generate from src/faults and src/outcome.rs.\n");
    let mut entry = |id: &str, subject: &str, paragraphs: &[&str]| {
        text += &format!("\n-- {id}\nSubject: {subject}\nDefined-By: kubepods-repair\n");
        for paragraph in paragraphs {
            text += &format!("\n{}\n", fill(paragraph));
        }
    };
    for fault in Fault::all() {
        let seen = format!(
            "Fault {0}, seen at @CGROUP_PATH@. More: kubepods-repair --explain {0}",
            fault.name
        );
        let by_hand = format!("What you can do: {}", fault.by_hand);
        let paragraphs = [fault.meaning, fault.remedy, &by_hand, &seen];
        entry(fault.message_id, fault.title, &paragraphs);
    }
    for outcome in Outcome::ALL.map(Outcome::words) {
        entry(outcome.message_id, outcome.title, &[outcome.meaning]);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_well_formed() {
        let faults = Fault::all().into_iter().map(|fault| fault.message_id);
        let outcomes = Outcome::ALL.map(|outcome| outcome.words().message_id);
        let ids: Vec<&str> = faults.chain(outcomes).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        let is_id = |id: &&str| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(ids.iter().all(is_id));
    }
}
