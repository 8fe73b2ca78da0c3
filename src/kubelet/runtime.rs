//! Which cgroup driver counts: the kubelet's own setting, or what its container runtime answers.
//!
//! Rests on `getCgroupDriverFromCRI` in `cmd/kubelet/app/server.go`: a kubelet from 1.31 on asks
//! the runtime behind `--container-runtime-endpoint` and obeys, unless its feature gate is off or
//! the runtime does not know the question.

use std::path::{Path, PathBuf};

use crate::kubelet::containerd::{self, ConfigFile, Containerd, ContainerdError};
use crate::kubelet::microk8s::{self, Product, Version};
use crate::kubelet::{Origin, Settings, SettingsError, Sourced};
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
    /// When the driver depends on what is not known.
    pub(super) fn with_runtime(
        self,
        root: &Root,
        product: &Product,
        revision: &str,
        version: Option<Version>,
        args_file: &Path,
    ) -> Result<Self, SettingsError> {
        let configs = product.containerd_configs(revision);
        let Sourced { value, origin, .. } = self.runtime_endpoint.clone();
        let endpoint = match value {
            Some(endpoint) if product.is_own_socket(&endpoint) => {
                return self.with_containerd(containerd::read(root, &configs), version);
            }
            Some(endpoint) => endpoint,
            // MicroK8s always gives the flag. Without it the kubelet's default counts, which is the
            // socket of the host's own containerd and never MicroK8s'. Where there is no trace of
            // the one nor a file of the other, nothing is known that could contradict the kubelet's
            // own settings.
            None => {
                let mut is_there = false;
                for trace in microk8s::TRACES_OF_DEFAULT_RUNTIME
                    .map(PathBuf::from)
                    .iter()
                    .chain(&configs)
                {
                    is_there = is_there || root.exists(trace)?;
                }
                if !is_there {
                    return Ok(self);
                }
                microk8s::DEFAULT_ENDPOINT.to_owned()
            }
        };
        self.with_runtime_unknown(version, &endpoint, origin, args_file)
    }

    /// Whether the kubelet asks its runtime for the cgroup driver; `None` where only its version
    /// would say and that is not known. A gate that is not given itself follows `AllAlpha` and
    /// `AllBeta`.
    fn asks_runtime(&self, version: Option<Version>) -> Option<bool> {
        let gate = |name: &str| self.feature_gates.get(name).map(|gate| gate.value);
        let given = gate(ASKS_RUNTIME);
        match version {
            None if given == Some(false) => Some(false),
            None => None,
            Some(version) if version >= ALWAYS_ASKS => Some(true),
            Some(version) if version >= ASKS => Some(given.or(gate("AllBeta")).unwrap_or(true)),
            Some(version) if version >= CAN_ASK => {
                Some(given.or(gate("AllAlpha")).unwrap_or(false))
            }
            Some(_) => Some(false),
        }
    }

    /// These settings with the word of MicroK8s' own containerd: it decides where the kubelet asks
    /// for it and containerd answers, and then has to be known.
    ///
    /// # Errors
    /// When it decides, or may decide, and is not known.
    fn with_containerd(
        self,
        file: Result<Option<ConfigFile>, ContainerdError>,
        version: Option<Version>,
    ) -> Result<Self, SettingsError> {
        let is_second = file
            .as_ref()
            .is_ok_and(|file| file.as_ref().is_some_and(|file| file.is_second));
        // That the kubelet asks and that it is answered: `None` where either depends on what is not
        // known.
        let answers = if is_second {
            Some(true)
        } else {
            version.map(|version| version >= CONTAINERD_DECIDES)
        };
        let decides = match (self.asks_runtime(version), answers) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            (None, _) | (_, None) => None,
        };
        let known = file.and_then(|file| match file {
            Some(ConfigFile {
                path,
                is_second,
                driver,
            }) => Ok(Some(Containerd {
                driver: driver?,
                path,
                is_second,
            })),
            None => Ok(None),
        });
        let containerd = match (known, decides) {
            (Err(error), Some(true) | None) => return Err(error.into()),
            (known, _) => known.ok().flatten(),
        };
        let mut settings = Self {
            containerd: containerd.clone(),
            ..self
        };
        let Some(Containerd { driver, path, .. }) = containerd else {
            return Ok(settings);
        };
        match decides {
            Some(true) => settings.driver.set(driver, Origin::Containerd(path)),
            None if driver != settings.driver.value => {
                let kubelet = settings.driver.value;
                return Err(SettingsError::VersionUnknown {
                    path,
                    containerd: driver,
                    kubelet,
                });
            }
            Some(false) | None => {}
        }
        Ok(settings)
    }

    /// These settings where the kubelet's runtime is one of which nothing is known here: a driver
    /// that is set is taken at its word, since whoever set it knows the runtime.
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
        let (endpoint, path) = (endpoint.to_owned(), args_file.to_owned());
        Err(SettingsError::RuntimeUnknown {
            endpoint,
            origin,
            path,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::flags::{self, FlagError};
    use crate::kubelet::{Driver, args};

    fn settings(file: &str) -> Result<Settings, FlagError> {
        Settings::default().with_flags(
            &flags::parse(&args::parse(file, &|_| None))?,
            Path::new("args/kubelet"),
        )
    }

    /// containerd says systemd, in a file that only a containerd 2 reads or in one that both read.
    #[expect(clippy::unnecessary_wraps, reason = "as what it stands for")]
    fn containerd_says_systemd(is_second: bool) -> Result<Option<ConfigFile>, ContainerdError> {
        Ok(Some(ConfigFile {
            path: PathBuf::from("toml"),
            is_second,
            driver: Ok(Driver::Systemd),
        }))
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
                .with_containerd(containerd_says_systemd(is_second), Some(version))
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
    fn without_the_version_containerd_must_not_contradict() {
        for is_second in [true, false] {
            let error = Settings::default()
                .with_containerd(containerd_says_systemd(is_second), None)
                .unwrap_err();
            assert!(
                matches!(error, SettingsError::VersionUnknown { .. }),
                "{error}"
            );
            let same = settings("--cgroup-driver=systemd").unwrap();
            assert_eq!(
                same.with_containerd(containerd_says_systemd(is_second), None)
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
                .with_containerd(containerd_says_systemd(true), None)
                .is_ok()
        );
    }

    #[test]
    fn what_is_not_known_of_containerd_is_an_error_only_where_it_decides() {
        let broken = || {
            let error = ContainerdError::Imports {
                path: PathBuf::new(),
                import: String::new(),
                reason: "",
            };
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
                .with_containerd(containerd_says_systemd(true), Some(Version(1, minor)))
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
    fn another_runtime_is_believed_to_be_as_the_kubelet_is_told() {
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
