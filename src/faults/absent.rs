//! Controllers that the root of the tree does not offer: the cause, and the file of this host in
//! which to fix it.
//!
//! Rests on the kernel's `kernel/cgroup/cgroup.c` (`cgroup_disable=`), `kernel/cgroup/cgroup-v1.c`
//! (`/proc/cgroups`) and, for the Raspberry Pi, on its kernel's own `cgroup_enable=`.

use std::collections::BTreeMap;

use crate::cgroup::{CgroupPath, Controllers};
use crate::faults::finding::{name_controllers, shell_word};
use crate::faults::{
    Advice, Case, Fault, Finding, Impact, Nature, Occasion, Remedy, Step, container,
};
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
    title: "A cgroup controller is missing or incomplete",
    meaning: "The root of the cgroup tree does not offer a controller that pods use. The kernel \
              was built or started without it, or it is bound to a cgroup v1 mount, or this \
              container did not get it. The kubelet starts, but cannot enforce the limits that \
              need the controller. A cpu controller that was built without CPU limits has the \
              same effect.",
    signs: "cpu, cpuset, memory or pids is not listed in the root's cgroup.controllers, or \
            kubepods has no cpu.max. The cause shows in cgroup_disable= on the kernel command \
            line, in the controller's line of /proc/cgroups, in the kernel configuration, or in a \
            cgroup.type at the root, which only a container has. (From 6.12 on, /proc/cgroups may \
            not list cpuset and memory although the kernel has them.)",
    remedy: "kubepods-repair cannot add a controller to the running kernel. It reports the cause, \
             if it can find it, and the boot loader file of this host in which to fix it.",
    by_hand: "On a Raspberry Pi, add cgroup_enable=memory cgroup_memory=1 to the first line of \
              /boot/firmware/cmdline.txt (older images: /boot/cmdline.txt), because the firmware \
              itself adds cgroup_disable=memory. On other machines, remove cgroup_disable= from \
              the configuration of GRUB (/etc/default/grub or /etc/default/grub.d, then run \
              update-grub), U-Boot (/etc/default/u-boot, /boot/extlinux/extlinux.conf) or \
              systemd-boot (/etc/kernel/cmdline). Under WSL, remove it from kernelCommandLine= in \
              .wslconfig. Then reboot. In a container, have the container manager delegate the \
              controller.",
    threads: &[
        "canonical/microk8s#1691",
        "canonical/microk8s#3693",
        "canonical/microk8s#4301",
    ],
    does: "reports the cause and the boot loader file to change",
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
    let evidence: Vec<String> = causes
        .iter()
        .map(|(cause, which)| cause.sentence(which))
        .collect();
    let cures = causes.iter().map(|(cause, which)| cause.cure(case, which));
    let remedy = Remedy::tell(join(cures.collect()));
    let effect = "The kubelet starts, but cannot enforce the corresponding pod limits";
    let location = case.at_file(&CgroupPath::root(), "cgroup.controllers");
    let evidence = evidence.join(". ");
    let finding = CONTROLLER_ABSENT.finding(Impact::degraded(effect), location, evidence, remedy);
    Some(finding.about(absent))
}

/// All of these as one: each command once, and a reboot last.
fn join(cures: Vec<Advice>) -> Advice {
    let mut words = Vec::new();
    let mut commands: Vec<String> = Vec::new();
    for cure in cures {
        words.push(cure.words);
        for command in cure.commands {
            if !commands.contains(&command) {
                commands.push(command);
            }
        }
    }
    commands.sort_by_key(|command| command == REBOOT);
    Advice::new(words.join(". "), commands)
}

/// The cpu controller may exist without the files that limit CPU time.
fn cpu_max(case: &Case) -> Option<Finding> {
    let kubepods = case.group(&case.layout.kubepods)?;
    if !kubepods.lacks_cpu_max {
        return None;
    }
    let option = "CONFIG_CFS_BANDWIDTH";
    let evidence =
        format!("The kernel was built without {option}, so its cpu controller has no cpu.max");
    let impact = Impact::degraded("The kubelet starts, but containers with a CPU limit do not");
    let location = case.at_file(&kubepods.path, "cpu.max");
    let remedy = Remedy::tell(built_with(case, option));
    Some(CONTROLLER_ABSENT.finding(impact, location, evidence, remedy))
}

