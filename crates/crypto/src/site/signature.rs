use super::SiteStatement;
use bls12_381::Scalar;
use blst::BLST_ERROR::BLST_SUCCESS;
use blst::min_sig::{PublicKey, SecretKey, Signature};
use blst::{Pairing, blst_p2_affine};
use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt;
use spin::Lazy;

/// Names this use of BLS over BLS12-381, so that its signatures mean nothing elsewhere.
pub(super) const CIPHERSUITE: &[u8] = b"ALTHING-SITE-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_";

/// A site's signature over a [`SiteStatement`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum SiteSignature {
    /// Of f + 1 servers of a Byzantine fault-tolerant site: a compressed point of G1.
    Threshold([u8; 48]),
    /// Of one server of a crash-tolerant site: Ed25519.
    Plain([u8; 64]),
}

impl SiteSignature {
    /// The longest encoding of a signature, in bytes.
    pub const MAX_BYTES: usize = 1 + 64;
}

impl fmt::Debug for SiteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threshold(bytes) => write!(f, "threshold:{:02x}{:02x}", bytes[0], bytes[1]),
            Self::Plain(bytes) => write!(f, "plain:{:02x}{:02x}", bytes[0], bytes[1]),
        }
    }
}

/// What one server does for its site's signature. Whose it is, is known by how it came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum SignatureShare {
    /// Of a threshold key: a point of G1 with both its coordinates, since whoever combines shares would have to find the
    /// other one for each, while all wait.
    Threshold([u8; 96]),
    /// Of a plain key: the signature itself.
    Plain([u8; 64]),
}

impl SignatureShare {
    /// The longest encoding of a share, in bytes.
    pub const MAX_BYTES: usize = 1 + 96;

    /// A share that contradicts this one, and is as well-formed: as a faulty server could send it. For fault injection.
    #[must_use]
    pub fn contradiction(&self) -> Self {
        const SIGN: u8 = 0x20;
        match self {
            Self::Threshold(_) => {
                let other = self.point().and_then(|point| {
                    let mut compressed = point.compress();
                    compressed[0] ^= SIGN;
                    Signature::uncompress(&compressed).ok()
                });
                other.map_or(*self, |point| Self::Threshold(point.serialize()))
            }
            Self::Plain(bytes) => {
                let mut other = *bytes;
                other[0] ^= 1;
                Self::Plain(other)
            }
        }
    }

    /// The point, on the curve but maybe in no subgroup of it.
    pub(super) fn point(&self) -> Option<Signature> {
        match self {
            Self::Threshold(bytes) => Signature::deserialize(bytes).ok(),
            Self::Plain(_) => None,
        }
    }
}

impl fmt::Debug for SignatureShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threshold(bytes) => write!(f, "threshold-share:{:02x}{:02x}", bytes[0], bytes[1]),
            Self::Plain(bytes) => write!(f, "plain-share:{:02x}{:02x}", bytes[0], bytes[1]),
        }
    }
}

/// The generator of G2 with its sign changed.
static NEGATED_GENERATOR: Lazy<PublicKey> = Lazy::new(|| {
    let mut minus_one = (-Scalar::one()).to_bytes();
    minus_one.reverse();
    SecretKey::from_bytes(&minus_one).expect("it is below the order").sk_to_pk()
});

/// Whether `signature` is the BLS signature by `key` over `statement`. The key is of its subgroup; that the
/// signature is of its own is checked here.
///
/// e(H(m), key) = e(σ, g), as e(H(m), key) · e(σ, -g) = 1: both pairings then take one loop, which saves a tenth of
/// what blst's own `verify` takes.
pub(super) fn is_signed(key: &PublicKey, statement: &SiteStatement, signature: &Signature) -> bool {
    if signature.validate(true).is_err() {
        return false;
    }
    let (key, negated): (&blst_p2_affine, &blst_p2_affine) = (key.into(), (&*NEGATED_GENERATOR).into());
    let mut pairing = Pairing::new(true, CIPHERSUITE);
    if pairing.aggregate(key, false, &NO_SIGNATURE, false, &statement.digest().0, &[]) != BLST_SUCCESS {
        return false;
    }
    pairing.raw_aggregate(negated, signature.into());
    pairing.commit();
    pairing.finalverify(None)
}

/// What stands in the place of a signature that is to be paired elsewhere.
const NO_SIGNATURE: () = ();
