//! What a replica keeps on disk, and what it may start from afterwards.
//!
//! - [`record`] is the log's format and its parser;
//! - [`Log`] is the log: appended to in groups, replaced in one step;
//! - [`write_segments`] writes the pages of the state, which the log then names;
//! - [`open`] decides from all that is found whether a replica is new, knows what it said, or has lost
//!   that, and refuses what it can't be sure of;
//! - [`open_to_recover`] takes what is there for what somebody else may have left, and [`is_recovering`] says
//!   whether it still has to be taken so.
//!
//! The disk itself is a [`Storage`]: files in the node, and in the simulator a disk that loses, tears,
//! reorders and corrupts what is not durable yet.

mod life;
mod log;
mod open;
pub mod record;
mod salvage;
mod segment;
#[cfg(test)]
mod shelf;

pub use log::{Log, LogWrite};
pub use open::{BootId, OpenOptions, Opened, open};
pub use salvage::{begin_recovery, end_recovery, is_recovering, open_to_recover};
pub use segment::{Entry, Segment, SegmentContent, decode_entries, write_segments};

use alloc::boxed::Box;
use alloc::vec::Vec;
use record::ScanError;
use thiserror::Error;

/// A file of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum File {
    /// What it said: the records.
    Log,
    /// That it lives in this directory, and how often it started.
    Life,
    /// The same, beside the directory: it outlives the loss of what is in there.
    Begun,
    /// That the log is in the memory of a machine that is up, and since when it is up.
    Cached,
    /// That the replica recovers, and doubts what is here: a start that is cut off goes on so.
    Recovering,
    /// Pages of the state: the segment with this number.
    Segment(u64),
}

/// A disk with a replica's files. Nothing is durable before the `sync` that says so: until then, and
/// after a sync that failed, anything may be there once the power is back.
pub trait Storage {
    /// Why an operation failed.
    type Error;

    /// The whole content of a file, if it exists.
    ///
    /// # Errors
    /// When the disk fails. The same is true for everything that follows.
    fn read(&mut self, file: File) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Up to `len` bytes of a file from `offset` on: fewer where it ends, none where there is none.
    ///
    /// # Errors
    /// When the disk fails.
    fn read_at(&mut self, file: File, offset: u64, len: usize) -> Result<Vec<u8>, Self::Error>;

    /// The numbers of all segments that there are.
    ///
    /// # Errors
    /// When the disk fails.
    fn segments(&mut self) -> Result<Vec<u64>, Self::Error>;

    /// Makes an empty file, in place of one that there may be.
    ///
    /// # Errors
    /// When the disk fails.
    fn create(&mut self, file: File) -> Result<(), Self::Error>;

    /// Adds to the end of a file that exists.
    ///
    /// # Errors
    /// When the disk fails or is full; any part of `bytes` may then be there.
    fn append(&mut self, file: File, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Makes the content of a file durable.
    ///
    /// # Errors
    /// When the disk fails. Trying again proves nothing: the system may have dropped what it could
    /// not write.
    fn sync(&mut self, file: File) -> Result<(), Self::Error>;

    /// Writes the draft of a file: another file, in place of an earlier draft.
    ///
    /// # Errors
    /// When the disk fails or is full.
    fn draft(&mut self, file: File, content: &[u8]) -> Result<(), Self::Error>;

    /// Makes the content of the draft durable.
    ///
    /// # Errors
    /// When the disk fails.
    fn sync_draft(&mut self, file: File) -> Result<(), Self::Error>;

    /// Gives the draft the name of the file, in one step.
    ///
    /// # Errors
    /// When the disk fails.
    fn publish(&mut self, file: File) -> Result<(), Self::Error>;

    /// Removes a file, if it exists.
    ///
    /// # Errors
    /// When the disk fails.
    fn remove(&mut self, file: File) -> Result<(), Self::Error>;

    /// Makes it durable which files there are in the directory of `file`.
    ///
    /// # Errors
    /// When the disk fails.
    fn sync_directory(&mut self, file: File) -> Result<(), Self::Error>;

    /// Bytes that nobody can foresee.
    ///
    /// # Errors
    /// When the system has none.
    fn random(&mut self) -> Result<[u8; 16], Self::Error>;
}

impl<S: Storage + ?Sized> Storage for Box<S> {
    type Error = S::Error;

    fn read(&mut self, file: File) -> Result<Option<Vec<u8>>, Self::Error> {
        (**self).read(file)
    }

    fn read_at(&mut self, file: File, offset: u64, len: usize) -> Result<Vec<u8>, Self::Error> {
        (**self).read_at(file, offset, len)
    }

    fn segments(&mut self) -> Result<Vec<u64>, Self::Error> {
        (**self).segments()
    }

    fn create(&mut self, file: File) -> Result<(), Self::Error> {
        (**self).create(file)
    }

    fn append(&mut self, file: File, bytes: &[u8]) -> Result<(), Self::Error> {
        (**self).append(file, bytes)
    }

    fn sync(&mut self, file: File) -> Result<(), Self::Error> {
        (**self).sync(file)
    }

    fn draft(&mut self, file: File, content: &[u8]) -> Result<(), Self::Error> {
        (**self).draft(file, content)
    }

    fn sync_draft(&mut self, file: File) -> Result<(), Self::Error> {
        (**self).sync_draft(file)
    }

    fn publish(&mut self, file: File) -> Result<(), Self::Error> {
        (**self).publish(file)
    }

    fn remove(&mut self, file: File) -> Result<(), Self::Error> {
        (**self).remove(file)
    }

    fn sync_directory(&mut self, file: File) -> Result<(), Self::Error> {
        (**self).sync_directory(file)
    }

    fn random(&mut self) -> Result<[u8; 16], Self::Error> {
        (**self).random()
    }
}

/// Why a replica can't start from its disk, or has to stop. It never goes on without: it would forget
/// what it has promised.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StorageError<E> {
    /// The disk failed.
    #[error("{0}")]
    Disk(E),
    /// The log is not a log, or was damaged after it had been made durable.
    #[error("{0}")]
    Damaged(ScanError),
    /// A segment that the log names is missing, or is not what was written.
    #[error("the state is corrupt at offset {offset} of segment {number}")]
    DamagedSegment {
        /// The segment's number.
        number: u64,
        /// Where the first part is that can't be relied on, in bytes.
        offset: u64,
    },
    /// A file that says who lives here fails its checksum.
    #[error("what says whose data this is is corrupt")]
    DamagedLife,
    /// A record to append is longer than the log allows. Nothing was written.
    #[error("a record of {len} bytes exceeds the log's limit of {limit} bytes")]
    RecordTooLong {
        /// Length of the record in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// An earlier write or sync failed. What is on the disk is unknown, so nothing more is written.
    #[error("an earlier write failed; the log takes no more records until it is opened again")]
    Poisoned,
    /// The data is from before the replica's last start: a backup was restored, or an old disk came
    /// back. It lacks what the replica has said since.
    #[error("this replica has started {begun} times, and its data knows of {known}: it is an old copy")]
    Stale {
        /// Starts that the data knows of.
        known: u64,
        /// Starts that there were.
        begun: u64,
    },
    /// The data belongs to another directory than this one: it was copied or moved here alone.
    #[error("the data is not what this replica last ran with: it was copied here from elsewhere")]
    Foreign,
    /// There is a log, and the file that says whose it is is gone.
    #[error("there is a log, but not the file that says whose it is")]
    Incomplete,
    /// The log is to be kept in the memory of the system, and nothing tells one run of the system
    /// from another.
    #[error("the system does not say since when it is up, so that durability `async` can't be kept")]
    NoBootId,
}
