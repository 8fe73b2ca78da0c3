//! kubepods-repair checks and repairs what MicroK8s' kubelet needs to start: above all its cgroups,
//! as fsck does for file systems.
//!
//! A run compares the kubelet's settings with the host, which gives findings. It plans the steps
//! that repair them, takes these steps, and checks the host again for the verdict.

#![warn(missing_docs)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod cgroup;
pub mod cli;
pub mod faults;
pub mod host;
pub mod kubelet;
pub mod outcome;
pub mod plan;
pub mod repair;
pub mod report;
mod restraint;
pub mod root;
pub mod run;
pub mod state;
pub mod sys;
pub mod verdict;
