//! The format of the log, and its parser. All integers are little-endian.
//!
//! ```text
//! file   := magic "ALTHLOG\n" | version u32 | salt 8 | first_len u64 | crc32 u32 of these  (32 bytes)
//!           record*
//! record := len u32 | body crc32 u32 | synced u64 | header crc32 u32 | body of len bytes
//! ```
//!
//! A record's header checksum covers the file's random salt and the record's own offset, so that no
//! record is valid in another place or file, and nobody who chooses the content of a record can
//! embed a valid record in it.
//!
//! `synced` is the length of the file known to be durable when the record was written. It tells
//! what a bad place means: a record that follows it and knew it to be durable proves damage
//! ([`ScanError::Corrupt`]); otherwise it may be a write that the power cut short (a *torn tail*),
//! which was never acknowledged. A cut-short write lacks its end, or whole sectors of it read as
//! zeros; a bad record which shows neither was damaged too. Within the first `first_len` bytes of
//! the file nothing is ever torn: the file got its name only when these were durable.

use alloc::vec::Vec;
use core::ops::Range;

const MAGIC: [u8; 8] = *b"ALTHLOG\n";
const VERSION: u32 = 1;

/// Length of the file header in bytes.
pub const FILE_HEADER_LEN: usize = 32;
/// Length of a record's header in bytes.
pub const RECORD_HEADER_LEN: usize = 20;
/// The unit a disk writes all or nothing of, in bytes; also the smallest in use.
const SECTOR_LEN: usize = 512;

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
    /// Where the bodies of the records are in the content, in order.
    pub records: Vec<Range<usize>>,
    /// Where the last whole record ends, in bytes from the beginning: the next belongs here.
    /// Whatever follows is a torn tail.
    pub end: usize,
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
    let header = Header {
        len: u32::try_from(body.len()).expect("record longer than the limit of the log"),
        body_crc: crc32fast::hash(body),
        synced,
    };
    out.extend_from_slice(&header.encode(salt, offset));
    out.extend_from_slice(body);
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
            At::Record(body) => {
                end = body.end;
                records.push(body);
            }
            At::End => break,
            At::Bad { extent, .. }
                if end as u64 >= first_len && is_torn(content, salt, end, extent.clone()) =>
            {
                break;
            }
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
        let bytes = content.get(offset..offset.checked_add(RECORD_HEADER_LEN)?)?;
        let header = Self { len: u32_at(bytes, 0), body_crc: u32_at(bytes, 4), synced: u64_at(bytes, 8) };
        // Implied by how records are written, and cheaper to check than the sum: this runs at
        // every byte of a damaged log.
        let plausible = header.synced <= offset as u64;
        (plausible && Self::checksum(salt, offset as u64, &bytes[..16]) == u32_at(bytes, 16))
            .then_some(header)
    }
}

enum At {
    Record(Range<usize>),
    End,
    Bad { part: Part, extent: Range<usize> },
}

fn record_at(content: &[u8], salt: Salt, offset: usize, limit: usize) -> Result<At, ScanError> {
    if offset == content.len() {
        return Ok(At::End);
    }
    let body_start = offset + RECORD_HEADER_LEN;
    let Some(header) = Header::decode(content, salt, offset) else {
        return Ok(At::Bad { part: Part::Header, extent: offset..body_start });
    };
    let len = header.len as usize;
    if len > limit {
        let (offset, len) = (offset as u64, u64::from(header.len));
        return Err(ScanError::RecordTooLong { offset, len, limit });
    }
    let body = body_start..body_start + len;
    match content.get(body.clone()) {
        Some(bytes) if crc32fast::hash(bytes) == header.body_crc => Ok(At::Record(body)),
        _ => Ok(At::Bad { part: Part::Body, extent: body }),
    }
}

/// Whether the bad record at `offset`, which fails in `extent`, can be a write cut short.
fn is_torn(content: &[u8], salt: Salt, offset: usize, extent: Range<usize>) -> bool {
    let looks_torn = extent.end > content.len() || has_zeroed_sector(content, extent);
    looks_torn && !is_known_durable(content, salt, offset)
}

/// Whether a disk sector's share of `extent` is all zeros: the sector was never written.
fn has_zeroed_sector(content: &[u8], extent: Range<usize>) -> bool {
    let mut start = extent.start;
    while start < extent.end {
        let end = extent.end.min((start / SECTOR_LEN + 1) * SECTOR_LEN);
        if content[start..end].iter().all(|&b| b == 0) {
            return true;
        }
        start = end;
    }
    false
}

/// Whether some later record was written when the one at `offset` was already durable.
fn is_known_durable(content: &[u8], salt: Salt, offset: usize) -> bool {
    (offset + 1..content.len())
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
