//! Checks how the args file and the flags are read. Files are composed of pieces whose meaning to a
//! kubelet is in the table below, spelled in every way that the grammar allows. The split into
//! arguments is compared with that of the stand-in, which was written independently of this program
//! (`kubelet-rules --print-args`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod chance;

use std::fs;
use std::path::Path;
use std::process::Command;

use chance::{Chance, rounds};
use kubepods_repair::kubelet::{Settings, args, flags};

fn variable(name: &str) -> Option<String> {
    match name {
        "SNAP_DATA" => Some("/var/snap/microk8s/7".to_owned()),
        "SNAP_COMMON" => Some("/var/snap/microk8s/common".to_owned()),
        _ => None,
    }
}

fn read(file: &str) -> Result<Settings, flags::FlagError> {
    let flags = flags::parse(&args::parse(file, &variable))?;
    Settings::default().with_flags(&flags, Path::new("args/kubelet"))
}

/// The resulting settings, by the kubelet's own names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Meaning {
    per_qos: bool,
    driver: &'static str,
    root: &'static str,
    root_dir: &'static str,
    cpu_policy: &'static str,
    reserved: Option<&'static str>,
    enforced: Vec<&'static str>,
    enforced_before: bool,
    gate: Option<bool>,
    endpoint: Option<&'static str>,
    cpu: Option<&'static str>,
}

impl Meaning {
    fn default() -> Self {
        let (driver, root, root_dir, cpu_policy) = ("cgroupfs", "/", "/var/lib/kubelet", "none");
        let enforced = vec!["pods"];
        let (reserved, gate, endpoint, cpu) = (None, None, None, None);
        let enforced_before = false;
        Self {
            per_qos: true,
            driver,
            root,
            root_dir,
            cpu_policy,
            reserved,
            enforced,
            enforced_before,
            gate,
            endpoint,
            cpu,
        }
    }

