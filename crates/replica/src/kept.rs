//! The state on disk: which segments hold its pages, and what is to be written so that another state is
//! there.
//!
//! A checkpoint writes the pages in which it differs from the one before into new segments. A page that
//! was written again leaves garbage behind in an older segment. So once all segments together are longer
//! than one and a half times the state, each checkpoint also moves what is still alive in the oldest ones,
//! twice as much as it writes anyway, and drops those. By the time that it has gone through segments that
//! are all alive, which hold no more than the state, half the state was written: so they are never longer
//! than twice the state, and what is moved never stalls a checkpoint. And a checkpoint takes up the latest
//! segments where they are short, so that there are never many.

use crate::Page;
use crate::checkpoints::Checkpoint;
use crate::pages::PageTree;
use crate::storage::{Entry, Segment, SegmentContent};
use alloc::collections::{BTreeMap, VecDeque, btree_map};
use alloc::vec::Vec;
use althing_types::{Digest, Seq};

/// What a page takes in a segment beside its bytes.
const ENTRY_OVERHEAD: u64 = 8;

/// What a segment takes beside its pages, about.
const SEGMENT_OVERHEAD: u64 = 128;

/// When segments are closed, taken up and moved, in bytes.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// A segment is closed when it is so long: what is moved at a time.
    segment: u64,
    /// One that is shorter is taken up by others that are at least as long.
    short: u64,
    /// Garbage that is not worth a move.
    slack: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { segment: 16 << 20, short: 1 << 20, slack: 8 << 10 }
    }
}

/// What is to be written of each page.
type Entries = BTreeMap<u32, Option<Page>>;

/// A segment on disk.
#[derive(Debug, Clone)]
struct Stored {
    segment: Segment,
    /// The pages of which it says something.
    pages: Vec<u32>,
    /// Those of them that it says are gone.
    removed: Vec<u32>,
}

impl Stored {
    fn new(segment: Segment) -> Self {
        Self { segment, pages: Vec::new(), removed: Vec::new() }
    }
}

/// The state that is on disk.
#[derive(Debug, Clone, Default)]
pub struct KeptState {
    seq: Seq,
    state: Digest,
    tree: PageTree,
    /// Oldest first: what a later one says of a page holds.
    segments: VecDeque<Stored>,
    /// Which segment holds a page.
    located: BTreeMap<u32, u64>,
    /// What the pages of the state take in segments.
    live: u64,
    last_number: u64,
    sizes: Sizes,
}

impl PartialEq for KeptState {
    fn eq(&self, other: &Self) -> bool {
        (self.seq, self.state) == (other.seq, other.state) && self.segments().eq(other.segments())
    }
}

impl Eq for KeptState {}

impl KeptState {
    /// The initial state, on a disk where segments up to this number may lie.
    pub(crate) fn after(last_number: u64) -> Self {
        Self { last_number, ..Self::default() }
    }

    /// The highest number of its segments.
    pub(crate) fn last_number(&self) -> u64 {
        self.last_number
    }

    /// Nothing yet: the segments that a record names, to be read one after the other.
    pub(crate) fn named(seq: Seq, state: Digest) -> Self {
        Self { seq, state, ..Self::default() }
    }

    /// Begins with the next of the segments, oldest first.
    pub(crate) fn read(&mut self, segment: Segment) {
        self.last_number = self.last_number.max(segment.number);
        self.segments.push_back(Stored::new(segment));
    }

    /// Begins with the segment of this number, of which nothing else is known.
    pub(crate) fn begin(&mut self, number: u64) {
        self.read(Segment { number, part: 0, state: Digest::default(), len: 0 });
    }

    /// Takes what the segment begun last says of a page.
    pub(crate) fn take(&mut self, entry: Entry) {
        self.weigh(&entry);
        let last = self.segments.back_mut().expect("a segment was begun");
        locate(&mut self.located, last, &entry);
        match entry {
            (index, Some(page)) => self.tree.set(index, page),
            (index, None) => self.tree.remove(index),
        }
    }

    /// The checkpoint, with the digest that its pages have, which may be another than they should have.
    pub(crate) fn checkpoint(&mut self) -> Checkpoint {
        Checkpoint { state: self.digest(), tree: self.tree.clone(), is_hollow: false }
    }

    /// The digest that its pages have, which may be another than they should have.
    #[must_use]
    pub fn digest(&mut self) -> Digest {
        self.tree.refresh()
    }

    /// Its pages.
    pub(crate) fn into_pages(self) -> PageTree {
        self.tree
    }

    pub(crate) fn seq(&self) -> Seq {
        self.seq
    }

    pub(crate) fn state(&self) -> Digest {
        self.state
    }

    /// The segments, oldest first.
    pub(crate) fn segments(&self) -> impl Iterator<Item = Segment> {
        self.segments.iter().map(|stored| stored.segment)
    }

