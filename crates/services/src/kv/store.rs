use super::buckets::{Buckets, Full};
use super::operation::{KvOperation, KvRefusal, KvResult};
use alloc::vec::Vec;
use althing_replica::{Context, InstallError, Outcome, Pages, Service};
use althing_types::ClientId;

/// Pages that a store has unless told: no more entries than memory has room for.
const MAX_PAGES: u32 = 1 << 20;

/// A replicated key-value store. Its state lies in its pages and nowhere else, and the pages follow
/// from the entries, whatever the order in which they came. A change dirties the page of its key, and
/// where pages divide or are gathered again, those.
#[derive(Debug, Clone)]
pub struct Kv {
    buckets: Buckets,
}

impl Kv {
    /// An empty store of at most a million pages.
    #[must_use]
    pub fn new() -> Self {
        Self::with_max_pages(MAX_PAGES)
    }

    /// An empty store of at most `pages` pages, to bound what a replica holds. Equal at all replicas
    /// of a group. Small entries share pages of 4 KiB; one that is longer has a page of its own.
    #[must_use]
    pub fn with_max_pages(pages: u32) -> Self {
        Self { buckets: Buckets::new(pages) }
    }

    /// Entries in the store.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether the store holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of `key`.
    #[must_use]
    pub fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.buckets.value(key)
    }

    fn apply(&mut self, operation: KvOperation) -> KvResult {
        match operation {
            KvOperation::Get { key } => KvResult::Value(self.value(&key).map(<[u8]>::to_vec)),
            KvOperation::Put { key, value } => self.put(&key, &value),
            KvOperation::Delete { key } => KvResult::Deleted(self.buckets.delete(&key)),
            KvOperation::Cas { key, expected, new } => {
                let actual = self.value(&key);
                if actual != expected.as_deref() {
                    return KvResult::Mismatch { actual: actual.map(<[u8]>::to_vec) };
                }
                match new {
                    Some(value) => self.put(&key, &value),
                    None => {
                        self.buckets.delete(&key);
                        KvResult::Stored
                    }
                }
            }
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> KvResult {
        match self.buckets.put(key, value) {
            Ok(()) => KvResult::Stored,
            Err(Full) => KvResult::Refused(KvRefusal::Full),
        }
    }
}

impl Default for Kv {
    fn default() -> Self {
        Self::new()
    }
}

impl Service for Kv {
    fn execute(&mut self, operation: &[u8], _context: &Context) -> Outcome {
        let result = match KvOperation::decode(operation) {
            Ok(operation) => self.apply(operation),
            Err(refusal) => KvResult::Refused(refusal),
        };
        result.encode().into()
    }

    fn query(&self, operation: &[u8], _client: ClientId) -> Option<Vec<u8>> {
        match KvOperation::decode(operation) {
            Ok(KvOperation::Get { key }) => {
                Some(KvResult::Value(self.value(&key).map(<[u8]>::to_vec)).encode())
            }
            Ok(_) => None,
            Err(refusal) => Some(KvResult::Refused(refusal).encode()),
        }
    }

    fn save(&mut self, pages: &mut Pages) {
        self.buckets.save(pages);
    }

    fn install(&mut self, pages: &Pages, changed: &[u32]) -> Result<(), InstallError> {
        self.buckets = self.buckets.updated(pages, changed)?;
        Ok(())
    }
}
