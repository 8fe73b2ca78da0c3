//! What `--capture` keeps: enough for the same report, and no secret that was put where the program
//! does not read.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use kubepods_repair::kubelet::{config, containerd, yaml};
use kubepods_repair::root::Root;
use kubepods_repair::root::record::Found;

mod captured;
mod chance;

use captured::Cases;
use chance::{Chance, mutate, rounds};

/// The secret. It occurs nowhere else.
const SECRET: &str = "hunter2";

/// A captured host and the arguments beside `--root`.
struct Host {
    name: String,
    root: PathBuf,
    args: Vec<String>,
}

impl Host {
    fn all(cases: &Cases) -> Vec<Self> {
        let folders = cases.all.iter().map(|case| &case.folder);
        let hosts: Vec<Self> = folders.map(|folder| Self::of(folder)).collect();
        assert!(hosts.len() > 90);
        hosts
    }

    fn of(folder: &Path) -> Self {
        let args = fs::read_to_string(folder.join("args")).unwrap_or_default();
        Self {
            name: folder.file_name().unwrap().to_string_lossy().into_owned(),
            root: folder.join("root"),
            args: args.split_whitespace().map(str::to_owned).collect(),
        }
    }

    fn copy(&self, to: &Path) -> Self {
        let copied = Command::new("cp")
            .arg("-a")
            .args([&self.root, to])
            .status()
            .unwrap();
        assert!(copied.success());
        Self {
            name: self.name.clone(),
            root: to.to_owned(),
            args: self.args.clone(),
        }
    }

    fn run(&self, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubepods-repair"));
        command
            .arg("--root")
            .arg(&self.root)
            .args(&self.args)
            .args(more);
        command.env_remove("JOURNAL_STREAM").output().unwrap()
    }

    fn capture(&self, tar: &Path) -> Output {
        self.run(&["--capture", tar.to_str().unwrap()])
    }
}

/// An empty folder for this test.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("capture-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn unpack(tar: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).unwrap();
    assert!(
        Command::new("tar")
            .arg("-xf")
            .arg(tar)
            .arg("-C")
            .arg(to)
            .status()
            .unwrap()
            .success()
    );
}

/// Every file below, by its path on the host.
fn files_below(folder: &Path, of: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap();
        if kind.is_dir() {
            found.extend(files_below(&path, of));
        } else if kind.is_file() {
            found.push(format!("/{}", path.strip_prefix(of).unwrap().display()));
        }
    }
    found
}

/// Checks that the report and the exit status are the same.
fn same(one: &Output, other: &Output, what: &str) {
    let text = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(text(one), text(other), "{what}");
    assert_eq!(one.status.code(), other.status.code(), "{what}");
}

#[test]
fn a_capture_of_any_host_gives_the_same_report() {
    let folder = scratch("again");
    let (tar, copy) = (folder.join("tar"), folder.join("copy"));
    let cases = Cases::unpack();
    for host in Host::all(&cases) {
        let seen = host.run(&[]);
        same(&seen, &host.capture(&tar), &host.name);
        unpack(&tar, &copy);
        let again = Host::of(&copy);
        same(&seen, &again.run(&[]), &host.name);
        // A capture of a capture has nothing more to lose.
        let bare = |host: &Host| {
            let mut contents: Vec<_> = files_below(&host.root, &host.root);
            contents.sort();
            let read = |name: String| {
                (
                    fs::read(host.root.join(name.trim_start_matches('/'))).unwrap(),
                    name,
                )
            };
            contents.into_iter().map(read).collect::<Vec<_>>()
        };
        again.capture(&tar);
        let before = bare(&again);
        unpack(&tar, &copy);
        assert_eq!(before.len(), bare(&again).len(), "{}", host.name);
        for (one, other) in before.iter().zip(bare(&again)) {
            let is_text = std::str::from_utf8(&one.0).is_ok();
            assert!(*one == other || !is_text, "{}: {}", host.name, one.1);
        }
    }
}

