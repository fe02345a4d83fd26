use crate::Domain;
use crate::keyring::digest_in;
use crate::text::{from_text, to_text};
use alloc::string::String;
use alloc::vec::Vec;
use althing_types::GroupId;
use borsh::{BorshDeserialize, BorshSerialize, io};
use core::fmt;
use core::str::FromStr;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use thiserror::Error;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

const SECRET_PREFIX: &str = "althing-secret-1:";
const PUBLIC_PREFIX: &str = "althing-public-1:";
const KEY_BYTES: usize = 64;

/// A text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// It does not start as a key of this kind does.
    #[error("a key of this kind starts with `{expected}`")]
    Prefix {
        /// How it should start.
        expected: &'static str,
    },
    /// Not hexadecimal, or not of a key's length.
    #[error("after the prefix a key has {expected} hexadecimal digits; this one is cut off or mistyped")]
    Digits {
        /// How many digits it should have.
        expected: usize,
    },
    /// The check digits don't match: a digit is mistyped.
    #[error("the key's check digits do not match: at least one digit is wrong")]
    Check,
    /// The bytes are no point of the curve.
    #[error("the bytes are not a valid public key")]
    Point,
    /// The bytes are no secret key: zero, or too large a number.
    #[error("the bytes are not a valid secret key")]
    Scalar,
}

/// A transferable proof that someone said something: a signature that anybody can check.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Proof(pub Vec<u8>);

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head: [u8; 2] = [0, 1].map(|i| self.0.get(i).copied().unwrap_or(0));
        write!(f, "proof:{:02x}{:02x}", head[0], head[1])
    }
}

/// A machine's secret keys: Ed25519 for proofs, X25519 for MAC keys and channels.
#[derive(Clone)]
pub struct Identity {
    signing: SigningKey,
    exchange: StaticSecret,
}

impl Identity {
    /// An identity from 64 bytes of secret randomness.
    #[must_use]
    pub fn from_secret_bytes(secret: &[u8; KEY_BYTES]) -> Self {
        let (signing, exchange) = halves(secret);
        Self { signing: SigningKey::from_bytes(&signing), exchange: StaticSecret::from(*exchange) }
    }

    /// What others know this machine by.
    #[must_use]
    pub fn public(&self) -> PublicIdentity {
        PublicIdentity { verifying: self.signing.verifying_key(), exchange: PublicKey::from(&self.exchange) }
    }

    /// The X25519 secret, for channels that need it as bytes.
    #[must_use]
    pub fn exchange_secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.exchange.to_bytes())
    }

    /// The secret keys as one line of text; keep it in a file that only its owner can read.
    #[must_use]
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        bytes[..32].copy_from_slice(self.signing.as_bytes());
        bytes[32..].copy_from_slice(&self.exchange.to_bytes());
        Zeroizing::new(to_text(SECRET_PREFIX, &bytes))
    }

    /// A proof of mine over `bytes` that anybody can check who has my public key: also who is not of the
    /// group, and in a group that I am not of.
    #[must_use]
    pub fn sign_in(&self, group: GroupId, domain: Domain, bytes: &[u8]) -> Proof {
        self.sign(&digest_in(group, domain, bytes).0)
    }

    pub(crate) fn sign(&self, bytes: &[u8]) -> Proof {
        Proof(self.signing.sign(bytes).to_bytes().to_vec())
    }

    pub(crate) fn exchange(&self) -> &StaticSecret {
        &self.exchange
    }
}

impl FromStr for Identity {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Ok(Self::from_secret_bytes(&*from_text(SECRET_PREFIX, text)?))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(of {})", self.public())
    }
}

/// A machine's public keys: what others check its proofs and derive MAC keys with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicIdentity {
    verifying: VerifyingKey,
    exchange: PublicKey,
}

impl PublicIdentity {
    /// The X25519 public key, by which channels know this machine.
    #[must_use]
    pub fn exchange_bytes(&self) -> [u8; 32] {
        self.exchange.to_bytes()
    }

    /// Both keys, as in [`Self::from_bytes`].
    #[must_use]
    pub fn to_bytes(&self) -> [u8; KEY_BYTES] {
        let mut bytes = [0; KEY_BYTES];
        bytes[..32].copy_from_slice(self.verifying.as_bytes());
        bytes[32..].copy_from_slice(self.exchange.as_bytes());
        bytes
    }

