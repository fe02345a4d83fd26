use super::{SitePublic, SiteSignature};
use crate::keyring::digest_in;
use crate::{Domain, Hasher, MerklePath, MerkleRange, MerkleTree, PartialTree, Proof};
use alloc::vec::Vec;
use althing_types::{DecodeError, Digest, GroupId, SiteId, decode, encode};
use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt;
use core::ops::Range;

/// What a site signs: that it has said the messages of a batch, as this site of this system.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SiteStatement(Digest);

impl SiteStatement {
    pub(super) fn new(system: GroupId, site: SiteId, root: &Digest) -> Self {
        let mut hasher = Hasher::new("althing site statement");
        hasher.value(&(system, site, *root));
        Self(hasher.finish())
    }

    /// What names it among a site's servers.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0
    }
}

impl fmt::Debug for SiteStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "statement{:?}", self.0)
    }
}

/// Messages of a site that get one signature together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteBatch {
    tree: MerkleTree,
    statement: SiteStatement,
}

impl SiteBatch {
    /// The most messages of a batch.
    pub const MAX_MESSAGES: usize = MerkleTree::MAX_LEAVES;

    /// The batch of these messages, each of its domain, in their order.
    ///
    /// # Panics
    /// If there is none, or more than [`Self::MAX_MESSAGES`].
    #[must_use]
    pub fn new(system: GroupId, site: SiteId, messages: &[(Domain, &[u8])]) -> Self {
        let digests = messages.iter().map(|(domain, bytes)| digest_in(system, *domain, bytes));
        let tree = MerkleTree::new(&digests.collect::<Vec<_>>());
        let statement = SiteStatement::new(system, site, &tree.root());
        Self { tree, statement }
    }

    /// How many messages it has.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.tree.leaves()
    }

    /// What is to be signed.
    #[must_use]
    pub fn statement(&self) -> SiteStatement {
        self.statement
    }

    /// The proof that message `index` carries, once the batch has a signature.
    ///
    /// # Panics
    /// If there is no message `index`.
    #[must_use]
    pub fn proof(&self, index: usize, signature: SiteSignature) -> SiteProof {
        SiteProof { signature, path: self.tree.path(index) }
    }

    /// The proof that these messages carry together, once the batch has a signature.
    ///
    /// # Panics
    /// If there are none, or some are not in the batch.
    #[must_use]
    pub fn range_proof(&self, messages: Range<usize>, signature: SiteSignature) -> SiteRangeProof {
        SiteRangeProof { signature, range: self.tree.range(messages) }
    }
}

/// A site's proof over one message: the signature of the batch that it was in, and its path there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct SiteProof {
    /// Over the batch.
    pub signature: SiteSignature,
    /// From the message to the batch.
    pub path: MerklePath,
}

impl SiteProof {
    /// The longest encoding of a proof, in bytes.
    pub const MAX_BYTES: usize = SiteSignature::MAX_BYTES + MerklePath::MAX_BYTES;

    /// What `site` has signed, if it has said `bytes`.
    #[must_use]
    pub fn statement(&self, system: GroupId, site: SiteId, domain: Domain, bytes: &[u8]) -> SiteStatement {
        SiteStatement::new(system, site, &self.path.root(&digest_in(system, domain, bytes)))
    }

    /// Whether `site`, which has this key, has said `bytes`. [`SiteKeys`](super::SiteKeys) remembers which
    /// signatures it has checked.
    #[must_use]
    pub fn verify(
        &self,
        (system, site): (GroupId, SiteId),
        public: &SitePublic,
        domain: Domain,
        bytes: &[u8],
    ) -> bool {
        public.verify(&self.statement(system, site, domain, bytes), &self.signature)
    }
}

/// A site's proof over messages that follow each other in a batch: the batch's signature, and what they need from
/// beside them in its tree. Whoever has all of them finds each one's own [`SiteProof`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct SiteRangeProof {
    /// Over the batch.
    pub signature: SiteSignature,
    /// From the messages to the batch.
    pub range: MerkleRange,
}

impl SiteRangeProof {
    /// The longest encoding of a proof, in bytes.
    pub const MAX_BYTES: usize = SiteSignature::MAX_BYTES + MerkleRange::MAX_BYTES;

    /// The part of a batch's tree that has these messages in their places, of whoever has signed it:
    /// [`SiteKeys::verify_range`](super::SiteKeys::verify_range) tells. `None` where they are more or fewer than it
    /// covers.
    #[must_use]
    pub fn tree(&self, system: GroupId, messages: &[(Domain, &[u8])]) -> Option<PartialTree> {
        let digests = messages.iter().map(|(domain, bytes)| digest_in(system, *domain, bytes));
        self.range.tree(&digests.collect::<Vec<_>>())
    }

    /// The proof of each message, of which this part of the tree has been found.
    pub fn proofs(&self, tree: PartialTree) -> impl ExactSizeIterator<Item = SiteProof> + use<> {
        let signature = self.signature;
        tree.into_paths().map(move |path| SiteProof { signature, path })
    }
}

impl From<SiteProof> for SiteRangeProof {
    fn from(proof: SiteProof) -> Self {
        Self { signature: proof.signature, range: proof.path.into() }
    }
}

impl From<&SiteProof> for Proof {
    fn from(proof: &SiteProof) -> Self {
        Self(encode(proof))
    }
}

impl TryFrom<&Proof> for SiteProof {
    type Error = DecodeError;

    fn try_from(proof: &Proof) -> Result<Self, DecodeError> {
        decode(&proof.0, Self::MAX_BYTES)
    }
}
