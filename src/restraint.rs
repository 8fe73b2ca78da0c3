//! If no kubelet is about to start, no cgroup is changed: before kernel 6.2, enabling cpuset at the
//! root resets the CPU affinity of every other service, and only a kubelet that needs the tree
//! justifies that.

use crate::faults::Occasion;
use crate::host::service::Service;

/// How the reason begins if an administrator has to start kubelite.
pub const DISABLED: &str = "kubelite is disabled";

/// The reason if kubelite's wrapper starts nothing.
pub const GUARDED: &str = "MicroK8s' low memory guard keeps kubelite from starting";

/// Why nothing may be changed, as a clause; `None` if a kubelet is about to start.
///
/// The pre-start of the kubelet always repairs, unless the kubelet's wrapper then ends at once. A
/// run by hand also repairs a host without the unit, which snapd does not manage.
pub fn restraint(service: Service, occasion: Occasion) -> Option<String> {
    if service.guarded {
        return Some(GUARDED.to_owned());
    }
    let is_wanted = service.enabled || service.active;
    let acts = match occasion {
        Occasion::PreStart => true,
        Occasion::ByHand => is_wanted || !(service.installed || service.refreshed),
        Occasion::Early | Occasion::Boot => is_wanted,
    };
    if acts {
        return None;
    }
    if service.refreshed {
        return Some("kubelite is stopped while snapd refreshes MicroK8s".to_owned());
    }
    let why = if service.stopped {
        "microk8s stop has stopped it"
    } else {
        "systemd does not start it at boot, and it is not running"
    };
    Some(format!("{DISABLED} ({why})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISABLED: Service = Service {
        installed: true,
        enabled: false,
        active: false,
        refreshed: false,
        stopped: false,
        guarded: false,
    };

    fn acts(service: Service) -> [bool; 4] {
        [
            Occasion::PreStart,
            Occasion::ByHand,
            Occasion::Early,
            Occasion::Boot,
        ]
        .map(|occasion| restraint(service, occasion).is_none())
    }

    #[test]
    fn only_where_a_kubelet_is_about_to_start_is_anything_changed() {
        assert_eq!(
            acts(Service {
                enabled: true,
                ..DISABLED
            }),
            [true; 4]
        );
        assert_eq!(
            acts(Service {
                active: true,
                ..DISABLED
            }),
            [true; 4]
        );
        assert_eq!(acts(DISABLED), [true, false, false, false]);
        assert_eq!(
            acts(Service {
                installed: false,
                ..DISABLED
            }),
            [true, true, false, false]
        );
        // kubelite removes the lock when it starts, so the lock alone does not count.
        assert_eq!(
            acts(Service {
                enabled: true,
                stopped: true,
                ..DISABLED
            }),
            [true; 4]
        );
    }

    #[test]
    fn nothing_is_changed_under_the_low_memory_guard() {
        assert_eq!(
            acts(Service {
                enabled: true,
                guarded: true,
                ..DISABLED
            }),
            [false; 4]
        );
    }

    #[test]
    fn nothing_is_changed_in_the_middle_of_a_refresh() {
        // snapd takes the units away and writes them anew.
        let between = Service {
            installed: false,
            refreshed: true,
            ..DISABLED
        };
        assert_eq!(acts(between), [true, false, false, false]);
    }

    #[test]
    fn the_reason_names_who_stopped_it() {
        let reason = restraint(
            Service {
                stopped: true,
                ..DISABLED
            },
            Occasion::ByHand,
        );
        assert_eq!(
            reason.as_deref(),
            Some("kubelite is disabled (microk8s stop has stopped it)")
        );
    }
}
