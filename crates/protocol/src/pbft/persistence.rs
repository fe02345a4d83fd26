//! What a replica writes to disk, and the rule that a vote leaves only after its own record.

use super::message::{
    Checkpoint, CheckpointCertificate, NewView, PbftMessage, PrePrepare, Signed, ViewChange, Vote,
};
use super::{Pbft, Step};
use crate::{Batch, PersistId};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{Digest, Seq, View, encode};
use borsh::{BorshDeserialize, BorshSerialize};

/// One record on disk.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) enum Record {
    /// This replica stands for the batch: as primary it proposed it, as backup it prepared it.
    PrePrepared {
        /// In this view.
        view: View,
        /// At this number.
        seq: Seq,
        /// The batch.
        batch: Arc<Batch>,
    },
    /// The batch prepared here, and this replica commits it.
    Prepared(Vote),
    /// This replica left all views below that of its view change.
    LeftView(ViewChange),
    /// As new primary, this replica made this new view, and will make no other.
    MadeNewView(NewView),
    /// This replica entered a view.
    EnteredView(Signed<NewView>),
    /// This replica came back to view 0.
    EnteredFirstView,
    /// This replica executed a batch.
    Executed {
        /// At this number.
        seq: Seq,
        /// Which.
        digest: Digest,
        /// The batch, where no record before says that this replica stood for it.
        batch: Option<Arc<Batch>>,
    },
    /// This replica made a checkpoint at this number.
    MadeCheckpoint(Seq),
    /// A checkpoint is stable.
    Stable(CheckpointCertificate),
    /// This replica began anew at `incarnation`, and whether it votes.
    Life {
        /// When.
        incarnation: u64,
        /// Whether it votes.
        is_voter: bool,
    },
}

/// What waits for a record to be on disk.
#[derive(Debug, BorshSerialize, BorshDeserialize)]
pub(super) enum Deferred {
    Nothing,
    Propose(PrePrepare),
    Prepare(Vote),
    Commit(Vote),
    ViewChange(ViewChange),
    NewView(NewView),
    Checkpoint(Checkpoint),
    Stable(Seq),
}

impl Pbft {
    /// Releases what waited for records up to `id`, in their order.
    pub(super) fn on_persisted(&mut self, step: &mut Step, id: PersistId) {
        while let Some(deferred) = self.outbox.release(id) {
            match deferred {
                Deferred::Nothing => {}
                Deferred::Propose(proposal) => self.release_proposal(step, proposal),
                Deferred::Prepare(vote) => self.release_prepare(step, vote),
                Deferred::Commit(vote) => self.release_commit(step, vote),
                Deferred::ViewChange(content) if self.own_view_change.as_ref() == Some(&content) => {
                    self.is_view_change_durable = true;
                    step.broadcast_signed(PbftMessage::ViewChange(content));
                }
                Deferred::NewView(content) if self.own_new_view.as_ref() == Some(&content) => {
                    self.is_new_view_durable = true;
                    step.broadcast_signed(PbftMessage::NewView(content));
                }
                Deferred::ViewChange(_) | Deferred::NewView(_) => {}
                Deferred::Stable(seq) => {
                    self.stable_durable = self.stable_durable.max(seq);
                    self.say_if_closed(step);
                }
                Deferred::Checkpoint(checkpoint) => self.release_checkpoint(step, checkpoint),
            }
        }
    }

    /// The records from which this replica would start as it is now.
    pub(super) fn records(&self) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        if self.incarnation > 0 {
            let is_voter = self.membership.is_voter();
            records.push(Record::Life { incarnation: self.incarnation, is_voter });
        }
        records.extend(self.stable_certificate.clone().map(Record::Stable));
        records.extend((self.made > self.stable).then_some(Record::MadeCheckpoint(self.made)));
        let last_commit = self.last_commit.filter(|vote| vote.seq <= self.stable);
        records.extend(last_commit.map(Record::Prepared));
        // What this replica stands for in the present view comes after that view: the rest of Q is not to
        // be taken up again, even where it says the same view.
        let mut present = Vec::new();
        for (seq, entry) in self.log.iter() {
            let assigned = entry.assignment.filter(|a| a.is_accepted).map(|a| (a.digest, a.view));
            for (digest, view) in &entry.pre_prepared {
                if let Some(batch) = entry.bodies.get(digest) {
                    let record = Record::PrePrepared { view: *view, seq, batch: Arc::clone(batch) };
                    let is_present = self.is_in_view && assigned == Some((*digest, *view));
                    if is_present { present.push(record) } else { records.push(record) }
                }
            }
            if let Some((digest, batch)) = entry.executed() {
                records.push(Record::Executed { seq, digest, batch });
            }
            if let Some((view, digest)) = entry.prepared {
                records.push(Record::Prepared(Vote { view, seq, digest }));
            }
        }
        records.extend(self.new_view.clone().map(Record::EnteredView));
        records.extend(present);
        if !self.is_in_view {
            records.extend(self.own_view_change.clone().map(Record::LeftView));
            records.extend(self.own_new_view.clone().map(Record::MadeNewView));
        }
        records.iter().map(encode).collect()
    }
}