#[test]
fn a_capture_keeps_a_file_that_replaces_a_link() {
    let folder = scratch("link");
    let (tar, copy) = (folder.join("tar"), folder.join("copy"));
    let cases = Cases::only("48-slices-early-in-the-boot");
    let host = Host::of(&cases.all[0].folder);
    let enabled =
        "etc/systemd/system/multi-user.target.wants/snap.microk8s.daemon-kubelite.service";
    fs::remove_file(host.root.join(enabled)).unwrap();
    fs::write(host.root.join(enabled), SECRET).unwrap();
    let seen = host.capture(&tar);
    unpack_and_search(&tar, &copy, enabled);
    same(&seen, &Host::of(&copy).run(&[]), enabled);
}

/// The kind of a file that the program reads, by its path; `None` for files with only names and
/// numbers of the kernel.
fn kind(path: &str) -> Option<&'static str> {
    let is_at = |part: &str| path.contains(part);
    let last = path.rsplit('/').next().unwrap();
    Some(match path {
        "/.errnos" | "/.room" | "/proc/cgroups" => return None,
        _ if path.starts_with("/proc/sys/kernel/") || path.starts_with("/proc/sys/vm/") => {
            return None;
        }
        _ if path.starts_with("/sys/devices/system/") => return None,
        _ if path.starts_with("/sys/fs/ext4/") => return None,
        // Of these only times and the reaction to errors are kept.
        "/proc/stat" => return None,
        _ if path.starts_with("/proc/fs/ext4/") => return None,
        _ if path.starts_with("/proc/sys/fs/inotify/") => return None,
        // Only looked at for whether there is anything but NUL bytes.
        "/proc/swaps" => "swaps",
        _ if is_at("/certs/") || is_at("/credentials/") => "key",
        _ if path.starts_with("/sys/fs/cgroup") || last == ".keep" => return None,
        _ if path.starts_with("/proc/") && ["stat", "comm", "cgroup"].contains(&last) => {
            return None;
        }
        // Read whole: it is the name of a container's manager.
        "/run/systemd/container" | "/run/host/container-manager" => return None,
        "/proc/cmdline" => "command line",
        "/proc/1/environ" => "environment",
        _ if path.starts_with("/proc/") && last == "cmdline" => "shim",
        "/proc/config.gz" => "packed configuration",
        "/var/lib/kubepods-repair/boot" => "marker",
        "/var/lib/kubepods-repair/kubelet" => "version",
        "/run/kubepods-repair.repairs" => "number",
        _ if path.starts_with("/run/kubepods-repair.restarted") => "stamp",
        _ if last == "mountinfo" => "mounts",
        _ if path.starts_with("/boot/config-") => "configuration",
        "/boot/firmware/cmdline.txt" | "/boot/cmdline.txt" | "/etc/kernel/cmdline" => {
            "next command line"
        }
        _ if path.starts_with("/etc/default/") => "shell",
        "/boot/extlinux/extlinux.conf" => "extlinux",
        _ if last == "snap.yaml" => "snap.yaml",
        _ if last.ends_with(".yaml") => "config",
        _ if last.ends_with(".toml") => "toml",
        _ if is_at("/args/") || is_at("/kubelet-args") => "arguments",
        _ if is_at("systemd/")
            && [".slice", ".service", ".conf"]
                .iter()
                .any(|end| last.ends_with(end)) =>
        {
            "unit"
        }
        _ if is_at("_manager_state") || is_at("_pods_state") => "state",
        _ if last.ends_with(".conf") => "config",
        // Only asked for whether they are there.
        _ if is_at("/var/lock/") || last == "containerd.sock" => return None,
        _ if is_at("systemd/") && last.ends_with(".mount") => return None,
        // One word of snapd's, or nothing.
        "/var/lib/snapd/inhibit/microk8s.lock" => return None,
        "/run/systemd/private"
        | "/dev/null"
        | "/dev/kmsg"
        | "/.dockerenv"
        | "/run/.containerenv"
        | "/dev/lxd"
        | "/dev/incus" => {
            return None;
        }
        _ => panic!("what may be secret in {path}? Say it here"),
    })
}

