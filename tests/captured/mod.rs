//! The captured hosts of `tests/cases`, laid out as folders that `--root` examines.
//!
//! A case is a folder with the expectations `stdout` and `exit`. Its host is either whole, as
//! `--capture` gives it (`root/` and `args`), or described by the file `case`: what differs from a
//! host in `tests/hosts`. `tests/README.md` has the grammar; this is the only implementation of it.

#![allow(dead_code, reason = "each test that includes this uses some of it")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// One captured host, unpacked.
pub struct Case {
    pub name: String,
    /// Where it is kept, with what is expected of it.
    pub source: PathBuf,
    /// Holds `root` and `args`, as an unpacked capture does.
    pub folder: PathBuf,
    /// Beside `--root`.
    pub args: Vec<String>,
}

impl Case {
    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// Unpacks this one case.
    pub fn unpack(name: &str, folder: &Path) -> Self {
        let found = sources().into_iter().find(|source| name_of(source) == name);
        let source = found.unwrap_or_else(|| panic!("tests/cases has no case {name}"));
        Self::unpack_from(source, folder)
    }

    fn unpack_from(source: PathBuf, folder: &Path) -> Self {
        let host = if source.join("root").is_dir() {
            Host::whole(&source)
        } else {
            Host::described(&source.join("case"))
        };
        let root = folder.join("root");
        assert!(!root.exists(), "{} is there already", root.display());
        fs::create_dir_all(folder).unwrap();
        write_tree(&host.tree, &root);
        if !host.args.is_empty() {
            fs::write(folder.join("args"), format!("{}\n", host.args)).unwrap();
        }
        Self {
            name: name_of(&source),
            source,
            folder: folder.to_owned(),
            args: host.args.split_whitespace().map(str::to_owned).collect(),
        }
    }
}

/// Every case, unpacked in a folder that goes with this value.
pub struct Cases {
    pub all: Vec<Case>,
    folder: PathBuf,
}

impl Cases {
    pub fn unpack() -> Self {
        let folder = scratch();
        let all = unpack_all(&folder);
        Self { all, folder }
    }

    /// Only the one of this name.
    pub fn only(name: &str) -> Self {
        let folder = scratch();
        let all = vec![Case::unpack(name, &folder.join(name))];
        Self { all, folder }
    }

    /// The one whose name contains these words.
    pub fn find(&self, words: &str) -> &Case {
        let mut found = self.all.iter().filter(|case| case.name.contains(words));
        let case = found.next().unwrap();
        assert!(found.next().is_none(), "{words} is in more than one name");
        case
    }
}

impl Drop for Cases {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A new folder.
fn scratch() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("kubepods-repair-cases-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    fs::create_dir(&folder).unwrap();
    folder
}

/// Unpacks every case into a folder of its name below `folder`.
pub fn unpack_all(folder: &Path) -> Vec<Case> {
    let sources = sources();
    let unpack = |source: PathBuf| {
        let to = folder.join(name_of(&source));
        Case::unpack_from(source, &to)
    };
    sources.into_iter().map(unpack).collect()
}

/// The folders of all cases, in the order of their names, of which no two are the same.
pub fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for area in entries(&tests().join("cases")) {
        for source in entries(&area) {
            let is_case = source.join("case").is_file() || source.join("root").is_dir();
            assert!(is_case, "{} has neither case nor root", source.display());
            found.push(source);
        }
    }
    found.sort_by_key(|source| name_of(source));
    for pair in found.windows(2) {
        assert_ne!(name_of(&pair[0]), name_of(&pair[1]));
    }
    found
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let list = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    list.map(|entry| entry.unwrap().path()).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// What is at a path.
enum Node {
    Folder,
    File(Vec<u8>),
    Link(PathBuf),
}

/// By the path below the root. Folders that hold something need no entry.
type Tree = BTreeMap<PathBuf, Node>;

#[derive(Default)]
struct Host {
    tree: Tree,
    args: String,
}

impl Host {
    /// An unpacked capture.
    fn whole(folder: &Path) -> Self {
        let mut host = Self::default();
        read_tree(&folder.join("root"), Path::new(""), &mut host.tree);
        host.args = fs::read_to_string(folder.join("args")).unwrap_or_default();
        host.args.truncate(host.args.trim_end().len());
        host
    }

