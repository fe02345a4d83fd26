//! What a replica writes to disk, and the rule that a promise or a vote leaves only after its own record.

use super::message::{Checkpoint, PaxosMessage, StartView, Vote};
use super::{Paxos, Step};
use crate::{Batch, PersistId};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{Digest, Seq, View, encode};
use borsh::{BorshDeserialize, BorshSerialize};

/// One record on disk.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) enum Record {
    /// This replica accepted a batch; as leader, it is to propose it.
    Accepted {
        /// In this view.
        view: View,
        /// At this number.
        seq: Seq,
        /// The batch.
        batch: Arc<Batch>,
    },
    /// This replica promised a view: it accepts nothing in lower ones.
    Promised {
        /// The view.
        view: View,
        /// Whether that has started here.
        is_in_view: bool,
    },
    /// As leader, this replica started its view so, and starts it in no other way.
    Started(StartView),
    /// This replica made a checkpoint at this number.
    MadeCheckpoint(Seq),
    /// A checkpoint is stable.
    Stable(Checkpoint),
    /// This replica has lost an earlier disk, and whether it votes again.
    Reborn {
        /// Whether it votes.
        is_voter: bool,
    },
    /// This batch is decided, and executed here: written where the instance ends.
    Decided {
        /// In this view.
        view: View,
        /// At this number.
        seq: Seq,
        /// Which.
        digest: Digest,
        /// The batch, where it is not what the record before says that this replica has accepted.
        batch: Option<Arc<Batch>>,
    },
}

/// What waits for a record to be on disk.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) enum Deferred {
    Nothing,
    Accepted(Vote),
    Promise(View),
    StartView(View),
    Checkpoint(Checkpoint),
    Stable(Seq),
}

/// Whether all of these are records of this protocol.
pub(super) fn are_readable(records: &[Vec<u8>]) -> bool {
    records.iter().all(|record| althing_types::decode::<Record>(record, usize::MAX).is_ok())
}

/// Whether these records are those of one that had not lost its past, or that voted again since.
pub(super) fn know_all(records: &[Vec<u8>], has_forgotten: bool) -> bool {
    let reborn = |record: &Vec<u8>| match althing_types::decode(record, usize::MAX) {
        Ok(Record::Reborn { is_voter }) => Some(is_voter),
        _ => None,
    };
    records.iter().rev().find_map(reborn).unwrap_or(!has_forgotten)
}

impl Paxos {
    /// Releases what waited for records up to `id`, in their order.
    pub(super) fn on_persisted(&mut self, step: &mut Step, id: PersistId) {
        while let Some(deferred) = self.state.outbox.release(id) {
            match deferred {
                Deferred::Nothing => {}
                Deferred::Accepted(vote) => self.release_accepted(step, vote),
                Deferred::Promise(view) if view == self.state.view && !self.state.is_in_view => {
                    self.state.is_promise_durable = true;
                    self.say_promise(step);
                }
                Deferred::StartView(view) if view == self.state.view => {
                    self.state.is_start_durable = true;
                    let start_view = self.state.start_view.clone();
                    start_view.into_iter().for_each(|start| step.broadcast(PaxosMessage::StartView(start)));
                }
                Deferred::Promise(_) | Deferred::StartView(_) => {}
                Deferred::Checkpoint(checkpoint) => self.release_checkpoint(step, checkpoint),
                Deferred::Stable(seq) => {
                    self.state.stable_durable = self.state.stable_durable.max(seq);
                    self.sign_end(step);
                    self.say_if_closed(step);
                }
            }
        }
    }

    /// The records from which this replica would start as it is now.
    pub(super) fn records(&self) -> Vec<Vec<u8>> {
        let state = &self.state;
        let mut records = Vec::new();
        if state.is_reborn {
            records.push(Record::Reborn { is_voter: self.is_voting() });
        }
        records.extend(state.stable_checkpoint.map(Record::Stable));
        records.extend((state.made > state.stable).then_some(Record::MadeCheckpoint(state.made)));
        for (seq, entry) in state.log.iter() {
            if let Some(accepted) = entry.accepted
                && let Some(batch) = entry.batch(accepted.digest)
            {
                records.push(Record::Accepted { view: accepted.view, seq, batch });
            }
        }
        if self.is_over() {
            records.extend(self.decisions());
        }
        records.push(Record::Promised { view: state.view, is_in_view: state.is_in_view });
        if self.is_leading() {
            records.extend(state.start_view.clone().map(Record::Started));
        }
        records.iter().map(encode).collect()
    }
}
