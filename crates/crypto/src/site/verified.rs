use super::{SiteProof, SitePublic, SiteRangeProof, SiteSignature, SiteStatement, SiteVerifier};
use crate::{Domain, PartialTree, Proof};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{GroupId, Recent, SiteId};
use spin::Mutex;

/// The keys of all sites of a system, with the signatures that were found good lately: the messages of a
/// batch come one after the other and share one, and checking it costs more than all else.
///
/// A clone shares what was found good: it is for another part of the same server. Each server makes its own,
/// since none has reason to believe what another says it has checked.
#[derive(Debug, Clone)]
pub struct SiteKeys {
    system: GroupId,
    verifier: Arc<dyn SiteVerifier>,
    memory: Arc<Mutex<Memory>>,
}

/// What is known of signatures. It changes what checking costs, and never what comes of it.
#[derive(Debug)]
struct Memory {
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
        let memory = Memory { good: Recent::new(Self::MOST_REMEMBERED), checked: 0 };
        Self { system, verifier, memory: Arc::new(Mutex::new(memory)) }
    }

    /// The system that the sites make up.
    #[must_use]
    pub fn system(&self) -> GroupId {
        self.system
    }

    /// How many signatures were checked so far, good and bad, by all parts of the server: those that were
    /// remembered don't count.
    #[must_use]
    pub fn checked(&self) -> u64 {
        self.memory.lock().checked
    }

    /// Takes note of a signature that this server has found good in another way: whoever combines shares checks
    /// what comes out.
    pub fn remember(&self, statement: SiteStatement, signature: SiteSignature) {
        self.memory.lock().good.add((statement, signature));
    }

    /// Whether `site` has said `bytes`, as `proof` is to show.
    #[must_use]
    pub fn verify(&self, site: SiteId, proof: &Proof, domain: Domain, bytes: &[u8]) -> bool {
        SiteProof::try_from(proof).is_ok_and(|proof| self.verify_proof(site, &proof, domain, bytes))
    }

    /// As [`Self::verify`].
    #[must_use]
    pub fn verify_proof(&self, site: SiteId, proof: &SiteProof, domain: Domain, bytes: &[u8]) -> bool {
        let statement = proof.statement(self.system, site, domain, bytes);
        self.is_signed(site, statement, proof.signature)
    }

    /// Whether [`Self::foresee`] does anything.
    #[must_use]
    pub fn can_foresee(&self) -> bool {
        self.verifier.can_foresee()
    }

    /// [`Self::verify_proof`] is probably going to be asked this soon. It changes when the work is done, and never what comes
    /// of it.
    pub fn foresee_proof(&self, site: SiteId, proof: &SiteProof, domain: Domain, bytes: &[u8]) {
        self.foresee(site, proof.statement(self.system, site, domain, bytes), proof.signature);
    }

    /// The same of [`Self::is_signed`].
    pub fn foresee(&self, site: SiteId, statement: SiteStatement, signature: SiteSignature) {
        if !self.memory.lock().good.has(&(statement, signature)) {
            self.verifier.foresee(site, statement, signature);
        }
    }

    /// The part of a batch's tree that these messages have in common, if `site` has said all of them as `proof` is to
    /// show: with [`SiteRangeProof::proofs`] each then stands for itself.
    #[must_use]
    pub fn verify_range(
        &self,
        site: SiteId,
        proof: &SiteRangeProof,
        messages: &[(Domain, &[u8])],
    ) -> Option<PartialTree> {
        let tree = proof.tree(self.system, messages)?;
        let statement = SiteStatement::new(self.system, site, &tree.root());
        self.is_signed(site, statement, proof.signature).then_some(tree)
    }

    /// Whether `site` has signed `statement`.
    #[must_use]
    pub fn is_signed(&self, site: SiteId, statement: SiteStatement, signature: SiteSignature) -> bool {
        if self.memory.lock().good.has(&(statement, signature)) {
            return true;
        }
        // Nobody waits for it meanwhile.
        let is_good = self.verifier.verify(site, &statement, &signature);
        let mut memory = self.memory.lock();
        memory.checked += 1;
        if is_good {
            memory.good.add((statement, signature));
        }
        is_good
    }
}
