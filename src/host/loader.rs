//! Where the kernel's command line of the next boot is written: found by what the host has.

use std::path::{Path, PathBuf};

use crate::root::Root;

/// Who hands the kernel its command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// The firmware of a Raspberry Pi.
    RaspberryPi,
    /// U-Boot, with Debian's u-boot-menu writing its menu.
    UBootMenu,
    /// U-Boot or syslinux, with a menu written by hand.
    Extlinux,
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

/// The first one that is there counts: Raspberry Pi OS keeps a `/boot/cmdline.txt` that says where the real one is.
const FILES: [(Loader, &str); 6] = [
    (Loader::RaspberryPi, "/boot/firmware/cmdline.txt"),
    (Loader::RaspberryPi, "/boot/cmdline.txt"),
    (Loader::UBootMenu, "/etc/default/u-boot"),
    (Loader::Extlinux, "/boot/extlinux/extlinux.conf"),
    (Loader::Grub, "/etc/default/grub"),
    (Loader::KernelInstall, "/etc/kernel/cmdline"),
];

/// What Ubuntu's images add to GRUB's own file.
const GRUB_FOLDER: &str = "/etc/default/grub.d";

/// The file of this host's boot loader, and those beside it that it reads, too. Empty where none is known.
pub fn observe(root: &Root) -> Vec<Source> {
    let there = |file: &str| root.exists(Path::new(file)).unwrap_or(false);
    let Some((loader, file)) = FILES.into_iter().find(|(_, file)| there(file)) else { return Vec::new() };
    let mut files = vec![PathBuf::from(file)];
    if loader == Loader::Grub {
        files.extend(root.files_below(Path::new(GRUB_FOLDER)).unwrap_or_default());
    }
    let source = |file: PathBuf| Source { loader, text: root.read(&file).unwrap_or_default(), file };
    files.into_iter().map(source).collect()
}
