//! What each event leads to.

use super::message::{Signed, ZyzzyvaMessage};
use super::mode::Mode;
use super::{SETTLE_TIMER, STATUS_TIMER, Step, VIEW_TIMER, Zyzzyva, ZyzzyvaConfig};
use crate::{Actions, Event, Misbehaviour, Protocol, Settings};
use alloc::vec::Vec;
use althing_crypto::Proof;
use althing_types::{Digest, Instant, Quorums, ReplicaId, Seq};

impl Zyzzyva {
    /// A message of `from`, under its key of this number.
    fn on_message(
        &mut self,
        step: &mut Step,
        (from, key): (ReplicaId, u64),
        message: ZyzzyvaMessage,
        proof: Option<Proof>,
    ) {
        use ZyzzyvaMessage as M;
        self.trials.hear(from, step.now);
        match (message, proof) {
            (M::Speculated(own), Some(proof)) => self.on_speculated(step, from, own, proof),
            (M::Checkpoint(own), Some(proof)) => self.on_checkpoint(step, from, own, proof),
            (M::ViewChange(content), Some(proof)) => {
                self.on_view_change(step, Signed { signer: from, content, proof });
            }
            (M::NewView(content), Some(proof)) => {
                self.on_new_view(step, Signed { signer: from, content, proof }, None);
            }
            (M::Speculated(_) | M::Checkpoint(_) | M::ViewChange(_) | M::NewView(_), None) => {
                self.accuse(step, from, Misbehaviour::InvalidMessage, Vec::new())
            }
            (M::OrderRequest(order), proof) => self.on_order_request(step, from, order, proof),
            (M::Hearsay(order), _) => self.on_hearsay(from, order),
            (M::Reached { view, seq }, _) => self.on_reached(from, view, seq),
            (M::Demand { view, seq }, _) => self.on_demand(step, from, view, seq),
            (M::Forward(request), _) => drop(self.admit(step, request)),
            (M::RelayOrder(signed), _) => self.on_relayed_order(step, signed),
            (M::FillHole { view, first, last }, _) => self.on_fill_hole(step, from, view, first, last),
            (M::Pass(order), _) => self.on_passed(step, (from, key), order),
            (M::Linked(own), _) => self.on_linked(step, (from, key), own),
            (M::Committed(own), _) => self.on_committed(from, own, key),
            (M::RelayStable(certificate), _) => self.on_relayed_certificate(step, from, certificate),
            (M::RelayNewView { new_view, certificate }, _) => self.on_new_view(step, new_view, certificate),
            (M::Status(status), _) => self.on_status(step, from, status),
            (M::FetchBatch { seq, digest }, _) => self.on_fetch_batch(step, from, seq, digest),
            (M::BatchBody { seq, batch }, _) => self.on_batch_body(seq, batch),
            (M::Caught { clients }, _) => self.on_caught(step, from, &clients),
        }
    }

    /// Does whatever has become possible: run after every event, so that no handler has to think of
    /// what its change enables elsewhere.
    fn settle(&mut self, step: &mut Step) {
        self.accept_orders(step);
        self.accept_passed(step);
        self.confirm_new_view(step);
        self.enter_if_confirmed(step);
        self.certify(step);
        self.settle_at_once(step);
        self.say_to_settle(step);
        self.note_final();
        // Where only some tell clients, they have to also when the others were faster.
        if self.mode() == Mode::Chain {
            self.speculate(step);
        }
        self.execute_final(step);
        self.speculate(step);
        self.try_anew(step);
        self.say_reached(step);
        self.follow_leavers(step);
        self.join_view_change(step);
        self.start_new_view(step);
        self.propose(step);
        self.order_arrivals(step);
        self.update_settling(step);
        self.update_guard(step);
    }
}

impl Protocol for Zyzzyva {
    type Message = ZyzzyvaMessage;

    fn handle(&mut self, now: Instant, event: Event<ZyzzyvaMessage>, actions: &mut Actions<ZyzzyvaMessage>) {
        let mut step = Step { now, actions };
        match event {
            Event::Start(start) => self.on_start(&mut step, start),
            Event::Message { from, message, proof, key } => {
                self.on_message(&mut step, (from, key), message, proof);
            }
            Event::KeysEnded { of, before } => {
                self.commitments.forget(of, before);
                self.links.forget(of, before);
            }
            Event::Timer(VIEW_TIMER) => self.on_view_timer(&mut step),
            Event::Timer(STATUS_TIMER) => self.on_status_timer(&mut step),
            Event::Timer(SETTLE_TIMER) => self.on_settle_timer(&mut step),
            // Operations come with their order only, and nothing holds the primary to a floor.
            Event::Body(_) | Event::Witness { .. } | Event::Timer(_) => {}
            Event::Request(request) => self.on_request(&mut step, request),
            Event::AskedAgain { client, number } => self.on_asked_again(&mut step, client, number),
            Event::Certificate(certificate) => self.on_shown(&mut step, certificate),
            Event::Close(seq) => self.on_close(&mut step, seq),
            Event::Persisted(id) => self.on_persisted(&mut step, id),
            Event::StateKept(seq) => self.on_state_kept(&mut step, seq),
            Event::Executed { seq, state } => self.on_executed(&mut step, seq, state),
            Event::HandOver => self.on_hand_over(&mut step),
            Event::StateInstalled { seq, executed } => self.on_state_installed(&mut step, seq, &executed),
        }
        self.settle(&mut step);
    }

    /// Up to the last batch accepted, which a client may have decided: a replica answers only where that is
    /// final.
    fn answers_from(&self) -> Option<Seq> {
        let may_answer = !self.has_forgotten && self.has_state();
        may_answer.then_some(self.vouched.max(self.log.last()))
    }

    fn successor(
        &self,
        me: ReplicaId,
        quorums: Quorums,
        settings: &Settings,
        start: Option<(Seq, Digest)>,
    ) -> Option<Self> {
        let Settings::Zyzzyva(settings) = settings else { return None };
        let config = ZyzzyvaConfig::new(me, quorums, settings.clone()).ok()?;
        Some(Self::heir(self.legacy(quorums), config, start))
    }

    fn settings(&self) -> Option<Settings> {
        Some(Settings::Zyzzyva(self.config.settings.clone()))
    }

    fn has_forgotten(&self) -> bool {
        self.has_forgotten
    }
}
