//! What a judgement rests on besides the settings and the host: who called, and what this run has
//! learned so far.

use crate::host::pods::PodGroups;
use crate::host::units::Unmade;
use crate::host::{Blockers, Refusal};
use crate::state::RestartStamp;

/// When this program runs, and so what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// An administrator called it; a kubelet may be running.
    ByHand,
    /// systemd is about to start the kubelet; none is running.
    PreStart,
    /// systemd is about to start k8s-dqlite.
    Early,
    /// The machine has just booted.
    Boot,
}

impl Occasion {
    /// As the report names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ByHand => "by-hand",
            Self::PreStart => "pre-start",
            Self::Early => "early",
            Self::Boot => "boot",
        }
    }

    /// Whether kubelite's own pre-start is still to come.
    pub fn precedes_pre_start(self) -> bool {
        matches!(self, Self::Early | Self::Boot)
    }
}

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// When this program runs.
    pub occasion: Occasion,
    /// `--no-restart`
    pub no_restart: bool,
    /// `cpu` is left to the kubelet's own start, see [`Self::leaves_cpu`].
    pub leave_cpu: bool,
}

impl Terms {
    /// Whether `cpu` is left to the kubelet's own start: on a kernel with CONFIG_RT_GROUP_SCHED,
    /// every real-time unit that starts later fails once it is on. Where that option is not known,
    /// only a run by hand enables it.
    pub fn leaves_cpu(occasion: Occasion, rt_group_sched: Option<bool>) -> bool {
        match occasion {
            Occasion::PreStart => false,
            Occasion::ByHand => rt_group_sched == Some(true),
            Occasion::Early | Occasion::Boot => rt_group_sched != Some(false),
        }
    }

    /// Stale pod groups may be removed: no kubelet runs that could be about to use them.
    pub(super) fn may_remove(self, pods: &PodGroups) -> bool {
        self.occasion == Occasion::PreStart && !pods.kubelet_runs
    }
}

/// What this run has learned since its first look: the answers to its repairs, and what it looked
/// at more closely because a finding asked for it.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    /// What the kernel refused in the last round.
    pub refusals: Vec<Refusal>,
    /// The slices that systemd did not make, with its words.
    pub unmade: Vec<Unmade>,
    /// The tasks that can make the kernel refuse a controller; `None` when nobody has looked.
    pub blockers: Option<Blockers>,
    /// What was noted when the unit that may be restarted was, since the boot. Looked up together
    /// with [`Self::blockers`].
    pub restarted: Option<RestartStamp>,
    /// Whether a container of MicroK8s runs; only looked up where a state file is damaged.
    pub containers_run: bool,
}
