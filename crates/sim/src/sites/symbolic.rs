//! What stands for the signatures of sites where real ones would take most of a run.

use althing_crypto::hash;
use althing_crypto::site::{
    Combination, SignatureShare, SiteSignature, SiteSigner, SiteStatement, SiteVerifier,
};
use althing_types::{ReplicaId, SiteId, encode};
use std::collections::BTreeMap;

/// How many bytes stand for a signature.
pub(crate) const SIGNATURE_BYTES: usize = 48;

/// What stands for a signature, or for a share of one, in so many bytes.
fn symbol<const BYTES: usize>(
    site: SiteId,
    server: Option<ReplicaId>,
    statement: &SiteStatement,
) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let digest = hash("symbolic site signature", &encode(&(site, server, statement.digest())));
    bytes[..32].copy_from_slice(&digest.0);
    bytes
}

/// What stands for a site's signature, or for one that is somebody else's.
fn symbolic(site: SiteId, server: Option<ReplicaId>, statement: &SiteStatement) -> SiteSignature {
    SiteSignature::Threshold(symbol::<SIGNATURE_BYTES>(site, server, statement))
}

/// Checks symbols.
#[derive(Debug, Default)]
pub(crate) struct SymbolicVerifier {
    /// Whether it is that of a server with several processors. It takes no time either way, but the server goes by it.
    pub(crate) can_foresee: bool,
}

impl SiteVerifier for SymbolicVerifier {
    fn verify(&self, site: SiteId, statement: &SiteStatement, signature: &SiteSignature) -> bool {
        *signature == symbolic(site, None, statement)
    }

    fn can_foresee(&self) -> bool {
        self.can_foresee
    }
}

/// Makes them.
pub(crate) struct SymbolicSigner {
    site: SiteId,
    needed: usize,
    me: ReplicaId,
}

impl SymbolicSigner {
    /// For server `me` of a site where it takes `needed` shares.
    pub(crate) fn new(site: SiteId, needed: usize, me: ReplicaId) -> Self {
        Self { site, needed, me }
    }

    fn share_of(&self, server: ReplicaId, statement: &SiteStatement) -> SignatureShare {
        SignatureShare::Threshold(symbol(self.site, Some(server), statement))
    }
}

impl SiteSigner for SymbolicSigner {
    fn needed(&self) -> usize {
        self.needed
    }

    fn share(&self, statement: &SiteStatement) -> SignatureShare {
        self.share_of(self.me, statement)
    }

    fn combine(
        &self,
        statement: &SiteStatement,
        shares: &BTreeMap<ReplicaId, SignatureShare>,
    ) -> Combination {
        let is_wrong =
            |(server, share): &(&ReplicaId, &SignatureShare)| **share != self.share_of(**server, statement);
        let wrong: Vec<ReplicaId> = shares.iter().filter(is_wrong).map(|(server, _)| *server).collect();
        let is_enough = shares.len() - wrong.len() >= self.needed;
        Combination { signature: is_enough.then(|| symbolic(self.site, None, statement)), wrong }
    }

    /// A wrong share among the first makes something that is nobody's.
    fn combine_unchecked(
        &self,
        statement: &SiteStatement,
        shares: &BTreeMap<ReplicaId, SignatureShare>,
    ) -> Option<SiteSignature> {
        let mut first = shares.iter().take(self.needed);
        let is_good = first.all(|(server, share)| *share == self.share_of(*server, statement));
        let maker = (!is_good).then_some(ReplicaId(u16::MAX));
        (shares.len() >= self.needed).then(|| symbolic(self.site, maker, statement))
    }
}
