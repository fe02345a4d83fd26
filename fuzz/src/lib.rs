//! What the fuzz targets share.

pub mod pbft_group;
pub mod shadow;

use borsh::{BorshDeserialize, BorshSerialize};

/// Decodes `bytes` as a `T` and holds it to the codec's promise: each value has one encoding, so
/// what was decoded encodes to the bytes it came from.
///
/// # Panics
/// When a value comes from bytes that aren't its encoding: two encodings of one message would have
/// two digests.
pub fn canonical<T: BorshDeserialize + BorshSerialize>(bytes: &[u8], limit: usize) -> Option<T> {
    let value = althing_types::decode::<T>(bytes, limit).ok()?;
    assert!(althing_types::encode(&value) == bytes, "{} has a second encoding", std::any::type_name::<T>());
    Some(value)
}
