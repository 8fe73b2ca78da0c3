//! What the kubelet will demand: where its settings lie, and what they come to.
//!
//! Rests on `cmd/kubelet/app/server.go` for the order (defaults, configuration file, drop-ins,
//! flags) and on MicroK8s for the places.

pub mod args;
pub mod config;
pub mod containerd;
pub mod flags;
pub mod layout;
pub mod microk8s;
pub mod remembered;
mod reservations;
mod runtime;
mod settings;
pub mod yaml;

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::root::keep;
use crate::root::{ReadError, Root};
use config::ConfigError;
use containerd::ContainerdError;
use flags::{Flag, FlagError, Reading};
use microk8s::{MICROK8S, Product, Version};
pub use settings::{Driver, Origin, Reservation, Settings, Sourced};
use settings::{text, unknown_variable};

/// The first kubelet that reads `--config-dir` without an environment variable that allows it.
const DROPINS_WITHOUT_ASKING: Version = Version(1, 30);

/// What it means for the kubelet's start that its settings cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The kubelet itself refuses them: it does not start.
    Refused,
    /// They cannot be read, or what they come to cannot be known here: nor can whether the kubelet
    /// starts.
    Unknown,
}

/// Why the settings are not known: then nothing is guessed and nothing touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A file that must be read cannot be.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The kubelet itself would refuse them, or this program cannot know what they come to.
    #[error("{path}, {error}", path = path.display())]
    Args {
        /// The args file.
        path: PathBuf,
        /// The line and what is wrong with it.
        error: FlagError,
    },
    /// A configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The kubelet refuses a setting by the rules of its version.
    #[error("{origin}: the kubelet refuses this: {words}")]
    Refused {
        /// Where the setting comes from.
        origin: Origin,
        /// The kubelet's own words.
        words: String,
    },
    /// containerd's configuration, where the driver depends on it.
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
    /// The kubelet asks a container runtime for its driver of whose configuration nothing is known.
    #[error(
        "{endpoint} ({origin}) is not the socket of MicroK8s' own containerd, and the kubelet asks \
         what listens there for the cgroup driver"
    )]
    RuntimeUnknown {
        /// The runtime's socket.
        endpoint: String,
        /// Who names it.
        origin: Origin,
        /// The args file.
        path: PathBuf,
    },
    /// Whether the kubelet asks containerd for its driver depends on a version that is not known.
    #[error(
        "{path} sets the {containerd} driver and the kubelet's own settings {kubelet}: which one \
         counts depends on the kubelet's version, and that cannot be read from the snap"
    )]
    VersionUnknown {
        /// containerd's configuration.
        path: PathBuf,
        /// What it says.
        containerd: Driver,
        /// What the kubelet is told.
        kubelet: Driver,
    },
    /// The file is not text.
    #[error("{path} is no text (NUL bytes, or not UTF-8), as a power cut may leave it: compare it \
             with another node's", path = path.display())]
    NotText {
        /// The args file.
        path: PathBuf,
    },
}

impl SettingsError {
    /// What it means for the kubelet's start.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read(error) | Self::Config(ConfigError::Read(error)) => kind_of_read(error),
            Self::Args { error, .. } => error.kind,
            Self::Config(ConfigError::Invalid { kind, .. }) => *kind,
            Self::Refused { .. } => ErrorKind::Refused,
            Self::Containerd(error) => error.kind(),
            Self::RuntimeUnknown { .. } | Self::VersionUnknown { .. } | Self::NotText { .. } => {
                ErrorKind::Unknown
            }
        }
    }

    /// The file that shows it.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Read(error)
            | Self::Config(ConfigError::Read(error))
            | Self::Containerd(ContainerdError::Read(error)) => error.path.clone(),
            Self::Refused { origin, .. } => origin.file().unwrap_or(Path::new("/")).to_owned(),
            Self::Containerd(error) => error.path().to_owned(),
            Self::Args { path, .. }
            | Self::Config(ConfigError::Invalid { path, .. })
            | Self::RuntimeUnknown { path, .. }
            | Self::VersionUnknown { path, .. }
            | Self::NotText { path } => path.clone(),
        }
    }

    /// The read that failed, where it is one.
    pub fn failed_read(&self) -> Option<&ReadError> {
        match self {
            Self::Read(error)
            | Self::Config(ConfigError::Read(error))
            | Self::Containerd(ContainerdError::Read(error)) => Some(error),
            _ => None,
        }
    }
}

/// What is not there or is no file, the kubelet cannot read either.
fn kind_of_read(error: &ReadError) -> ErrorKind {
    match error.errno {
        Errno::ENOENT | Errno::ENOTDIR | Errno::EISDIR => ErrorKind::Refused,
        _ => ErrorKind::Unknown,
    }
}

