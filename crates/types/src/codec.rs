use alloc::vec::Vec;
use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

/// Why bytes from outside were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// More bytes than the caller allows for this kind of value; nothing was allocated.
    #[error("{actual} bytes where at most {limit} are allowed")]
    TooLong {
        /// Bytes received.
        actual: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not the canonical encoding of a value of the expected type.
    #[error("not a canonical encoding of the expected type")]
    Malformed,
}

/// The canonical encoding of `value`: equal values give equal bytes.
///
/// # Panics
/// If a collection in `value` holds more than `u32::MAX` elements, which no bounded value does.
pub fn encode<T: BorshSerialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    value.serialize(&mut bytes).expect("writing to memory fails only past u32::MAX elements");
    bytes
}

/// Decodes exactly one value from `bytes`, which may come from anywhere.
///
/// Allocation is bounded by `limit`: borsh never reserves more than the bytes that are there can
/// fill, and bytes left over are an error, so each value has one encoding only.
///
/// # Errors
/// [`DecodeError::TooLong`] past `limit` bytes, [`DecodeError::Malformed`] otherwise.
pub fn decode<T: BorshDeserialize>(bytes: &[u8], limit: usize) -> Result<T, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLong { actual: bytes.len(), limit });
    }
    T::try_from_slice(bytes).map_err(|_| DecodeError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_is_longer_than_allowed() {
        let bytes = encode(&alloc::vec![0u8; 10]);
        assert_eq!(decode::<Vec<u8>>(&bytes, 13), Err(DecodeError::TooLong { actual: 14, limit: 13 }));
    }

    #[test]
    fn refuses_a_length_bomb_and_trailing_bytes() {
        assert_eq!(decode::<Vec<u64>>(&[0xff, 0xff, 0xff, 0xff], 100), Err(DecodeError::Malformed));
        assert_eq!(decode::<u8>(&[1, 2], 100), Err(DecodeError::Malformed));
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(value) = decode::<(u8, Option<Vec<u8>>, bool)>(&bytes, 64) {
                prop_assert_eq!(encode(&value), bytes);
            }
        }
    }
}
