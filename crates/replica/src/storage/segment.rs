//! Segments: the files that hold the pages of the state on disk. All integers are little-endian.
//!
//! ```text
//! segment := magic "ALTHPAGE" | version u32 | number u64 | part u32 | state 32 | crc32 u32 of these
//!            chunk*                                                                   (60 bytes)
//! chunk   := len u32 | crc32 u32 of the rest | entry*, of len bytes together
//! entry   := page u32 | len u32 | bytes, or 2^32 - 1 in place of len: the page is removed
//! ```
//!
//! A segment is written once, and counts only once it is durable and a record in the log names it, with
//! its length. So there is no torn segment: one that is not as it was named is damaged. The digest of the
//! checkpoint for which it was written tells it from another that had its number.

use super::{File, Storage, StorageError};
use crate::{MAX_PAGE_BYTES, Page};
use alloc::vec::Vec;
use althing_types::Digest;
use borsh::{BorshDeserialize, BorshSerialize};

const MAGIC: [u8; 8] = *b"ALTHPAGE";
const VERSION: u32 = 1;
const HEADER_LEN: usize = 60;
const CHUNK_HEADER_LEN: usize = 8;
const ENTRY_HEADER_LEN: usize = 8;
const REMOVED: u32 = u32::MAX;

/// A chunk is closed when it has this many bytes: what is held beside the state while it is written or read.
const CHUNK_BYTES: usize = 256 << 10;
/// The longest chunk: it had room for one more page.
const MAX_CHUNK_BYTES: usize = CHUNK_BYTES + ENTRY_HEADER_LEN + MAX_PAGE_BYTES;

/// Segments are never as long as that.
pub(super) const MOST_SEGMENT_BYTES: u64 = 64 << 20;

/// What an entry takes in memory beside its bytes, about.
const ENTRY_COST: u64 = 128;
/// So many bytes are written before the disk is made to take them. Whoever else syncs a file of this disk
/// waits for little more than that.
const SYNC_BYTES: usize = 4 << 20;

/// Names a segment, and what it has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Segment {
    /// Its number: later segments have higher ones.
    pub number: u64,
    /// Which of the segments that were written for the same checkpoint.
    pub part: u32,
    /// The digest of that checkpoint's state.
    pub state: Digest,
    /// Its length in bytes.
    pub len: u64,
}

impl Segment {
    fn header(&self) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..20].copy_from_slice(&self.number.to_le_bytes());
        header[20..24].copy_from_slice(&self.part.to_le_bytes());
        header[24..56].copy_from_slice(&self.state.0);
        let crc = crc32fast::hash(&header[..56]);
        header[56..].copy_from_slice(&crc.to_le_bytes());
        header
    }
}

/// What a segment says of one page: its bytes, or that it is gone.
pub type Entry = (u32, Option<Page>);

/// A segment that is to be written. It shares its pages with the state.
#[derive(Debug, Clone)]
pub struct SegmentContent {
    segment: Segment,
    chunks: Vec<Vec<Entry>>,
}

impl SegmentContent {
    /// The segment with these entries, which is to be part `part` of the checkpoint with digest `state`.
    #[must_use]
    pub fn new(number: u64, part: u32, state: Digest, entries: Vec<Entry>) -> Self {
        let (mut chunks, mut chunk, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut len = HEADER_LEN;
        for entry in entries {
            bytes += entry_len(&entry);
            chunk.push(entry);
            if bytes >= CHUNK_BYTES {
                len += CHUNK_HEADER_LEN + bytes;
                chunks.push(core::mem::take(&mut chunk));
                bytes = 0;
            }
        }
        if !chunk.is_empty() {
            len += CHUNK_HEADER_LEN + bytes;
            chunks.push(chunk);
        }
        Self { segment: Segment { number, part, state, len: len as u64 }, chunks }
    }

    /// What it is.
    #[must_use]
    pub fn segment(&self) -> Segment {
        self.segment
    }

    /// What it says, page by page.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.chunks.iter().flatten()
    }

    /// Its bytes, piece by piece.
    pub fn pieces(&self) -> impl Iterator<Item = Vec<u8>> {
        core::iter::once(self.segment.header().to_vec()).chain(self.chunks.iter().map(|chunk| encode(chunk)))
    }
}

fn entry_len((_, page): &Entry) -> usize {
    ENTRY_HEADER_LEN + page.as_ref().map_or(0, |page| page.len())
}

