use alloc::vec::Vec;
use althing_types::{DecodeError, decode, encode};
use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

/// The longest key.
pub const MAX_KEY_BYTES: usize = 1024;

/// The longest value: with the longest key it fits on one page of the state.
pub const MAX_VALUE_BYTES: usize = 60 * 1024;

/// The longest operation: a key and two values.
const MAX_OPERATION_BYTES: usize = MAX_KEY_BYTES + 2 * MAX_VALUE_BYTES + 64;
/// The longest result: a value.
const MAX_RESULT_BYTES: usize = MAX_VALUE_BYTES + 64;

/// What a client asks of the store.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum KvOperation {
    /// Read the value of a key.
    Get {
        /// The key.
        key: Vec<u8>,
    },
    /// Give a key a value.
    Put {
        /// The key.
        key: Vec<u8>,
        /// Its value from now on.
        value: Vec<u8>,
    },
    /// Compare and swap: give a key a value, or none, if it has the value expected.
    Cas {
        /// The key.
        key: Vec<u8>,
        /// The value that it must have; `None` where it must have none.
        expected: Option<Vec<u8>>,
        /// Its value from now on; `None` deletes it.
        new: Option<Vec<u8>>,
    },
    /// Take a key's value away.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
}

impl KvOperation {
    /// The operation as it is submitted.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// The operation that `bytes` stand for.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, KvRefusal> {
        let operation: Self = decode(bytes, MAX_OPERATION_BYTES).map_err(|_| KvRefusal::Malformed)?;
        operation.check()?;
        Ok(operation)
    }

    fn check(&self) -> Result<(), KvRefusal> {
        let (key, values): (_, [Option<&Vec<u8>>; 2]) = match self {
            Self::Get { key } | Self::Delete { key } => (key, [None, None]),
            Self::Put { key, value } => (key, [Some(value), None]),
            Self::Cas { key, expected, new } => (key, [expected.as_ref(), new.as_ref()]),
        };
        if key.len() > MAX_KEY_BYTES {
            return Err(KvRefusal::KeyTooLong);
        }
        if values.into_iter().flatten().any(|value| value.len() > MAX_VALUE_BYTES) {
            return Err(KvRefusal::ValueTooLong);
        }
        Ok(())
    }
}

/// What became of an operation.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum KvResult {
    /// The key's value; `None` where it has none.
    Value(Option<Vec<u8>>),
    /// The key has its new value.
    Stored,
    /// The key's value was not the one expected; nothing changed.
    Mismatch {
        /// The value that it has.
        actual: Option<Vec<u8>>,
    },
    /// The key has no value now; whether it had one.
    Deleted(bool),
    /// The operation was refused; nothing changed.
    Refused(KvRefusal),
}

impl KvResult {
    /// The result as the store gives it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// The result that `bytes` stand for.
    ///
    /// # Errors
    /// When they are no result of the store.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes, MAX_RESULT_BYTES)
    }
}

/// Why an operation was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error, BorshSerialize, BorshDeserialize)]
pub enum KvRefusal {
    /// The bytes are no operation of the store.
    #[error("the operation is malformed")]
    Malformed,
    /// The key is longer than allowed.
    #[error("a key has at most {MAX_KEY_BYTES} bytes")]
    KeyTooLong,
    /// A value is longer than allowed.
    #[error("a value has at most {MAX_VALUE_BYTES} bytes")]
    ValueTooLong,
    /// The store has no room for another page.
    #[error("the store is full")]
    Full,
}
