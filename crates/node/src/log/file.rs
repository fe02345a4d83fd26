use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{
    error::{LogError, Operation},
    record::{self, Salt},
};

/// Limits of a [`Log`].
#[derive(Debug, Clone, Copy)]
pub struct LogOptions {
    /// The longest record in bytes.
    pub max_record_len: usize,
}

impl Default for LogOptions {
    /// Records of up to 16 MiB.
    fn default() -> Self {
        Self { max_record_len: 16 << 20 }
    }
}

/// What opening a [`Log`] found.
#[derive(Debug)]
pub struct Recovery {
    /// The records, in the order they were appended. They share one buffer.
    pub records: Vec<Bytes>,
    /// Whether there was no log, and an empty one was created.
    pub created: bool,
    /// Length of the torn tail that was cut off, in bytes; 0 after an orderly end. Its records had
    /// not been acknowledged as durable.
    pub torn_len: u64,
}

/// One append-only file of records (format: [`record`]).
///
/// All calls block on the disk; [`LogThread`](super::LogThread) moves them to a thread.
pub struct Log {
    path: PathBuf,
    options: LogOptions,
    file: Box<dyn Appendable>,
    salt: Salt,
    /// Length of the file in bytes; all of it is durable between calls.
    len: u64,
    poisoned: bool,
    buffer: Vec<u8>,
    /// Held for as long as the log is open. A file beside the log, because the log itself is
    /// replaced by a rewrite.
    _lock: File,
}

/// What an open log needs of its file; a trait so that tests can make the disk fail.
trait Appendable: Send {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn sync_data(&mut self) -> io::Result<()>;
}

impl Appendable for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        File::sync_data(self)
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("path", &self.path).field("len", &self.len).finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the log at `path`, or creates an empty one, and reads all of its records. A torn tail
    /// is cut off. Everything returned is durable.
    ///
    /// # Errors
    /// When another process has it open, the disk fails, or the content is damaged in a place that
    /// had been durable.
    pub fn open(path: impl Into<PathBuf>, options: LogOptions) -> Result<(Self, Recovery), LogError> {
        let path = path.into();
        let lock = lock(&path)?;
        let content = match fs::read(&path) {
            Ok(content) => Some(Bytes::from(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io_error(&path, Operation::Read)(error)),
        };
        let created = content.is_none();
        let content = match content {
            Some(content) => content,
            None => create(&path, &[])?,
        };
        let scan = record::scan(&content, options.max_record_len)
            .map_err(|source| LogError::Damaged { path: path.clone(), source })?;
        let torn_len = (content.len() - scan.end) as u64;
        // Written anew, and not just synced: after a sync that failed, the system holds pages for
        // written that never reached the disk.
        if !created {
            replace(&path, &content[..scan.end])?;
        }
        let file = open_at(&path)?;
        let records = scan.records.into_iter().map(|range| content.slice(range)).collect();
        let log = Self {
            path,
            options,
            file: Box::new(file),
            salt: scan.salt,
            len: scan.end as u64,
            poisoned: false,
            buffer: Vec::new(),
            _lock: lock,
        };
        Ok((log, Recovery { records, created, torn_len }))
    }

    /// Appends the records as one group and makes them durable with one sync. When this returns
    /// `Ok`, they survive the power failing.
    ///
    /// # Errors
    /// When a record is too long, nothing has been written. When the disk fails, any prefix may
    /// have been, and the log takes no more.
    pub fn append<R: AsRef<[u8]>>(&mut self, records: &[R]) -> Result<(), LogError> {
        self.check(records)?;
        if records.is_empty() {
            return Ok(());
        }
        self.buffer.clear();
        for record in records {
            let offset = self.len + self.buffer.len() as u64;
            record::encode_record(self.salt, offset, self.len, record.as_ref(), &mut self.buffer);
        }
        // Cleared on success only: whatever fails in between leaves the file in an unknown state.
        self.poisoned = true;
        self.file.append(&self.buffer).map_err(io_error(&self.path, Operation::Write))?;
        self.file.sync_data().map_err(io_error(&self.path, Operation::Sync))?;
        self.poisoned = false;
        self.len += self.buffer.len() as u64;
        Ok(())
    }

    /// Replaces the whole content by these records, atomically: whatever happens, the file holds
    /// either the old records or the new ones. When this returns `Ok`, the new ones are durable.
    ///
    /// # Errors
    /// When a record is too long or the disk fails.
    pub fn rewrite<R: AsRef<[u8]>>(&mut self, records: &[R]) -> Result<(), LogError> {
        self.check(records)?;
        self.poisoned = true;
        let salt = random_salt(&self.path)?;
        let content = encode(salt, records);
        replace(&self.path, &content)?;
        self.file = Box::new(open_at(&self.path)?);
        self.salt = salt;
        self.len = content.len() as u64;
        self.poisoned = false;
        Ok(())
    }

    /// Length of the file in bytes, all of it durable.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the log holds no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == record::FILE_HEADER_LEN as u64
    }

    /// Where the log is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn check<R: AsRef<[u8]>>(&self, records: &[R]) -> Result<(), LogError> {
        if self.poisoned {
            return Err(LogError::Poisoned { path: self.path.clone() });
        }
        let limit = self.options.max_record_len.min(u32::MAX as usize);
        match records.iter().map(|r| r.as_ref().len()).find(|&len| len > limit) {
            Some(len) => Err(LogError::RecordTooLong { len, limit }),
            None => Ok(()),
        }
    }
}

