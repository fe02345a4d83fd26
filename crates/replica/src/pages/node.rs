use alloc::vec::Vec;
use althing_crypto::hash_parts;
use althing_types::Digest;
use borsh::{BorshDeserialize, BorshSerialize};

/// How many low bits of a page's index a node of each level leaves open; a page is of level 0.
///
/// The nodes at the bottom are narrow: a page that changed costs their digests, and a replica that
/// fetches it costs their children. Those at the top are wide: each level costs a round trip.
const OPEN_BITS: [u32; 6] = [0, 4, 8, 16, 24, 32];

/// The root's level.
pub(crate) const ROOT_LEVEL: u8 = OPEN_BITS.len() as u8 - 1;

/// The children of a node: each child's place below it, ascending, with its digest.
pub(crate) type Children = Vec<(u8, Digest)>;

/// The place of a node of the page tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct NodeId {
    /// 1 for the parents of pages; the root has the highest.
    pub level: u8,
    /// The place among the nodes of that level.
    pub index: u32,
}

impl NodeId {
    pub(crate) const ROOT: Self = Self { level: ROOT_LEVEL, index: 0 };

    /// The node below this one at `slot`; at level 1 the index is that of a page.
    pub(crate) fn child(self, slot: u8) -> Self {
        let level = self.level - 1;
        let bits = OPEN_BITS[usize::from(self.level)] - OPEN_BITS[usize::from(level)];
        Self { level, index: (self.index << bits) | u32::from(slot) }
    }

    /// The nodes among its children, which pages are not, with their digests.
    pub(crate) fn nodes_below(self, children: &Children) -> impl Iterator<Item = (Self, Digest)> {
        let nodes = if self.level > 1 { &children[..] } else { &[] };
        nodes.iter().map(move |(slot, digest)| (self.child(*slot), *digest))
    }

    pub(crate) fn is_valid(self) -> bool {
        let Some(open) = OPEN_BITS.get(usize::from(self.level)) else { return false };
        self.level > 0 && (u64::from(self.index) << open) >> u32::BITS == 0
    }

    /// The first page that can lie below it.
    pub(crate) fn first_page(self) -> u32 {
        self.index.checked_shl(OPEN_BITS[usize::from(self.level)]).unwrap_or(0)
    }

    /// Where below a node of `level` the page `index` lies.
    pub(crate) fn slot(level: u8, page: u32) -> u8 {
        let (top, bottom) = (OPEN_BITS[usize::from(level)], OPEN_BITS[usize::from(level) - 1]);
        ((page >> bottom) & ((1 << (top - bottom)) - 1)) as u8
    }
}

/// The digest of a page: no other page, and nothing but a page, has it.
pub(crate) fn page_digest(index: u32, bytes: &[u8]) -> Digest {
    Scratch::default().page_digest(index, bytes)
}

/// The digest of an interior node.
pub(crate) fn node_digest(id: NodeId, children: &Children) -> Digest {
    Scratch::default().node_digest(id, children.iter().copied())
}

/// Computes one digest after the other, without a place in memory for each.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The canonical encoding of a node's children, but for their number.
    children: Vec<u8>,
    buffer: Vec<u8>,
}

impl Scratch {
    /// As [`page_digest`].
    pub(super) fn page_digest(&mut self, index: u32, bytes: &[u8]) -> Digest {
        hash_parts("althing state page", &[&index.to_le_bytes(), bytes], &mut self.buffer)
    }

    /// As [`node_digest`].
    pub(super) fn node_digest(
        &mut self,
        id: NodeId,
        children: impl ExactSizeIterator<Item = (u8, Digest)>,
    ) -> Digest {
        let count = children.len() as u32;
        self.children.clear();
        for (slot, digest) in children {
            self.children.push(slot);
            self.children.extend_from_slice(&digest.0);
        }
        let [a, b, c, d] = id.index.to_le_bytes();
        let parts: [&[u8]; 3] = [&[id.level, a, b, c, d], &count.to_le_bytes(), &self.children];
        hash_parts("althing state node", &parts, &mut self.buffer)
    }
}
