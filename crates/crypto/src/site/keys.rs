use super::signature::{CIPHERSUITE, is_signed};
use super::{SignatureShare, SiteSignature, SiteStatement};
use crate::KeyError;
use crate::text::{from_text, to_text};
use alloc::string::String;
use blst::min_sig::{self, PublicKey, SecretKey};
use borsh::{BorshDeserialize, BorshSerialize, io};
use core::fmt;
use core::str::FromStr;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

const THRESHOLD_PREFIX: &str = "althing-site-threshold-1:";
const PLAIN_PREFIX: &str = "althing-site-plain-1:";
const SHARE_PREFIX: &str = "althing-site-share-2:";
const THRESHOLD_SECRET_PREFIX: &str = "althing-site-secret-share-2:";
const PLAIN_SECRET_PREFIX: &str = "althing-site-secret-plain-1:";
const G2_BYTES: usize = 96;

/// A site's public key: all that other sites have to know to check what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SitePublic(pub(super) PublicKind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PublicKind {
    Threshold(PublicKey),
    Plain(VerifyingKey),
}

/// As it is encoded.
#[derive(BorshSerialize, BorshDeserialize)]
enum PublicBytes {
    Threshold([u8; G2_BYTES]),
    Plain([u8; 32]),
}

impl SitePublic {
    /// The longest encoding of a key, in bytes.
    pub const MAX_BYTES: usize = 1 + G2_BYTES;

    /// Whether f + 1 of its servers have to work together for a signature: then it is one that at least one
    /// correct server has taken part in.
    #[must_use]
    pub fn is_threshold(&self) -> bool {
        matches!(self.0, PublicKind::Threshold(_))
    }

    /// Whether `signature` is the site's, over `statement`.
    #[must_use]
    pub fn verify(&self, statement: &SiteStatement, signature: &SiteSignature) -> bool {
        match (&self.0, signature) {
            (PublicKind::Threshold(key), SiteSignature::Threshold(bytes)) => {
                min_sig::Signature::uncompress(bytes).is_ok_and(|it| is_signed(key, statement, &it))
            }
            (PublicKind::Plain(key), SiteSignature::Plain(bytes)) => {
                key.verify_strict(&statement.digest().0, &Signature::from_bytes(bytes)).is_ok()
            }
            (PublicKind::Threshold(_) | PublicKind::Plain(_), _) => false,
        }
    }

    fn from_bytes(bytes: &PublicBytes) -> Result<Self, KeyError> {
        Ok(Self(match bytes {
            PublicBytes::Threshold(bytes) => PublicKind::Threshold(point_of_g2(bytes)?),
            PublicBytes::Plain(bytes) => {
                let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::Point)?;
                if key.is_weak() {
                    return Err(KeyError::Point);
                }
                PublicKind::Plain(key)
            }
        }))
    }
}

impl fmt::Display for SitePublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match &self.0 {
            PublicKind::Threshold(key) => to_text(THRESHOLD_PREFIX, &key.compress()),
            PublicKind::Plain(key) => to_text(PLAIN_PREFIX, key.as_bytes()),
        })
    }
}

impl FromStr for SitePublic {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(&if text.trim_start().starts_with(PLAIN_PREFIX) {
            PublicBytes::Plain(*from_text(PLAIN_PREFIX, text)?)
        } else {
            PublicBytes::Threshold(*from_text(THRESHOLD_PREFIX, text)?)
        })
    }
}

impl BorshSerialize for SitePublic {
    fn serialize<W: io::Write>(&self, writer: &mut W) -> io::Result<()> {
        let bytes = match &self.0 {
            PublicKind::Threshold(key) => PublicBytes::Threshold(key.compress()),
            PublicKind::Plain(key) => PublicBytes::Plain(key.to_bytes()),
        };
        bytes.serialize(writer)
    }
}

impl BorshDeserialize for SitePublic {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let bytes = PublicBytes::deserialize_reader(reader)?;
        Self::from_bytes(&bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "no site key"))
    }
}

/// The public side of one server's share of a threshold key: what its shares of signatures are checked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareKey(pub(super) PublicKey);

impl fmt::Display for ShareKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_text(SHARE_PREFIX, &self.0.compress()))
    }
}

impl FromStr for ShareKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Ok(Self(point_of_g2(&*from_text(SHARE_PREFIX, text)?)?))
    }
}

/// What one server keeps secret for its site: its share of a threshold key, or a crash-tolerant site's
/// key as it is. Wiped from memory when dropped.
#[derive(Clone)]
pub struct SiteSecret(pub(super) SecretKind);

#[derive(Clone)]
pub(super) enum SecretKind {
    Threshold(SecretKey),
    Plain(SigningKey),
}

impl SiteSecret {
    /// What this server does for the site's signature over `statement`. Takes the same time whatever the key.
    ///
    /// Whoever has made a share has said what is in the batch.
    #[must_use]
    pub fn share(&self, statement: &SiteStatement) -> SignatureShare {
        let message = &statement.digest().0;
        match &self.0 {
            SecretKind::Threshold(key) => {
                SignatureShare::Threshold(key.sign(message, CIPHERSUITE, &[]).serialize())
            }
            SecretKind::Plain(key) => SignatureShare::Plain(key.sign(message).to_bytes()),
        }
    }

    /// The secret as one line of text; keep it in a file that only its owner can read.
    #[must_use]
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        Zeroizing::new(match &self.0 {
            SecretKind::Threshold(key) => to_text(THRESHOLD_SECRET_PREFIX, &Zeroizing::new(key.to_bytes())),
            SecretKind::Plain(key) => to_text(PLAIN_SECRET_PREFIX, key.as_bytes()),
        })
    }
}

impl FromStr for SiteSecret {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Ok(Self(if text.trim_start().starts_with(PLAIN_SECRET_PREFIX) {
            SecretKind::Plain(SigningKey::from_bytes(&*from_text(PLAIN_SECRET_PREFIX, text)?))
        } else {
            let bytes = from_text::<32>(THRESHOLD_SECRET_PREFIX, text)?;
            SecretKind::Threshold(SecretKey::from_bytes(&*bytes).map_err(|_| KeyError::Scalar)?)
        }))
    }
}

impl fmt::Debug for SiteSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            SecretKind::Threshold(_) => "SiteSecret(share)",
            SecretKind::Plain(_) => "SiteSecret(plain)",
        })
    }
}

/// The point, which is of the prime-order subgroup and not the point at infinity.
fn point_of_g2(bytes: &[u8; G2_BYTES]) -> Result<PublicKey, KeyError> {
    PublicKey::key_validate(bytes).map_err(|_| KeyError::Point)
}
