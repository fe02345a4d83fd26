//! Assignments that are not accepted yet: what the primary says, and what others say that it has told them.
//!
//! The primary's word comes under a MAC, so that whoever hears it can show it to nobody. It is signed only where
//! two replicas find that they have accepted different things: each demands a signature for its own, and two
//! signatures for one number prove to all that the primary lied. A primary that does not sign is left by those
//! that know.
//!
//! What others pass on without the primary's signature is hearsay. It is taken only where *f* + 1 replicas vouch
//! for the history that it leads to, or a certificate does: one correct replica has accepted it then.

use super::history::extended;
use super::message::{OrderRequest, Signed, ZyzzyvaMessage};
use super::{Step, Zyzzyva, statement};
use crate::{Batch, Misbehaviour};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_crypto::Proof;
use althing_types::{Digest, ReplicaId, Seq, View};
use borsh::{BorshDeserialize, BorshSerialize};

/// Hearsay is kept of so many numbers after the last accepted one.
const HEARD_AHEAD: u64 = 32;

/// An assignment.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
pub(super) struct Assignment {
    pub(super) order: OrderRequest,
    /// The digest of its batch.
    pub(super) digest: Digest,
    /// The primary's, where it has signed.
    pub(super) proof: Option<Proof>,
}

impl Assignment {
    fn new(order: OrderRequest, proof: Option<Proof>) -> Self {
        let digest = order.batch.digest();
        Self { order, digest, proof }
    }

    /// Whether it orders the same after the same.
    fn is_same(&self, history: Digest, digest: Digest) -> bool {
        (self.order.history, self.digest) == (history, digest)
    }

    /// The same as the primary's signed statement, if it has signed it.
    pub(super) fn signed_by(self, signer: ReplicaId) -> Option<Signed<OrderRequest>> {
        let Self { order: content, proof, .. } = self;
        proof.map(|proof| Signed { signer, content, proof })
    }
}

/// Assignments of the present view that are not accepted here.
#[derive(Debug, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Orders {
    /// What the primary has told this replica, or signed.
    said: BTreeMap<Seq, Assignment>,
    /// What others say that it has told them.
    heard: BTreeMap<Seq, BTreeMap<ReplicaId, Assignment>>,
    /// The number for which a signature was demanded since the last status.
    demanded: Option<Seq>,
    /// What the primary has signed where it has told this replica something else under a MAC.
    disputed: Option<Assignment>,
}

impl Orders {
    /// What the primary has said of a number.
    pub(super) fn said(&self, seq: Seq) -> Option<&Assignment> {
        self.said.get(&seq)
    }

    /// The first number that the primary has said anything of.
    pub(super) fn first_said(&self) -> Option<Seq> {
        self.said.keys().next().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.said.len() + self.heard.values().map(BTreeMap::len).sum::<usize>()
    }

    /// The view is over.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// These numbers are accepted, or lie before what is stable.
    pub(super) fn forget_up_to(&mut self, seq: Seq) {
        self.said = self.said.split_off(&seq.next());
        self.heard = self.heard.split_off(&seq.next());
    }

    /// The batches that it holds.
    pub(super) fn batches_mut(&mut self) -> impl Iterator<Item = &mut Arc<Batch>> {
        let heard = self.heard.values_mut().flat_map(BTreeMap::values_mut);
        let held = self.said.values_mut().chain(heard).chain(&mut self.disputed);
        held.map(|assignment| &mut assignment.order.batch)
    }

    /// Signatures may be demanded again.
    pub(super) fn forget_demand(&mut self) {
        self.demanded = None;
    }

    /// What `source` says of a number: of `None`, or where it has said nothing, what the primary does.
    fn told_by(&self, source: Option<ReplicaId>, seq: Seq) -> Option<&Assignment> {
        let heard = source.and_then(|source| self.heard.get(&seq)?.get(&source));
        heard.or_else(|| self.said(seq))
    }

    /// Whose word there is of a number.
    fn sources(&self, seq: Seq) -> impl Iterator<Item = Option<ReplicaId>> {
        let heard = self.heard.get(&seq).into_iter().flat_map(BTreeMap::keys);
        core::iter::once(None).chain(heard.copied().map(Some))
    }
}