/// The kubelet creates a missing QoS group and only logs that it cannot set its weight. One that
/// exists it updates, and then the missing file is fatal. At its start it sets only the weight of
/// the group for best effort.
fn cpu_weight(case: &Case) -> Option<Finding> {
    let best_effort = case.group(case.layout.qos.last()?)?;
    if !case.is_weightless() {
        return None;
    }
    let why = if case.tree.offered().contains("cpu") {
        "the kernel was built without CONFIG_FAIR_GROUP_SCHED"
    } else {
        "the host has no cpu controller"
    };
    let evidence = format!("This cgroup exists but has no cpu.weight, because {why}");
    let effect = "The kubelet fails to update it (\"failed to update top level BestEffort QOS \
                  cgroup\"). It starts if the cgroup does not exist";
    let path = &best_effort.path;
    let remedy = if best_effort.populated {
        Remedy::tell(
            "Pods run in this cgroup. Drain this node and stop MicroK8s before you start kubelite \
             again, or make the cpu controller available",
        )
    } else if case.terms.occasion == Occasion::PreStart {
        Remedy::step(Step::RemoveQosGroup(path.clone()))
    } else {
        Remedy::run(
            "Restart kubelite. Its pre-start removes this cgroup",
            [MICROK8S.restart()],
        )
    };
    let location = case.at_file(path, "cpu.weight");
    Some(CONTROLLER_ABSENT.finding(Impact::fatal(effect), location, evidence, remedy))
}