/// Puts the secret everywhere a user could put one without changing what the program reads.
fn plant(kind: &str, text: &str) -> String {
    let lines = |line: &dyn Fn(&str) -> String| {
        text.lines()
            .map(|text| line(text) + "\n")
            .collect::<String>()
    };
    match kind {
        "command line" => format!("a={SECRET} b=\"{SECRET} {SECRET}=c {SECRET}\" {SECRET} {text}"),
        "next command line" => format!("a={SECRET} b=\"{SECRET}\" {SECRET} {text}"),
        "environment" => {
            format!("A={SECRET}\0container_password={SECRET}\0{text}\0B={SECRET}\0{SECRET}")
        }
        "shim" => {
            format!("{SECRET}\0-id\0{SECRET}\0--token={SECRET}\0{text}--{SECRET}\0{SECRET}\0")
        }
        "snap.yaml" => format!("name: {SECRET}\n# {SECRET}\n{text}\nsummary: |\n  {SECRET}\n"),
        "configuration" => {
            format!(
                "# {SECRET}\nCONFIG_CMDLINE=\"{SECRET}\"\n{text}\
                 CONFIG_DEFAULT_HOSTNAME=\"{SECRET}\"\n"
            )
        }
        "shell" => {
            format!(
                "# {SECRET}\nA=\"b={SECRET} {SECRET}\"\n{text}\nB='{SECRET}'\nexport \
                 {SECRET}\nC={SECRET}\n"
            )
        }
        "extlinux" => {
            format!("# {SECRET}\nmenu title {SECRET}\n{text}\nappend root={SECRET} {SECRET}\n")
        }
        "unit" if text.is_empty() => String::new(),
        "unit" => format!(
            "# {SECRET}\n[Service]\nEnvironment=\"A={SECRET}\" \\\n  B={SECRET} \\\n  \
             {SECRET}\nExecStart=/x {SECRET}\n{SECRET}\n{text}\n; \
             {SECRET}\n[Slice]\nDescription={SECRET}\n"
        ),
        "mounts" => {
            let planted = lines(&|line| {
                let (mount, filesystem) = line.split_once(" - ").unwrap();
                let [kind, _, options] = filesystem.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                    panic!("{line}")
                };
                let options = if kind.starts_with("cgroup") {
                    options.to_owned()
                } else {
                    format!("{options},x={SECRET}")
                };
                format!("{mount} - {kind} //u:{SECRET}@h {options}")
            });
            format!(
                "901 1 8:1 /{SECRET} /mnt/{SECRET} rw - fuse.{SECRET} {SECRET} \
                 rw,password={SECRET}\n{planted}"
            )
        }
        "toml" => format!(
            "# {SECRET}\n{text}\n[{0}]\nb = \"{SECRET}\" # {SECRET}\nc = '''\n{SECRET}'''\nd = \
             \"\"\"\n{SECRET}\n\"\"\"\ne = [\"{SECRET}\", {{ f = '{SECRET}' \
             }}]\n[plugins.\"a\".registry.configs.\"https://u:{SECRET}@h\".auth]\npassword = \
             \"{SECRET}\"\n",
            "planted"
        ),
        // Nothing but NUL bytes: anything else would make it another file.
        "arguments" if text.trim_matches('\0').is_empty() => text.to_owned(),
        "key" if !text.trim_matches('\0').is_empty() => format!("{SECRET}\n{text}"),
        // Lines are counted.
        "arguments" => format!(
            "{text}\n# {SECRET}\n--a={SECRET}\n--b \
             {SECRET}\n--c=https://u:{SECRET}@h/\n--d=\"{SECRET}\"\n-v={SECRET}\n-w \
             {SECRET}\n--e\n{SECRET}\n--f=a,{SECRET}\n--g=$HOME/{SECRET}\n--h\t{SECRET}\n  # \
             {SECRET}\n--i={SECRET}"
        ),
        "config" if text.trim_start().starts_with('{') => text.replacen(
            '{',
            &format!(
                "{{\"a\": \"{SECRET}\", \"b\": [\"{SECRET}\", {{\"{SECRET}\": \"\\\"{SECRET}\"}}],"
            ),
            1,
        ),
        "config" => format!(
            "# {SECRET}\n{text}\na: {SECRET} # {SECRET}\nb: \"{SECRET}\n  {SECRET}\"\nc: \
             '{SECRET}'\nd: |\n  {SECRET}\n  cgroupRoot: {SECRET}\ne: >-\n\n   {SECRET}\n\nf:\n- \
             {SECRET}\n- [{SECRET}, {{{SECRET}: {SECRET}}}]\ng: https://u:{SECRET}@h\nh:\n  \
             password: {SECRET}\n  i: &j {SECRET}\nk: *j\nl: &{SECRET} m\nn: !{SECRET} o\np: \
             {SECRET}\n  {SECRET}\n"
        ),
        // Ours, or judged whole.
        _ => text.to_owned(),
    }
}

