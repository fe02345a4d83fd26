//! What a replica writes to disk, and the rule that a statement leaves only after its own record.

use super::message::{Checkpoint, CheckpointCertificate, NewView, Signed, ViewChange, ZyzzyvaMessage};
use super::{Step, Zyzzyva};
use crate::{Batch, CommitCertificate, PersistId, Speculation};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_crypto::Proof;
use althing_types::{Seq, View, encode};
use borsh::{BorshDeserialize, BorshSerialize};

/// One record on disk.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) enum Record {
    /// This replica had lost its disk before it wrote any of the others, or could not read it: it does not vote.
    Forgotten,
    /// This replica has accepted the batch, after the one before; as primary it has ordered it.
    Accepted {
        /// In this view.
        view: View,
        /// At this number.
        seq: Seq,
        /// The batch.
        batch: Arc<Batch>,
        /// The primary's proof of its assignment, where that was here.
        proof: Option<Proof>,
    },
    /// This replica holds a certificate for what it has accepted.
    Certificate(CommitCertificate),
    /// A batch that a new view brings along.
    Body {
        /// Its number.
        seq: Seq,
        /// The batch.
        batch: Arc<Batch>,
    },
    /// This replica is in no view below this one any more, and not in this one yet.
    SetOut(View),
    /// This replica left all views below that of its view change.
    LeftView(ViewChange),
    /// As new primary, this replica made this new view, and will make no other.
    MadeNewView(NewView),
    /// This replica confirms this new view, and no other of that number.
    Confirmed(Signed<NewView>),
    /// This replica has confirmed this, and follows another new view of that number.
    Overruled(Speculation),
    /// This replica entered a view, and accepted what that starts with.
    Entered {
        /// The view's start.
        new_view: Signed<NewView>,
        /// The proof that it was confirmed.
        certificate: CommitCertificate,
    },
    /// This replica is in a view. What it has accepted stands in other records.
    InView {
        /// The view's start.
        new_view: Signed<NewView>,
        /// The proof that it was confirmed.
        certificate: CommitCertificate,
    },
    /// What was accepted up to here is final, and this replica made a checkpoint of it.
    MadeCheckpoint(Checkpoint),
    /// A checkpoint is stable, and this replica shares its state.
    Stable(CheckpointCertificate),
    /// This replica goes on from a stable checkpoint that it has not got to by itself.
    Jumped(CheckpointCertificate),
}

/// What waits for a record to be on disk.
#[derive(Debug, BorshSerialize, BorshDeserialize)]
pub(super) enum Deferred {
    Nothing,
    Accept { view: View, seq: Seq },
    Committed(Speculation),
    ViewChange(ViewChange),
    NewView(NewView),
    Confirm(Speculation),
    Enter(View),
    Checkpoint(Checkpoint),
    Stable(Seq),
}

impl Zyzzyva {
    /// Releases what waited for records up to `id`, in their order.
    pub(super) fn on_persisted(&mut self, step: &mut Step, id: PersistId) {
        while let Some(deferred) = self.outbox.release(id) {
            match deferred {
                Deferred::Nothing => {}
                Deferred::Accept { view, seq } => self.release_acceptance(step, view, seq),
                Deferred::Committed(speculation) => self.release_commitment(step, speculation),
                Deferred::ViewChange(content) if self.own_view_change.as_ref() == Some(&content) => {
                    self.is_view_change_durable = true;
                    step.broadcast_signed(ZyzzyvaMessage::ViewChange(content));
                }
                Deferred::NewView(content) if self.own_new_view.as_ref() == Some(&content) => {
                    self.is_new_view_durable = true;
                    step.broadcast_signed(ZyzzyvaMessage::NewView(content));
                }
                Deferred::ViewChange(_) | Deferred::NewView(_) => {}
                Deferred::Confirm(own) => self.release_confirmation(step, own),
                Deferred::Enter(view) => self.release_entry(step, view),
                Deferred::Checkpoint(checkpoint) => self.release_checkpoint(step, checkpoint),
                Deferred::Stable(seq) => {
                    self.stable_durable = self.stable_durable.max(seq);
                    self.say_if_closed(step);
                }
            }
        }
    }