fn lock(path: &Path) -> Result<File, LogError> {
    let lock_path = with_suffix(path, ".lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(io_error(&lock_path, Operation::Open))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LogError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io_error(&lock_path, Operation::Lock)(error)),
    }
}

/// Opens the file, of which all is durable, for appending.
fn open_at(path: &Path) -> Result<File, LogError> {
    OpenOptions::new().append(true).open(path).map_err(io_error(path, Operation::Open))
}

/// Creates a log of these records and returns its content.
fn create(path: &Path, records: &[Bytes]) -> Result<Bytes, LogError> {
    let content = encode(random_salt(path)?, records);
    replace(path, &content)?;
    Ok(content.into())
}

fn encode<R: AsRef<[u8]>>(salt: Salt, records: &[R]) -> Vec<u8> {
    let len = |r: &R| record::RECORD_HEADER_LEN + r.as_ref().len();
    let total = record::FILE_HEADER_LEN + records.iter().map(len).sum::<usize>();
    let mut content = Vec::with_capacity(total);
    content.extend_from_slice(&record::encode_file_header(salt, total as u64));
    for record in records {
        let offset = content.len() as u64;
        record::encode_record(salt, offset, offset, record.as_ref(), &mut content);
    }
    content
}

/// Puts a durable file of this content in the place of whatever was there.
fn replace(path: &Path, content: &[u8]) -> Result<(), LogError> {
    let new_path = with_suffix(path, ".new");
    let mut file = File::create(&new_path).map_err(io_error(&new_path, Operation::Open))?;
    file.write_all(content).map_err(io_error(&new_path, Operation::Write))?;
    file.sync_all().map_err(io_error(&new_path, Operation::Sync))?;
    fs::rename(&new_path, path).map_err(io_error(path, Operation::Rename))?;
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    // The new name is an entry of the directory, and durable only once that is.
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error(dir, Operation::Sync))
}

fn random_salt(path: &Path) -> Result<Salt, LogError> {
    let mut salt = Salt::default();
    getrandom::fill(&mut salt).map_err(|error| io_error(path, Operation::Open)(io::Error::other(error)))?;
    Ok(salt)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn io_error(path: &Path, operation: Operation) -> impl FnOnce(io::Error) -> LogError {
    move |source| LogError::Io { path: path.to_owned(), operation, source }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
