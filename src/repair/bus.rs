//! systemd over D-Bus, and no call of it ever longer than it may take.
//!
//! A bus that accepts a connection and then says nothing would hold up the handshake for ever, so everything runs on a
//! thread of its own, and who waits for it gives up in time. The thread ends with the process.

use std::sync::mpsc;
use std::time::Duration;

use zbus::{Connection, OwnedObjectPath, OwnedVariant};

use crate::repair::RepairError;

const PATIENCE: Duration = Duration::from_secs(3);

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const JOB_INTERFACE: &str = "org.freedesktop.systemd1.Job";
const PROPERTIES_INTERFACE: &str = "org.freedesktop.DBus.Properties";

/// A connection to the system bus.
pub(super) struct Systemd {
    connection: Connection,
}

/// A job of systemd, by its object path.
pub(super) struct Job(OwnedObjectPath);

impl Systemd {
    pub(super) fn connect() -> Result<Self, RepairError> {
        let connection = bounded("connect", || zbus::block_on(Connection::system()))?;
        Ok(Self { connection })
    }

    /// Restarts the unit if it runs; one that somebody has stopped stays stopped.
    pub(super) fn try_restart(&self, unit: &str) -> Result<Job, RepairError> {
        let connection = self.connection.clone();
        let argument = unit.to_owned();
        bounded(&format!("TryRestartUnit({unit})"), move || {
            let body = (argument.as_str(), "replace");
            let call = connection.call_method(Some(SYSTEMD), MANAGER, Some(MANAGER_INTERFACE), "TryRestartUnit", &body);
            zbus::block_on(call)?.body().deserialize::<OwnedObjectPath>()
        })
        .map(Job)
    }

    /// Whether the job is still there: systemd takes its object away once it is done.
    pub(super) fn is_under_way(&self, job: &Job) -> Result<bool, RepairError> {
        let connection = self.connection.clone();
        let path = job.0.clone();
        bounded("Get(Job.State)", move || {
            let body = (JOB_INTERFACE, "State");
            let call = connection.call_method(Some(SYSTEMD), &path, Some(PROPERTIES_INTERFACE), "Get", &body);
            match zbus::block_on(call) {
                Ok(answer) => answer.body().deserialize::<OwnedVariant>().map(|_| true),
                Err(zbus::Error::FDO(error)) if matches!(*error, zbus::fdo::Error::UnknownObject(_)) => Ok(false),
                Err(error) => Err(error),
            }
        })
    }
}

fn bounded<T: Send + 'static>(
    call: &str,
    work: impl FnOnce() -> Result<T, zbus::Error> + Send + 'static,
) -> Result<T, RepairError> {
    let failed = |reason: String| RepairError::Bus { call: call.to_owned(), reason };
    let (answer, waiting) = mpsc::channel();
    let thread = std::thread::Builder::new().spawn(move || {
        // Nobody is left to answer to once the patience is over.
        let _ = answer.send(work());
    });
    thread.map_err(|error| failed(format!("no thread could be started: {error}")))?;
    match waiting.recv_timeout(PATIENCE) {
        Ok(answer) => answer.map_err(|error| failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}
