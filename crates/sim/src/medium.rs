//! A disk below an operating system that caches: what production code writes is durable only once it
//! is synced, and what is not may be lost, torn or out of order when the power goes.

use crate::dice::Dice;
use crate::fault::{Injection, Injections};
use althing_replica::storage::{File, Storage};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

/// The unit that a disk writes all or nothing of, in bytes.
const SECTOR: usize = 512;

/// A file or the draft of one.
type Name = (File, bool);

/// Why a disk did not do what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiskFault {
    /// It could not make something durable.
    Sync,
    /// It has no room left.
    Full,
    /// The process was killed, or the power went.
    Dead,
}

impl fmt::Display for DiskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sync => "the disk failed to sync",
            Self::Full => "the disk is full",
            Self::Dead => "the machine is down",
        })
    }
}

/// What is left of the cache when the power goes.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Lost,
    Kept,
    Torn,
    Reordered,
}

/// The bytes of a file: as programs see them, and as they are on the medium.
#[derive(Debug, Clone, Default)]
struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors in which the two may differ and which the system is still going to write.
    dirty: BTreeSet<usize>,
}

impl Inode {
    fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let first = self.cached.len() / SECTOR;
        self.cached.extend_from_slice(bytes);
        self.dirty.extend(first..=(self.cached.len() - 1) / SECTOR);
    }

    fn write_sector(&mut self, sector: usize) {
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.cached.len());
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[start..end].copy_from_slice(&self.cached[start..end]);
    }

    fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.write_sector(sector);
        }
    }

    /// Some sectors don't get to the medium, and the system forgets that they should.
    fn fail_to_sync(&mut self, dice: &mut Dice) {
        for sector in std::mem::take(&mut self.dirty) {
            if dice.chance(400) {
                self.write_sector(sector);
            }
        }
    }

    fn cut(&mut self, cut: Cut, dice: &mut Dice) {
        let dirty = std::mem::take(&mut self.dirty);
        let before = self.durable.len();
        match cut {
            Cut::Lost => {}
            Cut::Kept => dirty.into_iter().for_each(|sector| self.write_sector(sector)),
            Cut::Torn => {
                let end = before + dice.index(self.cached.len().saturating_sub(before) + 1);
                for sector in dirty.into_iter().filter(|sector| sector * SECTOR < end) {
                    self.write_sector(sector);
                }
                self.durable.truncate(end);
            }
            Cut::Reordered => {
                for sector in dirty {
                    if dice.chance(500) {
                        self.write_sector(sector);
                    }
                }
                // The length may be there without the content.
                if dice.chance(500) && self.durable.len() < self.cached.len() {
                    self.durable.resize(self.cached.len(), 0);
                }
            }
        }
        self.cached.clone_from(&self.durable);
    }
}

/// A change to which files there are.
#[derive(Debug, Clone, Copy)]
enum Entry {
    Created(Name, u64),
    Published(File),
    Removed(File),
}

impl Entry {
    /// What lies beside the data is in a directory of its own.
    fn is_beside(self) -> bool {
        let (Self::Created((file, _), _) | Self::Published(file) | Self::Removed(file)) = self;
        file == File::Begun
    }

    fn apply(self, names: &mut BTreeMap<Name, u64>) {
        match self {
            Self::Created(name, inode) => drop(names.insert(name, inode)),
            Self::Published(file) => {
                if let Some(inode) = names.remove(&(file, true)) {
                    names.insert((file, false), inode);
                }
            }
            Self::Removed(file) => drop(names.remove(&(file, false))),
        }
    }
}

#[derive(Debug)]
struct Content {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<Name, u64>,
    durable_names: BTreeMap<Name, u64>,
    /// Changes to the names that are not durable, in order.
    entries: Vec<Entry>,
    made: u64,
    dice: Dice,
    injections: Injections,
    /// The next sync fails.
    is_failing: bool,
    /// There is room for so many bytes more.
    room: Option<usize>,
    /// So many operations more are carried out, the last one in part.
    breath: Option<usize>,
}

/// The disk of one host. Clones are the same disk.
#[derive(Debug, Clone)]
pub(crate) struct Medium(Rc<RefCell<Content>>);

impl Medium {
    pub(crate) fn new(dice: Dice, injections: Injections) -> Self {
        Self(Rc::new(RefCell::new(Content {
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            entries: Vec::new(),
            made: 0,
            dice,
            injections,
            is_failing: false,
            room: None,
            breath: None,
        })))
    }

    /// The next sync fails.
    pub(crate) fn fail_sync(&self) {
        self.0.borrow_mut().is_failing = true;
    }

