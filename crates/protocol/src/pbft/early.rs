//! What is said of numbers beyond this replica's log, held until the log reaches them.
//!
//! A log moves on once a checkpoint's state is on disk. Where that takes longer than at the others, they
//! propose and vote beyond its end. In the papers that is dropped, and comes again once the replica shows
//! that it misses something: but it can't know that it does. To hold it is as if the network had been
//! slower.

use super::message::PbftMessage;
use super::{Pbft, Step};
use alloc::collections::BTreeMap;
use althing_types::{Instant, ReplicaId, Seq, View};
use borsh::{BorshDeserialize, BorshSerialize};

/// For each number, up to a log's length beyond the log: of each replica one vote of each kind, and one
/// proposal. A proposal is large, and any replica is the primary of some view, so only that of the present
/// view is held: as much as the log itself may hold.
#[derive(Debug, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Early(BTreeMap<(Seq, Kind), Held>);

/// A message that came early, and under which key of its sender's.
#[derive(Debug, BorshSerialize, BorshDeserialize)]
pub(super) struct Held {
    from: ReplicaId,
    key: u64,
    message: PbftMessage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
enum Kind {
    Proposal,
    Prepare(ReplicaId),
    Commit(ReplicaId),
}

impl Early {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the primary of this view has proposed something.
    pub(super) fn has_proposal_in(&self, present: View) -> bool {
        let mut held = self.0.values().filter_map(|held| Self::place(held.from, &held.message));
        held.any(|(kind, view, _)| kind == Kind::Proposal && view == present)
    }

    /// What a message of `from` is about, where it can be held.
    fn place(from: ReplicaId, message: &PbftMessage) -> Option<(Kind, View, Seq)> {
        match message {
            PbftMessage::PrePrepare(proposal) => Some((Kind::Proposal, proposal.view, proposal.seq)),
            PbftMessage::Prepare(vote) => Some((Kind::Prepare(from), vote.view, vote.seq)),
            PbftMessage::Commit(vote) => Some((Kind::Commit(from), vote.view, vote.seq)),
            _ => None,
        }
    }

    /// Holds a message, in the place of one of an earlier view.
    fn hold(&mut self, (kind, view, seq): (Kind, View, Seq), held: Held) {
        let known = self.0.get(&(seq, kind)).and_then(|known| Self::place(known.from, &known.message));
        if known.is_none_or(|(_, known, _)| known < view) {
            self.0.insert((seq, kind), held);
        }
    }

    /// The messages that are held.
    pub(super) fn messages_mut(&mut self) -> impl Iterator<Item = &mut PbftMessage> {
        self.0.values_mut().map(|held| &mut held.message)
    }

    /// Drops what a replica said under keys before this one.
    pub(super) fn forget(&mut self, of: ReplicaId, before: u64) {
        self.0.retain(|_, held| held.from != of || held.key >= before);
    }

    /// Takes out what is about numbers up to `last`.
    fn take(&mut self, last: Seq) -> impl Iterator<Item = Held> + use<> {
        let beyond = self.0.split_off(&(last.next(), Kind::Proposal));
        core::mem::replace(&mut self.0, beyond).into_values()
    }
}

impl Pbft {
    /// Gives a message back if its time has come, or never will.
    pub(super) fn hold_if_early(
        &mut self,
        now: Instant,
        (from, key): (ReplicaId, u64),
        message: PbftMessage,
    ) -> Option<PbftMessage> {
        let high = self.high_watermark();
        let last = Seq(high.0 + self.config.settings.log_size);
        let is_early = |(_, view, seq): &(Kind, View, Seq)| *view >= self.view && high < *seq && *seq <= last;
        let Some(place @ (kind, view, seq)) = Early::place(from, &message).filter(is_early) else {
            return Some(message);
        };
        let is_primary = from == self.quorums().primary(view);
        let is_apt = match (&message, kind) {
            (PbftMessage::PrePrepare(proposal), _) => {
                is_primary && view == self.view && self.is_acceptable(&proposal.batch)
            }
            (_, Kind::Commit(_)) => true,
            _ => !is_primary,
        };
        if !is_apt {
            return Some(message);
        }
        if let PbftMessage::PrePrepare(proposal) = &message
            && self.is_in_view
        {
            self.note_proposal(now, seq, &proposal.batch);
        }
        self.early.hold(place, Held { from, key, message });
        None
    }

    /// The log has moved on: what was held for its new numbers arrives now.
    pub(super) fn release_early(&mut self, step: &mut Step) {
        for Held { from, key, message } in self.early.take(self.high_watermark()) {
            self.on_message(step, (from, key), message, None);
        }
    }
}