impl Zyzzyva {
    /// An assignment from whom made it, signed or not.
    pub(super) fn on_order_request(
        &mut self,
        step: &mut Step,
        from: ReplicaId,
        order: OrderRequest,
        proof: Option<Proof>,
    ) {
        if from != self.quorums().primary(order.view) {
            return self.accuse(step, from, Misbehaviour::InvalidMessage, Vec::new());
        }
        let OrderRequest { view, seq, .. } = order;
        let is_due = view == self.view && self.mode().is_led();
        if !is_due || seq <= self.stable || seq > self.high_watermark() {
            return;
        }
        if !self.is_acceptable(&order.batch) {
            // A larger one would be kept for nothing.
            return self.leave_for_bad_order(step, Assignment::new(order, proof));
        }
        let assignment = Assignment::new(order, proof);
        if self.is_proven_to_lie(step, &assignment) {
            return;
        }
        if seq > self.log.last() {
            self.on_order_to_come(step, assignment);
        } else {
            self.on_order_of_accepted(step, assignment);
        }
    }

    /// One that the primary signed, from anybody.
    pub(super) fn on_relayed_order(&mut self, step: &mut Step, signed: Signed<OrderRequest>) {
        let Signed { signer, content, proof } = signed;
        self.on_order_request(step, signer, content, Some(proof));
    }

    /// Whether the primary has signed something else for that number in this view: a proof of its misbehaviour
    /// (Zyzzyva §3.3), which all are shown.
    fn is_proven_to_lie(&mut self, step: &mut Step, assignment: &Assignment) -> bool {
        let primary = self.primary();
        let OrderRequest { view, seq, history, .. } = assignment.order;
        let accepted = self.log.get(seq).and_then(|slot| slot.order.as_ref());
        let accepted = accepted.filter(|order| order.content.view == view);
        let disputed = self.orders.disputed.as_ref().filter(|disputed| disputed.order.seq == seq);
        let known = accepted.map(|order| Assignment::new(order.content.clone(), Some(order.proof.clone())));
        let known = known.into_iter().chain(self.orders.said(seq).cloned()).chain(disputed.cloned());
        let others = known.filter(|known| !known.is_same(history, assignment.digest));
        let other = others.filter_map(|known| known.signed_by(primary)).next();
        let Some((other, signed)) = other.zip(assignment.clone().signed_by(primary)) else { return false };
        let both = [other, signed];
        let statements = both
            .iter()
            .map(|signed| statement(&ZyzzyvaMessage::OrderRequest(signed.content.clone()), &signed.proof))
            .collect();
        self.accuse(step, primary, Misbehaviour::ConflictingPrePrepare(view, seq), statements);
        for signed in both {
            step.broadcast(ZyzzyvaMessage::RelayOrder(signed));
        }
        self.leave_view(step, view.next());
        true
    }

    fn on_order_to_come(&mut self, step: &mut Step, assignment: Assignment) {
        let seq = assignment.order.seq;
        match self.orders.said.get_mut(&seq) {
            None => drop(self.orders.said.insert(seq, assignment)),
            Some(known) if known.is_same(assignment.order.history, assignment.digest) => {
                known.proof = known.proof.take().or(assignment.proof);
            }
            Some(_) => self.dispute(step, assignment),
        }
    }

    fn on_order_of_accepted(&mut self, step: &mut Step, assignment: Assignment) {
        let (seq, primary) = (assignment.order.seq, self.primary());
        let (view, brought) = (self.view, self.brought_to());
        let of_view = self.log.get_mut(seq).filter(|slot| slot.view == view && seq > brought);
        let Some(slot) = of_view.filter(|_| self.is_in_view) else { return };
        if !assignment.is_same(slot.history, slot.digest) {
            return self.dispute(step, assignment);
        }
        if let Some(signed) = assignment.signed_by(primary).filter(|_| slot.order.is_none()) {
            let history = slot.history;
            slot.order = Some(signed.clone());
            for other in self.speculations.contradicting(view, seq, history) {
                step.send(other, ZyzzyvaMessage::RelayOrder(signed.clone()));
            }
        }
    }

    /// The primary has told this replica something else. It lies, and has a while to sign that too, for all to see.
    fn dispute(&mut self, step: &mut Step, other: Assignment) {
        let seq = other.order.seq;
        if other.proof.is_some() {
            self.orders.disputed.get_or_insert(other);
            self.demand_signature(step, seq);
        } else {
            self.leave_liar(step, seq);
        }
    }

    /// Leaves a primary that this replica knows to lie, and can't prove to.
    fn leave_liar(&mut self, step: &mut Step, seq: Seq) {
        self.accuse(step, self.primary(), Misbehaviour::ConflictingPrePrepare(self.view, seq), Vec::new());
        self.leave_view(step, self.view.next());
    }

