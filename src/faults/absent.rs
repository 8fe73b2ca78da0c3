//! Controllers that the root of the tree does not offer: why, and which file of this host brings
//! them back.
//!
//! Rests on the kernel's `kernel/cgroup/cgroup.c` (`cgroup_disable=`), `kernel/cgroup/cgroup-v1.c`
//! (`/proc/cgroups`) and, for the Raspberry Pi, on its kernel's own `cgroup_enable=`.

use std::collections::BTreeMap;

use crate::cgroup::{CgroupPath, Controllers};
use crate::faults::{Case, Fault, Finding, Impact, Nature, Occasion, Remedy, Step, container};
use crate::host::Host;
use crate::host::container::Manager;
use crate::host::group::Kind;
use crate::host::kernel::CONTROLLER_OPTIONS;
use crate::host::loader::{Loader, Source};
use crate::kubelet::layout;
use crate::kubelet::microk8s::MICROK8S;

pub(super) const FAULTS: &[&Fault] = &[&CONTROLLER_ABSENT];

pub(crate) static CONTROLLER_ABSENT: Fault = Fault {
    name: "controller-absent",
    message_id: "ea4d6d5bb5b340cfb7a2cec88b2cb7e7",
    title: "The kernel offers no such controller",
    meaning: "A controller that pods want is not among those that the root of the cgroup tree \
              offers: the kernel was built or started without it, it is bound to a version 1 \
              mount, or the container this runs in was not given it. The kubelet starts all the \
              same and cannot enforce the limits that need it. So it is with a cpu controller that \
              was built without its CPU limits.",
    signs: "kubepods has no cpu.max, or cpu, cpuset, memory or pids is not a word of the root's \
            cgroup.controllers. Why: cgroup_disable= on the kernel's command line, its line of \
            /proc/cgroups (from 6.12 on cpuset and memory may be missing there and yet be built \
            in), the kernel's configuration, or a container around it.",
    remedy: "Nothing can be done while this kernel runs; the finding says where the controller \
             went, as far as it can be seen, and which file of this host's boot loader brings it \
             back.",
    by_hand: "On a Raspberry Pi add cgroup_enable=memory cgroup_memory=1 to the one line of \
              /boot/firmware/cmdline.txt (older: /boot/cmdline.txt): its own firmware puts \
              cgroup_disable=memory before it. Elsewhere take cgroup_disable= out of what GRUB \
              (/etc/default/grub, /etc/default/grub.d), U-Boot (/etc/default/u-boot, \
              /boot/extlinux/extlinux.conf) or systemd-boot (/etc/kernel/cmdline) give the kernel; \
              under WSL, out of kernelCommandLine= in .wslconfig. Then reboot. In a container, let \
              its manager pass the controller on.",
    threads: &[
        "canonical/microk8s#1691",
        "canonical/microk8s#3693",
        "canonical/microk8s#4301",
    ],
    does: "reports the reason and the boot loader's file to change",
    nature: Nature::Fault,
};

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let findings = [controllers(case), cpu_max(case), cpu_weight(case)];
    findings.into_iter().flatten().collect()
}

fn controllers(case: &Case) -> Option<Finding> {
    let claims = case.tree.claims.iter();
    let claimed = claims.map(|claim| claim.controller.as_str()).collect();
    let offered = case.tree.offered();
    let absent = layout::desirable().minus(&offered).minus(&claimed);
    if absent.is_empty() {
        return None;
    }
    let mut causes: BTreeMap<Cause, Controllers> = BTreeMap::new();
    for controller in absent.iter() {
        let which = causes.entry(cause(case, controller)).or_default();
        which.insert(controller);
    }
    let (mut reasons, mut cures) = (Vec::new(), Vec::new());
    for (cause, which) in &causes {
        reasons.push(format!("no {which}: {}", cause.words()));
        cures.push(cause.cure(case, which));
    }
    let evidence = format!("the kernel offers {}", reasons.join("; "));
    let effect = "the kubelet starts without it and cannot enforce the limits of pods that need it";
    let location = case.at_file(&CgroupPath::root(), "cgroup.controllers");
    let remedy = Remedy::tell(cures.join("; "));
    let finding = CONTROLLER_ABSENT.finding(Impact::degraded(effect), location, evidence, remedy);
    Some(finding.about(absent))
}

