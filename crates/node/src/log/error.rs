use std::path::{Path, PathBuf};
use std::{fmt, io};

use althing_replica::RecordError;
use althing_replica::storage::StorageError;
use althing_replica::storage::record::ScanError;

/// What failed on the disk of a replica. The replica must stop on any of these: going on without
/// storage would let it forget what it has promised.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system refused an operation.
    #[error("{path}: cannot {operation}: {source}{}", remedy(source))]
    Io {
        /// The file operated on.
        path: PathBuf,
        /// What was attempted.
        operation: Operation,
        /// The cause.
        source: io::Error,
    },
    /// Another process has the files open.
    #[error("{path}: in use by another process; stop that one first")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The log is not a log, or has been damaged after it was made durable.
    #[error("{path}: {source}; {REPLACE_DISK}")]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// Where and how.
        source: ScanError,
    },
    /// Another release has written the log.
    #[error(
        "{path}: {source}; start the release of althing that wrote it. If what the whole group knows may be lost, \
         remove this directory at all of its replicas instead"
    )]
    OtherVersion {
        /// The directory.
        path: PathBuf,
        /// Both versions.
        source: ScanError,
    },
    /// The log is whole, but says nothing to this program and the service that it runs.
    #[error(
        "{path}: {source}; see that this is the program and the service that wrote it. If it is, then \
         {REPLACE_DISK}"
    )]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What can't be used, and why.
        source: RecordError,
    },
    /// What is in the directory is not what this replica last ran with, or can't be read.
    #[error("{path}: {source}; {REPLACE_DISK}")]
    NotOwn {
        /// The directory.
        path: PathBuf,
        /// How that shows.
        source: Box<StorageError<LogError>>,
    },
    /// The system does not tell one of its runs from another.
    #[error("{path}: {source}; choose durability `sync` or `none`")]
    NoBootId {
        /// The directory.
        path: PathBuf,
        /// Why it matters.
        source: Box<StorageError<LogError>>,
    },
    /// A record to append is longer than the log allows. Nothing was written.
    #[error("a record of {len} bytes exceeds the log's limit of {limit} bytes")]
    RecordTooLong {
        /// Length of the record in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// An earlier write or sync failed. What is on the disk is unknown, so nothing more is
    /// written: a later sync could report success for data the system has already thrown away.
    #[error("{path}: an earlier write failed; the log takes no more records until it is reopened")]
    Poisoned {
        /// The directory.
        path: PathBuf,
    },
}

/// What to do about a disk whose content can't be relied on.
const REPLACE_DISK: &str = "a backup can't help, since it lacks what the replica has said since: \
    remove this directory and start again, and the replica learns what it needs from the others, \
    counting as faulty until it has (alone in its group, it starts with nothing)";

impl LogError {
    /// An error of the files in `directory`.
    pub(crate) fn of(directory: &Path, error: StorageError<Self>) -> Self {
        let path = directory.to_owned();
        match error {
            StorageError::Disk(error) => error,
            StorageError::Damaged(source @ ScanError::Version { .. }) => Self::OtherVersion { path, source },
            StorageError::Damaged(source) => Self::Damaged { path, source },
            StorageError::RecordTooLong { len, limit } => Self::RecordTooLong { len, limit },
            StorageError::Poisoned => Self::Poisoned { path },
            StorageError::NoBootId => Self::NoBootId { path, source: Box::new(error) },
            StorageError::DamagedLife
            | StorageError::DamagedSegment { .. }
            | StorageError::Stale { .. }
            | StorageError::Foreign
            | StorageError::Incomplete => Self::NotOwn { path, source: Box::new(error) },
        }
    }
}

/// What to do about what the system refused, where that can be said.
fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "; make room: once it starts again, the replica goes on from what is on the disk"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; see that the replica may write there"
        }
        _ => "",
    }
}

/// An operation on a replica's files, for error texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Opening or creating a file.
    Open,
    /// Taking the lock that keeps other processes out.
    Lock,
    /// Reading the content.
    Read,
    /// Writing.
    Write,
    /// Making written data durable.
    Sync,
    /// Putting a new file in the place of the old one.
    Rename,
    /// Removing a file.
    Remove,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open it",
            Self::Lock => "lock it",
            Self::Read => "read it",
            Self::Write => "write to it",
            Self::Sync => "make it durable",
            Self::Rename => "replace it",
            Self::Remove => "remove it",
        })
    }
}
