//! The Merkle tree of numbered pages (TOCS'02 §5.3, "partition tree").
//!
//! Differences from the paper: the index space is sparse and the depth fixed, so that the engine's
//! pages and the service's grow without moving each other; and instead of copying pages on the
//! first write after a checkpoint, the tree itself is persistent, so a checkpoint is a clone of its
//! root and shares whatever has not changed since.

use super::node::{Children, NodeDigest, NodeId, ROOT_LEVEL, page_digest};
use super::page::Page;
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::Digest;
use core::cmp::Ordering;

/// So many children are few.
const FEW: usize = 4;

/// What lies below a node. A page's digest is `None` from when it is put there until the next
/// [`PageTree::refresh`].
#[derive(Debug, Clone)]
enum Child {
    Node(Arc<Node>),
    Page(Option<Digest>, Page),
}

impl Child {
    fn digest(&self) -> Option<Digest> {
        match self {
            Self::Node(node) => node.digest,
            Self::Page(digest, _) => *digest,
        }
    }
}

/// An interior node. `digest` is `None` from a change below it until the next [`PageTree::refresh`].
#[derive(Debug, Clone, Default)]
struct Node {
    digest: Option<Digest>,
    children: Vec<(u8, Child)>,
}

impl Node {
    /// Puts in a child. A node with a few has no room to spare: most have one, where the numbers of pages
    /// are far apart.
    fn insert(&mut self, at: usize, slot: u8, child: Child) {
        if self.children.len() < FEW {
            self.children.reserve_exact(1);
        }
        self.children.insert(at, (slot, child));
    }

    fn find(&self, slot: u8) -> Result<usize, usize> {
        self.children.binary_search_by_key(&slot, |(s, _)| *s)
    }

    fn child(&self, slot: u8) -> Option<&Child> {
        Some(&self.children[self.find(slot).ok()?].1)
    }
}

/// The pages of a state, with their digests. Cloning is cheap and shares everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct PageTree {
    root: Arc<Node>,
}

impl PageTree {
    /// Puts a page in place `index`. One that is equal to what lies there dirties nothing.
    pub(crate) fn set(&mut self, index: u32, page: impl Into<Page>) {
        let page = page.into();
        let is_equal = |old: &Page| old.is_same(&page) || *old == page;
        if !self.page(index).is_some_and(is_equal) {
            set_below(&mut self.root, ROOT_LEVEL, index, Child::Page(None, page));
        }
    }

    /// Puts a page in place `index` that has been found to have `digest`.
    pub(crate) fn set_verified(&mut self, index: u32, page: Page, digest: Digest) {
        set_below(&mut self.root, ROOT_LEVEL, index, Child::Page(Some(digest), page));
    }

    /// Removes page `index`, if there is one.
    pub(crate) fn remove(&mut self, index: u32) {
        if self.page(index).is_some() {
            remove_below(&mut self.root, ROOT_LEVEL, NodeId { level: 0, index });
        }
    }

    /// Removes all pages below the node or page `id`.
    pub(crate) fn remove_all(&mut self, id: NodeId) {
        remove_below(&mut self.root, ROOT_LEVEL, id);
    }

    /// The bytes of page `index`.
    pub(crate) fn page(&self, index: u32) -> Option<&Page> {
        match self.child(NodeId { level: 0, index })? {
            Child::Page(_, page) => Some(page),
            Child::Node(_) => None,
        }
    }

    /// Computes the digests of all changed pages and of the nodes above them, and returns the root's.
    pub(crate) fn refresh(&mut self) -> Digest {
        refresh(&mut self.root, NodeId::ROOT, &mut NodeDigest::default())
    }

    /// The digest of the node or page `id` as of the last refresh.
    pub(crate) fn digest(&self, id: NodeId) -> Option<Digest> {
        if id.level == ROOT_LEVEL { self.root.digest } else { self.child(id)?.digest() }
    }

    /// The children of node `id` as of the last refresh; `None` where there is no such node.
    pub(crate) fn children(&self, id: NodeId) -> Option<Children> {
        let node = if id == NodeId::ROOT {
            &self.root
        } else if id.is_valid()
            && let Child::Node(node) = self.child(id)?
        {
            node
        } else {
            return None;
        };
        node.children.iter().map(|(slot, child)| Some((*slot, child.digest()?))).collect()
    }

    /// What lies at `id`, which is below the root.
    fn child(&self, id: NodeId) -> Option<&Child> {
        let first_page = id.first_page();
        let mut node = &self.root;
        for level in (id.level + 1..=ROOT_LEVEL).rev() {
            let child = node.child(NodeId::slot(level, first_page))?;
            match child {
                _ if level == id.level + 1 => return Some(child),
                Child::Node(below) => node = below,
                Child::Page(..) => return None,
            }
        }
        None
    }

    /// All pages, ascending by index.
    pub(crate) fn pages(&self) -> Vec<(u32, &Page)> {
        let mut pages = Vec::new();
        collect(&self.root, NodeId::ROOT, &mut |index, page| pages.push((index, page)));
        pages
    }

    /// The indexes of the pages that differ from those of `other`, ascending. Both are refreshed.
    pub(crate) fn differing(&self, other: &Self) -> Vec<u32> {
        let mut indexes = Vec::new();
        compare(&self.root, &other.root, NodeId::ROOT, &mut indexes);
        indexes
    }

