//! Where the kernel's command line of the next boot is written: found by what the host has.

use std::path::{Path, PathBuf};

use crate::host::kernel;
use crate::root::Root;
use crate::root::keep::text;

/// Who hands the kernel its command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// The firmware of a Raspberry Pi.
    RaspberryPi,
    /// U-Boot, with Debian's u-boot-menu writing its menu.
    UBootMenu,
    /// U-Boot or syslinux, with a menu written by hand.
    Extlinux,
    /// U-Boot, with the environment that Armbian's script reads.
    Armbian,
    /// U-Boot, with a compiled script.
    BootScript,
    /// GRUB.
    Grub,
    /// systemd-boot, with kernel-install writing its entries.
    KernelInstall,
}

/// A file that the command line comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Who reads it.
    pub loader: Loader,
    /// Where.
    pub file: PathBuf,
    /// What it says; empty where it may not be read.
    pub text: String,
}

/// The first one that is there counts: Raspberry Pi OS keeps a `/boot/cmdline.txt` that says where
/// the real one is.
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

/// What Ubuntu's images add to GRUB's own file.
const GRUB_FOLDER: &str = "/etc/default/grub.d";

/// The file of this host's boot loader, and those beside it that it reads, too. Empty where none is
/// known.
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
    let read = |file: &Path| root.keeping(&keep).read(file).unwrap_or_default();
    files
        .into_iter()
        .map(|file| Source {
            loader,
            text: read(&file),
            file,
        })
        .collect()
}

/// What stands between the words of a command line, here and in a shell's variable.
fn ends_word(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'')
}

impl Source {
    /// Whether this is one of its words.
    pub fn says(&self, word: &str) -> bool {
        self.text.split(ends_word).any(|known| known == word)
    }
}

/// What a capture keeps of such a file: quotes and lines, the words that matter, and of the others
/// the names.
fn keep(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for piece in text.split_inclusive(ends_word) {
        let word = piece.trim_end_matches(ends_word);
        kept.push_str(&match word {
            "" => String::new(),
            word if word.chars().all(|c| c == '#') => word.to_owned(),
            word => kernel::keep_word(word),
        });
        kept.push_str(piece.strip_prefix(word).unwrap_or_default());
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_keeps_the_words_that_matter() {
        let text = "# S S=S\nGRUB_X=\"root=S S cgroup_disable=memory\" 'S'\nexport S\n";
        let kept = "# BLANKED S=BLANKED\nGRUB_X=\"root=BLANKED BLANKED cgroup_disable=memory\" \
                    'BLANKED'\nBLANKED BLANKED\n";
        assert_eq!(keep(text), kept);
        assert_eq!(keep(kept), kept);
    }
}
