use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_crypto::site::SiteBatch;
use althing_types::{Seq, SiteId};
use borsh::{BorshDeserialize, BorshSerialize};

/// Where a message stands among those that get one signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub(crate) struct Place {
    /// The local batch whose execution led to it: what is said during one is signed together.
    pub(crate) batch: Seq,
    /// How many messages to the same site come before it.
    pub(crate) index: u32,
}

impl Place {
    /// Whether a message in `other` follows upon one here, on the way to the same site.
    pub(crate) fn is_before(&self, other: &Self) -> bool {
        self.batch == other.batch && self.index.checked_add(1) == Some(other.index)
    }
}

/// What was said during a local batch: it is signed site after site, so that what goes to one of them stands together
/// and can share what proves it.
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct Said {
    to: BTreeMap<SiteId, Vec<Vec<u8>>>,
}

impl Said {
    /// How many messages there are.
    pub(crate) fn len(&self) -> usize {
        self.to.values().map(Vec::len).sum()
    }

    /// Whether a signature can cover one more.
    pub(crate) fn has_room(&self) -> bool {
        self.len() < SiteBatch::MAX_MESSAGES
    }

    /// Files what is to be signed of a message to a site; says how many to that site come before.
    pub(super) fn file(&mut self, to: SiteId, statement: Vec<u8>) -> u32 {
        let statements = self.to.entry(to).or_default();
        statements.push(statement);
        u32::try_from(statements.len() - 1).expect("a batch says less than 2³² things")
    }

    /// What is to be signed, in the order of its tree.
    pub(crate) fn statements(&self) -> impl Iterator<Item = &[u8]> {
        self.to.values().flatten().map(Vec::as_slice)
    }

    /// Where in that order what is said to each site begins.
    pub(crate) fn starts(&self) -> BTreeMap<SiteId, usize> {
        let mut next = 0;
        let start = |(to, statements): (&SiteId, &Vec<Vec<u8>>)| {
            let start = next;
            next += statements.len();
            (*to, start)
        };
        self.to.iter().map(start).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_to_one_site_stands_together_in_the_order_in_which_it_was_said() {
        let mut said = Said::default();
        let places = [(2, b"a"), (0, b"b"), (2, b"c"), (1, b"d"), (0, b"e")];
        let filed = places.map(|(to, statement)| said.file(SiteId(to), statement.to_vec()));
        assert_eq!(filed, [0, 0, 1, 0, 1]);
        assert_eq!(said.len(), 5);
        assert!(said.statements().eq([b"b", b"e", b"d", b"a", b"c"].map(|it| &it[..])));
        assert_eq!(said.starts(), [(SiteId(0), 0), (SiteId(1), 2), (SiteId(2), 3)].into());
    }

    #[test]
    fn a_signature_covers_so_much_of_all_sites_together() {
        let mut said = Said::default();
        for index in 0..SiteBatch::MAX_MESSAGES {
            assert!(said.has_room());
            said.file(SiteId(u16::try_from(index % 3).unwrap()), Vec::new());
        }
        assert!(!said.has_room());
    }
}