    /// What a file of the grammar in `tests/README.md` describes.
    fn described(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let mut host = Self::default();
        let mut lines = text.lines().enumerate().peekable();
        while let Some((number, line)) = lines.next() {
            let mut block = Vec::new();
            while let Some((_, line)) = lines.next_if(|(_, line)| is_of_a_block(line)) {
                block.push(line);
            }
            host.follow(line, &block)
                .unwrap_or_else(|what| panic!("{}:{}: {what}: {line}", file.display(), number + 1));
        }
        host
    }

    /// Does what one statement says. `block`: the lines that belong to it.
    fn follow(&mut self, line: &str, block: &[&str]) -> Result<(), String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
        let has_block = matches!(word, "file" | "edit");
        if !has_block && !block.is_empty() {
            return Err("lines that belong to no file".to_owned());
        }
        match word {
            "" if rest.is_empty() => {}
            _ if word.starts_with('#') => {}
            "based" if first == "on" => {
                if !self.tree.is_empty() {
                    return Err("it has to be the first statement".to_owned());
                }
                self.tree = Self::described(&tests().join("hosts").join(second)).tree;
            }
            "args" => rest.clone_into(&mut self.args),
            "file" => self.put(path(rest)?, content(block)?),
            "edit" => self.edit(&path(rest)?, block)?,
            "empty" => self.put(path(rest)?, Vec::new()),
            "bytes" => self.put(path(first)?, unescape(second)?),
            "zeros" => {
                let count = second.parse().map_err(|_| "no count")?;
                self.put(path(first)?, vec![0; count]);
            }
            "group" => self.group(&path(first)?, second),
            "folder" => drop(self.tree.insert(path(rest)?, Node::Folder)),
            "link" => {
                let target = OsString::from_vec(unescape(second)?);
                self.tree.insert(path(first)?, Node::Link(target.into()));
            }
            "remove" => self.remove(&path(rest)?)?,
            _ if first == "=" => self.put(path(word)?, format!("{second}\n").into_bytes()),
            _ => return Err("unknown statement".to_owned()),
        }
        Ok(())
    }

    fn put(&mut self, path: PathBuf, content: Vec<u8>) {
        self.tree.insert(path, Node::File(content));
    }

    fn remove(&mut self, path: &Path) -> Result<(), String> {
        let before = self.tree.len();
        self.tree.retain(|at, _| !at.starts_with(path));
        if self.tree.len() == before {
            return Err("there is no such thing".to_owned());
        }
        // What it was in stays.
        if let Some(parent) = path.parent() {
            let is_empty = !self.tree.keys().any(|at| at.starts_with(parent));
            if is_empty && parent != Path::new("") {
                self.tree.insert(parent.to_owned(), Node::Folder);
            }
        }
        Ok(())
    }

    /// Takes the lines after `-` out, each of which is there once, and puts those after `+` where
    /// the last one was, or else at the end.
    fn edit(&mut self, path: &Path, block: &[&str]) -> Result<(), String> {
        let Some(Node::File(bytes)) = self.tree.get_mut(path) else {
            return Err("there is no such file".to_owned());
        };
        let text = str::from_utf8(bytes).map_err(|_| "it is not text")?;
        if !text.ends_with('\n') {
            return Err("its last line does not end".to_owned());
        }
        let mut lines: Vec<&str> = text.lines().collect();
        let mut place = lines.len();
        for line in block {
            let words = bare(line);
            if line.starts_with('-') {
                let is_it = |at: &usize| lines[*at] == words;
                let places: Vec<usize> = (0..lines.len()).filter(is_it).collect();
                let [at] = places.as_slice() else {
                    return Err(format!("{} times there: {words}", places.len()));
                };
                place = *at;
                lines.remove(place);
            } else if line.starts_with('+') {
                lines.insert(place, words);
                place += 1;
            } else {
                return Err(format!("neither - nor +: {line}"));
            }
        }
        let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
        *bytes = text.into_bytes();
        Ok(())
    }