fn encode(chunk: &[Entry]) -> Vec<u8> {
    let len = chunk.iter().map(entry_len).sum::<usize>();
    let mut bytes = Vec::with_capacity(CHUNK_HEADER_LEN + len);
    bytes.extend_from_slice(&u32::try_from(len).expect("a chunk is short").to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    for (index, page) in chunk {
        bytes.extend_from_slice(&index.to_le_bytes());
        let len = page.as_ref().map_or(REMOVED, |page| page.len() as u32);
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(page.as_deref().unwrap_or_default());
    }
    let crc = crc32fast::hash(&bytes[CHUNK_HEADER_LEN..]);
    bytes[4..CHUNK_HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads what follows a chunk's header, whose checksum has been found to be right; `None` where that is
/// nothing that was ever written.
#[must_use]
pub fn decode_entries(mut bytes: &[u8]) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let (index, rest) = bytes.split_first_chunk::<4>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let index = u32::from_le_bytes(*index);
        let len = u32::from_le_bytes(*len);
        if len == REMOVED {
            entries.push((index, None));
            bytes = rest;
            continue;
        }
        let (page, rest) =
            rest.split_at_checked(len as usize).filter(|(page, _)| page.len() <= MAX_PAGE_BYTES)?;
        entries.push((index, Some(Page::from(page))));
        bytes = rest;
    }
    Some(entries)
}

/// Writes segments, durably: nothing of them counts before all of them are.
///
/// # Errors
/// When the disk fails or is full. The replica has to stop. Nothing is left of them then, as far as the
/// disk allows: the next start needs room for a log before it looks for what is of no use.
pub fn write_segments<S: Storage>(storage: &mut S, segments: &[SegmentContent]) -> Result<(), S::Error> {
    let written = write_all(storage, segments);
    if written.is_err() {
        for content in segments {
            // What can't be removed is found by a later start.
            let _ = storage.remove(File::Segment(content.segment.number));
        }
    }
    written
}

fn write_all<S: Storage>(storage: &mut S, segments: &[SegmentContent]) -> Result<(), S::Error> {
    for content in segments {
        let file = File::Segment(content.segment.number);
        storage.create(file)?;
        let mut unsynced = 0;
        for piece in content.pieces() {
            storage.append(file, &piece)?;
            unsynced += piece.len();
            if unsynced >= SYNC_BYTES {
                storage.sync(file)?;
                unsynced = 0;
            }
        }
        storage.sync(file)?;
    }
    match segments.first() {
        Some(first) => storage.sync_directory(File::Segment(first.segment.number)),
        None => Ok(()),
    }
}

/// Reads a segment, and hands over what it says of each page, in order.
///
/// # Errors
/// When the disk fails, or the segment is missing or not what was named.
pub(super) fn read_segment<S: Storage>(
    storage: &mut S,
    segment: Segment,
    mut visit: impl FnMut(Entry),
) -> Result<(), StorageError<S::Error>> {
    let file = File::Segment(segment.number);
    let damaged = |offset| StorageError::DamagedSegment { number: segment.number, offset };
    if storage.read_at(file, 0, HEADER_LEN).map_err(StorageError::Disk)? != segment.header() {
        return Err(damaged(0));
    }
    let mut offset = HEADER_LEN as u64;
    while offset < segment.len {
        let chunk = read_chunk(storage, file, offset).map_err(StorageError::Disk)?;
        let Chunk { len, entries } = chunk.ok_or_else(|| damaged(offset))?;
        entries.ok_or_else(|| damaged(offset))?.into_iter().for_each(&mut visit);
        offset += (CHUNK_HEADER_LEN + len) as u64;
    }
    let rest = storage.read_at(file, offset, 1).map_err(StorageError::Disk)?;
    if offset == segment.len && rest.is_empty() { Ok(()) } else { Err(damaged(offset)) }
}

/// Reads what can be read of the segment with this number, whatever was named, as far as `room` reaches: for
/// pages that are compared with those of others before they count.
///
/// # Errors
/// When the disk fails.
pub(super) fn salvage_segment<S: Storage>(
    storage: &mut S,
    number: u64,
    room: &mut Room,
    mut visit: impl FnMut(Entry),
) -> Result<(), S::Error> {
    let mut offset = HEADER_LEN as u64;
    while offset < MOST_SEGMENT_BYTES
        && let Some(Chunk { len, entries }) = read_chunk(storage, File::Segment(number), offset)?
        && room.take((CHUNK_HEADER_LEN + len) as u64, entries.as_ref().map_or(1, Vec::len))
    {
        entries.into_iter().flatten().for_each(&mut visit);
        offset += (CHUNK_HEADER_LEN + len) as u64;
    }
    Ok(())
}

/// How much may still be read of a disk that anybody may have filled.
#[derive(Debug)]
pub(super) struct Room {
    left: u64,
}

impl Room {
    pub(super) fn new(bytes: u64) -> Self {
        Self { left: bytes }
    }

    /// Whether so many bytes still fit.
    pub(super) fn has(&self, bytes: u64) -> bool {
        bytes <= self.left
    }

    /// Whether so many bytes with so many entries still fit; then they are counted.
    pub(super) fn take(&mut self, bytes: u64, entries: usize) -> bool {
        let left = self.left.checked_sub(bytes.saturating_add(entries as u64 * ENTRY_COST));
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

/// A chunk as it was found.
struct Chunk {
    /// Its length without the header.
    len: usize,
    /// What it says; `None` if it is damaged.
    entries: Option<Vec<Entry>>,
}

/// Reads the chunk at `offset`; `None` where there is none that could ever have been written.
fn read_chunk<S: Storage>(storage: &mut S, file: File, offset: u64) -> Result<Option<Chunk>, S::Error> {
    let header = storage.read_at(file, offset, CHUNK_HEADER_LEN)?;
    let Some((len, crc)) = header.split_first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_le_bytes(*len) as usize;
    // One without entries is never written; a file that takes no room on the disk is full of them.
    if len == 0 || len > MAX_CHUNK_BYTES {
        return Ok(None);
    }
    let body = storage.read_at(file, offset + CHUNK_HEADER_LEN as u64, len)?;
    let is_whole = body.len() == len && crc == crc32fast::hash(&body).to_le_bytes();
    Ok(Some(Chunk { len, entries: decode_entries(&body).filter(|_| is_whole) }))
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
