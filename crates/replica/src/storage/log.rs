use super::record::{self, Salt};
use super::{File, Storage, StorageError};
use crate::Durability;
use alloc::vec::Vec;

/// How many bytes of records one sync covers at most (one record more, to be exact).
const GROUP_BYTES: usize = 8 << 20;

/// The log of one replica, open for writing (format: [`record`]).
#[derive(Debug)]
pub struct Log<S> {
    storage: S,
    max_record_len: usize,
    /// Whether what is written is made durable at once.
    is_synced: bool,
    salt: Salt,
    /// Length of the file in bytes; all of it is durable between calls, where the log is synced.
    len: u64,
    poisoned: bool,
    buffer: Vec<u8>,
}

/// Something to be written, in the order given.
#[derive(Debug, Clone)]
pub enum LogWrite<R> {
    /// A record, at the end.
    Append {
        /// Names it.
        id: u64,
        /// The record.
        record: R,
    },
    /// These records, in place of all before.
    Rewrite {
        /// Names it.
        id: u64,
        /// The records.
        records: Vec<R>,
        /// Segments that they name no more: removed once the records are there.
        dropped: Vec<u64>,
    },
}

impl<R> LogWrite<R> {
    /// Its name.
    pub fn id(&self) -> u64 {
        match self {
            Self::Append { id, .. } | Self::Rewrite { id, .. } => *id,
        }
    }
}

impl<S: Storage> Log<S> {
    /// A log that holds nothing yet: the first thing is to [`rewrite`](Self::rewrite) it, which makes
    /// the file.
    pub(super) fn new(storage: S, durability: Durability, max_record_len: usize) -> Self {
        Self {
            storage,
            max_record_len,
            is_synced: durability == Durability::Sync,
            salt: Salt::default(),
            len: 0,
            poisoned: false,
            buffer: Vec::new(),
        }
    }

    /// Writes a group: one sync for a run of appends, one replacement for a rewrite. When this returns
    /// `Ok`, all of it survives what the log's durability promises: with `sync` the power failing, with
    /// `async` the process being killed.
    ///
    /// # Errors
    /// When the disk fails or a record is too long. Any prefix may have been written, and where the
    /// disk failed, the log takes no more.
    pub fn commit<R: AsRef<[u8]>>(&mut self, group: &[LogWrite<R>]) -> Result<(), StorageError<S::Error>> {
        let mut records: Vec<&R> = Vec::with_capacity(group.len());
        let mut bytes = 0;
        for write in group {
            match write {
                LogWrite::Append { record, .. } => {
                    bytes += record.as_ref().len();
                    records.push(record);
                }
                LogWrite::Rewrite { records: all, dropped, .. } => {
                    // What was queued before is replaced, and need not be written at all.
                    (bytes, records) = (0, Vec::new());
                    self.rewrite(all)?;
                    self.remove_segments(dropped)?;
                }
            }
            if bytes > GROUP_BYTES {
                self.append(&records)?;
                (bytes, records) = (0, Vec::new());
            }
        }
        self.append(&records)
    }

    /// Appends the records as one group.
    ///
    /// # Errors
    /// When a record is too long, nothing has been written. When the disk fails, any prefix may
    /// have been, and the log takes no more.
    pub fn append<R: AsRef<[u8]>>(&mut self, records: &[R]) -> Result<(), StorageError<S::Error>> {
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
        self.storage.append(File::Log, &self.buffer).map_err(StorageError::Disk)?;
        if self.is_synced {
            self.storage.sync(File::Log).map_err(StorageError::Disk)?;
        }
        self.poisoned = false;
        self.len += self.buffer.len() as u64;
        Ok(())
    }

    /// Replaces the whole content by these records, in one step: whatever happens, the file holds
    /// either the old records or the new ones.
    ///
    /// # Errors
    /// When a record is too long or the disk fails.
    pub fn rewrite<R: AsRef<[u8]>>(&mut self, records: &[R]) -> Result<(), StorageError<S::Error>> {
        self.replace(records, self.is_synced)
    }

