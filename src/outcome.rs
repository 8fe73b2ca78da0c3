//! How a run can end, and what is said of it in the journal.

/// How a run ended.
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

/// What is said of an outcome.
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

    /// What is said of it.
    pub fn words(self) -> &'static OutcomeWords {
        match self {
            Self::Healthy => &OutcomeWords {
                name: "healthy",
                message_id: "df29487aacd74fe0aae4c4b89bd6ef5a",
                title: "The cgroup tree is as the kubelet needs it",
                meaning: "Nothing had to be repaired. If the kubelet does not start all the same, \
                          cgroups are not the reason.",
            },
            Self::Repaired => &OutcomeWords {
                name: "repaired",
                message_id: "0bb18c0307e545afbd00af22c0c5ee9f",
                title: "The cgroup tree was repaired",
                meaning: "Each change has an entry of its own before this one. A second look after \
                          the last change found nothing that the kubelet would die of. Making \
                          kubepods after a boot is one of these changes and no sign of harm.",
            },
            Self::WouldRepair => &OutcomeWords {
                name: "would-repair",
                message_id: "878d840b8c8e4c3dbeaab6d88c5f3263",
                title: "The cgroup tree would be repaired",
                meaning: "This was a dry run: nothing has been changed.",
            },
            Self::Broken => &OutcomeWords {
                name: "broken",
                message_id: "8ba244a1a5ce4439bd850fd77a4ed031",
                title: "The kubelet would not start",
                meaning: "At least one fault remains that the kubelet dies of, or a change failed. \
                          Each has an entry of its own before this one that says what to do. The \
                          kubelet is started all the same.",
            },
            Self::Unknown => &OutcomeWords {
                name: "unknown",
                message_id: "171749c516a443658cb6e5230b9aea6c",
                title: "The cgroup tree could not be judged",
                meaning: "Something that the judgement rests on could not be read. Nothing has \
                          been changed since.",
            },
            Self::Inactive => &OutcomeWords {
                name: "inactive",
                message_id: "60ece892fa034863b304fd0271e1133e",
                title: "No kubelet is about to start",
                meaning: "MicroK8s is not installed or is disabled, or kubelite is: nothing was \
                          changed. What needs a repair gets it when kubelite is started.",
            },
        }
    }
}
