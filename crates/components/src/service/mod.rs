mod inspect;
mod operation;
mod pages;
mod state;
mod table;

pub use operation::{
    MAX_EVENTS_PER_DELIVERY, MAX_OPERATION_BYTES, MAX_OUTPUTS_BYTES, MAX_REPLY_BYTES, NumberedEvent,
    Operation, OutputCopy, Refusal, Reply,
};
pub use pages::MAX_SNAPSHOT_BYTES;
pub use table::{Incoming, Outgoing, ServiceTable, Sink, Source};

use crate::component::{Component, ComponentContext, ComponentError, OutputEvent};
use crate::plan::WireId;
use crate::value::{MAX_EVENT_BYTES, canonical, parse};
use crate::voter::Offer;
use althing_replica::{Context, Emission, InstallError, Outcome, Pages, Service};
use althing_types::ClientId;
use serde_json::Value;
use state::{Inlet, State};

/// The most events that a component may emit for one that it takes.
pub const MAX_OUTPUTS_PER_EVENT: usize = 32;

/// The most bytes that these events may have together.
const MAX_OUTPUT_BYTES_PER_EVENT: usize = 256 * 1024;

/// A component as a replicated state machine.
///
/// Everything that decides which event is next happens in here, where all replicas do the same: a
/// copy of an event from a replica of another group is an ordered operation, and the vote over the
/// copies is part of the state. No host on the way can forge an event, and a wrong copy never
/// delays the right ones.
///
/// Outputs leave twice: as emissions, at once and without guarantee, and in an outbox that is part
/// of the state and keeps them until their consumer has them. While an outbox is full, no event is
/// accepted; what producers have delivered waits in the vote, and what the edge delivers is
/// answered with [`Reply::Busy`].
pub struct ComponentService {
    table: ServiceTable,
    state: State,
    component: Box<dyn Component>,
    broken: Option<String>,
}

impl ComponentService {
    /// The service of a replica that starts from nothing, with a fresh `component`.
    #[must_use]
    pub fn new(table: ServiceTable, component: Box<dyn Component>) -> Self {
        Self { state: State::new(&table), table, component, broken: None }
    }

    /// Why this replica's component no longer works, if it doesn't. The state is then worthless:
    /// the replica has to stop, and to recover from the others with a fresh component.
    #[must_use]
    pub fn broken(&self) -> Option<String> {
        self.broken.clone()
    }

    fn apply(&mut self, operation: Operation, run: &mut Run<'_>) -> Result<Reply, Refusal> {
        match operation {
            Operation::Deliver { wire, events } => self.deliver(wire, &events, run),
            Operation::Acknowledge { wire, up_to } => self.acknowledge(wire, up_to, run),
            read => self.read(&read, run.context.client),
        }
    }

    fn deliver(
        &mut self,
        wire: WireId,
        events: &[NumberedEvent],
        run: &mut Run<'_>,
    ) -> Result<Reply, Refusal> {
        let incoming = self.table.incoming.get(&wire);
        let incoming = incoming.ok_or(Refusal::UnknownWire(wire))?;
        let taken = match &incoming.source {
            source if !source.admits(run.context.client) => return Err(Refusal::NotAuthorised),
            Source::Edge { .. } => self.deliver_from_edge(wire, events, run),
            Source::Group { clients, .. } => {
                let ascending = events.is_sorted_by(|a, b| a.seq < b.seq);
                if !ascending || events.first().is_some_and(|e| e.seq == 0) {
                    return Err(Refusal::NotAscending);
                }
                let replica = clients[&run.context.client];
                let mut taken = 0;
                for NumberedEvent { seq, event } in events {
                    let offer = self.state.voter(wire).offer(replica, *seq, event);
                    if offer == Offer::TooFarAhead {
                        break;
                    }
                    taken += 1;
                    self.accept_agreed(wire, run);
                }
                taken
            }
        };
        let accepted_up_to = self.state.incoming[&wire].accepted();
        if taken == events.len() {
            return Ok(Reply::Delivered { accepted_up_to });
        }
        Ok(Reply::Busy {
            taken: u32::try_from(taken).expect("a delivery has at most 64 events"),
            accepted_up_to,
        })
    }

    fn deliver_from_edge(&mut self, wire: WireId, events: &[NumberedEvent], run: &mut Run<'_>) -> usize {
        let mut taken = 0;
        while taken < events.len() && self.has_room() {
            self.take(wire, &events[taken].event, run);
            if let Some(Inlet::Edge { accepted }) = self.state.incoming.get_mut(&wire) {
                *accepted += 1;
            }
            taken += 1;
        }
        taken
    }

