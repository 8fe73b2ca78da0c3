//! Reads one cgroup of the version 2 hierarchy.
//!
//! Which files a group has depends on the kernel and on the controllers that its parent enables. If
//! a file is missing, the value is used by which the kernel acts without it. See
//! `Documentation/admin-guide/cgroup-v2.rst`, "Core Interface Files".

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use nix::errno::Errno;

use crate::cgroup::{CgroupPath, Controllers};
use crate::host::{kernel, partitions};
use crate::kubelet::layout::Layout;
use crate::root::keep::all;
use crate::root::{ReadError, Root};

/// How much of a group is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Not the kubelet's own: controllers, type, processes and structural limits.
    Foreign,
    /// kubepods itself: also its freezer and the settings that the kubelet never resets on it.
    Kubepods,
    /// A QoS group: also the limits that the kubelet resets only on kubepods.
    Qos,
}

/// `cgroup.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The real root of the hierarchy, which has no such file.
    Root,
    /// An ordinary group.
    Domain,
    /// The root of a threaded subtree.
    DomainThreaded,
    /// Below a threaded domain but not threaded itself: it cannot hold a process.
    DomainInvalid,
    /// A threaded group; it can never become a domain again.
    Threaded,
}

impl Kind {
    /// The content of `cgroup.type`; `root` for the root.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Domain => "domain",
            Self::DomainThreaded => "domain threaded",
            Self::DomainInvalid => "domain invalid",
            Self::Threaded => "threaded",
        }
    }
}

/// A process, by its id and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its id; 0 for a process of another PID namespace.
    pub pid: i32,
    /// `/proc/PID/comm`; empty when the process ended meanwhile.
    pub comm: String,
}

impl Process {
    /// Looks up its name.
    pub(super) fn named(root: &Root, pid: i32) -> Self {
        let comm = kernel::value(root, &format!("/proc/{pid}/comm"));
        Self { pid, comm }
    }
}

/// A resource setting that is not the kernel's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// `cpu.max`, `pids.max` …
    pub file: &'static str,
    /// Its content without the newline.
    pub value: String,
}

/// A memory limit, and what determines whether there is room for a new group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// `memory.max`, in bytes.
    pub limit: u64,
    /// `memory.current`, in bytes.
    pub current: u64,
    /// The number of CPUs for which the kernel keeps counters in each group.
    pub cpus: usize,
}

/// What is known of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its place in the hierarchy.
    pub path: CgroupPath,
    /// `cgroup.type`.
    pub kind: Kind,
    /// `cgroup.controllers`: the controllers that this group has and can enable for its children.
    pub controllers: Controllers,
    /// `cgroup.subtree_control`: the controllers that it enables for its children.
    pub subtree_control: Controllers,
    /// The processes directly in it, the first [`MAX_NAMED`] with their names. Not read at the real
    /// root.
    pub processes: Vec<Process>,
    /// Whether it or a group below it holds a process.
    pub populated: bool,
    /// `cgroup.freeze` of this group itself, not of a group above it.
    pub frozen: bool,
    /// `cgroup.max.descendants`; `None` is `max`.
    pub max_descendants: Option<u64>,
    /// `cgroup.max.depth`; `None` is `max`.
    pub max_depth: Option<u64>,
    /// `nr_descendants` of `cgroup.stat`; only read if there is a limit on it.
    pub descendants: u64,
    /// `memory.max`, if it is a number; only read if a group has to be created below.
    pub memory: Option<MemoryLimit>,
    /// The settings that the kubelet never resets; only read in the kubelet's own groups.
    pub settings: Vec<Setting>,
    /// Whether it has the cpu controller but no `cpu.max` (no CONFIG_CFS_BANDWIDTH); only read in
    /// kubepods.
    pub lacks_cpu_max: bool,
    /// The names of the groups directly below; only read in the kubelet's own groups.
    pub children: Vec<OsString>,
    /// Those of the children that are threaded, so that this group is the root of a threaded
    /// subtree.
    pub threaded_children: Vec<OsString>,
}

/// The number of processes in a group whose names are looked up.
pub const MAX_NAMED: usize = 8;

/// A memory limit of at least this many bytes means no limit: version 1 rounds the largest number
/// down to whole pages.
pub const NO_MEMORY_LIMIT: u64 = 1 << 62;

/// The files that the kubelet never writes in its own groups.
const SETTINGS: [&str; 6] = [
    "cpu.max",
    "cpu.idle",
    "memory.high",
    "memory.swap.max",
    "cpuset.mems",
    "cpuset.cpus.partition",
];

