//! Which kernel runs, how it was started, and what it was built with.

use std::io::{Read, Write};
use std::path::Path;

use crate::root::keep::{BLANK, blank_word, text};
use crate::root::{ReadError, Root};

/// The number of bytes up to which a configuration is unpacked. A real one has some 300 KB; a gzip
/// bomb has more.
const LARGEST_CONFIG: u64 = 8 << 20;

/// What is known of the running kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// `/proc/cmdline`.
    pub command_line: String,
}

/// The running kernel. What cannot be read stays empty.
pub fn observe(root: &Root) -> Kernel {
    let keep = text(keep_command_line);
    let command_line = root.keeping(&keep).read_value(Path::new("/proc/cmdline"));
    Kernel {
        release: value(root, "/proc/sys/kernel/osrelease"),
        command_line: line(command_line),
    }
}

/// The parameters of a command line that affect cgroups.
const WORDS: [&str; 8] = [
    "cgroup_disable",
    "cgroup_enable",
    "cgroup_memory",
    "cgroup_no_v1",
    "rt_group_sched",
    "systemd.legacy_systemd_cgroup_controller",
    "systemd.unified_cgroup_hierarchy",
    "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE",
];

/// A word of a command line as a capture keeps it: a parameter in [`WORDS`] is kept whole, of any
/// other only the name. `--` ends the kernel's own parameters.
pub(super) fn keep_word(word: &str) -> String {
    let name = word.split('=').next().unwrap_or_default();
    if WORDS.contains(&name) || word == "--" {
        word.to_owned()
    } else {
        blank_word(word)
    }
}

/// What a capture keeps of a command line. Words between quotes are parts of values, not names.
fn keep_command_line(line: &str) -> String {
    let mut is_quoted = false;
    let mut kept = String::with_capacity(line.len());
    for piece in line.split_inclusive(|c: char| c.is_whitespace() || c == '"') {
        let word = piece.trim_end_matches(|c: char| c.is_whitespace() || c == '"');
        let kept_word = keep_word(word);
        if !word.is_empty() {
            let is_part = is_quoted && kept_word != word;
            kept.push_str(if is_part { BLANK } else { &kept_word });
        }
        kept.push_str(piece.strip_prefix(word).unwrap_or_default());
        is_quoted ^= piece.ends_with('"');
    }
    kept
}

/// The content of a one-line file in procfs; empty if it cannot be read.
pub(super) fn value(root: &Root, path: &str) -> String {
    line(root.read_value(Path::new(path)))
}

fn line(answer: Result<Option<String>, ReadError>) -> String {
    let text = answer.ok().flatten().unwrap_or_default();
    text.trim_end().to_owned()
}

