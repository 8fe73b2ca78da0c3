//! What can be wrong with a host, by the kubelet's own rules. Each file is about one family of
//! faults: their words, how they are recognised, and what is done about them.
//!
//! Settings and host go in, findings come out. Nothing here reads, writes or asks for the time.
//!
//! A severity is not a property of a fault but of what the kubelet would do next: what it heals
//! itself is a notice, what its pods suffer from is degraded, what it dies of is fatal.

mod absent;
mod blockers;
pub mod boot;
mod case;
mod checksum;
mod claims;
mod confinement;
mod container;
mod controllers;
pub mod disk;
mod driver;
mod fault;
mod finding;
mod freezer;
mod groups;
mod leftovers;
pub mod limits;
mod node;
mod services;
pub mod settings;
pub mod slices;
mod snap;
pub mod stale_pods;
pub mod state_files;
mod strays;
mod terms;
mod threaded;
pub mod v1;

use crate::host::{Host, Tree};
use crate::kubelet::Settings;
pub use crate::repair::step::Step;
use crate::state::Notes;
use case::Case;
pub use fault::{Area, Family, Fault, Nature};
use finding::hold_back;
pub use finding::{Advice, Finding, Impact, Location, Remedy, Severity};
pub(crate) use finding::{count, joined};
pub use terms::{Learned, Occasion, Terms};

/// Every family, by area. A new file of faults is added here and in `judge`.
pub const AREAS: &[Area] = &[
    Area {
        title: "Controllers",
        families: &[
            absent::FAULTS,
            blockers::FAULTS,
            claims::FAULTS,
            controllers::FAULTS,
        ],
    },
    Area {
        title: "kubepods and its cgroups",
        families: &[
            groups::FAULTS,
            services::FAULTS,
            strays::FAULTS,
            stale_pods::FAULTS,
            threaded::FAULTS,
            freezer::FAULTS,
        ],
    },
    Area {
        title: "Limits",
        families: &[limits::FAULTS, leftovers::FAULTS],
    },
    Area {
        title: "Cgroup driver and slices",
        families: &[driver::FAULTS, slices::FAULTS],
    },
    Area {
        title: "The kubelet's settings and service",
        families: &[settings::FAULTS, confinement::FAULTS],
    },
    Area {
        title: "The kubelet's state files",
        families: &[state_files::FAULTS],
    },
    Area {
        title: "The node and its boot",
        families: &[node::FAULTS, disk::FAULTS, snap::FAULTS, boot::FAULTS],
    },
    Area {
        title: "Containers",
        families: &[container::FAULTS],
    },
    Area {
        title: "cgroup v1",
        families: &[v1::FAULTS, v1::groups::FAULTS, v1::mounts::FAULTS],
    },
];

impl Fault {
    /// All faults, by name.
    pub fn all() -> Vec<&'static Self> {
        let mut all: Vec<&Self> = AREAS.iter().flat_map(Area::faults).collect();
        all.sort_by_key(|fault| fault.name);
        all
    }

    /// The fault of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::all().into_iter().find(|fault| fault.name == name)
    }
}

/// All findings, the worst first.
pub fn diagnose(
    settings: &Settings,
    host: &Host,
    notes: &Notes,
    terms: Terms,
    learned: &Learned,
) -> Vec<Finding> {
    let mut findings = match (&host.tree, &host.v1) {
        (Some(tree), _) => judge_tree(settings, host, tree, terms, learned),
        (None, Some(v1)) => v1::diagnose(settings, host, v1, terms, learned),
        (None, None) => vec![v1::mounts::nothing(host)],
    };
    findings.extend(driver::diagnose(settings));
    if settings.cgroups_per_qos.value {
        findings.extend(groups::unenforceable(settings));
    }
    findings.extend(snap::diagnose(host, terms));
    findings.extend(disk::diagnose(host));
    findings.extend(node::diagnose(settings, host));
    findings.extend(state_files::diagnose(settings, host, terms, learned));
    findings.extend(confinement::diagnose(settings, host));
    findings.extend(boot::diagnose(host, notes, terms));
    findings.sort_by_key(Finding::rank);
    findings
}

fn judge_tree(
    settings: &Settings,
    host: &Host,
    tree: &Tree,
    terms: Terms,
    learned: &Learned,
) -> Vec<Finding> {
    let layout = &settings.layout();
    let is_used = settings.cgroups_per_qos.value;
    // If it is not used, the question is what would happen without the workaround, when kubelite is
    // restarted.
    let terms = if is_used {
        terms
    } else {
        Terms::at_pre_start()
    };
    let case = Case::new(host, tree, layout, terms, learned);
    let mut findings = if tree.writable {
        judge(&case)
    } else {
        vec![container::read_only(host, &tree.mount)]
    };
    services::leave_alone(&mut findings, layout);
    hold_back(&mut findings);
    // Of these the kubelet dies when all its own groups exist, so that nothing has to wait for
    // them.
    findings.extend(groups::unfit_reserved(&case));
    if is_used {
        findings
    } else {
        vec![settings::qos_disabled(settings, host, &findings)]
    }
}

fn judge(case: &Case) -> Vec<Finding> {
    let mut findings = services::diagnose(case);
    findings.extend(blockers::diagnose(case));
    findings.extend(limits::diagnose(case));
    findings.extend(absent::diagnose(case));
    findings.extend(controllers::diagnose(case));
    findings.extend(claims::diagnose(case));
    findings.extend(groups::diagnose(case));
    findings.extend(strays::diagnose(case));
    findings.extend(threaded::diagnose(case));
    findings.extend(slices::diagnose(case));
    findings.extend(driver::left_behind(case));
    findings.extend(freezer::diagnose(case));
    findings.extend(leftovers::diagnose(case));
    let location = case.at(&case.layout.kubepods);
    let pods = &case.tree.pods;
    findings.extend(stale_pods::diagnose(pods, case.terms, location));
    findings.extend(strays::empty_group(case));
    findings
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        let all = Fault::all();
        let names: BTreeSet<&str> = all.iter().map(|fault| fault.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(
            all.iter()
                .all(|fault| Fault::named(fault.name) == Some(fault))
        );
    }

    #[test]
    fn threads_can_be_followed() {
        for thread in Fault::all().iter().flat_map(|fault| fault.threads) {
            let (repository, number) = thread.split_once('#').unwrap();
            assert_eq!(repository.split('/').count(), 2, "{thread}");
            assert!(number.parse::<u32>().is_ok(), "{thread}");
        }
    }
}
