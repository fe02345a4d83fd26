use super::supplier::node_bytes;
use super::{MAX_NODES_PER_FETCH, MAX_PAGES_PER_FETCH, Parts, Want};
use crate::MAX_PAGES;
use crate::client_table::ClientTable;
use crate::pages::{Children, NodeId, Page, PageTree, node_digest, page_digest};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use althing_types::Digest;

/// Parts of a state that one replica is asked for, with the digests that they have to have.
#[derive(Debug, Clone)]
pub(crate) enum Share {
    Nodes(Vec<(NodeId, Digest)>),
    Pages(Vec<(u32, Digest)>),
}

impl Share {
    /// Nodes come first: what lies below them is not known yet.
    fn of(nodes: Vec<(NodeId, Digest)>, pages: impl FnOnce() -> Vec<(u32, Digest)>) -> Option<Self> {
        if !nodes.is_empty() {
            return Some(Self::Nodes(nodes));
        }
        let pages = pages();
        (!pages.is_empty()).then_some(Self::Pages(pages))
    }

    pub(crate) fn want(&self) -> Want {
        match self {
            Self::Nodes(nodes) => Want::Nodes(nodes.iter().map(|(id, _)| *id).collect()),
            Self::Pages(pages) => Want::Pages(pages.iter().map(|(index, _)| *index).collect()),
        }
    }
}

/// How much of a state is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of it.
    Whole,
    /// What a witness takes down: the engine's pages, without what clients were told.
    Hollow,
}

impl Scope {
    /// Whether anything below a node or page is wanted. What is and what is not lie below different children of the
    /// root.
    fn has(self, id: NodeId) -> bool {
        let first = id.first_page();
        self == Self::Whole
            || id == NodeId::ROOT
            || (first >= MAX_PAGES && ClientTable::is_without_spills(first))
    }
}

/// What a transfer has of its target, and what it still lacks.
#[derive(Debug)]
pub(crate) struct Missing {
    scope: Scope,
    root: Digest,
    /// What this replica had when it started.
    base: PageTree,
    /// Verified, with the digests they were verified against.
    nodes: BTreeMap<NodeId, (Digest, Children)>,
    pages: BTreeMap<u32, (Digest, Page)>,
    /// Known to be needed, and not here.
    wanted_nodes: BTreeMap<NodeId, Digest>,
    wanted_pages: BTreeMap<u32, Digest>,
    /// Asked of a replica that is expected to answer: nobody else is asked for them meanwhile.
    asked_nodes: BTreeSet<NodeId>,
    asked_pages: BTreeSet<u32>,
    fetched_bytes: u64,
}

impl Missing {
    /// What `base` lacks of the state with digest `root`.
    pub(crate) fn new(root: Digest, base: PageTree) -> Self {
        Self::within(Scope::Whole, root, base)
    }

    /// What `base` lacks of a part of it. What is no part of it `base` must not have.
    pub(crate) fn within(scope: Scope, root: Digest, mut base: PageTree) -> Self {
        base.refresh();
        let mut missing = Self {
            scope,
            root,
            base,
            nodes: BTreeMap::new(),
            pages: BTreeMap::new(),
            wanted_nodes: BTreeMap::new(),
            wanted_pages: BTreeMap::new(),
            asked_nodes: BTreeSet::new(),
            asked_pages: BTreeSet::new(),
            fetched_bytes: 0,
        };
        missing.expand(NodeId::ROOT, root);
        missing
    }

    pub(super) fn scope(&self) -> Scope {
        self.scope
    }

