//! Two to five faults at once, in every order: the plan is finite, keeps every promise, has its
//! steps in an order in which they can work, and does not depend on the order in which the faults
//! occurred. Apart from reading a captured healthy host there is no I/O; the virtual machines show
//! that the plans also repair.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod captured;
mod chance;
mod promises;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use captured::Cases;
use chance::{Chance, rounds};
use kubepods_repair::cgroup::{CgroupPath, Controllers};
use kubepods_repair::faults::{
    Finding, Learned, Occasion, Remedy, Severity, Step, Terms, diagnose,
};
use kubepods_repair::host::group::{Group, Kind, MemoryLimit, Process};
use kubepods_repair::host::partitions::Cpus;
use kubepods_repair::host::pods::PodGroup;
use kubepods_repair::host::state_files::{NAMES, StateFile};
use kubepods_repair::host::tasks::{Policy, Task};
use kubepods_repair::host::units::{SliceUnit, UnitFile};
use kubepods_repair::host::{Blockers, Host, OtherTree, Refusal, Tree, observe};
use kubepods_repair::kubelet::microk8s::{MICROK8S, Version};
use kubepods_repair::kubelet::{Driver, Settings, args, flags};
use kubepods_repair::plan::plan;
use kubepods_repair::root::Root;
use kubepods_repair::state::{Notes, RestartStamp};
use nix::errno::Errno;
use promises::Judge;

/// A host to which faults are added.
struct Ruin {
    settings: Settings,
    host: Host,
    learned: Learned,
}

impl Ruin {
    fn tree(&mut self) -> &mut Tree {
        self.host.tree.as_mut().unwrap()
    }

    /// kubepods or a `QoS` group, if it still exists.
    fn own(&mut self, which: usize) -> Option<&mut Group> {
        let path = self.settings.layout().own().nth(which)?.clone();
        self.tree().groups.get_mut(&path)
    }

    /// The name of a pod's group in kubepods or a `QoS` group.
    fn pod(&self, which: usize, uid: usize) -> String {
        let layout = self.settings.layout();
        match layout.driver {
            Driver::Cgroupfs => format!("pod{uid}"),
            Driver::Systemd => {
                let parent = layout
                    .own()
                    .nth(which)
                    .unwrap()
                    .name()
                    .to_string_lossy()
                    .into_owned();
                format!("{}-pod{uid}.slice", parent.trim_end_matches(".slice"))
            }
        }
    }

    /// The files of a slice of the kubelet's own, if it is one.
    fn unit(&mut self, which: usize) -> Option<&mut SliceUnit> {
        let path = self.settings.layout().own().nth(which)?.clone();
        self.tree().slices.get_mut(&path)
    }

    /// Checks what must be true of every group in the tree, whatever was done to it.
    fn settle(&mut self) {
        let groups = &mut self.tree().groups;
        let lived_in: BTreeSet<CgroupPath> = groups
            .values()
            .filter(|group| group.populated)
            .map(|group| group.path.clone())
            .collect();
        for group in groups.values_mut() {
            let below = lived_in.iter().any(|path| group.path.is_above(path));
            group.populated |= below || !group.processes.is_empty();
            group.children.sort();
            group.processes.sort_by_key(|process| process.pid);
        }
        self.host.state_files.sort_by_key(|file| file.path.clone());
    }
}

