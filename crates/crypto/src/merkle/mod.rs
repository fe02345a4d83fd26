//! Merkle trees: one digest stands for a batch of digests, and a short path shows that one of them
//! belongs to it (Amir et al., SRDS'07 §6).
//!
//! Leaves, inner nodes and the root are hashed under contexts of their own, and the root binds the
//! number of leaves. So no node passes for another kind of node, and a root says of each place
//! whether it exists and how long its path is. The last node of a level with an odd number of nodes
//! goes up as it is, so that no leaf is ever hashed twice.
//!
//! Digests that follow each other in a batch have most of their paths in common. A [`MerkleRange`] holds what all of
//! them need from outside, once, and whoever has the digests gets each one's own path back.

mod range;
mod tree;

pub use range::{MerkleRange, PartialTree};
pub use tree::{MerklePath, MerkleTree};
