//! The state as a Merkle tree of numbered pages (TOCS'02 §5.3, "partition tree").
//!
//! Differences from the paper: the index space is sparse and the depth fixed, so that the engine's
//! pages and the service's grow without moving each other; and instead of copying pages on the
//! first write after a checkpoint, the tree itself is persistent, so a checkpoint is a clone of its
//! root and shares whatever has not changed since.

use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_crypto::Hasher;
use althing_types::Digest;
use borsh::{BorshDeserialize, BorshSerialize};

/// Levels of interior nodes: pages are level 0, the root is this level.
pub(crate) const ROOT_LEVEL: u8 = 4;

/// The children of a node: each child's place below it, 0..256, ascending, with its digest.
pub(crate) type Children = Vec<(u8, Digest)>;

/// An interior node's place. At level `l` it covers the pages whose index shifted right by `8 l`
/// bits is `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct NodeId {
    /// 1 for the parents of pages, 4 for the root.
    pub level: u8,
    /// The place among the nodes of that level.
    pub index: u32,
}

impl NodeId {
    pub(crate) const ROOT: Self = Self { level: ROOT_LEVEL, index: 0 };

    /// The node below this one at `slot`; at level 1 the index is that of a page.
    pub(crate) fn child(self, slot: u8) -> Self {
        Self { level: self.level - 1, index: (self.index << 8) | u32::from(slot) }
    }

    fn is_valid(self) -> bool {
        match self.level {
            1..ROOT_LEVEL => self.index >> (8 * u32::from(ROOT_LEVEL - self.level)) == 0,
            ROOT_LEVEL => self.index == 0,
            _ => false,
        }
    }

    /// Where below a node of `level` the page `index` lies.
    fn slot(level: u8, page: u32) -> u8 {
        page.to_le_bytes()[usize::from(level) - 1]
    }
}

/// The digest of a page: no other page, and nothing but a page, has it.
pub(crate) fn page_digest(index: u32, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new("althing state page");
    hasher.value(&index);
    hasher.bytes(bytes);
    hasher.finish()
}

/// The digest of an interior node.
pub(crate) fn node_digest(id: NodeId, children: &Children) -> Digest {
    let mut hasher = Hasher::new("althing state node");
    hasher.value(&id);
    hasher.value(children);
    hasher.finish()
}

#[derive(Debug, Clone)]
enum Child {
    Node(Arc<Node>),
    Page(Digest, Arc<[u8]>),
}

/// An interior node. `digest` is `None` from a change below it until the next [`PageTree::refresh`].
#[derive(Debug, Clone, Default)]
struct Node {
    digest: Option<Digest>,
    children: Vec<(u8, Child)>,
}

impl Node {
    fn child(&self, slot: u8) -> Option<&Child> {
        let at = self.children.binary_search_by_key(&slot, |(s, _)| *s).ok()?;
        Some(&self.children[at].1)
    }
}

/// The pages of a state, with their digests. Cloning is cheap and shares everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct PageTree {
    root: Arc<Node>,
}

