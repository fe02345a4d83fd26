//! Records that somebody else may have written: what of them a replica that recovers takes up, and what
//! it has to check first.
//!
//! Nothing shows whether a record of this replica's own votes is true. What can be shown is that a correct
//! replica could have these records: each is well-formed, lies within the log of a checkpoint that is
//! proven, and follows from statements that others have signed where it claims to. What goes beyond is for
//! the bar of [`super::recovery`]. One thing that is not as it should be voids all of it: a correct replica
//! with an intact disk has no such records, so whoever has them counts as faulty anyway and loses nothing by
//! being silent.

use super::choice::{self, Terms};
use super::message::{CheckpointCertificate, NewView, PbftMessage, ViewChange};
use super::persistence::Record;
use crate::{Message, SignedPart};
use alloc::vec::Vec;
use althing_types::{Digest, ReplicaId, Seq, View};

/// Views, numbers and incarnations beyond this were never reached by counting, nor by the time in nanoseconds.
const MOST: u64 = u64::MAX / 2;

/// What others signed among `records`; `None` if replica `me`, whose state on disk is that of `stable`, can't
/// have them as a correct one.
pub(super) fn statements(
    terms: Terms,
    me: ReplicaId,
    stable: Option<(Seq, Digest)>,
    records: &[Vec<u8>],
) -> Option<Vec<SignedPart>> {
    // What the instance starts from has its proof; without a state the replica has yet to fetch that.
    let start = terms.start.map(|start| (start.seq, start.state));
    if [start, stable].into_iter().flatten().any(|(seq, _)| seq.0 >= MOST) {
        return None;
    }
    let is_proven = stable.is_none() || stable == start;
    let mut suspicion = Suspicion { terms, me, stable, is_proven, parts: Vec::new() };
    for record in records {
        let record = althing_types::decode(record, usize::MAX).ok()?;
        suspicion.take(record).then_some(())?;
    }
    suspicion.is_proven.then_some(suspicion.parts)
}

/// Whether these records are those of one that had not lost its past, or that voted again since.
pub(super) fn knows_all(records: &[Vec<u8>], has_forgotten: bool) -> bool {
    let life = |record: &Vec<u8>| match althing_types::decode(record, usize::MAX) {
        Ok(Record::Life { is_voter, .. }) => Some(is_voter),
        _ => None,
    };
    records.iter().rev().find_map(life).unwrap_or(!has_forgotten)
}

struct Suspicion {
    terms: Terms,
    me: ReplicaId,
    stable: Option<(Seq, Digest)>,
    /// Whether a certificate shows the checkpoint whose state is there.
    is_proven: bool,
    parts: Vec<SignedPart>,
}

impl Suspicion {
    /// Whether a correct replica may have this record.
    fn take(&mut self, record: Record) -> bool {
        match record {
            Record::PrePrepared { view, seq, .. } => is_view(view) && self.is_in_log(seq),
            Record::Prepared(vote) => is_view(vote.view) && self.is_in_log(vote.seq),
            Record::Executed { seq, digest, batch } => {
                self.is_in_log(seq) && batch.is_none_or(|batch| batch.digest() == digest)
            }
            Record::MadeCheckpoint(seq) => self.terms.has_checkpoint(seq) && self.is_in_log(seq),
            Record::Stable(certificate) => self.take_stable(&certificate),
            Record::LeftView(content) => self.take_view_change(content),
            Record::MadeNewView(content) => {
                let is_valid = self.follows(self.me, &content);
                self.parts.extend(PbftMessage::NewView(content).signed_parts());
                is_valid
            }
            Record::EnteredView(signed) => {
                let is_valid = self.follows(signed.signer, &signed.content);
                self.parts.extend(PbftMessage::RelayNewView(signed).signed_parts());
                is_valid
            }
            Record::EnteredFirstView => true,
            Record::Life { incarnation, .. } => incarnation < MOST,
        }
    }

