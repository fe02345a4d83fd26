//! Where entries lie. Everything here follows from which entries lie on which page, and so from the
//! pages themselves: a store that was installed goes on exactly like the one it was copied from.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use althing_replica::MAX_PAGES;

/// Entries share a page up to this size, so that a change costs about that much. A longer entry has a
/// page of its own.
const TARGET_BYTES: u32 = 4096;

/// What an entry takes on its page: two lengths, the key and the value.
pub(super) fn entry_bytes(key: &[u8], value_bytes: usize) -> u32 {
    u32::try_from(8 + key.len() + value_bytes).expect("keys and values are bounded")
}

/// A page: how many bytes its entries take, and their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Page {
    used: u32,
    keys: BTreeSet<Vec<u8>>,
}

impl Page {
    pub(super) fn keys(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.keys.iter()
    }
}

/// All pages, and which of them have changed.
#[derive(Debug, Clone)]
pub(super) struct Pages {
    most: u32,
    pages: Vec<Page>,
    /// The pages by how much of them is used, to find one that an entry fits on.
    by_use: BTreeSet<(u32, u32)>,
    dirty: BTreeSet<u32>,
}

impl Pages {
    /// No pages yet, and at most `most` ever.
    pub(super) fn new(most: u32) -> Self {
        let most = most.min(MAX_PAGES);
        Self { most, pages: Vec::new(), by_use: BTreeSet::new(), dirty: BTreeSet::new() }
    }

    pub(super) fn most(&self) -> u32 {
        self.most
    }

    pub(super) fn is_full(&self) -> bool {
        self.count() >= self.most
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.pages.len()).expect("pages are bounded")
    }

    pub(super) fn page(&self, index: u32) -> &Page {
        &self.pages[index as usize]
    }

    pub(super) fn take_dirty(&mut self) -> Vec<u32> {
        let dirty = core::mem::take(&mut self.dirty);
        dirty.into_iter().filter(|index| *index < self.count()).collect()
    }

    /// Makes all pages dirty.
    pub(super) fn touch_all(&mut self) {
        self.dirty.extend(0..self.count());
    }

    /// Appends an empty page.
    pub(super) fn push(&mut self) -> u32 {
        let index = self.count();
        self.pages.push(Page::default());
        self.by_use.insert((0, index));
        self.dirty.insert(index);
        index
    }

    /// The page for a new entry of `bytes` bytes, if there is one that it fits on: the fullest, so
    /// that pages get full and others get empty; the last of those, as good as any.
    pub(super) fn place(&self, bytes: u32) -> Option<u32> {
        let most_used = TARGET_BYTES.saturating_sub(bytes);
        self.by_use.range(..=(most_used, u32::MAX)).next_back().map(|(_, index)| *index)
    }

    /// Whether an entry on page `index` may become `after` bytes long instead of `before`.
    pub(super) fn has_room(&self, index: u32, before: u32, after: u32) -> bool {
        let page = self.page(index);
        page.keys.len() == 1 || page.used - before + after <= TARGET_BYTES
    }

    /// Puts a new key on page `index`.
    pub(super) fn insert(&mut self, index: u32, key: Vec<u8>, bytes: u32) {
        self.pages[index as usize].keys.insert(key);
        self.change(index, 0, bytes);
    }

    /// Takes a key off page `index`, and drops pages at the end that are now empty.
    pub(super) fn remove(&mut self, index: u32, key: &[u8], bytes: u32) {
        self.pages[index as usize].keys.remove(key);
        self.change(index, bytes, 0);
        while self.pages.last().is_some_and(|page| page.keys.is_empty()) {
            self.pages.pop();
            self.by_use.remove(&(0, self.count()));
        }
    }

    /// Takes down that an entry on page `index` has become `after` bytes long.
    pub(super) fn change(&mut self, index: u32, before: u32, after: u32) {
        let page = &mut self.pages[index as usize];
        self.by_use.remove(&(page.used, index));
        page.used = page.used - before + after;
        self.by_use.insert((page.used, index));
        self.dirty.insert(index);
    }
}