impl Kernel {
    /// Whether its release is `major.minor` or later; false if that is unknown.
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        let mut parts = self.release.split(['.', '-']);
        let mut number = || parts.next()?.parse::<u32>().ok();
        let release = number().zip(number());
        release.is_some_and(|release| release >= (major, minor))
    }

    /// The controllers that the command line disables (`cgroup_disable=`), each with the parameter
    /// that does so.
    pub fn disabled_controllers(&self) -> Vec<(&str, &str)> {
        let mut disabled = Vec::new();
        for word in self.command_line.split_whitespace() {
            if let Some(list) = word.strip_prefix("cgroup_disable=") {
                disabled.extend(list.split(',').map(|controller| (controller, word)));
            }
        }
        disabled
    }

    /// The parameter of the command line that keeps a controller out of version 1
    /// (`cgroup_no_v1=`). It calls a hierarchy with a name but no controller `named`.
    pub fn barred_from_v1(&self, controller: &str) -> Option<&str> {
        let is_named = controller.starts_with("name=");
        let all = if is_named { "named" } else { "all" };
        let is_meant = |name: &str| name == all || name == controller;
        let mut words = self.command_line.split_whitespace();
        words.find(|word| {
            let list = word.strip_prefix("cgroup_no_v1=");
            list.unwrap_or_default().split(',').any(is_meant)
        })
    }

    /// Whether real-time tasks block the cpu controller: CONFIG_RT_GROUP_SCHED, unless it is
    /// disabled for this boot. `None` if unknown.
    ///
    /// From 6.16 on (`kernel/sched/core.c`, `setup_rt_group_sched`) `rt_group_sched=` on the
    /// command line decides, and without it CONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED.
    pub fn has_rt_group_sched(&self, root: &Root) -> Option<bool> {
        let can_be_switched = self.is_at_least(6, 16);
        let switch = self.rt_group_sched_switch().filter(|_| can_be_switched);
        if switch == Some(false) {
            return switch;
        }
        let configuration = self.configuration(root)?;
        let is_off = is_set(&configuration, "CONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED");
        let is_on = switch.unwrap_or(!(can_be_switched && is_off));
        Some(is_on && is_set(&configuration, "CONFIG_RT_GROUP_SCHED"))
    }

    /// `rt_group_sched=`: the last value that the kernel understands. Words after `--` are for init
    /// and do not count.
    fn rt_group_sched_switch(&self) -> Option<bool> {
        let words = self.command_line.split_whitespace();
        let own = words.take_while(|word| *word != "--");
        let value = |word: &str| small_number(word.strip_prefix("rt_group_sched=")?);
        own.filter_map(value).last().map(|value| value == 1)
    }

    /// Whether it was built with this option; `None` if its configuration cannot be read.
    pub fn has(&self, root: &Root, option: &str) -> Option<bool> {
        Some(is_set(&self.configuration(root)?, option))
    }

    /// The controllers that it was built without on version 1. From 6.12 on that is possible, and
    /// `/proc/cgroups` may still list them. [`V1_OPTIONS`] has the options.
    pub fn not_built_for_v1(&self, root: &Root) -> Vec<&'static str> {
        let configuration = self.configuration(root).unwrap_or_default();
        let is_left_out = |option: &str| {
            let unset = format!("# {option} is not set");
            configuration.lines().any(|line| line == unset)
        };
        let mut options = V1_OPTIONS.to_vec();
        options.retain(|(_, option)| is_left_out(option));
        options.into_iter().map(|(name, _)| name).collect()
    }

    /// Its build configuration, one option per line.
    fn configuration(&self, root: &Root) -> Option<String> {
        // The second is Debian's from 14 on.
        let files = [
            format!("/boot/config-{}", self.release),
            format!("/usr/lib/modules/{}/config", self.release),
        ];
        let keep = text(keep_options);
        let read = |file: &String| root.keeping(&keep).read(Path::new(file)).ok();
        packed_config(root).or_else(|| files.iter().find_map(read))
    }
}

fn is_set(configuration: &str, option: &str) -> bool {
    let mut lines = configuration.lines();
    lines.any(|line| line.strip_prefix(option) == Some("=y"))
}

/// Reads 0 or 1 as the kernel's `kstrtol` does, in any base that it knows; `None` for anything
/// else.
fn small_number(text: &str) -> Option<u8> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let hexadecimal = text.strip_prefix("0x").or(text.strip_prefix("0X"));
    let digits = hexadecimal.unwrap_or(text);
    match digits.trim_start_matches('0') {
        "1" => Some(1),
        "" if !digits.is_empty() => Some(0),
        _ => None,
    }
}

fn packed_config(root: &Root) -> Option<String> {
    let path = Path::new("/proc/config.gz");
    unpacked(&root.keeping(&keep_packed).read_bytes(path).ok()?)
}

fn unpacked(packed: &[u8]) -> Option<String> {
    let mut config = String::new();
    let mut unpacked = flate2::read::GzDecoder::new(packed).take(LARGEST_CONFIG);
    unpacked.read_to_string(&mut config).ok()?;
    Some(config)
}

/// What a capture keeps of a configuration: which options are built and which are not. Texts and
/// numbers may reveal something about who built it.
fn keep_options(configuration: &str) -> String {
    let options = configuration.lines().filter(|line| is_option(line));
    options.flat_map(|line| [line, "\n"]).collect()
}

