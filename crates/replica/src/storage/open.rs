//! What a replica starts from: a new group, its own disk, or nothing.
//!
//! A replica that lost what it said must not act as a new one, nor one with an old memory as one that
//! knows: either would contradict itself. Each start is counted twice, in the directory of the data and
//! beside it, under an id drawn at the first:
//!
//! | with the data | beside it | the data is |
//! |---|---|---|
//! | - | - | none: the replica is new, if the group is |
//! | - | no start | none: a first start was cut off before anything was said |
//! | - | there | lost, and what was said with it |
//! | the same id, and as many starts or more | there | its own |
//! | the same id, fewer starts | there | an old copy: refused |
//! | another id, or the log alone | there | somebody else's: refused |
//! | there | - | somebody else's: refused |
//!
//! What lies beside the data is thus the first thing to be there, and counts a start last.
//!
//! What this can't see is a copy made since the last start, and one of both places at once: nothing on
//! a disk tells a disk from its copy.
//!
//! With durability `async` the log is believed as long as the system has been up since it was written
//! ([`BootId`]), or once it was closed in order.

use super::life::Life;
use super::log::replace;
use super::record::{FILE_HEADER_LEN, scan};
use super::segment::read_segment;
use super::{File, Log, Storage, StorageError};
use crate::records::{named_state, names_nothing};
use crate::{Durability, KeptState, Remains, Startup};
use alloc::string::String;
use alloc::vec::Vec;

/// What tells one run of the operating system from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootId(pub String);

/// How to open a replica's disk.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// What an acknowledged operation survives.
    pub durability: Durability,
    /// Whether the group is new, as far as its operator knows. It does not count for a replica that
    /// knows better.
    pub is_genesis: bool,
    /// The present run of the system, if that can be told.
    pub boot: Option<BootId>,
    /// The longest record in bytes.
    pub max_record_len: usize,
}

/// A replica's disk, open.
#[derive(Debug)]
pub struct Opened<S> {
    /// What the replica starts from.
    pub startup: Startup,
    /// Where it writes what it says. With durability `none` that is nothing.
    pub log: Log<S>,
    /// Length in bytes of the tail of the log that a crash had left unfinished, and that was cut off.
    /// Nobody relies on it.
    pub torn_len: usize,
}

/// Opens a replica's disk, and counts this as a start. What is found is read and judged in whole before
/// anything is written; whatever is refused stays as it is.
///
/// # Errors
/// When the disk fails, or what it holds is damaged, old, or not this replica's.
pub fn open<S: Storage>(mut storage: S, options: &OpenOptions) -> Result<Opened<S>, StorageError<S::Error>> {
    if options.durability == Durability::Async && options.boot.is_none() {
        return Err(StorageError::NoBootId);
    }
    let mut found = Found::read(&mut storage, options)?;
    let startup = found.judge(options)?;
    let log = settle(storage, &found, &startup, options)?;
    Ok(Opened { startup, log, torn_len: found.torn_len })
}

/// What is on the disk.
pub(super) struct Found {
    /// The log's records, unless there is none or what it says is worth nothing.
    records: Option<Vec<Vec<u8>>>,
    /// The state that they name.
    kept: Option<KeptState>,
    /// Whether there is a log that says something, worth it or not.
    has_log: bool,
    pub(super) torn_len: usize,
    pub(super) life: Option<Life>,
    pub(super) begun: Option<Life>,
    has_cached: bool,
}

impl Found {
    /// Nothing but who lives here, and whether there is a mark of a log in memory.
    pub(super) fn of(life: Option<Life>, begun: Option<Life>, has_cached: bool) -> Self {
        Self { records: None, kept: None, has_log: false, torn_len: 0, life, begun, has_cached }
    }

