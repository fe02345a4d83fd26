//! What a replica says counts as long as the key under which it said it (TOCS'02 §4.3.2).
//!
//! Who takes over one replica after the other has never more than *f*, and makes each say the same lie to one
//! that is cut off meanwhile, or slow. Added up over time they would be a quorum there. So what a replica has
//! said under a key is dropped with the key, except for what is complete: a quorum of commits, and *f* + 1 that
//! have executed a batch, were so many at one time, since each of them still held when the last one came. What
//! has prepared here is on disk, and is not counted again.
//!
//! - *Proposals.* A primary's proposal is its prepare. Without its key it stays, since this replica may have voted
//!   for it and must not vote for another in that view; but the primary does not stand for it any more until it
//!   says it again. After a restart nothing is known of the keys, so it stands for none. What a new view assigned is
//!   signed, as view changes and checkpoints are: those stay, and are sound for other reasons (`recovery`).
//! - *Own votes* are of this replica's own program and on disk. They stay.
//! - *What is signed and need not be* is not taken: it could be kept, and shown when the key is long gone.
//!
//! A correct replica's words come again: numbers that are not executed here have this replica say where it stands,
//! and whoever hears the same of it twice sends its proposal, its votes and what it has executed once more, under
//! the key that it has now (`status`). So only a number that stays undecided for longer than keys live in any
//! case waits for that, for two periods of the status.

use super::Pbft;
use super::message::PbftMessage;
use althing_types::{ReplicaId, Seq};

impl PbftMessage {
    /// The number about which this says something that counts together with what others say.
    pub(super) fn voted_on(&self) -> Option<Seq> {
        match self {
            Self::PrePrepare(proposal) => Some(proposal.seq),
            Self::ShortPrePrepare(short) => Some(short.seq),
            Self::Prepare(vote) | Self::Commit(vote) => Some(vote.seq),
            Self::Decided { seq, .. } => Some(*seq),
            _ => None,
        }
    }
}

impl Pbft {
    /// A replica has said something about a number under this key of its.
    pub(super) fn note_key(&mut self, seq: Seq, from: ReplicaId, key: u64) {
        if let Some(entry) = self.log.get_mut(seq) {
            let oldest = entry.said_under.entry(from).or_insert(key);
            *oldest = key.min(*oldest);
        }
    }

    /// Keys of a replica have ended, all those before this one.
    pub(super) fn on_keys_ended(&mut self, of: ReplicaId, before: u64) {
        self.early.forget(of, before);
        self.attested.forget(of, before);
        let quorums = self.config.quorums;
        self.unfinished.forget(before, |view| quorums.primary(view) == of);
        self.membership.forget_report(of);
        for entry in self.log.entries_mut() {
            if entry.said_under.get(&of).is_some_and(|key| *key < before) {
                entry.forget(quorums, of);
            }
        }
    }
}
