//! Version 1 hierarchies that are not mounted, or mounted where they mislead the kubelet.

use std::path::{Path, PathBuf};

use crate::cgroup::{CgroupPath, Controllers};
use crate::faults::absent::CONTROLLER_ABSENT;
use crate::faults::{Fault, Finding, Impact, Location, Nature, Remedy, Step, absent, container};
use crate::host::Host;
use crate::host::mounts::{CGROUP_MOUNT, CgroupMount};
use crate::host::v1::names::SYSTEMD_HIERARCHY;
use crate::host::v1::unmounted::{Obstacle, Place, Unmounted};
use crate::host::v1::{Hierarchies, Hierarchy, OtherMount};

pub(in crate::faults) const FAULTS: &[&Fault] = &[&HIERARCHY_NOT_MOUNTED, &MOUNT_SHADOWED];

pub(crate) static HIERARCHY_NOT_MOUNTED: Fault = Fault {
    name: "hierarchy-not-mounted",
    message_id: "9984dd07790144af97c798a9af149633",
    title: "A hierarchy is not mounted",
    meaning: "On version 1 the kubelet does not start unless cpu, cpuacct, cpuset and memory are \
              mounted (\"Following Cgroup subsystem not mounted\"). Without devices no container \
              starts; without pids the limit on processes does not hold. Where neither version is \
              seen on /sys/fs/cgroup, since nothing is mounted there, something else was mounted \
              over it, or a container got none, it takes the host for version 1 and ends.",
    signs: "No mount of type cgroup in /proc/self/mountinfo has the controller. Other hierarchies \
            count only where their empty mount point shows that they were mounted once. Or: no \
            cgroup file system is seen on /sys/fs/cgroup or below.",
    remedy: "kubepods-repair mounts it where systemd would have, with the same controllers \
             together, if an empty directory is there and neither version 2 nor the kernel's \
             command line claims the controller. It never remounts anything to make a directory. \
             Where neither version is seen, it mounts nothing and tells what is in the way.",
    by_hand: "mount -t cgroup -o cpuset cgroup /sys/fs/cgroup/cpuset, or what the finding shows. A \
              reboot mounts all that systemd knows. In a container its manager has to: \
              lxc.mount.auto = cgroup:rw for LXC.",
    threads: &[],
    does: "mounts it where systemd would, on an empty directory that exists; otherwise reports \
           the command",
    nature: Nature::Fault,
};

pub(crate) static MOUNT_SHADOWED: Fault = Fault {
    name: "mount-shadowed",
    message_id: "ff7d5c8edbee412b9efd82ddd4e928af",
    title: "A second mount of a controller misleads the kubelet",
    meaning: "Of several mounts of one controller the kubelet takes the one with the shortest \
              path, and libcontainer the one below /sys/fs/cgroup. Where the first shows another \
              group of the hierarchy, is covered by a further mount or cannot be written, the \
              kubelet makes kubepods in one place, looks for it in the other, and dies. Container \
              tools that share their mounts with the host leave such mounts behind.",
    signs: "The controller has several lines in /proc/self/mountinfo, and the shortest mount point \
            does not show the root of the hierarchy.",
    remedy: "kubepods-repair unmounts nothing and names the mount.",
    by_hand: "Find out who mounted it, and umount it.",
    threads: &["kubernetes/kubernetes#91023", "kubernetes/kubernetes#95488"],
    does: "reports the mount to remove",
    nature: Nature::Fault,
};

/// The kubelet does not start without these (`validateSystemRequirements`).
const DEMANDED: [&str; 4] = ["cpu", "cpuacct", "cpuset", "memory"];

/// Without these it starts, and runc can make no container (devices) or the kubelet set no limit
/// (pids).
const MISSED: [&str; 2] = ["devices", "pids"];

/// Those that matter: whatever the kubelet and runc cannot do without, and all whose mount point
/// exists and is empty.
pub(super) fn unmounted(host: &Host, v1: &Hierarchies) -> Vec<Finding> {
    let matters = |hierarchy: &&Unmounted| {
        let is_needed = has_any(&hierarchy.controllers, &[&DEMANDED[..], &MISSED].concat());
        is_needed || hierarchy.place == Place::Empty
    };
    let unmounted = v1.unmounted.iter().filter(matters);
    let found = unmounted.map(|hierarchy| not_mounted(host, hierarchy));
    found.collect()
}

