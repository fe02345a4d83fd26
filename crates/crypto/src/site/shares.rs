use super::interpolation::{self, SECRET, place, scale};
use super::keys::{PublicKind, SecretKind};
use super::signature::is_signed;
use super::{ShareKey, SignatureShare, SitePublic, SiteSecret, SiteSignature, SiteStatement};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_types::{Quorums, ReplicaId};
use bls12_381::Scalar;
use blst::min_sig::PublicKey;
use thiserror::Error;

/// Keys that don't belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SharesError {
    /// The site's key is of the other kind.
    #[error("a threshold key has a share key for each server, and a plain key has none")]
    Kind,
    /// Not one for each server.
    #[error("{given} share keys for {servers} servers")]
    Number {
        /// Share keys given.
        given: usize,
        /// Servers of the site.
        servers: usize,
    },
    /// The first f + 1 share keys make another key than the site's.
    #[error(
        "the first {needed} share keys do not make the site's key: f is another, one of them is wrong, or the site's \
         key is"
    )]
    Site {
        /// f + 1.
        needed: usize,
    },
    /// A share key does not fit the others.
    #[error("the share key of server {server} does not fit those before it")]
    Apart {
        /// The first server whose key does not fit.
        server: ReplicaId,
    },
}

/// What came of combining shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Combination {
    /// The site's signature, if enough of the shares were good.
    pub signature: Option<SiteSignature>,
    /// Servers whose shares were wrong, as far as that had to be found out. No correct server is among them.
    pub wrong: Vec<ReplicaId>,
}

/// How a site's key is shared among its servers: what each of them knows to make signatures of shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteShares {
    public: SitePublic,
    servers: usize,
    /// How many shares make a signature.
    needed: usize,
    /// Of a threshold key; empty for a plain one.
    keys: Vec<PublicKey>,
}

impl SiteShares {
    /// A threshold key, with the share key of each server, by its id.
    ///
    /// Checks that all share keys lie on one polynomial with the site's key: n - f interpolations, each over
    /// f + 1 points.
    ///
    /// # Errors
    /// [`SharesError`]: keys that would not work together.
    pub fn new(public: SitePublic, quorums: Quorums, keys: Vec<ShareKey>) -> Result<Self, SharesError> {
        let PublicKind::Threshold(key) = public.0 else {
            return Err(SharesError::Kind);
        };
        let (servers, needed) = (quorums.n(), quorums.one_correct());
        if keys.len() != servers {
            return Err(SharesError::Number { given: keys.len(), servers });
        }
        let keys: Vec<PublicKey> = keys.into_iter().map(|key| key.0).collect();
        // Any f + 1 points are on one polynomial: those of the first servers.
        let points: Vec<_> = quorums.replicas().zip(&keys).map(|(id, key)| (place(id), *key)).collect();
        let first = &points[..needed];
        if interpolation::of_keys(scale(servers), SECRET, first) != key {
            return Err(SharesError::Site { needed });
        }
        for (server, (place, share)) in quorums.replicas().zip(&points).skip(needed) {
            if interpolation::of_keys(Scalar::one(), *place, first) != *share {
                return Err(SharesError::Apart { server });
            }
        }
        Ok(Self { public, servers, needed, keys })
    }

    /// A plain key that all of so many servers hold.
    ///
    /// # Errors
    /// [`SharesError::Kind`] for a threshold key.
    pub fn plain(public: SitePublic, servers: usize) -> Result<Self, SharesError> {
        match public.0 {
            PublicKind::Plain(_) => Ok(Self { public, servers, needed: 1, keys: Vec::new() }),
            PublicKind::Threshold(_) => Err(SharesError::Kind),
        }
    }

    /// The site's key, as other sites know it.
    #[must_use]
    pub fn public(&self) -> &SitePublic {
        &self.public
    }

    /// How many shares make a signature.
    #[must_use]
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// The share keys of the servers, by id; of a plain key there are none.
    pub fn keys(&self) -> impl Iterator<Item = ShareKey> {
        self.keys.iter().copied().map(ShareKey)
    }