/// `CONFIG_X=y`, `CONFIG_X=m` or `# CONFIG_X is not set`.
fn is_option(line: &str) -> bool {
    let name = match line.strip_prefix("# ") {
        Some(comment) => comment.strip_suffix(" is not set"),
        None => line.strip_suffix("=y").or(line.strip_suffix("=m")),
    };
    let name = name.and_then(|name| name.strip_prefix("CONFIG_"));
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.is_some_and(|name| name.bytes().all(is_allowed))
}

/// The same for a gzipped configuration. One that cannot be unpacked is not kept.
fn keep_packed(packed: &[u8]) -> Vec<u8> {
    let Some(configuration) = unpacked(packed) else {
        return Vec::new();
    };
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let written = encoder.write_all(keep_options(&configuration).as_bytes());
    written.and_then(|()| encoder.finish()).unwrap_or_default()
}

/// What the kernel says about its controllers, beyond the list in the cgroup tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// `/proc/cgroups`. From 6.12 on some kernels do not list a controller there if they were built
    /// without its version 1 part.
    pub subsystems: Vec<Subsystem>,
    /// Those options in [`CONTROLLER_OPTIONS`] that this kernel was built without; `None` if its
    /// configuration cannot be read.
    pub not_built: Option<Vec<&'static str>>,
}

/// A line of `/proc/cgroups`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subsystem {
    /// The controller's name on version 1.
    pub name: String,
    /// The number of the version 1 hierarchy that has it; 0 for version 2.
    pub hierarchy: u32,
    /// Whether it is enabled in this boot.
    pub enabled: bool,
}

/// Controllers, and the options that build them.
pub const CONTROLLER_OPTIONS: [(&str, &str); 4] = [
    ("cpu", "CONFIG_CGROUP_SCHED"),
    ("cpuset", "CONFIG_CPUSETS"),
    ("memory", "CONFIG_MEMCG"),
    ("pids", "CONFIG_CGROUP_PIDS"),
];

/// Controllers whose version 1 part a kernel may lack, and the option that builds that part.
pub const V1_OPTIONS: [(&str, &str); 2] = [
    ("cpuset", "CONFIG_CPUSETS_V1"),
    ("memory", "CONFIG_MEMCG_V1"),
];

/// Looks for the reasons why a controller may be missing.
pub fn offer(root: &Root, kernel: &Kernel) -> Offer {
    let missing = |configuration: String| {
        let mut options = CONTROLLER_OPTIONS.map(|(_, option)| option).to_vec();
        options.retain(|option| !is_set(&configuration, option));
        options
    };
    Offer {
        subsystems: subsystems(root).unwrap_or_default(),
        not_built: kernel.configuration(root).map(missing),
    }
}

/// The lines of `/proc/cgroups`.
///
/// # Errors
/// When it cannot be read.
pub fn subsystems(root: &Root) -> Result<Vec<Subsystem>, ReadError> {
    let text = root.read(Path::new("/proc/cgroups"))?;
    Ok(text.lines().filter_map(parse_subsystem).collect())
}

