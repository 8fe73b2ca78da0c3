//! Version 1 hierarchies that are not mounted, or mounted where they mislead the kubelet.

use std::path::{Path, PathBuf};

use crate::cgroup::CgroupPath;
use crate::cgroup::Controllers;
use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::{Remedy, Step};
use crate::diagnosis::{Finding, Impact, Location, absent, container};
use crate::host::Host;
use crate::host::mounts::CGROUP_MOUNT;
use crate::host::unmounted::{DEMANDED, MISSED, Obstacle, Place, Unmounted};
use crate::host::v1::{Hierarchies, Hierarchy, NAMED, Shadow};

pub(super) fn unmounted(host: &Host, v1: &Hierarchies) -> Vec<Finding> {
    v1.unmounted
        .iter()
        .map(|hierarchy| not_mounted(host, hierarchy))
        .collect()
}

fn not_mounted(host: &Host, hierarchy: &Unmounted) -> Finding {
    let controllers: Controllers = hierarchy.controllers.iter().map(String::as_str).collect();
    let names = hierarchy.controllers.join(",");
    let is_among = |list: &[&str]| {
        hierarchy
            .controllers
            .iter()
            .any(|name| list.contains(&name.as_str()))
    };
    let impact = if is_among(&DEMANDED) {
        Impact::fatal("the kubelet ends with \"Following Cgroup subsystem not mounted\"")
    } else if is_among(&["devices"]) {
        Impact::degraded("the kubelet starts, and runc can start no container without it")
    } else if is_among(&MISSED) {
        Impact::degraded("the kubelet starts, and limits of this controller do not hold")
    } else {
        Impact::notice("the kubelet does without it, and so do its pods")
    };
    let (fault, evidence, remedy) = match &hierarchy.obstacle {
        None => (
            Fault::HierarchyNotMounted,
            format!("{names}: not mounted"),
            remount(hierarchy),
        ),
        Some(Obstacle::UsedByV2(point)) => (
            Fault::HierarchyNotMounted,
            format!("{names}: not mounted, since the version 2 hierarchy uses it"),
            Remedy::Tell(format!(
                "find out who wrote it into {}, and boot with one version for all: \
                 systemd.unified_cgroup_hierarchy=1",
                point.join("cgroup.subtree_control").display()
            )),
        ),
        Some(Obstacle::Barred(word)) => (
            Fault::ControllerAbsent,
            format!("{names}: not mounted, and the kernel's command line says {word}"),
            Remedy::Tell(absent::without_word(host, false, word, &controllers)),
        ),
        Some(Obstacle::Disabled) => {
            let disabled = host.kernel.disabled_controllers();
            let word = disabled
                .iter()
                .find(|(name, _)| controllers.contains(name))
                .map(|(_, word)| *word);
            let how = match word {
                Some(word) => absent::without_word(host, false, word, &controllers),
                None => absent::with_words(host, false, &controllers),
            };
            (
                Fault::ControllerAbsent,
                format!("{names}: switched off in this kernel"),
                Remedy::Tell(how),
            )
        }
        Some(Obstacle::Unknown) => (
            Fault::ControllerAbsent,
            format!("this kernel has no {names} for version 1"),
            Remedy::Tell(
                "boot with version 2 (systemd.unified_cgroup_hierarchy=1), or with a kernel that \
                 has CONFIG_CPUSETS_V1 and CONFIG_MEMCG_V1"
                    .to_owned(),
            ),
        ),
    };
    let mut finding = Finding::new(
        fault,
        impact,
        Location::Mount(hierarchy.point.clone()),
        evidence,
        remedy,
    );
    finding.controllers = controllers;
    finding
}

/// The kubelet only notes this one down (`CPU hardcapping unsupported`).
pub(super) fn without_quota(v1: &Hierarchies) -> Option<Finding> {
    let cpu = v1.of("cpu").filter(|cpu| !cpu.has_quota)?;
    let location = Location::CgroupFile(cpu.point.clone(), CgroupPath::root(), "cpu.cfs_quota_us");
    let impact = Impact::degraded("the kubelet starts, and limits of CPU time do not hold");
    let how = "boot a kernel built with CONFIG_CFS_BANDWIDTH=y".to_owned();
    let evidence = "there is no such file: this kernel cannot hold back CPU time".to_owned();
    Some(Finding::new(
        Fault::ControllerAbsent,
        impact,
        location,
        evidence,
        Remedy::Tell(how),
    ))
}