/// Puts the secret in a place that makes the file invalid.
fn ruin(kind: &str, text: &str) -> Vec<String> {
    match kind {
        "arguments" => [
            format!("{text}\n--a=\"{SECRET} {SECRET}\"\n"),
            format!("{SECRET} {text}"),
            format!("{text}\n-- {SECRET}\n"),
            format!("---{SECRET}\n{text}"),
            format!("--={SECRET}\n"),
            format!("{text}\0{SECRET}"),
        ]
        .into(),
        "config" => [
            format!("{SECRET}\n{text}"),
            format!("{text}\n{SECRET}\n"),
            format!("a: \"{SECRET}\n{text}"),
            format!("{text}\na: [{SECRET}\nb: {{{SECRET}\n"),
            format!("{text}\na: {SECRET}\n b: {SECRET}\n"),
            format!("{text}\na: *{SECRET}\n"),
            format!("{text}\na: @{SECRET}\nb: \"\\{SECRET}\"\n"),
            format!("{text}\0{SECRET}"),
        ]
        .into(),
        "toml" => [
            format!("{SECRET}\n{text}"),
            format!("{text}\n[a]\nb = {SECRET}\n"),
            format!("{text}\n[a]\nb = \"{SECRET}\n{SECRET}\n"),
            format!("{text}\n[a]\nb = [\n{SECRET} = \"{SECRET}\"\n"),
            format!("{text}\n[{SECRET}\n"),
        ]
        .into(),
        "state" => [
            SECRET.to_owned(),
            format!("{}{SECRET}", &text[..text.len() / 2]),
            format!("{{\"{SECRET}\":\"{SECRET}"),
            format!("{text}{SECRET}"),
            format!("\0\0{SECRET}"),
            format!("\"{SECRET}\""),
        ]
        .into(),
        "marker" | "number" | "stamp" | "version" => {
            vec![
                SECRET.to_owned(),
                format!("{text}{SECRET}\n"),
                format!("{SECRET}\n{text}"),
            ]
        }
        _ => Vec::new(),
    }
}

