//! Hierarchies of cgroup v1 that are not mounted, or mounted where they mislead the kubelet.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::cgroup::{CgroupPath, Controllers};
use crate::faults::absent::CONTROLLER_ABSENT;
use crate::faults::finding::shell_word;
use crate::faults::{Fault, Finding, Impact, Location, Nature, Remedy, Step, absent, container};
use crate::host::Host;
use crate::host::mounts::{CGROUP_MOUNT, CgroupMount};
use crate::host::v1::names::SYSTEMD_HIERARCHY;
use crate::host::v1::unmounted::{Obstacle, Place, Unmounted};
use crate::host::v1::{Hierarchies, Hierarchy, OtherMount};
use crate::kubelet::microk8s::MICROK8S;

pub(in crate::faults) const FAULTS: &[&Fault] = &[&HIERARCHY_NOT_MOUNTED, &MOUNT_SHADOWED];

pub(crate) static HIERARCHY_NOT_MOUNTED: Fault = Fault {
    name: "hierarchy-not-mounted",
    message_id: "9984dd07790144af97c798a9af149633",
    title: "A cgroup hierarchy is not mounted",
    meaning: "On cgroup v1 the kubelet does not start unless cpu, cpuacct, cpuset and memory are \
              mounted (\"Following Cgroup subsystem not mounted\"). Without devices, no container \
              starts. Without pids, limits on processes have no effect. If neither cgroup v1 nor \
              cgroup v2 is visible in /sys/fs/cgroup, the kubelet treats the host as cgroup v1 and \
              ends. This happens if nothing is mounted there, if something else is mounted over \
              it, or in a container that was not given any hierarchy.",
    signs: "No mount of type cgroup in /proc/self/mountinfo has the controller. Hierarchies that \
            the kubelet and runc do not need are reported only if an empty mount point shows that \
            they were mounted before. Or no cgroup file system is visible in /sys/fs/cgroup or \
            below it.",
    remedy: "kubepods-repair mounts the hierarchy where systemd would, with the controllers that \
             systemd would mount together. It does so only if an empty directory exists there and \
             neither cgroup v2 nor the kernel's command line claims the controller. It never \
             remounts anything to create a directory. If neither cgroup version is visible, it \
             mounts nothing and reports the reason.",
    by_hand: "mount -t cgroup -o cpuset cgroup /sys/fs/cgroup/cpuset, or the command that the \
              finding shows. A reboot mounts everything that systemd knows. In a container, the \
              container's manager has to mount the hierarchies: for LXC, with lxc.mount.auto = \
              cgroup:rw.",
    threads: &[],
    does: "mounts it where systemd would, on an empty directory that exists; otherwise reports \
           the command",
    nature: Nature::Fault,
};

pub(crate) static MOUNT_SHADOWED: Fault = Fault {
    name: "mount-shadowed",
    message_id: "ff7d5c8edbee412b9efd82ddd4e928af",
    title: "A second mount of a controller misleads the kubelet",
    meaning: "If a controller is mounted several times, the kubelet uses the mount with the \
              shortest path, and its library libcontainer uses the one below /sys/fs/cgroup. The \
              first one may show another cgroup of the hierarchy, be covered by another mount, or \
              be read-only. The kubelet then creates kubepods in one place, looks for it in \
              another, and exits. Container tools that share their mounts with the host leave such \
              mounts behind.",
    signs: "The controller has several lines in /proc/self/mountinfo, and the mount with the \
            shortest path does not show the root of the hierarchy, is covered, or is read-only.",
    remedy: "kubepods-repair names the mount and unmounts nothing.",
    by_hand: "Find out what mounted it, then unmount it with umount and restart kubelite.",
    threads: &["kubernetes/kubernetes#91023", "kubernetes/kubernetes#95488"],
    does: "reports the mount to remove",
    nature: Nature::Fault,
};

/// The kubelet does not start without these (`validateSystemRequirements`).
const DEMANDED: [&str; 4] = ["cpu", "cpuacct", "cpuset", "memory"];

/// Without these the kubelet starts, but runc cannot create a container (devices), or limits have
/// no effect (pids).
const MISSED: [&str; 2] = ["devices", "pids"];

/// The hierarchies that the kubelet or runc needs, and all others whose mount point exists and is
/// empty.
pub(super) fn unmounted(host: &Host, v1: &Hierarchies) -> Vec<Finding> {
    let matters = |hierarchy: &&Unmounted| is_needed(hierarchy) || hierarchy.place == Place::Empty;
    let unmounted = v1.unmounted.iter().filter(matters);
    let found = unmounted.map(|hierarchy| not_mounted(host, hierarchy));
    found.collect()
}

