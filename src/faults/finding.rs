//! A finding: one fault on this host, with its place, its impact on the kubelet, and its remedy.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::cgroup::{CgroupPath, Controllers};
use crate::faults::fault::{Fault, Nature};
use crate::kubelet::Origin;
use crate::repair::step::Step;

/// What a finding means for the kubelet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The kubelet fixes this itself, or nothing suffers.
    Notice,
    /// The kubelet starts, but pods suffer.
    Degraded,
    /// The kubelet does not start.
    Fatal,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Notice => "notice",
            Self::Degraded => "degraded",
            Self::Fatal => "fatal",
        })
    }
}

/// A severity and the sentence that explains it. They are chosen together, so that they cannot
/// contradict each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impact {
    severity: Severity,
    sentence: Cow<'static, str>,
}

impl Impact {
    fn new(severity: Severity, sentence: impl Into<Cow<'static, str>>) -> Self {
        let sentence = sentence.into();
        Self { severity, sentence }
    }

    /// The kubelet does not start; `sentence` says so, without a full stop.
    pub fn fatal(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Severity::Fatal, sentence)
    }

    /// The kubelet starts and pods suffer; `sentence` says from what, without a full stop.
    pub fn degraded(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Severity::Degraded, sentence)
    }

    /// The kubelet fixes this itself, or nothing suffers; `sentence` says which, without a full
    /// stop.
    pub fn notice(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Severity::Notice, sentence)
    }

    /// The severity that the sentence explains.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// The sentence that explains the severity, without a full stop.
    pub fn sentence(&self) -> &str {
        &self.sentence
    }
}

/// The place of a finding. Its kind is explicit, so that no later stage has to guess it from a
/// path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// The directory of a group below this mount point.
    Cgroup(PathBuf, CgroupPath),
    /// A file of a group below this mount point.
    CgroupFile(PathBuf, CgroupPath, &'static str),
    /// A cgroup in every hierarchy of cgroup v1.
    Everywhere(CgroupPath),
    /// A mount point.
    Mount(PathBuf),
    /// A file outside the cgroup tree: a state file, a configuration file, a unit file.
    File(PathBuf),
    /// A setting, by its origin.
    Setting(Origin),
}

impl Location {
    /// The directory of this cgroup, or of the cgroup that holds this file; `None` for anything
    /// else.
    pub fn directory(&self) -> Option<PathBuf> {
        match self {
            Self::Cgroup(mount, group) | Self::CgroupFile(mount, group, _) => {
                Some(group.under(mount))
            }
            Self::Everywhere(group) => Some(group.under(Path::new("/"))),
            Self::Mount(_) | Self::File(_) | Self::Setting(_) => None,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup(mount, group) => group.under(mount).display().fmt(f),
            Self::CgroupFile(mount, group, file) => group.under(mount).join(file).display().fmt(f),
            Self::Everywhere(group) => group.fmt(f),
            Self::Mount(path) | Self::File(path) => path.display().fmt(f),
            Self::Setting(origin) => origin.fmt(f),
        }
    }
}

/// What is done about a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// kubepods-repair takes these steps.
    Steps(Vec<Step>),
    /// The administrator has to act.
    Tell(Advice),
    /// kubepods-repair takes steps once this other fault is fixed.
    Waits(&'static Fault),
}

/// What the administrator has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// A few sentences, without the last full stop. The commands, if any, follow them.
    pub words: String,
    /// Commands that can be pasted into a root shell, one per line.
    pub commands: Vec<String>,
}

impl Advice {
    pub(super) fn new<C: Into<String>>(
        words: impl Into<String>,
        commands: impl IntoIterator<Item = C>,
    ) -> Self {
        Self {
            words: words.into(),
            commands: commands.into_iter().map(Into::into).collect(),
        }
    }
}

/// Advice without a command.
impl<T: Into<String>> From<T> for Advice {
    fn from(words: T) -> Self {
        Self {
            words: words.into(),
            commands: Vec::new(),
        }
    }
}

impl Remedy {
    /// A single step of this program.
    pub fn step(step: Step) -> Self {
        Self::Steps(vec![step])
    }

    /// What the administrator has to do: an [`Advice`], or only its words where no command does it,
    /// without the last full stop.
    pub fn tell(advice: impl Into<Advice>) -> Self {
        Self::Tell(advice.into())
    }

    /// What the administrator has to do, without the last full stop, and the commands that do it,
    /// line by line.
    pub fn run<C: Into<String>>(
        words: impl Into<String>,
        commands: impl IntoIterator<Item = C>,
    ) -> Self {
        Self::Tell(Advice::new(words, commands))
    }
}

