use alloc::vec::Vec;
use althing_types::{Digest, ReplicaId};
use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A message authentication code: 16 bytes that only the two holders of a key can make.
#[derive(Clone, Copy, Default, BorshSerialize, BorshDeserialize)]
pub struct Mac(pub [u8; 16]);

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mac:{:02x}{:02x}", self.0[0], self.0[1])
    }
}

impl PartialEq for Mac {
    /// Takes the same time wherever the two differ.
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |acc, (a, b)| acc | (a ^ b)) == 0
    }
}

impl Eq for Mac {}

/// A vector of MACs over one message, one for each replica of a group (PBFT §5.3): each receiver
/// can check its own and nobody else's.
#[derive(Debug, Clone, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub struct Authenticator(pub Vec<Mac>);

impl Authenticator {
    /// The MAC meant for `replica`, if the vector is long enough.
    #[must_use]
    pub fn mac_for(&self, replica: ReplicaId) -> Option<&Mac> {
        self.0.get(usize::from(replica.0))
    }
}

/// The key of one direction of one pair.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct MacKey([u8; 32]);

impl MacKey {
    pub(crate) fn derive(material: &[u8]) -> Self {
        Self(blake3::derive_key("althing 2026-11 pairwise MAC key", material))
    }

    pub(crate) fn mac(&self, digest: &Digest) -> Mac {
        let full = blake3::keyed_hash(&self.0, &digest.0);
        let mut mac = Mac::default();
        mac.0.copy_from_slice(&full.as_bytes()[..16]);
        mac
    }
}