    /// The first occurrence replaces the default, later ones add to it.
    fn enforce(&mut self, words: &[&'static str]) {
        if !std::mem::replace(&mut self.enforced_before, true) {
            self.enforced.clear();
        }
        self.enforced.extend(words);
    }

    fn is(&self, settings: &Settings) -> bool {
        settings.cgroups_per_qos.value == self.per_qos
            && settings.driver.value.to_string() == self.driver
            && settings.cgroup_root.value.to_string() == self.root
            && settings.root_dir.value == Path::new(self.root_dir)
            && settings.cpu_manager_policy.value == self.cpu_policy
            && settings
                .kube_reserved
                .value
                .as_ref()
                .map(std::string::ToString::to_string)
                .as_deref()
                == self.reserved
            && settings.enforced.value == self.enforced
            && settings.feature_gates.get("G").map(|gate| gate.value) == self.gate
            && settings.runtime_endpoint.value.as_deref() == self.endpoint
            && settings
                .kube_reservation
                .get("cpu")
                .map(|amount| amount.value.as_str())
                == self.cpu
    }
}

/// A flag, a value that may also be the next argument, a value that needs `=`, and what they mean.
type Piece = (
    &'static str,
    Option<&'static str>,
    Option<&'static str>,
    fn(&mut Meaning),
);

const PIECES: &[Piece] = &[
    ("cgroups-per-qos", None, None, |now| now.per_qos = true),
    ("cgroups-per-qos", None, Some("false"), |now| {
        now.per_qos = false;
    }),
    ("cgroups-per-qos", None, Some("F"), |now| {
        now.per_qos = false;
    }),
    ("cgroups-per-qos", None, Some("0"), |now| {
        now.per_qos = false;
    }),
    ("cgroups-per-qos", None, Some("TRUE"), |now| {
        now.per_qos = true;
    }),
    ("cgroup-driver", Some("systemd"), None, |now| {
        now.driver = "systemd";
    }),
    ("cgroup-driver", Some("cgroupfs"), None, |now| {
        now.driver = "cgroupfs";
    }),
    ("cgroup-driver", None, Some(""), |now| {
        now.driver = "cgroupfs";
    }),
    ("cgroup-root", Some("/a"), None, |now| now.root = "/a"),
    ("cgroup-root", Some("a//b/"), None, |now| now.root = "/a/b"),
    ("cgroup-root", Some("--x"), None, |now| now.root = "/--x"),
    ("cgroup-root", None, Some(""), |now| now.root = "/"),
    ("root-dir", Some("$SNAP_COMMON/x"), None, |now| {
        now.root_dir = "/var/snap/microk8s/common/x";
    }),
    ("root-dir", Some("${SNAP_DATA}x"), None, |now| {
        now.root_dir = "/var/snap/microk8s/7x";
    }),
    ("cpu-manager-policy", Some("static"), None, |now| {
        now.cpu_policy = "static";
    }),
    ("kube-reserved-cgroup", Some("/r"), None, |now| {
        now.reserved = Some("/r");
    }),
    (
        "enforce-node-allocatable",
        Some("pods,kube-reserved"),
        None,
        |now| now.enforce(&["pods", "kube-reserved"]),
    ),
    (
        "enforce-node-allocatable",
        Some("kube-reserved"),
        None,
        |now| now.enforce(&["kube-reserved"]),
    ),
    ("enforce-node-allocatable", None, Some(""), |now| {
        now.enforce(&[]);
    }),
    ("feature-gates", Some("A=true,G=f,"), None, |now| {
        now.gate = Some(false);
    }),
    ("feature-gates", Some("G=1"), None, |now| {
        now.gate = Some(true);
    }),
    ("feature-gates", None, Some(""), |_| ()),
    (
        "container-runtime-endpoint",
        Some("$SNAP_COMMON/x"),
        None,
        |now| {
            now.endpoint = Some("/var/snap/microk8s/common/x");
        },
    ),
    ("kube-reserved", Some("cpu=1,memory=1Gi"), None, |now| {
        now.cpu = Some("1");
    }),
    ("kube-reserved", Some("pid=9"), None, |_| ()),
    ("v", None, Some("4"), |_| ()),
    ("node-labels", None, Some("a=b,c=$NOBODY"), |_| ()),
];

/// Arguments that every kubelet refuses, wherever they are.
const REFUSED: [&str; 12] = [
    "--cgroups-per-qos false",
    "--cgroups-per-qos=maybe",
    "--v=1  --v=2",
    "word",
    "---v=1",
    "--=1",
    "-",
    "--cgroup-driver=docker",
    "\"\"",
    "--feature-gates=A",
    "--feature-gates=A=yes",
    "--kube-reserved=cpu",
];

/// The reader removes quotes anywhere.
fn quoted(chance: &mut Chance, text: &str) -> String {
    let mut quoted = String::new();
    for c in text.chars() {
        if chance.one_in(12) {
            quoted.push_str(chance.pick(&["\"", "'"]));
        }
        quoted.push(c);
    }
    quoted
}

fn spelled(chance: &mut Chance, (name, free, bound, _): &Piece) -> String {
    let name: String = name
        .chars()
        .map(|c| if c == '-' && chance.one_in(3) { '_' } else { c })
        .collect();
    let text = match (free, bound) {
        (Some(value), _) => format!("--{name}{}{value}", chance.pick(&["=", " ", "\n"])),
        (None, Some(value)) => format!("--{name}={value}"),
        (None, None) => format!("--{name}"),
    };
    quoted(chance, &text)
}

fn file_of(chance: &mut Chance, pieces: &[String]) -> String {
    let mut file = String::new();
    for piece in pieces {
        file.push_str(chance.pick(&[
            "",
            "",
            "",
            "# --cgroup-root=/no\n",
            "   #x\n",
            "\n\n",
            " \t\n",
            "  ",
            "\t",
        ]));
        file.push_str(piece);
        file.push_str(chance.pick(&["\n", "\n", "\n", "  \n", "\r\n", "\t\n"]));
    }
    file
}

#[test]
fn flags_are_read_as_a_kubelet_reads_them() {
    let mut chance = Chance::new(3);
    for _ in 0..rounds(5_000) {
        let mut meaning = Meaning::default();
        let mut pieces = Vec::new();
        for _ in 0..chance.below(7) {
            let piece = &PIECES[chance.below(PIECES.len())];
            (piece.3)(&mut meaning);
            pieces.push(spelled(&mut chance, piece));
        }
        let file = file_of(&mut chance, &pieces);
        let settings = read(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        assert!(
            meaning.is(&settings),
            "{file:?}: {meaning:?}, not {settings:?}"
        );

        let (place, refused) = (chance.below(pieces.len() + 1), chance.pick(&REFUSED));
        pieces.insert(place, refused.to_owned());
        let file = file_of(&mut chance, &pieces);
        assert!(read(&file).is_err(), "{refused:?} was taken in {file:?}");
    }
}

#[test]
fn arguments_are_split_as_the_stand_in_splits_them() {
    const ATOMS: [&str; 17] = [
        "--a",
        "=",
        "b",
        " ",
        "  ",
        "\t",
        "\n",
        "\n#",
        "#",
        "\"",
        "'",
        "$SNAP_DATA",
        "${SNAP_COMMON}",
        "$NOBODY",
        "\r\n",
        ",",
        "é",
    ];
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/guest/bin/kubelet-rules");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("grammar-args");
    let mut chance = Chance::new(5);
    for _ in 0..rounds(60) {
        let text: String = (0..chance.below(40)).map(|_| chance.pick(&ATOMS)).collect();
        fs::write(&file, &text).unwrap();
        let mut command = Command::new("perl");
        command
            .arg(&script)
            .args(["--print-args", "--args-file"])
            .arg(&file)
            .env_remove("NOBODY");
        for name in ["SNAP_DATA", "SNAP_COMMON"] {
            command.env(name, variable(name).unwrap());
        }
        let output = command
            .output()
            .expect("perl is part of every Debian and Ubuntu");
        assert!(output.status.success(), "{output:?}");
        let ours: String = args::parse(&text, &variable)
            .into_iter()
            .map(|arg| arg.text + "\n")
            .collect();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), ours, "{text:?}");
    }
}
