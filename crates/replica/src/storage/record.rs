//! The format of the log, and its parser. All integers are little-endian.
//!
//! ```text
//! file   := magic "ALTHLOG\n" | version u32 | salt 8 | first_len u64 | crc32 u32 of these  (32 bytes)
//!           record*
//! record := len u32 | body crc32 u32 | synced u64 | header crc32 u32 | body of len bytes
//!           | zeros up to a multiple of 8
//! ```
//!
//! A record's header checksum covers the file's random salt and the record's own offset, so that no
//! record is valid in another place or file, and nobody who chooses the content of a record can
//! embed a valid record in it.
//!
//! All that follows the file header is masked: XORed with the salt, over and over. Records begin at multiples of 8, so each sector holds at least 8 masked bytes of a record
//! that reaches into it, or none; and those are not all zeros, whatever was put into the record, unless
//! somebody has guessed the salt. The body's checksum is that of the masked body and of what fills it up.
//!
//! `synced` is the length of the file known to be durable when the record was written. It tells
//! what a bad place means: a record that follows it and knew it to be durable proves damage
//! ([`ScanError::Corrupt`]); otherwise it may be a write that the power cut short (a *torn tail*),
//! which was never acknowledged. A cut-short write shows in one of two ways: the file ends within the
//! record, or a sector of it was never written, and reads as zeros from the record's beginning on, or
//! the sector's, to the sector's end, or the file's. A bad record that shows neither was damaged, also if
//! it is the last one: no flipped bit makes a file shorter or a sector empty. Within the first
//! `first_len` bytes of the file nothing is ever torn: the file got its name only when these were durable.
//!
//! What can't be told apart is a write that was cut short from one that was acknowledged, is the last in
//! the file, and has since lost its end or a whole sector.

use alloc::vec::Vec;
use core::ops::Range;

const MAGIC: [u8; 8] = *b"ALTHLOG\n";
/// Of this format, of what the records say, and of the pages of states: it is raised with every change of how any of
/// them is encoded. Segments are read only where a log names them.
const VERSION: u32 = 6;

/// Length of the file header in bytes.
pub const FILE_HEADER_LEN: usize = 32;
/// Length of a record's header in bytes.
pub const RECORD_HEADER_LEN: usize = 20;
/// The unit a disk writes all or nothing of, in bytes; also the smallest in use.
const SECTOR_LEN: usize = 512;
/// Records begin at multiples of this; so do sectors.
const ALIGNMENT: usize = size_of::<Salt>();

/// The random bytes of a log file that make its records invalid in any other.
pub type Salt = [u8; 8];

/// Why the content of a file is not taken as a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// The file does not begin as a log does.
    #[error("not an Althing log: the file does not begin with its magic bytes")]
    NotALog,
    /// The log is of a version this program does not read.
    #[error("the log has format version {found}, and this program reads version {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// The file header fails its checksum.
    #[error("the log's file header is corrupt at offset 0")]
    FileHeader,
    /// A record that had been made durable fails its checksum.
    #[error("the log is corrupt at offset {offset}: the {part} of a record fails its checksum")]
    Corrupt {
        /// Offset of the record in the file, in bytes.
        offset: u64,
        /// The part that does not match its checksum.
        part: Part,
    },
    /// The file is shorter than it was when it was created.
    #[error("the log ends at offset {offset}, but was created with {first_len} bytes")]
    Missing {
        /// Where the file ends, in bytes.
        offset: u64,
        /// Its length when it was created, in bytes.
        first_len: u64,
    },
    /// A valid record is longer than the limit the log was opened with.
    #[error(
        "the record at offset {offset} has {len} bytes, over the limit of {limit}; open the log with a higher limit"
    )]
    RecordTooLong {
        /// Offset of the record in the file, in bytes.
        offset: u64,
        /// Length of the record's body in bytes.
        len: u64,
        /// The limit in bytes.
        limit: usize,
    },
}

/// A part of a record, for error texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The lengths and checksums before the body.
    Header,
    /// The bytes that were appended.
    Body,
}

impl core::fmt::Display for Part {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Body => "body",
        })
    }
}

