//! Opening a replica's disk. What it then starts from is decided by [`althing_replica::storage`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use althing_replica::storage::{BootId, Log, OpenOptions, Opened, open as open_storage};
use althing_replica::{Durability, Startup};
use tokio::sync::mpsc;

use super::ReplicaError;
use crate::config::{ConfigError, create_directory};
use crate::log::{Files, LogError, LogEvent, LogThread};

/// Where Linux says which of its runs this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Records queued for the disk, at most.
const QUEUE: usize = 4096;

/// The longest record: a batch of the longest operations fits.
const MAX_RECORD_BYTES: usize = 64 << 20;

/// The disk of a replica, and what it starts from.
pub(super) struct Started {
    pub(super) startup: Startup,
    pub(super) log: Option<(LogThread, mpsc::UnboundedReceiver<LogEvent>)>,
    /// Where nothing is written: still the lock on the directory.
    pub(super) _unused: Option<Log<Files>>,
}

/// Opens the directory `data`; `is_genesis` says that the group is new.
pub(super) fn open(data: &Path, durability: Durability, is_genesis: bool) -> Result<Started, ReplicaError> {
    let Opened { startup, log, torn_len } = open_files(data, durability, is_genesis)?;
    if torn_len > 0 {
        tracing::warn!(bytes = torn_len, "cut off the log's torn tail, which nobody relies on");
    }
    if durability == Durability::None {
        return Ok(Started { startup, log: None, _unused: Some(log) });
    }
    let thread = LogThread::spawn(log, QUEUE).map_err(ReplicaError::Thread)?;
    Ok(Started { startup, log: Some(thread), _unused: None })
}

fn open_files(data: &Path, durability: Durability, is_genesis: bool) -> Result<Opened<Files>, ReplicaError> {
    create_directory(data)?;
    let boot = fs::read_to_string(BOOT_ID).ok().map(|id| id.trim().to_owned()).filter(|id| !id.is_empty());
    let options =
        OpenOptions { durability, is_genesis, boot: boot.map(BootId), max_record_len: MAX_RECORD_BYTES };
    let opened = open_storage(Files::open(data)?, &options);
    Ok(opened.map_err(|error| LogError::of(data, error))?)
}

/// Removes what a replica keeps on disk, so that its next start is that of one that lost it.
///
/// # Errors
/// When the directory can't be removed.
pub fn wipe(data: &Path) -> Result<(), ConfigError> {
    match fs::remove_dir_all(data) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ConfigError::Write { path: PathBuf::from(data), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "startup_tests.rs"]
mod tests;
