//! Hostile input from fixed seeds: every file that the program reads, and whole captured hosts,
//! with random damage and forgeries. They cause no panic, no endless run, no control character in
//! the report, and no plan that breaks a promise.
//!
//! `KR_ROUNDS=N` in the environment makes it N times as many rounds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod captured;
mod chance;
mod promises;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use captured::Cases;
use chance::{Chance, mutate, rounds};
use kubepods_repair::cgroup::CgroupPath;
use kubepods_repair::cli::{self, Options};
use kubepods_repair::faults::{Learned, Step, Terms};
use kubepods_repair::host::group::{self, Depth};
use kubepods_repair::host::{containers_run, kernel, mounts, state_files, tasks};
use kubepods_repair::kubelet::{Settings, args, config, containerd, flags};
use kubepods_repair::report::{json, text};
use kubepods_repair::root::Root;
use kubepods_repair::state::Marker;
use kubepods_repair::verdict::Report;
use promises::Judge;

/// A debug build on a busy machine takes milliseconds; a run that takes this long counts as
/// endless.
const PATIENCE: Duration = Duration::from_secs(20);

const WORDS: [&str; 46] = [
    "--cgroup-root=",
    "--cgroup_root ",
    "--cgroups-per-qos=false",
    "--enforce-node-allocatable=",
    "--config=/f ",
    "--root-dir=",
    "--cgroup-driver=systemd",
    "--kube-reserved-cgroup=/",
    " -- ",
    "\n#",
    "\"",
    "'",
    "${",
    "$SNAP_DATA",
    "$$",
    "}",
    "  ",
    "\n",
    "\t",
    "/../",
    "/./",
    "//",
    "max",
    "max\n",
    "domain threaded\n",
    "domain invalid\n",
    "threaded\n",
    "populated 1\n",
    "frozen 1\n",
    "cpuset ",
    "0::/",
    " (deleted)",
    ") ",
    " - cgroup2 cgroup2 rw",
    "\\040",
    "&a [*a, *a, *a]\n",
    "? [",
    "---\n",
    "{\"a\":",
    "]]]]",
    "[[a]]\n",
    "policyName",
    "\u{1b}[31m",
    "\u{9b}",
    "\u{202e}",
    "é",
];

fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn in_time<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let answer = work();
    assert!(
        start.elapsed() < PATIENCE,
        "{what} took {:?}",
        start.elapsed()
    );
    answer
}

/// A reader: the file that it reads below an otherwise empty root, usual contents of this file, and
/// the call.
struct Reader {
    file: &'static str,
    usual: &'static [&'static str],
    read: fn(&Root, &[u8]),
}

const CONFIG: &str = "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: systemd
cgroupRoot: /a
enforceNodeAllocatable: [pods, kube-reserved]
cgroupsPerQOS: no
";

