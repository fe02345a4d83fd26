//! Where entries lie: a tree of halves over the keys' hashes, of which only the leaves exist, each a
//! page. A place is one leaf exactly when what lies in it shares a page ([`Load::shares_a_page`]) or
//! hashes have no more bits. So the pages follow from the entries alone and not from the way there,
//! and finding a key needs no index of keys.

use super::bucket::{self, Entry, Load};
use super::place::{Place, key_hash};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_replica::{InstallError, Page, Pages};

#[derive(Debug, Clone)]
struct Leaf {
    depth: u8,
    page: Page,
}

/// There is no room for an entry.
#[derive(Debug)]
pub(super) struct Full;

/// All buckets, and the pages that have changed since the last [`Buckets::save`].
#[derive(Debug, Clone)]
pub(super) struct Buckets {
    most: usize,
    /// By the start of their places, which do not overlap.
    leaves: BTreeMap<u32, Leaf>,
    /// By number; `None` where there is none any more. They lie close together here, and those of `leaves`
    /// anywhere in the memory that the store takes.
    dirty: BTreeMap<u32, Option<Page>>,
    entries: usize,
}

impl Buckets {
    /// No buckets yet, and at most `most` ever.
    pub(super) fn new(most: u32) -> Self {
        Self { most: most as usize, leaves: BTreeMap::new(), dirty: BTreeMap::new(), entries: 0 }
    }

    /// Entries in all buckets.
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// The value of `key`.
    pub(super) fn value(&self, key: &[u8]) -> Option<&[u8]> {
        bucket::value(self.leaf(key_hash(key))?.1, key)
    }

    /// The leaf that `hash` lies in, if there is one.
    fn leaf(&self, hash: u32) -> Option<(Place, &Page)> {
        let (start, leaf) = self.leaves.range(..=hash).next_back()?;
        let place = Place { start: *start, depth: leaf.depth };
        place.contains(hash).then_some((place, &leaf.page))
    }

    /// The empty place that `hash` lies in: as large as it can be beside its neighbours.
    fn gap(&self, hash: u32) -> Place {
        let before = self.leaves.range(..hash).next_back();
        let after = self.leaves.range(hash..).next();
        let shared =
            |(start, leaf): (&u32, &Leaf)| 1 + Place { start: *start, depth: leaf.depth }.shared_bits(hash);
        Place::around(hash, before.into_iter().chain(after).map(shared).max().unwrap_or(0))
    }