    pub(super) fn replace<R: AsRef<[u8]>>(
        &mut self,
        records: &[R],
        is_synced: bool,
    ) -> Result<(), StorageError<S::Error>> {
        self.check(records)?;
        self.poisoned = true;
        let random = self.storage.random().map_err(StorageError::Disk)?;
        let (salt, _) = random.split_first_chunk().expect("16 bytes hold 8");
        let content = encode(*salt, records);
        replace(&mut self.storage, File::Log, &content, is_synced).map_err(StorageError::Disk)?;
        self.salt = *salt;
        self.len = content.len() as u64;
        self.poisoned = false;
        Ok(())
    }

    /// Not durably: what is there still at the next start is removed then.
    fn remove_segments(&mut self, numbers: &[u64]) -> Result<(), StorageError<S::Error>> {
        self.poisoned = true;
        for number in numbers {
            self.storage.remove(File::Segment(*number)).map_err(StorageError::Disk)?;
        }
        self.poisoned = false;
        Ok(())
    }

    /// Makes all that was written durable, where that has not been done at once.
    ///
    /// # Errors
    /// When the disk fails. The log then takes no more, and is to be [`disown`](Self::disown)ed.
    pub fn sync(&mut self) -> Result<(), StorageError<S::Error>> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        self.poisoned = true;
        self.storage.sync(File::Log).map_err(StorageError::Disk)?;
        self.storage.sync_directory(File::Log).map_err(StorageError::Disk)?;
        self.poisoned = false;
        Ok(())
    }

    /// The end of a replica in order: from here on the log outlives the system, whatever its
    /// durability.
    ///
    /// # Errors
    /// When the disk fails; the log is then what it was before.
    pub fn close(mut self) -> Result<(), StorageError<S::Error>> {
        if self.is_synced || self.poisoned {
            return Ok(());
        }
        self.sync()?;
        self.storage.remove(File::Cached).map_err(StorageError::Disk)?;
        self.storage.sync_directory(File::Cached).map_err(StorageError::Disk)
    }

    /// Takes down that the log is not to be believed, after writing it in the background failed: the
    /// system may have dropped what it could not write, and shows the old content when it reads it
    /// again.
    ///
    /// # Errors
    /// When even that can't be written, and the log can't be removed either.
    pub fn disown(&mut self) -> Result<(), StorageError<S::Error>> {
        self.poisoned = true;
        // No boot has an empty id. Not synced: it matters until the next boot only.
        let Err(error) = replace(&mut self.storage, File::Cached, &[], false) else { return Ok(()) };
        // That takes no room, and whoever has no log has lost what he said.
        self.storage.remove(File::Log).map_err(|_| StorageError::Disk(error))
    }

    /// Whether what is written is durable at once.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.is_synced
    }

    /// Length of the file in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the log holds no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len <= record::FILE_HEADER_LEN as u64
    }

    /// The disk that it is on.
    pub fn storage(&mut self) -> &mut S {
        &mut self.storage
    }

    fn check<R: AsRef<[u8]>>(&self, records: &[R]) -> Result<(), StorageError<S::Error>> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        let limit = self.max_record_len.min(u32::MAX as usize);
        match records.iter().map(|r| r.as_ref().len()).find(|&len| len > limit) {
            Some(len) => Err(StorageError::RecordTooLong { len, limit }),
            None => Ok(()),
        }
    }
}

fn encode<R: AsRef<[u8]>>(salt: Salt, records: &[R]) -> Vec<u8> {
    let len = |r: &R| record::record_len(r.as_ref().len());
    let total = record::FILE_HEADER_LEN + records.iter().map(len).sum::<usize>();
    let mut content = Vec::with_capacity(total);
    content.extend_from_slice(&record::encode_file_header(salt, total as u64));
    for record in records {
        let offset = content.len() as u64;
        record::encode_record(salt, offset, offset, record.as_ref(), &mut content);
    }
    content
}

/// Puts a file of this content in the place of whatever was there.
pub(super) fn replace<S: Storage>(
    storage: &mut S,
    file: File,
    content: &[u8],
    is_synced: bool,
) -> Result<(), S::Error> {
    storage.draft(file, content)?;
    if is_synced {
        storage.sync_draft(file)?;
    }
    storage.publish(file)?;
    if is_synced {
        // The new name is an entry of the directory, and durable only once that is.
        storage.sync_directory(file)?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