/// The files that it writes only in kubepods.
const SETTINGS_OF_QOS: [&str; 3] = ["memory.max", "pids.max", "cpuset.cpus"];

/// The groups that the kubelet needs, those above them, and the group for strays. A group with
/// several roles gets the greatest depth that any of them needs.
pub fn to_look_at(layout: &Layout) -> BTreeMap<CgroupPath, Depth> {
    let mut foreign = vec![layout.strays.clone()];
    for expected in layout.reserved.iter().chain([&layout.kubepods]) {
        foreign.extend(expected.ancestors());
    }
    foreign.extend(layout.reserved.iter().cloned());
    let foreign = foreign.into_iter().map(|path| (path, Depth::Foreign));
    let mut wanted: BTreeMap<CgroupPath, Depth> = foreign.collect();
    wanted.insert(layout.kubepods.clone(), Depth::Kubepods);
    wanted.extend(layout.qos.iter().map(|path| (path.clone(), Depth::Qos)));
    wanted
}

/// Reads the group at `path`; `None` if it does not exist.
///
/// # Errors
/// When an existing file cannot be read.
pub fn observe(
    root: &Root,
    mount: &Path,
    path: &CgroupPath,
    depth: Depth,
) -> Result<Option<Group>, ReadError> {
    let dir = &path.under(mount);
    let files = Files { root, dir };
    let Some(controllers) = files.read("cgroup.controllers")? else {
        return Ok(None);
    };
    let kind = files.read("cgroup.type")?;
    let kind = kind.map_or(Kind::Root, |text| parse_kind(&text));
    let subtree_control = files.read("cgroup.subtree_control")?;
    let mut group = Group {
        path: path.clone(),
        kind,
        controllers: Controllers::parse(&controllers),
        subtree_control: Controllers::parse(&subtree_control.unwrap_or_default()),
        processes: Vec::new(),
        populated: true,
        frozen: false,
        max_descendants: files.number("cgroup.max.descendants")?,
        max_depth: files.number("cgroup.max.depth")?,
        descendants: 0,
        memory: None,
        settings: Vec::new(),
        lacks_cpu_max: false,
        children: Vec::new(),
        threaded_children: Vec::new(),
    };
    if group.max_descendants.is_some() {
        group.descendants = files.keyed("cgroup.stat", "nr_descendants")?.unwrap_or(0);
    }
    if kind != Kind::Root {
        files.events(&mut group)?;
        if group.populated {
            group.processes = files.processes(kind)?;
        }
    }
    if depth == Depth::Kubepods {
        group.lacks_cpu_max = files.lacks_cpu_max(&group.controllers)?;
    }
    if depth != Depth::Foreign {
        group.settings = files.settings(&SETTINGS)?;
        group.children = files.children(depth)?;
        if kind == Kind::DomainThreaded {
            group.threaded_children = files.threaded(&group.children)?;
        }
    }
    if depth == Depth::Qos {
        group.settings.extend(files.settings(&SETTINGS_OF_QOS)?);
    }
    Ok(Some(group))
}

/// The memory limit and usage of the group at `dir`, from the files of these names. `None` if there
/// is no limit.
///
/// # Errors
/// When one of the files, or the list of CPUs, cannot be read.
pub(super) fn memory_limit(
    root: &Root,
    dir: &Path,
    [limit, current]: [&str; 2],
) -> Result<Option<MemoryLimit>, ReadError> {
    let files = Files { root, dir };
    let limit = files.number(limit)?;
    let Some(limit) = limit.filter(|limit| *limit < NO_MEMORY_LIMIT) else {
        return Ok(None);
    };
    let cpus = partitions::possible_cpus(root)?.map_or(1, |cpus| cpus.count());
    let current = files.number(current)?.unwrap_or(0);
    Ok(Some(MemoryLimit {
        limit,
        current,
        cpus,
    }))
}

/// Whether the group at `path` or one below it holds a process; false if there is no such group.
///
/// # Errors
/// When its `cgroup.events` cannot be read.
pub fn populated(root: &Root, mount: &Path, path: &CgroupPath) -> Result<bool, ReadError> {
    let dir = &path.under(mount);
    let populated = Files { root, dir }.keyed("cgroup.events", "populated")?;
    Ok(populated.is_some_and(|number| number != 0))
}

/// The file that lists the processes or threads directly in a group. `cgroup.procs` cannot be read
/// in a threaded group (EOPNOTSUPP), and at the root of a threaded subtree it lists the processes
/// of the whole subtree. The id of any thread is enough to move the whole process.
pub fn members_file(kind: Kind) -> &'static str {
    match kind {
        Kind::Threaded | Kind::DomainThreaded => "cgroup.threads",
        Kind::Root | Kind::Domain | Kind::DomainInvalid => "cgroup.procs",
    }
}

