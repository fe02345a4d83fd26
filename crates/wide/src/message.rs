//! What sites say to each other.

use alloc::vec::Vec;
use althing_crypto::site::{SiteKeys, SiteProof, SiteSignature, SiteStatement};
use althing_crypto::{Domain, Proof, hash};
use althing_types::{Digest, SiteId, decode, encode};
use borsh::{BorshDeserialize, BorshSerialize};

/// What the body of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Kind {
    /// Nothing: the header acknowledges.
    Acknowledgement,
    /// A message of the wide-area protocol, for the receiver alone.
    Protocol,
    /// One that the receiver may show to others.
    Statement,
    /// A request with its client's signature, for every site to see that it is ordered.
    Request,
    /// A request of the sender's own, for whoever leads to order it and for the others to have it then.
    Bundle,
    /// The same, for every site to see that it is ordered.
    UrgentBundle,
}

/// What a site signs of a message, beside the digest of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Header {
    /// Who says it.
    pub from: SiteId,
    /// To whom.
    pub to: SiteId,
    /// Its number on the link between the two, from 1 on; 0 for one that only acknowledges.
    pub number: u64,
    /// The lowest number that the sender still had when it said this: those before will not come.
    pub base: u64,
    /// Up to which number the sender has received what came over the link in the other direction.
    pub acknowledged: u64,
    /// What the body is.
    pub kind: Kind,
}

impl Header {
    /// Whether a site can have got that far: something can follow.
    pub(crate) fn is_possible(&self) -> bool {
        self.number < u64::MAX && self.base < u64::MAX
    }

    /// What the site signs, in [`Domain::Link`], for a message with a body of this digest.
    #[must_use]
    pub fn statement(&self, body: Digest) -> Vec<u8> {
        encode(&(self, body))
    }
}

/// The digest of a message's body.
#[must_use]
pub(crate) fn body_digest(body: &[u8]) -> Digest {
    hash("althing link body", body)
}

/// A message between sites. It stands for itself: whoever has it can show to anybody that the site said it.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct LinkMessage {
    /// Who says it, to whom.
    pub header: Header,
    /// The site's signature over [`Header::statement`].
    pub proof: SiteProof,
    /// What it says.
    pub body: Vec<u8>,
}

impl LinkMessage {
    /// Whether the site that it names has said it.
    #[must_use]
    pub fn is_genuine(&self, keys: &SiteKeys) -> bool {
        let statement = self.header.statement(body_digest(&self.body));
        keys.verify_proof(self.header.from, &self.proof, Domain::Link, &statement)
    }

    /// What its site has to have signed, and how it is said to have.
    pub(crate) fn signed(&self, keys: &SiteKeys) -> (SiteStatement, SiteSignature) {
        let statement = self.header.statement(body_digest(&self.body));
        let (system, site) = (keys.system(), self.header.from);
        (self.proof.statement(system, site, Domain::Link, &statement), self.proof.signature)
    }

    /// [`Self::is_genuine`] is probably going to be asked soon.
    pub(crate) fn foresee(&self, keys: &SiteKeys) {
        let statement = self.header.statement(body_digest(&self.body));
        keys.foresee_proof(self.header.from, &self.proof, Domain::Link, &statement);
    }

    /// The proof over the body alone, for the protocol to pass on.
    #[must_use]
    pub fn spoken(&self) -> Proof {
        Proof(encode(&Spoken { header: self.header, proof: self.proof.clone() }))
    }
}

/// A site's proof over a message's body, with what was signed together with it.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Spoken {
    /// To whom it was said, and as what.
    pub header: Header,
    /// The signature.
    pub proof: SiteProof,
}

impl Spoken {
    /// The longest encoding, in bytes.
    const MAX_BYTES: usize = 64 + SiteProof::MAX_BYTES;

    /// Whether `proof` shows that `site` has said `body` as one of these kinds.
    pub(crate) fn verify(
        keys: &SiteKeys,
        (site, kinds): (SiteId, &[Kind]),
        proof: &Proof,
        body: &[u8],
    ) -> bool {
        let Ok(spoken) = decode::<Self>(&proof.0, Self::MAX_BYTES) else { return false };
        let is_apt = spoken.header.from == site && kinds.contains(&spoken.header.kind);
        let statement = spoken.header.statement(body_digest(body));
        is_apt && keys.verify_proof(site, &spoken.proof, Domain::Link, &statement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_site_gets_to_the_last_number() {
        let (from, to, kind) = (SiteId(0), SiteId(1), Kind::Protocol);
        let possible = |number, base| Header { from, to, number, base, acknowledged: 0, kind }.is_possible();
        assert!(possible(0, 0) && possible(u64::MAX - 1, 1));
        assert!(!possible(u64::MAX, 1) && !possible(1, u64::MAX));
    }
}
