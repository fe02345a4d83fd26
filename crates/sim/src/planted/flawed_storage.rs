use super::Planted;
use crate::medium::{DiskFault, Medium};
use althing_replica::storage::record::{ScanError, scan};
use althing_replica::storage::{File, Storage};

/// A disk with a bug in what drives it.
pub(crate) struct FlawedStorage {
    bug: Planted,
    inner: Medium,
}

impl FlawedStorage {
    pub(super) fn new(bug: Planted, inner: Medium) -> Self {
        Self { bug, inner }
    }

    /// The log as a reader with this bug takes it.
    fn misread(&self, mut content: Vec<u8>) -> Vec<u8> {
        match (self.bug, scan(&content, usize::MAX)) {
            (Planted::TornIsDamage, Ok(found)) if found.end < content.len() => content[0] ^= 1,
            (Planted::DamageIsTorn, Err(ScanError::Corrupt { offset, .. })) => {
                content.truncate(usize::try_from(offset).expect("a place in the log"));
            }
            _ => {}
        }
        content
    }
}

impl Storage for FlawedStorage {
    type Error = DiskFault;

    fn read(&mut self, file: File) -> Result<Option<Vec<u8>>, DiskFault> {
        let content = self.inner.read(file)?;
        Ok(match file {
            File::Cached if self.bug == Planted::TrustedCache => None,
            File::Log => content.map(|content| self.misread(content)),
            _ => content,
        })
    }

    fn append(&mut self, file: File, bytes: &[u8]) -> Result<(), DiskFault> {
        self.inner.append(file, bytes)
    }

    fn sync(&mut self, file: File) -> Result<(), DiskFault> {
        match self.bug {
            Planted::UnsyncedLog => Ok(()),
            Planted::SecondSync => self.inner.sync(file).or_else(|_| self.inner.sync(file)),
            _ => self.inner.sync(file),
        }
    }

    fn draft(&mut self, file: File, content: &[u8]) -> Result<(), DiskFault> {
        self.inner.draft(file, content)
    }

    fn sync_draft(&mut self, file: File) -> Result<(), DiskFault> {
        if self.bug == Planted::UnsyncedDraft { Ok(()) } else { self.inner.sync_draft(file) }
    }

    fn publish(&mut self, file: File) -> Result<(), DiskFault> {
        self.inner.publish(file)
    }

    fn remove(&mut self, file: File) -> Result<(), DiskFault> {
        self.inner.remove(file)
    }

    fn sync_directory(&mut self, file: File) -> Result<(), DiskFault> {
        self.inner.sync_directory(file)
    }

    fn random(&mut self) -> Result<[u8; 16], DiskFault> {
        self.inner.random()
    }
}