fn is_needed(hierarchy: &Unmounted) -> bool {
    has_any(&hierarchy.controllers, &[&DEMANDED[..], &MISSED].concat())
}

fn has_any(controllers: &[String], list: &[&str]) -> bool {
    controllers.iter().any(|name| list.contains(&name.as_str()))
}

fn not_mounted(host: &Host, hierarchy: &Unmounted) -> Finding {
    let impact = if has_any(&hierarchy.controllers, &DEMANDED) {
        Impact::fatal("The kubelet exits with \"Following Cgroup subsystem not mounted\"")
    } else if has_any(&hierarchy.controllers, &["devices"]) {
        Impact::degraded("The kubelet starts, but runc cannot start any container without it")
    } else if has_any(&hierarchy.controllers, &MISSED) {
        Impact::degraded("The kubelet starts, but limits of this controller have no effect")
    } else {
        Impact::notice("Neither the kubelet nor its pods need it")
    };
    let names = hierarchy.controllers.join(",");
    let controllers: Controllers = hierarchy.controllers.iter().map(String::as_str).collect();
    let (fault, evidence, remedy) = match &hierarchy.obstacle {
        None => {
            let evidence = format!("The hierarchy of {names} is not mounted");
            (&HIERARCHY_NOT_MOUNTED, evidence, remount(hierarchy))
        }
        Some(Obstacle::UsedByV2(point)) => {
            let evidence = format!(
                "The hierarchy of {names} is not mounted, because the cgroup v2 hierarchy uses it"
            );
            let remedy = Remedy::tell(format!(
                "Find out what enabled {names} in {}. Or boot with cgroup v2 only: add \
                 systemd.unified_cgroup_hierarchy=1 to the kernel's command line and reboot",
                point.join("cgroup.subtree_control").display()
            ));
            (&HIERARCHY_NOT_MOUNTED, evidence, remedy)
        }
        Some(Obstacle::Barred(word)) => {
            let evidence = format!(
                "The hierarchy of {names} is not mounted, because the kernel's command line \
                 contains {word}"
            );
            let remedy = Remedy::tell(absent::without_word(host, false, word, &controllers));
            (&CONTROLLER_ABSENT, evidence, remedy)
        }
        Some(Obstacle::Disabled) => {
            let evidence = format!("{names} is disabled in this kernel");
            let disabled = host.kernel.disabled_controllers();
            let word = disabled.iter().find(|(name, _)| controllers.contains(name));
            let remedy = Remedy::tell(match word {
                Some((_, word)) => absent::without_word(host, false, word, &controllers),
                None => absent::with_words(host, false, &controllers),
            });
            (&CONTROLLER_ABSENT, evidence, remedy)
        }
        Some(Obstacle::Unknown) => {
            let evidence = format!("This kernel has no {names} for cgroup v1");
            let remedy = Remedy::tell(
                "Boot with cgroup v2 (systemd.unified_cgroup_hierarchy=1), or boot a kernel built \
                 with CONFIG_CPUSETS_V1 and CONFIG_MEMCG_V1",
            );
            (&CONTROLLER_ABSENT, evidence, remedy)
        }
    };
    let location = Location::Mount(hierarchy.point.clone());
    let finding = fault.finding(impact, location, evidence, remedy);
    finding.about(controllers)
}

/// The kubelet only logs this one (`CPU hardcapping unsupported`).
pub(super) fn without_quota(v1: &Hierarchies) -> Option<Finding> {
    let cpu = v1.of("cpu")?;
    if cpu.has_quota {
        return None;
    }
    let location = Location::CgroupFile(cpu.point.clone(), CgroupPath::root(), "cpu.cfs_quota_us");
    let impact = Impact::degraded("The kubelet starts, but CPU limits have no effect");
    let remedy = Remedy::tell("Boot a kernel built with CONFIG_CFS_BANDWIDTH=y");
    let evidence = "This file does not exist: this kernel cannot limit CPU time";
    Some(CONTROLLER_ABSENT.finding(impact, location, evidence, remedy))
}

