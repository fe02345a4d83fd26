use super::MerklePath;
use super::tree::{MerkleTree, above, leaf, number, root, serialize_siblings};
use alloc::vec::Vec;
use althing_types::Digest;
use borsh::{BorshDeserialize, BorshSerialize, io};

/// What shows that digests which follow each other belong to a batch: at most two digests for each level of the tree,
/// however many it shows.
///
/// Of digests at the beginning or the end of a batch it takes one for each level, and of a whole batch none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, BorshSerialize)]
pub struct MerkleRange {
    pub(super) start: u32,
    pub(super) count: u32,
    pub(super) leaves: u32,
    /// What stands beside the range, from the leaves on, the left one first: as many as `start`, `count` and `leaves`
    /// say, so that their number is not encoded.
    #[borsh(serialize_with = "serialize_siblings")]
    pub(super) siblings: Vec<Digest>,
}

impl MerkleRange {
    /// The most digests beside a range. On the level below the top there is one at most, and on that of four nodes
    /// there are two only where the range is the whole level above.
    pub const MAX_SIBLINGS: usize = 2 * (MerklePath::MAX_SIBLINGS - 1);

    /// The longest encoding of a range, in bytes.
    pub const MAX_BYTES: usize = 12 + 32 * Self::MAX_SIBLINGS;

    /// The place of its first digest in the batch.
    #[must_use]
    pub fn start(&self) -> usize {
        self.start as usize
    }

    /// How many digests it shows, at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// How many digests are in the batch.
    #[must_use]
    pub fn leaves(&self) -> usize {
        self.leaves as usize
    }

    /// The part of the tree that has `digests` in these places; `None` where they are more or fewer than it shows.
    /// That its root is one that somebody has vouched for is the caller's to check.
    #[must_use]
    pub fn tree(&self, digests: &[Digest]) -> Option<PartialTree> {
        if digests.len() != self.count() {
            return None;
        }
        let mut siblings = self.siblings.iter().copied();
        let (mut start, mut width) = (self.start(), self.leaves());
        let mut level: Vec<Digest> = digests.iter().map(leaf).collect();
        let mut levels = Vec::new();
        while width > 1 {
            let sides = sides(start, start + level.len(), width);
            if sides.0 {
                level.insert(0, siblings.next()?);
                start -= 1;
            }
            if sides.1 {
                level.push(siblings.next()?);
            }
            let above = above(&level);
            levels.push((start, core::mem::replace(&mut level, above)));
            (start, width) = (start / 2, width.div_ceil(2));
        }
        let root = root(self.leaves, level.first()?);
        Some(PartialTree { start: self.start, count: self.count, leaves: self.leaves, levels, root })
    }
}

impl BorshDeserialize for MerkleRange {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let (start, count, leaves) = <(u32, u32, u32)>::deserialize_reader(reader)?;
        let is_range = count > 0 && start.checked_add(count).is_some_and(|end| end <= leaves);
        if !is_range || leaves as usize > MerkleTree::MAX_LEAVES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no range of a tree"));
        }
        let siblings = beside(start, count, leaves).map(|_| Digest::deserialize_reader(reader));
        Ok(Self { start, count, leaves, siblings: siblings.collect::<io::Result<_>>()? })
    }
}

/// A path is a range of one.
impl From<MerklePath> for MerkleRange {
    fn from(path: MerklePath) -> Self {
        Self { start: path.index, count: 1, leaves: path.leaves, siblings: path.siblings }
    }
}

/// The part of a Merkle tree that some digests which follow each other have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialTree {
    start: u32,
    count: u32,
    leaves: u32,
    /// From the leaves on, without the top: what is above the digests and beside that, and the place of the first.
    levels: Vec<(usize, Vec<Digest>)>,
    root: Digest,
}

