use althing_types::Digest;
use borsh::BorshSerialize;

/// The digest of `bytes` in `context`, a constant that names what is hashed so that no two kinds
/// of thing ever share a digest.
#[must_use]
pub fn hash(context: &'static str, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(context);
    hasher.bytes(bytes);
    hasher.finish()
}

/// Hashes several values into one digest.
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// A hasher for the kind of thing that `context` names.
    #[must_use]
    pub fn new(context: &'static str) -> Self {
        let mut inner = blake3::Hasher::new();
        inner.update(&(context.len() as u64).to_le_bytes());
        inner.update(context.as_bytes());
        Self(inner)
    }

    /// Adds bytes, preceded by their length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// Adds the canonical encoding of `value`.
    pub fn value<T: BorshSerialize>(&mut self, value: &T) {
        self.bytes(&althing_types::encode(value));
    }

    /// The digest of all that was added.
    #[must_use]
    pub fn finish(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}