fn write(path: &Path, kind: &str, text: &str) {
    if kind == "packed configuration" {
        let mut encoder = GzEncoder::new(fs::File::create(path).unwrap(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap();
    } else {
        fs::write(path, text).unwrap();
    }
}

fn read(path: &Path, kind: &str) -> String {
    let bytes = fs::read(path).unwrap();
    let mut text = String::new();
    if kind == "packed configuration"
        && GzDecoder::new(bytes.as_slice())
            .read_to_string(&mut text)
            .is_ok()
    {
        return text;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Unpacks the tar file, and checks that neither a name nor any content in it contains the secret.
fn unpack_and_search(tar: &Path, copy: &Path, what: &str) {
    let bytes = fs::read(tar).unwrap();
    if bytes
        .windows(SECRET.len())
        .any(|window| window.eq_ignore_ascii_case(SECRET.as_bytes()))
    {
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text
            .split(['\n', '\0'])
            .filter(|line| line.contains(SECRET))
            .collect();
        panic!("{what}: the capture holds {lines:?}");
    }
    unpack(tar, copy);
    let packed = copy.join("root/proc/config.gz");
    assert!(
        !packed.exists() || !read(&packed, "packed configuration").contains(SECRET),
        "{what}"
    );
}

#[test]
fn a_capture_keeps_nothing_that_is_not_read() {
    let folder = scratch("secrets");
    let (tar, copy) = (folder.join("tar"), folder.join("copy"));
    let (mut kinds, mut ruined_before) = (BTreeSet::new(), BTreeSet::new());
    let cases = Cases::unpack();
    for host in Host::all(&cases) {
        let _ = fs::remove_dir_all(folder.join("host"));
        let host = host.copy(&folder.join("host"));
        for (path, kind) in [
            ("proc/1/environ", "environment"),
            ("proc/config.gz", "packed configuration"),
        ] {
            let text = if kind == "environment" {
                "PATH=/\0"
            } else {
                "CONFIG_MEMCG=y\nCONFIG_RT_GROUP_SCHED=y\n"
            };
            fs::create_dir_all(host.root.join(path).parent().unwrap()).unwrap();
            if !host.root.join(path).exists() && !host.name.contains("built") {
                write(&host.root.join(path), kind, text);
            }
        }
        let seen = host.capture(&tar);
        unpack(&tar, &copy);
        let mut files: Vec<(PathBuf, &str, String)> = Vec::new();
        for name in files_below(&copy.join("root"), &copy.join("root")) {
            let path = host.root.join(name.trim_start_matches('/'));
            if let (Some(kind), true) = (kind(&name), path.is_file()) {
                kinds.insert(kind);
                files.push((path.clone(), kind, read(&path, kind)));
            }
        }
        for (path, kind, text) in &files {
            let is_packed = *kind == "packed configuration";
            write(
                path,
                kind,
                &plant(if is_packed { "configuration" } else { kind }, text),
            );
        }
        let planted = host.capture(&tar);
        unpack_and_search(&tar, &copy, &host.name);
        let is_broken = String::from_utf8_lossy(&seen.stdout).contains("settings-unreadable");
        if !is_broken {
            same(&seen, &planted, &host.name);
        }
        // There the kubelet takes the planted flag for the missing value, and the report names it.
        if !host.name.ends_with("args-value-missing") {
            same(&planted, &Host::of(&copy).run(&[]), &host.name);
        }
        for (path, kind, text) in &files {
            if !ruined_before.insert((*kind, text.clone())) {
                continue;
            }
            for ruined in ruin(kind, text) {
                write(path, kind, &ruined);
                let seen = host.capture(&tar);
                let what = format!("{}: {} is {ruined:?}", host.name, path.display());
                unpack_and_search(&tar, &copy, &what);
                assert!(
                    !String::from_utf8_lossy(&seen.stdout).contains(SECRET),
                    "{what}: the report says it"
                );
                same(&seen, &Host::of(&copy).run(&[]), &what);
            }
            write(path, kind, text);
        }
    }
    let expected = [
        "arguments",
        "command line",
        "config",
        "configuration",
        "environment",
        "extlinux",
        "key",
        "marker",
        "mounts",
        "next command line",
        "packed configuration",
        "shell",
        "shim",
        "snap.yaml",
        "stamp",
        "state",
        "swaps",
        "toml",
        "unit",
        "version",
    ];
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        expected,
        "a kind of file that no case has is not tested"
    );
}

#[test]
fn only_the_owner_can_read_the_new_tar_file() {
    let folder = scratch("place");
    let cases = Cases::only("01-healthy");
    let host = Host::of(&cases.all[0].folder);
    let tar = folder.join("tar");
    let listing = || {
        fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect::<BTreeSet<_>>()
    };
    fs::write(&tar, "older").unwrap();
    fs::set_permissions(&tar, fs::Permissions::from_mode(0o666)).unwrap();
    let older = fs::File::open(&tar).unwrap();
    host.capture(&tar);
    let meta = tar.metadata().unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o600);
    assert_ne!(
        meta.ino(),
        older.metadata().unwrap().ino(),
        "who had it open reads on in the older one"
    );
    assert_eq!(listing().len(), 1);
    assert!(
        Command::new("tar")
            .arg("-tf")
            .arg(&tar)
            .output()
            .unwrap()
            .status
            .success()
    );

    // In the folder where it is run.
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubepods-repair"));
    command
        .args(["--capture", "here"])
        .arg("--root")
        .arg(&host.root)
        .current_dir(&folder)
        .output()
        .unwrap();
    assert_eq!(
        folder.join("here").metadata().unwrap().mode() & 0o7777,
        0o600
    );
    fs::remove_file(folder.join("here")).unwrap();

    let (link, victim) = (folder.join("link"), folder.join("victim"));
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, &link).unwrap();
    fs::create_dir(folder.join("folder")).unwrap();
    let before = listing();
    for place in ["link", "folder", "missing/tar", ".."] {
        let output = host.capture(&folder.join(place));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("nothing was captured: "), "{place}: {said}");
        assert_eq!(
            output.status.code(),
            host.run(&[]).status.code().map(|_| 1),
            "{place}"
        );
        assert_eq!(listing(), before, "{place} left something behind");
    }
    assert!(link.is_symlink() && fs::read_to_string(&victim).unwrap() == "precious");
    // No room: nothing is left, and what was there stays.
    let script = format!(
        "ulimit -f 1; exec \"$0\" --root \"$1\" --capture {}",
        tar.display()
    );
    let before = fs::read(&tar).unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, env!("CARGO_BIN_EXE_kubepods-repair")])
        .arg(&host.root)
        .output()
        .unwrap();
    assert_eq!(fs::read(&tar).unwrap(), before);
}