/// Neither version is seen on `/sys/fs/cgroup`. Which of them this host would use nobody can say,
/// so nothing is mounted.
pub(super) fn nothing(host: &Host) -> Finding {
    let covered = host
        .mounts
        .iter()
        .find_map(|mount| Some((mount, mount.covered_by.as_ref()?)));
    let elsewhere: Vec<String> = host
        .mounts
        .iter()
        .map(|mount| mount.point.display().to_string())
        .collect();
    let (evidence, how) = match (covered, host.boot.container.as_ref()) {
        (Some((mount, cover)), _) => (
            format!("a cgroup hierarchy is mounted on {}, and {} over \
                     it", mount.point.display(), cover.display()),
            format!("find out who mounted {0} anew, and unmount it: umount {0}", cover.display()),
        ),
        (None, Some(manager)) => {
            ("the container got no cgroup hierarchy".to_owned(), container::write(Some(manager), Path::new(CGROUP_MOUNT)))
        }
        (None, None) => (
            match elsewhere.is_empty() {
                true => "no cgroup hierarchy is mounted".to_owned(),
                false => format!("no cgroup hierarchy is mounted here, but on \
                                  {}", elsewhere.join(" ")),
            },
            "reboot: systemd mounts them before anything else starts; with version 2 this does it, \
             too: mount -t cgroup2 cgroup2 /sys/fs/cgroup"
                .to_owned(),
        ),
    };
    let impact = Impact::fatal(
        "the kubelet takes this for version 1, finds none of its hierarchies, and ends",
    );
    let location = Location::Mount(PathBuf::from(CGROUP_MOUNT));
    Finding::new(
        Fault::HierarchyNotMounted,
        impact,
        location,
        evidence,
        Remedy::Tell(how),
    )
}

/// Mounted as systemd would have, where that is possible without making or hiding anything.
fn remount(hierarchy: &Unmounted) -> Remedy {
    let point = hierarchy.point.display();
    let options = mount_options(hierarchy);
    let by_hand = format!("mount -t cgroup -o {options} cgroup {point}");
    match hierarchy.place {
        Place::Empty => Remedy::Steps(vec![Step::Mount {
            options,
            point: hierarchy.point.clone(),
        }]),
        Place::Occupied => Remedy::Tell(format!(
            "something lies in {point} that a mount would hide; look at it, then: {by_hand}"
        )),
        Place::Absent => Remedy::Tell(format!(
            "there is no directory {point} to mount it on; reboot, or: mount -o remount,rw \
             /sys/fs/cgroup; mkdir {point}; {by_hand}; mount -o remount,ro /sys/fs/cgroup"
        )),
    }
}

fn mount_options(hierarchy: &Unmounted) -> String {
    let names = hierarchy.controllers.join(",");
    match names.as_str() {
        NAMED => format!("none,{names},xattr"),
        _ => names,
    }
}

/// Of several mounts of one controller the kubelet takes the shortest mount point, libcontainer the
/// one below `/sys/fs/cgroup`: that is harmless as long as both see the same groups.
pub(super) fn shadowed(v1: &Hierarchies) -> Vec<Finding> {
    v1.mounted
        .iter()
        .filter_map(|hierarchy| Some(misled(hierarchy, hierarchy.shadow.as_ref()?)))
        .collect()
}

fn misled(
    hierarchy: &Hierarchy,
    Shadow {
        mount,
        has_kubepods,
    }: &Shadow,
) -> Finding {
    let point = mount.point.display();
    let what = match (&mount.covered_by, mount.root.as_str()) {
        (Some(cover), _) => format!("{} is mounted over it", cover.display()),
        (None, "/") => "it is read-only".to_owned(),
        (None, group) => format!("it shows the group {group}"),
    };
    let evidence = format!(
        "{}: of its mounts the kubelet looks into {point}, and {what}; groups are made in {}",
        hierarchy.controllers,
        hierarchy.point.display()
    );
    // Of the QoS groups it writes these at its start, and dies where it cannot.
    let is_written = ["cpu", "hugetlb"]
        .iter()
        .any(|name| hierarchy.controllers.contains(name))
        && !mount.writable;
    let impact = match (has_kubepods, is_written) {
        (false, _) => Impact::fatal(
            "the kubelet makes kubepods in the one place, looks for it in the other, and ends",
        ),
        (true, true) => {
            Impact::fatal("the kubelet cannot write the limits of its QoS groups there, and ends")
        }
        (true, false) => {
            Impact::degraded("the kubelet writes limits where they have no effect, or not at all")
        }
    };
    let how = format!("find out who mounted {point}, and unmount it: umount {point}");
    Finding::new(
        Fault::MountShadowed,
        impact,
        Location::Mount(mount.point.clone()),
        evidence,
        Remedy::Tell(how),
    )
}
