use alloc::vec::Vec;
use althing_crypto::Proof;
use althing_types::{Digest, Quorums, ReplicaId, Seq, View, encode};
use borsh::{BorshDeserialize, BorshSerialize};

/// The first byte of a signed [`Speculation`]: no other message of a protocol begins with it.
pub(crate) const SPECULATION_TAG: u8 = 128;

/// What a replica says of a batch that it has executed before the others were heard: in which view, at which
/// number, and what identifies this batch and all before it (Zyzzyva §3.2, the spec-response without what is
/// of one client alone).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Speculation {
    /// The view in which it accepted that history.
    pub view: View,
    /// The last number executed.
    pub seq: Seq,
    /// The digest of all batches up to that number: equal at two replicas only where all batches are.
    pub history: Digest,
}

impl Speculation {
    /// What a replica signs, in [`Domain::Protocol`](althing_crypto::Domain).
    #[must_use]
    pub fn statement(&self) -> Vec<u8> {
        encode(&(SPECULATION_TAG, self))
    }
}

/// Signed speculations of an agreement quorum: no two of them contradict each other in one view.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct CommitCertificate {
    /// What they agree on.
    pub speculation: Speculation,
    /// Who signed it, ascending.
    pub votes: Vec<(ReplicaId, Proof)>,
}

impl CommitCertificate {
    /// Whether so many have signed as have to, each once. Their proofs are the layer below's to check.
    #[must_use]
    pub fn is_complete(&self, quorums: Quorums) -> bool {
        let ascends = self.votes.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let are_members = self.votes.iter().all(|(signer, _)| quorums.has(*signer));
        ascends && are_members && self.votes.len() >= quorums.agreement()
    }
}
