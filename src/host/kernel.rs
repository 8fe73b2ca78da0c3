//! Which kernel runs, how it was started, and what it was built with.

use std::io::{Read, Write};
use std::path::Path;

use crate::root::keep::{BLANK, blank_word, text};
use crate::root::{ReadError, Root};

/// A built configuration is some 300 KB; a gzip bomb is not unpacked further than this.
const LARGEST_CONFIG: u64 = 8 << 20;

/// What is known of the running kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// `/proc/cmdline`.
    pub command_line: String,
}

/// The running kernel; what cannot be read stays empty, nothing is decided by it.
pub fn observe(root: &Root) -> Kernel {
    let command_line = root
        .keeping(&text(keep_command_line))
        .read_value(Path::new("/proc/cmdline"));
    Kernel {
        release: value(root, "/proc/sys/kernel/osrelease"),
        command_line: command_line
            .ok()
            .flatten()
            .unwrap_or_default()
            .trim_end()
            .to_owned(),
    }
}

/// The words of a command line that matter to cgroups.
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

/// A word of a command line as a capture keeps it: one of [`WORDS`] whole, of another the name.
/// `--` ends the kernel's own.
pub(super) fn keep_word(word: &str) -> String {
    let name = word.split('=').next().unwrap_or_default();
    if WORDS.contains(&name) || word == "--" {
        word.to_owned()
    } else {
        blank_word(word)
    }
}

/// What a capture keeps of a command line. Between quotes there are no names, but parts of values.
fn keep_command_line(line: &str) -> String {
    let mut is_quoted = false;
    let mut kept = String::with_capacity(line.len());
    for piece in line.split_inclusive(|c: char| c.is_whitespace() || c == '"') {
        let word = piece.trim_end_matches(|c: char| c.is_whitespace() || c == '"');
        let kept_word = keep_word(word);
        kept.push_str(match kept_word.as_str() {
            _ if word.is_empty() => "",
            other if is_quoted && other != word => BLANK,
            other => other,
        });
        kept.push_str(piece.strip_prefix(word).unwrap_or_default());
        is_quoted ^= piece.ends_with('"');
    }
    kept
}

/// What a file of procfs says in one line; empty where it cannot be read.
pub(super) fn value(root: &Root, path: &str) -> String {
    root.read_value(Path::new(path))
        .ok()
        .flatten()
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}

impl Kernel {
    /// Whether its release is `major.minor` or a later one; false where it cannot be told.
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        let mut numbers = self
            .release
            .split(['.', '-'])
            .map_while(|part| part.parse().ok());
        match (numbers.next(), numbers.next()) {
            (Some(one), Some(two)) => (one, two) >= (major, minor),
            _ => false,
        }
    }

    /// The controllers that the command line switches off (`cgroup_disable=`), with the word that
    /// does it.
    pub fn disabled_controllers(&self) -> Vec<(&str, &str)> {
        let words = self.command_line.split_whitespace();
        let lists = words.filter_map(|word| Some((word, word.strip_prefix("cgroup_disable=")?)));
        lists
            .flat_map(|(word, list)| list.split(',').map(move |controller| (controller, word)))
            .collect()
    }

    /// The word of the command line that keeps a controller from version 1 (`cgroup_no_v1=`); a
    /// hierarchy with a name and no controller is `named`.
    pub fn barred_from_v1(&self, controller: &str) -> Option<&str> {
        let all = if controller.starts_with("name=") {
            "named"
        } else {
            "all"
        };
        self.command_line.split_whitespace().find(|word| {
            let list = word.strip_prefix("cgroup_no_v1=").unwrap_or_default();
            list.split(',')
                .any(|name| name == all || name == controller)
        })
    }

    /// Whether real-time tasks block the cpu controller: CONFIG_RT_GROUP_SCHED, unless it is
    /// switched off for this boot. `None` where that is not known.
    ///
    /// From 6.16 on (`kernel/sched/core.c`, `setup_rt_group_sched`) `rt_group_sched=` on the
    /// command line decides, and without it CONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED.
    pub fn has_rt_group_sched(&self, root: &Root) -> Option<bool> {
        let can_be_switched = self.is_at_least(6, 16);
        let switch = if can_be_switched {
            self.rt_group_sched_switch()
        } else {
            None
        };
        if switch == Some(false) {
            return switch;
        }
        let configuration = self.configuration(root)?;
        let is_on_by_default = !is_set(&configuration, "CONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED");
        let is_on = switch.unwrap_or(!can_be_switched || is_on_by_default);
        Some(is_on && is_set(&configuration, "CONFIG_RT_GROUP_SCHED"))
    }

    /// `rt_group_sched=`: the last value that the kernel understands, up to the `--` behind which
    /// words are for init.
    fn rt_group_sched_switch(&self) -> Option<bool> {
        let words = self
            .command_line
            .split_whitespace()
            .take_while(|word| *word != "--");
        let values = words.filter_map(|word| word.strip_prefix("rt_group_sched="));
        values
            .filter_map(|value| Some(small_number(value)? == 1))
            .last()
    }

    /// Whether it was built with this option; `None` where its configuration is not to be had.
    pub fn has(&self, root: &Root, option: &str) -> Option<bool> {
        Some(is_set(&self.configuration(root)?, option))
    }

    /// The controllers that it was built without for version 1; from 6.12 on that is a choice, and
    /// `/proc/cgroups` may list them all the same. Those with their options are [`V1_OPTIONS`].
    pub fn not_built_for_v1(&self, root: &Root) -> Vec<&'static str> {
        let configuration = self.configuration(root).unwrap_or_default();
        let is_left_out = |option: &str| {
            configuration
                .lines()
                .any(|line| line == format!("# {option} is not set"))
        };
        V1_OPTIONS
            .into_iter()
            .filter(|(_, option)| is_left_out(option))
            .map(|(name, _)| name)
            .collect()
    }

    /// What it was built with, a line an option.
    fn configuration(&self, root: &Root) -> Option<String> {
        packed_config(root).or_else(|| {
            let beside_the_kernel = format!("/boot/config-{}", self.release);
            root.keeping(&text(keep_options))
                .read(Path::new(&beside_the_kernel))
                .ok()
        })
    }
}

