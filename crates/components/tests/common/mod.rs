//! What the tests of the service share.
#![allow(dead_code, reason = "each test uses its part of this")]

use althing_components::plan::ClientRole;
use althing_components::{
    Application, Component, ComponentContext, ComponentError, ComponentService, NumberedEvent, Operation,
    OutputCopy, OutputEvent, Plan, Reply, WireId,
};
use althing_replica::{Context, Outcome, Pages, Service};
use althing_types::{ClientId, Instant, ReplicaId, RequestNumber, Seq};
use serde_json::{Value, json};

pub(crate) const TWO_STAGE: &str = include_str!("../../../../examples/greenhouse-two-stage.yaml");

/// Wires of [`TWO_STAGE`].
pub(crate) const READINGS: WireId = WireId(0);
pub(crate) const SMOOTHED: WireId = WireId(2);
pub(crate) const COMMANDS: WireId = WireId(3);

/// Groups of [`TWO_STAGE`].
pub(crate) const SMOOTHER: u16 = 0;
pub(crate) const THERMOSTAT: u16 = 1;

pub(crate) fn plan(spec: &str) -> Plan {
    Plan::of(&Application::parse(spec).unwrap_or_else(|problems| panic!("{problems}")))
}

/// A replica of a group whose component is a builtin.
pub(crate) fn service(plan: &Plan, group: u16) -> ComponentService {
    let component = plan.group(group).builtin().unwrap().expect("a builtin");
    ComponentService::new(plan.service_table(group), component)
}

pub(crate) fn edge(group: u16) -> ClientId {
    ClientRole::Edge.client_id(group)
}

pub(crate) fn producer(from: u16, replica: u16, to: u16) -> ClientId {
    ClientRole::Producer { group: from, replica: ReplicaId(replica) }.client_id(to)
}

pub(crate) fn courier(group: u16, replica: u16) -> ClientId {
    ClientRole::Courier { replica: ReplicaId(replica) }.client_id(group)
}

pub(crate) fn operator(group: u16) -> ClientId {
    ClientRole::Operator.client_id(group)
}

/// The context of the operation with this number.
pub(crate) fn context(client: ClientId, seq: u64) -> Context {
    Context {
        client,
        number: RequestNumber(seq),
        seq: Seq(seq),
        time: Instant(seq * 1_000),
        seed: [seq as u8; 32],
    }
}

pub(crate) fn deliver(wire: WireId, from: u64, events: &[Value]) -> Operation {
    let event = |(seq, value): (u64, &Value)| NumberedEvent { seq, event: value.to_string().into_bytes() };
    Operation::Deliver { wire, events: (from..).zip(events).map(event).collect() }
}

/// A service that counts the operations it executes.
pub(crate) struct Driven {
    pub(crate) service: ComponentService,
    pub(crate) seq: u64,
}

impl Driven {
    pub(crate) fn new(service: ComponentService) -> Self {
        Self { service, seq: 0 }
    }

    pub(crate) fn run(&mut self, client: ClientId, operation: &Operation) -> (Reply, Vec<OutputCopy>) {
        let outcome = self.outcome(client, &operation.encode());
        let copy = |e: &althing_replica::Emission| {
            let copy = OutputCopy::decode(&e.payload).unwrap();
            assert_eq!(copy.wire.0, e.channel);
            copy
        };
        (Reply::decode(&outcome.result).unwrap(), outcome.emissions.iter().map(copy).collect())
    }

    pub(crate) fn outcome(&mut self, client: ClientId, operation: &[u8]) -> Outcome {
        self.seq += 1;
        self.service.execute(operation, &context(client, self.seq))
    }

    pub(crate) fn query(&self, client: ClientId, operation: &Operation) -> Reply {
        let reply = self.service.query(&operation.encode(), client).expect("a read");
        Reply::decode(&reply).unwrap()
    }

    pub(crate) fn figures(&self, group: u16) -> Value {
        match self.query(operator(group), &Operation::Inspect) {
            Reply::Inspection { json } => serde_json::from_str(&json).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn pages(service: &mut ComponentService) -> Pages {
    let mut pages = Pages::default();
    service.save(&mut pages);
    pages
}

/// A component whose events say what it does.
#[derive(Default)]
pub(crate) struct Puppet {
    pub(crate) taken: Vec<Value>,
}

impl Component for Puppet {
    fn on_event(
        &mut self,
        _port: &str,
        value: &Value,
        context: &ComponentContext,
    ) -> Result<Vec<OutputEvent>, ComponentError> {
        self.taken.push(value.clone());
        match value.get("do").and_then(Value::as_str) {
            Some("refuse") => Err(ComponentError::Refused("as told".into())),
            Some("break") => Err(ComponentError::Broken("its process has died".into())),
            Some("emit") => {
                let count = value["count"].as_u64().unwrap();
                Ok((0..count).map(|i| OutputEvent::new("out", json!([value["what"], i]))).collect())
            }
            Some("stray") => Ok(vec![OutputEvent::new("nowhere", 1)]),
            Some("mistype") => Ok(vec![OutputEvent::new("text", 1)]),
            Some("swell") => Ok(vec![OutputEvent::new("out", "x".repeat(40_000))]),
            Some("context") => Ok(vec![OutputEvent::new("out", json!([context.time_ns, context.seed]))]),
            _ => Ok(Vec::new()),
        }
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, ComponentError> {
        Ok(serde_json::to_vec(&self.taken).unwrap())
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), ComponentError> {
        self.taken = serde_json::from_slice(state).map_err(|e| ComponentError::Refused(e.to_string()))?;
        Ok(())
    }
}

/// An application around a [`Puppet`], group 1, fed by the edge (wire 0) and a group (wire 1), and
/// feeding the edge (wire 2), a group (wire 3) and with `text` the edge again (wire 4).
pub(crate) const PUPPET: &str = "
name: theatre
components:
  author: { process: [author], in: { hint: json }, out: { script: json }, replicate: { faults: byzantine, f: 1 } }
  puppet:
    process: [puppet]
    in: { improvised: json, written: json }
    out: { out: json, text: string }
    replicate: { faults: byzantine, f: 1 }
  audience: { process: [audience], in: { seen: json } }
wires:
  - { from: mqtt:shout, to: puppet.improvised }
  - { from: author.script, to: puppet.written }
  - { from: puppet.out, to: mqtt:stage }
  - { from: puppet.out, to: audience.seen }
  - { from: puppet.text, to: mqtt:text }
";

pub(crate) fn puppet() -> Driven {
    let table = plan(PUPPET).service_table(1);
    Driven::new(ComponentService::new(table, Box::new(Puppet::default())))
}