/// What a log's content holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The salt of the file.
    pub salt: Salt,
    /// Where the bodies of the records are in the content, masked, in order.
    pub records: Vec<Range<usize>>,
    /// Where the last whole record ends, in bytes from the beginning: the next belongs here.
    /// Whatever follows is a torn tail.
    pub end: usize,
}

impl Scan {
    /// The bodies of the records in the content that was scanned, in order.
    pub fn bodies(&self, content: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        self.records.iter().map(move |body| {
            let mut bytes = content[body.clone()].to_vec();
            mask(self.salt, body.start, &mut bytes);
            bytes
        })
    }
}

/// How many bytes of the file a record with a body of `len` bytes takes.
#[must_use]
pub fn record_len(len: usize) -> usize {
    (RECORD_HEADER_LEN + len).next_multiple_of(ALIGNMENT)
}

/// Masks what stands at `offset` of the file, or takes the mask off.
fn mask(salt: Salt, offset: usize, bytes: &mut [u8]) {
    let at = |i: usize| salt[(offset + i) % ALIGNMENT];
    let turned: Salt = core::array::from_fn(at);
    let mut chunks = bytes.chunks_exact_mut(ALIGNMENT);
    for chunk in &mut chunks {
        let word = u64_at(chunk, 0) ^ u64::from_le_bytes(turned);
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    chunks.into_remainder().iter_mut().zip(turned).for_each(|(byte, salt)| *byte ^= salt);
}

/// The file header of a log that begins its life with `first_len` bytes, this header included.
#[must_use]
pub fn encode_file_header(salt: Salt, first_len: u64) -> [u8; FILE_HEADER_LEN] {
    let mut header = [0; FILE_HEADER_LEN];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..20].copy_from_slice(&salt);
    header[20..28].copy_from_slice(&first_len.to_le_bytes());
    let crc = crc32fast::hash(&header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Appends a record to `out`, to be written at `offset` of the file with this `salt` while the
/// first `synced` bytes of the file are known to be durable.
///
/// # Panics
/// If the body is longer than `u32::MAX` bytes; [`Log`](super::Log) refuses such records before.
pub fn encode_record(salt: Salt, offset: u64, synced: u64, body: &[u8], out: &mut Vec<u8>) {
    let len = u32::try_from(body.len()).expect("record longer than the limit of the log");
    let start = out.len();
    out.resize(start + RECORD_HEADER_LEN, 0);
    out.extend_from_slice(body);
    out.resize(start + record_len(body.len()), 0);
    let (header, body) = out[start..].split_at_mut(RECORD_HEADER_LEN);
    mask(salt, RECORD_HEADER_LEN, body);
    header.copy_from_slice(&Header { len, body_crc: crc32fast::hash(body), synced }.encode(salt, offset));
    mask(salt, 0, header);
}

/// Reads the content of a log file, accepting records of at most `limit` bytes.
///
/// Stops at a torn tail, which is the part of the content from [`Scan::end`] on.
///
/// # Errors
/// When the content is not a log, or is damaged in a place that had been durable.
pub fn scan(content: &[u8], limit: usize) -> Result<Scan, ScanError> {
    let FileHeader { salt, first_len } = decode_file_header(content)?;
    let mut records = Vec::new();
    let mut end = FILE_HEADER_LEN;
    loop {
        match record_at(content, salt, end, limit)? {
            At::Record { len } => {
                let body = end + RECORD_HEADER_LEN;
                records.push(body..body + len);
                end += record_len(len);
            }
            At::End => break,
            At::Bad { reach, .. } if end as u64 >= first_len && is_torn(content, salt, end..reach) => break,
            At::Bad { part, .. } => {
                return Err(ScanError::Corrupt { offset: end as u64, part });
            }
        }
    }
    if (end as u64) < first_len {
        return Err(ScanError::Missing { offset: end as u64, first_len });
    }
    Ok(Scan { salt, records, end })
}

struct Header {
    len: u32,
    body_crc: u32,
    synced: u64,
}

impl Header {
    fn encode(&self, salt: Salt, offset: u64) -> [u8; RECORD_HEADER_LEN] {
        let mut bytes = [0; RECORD_HEADER_LEN];
        bytes[..4].copy_from_slice(&self.len.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.body_crc.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.synced.to_le_bytes());
        let crc = Self::checksum(salt, offset, &bytes[..16]);
        bytes[16..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn checksum(salt: Salt, offset: u64, fields: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&salt);
        hasher.update(&offset.to_le_bytes());
        hasher.update(fields);
        hasher.finalize()
    }

    /// The header at `offset`, unless it fails its checksum or the content ends before it does.
    fn decode(content: &[u8], salt: Salt, offset: usize) -> Option<Self> {
        let mut bytes: [u8; RECORD_HEADER_LEN] = *content.get(offset..)?.first_chunk()?;
        mask(salt, 0, &mut bytes);
        let header = Self { len: u32_at(&bytes, 0), body_crc: u32_at(&bytes, 4), synced: u64_at(&bytes, 8) };
        // Implied by how records are written, and cheaper to check than the sum: this runs all over a
        // damaged log.
        let plausible = header.synced <= offset as u64;
        (plausible && Self::checksum(salt, offset as u64, &bytes[..16]) == u32_at(&bytes, 16))
            .then_some(header)
    }
}

enum At {
    Record {
        len: usize,
    },
    End,
    /// What is known of the record reaches so far.
    Bad {
        part: Part,
        reach: usize,
    },
}

fn record_at(content: &[u8], salt: Salt, offset: usize, limit: usize) -> Result<At, ScanError> {
    if offset == content.len() {
        return Ok(At::End);
    }
    let Some(header) = Header::decode(content, salt, offset) else {
        return Ok(At::Bad { part: Part::Header, reach: offset + RECORD_HEADER_LEN });
    };
    let len = header.len as usize;
    if len > limit {
        let (offset, len) = (offset as u64, u64::from(header.len));
        return Err(ScanError::RecordTooLong { offset, len, limit });
    }
    let reach = offset + record_len(len);
    match content.get(offset + RECORD_HEADER_LEN..reach) {
        Some(body) if crc32fast::hash(body) == header.body_crc => Ok(At::Record { len }),
        _ => Ok(At::Bad { part: Part::Body, reach }),
    }
}

/// Whether the bad `record` can be a write cut short.
fn is_torn(content: &[u8], salt: Salt, record: Range<usize>) -> bool {
    let offset = record.start;
    let looks_torn = record.end > content.len() || has_unwritten_sector(content, record);
    looks_torn && !is_known_durable(content, salt, offset)
}

/// Whether a disk sector into which the bad `record` reaches was never written: it holds nothing from
/// where the record begins. What follows the record in that sector would have been written with it, or
/// later.
fn has_unwritten_sector(content: &[u8], record: Range<usize>) -> bool {
    (record.start / SECTOR_LEN..record.end.div_ceil(SECTOR_LEN)).any(|sector| {
        let start = record.start.max(sector * SECTOR_LEN);
        let end = content.len().min((sector + 1) * SECTOR_LEN);
        content[start..end].iter().all(|&b| b == 0)
    })
}

/// Whether some later record was written when the one at `offset` was already durable.
fn is_known_durable(content: &[u8], salt: Salt, offset: usize) -> bool {
    (offset + ALIGNMENT..content.len())
        .step_by(ALIGNMENT)
        .filter_map(|later| Header::decode(content, salt, later))
        .any(|header| header.synced > offset as u64)
}

struct FileHeader {
    salt: Salt,
    first_len: u64,
}

fn decode_file_header(content: &[u8]) -> Result<FileHeader, ScanError> {
    if !content.starts_with(&MAGIC) {
        return Err(ScanError::NotALog);
    }
    let header = content.get(..FILE_HEADER_LEN).ok_or(ScanError::FileHeader)?;
    if crc32fast::hash(&header[..28]) != u32_at(header, 28) {
        return Err(ScanError::FileHeader);
    }
    match u32_at(header, 8) {
        VERSION => Ok(FileHeader {
            salt: header[12..20].try_into().expect("eight bytes"),
            first_len: u64_at(header, 20),
        }),
        found => Err(ScanError::Version { found }),
    }
}

/// The integer at `at`, which the caller has checked to be inside.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The integer at `at`, which the caller has checked to be inside.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
