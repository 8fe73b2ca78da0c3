//! `--config` and `--config-dir`: the fields of KubeletConfiguration files that matter here.
//!
//! Rests on `pkg/kubelet/kubeletconfig/configfiles` and `cmd/kubelet/app/server.go` (`loadConfig`,
//! `mergeKubeletConfigurations`): YAML 1.1 or JSON, the first document only, case-sensitive keys,
//! unknown keys ignored, of duplicate keys the last one; drop-ins are merged in lexical order as
//! JSON merge patches, so null takes a value away.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cgroup::CgroupPath;
use crate::kubelet::errors::LineError;
use crate::kubelet::settings::{NO_CGROUP, NO_DRIVER};
use crate::kubelet::yaml::{self, Node, Value};
use crate::kubelet::{Driver, ErrorKind, Origin, Settings, SettingsError, Sourced};
use crate::root::Root;
use crate::root::keep::{checked_text, valid_text};

const API_VERSION: (&str, &str) = ("apiVersion", "kubelet.config.k8s.io/v1beta1");
const KIND: (&str, &str) = ("kind", "KubeletConfiguration");

/// The fields that are read, in the order in which errors are looked for.
const FIELDS: [&str; 14] = [
    "cgroupsPerQOS",
    "cgroupDriver",
    "cgroupRoot",
    "enforceNodeAllocatable",
    "kubeReservedCgroup",
    "systemReservedCgroup",
    "failCgroupV1",
    "cpuManagerPolicy",
    "memoryManagerPolicy",
    "containerRuntimeEndpoint",
    "reservedSystemCPUs",
    "kubeReserved",
    "systemReserved",
    "featureGates",
];

