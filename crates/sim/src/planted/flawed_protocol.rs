use super::{Planted, fearless};
use crate::subject::{Genuine, Probe, Subject};
use althing_protocol::pbft::{Pbft, PbftMessage, Status, ViewChange};
use althing_protocol::{
    Action, Actions, Batch, Decision, Event, Evidence, Misbehaviour, Protocol, RequestKind, Settings,
    SignedPart, Start,
};
use althing_types::{Digest, Instant, Quorums, ReplicaId, RequestNumber, Seq};
use std::collections::VecDeque;
use std::sync::Arc;

/// PBFT with a bug around it.
pub(crate) struct FlawedProtocol {
    bug: Planted,
    inner: Pbft,
    leaked: Vec<PbftMessage>,
    /// How far it has executed for good what it should have executed tentatively.
    hasty: Seq,
    /// Proposals and votes that count in any epoch.
    heard: VecDeque<(ReplicaId, PbftMessage)>,
}

/// So many of them.
const MOST_HEARD: usize = 200;

impl FlawedProtocol {
    pub(super) fn new(bug: Planted, inner: Pbft) -> Self {
        Self { bug, inner, leaked: Vec::new(), hasty: Seq(0), heard: VecDeque::new() }
    }

    pub(super) fn probe(&self) -> Probe {
        let probe = Genuine::probe(&self.inner);
        let is_settled = probe.is_settled || self.bug == Planted::UnboundedVotes;
        Probe { footprint: probe.footprint + self.leaked.len(), is_settled, ..probe }
    }

    /// Changes what happens before the protocol hears of it.
    fn before(&mut self, event: &Event<PbftMessage>, actions: &mut Actions<PbftMessage>) {
        let Event::Message { from, message, .. } = event else { return };
        match (self.bug, message) {
            (Planted::Leak, message) => self.leaked.push(message.clone()),
            (
                Planted::OldVotes,
                PbftMessage::PrePrepare(_) | PbftMessage::Prepare(_) | PbftMessage::Commit(_),
            ) => {
                if self.heard.len() >= MOST_HEARD {
                    self.heard.pop_front();
                }
                self.heard.push_back((*from, message.clone()));
            }
            (Planted::Slander, PbftMessage::Status(status)) if status.executed < self.inner.executed() => {
                let misbehaviour = Misbehaviour::InvalidMessage;
                let evidence = Evidence { accused: *from, misbehaviour, statements: Vec::new() };
                actions.push(Action::Evidence(evidence));
            }
            _ => {}
        }
    }

    /// To a witness, what one executor says that it has made, as if all had said so.
    fn echoes(&self, event: &Event<PbftMessage>) -> Vec<Event<PbftMessage>> {
        let (Event::Message { message: message @ PbftMessage::Made(_), key, .. }, Some(settings)) =
            (event, self.inner.settings())
        else {
            return Vec::new();
        };
        let executors = (0..4).map(ReplicaId).filter(|id| !settings.witnesses().contains(id));
        let said = |from| Event::Message { from, message: message.clone(), proof: None, key: *key };
        if self.inner.is_witness() { executors.map(said).collect() } else { Vec::new() }
    }

    /// Changes what the protocol wants; gives back what it is told of at once, where a correct
    /// runtime would tell it later or not at all.
    fn after(
        &mut self,
        action: Action<PbftMessage>,
        actions: &mut Actions<PbftMessage>,
    ) -> Option<Event<PbftMessage>> {
        match (self.bug, action) {
            (
                Planted::Forgetful | Planted::BareSteps,
                Action::Broadcast { message: PbftMessage::ViewChange(content), auth },
            ) => {
                actions.push(Action::Broadcast { message: forgetful(content), auth });
            }
            (
                Planted::Forgetful | Planted::BareSteps,
                Action::Send { to, message: PbftMessage::ViewChange(content), auth },
            ) => {
                actions.push(Action::Send { to, message: forgetful(content), auth });
            }
            (Planted::SkippedPrepare, Action::Broadcast { message: PbftMessage::Prepare(vote), auth }) => {
                actions.push(Action::Broadcast { message: PbftMessage::Prepare(vote), auth });
                actions.push(Action::Broadcast { message: PbftMessage::Commit(vote), auth });
            }
            (Planted::UnsyncedVotes, Action::Persist { id, record }) => {
                actions.push(Action::Persist { id, record });
                return Some(Event::Persisted(id));
            }
            (Planted::HastyExecution, Action::Rollback) => {}
            (Planted::HastyExecution, Action::ExecuteTentatively(decision)) => {
                if decision.seq > self.hasty {
                    self.hasty = decision.seq;
                    actions.push(Action::Execute(decision));
                }
            }
            (Planted::HastyExecution, Action::Execute(decision)) if decision.seq <= self.hasty => {}
            (Planted::LostGrant, Action::Execute(decision)) if changes_members(&decision) => {
                actions.push(Action::Rollback);
                let batch = Arc::new(Batch { requests: Vec::new(), ..(*decision.batch).clone() });
                actions.push(Action::Execute(Decision { batch, ..decision }));
            }
            (Planted::Impatient, Action::Broadcast { message: PbftMessage::Status(status), auth }) => {
                let message = PbftMessage::Status(Status { is_suspicious: true, ..status });
                actions.push(Action::Broadcast { message, auth });
            }
            (Planted::NoViewChange, Action::Broadcast { message: PbftMessage::ViewChange(_), .. }) => {}
            (Planted::Panic, Action::Execute(decision)) if decision.seq.0 == 20 => {
                panic!("the planted panic");
            }
            (bug @ (Planted::ExecutedTwice | Planted::CorruptedOperation), Action::Execute(decision)) => {
                actions.push(Action::Execute(mangled(bug, decision)));
            }
            (
                bug @ (Planted::ExecutedTwice | Planted::CorruptedOperation),
                Action::ExecuteTentatively(decision),
            ) => actions.push(Action::ExecuteTentatively(mangled(bug, decision))),
            (_, action) => actions.push(action),
        }
        None
    }
}

