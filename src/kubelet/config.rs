//! `--config` and `--config-dir`: KubeletConfiguration files, those fields of them that matter here.
//!
//! Rests on `pkg/kubelet/kubeletconfig/configfiles` and `cmd/kubelet/app/server.go` (`loadConfig`,
//! `loadDropinConfigFileIntoJSON`): YAML 1.1 or JSON, the first document only, case-sensitive keys, unknown keys ignored, of
//! duplicate keys the last one; drop-ins are merged in lexical order as JSON merge patches, so null takes a value away.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use serde_saphyr::options::DuplicateKeyPolicy;

use crate::cgroup::CgroupPath;
use crate::kubelet::{Driver, Origin, Settings, Sourced};
use crate::root::{ReadError, Root};

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";

/// What the aliases of a file may come to, in YAML events; the library's own million fills 150 MB.
const LARGEST_EXPANSION: usize = 20_000;

/// Why a configuration file says nothing that can be relied on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The kubelet itself would refuse it.
    #[error("{path}: {reason}", path = path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where that is known.
        reason: String,
    },
}

/// A field that may be absent, null, or have a value.
type Field<T> = Option<Option<T>>;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    api_version: Option<String>,
    kind: Option<String>,
    #[serde(rename = "cgroupsPerQOS", default, deserialize_with = "given")]
    cgroups_per_qos: Field<Plain>,
    #[serde(default, deserialize_with = "given")]
    cgroup_driver: Field<String>,
    #[serde(default, deserialize_with = "given")]
    cgroup_root: Field<String>,
    #[serde(default, deserialize_with = "given")]
    enforce_node_allocatable: Field<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    kube_reserved_cgroup: Field<String>,
    #[serde(default, deserialize_with = "given")]
    system_reserved_cgroup: Field<String>,
    #[serde(rename = "failCgroupV1", default, deserialize_with = "given")]
    fail_cgroup_v1: Field<Plain>,
    #[serde(default, deserialize_with = "given")]
    cpu_manager_policy: Field<String>,
    #[serde(default, deserialize_with = "given")]
    memory_manager_policy: Field<String>,
}

/// A boolean that stands there without quotes: a quoted one is text to the kubelet, and an error.
#[derive(Clone, Copy, Debug)]
struct Plain(bool);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Only;
        impl Visitor<'_> for Only {
            type Value = Plain;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a boolean without quotes")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Plain, E> {
                Ok(Plain(value))
            }
        }
        deserializer.deserialize_any(Only)
    }
}

fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Field<T>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// The defaults, with `config` and then every drop-in of `dropins` over them.
///
/// # Errors
/// When a file cannot be read, or the kubelet would refuse it.
pub fn read(root: &Root, config: Option<&Path>, dropins: Option<&Path>) -> Result<Settings, ConfigError> {
    let mut settings = Settings::default();
    if let Some(path) = config {
        apply(&mut settings, &parse(path, root.read_bytes(path)?)?, path)?;
    }
    for path in dropins.map_or(Ok(Vec::new()), |folder| root.files_below(folder))? {
        if path.extension().is_some_and(|extension| extension == "conf") {
            apply(&mut settings, &parse(&path, root.read_bytes(&path)?)?, &path)?;
        }
    }
    Ok(settings)
}

fn parse(path: &Path, bytes: Vec<u8>) -> Result<File, ConfigError> {
    let invalid = |reason: String| ConfigError::Invalid { path: path.to_owned(), reason };
    let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    let text =
        text.ok_or_else(|| invalid("it is no text (NUL bytes, or not UTF-8), as a power cut may leave it".into()))?;
    let mut options = serde_saphyr::Options::default();
    options.duplicate_keys = DuplicateKeyPolicy::LastWins;
    options.with_snippet = false;
    options.alias_limits.max_total_replayed_events = LARGEST_EXPANSION;
    let mut reader = text.as_bytes();
    let first = serde_saphyr::read_with_options::<_, File>(&mut reader, options).next();
    let file = first.unwrap_or_else(|| Ok(File::default())).map_err(|error| invalid(error.to_string()))?;
    match (file.api_version.as_deref(), file.kind.as_deref()) {
        (Some(API_VERSION), Some(KIND)) => Ok(file),
        _ => Err(invalid(format!(
            "apiVersion {API_VERSION} and kind {KIND} are not both there, and the kubelet refuses it"
        ))),
    }
}

