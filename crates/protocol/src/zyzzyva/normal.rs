//! The normal case: the primary orders, and whoever can accepts (Zyzzyva §3.1).

use super::history::extended;
use super::message::{OrderRequest, Signed, ZyzzyvaMessage};
use super::mode::Mode;
use super::persistence::{Deferred, Record};
use super::{Step, Zyzzyva, statement};
use crate::{Batch, Misbehaviour, Request, Speculation, batch};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{Seq, View};

impl Zyzzyva {
    pub(super) fn on_request(&mut self, step: &mut Step, request: Request) {
        let copy = request.clone();
        let goes_on = self.is_in_view && !self.is_leading() && self.mode() != Mode::Quorum;
        if self.admit(step, request) && goes_on {
            step.send(self.primary(), ZyzzyvaMessage::Forward(copy));
        }
    }

    /// Takes a request that is to be ordered; says whether it is new.
    pub(super) fn admit(&mut self, step: &mut Step, request: Request) -> bool {
        if self.must_sign(step, &request) {
            return false;
        }
        let (client, number) = (request.client, request.number);
        let is_new = request.is_authentic && self.pending.insert(step.now, request);
        let is_in_log = is_new
            && self.log.after(self.executed).any(|(_, slot)| {
                slot.batch.requests.iter().any(|known| (known.client, known.number) == (client, number))
            });
        if is_in_log {
            self.pending.note_client_in_batch(client);
        }
        is_new
    }

    /// The last number that may be accepted now: the order waits at a checkpoint until that is stable.
    pub(super) fn accept_to(&self) -> Seq {
        let durable = Seq(self.stable_durable.0.saturating_add(self.config.settings.log_size));
        self.next_checkpoint().min(durable).min(self.end())
    }

    /// As primary: orders waiting requests. What arrives while the pipeline is full gathers into the next
    /// batch.
    pub(super) fn propose(&mut self, step: &mut Step) {
        let settings = &self.config.settings;
        let (max_requests, max_bytes, pipeline) =
            (settings.max_batch_requests, settings.max_batch_bytes, settings.pipeline);
        while self.is_leading() && self.is_voting() && self.mode() != Mode::Quorum {
            let seq = self.log.last().next();
            if seq > self.accept_to() || seq.0 > self.durable.0.saturating_add(pipeline) {
                return;
            }
            // After a view without progress only signed requests: they are good for everybody.
            let signed_only = self.fruitless_views > 0;
            let batch = if self.pending.has_unproposed(signed_only) {
                let requests = self.pending.take_batch(max_requests, max_bytes, signed_only);
                Batch { time: step.now, requests }
            } else if seq <= self.fill_to {
                Batch::null()
            } else {
                return;
            };
            self.note_clients(step.now, &batch);
            self.accept(step, Arc::new(batch), None);
        }
    }

    /// An assignment, from whom made it or from somebody else.
    pub(super) fn on_order(&mut self, step: &mut Step, signed: Signed<OrderRequest>) {
        let OrderRequest { view, seq, .. } = signed.content;
        if signed.signer != self.quorums().primary(view) {
            return self.accuse(step, signed.signer, Misbehaviour::InvalidMessage, Vec::new());
        }
        let is_kept = seq > self.stable && seq <= self.high_watermark();
        let is_due = view == self.view && self.mode().is_led();
        if !is_due || !is_kept || self.is_contradicted(step, &signed) {
            return;
        }
        if seq > self.log.last() {
            self.orders.entry(seq).or_insert(signed);
        } else if self.is_in_view
            && signed.signer == self.me()
            && let Some(slot) = self.log.get_mut(seq).filter(|slot| slot.view == view)
        {
            // This replica's own comes back.
            slot.order = Some(signed);
        }
    }

    /// Whether the primary has signed something else for that number in that view: a proof of its misbehaviour
    /// (Zyzzyva §3.3), which all are shown.
    fn is_contradicted(&mut self, step: &mut Step, signed: &Signed<OrderRequest>) -> bool {
        let OrderRequest { view, seq, .. } = signed.content;
        let accepted = self.log.get(seq).and_then(|slot| slot.order.as_ref());
        let known = self.orders.get(&seq).or(accepted.filter(|order| order.content.view == view));
        let Some(known) = known.filter(|known| known.content.history != signed.content.history).cloned()
        else {
            return false;
        };
        let both = [known, signed.clone()];
        let statements = both
            .iter()
            .map(|signed| statement(&ZyzzyvaMessage::OrderRequest(signed.content.clone()), &signed.proof))
            .collect();
        self.accuse(step, signed.signer, Misbehaviour::ConflictingPrePrepare(view, seq), statements);
        for signed in both {
            step.broadcast(ZyzzyvaMessage::RelayOrder(signed));
        }
        self.leave_view(step, view.next());
        true
    }