const READERS: &[Reader] = &[
    Reader {
        file: "args",
        usual: &["--cgroup-root=/a\n# no\n--root-dir=${SNAP_COMMON}/x -v \
             4\n--cgroups-per-qos=\"false\"\n--a b\n"],
        read: |_, bytes| {
            let known = |name: &str| (name != "HOME").then(|| "/x y".to_owned());
            let read = flags::parse(&args::parse(&String::from_utf8_lossy(bytes), &known));
            let _ =
                read.and_then(|flags| Settings::default().with_flags(&flags, Path::new("/args")));
        },
    },
    Reader {
        file: "words",
        usual: &[
            "--root\n/x\n--json",
            "-n\n--pre-start",
            "-nV",
            "--no-restart\n--boot",
        ],
        read: |_, bytes| {
            use std::os::unix::ffi::OsStringExt;
            let words = bytes
                .split(|byte| *byte == b'\n')
                .map(|word| std::ffi::OsString::from_vec(word.to_vec()));
            let _ = cli::parse(words);
        },
    },
    Reader {
        file: "config",
        usual: &[
            CONFIG,
            concat!(
                r#"{"apiVersion":"kubelet.config.k8s.io/v1beta1","#,
                r#""kind":"KubeletConfiguration","cgroupRoot":"/a"}"#,
            ),
        ],
        read: |root, _| drop(config::read(root, Some(Path::new("/config")), None)),
    },
    Reader {
        file: "containerd",
        usual: &[r#"version = 2
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = true
"#],
        read: |root, _| drop(containerd::read(root, &[PathBuf::from("/containerd")])),
    },
    Reader {
        file: "mountinfo",
        usual: &[
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n\
                  32 31 0:28 / /sys/fs/cgroup/cpu\\040,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n",
        ],
        read: |_, bytes| {
            let text = String::from_utf8_lossy(bytes);
            let _ = mounts::mode(&text, &mounts::parse(&text));
        },
    },
    Reader {
        file: "proc/7/task/7/stat",
        usual: &[
            "7 (a) b) S 1 7 7 0 -1 67109888 0 0 0 0 0 0 0 0 -100 0 1 0 33 0 0 0 0 0 0 0 0 0 0 0 0 \
             0 0 0 99 2 0 0 0 0 0\n",
        ],
        read: |root, _| drop(tasks::observe(root)),
    },
    Reader {
        file: "proc/7/task/7/cgroup",
        usual: &["1:name=systemd:/x\n0::/system.slice/a.service (deleted)\n"],
        read: |root, _| drop(tasks::observe(root)),
    },
    Reader {
        file: "cgroup.controllers",
        usual: &["cpuset cpu io memory hugetlb pids rdma\n"],
        read: read_group,
    },
    Reader {
        file: "cgroup.type",
        usual: &["domain threaded\n", "threaded\n"],
        read: read_group,
    },
    Reader {
        file: "cgroup.procs",
        usual: &["1\n22\n0\n4194304\n"],
        read: read_group,
    },
    Reader {
        file: "cgroup.events",
        usual: &["populated 1\nfrozen 0\n"],
        read: read_group,
    },
    Reader {
        file: "cgroup.stat",
        usual: &["nr_descendants 3\nnr_dying_descendants 0\n"],
        read: read_group,
    },
    Reader {
        file: "cgroup.max.descendants",
        usual: &["max\n", "12\n"],
        read: read_group,
    },
    Reader {
        file: "cpu.max",
        usual: &["max 100000\n"],
        read: read_group,
    },
    Reader {
        file: "cpu_manager_state",
        usual: &["{\"policyName\":\"none\",\"defaultCpuSet\":\"\",\"checksum\":1353318690}"],
        read: |root, _| drop(state_files::observe(root, &at_root())),
    },
    Reader {
        file: "marker",
        usual: &[
            "kubepods-repair-boot 1\nboot-id a\nended cleanly\nprevious unknown\nkernel \
             6.1\nrevision 7\nend\n",
        ],
        read: |_, bytes| {
            let marker = Marker::parse(&String::from_utf8_lossy(bytes));
            assert!(
                marker.is_none_or(|marker| Marker::parse(&marker.render()) == Some(marker)),
                "what is read can be written"
            );
        },
    },
    Reader {
        file: ".errnos",
        usual: &["EIO /a\nENODEV /b\n"],
        read: |root, _| drop(root.read(Path::new("/a"))),
    },
    Reader {
        file: "proc/config.gz",
        usual: &["\u{1f}\u{8b}\u{8}"],
        read: |root, _| assert_ne!(kernel::observe(root).has_rt_group_sched(root), Some(true)),
    },
];

fn read_group(root: &Root, _: &[u8]) {
    let _ = group::observe(root, Path::new("/"), &CgroupPath::root(), Depth::Qos);
}

#[test]
fn no_reader_panics_or_hangs_on_any_input() {
    let folder = scratch("readers");
    let put = |reader: &Reader, bytes: &[u8]| {
        let path = folder.join(reader.file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    for reader in READERS {
        put(reader, reader.usual[0].as_bytes());
    }
    for (number, reader) in READERS.iter().enumerate() {
        let mut chance = Chance::new(number as u64 + 1);
        for _ in 0..rounds(200) {
            let mut bytes = chance.pick(reader.usual).as_bytes().to_vec();
            for _ in 0..=chance.below(6) {
                mutate(&mut chance, &mut bytes, &WORDS);
            }
            put(reader, &bytes);
            let root = Root::captured(&folder).unwrap();
            in_time(reader.file, || (reader.read)(&root, &bytes));
        }
        put(reader, reader.usual[0].as_bytes());
    }
}

/// Every file, link and empty folder below a folder, by its path inside.
fn files_of(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut to_visit = vec![folder.to_owned()];
    while let Some(visited) = to_visit.pop() {
        let entries: Vec<_> = fs::read_dir(&visited)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        if entries.is_empty() {
            found.push(visited.strip_prefix(folder).unwrap().to_owned());
        }
        for entry in entries {
            if entry.file_type().unwrap().is_dir() {
                to_visit.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn copy_of(from: &Path, files: &[PathBuf], to: &Path) {
    let _ = fs::remove_dir_all(to);
    for file in files {
        let (original, copy) = (from.join(file), to.join(file));
        let kind = original.symlink_metadata().unwrap().file_type();
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        if kind.is_symlink() {
            symlink(fs::read_link(original).unwrap(), copy).unwrap();
        } else if kind.is_dir() {
            fs::create_dir(copy).unwrap();
        } else {
            fs::copy(original, copy).unwrap();
        }
    }
}

/// Changes one thing in the tree at `root` into something else.
fn disturb(chance: &mut Chance, root: &Path, files: &[PathBuf]) {
    let path = root.join(&files[chance.below(files.len())]);
    // What an earlier turn has made of it stays: a folder, or a pipe that nobody would ever write
    // to.
    let Ok(kind) = path.symlink_metadata().map(|meta| meta.file_type()) else {
        return;
    };
    let mut bytes = match (kind.is_file(), kind.is_symlink()) {
        (true, _) => fs::read(&path).unwrap(),
        (_, true) => fs::read_link(&path)
            .unwrap()
            .into_os_string()
            .into_encoded_bytes(),
        _ => return,
    };
    fs::remove_file(&path).unwrap();
    match chance.below(16) {
        0 => {}
        1 => fs::create_dir(&path).unwrap(),
        2 => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        3 => symlink(
            chance.pick(&["/", ".", "..", "/proc", "/dev/zero", "../../..", "nowhere"]),
            &path,
        )
        .unwrap(),
        4 => symlink(path.file_name().unwrap(), &path).unwrap(),
        5 => {
            let names = [
                "pod\u{1b}[31m",
                "pod..",
                "burstable",
                "podé\u{202e}",
                "x.service",
                "-n",
                "pod11111111-2222-3333-4444-555555555555",
            ];
            let _ = fs::create_dir(path.parent().unwrap().join(chance.pick(&names)));
        }
        _ => {
            for _ in 0..=chance.below(3) {
                mutate(chance, &mut bytes, &WORDS);
            }
            fs::write(&path, &bytes).unwrap();
        }
    }
}

#[test]
fn no_host_makes_the_program_panic_or_hang() {
    let cases = Cases::unpack();
    let scratch = scratch("hosts");
    let mut outcomes = std::collections::BTreeMap::new();
    for (number, case) in cases.all.iter().enumerate() {
        let files = files_of(&case.root());
        let mut chance = Chance::new(1000 + number as u64);
        for round in 0..rounds(6) {
            let root = scratch.join("root");
            copy_of(&case.root(), &files, &root);
            for _ in 0..=chance.below(4) {
                disturb(&mut chance, &root, &files);
            }
            let how = [
                chance.pick(&["--dry-run", "--pre-start", "--early", "--boot"]),
                chance.pick(&["--json", "--no-restart"]),
            ];
            let options = options(&root, &how);
            let what = format!("round {round} of {}", case.name);
            let report = in_time(&what, || kubepods_repair::run::run(&options));
            check(&report, &options, &what);
            *outcomes.entry(report.outcome().name()).or_insert(0) += 1;
        }
    }
    println!("damaged hosts: {outcomes:?}");
    assert!(outcomes.len() > 3, "too tame: {outcomes:?}");
}

fn options(root: &Path, how: &[&str]) -> Options {
    let words = how
        .iter()
        .chain(&["--root"])
        .map(Into::into)
        .chain([root.into()]);
    match cli::parse(words).unwrap() {
        cli::Command::Run(options) => options,
        other => panic!("{other:?}"),
    }
}

fn check(report: &Report, options: &Options, what: &str) {
    let told = text::render(report, false);
    let json = json::render(report);
    let is_deceptive = |c: char| c != '\n' && c.is_control() || c == '\u{202e}';
    assert!(
        !told.contains(is_deceptive) && !json.contains(is_deceptive),
        "{what}: {told:?}"
    );
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["exit"], report.exit() as u8, "{what}");
    let (Some(settings), Some(host)) = (&report.settings, &report.host) else {
        return;
    };
    let steps: Vec<&Step> = report.steps.iter().map(|taken| &taken.step).collect();
    let root = Root::captured(options.root.as_ref().unwrap()).unwrap();
    let rt_group_sched = host.kernel.has_rt_group_sched(&root);
    let terms = Terms {
        occasion: options.occasion,
        no_restart: options.no_restart,
        leave_cpu: Terms::leaves_cpu(options.occasion, rt_group_sched),
    };
    // Whether a container runs matters only where a state file would be set aside.
    let learned = Learned {
        containers_run: containers_run(&root, settings, host).unwrap_or(true),
        ..Learned::default()
    };
    let broken = Judge {
        settings,
        host,
        terms,
        learned: &learned,
    }
    .broken(&steps);
    assert_eq!(broken, None, "{what}: {told}");
}

/// Settings with the root directory `/`.
fn at_root() -> Settings {
    let mut settings = Settings::default();
    settings.root_dir.value = "/".into();
    settings
}

/// Kilobytes of address space: three times what a debug build always has.
const MEMORY: &str = "200000";

#[test]
fn no_file_uses_up_the_memory() {
    let cases = Cases::only("01-healthy");
    let root = cases.all[0].root();
    let args = "var/snap/microk8s/6364/args";
    let state = "var/snap/microk8s/common/var/lib/kubelet/memory_manager_state";
    let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
    let bomb = (b'b'..b'z').map(|c| {
        format!(
            "{}: &{0} [{1}]\n",
            char::from(c),
            format!("*{},", char::from(c - 1)).repeat(20)
        )
    });
    let bomb = format!("{head}a: &a [1]\n{}", bomb.collect::<String>());
    let usual = fs::read_to_string(root.join(args).join("kubelet")).unwrap();
    fs::write(
        root.join(args).join("kubelet"),
        format!("--config=/config\n{usual}"),
    )
    .unwrap();
    fs::write(root.join("config"), head).unwrap();
    let shapes: [(String, &str, &str); 8] = [
        (format!("{args}/kubelet"), "", "--a=1\n"),
        (format!("{args}/kubelet"), "", "--b "),
        ("config".to_owned(), head, "- a: [\n"),
        ("config".to_owned(), &bomb, ""),
        (format!("{args}/containerd.toml"), "a = ", "["),
        (format!("{args}/containerd.toml"), "", "[[a.b]]\n"),
        (state.to_owned(), "{\"policyName\":\"none\",\"x\":[", "{},"),
        (
            "proc/self/mountinfo".to_owned(),
            "",
            "30 23 0:26 / /sys/fs/cgroup/a rw - cgroup2 cgroup2 rw\n",
        ),
    ];
    for (file, first, then) in shapes {
        for size in [(2 << 20) - 100, 20 << 20] {
            let path = root.join(&file);
            let before = fs::read(&path).ok();
            fs::write(
                &path,
                first.to_owned() + &then.repeat(size / then.len().max(1)),
            )
            .unwrap();
            let mut command = Command::new("sh");
            command
                .args([
                    "-c",
                    "ulimit -v $0; exec \"$@\"",
                    MEMORY,
                    env!("CARGO_BIN_EXE_kubepods-repair"),
                    "--root",
                ])
                .arg(&root);
            let output = in_time(&file, || command.output().unwrap());
            assert!(
                matches!(output.status.code(), Some(0 | 1 | 3)),
                "{file}, {size} of {then:?}: {output:?}"
            );
            match before {
                Some(before) => fs::write(&path, before).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
        }
    }
}