    fn read<S: Storage>(storage: &mut S, options: &OpenOptions) -> Result<Self, StorageError<S::Error>> {
        let cached = storage.read(File::Cached).map_err(StorageError::Disk)?;
        let boot = options.boot.as_ref().map(|boot| boot.0.as_bytes());
        // The log was in the memory of a system that is gone.
        let has_lost_memory = cached.as_deref().is_some_and(|of| of.is_empty() || boot != Some(of));
        let life = life_in(storage, File::Life)?;
        let begun = life_in(storage, File::Begun)?;
        let (life, begun) = match (life, begun) {
            (Some(None), _) | (Some(_), Some(None)) => return Err(StorageError::DamagedLife),
            (Some(life), begun) => (life, begun.flatten()),
            // That it has begun is all that counts where the data is gone.
            (None, Some(None)) => (None, Some(Life::unborn(storage.random().map_err(StorageError::Disk)?))),
            (None, begun) => (None, begun.flatten()),
        };
        let mut found = Self::of(life, begun, cached.is_some());
        let is_believed = options.durability != Durability::None && !has_lost_memory;
        // Who has lost it wants to know of a log only that it is somebody's.
        if is_believed || life.is_none() {
            found.read_log(storage, is_believed, options.max_record_len)?;
        }
        Ok(found)
    }

    fn read_log<S: Storage>(
        &mut self,
        storage: &mut S,
        is_believed: bool,
        limit: usize,
    ) -> Result<(), StorageError<S::Error>> {
        let Some(content) = storage.read(File::Log).map_err(StorageError::Disk)? else { return Ok(()) };
        if !is_believed {
            self.has_log = content.len() > FILE_HEADER_LEN;
            return Ok(());
        }
        let scan = scan(&content, limit).map_err(StorageError::Damaged)?;
        self.has_log = !scan.records.is_empty();
        self.torn_len = content.len() - scan.end;
        let records: Vec<_> = scan.bodies(&content).collect();
        drop(content);
        if let Some(name) = named_state(&records) {
            let mut kept = KeptState::named(name.seq, name.state);
            for segment in name.segments {
                kept.read(segment);
                read_segment(storage, segment, |entry| kept.take(entry))?;
            }
            self.kept = Some(kept);
        }
        self.records = Some(records);
        Ok(())
    }

    fn judge<E>(&mut self, options: &OpenOptions) -> Result<Startup, StorageError<E>> {
        let is_genesis = options.is_genesis;
        match (self.life, self.begun) {
            (None, _) if self.has_log => Err(StorageError::Incomplete),
            (None, None) if is_genesis => Ok(Startup::Genesis),
            (None, Some(begun)) if is_genesis && begun.is_conceived() => Ok(Startup::Genesis),
            (None, _) => Ok(Startup::Amnesia),
            (Some(_), None) => Err(StorageError::Foreign),
            (Some(life), Some(begun)) if life.instance != begun.instance => Err(StorageError::Foreign),
            (Some(Life { starts: known, .. }), Some(begun)) if known < begun.starts => {
                Err(StorageError::Stale { known, begun: begun.starts })
            }
            (Some(life), Some(_)) => Ok(self.recall(life, options)),
        }
    }

    /// What a replica that lives here knows.
    fn recall(&mut self, life: Life, options: &OpenOptions) -> Startup {
        match self.records.take() {
            _ if options.durability == Durability::None => Startup::Amnesia,
            Some(records) if !records.is_empty() || life.knows_all => {
                Startup::Recovered { records, kept: self.kept.take() }
            }
            // Somebody removed the log, or the system took it along.
            _ => Startup::Amnesia,
        }
    }
}

/// The life that a file tells of, `Some(None)` if the file is damaged.
pub(super) fn life_in<S: Storage>(
    storage: &mut S,
    file: File,
) -> Result<Option<Option<Life>>, StorageError<S::Error>> {
    let bytes = storage.read(file).map_err(StorageError::Disk)?;
    Ok(bytes.map(|bytes| Life::from_bytes(&bytes)))
}

