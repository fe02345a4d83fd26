use super::interpolation::{SECRET, place, scale};
use super::keys::{PublicKind, SecretKind};
use super::{ShareKey, SitePublic, SiteSecret, SiteShares};
use crate::KeySeed;
use alloc::vec::Vec;
use althing_types::Quorums;
use bls12_381::Scalar;
use blst::min_sig::SecretKey;
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

/// The keys of a site, as they are dealt: each server gets its secret, and all get the rest.
///
/// # Trust
/// Whoever deals holds the whole key while it does, and could sign as the site ever after if it kept
/// it. So it is dealt where the site is set up, by whoever sets it up and chooses its servers' programs
/// anyway, and nothing of it is kept but what the servers get. What follows can't be forged by the dealer
/// unnoticed: [`SiteShares::new`] refuses share keys that are of no polynomial of degree f, and
/// [`SiteShares::is_share_of`] a secret that is not the server's.
#[derive(Debug)]
pub struct SiteDeal {
    /// What the site's servers know of each other.
    pub shares: SiteShares,
    /// Of server i, at place i.
    pub secrets: Vec<SiteSecret>,
}

impl SiteDeal {
    /// A threshold key for a Byzantine fault-tolerant site: f + 1 of its n servers sign.
    ///
    /// The same seed gives the same keys: it has to be secret randomness that is used for nothing else.
    ///
    /// # Panics
    /// Never: that a share is zero, which is no key, has a chance of one in 2²⁵⁵.
    #[must_use]
    pub fn threshold(quorums: Quorums, seed: &KeySeed) -> Self {
        let coefficients: Zeroizing<Vec<Scalar>> = Zeroizing::new(
            (0..quorums.one_correct() as u64)
                .map(|power| {
                    Scalar::from_bytes_wide(&seed.expand("althing 2026-11 site key polynomial", power))
                })
                .collect(),
        );
        let key_at = |x: Scalar, times: Scalar| {
            let mut value = Zeroizing::new(Scalar::zero());
            for coefficient in coefficients.iter().rev() {
                *value = *value * x + coefficient;
            }
            *value *= times;
            let mut bytes = Zeroizing::new(value.to_bytes());
            bytes.reverse();
            SecretKey::from_bytes(&*bytes).expect("a share is zero with a chance of one in 2²⁵⁵")
        };
        let part = scale(quorums.n()).invert().expect("its factors are below the order, which is a prime");
        let secrets: Vec<SecretKey> = quorums.replicas().map(|server| key_at(place(server), part)).collect();
        let keys = secrets.iter().map(|secret| ShareKey(secret.sk_to_pk())).collect();
        let public = SitePublic(PublicKind::Threshold(key_at(SECRET, Scalar::one()).sk_to_pk()));
        let shares = SiteShares::new(public, quorums, keys).expect("they are values of one polynomial");
        let secrets = secrets.into_iter().map(|secret| SiteSecret(SecretKind::Threshold(secret))).collect();
        Self { shares, secrets }
    }

    /// A plain key for a crash-tolerant site of so many servers, which all hold it.
    ///
    /// The same seed gives the same key: it has to be secret randomness that is used for nothing else.
    #[must_use]
    pub fn plain(servers: usize, seed: &KeySeed) -> Self {
        let key = SigningKey::from_bytes(&seed.expand("althing 2026-11 site key", 0));
        let public = SitePublic(PublicKind::Plain(key.verifying_key()));
        let shares = SiteShares::plain(public, servers).expect("the key is a plain one");
        Self { shares, secrets: (0..servers).map(|_| SiteSecret(SecretKind::Plain(key.clone()))).collect() }
    }
}
