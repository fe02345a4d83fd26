//! How the engine carries out what the protocol asks for.

use crate::Durability;
use crate::checkpoints::Checkpoint;
use crate::execution::Effect;
use crate::frame::{ClientMessage, Execution, Given, ReplyOutcome};
use crate::hollow;
use crate::io::{Output, Report, Timer};
use crate::kept::KeptState;
use crate::pages::PageTree;
use crate::records::{EngineRecord, rewrite};
use crate::replica::Replica;
use crate::tentative::{Certainty, Tentative, said};
use crate::transfer::{Scope, Step, Transfer};
use crate::{Emission, Service, StopReason};
use alloc::vec::Vec;
use althing_protocol::{Action, Auth, Decision, Event, PersistId, Protocol, Share};
use althing_types::{Digest, Instant, ReplicaId, Seq, View, encode};

/// Results up to this length are given whole: their digest would be no shorter.
const DIGEST_LEN: usize = 32;

/// Whether a result is no longer than its digest.
pub(crate) fn is_short(outcome: &ReplyOutcome) -> bool {
    matches!(outcome, ReplyOutcome::Result(result) if result.len() <= DIGEST_LEN)
}

impl<P: Protocol, S: Service> Replica<P, S> {
    /// Has the protocol handle all that it still has to be told, and carries out what it wants,
    /// until nothing is left.
    ///
    /// A state is installed only between that: the protocol hears of it before anything else, so it
    /// never speaks about one state while the engine has another.
    pub(crate) fn run(&mut self, now: Instant, outputs: &mut Vec<Output>) {
        let mut actions = Vec::new();
        loop {
            if !self.is_member() {
                self.events.clear();
            }
            while let Some(event) = self.events.pop_front() {
                self.protocol.handle(now, event, &mut actions);
                for action in actions.drain(..) {
                    self.carry_out(now, action, outputs);
                }
                self.hand_over(now, outputs);
            }
            self.hand_over(now, outputs);
            self.advance_transfer(outputs);
            if self.events.is_empty() {
                return self.answer_held_queries(outputs);
            }
        }
    }

    fn carry_out(&mut self, now: Instant, action: Action<P::Message>, outputs: &mut Vec<Output>) {
        if self.is_stopped {
            return;
        }
        match action {
            Action::Send { to, message, auth } => self.send(to, message, auth, outputs),
            Action::Broadcast { message, auth } => {
                let proof = self.outbound.broadcast(&message, auth, outputs);
                if proof.is_some() {
                    self.events.push_back(Event::Message { from: self.me, message, proof, key: 0 });
                }
            }
            Action::Piggyback(message) => self.piggyback(&message, outputs),
            Action::SetTimer { id, after } => {
                self.timers.insert(id);
                outputs.push(Output::SetTimer { timer: Timer::protocol(id), after });
            }
            Action::CancelTimer(id) => outputs.push(Output::CancelTimer(Timer::protocol(id))),
            Action::Persist { id, record } => self.persist(id, record, outputs),
            Action::KeepState { seq, state } => self.keep_state(seq, state, outputs),
            Action::Compact(records) => {
                if self.durability != Durability::None {
                    let records = rewrite(self.kept.as_ref(), self.epoch_record(), records);
                    let dropped = core::mem::take(&mut self.dropped_segments);
                    outputs.push(Output::Rewrite { records, dropped });
                }
            }
            Action::Execute(decision) => self.execute(&decision, outputs),
            Action::ExecuteTentatively(decision) => {
                self.execute_early(decision, Certainty::Tentative, outputs);
            }
            Action::Speculate { decision, history, share } => {
                self.speculate(decision, (history, share), outputs);
            }
            Action::Certified(speculation) => self.on_certified(speculation, outputs),
            Action::Rollback => self.roll_back(outputs),
            Action::Stable { seq, state } => self.on_stable(seq, state, outputs),
            Action::FetchState { seq, state } => self.fetch_state(now, seq, state, outputs),
            Action::StandIn { seq, state } => self.stand_in(now, seq, state, outputs),
            Action::Closed { seq, state, votes } => self.on_closed(seq, state, votes),
            Action::Evidence(evidence) => self.accusations.bring(evidence, outputs),
            Action::MustSign { client, number } => {
                self.outbound.send_client(client, ClientMessage::MustSign { number }, outputs);
            }
            Action::Late(client) => self.outbound.send_client(client, ClientMessage::Late, outputs),
            Action::EnteredView(view) => self.on_view(view, true, outputs),
            Action::LeftView(view) => self.on_view(view, false, outputs),
        }
    }

    fn piggyback(&mut self, message: &P::Message, outputs: &mut Vec<Output>) {
        let first = outputs.len();
        self.outbound.broadcast(message, Auth::Mac, outputs);
        for output in &mut outputs[first..] {
            if let Output::Send { to, frame } = output {
                *output = Output::SendLazily { to: *to, frame: frame.clone() };
            }
        }
    }

