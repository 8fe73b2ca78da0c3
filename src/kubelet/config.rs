//! `--config` and `--config-dir`: KubeletConfiguration files, those fields of them that matter
//! here.
//!
//! Rests on `pkg/kubelet/kubeletconfig/configfiles` and `cmd/kubelet/app/server.go` (`loadConfig`,
//! `mergeKubeletConfigurations`): YAML 1.1 or JSON, the first document only, case-sensitive keys,
//! unknown keys ignored, of duplicate keys the last one; drop-ins are merged in lexical order as
//! JSON merge patches, so null takes a value away.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cgroup::CgroupPath;
use crate::kubelet::yaml::{self, Node, Value};
use crate::kubelet::{Driver, ErrorKind, Origin, Settings, Sourced};
use crate::root::keep::checked_text;
use crate::root::{ReadError, Root};

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";

/// Why a configuration file says nothing that can be relied on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The kubelet itself refuses it, or this program cannot know what it comes to.
    #[error("{path}: {reason}", path = path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where that is known.
        reason: String,
        /// Who it is that cannot make anything of it.
        kind: ErrorKind,
    },
}

/// The defaults, with `config` and then every drop-in of `dropins` over them.
///
/// # Errors
/// When a file cannot be read, or the kubelet would refuse it.
pub fn read(
    root: &Root,
    config: Option<&Path>,
    dropins: Option<&Path>,
) -> Result<Settings, ConfigError> {
    let mut settings = Settings::default();
    let keys = keys();
    let keep = checked_text(|text| yaml::keep(text, &keys));
    let reader = root.keeping(&keep);
    if let Some(path) = config {
        parse(path, reader.read_bytes(path)?)?.apply(&mut settings, Role::Base)?;
    }
    let Some(folder) = dropins else {
        return Ok(settings);
    };
    // On its way to the drop-ins an empty list is left out (`omitempty`), and what is left out gets
    // its default.
    if settings.enforced.value.is_empty() {
        settings.enforced = Settings::default().enforced;
    }
    for path in root.files_below(folder)? {
        if path
            .extension()
            .is_some_and(|extension| extension == "conf")
        {
            parse(&path, reader.read_bytes(&path)?)?.apply(&mut settings, Role::Dropin)?;
        }
    }
    Ok(settings)
}

/// Whether a file is the first word or changes earlier ones.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// `--config`
    Base,
    /// One of `--config-dir`: maps are merged key by key.
    Dropin,
}

/// A file's fields.
struct File<'a> {
    path: &'a Path,
    fields: BTreeMap<String, Node>,
    /// The keys that were looked for.
    asked: RefCell<Vec<&'static str>>,
}

/// The keys that are read, by asking an empty file for them: a capture keeps their values.
fn keys() -> Vec<&'static str> {
    let nothing = File {
        path: Path::new(""),
        fields: BTreeMap::new(),
        asked: RefCell::default(),
    };
    nothing.has_head();
    // There is nothing in it to refuse.
    let _ = nothing.apply(&mut Settings::default(), Role::Base);
    nothing.asked.into_inner()
}

fn parse(path: &Path, bytes: Vec<u8>) -> Result<File<'_>, ConfigError> {
    let error = |reason: String, kind| ConfigError::Invalid {
        path: path.to_owned(),
        reason,
        kind,
    };
    let text = String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'));
    let text = text.ok_or_else(|| {
        let reason = "it is no text (NUL bytes, or not UTF-8), as a power cut may leave it";
        error(reason.to_owned(), ErrorKind::Refused)
    })?;
    let document = yaml::parse(&text)
        .map_err(|fault| error(format!("line {}: {}", fault.line, fault.reason), fault.kind))?;
    let fields = match &*document.value {
        Value::Map(fields) => fields.clone(),
        _ => BTreeMap::new(),
    };
    let file = File {
        path,
        fields,
        asked: RefCell::default(),
    };
    if !file.has_head() {
        let reason = format!(
            "apiVersion {API_VERSION} and kind {KIND} are not both there, and the kubelet refuses \
             it"
        );
        return Err(error(reason, ErrorKind::Refused));
    }
    Ok(file)
}