    /// There is room for a little more, or again for everything.
    pub(crate) fn set_room(&self, room: Option<usize>) {
        self.0.borrow_mut().room = room;
    }

    /// Nothing is wrong with it any more.
    pub(crate) fn be_well(&self) {
        let content = &mut *self.0.borrow_mut();
        (content.is_failing, content.room) = (false, None);
    }

    /// After so many operations more there is nobody left who asks for one.
    pub(crate) fn set_breath(&self, breath: Option<usize>) {
        self.0.borrow_mut().breath = breath;
    }

    /// The power goes: what is not durable is kept, lost, torn or out of order.
    pub(crate) fn cut_power(&self) {
        let content = &mut *self.0.borrow_mut();
        let cut = content.dice.pick(&[Cut::Lost, Cut::Kept, Cut::Torn, Cut::Torn, Cut::Reordered]);
        if content.inodes.values().any(|inode| !inode.dirty.is_empty()) {
            content.injections.note(match cut {
                Cut::Lost => Injection::WritesLost,
                Cut::Kept => Injection::WritesKept,
                Cut::Torn => Injection::WritesTorn,
                Cut::Reordered => Injection::WritesReordered,
            });
        }
        for inode in content.inodes.values_mut() {
            inode.cut(cut, &mut content.dice);
        }
        // A journal keeps the order of what happens in a directory.
        for beside in [false, true] {
            let entries: Vec<_> =
                content.entries.iter().filter(|entry| entry.is_beside() == beside).copied().collect();
            let kept = content.dice.index(entries.len() + 1);
            entries[..kept].iter().for_each(|entry| entry.apply(&mut content.durable_names));
        }
        content.entries.clear();
        content.names.clone_from(&content.durable_names);
        content.forget_unnamed();
    }

    /// The system needs its memory for something else, and reads what it had written again later.
    pub(crate) fn evict(&self) {
        let content = &mut *self.0.borrow_mut();
        for inode in content.inodes.values_mut().filter(|inode| inode.dirty.is_empty()) {
            inode.cached.clone_from(&inode.durable);
        }
    }

    /// The system writes something back by itself.
    pub(crate) fn write_back(&self) {
        let content = &mut *self.0.borrow_mut();
        for inode in content.inodes.values_mut() {
            for sector in inode.dirty.clone() {
                if content.dice.chance(300) {
                    inode.write_sector(sector);
                    inode.dirty.remove(&sector);
                }
            }
        }
    }

    /// Flips a bit of something that is durable; says whether there was anything.
    pub(crate) fn flip_bit(&self) -> bool {
        let content = &mut *self.0.borrow_mut();
        let files: Vec<_> = content.names.iter().filter(|((_, is_draft), _)| !is_draft).collect();
        let Some((_, inode)) = files.get(content.dice.index(files.len().max(1))) else { return false };
        let inode = content.inodes.get_mut(inode).expect("a name has an inode");
        if inode.durable.is_empty() || inode.durable != inode.cached {
            return false;
        }
        let bit = content.dice.index(inode.durable.len() * 8);
        inode.durable[bit / 8] ^= 1 << (bit % 8);
        inode.cached.clone_from(&inode.durable);
        true
    }

    /// The data is gone; with the whole machine, so is what lies beside it.
    pub(crate) fn lose(&self, with_beside: bool) {
        let content = &mut *self.0.borrow_mut();
        content.entries.clear();
        content.names.retain(|(file, _), _| *file == File::Begun && !with_beside);
        content.durable_names.clone_from(&content.names);
        content.inodes.values_mut().for_each(Inode::sync);
        content.forget_unnamed();
    }
}

