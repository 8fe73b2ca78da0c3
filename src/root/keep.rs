//! What a capture keeps of the files that are read: no more than what the program reads in them.
//!
//! A capture is sent to strangers, and a list of what may be a secret is never complete. So each
//! reader says what it needs, in a function beside the grammar by which it reads ([`Keep`]). Of a
//! file whose reader says nothing, the content is kept only if it is one of those of the kernel's
//! that hold no user's text.

use std::path::Path;

use crate::root::Filling;

/// Of the content of a file, what is kept: all that a judgement rests on, and in the same place.
pub type Keep<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;

/// What replaces a text that is not kept.
pub const BLANK: &str = "BLANKED";

/// Keeps the whole content.
pub fn all(content: &[u8]) -> Vec<u8> {
    content.to_vec()
}

/// Keeps that there is a file, but no content.
fn nothing(_: &[u8]) -> Vec<u8> {
    Vec::new()
}

/// What is kept of a file whose reader says nothing.
pub(super) fn usual(path: &Path) -> Keep<'static> {
    if is_kernels_own(path) { &all } else { &nothing }
}

/// Files of `/proc` and `/sys` that hold names and numbers of the kernel's.
fn is_kernels_own(path: &Path) -> bool {
    let below = |folder: &str| path.starts_with(folder);
    if below("/sys/fs/cgroup") || below("/sys/devices/system") {
        return true;
    }
    if below("/sys/fs/ext4") {
        return path.ends_with("errors_count") || path.ends_with("first_error_func");
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

/// [`Keep`] for a file that is read as text, whatever bytes are in it.
pub fn text(keep: impl Fn(&str) -> String) -> impl Fn(&[u8]) -> Vec<u8> {
    move |content| keep(&String::from_utf8_lossy(content)).into_bytes()
}

/// [`Keep`] for a file that is refused with NUL bytes in it, or when it is not UTF-8: all that is
/// read then is that it is so, and whether there is anything but NUL bytes.
pub fn checked_text(keep: impl Fn(&str) -> String) -> impl Fn(&[u8]) -> Vec<u8> {
    move |content| match valid_text(content) {
        Some(text) => keep(text).into_bytes(),
        None if Filling::of(content) == Filling::Zeros => vec![0],
        None => vec![0xff],
    }
}

/// The content of a file as text; `None` for one with NUL bytes in it or that is not UTF-8, as a
/// power cut may leave it.
pub fn valid_text(content: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(content).ok()?;
    (!text.contains('\0')).then_some(text)
}

/// What begins the copy of a file that cannot be parsed. YAML, TOML and JSON all refuse a file that
/// begins so.
const FAULT: &str = "%BLANKED ";

/// What replaces a file that cannot be parsed: no more than what is wrong with it.
pub fn fault(words: &str) -> String {
    format!("{FAULT}{words}\n")
}

/// What is wrong with a file, where a capture keeps only that.
pub fn known_fault(text: &str) -> Option<&str> {
    text.strip_prefix(FAULT)?.strip_suffix('\n')
}

/// Between double quotes as in YAML and TOML, so that whatever is in it stays in its line.
pub fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        _ if c.is_alphanumeric() || c.is_ascii_graphic() || c == ' ' => c.to_string(),
        _ => format!("\\U{:08x}", u32::from(c)),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

/// Whether this is a name as settings have one, rather than a text.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// A `name=value` with the value blanked; of anything else nothing but that it is there.
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
    fn only_the_kernels_own_files_are_kept_unasked() {
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