    /// The pages of both, of which `upper`'s all lie in later children of the root.
    pub(crate) fn joined(&self, upper: &Self) -> Self {
        let children = self.root.children.iter().chain(&upper.root.children).cloned().collect();
        Self { root: Arc::new(Node { digest: None, children }) }
    }

    /// The pages below `index`, where a child of the root begins, and those from there on.
    pub(crate) fn split(&self, index: u32) -> (Self, Self) {
        let slot = NodeId::slot(ROOT_LEVEL, index);
        let (lower, upper) = self.root.children.split_at(self.root.find(slot).unwrap_or_else(|at| at));
        let tree = |children: &[(u8, Child)]| {
            let mut tree = Self { root: Arc::new(Node { digest: None, children: children.to_vec() }) };
            tree.refresh();
            tree
        };
        (tree(lower), tree(upper))
    }

    /// The pages that have the digests they are thought to have: all, unless memory went bad.
    pub(crate) fn intact(&self) -> Self {
        let mut intact = self.clone();
        collect(&self.root, NodeId::ROOT, &mut |index, page| {
            if self.digest(NodeId { level: 0, index }) != Some(page_digest(index, page)) {
                intact.remove(index);
            }
        });
        intact.refresh();
        intact
    }
}

#[cfg(test)]
impl PageTree {
    /// This tree with other bytes on page `index` and all digests as they were.
    pub(crate) fn with_corrupted_page(&self, index: u32) -> Self {
        fn corrupt(node: &mut Arc<Node>, level: u8, index: u32) {
            let slot = NodeId::slot(level, index);
            let children = &mut Arc::make_mut(node).children;
            match children.iter_mut().find(|(s, _)| *s == slot) {
                Some((_, Child::Node(below))) => corrupt(below, level - 1, index),
                Some((_, Child::Page(_, page))) => *page = [0xba].as_slice().into(),
                None => panic!("there is no page {index}"),
            }
        }
        let mut tree = self.clone();
        corrupt(&mut tree.root, ROOT_LEVEL, index);
        tree
    }
}

fn set_below(node: &mut Arc<Node>, level: u8, index: u32, page: Child) {
    let node = Arc::make_mut(node);
    node.digest = None;
    let slot = NodeId::slot(level, index);
    let found = node.find(slot);
    if level == 1 {
        match found {
            Ok(at) => node.children[at].1 = page,
            Err(at) => node.insert(at, slot, page),
        }
        return;
    }
    let at = found.unwrap_or_else(|at| {
        node.insert(at, slot, Child::Node(Arc::default()));
        at
    });
    match &mut node.children[at].1 {
        Child::Node(below) => set_below(below, level - 1, index, page),
        Child::Page(..) => unreachable!("pages lie at level 0 only"),
    }
}

/// Removes `id` from below `node`, and nodes that thereby become empty.
fn remove_below(node: &mut Arc<Node>, level: u8, id: NodeId) {
    let Ok(at) = node.find(NodeId::slot(level, id.first_page())) else {
        return;
    };
    let node = Arc::make_mut(node);
    node.digest = None;
    if level == id.level + 1 {
        node.children.remove(at);
        return;
    }
    if let Child::Node(below) = &mut node.children[at].1 {
        remove_below(below, level - 1, id);
        if below.children.is_empty() {
            node.children.remove(at);
        }
    }
}

fn refresh(node: &mut Arc<Node>, id: NodeId, scratch: &mut NodeDigest) -> Digest {
    if let Some(digest) = node.digest {
        return digest;
    }
    let node = Arc::make_mut(node);
    for (slot, child) in &mut node.children {
        let below = id.child(*slot);
        match child {
            Child::Node(node) => {
                refresh(node, below, scratch);
            }
            Child::Page(digest, page) => {
                digest.get_or_insert_with(|| page_digest(below.index, page));
            }
        }
    }
    for (slot, child) in &node.children {
        scratch.child(*slot, &child.digest().expect("it was just computed"));
    }
    *node.digest.insert(scratch.finish(id))
}

fn collect<'a>(node: &'a Node, id: NodeId, visit: &mut impl FnMut(u32, &'a Page)) {
    for (slot, child) in &node.children {
        collect_child(child, id.child(*slot), visit);
    }
}

fn collect_child<'a>(child: &'a Child, id: NodeId, visit: &mut impl FnMut(u32, &'a Page)) {
    match child {
        Child::Node(below) => collect(below, id, visit),
        Child::Page(_, page) => visit(id.index, page),
    }
}

/// Takes down which pages differ below two nodes that both lie at `id`.
fn compare(one: &Node, other: &Node, id: NodeId, indexes: &mut Vec<u32>) {
    let (mut left, mut right) = (one.children.iter().peekable(), other.children.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let a = left.next_if(|_| order.is_le());
        let b = right.next_if(|_| order.is_ge());
        match (a, b) {
            (Some((_, a)), Some((_, b))) if a.digest() == b.digest() => {}
            (Some((slot, Child::Node(a))), Some((_, Child::Node(b)))) => {
                compare(a, b, id.child(*slot), indexes);
            }
            (Some((slot, child)), _) | (None, Some((slot, child))) => {
                collect_child(child, id.child(*slot), &mut |index, _| indexes.push(index));
            }
            (None, None) => unreachable!("one of the two comes next"),
        }
    }
}
