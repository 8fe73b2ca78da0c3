//! The file system of MicroK8s' data, where nothing can be written any longer. This is reported:
//! only a check of the file system helps, or somebody who knows which files may go.
//!
//! Rests on MicroK8s' wrapper `run-kubelite-with-args`, which rewrites args/kubelite at every
//! start, and on the kubelet's state files, which it writes at its first start.

use crate::faults::fault::{Fault, Nature};
use crate::faults::finding::{Finding, Impact, Location, Remedy};
use crate::host::Host;
use crate::host::disk::Ext4Error;
use crate::host::mounts::FileSystem;
use crate::root::Room;

pub(super) const FAULTS: &[&Fault] = &[&FILE_SYSTEM_FULL, &FILE_SYSTEM_READ_ONLY];

pub(crate) static FILE_SYSTEM_FULL: Fault = Fault {
    name: "file-system-full",
    message_id: "2fbfbdb2a8ad4fd59ffbbbae61348a9f",
    title: "The file system of MicroK8s' data is full",
    meaning: "MicroK8s rewrites its arguments at every start, and k8s-dqlite and the kubelet write \
              their state. None of them starts where there is no room for that.",
    signs: "Less than 1 MiB, or not one inode, is free on the file system of \
            /var/snap/microk8s/common.",
    remedy: "kubepods-repair deletes no data.",
    by_hand: "Look for what may go: du -xh /var/snap/microk8s | sort -h | tail; journalctl \
              --vacuum-size=200M; old images go with microk8s ctr images ls and rm, once MicroK8s \
              runs again. Without inodes: du -x --inodes /var | sort -n | tail. Then: snap \
              restart microk8s",
    does: "reports the mount and how to find what fills it",
    threads: &[],
    nature: Nature::Fault,
};

pub(crate) static FILE_SYSTEM_READ_ONLY: Fault = Fault {
    name: "file-system-read-only",
    message_id: "d8187e7dc404486483192e0fa5cd41a1",
    title: "The file system of MicroK8s' data is read-only",
    meaning: "When ext4 finds an error, as after a power cut, it takes no more writes \
              (errors=remount-ro). MicroK8s rewrites its arguments at every start, and k8s-dqlite \
              and the kubelet write their state, so none of them starts.",
    signs: "The mount that holds /var/snap/microk8s/common has the option ro, emergency_ro or \
            shutdown.",
    remedy: "kubepods-repair never remounts anything.",
    by_hand: "See what the kernel says of it: journalctl -k | grep -iE 'ext4|xfs|I/O error'. If \
              the disk itself is sound: boot once with fsck.mode=force on the kernel's command \
              line (XFS: xfs_repair from a rescue system), which makes it writable again.",
    does: "reports the mount and how to check it",
    threads: &[],
    nature: Nature::Fault,
};

/// What a start of MicroK8s writes before the kubelet runs.
const LEAST_BYTES: u64 = 1 << 20;

const ENDS: &str =
    "MicroK8s rewrites its arguments at every start, and kubelite ends where it cannot";

pub(super) fn diagnose(host: &Host) -> Vec<Finding> {
    let disk = &host.disk;
    let Some(system) = &disk.file_system else {
        return Vec::new();
    };
    if system.read_only {
        return vec![read_only(system, disk.first_error.as_ref())];
    }
    disk.room
        .and_then(|room| full(system, room))
        .into_iter()
        .collect()
}

fn read_only(system: &FileSystem, error: Option<&Ext4Error>) -> Finding {
    let impact = Impact::fatal(ENDS);
    let mut evidence = format!(
        "{} is read-only, and MicroK8s keeps its data there ({})",
        system.point.display(),
        system.kind
    );
    if let Some(Ext4Error { count, function }) = error {
        evidence += &format!("; ext4 has counted {count} errors, the first in {function}");
    }
    let remedy = Remedy::tell(
        "journalctl -k | grep -iE 'ext4|xfs|I/O error' says why; if the disk is sound, boot once \
         with fsck.mode=force on the kernel's command line",
    );
    let location = Location::Mount(system.point.clone());
    FILE_SYSTEM_READ_ONLY.finding(impact, location, evidence, remedy)
}

fn full(system: &FileSystem, room: Room) -> Option<Finding> {
    let point = system.point.display();
    let (evidence, remedy) = if room.bytes < LEAST_BYTES {
        let free = room.bytes / 1024;
        let evidence = format!("{point} has {free} KiB free, and MicroK8s keeps its data there");
        let remedy = format!("see what fills it: du -xh {point} | sort -h | tail -30");
        (evidence, remedy)
    } else if room.inodes == Some(0) {
        let evidence = format!("{point} has no inode free, and MicroK8s keeps its data there");
        let remedy =
            format!("see where the files are: du -x --inodes {point} | sort -n | tail -30");
        (evidence, remedy)
    } else {
        return None;
    };
    let impact = Impact::fatal(ENDS);
    let location = Location::Mount(system.point.clone());
    let remedy = Remedy::tell(format!("{remedy}; make room, then: snap restart microk8s"));
    Some(FILE_SYSTEM_FULL.finding(impact, location, evidence, remedy))
}
