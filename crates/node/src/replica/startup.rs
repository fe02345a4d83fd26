//! Opening a replica's disk. What it then starts from is decided by [`althing_replica::storage`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use althing_replica::storage::{BootId, Log, OpenOptions, Opened, open as open_storage, open_to_recover};
use althing_replica::{Durability, KeptState, Startup};
use tokio::sync::mpsc;

use super::ReplicaError;
use crate::config::{ConfigError, create_directory};
use crate::log::{Files, LogError, LogEvent, LogThread};

/// Where Linux says which of its runs this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where it says how much memory there is, and how much the processes of this container may have.
const MEMORY: &str = "/proc/meminfo";
const CGROUP_MEMORY: &str = "/sys/fs/cgroup/memory.max";

/// What is assumed where the system does not say.
const LEAST_MEMORY: u64 = 4 << 30;

/// What is read of a disk that is doubted takes no more than such a part of it: with all of it taken, the system
/// would end this process at each start.
const MEMORY_SHARE: u64 = 2;

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

/// The directory `data`, for this process alone. Where what is there is doubted, since the replica `is_told` to or
/// has not recovered yet, all that no replica puts there is removed first; never where it is the only copy.
pub(super) fn claim(data: &Path, is_told: bool, has_others: bool) -> Result<Files, ReplicaError> {
    let is_doubtful = has_others && (is_told || Files::is_recovering_in(data));
    if is_doubtful {
        Files::clear_way(data)?;
    }
    create_directory(data)?;
    let mut files = Files::open(data)?;
    if is_doubtful {
        files.clear_foreign()?;
    }
    Ok(files)
}

/// Says whether a correct replica could have these records and this state.
type IsSound<'a> = dyn Fn(&[Vec<u8>], Option<&mut KeptState>) -> bool + 'a;

/// How a disk is opened.
pub(super) enum How<'a> {
    /// As the replica's own.
    Believed {
        /// Whether the group is new.
        is_genesis: bool,
    },
    /// As one that somebody else may have written to: this says whether what it holds is sound.
    Doubted(&'a IsSound<'a>),
}

/// Opens what was claimed.
pub(super) fn open(files: Files, durability: Durability, how: &How<'_>) -> Result<Started, ReplicaError> {
    let Opened { startup, log, torn_len } = open_files(files, durability, how)?;
    if torn_len > 0 {
        tracing::warn!(bytes = torn_len, "cut off the log's torn tail, which nobody relies on");
    }
    if durability == Durability::None {
        return Ok(Started { startup, log: None, _unused: Some(log) });
    }
    let thread = LogThread::spawn(log, QUEUE).map_err(ReplicaError::Thread)?;
    Ok(Started { startup, log: Some(thread), _unused: None })
}

fn open_files(files: Files, durability: Durability, how: &How<'_>) -> Result<Opened<Files>, ReplicaError> {
    let data = files.directory().to_owned();
    let boot = fs::read_to_string(BOOT_ID).ok().map(|id| id.trim().to_owned()).filter(|id| !id.is_empty());
    let is_genesis = matches!(how, How::Believed { is_genesis: true });
    let options =
        OpenOptions { durability, is_genesis, boot: boot.map(BootId), max_record_len: MAX_RECORD_BYTES };
    let opened = match how {
        How::Believed { .. } => open_storage(files, &options),
        How::Doubted(is_sound) => open_to_recover(files, &options, memory_bytes() / MEMORY_SHARE, is_sound),
    };
    Ok(opened.map_err(|error| LogError::of(&data, error))?)
}

/// The memory of this machine, or of as much of it as this process may have: no state is larger.
fn memory_bytes() -> u64 {
    let limit = fs::read_to_string(CGROUP_MEMORY).ok().and_then(|limit| limit.trim().parse().ok());
    let kib = fs::read_to_string(MEMORY).ok().and_then(|text| total_kib(&text));
    let total = kib.map_or(LEAST_MEMORY, |kib| kib.saturating_mul(1024));
    limit.map_or(total, |limit: u64| limit.min(total))
}

fn total_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
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
