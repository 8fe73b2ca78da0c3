//! The picture of the cgroup tree: the cgroups that the kubelet needs, and what each of them lacks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::page::{Page, Paint};
use crate::cgroup::{CgroupPath, Controllers};
use crate::faults::{Finding, Remedy, Severity, count};
use crate::host::group::{Group, Kind};
use crate::host::mounts::CGROUP_MOUNT;
use crate::host::pods::PodGroups;
use crate::host::v1::{Hierarchies, Hierarchy};
use crate::host::{Host, Tree};
use crate::kubelet::layout::{self, Layout};

/// The leftmost column at which the state of a cgroup is shown.
const FIRST_COLUMN: usize = 22;

/// The state of a cgroup as the picture shows it.
#[derive(Default)]
struct State {
    exists: bool,
    /// The required controllers that the cgroup has; on cgroup v1, the hierarchies.
    has: Vec<String>,
    /// The required controllers or hierarchies that it could have but has not.
    lacks: Vec<String>,
    /// The controllers that the kernel does not offer, or the hierarchies that are not mounted.
    absent: Vec<String>,
    /// Its pods and stray processes, and whether it is frozen or threaded.
    remarks: Vec<String>,
    /// The fatal and degraded faults found here, and the worst of their severities.
    faults: Vec<&'static str>,
    severity: Option<Severity>,
}

impl State {
    fn is_complete(&self) -> bool {
        self.exists && self.lacks.is_empty() && self.absent.is_empty() && self.faults.is_empty()
    }

    fn words(&self, glyphs: bool) -> String {
        let (yes, no) = if glyphs {
            ("✓ ", "✗ ")
        } else {
            ("has ", "lacks ")
        };
        let mut words = Vec::new();
        if !self.exists {
            words.push("missing".to_owned());
        }
        for (mark, names) in [
            (yes, &self.has),
            (no, &self.lacks),
            ("absent: ", &self.absent),
        ] {
            if !names.is_empty() {
                words.push(format!("{mark}{}", names.join(" ")));
            }
        }
        words.extend(self.remarks.iter().cloned());
        words.join("; ")
    }

    fn mark(&self, glyphs: bool) -> Option<String> {
        let arrow = if glyphs { "←" } else { "<--" };
        let faults = self.faults.join(", ");
        (!faults.is_empty()).then(|| format!("{arrow} {faults}"))
    }
}

/// Draws the tree of this host with a mark at each fatal or degraded fault. Draws nothing if the
/// tree is complete, unless the reader asks for everything.
pub(super) fn draw(page: &mut Page, host: &Host, layout: &Layout, findings: &[Finding]) {
    let picture = Picture {
        host,
        layout,
        findings,
    };
    let title = match (&host.tree, &host.v1) {
        (Some(_), _) => "Cgroups, and the controllers that they enable for their children:",
        (None, Some(_)) => "Cgroups, and the hierarchies of cgroup v1 that have them:",
        (None, None) => return,
    };
    let paths = picture.paths();
    let states: Vec<State> = paths.iter().map(|path| picture.state(path)).collect();
    if !page.view.verbose && states.iter().all(State::is_complete) {
        return;
    }
    page.gap();
    page.paragraph("", title);
    let branches = paths
        .iter()
        .map(|path| picture.branch(&paths, path, page.view.glyphs));
    let branches: Vec<Branch> = branches.collect();
    let widest = branches.iter().map(Branch::width).max().unwrap_or(0);
    // Longer names have a line of their own.
    let last_column = (page.view.width * 11 / 20).max(FIRST_COLUMN);
    let column = (widest + 2).clamp(FIRST_COLUMN, last_column);
    for (branch, state) in branches.iter().zip(&states) {
        row(page, branch, column, state);
    }
}

/// The name of a cgroup with the lines that lead to it.
struct Branch {
    stem: String,
    name: String,
    /// The lines that are drawn below it.
    below: String,
}

impl Branch {
    fn width(&self) -> usize {
        self.stem.chars().count() + self.name.chars().count()
    }
}

fn row(page: &mut Page, branch: &Branch, column: usize, state: &State) {
    let Branch { stem, name, below } = branch;
    let indent = format!("{below:column$}");
    let head = if branch.width() + 2 > column {
        page.paragraph(stem, name);
        indent.clone()
    } else {
        format!("{:column$}", format!("{stem}{name}"))
    };
    let paint = match state.severity {
        Some(severity) => Some(severity.into()),
        None if state.is_complete() => Some(Paint::Green),
        None => None,
    };
    let words = state.words(page.view.glyphs);
    let Some(mark) = state.mark(page.view.glyphs) else {
        return page.column(&head, &indent, paint, &words);
    };
    let both = format!("{words}  {mark}");
    if both.chars().count() <= page.room(column) {
        return page.column(&head, &indent, paint, &both);
    }
    page.column(&head, &indent, paint, &words);
    page.column(&indent, &indent, paint, &mark);
}

struct Picture<'a> {
    host: &'a Host,
    layout: &'a Layout,
    findings: &'a [Finding],
}

