//! Turns findings into an ordered list of steps, without reading or changing anything. [`Step`]
//! itself defines the order.

use crate::faults::limits::LIMITS_EXHAUSTED;
use crate::faults::{Fault, Finding};
use crate::repair::step::{Phase, Step};
use crate::repair::{Effect, RepairError};

/// A step and the faults it is taken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The change to make.
    pub step: Step,
    /// The faults that it repairs.
    pub faults: Vec<&'static Fault>,
}

/// A step, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What was to be done.
    pub step: Step,
    /// The faults that it was planned for.
    pub faults: Vec<&'static Fault>,
    /// What came of it.
    pub result: Result<Effect, RepairError>,
}

impl Planned {
    /// The same step with its result.
    pub fn with(self, result: Result<Effect, RepairError>) -> Taken {
        Taken {
            step: self.step,
            faults: self.faults,
            result,
        }
    }

    /// Stale pod groups are removed early if they take the room of groups that have to be created.
    fn phase(&self) -> Phase {
        let makes_room = self.faults.contains(&&LIMITS_EXHAUSTED);
        match &self.step {
            Step::RemovePods(_) if makes_room => Phase::MakeRoom,
            step => step.phase(),
        }
    }
}

impl Taken {
    /// Whether it has changed something.
    pub fn is_done(&self) -> bool {
        matches!(self.result, Ok(Effect::Done(_)))
    }

    /// Whether another attempt would have the same result.
    pub fn is_final(&self) -> bool {
        match &self.result {
            Ok(Effect::Nothing | Effect::Skipped) | Err(RepairError::Change { .. }) => true,
            Ok(Effect::Done(_) | Effect::Would) | Err(_) => false,
        }
    }
}

/// The steps that repair `findings`, each once, in the order in which they have to be taken.
pub fn plan(findings: &[Finding]) -> Vec<Planned> {
    let mut plan: Vec<Planned> = Vec::new();
    for finding in findings {
        for step in finding.steps() {
            add(&mut plan, step, finding.fault);
        }
    }
    let is_move = |planned: &Planned| matches!(planned.step, Step::MoveProcesses { .. });
    if plan.iter().any(is_move) {
        // The group for strays is about to be filled.
        plan.retain(|planned| !matches!(planned.step, Step::RemoveStraysGroup(_)));
    }
    plan.sort_by_key(|planned| (planned.phase(), planned.step.order()));
    plan
}

fn add(plan: &mut Vec<Planned>, step: &Step, fault: &'static Fault) {
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

/// Merges `step` into `planned` if possible, and returns whether it did: all controllers of one
/// group are enabled in one write.
fn merge(planned: &mut Step, step: &Step) -> bool {
    if let Step::Enable { group, controllers } = planned
        && let Step::Enable {
            group: same,
            controllers: more,
        } = step
        && group == same
    {
        controllers.extend(more);
        return true;
    }
    planned == step
}
