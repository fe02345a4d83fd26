//! From speculative to final: what an agreement quorum has accepted alike is certified, and what an agreement
//! quorum holds certificates for is final (Zyzzyva §3.2, and without any client).
//!
//! A certificate is worth something only with those who bring it into the next view. So a replica says
//! `Committed` once it has one on disk, only while it is in the view that the certificate is of, and takes
//! for final only what so many have said that one correct replica among them reports it to every new view.

use super::message::ZyzzyvaMessage;
use super::persistence::{Deferred, Record};
use super::{SETTLE_TIMER, Step, Zyzzyva, statement};
use crate::{Action, CommitCertificate, Misbehaviour, Speculation, Statement};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use althing_crypto::Proof;
use althing_types::{Digest, ReplicaId, Seq, View};
use borsh::{BorshDeserialize, BorshSerialize};

/// Of each replica so many signed statements are kept, the latest. A quorum that goes on meets at one of them.
const MOST_EACH: usize = 4;

/// What one replica has signed of what it accepted.
type Statements = BTreeMap<(View, Seq), (Digest, Proof)>;

/// What replicas have signed of what they accepted.
#[derive(Debug, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Speculations(BTreeMap<ReplicaId, Statements>);

impl Speculations {
    /// Files a statement; what its signer has said before for that number in that view, if it was something else.
    fn file(&mut self, from: ReplicaId, own: Speculation, proof: Proof) -> Option<(Speculation, Proof)> {
        let said = self.0.entry(from).or_default();
        let Speculation { view, seq, history } = own;
        if let Some((known, proof)) = said.get(&(view, seq)) {
            let earlier = (Speculation { history: *known, ..own }, proof.clone());
            return (*known != history).then_some(earlier);
        }
        said.insert((view, seq), (history, proof));
        if said.len() > MOST_EACH {
            said.pop_first();
        }
        None
    }

    /// What so many have said alike in this view.
    pub(super) fn shared_by(&self, count: usize, view: View) -> Vec<Speculation> {
        shared(self.in_view(view).map(|(_, said)| said), count)
    }

    /// What all have said in this view.
    pub(super) fn in_view(&self, view: View) -> impl Iterator<Item = (ReplicaId, Speculation)> {
        let in_view = (view, Seq(0))..(view.next(), Seq(0));
        self.0.iter().flat_map(move |(who, said)| {
            let said = said.range(in_view.clone());
            said.map(|((view, seq), (history, _))| {
                (*who, Speculation { view: *view, seq: *seq, history: *history })
            })
        })
    }

    /// Who has signed something else for a number in this view.
    pub(super) fn contradicting(&self, view: View, seq: Seq, history: Digest) -> Vec<ReplicaId> {
        let others = self
            .0
            .iter()
            .filter(|(_, said)| said.get(&(view, seq)).is_some_and(|(theirs, _)| *theirs != history));
        others.map(|(who, _)| *who).collect()
    }

    /// Who has signed something else in this view than `accepted` tells, and the last number for which.
    pub(super) fn contradictions(
        &self,
        view: View,
        accepted: impl Fn(Seq) -> Option<Digest>,
    ) -> BTreeMap<ReplicaId, Seq> {
        let is_other = |said: &Speculation| accepted(said.seq).is_some_and(|own| own != said.history);
        self.in_view(view).filter(|(_, said)| is_other(said)).map(|(who, said)| (who, said.seq)).collect()
    }

    /// Who has signed this.
    pub(super) fn votes_for(&self, speculation: Speculation) -> Vec<(ReplicaId, Proof)> {
        let place = (speculation.view, speculation.seq);
        let vote = |(signer, said): (&ReplicaId, &Statements)| {
            let (_, proof) = said.get(&place).filter(|(history, _)| *history == speculation.history)?;
            Some((*signer, proof.clone()))
        };
        self.0.iter().filter_map(vote).collect()
    }

    /// The last number that a replica has spoken of in this view, if that is not beyond `most`.
    fn last_of(&self, from: ReplicaId, view: View, most: Seq) -> Option<Seq> {
        let said = self.0.get(&from)?;
        said.range((view, Seq(0))..=(view, most)).next_back().map(|((_, seq), _)| *seq)
    }

    pub(super) fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }
}

/// What each replica has last said to hold a certificate for, by the checkpoint that it leads up to.
#[derive(Debug, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Commitments(BTreeMap<Seq, BTreeMap<ReplicaId, (Speculation, u64)>>);

