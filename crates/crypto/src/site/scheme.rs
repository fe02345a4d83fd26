use super::{Combination, SignatureShare, SitePublic, SiteSecret, SiteShares, SiteSignature, SiteStatement};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_types::{ReplicaId, SiteId};
use core::fmt::Debug;

/// How signatures of sites are checked. There is one way; a simulation has another that costs nothing.
pub trait SiteVerifier: Debug + Send + Sync {
    /// Whether `site` has signed `statement`.
    fn verify(&self, site: SiteId, statement: &SiteStatement, signature: &SiteSignature) -> bool;

    /// Whether [`Self::foresee`] does anything.
    fn can_foresee(&self) -> bool {
        false
    }

    /// That is probably going to be asked soon: what can be found out meanwhile, elsewhere, may be begun.
    fn foresee(&self, _site: SiteId, _statement: SiteStatement, _signature: SiteSignature) {}
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

    /// The same before it is checked, as [`SiteShares::combine_unchecked`] makes it.
    fn combine_unchecked(
        &self,
        statement: &SiteStatement,
        shares: &BTreeMap<ReplicaId, SignatureShare>,
    ) -> Option<SiteSignature>;
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

    fn combine_unchecked(
        &self,
        _: &SiteStatement,
        shares: &BTreeMap<ReplicaId, SignatureShare>,
    ) -> Option<SiteSignature> {
        self.1.combine_unchecked(shares)
    }
}
