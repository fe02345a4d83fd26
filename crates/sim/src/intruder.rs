//! What somebody who had a replica leaves on its disk: with checksums that hold, as far as it wants them
//! to.

use crate::dice::Dice;
use crate::disk::Disk;
use crate::fault::{Injection, Injections};
use crate::medium::Medium;
use althing_protocol::Batch;
use althing_replica::storage::{File, LogWrite, Opened, Segment, Storage, decode_entries, open};
use althing_replica::{EngineRecord, Startup, decode_record};
use althing_types::{Instant, Seq, encode};
use std::sync::Arc;

/// What comes before the first chunk of a segment, and before the entries of a chunk.
const SEGMENT_HEADER: usize = 60;
const CHUNK_HEADER: usize = 8;

/// How PBFT's record of a batch that was executed begins.
const EXECUTED: u8 = 6;

/// Leaves something on a disk whose replica is down, or nothing.
pub(crate) fn leave(disk: &mut Disk, dice: &mut Dice, injections: &Injections) {
    match dice.below(8) {
        0 => return,
        1 => {
            for _ in 0..dice.between(1, 4) {
                disk.medium.flip_bit();
            }
        }
        2 => disk.medium.lose(false),
        3 => drop(forge_page(disk, dice)),
        4 | 5 => drop(forge(disk, |records, first| {
            let left = dice.index(records.len() - first + 1);
            records.truncate(first + left);
        })),
        6 => drop(forge(disk, |records, first| {
            let mut index = 0;
            records.retain(|_| {
                index += 1;
                index <= first || dice.chance(700)
            });
        })),
        _ => drop(forge(disk, |records, first| append_executed(records, first, dice))),
    }
    injections.note(Injection::DiskForged);
}

/// Rewrites the log. The change is told how many records name the state.
fn forge(disk: &mut Disk, change: impl FnOnce(&mut Vec<Vec<u8>>, usize)) -> Option<()> {
    let Opened { startup: Startup::Recovered { mut records, .. }, mut log, .. } =
        open(disk.medium.clone(), &disk.options(false)).ok()?
    else {
        return None;
    };
    let first = usize::from(state_seq(&records).is_some());
    change(&mut records, first);
    log.commit(&[LogWrite::Rewrite { id: 0, records, dropped: Vec::new() }]).ok()
}

fn state_seq(records: &[Vec<u8>]) -> Option<Seq> {
    match decode_record(records.first()?) {
        Ok(EngineRecord::State(name)) => Some(name.seq),
        _ => None,
    }
}

/// Says that batches were executed which never were.
fn append_executed(records: &mut Vec<Vec<u8>>, _: usize, dice: &mut Dice) {
    let stable = state_seq(records).unwrap_or_default();
    for ahead in 1..=dice.between(1, 4) {
        let batch = Batch { time: Instant(dice.below(1 << 40)), requests: Vec::new() };
        let fields = (Seq(stable.0 + ahead), batch.digest(), Some(Arc::new(batch)));
        let record = [vec![EXECUTED], encode(&fields)].concat();
        records.push(encode(&EngineRecord::Protocol(record)));
    }
}

/// Changes a page of the state, and what is said of the state so that it fits.
fn forge_page(disk: &mut Disk, dice: &mut Dice) -> Option<()> {
    let Opened { startup: Startup::Recovered { records, kept: Some(_) }, .. } =
        open(disk.medium.clone(), &disk.options(false)).ok()?
    else {
        return None;
    };
    let Ok(EngineRecord::State(name)) = decode_record(records.first()?) else { return None };
    rewrite_segment(&mut disk.medium.clone(), *name.segments.last()?, dice)?;
    let Opened { startup: Startup::Recovered { mut records, kept: Some(mut kept) }, mut log, .. } =
        open(disk.medium.clone(), &disk.options(false)).ok()?
    else {
        return None;
    };
    let forged = althing_replica::StateName { state: kept.digest(), ..name };
    records[0] = encode(&EngineRecord::State(forged));
    log.commit(&[LogWrite::Rewrite { id: 0, records, dropped: Vec::new() }]).ok()
}

fn rewrite_segment(medium: &mut Medium, segment: Segment, dice: &mut Dice) -> Option<()> {
    let file = File::Segment(segment.number);
    let mut bytes = medium.read(file).ok()??;
    let (header, body) = bytes.get_mut(SEGMENT_HEADER..)?.split_at_mut_checked(CHUNK_HEADER)?;
    let len = u32::from_le_bytes(*header.first_chunk()?) as usize;
    let body = body.get_mut(..len)?;
    let entries = decode_entries(body)?;
    let last = entries.last()?.1.as_ref().map_or(0, |page| page.len());
    if last == 0 {
        return None;
    }
    body[len - 1 - dice.index(last)] ^= 1;
    header[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    medium.create(file).ok()?;
    medium.append(file, &bytes).ok()?;
    medium.sync(file).ok()?;
    medium.sync_directory(file).ok()
}
