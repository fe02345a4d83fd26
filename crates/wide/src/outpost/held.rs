//! What has come from a site and waits for its turn.

use crate::message::LinkMessage;
use alloc::collections::BTreeMap;
use althing_types::ReplicaId;
use core::ops::Range;

/// What a message takes beside its body in bytes, about.
const OVERHEAD: u64 = 256;

/// A message whose turn has yet to come.
pub(super) struct Waiting {
    pub(super) message: LinkMessage,
    /// Who has sent it, where its signature has not been checked.
    pub(super) unchecked: Option<ReplicaId>,
}

/// Messages of one site by their numbers, and how many bytes they take.
#[derive(Default)]
pub(super) struct Held {
    messages: BTreeMap<u64, Waiting>,
    checked: u64,
    unchecked: u64,
}

impl Held {
    /// Takes a message in, in the place of another of that number, but never what is unchecked for what is checked.
    pub(super) fn insert(&mut self, waiting: Waiting) {
        let number = waiting.message.header.number;
        let is_checked = |known: &Waiting| known.unchecked.is_none();
        if waiting.unchecked.is_some() && self.messages.get(&number).is_some_and(is_checked) {
            return;
        }
        *self.room(&waiting) += bytes_of(&waiting.message);
        if let Some(other) = self.messages.insert(number, waiting) {
            *self.room(&other) -= bytes_of(&other.message);
        }
    }

    /// How many bytes are in the way of such a message: what is not checked takes no room from what is.
    pub(super) fn bytes_beside(&self, is_unchecked: bool) -> u64 {
        if is_unchecked { self.checked + self.unchecked } else { self.checked }
    }

    pub(super) fn at(&self, number: u64) -> Option<&Waiting> {
        self.messages.get(&number)
    }

    /// How many messages there are with these numbers.
    pub(super) fn count(&self, numbers: Range<u64>) -> u64 {
        self.messages.range(numbers).count() as u64
    }

    /// The first message of these that has not been checked, and who has sent it.
    pub(super) fn first_unchecked(&self, numbers: Range<u64>) -> Option<(&LinkMessage, ReplicaId)> {
        let from = self.messages.range(numbers.start..);
        let mut these = from.take_while(|(number, _)| **number < numbers.end);
        these.find_map(|(_, waiting)| Some((&waiting.message, waiting.unchecked?)))
    }

    /// The message of this number has been checked.
    pub(super) fn note_checked(&mut self, number: u64) {
        if let Some(waiting) = self.messages.get_mut(&number)
            && waiting.unchecked.take().is_some()
        {
            let bytes = bytes_of(&waiting.message);
            self.unchecked -= bytes;
            self.checked += bytes;
        }
    }

    /// Drops what has a number up to this one.
    pub(super) fn drop_up_to(&mut self, number: u64) {
        while let Some(first) = self.messages.first_entry().filter(|first| *first.key() <= number) {
            let first = first.remove();
            *self.room(&first) -= bytes_of(&first.message);
        }
    }

    /// Drops what has this number or a later one.
    pub(super) fn drop_from(&mut self, number: u64) {
        while let Some(last) = self.messages.last_entry().filter(|last| *last.key() >= number) {
            let last = last.remove();
            *self.room(&last) -= bytes_of(&last.message);
        }
    }

    /// Drops what this server has sent from this number on, and nobody has checked.
    pub(super) fn drop_unchecked(&mut self, from: u64, of: ReplicaId) {
        let is_of = |_: &u64, waiting: &mut Waiting| waiting.unchecked == Some(of);
        let dropped = self.messages.extract_if(from.., is_of).map(|(_, waiting)| bytes_of(&waiting.message));
        self.unchecked -= dropped.sum::<u64>();
    }

    fn room(&mut self, waiting: &Waiting) -> &mut u64 {
        if waiting.unchecked.is_some() { &mut self.unchecked } else { &mut self.checked }
    }
}

fn bytes_of(message: &LinkMessage) -> u64 {
    message.body.len() as u64 + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Header, Kind};
    use althing_crypto::site::{SiteBatch, SiteDeal};
    use althing_crypto::{Domain, KeySeed};
    use althing_types::{GroupId, SiteId};

    const LIAR: ReplicaId = ReplicaId(2);

    fn waiting(number: u64, bytes: usize, unchecked: Option<ReplicaId>) -> Waiting {
        let deal = SiteDeal::plain(1, &KeySeed::from([7; 32]));
        let batch = SiteBatch::new(GroupId([1; 16]), SiteId(0), &[(Domain::Link, b"said")]);
        let shares = [(ReplicaId(0), deal.secrets[0].share(&batch.statement()))].into();
        let signature = deal.shares.combine(&batch.statement(), &shares).signature.expect("one is enough");
        let (from, to, kind) = (SiteId(0), SiteId(1), Kind::Protocol);
        let header = Header { from, to, number, base: 1, acknowledged: 0, kind };
        let message = LinkMessage { header, proof: batch.proof(0, signature), body: alloc::vec![0; bytes] };
        Waiting { message, unchecked }
    }

    #[test]
    fn what_is_held_is_counted() {
        let mut held = Held::default();
        let sizes = [(5, 100), (3, 10), (9, 1), (5, 50), (3, 10)];
        sizes.into_iter().for_each(|(number, bytes)| held.insert(waiting(number, bytes, None)));
        assert_eq!(held.bytes_beside(false), 3 * OVERHEAD + 61);
        held.drop_up_to(3);
        assert_eq!((held.messages.len(), held.bytes_beside(true)), (2, 2 * OVERHEAD + 51));
        held.drop_from(9);
        assert_eq!((held.messages.len(), held.bytes_beside(true)), (1, OVERHEAD + 50));
        held.drop_up_to(u64::MAX);
        assert_eq!((held.messages.len(), held.bytes_beside(true)), (0, 0));
    }

    #[test]
    fn what_is_unchecked_takes_no_room_and_no_place_from_what_is_checked() {
        let mut held = Held::default();
        let both = |held: &Held| (held.bytes_beside(false), held.bytes_beside(true));
        held.insert(waiting(1, 10, Some(LIAR)));
        held.insert(waiting(2, 20, None));
        held.insert(waiting(2, 7, Some(LIAR)));
        assert_eq!(both(&held), (OVERHEAD + 20, 2 * OVERHEAD + 30));
        held.insert(waiting(1, 30, None));
        assert_eq!(both(&held), (2 * OVERHEAD + 50, 2 * OVERHEAD + 50), "it takes its place");
        held.insert(waiting(3, 1, Some(LIAR)));
        held.insert(waiting(4, 1, Some(ReplicaId(1))));
        assert_eq!(held.first_unchecked(1..3), None);
        assert_eq!(
            held.first_unchecked(1..4).map(|(message, who)| (message.header.number, who)),
            Some((3, LIAR))
        );
        let (after, last) = (4, 2);
        assert_eq!(held.first_unchecked(after..last + 1), None, "there are none");
        held.drop_unchecked(3, LIAR);
        assert!(held.at(3).is_none() && held.at(4).is_some());
        held.note_checked(4);
        assert_eq!(both(&held), (3 * OVERHEAD + 51, 3 * OVERHEAD + 51));
        assert_eq!(held.count(1..5), 3);
        held.drop_up_to(u64::MAX);
        assert_eq!(both(&held), (0, 0));
    }
}