    /// Leaves a primary that has been found to lie since: one that has signed something else than it told this
    /// replica, or which f + 1 replicas contradict, one of which is correct.
    pub(super) fn leave_liar_in_view(&mut self, step: &mut Step) {
        if !self.is_in_view || self.is_leading() || !self.mode().is_led() {
            return;
        }
        let signed = self.orders.disputed.as_ref().map(|disputed| disputed.order.seq);
        let contradictions = self.speculations.contradictions(self.view, |seq| {
            (seq > self.log.base()).then(|| self.log.history_at(seq)).flatten()
        });
        let is_contradicted = contradictions.len() >= self.quorums().one_correct();
        let contradicted = contradictions.into_values().max().filter(|_| is_contradicted);
        if let Some(seq) = signed.or(contradicted) {
            self.leave_liar(step, seq);
        }
    }

    /// Another replica has signed that it accepted something else at a number: one of the two lies, or the primary
    /// has. Its signature shows whom it told that.
    pub(super) fn on_contradiction(&mut self, step: &mut Step, from: ReplicaId, seq: Seq) {
        let of_view = self.log.get(seq).filter(|slot| slot.view == self.view && seq > self.brought_to());
        let Some(slot) = of_view else { return };
        if self.is_leading() {
            self.sign_order(step, from, seq);
        } else if let Some(order) = slot.order.clone() {
            if self.may_give(step, from, seq) {
                self.given.insert((from, seq), step.now);
                step.send(from, ZyzzyvaMessage::RelayOrder(order));
            }
        } else {
            self.demand_signature(step, seq);
        }
    }

    /// Has the primary sign what it has told this replica: not again and again, whoever says what.
    fn demand_signature(&mut self, step: &mut Step, seq: Seq) {
        if self.orders.demanded.is_none() && !self.is_leading() {
            self.orders.demanded = Some(seq);
            step.send(self.primary(), ZyzzyvaMessage::Demand { view: self.view, seq });
        }
    }

    pub(super) fn on_demand(&mut self, step: &mut Step, from: ReplicaId, view: View, seq: Seq) {
        if self.is_leading() && self.mode().is_led() && view == self.view {
            self.sign_order(step, from, seq);
        }
    }

    /// As primary: signs an assignment for one replica, not again and again.
    fn sign_order(&mut self, step: &mut Step, to: ReplicaId, seq: Seq) {
        let is_said = seq > self.brought_to() && seq <= self.durable && self.may_give(step, to, seq);
        let slot = self.log.get(seq).filter(|slot| slot.view == self.view && is_said);
        if let Some(order) = slot.map(|slot| slot.order_request(seq)) {
            self.given.insert((to, seq), step.now);
            step.send_signed(to, ZyzzyvaMessage::OrderRequest(order));
        }
    }

    /// What a replica other than the primary has accepted, without the primary's signature.
    pub(super) fn on_hearsay(&mut self, from: ReplicaId, order: OrderRequest) {
        let OrderRequest { view, seq, .. } = order;
        let last = self.log.last();
        let is_near = seq > last && seq.0 <= last.0.saturating_add(HEARD_AHEAD);
        let is_other = from != self.me() && from != self.primary() && self.is_acceptable(&order.batch);
        if view == self.view
            && self.is_in_view
            && self.mode().is_led()
            && is_near
            && is_other
            && self.is_acceptable(&order.batch)
        {
            self.orders.heard.entry(seq).or_default().insert(from, Assignment::new(order, None));
        }
    }

    /// The next assignment, as told by somebody, if one correct replica has accepted it: f + 1 have signed that
    /// they have, or hold certificates, for histories that go through it and on with what the same one told; or
    /// such a certificate is here.
    pub(super) fn vouched_for(&self, seq: Seq) -> Option<Assignment> {
        let signed = self.speculations.in_view(self.view);
        let said: Vec<_> = signed.chain(self.commitments.in_view(self.view)).collect();
        let is_vouched_for = |source: &Option<ReplicaId>| {
            let mut history = self.log.history();
            let mut chain = BTreeMap::new();
            for seq in (seq.0..=self.high_watermark().0).map(Seq) {
                let Some(told) = self.orders.told_by(*source, seq) else { break };
                history = extended(history, told.digest);
                chain.insert(seq, history);
            }
            let shown = self.shown.as_ref().map(|shown| shown.speculation);
            if shown.is_some_and(|shown| chain.get(&shown.seq) == Some(&shown.history)) {
                return true;
            }
            let vouching = said.iter().filter(|(_, said)| chain.get(&said.seq) == Some(&said.history));
            let vouchers: BTreeSet<_> = vouching.map(|(who, _)| *who).collect();
            vouchers.len() >= self.quorums().one_correct()
        };
        let source = self.orders.sources(seq).find(is_vouched_for)?;
        self.orders.told_by(source, seq).cloned()
    }
}