impl PartialTree {
    /// What stands for the batch.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.root
    }

    /// Each digest's own path, in their order: what [`MerkleTree::path`] would say.
    pub fn into_paths(self) -> impl ExactSizeIterator<Item = MerklePath> {
        (0..self.count as usize).map(move |place| self.path(self.start + number(place)))
    }

    fn path(&self, index: u32) -> MerklePath {
        let mut place = index as usize;
        let mut siblings = Vec::new();
        for (first, level) in &self.levels {
            // There is none on the left of a level's first node, nor on the right of its last.
            let sibling = (place ^ 1).checked_sub(*first).and_then(|at| level.get(at));
            siblings.extend(sibling);
            place /= 2;
        }
        MerklePath { index, leaves: self.leaves, siblings }
    }
}

/// Whether something stands on the left of a range of a level so wide, and on the right.
fn sides(start: usize, end: usize, width: usize) -> (bool, bool) {
    (start % 2 == 1, end % 2 == 1 && end < width)
}

/// What stands beside so many leaves from `start` on, and what is above them: level and place, as they are encoded.
pub(super) fn beside(start: u32, count: u32, leaves: u32) -> impl Iterator<Item = (usize, u32)> {
    let (mut start, mut end, mut width) = (start, start + count, leaves);
    let mut beside = Vec::new();
    for level in 0.. {
        if width <= 1 {
            break;
        }
        let (is_left, is_right) = sides(start as usize, end as usize, width as usize);
        beside.extend(is_left.then(|| (level, start - 1)));
        beside.extend(is_right.then_some((level, end)));
        (start, end, width) = (start / 2, end.div_ceil(2), width.div_ceil(2));
    }
    beside.into_iter()
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::batch;
    use super::*;
    use althing_types::{DecodeError, decode, encode};
    use core::ops::Range;
    use proptest::prelude::*;

    fn decoded(bytes: &[u8]) -> Result<MerkleRange, DecodeError> {
        decode(bytes, MerkleRange::MAX_BYTES)
    }

    fn root_of(range: &MerkleRange, digests: &[Digest]) -> Option<Digest> {
        range.tree(digests).map(|tree| tree.root())
    }

    #[test]
    fn digests_that_follow_each_other_belong_in_their_places_and_nowhere_else() {
        for leaves in 1..=17 {
            let batch = batch(leaves);
            let tree = MerkleTree::new(&batch);
            let ranges = || (0..leaves).flat_map(|start| (start + 1..=leaves).map(move |end| start..end));
            for places in ranges() {
                let range = tree.range(places.clone());
                assert_eq!(
                    (range.start(), range.count(), range.leaves()),
                    (places.start, places.len(), leaves)
                );
                let part = range.tree(&batch[places.clone()]).expect("as many as it shows");
                assert_eq!(part.root(), tree.root(), "{places:?} of {leaves}");
                assert!(
                    part.into_paths().eq(places.clone().map(|place| tree.path(place))),
                    "{places:?} of {leaves}"
                );
                for other in ranges().filter(|other| *other != places) {
                    let root = root_of(&range, &batch[other.clone()]);
                    assert_ne!(root, Some(tree.root()), "{other:?} at {places:?} of {leaves}");
                }
            }
        }
    }

    #[test]
    fn a_range_takes_two_digests_a_level_at_most_and_a_whole_batch_none() {
        let leaves = MerkleTree::MAX_LEAVES;
        let tree = MerkleTree::new(&batch(leaves));
        let siblings = |places: Range<usize>| tree.range(places).siblings.len();
        assert_eq!(siblings(0..leaves), 0);
        assert_eq!(siblings(7..8), MerklePath::MAX_SIBLINGS);
        assert_eq!(siblings(0..leaves / 2), 1);
        assert_eq!(siblings(0..8), MerklePath::MAX_SIBLINGS - 3);
        assert_eq!(siblings(1..leaves - 1), 2);
        assert_eq!(siblings(leaves / 2 - 1..leaves / 2 + 1), MerkleRange::MAX_SIBLINGS);
    }

    #[test]
    fn a_path_is_a_range_of_one() {
        for leaves in 1..=9 {
            let tree = MerkleTree::new(&batch(leaves));
            for place in 0..leaves {
                assert_eq!(MerkleRange::from(tree.path(place)), tree.range(place..place + 1));
            }
        }
    }

    #[test]
    fn a_range_is_refused_that_no_tree_has() {
        let leaves = MerkleTree::MAX_LEAVES;
        let range = MerkleTree::new(&batch(leaves)).range(leaves / 2 - 1..leaves / 2 + 1);
        let bytes = encode(&range);
        assert_eq!(bytes.len(), MerkleRange::MAX_BYTES);
        assert_eq!(decoded(&bytes), Ok(range));
        assert_eq!(decoded(&bytes[..bytes.len() - 1]), Err(DecodeError::Malformed));
        let (most, start) = (1u32 << 16, (1 << 15) - 1);
        let altered = |start: u32, count: u32, leaves: u32| {
            decoded(&[&encode(&(start, count, leaves)), &bytes[12..]].concat()).map(|_| ())
        };
        assert_eq!(altered(start, 2, most), Ok(()));
        let malformed = Err(DecodeError::Malformed);
        assert_eq!(altered(start, 0, most), malformed, "nothing");
        assert_eq!(altered(start, start + 3, most), malformed, "beyond the last");
        assert_eq!(altered(u32::MAX, 2, most), malformed, "beyond all numbers");
        assert_eq!(altered(start, 2, most + 1), malformed, "too many leaves");
        assert_eq!(altered(0, 2, most), malformed, "digests are left over");
        assert_eq!(decoded(&encode(&(0u32, 0u32, 0u32))).map(|_| ()), malformed, "no leaves");
    }

    proptest! {
        #[test]
        fn a_range_survives_its_encoding_and_nothing_else(
            leaves in 1usize..300,
            ends in any::<(prop::sample::Index, prop::sample::Index)>(),
            at in any::<prop::sample::Index>(),
            flip in 1u8..=255,
        ) {
            let batch = batch(leaves);
            let (a, b) = (ends.0.index(leaves), ends.1.index(leaves));
            let places = a.min(b)..a.max(b) + 1;
            let tree = MerkleTree::new(&batch);
            let mut bytes = encode(&tree.range(places.clone()));
            prop_assert_eq!(decoded(&bytes), Ok(tree.range(places.clone())));
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(tampered) = decoded(&bytes) {
                prop_assert_eq!(encode(&tampered), bytes);
                let count = tampered.count();
                for digests in batch.windows(count.min(leaves)) {
                    prop_assert_ne!(root_of(&tampered, digests), Some(tree.root()));
                }
            }
        }

        #[test]
        fn digests_that_are_not_the_ones_are_found(
            leaves in 1usize..100,
            ends in any::<(prop::sample::Index, prop::sample::Index)>(),
            at in any::<prop::sample::Index>(),
        ) {
            let batch = batch(leaves);
            let (a, b) = (ends.0.index(leaves), ends.1.index(leaves));
            let places = a.min(b)..a.max(b) + 1;
            let tree = MerkleTree::new(&batch);
            let range = tree.range(places.clone());
            let digests = &batch[places];
            let at = at.index(digests.len());
            let altered = |change: fn(&mut Vec<Digest>, usize)| {
                let mut digests = digests.to_vec();
                change(&mut digests, at);
                root_of(&range, &digests)
            };
            prop_assert_eq!(root_of(&range, digests), Some(tree.root()));
            prop_assert_ne!(altered(|digests, at| digests[at].0[7] ^= 1), Some(tree.root()));
            prop_assert_eq!(altered(|digests, _| digests.truncate(digests.len() - 1)), None);
            prop_assert_eq!(altered(|digests, at| digests.insert(at, digests[at])), None);
            if digests.len() > 1 {
                prop_assert_ne!(altered(|digests, _| digests.rotate_left(1)), Some(tree.root()));
            }
        }
    }
}