impl File<'_> {
    fn get(&self, key: &'static str) -> Option<&Node> {
        self.asked.borrow_mut().push(key);
        self.fields.get(key)
    }

    fn has_head(&self) -> bool {
        let says = |(key, expected)| {
            let value = self.get(key).map(|node| &*node.value);
            matches!(value, Some(Value::Text(text)) if text == expected)
        };
        // Both are looked for in any case.
        [("apiVersion", API_VERSION), ("kind", KIND)].map(says) == [true, true]
    }

    fn apply(&self, settings: &mut Settings, role: Role) -> Result<(), ConfigError> {
        let default = Settings::default();
        self.set(
            "cgroupsPerQOS",
            &mut settings.cgroups_per_qos,
            default.cgroups_per_qos,
            Field::boolean,
        )?;
        self.set(
            "cgroupDriver",
            &mut settings.driver,
            default.driver,
            Field::driver,
        )?;
        self.set(
            "cgroupRoot",
            &mut settings.cgroup_root,
            default.cgroup_root,
            Field::group,
        )?;
        self.set(
            "enforceNodeAllocatable",
            &mut settings.enforced,
            default.enforced,
            Field::texts,
        )?;
        let some_group = |field: &Field| Ok(field.group()?.map(Some));
        self.set(
            "kubeReservedCgroup",
            &mut settings.kube_reserved,
            default.kube_reserved,
            some_group,
        )?;
        self.set(
            "systemReservedCgroup",
            &mut settings.system_reserved,
            default.system_reserved,
            some_group,
        )?;
        let some_boolean = |field: &Field| Ok(field.boolean()?.map(Some));
        self.set(
            "failCgroupV1",
            &mut settings.fail_cgroup_v1,
            default.fail_cgroup_v1,
            some_boolean,
        )?;
        self.set(
            "protectKernelDefaults",
            &mut settings.protect_kernel_defaults,
            default.protect_kernel_defaults,
            Field::boolean,
        )?;
        self.set(
            "failSwapOn",
            &mut settings.fail_swap_on,
            default.fail_swap_on,
            Field::boolean,
        )?;
        let policy = &mut settings.cpu_manager_policy;
        self.set(
            "cpuManagerPolicy",
            policy,
            default.cpu_manager_policy,
            Field::text,
        )?;
        let policy = &mut settings.memory_manager_policy;
        self.set(
            "memoryManagerPolicy",
            policy,
            default.memory_manager_policy,
            Field::text,
        )?;
        let some_text = |field: &Field| Ok(field.text()?.map(Some));
        let endpoint = &mut settings.runtime_endpoint;
        self.set(
            "containerRuntimeEndpoint",
            endpoint,
            default.runtime_endpoint,
            some_text,
        )?;
        self.set(
            "reservedSystemCPUs",
            &mut settings.reserved_cpus,
            default.reserved_cpus,
            some_text,
        )?;
        self.merge(
            "kubeReserved",
            &mut settings.kube_reservation,
            role,
            Field::text_or_empty,
        )?;
        self.merge(
            "systemReserved",
            &mut settings.system_reservation,
            role,
            Field::text_or_empty,
        )?;
        self.merge(
            "featureGates",
            &mut settings.feature_gates,
            role,
            Field::boolean_or_false,
        )
    }

    /// Absent keeps what was there; null, and a text that is empty, take it back to the default.
    fn set<'a, V: PartialEq>(
        &'a self,
        key: &'static str,
        setting: &mut Sourced<V>,
        default: Sourced<V>,
        read: impl Fn(&Field<'a>) -> Result<Option<V>, ConfigError>,
    ) -> Result<(), ConfigError> {
        let Some(node) = self.get(key) else {
            return Ok(());
        };
        let field = Field {
            path: self.path,
            key,
            node,
        };
        let value = if *node.value == Value::Null {
            None
        } else {
            read(&field)?
        };
        match value {
            Some(value) => setting.set(value, Origin::Config(self.path.to_owned(), key)),
            None => *setting = default,
        }
        Ok(())
    }

    /// A map: in the first file it stands for itself, in a drop-in over the one before, and null
    /// takes a key away.
    fn merge<'a, V: PartialEq>(
        &'a self,
        key: &'static str,
        setting: &mut BTreeMap<String, Sourced<V>>,
        role: Role,
        read: impl Fn(&Field<'a>) -> Result<V, ConfigError>,
    ) -> Result<(), ConfigError> {
        let Some(node) = self.get(key) else {
            return Ok(());
        };
        let entries = match &*node.value {
            Value::Null => {
                setting.clear();
                return Ok(());
            }
            Value::Map(entries) => entries,
            _ => {
                return Err(Field {
                    path: self.path,
                    key,
                    node,
                }
                .is_not("a map"));
            }
        };
        for (name, node) in entries {
            if role == Role::Dropin && *node.value == Value::Null {
                setting.remove(name);
                continue;
            }
            let value = read(&Field {
                path: self.path,
                key,
                node,
            })?;
            let origin = Origin::Config(self.path.to_owned(), key);
            setting.insert(
                name.clone(),
                Sourced {
                    value,
                    origin,
                    overruled: None,
                },
            );
        }
        Ok(())
    }
}

