use alloc::vec::Vec;
use althing_types::{decode, encode};
use borsh::{BorshDeserialize, BorshSerialize};

/// What tells one life of a replica from another: two copies of it are kept, one with the data and one
/// beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct Life {
    /// Drawn when the replica first started here.
    pub(super) instance: [u8; 16],
    /// How often it has started.
    pub(super) starts: u64,
    /// Whether an empty log says that it never said anything; if not, it has lost what it said.
    pub(super) knows_all: bool,
}

impl Life {
    /// One that has not started yet.
    pub(super) fn unborn(instance: [u8; 16]) -> Self {
        Self { instance, starts: 0, knows_all: false }
    }

    /// Whether it is one of a new group whose first start has not come to its end.
    pub(super) fn is_conceived(self) -> bool {
        self.starts == 0 && self.knows_all
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = encode(&self);
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` if the bytes are none that a replica wrote.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let is_whole = crc32fast::hash(body) == u32::from_le_bytes(*crc);
        decode(body, body.len()).ok().filter(|_| is_whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_flip_and_cut_is_noticed() {
        let life = Life { instance: [7; 16], starts: 3, knows_all: true };
        let bytes = life.to_bytes();
        assert_eq!(Life::from_bytes(&bytes), Some(life));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Life::from_bytes(&flipped), None, "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(Life::from_bytes(&bytes[..cut]), None, "cut at {cut}");
        }
    }
}
