use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use althing_replica::storage::{File, Storage};

use super::error::{LogError, Operation};

/// What the names of segments begin with.
const SEGMENT_PREFIX: &str = "pages-";

/// What the names of drafts end with.
const DRAFT_SUFFIX: &str = ".new";

/// What the owner of a file, and of a directory, has to be allowed.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// No file that is read as a whole, the log apart, is as long as that.
const MOST_NOTE_BYTES: u64 = 64 << 10;

/// The files of a replica: all but one in a directory of their own.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    /// The log, open for appending. `None` until it is used.
    log: Option<fs::File>,
    /// The draft that was written last: the handle that its sync has to go through, to hear of all
    /// that went wrong before.
    draft: Option<fs::File>,
    /// The segment that was created last, or is being read.
    segment: Option<(u64, fs::File)>,
    /// Held for as long as the files are in use. A file beside the log, because the log itself is
    /// replaced now and then.
    lock: fs::File,
}

impl Files {
    /// The files in `directory`, which exists, for this process alone.
    ///
    /// # Errors
    /// When another process has them, or the disk fails.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, LogError> {
        let directory = directory.into();
        let lock_path = lock_path(&directory);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(io_error(&lock_path, Operation::Open))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { directory, log: None, draft: None, segment: None, lock }),
            Err(TryLockError::WouldBlock) => Err(LogError::InUse { path: directory }),
            Err(TryLockError::Error(error)) => Err(io_error(&lock_path, Operation::Lock)(error)),
        }
    }

    /// Whether there is something in `directory` that says that its replica recovers.
    #[must_use]
    pub(crate) fn is_recovering_in(directory: &Path) -> bool {
        path_in(directory, File::Recovering).symlink_metadata().is_ok()
    }

    /// Makes room for `directory` and the file that is locked, where somebody has put something else there.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn clear_way(directory: &Path) -> Result<(), LogError> {
        // It may be a link to a directory: that is for whoever has set up this machine.
        if !directory.is_dir() {
            remove_unless(directory, |_| false)?;
        }
        // What its owner may not use the owner may take back.
        for closed in directory.parent().into_iter().chain([directory]) {
            open_up(closed);
        }
        remove_unless(&lock_path(directory), is_usable)
    }

    /// Removes all that no replica puts where its files are: directories, links, pipes and devices, drafts that
    /// were left, notes that are far too long, and files that it may not read. Whoever has put them there would else have the replica down
    /// for good, although nothing on this disk is relied on.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn clear_foreign(&mut self) -> Result<(), LogError> {
        let is_note = |found: &fs::Metadata| is_usable(found) && found.len() <= MOST_NOTE_BYTES;
        for note in [File::Life, File::Begun, File::Cached, File::Recovering] {
            remove_unless(&self.path(note), is_note)?;
            remove_unless(&self.draft_path(note), |_| false)?;
        }
        remove_unless(&self.path(File::Log), is_usable)?;
        remove_unless(&self.draft_path(File::Log), |_| false)?;
        for number in self.segments()? {
            remove_unless(&self.path(File::Segment(number)), is_usable)?;
        }
        Ok(())
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

    /// The same files, for another thread or purpose. The lock is held until all are dropped.
    ///
    /// # Errors
    /// When the system gives no other handle.
    pub(crate) fn shared(&self) -> Result<Self, LogError> {
        let directory = self.directory.clone();
        let lock = self.lock.try_clone().map_err(io_error(&directory, Operation::Open))?;
        Ok(Self { directory, log: None, draft: None, segment: None, lock })
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

    /// The handle of a file that grows.
    fn growing(&mut self, file: File) -> Result<&mut fs::File, LogError> {
        match file {
            File::Log => self.log(),
            File::Segment(number) => match &mut self.segment {
                Some((open, segment)) if *open == number => Ok(segment),
                _ => panic!("a segment is written right after it was created"),
            },
            File::Life | File::Begun | File::Cached | File::Recovering => {
                panic!("{file:?} is written as a draft")
            }
        }
    }

    fn open_segment(&mut self, number: u64) -> Result<Option<&mut fs::File>, LogError> {
        if self.segment.as_ref().is_none_or(|(open, _)| *open != number) {
            let path = self.path(File::Segment(number));
            self.segment = match fs::File::open(&path) {
                Ok(segment) => Some((number, segment)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(io_error(&path, Operation::Open)(error)),
            };
        }
        Ok(self.segment.as_mut().map(|(_, segment)| segment))
    }

    fn draft_path(&self, file: File) -> PathBuf {
        with_suffix(&self.path(file), DRAFT_SUFFIX)
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

    fn read_at(&mut self, file: File, offset: u64, len: usize) -> Result<Vec<u8>, LogError> {
        let path = self.path(file);
        let mut whole;
        let segment = match file {
            File::Segment(number) => match self.open_segment(number)? {
                Some(segment) => segment,
                None => return Ok(Vec::new()),
            },
            _ => match fs::File::open(&path) {
                Ok(opened) => {
                    whole = opened;
                    &mut whole
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(io_error(&path, Operation::Open)(error)),
            },
        };
        let mut bytes = Vec::with_capacity(len);
        segment
            .seek(SeekFrom::Start(offset))
            .and_then(|_| segment.take(len as u64).read_to_end(&mut bytes))
            .map_err(io_error(&path, Operation::Read))?;
        Ok(bytes)
    }

    fn segments(&mut self) -> Result<Vec<u64>, LogError> {
        let failed = || io_error(&self.directory, Operation::Read);
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(SEGMENT_PREFIX));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        Ok(numbers)
    }

    fn create(&mut self, file: File) -> Result<(), LogError> {
        let File::Segment(number) = file else { panic!("{file:?} is written as a draft") };
        let path = self.path(file);
        let segment = fs::File::create(&path).map_err(io_error(&path, Operation::Open))?;
        self.segment = Some((number, segment));
        Ok(())
    }

    fn append(&mut self, file: File, bytes: &[u8]) -> Result<(), LogError> {
        let path = self.path(file);
        self.growing(file)?.write_all(bytes).map_err(io_error(&path, Operation::Write))
    }

    fn sync(&mut self, file: File) -> Result<(), LogError> {
        let path = self.path(file);
        self.growing(file)?.sync_data().map_err(io_error(&path, Operation::Sync))
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
        File::Recovering => directory.join("recovering"),
        File::Segment(number) => directory.join(format!("{SEGMENT_PREFIX}{number}")),
        File::Begun => directory.with_file_name("begun"),
    }
}

fn lock_path(directory: &Path) -> PathBuf {
    with_suffix(&path_in(directory, File::Log), ".lock")
}

/// Whether it is a file that its owner can read and write.
fn is_usable(found: &fs::Metadata) -> bool {
    found.is_file() && found.permissions().mode() & FILE_MODE == FILE_MODE
}

/// Lets the owner of a directory use it. Who can't do that finds out when it is opened.
fn open_up(directory: &Path) {
    let Ok(found) = directory.metadata() else { return };
    let mode = found.permissions().mode();
    if mode & DIRECTORY_MODE != DIRECTORY_MODE {
        let _ = fs::set_permissions(directory, fs::Permissions::from_mode(mode | DIRECTORY_MODE));
    }
}

/// Removes what is there, whatever it is, unless it `may_stay`.
fn remove_unless(path: &Path, may_stay: impl Fn(&fs::Metadata) -> bool) -> Result<(), LogError> {
    let removed = match path.symlink_metadata() {
        Ok(found) if may_stay(&found) => Ok(()),
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(io_error(path, Operation::Remove))
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
