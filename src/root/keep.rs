//! Decides what a capture keeps of the files that are read: only what the program uses.
//!
//! A capture is sent to strangers, and a list of possible secrets is never complete. Therefore each
//! reader names what it needs, in a function beside its parser ([`Keep`]). If a reader does not,
//! the content is kept only if the file is one of the kernel's that never hold text of a user.

use std::path::Path;

use crate::root::Filling;

/// Returns what is kept of a file's content: everything that affects the report, in the same place.
pub type Keep<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;

/// The text that replaces text which is not kept.
pub const BLANK: &str = "BLANKED";

/// Keeps the whole content.
pub fn all(content: &[u8]) -> Vec<u8> {
    content.to_vec()
}

/// Keeps only the fact that the file exists.
fn nothing(_: &[u8]) -> Vec<u8> {
    Vec::new()
}

/// The default for readers that do not name what they need.
pub(super) fn usual(path: &Path) -> Keep<'static> {
    if is_kernels_own(path) { &all } else { &nothing }
}

/// Whether this is a file of `/proc` or `/sys` that holds only names and numbers of the kernel.
fn is_kernels_own(path: &Path) -> bool {
    let below = |folder: &str| path.starts_with(folder);
    if below("/sys/fs/cgroup") || below("/sys/devices/system") {
        return true;
    }
    if below("/sys/fs/ext4") {
        let names = ["errors_count", "first_error_func", "last_error_time"];
        return names.iter().any(|name| path.ends_with(name));
    }
    let Ok(inside) = path.strip_prefix("/proc") else {
        return false;
    };
    let parts: Vec<&str> = inside.iter().filter_map(|part| part.to_str()).collect();
    match parts.as_slice() {
        ["cgroups"] | ["sys", "kernel", "keys", _] | ["sys", "kernel", "random", "boot_id"] => true,
        ["sys", "kernel", name] => ["osrelease", "panic", "panic_on_oops"].contains(name),
        ["sys", "fs", "inotify", _] => true,
        ["sys", "vm", name] => ["overcommit_memory", "panic_on_oom"].contains(name),
        [pid, name] | [pid, "task", _, name] => {
            pid.bytes().all(|digit| digit.is_ascii_digit())
                && ["stat", "comm", "cgroup"].contains(name)
        }
        _ => false,
    }
}

/// [`Keep`] for a file that is read as text, even if it is not valid UTF-8.
pub fn text(keep: impl Fn(&str) -> String) -> impl Fn(&[u8]) -> Vec<u8> {
    move |content| keep(&String::from_utf8_lossy(content)).into_bytes()
}

/// [`Keep`] for a file that its reader rejects if it contains NUL bytes or is not valid UTF-8. Of
/// such a file only this fact is kept, and whether it contains anything but NUL bytes.
pub fn checked_text(keep: impl Fn(&str) -> String) -> impl Fn(&[u8]) -> Vec<u8> {
    move |content| match valid_text(content) {
        Some(text) => keep(text).into_bytes(),
        None if Filling::of(content) == Filling::Zeros => vec![0],
        None => vec![0xff],
    }
}

/// The content of a file as text; `None` if it contains NUL bytes or is not valid UTF-8, as after a
/// power cut.
pub fn valid_text(content: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(content).ok()?;
    (!text.contains('\0')).then_some(text)
}

/// The beginning of the copy of a file that cannot be parsed. It is invalid in YAML, TOML and JSON.
const FAULT: &str = "%BLANKED ";

/// The copy of a file that cannot be parsed, which holds only the error.
pub fn fault(words: &str) -> String {
    format!("{FAULT}{words}\n")
}

/// The error in a file, if its copy holds only that.
pub fn known_fault(text: &str) -> Option<&str> {
    text.strip_prefix(FAULT)?.strip_suffix('\n')
}

/// The text in double quotes, as in YAML and TOML, with escapes that keep it in one line.
pub fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        _ if c.is_alphanumeric() || c.is_ascii_graphic() || c == ' ' => c.to_string(),
        _ => format!("\\U{:08x}", u32::from(c)),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

/// Whether this looks like the name of a setting rather than any other text.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// A `name=value` with its value replaced by [`BLANK`]; any other word is replaced as a whole.
pub fn blank_word(word: &str) -> String {
    match word.split_once('=') {
        Some((name, "")) if is_name(name) => format!("{name}="),
        Some((name, value)) if is_name(name) && !value.starts_with('=') => {
            format!("{name}={BLANK}")
        }
        _ => BLANK.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_only_the_kernels_own_files_are_kept() {
        for path in [
            "/sys/fs/cgroup/a/cpu.max",
            "/proc/cgroups",
            "/proc/1/stat",
            "/proc/1/task/2/cgroup",
            "/proc/7/comm",
        ] {
            assert!(is_kernels_own(Path::new(path)), "{path}");
        }
        for path in [
            "/etc/fstab",
            "/proc/1/environ",
            "/proc/1/cmdline",
            "/proc/cmdline",
            "/proc/self/mountinfo",
            "/proc/keys",
            "/proc/config.gz",
            "/sys/class/net/eth0/ifalias",
        ] {
            assert!(!is_kernels_own(Path::new(path)), "{path}");
            assert!(usual(Path::new(path))(b"x").is_empty());
        }
    }

    #[test]
    fn words_quotes_and_faults() {
        for (word, expected) in [
            ("root=UUID=1", "root=BLANKED"),
            ("a=", "a="),
            ("c2VjcmV0==", BLANK),
            ("quiet", BLANK),
            ("a b=c", BLANK),
        ] {
            assert_eq!(blank_word(word), expected);
        }
        assert_eq!(
            quoted("a \"\\ é\n\u{7f}"),
            "\"a \\\"\\\\ é\\U0000000a\\U0000007f\""
        );
        assert_eq!(known_fault(&fault("a\nb")), Some("a\nb"));
    }
}