    fn acknowledge(&mut self, wire: WireId, up_to: u64, run: &mut Run<'_>) -> Result<Reply, Refusal> {
        let outgoing = self.table.outgoing.get(&wire);
        let outgoing = outgoing.ok_or(Refusal::UnknownWire(wire))?;
        let voice = outgoing.sink.voice(run.context.client);
        let voice = voice.ok_or(Refusal::NotAuthorised)?;
        let outbox = self.state.outgoing.get_mut(&wire).expect("each wire has one");
        outbox.acknowledge(voice, up_to);
        let released_up_to = outbox.released();
        // Room in the outbox may be what an agreed event waited for.
        let incoming: Vec<_> = self.table.incoming.keys().copied().collect();
        for wire in incoming {
            self.accept_agreed(wire, run);
        }
        Ok(Reply::Acknowledged { released_up_to })
    }

    /// Lets the component take the events of a wire that are agreed on and next, as long as there
    /// is room for what it may emit.
    fn accept_agreed(&mut self, wire: WireId, run: &mut Run<'_>) {
        while self.has_room()
            && let Some(Inlet::Group(voter)) = self.state.incoming.get_mut(&wire)
            && let Some((_, event)) = voter.accept()
        {
            self.take(wire, &event, run);
        }
    }

    fn has_room(&self) -> bool {
        let mut outboxes = self.state.outgoing.values();
        outboxes.all(|o| o.has_room(MAX_OUTPUTS_PER_EVENT, MAX_OUTPUT_BYTES_PER_EVENT))
    }

    /// Lets the component take one event and sends what it emits.
    fn take(&mut self, wire: WireId, event: &[u8], run: &mut Run<'_>) {
        // Whatever it would say is worth nothing, and to wait for it holds up the replica's end.
        if self.broken.is_some() {
            return;
        }
        let ordinal = self.state.events;
        self.state.events += 1;
        match self.run_component(wire, event, &run.component_context(ordinal)) {
            Ok(outputs) => self.emit(&outputs, run),
            Err(ComponentError::Refused(reason)) => self.state.refuse(wire, &reason),
            Err(ComponentError::Broken(reason)) => {
                self.broken.get_or_insert(reason);
            }
        }
    }

    fn run_component(
        &mut self,
        wire: WireId,
        event: &[u8],
        context: &ComponentContext,
    ) -> Result<Vec<(String, Vec<u8>)>, ComponentError> {
        let port = &self.table.incoming[&wire].port;
        let invalid = |e: crate::value::ValueError| ComponentError::Refused(e.to_string());
        let value = parse(event).map_err(invalid)?;
        if let Some(kind) = self.table.inputs.get(port) {
            kind.check(&value).map_err(invalid)?;
        }
        let outputs = self.component.on_event(port, &value, context)?;
        self.check_outputs(outputs)
    }

    fn check_outputs(&self, outputs: Vec<OutputEvent>) -> Result<Vec<(String, Vec<u8>)>, ComponentError> {
        let refused = |reason| Err(ComponentError::Refused(reason));
        if outputs.len() > MAX_OUTPUTS_PER_EVENT {
            return refused(format!(
                "it emitted {} events for one, at most {MAX_OUTPUTS_PER_EVENT} are allowed",
                outputs.len()
            ));
        }
        let mut total = 0;
        let mut checked = Vec::with_capacity(outputs.len());
        for OutputEvent { port, value } in outputs {
            let Some(kind) = self.table.outputs.get(&port) else {
                return refused(format!("it emitted on `{port}`, which is no output port"));
            };
            if let Err(e) = kind.check(&value) {
                return refused(format!("it emitted on `{port}`: {e}"));
            }
            let bytes = canonical(&value);
            total += bytes.len();
            if bytes.len() > MAX_EVENT_BYTES || total > MAX_OUTPUT_BYTES_PER_EVENT {
                return refused(format!(
                    "it emitted {} bytes on `{port}`, {total} for this event so far; at most \
                     {MAX_EVENT_BYTES} and {MAX_OUTPUT_BYTES_PER_EVENT} are allowed",
                    bytes.len()
                ));
            }
            checked.push((port, bytes));
        }
        Ok(checked)
    }

    fn emit(&mut self, outputs: &[(String, Vec<u8>)], run: &mut Run<'_>) {
        for (port, event) in outputs {
            for (&wire, outgoing) in &self.table.outgoing {
                if outgoing.port != *port {
                    continue;
                }
                let outbox = self.state.outgoing.get_mut(&wire).expect("each wire has one");
                let copy = OutputCopy { wire, seq: outbox.push(event.clone()), event: event.clone() };
                run.emissions.push(Emission { channel: wire.0, payload: copy.encode() });
            }
        }
    }

