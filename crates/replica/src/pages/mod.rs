//! The state as pages: what a service keeps its state in or writes it to, and the Merkle tree over
//! them from which checkpoints are made.

mod node;
mod page;
mod path;
mod tree;

pub use node::NodeId;
pub use page::Page;
pub use path::Path;

pub(crate) use node::{Children, node_digest, page_digest};
pub(crate) use tree::PageTree;

use crate::InstallError;
use alloc::vec::Vec;
use althing_types::Digest;

/// The most bytes one page may have.
pub const MAX_PAGE_BYTES: usize = 64 * 1024;

/// A service's pages are numbered below this. The numbers above are the engine's.
pub const MAX_PAGES: u32 = 1 << 31;

/// The pages of a service's state, by number. Numbers need not be dense.
///
/// A clone shares all pages with the original and costs nothing to speak of; a page that is put in
/// costs the path to it, and its digest is computed once, when the next checkpoint asks for it.
#[derive(Debug, Clone, Default)]
pub struct Pages(PageTree);

impl Pages {
    /// Puts `page` in place `index`. One that is equal to what lies there changes nothing.
    ///
    /// # Panics
    /// If `index` is not below [`MAX_PAGES`], or the page is longer than [`MAX_PAGE_BYTES`].
    pub fn set(&mut self, index: u32, page: impl Into<Page>) {
        let page = page.into();
        check(index, &page);
        self.0.set(index, page);
    }

    /// Puts pages in their places, or removes those where there is `None`, one after the other. It comes to
    /// the same as [`set`](Self::set) and [`remove`](Self::remove), and costs less where they are many and
    /// ascend by number.
    ///
    /// # Panics
    /// As [`set`](Self::set) does.
    pub fn update(&mut self, changes: impl IntoIterator<Item = (u32, Option<Page>)>) {
        self.0.update(changes.into_iter().inspect(|(index, page)| {
            if let Some(page) = page {
                check(*index, page);
            }
        }));
    }

    /// Removes page `index`, if there is one.
    pub fn remove(&mut self, index: u32) {
        self.0.remove(index);
    }

    /// Page `index`, if there is one.
    #[must_use]
    pub fn page(&self, index: u32) -> Option<&Page> {
        self.0.page(index)
    }

    /// All pages, ascending by number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Page)> {
        self.0.pages().into_iter()
    }

    /// The page of a state that has page 0 and no other.
    ///
    /// # Errors
    /// When there are others, or none.
    pub fn sole(&self) -> Result<&Page, InstallError> {
        let wrong = |page| InstallError { page, reason: "the state has page 0 and no other" };
        match self.0.pages()[..] {
            [(0, page)] => Ok(page),
            [(0, _), (other, _), ..] | [(other, _), ..] => Err(wrong(other)),
            [] => Err(wrong(0)),
        }
    }

    /// The numbers of the pages that differ between these and `other`, ascending.
    ///
    /// It costs what changed since the digests were last computed, and what differs.
    pub fn differing(&mut self, other: &mut Self) -> Vec<u32> {
        self.0.refresh();
        other.0.refresh();
        self.0.differing(&other.0)
    }

    /// The digest of the pages.
    pub(crate) fn refresh(&mut self) -> Digest {
        self.0.refresh()
    }

    /// The pages that have the digests they are thought to have.
    pub(crate) fn intact(&self) -> Self {
        Self(self.0.intact())
    }

    /// The tree of these pages and the engine's own, which lie above them.
    pub(crate) fn under(&self, engine: &PageTree) -> PageTree {
        self.0.joined(engine)
    }

    /// The pages of the service in a state's tree, and those of the engine.
    pub(crate) fn split(tree: &PageTree) -> (Self, PageTree) {
        let (service, engine) = tree.split(MAX_PAGES);
        (Self(service), engine)
    }
}

/// Checks what a service sets.
fn check(index: u32, page: &Page) {
    assert!(index < MAX_PAGES, "pages are numbered below {MAX_PAGES}, not {index}");
    let bytes = page.len();
    assert!(bytes <= MAX_PAGE_BYTES, "page {index} has {bytes} bytes, more than {MAX_PAGE_BYTES}");
}

impl PartialEq for Pages {
    fn eq(&self, other: &Self) -> bool {
        self.0.pages() == other.0.pages()
    }
}

impl Eq for Pages {}

impl FromIterator<(u32, Page)> for Pages {
    fn from_iter<I: IntoIterator<Item = (u32, Page)>>(pages: I) -> Self {
        let mut all = Self::default();
        for (index, page) in pages {
            all.set(index, page);
        }
        all
    }
}

#[cfg(test)]
pub(crate) mod tests;
