//! The snap of MicroK8s itself. A power cut while snapd writes it leaves a file that cannot be
//! mounted. This is reported: only snapd replaces a snap.
//!
//! Rests on the units that snapd writes: each service has `Requires=` and `After=` of the mount of
//! its revision (`wrappers/internal/services.go`), so systemd fails it with the mount.

use crate::faults::{Fault, Finding, Impact, Location, Nature, Remedy, Terms};
use crate::host::Host;
use crate::host::snap::UnreadableSnap;

pub(super) const FAULTS: &[&Fault] = &[&SNAP_UNREADABLE];

pub(crate) static SNAP_UNREADABLE: Fault = Fault {
    name: "snap-unreadable",
    message_id: "1965a77b2d764955bbd0436aa166bacd",
    title: "The MicroK8s snap cannot be read",
    meaning: "A snap is one file, which systemd mounts in /snap/microk8s. If a power cut has \
              damaged the file, it cannot be mounted, and no service of MicroK8s starts. The \
              settings and data of MicroK8s are elsewhere and not affected.",
    signs: "/var/snap/microk8s/current points to a revision, snapd has a mount unit for it, and \
            meta/snap.yaml does not exist or cannot be read.",
    remedy: "kubepods-repair never mounts anything and changes no snap.",
    by_hand: "Find the cause: systemctl status 'snap-microk8s-*.mount'; snap list --all microk8s. \
              If an older revision is not broken, return to it with snap revert microk8s. \
              Otherwise download the same revision again (snap download microk8s --revision=N), \
              copy the file to /var/lib/snapd/snaps/microk8s_N.snap, and restart the mount unit, \
              then microk8s. snap remove would delete the data of the node, too.",
    does: "names the mount unit and the commands that bring the snap back",
    threads: &[],
    nature: Nature::Fault,
};

/// Early in the boot no snap is mounted yet.
pub(super) fn diagnose(host: &Host, terms: Terms) -> Option<Finding> {
    let snap = host.snap.as_ref()?;
    if terms.occasion.precedes_pre_start() {
        return None;
    }
    let UnreadableSnap { place, unit, .. } = snap;
    let place = place.display();
    let evidence = match snap.errno {
        None => format!("Nothing is mounted at {place}, where {unit} mounts the snap"),
        Some(errno) => format!("The snap at {place}, which {unit} mounts, is damaged ({errno})"),
    };
    let impact = Impact::fatal(
        "No service of MicroK8s starts: each requires this mount, and its program is in the snap",
    );
    let location = Location::Mount(snap.place.clone());
    let mut finding = SNAP_UNREADABLE.finding(impact, location, evidence, remedy(snap));
    finding.errno = snap.errno;
    Some(finding)
}

fn remedy(snap: &UnreadableSnap) -> Remedy {
    let UnreadableSnap { revision, unit, .. } = snap;
    let mut commands = vec![
        format!("systemctl status --no-pager {unit}"),
        "snap list --all microk8s".to_owned(),
    ];
    let mut words = "The first two commands show the mount and the revisions. ".to_owned();
    let file = format!("microk8s_{revision}");
    let is_from_the_store = revision.bytes().all(|byte| byte.is_ascii_digit());
    if let [other, ..] = snap.others.as_slice() {
        words += &format!("The third one returns to an older revision ({other} is installed)");
        commands.push("snap revert microk8s".to_owned());
    } else if is_from_the_store {
        words += "The others download the snap again and keep the node's data, which snap remove \
                  would delete";
        commands.extend([
            format!("cd /tmp && snap download microk8s --revision={revision} --basename={file}"),
            format!("install -m 600 /tmp/{file}.snap /var/lib/snapd/snaps/"),
            format!("systemctl restart {unit} && snap start microk8s"),
        ]);
    } else {
        words += &format!(
            "Revision {revision} is not the store's. Before the last command, copy the file that \
             it was installed from to /var/lib/snapd/snaps/{file}.snap or, after snap try, put its \
             folder back"
        );
        commands.push(format!("systemctl restart {unit} && snap start microk8s"));
    }
    Remedy::run(words, commands)
}