    /// The low watermark: what lies at or below it is void.
    fn low(&self) -> Seq {
        let start = self.terms.start.map_or(Seq(0), |start| start.seq);
        self.stable.map_or(start, |(seq, _)| seq.max(start))
    }

    fn is_in_log(&self, seq: Seq) -> bool {
        seq.0 <= self.low().0.saturating_add(self.terms.log_size)
    }

    fn take_stable(&mut self, certificate: &CheckpointCertificate) -> bool {
        let checkpoint = certificate.checkpoint;
        self.parts.extend(PbftMessage::RelayStable(certificate.clone()).signed_parts());
        let is_own = self.stable == Some((checkpoint.seq, checkpoint.state));
        let is_low = is_own || (checkpoint.seq == self.low() && self.terms.start == Some(checkpoint));
        let is_shown = checkpoint.seq.0 < MOST && is_low && choice::is_certificate(&self.terms, certificate);
        self.is_proven |= is_shown && is_own;
        is_shown
    }

    /// Its claims are this replica's own, and lie within its log like those of its other records.
    fn take_view_change(&mut self, content: ViewChange) -> bool {
        let is_well_formed = choice::is_well_formed(&self.terms, &content);
        let is_known = content.stable_seq() <= self.low();
        let is_possible = is_view(content.view) && content.incarnation < MOST;
        self.parts.extend(PbftMessage::ViewChange(content).signed_parts());
        is_well_formed && is_known && is_possible
    }

    fn follows(&self, signer: ReplicaId, content: &NewView) -> bool {
        is_view(content.view) && choice::is_valid_new_view(&self.terms, signer, content)
    }
}

fn is_view(view: View) -> bool {
    view.0 < MOST
}

#[cfg(test)]
mod tests {
    use super::super::message::{Checkpoint, Vote};
    use super::super::persistence::Record;
    use super::*;
    use crate::Batch;
    use alloc::sync::Arc;
    use alloc::vec;
    use althing_crypto::Proof;
    use althing_types::{Quorums, encode};

    const STABLE: Seq = Seq(8);
    const STATE: Digest = Digest([7; 32]);

    fn found_in(
        start: Option<Checkpoint>,
        stable: Option<(Seq, Digest)>,
        records: &[Record],
    ) -> Option<usize> {
        let quorums = Quorums::byzantine(4, 1).unwrap();
        let terms = Terms { quorums, checkpoint_period: 8, log_size: 16, start };
        let records: Vec<_> = records.iter().map(encode).collect();
        statements(terms, ReplicaId(3), stable, &records).map(|parts| parts.len())
    }

    fn found(records: &[Record]) -> Option<usize> {
        found_in(None, Some((STABLE, STATE)), records)
    }

    fn certificate(seq: Seq, state: Digest, votes: u16) -> CheckpointCertificate {
        let votes = (0..votes).map(|signer| (ReplicaId(signer), Proof(vec![0; 64]))).collect();
        CheckpointCertificate { checkpoint: Checkpoint { seq, state }, votes }
    }

    fn view_change(view: u64, stable: Option<CheckpointCertificate>) -> Record {
        let (prepared, pre_prepared) = (Vec::new(), Vec::new());
        Record::LeftView(ViewChange { view: View(view), incarnation: 0, stable, prepared, pre_prepared })
    }

    #[test]
    fn what_others_signed_is_found() {
        let stable = Record::Stable(certificate(STABLE, STATE, 3));
        assert_eq!(found(core::slice::from_ref(&stable)), Some(3));
        let left = view_change(5, Some(certificate(STABLE, STATE, 3)));
        assert_eq!(found(&[stable, left]), Some(6));
    }

    #[test]
    fn the_last_life_says_whether_all_is_known() {
        let life = |is_voter| encode(&Record::Life { incarnation: 3, is_voter });
        let other = || encode(&Record::EnteredFirstView);
        assert!(knows_all(&[other()], false) && !knows_all(&[other()], true));
        assert!(knows_all(&[life(false), life(true), other()], true));
        assert!(!knows_all(&[life(true), life(false), other()], false));
    }