/// Reads a line `name hierarchy groups enabled`; `None` for the headings, which are no numbers.
fn parse_subsystem(line: &str) -> Option<Subsystem> {
    let mut fields = line.split_whitespace();
    let (name, hierarchy, enabled) = (fields.next()?, fields.next()?, fields.nth(1)?);
    Some(Subsystem {
        name: name.to_owned(),
        hierarchy: hierarchy.parse().ok()?,
        enabled: enabled == "1",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_time_tasks_block_nothing_if_group_scheduling_is_disabled_for_this_boot() {
        let built = "CONFIG_RT_GROUP_SCHED=y\n";
        let built_off = "CONFIG_RT_GROUP_SCHED=y\nCONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED=y\n";
        let table: &[(&str, &str, &str, Option<bool>)] = &[
            ("6.17.3", built, "quiet", Some(true)),
            ("6.17.3", built, "rt_group_sched=0", Some(false)),
            (
                "6.17.3",
                built,
                "rt_group_sched=0 rt_group_sched=1",
                Some(true),
            ),
            (
                "6.17.3",
                built,
                "rt_group_sched=1 rt_group_sched=0",
                Some(false),
            ),
            (
                "6.17.3",
                built,
                "rt_group_sched=0 rt_group_sched=no",
                Some(false),
            ),
            ("6.17.3", built, "rt_group_sched=2", Some(true)),
            ("6.17.3", built, "rt_group_sched=0x0", Some(false)),
            ("6.17.3", built, "-- rt_group_sched=0", Some(true)),
            ("6.16.0", built, "rt_group_sched=0", Some(false)),
            ("6.15.9", built, "rt_group_sched=0", Some(true)),
            ("6.17.3", built_off, "quiet", Some(false)),
            ("6.17.3", built_off, "rt_group_sched=1", Some(true)),
            (
                "6.17.3",
                "CONFIG_CGROUPS=y\n",
                "rt_group_sched=1",
                Some(false),
            ),
        ];
        for (release, configuration, command_line, expected) in table {
            let folder =
                std::env::temp_dir().join(format!("kubepods-repair-kernel-{}", std::process::id()));
            std::fs::create_dir_all(folder.join("boot")).unwrap();
            std::fs::write(folder.join(format!("boot/config-{release}")), configuration).unwrap();
            let kernel = Kernel {
                release: (*release).to_owned(),
                command_line: (*command_line).to_owned(),
            };
            let answer = kernel.has_rt_group_sched(&Root::captured(&folder).unwrap());
            std::fs::remove_dir_all(&folder).unwrap();
            assert_eq!(
                answer, *expected,
                "{release}: {configuration:?} {command_line}"
            );
        }
    }

    #[test]
    fn the_configuration_may_be_with_the_modules() {
        let name = format!("kubepods-repair-modules-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let modules = folder.join("usr/lib/modules/7.2.13");
        std::fs::create_dir_all(&modules).unwrap();
        std::fs::write(modules.join("config"), "CONFIG_CGROUPS=y\n").unwrap();
        let kernel = Kernel {
            release: "7.2.13".into(),
            command_line: String::new(),
        };
        let answer = kernel.has_rt_group_sched(&Root::captured(&folder).unwrap());
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(answer, Some(false));
    }

    #[test]
    fn without_a_configuration_only_the_command_line_can_decide() {
        let nowhere = Root::captured(&std::env::temp_dir()).unwrap();
        let kernel = |command_line: &str| Kernel {
            release: "6.17.3-x".into(),
            command_line: command_line.into(),
        };
        assert_eq!(
            kernel("rt_group_sched=1").has_rt_group_sched(&nowhere),
            None
        );
        assert_eq!(
            kernel("rt_group_sched=0").has_rt_group_sched(&nowhere),
            Some(false)
        );
    }

    #[test]
    fn a_capture_keeps_only_the_parameters_about_cgroups() {
        for (line, kept) in [
            (
                "root=S ro cgroup_disable=memory S\n",
                "root=BLANKED BLANKED cgroup_disable=memory BLANKED\n",
            ),
            (
                "a=\"b S=c d\" x=S cgroup_no_v1=all",
                "a=\"BLANKED BLANKED BLANKED\" x=BLANKED cgroup_no_v1=all",
            ),
            (
                "\"cgroup_disable=cpu\" -- S",
                "\"cgroup_disable=cpu\" -- BLANKED",
            ),
        ] {
            assert_eq!(keep_command_line(line), kept);
            assert_eq!(keep_command_line(kept), kept);
        }
    }

    #[test]
    fn a_capture_keeps_the_options_of_a_configuration() {
        let text = "# S\nCONFIG_MEMCG=y\n# CONFIG_CPUSETS is not \
                    set\nCONFIG_CMDLINE=\"S\"\nCONFIG_HZ=250\nCONFIG_A=m\n";
        let kept = "CONFIG_MEMCG=y\n# CONFIG_CPUSETS is not set\nCONFIG_A=m\n";
        assert_eq!(keep_options(text), kept);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        assert_eq!(
            unpacked(&keep_packed(&encoder.finish().unwrap())).as_deref(),
            Some(kept)
        );
        assert!(keep_packed(b"S").is_empty());
    }
}
