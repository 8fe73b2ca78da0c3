//! kubepods-repair: a check and repair of the cgroup tree that MicroK8s' kubelet needs, in the
//! spirit of fsck.
//!
//! Settings and host become findings, findings a plan, the plan a repair; then everything is looked
//! at again, and the second look gives the verdict.

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
