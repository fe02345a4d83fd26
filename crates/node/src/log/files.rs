use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use althing_replica::storage::{File, Storage};

use super::error::{LogError, Operation};

/// The files of a replica: all but one in a directory of their own.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    /// The log, open for appending. `None` until it is used.
    log: Option<fs::File>,
    /// The draft that was written last: the handle that its sync has to go through, to hear of all
    /// that went wrong before.
    draft: Option<fs::File>,
    /// Held for as long as the files are in use. A file beside the log, because the log itself is
    /// replaced now and then.
    _lock: fs::File,
}

impl Files {
    /// The files in `directory`, which exists, for this process alone.
    ///
    /// # Errors
    /// When another process has them, or the disk fails.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, LogError> {
        let directory = directory.into();
        let lock_path = with_suffix(&path_in(&directory, File::Log), ".lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(io_error(&lock_path, Operation::Open))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { directory, log: None, draft: None, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(LogError::InUse { path: directory }),
            Err(TryLockError::Error(error)) => Err(io_error(&lock_path, Operation::Lock)(error)),
        }
    }

    /// Another handle of the log and one of its directory, to sync them from another thread.
    ///
    /// # Errors
    /// When the system gives none.
    pub(super) fn handles(&mut self) -> Result<[fs::File; 2], LogError> {
        let (path, directory) = (self.path(File::Log), self.directory.clone());
        let log = self.log()?.try_clone().map_err(io_error(&path, Operation::Open))?;
        let directory = fs::File::open(&directory).map_err(io_error(&directory, Operation::Open))?;
        Ok([log, directory])
    }

    /// The directory of all files but one.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn path(&self, file: File) -> PathBuf {
        path_in(&self.directory, file)
    }

    fn log(&mut self) -> Result<&mut fs::File, LogError> {
        if self.log.is_none() {
            let path = self.path(File::Log);
            let open = OpenOptions::new().append(true).open(&path);
            self.log = Some(open.map_err(io_error(&path, Operation::Open))?);
        }
        Ok(self.log.as_mut().expect("opened just now"))
    }

    fn draft_path(&self, file: File) -> PathBuf {
        with_suffix(&self.path(file), ".new")
    }
}

impl Storage for Files {
    type Error = LogError;

    fn read(&mut self, file: File) -> Result<Option<Vec<u8>>, LogError> {
        let path = self.path(file);
        match fs::read(&path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error(&path, Operation::Read)(error)),
        }
    }

    fn append(&mut self, file: File, bytes: &[u8]) -> Result<(), LogError> {
        assert_eq!(file, File::Log, "only the log grows");
        let path = self.path(file);
        self.log()?.write_all(bytes).map_err(io_error(&path, Operation::Write))
    }

    fn sync(&mut self, file: File) -> Result<(), LogError> {
        assert_eq!(file, File::Log, "the others are written as drafts");
        let path = self.path(file);
        self.log()?.sync_data().map_err(io_error(&path, Operation::Sync))
    }

    fn draft(&mut self, file: File, content: &[u8]) -> Result<(), LogError> {
        let path = self.draft_path(file);
        let mut draft = fs::File::create(&path).map_err(io_error(&path, Operation::Open))?;
        draft.write_all(content).map_err(io_error(&path, Operation::Write))?;
        self.draft = Some(draft);
        Ok(())
    }

    fn sync_draft(&mut self, file: File) -> Result<(), LogError> {
        let path = self.draft_path(file);
        let draft = self.draft.as_ref().expect("there is a draft");
        draft.sync_all().map_err(io_error(&path, Operation::Sync))
    }

    fn publish(&mut self, file: File) -> Result<(), LogError> {
        let path = self.path(file);
        fs::rename(self.draft_path(file), &path).map_err(io_error(&path, Operation::Rename))?;
        let draft = self.draft.take();
        if file == File::Log {
            // It stands at its end, and nobody else writes to it.
            self.log = draft;
        }
        Ok(())
    }

    fn remove(&mut self, file: File) -> Result<(), LogError> {
        let path = self.path(file);
        if file == File::Log {
            self.log = None;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error(&path, Operation::Remove)(error))
            }
            _ => Ok(()),
        }
    }

    fn sync_directory(&mut self, file: File) -> Result<(), LogError> {
        let path = self.path(file);
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(io_error(directory, Operation::Sync))
    }

    fn random(&mut self) -> Result<[u8; 16], LogError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)
            .map_err(|error| io_error(&self.directory, Operation::Open)(io::Error::other(error)))?;
        Ok(bytes)
    }
}

fn path_in(directory: &Path, file: File) -> PathBuf {
    match file {
        File::Log => directory.join("votes.log"),
        File::Life => directory.join("life"),
        File::Cached => directory.join("cached"),
        File::Begun => directory.with_file_name("begun"),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(super) fn io_error(path: &Path, operation: Operation) -> impl FnOnce(io::Error) -> LogError {
    move |source| LogError::Io { path: path.to_owned(), operation, source }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