/// Why a controller is not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause<'a> {
    /// This word of the command line.
    Word(&'a str),
    /// The host of this container does not delegate it.
    Outside,
    /// It is disabled in the kernel, but not by the command line.
    Off,
    /// The kernel was built without this option.
    NotBuilt(&'static str),
    /// No source gives the cause.
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
    fn sentence(self, which: &Controllers) -> String {
        let which = name_controllers(which);
        match self {
            Self::Word(word) => format!("The kernel command line disables the {which} ({word})"),
            Self::Outside => {
                format!("The host of this container does not delegate the {which} to it")
            }
            Self::Off => format!("The kernel has disabled the {which}, as /proc/cgroups shows"),
            Self::NotBuilt(option) => {
                format!("The kernel was built without the {which} ({option})")
            }
            Self::Unknown => format!(
                "The kernel does not offer the {which}. The cause is not in its command line, \
                 /proc/cgroups or its configuration"
            ),
        }
    }

    fn cure(self, case: &Case, which: &Controllers) -> Advice {
        match self {
            Self::Word(word) => without_word(case.host, is_inside(case), word, which),
            Self::Off => with_words(case.host, is_inside(case), which),
            Self::Outside => container::pass_on(case.host.boot.container.as_ref(), which).into(),
            Self::NotBuilt(option) => built_with(case, option).into(),
            Self::Unknown => Advice::new(
                format!(
                    "Search the kernel log for the cause of the missing {}",
                    name_controllers(which)
                ),
                ["journalctl -k -b | grep -i cgroup"],
            ),
        }
    }
}

const REBOOT: &str = "reboot";

/// Which file of this host to remove the word from.
pub(super) fn without_word(
    host: &Host,
    is_inside: bool,
    word: &str,
    which: &Controllers,
) -> Advice {
    let change = format!("Remove {word} from");
    if host.boot.container.is_some() || is_inside {
        return outside(host, &change).into();
    }
    if let Some(source) = host.sources.iter().find(|source| source.says(word)) {
        return edit(Some(source), &change);
    }
    match host.sources.first() {
        // Its firmware puts the word there, before what the file says.
        Some(source) if source.loader == Loader::RaspberryPi => with_words(host, is_inside, which),
        Some(source) => Advice::from(format!(
            "Find out what adds {word} to the kernel command line: it is not {}. Remove it there, \
             then reboot",
            source.file.display()
        )),
        None => edit(None, &change),
    }
}

/// Which file of this host to add words to that enable these controllers.
pub(super) fn with_words(host: &Host, is_inside: bool, which: &Controllers) -> Advice {
    let mut words = enabling_words(which);
    if which.contains("memory") {
        // Older kernels of the Raspberry Pi know only this one.
        words.push("cgroup_memory=1".to_owned());
    }
    let words = words.join(" ");
    let change = format!("Add {words} to");
    if host.boot.container.is_some() || is_inside {
        return outside(host, &change).into();
    }
    let source = host.sources.first();
    if let Some(advice) = source.and_then(|source| ignored(host, source, which)) {
        return advice;
    }
    let mut advice = edit(source, &change);
    if let Some(source) = source.filter(|source| source.loader == Loader::RaspberryPi) {
        let file = shell_word(source.file.display());
        let append = format!("sed -i '1s/$/ {words}/' {file}");
        advice.commands = vec![append, REBOOT.to_owned()];
    }
    advice
}

fn enabling_words(which: &Controllers) -> Vec<String> {
    let words = which.iter().map(|name| format!("cgroup_enable={name}"));
    words.collect()
}

/// What to do on a Raspberry Pi that lacks the controllers although its file has these words.
fn ignored(host: &Host, source: &Source, which: &Controllers) -> Option<Advice> {
    let words = enabling_words(which);
    if source.loader != Loader::RaspberryPi || !words.iter().all(|word| source.says(word)) {
        return None;
    }
    let (file, said) = (source.file.display(), words.join(" "));
    let are_in = |line: &str| {
        let is_there = |word: &String| line.split_whitespace().any(|known| known == word);
        words.iter().all(is_there)
    };
    let words = if !are_in(source.text.lines().next().unwrap_or_default()) {
        format!(
            "Move {said} to the first line of {file}, because the firmware ignores other lines. \
             Then reboot"
        )
    } else if are_in(&host.kernel.command_line) {
        format!(
            "Boot the kernel of Raspberry Pi OS. The running kernel does not know cgroup_enable=, \
             which {file} contains, and the firmware adds cgroup_disable="
        )
    } else {
        format!("Reboot: {file} contains {said}, but this boot began without it")
    };
    Some(words.into())
}

/// Where to make this change to the command line of the kernel that runs this container. Only under
/// WSL the container has a kernel of its own.
pub(super) fn outside(host: &Host, change: &str) -> String {
    match host.boot.container {
        Some(Manager::Wsl) => format!(
            "{change} kernelCommandLine= in the [wsl2] section of .wslconfig in the Windows user's \
             folder, then run wsl --shutdown in Windows"
        ),
        _ => format!("{change} the kernel command line of the container's host, then reboot it"),
    }
}

fn edit(source: Option<&Source>, change: &str) -> Advice {
    let Some(source) = source else {
        let words = format!(
            "{change} the kernel command line in the boot loader's configuration, then reboot"
        );
        return words.into();
    };
    let file = source.file.display();
    let (edit, command) = match source.loader {
        Loader::RaspberryPi => (format!("{change} the first line of {file}"), None),
        Loader::UBootMenu => (
            format!("{change} U_BOOT_PARAMETERS in {file}"),
            Some("u-boot-update".to_owned()),
        ),
        Loader::Extlinux => (format!("{change} the append line in {file}"), None),
        Loader::Armbian => (format!("{change} extraargs= in {file}"), None),
        Loader::BootScript => {
            let script = shell_word(&file);
            (
                format!("{change} bootargs in /boot/boot.cmd and build {file} from it again"),
                Some(format!(
                    "mkimage -C none -T script -d /boot/boot.cmd {script}"
                )),
            )
        }
        Loader::Grub => (
            format!("{change} GRUB_CMDLINE_LINUX or GRUB_CMDLINE_LINUX_DEFAULT in {file}"),
            Some("update-grub".to_owned()),
        ),
        Loader::KernelInstall => (
            format!("{change} {file} and install the kernel's boot entry again (kernel-install)"),
            None,
        ),
    };
    let words = format!("{edit}, then reboot");
    match command {
        Some(command) => Advice::new(words, [command, REBOOT.to_owned()]),
        None => words.into(),
    }
}

fn built_with(case: &Case, option: &str) -> String {
    match case.host.boot.container {
        Some(Manager::Wsl) => format!(
            "Run wsl --update in Windows, or set kernel= in the [wsl2] section of .wslconfig to a \
             kernel built with {option}=y"
        ),
        Some(_) => format!("Boot the container's host with a kernel built with {option}=y"),
        None => format!("Boot a kernel built with {option}=y"),
    }
}
