//! The mount of MicroK8s' active revision.
//!
//! Rests on snapd: a unit named after the place mounts each revision (`systemd/systemd.go`,
//! `addMountUnit`), and every service of the snap requires it (`wrappers/internal/services.go`).
//! After a refresh one or more older revisions stay mounted.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::host::service::UNITS;
use crate::kubelet::microk8s::MICROK8S;
use crate::root::Root;

const DESCRIPTION: &str = "meta/snap.yaml";

/// A snap that cannot be read, although snapd has a unit that mounts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableSnap {
    /// The revision.
    pub revision: String,
    /// Where it belongs.
    pub place: PathBuf,
    /// The unit that mounts it.
    pub unit: String,
    /// The error of the kernel; `None` if nothing is mounted.
    pub errno: Option<Errno>,
    /// The other revisions that can be read.
    pub others: Vec<String>,
}

/// Looks for the active revision; `None` if it can be read, or if snapd does not mount it. Where
/// that cannot be determined, the examination goes on.
pub fn observe(root: &Root, revision: Option<&str>) -> Option<UnreadableSnap> {
    let revision = revision.filter(|revision| !revision.is_empty())?;
    let place = Path::new(MICROK8S.snap).join(revision);
    let errno = match root.exists(&place.join(DESCRIPTION)) {
        Ok(true) => return None,
        Ok(false) => None,
        // A damaged squashfs can be mounted nevertheless (`fs/squashfs`).
        Err(error) if error.errno == Errno::EIO => Some(Errno::EIO),
        Err(_) => return None,
    };
    let unit = format!("{}.mount", unit_name(&place));
    let is_snapds = root.exists(&Path::new(UNITS).join(&unit)).ok()?;
    is_snapds.then(|| UnreadableSnap {
        revision: revision.to_owned(),
        others: others(root, revision),
        place,
        unit,
        errno,
    })
}

/// `/snap/microk8s/7394` → `snap-microk8s-7394`. In names and revisions of snaps systemd
/// escapes only the dash, which those of MicroK8s do not contain.
fn unit_name(place: &Path) -> String {
    let path = place.to_string_lossy();
    path.trim_start_matches('/').replace('/', "-")
}

fn others(root: &Root, revision: &str) -> Vec<String> {
    let folder = Path::new(MICROK8S.snap);
    let names = root.directories(folder).ok().flatten().unwrap_or_default();
    let mut others = Vec::new();
    for name in names {
        let name = name.to_string_lossy().into_owned();
        let description = folder.join(&name).join(DESCRIPTION);
        if name != revision && name != "current" && root.exists(&description).unwrap_or(false) {
            others.push(name);
        }
    }
    others
}