impl Commitments {
    fn file(&mut self, checkpoint: Seq, from: ReplicaId, own: Speculation, key: u64) {
        let said = self.0.entry(checkpoint).or_default();
        let place = |said: &Speculation| (said.view, said.seq);
        if said.get(&from).is_none_or(|(known, _)| place(known) < place(&own)) {
            said.insert(from, (own, key));
        }
    }

    /// What a replica has said under keys that have ended counts no longer. What is final stays so.
    pub(super) fn forget(&mut self, replica: ReplicaId, before: u64) {
        for said in self.0.values_mut() {
            said.retain(|from, (_, key)| *from != replica || *key >= before);
        }
    }

    /// Checkpoints up to this one are stable.
    pub(super) fn forget_up_to(&mut self, stable: Seq) {
        self.0 = self.0.split_off(&stable.next());
    }

    fn towards(&self, checkpoint: Seq) -> impl Iterator<Item = Speculation> {
        self.0.get(&checkpoint).into_iter().flat_map(BTreeMap::values).map(|(said, _)| *said)
    }

    /// What `replica` has said itself, on the way to any checkpoint.
    pub(super) fn of(&self, replica: ReplicaId) -> impl Iterator<Item = Speculation> {
        self.0.values().filter_map(move |said| said.get(&replica)).map(|(said, _)| *said)
    }

    /// What all have said of this view, on the way to any checkpoint.
    pub(super) fn in_view(&self, view: View) -> impl Iterator<Item = (ReplicaId, Speculation)> {
        let all = self.0.values().flatten().map(|(who, (said, _))| (*who, *said));
        all.filter(move |(_, said)| said.view == view)
    }

    pub(super) fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }
}

/// Those that occur so often, ascending.
fn shared(statements: impl Iterator<Item = Speculation>, count: usize) -> Vec<Speculation> {
    let mut times: BTreeMap<Speculation, usize> = BTreeMap::new();
    for statement in statements {
        *times.entry(statement).or_default() += 1;
    }
    times.into_iter().filter(|(_, times)| *times >= count).map(|(statement, _)| statement).collect()
}

impl Zyzzyva {
    pub(super) fn on_speculated(&mut self, step: &mut Step, from: ReplicaId, own: Speculation, proof: Proof) {
        let said = |own: Speculation, proof: &Proof| -> Statement {
            statement(&ZyzzyvaMessage::Speculated(own), proof)
        };
        if own.seq > self.high_watermark() {
            return;
        }
        if let Some((earlier, earlier_proof)) = self.speculations.file(from, own, proof.clone()) {
            let statements = alloc::vec![said(earlier, &earlier_proof), said(own, &proof)];
            let misbehaviour = Misbehaviour::ConflictingVote(own.view, own.seq);
            return self.accuse(step, from, misbehaviour, statements);
        }
        let is_other = own.seq > self.log.base()
            && self.log.history_at(own.seq).is_some_and(|history| history != own.history);
        if self.is_in_view && own.view == self.view && is_other {
            if self.mode().is_led() {
                self.on_contradiction(step, from, own.seq);
            } else {
                self.on_contention(step);
            }
        }
    }

    /// A client shows a certificate (Zyzzyva §3.2). It is complete, and its proofs hold.
    pub(super) fn on_shown(&mut self, step: &mut Step, certificate: CommitCertificate) {
        let Speculation { view, seq, .. } = certificate.speculation;
        if !self.is_in_view || view != self.view || seq > self.high_watermark() {
            return;
        }
        let held = self.certificate.as_ref().filter(|held| held.speculation.view == view);
        if let Some(held) = held.filter(|held| held.speculation.seq >= seq) {
            if self.is_certificate_durable && self.is_voting() {
                step.actions.push(Action::Certified(held.speculation));
            }
        } else if self.shown.as_ref().is_none_or(|shown| shown.speculation.seq < seq) {
            self.shown = Some(certificate);
        }
        self.note_shown_in_quorum(step, seq);
    }

    /// Keeps the longest certificate there is for what is accepted here.
    pub(super) fn certify(&mut self, step: &mut Step) {
        if !self.is_in_view {
            return;
        }
        let shown = self.shown.take_if(|shown| shown.speculation.seq <= self.durable);
        let shared = self.speculations.shared_by(self.quorums().agreement(), self.view);
        let shared = shared.into_iter().filter(|shared| shared.seq <= self.durable).max_by_key(|s| s.seq);
        let made = shared.map(|speculation| {
            let votes = self.speculations.votes_for(speculation);
            CommitCertificate { speculation, votes }
        });
        for certificate in shown.into_iter().chain(made) {
            self.keep_certificate(step, certificate);
        }
    }

