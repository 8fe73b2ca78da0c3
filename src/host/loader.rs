//! Finds the files that set the kernel's command line at the next boot, by the host's boot loader.

use std::path::{Path, PathBuf};

use crate::host::kernel;
use crate::root::Root;
use crate::root::keep::text;

/// The boot loader, which passes the command line to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// The firmware of a Raspberry Pi.
    RaspberryPi,
    /// U-Boot, with a menu written by Debian's u-boot-menu.
    UBootMenu,
    /// U-Boot or syslinux, with a menu written by hand.
    Extlinux,
    /// U-Boot, with the environment that Armbian's script reads.
    Armbian,
    /// U-Boot, with a compiled script.
    BootScript,
    /// GRUB, with a menu generated from `/etc/default/grub`.
    Grub,
    /// systemd-boot, with entries written by kernel-install.
    KernelInstall,
}

/// A file that sets the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The boot loader that reads it, or whose menu is generated from it.
    pub loader: Loader,
    /// Its path on the host.
    pub file: PathBuf,
    /// Its content; empty if it cannot be read.
    pub text: String,
}

/// The known files. The first one that exists counts: Raspberry Pi OS also has a
/// `/boot/cmdline.txt`, which only says where the real one is.
const FILES: [(Loader, &str); 8] = [
    (Loader::RaspberryPi, "/boot/firmware/cmdline.txt"),
    (Loader::RaspberryPi, "/boot/cmdline.txt"),
    (Loader::UBootMenu, "/etc/default/u-boot"),
    (Loader::Extlinux, "/boot/extlinux/extlinux.conf"),
    (Loader::Armbian, "/boot/armbianEnv.txt"),
    (Loader::BootScript, "/boot/boot.scr"),
    (Loader::Grub, "/etc/default/grub"),
    (Loader::KernelInstall, "/etc/kernel/cmdline"),
];

/// The folder in which Ubuntu's images add to GRUB's own file.
const GRUB_FOLDER: &str = "/etc/default/grub.d";

/// The file of this host's boot loader, and for GRUB also those in its folder. Empty if no known
/// file exists.
pub fn observe(root: &Root) -> Vec<Source> {
    let there = |file: &str| root.exists(Path::new(file)).unwrap_or(false);
    let Some((loader, file)) = FILES.into_iter().find(|(_, file)| there(file)) else {
        return Vec::new();
    };
    let mut files = vec![PathBuf::from(file)];
    if loader == Loader::Grub {
        files.extend(root.files_below(Path::new(GRUB_FOLDER)).unwrap_or_default());
    }
    let keep = text(keep);
    let source = |file: PathBuf| {
        let text = root.keeping(&keep).read(&file).unwrap_or_default();
        Source { loader, file, text }
    };
    files.into_iter().map(source).collect()
}

/// Whether `c` separates the words of a command line, in such a file or in a shell variable.
fn ends_word(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'')
}

impl Source {
    /// Whether the file contains `word` between blanks or quotes.
    pub fn says(&self, word: &str) -> bool {
        self.text.split(ends_word).any(|known| known == word)
    }
}

/// What a capture keeps of such a file: quotes and line breaks, the parameters about cgroups, and
/// the names of the others.
fn keep(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for piece in text.split_inclusive(ends_word) {
        let word = piece.trim_end_matches(ends_word);
        // An empty word, or the beginning of a comment.
        if word.chars().all(|c| c == '#') {
            kept.push_str(word);
        } else {
            kept.push_str(&kernel::keep_word(word));
        }
        kept.push_str(piece.strip_prefix(word).unwrap_or_default());
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_keeps_only_the_parameters_about_cgroups() {
        let text = "# S S=S\nGRUB_X=\"root=S S cgroup_disable=memory\" 'S'\nexport S\n";
        let kept = "# BLANKED S=BLANKED\nGRUB_X=\"root=BLANKED BLANKED cgroup_disable=memory\" \
                    'BLANKED'\nBLANKED BLANKED\n";
        assert_eq!(keep(text), kept);
        assert_eq!(keep(kept), kept);
    }
}
