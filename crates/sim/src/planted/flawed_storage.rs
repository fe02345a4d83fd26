use super::Planted;
use crate::medium::{DiskFault, Medium};
use althing_replica::storage::record::{ScanError, scan};
use althing_replica::storage::{File, Storage, decode_entries};

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

/// A chunk of a segment as if it had been made against another state than the one on disk: it lacks its
/// last page, which has changed.
fn based_wrongly(chunk: &[u8]) -> Vec<u8> {
    const HEADER: usize = 8;
    let Some(entries) = chunk.get(HEADER..).and_then(decode_entries).filter(|entries| entries.len() > 1)
    else {
        return chunk.to_vec();
    };
    let last = entries.last().and_then(|(_, page)| page.as_ref()).map_or(0, |page| page.len());
    let mut bytes = chunk.to_vec();
    // In its place stands an earlier content: zeros.
    let end = bytes.len();
    bytes[end - last..].fill(0);
    let crc = crc32fast::hash(&bytes[HEADER..]);
    bytes[4..HEADER].copy_from_slice(&crc.to_le_bytes());
    bytes
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

    fn read_at(&mut self, file: File, offset: u64, len: usize) -> Result<Vec<u8>, DiskFault> {
        self.inner.read_at(file, offset, len)
    }

    fn segments(&mut self) -> Result<Vec<u64>, DiskFault> {
        self.inner.segments()
    }

    fn create(&mut self, file: File) -> Result<(), DiskFault> {
        if self.bug == Planted::HastyRemoval
            && let Some(oldest) = self.inner.segments()?.first()
        {
            self.inner.remove(File::Segment(*oldest))?;
        }
        self.inner.create(file)
    }

    fn append(&mut self, file: File, bytes: &[u8]) -> Result<(), DiskFault> {
        match file {
            File::Segment(_) if self.bug == Planted::WrongBase => {
                self.inner.append(file, &based_wrongly(bytes))
            }
            _ => self.inner.append(file, bytes),
        }
    }

    fn sync(&mut self, file: File) -> Result<(), DiskFault> {
        match self.bug {
            Planted::UnsyncedLog if file == File::Log => Ok(()),
            Planted::UnsyncedSegments if file != File::Log => Ok(()),
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
