//! Which cgroup driver counts: the kubelet's own setting, or what its container runtime answers.
//!
//! Rests on `getCgroupDriverFromCRI` in `cmd/kubelet/app/server.go`: a kubelet from 1.31 on asks
//! the runtime behind `--container-runtime-endpoint` and obeys, unless its feature gate is off or
//! the runtime does not know the question.

use std::path::{Path, PathBuf};

use crate::kubelet::containerd::{self, ConfigFile, Containerd};
use crate::kubelet::errors::SettingsError;
use crate::kubelet::microk8s::{DEFAULT_ENDPOINT, MICROK8S, TRACES_OF_DEFAULT_RUNTIME, Version};
use crate::kubelet::setting::{Origin, Sourced};
use crate::kubelet::settings::Settings;
use crate::root::Root;

/// The first MicroK8s whose containerd answers RuntimeConfig (2.1; kubelets ask from 1.31 on, but
/// until 1.34 it ships containerd 1.7, which does not answer).
const CONTAINERD_DECIDES: Version = Version(1, 35);

/// The feature gate by which a kubelet asks at all: from the first version here it can be switched
/// on, from the second it is on unless switched off, from the third it is always on
/// (`pkg/features/kube_features.go`).
pub(super) const ASKS_RUNTIME: &str = "KubeletCgroupDriverFromCRI";
const CAN_ASK: Version = Version(1, 28);
const ASKS: Version = Version(1, 31);
pub(super) const ALWAYS_ASKS: Version = Version(1, 34);

impl Settings {
    /// These settings with the driver that the container runtime tells the kubelet, where it asks.
    ///
    /// # Errors
    /// When the driver depends on something that is not known.
    pub(super) fn with_runtime(
        self,
        root: &Root,
        revision: &str,
        version: Option<Version>,
        args_file: &Path,
    ) -> Result<Self, SettingsError> {
        let configs = MICROK8S.containerd_configs(revision);
        let Sourced { value, origin, .. } = self.runtime_endpoint.clone();
        let is_given = value.is_some();
        let endpoint = value.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        if MICROK8S.is_own_socket(&endpoint) {
            return self.with_containerd(containerd::read(root, &configs), version);
        }
        // MicroK8s always gives the flag. Without it the kubelet's default counts, which is the
        // socket of the host's own containerd and never MicroK8s'. Where there is no trace of that
        // containerd nor a file of MicroK8s' own, nothing is known that could contradict the
        // kubelet's own settings.
        if !is_given && !any_exists(root, &configs)? {
            return Ok(self);
        }
        self.with_runtime_unknown(version, &endpoint, origin, args_file)
    }

    /// Whether the kubelet asks its runtime for the cgroup driver; `None` where that depends on its
    /// version, which is not known. A gate that is not set itself follows `AllAlpha` and `AllBeta`.
    fn asks_runtime(&self, version: Option<Version>) -> Option<bool> {
        let gate = |name: &str| self.feature_gates.get(name).map(|gate| gate.value);
        let own = gate(ASKS_RUNTIME);
        let Some(version) = version else {
            return own.filter(|asks| !asks);
        };
        Some(if version >= ALWAYS_ASKS {
            true
        } else if version >= ASKS {
            own.or(gate("AllBeta")).unwrap_or(true)
        } else {
            version >= CAN_ASK && own.or(gate("AllAlpha")).unwrap_or(false)
        })
    }

    /// These settings with the driver of MicroK8s' own containerd. Where the kubelet asks for it
    /// and containerd answers, it decides, and then has to be known.
    ///
    /// # Errors
    /// When it decides, or may decide, and is not known.
    fn with_containerd(
        mut self,
        file: Result<Option<ConfigFile>, SettingsError>,
        version: Option<Version>,
    ) -> Result<Self, SettingsError> {
        // `None` where it depends on a version that is not known.
        let answers = match &file {
            Ok(Some(file)) if file.is_second => Some(true),
            _ => version.map(|version| version >= CONTAINERD_DECIDES),
        };
        let decides = match (self.asks_runtime(version), answers) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            (None, _) | (_, None) => None,
        };
        let known = match file {
            Ok(Some(file)) => file.known(),
            Ok(None) => return Ok(self),
            Err(error) => Err(error),
        };
        let containerd = match known {
            Ok(containerd) => containerd,
            Err(_) if decides == Some(false) => return Ok(self),
            Err(error) => return Err(error),
        };
        let Containerd { driver, path, .. } = containerd.clone();
        if decides == Some(true) {
            self.driver.set(driver, Origin::Containerd(path));
        } else if decides.is_none() && driver != self.driver.value {
            return Err(SettingsError::VersionUnknown {
                path,
                containerd: driver,
                kubelet: self.driver.value,
            });
        }
        self.containerd = Some(containerd);
        Ok(self)
    }

    /// These settings with a container runtime of which nothing is known. A driver that is set
    /// counts, since it was set for this runtime.
    ///
    /// # Errors
    /// When no driver is set and the kubelet asks, or may ask.
    fn with_runtime_unknown(
        self,
        version: Option<Version>,
        endpoint: &str,
        origin: Origin,
        args_file: &Path,
    ) -> Result<Self, SettingsError> {
        if self.driver.origin != Origin::Default || self.asks_runtime(version) == Some(false) {
            return Ok(self);
        }
        Err(SettingsError::RuntimeUnknown {
            endpoint: endpoint.to_owned(),
            origin,
            path: args_file.to_owned(),
        })
    }
}