    fn send(&mut self, to: ReplicaId, message: P::Message, auth: Auth, outputs: &mut Vec<Output>) {
        if to == self.me {
            let proof = (auth == Auth::Transferable).then(|| self.outbound.prove(&message));
            self.events.push_back(Event::Message { from: to, message, proof, key: 0 });
        } else {
            self.outbound.send(to, message, auth, outputs);
        }
    }

    fn persist(&mut self, id: PersistId, record: Vec<u8>, outputs: &mut Vec<Output>) {
        match self.durability {
            Durability::Sync | Durability::Async => {
                let record = encode(&EngineRecord::Protocol(record));
                outputs.push(Output::Append { id: id.0, record });
            }
            Durability::None => self.events.push_back(Event::Persisted(id)),
        }
    }

    pub(crate) fn keep_state(&mut self, seq: Seq, state: Digest, outputs: &mut Vec<Output>) {
        match self.checkpoints.find(seq, state) {
            Some(checkpoint) if self.durability != Durability::None => {
                let kept = self.kept.get_or_insert_with(|| KeptState::after(self.last_segment));
                let (segments, dropped) = if checkpoint.is_hollow {
                    let mut tree = hollow::named(&checkpoint.tree, state);
                    let (state, is_hollow) = (tree.refresh(), true);
                    kept.advance(seq, &Checkpoint { state, tree, is_hollow })
                } else {
                    kept.advance(seq, checkpoint)
                };
                self.dropped_segments.extend(dropped);
                self.is_keeping = true;
                outputs.push(Output::Keep { seq, segments });
            }
            // One that has diverged starts again from an earlier state, and fetches this one then.
            _ => self.on_kept(seq),
        }
    }

    pub(crate) fn on_kept(&mut self, seq: Seq) {
        self.is_keeping = false;
        self.checkpoints.on_kept(seq);
        self.events.push_back(Event::StateKept(seq));
    }

    fn execute(&mut self, decision: &Decision, outputs: &mut Vec<Output>) {
        let (effects, is_epoch_ending) = match self.confirm(decision, outputs) {
            Some(Tentative { effects, is_epoch_ending, .. }) => {
                for effect in &effects {
                    self.admission.executed(effect.client, effect.number);
                }
                (effects, is_epoch_ending)
            }
            None if self.is_stopped => return,
            None => {
                let effects = self.state.execute(decision, self.limits.settings().max_reply_bytes);
                for effect in &effects {
                    self.answer(decision, effect, &Certainty::Final, outputs);
                }
                (effects, self.ends_epoch())
            }
        };
        let mut requests = Vec::with_capacity(effects.len());
        for effect in effects {
            requests.push((effect.client, effect.number));
            for (client, number, outcome) in effect.late {
                let (view, execution) = (self.view, Execution::Final(decision.seq));
                let reply = ClientMessage::Reply { view, number, execution, outcome };
                self.outbound.send_client(client, reply, outputs);
            }
            for emission in effect.emissions {
                self.emit(emission, outputs);
            }
        }
        self.history.extend(decision);
        self.close_if_ending(decision.seq, is_epoch_ending);
        let Decision { seq, view, digest, .. } = *decision;
        outputs.push(Output::Report(Report::Executed { seq, view, digest, requests }));
        let mut state = None;
        if decision.is_checkpoint && self.is_witness() {
            let (_, tree) = self.state.checkpoint();
            self.checkpoints.insert_hollow(seq, tree);
        } else if decision.is_checkpoint {
            let (digest, tree) = self.state.checkpoint();
            self.history.start(seq, tree.clone());
            self.checkpoints.insert(seq, digest, tree);
            state = Some(digest);
        }
        self.events.push_back(Event::Executed { seq, state });
    }

    /// Tells a client what its request gave, as far as it wants to hear it from this replica.
    pub(crate) fn answer(
        &mut self,
        decision: &Decision,
        effect: &Effect,
        certainty: &Certainty,
        outputs: &mut Vec<Output>,
    ) {
        let request = &decision.batch.requests[effect.index];
        let (client, number) = (effect.client, effect.number);
        let is_owed = match certainty {
            Certainty::Final => self.admission.executed(client, number),
            Certainty::Tentative | Certainty::Speculative(..) => self.admission.owes(client, number),
        };
        let Some(outcome) = &effect.outcome else { return };
        // In another epoch the client named others by these places.
        let share = match &request.answers {
            answers if !is_owed && request.epoch == self.epoch() => match certainty {
                Certainty::Speculative(.., share) => share.unwrap_or_else(|| answers.share_of_all(self.me)),
                Certainty::Final | Certainty::Tentative => answers.share_of(self.me, decision.is_eager),
            },
            _ => Share::Whole,
        };
        let given = match share {
            Share::Nothing => return,
            Share::Digest if !is_short(outcome) => Given::Digest(outcome.digest()),
            Share::Digest | Share::Whole => Given::Whole(outcome.clone()),
        };
        let reply = match certainty {
            Certainty::Final => said(self.view, number, Execution::Final(decision.seq), given),
            early => early.reply(decision, number, given),
        };
        self.outbound.send_client(client, reply, outputs);
    }

