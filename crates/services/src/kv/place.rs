use althing_crypto::hash;

/// A bucket's place: the keys whose hash begins with certain bits. Places halve and halve again; the
/// first one holds all keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The least hash in it.
    pub(super) start: u32,
    /// How many bits are certain.
    pub(super) depth: u8,
}

/// Bits of a hash, and so the most halvings.
const HASH_BITS: u8 = 30;

/// Which half a key lies in, halving after halving. A function of the key alone, equal everywhere.
pub(super) fn key_hash(key: &[u8]) -> u32 {
    let digest = hash("althing kv place", key);
    let [a, b, c, d, ..] = digest.0;
    u32::from_be_bytes([a, b, c, d]) >> (32 - HASH_BITS)
}

impl Place {
    /// The one that holds all keys.
    pub(super) const ALL: Self = Self { start: 0, depth: 0 };

    /// The place of depth `depth` that holds `hash`.
    pub(super) fn around(hash: u32, depth: u8) -> Self {
        let open = HASH_BITS - depth;
        Self { start: (hash >> open) << open, depth }
    }

    /// The number of the page: no other place has it.
    pub(super) fn page(self) -> u32 {
        (1 << self.depth) | (self.start >> (HASH_BITS - self.depth))
    }

    /// The place whose page has this number, if there is one.
    pub(super) fn of_page(page: u32) -> Option<Self> {
        let depth = page.checked_ilog2().filter(|depth| *depth <= u32::from(HASH_BITS))?;
        let start = (page - (1 << depth)) << (u32::from(HASH_BITS) - depth);
        Some(Self { start, depth: depth as u8 })
    }

    /// The greatest hash in it.
    pub(super) fn last(self) -> u32 {
        self.start + ((1 << (HASH_BITS - self.depth)) - 1)
    }

    pub(super) fn contains(self, hash: u32) -> bool {
        (self.start..=self.last()).contains(&hash)
    }

    /// Its two halves; none where hashes have no more bits.
    pub(super) fn halves(self) -> Option<[Self; 2]> {
        let depth = self.depth + 1;
        let middle = 1u32 << HASH_BITS.checked_sub(depth)?;
        Some([Self { depth, ..self }, Self { start: self.start + middle, depth }])
    }

    /// The place that it is a half of.
    pub(super) fn whole(self) -> Option<Self> {
        Some(Self::around(self.start, self.depth.checked_sub(1)?))
    }

    /// How many bits all hashes in it have in common with `hash`.
    pub(super) fn shared_bits(self, hash: u32) -> u8 {
        let differing = (self.start ^ hash) << (32 - HASH_BITS);
        self.depth.min(differing.leading_zeros().min(u32::from(HASH_BITS)) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_and_pages_are_one_to_one(hash in 0u32..1 << HASH_BITS, depth in 0..=HASH_BITS) {
            let place = Place::around(hash, depth);
            prop_assert!(place.contains(hash));
            prop_assert_eq!(Place::of_page(place.page()), Some(place));
            prop_assert_eq!(place.shared_bits(hash), depth);
            if let Some([low, high]) = place.halves() {
                prop_assert!(low.contains(hash) != high.contains(hash));
                prop_assert_eq!((low.whole(), high.whole()), (Some(place), Some(place)));
                prop_assert_eq!((low.start, low.last() + 1, high.last()), (place.start, high.start, place.last()));
                prop_assert_eq!(high.shared_bits(low.last()), depth);
            } else {
                prop_assert_eq!(depth, HASH_BITS);
            }
        }
    }

    #[test]
    fn pages_without_a_place() {
        assert_eq!((Place::of_page(0), Place::of_page(1 << 31)), (None, None));
        assert_eq!(Place::of_page(1), Some(Place::ALL));
        assert_eq!(Place::ALL.whole(), None);
    }
}