/// Whether anything shows that a containerd may be there, the host's own or MicroK8s'.
fn any_exists(root: &Root, configs: &[PathBuf]) -> Result<bool, SettingsError> {
    let traces = TRACES_OF_DEFAULT_RUNTIME.map(Path::new);
    for path in traces
        .into_iter()
        .chain(configs.iter().map(PathBuf::as_path))
    {
        if root.exists(path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::flag_values::settings;
    use crate::kubelet::{Driver, ErrorKind};

    /// containerd says systemd, in a file that only a containerd 2 reads or in one that both read.
    fn containerd_says_systemd(is_second: bool) -> ConfigFile {
        ConfigFile {
            path: PathBuf::from("toml"),
            is_second,
            driver: Ok(Driver::Systemd),
        }
    }

    #[test]
    fn containerd_decides_where_kubelet_and_containerd_both_know_how() {
        for (version, is_second, decides) in [
            (Version(1, 30), true, false),
            (Version(1, 31), true, true),
            (Version(1, 31), false, false),
            (Version(1, 34), true, true),
            (Version(1, 34), false, false),
            (Version(1, 35), false, true),
        ] {
            let read = Settings::default()
                .with_containerd(Ok(Some(containerd_says_systemd(is_second))), Some(version))
                .unwrap();
            assert_eq!(
                read.driver.value == Driver::Systemd,
                decides,
                "{version:?} {is_second}"
            );
            assert!(read.containerd.is_some());
        }
    }

    #[test]
    fn with_an_unknown_version_different_drivers_are_an_error() {
        for is_second in [true, false] {
            let error = Settings::default()
                .with_containerd(Ok(Some(containerd_says_systemd(is_second))), None)
                .unwrap_err();
            assert!(
                matches!(error, SettingsError::VersionUnknown { .. }),
                "{error}"
            );
            let same = settings("--cgroup-driver=systemd").unwrap();
            assert_eq!(
                same.with_containerd(Ok(Some(containerd_says_systemd(is_second))), None)
                    .unwrap()
                    .driver
                    .value,
                Driver::Systemd
            );
        }
        assert!(Settings::default().with_containerd(Ok(None), None).is_ok());
        let unasked = settings("--feature-gates=KubeletCgroupDriverFromCRI=false").unwrap();
        assert!(
            unasked
                .with_containerd(Ok(Some(containerd_says_systemd(true))), None)
                .is_ok()
        );
    }

    #[test]
    fn an_unknown_containerd_driver_is_an_error_only_where_it_decides() {
        let broken = || {
            let error = SettingsError::invalid(ErrorKind::Unknown, Path::new("toml"), "");
            Ok(Some(ConfigFile {
                path: PathBuf::from("toml"),
                is_second: true,
                driver: Err(error),
            }))
        };
        for (file, version, is_error) in [
            ("", Some(Version(1, 31)), true),
            ("", Some(Version(1, 30)), false),
            ("", None, true),
            (
                "--feature-gates=KubeletCgroupDriverFromCRI=false",
                Some(Version(1, 31)),
                false,
            ),
        ] {
            let read = settings(file).unwrap().with_containerd(broken(), version);
            assert_eq!(read.is_err(), is_error, "{file} {version:?}");
            assert!(
                read.is_err() || read.unwrap().containerd.is_none(),
                "no mismatch can be found then"
            );
        }
    }

    #[test]
    fn the_gate_says_whether_the_kubelet_asks() {
        let gate = "KubeletCgroupDriverFromCRI";
        for (gates, minor, asks) in [
            (String::new(), 30, false),
            (String::new(), 31, true),
            (format!("{gate}=false"), 31, false),
            (format!("{gate}=F,Other=true"), 33, false),
            ("AllBeta=false".to_owned(), 33, false),
            (format!("AllBeta=false,{gate}=true"), 33, true),
            ("AllAlpha=false".to_owned(), 33, true),
            (format!("{gate}=false"), 34, true),
            ("AllBeta=false".to_owned(), 34, true),
            (format!("{gate}=true"), 28, true),
            ("AllAlpha=true".to_owned(), 30, true),
            (format!("{gate}=true"), 27, false),
        ] {
            let read = settings(&format!("--feature-gates={gates}")).unwrap();
            let read = read
                .with_containerd(
                    Ok(Some(containerd_says_systemd(true))),
                    Some(Version(1, minor)),
                )
                .unwrap();
            assert_eq!(
                read.driver.value == Driver::Systemd,
                asks,
                "{gates} 1.{minor}"
            );
        }
        let twice = settings(&format!(
            "--feature-gates={gate}=true\n--feature-gates A=true,\n--feature-gates={gate}=0"
        ));
        assert_eq!(
            twice.unwrap().asks_runtime(Some(Version(1, 31))),
            Some(false)
        );
        for refused in [
            "--feature-gates=A",
            "--feature-gates=A=yes",
            "--feature-gates=A=",
        ] {
            assert!(settings(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn another_runtime_is_assumed_to_use_the_driver_that_is_set() {
        let read = |file: &str, version| {
            let args = Path::new("args/kubelet");
            settings(file).unwrap().with_runtime_unknown(
                version,
                "/run/crio.sock",
                Origin::Default,
                args,
            )
        };
        assert!(read("", Some(Version(1, 30))).is_ok());
        assert!(read("--cgroup-driver=systemd", Some(Version(1, 36))).is_ok());
        assert!(
            read(
                "--feature-gates=KubeletCgroupDriverFromCRI=false",
                Some(Version(1, 31))
            )
            .is_ok()
        );
        for version in [Some(Version(1, 31)), Some(Version(1, 36)), None] {
            assert!(
                matches!(read("", version), Err(SettingsError::RuntimeUnknown { .. })),
                "{version:?}"
            );
        }
    }
}
