//! The Merkle tree of numbered pages (TOCS'02 §5.3, "partition tree").
//!
//! Differences from the paper: the index space is sparse and the depth fixed, so that the engine's
//! pages and the service's grow without moving each other; and instead of copying pages on the
//! first write after a checkpoint, the tree itself is persistent, so a checkpoint is a clone of its
//! root and shares whatever has not changed since.

use super::node::{Children, NodeId, ROOT_LEVEL, Scratch, page_digest};
use super::page::Page;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::Digest;
use core::cmp::Ordering;
use core::hint::black_box;

/// How many paths are fetched from memory together: what is fetched has to stay in a fast cache until it is
/// used.
const FETCHED_TOGETHER: usize = 16;

/// So many children are few.
const FEW: usize = 4;

/// A node or a page below a node.
#[derive(Debug, Clone)]
struct Child {
    slot: u8,
    /// `None` from a change of it or below it until the next [`PageTree::refresh`].
    digest: Option<Digest>,
    below: Below,
}

#[derive(Debug, Clone)]
enum Below {
    Node(Arc<Node>),
    Page(Page),
}

/// An interior node: its children, ascending by slot. Their digests lie beside each other here, so that
/// its own is computed without a look at the children that have not changed.
#[derive(Debug, Default)]
struct Node {
    children: Vec<Child>,
}

impl Node {
    /// Puts in a child. A node with a few has no room to spare: most have one, where the numbers of pages
    /// are far apart.
    fn insert(&mut self, at: usize, child: Child) {
        if self.children.len() < FEW {
            self.children.reserve_exact(1);
        }
        self.children.insert(at, child);
    }

    fn find(&self, slot: u8) -> Result<usize, usize> {
        self.children.binary_search_by_key(&slot, |child| child.slot)
    }

    fn child(&self, slot: u8) -> Option<&Child> {
        Some(&self.children[self.find(slot).ok()?])
    }

    /// The node below at `slot`, if there is one.
    fn node(&self, slot: u8) -> Option<&Self> {
        match &self.child(slot)?.below {
            Below::Node(node) => Some(node),
            Below::Page(_) => None,
        }
    }

    /// Has all that the children's reference counts lie in fetched from memory at once. Counting waits for
    /// one after the other, since nothing overtakes an atomic operation, and they lie anywhere.
    fn fetch_counts(&self) {
        let beside = |child: &Child| match &child.below {
            Below::Node(node) => node.children.len(),
            Below::Page(page) => page.first().copied().map_or(0, usize::from),
        };
        black_box(self.children.iter().map(beside).fold(0, usize::wrapping_add));
    }
}

impl Clone for Node {
    fn clone(&self) -> Self {
        self.fetch_counts();
        Self { children: self.children.clone() }
    }
}

/// The pages of a state, with their digests. Cloning is cheap and shares everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct PageTree {
    root: Box<Root>,
}

#[derive(Debug, Clone, Default)]
struct Root {
    /// As a child's.
    digest: Option<Digest>,
    node: Arc<Node>,
}

impl Root {
    fn of(children: Vec<Child>) -> Box<Self> {
        Box::new(Self { digest: None, node: Arc::new(Node { children }) })
    }
}

impl PageTree {
    /// Puts a page in place `index`. One that is equal to what lies there dirties nothing.
    pub(crate) fn set(&mut self, index: u32, page: impl Into<Page>) {
        let page = page.into();
        let is_equal = |old: &Page| old.is_same(&page) || *old == page;
        if !self.page(index).is_some_and(is_equal) {
            self.put(index, page, None);
        }
    }

    /// Puts a page in place `index` that has been found to have `digest`.
    pub(crate) fn set_verified(&mut self, index: u32, page: Page, digest: Digest) {
        self.put(index, page, Some(digest));
    }

    fn put(&mut self, index: u32, page: Page, digest: Option<Digest>) {
        self.root.digest = None;
        set_below(&mut self.root.node, ROOT_LEVEL, index, digest, page);
    }

    /// Sets or removes pages, one after the other: cheaper where many ascend by index.
    pub(crate) fn update(&mut self, changes: impl IntoIterator<Item = (u32, Option<Page>)>) {
        let mut changes = changes.into_iter();
        loop {
            let some: Vec<(u32, Option<Page>)> = changes.by_ref().take(FETCHED_TOGETHER).collect();
            if some.is_empty() {
                return;
            }
            self.fetch(&some);
            for (index, page) in some {
                match page {
                    Some(page) => self.set(index, page),
                    None => self.remove(index),
                }
            }
        }
    }