    /// A cgroup of version 2 as the kernel makes it: empty, with the files of these controllers.
    fn group(&mut self, path: &Path, controllers: &str) {
        let usual = [
            ("cgroup.controllers", ""),
            ("cgroup.events", "populated 0\nfrozen 0\n"),
            ("cgroup.freeze", "0\n"),
            ("cgroup.max.depth", "max\n"),
            ("cgroup.max.descendants", "max\n"),
            ("cgroup.procs", ""),
            ("cgroup.stat", "nr_descendants 0\nnr_dying_descendants 0\n"),
            ("cgroup.subtree_control", ""),
            ("cgroup.threads", ""),
            ("cgroup.type", "domain\n"),
        ];
        let of_controller: &[(&str, &str, &str)] = &[
            ("cpu", "cpu.max", "max 100000\n"),
            ("cpuset", "cpuset.cpus", "\n"),
            ("cpuset", "cpuset.cpus.partition", "member\n"),
            ("cpuset", "cpuset.mems", "\n"),
            ("memory", "memory.high", "max\n"),
            ("memory", "memory.max", "max\n"),
            ("pids", "pids.max", "max\n"),
        ];
        for (name, content) in usual {
            self.put(path.join(name), content.into());
        }
        if !controllers.is_empty() {
            let list = format!("{controllers}\n");
            self.put(path.join("cgroup.controllers"), list.into_bytes());
        }
        for (controller, name, content) in of_controller {
            if controllers.split(' ').any(|has| has == *controller) {
                self.put(path.join(name), (*content).into());
            }
        }
    }
}

fn is_of_a_block(line: &str) -> bool {
    matches!(
        line.as_bytes(),
        [b'|' | b'-' | b'+'] | [b'|' | b'-' | b'+' | b'\\', b' ', ..]
    )
}

/// A line of a block, less the sign and the blank that begin it.
fn bare(line: &str) -> &str {
    line.get(2..).unwrap_or_default()
}

/// What a file holds whose lines are these.
fn content(block: &[&str]) -> Result<Vec<u8>, String> {
    if block.is_empty() {
        return Err("no lines; empty is the word for that".to_owned());
    }
    let mut text = String::new();
    for (number, line) in block.iter().enumerate() {
        if line.starts_with('|') {
            text.push_str(bare(line));
            text.push('\n');
        } else if *line == "\\ no newline" && number + 1 == block.len() && number > 0 {
            text.pop();
        } else {
            return Err(format!("no line of a file: {line}"));
        }
    }
    Ok(text.into_bytes())
}

/// The path below the root that a statement names.
fn path(word: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(OsString::from_vec(unescape(word)?));
    let below = path.strip_prefix("/").map_err(|_| "no absolute path")?;
    if below.as_os_str().is_empty() || word.contains(' ') {
        return Err("no path".to_owned());
    }
    Ok(below.to_owned())
}

/// `\n`, `\0`, `\\` and `\xHH` stand for one byte each.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend(before.bytes());
        let (byte, length) = match after.as_bytes() {
            [b'n', ..] => (b'\n', 1),
            [b'0', ..] => (0, 1),
            [b'\\', ..] => (b'\\', 1),
            [b'x', _, _, ..] => {
                let digits = after.get(1..3).ok_or("no \\xHH")?;
                (u8::from_str_radix(digits, 16).map_err(|_| "no \\xHH")?, 3)
            }
            _ => return Err("unknown escape".to_owned()),
        };
        bytes.push(byte);
        rest = after.get(length..).unwrap_or_default();
    }
    bytes.extend(rest.bytes());
    Ok(bytes)
}

/// All that is below `folder`, which stands for `at`. git's `.keep` is no part of a host.
fn read_tree(folder: &Path, at: &Path, tree: &mut Tree) {
    for from in entries(folder) {
        let name = from.file_name().unwrap();
        let path = at.join(name);
        let kind = from.symlink_metadata().unwrap().file_type();
        if name.as_bytes() == b".keep" {
            continue;
        }
        if kind.is_dir() {
            tree.insert(path.clone(), Node::Folder);
            read_tree(&from, &path, tree);
        } else if kind.is_symlink() {
            tree.insert(path, Node::Link(fs::read_link(&from).unwrap()));
        } else {
            tree.insert(path, Node::File(fs::read(&from).unwrap()));
        }
    }
}

fn write_tree(tree: &Tree, root: &Path) {
    fs::create_dir_all(root).unwrap();
    for (path, node) in tree {
        let to = root.join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        match node {
            Node::Folder => fs::create_dir_all(&to).unwrap(),
            Node::File(content) => fs::write(&to, content).unwrap(),
            Node::Link(target) => symlink(target, &to).unwrap(),
        }
    }
}