fn has_any(controllers: &[String], list: &[&str]) -> bool {
    controllers.iter().any(|name| list.contains(&name.as_str()))
}

fn not_mounted(host: &Host, hierarchy: &Unmounted) -> Finding {
    let impact = if has_any(&hierarchy.controllers, &DEMANDED) {
        Impact::fatal("the kubelet ends with \"Following Cgroup subsystem not mounted\"")
    } else if has_any(&hierarchy.controllers, &["devices"]) {
        Impact::degraded("the kubelet starts, and runc can start no container without it")
    } else if has_any(&hierarchy.controllers, &MISSED) {
        Impact::degraded("the kubelet starts, and limits of this controller do not hold")
    } else {
        Impact::notice("the kubelet does without it, and so do its pods")
    };
    let names = hierarchy.controllers.join(",");
    let controllers: Controllers = hierarchy.controllers.iter().map(String::as_str).collect();
    let (fault, evidence, remedy) = match &hierarchy.obstacle {
        None => {
            let evidence = format!("{names}: not mounted");
            (&HIERARCHY_NOT_MOUNTED, evidence, remount(hierarchy))
        }
        Some(Obstacle::UsedByV2(point)) => {
            let evidence = format!("{names}: not mounted, since the version 2 hierarchy uses it");
            let remedy = Remedy::tell(format!(
                "find out who wrote it into {}, and boot with one version for all: \
                 systemd.unified_cgroup_hierarchy=1",
                point.join("cgroup.subtree_control").display()
            ));
            (&HIERARCHY_NOT_MOUNTED, evidence, remedy)
        }
        Some(Obstacle::Barred(word)) => {
            let evidence =
                format!("{names}: not mounted, and the kernel's command line says {word}");
            let remedy = Remedy::tell(absent::without_word(host, false, word, &controllers));
            (&CONTROLLER_ABSENT, evidence, remedy)
        }
        Some(Obstacle::Disabled) => {
            let evidence = format!("{names}: switched off in this kernel");
            let disabled = host.kernel.disabled_controllers();
            let word = disabled.iter().find(|(name, _)| controllers.contains(name));
            let remedy = Remedy::tell(match word {
                Some((_, word)) => absent::without_word(host, false, word, &controllers),
                None => absent::with_words(host, false, &controllers),
            });
            (&CONTROLLER_ABSENT, evidence, remedy)
        }
        Some(Obstacle::Unknown) => {
            let evidence = format!("this kernel has no {names} for version 1");
            let remedy = Remedy::tell(
                "boot with version 2 (systemd.unified_cgroup_hierarchy=1), or with a kernel that \
                 has CONFIG_CPUSETS_V1 and CONFIG_MEMCG_V1",
            );
            (&CONTROLLER_ABSENT, evidence, remedy)
        }
    };
    let location = Location::Mount(hierarchy.point.clone());
    let finding = fault.finding(impact, location, evidence, remedy);
    finding.about(controllers)
}

/// The kubelet only notes this one down (`CPU hardcapping unsupported`).
pub(super) fn without_quota(v1: &Hierarchies) -> Option<Finding> {
    let cpu = v1.of("cpu")?;
    if cpu.has_quota {
        return None;
    }
    let location = Location::CgroupFile(cpu.point.clone(), CgroupPath::root(), "cpu.cfs_quota_us");
    let impact = Impact::degraded("the kubelet starts, and limits of CPU time do not hold");
    let remedy = Remedy::tell("boot a kernel built with CONFIG_CFS_BANDWIDTH=y");
    let evidence = "there is no such file: this kernel cannot hold back CPU time";
    Some(CONTROLLER_ABSENT.finding(impact, location, evidence, remedy))
}

