use super::{SiteProof, SitePublic, SiteSignature, SiteStatement, SiteVerifier};
use crate::{Domain, Proof};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{GroupId, Recent, SiteId};

/// The keys of all sites of a system, with the signatures that were found good lately: the messages of a
/// batch come one after the other and share one, and checking it costs more than all else.
#[derive(Debug, Clone)]
pub struct SiteKeys {
    system: GroupId,
    verifier: Arc<dyn SiteVerifier>,
    good: Recent<(SiteStatement, SiteSignature)>,
    checked: u64,
}

impl SiteKeys {
    /// The most signatures that are remembered.
    pub const MOST_REMEMBERED: usize = 1024;

    /// The keys of a system's sites, by id.
    #[must_use]
    pub fn new(system: GroupId, sites: Vec<SitePublic>) -> Self {
        Self::with_verifier(system, Arc::new(sites))
    }

    /// Keys that are known to `verifier` only.
    #[must_use]
    pub fn with_verifier(system: GroupId, verifier: Arc<dyn SiteVerifier>) -> Self {
        Self { system, verifier, good: Recent::new(Self::MOST_REMEMBERED), checked: 0 }
    }

    /// The system that the sites make up.
    #[must_use]
    pub fn system(&self) -> GroupId {
        self.system
    }

    /// How many signatures were checked so far, good and bad: those that were remembered don't count.
    #[must_use]
    pub fn checked(&self) -> u64 {
        self.checked
    }

    /// Whether `site` has said `bytes`, as `proof` is to show.
    #[must_use]
    pub fn verify(&mut self, site: SiteId, proof: &Proof, domain: Domain, bytes: &[u8]) -> bool {
        SiteProof::try_from(proof).is_ok_and(|proof| self.verify_proof(site, &proof, domain, bytes))
    }

    /// As [`Self::verify`].
    #[must_use]
    pub fn verify_proof(&mut self, site: SiteId, proof: &SiteProof, domain: Domain, bytes: &[u8]) -> bool {
        let statement = proof.statement(self.system, site, domain, bytes);
        self.is_signed(site, statement, proof.signature)
    }

    fn is_signed(&mut self, site: SiteId, statement: SiteStatement, signature: SiteSignature) -> bool {
        if self.good.has(&(statement, signature)) {
            return true;
        }
        self.checked += 1;
        if !self.verifier.verify(site, &statement, &signature) {
            return false;
        }
        self.good.add((statement, signature));
        true
    }
}