impl Content {
    /// Counts an operation; after the last one nobody is there to ask for another.
    fn operate(&mut self) -> Result<(), DiskFault> {
        match &mut self.breath {
            Some(0) => Err(DiskFault::Dead),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// How many of `bytes` are written, and why not all.
    fn room_for(&mut self, bytes: usize) -> (usize, Result<(), DiskFault>) {
        if self.breath == Some(0) {
            return (self.dice.index(bytes + 1), Err(DiskFault::Dead));
        }
        match &mut self.room {
            Some(room) if *room < bytes => {
                self.injections.note(Injection::DiskFull);
                (std::mem::take(room), Err(DiskFault::Full))
            }
            Some(room) => {
                *room -= bytes;
                (bytes, Ok(()))
            }
            None => (bytes, Ok(())),
        }
    }

    fn sync(&mut self, name: Name) -> Result<(), DiskFault> {
        self.operate()?;
        let inode = self.names.get(&name).and_then(|inode| self.inodes.get_mut(inode));
        let inode = inode.expect("what is synced exists");
        if std::mem::take(&mut self.is_failing) {
            self.injections.note(Injection::SyncFailed);
            inode.fail_to_sync(&mut self.dice);
            return Err(DiskFault::Sync);
        }
        inode.sync();
        Ok(())
    }

    fn forget_unnamed(&mut self) {
        let pending = self.entries.iter().filter_map(|entry| match entry {
            Entry::Created(_, inode) => Some(inode),
            _ => None,
        });
        let named: BTreeSet<_> =
            self.names.values().chain(self.durable_names.values()).chain(pending).copied().collect();
        self.inodes.retain(|inode, _| named.contains(inode));
    }

    fn make(&mut self, name: Name, inode: Inode) {
        self.made += 1;
        self.inodes.insert(self.made, inode);
        self.enter(Entry::Created(name, self.made));
    }

    fn enter(&mut self, entry: Entry) {
        entry.apply(&mut self.names);
        self.entries.push(entry);
    }
}

impl Storage for Medium {
    type Error = DiskFault;

    fn read(&mut self, file: File) -> Result<Option<Vec<u8>>, DiskFault> {
        let content = self.0.borrow();
        Ok(content.names.get(&(file, false)).map(|inode| content.inodes[inode].cached.clone()))
    }

    fn read_at(&mut self, file: File, offset: u64, len: usize) -> Result<Vec<u8>, DiskFault> {
        let content = self.0.borrow();
        let inode = content.names.get(&(file, false)).map(|inode| &content.inodes[inode]);
        let bytes = inode.map(|inode| inode.cached.as_slice()).unwrap_or_default();
        let bytes = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        Ok(bytes[..len.min(bytes.len())].to_vec())
    }

    fn segments(&mut self) -> Result<Vec<u64>, DiskFault> {
        let content = self.0.borrow();
        let number = |(file, _): &Name| match file {
            File::Segment(number) => Some(*number),
            _ => None,
        };
        Ok(content.names.keys().filter_map(number).collect())
    }

    fn create(&mut self, file: File) -> Result<(), DiskFault> {
        let content = &mut *self.0.borrow_mut();
        content.operate()?;
        content.make((file, false), Inode::default());
        Ok(())
    }

    fn append(&mut self, file: File, bytes: &[u8]) -> Result<(), DiskFault> {
        let content = &mut *self.0.borrow_mut();
        content.operate()?;
        let (written, result) = content.room_for(bytes.len());
        let inode = content.names.get(&(file, false)).and_then(|inode| content.inodes.get_mut(inode));
        inode.expect("what is appended to exists").append(&bytes[..written]);
        result
    }

    fn sync(&mut self, file: File) -> Result<(), DiskFault> {
        self.0.borrow_mut().sync((file, false))
    }

    fn draft(&mut self, file: File, bytes: &[u8]) -> Result<(), DiskFault> {
        let content = &mut *self.0.borrow_mut();
        content.operate()?;
        let (written, result) = content.room_for(bytes.len());
        let mut inode = Inode::default();
        inode.append(&bytes[..written]);
        content.make((file, true), inode);
        result
    }

    fn sync_draft(&mut self, file: File) -> Result<(), DiskFault> {
        self.0.borrow_mut().sync((file, true))
    }

    fn publish(&mut self, file: File) -> Result<(), DiskFault> {
        let content = &mut *self.0.borrow_mut();
        content.operate()?;
        content.enter(Entry::Published(file));
        Ok(())
    }

    fn remove(&mut self, file: File) -> Result<(), DiskFault> {
        let content = &mut *self.0.borrow_mut();
        content.operate()?;
        content.enter(Entry::Removed(file));
        Ok(())
    }

    fn sync_directory(&mut self, file: File) -> Result<(), DiskFault> {
        let content = &mut *self.0.borrow_mut();
        content.operate()?;
        if std::mem::take(&mut content.is_failing) {
            content.injections.note(Injection::SyncFailed);
            return Err(DiskFault::Sync);
        }
        let is_beside = file == File::Begun;
        let (synced, rest) = content.entries.drain(..).partition(|entry| entry.is_beside() == is_beside);
        content.entries = rest;
        let synced: Vec<Entry> = synced;
        synced.into_iter().for_each(|entry| entry.apply(&mut content.durable_names));
        content.forget_unnamed();
        Ok(())
    }

    fn random(&mut self) -> Result<[u8; 16], DiskFault> {
        let mut bytes = [0; 16];
        self.0.borrow_mut().dice.fill(&mut bytes);
        Ok(bytes)
    }
}

#[cfg(test)]
#[path = "medium_tests.rs"]
mod tests;
