//! Finds the settings of the kubelet, and derives which cgroups the kubelet requires.
//!
//! Rests on `cmd/kubelet/app/server.go` for the order (defaults, configuration file, drop-ins,
//! flags) and on MicroK8s for the places.

mod arg_shape;
pub mod args;
pub mod config;
pub mod containerd;
mod errors;
pub mod flag_values;
pub mod flags;
pub mod layout;
pub mod microk8s;
pub mod remembered;
mod reservations;
mod runtime;
mod setting;
mod settings;
pub mod yaml;

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::root::keep::{self, valid_text};
use crate::root::{Filling, Root};
use arg_shape::Reading;
use errors::LineError;
pub use errors::{ErrorKind, SettingsError};
use flags::Flag;
use microk8s::{MICROK8S, Version};
pub use setting::{Driver, Origin, Sourced};
pub use settings::{Reservation, Settings};

/// The first kubelet that reads `--config-dir` without an environment variable that allows it.
const DROPINS_WITHOUT_ASKING: Version = Version(1, 30);

/// What was found of a kubelet's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Configured {
    /// MicroK8s is not installed, is disabled, or runs no kubelet; the reason as one sentence.
    Inactive(String),
    /// MicroK8s would start a kubelet.
    Active {
        /// The snap's revision.
        revision: String,
        /// The version of its kubelet, where the snap says it.
        version: Option<Version>,
        /// The file that the settings come from.
        args_file: PathBuf,
        /// The settings, or why they are not known.
        settings: Box<Result<Settings, SettingsError>>,
    },
}

/// Reads the settings of the kubelet that MicroK8s would start.
pub fn read(root: &Root) -> Configured {
    let revision = match MICROK8S.revision(root) {
        Ok(Some(revision)) => revision,
        Ok(None) if MICROK8S.is_refreshed(root) => {
            return Configured::Inactive("snapd is refreshing it, see snap changes".to_owned());
        }
        Ok(None) => return Configured::Inactive(format!("{} does not exist", MICROK8S.current)),
        Err(error) => {
            return Configured::Active {
                revision: String::new(),
                version: None,
                args_file: Path::new(MICROK8S.current).join(MICROK8S.kubelet_args),
                settings: Box::new(Err(error.into())),
            };
        }
    };
    let version = MICROK8S.version(root, &revision);
    let version = version.or_else(|| remembered::version(root, &revision));
    let mut args_file = MICROK8S.data(&revision).join(MICROK8S.kubelet_args);
    let settings = match args_file_of_kubelite(root, &revision) {
        Err(error) => Err(error),
        Ok((named, filling)) => {
            args_file = named.unwrap_or(args_file);
            let variables = |name: &str| MICROK8S.variable(name, &revision);
            let keep = keep::checked_text(|text| args::keep(text, &variables, &flags::reading));
            match root.keeping(&keep).read_bytes(&args_file) {
                Err(error) if error.errno == Errno::ENOENT => {
                    Err(lost(root, &revision, &args_file, None))
                }
                Err(error) => Err(error.into()),
                Ok(content) => {
                    let kubelite = MICROK8S.data(&revision).join(MICROK8S.kubelite_args);
                    let own = Filling::of(&content);
                    let mut emptied = vec![(kubelite, filling), (args_file.clone(), own)];
                    emptied.retain(|(_, filling)| *filling != Filling::Something);
                    let settings = read_settings(root, &revision, version, &args_file, &content);
                    match settings {
                        // Whatever is not known then, is not known because of that.
                        Err(_) if own != Filling::Something => {
                            Err(lost(root, &revision, &args_file, Some(own)))
                        }
                        settings => settings.map(|settings| Settings {
                            emptied,
                            ..settings
                        }),
                    }
                }
            }
        }
    };
    Configured::Active {
        revision,
        version,
        args_file,
        settings: Box::new(settings),
    }
}

/// Why there are no settings if the args file does not exist, or contains only this.
fn lost(root: &Root, revision: &str, args_file: &Path, filling: Option<Filling>) -> SettingsError {
    let path = args_file.to_owned();
    match (MICROK8S.is_worker(root, revision), filling) {
        (Err(error), _) => error.into(),
        (Ok(is_worker), None) => SettingsError::ArgsMissing { path, is_worker },
        (Ok(is_worker), Some(filling)) => SettingsError::ArgsEmptied {
            path,
            filling,
            is_worker,
        },
    }
}

