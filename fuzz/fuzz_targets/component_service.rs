//! A component's group: any operation of anybody, executed at two replicas of which one is made
//! afresh from the other's pages now and then. They stay equal, and what changed is reported dirty.
#![no_main]

use althing_components::{
    Builtin, ComponentService, Incoming, Operation, Outgoing, PortType, ServiceTable, Sink, Source, WireId,
};
use althing_fuzz::shadow::{Shadowed, install_hostile};
use althing_replica::{Context, Service};
use althing_types::{ClientId, Instant, ReplicaId, RequestNumber, Seq, encode};
use borsh::BorshDeserialize;
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

fn table(builtin: Builtin) -> ServiceTable {
    let edge = ClientId(0);
    let clients = |first: u64| (0..4).map(move |i| (ClientId(first + i), ReplicaId(i as u16))).collect();
    let input = builtin.usual_inputs().into_keys().next().expect("a builtin has an input");
    let output = builtin.usual_outputs().into_keys().next().expect("a builtin has an output");
    let incoming = |source| Incoming { port: input.clone(), source };
    let outgoing = |sink| Outgoing { port: output.clone(), sink };
    ServiceTable {
        component: "fuzzed".into(),
        inputs: builtin.usual_inputs(),
        outputs: builtin.usual_outputs(),
        incoming: BTreeMap::from([
            (WireId(0), incoming(Source::Edge { client: edge })),
            (WireId(1), incoming(Source::Group { n: 4, f: 1, clients: clients(1) })),
        ]),
        outgoing: BTreeMap::from([
            (WireId(2), outgoing(Sink::Edge { client: edge })),
            (WireId(3), outgoing(Sink::Group { n: 4, f: 1, couriers: clients(5) })),
        ]),
        clients: (0..10).map(ClientId).collect(),
        observers: BTreeSet::from([ClientId(9)]),
    }
}

fn service(builtin: Builtin) -> ComponentService {
    let config = match builtin {
        Builtin::Thermostat => json!({ "target": 20 }),
        Builtin::Average => json!({ "window": 3 }),
        Builtin::RateLimit => json!({ "every_ms": 10 }),
    };
    let outputs: BTreeMap<String, PortType> = builtin.usual_outputs();
    let config = config.as_object().expect("an object");
    let component = builtin.build(config, &builtin.usual_inputs(), &outputs).expect("valid settings");
    ComponentService::new(table(builtin), component)
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = bytes;
    let Ok(kind) = u8::deserialize(&mut input) else { return };
    let builtin = Builtin::ALL[usize::from(kind) % Builtin::ALL.len()];
    let (mut one, mut other) = (Shadowed::new(service(builtin)), Shadowed::new(service(builtin)));
    for seq in 1..200 {
        let Ok((client, step)) = <(u8, u8)>::deserialize(&mut input) else { return };
        let operation = if step & 0x40 == 0 {
            match Operation::deserialize(&mut input) {
                Ok(operation) => encode(&operation),
                Err(_) => return,
            }
        } else {
            input.to_vec()
        };
        let client = ClientId(u64::from(client % 11));
        let time = Instant(seq * 5_000_000);
        let number = RequestNumber(seq);
        let context = Context { client, number, seq: Seq(seq), time, seed: [step; 32] };
        assert_eq!(one.service.query(&operation, client), other.service.query(&operation, client));
        assert_eq!(one.service.execute(&operation, &context), other.service.execute(&operation, &context));
        assert!(one.pages() == other.pages(), "two replicas differ");
        if step & 0x80 != 0 {
            other = Shadowed::new(service(builtin));
            assert!(other.install(one.pages().clone()), "pages of a correct replica form a state");
        }
        if step & 0x40 != 0 {
            let hostile = Vec::deserialize(&mut input).unwrap_or_default();
            return install_hostile(&mut other, service(builtin), hostile);
        }
    }
});