/// Writes down that the replica starts like this. Cut off anywhere, the next start comes to the same.
pub(super) fn settle<S: Storage>(
    mut storage: S,
    found: &Found,
    startup: &Startup,
    options: &OpenOptions,
) -> Result<Log<S>, StorageError<S::Error>> {
    let disk = StorageError::Disk;
    let last = match (found.life, found.begun) {
        (Some(life), begun) => Life { starts: life.starts.max(begun.map_or(0, |b| b.starts)), ..life },
        (None, Some(begun)) => begun,
        (None, None) => {
            let unborn = Life::unborn(storage.random().map_err(disk)?);
            let unborn = Life { knows_all: *startup == Startup::Genesis, ..unborn };
            replace(&mut storage, File::Begun, &unborn.to_bytes(), true).map_err(disk)?;
            unborn
        }
    };
    let (knows_all, has_forgotten) = match startup {
        Startup::Genesis => (true, false),
        Startup::Recovered { .. } | Startup::Recovering(Remains { records: Some(_), .. }) => {
            (last.knows_all, false)
        }
        Startup::Amnesia | Startup::Recovering(_) => (false, true),
    };
    let life = Life { starts: last.starts + 1, knows_all, ..last };
    // Who has forgotten says so before the log is empty; who is new, only once it is.
    if has_forgotten {
        replace(&mut storage, File::Life, &life.to_bytes(), true).map_err(disk)?;
    }
    let mut log = settle_log(storage, startup, options)?;
    let storage = log.storage();
    remove_unnamed(storage, startup).map_err(disk)?;
    if !has_forgotten {
        replace(storage, File::Life, &life.to_bytes(), true).map_err(disk)?;
    }
    match &options.boot {
        Some(boot) if options.durability == Durability::Async => {
            replace(storage, File::Cached, boot.0.as_bytes(), true).map_err(disk)?;
        }
        _ if found.has_cached => {
            storage.remove(File::Cached).map_err(disk)?;
            storage.sync_directory(File::Cached).map_err(disk)?;
        }
        _ => {}
    }
    replace(storage, File::Begun, &life.to_bytes(), true).map_err(disk)?;
    Ok(log)
}

/// Removes the segments that the log does not name: what was being written when the replica ended, and
/// what it had no time to remove.
fn remove_unnamed<S: Storage>(storage: &mut S, startup: &Startup) -> Result<(), S::Error> {
    let named: Vec<u64> = match startup {
        Startup::Recovered { kept: Some(kept), .. }
        | Startup::Recovering(Remains { records: Some(_), kept: Some(kept) }) => {
            kept.segments().map(|segment| segment.number).collect()
        }
        // A log that says nothing to this program may name segments to another.
        Startup::Recovered { records, kept: None } if !names_nothing(records) => return Ok(()),
        _ => Vec::new(),
    };
    for number in storage.segments()? {
        if !named.contains(&number) {
            storage.remove(File::Segment(number))?;
        }
    }
    Ok(())
}

/// Brings the log to what the replica starts from, durably.
fn settle_log<S: Storage>(
    mut storage: S,
    startup: &Startup,
    options: &OpenOptions,
) -> Result<Log<S>, StorageError<S::Error>> {
    if options.durability == Durability::None {
        // Written under another durability, it would pass for all that was said.
        storage.remove(File::Log).map_err(StorageError::Disk)?;
        storage.sync_directory(File::Log).map_err(StorageError::Disk)?;
        return Ok(Log::new(storage, options.durability, options.max_record_len));
    }
    let mut log = Log::new(storage, options.durability, options.max_record_len);
    // Written anew, and not just synced: after a sync that failed, the system holds pages for written
    // that never reached the disk.
    match startup {
        Startup::Recovered { records, .. } | Startup::Recovering(Remains { records: Some(records), .. }) => {
            log.replace(records, true)?;
        }
        Startup::Genesis | Startup::Amnesia | Startup::Recovering(_) => log.replace::<&[u8]>(&[], true)?,
    }
    Ok(log)
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