/// The args file that `args/kubelite` names with `--kubelet-args-file`, if it does; and with what
/// that file itself is filled.
fn args_file_of_kubelite(
    root: &Root,
    revision: &str,
) -> Result<(Option<PathBuf>, Filling), SettingsError> {
    let path = MICROK8S.data(revision).join(MICROK8S.kubelite_args);
    let variables = |name: &str| MICROK8S.variable(name, revision);
    let reading = |name: &str| (name == MICROK8S.kubelet_args_flag).then_some(Reading::Valued);
    let keep = keep::checked_text(|text| args::keep(text, &variables, &reading));
    let content = match root.keeping(&keep).read_bytes(&path) {
        Err(error) if error.errno == Errno::ENOENT => return Ok((None, Filling::Something)),
        answer => answer?,
    };
    let args = args::parse(valid_text(&content).unwrap_or_default(), &variables);
    let flag = format!("--{}", MICROK8S.kubelet_args_flag);
    let mut named = None;
    for (index, arg) in args.iter().enumerate() {
        let Some(rest) = arg.text.strip_prefix(&flag) else {
            continue;
        };
        let next = args.get(index + 1).filter(|_| rest.is_empty());
        let (value, arg) = match (rest.strip_prefix('='), next) {
            (Some(value), _) => (value, arg),
            (None, Some(next)) => (next.text.as_str(), next),
            (None, None) => continue,
        };
        if let Some(variable) = &arg.unknown_variable {
            let reason = flag_values::unknown_variable(MICROK8S.kubelet_args_flag, variable);
            return Err(LineError::unknown(arg.line, reason).in_file(&path));
        }
        named = Some(PathBuf::from(value));
    }
    Ok((named, Filling::of(&content)))
}

/// The settings by the args file at `path`, which has this `content`, and all that it leads to.
fn read_settings(
    root: &Root,
    revision: &str,
    version: Option<Version>,
    path: &Path,
    content: &[u8],
) -> Result<Settings, SettingsError> {
    let text = match valid_text(content) {
        Some(text) => text,
        // It is read like an empty file.
        None if Filling::of(content) == Filling::Zeros => "",
        None => {
            return Err(SettingsError::NotText {
                path: path.to_owned(),
                kind: ErrorKind::Unknown,
            });
        }
    };
    let in_file = |error: LineError| error.in_file(path);
    let variables = |name: &str| MICROK8S.variable(name, revision);
    let flags = flags::parse(&args::parse(text, &variables)).map_err(in_file)?;
    let data = MICROK8S.data(revision);
    let dropins = named_file(&flags, "config-dir", &data).map_err(in_file)?;
    if let (Some((_, line)), Some(version)) = (&dropins, version)
        && version < DROPINS_WITHOUT_ASKING
    {
        let reason = format!(
            "whether kubelet {version} reads --config-dir depends on the environment of its \
             service, which is not known here"
        );
        return Err(in_file(LineError::unknown(*line, reason)));
    }
    let config = named_file(&flags, "config", &data).map_err(in_file)?;
    let (config, dropins) = (config.map(|(path, _)| path), dropins.map(|(path, _)| path));
    let settings = config::read(root, config.as_deref(), dropins.as_deref())?;
    let settings = settings.with_flags(&flags, path).map_err(in_file)?;
    if let Some((origin, words)) = reservations::refusal(&settings, version) {
        let reason = format!("the kubelet refuses this setting: {words}");
        return Err(SettingsError::refused_at(&origin, reason));
    }
    settings.with_runtime(root, revision, version, path)
}

/// The path in the last flag of this name, and its line. The service's working directory is the
/// data of its revision.
fn named_file(
    flags: &[Flag],
    name: &str,
    data: &Path,
) -> Result<Option<(PathBuf, usize)>, LineError> {
    let Some(flag) = flags.iter().rfind(|flag| flag.name == name) else {
        return Ok(None);
    };
    let path = flag.text()?;
    Ok((!path.is_empty()).then(|| (data.join(path), flag.line)))
}
