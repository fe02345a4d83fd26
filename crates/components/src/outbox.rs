use borsh::{BorshDeserialize, BorshSerialize};
use std::collections::VecDeque;

/// The most events that an outbox keeps.
pub const MAX_OUTBOX_EVENTS: usize = 1024;

/// The most bytes that the events of an outbox take.
pub const MAX_OUTBOX_BYTES: usize = 4 * 1024 * 1024;

/// The events of one outgoing wire, numbered from 1, each kept until its consumer has acknowledged it.
///
/// Acknowledgements are cumulative and come from voices: the couriers of the group's own replicas
/// where the consumer is a group, of which f may lie, or the edge alone. An event is let go once
/// one voice more than may lie says that the consumer has it, so that one that tells the truth is among them.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Outbox {
    /// Number of the last event that has been let go.
    released: u64,
    entries: VecDeque<Vec<u8>>,
    bytes: u64,
    acknowledgements: Vec<u64>,
    threshold: u16,
}

impl Outbox {
    /// An empty outbox that hears `voices` voices of which `faulty` may lie.
    pub(crate) fn new(voices: u16, faulty: u16) -> Self {
        assert!(voices > faulty, "one voice at least tells the truth");
        Self {
            released: 0,
            entries: VecDeque::new(),
            bytes: 0,
            acknowledgements: vec![0; usize::from(voices)],
            threshold: faulty + 1,
        }
    }

    /// Whether `events` more with `bytes` in all still fit.
    pub(crate) fn has_room(&self, events: usize, bytes: usize) -> bool {
        self.entries.len() + events <= MAX_OUTBOX_EVENTS
            && self.bytes + bytes as u64 <= MAX_OUTBOX_BYTES as u64
    }

    /// Adds an event, for which the caller has made sure that there is room, and returns its number.
    pub(crate) fn push(&mut self, event: Vec<u8>) -> u64 {
        self.bytes += event.len() as u64;
        self.entries.push_back(event);
        self.last()
    }

    /// Number of the last event.
    pub(crate) fn last(&self) -> u64 {
        self.released + self.entries.len() as u64
    }

    /// Number of the last event that the consumer is known to have.
    pub(crate) fn released(&self) -> u64 {
        self.released
    }

    /// Events kept.
    pub(crate) fn depth(&self) -> usize {
        self.entries.len()
    }

    /// Takes the word of `voice` that the consumer has all events up to `up_to`.
    pub(crate) fn acknowledge(&mut self, voice: u16, up_to: u64) {
        let last = self.last();
        let known = &mut self.acknowledgements[usize::from(voice)];
        *known = (*known).max(up_to.min(last));
        let mut descending = self.acknowledgements.clone();
        descending.sort_unstable_by(|a, b| b.cmp(a));
        let vouched = descending[usize::from(self.threshold) - 1];
        while self.released < vouched {
            let event = self.entries.pop_front().expect("vouched is at most last");
            self.bytes -= event.len() as u64;
            self.released += 1;
        }
    }

    /// The events kept from number `from` on that take at most `limit` bytes together, but one at least.
    pub(crate) fn from(&self, from: u64, limit: usize) -> impl Iterator<Item = (u64, &Vec<u8>)> {
        let first = from.max(self.released + 1);
        let skip = usize::try_from(first - self.released - 1).unwrap_or(usize::MAX);
        let mut taken = 0usize;
        let kept = self.entries.iter().skip(skip).enumerate();
        kept.map(move |(i, event)| (first + i as u64, event)).take_while(move |(seq, event)| {
            taken += event.len();
            taken <= limit || *seq == first
        })
    }

    /// Whether this is an outbox for `voices` and `faulty` that holds only what one can hold.
    pub(crate) fn is_consistent(&self, voices: u16, faulty: u16) -> bool {
        let bytes: usize = self.entries.iter().map(Vec::len).sum();
        self.threshold == faulty + 1
            && self.acknowledgements.len() == usize::from(voices)
            && self.bytes == bytes as u64
            && self.has_room(0, 0)
            && self.released.checked_add(self.entries.len() as u64).is_some()
            && self.acknowledgements.iter().all(|&a| a <= self.last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(events: u64) -> Outbox {
        let mut outbox = Outbox::new(4, 1);
        for i in 1..=events {
            assert_eq!(outbox.push(vec![0; 10]), i);
        }
        outbox
    }

    #[test]
    fn one_lying_voice_lets_nothing_go() {
        let mut outbox = filled(5);
        outbox.acknowledge(3, u64::MAX);
        assert_eq!((outbox.released(), outbox.depth()), (0, 5));
        outbox.acknowledge(0, 2);
        assert_eq!((outbox.released(), outbox.depth()), (2, 3));
        outbox.acknowledge(1, 1);
        outbox.acknowledge(0, 1);
        assert_eq!(outbox.released(), 2);
        assert!(outbox.is_consistent(4, 1));
    }

    #[test]
    fn an_early_acknowledgement_does_not_cover_what_comes_later() {
        let mut outbox = filled(2);
        outbox.acknowledge(0, 100);
        outbox.acknowledge(1, 100);
        assert_eq!((outbox.released(), outbox.depth()), (2, 0));
        outbox.push(b"late".to_vec());
        outbox.acknowledge(2, 0);
        assert_eq!(outbox.depth(), 1);
    }

    #[test]
    fn reading_is_bounded_but_always_moves() {
        let mut outbox = filled(5);
        outbox.acknowledge(0, 1);
        outbox.acknowledge(1, 1);
        let seqs = |from, limit| outbox.from(from, limit).map(|(s, _)| s).collect::<Vec<_>>();
        assert_eq!(seqs(0, 25), [2, 3]);
        assert_eq!(seqs(4, 1), [4]);
        assert_eq!(seqs(6, 1000), [0u64; 0]);
        assert_eq!(seqs(u64::MAX, 1000), [0u64; 0]);
    }

    #[test]
    fn room_is_bounded_in_events_and_bytes() {
        let outbox = filled(1000);
        assert!(outbox.has_room(24, 0));
        assert!(!outbox.has_room(25, 0));
        assert!(!outbox.has_room(1, MAX_OUTBOX_BYTES - 9_999));
    }
}