/// A field that is there, or one value in its list or map.
struct Field<'a> {
    path: &'a Path,
    key: &'static str,
    node: &'a Node,
}

impl Field<'_> {
    fn error(&self, reason: &str, kind: ErrorKind) -> ConfigError {
        let reason = format!("line {}: {} {reason}", self.node.line, self.key);
        ConfigError::Invalid {
            path: self.path.to_owned(),
            reason,
            kind,
        }
    }

    /// The kubelet's decoder takes a value of another type for nothing.
    fn is_not(&self, expected: &str) -> ConfigError {
        let quotes = match (expected, &*self.node.value) {
            ("text", Value::Bool(_) | Value::Number(_)) => "; quotes make it text",
            ("a boolean", Value::Text(_)) => "; a boolean stands without quotes",
            _ => "",
        };
        let reason = format!(
            "is {}, and the kubelet takes {expected} there{quotes}",
            self.node.value.describe()
        );
        self.error(&reason, ErrorKind::Refused)
    }

    fn boolean(&self) -> Result<Option<bool>, ConfigError> {
        match &*self.node.value {
            Value::Bool(value) => Ok(Some(*value)),
            Value::Null => Ok(None),
            _ => Err(self.is_not("a boolean")),
        }
    }

    fn boolean_or_false(&self) -> Result<bool, ConfigError> {
        Ok(self.boolean()?.unwrap_or_default())
    }

    /// To the kubelet an empty text is none.
    fn text(&self) -> Result<Option<String>, ConfigError> {
        Ok(Some(self.text_or_empty()?).filter(|text| !text.is_empty()))
    }

    fn text_or_empty(&self) -> Result<String, ConfigError> {
        match &*self.node.value {
            Value::Text(text) => Ok(text.clone()),
            Value::Null => Ok(String::new()),
            _ => Err(self.is_not("text")),
        }
    }

    fn texts(&self) -> Result<Option<Vec<String>>, ConfigError> {
        let Value::List(items) = &*self.node.value else {
            return Err(self.is_not("a list of texts"));
        };
        let text = |node| Field { node, ..*self }.text_or_empty();
        items
            .iter()
            .map(text)
            .collect::<Result<Vec<_>, _>>()
            .map(Some)
    }

    fn group(&self) -> Result<Option<CgroupPath>, ConfigError> {
        let Some(text) = self.text()? else {
            return Ok(None);
        };
        let path = CgroupPath::parse(&text).ok_or_else(|| {
            let reason =
                format!("{text:?} is no path of a cgroup that could be made or found as it stands");
            self.error(&reason, ErrorKind::Unknown)
        })?;
        Ok(Some(path))
    }

    fn driver(&self) -> Result<Option<Driver>, ConfigError> {
        match self.text()?.as_deref() {
            None => Ok(None),
            Some("cgroupfs") => Ok(Some(Driver::Cgroupfs)),
            Some("systemd") => Ok(Some(Driver::Systemd)),
            Some(other) => Err(self.error(
                &format!("{other:?} is neither cgroupfs nor systemd"),
                ErrorKind::Unknown,
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(files: &[&str]) -> Result<Settings, ConfigError> {
        let mut settings = Settings::default();
        for (number, text) in files.iter().enumerate() {
            let path = PathBuf::from(format!("/{number}"));
            let role = if number == 0 {
                Role::Base
            } else {
                Role::Dropin
            };
            parse(&path, text.as_bytes().to_vec())?.apply(&mut settings, role)?;
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
        assert!(
            one("cgroupsPerQos: false\nfeatureGates: {A: true}\nfoo: [1, {b: c}]")
                .cgroups_per_qos
                .value
        );
        assert_eq!(
            one("cgroupRoot: /a\ncgroupRoot: /b")
                .cgroup_root
                .value
                .to_string(),
            "/b"
        );
    }

    #[test]
    fn json_and_only_the_first_document() {
        let json = format!(
            "{{\"apiVersion\":\"{API_VERSION}\",\"kind\":\"{KIND}\",\"cgroupDriver\":\"systemd\"}}"
        );
        assert_eq!(settings(&[&json]).unwrap().driver.value, Driver::Systemd);
        assert_eq!(
            one("cgroupRoot: /a\n---\ncgroupRoot: /b")
                .cgroup_root
                .value
                .to_string(),
            "/a"
        );
        assert_eq!(
            one("cgroupRoot: /a\n---\n[this is: broken")
                .cgroup_root
                .value
                .to_string(),
            "/a"
        );
    }

    #[test]
    fn empty_values_are_defaults_but_an_empty_list_is_one() {
        let read = one(
            "cgroupDriver: ''\ncgroupRoot: ''\nenforceNodeAllocatable: []\ncpuManagerPolicy: \
             static",
        );
        assert_eq!(
            (read.driver, read.cgroup_root),
            (Settings::default().driver, Settings::default().cgroup_root)
        );
        assert!(read.enforced.value.is_empty());
        assert_eq!(
            read.cpu_manager_policy.origin.to_string(),
            "/0, cpuManagerPolicy"
        );
        assert_eq!(one("enforceNodeAllocatable: null").enforced.value, ["pods"]);
    }

    #[test]
    fn values_of_another_type_are_refused_in_plain_words() {
        for (body, line, words) in [
            (
                "cgroupRoot: 5",
                3,
                "cgroupRoot is the number 5, and the kubelet takes text there; quotes make it text",
            ),
            ("\ncgroupRoot: 0x1f", 4, "the number 0x1f"),
            ("cgroupRoot: 1_000", 3, "the number 1_000"),
            ("cgroupRoot: no", 3, "the boolean false"),
            ("cgroupRoot: {a: b}", 3, "a map"),
            ("kubeReservedCgroup: [/a]", 3, "a list"),
            ("cpuManagerPolicy: off", 3, "the boolean false"),
            ("memoryManagerPolicy: .5", 3, "the number .5"),
            ("cgroupDriver: y", 3, "the boolean true"),
            ("containerRuntimeEndpoint: 1", 3, "the number 1"),
            ("reservedSystemCPUs: 0", 3, "the number 0"),
            (
                "enforceNodeAllocatable: pods",
                3,
                "the text \"pods\", and the kubelet takes a list of texts there",
            ),
            ("enforceNodeAllocatable:\n- pods\n- 5", 5, "the number 5"),
            (
                "kubeReserved: 5",
                3,
                "the number 5, and the kubelet takes a map there",
            ),
            ("kubeReserved:\n  cpu: 1", 4, "the number 1"),
            (
                "featureGates: {A: \"true\"}",
                3,
                "a boolean stands without quotes",
            ),
            (
                "cgroupsPerQOS: \"false\"",
                3,
                "a boolean stands without quotes",
            ),
            ("cgroupsPerQOS: 0", 3, "the number 0"),
            ("failCgroupV1: 'no'", 3, "the text \"no\""),
            ("other: .inf", 3, ".inf"),
        ] {
            let error = settings(&[&with_head(body)]).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains(words) && text.starts_with(&format!("/0: line {line}: ")),
                "{body}: {text}"
            );
            assert!(
                matches!(
                    error,
                    ConfigError::Invalid {
                        kind: ErrorKind::Refused,
                        ..
                    }
                ),
                "{body}"
            );
            for word in [
                "Option",
                "struct",
                "String",
                "expected",
                "deserialize",
                "serde",
            ] {
                assert!(!text.contains(word), "{body}: {text}");
            }
        }
        for (body, root) in [
            ("cgroupRoot: '5'", "/5"),
            ("cgroupRoot: 2001-12-14", "/2001-12-14"),
            ("cgroupRoot: !!str 5", "/5"),
        ] {
            assert_eq!(one(body).cgroup_root.value.to_string(), root, "{body}");
        }
        assert_eq!(
            one("enforceNodeAllocatable: [pods, null]").enforced.value,
            ["pods", ""]
        );
    }

    #[test]
    fn gates_reservations_and_the_endpoint() {
        let read = one(
            "featureGates: {A: yes, B: null}\nkubeReserved: {cpu: 100m}\ncontainerRuntimeEndpoint: \
             unix:///x\nreservedSystemCPUs: 0-1",
        );
        let gates: Vec<_> = read
            .feature_gates
            .iter()
            .map(|(name, gate)| (name.as_str(), gate.value))
            .collect();
        assert_eq!(gates, [("A", true), ("B", false)]);
        assert_eq!(read.kube_reservation["cpu"].value, "100m");
        assert_eq!(read.runtime_endpoint.value.as_deref(), Some("unix:///x"));
        assert_eq!(
            read.reserved_cpus.origin.to_string(),
            "/0, reservedSystemCPUs"
        );
        let base = with_head("featureGates: {A: true, B: true}\nkubeReserved: {cpu: 1m, pid: '5'}");
        let over = with_head("featureGates: {A: null, C: false}\nkubeReserved: {cpu: 2m}");
        let read = settings(&[&base, &over]).unwrap();
        let gates: Vec<_> = read
            .feature_gates
            .iter()
            .map(|(name, gate)| (name.as_str(), gate.value))
            .collect();
        assert_eq!(gates, [("B", true), ("C", false)]);
        assert_eq!(
            (
                read.kube_reservation["cpu"].value.as_str(),
                read.kube_reservation.len()
            ),
            ("2m", 2)
        );
        assert!(
            settings(&[&base, &with_head("kubeReserved: null")])
                .unwrap()
                .kube_reservation
                .is_empty()
        );
    }

    #[test]
    fn dropins_are_merge_patches() {
        let base = with_head(
            "cgroupRoot: /a\ncgroupDriver: systemd\nenforceNodeAllocatable: [pods, kube-reserved]",
        );
        let over = with_head("cgroupRoot: null\nenforceNodeAllocatable: [none]");
        let read = settings(&[&base, &over]).unwrap();
        assert_eq!(
            (read.cgroup_root.value.to_string(), read.driver.value),
            ("/".to_owned(), Driver::Systemd)
        );
        assert_eq!(read.enforced.value, ["none"]);
    }

    #[test]
    fn what_the_kubelet_refuses() {
        let headless = [
            "",
            "cgroupRoot: /a",
            "kind: KubeletConfiguration",
            "apiVersion: v1\nkind: Pod",
            "[]",
            "5",
            "{",
        ];
        for text in headless {
            assert!(settings(&[text]).is_err(), "{text:?}");
        }
        for body in [
            "cgroupDriver: docker",
            "cgroupRoot: /a/../b",
            "a: \"\0\"",
            "a: &a [b",
            "\tb: c",
        ] {
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
        let _ = settings(&[&with_head(&"{".repeat(100_000))]);
        let _ = settings(&[&with_head(&bomb)]);
        let _ = settings(&[&with_head(&"- x\n".repeat(2_500_000))]);
        let _ = settings(&[&with_head(&"[".repeat(100_000))]);
        assert!(start.elapsed().as_secs() < 60);
    }
}