struct Files<'a> {
    root: &'a Root,
    dir: &'a Path,
}

impl Files<'_> {
    fn read(&self, name: &str) -> Result<Option<String>, ReadError> {
        self.root.keeping(&all).read_value(&self.dir.join(name))
    }

    /// The number in a file; `None` if it holds a word such as `max`.
    fn number(&self, name: &str) -> Result<Option<u64>, ReadError> {
        let text = self.read(name)?.unwrap_or_default();
        Ok(text.trim_end().parse().ok())
    }

    /// The number after `key` in a file of `key value` lines.
    fn keyed(&self, name: &str, key: &str) -> Result<Option<u64>, ReadError> {
        let text = self.read(name)?.unwrap_or_default();
        Ok(value_of(&text, key))
    }

    /// Reads `cgroup.events`. An empty frozen group has `frozen 1`, but so has a group whose parent
    /// is frozen; `cgroup.freeze` shows which of them it is.
    fn events(&self, group: &mut Group) -> Result<(), ReadError> {
        let events = self.read("cgroup.events")?.unwrap_or_default();
        group.populated = value_of(&events, "populated") == Some(1);
        // A group with processes may have `frozen 0` while it is still being frozen.
        if value_of(&events, "frozen") == Some(1) || group.populated {
            group.frozen = self.number("cgroup.freeze")? == Some(1);
        }
        Ok(())
    }

    fn processes(&self, kind: Kind) -> Result<Vec<Process>, ReadError> {
        let path = self.dir.join(members_file(kind));
        let list = match self.root.keeping(&all).read_if_there(&path) {
            Err(error) if error.errno == Errno::EOPNOTSUPP => None,
            answer => answer?,
        };
        let mut processes = Vec::new();
        for line in list.unwrap_or_default().lines() {
            let Ok(pid) = line.parse() else { continue };
            let comm = String::new();
            let mut process = Process { pid, comm };
            if processes.len() < MAX_NAMED {
                process = Process::named(self.root, pid);
            }
            processes.push(process);
        }
        Ok(processes)
    }

    /// The names of the groups directly below. A QoS group need not be listed if the kernel counts
    /// no descendants; kubepods always has some.
    fn children(&self, depth: Depth) -> Result<Vec<OsString>, ReadError> {
        if depth == Depth::Qos && self.keyed("cgroup.stat", "nr_descendants")? == Some(0) {
            return Ok(Vec::new());
        }
        Ok(self.root.directories(self.dir)?.unwrap_or_default())
    }

    fn threaded(&self, names: &[OsString]) -> Result<Vec<OsString>, ReadError> {
        let mut threaded = Vec::new();
        for name in names {
            if kind(self.root, &self.dir.join(name))? == Kind::Threaded {
                threaded.push(name.clone());
            }
        }
        Ok(threaded)
    }

    /// Reads the controllers again, because systemd may have disabled cpu in between, which also
    /// removes the file.
    fn lacks_cpu_max(&self, controllers: &Controllers) -> Result<bool, ReadError> {
        if !controllers.contains("cpu") || self.root.exists(&self.dir.join("cpu.max"))? {
            return Ok(false);
        }
        let now = self.read("cgroup.controllers")?.unwrap_or_default();
        Ok(Controllers::parse(&now).contains("cpu"))
    }

    fn settings(&self, files: &[&'static str]) -> Result<Vec<Setting>, ReadError> {
        let mut found = Vec::new();
        for file in files {
            if let Some(value) = self.read(file)? {
                let value = value.trim_end().to_owned();
                found.push(Setting { file, value });
            }
        }
        Ok(found)
    }
}

fn value_of(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    value.trim_end().parse().ok()
}

/// Reads `cgroup.type`; a group that does not exist counts as an ordinary one.
///
/// # Errors
/// When it cannot be read.
pub fn kind(root: &Root, directory: &Path) -> Result<Kind, ReadError> {
    let text = root.read_value(&directory.join("cgroup.type"))?;
    Ok(text.map_or(Kind::Domain, |text| parse_kind(&text)))
}

fn parse_kind(text: &str) -> Kind {
    let others = [Kind::Threaded, Kind::DomainThreaded, Kind::DomainInvalid];
    let mut others = others.into_iter();
    let kind = others.find(|kind| kind.as_str() == text.trim_end());
    kind.unwrap_or(Kind::Domain)
}
