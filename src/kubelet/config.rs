//! `--config` and `--config-dir`: the fields of KubeletConfiguration files that matter here.
//!
//! Rests on `pkg/kubelet/kubeletconfig/configfiles` and `cmd/kubelet/app/server.go` (`loadConfig`,
//! `mergeKubeletConfigurations`): YAML 1.1 or JSON, the first document only, case-sensitive keys,
//! unknown keys ignored, of duplicate keys the last one; drop-ins are merged in lexical order as
//! JSON merge patches, so null takes a value away.

mod field;

use std::collections::BTreeMap;
use std::path::Path;

use crate::kubelet::errors::{ErrorKind, SettingsError};
use crate::kubelet::settings::Settings;
use crate::kubelet::yaml::{self, Node, Value};
use crate::root::Root;
use crate::root::keep::{checked_text, valid_text};
use field::{FIELDS, Field, Role};

const API_VERSION: (&str, &str) = ("apiVersion", "kubelet.config.k8s.io/v1beta1");
const KIND: (&str, &str) = ("kind", "KubeletConfiguration");

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
    // When the kubelet merges drop-ins, it omits an empty list (`omitempty`), so that the list gets
    // its default again.
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

/// The fields of the file at `path`, by name.
fn parse(path: &Path, content: &[u8]) -> Result<BTreeMap<String, Node>, SettingsError> {
    let kind = ErrorKind::Refused;
    let Some(text) = valid_text(content) else {
        let path = path.to_owned();
        return Err(SettingsError::NotText { path, kind });
    };
    let document = yaml::parse(text).map_err(|error| error.in_file(path))?;
    if let Value::Map(fields) = &*document.value {
        let is = |(key, expected): (&str, &str)| {
            let value = fields.get(key).map(|node| &*node.value);
            matches!(value, Some(Value::Text(text)) if text == expected)
        };
        if is(API_VERSION) && is(KIND) {
            return Ok(fields.clone());
        }
    }
    let reason = format!(
        "apiVersion must be {} and kind must be {}",
        API_VERSION.1, KIND.1
    );
    Err(SettingsError::invalid(kind, path, reason))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::Driver;

    /// The settings by these files, each with this body; the first is `--config`.
    fn layered(bodies: &[&str]) -> Result<Settings, SettingsError> {
        let texts: Vec<String> = bodies.iter().map(|body| with_head(body)).collect();
        from_texts(&texts.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn from_texts(files: &[&str]) -> Result<Settings, SettingsError> {
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

    fn one(body: &str) -> Settings {
        layered(&[body]).unwrap()
    }

    fn root_of(body: &str) -> String {
        one(body).cgroup_root.value.to_string()
    }

    fn gates(settings: &Settings) -> Vec<(&str, bool)> {
        let gates = settings.feature_gates.iter();
        gates
            .map(|(name, gate)| (name.as_str(), gate.value))
            .collect()
    }

    #[test]
    fn every_field_is_read() {
        for key in FIELDS {
            let error = layered(&[&format!("{key}: 5")]).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
    }

    #[test]
    fn values_of_yaml_1_1() {
        for no in ["no", "off", "FALSE"] {
            assert!(!one(&format!("cgroupsPerQOS: {no}")).cgroups_per_qos.value);
        }
        for yes in ["yes", "null", ""] {
            assert!(one(&format!("cgroupsPerQOS: {yes}")).cgroups_per_qos.value);
        }
        for other in ["\"false\"", "'no'", "0", "maybe"] {
            assert!(
                layered(&[&format!("cgroupsPerQOS: {other}")]).is_err(),
                "{other}"
            );
        }
    }

    #[test]
    fn keys_are_case_sensitive_unknown_ones_pass_and_the_last_of_two_wins() {
        let read = one("cgroupsPerQos: false\nfeatureGates: {A: true}\nfoo: [1, {b: c}]");
        assert!(read.cgroups_per_qos.value);
        assert_eq!(root_of("cgroupRoot: /a\ncgroupRoot: /b"), "/b");
    }

    #[test]
    fn json_and_only_the_first_document() {
        let json = format!(
            "{{\"apiVersion\":\"{}\",\"kind\":\"{}\",\"cgroupDriver\":\"systemd\"}}",
            API_VERSION.1, KIND.1
        );
        assert_eq!(from_texts(&[&json]).unwrap().driver.value, Driver::Systemd);
        for second in ["cgroupRoot: /b", "[this is: broken"] {
            assert_eq!(root_of(&format!("cgroupRoot: /a\n---\n{second}")), "/a");
        }
    }

    #[test]
    fn empty_values_are_defaults_but_an_empty_list_is_one() {
        let default = Settings::default();
        let read = one("cgroupDriver: ''\ncgroupRoot: ''\nenforceNodeAllocatable: []");
        assert_eq!(
            (read.driver, read.cgroup_root),
            (default.driver, default.cgroup_root)
        );
        assert!(read.enforced.value.is_empty());
        assert_eq!(one("enforceNodeAllocatable: null").enforced.value, ["pods"]);
        let policy = one("cpuManagerPolicy: static").cpu_manager_policy;
        assert_eq!(policy.origin.to_string(), "/0, cpuManagerPolicy");
    }

    #[test]
    fn values_of_another_type_are_refused_in_plain_words() {
        for (body, words) in [
            (
                "cgroupRoot: 5",
                "line 3: cgroupRoot is the number 5, but the kubelet expects a string (put it in \
                 quotes)",
            ),
            (
                "\ncgroupRoot: 0x1f",
                "line 4: cgroupRoot is the number 0x1f,",
            ),
            (
                "cgroupRoot: 1_000",
                "line 3: cgroupRoot is the number 1_000,",
            ),
            ("cgroupRoot: no", "line 3: cgroupRoot is the boolean false,"),
            ("cgroupRoot: {a: b}", "line 3: cgroupRoot is a map,"),
            (
                "kubeReservedCgroup: [/a]",
                "line 3: kubeReservedCgroup is a list,",
            ),
            ("cpuManagerPolicy: off", "is the boolean false,"),
            ("memoryManagerPolicy: .5", "is the number .5,"),
            ("cgroupDriver: y", "is the boolean true,"),
            ("containerRuntimeEndpoint: 1", "is the number 1,"),
            ("reservedSystemCPUs: 0", "is the number 0,"),
            (
                "enforceNodeAllocatable: pods",
                "is the string \"pods\", but the kubelet expects a list of strings",
            ),
            (
                "enforceNodeAllocatable:\n- pods\n- 5",
                "line 5: enforceNodeAllocatable is",
            ),
            (
                "kubeReserved: 5",
                "is the number 5, but the kubelet expects a map",
            ),
            (
                "kubeReserved:\n  cpu: 1",
                "line 4: kubeReserved is the number 1",
            ),
            (
                "featureGates: {A: \"true\"}",
                "a boolean (remove the quotes)",
            ),
            ("cgroupsPerQOS: \"false\"", "a boolean (remove the quotes)"),
            (
                "failCgroupV1: 'no'",
                "line 3: failCgroupV1 is the string \"no\"",
            ),
            ("other: .inf", "line 3: .inf"),
        ] {
            let error = layered(&[body]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{body}");
            let text = error.to_string();
            assert!(
                text.starts_with("/0, line ") && text.contains(words),
                "{text}"
            );
            for word in ["Option", "struct", "String", "expected", "deserialize"] {
                assert!(!text.contains(word), "{body}: {text}");
            }
        }
        assert_eq!(root_of("cgroupRoot: '5'"), "/5");
        assert_eq!(root_of("cgroupRoot: !!str 5"), "/5");
        assert_eq!(root_of("cgroupRoot: 2001-12-14"), "/2001-12-14");
        let enforced = one("enforceNodeAllocatable: [pods, null]").enforced;
        assert_eq!(enforced.value, ["pods", ""]);
    }

    #[test]
    fn gates_reservations_and_the_endpoint() {
        let read = one(
            "featureGates: {A: yes, B: null}\nkubeReserved: {cpu: 100m}\ncontainerRuntimeEndpoint: \
             unix:///x\nreservedSystemCPUs: 0-1",
        );
        assert_eq!(gates(&read), [("A", true), ("B", false)]);
        assert_eq!(read.kube_reservation["cpu"].value, "100m");
        assert_eq!(read.runtime_endpoint.value.as_deref(), Some("unix:///x"));
        assert_eq!(
            read.reserved_cpus.origin.to_string(),
            "/0, reservedSystemCPUs"
        );
        let base = "featureGates: {A: true, B: true}\nkubeReserved: {cpu: 1m, pid: '5'}";
        let over = "featureGates: {A: null, C: false}\nkubeReserved: {cpu: 2m}";
        let read = layered(&[base, over]).unwrap();
        assert_eq!(gates(&read), [("B", true), ("C", false)]);
        assert_eq!(read.kube_reservation["cpu"].value, "2m");
        assert_eq!(read.kube_reservation.len(), 2);
        let read = layered(&[base, "kubeReserved: null"]).unwrap();
        assert!(read.kube_reservation.is_empty());
    }

    #[test]
    fn dropins_are_merge_patches() {
        let base =
            "cgroupRoot: /a\ncgroupDriver: systemd\nenforceNodeAllocatable: [pods, kube-reserved]";
        let over = "cgroupRoot: null\nenforceNodeAllocatable: [none]";
        let read = layered(&[base, over]).unwrap();
        assert_eq!(read.cgroup_root, Settings::default().cgroup_root);
        assert_eq!(read.driver.value, Driver::Systemd);
        assert_eq!(read.enforced.value, ["none"]);
    }

    #[test]
    fn what_the_kubelet_refuses() {
        let pod = "apiVersion: v1\nkind: Pod";
        for text in [
            "",
            "cgroupRoot: /a",
            "kind: KubeletConfiguration",
            pod,
            "[]",
            "5",
            "{",
        ] {
            assert!(from_texts(&[text]).is_err(), "{text:?}");
        }
        for body in [
            "cgroupDriver: docker",
            "cgroupRoot: /a/../b",
            "a: \"\0\"",
            "a: &a [b",
        ] {
            assert!(layered(&[body]).is_err(), "{body:?}");
        }
        assert!(layered(&["\tb: c"]).is_err());
        assert!(parse(Path::new("/x"), &[0xff, 0xfe, b'a']).is_err());
    }

    #[test]
    fn hostile_files_are_parsed_or_refused_in_time() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let row = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{row}]\n"));
        }
        let start = std::time::Instant::now();
        for hostile in [
            bomb,
            "{".repeat(100_000),
            "[".repeat(100_000),
            "- x\n".repeat(2_500_000),
        ] {
            let _ = layered(&[&hostile]);
        }
        assert!(start.elapsed().as_secs() < 60);
    }
}