/// The reader's results for `content` and for what a capture keeps of it, and the kept content.
fn read_twice(
    folder: &Path,
    content: &[u8],
    read: &dyn Fn(&Root) -> String,
) -> (String, String, String) {
    let file = folder.join("file");
    fs::write(&file, content).unwrap();
    let root = Root::captured(folder).unwrap().recording();
    let first = read(&root);
    let entries = root.record().unwrap().entries();
    let kept = entries.into_iter().find_map(|(path, found)| match found {
        Found::File(content) if path == Path::new("/file") => Some(content),
        _ => None,
    });
    let kept = kept.unwrap();
    fs::write(&file, &kept).unwrap();
    (
        first,
        read(&Root::captured(folder).unwrap()),
        String::from_utf8_lossy(&kept).into_owned(),
    )
}

type Reading<'a> = &'a dyn Fn(&Root) -> String;
type Strays = fn(&str) -> Vec<String>;

/// Settings with random damage, and with the secret among them.
#[test]
fn a_damaged_file_stays_damaged_and_keeps_no_secret() {
    let folder = scratch("chance");
    let file = Path::new("/file");
    let config = |root: &Root| format!("{:?}", config::read(root, Some(file), None));
    let containerd = |root: &Root| format!("{:?}", containerd::read(root, &[file.to_owned()]));
    let readers: [(&str, Reading, Strays); 3] = [
        (BLOCK, &config, strays_in_yaml),
        (FLOW, &config, strays_in_yaml),
        (TOML, &containerd, strays_in_toml),
    ];
    for (number, (usual, read, strays)) in readers.iter().enumerate() {
        let mut chance = Chance::new(number as u64 + 1);
        for _ in 0..rounds(600) {
            let mut content = usual.as_bytes().to_vec();
            for _ in 0..=chance.below(4) {
                mutate(&mut chance, &mut content, &WORDS);
            }
            let text = String::from_utf8_lossy(&content).into_owned();
            let (first, again, kept) = read_twice(&folder, &content, read);
            assert_eq!(first, again, "{text:?} is kept as {kept:?}");
            let leaked = if kept.starts_with(['%', '\0']) {
                vec![kept.clone()]
            } else {
                strays(&kept)
            };
            assert!(
                !leaked.iter().any(|value| value.contains(SECRET)),
                "{text:?} is kept as {kept:?}"
            );
        }
    }
}