fn is_set(configuration: &str, option: &str) -> bool {
    configuration
        .lines()
        .any(|line| line.strip_prefix(option) == Some("=y"))
}

/// 0 or 1 as the kernel's `kstrtol` reads it, in any base that it knows; nothing else is accepted
/// here.
fn small_number(text: &str) -> Option<u8> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let digits = digits
        .strip_prefix("0x")
        .or(digits.strip_prefix("0X"))
        .unwrap_or(digits);
    match digits.trim_start_matches('0') {
        "1" => Some(1),
        "" if !digits.is_empty() => Some(0),
        _ => None,
    }
}

fn packed_config(root: &Root) -> Option<String> {
    unpacked(
        &root
            .keeping(&keep_packed)
            .read_bytes(Path::new("/proc/config.gz"))
            .ok()?,
    )
}

fn unpacked(packed: &[u8]) -> Option<String> {
    let mut config = String::new();
    flate2::read::GzDecoder::new(packed)
        .take(LARGEST_CONFIG)
        .read_to_string(&mut config)
        .ok()?;
    Some(config)
}

/// What a capture keeps of a configuration: what is built and what is not. Texts and numbers are
/// whoever built it's own.
fn keep_options(configuration: &str) -> String {
    let is_option = |line: &&str| {
        let set = line.strip_suffix("=y").or_else(|| line.strip_suffix("=m"));
        let unset = line
            .strip_prefix("# ")
            .and_then(|line| line.strip_suffix(" is not set"));
        let name = set.or(unset).and_then(|name| name.strip_prefix("CONFIG_"));
        name.is_some_and(|name| {
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        })
    };
    configuration
        .lines()
        .filter(is_option)
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// The same of a packed one. What cannot be unpacked says nothing.
fn keep_packed(packed: &[u8]) -> Vec<u8> {
    let Some(configuration) = unpacked(packed) else {
        return Vec::new();
    };
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let written = encoder.write_all(keep_options(&configuration).as_bytes());
    written.and_then(|()| encoder.finish()).unwrap_or_default()
}

/// What the kernel says of its controllers, beyond the list that the cgroup tree offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// `/proc/cgroups`, which some kernels from 6.12 on leave without what was built without its
    /// version 1 half.
    pub subsystems: Vec<Subsystem>,
    /// The options that the controllers of [`CONTROLLER_OPTIONS`] need and this kernel was built
    /// without; `None` where its configuration is not to be had.
    pub not_built: Option<Vec<&'static str>>,
}

/// A line of `/proc/cgroups`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subsystem {
    /// The controller.
    pub name: String,
    /// The version 1 hierarchy that it is bound to; 0 is that of version 2.
    pub hierarchy: u32,
    /// Whether it is switched on in this boot.
    pub enabled: bool,
}

/// Controllers and what a kernel has them by.
pub const CONTROLLER_OPTIONS: [(&str, &str); 4] = [
    ("cpu", "CONFIG_CGROUP_SCHED"),
    ("cpuset", "CONFIG_CPUSETS"),
    ("memory", "CONFIG_MEMCG"),
    ("pids", "CONFIG_CGROUP_PIDS"),
];

/// Controllers whose version 1 half a kernel may lack, and the option of that half.
pub const V1_OPTIONS: [(&str, &str); 2] = [
    ("cpuset", "CONFIG_CPUSETS_V1"),
    ("memory", "CONFIG_MEMCG_V1"),
];

/// Looks for why a controller may be missing.
pub fn offer(root: &Root, kernel: &Kernel) -> Offer {
    let missing = |configuration: String| {
        CONTROLLER_OPTIONS
            .into_iter()
            .map(|(_, option)| option)
            .filter(|option| !is_set(&configuration, option))
            .collect()
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
    Ok(root
        .read(Path::new("/proc/cgroups"))?
        .lines()
        .filter_map(parse_subsystem)
        .collect())
}

/// `name hierarchy groups enabled`; the line of titles has no numbers.
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
    fn real_time_tasks_block_nothing_where_group_scheduling_is_off_for_this_boot() {
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
    fn an_unknown_configuration_is_no_answer_unless_the_command_line_gives_one() {
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
    fn a_capture_keeps_the_words_that_matter() {
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
    fn of_a_configuration_a_capture_keeps_what_is_built() {
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
