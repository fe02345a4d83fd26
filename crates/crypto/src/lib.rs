#![no_std]
//! Digests, message authentication codes, signatures and keys: everything that lets one machine
//! know who said what.
//!
//! - digests and MACs: BLAKE3, plain and keyed;
//! - transferable proofs: Ed25519;
//! - what several machines say as one site: threshold BLS or a plain key, one signature for a batch of
//!   messages ([`site`]);
//! - pairwise MAC keys: derived from static X25519 keys and those that replicas announce from time to
//!   time, one for each direction of each pair.

extern crate alloc;

mod hash;
mod identity;
mod keyring;
mod mac;
mod merkle;
mod session;
pub mod site;
mod text;

pub use hash::{Hasher, hash, hash_parts};
pub use identity::{Identity, KeyError, Proof, PublicIdentity};
pub use keyring::{Checked, Domain, Keyring};
pub use mac::{Authenticator, Mac};
pub use merkle::{MerklePath, MerkleRange, MerkleTree, PartialTree};
pub use session::{KeySeed, Learned, NewKey};
