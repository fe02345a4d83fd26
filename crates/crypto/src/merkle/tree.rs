use super::MerkleRange;
use super::range::beside;
use crate::{Hasher, hash};
use alloc::vec::Vec;
use althing_types::Digest;
use borsh::{BorshDeserialize, BorshSerialize, io};
use core::ops::Range;

const LEAF: &str = "althing merkle leaf";
const NODE: &str = "althing merkle node";
const ROOT: &str = "althing merkle root";

/// A Merkle tree over a batch of digests, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MerkleTree {
    /// The leaves' hashes, and what is above them up to the top, which is one.
    levels: Vec<Vec<Digest>>,
}

impl MerkleTree {
    /// The most leaves of a tree.
    pub const MAX_LEAVES: usize = 1 << 16;

    /// The tree over `batch`.
    ///
    /// # Panics
    /// If there is nothing in the batch, or more than [`Self::MAX_LEAVES`].
    #[must_use]
    pub fn new(batch: &[Digest]) -> Self {
        assert!((1..=Self::MAX_LEAVES).contains(&batch.len()), "a tree of {} leaves", batch.len());
        let mut level: Vec<Digest> = batch.iter().map(leaf).collect();
        let mut levels = Vec::new();
        while level.len() > 1 {
            let above = above(&level);
            levels.push(core::mem::replace(&mut level, above));
        }
        levels.push(level);
        Self { levels }
    }

    /// How many digests are in the batch.
    #[must_use]
    pub fn leaves(&self) -> usize {
        self.levels[0].len()
    }

    /// What stands for the batch.
    #[must_use]
    pub fn root(&self) -> Digest {
        let top = self.levels.last().expect("a tree has a top")[0];
        root(number(self.leaves()), &top)
    }

    /// What shows that the digest at `index` belongs to the batch.
    ///
    /// # Panics
    /// If there is none at `index`.
    #[must_use]
    pub fn path(&self, index: usize) -> MerklePath {
        assert!(index < self.leaves(), "leaf {index} of {}", self.leaves());
        let mut place = index;
        let mut siblings = Vec::new();
        for level in &self.levels {
            siblings.extend(level.get(place ^ 1));
            place /= 2;
        }
        MerklePath { index: number(index), leaves: number(self.leaves()), siblings }
    }

    /// What shows that the digests in these places belong to the batch.
    ///
    /// # Panics
    /// If there are none, or some are not in the batch.
    #[must_use]
    pub fn range(&self, places: Range<usize>) -> MerkleRange {
        let (leaves, count) = (self.leaves(), places.len());
        assert!(count > 0 && places.end <= leaves, "leaves {places:?} of {leaves}");
        let beside = beside(number(places.start), number(count), number(leaves));
        let siblings = beside.map(|(level, index)| self.levels[level][index as usize]);
        MerkleRange {
            start: number(places.start),
            count: number(count),
            leaves: number(leaves),
            siblings: siblings.collect(),
        }
    }
}

/// What shows that a digest belongs to a batch: at most ⌈log2 N⌉ digests for a batch of N.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, BorshSerialize)]
pub struct MerklePath {
    pub(super) index: u32,
    pub(super) leaves: u32,
    /// From the leaf's own sibling on: as many as `index` and `leaves` say, so that their number is not
    /// encoded.
    #[borsh(serialize_with = "serialize_siblings")]
    pub(super) siblings: Vec<Digest>,
}

impl MerklePath {
    /// The most digests of a path.
    pub const MAX_SIBLINGS: usize = MerkleTree::MAX_LEAVES.ilog2() as usize;

    /// The longest encoding of a path, in bytes.
    pub const MAX_BYTES: usize = 8 + 32 * Self::MAX_SIBLINGS;

    /// The place in the batch.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index as usize
    }

    /// How many digests are in the batch.
    #[must_use]
    pub fn leaves(&self) -> usize {
        self.leaves as usize
    }

    /// The root of the batch that has `digest` in this place. That it is one that somebody has vouched
    /// for is the caller's to check.
    #[must_use]
    pub fn root(&self, digest: &Digest) -> Digest {
        let turns = sides(self.index, self.leaves).zip(&self.siblings);
        let top = turns.fold(leaf(digest), |below, (side, sibling)| match side {
            Side::Left => node(sibling, &below),
            Side::Right => node(&below, sibling),
        });
        root(self.leaves, &top)
    }
}

impl BorshDeserialize for MerklePath {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let (index, leaves) = <(u32, u32)>::deserialize_reader(reader)?;
        if index >= leaves || leaves as usize > MerkleTree::MAX_LEAVES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no place in a tree"));
        }
        let siblings = sides(index, leaves).map(|_| Digest::deserialize_reader(reader));
        Ok(Self { index, leaves, siblings: siblings.collect::<io::Result<_>>()? })
    }
}

pub(super) fn serialize_siblings<W: io::Write>(siblings: &[Digest], writer: &mut W) -> io::Result<()> {
    siblings.iter().try_for_each(|sibling| sibling.serialize(writer))
}

/// On which side of a node its sibling stands.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}

/// The siblings of the nodes on the way from a leaf to the top. A node without one has no place here.
fn sides(mut index: u32, leaves: u32) -> impl Iterator<Item = Side> {
    let mut width = leaves;
    core::iter::from_fn(move || {
        while width > 1 {
            let side = match index % 2 {
                1 => Some(Side::Left),
                _ if index + 1 < width => Some(Side::Right),
                _ => None,
            };
            (index, width) = (index / 2, width.div_ceil(2));
            if side.is_some() {
                return side;
            }
        }
        None
    })
}