    pub(super) fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes
    }

    #[cfg(test)]
    pub(super) fn pages_held(&self) -> usize {
        self.pages.len()
    }

    /// Finds out what is missing of another state instead.
    pub(crate) fn retarget(&mut self, root: Digest) {
        self.root = root;
        self.wanted_nodes.clear();
        self.wanted_pages.clear();
        self.expand(NodeId::ROOT, root);
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.wanted_nodes.is_empty() && self.wanted_pages.is_empty()
    }

    /// A share of what nobody has been asked for, where `askable` replicas can be asked; `None` where
    /// there is nothing. What is reserved is open to nobody else until it is released. What is not is
    /// taken from the other end, where others come last.
    pub(crate) fn share(&self, askable: usize, is_reserved: bool) -> Option<Share> {
        let nodes = pick(&self.wanted_nodes, &self.asked_nodes, (askable, MAX_NODES_PER_FETCH), is_reserved);
        let pages =
            || pick(&self.wanted_pages, &self.asked_pages, (askable, MAX_PAGES_PER_FETCH), is_reserved);
        Share::of(nodes, pages)
    }

    /// A share of what is reserved for others, for one that has nothing else to do; `None` where nothing
    /// is missing.
    pub(super) fn share_of_others(&self, askable: usize) -> Option<Share> {
        let none = (BTreeSet::new(), BTreeSet::new());
        let nodes = pick(&self.wanted_nodes, &none.0, (askable, MAX_NODES_PER_FETCH), true);
        let pages = || pick(&self.wanted_pages, &none.1, (askable, MAX_PAGES_PER_FETCH), true);
        Share::of(nodes, pages)
    }

    pub(super) fn reserve(&mut self, share: &Share) {
        match share {
            Share::Nodes(nodes) => self.asked_nodes.extend(nodes.iter().map(|(id, _)| *id)),
            Share::Pages(pages) => self.asked_pages.extend(pages.iter().map(|(index, _)| *index)),
        }
    }

    pub(super) fn release(&mut self, share: &Share) {
        match share {
            Share::Nodes(nodes) => {
                for (id, _) in nodes {
                    self.asked_nodes.remove(id);
                }
            }
            Share::Pages(pages) => {
                for (index, _) in pages {
                    self.asked_pages.remove(index);
                }
            }
        }
    }

    /// Keeps `parts` if all are right, as the first of `share` and what follows it; nothing of an answer
    /// with a wrong one is kept. Says whether they were.
    pub(crate) fn take(&mut self, share: &Share, parts: Parts) -> bool {
        match (share, parts) {
            (Share::Nodes(share), Parts::Nodes(nodes)) => self.take_nodes(share, nodes),
            (Share::Pages(share), Parts::Pages(pages)) => self.take_pages(share, pages),
            _ => false,
        }
    }

    fn take_nodes(&mut self, share: &[(NodeId, Digest)], nodes: Vec<Children>) -> bool {
        // What lies below what was asked for follows in this order.
        let mut order = share.to_vec();
        for (at, children) in nodes.iter().enumerate() {
            match order.get(at).copied() {
                Some((id, digest)) if node_digest(id, children) == digest => {
                    order.extend(id.nodes_below(children));
                }
                _ => return false,
            }
        }
        order.truncate(nodes.len());
        for ((id, digest), children) in order.iter().zip(nodes) {
            self.fetched_bytes += node_bytes(&children) as u64;
            if self.wanted_nodes.get(id) == Some(digest) {
                self.wanted_nodes.remove(id);
                self.nodes.insert(*id, (*digest, children));
                // What is missing below is wanted from here on, and may come next.
                self.expand(*id, *digest);
            } else if self.base.digest(*id) != Some(*digest) {
                // Of an earlier target: it must not take the place of what this one consists of.
                self.nodes.entry(*id).or_insert((*digest, children));
            }
        }
        !order.is_empty()
    }

    fn take_pages(&mut self, share: &[(u32, Digest)], pages: Vec<Vec<u8>>) -> bool {
        let is_right =
            |((index, digest), bytes): (&(u32, Digest), &Vec<u8>)| page_digest(*index, bytes) == *digest;
        if pages.is_empty() || pages.len() > share.len() || !share.iter().zip(&pages).all(is_right) {
            return false;
        }
        for ((index, digest), bytes) in share.iter().zip(pages) {
            self.fetched_bytes += bytes.len() as u64;
            if self.wanted_pages.get(index) == Some(digest) {
                self.wanted_pages.remove(index);
                self.pages.insert(*index, (*digest, bytes.into()));
            } else {
                // As with nodes.
                self.pages.entry(*index).or_insert_with(|| (*digest, bytes.into()));
            }
        }
        true
    }

    /// Finds out what is missing below `id`, which has to have `digest`.
    fn expand(&mut self, id: NodeId, digest: Digest) {
        if self.base.digest(id) == Some(digest) || !self.scope.has(id) {
            return;
        }
        if id.level == 0 {
            if self.pages.get(&id.index).is_none_or(|(kept, _)| *kept != digest) {
                self.wanted_pages.insert(id.index, digest);
            }
            return;
        }
        match self.nodes.get(&id) {
            Some((kept, children)) if *kept == digest => {
                for (slot, below) in children.clone() {
                    self.expand(id.child(slot), below);
                }
            }
            _ => {
                self.wanted_nodes.insert(id, digest);
            }
        }
    }

    /// The target's state from the base and what was fetched. Nothing may be missing.
    pub(crate) fn assemble(&self) -> PageTree {
        let mut tree = self.base.clone();
        self.apply(NodeId::ROOT, self.root, &mut tree);
        let is_right = tree.refresh() == self.root || self.scope != Scope::Whole;
        assert!(is_right, "each part has the digest that the target asks for");
        tree
    }

    fn apply(&self, id: NodeId, digest: Digest, tree: &mut PageTree) {
        if self.base.digest(id) == Some(digest) || !self.scope.has(id) {
            return;
        }
        if id.level == 0 {
            let (verified, page) = &self.pages[&id.index];
            assert_eq!(*verified, digest, "a page is the one that the target asks for");
            tree.set_verified(id.index, page.clone(), digest);
            return;
        }
        let (verified, children) = &self.nodes[&id];
        assert_eq!(*verified, digest, "a node is the one that the target asks for");
        for (slot, _) in self.base.children(id).unwrap_or_default() {
            if children.binary_search_by_key(&slot, |(s, _)| *s).is_err() {
                tree.remove_all(id.child(slot));
            }
        }
        for (slot, below) in children {
            self.apply(id.child(*slot), *below, tree);
        }
    }
}

/// Some of `wanted` that are not `asked`, from the front or from the back: one replica's share where
/// `askable` can be asked, and at most `most`.
fn pick<K: Ord + Copy>(
    wanted: &BTreeMap<K, Digest>,
    asked: &BTreeSet<K>,
    (askable, most): (usize, usize),
    is_from_front: bool,
) -> Vec<(K, Digest)> {
    let fair = wanted.len().saturating_sub(asked.len()).div_ceil(askable).clamp(1, most);
    let open = wanted.iter().filter(|(key, _)| !asked.contains(key)).map(|(key, digest)| (*key, *digest));
    if is_from_front { open.take(fair).collect() } else { open.rev().take(fair).collect() }
}
