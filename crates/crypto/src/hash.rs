use alloc::vec::Vec;
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

/// The digest that a [`Hasher`] for `context` gives of `parts`, each added by [`Hasher::bytes`].
///
/// They are gathered in `buffer` first, of which nothing stays that matters: kilobytes that begin where
/// BLAKE3 begins are hashed several at a time, and those behind a short beginning are not.
#[must_use]
pub fn hash_parts(context: &'static str, parts: &[&[u8]], buffer: &mut Vec<u8>) -> Digest {
    buffer.clear();
    for part in core::iter::once(&context.as_bytes()).chain(parts) {
        buffer.extend_from_slice(&(part.len() as u64).to_le_bytes());
        buffer.extend_from_slice(part);
    }
    Digest(*blake3::hash(buffer).as_bytes())
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_that_are_gathered_have_the_digest_of_those_that_are_added(
            lengths in proptest::collection::vec(0usize..6000, 0..4),
            byte in any::<u8>(),
        ) {
            let parts: Vec<Vec<u8>> = lengths.iter().map(|length| vec![byte; *length]).collect();
            let mut hasher = Hasher::new("a test");
            parts.iter().for_each(|part| hasher.bytes(part));
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let mut buffer = vec![1, 2, 3];
            prop_assert_eq!(hash_parts("a test", &parts, &mut buffer), hasher.finish());
        }
    }
}