impl Picture<'_> {
    /// The cgroups that the kubelet needs, those above them, and the one for strays where it
    /// exists.
    fn paths(&self) -> BTreeSet<CgroupPath> {
        let layout = self.layout;
        let mut paths = BTreeSet::from([CgroupPath::root()]);
        for path in layout.own().chain(&layout.reserved) {
            paths.extend(path.ancestors());
            paths.insert(path.clone());
        }
        let tree = self.host.tree.as_ref();
        if tree.is_some_and(|tree| tree.group(&layout.strays).is_some()) {
            paths.insert(layout.strays.clone());
        }
        paths
    }

    fn state(&self, path: &CgroupPath) -> State {
        let mut state = match (&self.host.tree, &self.host.v1) {
            (Some(tree), _) => tree.group(path).map(|group| self.on_tree(tree, group)),
            (None, Some(v1)) => Some(self.on_hierarchies(v1, path)),
            (None, None) => None,
        }
        .unwrap_or_default();
        let directories = self.directories(path);
        for finding in self.findings {
            let is_here = |directory: PathBuf| directories.contains(&directory);
            let matters = finding.severity() > Severity::Notice
                && !matches!(finding.remedy, Remedy::Waits(_));
            if matters && finding.location.directory().is_some_and(is_here) {
                if !state.faults.contains(&finding.fault.name) {
                    state.faults.push(finding.fault.name);
                }
                state.severity = state.severity.max(Some(finding.severity()));
            }
        }
        state
    }

    /// The directories by which a finding can name this cgroup.
    fn directories(&self, path: &CgroupPath) -> Vec<PathBuf> {
        let points = self.host.mount_points();
        let mut directories: Vec<PathBuf> = points.iter().map(|point| path.under(point)).collect();
        directories.push(path.under(Path::new("/")));
        directories
    }

    fn on_tree(&self, tree: &Tree, group: &Group) -> State {
        let offered = tree.offered();
        let (path, needed) = (&group.path, layout::needed(&offered));
        let layout = self.layout;
        let mut state = State {
            exists: true,
            ..State::default()
        };
        let is_leaf = layout.qos.contains(path) || layout.reserved.contains(path);
        let enabled = if is_leaf {
            &group.controllers
        } else {
            &group.subtree_control
        };
        if *path != layout.strays {
            state.has = names(&needed.and(enabled));
            state.lacks = names(&needed.minus(enabled));
        }
        if path.is_root() {
            let absent = layout::desirable().minus(&offered);
            state.absent = names(&absent);
        }
        let remarks = &mut state.remarks;
        if !matches!(group.kind, Kind::Root | Kind::Domain) {
            remarks.push(group.kind.as_str().to_owned());
        }
        if group.frozen {
            remarks.push("frozen".to_owned());
        }
        let processes = group.processes.len();
        if processes > 0 && (layout.is_own(path) || *path == layout.strays) {
            remarks.push(count(processes, "stray process", "stray processes"));
        }
        remarks.extend(pods(&tree.pods, path));
        state
    }

    fn on_hierarchies(&self, v1: &Hierarchies, path: &CgroupPath) -> State {
        let has = |hierarchy: &&Hierarchy| path.is_root() || hierarchy.groups.contains_key(path);
        let (with, without): (Vec<&Hierarchy>, Vec<&Hierarchy>) = v1.mounted.iter().partition(has);
        let mut state = State {
            exists: !with.is_empty(),
            has: with.into_iter().map(Hierarchy::name).collect(),
            ..State::default()
        };
        if state.exists && self.layout.slices().is_empty() {
            state.lacks = without.into_iter().map(Hierarchy::name).collect();
        }
        if path.is_root() {
            let unmounted = v1.unmounted.iter();
            let unmounted = unmounted.map(|one| one.controllers.join(","));
            state.absent = unmounted.collect();
        }
        let mut groups = v1.mounted.iter().filter_map(|one| one.groups.get(path));
        if groups.any(|group| group.frozen) {
            state.remarks.push("frozen".to_owned());
        }
        state.remarks.extend(pods(&v1.pods, path));
        state
    }

    fn branch(&self, paths: &BTreeSet<CgroupPath>, path: &CgroupPath, glyphs: bool) -> Branch {
        let (fork, corner, trunk) = if glyphs {
            ("├─ ", "└─ ", "│  ")
        } else {
            ("|- ", "`- ", "|  ")
        };
        let is_last = |path: &CgroupPath| {
            let parent = path.parent();
            let mut siblings = paths.iter().filter(|other| other.parent() == parent);
            siblings.next_back() == Some(path)
        };
        let mut above = String::new();
        for path in path.ancestors().iter().skip(1) {
            above += if is_last(path) { "   " } else { trunk };
        }
        if path.is_root() {
            let tree = self.host.tree.as_ref();
            let mount = tree.map_or(Path::new(CGROUP_MOUNT), |tree| &tree.mount);
            return Branch {
                stem: String::new(),
                name: mount.display().to_string(),
                below: String::new(),
            };
        }
        let (joint, beside) = if is_last(path) {
            (corner, "   ")
        } else {
            (fork, trunk)
        };
        Branch {
            stem: format!("{above}{joint}"),
            name: path.name().display().to_string(),
            below: format!("{above}{beside}"),
        }
    }
}

fn names(controllers: &Controllers) -> Vec<String> {
    controllers.iter().map(str::to_owned).collect()
}

/// The number of pods whose cgroups are directly in this one.
fn pods(pods: &PodGroups, path: &CgroupPath) -> Option<String> {
    let is_here = |group: &&CgroupPath| group.parent().as_ref() == Some(path);
    let stale = pods
        .lifeless
        .iter()
        .map(|pod| &pod.group)
        .filter(is_here)
        .count();
    let all = stale + pods.living.iter().filter(is_here).count();
    if all == 0 {
        return None;
    }
    let mut words = count(all, "pod", "pods");
    if stale > 0 {
        words += &format!(" ({stale} stale)");
    }
    Some(words)
}
