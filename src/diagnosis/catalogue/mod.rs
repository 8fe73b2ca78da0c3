//! Every fault this program knows: its name, its id in the journal, and its words.
//!
//! The journal's catalog (`systemd/catalog/`) and `--explain` are made from this table, and a test
//! holds README, the manual page and the completions to its names. A new fault is one line in
//! `faults!` and one [`Entry`] in the file of its theme.

mod controllers;
mod groups;
mod hierarchies;
mod kubelet;
mod slices;
mod surroundings;

macro_rules! faults {
    ($($fault:ident: $entry:path,)*) => {
        /// A fault, by what stands wrong. The names are for ever: alerts and scripts go by them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "its entry says of each what it means")]
        pub enum Fault {
            $($fault,)*
        }

        impl Fault {
            /// All faults, by name.
            pub const ALL: &[Self] = &[$(Self::$fault,)*];

            /// Its words.
            pub fn entry(self) -> &'static Entry {
                match self {
                    $(Self::$fault => &$entry,)*
                }
            }
        }
    };
}

faults! {
    CgroupRootMissing: groups::CGROUP_ROOT_MISSING,
    CheckpointDamaged: kubelet::CHECKPOINT_DAMAGED,
    CheckpointDiffers: kubelet::CHECKPOINT_DIFFERS,
    ControllerAbsent: surroundings::CONTROLLER_ABSENT,
    ControllerNotAnchored: controllers::CONTROLLER_NOT_ANCHORED,
    ControllerNotEnabled: controllers::CONTROLLER_NOT_ENABLED,
    ControllerOnV1: hierarchies::CONTROLLER_ON_V1,
    CpusetEmpty: hierarchies::CPUSET_EMPTY,
    DriverChanged: kubelet::DRIVER_CHANGED,
    DriverMismatch: kubelet::DRIVER_MISMATCH,
    Frozen: groups::FROZEN,
    HierarchyIncomplete: hierarchies::HIERARCHY_INCOMPLETE,
    HierarchyNotMounted: hierarchies::HIERARCHY_NOT_MOUNTED,
    LeftoverLimits: groups::LEFTOVER_LIMITS,
    LimitsExhausted: groups::LIMITS_EXHAUSTED,
    MountShadowed: hierarchies::MOUNT_SHADOWED,
    NestedRootBusy: surroundings::NESTED_ROOT_BUSY,
    PinnedTaskBlocksCpuset: controllers::PINNED_TASK_BLOCKS_CPUSET,
    QosDisabled: kubelet::QOS_DISABLED,
    QosGroupMissing: groups::QOS_GROUP_MISSING,
    ReadOnlyCgroupfs: surroundings::READ_ONLY_CGROUPFS,
    RealtimeTaskBlocksCpu: controllers::REALTIME_TASK_BLOCKS_CPU,
    ReservedGroupMissing: groups::RESERVED_GROUP_MISSING,
    RootMissing: groups::ROOT_MISSING,
    ServiceConfined: kubelet::SERVICE_CONFINED,
    ServiceGroup: groups::SERVICE_GROUP,
    SettingsUnreadable: kubelet::SETTINGS_UNREADABLE,
    SliceControllerDropped: slices::SLICE_CONTROLLER_DROPPED,
    SliceFailed: slices::SLICE_FAILED,
    SliceForeign: slices::SLICE_FOREIGN,
    SliceMasked: slices::SLICE_MASKED,
    SliceMissing: slices::SLICE_MISSING,
    SliceUnowned: slices::SLICE_UNOWNED,
    StalePodGroups: groups::STALE_POD_GROUPS,
    StrayProcesses: groups::STRAY_PROCESSES,
    Threaded: groups::THREADED,
    UncleanShutdown: surroundings::UNCLEAN_SHUTDOWN,
    UpgradedSinceBoot: surroundings::UPGRADED_SINCE_BOOT,
    V1Refused: hierarchies::V1_REFUSED,
}

/// What the catalogue says of one fault, each text a paragraph in plain words.
#[derive(Debug)]
pub struct Entry {
    /// Its name, in kebab case.
    pub name: &'static str,
    /// Its `MESSAGE_ID` in the journal.
    pub message_id: &'static str,
    /// In a few words.
    pub title: &'static str,
    /// What it means and why the kubelet cares.
    pub meaning: &'static str,
    /// How it is recognised.
    pub signs: &'static str,
    /// What this program does about it.
    pub remedy: &'static str,
    /// What is left to the administrator, or can be done without this program.
    pub by_hand: &'static str,
    /// Threads in which others met it: `owner/repository#number`.
    pub threads: &'static [&'static str],
}

impl Fault {
    /// The fault of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|fault| fault.name() == name)
    }

    /// Its name, in kebab case.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// Its `MESSAGE_ID`.
    pub fn message_id(self) -> &'static str {
        self.entry().message_id
    }

    /// Whether this only says what has happened, so that nothing has to be done about it.
    pub fn is_note(self) -> bool {
        matches!(self, Self::UncleanShutdown | Self::UpgradedSinceBoot)
    }

    /// Whether the kubelet heals this itself at its start, unless another fault keeps it from doing
    /// so.
    pub(super) fn is_healed_by_kubelet(self) -> bool {
        matches!(
            self,
            Self::RootMissing
                | Self::QosGroupMissing
                | Self::HierarchyIncomplete
                | Self::ControllerNotEnabled
                | Self::SliceMissing
                | Self::SliceUnowned
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_stand_in_the_order_of_their_names_and_are_found_by_them() {
        assert!(Fault::ALL.is_sorted_by(|one, next| one.name() < next.name()));
        assert!(
            Fault::ALL
                .iter()
                .all(|fault| Fault::named(fault.name()) == Some(*fault))
        );
    }

    #[test]
    fn threads_can_be_followed() {
        for thread in Fault::ALL.iter().flat_map(|fault| fault.entry().threads) {
            let (repository, number) = thread.split_once('#').unwrap();
            assert!(
                repository.split('/').count() == 2 && number.parse::<u32>().is_ok(),
                "{thread}"
            );
        }
    }
}