fn apply(settings: &mut Settings, file: &File, path: &Path) -> Result<(), ConfigError> {
    let default = Settings::default();
    let invalid = |reason: String| ConfigError::Invalid { path: path.to_owned(), reason };
    let group = |key: &str, text: &str| {
        let reason = || format!("{key} {text:?} is no path of a cgroup that could be made or found as it stands");
        CgroupPath::parse(text).ok_or_else(|| invalid(reason()))
    };
    let reserved = |key: &str, text: &str| Ok(Some(group(key, text)?).filter(|path| !path.is_root()));
    let driver = |text: &str| match text {
        "cgroupfs" => Ok(Driver::Cgroupfs),
        "systemd" => Ok(Driver::Systemd),
        other => Err(invalid(format!("cgroupDriver {other:?} is neither cgroupfs nor systemd"))),
    };
    let kept = |text: &str| Ok(text.to_owned());

    let here = Here { path };
    here.set("cgroupsPerQOS", &file.cgroups_per_qos, &mut settings.cgroups_per_qos, default.cgroups_per_qos, |is| {
        Ok(is.0)
    })?;
    here.set_text("cgroupDriver", &file.cgroup_driver, &mut settings.driver, default.driver, driver)?;
    let root = |text: &str| group("cgroupRoot", text);
    here.set_text("cgroupRoot", &file.cgroup_root, &mut settings.cgroup_root, default.cgroup_root, root)?;
    let list = |list: &Vec<String>| Ok(list.clone());
    here.set("enforceNodeAllocatable", &file.enforce_node_allocatable, &mut settings.enforced, default.enforced, list)?;
    let kube = |text: &str| reserved("kubeReservedCgroup", text);
    here.set_text(
        "kubeReservedCgroup",
        &file.kube_reserved_cgroup,
        &mut settings.kube_reserved,
        default.kube_reserved,
        kube,
    )?;
    let system = |text: &str| reserved("systemReservedCgroup", text);
    let field = &file.system_reserved_cgroup;
    here.set_text("systemReservedCgroup", field, &mut settings.system_reserved, default.system_reserved, system)?;
    let (fail, usual) = (&mut settings.fail_cgroup_v1, default.fail_cgroup_v1);
    here.set("failCgroupV1", &file.fail_cgroup_v1, fail, usual, |is| Ok(Some(is.0)))?;
    let (policy, usual) = (&mut settings.cpu_manager_policy, default.cpu_manager_policy);
    here.set_text("cpuManagerPolicy", &file.cpu_manager_policy, policy, usual, kept)?;
    let (policy, usual) = (&mut settings.memory_manager_policy, default.memory_manager_policy);
    here.set_text("memoryManagerPolicy", &file.memory_manager_policy, policy, usual, kept)
}

/// The file whose fields are applied.
struct Here<'a> {
    path: &'a Path,
}

