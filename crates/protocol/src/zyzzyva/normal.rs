//! The normal case: the primary orders, and whoever can accepts (Zyzzyva §3.1).

use super::message::{OrderRequest, Signed, ZyzzyvaMessage};
use super::mode::Mode;
use super::orders::Assignment;
use super::persistence::{Deferred, Record};
use super::{Step, Zyzzyva, statement};
use crate::{Batch, Misbehaviour, Request, batch};
use alloc::sync::Arc;
use althing_types::{Digest, Seq, View};

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

    /// As primary: orders waiting requests. What arrives while the pipeline is full, or while much is under way,
    /// gathers into the next batch.
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
                if self.gathers() {
                    return;
                }
                let requests = self.pending.take_batch(max_requests, max_bytes, signed_only);
                Batch { time: step.now, requests }
            } else if seq <= self.fill_to {
                Batch::null()
            } else {
                return;
            };
            let digest = batch.digest();
            self.accept(step, Arc::new(batch), digest, None);
        }
    }

    /// As backup: accepts what comes next, as far as it is here.
    pub(super) fn accept_orders(&mut self, step: &mut Step) {
        while self.is_in_view && self.primary() != self.me() {
            let seq = self.log.last().next();
            if seq > self.accept_to() {
                break;
            }
            if let Some(said) = self.orders.said(seq).filter(|said| !self.is_good(said)).cloned() {
                return self.leave_for_bad_order(step, said);
            }
            let own = self.orders.said(seq).filter(|said| self.is_believed(step, &said.order.batch)).cloned();
            let Some(next) = own.or_else(|| self.vouched_for(seq)) else { break };
            self.orders.forget_up_to(seq);
            let (batch, digest) = (Arc::clone(&next.order.batch), next.digest);
            let order = next.signed_by(self.primary());
            self.accept(step, batch, digest, order);
        }
        self.ask_for_hole(step);
    }

    /// Whether a correct primary could have ordered this next.
    fn is_good(&self, said: &Assignment) -> bool {
        self.is_acceptable(&said.order.batch) && self.log.history_with(said.digest) == said.order.history
    }

    pub(super) fn leave_for_bad_order(&mut self, step: &mut Step, said: Assignment) {
        let OrderRequest { view, seq, .. } = said.order;
        let primary = self.primary();
        let signed = said.signed_by(primary);
        let statements = signed
            .map(|Signed { content, proof, .. }| statement(&ZyzzyvaMessage::OrderRequest(content), &proof));
        let misbehaviour = Misbehaviour::InvalidBatch(view, seq);
        self.accuse(step, primary, misbehaviour, statements.into_iter().collect());
        self.leave_view(step, view.next());
    }

    /// Whether a correct primary could have made this batch. Its own settings are the measure: a
    /// group's replicas share them.
    pub(super) fn is_acceptable(&self, batch: &Batch) -> bool {
        let settings = &self.config.settings;
        let is_fit = batch::fit(batch.requests.iter(), settings.max_batch_requests, settings.max_batch_bytes);
        // Who takes the word of others for who has sent them keeps them as they come.
        let are_lean = batch.requests.iter().all(Request::is_lean);
        is_fit && are_lean && (batch.is_null() || !batch.requests.is_empty())
    }

    /// Whether a batch may be accepted here as far as this replica can tell: its requests are authentic and its
    /// time is not in the future.
    pub(super) fn is_believed(&self, step: &Step, batch: &Batch) -> bool {
        let is_own = |request: &Request| request.is_authentic || self.pending.has_authentic(request);
        self.is_in_time(step, batch) && batch.requests.iter().all(is_own)
    }

    /// Whether its time is not in the future.
    pub(super) fn is_in_time(&self, step: &Step, batch: &Batch) -> bool {
        batch.time <= step.now + self.config.settings.max_clock_skew
    }

    /// Accepts the next batch: as primary its own. It is on disk before anybody hears of it.
    pub(super) fn accept(
        &mut self,
        step: &mut Step,
        batch: Arc<Batch>,
        digest: Digest,
        order: Option<Signed<OrderRequest>>,
    ) {
        let view = self.view;
        self.pending.note_proposed(&batch);
        let proof = order.as_ref().map(|order| order.proof.clone());
        if self.mode() == Mode::Chain {
            self.note_clients(step.now, &batch);
        }
        let seq = self.log.push(view, digest, Arc::clone(&batch), order);
        if let Some(slot) = self.log.get_mut(seq) {
            slot.accepted_at = step.now;
        }
        let record = Record::Accepted { view, seq, batch, proof };
        self.outbox.persist(step.actions, &record, Deferred::Accept { view, seq });
    }

    /// An acceptance is on disk.
    pub(super) fn release_acceptance(&mut self, step: &mut Step, view: View, seq: Seq) {
        let Some(slot) = self.log.get(seq).filter(|slot| slot.view == view && seq > self.durable) else {
            return;
        };
        let order = slot.order_request(seq);
        self.durable = seq;
        if !self.is_in_view || view != self.view {
            return;
        }
        if self.mode() == Mode::Chain {
            self.pass_on(step, seq);
        } else if self.is_leading() && self.mode().is_led() {
            step.broadcast(ZyzzyvaMessage::OrderRequest(order));
        }
    }

    /// Asks the primary for what lies before what is here already (Zyzzyva §3.1, fill-hole).
    fn ask_for_hole(&mut self, step: &mut Step) {
        let accepted = self.log.last();
        let shown = self.shown.as_ref().map(|shown| shown.speculation.seq.next());
        let known = self.orders.first_said().into_iter().chain(shown).min();
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
