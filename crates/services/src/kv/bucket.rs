//! What is on a page of the store: entries ascending by key, in the canonical encoding of a list of
//! pairs. They are read where they lie, so that a store costs little more than its pages.

use crate::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use alloc::vec::Vec;
use althing_replica::{MAX_PAGE_BYTES, Page};

/// The number of entries comes first.
const HEADER_BYTES: usize = size_of::<u32>();
/// What an entry takes beside its key and its value: their lengths.
const ENTRY_OVERHEAD: usize = 2 * size_of::<u32>();
/// Entries share a page up to this size, so that a change costs about that much. A longer entry has a
/// page of its own.
const TARGET_BYTES: usize = 4096 - HEADER_BYTES;

const _: () = assert!(HEADER_BYTES + ENTRY_OVERHEAD + MAX_KEY_BYTES + MAX_VALUE_BYTES <= MAX_PAGE_BYTES);

/// A key and its value.
pub(super) type Entry<'a> = (&'a [u8], &'a [u8]);

/// How much some entries are, on one page or on several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) entries: usize,
    bytes: usize,
}

impl Load {
    /// The load of `page`, which is a bucket.
    pub(super) fn of(page: &[u8]) -> Self {
        let (count, _) = page.split_first_chunk().expect("a bucket begins with its number of entries");
        Self { entries: u32::from_le_bytes(*count) as usize, bytes: page.len() - HEADER_BYTES }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { entries: self.entries + other.entries, bytes: self.bytes + other.bytes }
    }

    /// Whether so much lies on one page, where it can be divided.
    pub(super) fn shares_a_page(self) -> bool {
        self.entries <= 1 || self.bytes <= TARGET_BYTES
    }

    /// Whether so much fits on one page at all.
    pub(super) fn fits_on_a_page(self) -> bool {
        HEADER_BYTES + self.bytes <= MAX_PAGE_BYTES
    }
}

/// The load of `entries`.
pub(super) fn load(entries: &[Entry<'_>]) -> Load {
    let bytes = entries.iter().map(|(key, value)| ENTRY_OVERHEAD + key.len() + value.len()).sum();
    Load { entries: entries.len(), bytes }
}

/// A page of `entries`, which ascend by key.
pub(super) fn page(entries: &[Entry<'_>]) -> Page {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + load(entries).bytes);
    let length = |bytes: &mut Vec<u8>, length: usize| {
        bytes.extend_from_slice(&u32::try_from(length).expect("a page is short").to_le_bytes());
    };
    length(&mut bytes, entries.len());
    for (key, value) in entries {
        length(&mut bytes, key.len());
        bytes.extend_from_slice(key);
        length(&mut bytes, value.len());
        bytes.extend_from_slice(value);
    }
    bytes.into()
}

/// The entries of `page`, which is a bucket.
pub(super) fn entries(page: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut rest = &page[HEADER_BYTES..];
    core::iter::from_fn(move || {
        let entry = (!rest.is_empty()).then(|| (take(&mut rest), take(&mut rest)));
        entry.map(|(key, value)| (key.expect("a bucket is whole"), value.expect("a bucket is whole")))
    })
}

/// The value of `key` on `page`.
pub(super) fn value<'a>(page: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    entries(page).find(|(k, _)| *k == key).map(|(_, value)| value)
}

/// Takes a length, and as many bytes, off the front of `rest`.
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk()?;
    let (bytes, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = after;
    Some(bytes)
}

/// Checks that `page`, which may be anything, is a bucket, and that all its keys satisfy `is_in_place`.
pub(super) fn check(page: &[u8], is_in_place: impl Fn(&[u8]) -> bool) -> Result<(), &'static str> {
    const NO_LIST: &str = "it is no list of entries";
    let (count, mut rest) = page.split_first_chunk().ok_or(NO_LIST)?;
    let mut last = None;
    for _ in 0..u32::from_le_bytes(*count) {
        let key = take(&mut rest).ok_or(NO_LIST)?;
        let value = take(&mut rest).ok_or(NO_LIST)?;
        if last.is_some_and(|last| last >= key) {
            return Err("its keys do not ascend");
        }
        if key.len() > MAX_KEY_BYTES || value.len() > MAX_VALUE_BYTES {
            return Err("it has a key or a value that is too long");
        }
        if !is_in_place(key) {
            return Err("it has a key that belongs elsewhere");
        }
        last = Some(key);
    }
    match last {
        _ if !rest.is_empty() => Err(NO_LIST),
        None => Err("it is empty"),
        Some(_) => Ok(()),
    }
}
