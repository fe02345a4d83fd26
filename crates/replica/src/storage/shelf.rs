//! A disk for tests: everything is durable at once, and the operation that is told to fails.

use super::{File, Storage};
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

/// The operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused(pub(super) &'static str);

/// Clones share their content, as programs that open the same directory do.
#[derive(Debug, Clone, Default)]
pub(super) struct Shelf(Rc<RefCell<Content>>);

#[derive(Debug, Default)]
struct Content {
    files: BTreeMap<File, Vec<u8>>,
    drafts: BTreeMap<File, Vec<u8>>,
    /// What was done, in order.
    done: Vec<&'static str>,
    /// The operation that fails from now on.
    failing: Option<&'static str>,
    drawn: u8,
}

impl Shelf {
    pub(super) fn fail(&self, operation: Option<&'static str>) {
        self.0.borrow_mut().failing = operation;
    }

    pub(super) fn content(&self, file: File) -> Option<Vec<u8>> {
        self.0.borrow().files.get(&file).cloned()
    }

    pub(super) fn put(&self, file: File, content: Option<Vec<u8>>) {
        let files = &mut self.0.borrow_mut().files;
        match content {
            Some(content) => drop(files.insert(file, content)),
            None => drop(files.remove(&file)),
        }
    }

    /// What was done since this was last asked.
    pub(super) fn take_done(&self) -> Vec<&'static str> {
        core::mem::take(&mut self.0.borrow_mut().done)
    }

    /// Another disk with the same files.
    pub(super) fn copy(&self) -> Self {
        let content = Content { files: self.0.borrow().files.clone(), ..Content::default() };
        Self(Rc::new(RefCell::new(content)))
    }

    fn operate(&self, operation: &'static str) -> Result<core::cell::RefMut<'_, Content>, Refused> {
        let mut content = self.0.borrow_mut();
        content.done.push(operation);
        if content.failing == Some(operation) { Err(Refused(operation)) } else { Ok(content) }
    }
}

impl Storage for Shelf {
    type Error = Refused;

    fn read(&mut self, file: File) -> Result<Option<Vec<u8>>, Refused> {
        Ok(self.operate("read")?.files.get(&file).cloned())
    }

    fn read_at(&mut self, file: File, offset: u64, len: usize) -> Result<Vec<u8>, Refused> {
        let content = self.operate("read at")?;
        let bytes = content.files.get(&file).map(Vec::as_slice).unwrap_or_default();
        let bytes = bytes.get(offset as usize..).unwrap_or_default();
        Ok(bytes[..len.min(bytes.len())].to_vec())
    }

    fn segments(&mut self) -> Result<Vec<u64>, Refused> {
        let content = self.operate("list")?;
        let numbers = content.files.keys().filter_map(|file| match file {
            File::Segment(number) => Some(*number),
            _ => None,
        });
        Ok(numbers.collect())
    }

    fn create(&mut self, file: File) -> Result<(), Refused> {
        self.operate("create")?.files.insert(file, Vec::new());
        Ok(())
    }

    fn append(&mut self, file: File, bytes: &[u8]) -> Result<(), Refused> {
        self.operate("append")?.files.get_mut(&file).expect("there is a file").extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self, _: File) -> Result<(), Refused> {
        self.operate("sync").map(drop)
    }

    fn draft(&mut self, file: File, content: &[u8]) -> Result<(), Refused> {
        self.operate("draft")?.drafts.insert(file, content.to_vec());
        Ok(())
    }

    fn sync_draft(&mut self, _: File) -> Result<(), Refused> {
        self.operate("sync draft").map(drop)
    }

    fn publish(&mut self, file: File) -> Result<(), Refused> {
        let mut content = self.operate("publish")?;
        let draft = content.drafts.remove(&file).expect("there is a draft");
        content.files.insert(file, draft);
        Ok(())
    }

    fn remove(&mut self, file: File) -> Result<(), Refused> {
        self.operate("remove")?.files.remove(&file);
        Ok(())
    }

    fn sync_directory(&mut self, _: File) -> Result<(), Refused> {
        self.operate("sync directory").map(drop)
    }

    fn random(&mut self) -> Result<[u8; 16], Refused> {
        let mut content = self.operate("random")?;
        content.drawn += 1;
        Ok([content.drawn; 16])
    }
}
