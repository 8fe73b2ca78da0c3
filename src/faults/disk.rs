//! The file system with MicroK8s' data, when it takes no more writes. This is only reported: the
//! administrator has to check the file system, or decide which files can be deleted.
//!
//! Rests on MicroK8s' wrapper `run-kubelite-with-args`, which rewrites args/kubelite at every
//! start, and on the kubelet's state files, which it writes at its first start.

use crate::faults::fault::{Fault, Nature};
use crate::faults::finding::{Finding, Impact, Location, Remedy, shell_word};
use crate::host::Host;
use crate::host::disk::{Disk, Ext4Error};
use crate::host::mounts::FileSystem;
use crate::root::Room;

pub(super) const FAULTS: &[&Fault] = &[&FILE_SYSTEM_FULL, &FILE_SYSTEM_READ_ONLY];

pub(crate) static FILE_SYSTEM_FULL: Fault = Fault {
    name: "file-system-full",
    message_id: "2fbfbdb2a8ad4fd59ffbbbae61348a9f",
    title: "The file system with MicroK8s' data is full",
    meaning: "MicroK8s rewrites its arguments at every start, and k8s-dqlite and the kubelet write \
              their state. None of them starts if there is no space for that.",
    signs: "Less than 1 MiB, or no inode, is free on the file system of \
            /var/snap/microk8s/common.",
    remedy: "kubepods-repair reports the mount point and the command that shows what uses the \
             space. It deletes no data.",
    by_hand: "Find what uses the space: du -xh /var/snap/microk8s | sort -h | tail. If no inode is \
              free, find the directories with the most files: du -x --inodes /var | sort -n | \
              tail. Old journals can be deleted with journalctl --vacuum-size=200M. Then run snap \
              start microk8s. Once MicroK8s runs again, old images can be deleted with microk8s \
              ctr images ls and microk8s ctr images rm.",
    does: "reports the mount point and how to find what fills it",
    threads: &[],
    nature: Nature::Fault,
};

pub(crate) static FILE_SYSTEM_READ_ONLY: Fault = Fault {
    name: "file-system-read-only",
    message_id: "d8187e7dc404486483192e0fa5cd41a1",
    title: "The file system with MicroK8s' data refuses writes",
    meaning: "When ext4 finds an error, for example after a power cut, it can make the file system \
              read-only (errors=remount-ro). XFS shuts the file system down, and then it cannot be \
              read either. MicroK8s rewrites its arguments at every start, and k8s-dqlite and the \
              kubelet write their state, so none of them starts.",
    signs: "The mount that holds /var/snap/microk8s/common has the option ro, emergency_ro or \
            shutdown, or it is an XFS on which listing a directory fails with EIO.",
    remedy: "kubepods-repair reports the mount point. It never remounts anything.",
    by_hand: "Read what the kernel logged: journalctl -k | grep -iE 'ext4|xfs|I/O error'. If the \
              disk itself is healthy, check the file system. For ext4, boot once with \
              fsck.mode=force on the kernel command line. For XFS, reboot: the kernel then \
              completes what the log of the file system contains. If it shuts the file system down \
              again, run xfs_repair from a rescue system. After that the file system is writable \
              again.",
    does: "reports the mount point and how to check the file system",
    threads: &[],
    nature: Nature::Fault,
};

/// What a start of MicroK8s writes before the kubelet runs.
const LEAST_BYTES: u64 = 1 << 20;

/// Shows what the kernel logged about disks and file systems.
pub(super) const KERNEL_LOG: &str = "journalctl -k | grep -iE 'ext4|xfs|I/O error'";

const EXITS: &str =
    "MicroK8s rewrites its arguments at every start, and kubelite exits if it cannot";

pub(super) fn diagnose(host: &Host) -> Vec<Finding> {
    let disk = &host.disk;
    let full = || full(disk.file_system.as_ref()?, disk.room?);
    failed(disk).or_else(full).into_iter().collect()
}

/// The finding of a file system that refuses writes, which may also be why nothing else could be
/// read.
pub fn failed(disk: &Disk) -> Option<Finding> {
    let system = disk.file_system.as_ref()?;
    let refuses = system.read_only || disk.fails_silently || disk.is_shut_down;
    refuses.then(|| read_only(disk, system))
}

fn read_only(disk: &Disk, system: &FileSystem) -> Finding {
    let impact = Impact::fatal(EXITS);
    let state = if disk.is_shut_down {
        "was shut down by the kernel after an error, so that nothing can be read or written"
    } else if disk.fails_silently {
        "refuses every write, although it is not mounted read-only"
    } else {
        "is read-only"
    };
    let kind = &system.kind;
    let mut evidence = format!("The file system with MicroK8s' data ({kind}) {state}");
    if let Some(Ext4Error { count, function }) = &disk.first_error {
        let errors = if count == "1" { "error" } else { "errors" };
        evidence += &format!(". ext4 has counted {count} {errors}, the first in {function}");
    }
    let how = if kind == "xfs" {
        "Read what the kernel logged. If the disk itself is healthy, reboot. If the kernel shuts \
         the file system down again, run xfs_repair on it from a rescue system"
    } else {
        "Read what the kernel logged. If the disk itself is healthy, boot once with \
         fsck.mode=force on the kernel command line"
    };
    let remedy = Remedy::run(how, [KERNEL_LOG]);
    let location = Location::Mount(system.point.clone());
    FILE_SYSTEM_READ_ONLY.finding(impact, location, evidence, remedy)
}

fn full(system: &FileSystem, room: Room) -> Option<Finding> {
    let point = shell_word(system.point.display());
    let (free, search) = if room.bytes < LEAST_BYTES {
        let free = format!("{} KiB free", room.bytes / 1024);
        (free, format!("du -xh {point} | sort -h | tail -30"))
    } else if room.inodes == Some(0) {
        let search = format!("du -x --inodes {point} | sort -n | tail -30");
        ("no free inode".to_owned(), search)
    } else {
        return None;
    };
    let impact = Impact::fatal(EXITS);
    let location = Location::Mount(system.point.clone());
    let evidence = format!("The file system with MicroK8s' data has {free}");
    let remedy = Remedy::run(
        "Find what fills the file system, delete what is not needed, then start MicroK8s",
        [search, "snap start microk8s".to_owned()],
    );
    Some(FILE_SYSTEM_FULL.finding(impact, location, evidence, remedy))
}
