use super::Planted;
use crate::subject::{GenuinePaxos, Probe, Subject};
use althing_protocol::paxos::{Paxos, PaxosMessage, Promise};
use althing_protocol::pbft::PbftSettings;
use althing_protocol::{Action, Actions, Event, Protocol, Start};
use althing_services::Kv;
use althing_types::{ClientId, Instant, Quorums, ReplicaId, Seq};
use std::collections::VecDeque;

/// Paxos with a bug around it.
pub(super) struct FlawedPaxos(pub(super) Planted);

/// One replica of it.
pub(super) struct FlawedPaxosProtocol {
    bug: Planted,
    inner: Paxos,
}

impl Subject for FlawedPaxos {
    type Protocol = FlawedPaxosProtocol;
    type Service = Kv;

    fn protocol(&self, me: ReplicaId, quorums: Quorums, settings: PbftSettings) -> FlawedPaxosProtocol {
        FlawedPaxosProtocol { bug: self.0, inner: GenuinePaxos.protocol(me, quorums, settings) }
    }

    fn forwarded(message: &PaxosMessage) -> Option<ClientId> {
        GenuinePaxos::forwarded(message)
    }

    fn service(&self, me: ReplicaId) -> Kv {
        GenuinePaxos.service(me)
    }

    fn probe(protocol: &FlawedPaxosProtocol) -> Probe {
        GenuinePaxos::probe(&protocol.inner)
    }
}

impl FlawedPaxosProtocol {
    /// Changes what happens before the protocol hears of it.
    fn before(&self, event: Event<PaxosMessage>) -> Event<PaxosMessage> {
        match (self.bug, event) {
            (
                Planted::ForgetfulLeader,
                Event::Message { from, message: PaxosMessage::Promise(promise), proof, key },
            ) => {
                let promise = Promise { accepted: Vec::new(), ..promise };
                Event::Message { from, message: PaxosMessage::Promise(promise), proof, key }
            }
            (Planted::HastyAcceptor, Event::Start(Start::Amnesia)) => Event::Start(Start::Genesis),
            (_, event) => event,
        }
    }
}

impl Protocol for FlawedPaxosProtocol {
    type Message = PaxosMessage;

    fn handle(&mut self, now: Instant, event: Event<PaxosMessage>, actions: &mut Actions<PaxosMessage>) {
        let mut events = VecDeque::from([self.before(event)]);
        while let Some(event) = events.pop_front() {
            let first = actions.len();
            self.inner.handle(now, event, actions);
            if self.bug == Planted::UnsyncedAccepts {
                let persisted = actions[first..].iter().filter_map(|action| match action {
                    Action::Persist { id, .. } => Some(Event::Persisted(*id)),
                    _ => None,
                });
                events.extend(persisted);
            }
        }
    }

    fn answers_from(&self) -> Option<Seq> {
        self.inner.answers_from()
    }

    fn has_forgotten(&self) -> bool {
        self.inner.has_forgotten()
    }
}