/// The controller may be there and lack the half of it that limits.
fn cpu_max(case: &Case) -> Option<Finding> {
    let kubepods = case.group(&case.layout.kubepods)?;
    if !kubepods.lacks_cpu_max {
        return None;
    }
    let option = "CONFIG_CFS_BANDWIDTH";
    let evidence = format!(
        "kubepods has the cpu controller and no cpu.max: the kernel was built without {option}"
    );
    let impact = Impact::degraded("the kubelet starts, and no container with a CPU limit does");
    let location = case.at_file(&kubepods.path, "cpu.max");
    let remedy = Remedy::tell(built_with(case, option));
    Some(CONTROLLER_ABSENT.finding(impact, location, evidence, remedy))
}

/// The kubelet creates a missing QoS group and only logs that it cannot set its weight; one that
/// exists it updates, and then the missing file is fatal. That of best effort is the only one whose
/// weight it sets at its start.
fn cpu_weight(case: &Case) -> Option<Finding> {
    let best_effort = case.group(case.layout.qos.last()?)?;
    if !case.is_weightless() {
        return None;
    }
    let why = if case.tree.offered().contains("cpu") {
        "the kernel was built without CONFIG_FAIR_GROUP_SCHED"
    } else {
        "there is no cpu controller here"
    };
    let evidence = format!("the group exists and has no cpu.weight: {why}");
    let effect = "the kubelet dies of updating it (\"failed to update top level BestEffort QOS \
                  cgroup\"); it would only create a missing one";
    let path = &best_effort.path;
    let remedy = if best_effort.populated {
        Remedy::tell(
            "pods run in it: drain this node and stop MicroK8s before kubelite is started again, \
             or give this machine its cpu controller back",
        )
    } else if case.terms.occasion == Occasion::PreStart {
        Remedy::step(Step::RemoveQosGroup(path.clone()))
    } else {
        Remedy::tell(format!("the start of {} removes it", MICROK8S.kubelet_unit))
    };
    let location = case.at_file(path, "cpu.weight");
    Some(CONTROLLER_ABSENT.finding(Impact::fatal(effect), location, evidence, remedy))
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
    let offer = &case.host.offer;
    let mut options = CONTROLLER_OPTIONS.into_iter();
    let option = options.find(|(name, _)| *name == controller);
    let option = option.map(|(_, option)| option).unwrap_or_default();
    let is_known = |options: &Vec<&str>| options.contains(&option);
    if offer.not_built.as_ref().is_some_and(is_known) {
        return Cause::NotBuilt(option);
    }
    let words = case.host.kernel.disabled_controllers();
    if let Some((_, word)) = words.into_iter().find(|(name, _)| *name == controller) {
        return Cause::Word(word);
    }
    let mut subsystems = offer.subsystems.iter();
    let subsystem = subsystems.find(|subsystem| subsystem.name == controller);
    if subsystem.is_some_and(|subsystem| !subsystem.enabled) {
        return Cause::Off;
    }
    if subsystem.is_none() && is_left_out(case, controller) {
        Cause::NotBuilt(option)
    } else if is_inside(case) {
        Cause::Outside
    } else {
        Cause::Unknown
    }
}

/// Whether `/proc/cgroups` could be read, and would have this controller if the kernel had it: from
/// 6.12 on cpuset and memory are missing there when they were built without their version 1 half.
fn is_left_out(case: &Case, controller: &str) -> bool {
    let is_split = ["cpuset", "memory"].contains(&controller);
    let may_hide = is_split && case.host.kernel.is_at_least(6, 12);
    !case.host.offer.subsystems.is_empty() && !may_hide
}

