use std::{fmt, io, path::PathBuf};

use super::record::ScanError;

/// What failed in a [`Log`](super::Log). The replica that owns the log must stop on any of these:
/// going on without storage would let it forget what it has promised.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system refused an operation.
    #[error("{path}: cannot {operation}: {source}")]
    Io {
        /// The file operated on.
        path: PathBuf,
        /// What was attempted.
        operation: Operation,
        /// The cause.
        source: io::Error,
    },
    /// Another process has the log open.
    #[error("{path}: the log is in use by another process; stop that one first")]
    InUse {
        /// The log.
        path: PathBuf,
    },
    /// The content is not a log, or has been damaged after it was made durable.
    #[error(
        "{path}: {source}; restore the file from a copy, or remove it to let the replica recover from its peers"
    )]
    Damaged {
        /// The log.
        path: PathBuf,
        /// Where and how.
        source: ScanError,
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
        /// The log.
        path: PathBuf,
    },
}

/// An operation on the log's file, for error texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Opening or creating the file.
    Open,
    /// Taking the lock that keeps other processes out.
    Lock,
    /// Reading the content.
    Read,
    /// Appending.
    Write,
    /// Making written data durable.
    Sync,
    /// Putting a rewritten log in the place of the old one.
    Rename,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open the log",
            Self::Lock => "lock the log",
            Self::Read => "read the log",
            Self::Write => "append to the log",
            Self::Sync => "make the log durable",
            Self::Rename => "replace the log",
        })
    }
}
