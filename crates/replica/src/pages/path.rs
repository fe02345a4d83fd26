use super::node::{Children, NodeId, ROOT_LEVEL, node_digest, page_digest};
use super::tree::PageTree;
use alloc::vec::Vec;
use althing_types::Digest;
use borsh::{BorshDeserialize, BorshSerialize};

/// One page of a state, with what shows that it is: the children of the nodes above it, from the root down.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Path {
    nodes: Vec<Children>,
    page: Vec<u8>,
}

impl Path {
    /// The path to page `index` of a tree that is refreshed; `None` where there is no such page.
    pub(crate) fn to_page(tree: &PageTree, index: u32) -> Option<Self> {
        let (mut nodes, mut id) = (Vec::new(), NodeId::ROOT);
        for level in (1..=ROOT_LEVEL).rev() {
            nodes.push(tree.children(id)?);
            id = id.child(NodeId::slot(level, index));
        }
        Some(Self { nodes, page: tree.page(index)?.to_vec() })
    }

    /// The page, if it is page `index` of the state with the digest `root`.
    pub(crate) fn page(&self, root: Digest, index: u32) -> Option<&[u8]> {
        let (mut expected, mut id) = (root, NodeId::ROOT);
        if self.nodes.len() != usize::from(ROOT_LEVEL) {
            return None;
        }
        for (level, children) in (1..=ROOT_LEVEL).rev().zip(&self.nodes) {
            if node_digest(id, children) != expected {
                return None;
            }
            let slot = NodeId::slot(level, index);
            expected = children.iter().find(|(s, _)| *s == slot)?.1;
            id = id.child(slot);
        }
        (page_digest(index, &self.page) == expected).then_some(&self.page[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_shows_one_page_of_one_state() {
        let mut tree = PageTree::default();
        for index in [0, 1, 300, 0x8000_0000, 0x8000_0001, 0x9000_0000] {
            tree.set(index, index.to_le_bytes().to_vec());
        }
        let root = tree.refresh();
        let path = Path::to_page(&tree, 0x8000_0001).expect("it is there");
        assert_eq!(path.page(root, 0x8000_0001), Some(&0x8000_0001u32.to_le_bytes()[..]));
        assert_eq!(path.page(root, 0x8000_0000), None, "another page");
        assert_eq!(Path::to_page(&tree, 2), None);
        for place in 0..usize::from(ROOT_LEVEL) {
            let mut forged = path.clone();
            forged.nodes[place][0].1.0[0] ^= 1;
            assert_eq!(forged.page(root, 0x8000_0001), None, "level {place}");
        }
        let mut forged = path.clone();
        forged.page[0] ^= 1;
        assert_eq!(forged.page(root, 0x8000_0001), None);
        forged = path.clone();
        forged.nodes.pop();
        assert_eq!(forged.page(root, 0x8000_0001), None);
        tree.set(7, alloc::vec![1]);
        assert_eq!(path.page(tree.refresh(), 0x8000_0001), None, "another state");
    }
}