/// Neither version is seen on `/sys/fs/cgroup`. Which of them this host would use cannot be known,
/// so nothing is mounted.
pub(in crate::faults) fn nothing(host: &Host) -> Finding {
    let cover = |mount: &CgroupMount| Some((mount.point.clone(), mount.covered_by.clone()?));
    let mounts = host.mounts.iter();
    let points: Vec<String> = mounts
        .map(|mount| mount.point.display().to_string())
        .collect();
    let (evidence, how) = if let Some((point, cover)) = host.mounts.iter().find_map(cover) {
        let (point, cover) = (point.display(), cover.display());
        (
            format!("a cgroup hierarchy is mounted on {point}, and {cover} over it"),
            format!("find out who mounted {cover} anew, and unmount it: umount {cover}"),
        )
    } else if let Some(manager) = &host.boot.container {
        let how = container::make_writable(Some(manager), Path::new(CGROUP_MOUNT));
        ("the container got no cgroup hierarchy".to_owned(), how)
    } else {
        let evidence = if points.is_empty() {
            "no cgroup hierarchy is mounted".to_owned()
        } else {
            format!(
                "no cgroup hierarchy is mounted here, but on {}",
                points.join(" ")
            )
        };
        let how = "reboot: systemd mounts them before anything else starts; with version 2 this \
                   does it, too: mount -t cgroup2 cgroup2 /sys/fs/cgroup";
        (evidence, how.to_owned())
    };
    let effect = "the kubelet takes this for version 1, finds none of its hierarchies, and ends";
    let location = Location::Mount(PathBuf::from(CGROUP_MOUNT));
    HIERARCHY_NOT_MOUNTED.finding(Impact::fatal(effect), location, evidence, Remedy::tell(how))
}

/// Mounted as systemd would have, where that is possible without making or hiding anything.
fn remount(hierarchy: &Unmounted) -> Remedy {
    let point = hierarchy.point.display();
    let mut options = hierarchy.controllers.join(",");
    if options == SYSTEMD_HIERARCHY {
        options = format!("none,{options},xattr");
    }
    let by_hand = format!("mount -t cgroup -o {options} cgroup {point}");
    match hierarchy.place {
        Place::Empty => Remedy::Steps(vec![Step::Mount {
            options,
            point: hierarchy.point.clone(),
        }]),
        Place::Occupied => Remedy::tell(format!(
            "something lies in {point} that a mount would hide; look at it, then: {by_hand}"
        )),
        Place::Absent => Remedy::tell(format!(
            "there is no directory {point} to mount it on; reboot, or: mount -o remount,rw \
             /sys/fs/cgroup; mkdir {point}; {by_hand}; mount -o remount,ro /sys/fs/cgroup"
        )),
    }
}

/// Of several mounts of one controller the kubelet takes the shortest mount point, libcontainer the
/// one below `/sys/fs/cgroup`: that is harmless as long as both see the same groups, and can write
/// to them.
pub(super) fn shadowed(v1: &Hierarchies) -> Vec<Finding> {
    v1.mounted.iter().filter_map(misled).collect()
}

fn misled(hierarchy: &Hierarchy) -> Option<Finding> {
    let OtherMount {
        mount,
        has_kubepods,
    } = hierarchy.looked_at.as_ref()?;
    let point = mount.point.display();
    let what = match (&mount.covered_by, mount.root.as_str()) {
        (Some(cover), _) => format!("{} is mounted over it", cover.display()),
        (None, group) if *group != *hierarchy.root => format!("it shows the group {group}"),
        (None, _) if !mount.writable && hierarchy.writable => "it is read-only".to_owned(),
        (None, _) => return None,
    };
    let evidence = format!(
        "{}: of its mounts the kubelet looks into {point}, and {what}; groups are made in {}",
        hierarchy.controllers,
        hierarchy.point.display()
    );
    // Of the QoS groups it writes these at its start, and dies where it cannot.
    let mut written = ["cpu", "hugetlb"].iter();
    let is_written = written.any(|name| hierarchy.controllers.contains(name)) && !mount.writable;
    let impact = if !has_kubepods {
        Impact::fatal(
            "the kubelet makes kubepods in the one place, looks for it in the other, and ends",
        )
    } else if is_written {
        Impact::fatal("the kubelet cannot write the limits of its QoS groups there, and ends")
    } else {
        Impact::degraded("the kubelet writes limits where they have no effect, or not at all")
    };
    let remedy = Remedy::tell(format!(
        "find out who mounted {point}, and unmount it: umount {point}"
    ));
    let location = Location::Mount(mount.point.clone());
    Some(MOUNT_SHADOWED.finding(impact, location, evidence, remedy))
}