pub(super) fn number(place: usize) -> u32 {
    u32::try_from(place).expect("a tree has at most 65,536 leaves")
}

pub(super) fn leaf(digest: &Digest) -> Digest {
    hash(LEAF, &digest.0)
}

/// The level above one: of each two nodes one, and the last as it is where it is alone.
pub(super) fn above(level: &[Digest]) -> Vec<Digest> {
    let above = level.chunks(2).map(|pair| match pair {
        [left, right] => node(left, right),
        alone => alone[0],
    });
    above.collect()
}

fn node(left: &Digest, right: &Digest) -> Digest {
    let mut hasher = Hasher::new(NODE);
    hasher.bytes(&left.0);
    hasher.bytes(&right.0);
    hasher.finish()
}

pub(super) fn root(leaves: u32, top: &Digest) -> Digest {
    let mut hasher = Hasher::new(ROOT);
    hasher.value(&leaves);
    hasher.bytes(&top.0);
    hasher.finish()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use althing_types::{DecodeError, decode, encode};
    use proptest::prelude::*;

    pub(in crate::merkle) fn batch(leaves: usize) -> Vec<Digest> {
        (0..leaves).map(|i| hash("a test", &i.to_le_bytes())).collect()
    }

    fn log2(leaves: usize) -> usize {
        leaves.next_power_of_two().ilog2() as usize
    }

    #[test]
    fn each_leaf_belongs_in_its_place_and_nowhere_else() {
        for leaves in 1..=33 {
            let batch = batch(leaves);
            let tree = MerkleTree::new(&batch);
            for place in 0..leaves {
                let path = tree.path(place);
                assert_eq!((path.index(), path.leaves()), (place, leaves));
                assert!(path.siblings.len() <= log2(leaves), "{place} of {leaves}");
                for (other, digest) in batch.iter().enumerate() {
                    assert_eq!(path.root(digest) == tree.root(), other == place, "{other} at {place}");
                }
            }
            assert_eq!(tree.path(0).siblings.len(), log2(leaves), "the first path is the longest");
        }
    }

    #[test]
    fn batches_of_any_length_and_order_have_roots_of_their_own() {
        let digests = batch(40);
        let mut roots: Vec<_> = (1..=40).map(|n| MerkleTree::new(&digests[..n]).root()).collect();
        let mut swapped = digests.clone();
        swapped.swap(3, 4);
        let mut doubled = digests.clone();
        doubled.push(digests[39]);
        roots.extend([MerkleTree::new(&swapped).root(), MerkleTree::new(&doubled).root()]);
        let count = roots.len();
        roots.sort_unstable();
        roots.dedup();
        assert_eq!(roots.len(), count);
    }

    #[test]
    fn an_inner_node_is_no_leaf() {
        let digests = batch(4);
        let tree = MerkleTree::new(&digests);
        // As if the two inner nodes were a batch of two: the classic second preimage.
        let inner = tree.levels[1].clone();
        let root = tree.root();
        assert_ne!(MerkleTree::new(&inner).root(), root);
        let short = MerklePath { index: 0, leaves: 2, siblings: [inner[1]].into() };
        let long = MerklePath { index: 0, leaves: 4, siblings: [inner[1]].into() };
        assert_ne!(short.root(&inner[0]), root);
        assert_ne!(long.root(&inner[0]), root);
        // Even were a leaf's hash its digest, the number of leaves would tell the two apart.
        assert_ne!(super::root(2, &tree.levels[2][0]), super::root(4, &tree.levels[2][0]));
    }

    #[test]
    fn a_path_is_refused_that_no_tree_has() {
        let path = MerkleTree::new(&batch(MerkleTree::MAX_LEAVES)).path(7);
        let bytes = encode(&path);
        assert_eq!(bytes.len(), MerklePath::MAX_BYTES);
        let decoded = |bytes: &[u8]| decode::<MerklePath>(bytes, MerklePath::MAX_BYTES);
        assert_eq!(decoded(&bytes), Ok(path));
        assert_eq!(decoded(&bytes[..bytes.len() - 1]), Err(DecodeError::Malformed));
        let altered = |index: u32, leaves: u32| {
            let head = encode(&(index, leaves));
            decoded(&[&head, &bytes[8..]].concat())
        };
        let most = 1 << 16;
        assert!(altered(8, most).is_ok());
        assert_eq!(altered(most, most), Err(DecodeError::Malformed), "beyond the last");
        assert_eq!(altered(7, most + 1), Err(DecodeError::Malformed), "too many leaves");
        assert_eq!(decoded(&encode(&(1u32, 1u32))), Err(DecodeError::Malformed), "beyond the only one");
        assert_eq!(altered(7, 0), Err(DecodeError::Malformed), "no leaves");
        assert_eq!(altered(7, most / 2), Err(DecodeError::Malformed), "a digest is left over");
    }

    proptest! {
        #[test]
        fn a_path_survives_its_encoding_and_nothing_else(
            leaves in 1usize..300,
            place in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            flip in 1u8..=255,
        ) {
            let batch = batch(leaves);
            let (tree, place) = (MerkleTree::new(&batch), place.index(leaves));
            let mut bytes = encode(&tree.path(place));
            prop_assert_eq!(decode(&bytes, MerklePath::MAX_BYTES), Ok(tree.path(place)));
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(tampered) = decode::<MerklePath>(&bytes, MerklePath::MAX_BYTES) {
                prop_assert_eq!(encode(&tampered), bytes);
                prop_assert!(batch.iter().all(|digest| tampered.root(digest) != tree.root()));
            }
        }
    }
}
