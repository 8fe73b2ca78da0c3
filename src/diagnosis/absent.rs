//! Controllers that the root of the tree does not offer: why, and which file of this host brings
//! them back.
//!
//! Rests on the kernel's `kernel/cgroup/cgroup.c` (`cgroup_disable=`), `kernel/cgroup/cgroup-v1.c`
//! (`/proc/cgroups`) and, for the Raspberry Pi, on its kernel's own `cgroup_enable=`.

use std::collections::BTreeMap;

use crate::cgroup::{CgroupPath, Controllers};
use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::{Remedy, Step};
use crate::diagnosis::{Case, Finding, Impact, Occasion, container};
use crate::host::Host;
use crate::host::container::Manager;
use crate::host::group::Kind;
use crate::host::kernel::{OPTIONS, Offer};
use crate::host::loader::{Loader, Source};
use crate::kubelet::layout;
use crate::kubelet::microk8s::MICROK8S;

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    [controllers(case), cpu_max(case), cpu_weight(case)]
        .into_iter()
        .flatten()
        .collect()
}

fn controllers(case: &Case) -> Option<Finding> {
    let claimed = case
        .tree
        .claims
        .iter()
        .map(|claim| claim.controller.as_str())
        .collect();
    let absent = layout::desirable()
        .minus(&case.tree.offered())
        .minus(&claimed);
    if absent.is_empty() {
        return None;
    }
    let mut causes: BTreeMap<Cause, Controllers> = BTreeMap::new();
    for controller in absent.iter() {
        causes
            .entry(cause(case, controller))
            .or_default()
            .extend(&[controller].into_iter().collect());
    }
    let reasons: Vec<String> = causes
        .iter()
        .map(|(cause, which)| format!("no {which}: {}", cause.words()))
        .collect();
    let cures: Vec<String> = causes
        .iter()
        .map(|(cause, which)| cause.cure(case, which))
        .collect();
    let evidence = format!("the kernel offers {}", reasons.join("; "));
    let impact = Impact::degraded(
        "the kubelet starts without it and cannot enforce the limits of pods that need it",
    );
    let location = case.at_file(&CgroupPath::root(), "cgroup.controllers");
    let remedy = Remedy::Tell(cures.join("; "));
    let mut finding = Finding::new(Fault::ControllerAbsent, impact, location, evidence, remedy);
    finding.controllers = absent;
    Some(finding)
}

/// The controller may be there and lack the half of it that limits.
fn cpu_max(case: &Case) -> Option<Finding> {
    let kubepods = case
        .group(&case.layout.kubepods)
        .filter(|group| group.lacks_cpu_max)?;
    let option = "CONFIG_CFS_BANDWIDTH";
    let evidence = format!(
        "kubepods has the cpu controller and no cpu.max: the kernel was built without {option}"
    );
    let impact = Impact::degraded("the kubelet starts, and no container with a CPU limit does");
    let remedy = Remedy::Tell(built_with(case, option));
    Some(Finding::new(
        Fault::ControllerAbsent,
        impact,
        case.at_file(&kubepods.path, "cpu.max"),
        evidence,
        remedy,
    ))
}

/// The kubelet creates a missing QoS group and only logs that it cannot set its weight; one that
/// exists it updates, and then the missing file is fatal. That of best effort is the only one whose
/// weight it sets at its start.
fn cpu_weight(case: &Case) -> Option<Finding> {
    let best_effort = case
        .group(case.layout.qos.last()?)
        .filter(|_| case.is_weightless())?;
    let why = if case.tree.offered().contains("cpu") {
        "the kernel was built without CONFIG_FAIR_GROUP_SCHED"
    } else {
        "there is no cpu controller here"
    };
    let evidence = format!("the group exists and has no cpu.weight: {why}");
    let impact = Impact::fatal(
        "the kubelet dies of updating it (\"failed to update top level BestEffort QOS cgroup\"); \
         it would only create a missing one",
    );
    let path = best_effort.path.clone();
    let how = if best_effort.populated {
        "pods run in it: drain this node and stop MicroK8s before kubelite is started again, or \
         give this machine its cpu controller back"
            .to_owned()
    } else {
        format!("the start of {} removes it", MICROK8S.kubelet_unit)
    };
    let may_remove = case.terms.occasion == Occasion::PreStart && !best_effort.populated;
    let remedy = if may_remove {
        Remedy::Steps(vec![Step::RemoveQosGroup(path.clone())])
    } else {
        Remedy::Tell(how)
    };
    Some(Finding::new(
        Fault::ControllerAbsent,
        impact,
        case.at_file(&path, "cpu.weight"),
        evidence,
        remedy,
    ))
}

/// Why a controller is not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause<'a> {
    /// This word of the command line.
    Word(&'a str),
    /// The machine outside does not pass it on to this container.
    Outside,
    /// The kernel has it switched off and its command line does not say so.
    Off,
    /// The kernel was built without this option.
    NotBuilt(&'static str),
    /// Nothing tells.
    Unknown,
}

fn cause<'a>(case: &Case<'a>, controller: &str) -> Cause<'a> {
    let kernel = &case.host.kernel;
    let Offer {
        subsystems,
        not_built,
    } = &case.host.offer;
    let word = kernel
        .disabled_controllers()
        .into_iter()
        .find(|(name, _)| *name == controller);
    let subsystem = subsystems
        .iter()
        .find(|subsystem| subsystem.name == controller);
    let option = OPTIONS
        .into_iter()
        .find(|(name, _)| *name == controller)
        .map(|(_, option)| option);
    let is_not_built = |option: &&'static str| {
        not_built
            .as_ref()
            .is_some_and(|options| options.contains(option))
    };
    match (word, subsystem, option.filter(is_not_built)) {
        (Some((_, word)), _, _) => Cause::Word(word),
        (None, Some(subsystem), _) if !subsystem.enabled => Cause::Off,
        (None, _, Some(option)) => Cause::NotBuilt(option),
        (None, None, None) if is_left_out(case, controller) => {
            Cause::NotBuilt(option.unwrap_or_default())
        }
        _ if is_inside(case) => Cause::Outside,
        _ => Cause::Unknown,
    }
}