/// Neither cgroup version is visible in `/sys/fs/cgroup`. It is not known which of them this host
/// would use, so nothing is mounted.
pub(in crate::faults) fn nothing(host: &Host) -> Finding {
    let cover = |mount: &CgroupMount| Some((mount.point.clone(), mount.covered_by.clone()?));
    let mounts = host.mounts.iter();
    let points: Vec<String> = mounts
        .map(|mount| mount.point.display().to_string())
        .collect();
    let (evidence, remedy) = if let Some((point, cover)) = host.mounts.iter().find_map(cover) {
        let (point, cover) = (point.display(), cover.display());
        (
            format!("A mount on {cover} hides the cgroup hierarchy on {point}"),
            unmount(cover),
        )
    } else if let Some(manager) = &host.boot.container {
        let how = container::make_writable(Some(manager), Path::new(CGROUP_MOUNT));
        let evidence = "This container was not given any cgroup hierarchy".to_owned();
        (evidence, Remedy::tell(how))
    } else {
        let evidence = if points.is_empty() {
            "No cgroup hierarchy is mounted".to_owned()
        } else {
            let points = points.join(" ");
            format!("No cgroup hierarchy is mounted here, only on {points}")
        };
        let remedy = Remedy::run(
            "Reboot: systemd mounts the hierarchies before anything else starts. If this host \
             uses cgroup v2, you can mount it without a reboot",
            [
                "mount -t cgroup2 cgroup2 /sys/fs/cgroup".to_owned(),
                MICROK8S.restart(),
            ],
        );
        (evidence, remedy)
    };
    let effect = "The kubelet treats this host as cgroup v1, finds no hierarchy and exits";
    let location = Location::Mount(PathBuf::from(CGROUP_MOUNT));
    HIERARCHY_NOT_MOUNTED.finding(Impact::fatal(effect), location, evidence, remedy)
}

fn unmount(point: impl Display) -> Remedy {
    let words = "Find out which program created this mount, then unmount it and restart kubelite";
    let umount = format!("umount {}", shell_word(point));
    Remedy::run(words, [umount, MICROK8S.restart()])
}

/// Mounts the hierarchy as systemd would, if no directory has to be created and nothing is hidden.
fn remount(hierarchy: &Unmounted) -> Remedy {
    let point = hierarchy.point.display();
    let mut options = hierarchy.controllers.join(",");
    if options == SYSTEMD_HIERARCHY {
        options = format!("none,{options},xattr");
    }
    let directory = shell_word(&point);
    let mut by_hand = vec![format!("mount -t cgroup -o {options} cgroup {directory}")];
    let restart = is_needed(hierarchy).then(|| MICROK8S.restart());
    match hierarchy.place {
        Place::Empty => Remedy::Steps(vec![Step::Mount {
            options,
            point: hierarchy.point.clone(),
        }]),
        Place::Occupied => {
            by_hand.extend(restart);
            let words = format!(
                "The directory {point} is not empty, and a mount would hide its contents. Look at \
                 them, then mount the hierarchy"
            );
            Remedy::run(words, by_hand)
        }
        Place::Absent => {
            by_hand.insert(0, "mount -o remount,rw /sys/fs/cgroup".to_owned());
            by_hand.insert(1, format!("mkdir {directory}"));
            by_hand.push("mount -o remount,ro /sys/fs/cgroup".to_owned());
            by_hand.extend(restart);
            let words = format!(
                "The directory {point} does not exist. Reboot, or create it and mount the hierarchy"
            );
            Remedy::run(words, by_hand)
        }
    }
}

/// If a controller is mounted several times, the kubelet uses the shortest mount point, and
/// libcontainer uses the one below `/sys/fs/cgroup`. This is harmless as long as both show the same
/// groups and are writable.
pub(super) fn shadowed(v1: &Hierarchies) -> Vec<Finding> {
    v1.mounted.iter().filter_map(misled).collect()
}

fn misled(hierarchy: &Hierarchy) -> Option<Finding> {
    let OtherMount {
        mount,
        has_kubepods,
    } = hierarchy.looked_at.as_ref()?;
    let what = match (&mount.covered_by, mount.root.as_str()) {
        (Some(cover), _) => format!("another mount on {} hides it", cover.display()),
        (None, group) if *group != *hierarchy.root => format!("it shows the cgroup {group}"),
        (None, _) if !mount.writable && hierarchy.writable => "it is read-only".to_owned(),
        (None, _) => return None,
    };
    let evidence = format!(
        "For {}, the kubelet uses this mount, but {what}. Cgroups are created in {}",
        hierarchy.controllers,
        hierarchy.point.display()
    );
    // The kubelet writes these limits of the QoS groups when it starts, and ends if it cannot.
    let mut written = ["cpu", "hugetlb"].iter();
    let is_written = written.any(|name| hierarchy.controllers.contains(name)) && !mount.writable;
    let impact = if !has_kubepods {
        Impact::fatal(
            "The kubelet creates kubepods in one place, looks for it in the other, and exits",
        )
    } else if is_written {
        Impact::fatal("The kubelet cannot write the limits of its QoS cgroups there, and exits")
    } else {
        Impact::degraded(
            "The limits that the kubelet writes have no effect, or it cannot write them",
        )
    };
    let remedy = unmount(mount.point.display());
    let location = Location::Mount(mount.point.clone());
    Some(MOUNT_SHADOWED.finding(impact, location, evidence, remedy))
}