/// The real root has no `cgroup.type`.
fn is_inside(case: &Case) -> bool {
    let root = case.group(&CgroupPath::root());
    root.is_some_and(|root| root.kind != Kind::Root)
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
    let change = format!("take {word} out of");
    if host.boot.container.is_some() || is_inside {
        return outside(host, &change);
    }
    if let Some(source) = host.sources.iter().find(|source| source.says(word)) {
        return edit(Some(source), &change);
    }
    match host.sources.first() {
        // Its firmware puts the word there, before what the file says.
        Some(source) if source.loader == Loader::RaspberryPi => with_words(host, is_inside, which),
        Some(source) => format!(
            "find what adds {word} to the kernel's command line, since {} does not, and reboot",
            source.file.display()
        ),
        None => edit(None, &change),
    }
}

/// Which file of this host to add words to that switch these controllers on.
pub(super) fn with_words(host: &Host, is_inside: bool, which: &Controllers) -> String {
    let mut words = enabling_words(which);
    if which.contains("memory") {
        // Older kernels of the Raspberry Pi know only this one.
        words.push("cgroup_memory=1".to_owned());
    }
    let change = format!("add {} to", words.join(" "));
    if host.boot.container.is_some() || is_inside {
        return outside(host, &change);
    }
    let source = host.sources.first();
    let ignored = source.and_then(|source| ignored(host, source, which));
    ignored.unwrap_or_else(|| edit(source, &change))
}

fn enabling_words(which: &Controllers) -> Vec<String> {
    let words = which.iter().map(|name| format!("cgroup_enable={name}"));
    words.collect()
}

/// Why a Raspberry Pi whose file has these words already does without the controllers.
fn ignored(host: &Host, source: &Source, which: &Controllers) -> Option<String> {
    let words = enabling_words(which);
    if source.loader != Loader::RaspberryPi || !words.iter().all(|word| source.says(word)) {
        return None;
    }
    let (file, said) = (source.file.display(), words.join(" "));
    let are_in = |line: &str| {
        let is_there = |word: &String| line.split_whitespace().any(|known| known == word);
        words.iter().all(is_there)
    };
    Some(if !are_in(source.text.lines().next().unwrap_or_default()) {
        format!("move {said} to the first line of {file}, the only one that counts, and reboot")
    } else if are_in(&host.kernel.command_line) {
        format!(
            "boot Raspberry Pi's own kernel: this one does not know cgroup_enable=, which {file} \
             says already, and the firmware adds cgroup_disable="
        )
    } else {
        format!("reboot: {file} says {said}, and this boot began without it")
    })
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

fn edit(source: Option<&Source>, change: &str) -> String {
    let Some(source) = source else {
        return format!(
            "{change} the kernel's command line where the boot loader keeps it and reboot"
        );
    };
    let file = source.file.display();
    match source.loader {
        Loader::RaspberryPi => {
            format!("{change} the one line of {file} (a second one does not count) and reboot")
        }
        Loader::UBootMenu => {
            format!("{change} U_BOOT_PARAMETERS in {file}, run u-boot-update and reboot")
        }
        Loader::Extlinux => format!("{change} the append line of {file} and reboot"),
        Loader::Armbian => format!("{change} extraargs= in {file} and reboot"),
        Loader::BootScript => format!(
            "{change} bootargs in /boot/boot.cmd, make {file} of it again (mkimage -C none -T \
             script -d /boot/boot.cmd {file}) and reboot"
        ),
        Loader::Grub => format!(
            "{change} GRUB_CMDLINE_LINUX or GRUB_CMDLINE_LINUX_DEFAULT in {file}, run update-grub \
             and reboot"
        ),
        Loader::KernelInstall => {
            format!("{change} {file}, install the kernel's entry anew (kernel-install) and reboot")
        }
    }
}

fn built_with(case: &Case, option: &str) -> String {
    match case.host.boot.container {
        Some(Manager::Wsl) => format!(
            "wsl --update, or kernel= under [wsl2] in .wslconfig with a kernel built with \
             {option}=y"
        ),
        Some(_) => {
            format!("boot a kernel built with {option}=y on the machine outside this container")
        }
        None => format!("boot a kernel built with {option}=y"),
    }
}
