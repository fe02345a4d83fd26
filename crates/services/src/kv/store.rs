use super::operation::{KvOperation, KvRefusal, KvResult};
use super::pages::{Pages, entry_bytes};
use crate::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_replica::{Context, InstallError, MAX_PAGE_BYTES, MAX_PAGES, Outcome, Service};
use althing_types::{ClientId, decode, encode};

const _: () = assert!(4 + 8 + MAX_KEY_BYTES + MAX_VALUE_BYTES <= MAX_PAGE_BYTES);

/// A value, and the page it lies on.
#[derive(Debug, Clone)]
struct Entry {
    value: Vec<u8>,
    page: u32,
}

/// A replicated key-value store. Its pages hold entries ascending by key; a change dirties the page
/// of its key, and at most one more.
#[derive(Debug, Clone)]
pub struct Kv {
    entries: BTreeMap<Vec<u8>, Entry>,
    pages: Pages,
}

impl Kv {
    /// An empty store, with room for as much as a service may hold.
    #[must_use]
    pub fn new() -> Self {
        Self::with_max_pages(MAX_PAGES)
    }

    /// An empty store of at most `pages` pages, to bound what a replica holds. Equal at all replicas
    /// of a group. Small entries share pages of 4 KiB; one that is longer has a page of its own.
    #[must_use]
    pub fn with_max_pages(pages: u32) -> Self {
        Self { entries: BTreeMap::new(), pages: Pages::new(pages) }
    }

    /// Entries in the store.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the store holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of `key`.
    #[must_use]
    pub fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.entries.get(key).map(|entry| &*entry.value)
    }

    fn apply(&mut self, operation: KvOperation) -> KvResult {
        match operation {
            KvOperation::Get { key } => KvResult::Value(self.value(&key).map(<[u8]>::to_vec)),
            KvOperation::Put { key, value } => self.put(key, value),
            KvOperation::Delete { key } => KvResult::Deleted(self.delete(&key)),
            KvOperation::Cas { key, expected, new } => {
                let actual = self.value(&key);
                if actual != expected.as_deref() {
                    return KvResult::Mismatch { actual: actual.map(<[u8]>::to_vec) };
                }
                match new {
                    Some(value) => self.put(key, value),
                    None => {
                        self.delete(&key);
                        KvResult::Stored
                    }
                }
            }
        }
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> KvResult {
        let bytes = entry_bytes(&key, value.len());
        if let Some(entry) = self.entries.get_mut(&key) {
            let before = entry_bytes(&key, entry.value.len());
            if self.pages.has_room(entry.page, before, bytes) {
                self.pages.change(entry.page, before, bytes);
                entry.value = value;
                return KvResult::Stored;
            }
        }
        // Whatever there is no room for is refused before anything changes.
        if self.pages.place(bytes).is_none() && self.pages.is_full() {
            return KvResult::Refused(KvRefusal::Full);
        }
        self.delete(&key);
        let page = self.pages.place(bytes).unwrap_or_else(|| self.pages.push());
        self.pages.insert(page, key.clone(), bytes);
        self.entries.insert(key, Entry { value, page });
        KvResult::Stored
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        let Some(entry) = self.entries.remove(key) else {
            return false;
        };
        self.pages.remove(entry.page, key, entry_bytes(key, entry.value.len()));
        true
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

    fn page_count(&self) -> u32 {
        self.pages.count()
    }

    fn page(&self, index: u32) -> Vec<u8> {
        let keys = self.pages.page(index).keys();
        let entries: Vec<(&[u8], &[u8])> = keys.map(|key| (&**key, &*self.entries[key].value)).collect();
        encode(&entries)
    }

    fn take_dirty(&mut self) -> Vec<u32> {
        self.pages.take_dirty()
    }

    fn install(&mut self, pages: &[&[u8]]) -> Result<(), InstallError> {
        let mut kv = Self::with_max_pages(self.pages.most());
        for (index, page) in (0u32..).zip(pages) {
            if kv.pages.is_full() {
                return Err(InstallError { page: index, reason: "the store has no room for it" });
            }
            kv.install_page(page).map_err(|reason| InstallError { page: index, reason })?;
        }
        if kv.pages.count() > 0 && kv.pages.page(kv.pages.count() - 1).keys().next().is_none() {
            let page = kv.pages.count() - 1;
            return Err(InstallError { page, reason: "the last page is empty" });
        }
        kv.pages.touch_all();
        *self = kv;
        Ok(())
    }
}

impl Kv {
    fn install_page(&mut self, page: &[u8]) -> Result<(), &'static str> {
        let entries: Vec<(Vec<u8>, Vec<u8>)> =
            decode(page, MAX_PAGE_BYTES).map_err(|_| "it is no list of entries")?;
        if !entries.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err("its keys do not ascend");
        }
        let index = self.pages.push();
        for (key, value) in entries {
            if key.len() > MAX_KEY_BYTES || value.len() > MAX_VALUE_BYTES {
                return Err("it has a key or a value that is too long");
            }
            self.pages.insert(index, key.clone(), entry_bytes(&key, value.len()));
            if self.entries.insert(key, Entry { value, page: index }).is_some() {
                return Err("it has a key that another page has too");
            }
        }
        Ok(())
    }
}