    /// Has the nodes on the way to these pages fetched from memory, those of a level at once: each lies
    /// somewhere else, and the processor waits for several as long as for one.
    fn fetch(&self, changes: &[(u32, Option<Page>)]) {
        let mut nodes: Vec<(u32, &Node)> =
            changes.iter().map(|(index, _)| (*index, &*self.root.node)).collect();
        for level in (2..=ROOT_LEVEL).rev() {
            nodes = nodes
                .into_iter()
                .filter_map(|(index, node)| Some((index, node.node(NodeId::slot(level, index))?)))
                .collect();
            black_box(nodes.iter().map(|(_, node)| node.children.len()).fold(0, usize::wrapping_add));
            // Those above are few and have many children.
            if level <= 3 {
                nodes.iter().for_each(|(_, node)| node.fetch_counts());
            }
        }
    }

    /// Removes page `index`, if there is one.
    pub(crate) fn remove(&mut self, index: u32) {
        if self.page(index).is_some() {
            self.remove_all(NodeId { level: 0, index });
        }
    }

    /// Removes all pages below the node or page `id`.
    pub(crate) fn remove_all(&mut self, id: NodeId) {
        if remove_below(&mut self.root.node, ROOT_LEVEL, id) {
            self.root.digest = None;
        }
    }

    /// The bytes of page `index`.
    pub(crate) fn page(&self, index: u32) -> Option<&Page> {
        match &self.child(NodeId { level: 0, index })?.below {
            Below::Page(page) => Some(page),
            Below::Node(_) => None,
        }
    }

    /// Computes the digests of all changed pages and of the nodes above them, and returns the root's.
    pub(crate) fn refresh(&mut self) -> Digest {
        *self
            .root
            .digest
            .get_or_insert_with(|| refresh(&mut self.root.node, NodeId::ROOT, &mut Scratch::default()))
    }

    /// The digest of the node or page `id` as of the last refresh.
    pub(crate) fn digest(&self, id: NodeId) -> Option<Digest> {
        if id.level == ROOT_LEVEL { self.root.digest } else { self.child(id)?.digest }
    }

    /// The children of node `id` as of the last refresh; `None` where there is no such node.
    pub(crate) fn children(&self, id: NodeId) -> Option<Children> {
        let node = if id == NodeId::ROOT {
            &self.root.node
        } else if id.is_valid()
            && let Below::Node(node) = &self.child(id)?.below
        {
            node
        } else {
            return None;
        };
        node.children.iter().map(|child| Some((child.slot, child.digest?))).collect()
    }

    /// What lies at `id`, which is below the root.
    fn child(&self, id: NodeId) -> Option<&Child> {
        let first_page = id.first_page();
        let mut node = &self.root.node;
        for level in (id.level + 1..=ROOT_LEVEL).rev() {
            let child = node.child(NodeId::slot(level, first_page))?;
            match &child.below {
                _ if level == id.level + 1 => return Some(child),
                Below::Node(below) => node = below,
                Below::Page(_) => return None,
            }
        }
        None
    }

    /// All pages, ascending by index.
    pub(crate) fn pages(&self) -> Vec<(u32, &Page)> {
        let mut pages = Vec::new();
        collect(&self.root.node, NodeId::ROOT, &mut |index, page| pages.push((index, page)));
        pages
    }

    /// The indexes of the pages that differ from those of `other`, ascending. Both are refreshed.
    pub(crate) fn differing(&self, other: &Self) -> Vec<u32> {
        let mut indexes = Vec::new();
        compare(&self.root.node, &other.root.node, NodeId::ROOT, &mut indexes);
        indexes
    }

    /// The pages of both, of which `upper`'s all lie in later children of the root.
    pub(crate) fn joined(&self, upper: &Self) -> Self {
        let children = self.root.node.children.iter().chain(&upper.root.node.children).cloned().collect();
        Self { root: Root::of(children) }
    }

