//! What a replica that recovers proactively starts from (TOCS'02 §4.3): a disk that somebody else may
//! have written to, checksums included.
//!
//! | what is found | what it is good for |
//! |---|---|
//! | a log and a state that a correct replica could have | it votes by them, in doubt |
//! | anything else | it has lost what it said; pages that can be read are compared with those of others |
//!
//! Nothing is refused: whoever left what can't be relied on would else have the replica down for good.

use super::life::Life;
use super::log::replace;
use super::open::{Found, life_in, settle};
use super::record::scan;
use super::segment::{MOST_SEGMENT_BYTES, Room, read_segment, salvage_segment};
use super::{File, OpenOptions, Opened, Storage, StorageError};
use crate::records::named_state;
use crate::{Durability, KeptState, Remains, Startup};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use althing_types::{Digest, Seq};

/// Puts down that a replica recovers, before it reads anything: until [`end_recovery`], each start is one in
/// doubt.
///
/// # Errors
/// When the disk fails. The replica does not recover then, and has to be told again.
pub fn begin_recovery<S: Storage>(storage: &mut S) -> Result<(), S::Error> {
    replace(storage, File::Recovering, &[], true)
}

/// Whether a replica recovers that has not recovered yet.
///
/// # Errors
/// When the disk fails.
pub fn is_recovering<S: Storage>(storage: &mut S) -> Result<bool, S::Error> {
    Ok(storage.read(File::Recovering)?.is_some())
}

/// Puts down that the replica has recovered. What it says in its new life has to be on disk before.
///
/// # Errors
/// When the disk fails.
pub fn end_recovery<S: Storage>(storage: &mut S) -> Result<(), S::Error> {
    storage.remove(File::Recovering)?;
    storage.sync_directory(File::Recovering)
}

/// No replica has counted its segments up to here.
const MOST: u64 = u64::MAX / 2;

/// The log may take so many parts less of the memory than the pages.
const LOG_SHARE: u64 = 4;

/// The bodies of a log's records, oldest first.
type Records = Vec<Vec<u8>>;

/// Opens the disk of a replica that recovers, and counts this as a start. `is_sound` is asked whether a
/// correct replica could have these records and this state, as
/// [`Replica::is_sound`](crate::Replica::is_sound) says. Of the pages no more than about `most_bytes` is held in
/// memory, and of the log a quarter of that.
///
/// # Errors
/// When the disk fails.
pub fn open_to_recover<S: Storage>(
    mut storage: S,
    options: &OpenOptions,
    most_bytes: u64,
    is_sound: impl FnOnce(&[Vec<u8>], Option<&mut KeptState>) -> bool,
) -> Result<Opened<S>, StorageError<S::Error>> {
    if options.durability == Durability::Async && options.boot.is_none() {
        return Err(StorageError::NoBootId);
    }
    let cached = storage.read(File::Cached).map_err(StorageError::Disk)?;
    let boot = options.boot.as_ref().map(|boot| boot.0.as_bytes());
    let has_lost_memory = cached.as_deref().is_some_and(|of| of.is_empty() || boot != Some(of));
    let mut found = lives(&mut storage)?;
    found = Found::of(found.life, found.begun, cached.is_some());
    // It is held twice while it is read.
    let most_of_log = most_bytes / LOG_SHARE;
    let is_short = storage.read_at(File::Log, most_of_log, 1).map_err(StorageError::Disk)?.is_empty();
    let (mut records, torn_len) =
        if is_short { records(&mut storage, options.max_record_len)? } else { (None, 0) };
    found.torn_len = torn_len;
    let (mut kept, is_whole) = pages(&mut storage, records.as_deref(), &mut Room::new(most_bytes))?;
    let is_believed = options.durability != Durability::None && !has_lost_memory;
    // An empty log is that of one that has forgotten, too.
    let knows = |records: &[Vec<u8>]| found.life.is_some_and(|life| !records.is_empty() || life.knows_all);
    let is_sound = |records: &Records| knows(records) && is_sound(records, kept.as_mut());
    if !(is_believed && is_whole && records.as_ref().is_some_and(is_sound)) {
        records = None;
    }
    let startup = Startup::Recovering(Remains { records, kept });
    let log = settle(storage, &found, &startup, options)?;
    Ok(Opened { startup, log, torn_len })
}

/// Who lives here, if both places agree on that and the data is not an old copy.
fn lives<S: Storage>(storage: &mut S) -> Result<Found, StorageError<S::Error>> {
    let life = life_in(storage, File::Life)?.flatten();
    let begun = life_in(storage, File::Begun)?.flatten();
    let is_own = |life: &Life| {
        begun.is_some_and(|begun| life.instance == begun.instance && life.starts >= begun.starts)
    };
    let life = life.filter(is_own);
    Ok(Found::of(life, life.and(begun), false))
}

/// The log's records, if it can be read, and how much of its end was torn off.
fn records<S: Storage>(
    storage: &mut S,
    limit: usize,
) -> Result<(Option<Records>, usize), StorageError<S::Error>> {
    let Some(content) = storage.read(File::Log).map_err(StorageError::Disk)? else { return Ok((None, 0)) };
    Ok(match scan(&content, limit) {
        Ok(scan) => (Some(scan.bodies(&content).collect()), content.len() - scan.end),
        Err(_) => (None, 0),
    })
}

/// What can be read of the pages, and whether that is all that the records name, as they name it.
fn pages<S: Storage>(
    storage: &mut S,
    records: Option<&[Vec<u8>]>,
    room: &mut Room,
) -> Result<(Option<KeptState>, bool), StorageError<S::Error>> {
    let disk = StorageError::Disk;
    if let Some(name) = records.and_then(named_state) {
        let mut kept = KeptState::named(name.seq, name.state);
        // Each is written under the next number. Named out of order, or twice, one would go while it is named.
        let ascend = name.segments.windows(2).all(|pair| pair[0].number < pair[1].number);
        let mut is_whole = ascend && name.segments.last().is_none_or(|last| last.number < MOST);
        let mut named = BTreeSet::new();
        for segment in name.segments.into_iter().filter(|segment| named.insert(segment.number)) {
            kept.read(segment);
            let mut entries = Vec::new();
            let read = if segment.len <= MOST_SEGMENT_BYTES && room.has(segment.len) {
                read_segment(storage, segment, |entry| entries.push(entry))
            } else {
                Err(StorageError::DamagedSegment { number: segment.number, offset: MOST_SEGMENT_BYTES })
            };
            match read {
                Ok(()) if room.take(segment.len, entries.len()) => {}
                Err(StorageError::Disk(error)) => return Err(disk(error)),
                Ok(()) | Err(_) => {
                    is_whole = false;
                    entries.clear();
                    let take = |entry| entries.push(entry);
                    salvage_segment(storage, segment.number, room, take).map_err(disk)?;
                }
            }
            entries.into_iter().for_each(|entry| kept.take(entry));
        }
        return Ok((Some(kept), is_whole));
    }
    let mut numbers = storage.segments().map_err(disk)?;
    if records.is_some() || numbers.is_empty() {
        return Ok((None, true));
    }
    numbers.sort_unstable();
    let mut kept = KeptState::named(Seq(0), Digest::default());
    for number in numbers {
        kept.begin(number);
        salvage_segment(storage, number, room, |entry| kept.take(entry)).map_err(disk)?;
    }
    Ok((Some(kept), false))
}

#[cfg(test)]
#[path = "salvage_tests.rs"]
mod tests;