    /// As backup: accepts what comes next, as far as it is here.
    pub(super) fn accept_orders(&mut self, step: &mut Step) {
        while self.is_in_view && self.primary() != self.me() {
            let seq = self.log.last().next();
            let Some(order) = self.orders.get(&seq).filter(|_| seq <= self.accept_to()) else { break };
            let OrderRequest { view, history, ref batch, .. } = order.content;
            let digest = batch.digest();
            let is_good = self.is_acceptable(batch) && self.log.history_with(digest) == history;
            if !is_good {
                let said = statement(&ZyzzyvaMessage::OrderRequest(order.content.clone()), &order.proof);
                let misbehaviour = Misbehaviour::InvalidBatch(view, seq);
                self.accuse(step, self.primary(), misbehaviour, alloc::vec![said]);
                return self.leave_view(step, view.next());
            }
            if !self.is_believed(step, seq, batch) {
                break;
            }
            let order = self.orders.remove(&seq).expect("it was found above");
            let batch = Arc::clone(&order.content.batch);
            self.accept(step, batch, Some(order));
        }
        self.ask_for_hole(step);
    }

    /// Whether a correct primary could have made this batch. Its own settings are the measure: a
    /// group's replicas share them.
    pub(super) fn is_acceptable(&self, batch: &Batch) -> bool {
        let settings = &self.config.settings;
        let is_fit = batch::fit(batch.requests.iter(), settings.max_batch_requests, settings.max_batch_bytes);
        is_fit && (batch.is_null() || !batch.requests.is_empty())
    }

    /// Whether a batch may be accepted here: its requests are authentic and its time is not in the future, or one
    /// correct replica has found so.
    pub(super) fn is_believed(&self, step: &Step, seq: Seq, batch: &Batch) -> bool {
        let is_own = |request: &Request| request.is_authentic || self.pending.has_authentic(request);
        let is_authentic = batch.requests.iter().all(is_own);
        let is_in_time = batch.time <= step.now + self.config.settings.max_clock_skew;
        (is_authentic && is_in_time) || self.is_vouched_for(seq)
    }

    /// Whether one correct replica has accepted what this one holds up to some number from `seq` on.
    fn is_vouched_for(&self, seq: Seq) -> bool {
        let one_correct = self.quorums().one_correct();
        let mut vouched = self.speculations.shared_by(one_correct, self.view);
        vouched.extend(self.commitments.shared_by(one_correct, self.view));
        vouched.extend(self.shown.as_ref().map(|shown| shown.speculation));
        let is_here = |vouched: &Speculation| {
            let mut history = self.log.history();
            for next in (self.log.last().0 + 1..=vouched.seq.0).map(Seq) {
                let Some(order) = self.orders.get(&next) else { return false };
                history = extended(history, order.content.batch.digest());
            }
            history == vouched.history
        };
        vouched.iter().filter(|vouched| vouched.seq >= seq).any(is_here)
    }

    /// Accepts the next batch: as primary its own. It is on disk before anybody hears of it.
    pub(super) fn accept(&mut self, step: &mut Step, batch: Arc<Batch>, order: Option<Signed<OrderRequest>>) {
        let view = self.view;
        self.pending.note_proposed(&batch);
        let proof = order.as_ref().map(|order| order.proof.clone());
        let seq = self.log.push(view, batch.digest(), Arc::clone(&batch), order);
        let record = Record::Accepted { view, seq, batch, proof };
        self.outbox.persist(step.actions, &record, Deferred::Accept { view, seq });
    }

    /// An acceptance is on disk.
    pub(super) fn release_acceptance(&mut self, step: &mut Step, view: View, seq: Seq) {
        let Some(slot) = self.log.get(seq).filter(|slot| slot.view == view && seq > self.durable) else {
            return;
        };
        let (history, batch) = (slot.history, Arc::clone(&slot.batch));
        self.durable = seq;
        if !self.is_in_view || view != self.view {
            return;
        }
        if self.mode() == Mode::Chain {
            self.pass_on(step, seq);
        } else if self.is_leading() && self.mode() != Mode::Quorum {
            let order = OrderRequest { view, seq, history, batch };
            step.broadcast_signed(ZyzzyvaMessage::OrderRequest(order));
        }
    }

    /// Asks the primary for what lies before what is here already (Zyzzyva §3.1, fill-hole).
    fn ask_for_hole(&mut self, step: &mut Step) {
        let accepted = self.log.last();
        let shown = self.shown.as_ref().map(|shown| shown.speculation.seq.next());
        let known = self.orders.keys().next().copied().into_iter().chain(shown).min();
        let is_led = self.mode().is_led();
        let is_hole =
            is_led && known.is_some_and(|known| known > accepted.next() && accepted < self.accept_to());
        if !is_hole || !self.is_in_view || self.is_leading() || self.hole_after == Some(accepted) {
            return;
        }
        if let Some(known) = known {
            self.hole_after = Some(accepted);
            let (view, first, last) = (self.view, accepted.next(), Seq(known.0 - 1));
            step.send(self.primary(), ZyzzyvaMessage::FillHole { view, first, last });
        }
    }
}