/// Whether `/proc/cgroups` could be read, and would have this controller if the kernel had it: from
/// 6.12 on cpuset and memory are missing there when they were built without their version 1 half.
fn is_left_out(case: &Case, controller: &str) -> bool {
    let may_hide =
        case.host.kernel.is_at_least(6, 12) && ["cpuset", "memory"].contains(&controller);
    !case.host.offer.subsystems.is_empty() && !may_hide
}

/// The real root has no `cgroup.type`.
fn is_inside(case: &Case) -> bool {
    case.group(&CgroupPath::root())
        .is_some_and(|root| root.kind != Kind::Root)
}

impl Cause<'_> {
    fn words(self) -> String {
        match self {
            Self::Word(word) => format!("its command line says {word}"),
            Self::Outside => "it is not passed on to this container".to_owned(),
            Self::Off => "/proc/cgroups has it switched off".to_owned(),
            Self::NotBuilt(option) => format!("it was built without {option}"),
            Self::Unknown => {
                "neither its command line nor /proc/cgroups nor its configuration says why"
                    .to_owned()
            }
        }
    }

    fn cure(self, case: &Case, which: &Controllers) -> String {
        match self {
            Self::Word(word) => without_word(case.host, is_inside(case), word, which),
            Self::Off => with_words(case.host, is_inside(case), which),
            Self::Outside => container::pass_on(case.host.boot.container.as_ref(), which),
            Self::NotBuilt(option) => built_with(case, option),
            Self::Unknown => format!("look into the kernel's log for {which}"),
        }
    }
}

/// Which file of this host to take the word out of.
pub(super) fn without_word(
    host: &Host,
    is_inside: bool,
    word: &str,
    which: &Controllers,
) -> String {
    let sources = &host.sources;
    match (
        sources.iter().find(|source| source.says(word)),
        sources.first(),
    ) {
        _ if host.boot.container.is_some() || is_inside => {
            outside(host, &format!("take {word} out of"))
        }
        (Some(source), _) => edit(source, &format!("take {word} out of")),
        // Its firmware puts the word there, before what the file says.
        (
            None,
            Some(Source {
                loader: Loader::RaspberryPi,
                ..
            }),
        ) => with_words(host, is_inside, which),
        (None, Some(source)) => format!(
            "find what adds {word} to the kernel's command line, since {} does not, and reboot",
            source.file.display()
        ),
        (None, None) => {
            format!(
                "take {word} out of the kernel's command line where the boot loader keeps it and \
                 reboot"
            )
        }
    }
}

/// Which file of this host to add words to that switch these controllers on.
pub(super) fn with_words(host: &Host, is_inside: bool, which: &Controllers) -> String {
    let mut words: Vec<String> = which
        .iter()
        .map(|controller| format!("cgroup_enable={controller}"))
        .collect();
    // Older kernels of the Raspberry Pi know only this one.
    words.extend(
        which
            .contains("memory")
            .then(|| "cgroup_memory=1".to_owned()),
    );
    let words = words.join(" ");
    match host.sources.first() {
        _ if host.boot.container.is_some() || is_inside => {
            outside(host, &format!("add {words} to"))
        }
        Some(source) => edit(source, &format!("add {words} to")),
        None => format!(
            "add {words} to the kernel's command line where the boot loader keeps it and reboot"
        ),
    }
}

/// A container has a kernel of its own only under WSL.
pub(super) fn outside(host: &Host, change: &str) -> String {
    match host.boot.container {
        Some(Manager::Wsl) => format!(
            "{change} kernelCommandLine= under [wsl2] in .wslconfig in the Windows user's folder, \
             then wsl --shutdown"
        ),
        _ => format!(
            "{change} the kernel's command line of the machine outside this container and reboot it"
        ),
    }
}

fn edit(source: &Source, change: &str) -> String {
    let file = source.file.display();
    match source.loader {
        Loader::RaspberryPi => {
            format!("{change} the one line of {file} (a second one does not count) and reboot")
        }
        Loader::UBootMenu => {
            format!("{change} U_BOOT_PARAMETERS in {file}, run u-boot-update and reboot")
        }
        Loader::Extlinux => format!("{change} the append line of {file} and reboot"),
        Loader::Grub => {
            format!(
                "{change} GRUB_CMDLINE_LINUX or GRUB_CMDLINE_LINUX_DEFAULT in {file}, run \
                 update-grub and reboot"
            )
        }
        Loader::KernelInstall => {
            format!("{change} {file}, install the kernel's entry anew (kernel-install) and reboot")
        }
    }
}

fn built_with(case: &Case, option: &str) -> String {
    match case.host.boot.container {
        Some(Manager::Wsl) => {
            format!(
                "wsl --update, or kernel= under [wsl2] in .wslconfig with a kernel built with \
                 {option}=y"
            )
        }
        Some(_) => {
            format!("boot a kernel built with {option}=y on the machine outside this container")
        }
        None => format!("boot a kernel built with {option}=y"),
    }
}