    fn emit(&mut self, emission: Emission, outputs: &mut Vec<Output>) {
        let (channel, bytes) = (emission.channel, emission.payload.len());
        outputs.push(if bytes <= self.limits.settings().max_reply_bytes {
            Output::Emit(emission)
        } else {
            Output::Report(Report::EmissionTooLong { channel, bytes })
        });
    }

    fn on_stable(&mut self, seq: Seq, state: Digest, outputs: &mut Vec<Output>) {
        outputs.push(Output::Report(Report::Stable { seq, state }));
        self.salvaged = None;
        self.checkpoints.on_stable(seq, state);
        if self.is_about_to_stand_in() {
            return self.retarget(seq, state);
        }
        // What execution has reached need not be fetched any more.
        if self.transfer.as_ref().is_some_and(|transfer| transfer.target().0 <= seq) {
            self.drop_transfer(outputs);
        }
    }

    fn drop_transfer(&mut self, outputs: &mut Vec<Output>) {
        if let Some(dropped) = self.transfer.take() {
            self.next_ticket = dropped.next_ticket();
            outputs.push(Output::CancelTimer(Timer::TRANSFER));
            outputs.push(Output::Report(Report::TransferDropped { seq: dropped.target().0 }));
        }
    }

    fn on_view(&mut self, view: View, is_in_view: bool, outputs: &mut Vec<Output>) {
        (self.view, self.is_in_view) = (view, is_in_view);
        self.certified.forget();
        outputs.push(Output::Report(if is_in_view {
            Report::EnteredView(view)
        } else {
            Report::LeftView(view)
        }));
    }

    fn fetch_state(&mut self, now: Instant, seq: Seq, state: Digest, outputs: &mut Vec<Output>) {
        if self.is_about_to_stand_in() {
            self.drop_transfer(outputs);
        }
        match &mut self.transfer {
            Some(transfer) if seq > transfer.target().0 => transfer.retarget(seq, state),
            Some(_) => return,
            None => {
                if self.checkpoints.drop_diverged(seq, state) {
                    outputs.push(Output::Report(Report::Diverged { seq }));
                }
                let base = match self.checkpoints.find_whole(seq, state) {
                    _ if self.is_witness() => PageTree::default(),
                    _ if self.checkpoints.has_diverged() => self.state.intact(),
                    Some(own) => own.tree.clone(),
                    None => self.salvaged.take().unwrap_or_else(|| self.state.checkpoint().1),
                };
                // Answers to an earlier incarnation's questions must not pass for answers to ours.
                let first_ticket = self.next_ticket.max(now.0);
                let timeout = self.limits.settings().transfer_timeout;
                let place = (self.me, self.quorums);
                let scope = if self.is_witness() { Scope::Hollow } else { Scope::Whole };
                let target = (seq, state);
                self.transfer = Some(Transfer::within(scope, place, timeout, target, base, first_ticket));
            }
        }
        outputs.push(Output::Report(Report::TransferStarted { seq }));
    }

    /// Does the next steps of the state transfer, if one is under way.
    fn advance_transfer(&mut self, outputs: &mut Vec<Output>) {
        while let Some(transfer) = &mut self.transfer {
            match transfer.step() {
                Step::Ask { to, message } => self.outbound.send_engine(to, message, outputs),
                Step::Wait(timer) => {
                    outputs.extend(timer.map(|after| Output::SetTimer { timer: Timer::TRANSFER, after }));
                    return;
                }
                Step::Complete(tree) => {
                    outputs.push(Output::CancelTimer(Timer::TRANSFER));
                    let ((seq, state), bytes) = (transfer.target(), transfer.fetched_bytes());
                    self.next_ticket = transfer.next_ticket();
                    let stands_in = self.is_about_to_stand_in();
                    self.transfer = None;
                    if stands_in {
                        self.state.set_hollow(false);
                    }
                    self.install(seq, state, tree, bytes, outputs);
                }
            }
        }
    }

    fn install(&mut self, seq: Seq, state: Digest, tree: PageTree, bytes: u64, outputs: &mut Vec<Output>) {
        let stands_in = self.is_witness() && !self.state.is_hollow;
        if let Err(error) = self.state.install(seq, &tree) {
            if stands_in {
                // It has let go of what a witness keeps.
                return self.stop(StopReason::State(error), outputs);
            }
            outputs.push(Output::Report(Report::StateRefused { seq, error }));
            return;
        }
        self.tentative.clear();
        if self.state.is_hollow {
            let (_, tree) = self.state.checkpoint();
            self.checkpoints.reset_hollow(seq, state, tree);
        } else {
            self.history.start(seq, tree.clone());
            self.checkpoints.reset(seq, state, tree);
        }
        let executed = self.state.table().executed();
        for (client, number) in &executed {
            self.admission.executed(*client, *number);
        }
        outputs.push(Output::Report(Report::TransferFinished { seq, bytes }));
        // Before the protocol goes on from there: it may be where it ends.
        self.close_if_ending(seq, self.ends_epoch());
        self.events.push_back(Event::StateInstalled { seq, executed });
    }
}