    /// Goes over to a checkpoint: gives back what is to be written for that, and the numbers of the
    /// segments that are of no use once that is named in place of what there is.
    pub(crate) fn advance(&mut self, seq: Seq, checkpoint: &Checkpoint) -> (Vec<SegmentContent>, Vec<u64>) {
        let differing = self.tree.differing(&checkpoint.tree);
        let page = |index| (index, checkpoint.tree.page(index).cloned());
        let mut entries: Entries = differing.into_iter().map(page).collect();
        for (index, page) in &entries {
            self.weigh(&(*index, page.clone()));
        }
        (self.seq, self.state, self.tree) = (seq, checkpoint.state, checkpoint.tree.clone());
        let mut dropped = Vec::new();
        self.take_up_short(&mut entries, &mut dropped);
        self.move_oldest(&mut entries, &mut dropped);
        if self.segments.is_empty() {
            // No other segment has it, so none has to say that it is gone.
            for (index, _) in entries.extract_if(.., |_, page| page.is_none()) {
                self.located.remove(&index);
            }
        }
        (self.divide(entries), dropped)
    }

    /// Counts a page in place of the one that the state had there.
    fn weigh(&mut self, (index, page): &Entry) {
        self.live += page.as_ref().map_or(0, len_of);
        self.live -= self.tree.page(*index).map_or(0, len_of);
    }

    fn take_up_short(&mut self, entries: &mut Entries, dropped: &mut Vec<u64>) {
        let mut bytes = weight(entries);
        while let Some(last) = self.segments.back().map(|stored| stored.segment)
            && last.len < self.sizes.short
            && last.len <= bytes + SEGMENT_OVERHEAD
        {
            let last = self.segments.pop_back().expect("there is one");
            bytes += self.keep_alive(&last, entries);
            for index in &last.removed {
                // It may be in an older segment still.
                if !self.located.contains_key(index) {
                    entries.entry(*index).or_insert(None);
                }
            }
            dropped.push(last.segment.number);
        }
    }

    fn move_oldest(&mut self, entries: &mut Entries, dropped: &mut Vec<u64>) {
        let bytes = weight(entries);
        let mut total = bytes + self.segments.iter().map(|stored| stored.segment.len).sum::<u64>();
        let mut moved = 0;
        while total > self.live + self.live / 2 + self.sizes.slack
            && moved <= 2 * bytes
            && let Some(first) = self.segments.pop_front()
        {
            // What it says is gone is in no segment any more.
            let alive = self.keep_alive(&first, entries);
            moved += alive;
            total = total + alive - first.segment.len;
            dropped.push(first.segment.number);
        }
    }

    /// Writes again what is alive in a segment; gives back how much that is.
    fn keep_alive(&self, stored: &Stored, entries: &mut Entries) -> u64 {
        let mut bytes = 0;
        for index in &stored.pages {
            if self.located.get(index) == Some(&stored.segment.number)
                && let btree_map::Entry::Vacant(entry) = entries.entry(*index)
            {
                let page = self.tree.page(*index).expect("it has not changed, and is there");
                bytes += len_of(page);
                entry.insert(Some(page.clone()));
            }
        }
        bytes
    }

    fn divide(&mut self, entries: Entries) -> Vec<SegmentContent> {
        let (mut contents, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
        for entry in entries {
            bytes += entry.1.as_ref().map_or(ENTRY_OVERHEAD, len_of);
            part.push(entry);
            if bytes >= self.sizes.segment {
                contents.push(self.add(contents.len(), core::mem::take(&mut part)));
                bytes = 0;
            }
        }
        if !part.is_empty() {
            contents.push(self.add(contents.len(), part));
        }
        contents
    }

    fn add(&mut self, part: usize, entries: Vec<Entry>) -> SegmentContent {
        self.last_number += 1;
        let part = u32::try_from(part).expect("a segment holds at least a page");
        let content = SegmentContent::new(self.last_number, part, self.state, entries);
        let mut stored = Stored::new(content.segment());
        for entry in content.entries() {
            locate(&mut self.located, &mut stored, entry);
        }
        self.segments.push_back(stored);
        content
    }
}

/// Takes down that `stored` holds what is last said of a page.
fn locate(located: &mut BTreeMap<u32, u64>, stored: &mut Stored, (index, page): &Entry) {
    if page.is_some() {
        stored.pages.push(*index);
        located.insert(*index, stored.segment.number);
    } else {
        stored.removed.push(*index);
        located.remove(index);
    }
}

fn len_of(page: &Page) -> u64 {
    page.len() as u64 + ENTRY_OVERHEAD
}

fn weight(entries: &Entries) -> u64 {
    entries.values().map(|page| page.as_ref().map_or(ENTRY_OVERHEAD, len_of)).sum()
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
