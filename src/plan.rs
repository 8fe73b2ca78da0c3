//! From findings to an ordered list of steps. Pure.
//!
//! First what is in the kubelet's way (limits, groups that it cannot update, strays), then threaded
//! groups, which make their parent refuse controllers, then what builds, from the root down, then
//! the thaw. Housekeeping comes last: the kubelet starts without it.

use crate::cgroup::CgroupPath;
use crate::diagnosis::Finding;
use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::{Remedy, Step};

/// A step and the faults it is taken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What to do.
    pub step: Step,
    /// Why.
    pub faults: Vec<Fault>,
}

/// The steps that cure `findings`, each once, in the order in which they have to be taken.
pub fn plan(findings: &[Finding]) -> Vec<Planned> {
    let mut plan: Vec<Planned> = Vec::new();
    for finding in findings {
        let Remedy::Steps(steps) = &finding.remedy else {
            continue;
        };
        for step in steps {
            add(&mut plan, step, finding.fault);
        }
    }
    let moves_strays = plan
        .iter()
        .any(|planned| matches!(planned.step, Step::MoveProcesses { .. }));
    plan.retain(|planned| !(moves_strays && matches!(planned.step, Step::RemoveStraysGroup(_))));
    plan.sort_by_key(rank);
    plan
}

fn add(plan: &mut Vec<Planned>, step: &Step, fault: Fault) {
    for planned in plan.iter_mut() {
        if merge(&mut planned.step, step) {
            if !planned.faults.contains(&fault) {
                planned.faults.push(fault);
            }
            return;
        }
    }
    plan.push(Planned {
        step: step.clone(),
        faults: vec![fault],
    });
}

/// Whether `step` is now part of `planned`.
fn merge(planned: &mut Step, step: &Step) -> bool {
    match (planned, step) {
        (
            Step::Enable { group, controllers },
            Step::Enable {
                group: same,
                controllers: more,
            },
        ) if group == same => {
            controllers.extend(more);
            true
        }
        (planned, step) => planned == step,
    }
}

/// Phase, depth, and the order within one group: it has to be there before it can pass anything on.
fn rank(planned: &Planned) -> (u8, usize, u8) {
    let depth = planned.step.group().map_or(0, CgroupPath::depth);
    match &planned.step {
        Step::Restart { .. } => (0, 0, 0),
        Step::LiftLimit { .. } => (0, depth, 1),
        // Pod groups that take the room of what has to be made.
        Step::RemovePods(_) if planned.faults.contains(&Fault::LimitsExhausted) => (1, 0, 0),
        Step::RemoveQosGroup(_) => (1, 0, 1),
        Step::MoveProcesses { .. } => (2, depth, 0),
        Step::MakeAnew(_) => (3, depth, 0),
        Step::Mount { .. } => (4, 0, 0),
        Step::Make(_) | Step::MakeQosGroup(_) | Step::AskForSlice { .. } | Step::StartSlice(_) => {
            (4, depth, 0)
        }
        Step::Enable { .. } | Step::FillCpuset(_) => (4, depth, 1),
        Step::Thaw(_) => (5, depth, 0),
        Step::SetAside { .. } => (6, 0, 0),
        Step::RemoveStraysGroup(_) => (7, depth, 0),
        Step::RemoveTree(_) | Step::RemovePods(_) => (8, 0, 0),
    }
}