    fn keep_certificate(&mut self, step: &mut Step, certificate: CommitCertificate) {
        let speculation = certificate.speculation;
        let Speculation { view, seq, history } = speculation;
        let held = self.certificate.as_ref().map(|held| (held.speculation.view, held.speculation.seq));
        if view != self.view || seq <= self.log.base() || held >= Some((view, seq)) {
            return;
        }
        if self.log.history_at(seq) != Some(history) {
            // A quorum has something else here, and nobody can join it in this view any more. The primary has lied, or,
            // where all are needed, this replica has missed something.
            return self.leave_view(step, view.next());
        }
        let record = Record::Certificate(certificate.clone());
        self.certificate = Some(certificate);
        self.is_certificate_durable = false;
        self.outbox.persist(step.actions, &record, Deferred::Committed(speculation));
    }

    /// A certificate is on disk.
    pub(super) fn release_commitment(&mut self, step: &mut Step, own: Speculation) {
        let held = self.certificate.as_ref().map(|held| held.speculation);
        self.is_certificate_durable |= held == Some(own);
        if self.is_in_view && own.view == self.view && self.is_voting() {
            step.broadcast(ZyzzyvaMessage::Committed(own));
            self.file_commitment(self.me(), own, 0);
            step.actions.push(Action::Certified(own));
        }
    }

    pub(super) fn on_committed(&mut self, from: ReplicaId, own: Speculation, key: u64) {
        self.file_commitment(from, own, key);
    }

    fn file_commitment(&mut self, from: ReplicaId, own: Speculation, key: u64) {
        if own.seq > self.log.base() && own.seq <= self.high_watermark() {
            let checkpoint = self.terms().checkpoint_after(Seq(own.seq.0 - 1));
            self.commitments.file(checkpoint, from, own, key);
        }
    }

    /// Notes how far an agreement quorum holds certificates of one view for what is accepted here.
    pub(super) fn note_final(&mut self) {
        let said: Vec<_> = self.commitments.towards(self.next_checkpoint()).collect();
        let views: BTreeSet<View> = said.iter().map(|said| said.view).collect();
        for view in views {
            let of_view = said.iter().filter(|said| said.view == view);
            let is_here = |said: &&Speculation| self.log.history_at(said.seq) == Some(said.history);
            let mut numbers: Vec<Seq> = of_view.filter(is_here).map(|said| said.seq).collect();
            numbers.sort_unstable_by(|a, b| b.cmp(a));
            if let Some(seq) = numbers.get(self.quorums().agreement() - 1) {
                self.final_to = self.final_to.max(*seq);
            }
        }
    }

    /// Signs what this replica has accepted where the others need that: as far as the primary has, and at a
    /// checkpoint, where the order waits.
    pub(super) fn say_to_settle(&mut self, step: &mut Step) {
        if !self.is_in_view {
            return;
        }
        let asked = self.speculations.last_of(self.primary(), self.view, self.durable);
        let checkpoint = (self.durable == self.next_checkpoint()).then_some(self.durable);
        let said = self.said.filter(|said| said.view == self.view).map(|said| said.seq);
        if let Some(seq) = asked.max(checkpoint).filter(|seq| Some(*seq) > said) {
            self.say(step, seq);
        }
    }

    pub(super) fn say(&mut self, step: &mut Step, seq: Seq) {
        let may_say = seq > self.log.base() && self.is_voting() && !self.is_bound_otherwise(seq);
        let history = self.log.history_at(seq).filter(|_| may_say);
        if let Some(history) = history {
            let own = Speculation { view: self.view, seq, history };
            self.said = Some(own);
            step.broadcast_signed(ZyzzyvaMessage::Speculated(own));
        }
    }

    pub(super) fn is_unsettled(&self) -> bool {
        self.is_in_view && self.is_voting() && self.durable > self.executed
    }

    pub(super) fn update_settling(&mut self, step: &mut Step) {
        if self.is_unsettled() && !self.is_settling {
            self.is_settling = true;
            let after = self.config.settings.settle_patience;
            step.actions.push(Action::SetTimer { id: SETTLE_TIMER, after });
        }
    }

    /// Something has been speculative for long.
    pub(super) fn on_settle_timer(&mut self, step: &mut Step) {
        self.is_settling = false;
        if self.is_unsettled() {
            self.say(step, self.durable);
        }
    }
}
