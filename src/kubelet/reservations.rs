//! What the kubelet refuses of its reservations and of the gate that this program reads, by the
//! rules of its version.
//!
//! Rests on `pkg/kubelet/apis/config/validation/validation.go` (`ValidateKubeletConfiguration`) and
//! `parseResourceList` in `cmd/kubelet/app/server.go`, of 1.25 to 1.36; the words are the
//! kubelet's.

use crate::kubelet::microk8s::Version;
use crate::kubelet::runtime::{ALWAYS_ASKS, ASKS_RUNTIME};
use crate::kubelet::setting::Origin;
use crate::kubelet::settings::Settings;

/// The first kubelet that refuses a key that is given twice.
const REFUSES_DUPLICATES: Version = Version(1, 31);

/// The first kubelet that knows the keys for compressible resources only.
const KNOWS_COMPRESSIBLE: Version = Version(1, 32);

/// The first kubelet that refuses an empty `--container-runtime-endpoint`.
const REFUSES_NO_ENDPOINT: Version = Version(1, 26);

/// The first setting that the kubelet refuses, and its error. If the version is not known, only
/// what every version refuses.
pub(super) fn refusal(settings: &Settings, version: Option<Version>) -> Option<(Origin, String)> {
    let is = |first: Version| version.is_some_and(|version| version >= first);
    locked_gate(settings, is(ALWAYS_ASKS))
        .or_else(|| enforcement(settings, version))
        .or_else(|| reserved_cpus(settings))
        .or_else(|| no_endpoint(settings, is(REFUSES_NO_ENDPOINT)))
        .or_else(|| amounts(settings))
}

fn locked_gate(settings: &Settings, is_locked: bool) -> Option<(Origin, String)> {
    let gate = settings.feature_gates.get(ASKS_RUNTIME)?;
    let words =
        format!("cannot set feature gate {ASKS_RUNTIME} to false, feature is locked to true");
    (is_locked && !gate.value).then(|| (gate.origin.clone(), words))
}

fn enforcement(settings: &Settings, version: Option<Version>) -> Option<(Origin, String)> {
    let words = wrong_enforcement(settings, version)?;
    let origin = settings.enforced.origin.clone();
    Some((origin, format!("invalid configuration: {words}")))
}

/// `enforceNodeAllocatable`, key by key.
fn wrong_enforcement(settings: &Settings, version: Option<Version>) -> Option<String> {
    let may_be = |first: Version| version.is_none_or(|version| version >= first);
    let knows_compressible = may_be(KNOWS_COMPRESSIBLE);
    let refuses_duplicates = version.is_some_and(|version| version >= REFUSES_DUPLICATES);
    let enforced = &settings.enforced.value;
    let has = |key: &str| enforced.iter().any(|word| word == key);
    let field = "enforceNodeAllocatable (--enforce-node-allocatable)";

    for key in ["system-reserved", "kube-reserved"] {
        let compressible = format!("{key}-compressible");
        if knows_compressible && has(key) && has(&compressible) {
            return Some(format!(
                "both {key:?} and {compressible:?} cannot be specified together in {field}"
            ));
        }
    }
    for (index, key) in enforced.iter().enumerate() {
        let is_again = enforced.iter().take(index).any(|before| before == key);
        if is_again && refuses_duplicates {
            return Some(format!("duplicated enforcements {key:?} in {field}"));
        }
        if key == "none" && enforced.len() > 1 && !is_again {
            return Some(format!(
                "{field} may not contain additional enforcements when \"none\" is specified"
            ));
        }
        // Until 1.30 even "none" is an enforcement that wants QoS groups.
        if key == "none" && !settings.cgroups_per_qos.value && !may_be(REFUSES_DUPLICATES) {
            let unless = "unless cgroupsPerQOS (--cgroups-per-qos) is set to true";
            return Some(format!("{field} is not supported {unless}"));
        }
        let (whose, group) = match key.as_str() {
            "pods" | "none" => continue,
            "system-reserved" => ("system", &settings.system_reserved),
            "kube-reserved" => ("kube", &settings.kube_reserved),
            "system-reserved-compressible" if knows_compressible => {
                ("system", &settings.system_reserved)
            }
            "kube-reserved-compressible" if knows_compressible => ("kube", &settings.kube_reserved),
            _ => {
                let options = if knows_compressible {
                    "\"pods\", \"system-reserved\", \"system-reserved-compressible\", \
                     \"kube-reserved\", \"kube-reserved-compressible\" or \"none\""
                } else {
                    "\"pods\", \"system-reserved\", \"kube-reserved\", or \"none\""
                };
                return Some(format!(
                    "option {key:?} specified for {field}. Valid options are {options}"
                ));
            }
        };
        if group.value.is_none() {
            let group = format!("{whose}ReservedCgroup (--{whose}-reserved-cgroup)");
            let when = if knows_compressible {
                format!("\"{whose}-reserved\" or \"{whose}-reserved-compressible\" included")
            } else {
                format!("\"{whose}-reserved\" contained")
            };
            return Some(format!("{group} must be specified when {when} in {field}"));
        }
    }
    None
}