/// One fault on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The kind of fault.
    pub fault: &'static Fault,
    /// What it means for the kubelet, and why.
    pub impact: Impact,
    /// Where it is.
    pub location: Location,
    /// What is wrong there: one or more sentences without the last full stop.
    pub evidence: String,
    /// What kubepods-repair does about it, or what the administrator has to do.
    pub remedy: Remedy,
    /// The controllers it is about, if it is about any.
    pub controllers: Controllers,
    /// The error of the kernel, if that is the evidence.
    pub errno: Option<Errno>,
}

impl Fault {
    /// A finding of this fault.
    pub(super) fn finding(
        &'static self,
        impact: Impact,
        location: Location,
        evidence: impl Into<String>,
        remedy: Remedy,
    ) -> Finding {
        Finding {
            fault: self,
            impact,
            location,
            evidence: evidence.into(),
            remedy,
            controllers: Controllers::default(),
            errno: None,
        }
    }
}

impl Finding {
    /// The same, about these controllers.
    #[must_use]
    pub(super) fn about(mut self, controllers: Controllers) -> Self {
        self.controllers = controllers;
        self
    }

    /// What it means for the kubelet.
    pub fn severity(&self) -> Severity {
        self.impact.severity
    }

    /// Whether it prevents the kubelet from starting.
    pub fn is_fatal(&self) -> bool {
        self.severity() == Severity::Fatal
    }

    /// The order of findings: the worst first, and those that wait for another fix last.
    pub fn rank(&self) -> (Reverse<Severity>, bool) {
        let waits = matches!(self.remedy, Remedy::Waits(_));
        (Reverse(self.severity()), waits)
    }

    /// Whether it prevents the kubelet from starting and only the administrator can fix it.
    pub fn is_beyond_repair(&self) -> bool {
        self.is_fatal() && matches!(self.remedy, Remedy::Tell(_))
    }

    /// The steps that fix it; none if kubepods-repair cannot fix it, or not now.
    pub fn steps(&self) -> &[Step] {
        match &self.remedy {
            Remedy::Steps(steps) => steps,
            Remedy::Tell(_) | Remedy::Waits(_) => &[],
        }
    }

    /// The commands with which the administrator fixes it, if there are any.
    pub fn commands(&self) -> &[String] {
        match &self.remedy {
            Remedy::Tell(advice) => &advice.commands,
            Remedy::Steps(_) | Remedy::Waits(_) => &[],
        }
    }

    /// Whether its steps add to the tree.
    pub fn builds(&self) -> bool {
        self.steps().iter().any(Step::builds)
    }

    /// Whether both are the same fault at the same place.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.fault == other.fault && self.location == other.location
    }
}

/// While a fault that only the administrator can fix keeps the kubelet from starting, nothing is
/// built: a half-made tree would hide the reason. Steps that only remove something (strays, limits,
/// stale groups, a frozen state) are still taken.
pub(super) fn hold_back(findings: &mut [Finding]) {
    let Some(blocker) = findings.iter().find(|finding| finding.is_beyond_repair()) else {
        return;
    };
    let blocker = blocker.fault;
    for finding in findings.iter_mut().filter(|finding| finding.builds()) {
        finding.remedy = Remedy::Waits(blocker);
        if finding.fault.nature == Nature::HealedByKubelet && !finding.is_fatal() {
            let name = blocker.name;
            let sentence = format!("The kubelet repairs this itself once {name} is fixed");
            finding.impact = Impact::notice(sentence);
        }
    }
}

/// `word` as one word of a shell: in quotes where the shell would change it. Whatever was read on
/// the host goes through this before it becomes part of a command.
pub(super) fn shell_word(word: impl Display) -> String {
    let word = word.to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// `cpuset controller`, `controllers cpu and cpuset`, `controllers cpu, cpuset and memory`.
pub(super) fn name_controllers(controllers: &Controllers) -> String {
    let names: Vec<&str> = controllers.iter().collect();
    match names.as_slice() {
        [] => "controllers".to_owned(),
        [only] => format!("{only} controller"),
        names => format!("controllers {}", joined(names)),
    }
}

/// `1`, `1 and 2`, `1, 2 and 3`.
pub(crate) fn joined(words: &[impl AsRef<str>]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match words.as_slice() {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}

/// `1 process`, `2 processes`.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    let noun = if number == 1 { one } else { many };
    format!("{number} {noun}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_shell() {
        for (word, expected) in [
            ("/sys/fs/cgroup/kubepods", "/sys/fs/cgroup/kubepods"),
            (r"a\x2db.service", r"'a\x2db.service'"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(word), expected);
        }
    }

    #[test]
    fn names_of_controllers() {
        for (names, expected) in [
            ("cpuset", "cpuset controller"),
            ("cpu cpuset", "controllers cpu and cpuset"),
            ("cpu cpuset pids", "controllers cpu, cpuset and pids"),
        ] {
            assert_eq!(name_controllers(&Controllers::parse(names)), expected);
        }
    }
}