    #[test]
    fn the_state_has_to_be_proven() {
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[Record::Stable(certificate(STABLE, STATE, 2))]), None);
        assert_eq!(found(&[Record::Stable(certificate(Seq(16), STATE, 3))]), None);
        assert_eq!(found(&[Record::Stable(certificate(STABLE, Digest([8; 32]), 3))]), None);
    }

    #[test]
    fn what_the_instance_starts_from_needs_no_proof_and_nothing_else_goes_without() {
        let start = Checkpoint { seq: STABLE, state: STATE };
        let vote = |seq| Record::Prepared(Vote { view: View(0), seq: Seq(seq), digest: STATE });
        let unsigned = || Record::Stable(certificate(STABLE, STATE, 0));
        let later = (Seq(16), Digest([9; 32]));
        let found = |stable, records: &[Record]| found_in(Some(start), stable, records);
        assert_eq!(found(Some((STABLE, STATE)), &[unsigned(), vote(24)]), Some(0));
        assert_eq!(found(None, &[unsigned(), vote(24)]), Some(0), "the state has yet to be fetched");
        assert_eq!(
            found(Some(later), &[Record::Stable(certificate(later.0, later.1, 3)), vote(32)]),
            Some(3)
        );
        assert_eq!(found(None, &[vote(25)]), None);
        assert_eq!(found(Some(later), &[unsigned()]), None);
        assert_eq!(found(Some(later), &[Record::Stable(certificate(later.0, later.1, 0))]), None);
        assert_eq!(found(Some((STABLE, Digest([8; 32]))), &[unsigned()]), None);
        assert_eq!(found(Some((Seq(0), STATE)), &[unsigned()]), None, "a state from before");
        let last = Checkpoint { seq: Seq(u64::MAX), state: STATE };
        assert_eq!(found_in(Some(last), None, &[]), None, "there is nothing after it");
        assert_eq!(found_in(Some(last), Some((last.seq, STATE)), &[]), None);
    }

    #[test]
    fn one_record_that_can_not_be_voids_all() {
        let stable = || Record::Stable(certificate(STABLE, STATE, 3));
        let batch = Arc::new(Batch::null());
        let vote = |view, seq| Record::Prepared(Vote { view: View(view), seq: Seq(seq), digest: STATE });
        let pre_prepared = |view, seq| {
            let batch = Arc::clone(&batch);
            Record::PrePrepared { view: View(view), seq: Seq(seq), batch }
        };
        let executed = |seq, digest| {
            let batch = Some(Arc::clone(&batch));
            Record::Executed { seq: Seq(seq), digest, batch }
        };
        let possible = [vote(0, 24), pre_prepared(3, 9), executed(9, batch.digest()), view_change(1, None)];
        for record in possible {
            assert!(found(&[stable(), record]).is_some());
        }
        let impossible = [
            vote(0, 25),
            vote(u64::MAX, 9),
            pre_prepared(0, 25),
            pre_prepared(u64::MAX, 9),
            executed(25, batch.digest()),
            executed(9, STATE),
            Record::MadeCheckpoint(Seq(32)),
            Record::MadeCheckpoint(Seq(9)),
            view_change(0, None),
            view_change(u64::MAX, None),
            view_change(1, Some(certificate(Seq(16), STATE, 3))),
            view_change(1, Some(certificate(STABLE, STATE, 2))),
            Record::MadeNewView(NewView { view: View(3), view_changes: vec![], proposals: vec![] }),
            Record::Life { incarnation: u64::MAX, is_voter: true },
        ];
        for record in impossible {
            let named = alloc::format!("{record:?}");
            assert_eq!(found(&[stable(), record]), None, "{named}");
        }
    }
}
