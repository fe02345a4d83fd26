//! What a site signs: its servers together, as the one machine that they are to other sites (Amir et
//! al., SRDS'07 §4 and §6).
//!
//! | a site is | its signature | who makes it |
//! |---|---|---|
//! | Byzantine fault-tolerant | BLS, 48 bytes ([`SiteSignature::Threshold`]) | any f + 1 of its n servers, each by a share; f can't |
//! | crash-tolerant | Ed25519, 64 bytes ([`SiteSignature::Plain`]) | any of its servers: each holds the key |
//!
//! A signature is over a [`SiteBatch`]: the root of a Merkle tree over the messages of a batch, with the
//! site and its system. Each message carries the signature and its own path ([`SiteProof`]), and stands
//! for itself. Messages that go together share what proves them ([`SiteRangeProof`]), and each one's own
//! proof is found from that. Other sites know one key of a site ([`SitePublic`]), and [`SiteKeys`] checks a signature
//! once for all the messages of a batch. Its own servers know how it is shared ([`SiteShares`]).
//!
//! # Shares
//! The secret is n! times the value at 0 of a polynomial of degree f over the scalars of BLS12-381, and server i holds
//! the value at i + 1 (Shamir; n! makes short whole numbers of what shares are multiplied with, as Shoup has it in
//! EUROCRYPT 2000). A BLS signature is a point multiplied by the secret, so f + 1 shares of a signature interpolate to
//! it, without a word between their makers and without choosing them beforehand; whoever makes it, of whichever
//! shares, gets the same 48 bytes (Boldyreva, PKC'03). Shares are points with both coordinates, 96 bytes. They are
//! combined unchecked, and the result is checked: only where it does not hold is each share checked by itself, which
//! tells who sent a wrong one. A share that is wrong by a point outside the subgroup which the multiplication makes
//! nothing of does no harm, and its sender is not told.
//!
//! Signatures are points of G1 and keys of G2, where decoding a key checks that it is of the prime-order
//! subgroup and not the point at infinity. A signature is checked for its subgroup when it is verified; a
//! share when it is checked by itself, and before that nothing but what comes out of it counts. Keys are
//! never added up, so there is nothing to gain by one that depends on another's.
//!
//! # Deviations from the paper
//! - BLS in place of Shoup's threshold RSA: shares need no proofs, and a signature is 48 bytes instead of
//!   128 or 256 (ADR 22).
//! - The paper's tree has no domains and no number of leaves.
//!
//! # Who is trusted
//! Whoever deals the keys knows all of them while it does. See [`SiteDeal`].

mod batch;
mod deal;
mod interpolation;
mod keys;
mod scheme;
mod shares;
mod signature;
mod verified;

pub use batch::{SiteBatch, SiteProof, SiteRangeProof, SiteStatement};
pub use deal::SiteDeal;
pub use keys::{ShareKey, SitePublic, SiteSecret};
pub use scheme::{SiteSigner, SiteVerifier};
pub use shares::{Combination, SharesError, SiteShares};
pub use signature::{SignatureShare, SiteSignature};
pub use verified::SiteKeys;

#[cfg(test)]
mod tests;