/// The defaults, with `config` and then every drop-in of `dropins` over them.
///
/// # Errors
/// When a file cannot be read, or the kubelet would refuse it.
pub fn read(
    root: &Root,
    config: Option<&Path>,
    dropins: Option<&Path>,
) -> Result<Settings, SettingsError> {
    let mut settings = Settings::default();
    let kept = [&[API_VERSION.0, KIND.0], FIELDS.as_slice()].concat();
    let keep = checked_text(|text| yaml::keep(text, &kept));
    let reader = root.keeping(&keep);
    if let Some(path) = config {
        apply(path, &reader.read_bytes(path)?, Role::Base, &mut settings)?;
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
        if path.extension().is_some_and(|suffix| suffix == "conf") {
            let content = reader.read_bytes(&path)?;
            apply(&path, &content, Role::Dropin, &mut settings)?;
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

/// The fields of the file at `path`, by name.
fn parse(path: &Path, content: &[u8]) -> Result<BTreeMap<String, Node>, SettingsError> {
    let refused = |reason: &str| {
        let message = format!("{}: {reason}", path.display());
        Err(SettingsError::invalid(ErrorKind::Refused, path, message))
    };
    let Some(text) = valid_text(content) else {
        return refused("it is no text (NUL bytes, or not UTF-8), as a power cut may leave it");
    };
    let document = yaml::parse(text).map_err(|error| error.in_file(path, ": "))?;
    if let Value::Map(fields) = &*document.value {
        let is = |(key, expected): (&str, &str)| {
            let value = fields.get(key).map(|node| &*node.value);
            matches!(value, Some(Value::Text(text)) if text == expected)
        };
        if is(API_VERSION) && is(KIND) {
            return Ok(fields.clone());
        }
    }
    refused(&format!(
        "apiVersion {} and kind {} are not both there, and the kubelet refuses it",
        API_VERSION.1, KIND.1
    ))
}

/// Lays the fields of a file over the settings.
fn apply(
    path: &Path,
    content: &[u8],
    role: Role,
    settings: &mut Settings,
) -> Result<(), SettingsError> {
    let fields = parse(path, content)?;
    for key in FIELDS {
        if let Some(node) = fields.get(key) {
            Field { path, key, node }.apply(role, settings)?;
        }
    }
    Ok(())
}

/// A field that is there, or one value in its list or map.
#[derive(Clone, Copy)]
struct Field<'a> {
    path: &'a Path,
    key: &'static str,
    node: &'a Node,
}

impl Field<'_> {
    fn apply(&self, role: Role, new: &mut Settings) -> Result<(), SettingsError> {
        match self.key {
            "cgroupsPerQOS" => self.set(new, |s| &mut s.cgroups_per_qos, self.boolean()?),
            "cgroupDriver" => self.set(new, |s| &mut s.driver, self.driver()?),
            "cgroupRoot" => self.set(new, |s| &mut s.cgroup_root, self.group()?),
            "enforceNodeAllocatable" => self.set(new, |s| &mut s.enforced, self.texts()?),
            "kubeReservedCgroup" => self.set_some(new, |s| &mut s.kube_reserved, self.group()?),
            "systemReservedCgroup" => self.set_some(new, |s| &mut s.system_reserved, self.group()?),
            "failCgroupV1" => self.set_some(new, |s| &mut s.fail_cgroup_v1, self.boolean()?),
            "cpuManagerPolicy" => self.set(new, |s| &mut s.cpu_manager_policy, self.text()?),
            "memoryManagerPolicy" => self.set(new, |s| &mut s.memory_manager_policy, self.text()?),
            "containerRuntimeEndpoint" => {
                self.set_some(new, |s| &mut s.runtime_endpoint, self.text()?);
            }
            "reservedSystemCPUs" => self.set_some(new, |s| &mut s.reserved_cpus, self.text()?),
            "kubeReserved" => self.merge(role, &mut new.kube_reservation, Self::text_or_empty)?,
            "systemReserved" => {
                self.merge(role, &mut new.system_reservation, Self::text_or_empty)?;
            }
            "featureGates" => self.merge(role, &mut new.feature_gates, Self::boolean_or_false)?,
            // Not one of FIELDS, of which a test sees that each has an arm here.
            _ => {}
        }
        Ok(())
    }

    /// Sets the field's value, or the default again: `None` stands for null and for an empty text.
    fn set<V: PartialEq>(
        &self,
        settings: &mut Settings,
        of: fn(&mut Settings) -> &mut Sourced<V>,
        value: Option<V>,
    ) {
        match value {
            Some(value) => of(settings).set(value, self.origin()),
            None => std::mem::swap(of(settings), of(&mut Settings::default())),
        }
    }

    /// As [`Self::set`], for a setting without a default.
    fn set_some<V: PartialEq>(
        &self,
        settings: &mut Settings,
        of: fn(&mut Settings) -> &mut Sourced<Option<V>>,
        value: Option<V>,
    ) {
        self.set(settings, of, value.map(Some));
    }

    /// A map: in the first file it stands for itself, in a drop-in over the one before, and null
    /// takes a key away.
    fn merge<V: PartialEq>(
        &self,
        role: Role,
        setting: &mut BTreeMap<String, Sourced<V>>,
        read: fn(&Self) -> Result<V, SettingsError>,
    ) -> Result<(), SettingsError> {
        let entries = match &*self.node.value {
            Value::Map(entries) => entries,
            Value::Null => {
                setting.clear();
                return Ok(());
            }
            _ => return Err(self.is_not("a map")),
        };
        for (name, node) in entries {
            if role == Role::Dropin && *node.value == Value::Null {
                setting.remove(name);
            } else {
                let value = read(&Self { node, ..*self })?;
                setting.insert(name.clone(), Sourced::new(value, self.origin()));
            }
        }
        Ok(())
    }

    fn origin(&self) -> Origin {
        Origin::Config(self.path.to_owned(), self.key)
    }

    fn error(&self, kind: ErrorKind, words: &str) -> SettingsError {
        let (line, reason) = (self.node.line, format!("{} {words}", self.key));
        LineError { line, reason, kind }.in_file(self.path, ": ")
    }

    /// The kubelet's decoder refuses a value of another type.
    fn is_not(&self, expected: &str) -> SettingsError {
        let quotes = match (expected, &*self.node.value) {
            ("text", Value::Bool(_) | Value::Number(_)) => "; quotes make it text",
            ("a boolean", Value::Text(_)) => "; a boolean stands without quotes",
            _ => "",
        };
        let found = self.node.value.describe();
        let words = format!("is {found}, and the kubelet takes {expected} there{quotes}");
        self.error(ErrorKind::Refused, &words)
    }

    fn boolean(&self) -> Result<Option<bool>, SettingsError> {
        match &*self.node.value {
            Value::Bool(value) => Ok(Some(*value)),
            Value::Null => Ok(None),
            _ => Err(self.is_not("a boolean")),
        }
    }

    fn boolean_or_false(&self) -> Result<bool, SettingsError> {
        Ok(self.boolean()?.unwrap_or_default())
    }

    fn text_or_empty(&self) -> Result<String, SettingsError> {
        match &*self.node.value {
            Value::Text(text) => Ok(text.clone()),
            Value::Null => Ok(String::new()),
            _ => Err(self.is_not("text")),
        }
    }

    fn text(&self) -> Result<Option<String>, SettingsError> {
        Ok(Some(self.text_or_empty()?).filter(|text| !text.is_empty()))
    }

    fn texts(&self) -> Result<Option<Vec<String>>, SettingsError> {
        let items = match &*self.node.value {
            Value::List(items) => items,
            Value::Null => return Ok(None),
            _ => return Err(self.is_not("a list of texts")),
        };
        let texts = items
            .iter()
            .map(|node| Self { node, ..*self }.text_or_empty());
        texts.collect::<Result<_, _>>().map(Some)
    }

    fn group(&self) -> Result<Option<CgroupPath>, SettingsError> {
        let Some(text) = self.text()? else {
            return Ok(None);
        };
        let path = CgroupPath::parse(&text);
        let error = || self.error(ErrorKind::Unknown, &format!("{text:?} {NO_CGROUP}"));
        path.ok_or_else(error).map(Some)
    }

    fn driver(&self) -> Result<Option<Driver>, SettingsError> {
        let Some(name) = self.text()? else {
            return Ok(None);
        };
        let error = || self.error(ErrorKind::Unknown, &format!("{name:?} {NO_DRIVER}"));
        Driver::parse(&name).ok_or_else(error).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(files: &[&str]) -> Result<Settings, SettingsError> {
        let mut settings = Settings::default();
        let mut role = Role::Base;
        for (number, text) in files.iter().enumerate() {
            let path = format!("/{number}");
            apply(Path::new(&path), text.as_bytes(), role, &mut settings)?;
            role = Role::Dropin;
        }
        Ok(settings)
    }

    fn with_head(body: &str) -> String {
        format!("apiVersion: {}\nkind: {}\n{body}", API_VERSION.1, KIND.1)
    }

    #[test]
    fn every_field_is_read() {
        for key in FIELDS {
            let error = settings(&[&with_head(&format!("{key}: 5"))]).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
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
            "{{\"apiVersion\":\"{}\",\"kind\":\"{}\",\"cgroupDriver\":\"systemd\"}}",
            API_VERSION.1, KIND.1
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
            assert_eq!(error.kind(), ErrorKind::Refused, "{body}");
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
        assert!(parse(Path::new("/x"), &[0xff, 0xfe, b'a']).is_err());
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
