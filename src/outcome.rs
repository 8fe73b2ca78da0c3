//! The outcomes of a run, and their words in the journal.

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was nothing to repair.
    Healthy,
    /// Something was repaired, and the second check finds nothing fatal.
    Repaired,
    /// A dry run that found something to repair.
    WouldRepair,
    /// The kubelet would not start.
    Broken,
    /// The host could not be examined.
    Unknown,
    /// No kubelet is about to start.
    Inactive,
}

/// The words of an outcome.
#[derive(Debug)]
pub struct OutcomeWords {
    /// Its name in the report.
    pub name: &'static str,
    /// `MESSAGE_ID` of its journal entry.
    pub message_id: &'static str,
    /// A headline, for the journal's catalog.
    pub title: &'static str,
    /// What `journalctl -x` says.
    pub meaning: &'static str,
}

impl Outcome {
    /// Every outcome, in the order in which the catalog lists them.
    pub const ALL: [Self; 6] = [
        Self::Healthy,
        Self::Repaired,
        Self::WouldRepair,
        Self::Broken,
        Self::Unknown,
        Self::Inactive,
    ];

    /// Its name in the report.
    pub fn name(self) -> &'static str {
        self.words().name
    }

    /// Its words in the report and the journal.
    pub fn words(self) -> &'static OutcomeWords {
        match self {
            Self::Healthy => &OutcomeWords {
                name: "healthy",
                message_id: "df29487aacd74fe0aae4c4b89bd6ef5a",
                title: "The cgroups are ready for the kubelet",
                meaning: "kubepods-repair found nothing to repair, and nothing that keeps the \
                          kubelet from starting. If the kubelet still does not start, the cause is \
                          something that kubepods-repair does not check.",
            },
            Self::Repaired => &OutcomeWords {
                name: "repaired",
                message_id: "0bb18c0307e545afbd00af22c0c5ee9f",
                title: "Repairs were made",
                meaning: "A separate entry before this one describes each change. A second check \
                          after the last change found nothing that keeps the kubelet from \
                          starting. Creating kubepods after a boot also counts as a repair, and is \
                          normal.",
            },
            Self::WouldRepair => &OutcomeWords {
                name: "would-repair",
                message_id: "878d840b8c8e4c3dbeaab6d88c5f3263",
                title: "Repairs would be made",
                meaning: "This was a dry run: nothing was changed. Run kubepods-repair without \
                          --dry-run to make the repairs.",
            },
            Self::Broken => &OutcomeWords {
                name: "broken",
                message_id: "8ba244a1a5ce4439bd850fd77a4ed031",
                title: "The kubelet would not start",
                meaning: "At least one fault remains that keeps the kubelet from starting, or a \
                          repair failed. A separate entry before this one describes each of them \
                          and says what to do. kubepods-repair does not stop systemd from \
                          starting the kubelet.",
            },
            Self::Unknown => &OutcomeWords {
                name: "unknown",
                message_id: "171749c516a443658cb6e5230b9aea6c",
                title: "The node could not be checked",
                meaning: "Something that the check depends on could not be read, or another run of \
                          kubepods-repair held the lock. Nothing was changed after that.",
            },
            Self::Inactive => &OutcomeWords {
                name: "inactive",
                message_id: "60ece892fa034863b304fd0271e1133e",
                title: "No kubelet is about to start",
                meaning: "MicroK8s is not installed, or it or its kubelite service is disabled. \
                          Nothing was changed. kubepods-repair makes any repairs when kubelite is \
                          started.",
            },
        }
    }
}