/// What was found of a kubelet's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Configured {
    /// MicroK8s is not installed, is disabled, or runs no kubelet; the reason as one sentence.
    Inactive(String),
    /// These are the settings of the revision.
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
    let product = &MICROK8S;
    let revision = match product.revision(root) {
        Ok(Some(revision)) => revision,
        Ok(None) => return Configured::Inactive(format!("there is no {}", product.current)),
        Err(error) => {
            let args_file = Path::new(product.current).join(product.kubelet_args);
            let settings = Box::new(Err(error.into()));
            return Configured::Active {
                revision: String::new(),
                version: None,
                args_file,
                settings,
            };
        }
    };
    let version = product
        .version(root, &revision)
        .or_else(|| remembered::version(root, &revision));
    let mut args_file = product.data(&revision).join(product.kubelet_args);
    let settings = match args_file_of(root, product, &revision) {
        Ok(named) => {
            args_file = named.unwrap_or(args_file);
            let variables = |name: &str| product.variable(name, &revision);
            let keep = keep::checked_text(|text| args::keep(text, &variables, &flags::reading));
            match root.keeping(&keep).read_bytes(&args_file) {
                Err(error) if error.errno == Errno::ENOENT => {
                    return Configured::Inactive(format!("there is no {}", args_file.display()));
                }
                Err(error) => Err(error.into()),
                Ok(bytes) => {
                    let is_empty = bytes.is_empty();
                    let read = read_settings(root, product, &revision, version, &args_file, bytes);
                    read.map(|settings| Settings {
                        empty_args_file: is_empty.then(|| args_file.clone()),
                        ..settings
                    })
                }
            }
        }
        Err(error) => Err(error),
    };
    Configured::Active {
        revision,
        version,
        args_file,
        settings: Box::new(settings),
    }
}

/// The file that `args/kubelite` names with `--kubelet-args-file`, if it does.
fn args_file_of(
    root: &Root,
    product: &Product,
    revision: &str,
) -> Result<Option<PathBuf>, SettingsError> {
    let path = product.data(revision).join(product.kubelite_args);
    let variables = |name: &str| product.variable(name, revision);
    let reading = |name: &str| (name == product.kubelet_args_flag).then_some(Reading::Valued);
    let keep = keep::text(|text| args::keep(text, &variables, &reading));
    let Some(text) = root.keeping(&keep).read_if_there(&path)? else {
        return Ok(None);
    };
    let args = args::parse(&text, &variables);
    let flag = format!("--{}", product.kubelet_args_flag);
    let mut named = None;
    for (index, arg) in args.iter().enumerate() {
        let Some(rest) = arg.text.strip_prefix(&flag) else {
            continue;
        };
        let value = match rest.strip_prefix('=') {
            Some(value) => Some((value, arg)),
            None if rest.is_empty() => args.get(index + 1).map(|next| (next.text.as_str(), next)),
            None => None,
        };
        let Some((value, arg)) = value else { continue };
        if let Some(variable) = &arg.unknown_variable {
            let error = FlagError::unknown(
                arg.line,
                unknown_variable(product.kubelet_args_flag, variable),
            );
            return Err(SettingsError::Args { path, error });
        }
        named = Some(PathBuf::from(value));
    }
    Ok(named)
}

/// The args file at `path` and all that it leads to.
fn read_settings(
    root: &Root,
    product: &Product,
    revision: &str,
    version: Option<Version>,
    path: &Path,
    bytes: Vec<u8>,
) -> Result<Settings, SettingsError> {
    let Some(text) = String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
    else {
        return Err(SettingsError::NotText {
            path: path.to_owned(),
        });
    };
    let refused = |error| SettingsError::Args {
        path: path.to_owned(),
        error,
    };
    let variables = |name: &str| product.variable(name, revision);
    let flags = flags::parse(&args::parse(&text, &variables)).map_err(refused)?;
    let data = product.data(revision);
    let named = |name: &str| named_file(&flags, name, &data);
    let dropins = named("config-dir").map_err(refused)?;
    if let (Some((_, line)), Some(version)) = (&dropins, version)
        && version < DROPINS_WITHOUT_ASKING
    {
        let reason =
            format!("--config-dir in a kubelet {version} depends on the service's environment");
        return Err(refused(FlagError::unknown(*line, reason)));
    }
    let config = named("config").map_err(refused)?;
    let file = |named: Option<(PathBuf, usize)>| named.map(|(path, _)| path);
    let settings = config::read(root, file(config).as_deref(), file(dropins).as_deref())?;
    let settings = settings.with_flags(&flags, path).map_err(refused)?;
    if let Some((origin, words)) = reservations::refusal(&settings, version) {
        return Err(SettingsError::Refused { origin, words });
    }
    settings.with_runtime(root, product, revision, version, path)
}

/// The path in the last flag of this name, and its line. The service's working directory is the
/// data of its revision.
fn named_file(
    flags: &[Flag],
    name: &str,
    data: &Path,
) -> Result<Option<(PathBuf, usize)>, FlagError> {
    let Some(flag) = flags.iter().rfind(|flag| flag.name == name) else {
        return Ok(None);
    };
    let path = text(flag)?;
    Ok((!path.is_empty()).then(|| (data.join(path), flag.line)))
}