    /// Gives `key` a value. Where there is no room for it, nothing changes.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Full> {
        let hash = key_hash(key);
        let Some((place, page)) = self.leaf(hash) else {
            let place = self.gap(hash);
            return self.replace(place, 0, Vec::from([(place, bucket::page(&[(key, value)]))]), 1);
        };
        let mut entries: Vec<Entry<'_>> = bucket::entries(page).collect();
        let found = entries.binary_search_by_key(&key, |(k, _)| k);
        match found {
            Ok(at) => entries[at].1 = value,
            Err(at) => entries.insert(at, (key, value)),
        }
        let mut leaves = Vec::new();
        divide(place, &entries, &mut leaves)?;
        self.replace(place, 1, leaves, usize::from(found.is_err()))?;
        self.gather(place);
        Ok(())
    }

    /// Takes `key` away, and says whether it was there.
    pub(super) fn delete(&mut self, key: &[u8]) -> bool {
        let Some((place, page)) = self.leaf(key_hash(key)) else { return false };
        let mut entries: Vec<Entry<'_>> = bucket::entries(page).collect();
        let Ok(at) = entries.binary_search_by_key(&key, |(k, _)| k) else { return false };
        entries.remove(at);
        if entries.is_empty() {
            self.remove(place);
        } else {
            let page = bucket::page(&entries);
            self.insert(place, page);
        }
        self.entries -= 1;
        self.gather(place);
        true
    }

    fn insert(&mut self, place: Place, page: Page) {
        self.dirty.insert(place.page(), Some(page.clone()));
        self.leaves.insert(place.start, Leaf { depth: place.depth, page });
    }

    fn remove(&mut self, place: Place) {
        self.dirty.insert(place.page(), None);
        self.leaves.remove(&place.start);
    }

    /// Puts `leaves` in place of the `before` leaves at `place`, if there is room for them.
    fn replace(
        &mut self,
        place: Place,
        before: usize,
        leaves: Vec<(Place, Page)>,
        new_entries: usize,
    ) -> Result<(), Full> {
        if self.leaves.len() - before + leaves.len() > self.most {
            return Err(Full);
        }
        if before > 0 {
            self.remove(place);
        }
        for (place, page) in leaves {
            self.insert(place, page);
        }
        self.entries += new_entries;
        Ok(())
    }

    /// Makes the places around `place` one leaf again that have become small enough for that.
    fn gather(&mut self, place: Place) {
        let mut largest = None;
        let mut around = place.whole();
        while let Some(whole) = around
            && self.shares_a_page(whole)
        {
            largest = Some(whole);
            around = whole.whole();
        }
        let Some(whole) = largest else { return };
        let pages: Vec<(u32, Leaf)> = self
            .leaves
            .range(whole.start..=whole.last())
            .map(|(start, leaf)| (*start, leaf.clone()))
            .collect();
        let mut entries: Vec<Entry<'_>> =
            pages.iter().flat_map(|(_, leaf)| bucket::entries(&leaf.page)).collect();
        entries.sort_unstable();
        for (start, leaf) in &pages {
            self.remove(Place { start: *start, depth: leaf.depth });
        }
        if !entries.is_empty() {
            self.insert(whole, bucket::page(&entries));
        }
    }

    /// Whether all that lies in `place` shares a page.
    fn shares_a_page(&self, place: Place) -> bool {
        let mut sum = Load::default();
        self.leaves.range(place.start..=place.last()).all(|(_, leaf)| {
            sum = sum.plus(Load::of(&leaf.page));
            sum.shares_a_page()
        })
    }

    /// Brings `pages` up to date.
    pub(super) fn save(&mut self, pages: &mut Pages) {
        pages.update(core::mem::take(&mut self.dirty));
    }

    /// These buckets with the pages that have `changed` as they are in `pages`, if that is something
    /// that could have come about.
    pub(super) fn updated(&self, pages: &Pages, changed: &[u32]) -> Result<Self, InstallError> {
        let wrong = |page, reason| InstallError { page, reason };
        let mut leaves = self.leaves.clone();
        for index in changed {
            let place = Place::of_page(*index).ok_or(wrong(*index, "the store has no such page"))?;
            if leaves.get(&place.start).is_some_and(|leaf| leaf.depth == place.depth) {
                leaves.remove(&place.start);
            }
        }
        for index in changed {
            let (Some(place), Some(page)) = (Place::of_page(*index), pages.page(*index)) else { continue };
            bucket::check(page, |key| place.contains(key_hash(key)))
                .map_err(|reason| wrong(*index, reason))?;
            let leaf = Leaf { depth: place.depth, page: page.clone() };
            if leaves.insert(place.start, leaf).is_some() {
                return Err(wrong(*index, "another page holds what belongs there"));
            }
        }
        if leaves.len() > self.most {
            return Err(wrong(changed.last().copied().unwrap_or(0), "the store has no room for it"));
        }
        let all: Vec<(Place, Load)> = leaves
            .iter()
            .map(|(start, leaf)| (Place { start: *start, depth: leaf.depth }, Load::of(&leaf.page)))
            .collect();
        let Load { entries, .. } = audit(&all, Place::ALL)?;
        Ok(Self { most: self.most, leaves, dirty: BTreeMap::new(), entries })
    }
}

/// The leaves for `entries` at `place`, in which they all lie.
fn divide(place: Place, entries: &[Entry<'_>], leaves: &mut Vec<(Place, Page)>) -> Result<(), Full> {
    let load = bucket::load(entries);
    if entries.is_empty() {
        return Ok(());
    }
    match place.halves() {
        Some(halves) if !load.shares_a_page() => {
            for half in halves {
                let inside: Vec<Entry<'_>> =
                    entries.iter().filter(|(key, _)| half.contains(key_hash(key))).copied().collect();
                divide(half, &inside, leaves)?;
            }
        }
        None if !load.fits_on_a_page() => return Err(Full),
        _ => leaves.push((place, bucket::page(entries))),
    }
    Ok(())
}

/// What lies on `leaves`, which are all that start in `place`, if they are the right ones for it.
fn audit(leaves: &[(Place, Load)], place: Place) -> Result<Load, InstallError> {
    let wrong = |leaf: &Place, reason| Err(InstallError { page: leaf.page(), reason });
    let load = leaves.iter().fold(Load::default(), |sum, (_, load)| sum.plus(*load));
    match (leaves, place.halves()) {
        ([], _) => Ok(load),
        ([(leaf, _)], None) if *leaf == place => Ok(load),
        ([(leaf, _)], _) if *leaf == place && load.shares_a_page() => Ok(load),
        ([(leaf, _)], _) if *leaf == place => wrong(leaf, "it holds what belongs on several pages"),
        ([(leaf, _), ..], _) if *leaf == place => wrong(leaf, "another page holds what belongs there"),
        ([(leaf, _), ..], _) if load.shares_a_page() => wrong(leaf, "it is divided for no reason"),
        ([(leaf, _), ..], None) => wrong(leaf, "another page holds what belongs there"),
        (_, Some([low, high])) => {
            let at = leaves.partition_point(|(leaf, _)| leaf.start < high.start);
            let (before, after) = leaves.split_at(at);
            Ok(audit(before, low)?.plus(audit(after, high)?))
        }
    }
}
