//! How a logical machine carries out what the wide-area protocol asks for.

use super::{LogicalMachine, Timer};
use crate::message::Kind;
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_protocol::{Action, Auth, Decision, Event, Replicable, TimerId};
use althing_replica::Service;
use althing_types::{ReplicaId, SiteId};

/// What an acknowledgement rides on gets such a part of a link's timeout to be acknowledged itself, and once more as much at
/// most: there has to be time left for the acknowledgement alone.
const RIDING_PART: u32 = 4;

/// The site that the wide-area protocol calls by this id.
pub(super) fn site(id: ReplicaId) -> SiteId {
    SiteId(id.0)
}

/// As what a message of the protocol is said. Both are signed; the protocol is told of a proof where it asked for one.
fn kind(auth: Auth) -> Kind {
    match auth {
        Auth::Mac => Kind::Protocol,
        Auth::Transferable => Kind::Statement,
    }
}

impl<P: Replicable, S: Service> LogicalMachine<P, S> {
    /// Has the protocol handle an event, and all that follows from it.
    pub(super) fn drive(&mut self, event: Event<P::Message>) {
        self.to_handle.push_back(event);
        self.drive_on();
    }

    /// Has it handle what it still has to.
    pub(super) fn drive_on(&mut self) {
        let mut actions = Vec::new();
        while let Some(event) = self.to_handle.pop_front() {
            self.core.protocol.handle(self.now.1, event, &mut actions);
            for action in actions.drain(..) {
                self.carry_out(action);
            }
        }
    }

    pub(super) fn carry_out(&mut self, action: Action<P::Message>) {
        match action {
            Action::Send { to, message, auth } => {
                if to == self.me() && auth == Auth::Mac {
                    self.to_handle.push_back(Event::Message { from: to, message, proof: None, key: 0 });
                } else {
                    self.say_message(site(to), kind(auth), &message);
                }
            }
            Action::Broadcast { message, auth } => self.say_message_to_all(kind(auth), &message, auth),
            Action::Piggyback(message) => self.say_message_to_all(Kind::Protocol, &message, Auth::Mac),
            Action::SetTimer { id: TimerId(id), after } => {
                self.core.timers.set(Timer::Protocol(id), after);
            }
            Action::CancelTimer(TimerId(id)) => self.core.timers.cancel(Timer::Protocol(id)),
            // The site's own protocol has made it durable, by ordering what led to it.
            Action::Persist { id, .. } => self.to_handle.push_back(Event::Persisted(id)),
            Action::KeepState { seq, .. } => self.to_handle.push_back(Event::StateKept(seq)),
            Action::Execute(decision) => self.execute_decision(&decision),
            Action::FetchState { seq, state } => self.fetch(seq, state),
            Action::Stable { seq, .. } => {
                self.checkpoints = self.checkpoints.split_off(&seq);
                self.stop_fetching(seq);
            }
            Action::Evidence(evidence) => self.accuse(evidence),
            Action::EnteredView(view) | Action::LeftView(view) => self.core.view = view,
            Action::Compact(_)
            | Action::Closed { .. }
            | Action::MustSign { .. }
            | Action::Late(_)
            | Action::Certified(_)
            | Action::Rollback => {}
            Action::ExecuteTentatively(_) | Action::Speculate { .. } => {
                panic!("a wide-area protocol executes nothing tentatively")
            }
            Action::StandIn { .. } => panic!("all sites execute"),
        }
    }

    pub(super) fn execute_decision(&mut self, decision: &Decision) {
        if self.holds(decision) {
            return;
        }
        let effects = self.nested.execute(decision, self.config.max_reply_bytes);
        self.core.executed = decision.seq;
        for effect in effects {
            self.core.bundler.on_executed(effect.client, effect.number);
            if let Some(outcome) = effect.outcome {
                self.answer(effect.client, effect.number, outcome);
            }
            for (client, number, outcome) in effect.late {
                self.answer(client, number, outcome);
            }
        }
        self.dispatch_bundles();
        let state = decision.is_checkpoint.then(|| {
            let (state, tree) = self.nested.checkpoint();
            self.checkpoints.insert(decision.seq, (state, tree));
            state
        });
        self.to_handle.push_back(Event::Executed { seq: decision.seq, state });
    }

    /// Says something to a site. What is longer than any site takes is not said: the others would take this one for
    /// faulty, and it could not even put in order what it says to itself.
    pub(super) fn say(&mut self, to: SiteId, kind: Kind, body: Arc<[u8]>) {
        if body.len() > self.config.max_message_bytes {
            return;
        }
        let most_bytes = self.config.max_unacknowledged_bytes;
        self.core.links.say(self.now, (to, kind, body), most_bytes, &self.config.links);
        self.set_acknowledgement_timers();
    }

    /// Says something to all sites, this one included or not.
    pub(super) fn say_to_all(&mut self, kind: Kind, body: Arc<[u8]>, is_to_self_too: bool) {
        let me = self.me();
        for to in self.config.sites.replicas().filter(|to| *to != me || is_to_self_too) {
            self.say(site(to), kind, Arc::clone(&body));
        }
    }

    pub(super) fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Protocol(id) => self.drive(Event::Timer(TimerId(id))),
            Timer::Acknowledge => {
                self.core.links.acknowledge_due(self.now.0, self.config.site());
                self.set_acknowledgement_timers();
            }
            Timer::AcknowledgeAgain => {
                self.core.links.acknowledge_again(self.now.0, self.config.site());
                self.set_acknowledgement_timers();
            }
            Timer::Relay => self.relay(),
        }
    }

    /// Sees to it that other sites hear of what was received, however that goes about.
    pub(super) fn set_acknowledgement_timers(&mut self) {
        let (links, timers) = (&self.core.links, &mut self.core.timers);
        let again = self.config.links.pace.timeout() / RIDING_PART;
        for (timer, is_wanted, after) in [
            (Timer::Acknowledge, links.is_due(), self.config.acknowledgement_delay),
            (Timer::AcknowledgeAgain, links.is_riding(), again),
        ] {
            if is_wanted && !timers.is_running(timer) {
                timers.set(timer, after);
            }
        }
        if !links.is_riding() {
            timers.cancel(Timer::AcknowledgeAgain);
        }
    }
}
