//! One field of a KubeletConfiguration file: what type it has to have, and which setting it sets.
//!
//! Rests on `staging/src/k8s.io/kubelet/config/v1beta1/types.go` for the fields and their types.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cgroup::CgroupPath;
use crate::kubelet::errors::{ErrorKind, LineError, SettingsError};
use crate::kubelet::setting::{Driver, NO_CGROUP, NO_DRIVER, Origin, Sourced};
use crate::kubelet::settings::Settings;
use crate::kubelet::yaml::{Node, Value};

/// The fields that are read, in the order in which errors are looked for.
pub(super) const FIELDS: [&str; 17] = [
    "cgroupsPerQOS",
    "cgroupDriver",
    "cgroupRoot",
    "enforceNodeAllocatable",
    "kubeReservedCgroup",
    "systemReservedCgroup",
    "failCgroupV1",
    "protectKernelDefaults",
    "failSwapOn",
    "cpuManagerPolicy",
    "cpuManagerPolicyOptions",
    "memoryManagerPolicy",
    "containerRuntimeEndpoint",
    "reservedSystemCPUs",
    "kubeReserved",
    "systemReserved",
    "featureGates",
];

/// Whether a file is the first one or changes earlier ones.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// `--config`
    Base,
    /// One of `--config-dir`: maps are merged key by key.
    Dropin,
}

/// A field of a file, or one value in its list or map.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) path: &'a Path,
    pub(super) key: &'static str,
    pub(super) node: &'a Node,
}

impl Field<'_> {
    /// Lays the field over the settings.
    pub(super) fn apply(&self, role: Role, new: &mut Settings) -> Result<(), SettingsError> {
        match self.key {
            "cgroupsPerQOS" => self.set(new, |s| &mut s.cgroups_per_qos, self.boolean()?),
            "cgroupDriver" => self.set(new, |s| &mut s.driver, self.driver()?),
            "cgroupRoot" => self.set(new, |s| &mut s.cgroup_root, self.group()?),
            "enforceNodeAllocatable" => self.set(new, |s| &mut s.enforced, self.texts()?),
            "kubeReservedCgroup" => self.set_some(new, |s| &mut s.kube_reserved, self.group()?),
            "systemReservedCgroup" => self.set_some(new, |s| &mut s.system_reserved, self.group()?),
            "failCgroupV1" => self.set_some(new, |s| &mut s.fail_cgroup_v1, self.boolean()?),
            "protectKernelDefaults" => {
                self.set(new, |s| &mut s.protect_kernel_defaults, self.boolean()?);
            }
            "failSwapOn" => self.set(new, |s| &mut s.fail_swap_on, self.boolean()?),
            "cpuManagerPolicy" => self.set(new, |s| &mut s.cpu_manager_policy, self.text()?),
            "cpuManagerPolicyOptions" => {
                self.merge(role, &mut new.cpu_manager_options, Self::text_or_empty)?;
            }
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
            // Not one of FIELDS. A test checks that each of them has an arm here.
            _ => {}
        }
        Ok(())
    }

    /// Sets the field's value, or the default again for `None`, which is null or an empty string.
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

    /// Merges a map into the setting key by key. In a drop-in null removes a key.
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
        LineError { line, reason, kind }.in_file(self.path)
    }

    /// The kubelet's decoder refuses a value of another type.
    fn is_not(&self, expected: &str) -> SettingsError {
        let quotes = match (expected, &*self.node.value) {
            ("a string", Value::Bool(_) | Value::Number(_)) => " (put it in quotes)",
            ("a boolean", Value::Text(_)) => " (remove the quotes)",
            _ => "",
        };
        let found = self.node.value.describe();
        let words = format!("is {found}, but the kubelet expects {expected}{quotes}");
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
            _ => Err(self.is_not("a string")),
        }
    }

    fn text(&self) -> Result<Option<String>, SettingsError> {
        Ok(Some(self.text_or_empty()?).filter(|text| !text.is_empty()))
    }

    fn texts(&self) -> Result<Option<Vec<String>>, SettingsError> {
        let items = match &*self.node.value {
            Value::List(items) => items,
            Value::Null => return Ok(None),
            _ => return Err(self.is_not("a list of strings")),
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