    /// Whether `secret` is what `server` has to hold.
    #[must_use]
    pub fn is_share_of(&self, server: ReplicaId, secret: &SiteSecret) -> bool {
        match (&secret.0, &self.public.0) {
            (SecretKind::Threshold(secret), PublicKind::Threshold(_)) => {
                self.keys.get(usize::from(server.0)).is_some_and(|key| secret.sk_to_pk() == *key)
            }
            (SecretKind::Plain(secret), PublicKind::Plain(public)) => {
                self.has(server) && secret.verifying_key() == *public
            }
            (SecretKind::Threshold(_) | SecretKind::Plain(_), _) => false,
        }
    }

    /// Whether `server` made `share` for `statement`.
    #[must_use]
    pub fn verify_share(&self, server: ReplicaId, statement: &SiteStatement, share: &SignatureShare) -> bool {
        match (&self.public.0, share) {
            (PublicKind::Plain(_), SignatureShare::Plain(bytes)) => {
                self.has(server) && self.public.verify(statement, &SiteSignature::Plain(*bytes))
            }
            (PublicKind::Threshold(_), SignatureShare::Threshold(_)) => {
                let key = self.keys.get(usize::from(server.0));
                key.zip(share.point()).is_some_and(|(key, point)| is_signed(key, statement, &point))
            }
            (PublicKind::Plain(_) | PublicKind::Threshold(_), _) => false,
        }
    }

    /// The site's signature over `statement`, from shares by who sent them.
    ///
    /// The first ones that are enough are combined as they are, and what comes out is checked. Where it does
    /// not hold they are checked one by one, until enough are found good: whoever has sent a wrong one should
    /// not be listened to again, since each costs as much as a signature.
    #[must_use]
    pub fn combine(
        &self,
        statement: &SiteStatement,
        shares: &BTreeMap<ReplicaId, SignatureShare>,
    ) -> Combination {
        if shares.keys().filter(|server| self.has(**server)).count() < self.needed {
            return Combination { signature: None, wrong: Vec::new() };
        }
        let signature = self.combine_unchecked(shares);
        let signature = signature.filter(|signature| self.public.verify(statement, signature));
        if signature.is_some() {
            return Combination { signature, wrong: Vec::new() };
        }
        let (mut good, mut wrong) = (Vec::new(), Vec::new());
        for (server, share) in shares {
            if self.verify_share(*server, statement, share) {
                good.push((server, share));
            } else {
                wrong.push(*server);
            }
            if good.len() == self.needed {
                return Combination { signature: self.interpolate(&good), wrong };
            }
        }
        Combination { signature: None, wrong }
    }

    /// What the first shares that are enough make: the site's signature, if all of them are good. `None` where there are
    /// too few, or one of them is no point.
    ///
    /// That takes a small part of what [`Self::combine`] does. Whoever goes by it has to find out later.
    #[must_use]
    pub fn combine_unchecked(&self, shares: &BTreeMap<ReplicaId, SignatureShare>) -> Option<SiteSignature> {
        let first: Vec<_> =
            shares.iter().filter(|(server, _)| self.has(**server)).take(self.needed).collect();
        if first.len() < self.needed {
            return None;
        }
        self.interpolate(&first)
    }

    fn has(&self, server: ReplicaId) -> bool {
        usize::from(server.0) < self.servers
    }

    /// What these shares, as many as are needed, make; `None` where one is of another kind or no point.
    fn interpolate(&self, shares: &[(&ReplicaId, &SignatureShare)]) -> Option<SiteSignature> {
        if let PublicKind::Plain(_) = self.public.0 {
            let [(_, SignatureShare::Plain(bytes))] = shares else { return None };
            return Some(SiteSignature::Plain(*bytes));
        }
        let points = shares.iter().map(|(server, share)| Some((place(**server), share.point()?)));
        let points = points.collect::<Option<Vec<_>>>()?;
        let signature = interpolation::of_signatures(scale(self.servers), &points);
        Some(SiteSignature::Threshold(signature.compress()))
    }
}