    /// The keys in `bytes`: Ed25519, then X25519.
    ///
    /// # Errors
    /// [`KeyError::Point`] where the first is no point of the curve.
    pub fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Result<Self, KeyError> {
        let (verifying, exchange) = halves(bytes);
        Ok(Self {
            verifying: VerifyingKey::from_bytes(&verifying).map_err(|_| KeyError::Point)?,
            exchange: PublicKey::from(*exchange),
        })
    }

    /// Whether who has one of the other's secret keys has one of these: what it signs, or a channel with it,
    /// then passes for that of both.
    #[must_use]
    pub fn shares_a_key_with(&self, other: &Self) -> bool {
        self.verifying == other.verifying || self.exchange == other.exchange
    }

    /// Whether who has these keys made `proof` over `bytes`, for that group and domain.
    #[must_use]
    pub fn verify_in(&self, group: GroupId, proof: &Proof, domain: Domain, bytes: &[u8]) -> bool {
        self.verify(proof, &digest_in(group, domain, bytes).0)
    }

    pub(crate) fn exchange(&self) -> &PublicKey {
        &self.exchange
    }

    pub(crate) fn verify(&self, proof: &Proof, bytes: &[u8]) -> bool {
        Signature::from_slice(&proof.0)
            .is_ok_and(|signature| self.verifying.verify_strict(bytes, &signature).is_ok())
    }
}

impl fmt::Display for PublicIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_text(PUBLIC_PREFIX, &self.to_bytes()))
    }
}

impl BorshSerialize for PublicIdentity {
    fn serialize<W: io::Write>(&self, writer: &mut W) -> io::Result<()> {
        self.to_bytes().serialize(writer)
    }
}

impl BorshDeserialize for PublicIdentity {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let bytes = <[u8; KEY_BYTES]>::deserialize_reader(reader)?;
        Self::from_bytes(&bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "no public key"))
    }
}

impl FromStr for PublicIdentity {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(&*from_text(PUBLIC_PREFIX, text)?)
    }
}

fn halves(bytes: &[u8; KEY_BYTES]) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>) {
    let (mut first, mut second) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
    first.copy_from_slice(&bytes[..32]);
    second.copy_from_slice(&bytes[32..]);
    (first, second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    #[test]
    fn keys_survive_their_text() {
        let identity = Identity::from_secret_bytes(&[7; 64]);
        let again: Identity = identity.to_secret_text().parse().unwrap();
        assert_eq!(again.public(), identity.public());
        assert_eq!(identity.public().to_string().parse(), Ok(identity.public()));
        let bytes = althing_types::encode(&identity.public());
        assert_eq!(althing_types::decode(&bytes, 64), Ok(identity.public()));
        assert!((0..=u8::MAX).any(|byte| PublicIdentity::from_bytes(&[byte; 64]) == Err(KeyError::Point)));
    }

    #[test]
    fn every_broken_text_is_refused_for_its_reason() {
        let good = Identity::from_secret_bytes(&[7; 64]).public().to_string();
        let parse = |text: &str| text.parse::<PublicIdentity>().unwrap_err();
        assert_eq!(parse("hello"), KeyError::Prefix { expected: PUBLIC_PREFIX });
        assert_eq!(parse(&good[..good.len() - 1]), KeyError::Digits { expected: 136 });
        assert_eq!(parse(&good.replacen(':', ":z", 1)[..good.len()]), KeyError::Digits { expected: 136 });
        let last = if good.ends_with('0') { "1" } else { "0" };
        assert_eq!(parse(&(good[..good.len() - 1].to_string() + last)), KeyError::Check);
        let secret = Identity::from_secret_bytes(&[7; 64]).to_secret_text();
        assert_eq!(parse(&secret), KeyError::Prefix { expected: PUBLIC_PREFIX });
    }

    #[test]
    fn a_secret_never_shows_in_debug_output() {
        let identity = Identity::from_secret_bytes(&[0xab; 64]);
        assert!(!format!("{identity:?}").contains("abababab"));
    }
}