fn reserved_cpus(settings: &Settings) -> Option<(Origin, String)> {
    let has_group =
        settings.kube_reserved.value.is_some() || settings.system_reserved.value.is_some();
    let words = "invalid configuration: can't use reservedSystemCPUs (--reserved-cpus) with \
                 systemReservedCgroup (--system-reserved-cgroup) or kubeReservedCgroup \
                 (--kube-reserved-cgroup)";
    let cpus = &settings.reserved_cpus;
    (cpus.value.is_some() && has_group).then(|| (cpus.origin.clone(), words.to_owned()))
}

fn no_endpoint(settings: &Settings, is_refused: bool) -> Option<(Origin, String)> {
    let endpoint = &settings.runtime_endpoint;
    let is_empty = endpoint.value.as_deref() == Some("");
    let words = "the containerRuntimeEndpoint was not specified or empty";
    (is_empty && is_refused).then(|| (endpoint.origin.clone(), words.to_owned()))
}

/// The amounts that are reserved, enforced or not.
fn amounts(settings: &Settings) -> Option<(Origin, String)> {
    let mut reserved = settings
        .kube_reservation
        .iter()
        .chain(&settings.system_reservation);
    reserved.find_map(|(resource, amount)| {
        Some((
            amount.origin.clone(),
            wrong_amount(resource, &amount.value)?,
        ))
    })
}

fn wrong_amount(resource: &str, amount: &str) -> Option<String> {
    if !["cpu", "memory", "ephemeral-storage", "pid"].contains(&resource) {
        return Some(format!("cannot reserve {resource:?} resource"));
    }
    match is_negative_quantity(amount) {
        None => Some(format!(
            "failed to parse quantity {amount:?} for {resource:?} resource"
        )),
        Some(true) => Some(format!(
            "resource quantity for {resource:?} cannot be negative: {amount}"
        )),
        Some(false) => None,
    }
}

/// The suffixes of a quantity, apart from an exponent.
const SUFFIXES: [&str; 16] = [
    "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
];

