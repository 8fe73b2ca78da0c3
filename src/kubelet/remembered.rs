//! The kubelet's version as the last run saw it. Early in the boot it cannot be read otherwise,
//! since the snap that declares it is not mounted yet.

use std::path::Path;

use crate::kubelet::microk8s::Version;
use crate::root::{Root, keep};

/// The file that keeps it, beside the boot marker.
pub const PLACE: &str = "/var/lib/kubepods-repair/kubelet";

const FIRST_LINE: &str = "kubepods-repair-kubelet 1";

/// The content of the file for a revision of MicroK8s.
pub fn render(revision: &str, version: Version) -> String {
    format!("{FIRST_LINE}\nrevision {revision}\nversion {version}\nend\n")
}

/// The version that was kept for this revision; `None` when the file is another revision's or was
/// not written whole.
pub fn version(root: &Root, revision: &str) -> Option<Version> {
    let keep = keep::text(|text| {
        parse(text, revision)
            .map(|version| render(revision, version))
            .unwrap_or_default()
    });
    parse(&root.keeping(&keep).read(Path::new(PLACE)).ok()?, revision)
}

fn parse(text: &str, revision: &str) -> Option<Version> {
    let mut lines = text.strip_suffix("\nend\n")?.lines();
    let is_ours =
        lines.next()? == FIRST_LINE && lines.next()?.strip_prefix("revision ")? == revision;
    let version = Version::parse(lines.next()?.strip_prefix("version ")?)?;
    (is_ours && lines.next().is_none()).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_or_of_another_revision_is_ignored() {
        let text = render("6364", Version(1, 29));
        assert_eq!(parse(&text, "6364"), Some(Version(1, 29)));
        assert_eq!(parse(&text, "6365"), None);
        for length in 0..text.len() {
            assert_eq!(parse(&text[..length], "6364"), None, "cut to {length}");
        }
        for wrong in [
            text.replace("kubelet 1", "kubelet 2"),
            text.replace("end", "more\nend"),
            "\0".repeat(99),
        ] {
            assert_eq!(parse(&wrong, "6364"), None, "{wrong:?}");
        }
    }
}