impl Protocol for FlawedProtocol {
    type Message = PbftMessage;

    fn handle(&mut self, now: Instant, event: Event<PbftMessage>, actions: &mut Actions<PbftMessage>) {
        self.before(&event, actions);
        let is_handover = matches!(event, Event::Start(Start::Handover { .. }));
        let mut events = VecDeque::from([event]);
        if self.bug == Planted::GullibleWitness {
            let echoes = self.echoes(&events[0]);
            events.extend(echoes);
        }
        match events.front() {
            Some(Event::Close(_)) if self.bug == Planted::NoEnd => return,
            _ if is_handover => {
                let heard = self.heard.drain(..);
                let said = |(from, message)| Event::Message { from, message, proof: None, key: 0 };
                events.extend(heard.map(said));
            }
            _ => {}
        }
        while let Some(event) = events.pop_front() {
            let mut wanted = Vec::new();
            self.inner.handle(now, event, &mut wanted);
            for action in wanted {
                events.extend(self.after(action, actions));
            }
        }
    }

    fn answers_from(&self) -> Option<Seq> {
        self.inner.answers_from()
    }

    fn successor(
        &self,
        me: ReplicaId,
        quorums: Quorums,
        settings: &Settings,
        start: Option<(Seq, Digest)>,
    ) -> Option<Self> {
        let quorums = if self.bug == Planted::SmallSuccessor { fearless(quorums) } else { quorums };
        let old = self.inner.settings().filter(|_| self.bug == Planted::OldSettings);
        let inner = self.inner.successor(me, quorums, old.as_ref().unwrap_or(settings), start)?;
        let mut heard = self.heard.clone();
        heard.retain(|(from, _)| quorums.has(*from) && *from != me);
        Some(Self { bug: self.bug, inner, leaked: Vec::new(), hasty: self.hasty, heard })
    }

    fn is_witness(&self) -> bool {
        self.inner.is_witness()
    }

    fn has_forgotten(&self) -> bool {
        self.inner.has_forgotten()
    }

    fn settings(&self) -> Option<Settings> {
        self.inner.settings()
    }

    fn statements(&self, stable: Option<(Seq, Digest)>, records: &[Vec<u8>]) -> Option<Vec<SignedPart>> {
        self.inner.statements(stable, records)
    }
}

fn changes_members(decision: &Decision) -> bool {
    decision.batch.requests.iter().any(|request| request.kind == RequestKind::Reconfigure)
}

fn forgetful(content: ViewChange) -> PbftMessage {
    PbftMessage::ViewChange(ViewChange { prepared: Vec::new(), pre_prepared: Vec::new(), ..content })
}

/// Every few batches, executes something else than was decided: the same at all replicas.
fn mangled(bug: Planted, mut decision: Decision) -> Decision {
    if !decision.seq.0.is_multiple_of(7) {
        return decision;
    }
    let requests = &mut Arc::make_mut(&mut decision.batch).requests;
    let Some(first) = requests.first_mut() else { return decision };
    if bug == Planted::ExecutedTwice {
        let mut again = first.clone();
        again.number = RequestNumber(again.number.0 + 1);
        requests.push(again);
    } else if let Some(byte) = first.operation.last_mut() {
        *byte ^= 1;
    }
    decision
}