/// Whether a quantity is below 0 (`k8s.io/apimachinery/pkg/api/resource`, `parseQuantityString`);
/// `None` for text that is not a quantity.
fn is_negative_quantity(text: &str) -> Option<bool> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let suffix = unsigned.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = unsigned.strip_suffix(suffix).unwrap_or_default();
    // No digits at all are a 0 to it.
    let is_number = !unsigned.is_empty() && number.matches('.').count() <= 1;
    let is_exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|digits| {
        let digits = digits.strip_prefix(['+', '-']).unwrap_or(digits);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    let is_zero = number.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    let is_quantity = is_number && (is_exponent || SUFFIXES.contains(&suffix));
    is_quantity.then_some(text.starts_with('-') && !is_zero)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::flag_values::settings;
    use crate::kubelet::{args, flags};
    use std::path::Path;

    fn words(file: &str, minor: u32) -> String {
        refusal(
            &settings(file).unwrap(),
            (minor > 0).then_some(Version(1, minor)),
        )
        .map(|(_, words)| words)
        .unwrap_or_default()
    }

    const KUBE: &str = "--kube-reserved=cpu=100m\n--kube-reserved-cgroup=/r\n";

    #[test]
    fn what_may_be_enforced_depends_on_the_version() {
        let table: &[(&str, &[u32], &str)] = &[
            ("pods", &[0, 25, 31, 36], ""),
            ("", &[0, 25, 31, 36], ""),
            ("none", &[0, 25, 31, 36], ""),
            ("pods,kube-reserved", &[0, 25, 31, 36], ""),
            ("pods,kube-reserved-compressible", &[0, 32, 36], ""),
            (
                "pods,kube-reserved-compressible",
                &[25, 31],
                "option \"kube-reserved-compressible\" specified",
            ),
            (
                "kube-reserved,kube-reserved-compressible",
                &[0, 32, 36],
                "cannot be specified together",
            ),
            (
                "pods,system-reserved",
                &[25, 31],
                "specified when \"system-reserved\" contained in",
            ),
            (
                "pods,system-reserved",
                &[0, 32, 36],
                "specified when \"system-reserved\" or \"system-reserved-compressible\" included \
                 in",
            ),
            (
                "system-reserved-compressible",
                &[32],
                "systemReservedCgroup (--system-reserved-cgroup) must be specified",
            ),
            (
                "pod",
                &[0, 25, 31],
                "option \"pod\" specified for enforceNodeAllocatable (--enforce-node-allocatable)",
            ),
            ("Pods", &[36], "\"kube-reserved-compressible\" or \"none\""),
            ("pods, kube-reserved", &[29], "option \" kube-reserved\""),
            (
                "pods,none",
                &[0, 25, 36],
                "may not contain additional enforcements when \"none\" is specified",
            ),
            ("pods,pods", &[0, 25, 30], ""),
            ("pods,pods", &[31, 36], "duplicated enforcements \"pods\""),
        ];
        for (enforced, versions, expected) in table {
            for minor in *versions {
                // Words come apart at blanks in an args file, so they are put in behind the reader.
                let flag = flags::Flag {
                    name: "enforce-node-allocatable".into(),
                    value: Some((*enforced).into()),
                    line: 3,
                    unknown_variable: None,
                };
                let mut flags = flags::parse(&args::parse(KUBE.trim(), &|_| None)).unwrap();
                flags.push(flag);
                let settings = Settings::default()
                    .with_flags(&flags, Path::new("args/kubelet"))
                    .unwrap();
                let found = refusal(&settings, (*minor > 0).then_some(Version(1, *minor)));
                let found = found
                    .map(|(origin, words)| format!("{origin}: {words}"))
                    .unwrap_or_default();
                match *expected {
                    "" => assert_eq!(found, "", "{enforced} {minor}"),
                    expected => {
                        assert!(
                            found.starts_with("args/kubelet:3: invalid configuration: "),
                            "{found}"
                        );
                        assert!(found.contains(expected), "{enforced} {minor}: {found}");
                    }
                }
            }
        }
    }

    #[test]
    fn none_without_qos_groups_is_refused_until_1_30() {
        let file = "--cgroups-per-qos=false\n--enforce-node-allocatable=none";
        assert!(words(file, 30).contains("is not supported unless cgroupsPerQOS"));
        assert_eq!(
            (words(file, 31), words(file, 0)),
            (String::new(), String::new())
        );
        assert_eq!(
            words("--cgroups-per-qos=false\n--enforce-node-allocatable=", 29),
            ""
        );
    }

    #[test]
    fn the_gate_is_locked_from_1_34() {
        let file = "--feature-gates=KubeletCgroupDriverFromCRI=false";
        assert!(words(file, 34).contains("feature is locked to true"));
        assert_eq!(
            (words(file, 33), words(file, 0)),
            (String::new(), String::new())
        );
        assert_eq!(
            words("--feature-gates=KubeletCgroupDriverFromCRI=true", 34),
            ""
        );
    }

    #[test]
    fn reserved_cpus_exclude_groups_and_an_endpoint_is_required() {
        assert!(
            words("--reserved-cpus=0\n--kube-reserved-cgroup=/r", 29)
                .contains("can't use reservedSystemCPUs")
        );
        assert_eq!(words("--reserved-cpus=0", 29), "");
        assert!(words("--container-runtime-endpoint=", 29).contains("not specified or empty"));
    }

    #[test]
    fn amounts() {
        for good in [
            "1", "0.5", ".5", "1.", "+1", "100m", "1Gi", "1e3", "1E3", "1e-3", "5E", "0", "-0",
            "m", ".",
        ] {
            assert_eq!(
                words(&format!("--kube-reserved=cpu={good}"), 29),
                "",
                "{good}"
            );
        }
        for bad in [
            "", "1x", "1.2.3", "1gi", "1 Gi", "1Kib", "1m5", "1e", "--1", "-",
        ] {
            assert!(
                wrong_amount("cpu", bad)
                    .unwrap()
                    .starts_with("failed to parse"),
                "{bad}"
            );
        }
        assert!(words("--system-reserved=memory=-1Gi", 29).contains("cannot be negative"));
        assert!(
            words("--system-reserved=storage=1Gi", 29)
                .contains("cannot reserve \"storage\" resource")
        );
    }
}
