//! Calls to systemd over D-Bus, each with a time limit.
//!
//! The D-Bus library has no time limit for the handshake, so a bus that accepts the connection and
//! never answers would block it indefinitely. Each call therefore runs on a thread of its own, and
//! the caller stops waiting in time. The thread ends with the process.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Serialize;
use zbus::{Connection, DynamicType, Message, OwnedObjectPath, OwnedVariant, Variant};

use crate::repair::RepairError;
use crate::sys;

/// How long a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a job may take. It may have to wait for other jobs.
const JOB_TIMEOUT: Duration = Duration::from_secs(20);
const JOB_POLL_INTERVAL: Duration = Duration::from_millis(10);

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const UNIT_INTERFACE: &str = "org.freedesktop.systemd1.Unit";
const JOB_INTERFACE: &str = "org.freedesktop.systemd1.Job";
const PROPERTIES_INTERFACE: &str = "org.freedesktop.DBus.Properties";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// Names and values of a unit's properties.
pub(super) type Properties = Vec<(&'static str, Variant<'static>)>;

/// A connection to the system bus.
pub(super) struct Systemd {
    connection: Connection,
}

/// A job of systemd, known by its object path.
pub(super) struct Job(OwnedObjectPath);

impl Systemd {
    pub(super) fn connect() -> Result<Self, RepairError> {
        sys::doing("connecting to the system bus");
        let call = "connecting to systemd over D-Bus";
        let connection = bounded(call, || zbus::block_on(Connection::system()))?;
        Ok(Self { connection })
    }

    /// Restarts the unit if it is running; a unit that was stopped stays stopped.
    pub(super) fn try_restart(&self, unit: &str) -> Result<Job, RepairError> {
        self.job("TryRestartUnit", unit)
    }

    pub(super) fn start(&self, unit: &str) -> Result<Job, RepairError> {
        self.job("StartUnit", unit)
    }

    /// `None` if systemd already has a unit of this name.
    pub(super) fn start_transient(
        &self,
        unit: &str,
        properties: Properties,
    ) -> Result<Option<Job>, RepairError> {
        let others: Vec<(&str, Properties)> = Vec::new();
        let body = (unit.to_owned(), "replace", properties, others);
        let read = |answer| job_unless(UNIT_EXISTS, answer);
        self.manage("StartTransientUnit", unit, body, read)
    }

    /// Stops the unit but none of the units that depend on it, so that no process is killed;
    /// `None` if systemd has no such unit.
    pub(super) fn stop_alone(&self, unit: &str) -> Result<Option<Job>, RepairError> {
        let body = (unit.to_owned(), "ignore-dependencies");
        let read = |answer| job_unless(NO_SUCH_UNIT, answer);
        self.manage("StopUnit", unit, body, read)
    }

    /// Sets properties of an existing unit until the next boot.
    pub(super) fn set_until_reboot(
        &self,
        unit: &str,
        properties: Properties,
    ) -> Result<(), RepairError> {
        let body = (unit.to_owned(), true, properties);
        self.manage("SetUnitProperties", unit, body, |answer| answer.map(|_| ()))
    }

    /// Returns once the job is done, even if it failed.
    pub(super) fn wait_for(&self, job: &Job, unit: &str) -> Result<(), RepairError> {
        sys::doing(format!("waiting for systemd's job for {unit}"));
        let start = Instant::now();
        while self.is_under_way(job)? {
            if start.elapsed() > JOB_TIMEOUT {
                let call = format!("systemd's job for {unit}");
                let reason = format!("it did not finish within {} s", JOB_TIMEOUT.as_secs());
                return Err(RepairError::Bus { call, reason });
            }
            std::thread::sleep(JOB_POLL_INTERVAL);
        }
        Ok(())
    }

    /// The state of a unit: `active`, `inactive`, `failed` …
    pub(super) fn state(&self, unit: &str) -> Result<String, RepairError> {
        let connection = self.connection.clone();
        let path: OwnedObjectPath =
            self.manage("LoadUnit", unit, (unit.to_owned(),), |answer| {
                answer?.body().deserialize()
            })?;
        bounded(&format!("D-Bus call Get({unit}.ActiveState)"), move || {
            String::try_from(get(&connection, &path, UNIT_INTERFACE, "ActiveState")?)
        })
    }

    fn job(&self, method: &'static str, unit: &str) -> Result<Job, RepairError> {
        self.manage(method, unit, (unit.to_owned(), "replace"), |answer| {
            answer?.body().deserialize().map(Job)
        })
    }

    /// Calls a method of systemd's manager that takes a unit.
    fn manage<B: Serialize + DynamicType + Send + 'static, T: Send + 'static>(
        &self,
        method: &'static str,
        unit: &str,
        body: B,
        read: impl FnOnce(Result<Message, zbus::Error>) -> Result<T, zbus::Error> + Send + 'static,
    ) -> Result<T, RepairError> {
        let connection = self.connection.clone();
        sys::doing(format!("asking systemd for {method}({unit})"));
        bounded(&format!("D-Bus call {method}({unit})"), move || {
            let (service, manager) = (Some(SYSTEMD), Some(MANAGER_INTERFACE));
            let call = connection.call_method(service, MANAGER, manager, method, &body);
            read(zbus::block_on(call))
        })
    }

    /// Whether the job still exists: systemd removes its object once the job is done.
    fn is_under_way(&self, job: &Job) -> Result<bool, RepairError> {
        let connection = self.connection.clone();
        let path = job.0.clone();
        bounded("D-Bus call Get(Job.State)", move || {
            match get(&connection, &path, JOB_INTERFACE, "State") {
                Ok(_) => Ok(true),
                Err(zbus::Error::FDO(error))
                    if matches!(*error, zbus::fdo::Error::UnknownObject(_)) =>
                {
                    Ok(false)
                }
                Err(error) => Err(error),
            }
        })
    }
}

/// A property of a unit or a job.
fn get(
    connection: &Connection,
    path: &OwnedObjectPath,
    interface: &str,
    property: &str,
) -> Result<OwnedVariant, zbus::Error> {
    let (service, properties) = (Some(SYSTEMD), Some(PROPERTIES_INTERFACE));
    let body = (interface, property);
    let call = connection.call_method(service, path, properties, "Get", &body);
    zbus::block_on(call)?.body().deserialize()
}

fn job_unless(
    error: &str,
    answer: Result<Message, zbus::Error>,
) -> Result<Option<Job>, zbus::Error> {
    match answer {
        Err(zbus::Error::MethodError(name, ..)) if name.as_str() == error => Ok(None),
        answer => answer?.body().deserialize().map(Job).map(Some),
    }
}

fn bounded<T: Send + 'static>(
    call: &str,
    work: impl FnOnce() -> Result<T, zbus::Error> + Send + 'static,
) -> Result<T, RepairError> {
    let failed = |reason: String| RepairError::Bus {
        call: call.to_owned(),
        reason,
    };
    let (answer, waiting) = mpsc::channel();
    let thread = std::thread::Builder::new().spawn(move || {
        // The receiver is gone if the answer comes too late.
        let _ = answer.send(work());
    });
    thread.map_err(|error| failed(format!("no thread could be started: {error}")))?;
    match waiting.recv_timeout(CALL_TIMEOUT) {
        Ok(answer) => answer.map_err(|error| failed(error.to_string())),
        Err(_) => Err(failed(format!(
            "no answer within {} s",
            CALL_TIMEOUT.as_secs()
        ))),
    }
}
