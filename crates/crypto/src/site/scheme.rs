use super::{Combination, SignatureShare, SitePublic, SiteSecret, SiteShares, SiteSignature, SiteStatement};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_types::{ReplicaId, SiteId};
use core::fmt::Debug;

/// How signatures of sites are checked. There is one way; a simulation has another that costs nothing.
pub trait SiteVerifier: Debug + Send + Sync {
    /// Whether `site` has signed `statement`.
    fn verify(&self, site: SiteId, statement: &SiteStatement, signature: &SiteSignature) -> bool;
}

/// The sites' keys, by id.
impl SiteVerifier for Vec<SitePublic> {
    fn verify(&self, site: SiteId, statement: &SiteStatement, signature: &SiteSignature) -> bool {
        self.get(usize::from(site.0)).is_some_and(|public| public.verify(statement, signature))
    }
}

/// How a server of a site signs with the others.
pub trait SiteSigner: Send + Sync {
    /// How many servers it takes.
    fn needed(&self) -> usize;

    /// This server's share.
    fn share(&self, statement: &SiteStatement) -> SignatureShare;

    /// The site's signature, as [`SiteShares::combine`] makes it.
    fn combine(&self, statement: &SiteStatement, shares: &BTreeMap<ReplicaId, SignatureShare>)
    -> Combination;
}

/// A server's secret, and how the site's key is shared.
impl SiteSigner for (SiteSecret, SiteShares) {
    fn needed(&self) -> usize {
        self.1.needed()
    }

    fn share(&self, statement: &SiteStatement) -> SignatureShare {
        self.0.share(statement)
    }

    fn combine(
        &self,
        statement: &SiteStatement,
        shares: &BTreeMap<ReplicaId, SignatureShare>,
    ) -> Combination {
        self.1.combine(statement, shares)
    }
}
