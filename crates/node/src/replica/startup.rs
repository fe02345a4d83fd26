//! What a replica starts from: a new group, its own disk, or nothing.
//!
//! A replica that has lost its disk must not act as a new one: it may have voted for something that
//! it no longer knows. So a marker stays in its directory from the group's beginning on, and a
//! replica that finds neither the marker nor records starts as one that lost its memory, unless it is
//! told that the group is new. A second marker beside the directory outlives the loss of what is in it:
//! who has begun once is not new any more, whatever it is told.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use althing_replica::Startup;
use tokio::sync::mpsc;

use super::ReplicaError;
use crate::config::{ConfigError, Durability, create_directory};
use crate::log::{Log, LogEvent, LogOptions, LogThread};

const BORN_MARKER: &str = "born";
/// Beside the directory of the data.
const BEGUN_MARKER: &str = "begun";
const LOG: &str = "votes.log";

/// Records queued for the disk, at most.
const QUEUE: usize = 4096;

/// The longest record: a batch of the longest operations fits.
const MAX_RECORD_BYTES: usize = 64 << 20;

/// The disk of a replica, and what it starts from.
pub(super) struct Started {
    pub(super) startup: Startup,
    pub(super) log: Option<(LogThread, mpsc::UnboundedReceiver<LogEvent>)>,
}

/// Opens the directory `data`; `is_genesis` says that the group is new.
pub(super) fn open(data: &Path, durability: Durability, is_genesis: bool) -> Result<Started, ReplicaError> {
    create_directory(data)?;
    let begun = data.with_file_name(BEGUN_MARKER);
    let is_genesis = is_genesis && !begun.exists();
    let marker = data.join(BORN_MARKER);
    let was_born = marker.exists();
    let started = match durability {
        Durability::Sync => open_log(data, &marker, was_born, is_genesis)?,
        Durability::None => {
            let is_new = is_genesis && !was_born;
            mark(&marker)?;
            let startup = if is_new { Startup::Genesis } else { Startup::Amnesia };
            Started { startup, log: None }
        }
    };
    // After the other one: between the two it has a directory that knows.
    mark(&begun)?;
    Ok(started)
}

fn open_log(data: &Path, marker: &Path, was_born: bool, is_genesis: bool) -> Result<Started, ReplicaError> {
    let path = data.join(LOG);
    let (log, recovery) = Log::open(&path, LogOptions { max_record_len: MAX_RECORD_BYTES })?;
    if recovery.torn_len > 0 {
        tracing::warn!(bytes = recovery.torn_len, "cut off the log's torn tail, which nobody relies on");
    }
    let startup = match (recovery.records.is_empty(), was_born, recovery.created) {
        (false, ..) => Startup::Recovered(recovery.records.into_iter().map(Vec::from).collect()),
        // It has started before and not voted for anything since.
        (true, true, false) => Startup::Recovered(Vec::new()),
        // Somebody removed the log.
        (true, true, true) => Startup::Amnesia,
        (true, false, _) if is_genesis => {
            mark(marker)?;
            Startup::Genesis
        }
        // The marker is not set here: the first record says that nothing is known, and if it does not
        // reach the disk, nothing was said either.
        (true, false, _) => Startup::Amnesia,
    };
    let log = LogThread::spawn(log, QUEUE).map_err(ReplicaError::Thread)?;
    Ok(Started { startup, log: Some(log) })
}

/// Sets the marker, durably.
fn mark(marker: &Path) -> Result<(), ReplicaError> {
    let set = || -> io::Result<()> {
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(marker)?.sync_all()?;
        File::open(marker.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    set().map_err(|source| ReplicaError::Config(ConfigError::Write { path: marker.to_owned(), source }))
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