/// The values in a copy that no reader needs.
fn strays_in_yaml(kept: &str) -> Vec<String> {
    const READ: &str = "apiVersion kind cgroupsPerQOS cgroupDriver cgroupRoot \
                        enforceNodeAllocatable kubeReservedCgroup systemReservedCgroup \
                        failCgroupV1 cpuManagerPolicy memoryManagerPolicy containerRuntimeEndpoint \
                        reservedSystemCPUs kubeReserved systemReserved featureGates";
    let document = yaml::parse(kept).unwrap();
    let yaml::Value::Map(fields) = &*document.value else {
        return Vec::new();
    };
    let strays = fields
        .iter()
        .filter(|(name, _)| !READ.split(' ').any(|read| read == *name));
    strays
        .map(|(_, node)| format!("{:?}", node.value))
        .collect()
}

/// See [`strays_in_yaml`].
fn strays_in_toml(kept: &str) -> Vec<String> {
    const READ: &str = "version imports default_runtime_name runtime_type Root BinaryName";
    let mut strays = Vec::new();
    let mut to_visit = vec![kept.parse::<toml::Table>().unwrap()];
    while let Some(table) = to_visit.pop() {
        for (name, value) in table {
            match value {
                toml::Value::Table(below) => to_visit.push(below),
                _ if READ.split(' ').any(|read| read == name) => {}
                other => strays.push(format!("{other:?}")),
            }
        }
    }
    strays
}

const BLOCK: &str = r#"# a
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: systemd
token: "a b"
cgroupRoot: /a
b:
  c: [d, {e: f}]
  g: |
    h
  i: 'j'
enforceNodeAllocatable: [pods, kube-reserved]
k:
- l
- m: n
kubeReservedCgroup: "/o"
cgroupsPerQOS: no # p
featureGates: {q: true}
kubeReserved:
  cpu: 100m
  memory: "1Gi"
reservedSystemCPUs: '0'
containerRuntimeEndpoint: unix:///r
"#;
const FLOW: &str = concat!(
    r#"{"apiVersion":"kubelet.config.k8s.io/v1beta1","kind":"KubeletConfiguration","#,
    r#""a":{"b":["c",1]},"#,
    "\n",
    r#""cgroupRoot":"/a","d":"e\n", "enforceNodeAllocatable":["pods"],"cgroupsPerQOS":true}"#,
);
const TOML: &str = r#"version = 2
imports = []
# a
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "runc"
snapshotter = "overlayfs"
b = [1, 'c', { d = 2.5 }]
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = true
Root = "/r"
e = """
f"""
"#;
const WORDS: [&str; 40] = [
    "hunter2",
    "hunter2",
    " hunter2",
    "\"hunter2\"",
    "'hunter2'",
    "\nhunter2\n",
    "\n  hunter2",
    "[hunter2]",
    "{hunter2}",
    "=hunter2",
    "\"\"\"hunter2",
    "'''",
    ",",
    ", ",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'",
    "\\",
    "\\n",
    "\\q",
    "\n",
    "\n  ",
    "\n- ",
    ": ",
    ":",
    " #",
    "#",
    "- ",
    "= ",
    "|\n",
    ">-\n",
    "&a ",
    "*a",
    "!!str ",
    "---\n",
    "\u{1}",
    "é",
];