impl Here<'_> {
    /// Absent keeps what was there, null takes it back to the default.
    fn set<T, V: PartialEq>(
        &self,
        key: &'static str,
        field: &Field<T>,
        setting: &mut Sourced<V>,
        default: Sourced<V>,
        value: impl Fn(&T) -> Result<V, ConfigError>,
    ) -> Result<(), ConfigError> {
        match field {
            None => {}
            Some(None) => *setting = default,
            Some(Some(given)) => setting.set(value(given)?, Origin::Config(self.path.to_owned(), key)),
        }
        Ok(())
    }

    /// As [`Self::set`]; to the kubelet an empty text is none.
    fn set_text<V: PartialEq>(
        &self,
        key: &'static str,
        field: &Field<String>,
        setting: &mut Sourced<V>,
        default: Sourced<V>,
        value: impl Fn(&str) -> Result<V, ConfigError>,
    ) -> Result<(), ConfigError> {
        match field {
            Some(Some(text)) if text.is_empty() => *setting = default,
            field => self.set(key, field, setting, default, |text: &String| value(text))?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(files: &[&str]) -> Result<Settings, ConfigError> {
        let mut settings = Settings::default();
        for (number, text) in files.iter().enumerate() {
            let path = PathBuf::from(format!("/{number}"));
            apply(&mut settings, &parse(&path, text.as_bytes().to_vec())?, &path)?;
        }
        Ok(settings)
    }

    fn with_head(body: &str) -> String {
        format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{body}")
    }

    fn one(body: &str) -> Settings {
        settings(&[&with_head(body)]).unwrap()
    }

    #[test]
    fn values_of_yaml_1_1() {
        for (body, qos) in [
            ("cgroupsPerQOS: no", false),
            ("cgroupsPerQOS: off", false),
            ("cgroupsPerQOS: FALSE", false),
            ("cgroupsPerQOS: yes", true),
            ("", true),
            ("cgroupsPerQOS: null", true),
            ("cgroupsPerQOS:", true),
        ] {
            assert_eq!(one(body).cgroups_per_qos.value, qos, "{body}");
        }
        for body in [
            "cgroupsPerQOS: \"false\"",
            "cgroupsPerQOS: 'no'",
            "cgroupsPerQOS: 0",
            "cgroupsPerQOS: maybe",
            "cgroupRoot: [a]",
        ] {
            assert!(settings(&[&with_head(body)]).is_err(), "{body}");
        }
    }

    #[test]
    fn keys_are_case_sensitive_unknown_ones_pass_and_the_last_of_two_wins() {
        assert!(one("cgroupsPerQos: false\nfeatureGates: {A: true}\nfoo: [1, {b: c}]").cgroups_per_qos.value);
        assert_eq!(one("cgroupRoot: /a\ncgroupRoot: /b").cgroup_root.value.as_str(), "/b");
    }

    #[test]
    fn json_and_only_the_first_document() {
        let json = format!("{{\"apiVersion\":\"{API_VERSION}\",\"kind\":\"{KIND}\",\"cgroupDriver\":\"systemd\"}}");
        assert_eq!(settings(&[&json]).unwrap().driver.value, Driver::Systemd);
        assert_eq!(one("cgroupRoot: /a\n---\ncgroupRoot: /b").cgroup_root.value.as_str(), "/a");
        assert_eq!(one("cgroupRoot: /a\n---\n[this is: broken").cgroup_root.value.as_str(), "/a");
    }

    #[test]
    fn empty_values_are_defaults_but_an_empty_list_is_one() {
        let read = one("cgroupDriver: ''\ncgroupRoot: ''\nenforceNodeAllocatable: []\ncpuManagerPolicy: static");
        assert_eq!((read.driver, read.cgroup_root), (Settings::default().driver, Settings::default().cgroup_root));
        assert!(read.enforced.value.is_empty());
        assert_eq!(read.cpu_manager_policy.origin.to_string(), "/0, cpuManagerPolicy");
        assert_eq!(one("enforceNodeAllocatable: null").enforced.value, ["pods"]);
    }

    #[test]
    fn dropins_are_merge_patches() {
        let base = with_head("cgroupRoot: /a\ncgroupDriver: systemd\nenforceNodeAllocatable: [pods, kube-reserved]");
        let over = with_head("cgroupRoot: null\nenforceNodeAllocatable: [none]");
        let read = settings(&[&base, &over]).unwrap();
        assert_eq!((read.cgroup_root.value.as_str(), read.driver.value), ("/", Driver::Systemd));
        assert_eq!(read.enforced.value, ["none"]);
    }

    #[test]
    fn what_the_kubelet_refuses() {
        let headless =
            ["", "cgroupRoot: /a", "kind: KubeletConfiguration", "apiVersion: v1\nkind: Pod", "[]", "5", "{"];
        for text in headless {
            assert!(settings(&[text]).is_err(), "{text:?}");
        }
        for body in ["cgroupDriver: docker", "cgroupRoot: /a/../b", "a: \"\0\"", "a: &a [b", "\tb: c"] {
            assert!(settings(&[&with_head(body)]).is_err(), "{body:?}");
        }
        assert!(parse(Path::new("/x"), vec![0xff, 0xfe, b'a']).is_err());
    }

    #[test]
    fn bombs_and_bulk_end_soon() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let row = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{row}]\n"));
        }
        let start = std::time::Instant::now();
        let _ = settings(&[&with_head(&bomb)]);
        let _ = settings(&[&with_head(&"- x\n".repeat(2_500_000))]);
        let _ = settings(&[&with_head(&"[".repeat(100_000))]);
        assert!(start.elapsed().as_secs() < 60);
    }
}
