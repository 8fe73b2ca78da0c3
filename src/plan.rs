//! From findings to an ordered list of steps. Pure.
//!
//! First what only takes away (limits, stale groups, strays), then threaded groups, which make their parent refuse
//! controllers, then what builds, from the root down, then the thaw.

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
        let Remedy::Steps(steps) = &finding.remedy else { continue };
        for step in steps {
            add(&mut plan, step, finding.fault);
        }
    }
    let moves_strays = plan.iter().any(|planned| matches!(planned.step, Step::MoveProcesses { .. }));
    plan.retain(|planned| !(moves_strays && matches!(planned.step, Step::RemoveStraysGroup(_))));
    plan.sort_by_key(|planned| rank(&planned.step));
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
    plan.push(Planned { step: step.clone(), faults: vec![fault] });
}

/// Whether `step` is now part of `planned`.
fn merge(planned: &mut Step, step: &Step) -> bool {
    match (planned, step) {
        (Step::Enable { group, controllers }, Step::Enable { group: same, controllers: more }) if group == same => {
            controllers.extend(more);
            true
        }
        (planned, step) => planned == step,
    }
}

/// Phase, depth, and the order within one group: it has to be there before it can pass anything on.
fn rank(step: &Step) -> (u8, usize, u8) {
    let depth = step.group().map_or(0, CgroupPath::depth);
    match step {
        Step::Restart { .. } => (0, 0, 0),
        Step::LiftLimit { .. } => (0, depth, 1),
        Step::RemovePods(_) | Step::RemoveTree(_) => (1, 0, 0),
        Step::MoveProcesses { .. } => (2, depth, 0),
        Step::MakeAnew(_) => (3, depth, 0),
        Step::Mount { .. } => (4, 0, 0),
        Step::Make(_) | Step::AskForSlice { .. } => (4, depth, 0),
        Step::Enable { .. } | Step::FillCpuset(_) => (4, depth, 1),
        Step::Thaw(_) => (5, depth, 0),
        Step::RemoveStraysGroup(_) => (6, depth, 0),
        Step::SetAside { .. } => (7, 0, 0),
    }
}
