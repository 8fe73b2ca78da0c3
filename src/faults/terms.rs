//! What a diagnosis depends on besides the settings and the host: the occasion, and what this run
//! has learned so far.

use crate::host::pods::PodGroups;
use crate::host::units::Unmade;
use crate::host::{Blockers, Refusal};
use crate::state::RestartStamp;

/// When this program runs, which decides what it may do.
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
    /// The name in the report.
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
    /// Only the kubelet's own start enables `cpu`, see [`Self::leaves_cpu`].
    pub leave_cpu: bool,
}

impl Terms {
    /// Whether only the kubelet's own start enables `cpu`. On a kernel with CONFIG_RT_GROUP_SCHED,
    /// every real-time unit that starts afterwards fails. If it is not known whether the kernel has
    /// this option, only a run by hand and the pre-start enable `cpu`.
    pub fn leaves_cpu(occasion: Occasion, rt_group_sched: Option<bool>) -> bool {
        match occasion {
            Occasion::PreStart => false,
            Occasion::ByHand => rt_group_sched == Some(true),
            Occasion::Early | Occasion::Boot => rt_group_sched != Some(false),
        }
    }

    /// The terms of the pre-start that follows.
    pub(super) fn at_pre_start() -> Self {
        Self {
            occasion: Occasion::PreStart,
            leave_cpu: false,
            no_restart: false,
        }
    }

    /// Whether stale pod cgroups may be removed: only if no kubelet runs that could be about to use
    /// them.
    pub(super) fn may_remove(self, pods: &PodGroups) -> bool {
        self.occasion == Occasion::PreStart && !pods.kubelet_runs
    }
}

/// What this run has learned since its first look: the results of its repairs, and what it examined
/// more closely because a finding required it.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    /// What the kernel refused in the last round.
    pub refusals: Vec<Refusal>,
    /// The slices that systemd did not create, with its error messages.
    pub unmade: Vec<Unmade>,
    /// The tasks that can make the kernel refuse a controller; `None` if they were not looked for.
    pub blockers: Option<Blockers>,
    /// What was recorded when the restartable unit was last restarted since the boot. Looked up
    /// together with [`Self::blockers`].
    pub restarted: Option<RestartStamp>,
    /// Whether a container of MicroK8s runs; only looked up if a state file is damaged.
    pub containers_run: bool,
}