/// A fault, and how to add it to a healthy host; `usize` chooses one of the kubelet's own groups.
type Fault = (&'static str, fn(&mut Ruin, usize));

const FAULTS: &[Fault] = &[
    ("nothing lost but a group", |ruin, which| {
        let layout = ruin.settings.layout();
        let path = layout.own().nth(which).unwrap().clone();
        ruin.tree()
            .groups
            .retain(|other, _| *other != path && !path.is_above(other));
    }),
    ("controllers lost at the root", |ruin, which| {
        let lost: Controllers = [["cpuset"], ["cpu"], ["hugetlb"]][which]
            .into_iter()
            .collect();
        for group in ruin.tree().groups.values_mut() {
            group.subtree_control = group.subtree_control.minus(&lost);
        }
    }),
    ("no anchor", |ruin, _| {
        if let Some(group) = ruin.own(0) {
            group.subtree_control = Controllers::default();
        }
    }),
    ("a stray", |ruin, which| {
        if let Some(group) = ruin.own(which) {
            group.processes.push(Process {
                pid: 812,
                comm: "sleep".to_owned(),
            });
        }
    }),
    ("a process of another namespace", |ruin, which| {
        if let Some(group) = ruin.own(which) {
            group.processes.push(Process {
                pid: 0,
                comm: String::new(),
            });
        }
    }),
    ("threaded", |ruin, which| {
        if let Some(group) = ruin.own(which) {
            group.kind = Kind::Threaded;
        }
    }),
    ("domain threaded", |ruin, _| {
        if let Some(group) = ruin.own(0) {
            group.kind = Kind::DomainThreaded;
        }
        for which in 1..3 {
            if let Some(group) = ruin.own(which).filter(|group| group.kind == Kind::Domain) {
                group.kind = Kind::DomainInvalid;
            }
        }
    }),
    ("frozen", |ruin, which| {
        if let Some(group) = ruin.own(which) {
            group.frozen = true;
        }
    }),
    ("no room", |ruin, which| {
        if let Some(group) = ruin.own(which) {
            group.max_descendants = Some(0);
        }
    }),
    ("no depth", |ruin, which| {
        if let Some(group) = ruin.own(which) {
            group.max_depth = Some(1);
        }
    }),
    ("no memory for groups", |ruin, _| {
        if let Some(group) = ruin.own(0) {
            group.memory = Some(MemoryLimit {
                limit: 0,
                current: 0,
                cpus: 2,
            });
        }
    }),
    ("no room at the root", |ruin, _| {
        ruin.tree()
            .groups
            .get_mut(&CgroupPath::root())
            .unwrap()
            .max_descendants = Some(0);
    }),
    ("a pod that lives", |ruin, which| {
        let name = ruin.pod(which, 1);
        if let Some(group) = ruin.own(which) {
            group.children.push(name.into());
            group.populated = true;
        }
        ruin.learned.containers_run = true;
    }),
    ("a pod that is gone", |ruin, which| {
        let name = ruin.pod(which, 2);
        let Some(group) = ruin.own(which) else { return };
        group.children.push(name.clone().into());
        let pod = PodGroup {
            group: group.path.join(&name),
            uid: "2".into(),
        };
        let pods = &mut ruin.tree().pods;
        let mut lifeless = pods.lifeless.to_vec();
        lifeless.push(pod);
        lifeless.sort_by(|one, other| one.group.cmp(&other.group));
        pods.lifeless = lifeless.into();
    }),
    ("a kubelet that runs", |ruin, _| {
        ruin.tree().pods.kubelet_runs = true;
    }),
    ("an empty group for strays", |ruin, _| {
        let path = ruin.settings.layout().strays;
        let group = Group {
            path: path.clone(),
            populated: false,
            ..ruin.tree().groups[&CgroupPath::root()].clone()
        };
        ruin.tree().groups.insert(
            path,
            Group {
                kind: Kind::Domain,
                ..group
            },
        );
    }),
    ("a torn checkpoint", |ruin, which| {
        let name = NAMES[which];
        let path = ruin.settings.root_dir.value.join(name);
        let text = ["", "\0\0", "{\"policyName\":"][which].to_owned();
        ruin.host.state_files.push(StateFile { name, path, text });
    }),
    ("containers", |ruin, _| ruin.learned.containers_run = true),
    ("a pinned task", |ruin, which| {
        let unit = [MICROK8S.restartable_unit, "etcd.service", "a.service"][which];
        block(ruin, unit, false, "cpuset");
    }),
    ("a real-time task", |ruin, which| {
        block(
            ruin,
            [
                "multipathd.service",
                "rtkit.service",
                MICROK8S.restartable_unit,
            ][which],
            true,
            "cpu",
        );
    }),
    ("restarted before", |ruin, _| {
        ruin.learned.restarted = Some(RestartStamp {
            tasks: "5 5\n".to_owned(),
        });
    }),
    ("a slice that systemd was never asked for", |ruin, which| {
        if let Some(unit) = ruin.unit(which) {
            *unit = SliceUnit::default();
        }
    }),
    ("a slice that asks for nothing", |ruin, which| {
        if let Some(unit) = ruin.unit(which) {
            unit.sets.clear();
        }
    }),
    ("a slice of somebody's own", |ruin, which| {
        if let Some(unit) = ruin.unit(which) {
            unit.file = UnitFile::Installed(PathBuf::from("/etc/systemd/system/x.slice"));
        }
    }),
    ("a masked slice", |ruin, which| {
        if let Some(unit) = ruin.unit(which) {
            unit.file = UnitFile::Empty(PathBuf::from("/etc/systemd/system/x.slice"));
        }
    }),
    ("another driver before", |ruin, which| {
        let kubepods = ruin.settings.other_kubepods();
        ruin.tree().other = Some(OtherTree {
            kubepods,
            populated: which == 0,
            kubelet_runs: which == 1,
        });
    }),
    ("no cpu controller", |ruin, _| {
        let cpu: Controllers = ["cpu"].into_iter().collect();
        for group in ruin.tree().groups.values_mut() {
            group.controllers = group.controllers.minus(&cpu);
            group.subtree_control = group.subtree_control.minus(&cpu);
        }
    }),
    ("read-only", |ruin, _| ruin.tree().writable = false),
];

fn block(ruin: &mut Ruin, unit: &str, realtime: bool, controller: &str) {
    let task = Task {
        pid: 131,
        tid: 132,
        comm: "iou-sqp-131".to_owned(),
        policy: if realtime {
            Policy::RoundRobin
        } else {
            Policy::Other
        },
        priority: u32::from(realtime),
        realtime,
        started: 7,
        pinned: !realtime,
        cgroup: CgroupPath::parse(&format!("/system.slice/{unit}")).unwrap(),
    };
    let refused: Controllers = [controller].into_iter().collect();
    let root = ruin.tree().groups.get_mut(&CgroupPath::root()).unwrap();
    root.subtree_control = root.subtree_control.minus(&refused);
    let refusal = Refusal {
        group: CgroupPath::root(),
        controller: controller.to_owned(),
        errno: Errno::EINVAL,
    };
    ruin.learned.refusals.push(refusal);
    let none = || Blockers {
        tasks: Vec::new(),
        rt_group_sched: Some(true),
    };
    let blockers = ruin.learned.blockers.get_or_insert_with(none);
    blockers.tasks.push(task);
}

fn settings(file: &str) -> Settings {
    let flags = flags::parse(&args::parse(file, &|_| None)).unwrap();
    Settings::default()
        .with_flags(&flags, Path::new("args/kubelet"))
        .unwrap()
}

/// A healthy host with these settings: everything that they name exists and enables all
/// controllers.
fn healthy(settings: &Settings) -> Host {
    let captured = Cases::only("01-healthy");
    let root = Root::captured(&captured.all[0].root()).unwrap();
    let mut host = observe(
        &root,
        &Settings::default(),
        &Some(("6364".to_owned(), Some(Version(1, 29)))),
    )
    .unwrap();
    let tree = host.tree.as_mut().unwrap();
    let layout = settings.layout();
    let kubepods = tree.groups[&CgroupPath::parse("/kubepods").unwrap()].clone();
    for path in layout.own().chain(&layout.reserved) {
        for path in path
            .ancestors()
            .into_iter()
            .chain([path.clone()])
            .filter(|path| !path.is_root())
        {
            let children = Vec::new();
            tree.groups.insert(
                path.clone(),
                Group {
                    path,
                    children,
                    ..kubepods.clone()
                },
            );
        }
    }
    for path in layout.slices() {
        tree.slices.insert(
            path,
            SliceUnit {
                file: UnitFile::Transient,
                sets: ["AllowedCPUs", "CPUWeight"].into(),
                free_cpus: Some(Cpus::parse("0-1")),
            },
        );
    }
    host
}

fn terms(chance: &mut Chance) -> Terms {
    let occasions = [
        Occasion::ByHand,
        Occasion::PreStart,
        Occasion::PreStart,
        Occasion::Early,
        Occasion::Boot,
    ];
    let occasion = occasions[chance.below(occasions.len())];
    Terms {
        occasion,
        no_restart: chance.one_in(4),
        leave_cpu: Terms::leaves_cpu(occasion, Some(true)),
    }
}

const SETTINGS: [&str; 7] = [
    "",
    "--cgroup-root=/a/b",
    "--cgroup-root=/a --kube-reserved-cgroup=/r/s --kube-reserved=cpu=1 \
     --enforce-node-allocatable=pods,kube-reserved",
    "--root-dir=/x --system-reserved-cgroup=/kubepods-x --system-reserved=cpu=1 \
     --enforce-node-allocatable=system-reserved",
    "--cgroups-per-qos=false --enforce-node-allocatable=",
    "--cgroup-driver=systemd",
    "--cgroup-driver=systemd --cgroup-root=/a-b/c --kube-reserved-cgroup=/r.slice \
     --kube-reserved=cpu=1 --enforce-node-allocatable=pods,kube-reserved",
];

/// The part of the result that depends only on the faults, in a comparable form.
fn summary(findings: &[Finding]) -> (BTreeSet<String>, BTreeSet<String>) {
    let found = findings.iter().map(|finding| {
        format!(
            "{:?} {} {}",
            finding.severity(),
            finding.fault.name,
            finding.location
        )
    });
    (
        found.collect(),
        plan(findings)
            .iter()
            .map(|planned| format!("{:?}", planned.step))
            .collect(),
    )
}

#[test]
fn every_plan_keeps_every_promise() {
    let mut chance = Chance::new(7);
    let (mut plans, mut longest, mut kinds) = (0, 0, BTreeSet::new());
    for round in 0..rounds(4_000) {
        let settings = settings(chance.pick(&SETTINGS));
        let mut faults: Vec<(&Fault, usize)> = (0..2 + chance.below(4))
            .map(|_| (&FAULTS[chance.below(FAULTS.len())], chance.below(3)))
            .collect();
        let terms = terms(&mut chance);
        let mut seen = None;
        for _ in 0..2 {
            let mut ruin = Ruin {
                host: healthy_once(&settings),
                settings: settings.clone(),
                learned: Learned::default(),
            };
            for ((_, break_it), which) in &faults {
                break_it(&mut ruin, *which);
            }
            ruin.settle();
            let what = format!(
                "round {round}: {:?}, {terms:?}, {:?}",
                faults
                    .iter()
                    .map(|((name, _), which)| (name, which))
                    .collect::<Vec<_>>(),
                settings.layout()
            );
            let findings = diagnose(
                &ruin.settings,
                &ruin.host,
                &Notes::default(),
                terms,
                &ruin.learned,
            );
            let planned = plan(&findings);
            let steps: Vec<&Step> = planned.iter().map(|planned| &planned.step).collect();
            assert!(steps.len() < 40, "{what}: {steps:#?}");
            assert_eq!(
                Judge {
                    settings: &ruin.settings,
                    host: &ruin.host,
                    terms,
                    learned: &ruin.learned,
                }
                .broken(&steps),
                None,
                "{what}: {steps:#?}"
            );
            in_order(&steps, &what);
            nothing_is_built_in_vain(&findings, &steps, &what);
            (plans, longest) = (plans + 1, longest.max(steps.len()));
            kinds.extend(steps.iter().map(|step| {
                format!("{step:?}")
                    .split([' ', '('])
                    .next()
                    .unwrap()
                    .to_owned()
            }));
            if commute(&faults) {
                let now = summary(&findings);
                assert_eq!(
                    *seen.get_or_insert(now.clone()),
                    now,
                    "the order of the faults counts, {what}"
                );
            }
            chance.shuffle(&mut faults);
        }
    }
    println!(
        "{plans} plans, the longest of {longest} steps, of {} kinds of step",
        kinds.len()
    );
    assert!(kinds.len() >= 10, "too tame: {kinds:?}");
}

/// Whether the order of two faults matters: one may remove a group that the other changes, or
/// change the group's type, or both may write the settings file.
fn commute(faults: &[(&Fault, usize)]) -> bool {
    let any = |words: &[&str]| faults.iter().any(|((name, _), _)| words.contains(name));
    !any(&[
        "nothing lost but a group",
        "threaded",
        "domain threaded",
        "restarted before",
        "an empty group for strays",
        "a slice that systemd was never asked for",
        "a slice that asks for nothing",
        "a slice of somebody's own",
        "a masked slice",
        "another driver before",
    ]) && faults
        .iter()
        .filter(|((name, _), _)| matches!(*name, "a pinned task" | "a real-time task"))
        .count()
        < 2
}

fn healthy_once(settings: &Settings) -> Host {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    type Made = RefCell<BTreeMap<String, Host>>;
    thread_local!(static MADE: Made = const { RefCell::new(BTreeMap::new()) });
    MADE.with_borrow_mut(|made| {
        made.entry(format!("{:?}", settings.layout()))
            .or_insert_with(|| healthy(settings))
            .clone()
    })
}

/// The order of steps: first the obstacles go, then the tree is built from the root down, then
/// groups are thawed, and housekeeping comes last.
fn in_order(steps: &[&Step], what: &str) {
    let phase = |step: &Step| match step {
        Step::Restart { .. } | Step::LiftLimit { .. } => 0,
        Step::RemoveQosGroup(_) => 1,
        Step::MoveProcesses { .. } => 2,
        Step::MakeAnew(_) => 3,
        Step::Mount { .. } | Step::Make(_) | Step::MakeQosGroup(_) => 4,
        Step::AskForSlice { .. }
        | Step::StartSlice(_)
        | Step::Enable { .. }
        | Step::FillCpuset(_) => 4,
        Step::Thaw(_) => 5,
        Step::SetAside { .. } => 6,
        Step::RemoveStraysGroup(_) => 7,
        Step::RemovePods(_) | Step::RemoveTree(_) => 8,
    };
    let depth = |step: &Step| {
        if step.builds() {
            step.group().map_or(0, CgroupPath::depth)
        } else {
            0
        }
    };
    // Stale pods go first where they take the room of what has to be made.
    let steps = if let [Step::RemovePods(_), rest @ ..] = steps {
        rest
    } else {
        steps
    };
    assert!(
        steps.is_sorted_by_key(|step| (phase(step), depth(step))),
        "{what}: {steps:#?}"
    );
}

/// Nothing is built while a fault of the tree that cannot be repaired keeps the kubelet from
/// starting.
fn nothing_is_built_in_vain(findings: &[Finding], steps: &[&Step], what: &str) {
    let of_the_tree = |finding: &&Finding| !finding.fault.name.starts_with("checkpoint");
    let blocked = findings
        .iter()
        .filter(of_the_tree)
        .any(Finding::is_beyond_repair);
    assert!(
        !blocked || !steps.iter().any(|step| step.builds()),
        "{what}: {steps:#?}"
    );
    for finding in findings {
        let told = matches!(&finding.remedy, Remedy::Tell(how) if !how.words.is_empty());
        let is_there = |fault| findings.iter().any(|other| other.fault == fault);
        let waits_for_one_that_is_there =
            matches!(finding.remedy, Remedy::Waits(fault) if is_there(fault));
        let has_steps = matches!(&finding.remedy, Remedy::Steps(steps) if !steps.is_empty());
        assert!(
            told || waits_for_one_that_is_there || has_steps,
            "{what}: {finding:?}"
        );
    }
}

#[test]
fn a_healthy_host_needs_no_steps_with_any_settings() {
    for text in SETTINGS {
        let settings = settings(text);
        let host = healthy(&settings);
        for occasion in [
            Occasion::ByHand,
            Occasion::PreStart,
            Occasion::Early,
            Occasion::Boot,
        ] {
            let findings = diagnose(
                &settings,
                &host,
                &Notes::default(),
                Terms {
                    occasion,
                    no_restart: false,
                    leave_cpu: false,
                },
                &Learned::default(),
            );
            assert!(plan(&findings).is_empty(), "{text}: {findings:#?}");
            assert!(
                findings
                    .iter()
                    .all(|finding| finding.severity() == Severity::Notice),
                "{text}: {findings:#?}"
            );
        }
    }
}