impl PageTree {
    /// Replaces page `index`. A page that is unchanged costs its digest and dirties nothing.
    pub(crate) fn set(&mut self, index: u32, bytes: Arc<[u8]>) {
        let digest = page_digest(index, &bytes);
        if self.page_with_digest(index).is_none_or(|(old, _)| old != digest) {
            set_below(&mut self.root, ROOT_LEVEL, index, Child::Page(digest, bytes));
        }
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
    pub(crate) fn page(&self, index: u32) -> Option<&Arc<[u8]>> {
        self.page_with_digest(index).map(|(_, bytes)| bytes)
    }

    fn page_with_digest(&self, index: u32) -> Option<(Digest, &Arc<[u8]>)> {
        let mut node = &self.root;
        for level in (1..=ROOT_LEVEL).rev() {
            match node.child(NodeId::slot(level, index))? {
                Child::Node(below) => node = below,
                Child::Page(digest, bytes) => return Some((*digest, bytes)),
            }
        }
        None
    }

    /// Computes the digests of all nodes above changed pages, and returns the root's.
    pub(crate) fn refresh(&mut self) -> Digest {
        refresh(&mut self.root, NodeId::ROOT)
    }

    /// The digest of the node or page `id` as of the last refresh.
    pub(crate) fn digest(&self, id: NodeId) -> Option<Digest> {
        if id.level == 0 {
            return self.page_with_digest(id.index).map(|(digest, _)| digest);
        }
        self.node(id)?.digest
    }

    /// The children of node `id` as of the last refresh; `None` where there is no such node.
    pub(crate) fn children(&self, id: NodeId) -> Option<Children> {
        let node = self.node(id)?;
        node.children
            .iter()
            .map(|(slot, child)| {
                Some((
                    *slot,
                    match child {
                        Child::Node(below) => below.digest?,
                        Child::Page(digest, _) => *digest,
                    },
                ))
            })
            .collect()
    }

    fn node(&self, id: NodeId) -> Option<&Node> {
        if !id.is_valid() {
            return None;
        }
        let first_page = id.index.checked_shl(8 * u32::from(id.level)).unwrap_or(0);
        let mut node = &self.root;
        for level in (id.level + 1..=ROOT_LEVEL).rev() {
            match node.child(NodeId::slot(level, first_page))? {
                Child::Node(below) => node = below,
                Child::Page(..) => return None,
            }
        }
        Some(node)
    }

    /// All pages, ascending by index.
    pub(crate) fn pages(&self) -> Vec<(u32, &Arc<[u8]>)> {
        let mut pages = Vec::new();
        collect(&self.root, NodeId::ROOT, &mut pages);
        pages
    }

    /// The root's digest, computed from nothing but the pages' bytes.
    pub(crate) fn recomputed_root(&self) -> Digest {
        let mut fresh = Self::default();
        for (index, bytes) in self.pages() {
            fresh.set(index, bytes.clone());
        }
        fresh.refresh()
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
                Some((_, Child::Page(_, bytes))) => *bytes = Arc::from([0xba].as_slice()),
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
    let found = node.children.binary_search_by_key(&slot, |(s, _)| *s);
    if level == 1 {
        match found {
            Ok(at) => node.children[at].1 = page,
            Err(at) => node.children.insert(at, (slot, page)),
        }
        return;
    }
    let at = found.unwrap_or_else(|at| {
        node.children.insert(at, (slot, Child::Node(Arc::default())));
        at
    });
    match &mut node.children[at].1 {
        Child::Node(below) => set_below(below, level - 1, index, page),
        Child::Page(..) => unreachable!("pages lie at level 0 only"),
    }
}

/// Removes `id` from below `node`, and nodes that thereby become empty.
fn remove_below(node: &mut Arc<Node>, level: u8, id: NodeId) {
    let first_page = id.index.checked_shl(8 * u32::from(id.level)).unwrap_or(0);
    let slot = NodeId::slot(level, first_page);
    let Ok(at) = node.children.binary_search_by_key(&slot, |(s, _)| *s) else {
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

fn refresh(node: &mut Arc<Node>, id: NodeId) -> Digest {
    if let Some(digest) = node.digest {
        return digest;
    }
    let node = Arc::make_mut(node);
    let children = node
        .children
        .iter_mut()
        .map(|(slot, child)| {
            (
                *slot,
                match child {
                    Child::Node(below) => refresh(below, id.child(*slot)),
                    Child::Page(digest, _) => *digest,
                },
            )
        })
        .collect();
    let digest = node_digest(id, &children);
    node.digest = Some(digest);
    digest
}

fn collect<'a>(node: &'a Node, id: NodeId, pages: &mut Vec<(u32, &'a Arc<[u8]>)>) {
    for (slot, child) in &node.children {
        match child {
            Child::Node(below) => collect(below, id.child(*slot), pages),
            Child::Page(_, bytes) => pages.push((id.child(*slot).index, bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    /// The tree's digest, computed from a plain map by the definition.
    fn model_root(pages: &BTreeMap<u32, Vec<u8>>) -> Digest {
        let mut level: BTreeMap<u32, Digest> =
            pages.iter().map(|(i, bytes)| (*i, page_digest(*i, bytes))).collect();
        for l in 1..=ROOT_LEVEL {
            let mut above: BTreeMap<u32, Children> = BTreeMap::new();
            for (index, digest) in &level {
                above.entry(index >> 8).or_default().push(((index & 0xff) as u8, *digest));
            }
            level = above
                .iter()
                .map(|(i, children)| (*i, node_digest(NodeId { level: l, index: *i }, children)))
                .collect();
        }
        level.get(&0).copied().unwrap_or_else(|| node_digest(NodeId::ROOT, &Vec::new()))
    }

    fn index() -> impl Strategy<Value = u32> {
        prop_oneof![0u32..4, 250u32..260, 65_530u32..65_540, any::<u32>()]
    }

    #[derive(Debug, Clone)]
    enum Step {
        Set(u32, Vec<u8>),
        Remove(u32),
        Refresh,
        Keep,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (index(), proptest::collection::vec(any::<u8>(), 0..4)).prop_map(|(i, b)| Step::Set(i, b)),
            2 => index().prop_map(Step::Remove),
            1 => Just(Step::Refresh),
            1 => Just(Step::Keep),
        ]
    }

    proptest! {
        #[test]
        fn incremental_roots_equal_the_definition(steps in proptest::collection::vec(step(), 0..60)) {
            let mut tree = PageTree::default();
            let mut model = BTreeMap::new();
            let mut kept = Vec::new();
            for step in steps {
                match step {
                    Step::Set(i, bytes) => {
                        tree.set(i, bytes.clone().into());
                        model.insert(i, bytes);
                    }
                    Step::Remove(i) => {
                        tree.remove(i);
                        model.remove(&i);
                    }
                    Step::Refresh => prop_assert_eq!(tree.refresh(), model_root(&model)),
                    Step::Keep => kept.push((tree.clone(), model.clone())),
                }
            }
            prop_assert_eq!(tree.refresh(), model_root(&model));
            prop_assert_eq!(tree.recomputed_root(), model_root(&model));
            // Checkpoints kept on the way are untouched by what came later.
            for (mut tree, model) in kept {
                prop_assert_eq!(tree.refresh(), model_root(&model));
                let pages: BTreeMap<_, _> = tree.pages().into_iter().map(|(i, b)| (i, b.to_vec())).collect();
                prop_assert_eq!(pages, model);
            }
        }

        #[test]
        fn any_change_of_any_page_changes_the_root(
            pages in proptest::collection::btree_map(index(), proptest::collection::vec(any::<u8>(), 1..8), 1..20),
            pick in any::<prop::sample::Index>(),
            byte in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let mut tree = PageTree::default();
            for (i, bytes) in &pages {
                tree.set(*i, bytes.clone().into());
            }
            let before = tree.refresh();
            let (i, bytes) = pages.iter().nth(pick.index(pages.len())).unwrap();
            let mut changed = bytes.clone();
            changed[byte.index(bytes.len())] ^= 1 << bit;
            let mut other = tree.clone();
            other.set(*i, changed.into());
            prop_assert_ne!(other.refresh(), before);
            let mut moved = tree.clone();
            moved.remove(*i);
            prop_assert_ne!(moved.refresh(), before);
            other.set(*i, bytes.clone().into());
            prop_assert_eq!(other.refresh(), before);
        }
    }

    #[test]
    fn nodes_are_found_by_place_and_invalid_places_are_nothing() {
        let mut tree = PageTree::default();
        tree.set(0x0102_0304, [7u8].as_slice().into());
        tree.refresh();
        for (level, index) in [(4, 0), (3, 1), (2, 0x0102), (1, 0x0001_0203)] {
            let id = NodeId { level, index };
            let children = tree.children(id).unwrap();
            assert_eq!(tree.digest(id), Some(node_digest(id, &children)));
        }
        for (level, index) in [(0, 0), (5, 0), (4, 1), (3, 256), (2, 0x1_0000), (1, 0x100_0000), (1, 0)] {
            assert_eq!(tree.children(NodeId { level, index }), None, "{level} {index}");
        }
        tree.remove_all(NodeId { level: 2, index: 0x0102 });
        assert!(tree.pages().is_empty());
        assert_eq!(tree.refresh(), PageTree::default().refresh());
    }
}