    /// Answers an operation that changes nothing.
    fn read(&self, operation: &Operation, client: ClientId) -> Result<Reply, Refusal> {
        let is_observer = self.table.observers.contains(&client);
        let allowed = |yes: bool| yes.then_some(()).ok_or(Refusal::NotAuthorised);
        match operation {
            Operation::Outputs { wire, from } => {
                let outgoing = self.table.outgoing.get(wire);
                let outgoing = outgoing.ok_or(Refusal::UnknownWire(*wire))?;
                allowed(is_observer || outgoing.sink.voice(client).is_some())?;
                let outbox = &self.state.outgoing[wire];
                let event = |(seq, event): (u64, &Vec<u8>)| NumberedEvent { seq, event: event.clone() };
                Ok(Reply::Outputs {
                    released_up_to: outbox.released(),
                    last: outbox.last(),
                    events: outbox.from(*from, MAX_OUTPUTS_BYTES).map(event).collect(),
                })
            }
            Operation::Progress { wire } => {
                let incoming = self.table.incoming.get(wire);
                let incoming = incoming.ok_or(Refusal::UnknownWire(*wire))?;
                allowed(is_observer || incoming.source.admits(client))?;
                Ok(Reply::Progress { accepted_up_to: self.state.incoming[wire].accepted() })
            }
            Operation::Inspect => {
                allowed(self.table.clients.contains(&client))?;
                let json: Value = inspect::figures(&self.table, &self.state);
                Ok(Reply::Inspection { json: json.to_string() })
            }
            Operation::Deliver { .. } | Operation::Acknowledge { .. } => {
                unreachable!("these change something and are never read")
            }
        }
    }

    /// What the component remembers. One that can't say has broken.
    fn snapshot(&mut self) -> Vec<u8> {
        let reason = match self.component.snapshot() {
            Ok(snapshot) if snapshot.len() <= MAX_SNAPSHOT_BYTES => return snapshot,
            Ok(snapshot) => {
                format!("its snapshot has {} bytes, at most {MAX_SNAPSHOT_BYTES} are allowed", snapshot.len())
            }
            Err(e) => e.to_string(),
        };
        self.broken.get_or_insert(reason);
        Vec::new()
    }
}

/// One operation being executed.
struct Run<'a> {
    context: &'a Context,
    emissions: Vec<Emission>,
}

impl Run<'_> {
    /// The context of the event with this ordinal, with a seed of its own.
    fn component_context(&self, ordinal: u64) -> ComponentContext {
        let seed = blake3::keyed_hash(&self.context.seed, &ordinal.to_le_bytes());
        ComponentContext { time_ns: self.context.time.0, seed: *seed.as_bytes() }
    }
}

impl Service for ComponentService {
    fn execute(&mut self, operation: &[u8], context: &Context) -> Outcome {
        let mut run = Run { context, emissions: Vec::new() };
        let done = Operation::decode(operation).and_then(|o| self.apply(o, &mut run));
        let reply = done.unwrap_or_else(|refusal| {
            self.state.refused_operations += 1;
            Reply::Refused(refusal)
        });
        Outcome { result: reply.encode(), emissions: run.emissions, ..Outcome::default() }
    }

    fn query(&self, operation: &[u8], client: ClientId) -> Option<Vec<u8>> {
        let reply = match Operation::decode(operation) {
            Ok(Operation::Deliver { .. } | Operation::Acknowledge { .. }) => return None,
            Ok(read) => self.read(&read, client),
            Err(refusal) => Err(refusal),
        };
        Some(reply.unwrap_or_else(Reply::Refused).encode())
    }

    fn save(&mut self, pages: &mut Pages) {
        let snapshot = self.snapshot();
        pages::write(&self.state, &snapshot, pages);
    }

    fn install(&mut self, pages: &Pages, _changed: &[u32]) -> Result<(), InstallError> {
        let (state, snapshot) = pages::parse(pages, &self.table)?;
        if let Err(e) = self.component.restore(&snapshot) {
            if let ComponentError::Broken(reason) = e {
                self.broken.get_or_insert(reason);
            }
            return Err(InstallError {
                page: pages.iter().last().map_or(0, |(page, _)| page),
                reason: "the component does not take this snapshot",
            });
        }
        self.state = state;
        Ok(())
    }
}
