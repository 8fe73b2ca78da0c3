//! Writes what a run has read to a tar archive, whose content `--root` examines and `tests/cases`
//! uses unchanged.
//!
//! The format is POSIX ustar, with GNU tar's `././@LongLink` for long names.

use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;

use crate::repair::replace::put;
use crate::repair::{RepairError, change};
use crate::root::record::{Found, Record};

const BLOCK: usize = 512;

/// Only the owner may read the archive, since it shows how the host is set up.
const PRIVATE_MODE: u32 = 0o600;

/// The number of bytes in a header's fields for the name and for a link's target.
const LONGEST_NAME: usize = 100;

/// Writes `record` below `root/`, and to `args` the arguments that repeat the run together with
/// `--root`. The archive is written to a new file, which then replaces an older one.
///
/// # Errors
/// When the file cannot be written, or its name belongs to something that is not a regular file.
pub fn write(file: &Path, record: &Record, args: &str) -> Result<(), RepairError> {
    // Renaming the new file over a device or a link would destroy it.
    if file.symlink_metadata().is_ok_and(|known| !known.is_file()) {
        return Err(change("replace", file, "")(Errno::EEXIST));
    }
    let new = file.with_file_name(format!(".kubepods-repair.capture.{}", std::process::id()));
    put(file, &new, PRIVATE_MODE, |file| {
        let mut tar = BufWriter::new(file);
        add(&mut tar, Path::new("args"), &Found::File(args.into()))?;
        add(&mut tar, Path::new("root"), &Found::Directory)?;
        for (path, found) in record.entries() {
            let inside = path.strip_prefix("/").unwrap_or(&path);
            add(&mut tar, &Path::new("root").join(inside), &found)?;
        }
        tar.write_all(&[0; 2 * BLOCK])?;
        tar.flush()
    })
}

fn add(tar: &mut impl Write, path: &Path, found: &Found) -> std::io::Result<()> {
    let name = path.as_os_str().as_bytes();
    let none: &[u8] = &[];
    let (kind, mode, target, content) = match found {
        Found::Directory => (b'5', 0o755, none, none),
        Found::Name => (b'0', 0o644, none, none),
        Found::File(content) => (b'0', 0o644, none, content.as_slice()),
        Found::Link(target) => (b'2', 0o777, target.as_bytes(), none),
    };
    for (kind, long) in [(b'L', name), (b'K', target)] {
        if long.len() > LONGEST_NAME {
            tar.write_all(&header(b"././@LongLink", none, kind, 0, long.len()))?;
            padded(tar, long)?;
        }
    }
    tar.write_all(&header(name, target, kind, mode, content.len()))?;
    padded(tar, content)
}

/// Writes the content and pads it to a whole block.
fn padded(tar: &mut impl Write, content: &[u8]) -> std::io::Result<()> {
    tar.write_all(content)?;
    let missing = content.len().next_multiple_of(BLOCK) - content.len();
    tar.write_all([0; BLOCK].get(..missing).unwrap_or_default())
}

/// A ustar header. Numbers are octal digits followed by a NUL. The checksum is computed with its
/// own field filled with blanks.
fn header(name: &[u8], target: &[u8], kind: u8, mode: u32, size: usize) -> Vec<u8> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since_epoch.map_or(0, |since| since.as_secs());
    let cut = |text: &[u8]| {
        let filled = text.iter().copied().chain([0; LONGEST_NAME]);
        filled.take(LONGEST_NAME).collect::<Vec<u8>>()
    };
    let with_sum = |sum: String| {
        let mut header = cut(name);
        let numbers = format!(
            "{mode:07o}\0{0:07o}\0{0:07o}\0{size:011o}\0{now:011o}\0{sum:<8}",
            0
        );
        header.extend(numbers.bytes());
        header.push(kind);
        header.extend(cut(target));
        header.extend(b"ustar\x0000");
        header.resize(BLOCK, 0);
        header
    };
    let sum: u32 = with_sum(String::new()).into_iter().map(u32::from).sum();
    with_sum(format!("{sum:06o}\0"))
}