    /// The pages below `index`, where a child of the root begins, and those from there on.
    pub(crate) fn split(&self, index: u32) -> (Self, Self) {
        let slot = NodeId::slot(ROOT_LEVEL, index);
        let (lower, upper) =
            self.root.node.children.split_at(self.root.node.find(slot).unwrap_or_else(|at| at));
        let tree = |children: &[Child]| {
            let mut tree = Self { root: Root::of(children.to_vec()) };
            tree.refresh();
            tree
        };
        (tree(lower), tree(upper))
    }

    /// The pages that have the digests they are thought to have: all, unless memory went bad.
    pub(crate) fn intact(&self) -> Self {
        let mut intact = self.clone();
        collect(&self.root.node, NodeId::ROOT, &mut |index, page| {
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
            let node = Arc::make_mut(node);
            let at = node.find(slot).unwrap_or_else(|_| panic!("there is no page {index}"));
            match &mut node.children[at].below {
                Below::Node(below) => corrupt(below, level - 1, index),
                Below::Page(page) => *page = [0xba].as_slice().into(),
            }
        }
        let mut tree = self.clone();
        corrupt(&mut tree.root.node, ROOT_LEVEL, index);
        tree
    }
}

fn set_below(node: &mut Arc<Node>, level: u8, index: u32, digest: Option<Digest>, page: Page) {
    let node = Arc::make_mut(node);
    let slot = NodeId::slot(level, index);
    let found = node.find(slot);
    if level == 1 {
        let child = Child { slot, digest, below: Below::Page(page) };
        match found {
            Ok(at) => node.children[at] = child,
            Err(at) => node.insert(at, child),
        }
        return;
    }
    let at = found.unwrap_or_else(|at| {
        node.insert(at, Child { slot, digest: None, below: Below::Node(Arc::default()) });
        at
    });
    let child = &mut node.children[at];
    child.digest = None;
    match &mut child.below {
        Below::Node(below) => set_below(below, level - 1, index, digest, page),
        Below::Page(_) => unreachable!("pages lie at level 0 only"),
    }
}

/// Removes `id` from below `node`, and nodes that thereby become empty. Says whether it was there.
fn remove_below(node: &mut Arc<Node>, level: u8, id: NodeId) -> bool {
    let Ok(at) = node.find(NodeId::slot(level, id.first_page())) else {
        return false;
    };
    let node = Arc::make_mut(node);
    if level == id.level + 1 {
        node.children.remove(at);
        return true;
    }
    let child = &mut node.children[at];
    let Below::Node(below) = &mut child.below else { unreachable!("pages lie at level 0 only") };
    let is_removed = remove_below(below, level - 1, id);
    if below.children.is_empty() {
        node.children.remove(at);
    } else if is_removed {
        child.digest = None;
    }
    is_removed
}

/// The digest of a node that has changed.
fn refresh(node: &mut Arc<Node>, id: NodeId, scratch: &mut Scratch) -> Digest {
    let node = Arc::make_mut(node);
    for child in &mut node.children {
        let below = id.child(child.slot);
        child.digest.get_or_insert_with(|| match &mut child.below {
            Below::Node(node) => refresh(node, below, scratch),
            Below::Page(page) => scratch.page_digest(below.index, page),
        });
    }
    let digests = node.children.iter().map(|child| (child.slot, child.digest.expect("it is there now")));
    scratch.node_digest(id, digests)
}

fn collect<'a>(node: &'a Node, id: NodeId, visit: &mut impl FnMut(u32, &'a Page)) {
    for child in &node.children {
        collect_child(child, id.child(child.slot), visit);
    }
}

fn collect_child<'a>(child: &'a Child, id: NodeId, visit: &mut impl FnMut(u32, &'a Page)) {
    match &child.below {
        Below::Node(below) => collect(below, id, visit),
        Below::Page(page) => visit(id.index, page),
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
            (Some(a), Some(b)) => a.slot.cmp(&b.slot),
        };
        let a = left.next_if(|_| order.is_le());
        let b = right.next_if(|_| order.is_ge());
        match (a, b) {
            (Some(a), Some(b)) if a.digest == b.digest => {}
            (Some(Child { slot, below: Below::Node(a), .. }), Some(Child { below: Below::Node(b), .. })) => {
                compare(a, b, id.child(*slot), indexes);
            }
            (Some(child), _) | (None, Some(child)) => {
                collect_child(child, id.child(child.slot), &mut |index, _| indexes.push(index));
            }
            (None, None) => unreachable!("one of the two comes next"),
        }
    }
}
