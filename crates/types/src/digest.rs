use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt;

/// A collision-resistant hash of something: 32 bytes. `althing-crypto` makes them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, BorshSerialize, BorshDeserialize)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Stands for nothing hashed: the digest of a null request (PBFT §4.4).
    pub const NULL: Self = Self([0; 32]);
}

impl fmt::Display for Digest {
    /// The first eight bytes in hexadecimal: enough to tell digests apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{self}")
    }
}