    /// The records from which this replica would start as it is now.
    pub(super) fn records(&self) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        records.extend(self.has_forgotten.then_some(Record::Forgotten));
        records.extend(self.stable_certificate.clone().map(Record::Stable));
        let base = self.log.base();
        let lies_beyond = |base: &&CheckpointCertificate| base.checkpoint.seq > self.stable;
        let mut later_base = self.base.as_ref().filter(lies_beyond);
        if self.log.get(base).is_none() {
            records.extend(later_base.take().cloned().map(Record::Jumped));
        }
        for (seq, slot) in self.log.iter() {
            if seq > base {
                records.extend(later_base.take().cloned().map(Record::Stable));
            }
            records.push(Record::Accepted {
                view: slot.view,
                seq,
                batch: Arc::clone(&slot.batch),
                proof: slot.order.as_ref().map(|order| order.proof.clone()),
            });
        }
        records.extend(later_base.cloned().map(Record::Stable));
        let made = self.own_checkpoints.range(base.next()..).next_back();
        records.extend(
            made.map(|(seq, (state, _))| Record::MadeCheckpoint(Checkpoint { seq: *seq, state: *state })),
        );
        if let Some((new_view, certificate)) = self.entry.clone() {
            records.push(Record::InView { new_view, certificate });
        }
        records.extend(self.certificate.clone().map(Record::Certificate));
        records.extend(self.records_of_leaving());
        records.iter().map(encode).collect()
    }

    /// What a replica that is between two views has to know.
    fn records_of_leaving(&self) -> Vec<Record> {
        let mut records = Vec::new();
        let overruled = self.overruled.filter(|confirmed| confirmed.view >= self.view);
        // Somebody's new view may have led it there, which it has not confirmed yet.
        records.extend((!self.is_in_view).then_some(Record::SetOut(self.view)));
        records.extend(self.own_view_change.clone().map(Record::LeftView));
        records.extend(overruled.map(Record::Overruled));
        records.extend(self.own_new_view.clone().map(Record::MadeNewView));
        if let Some(entering) = self.entering.as_ref().filter(|entering| entering.is_recorded) {
            let body = |((seq, _), batch): (&(Seq, _), &Arc<Batch>)| Record::Body {
                seq: *seq,
                batch: Arc::clone(batch),
            };
            records.extend(self.bodies.iter().map(body));
            let new_view = entering.new_view.clone();
            records.extend(match entering.certificate.clone().filter(|_| entering.is_certified) {
                Some(certificate) => Some(Record::Entered { new_view, certificate }),
                // What it follows without having confirmed it, it hears of again.
                None if overruled.is_some() => None,
                None => Some(Record::Confirmed(new_view)),
            });
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zyzzyva::{ZyzzyvaConfig, ZyzzyvaSettings};
    use crate::{Event, Protocol, Start};
    use althing_types::{Digest, Instant, Quorums, ReplicaId};

    fn fresh() -> Zyzzyva {
        let quorums = Quorums::byzantine(4, 1).expect("four are enough");
        Zyzzyva::new(
            ZyzzyvaConfig::new(ReplicaId(1), quorums, ZyzzyvaSettings::default()).expect("good settings"),
        )
    }

    /// The replica that starts from what this one would have on disk once that is compacted.
    fn restarted(zyzzyva: &Zyzzyva) -> Zyzzyva {
        let (mut other, records) = (fresh(), zyzzyva.records());
        let start = Start::Recovered {
            stable: Seq(0),
            executed: Vec::new(),
            records,
            is_closed: false,
            has_forgotten: false,
            is_doubtful: false,
        };
        other.handle(Instant(1), Event::Start(start), &mut Vec::new());
        other
    }

    #[test]
    fn who_has_set_out_for_a_view_is_in_none_below_it_after_a_restart() {
        let mut zyzzyva = fresh();
        let other = restarted(&zyzzyva);
        assert_eq!((other.view(), other.is_in_view()), (View(0), true));
        zyzzyva.set_out_for(View(3));
        let other = restarted(&zyzzyva);
        assert_eq!((other.view(), other.is_in_view()), (View(3), false));
        // Who has confirmed a start of that view, and follows another, as well.
        let confirmed = Speculation { view: View(3), seq: Seq(2), history: Digest([1; 32]) };
        zyzzyva.overruled = Some(confirmed);
        let other = restarted(&restarted(&zyzzyva));
        assert_eq!((other.view(), other.is_in_view(), other.overruled), (View(3), false, Some(confirmed)));
    }

    #[test]
    fn who_has_forgotten_knows_that_after_any_number_of_restarts() {
        let mut zyzzyva = fresh();
        zyzzyva.handle(Instant(1), Event::Start(Start::Amnesia), &mut Vec::new());
        assert!(!zyzzyva.is_voting() && !restarted(&restarted(&zyzzyva)).is_voting());
    }
}
