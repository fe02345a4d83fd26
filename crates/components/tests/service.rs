//! The service of a component: who may do what, what is accepted, and that nothing is lost.

mod common;

use althing_components::{
    Courier, MAX_OUTBOX_EVENTS, NumberedEvent, Operation, Plan, Refusal, Reply, VOTER_WINDOW, WireId,
};
use althing_replica::{Page, Pages, Service};
use althing_types::ClientId;
use common::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn texts(copies: &[althing_components::OutputCopy]) -> Vec<(u32, u64, String)> {
    let text =
        |c: &althing_components::OutputCopy| (c.wire.0, c.seq, String::from_utf8(c.event.clone()).unwrap());
    copies.iter().map(text).collect()
}

#[test]
fn readings_from_the_edge_lead_to_commands() {
    let plan = plan(include_str!("../../../examples/greenhouse.yaml"));
    let mut thermostat = Driven::new(service(&plan, 0));
    let readings = deliver(WireId(0), 0, &[json!(19), json!(20), json!(null), json!(22), json!(19)]);
    let (reply, copies) = thermostat.run(edge(0), &readings);
    assert_eq!(reply, Reply::Delivered { accepted_up_to: 5 });
    let expected =
        [(1, 1, "\"on\""), (1, 2, "\"off\""), (1, 3, "\"on\"")].map(|(w, s, e)| (w, s, e.to_owned()));
    assert_eq!(texts(&copies), expected);
    let figures = thermostat.figures(0);
    assert_eq!(figures["refused_events"], 1);
    assert_eq!(figures["last_refusal"], json!({ "wire": 0, "reason": "expected number, found null" }));

    let outputs = Operation::Outputs { wire: WireId(1), from: 2 };
    let Reply::Outputs { released_up_to: 0, last: 3, events } = thermostat.query(edge(0), &outputs) else {
        panic!("no outputs");
    };
    assert_eq!(events.iter().map(|e| e.seq).collect::<Vec<_>>(), [2, 3]);
    let acknowledge = Operation::Acknowledge { wire: WireId(1), up_to: 2 };
    assert_eq!(thermostat.run(edge(0), &acknowledge).0, Reply::Acknowledged { released_up_to: 2 });
    assert_eq!(thermostat.figures(0)["outgoing"][0]["depth"], 1);
}

#[test]
fn only_who_is_in_the_table_is_heard() {
    let plan = plan(TWO_STAGE);
    let mut thermostat = Driven::new(service(&plan, THERMOSTAT));
    let before = thermostat.figures(THERMOSTAT);
    let deliver = deliver(SMOOTHED, 1, &[json!(1)]);
    let acknowledge = Operation::Acknowledge { wire: COMMANDS, up_to: 1 };
    let outputs = Operation::Outputs { wire: COMMANDS, from: 1 };
    let progress = Operation::Progress { wire: SMOOTHED };
    let refused = Reply::Refused(Refusal::NotAuthorised);
    let strangers = [ClientId(0), producer(SMOOTHER, 4, THERMOSTAT), producer(SMOOTHER, 0, SMOOTHER)];
    for client in strangers {
        for operation in [&deliver, &acknowledge, &outputs, &progress, &Operation::Inspect] {
            assert_eq!(thermostat.run(client, operation).0, refused, "{operation:?} by {client}");
        }
    }
    // Friends, but not for this.
    let edge = edge(THERMOSTAT);
    let operator = operator(THERMOSTAT);
    for (client, operation) in [
        (edge, &deliver),
        (operator, &deliver),
        (operator, &acknowledge),
        (courier(THERMOSTAT, 0), &acknowledge),
        (courier(THERMOSTAT, 0), &outputs),
        (producer(SMOOTHER, 0, THERMOSTAT), &outputs),
    ] {
        assert_eq!(thermostat.run(client, operation).0, refused, "{operation:?} by {client}");
    }
    for wire in [READINGS, COMMANDS, WireId(99)] {
        let deliver = Operation::Deliver { wire, events: Vec::new() };
        let unknown = Reply::Refused(Refusal::UnknownWire(wire));
        assert_eq!(thermostat.run(producer(SMOOTHER, 0, THERMOSTAT), &deliver).0, unknown);
    }
    let mut after = thermostat.figures(THERMOSTAT);
    assert_eq!(after["refused_operations"], 24);
    after["refused_operations"] = before["refused_operations"].clone();
    assert_eq!(after, before);
    assert!(matches!(thermostat.query(operator, &outputs), Reply::Outputs { .. }));
}

#[test]
fn copies_of_a_group_are_voted_on() {
    let plan = plan(TWO_STAGE);
    let mut thermostat = Driven::new(service(&plan, THERMOSTAT));
    let client = |replica| producer(SMOOTHER, replica, THERMOSTAT);
    let cold = deliver(SMOOTHED, 1, &[json!(10), json!(30)]);
    let lie = deliver(SMOOTHED, 1, &[json!(99), json!(-9)]);
    assert_eq!(thermostat.run(client(3), &lie).0, Reply::Delivered { accepted_up_to: 0 });
    assert_eq!(thermostat.run(client(0), &cold).0, Reply::Delivered { accepted_up_to: 0 });
    assert_eq!(thermostat.run(client(0), &cold).0, Reply::Delivered { accepted_up_to: 0 });
    let (reply, copies) = thermostat.run(client(1), &cold);
    assert_eq!(reply, Reply::Delivered { accepted_up_to: 2 });
    assert_eq!(texts(&copies), [(3, 1, "\"on\"".to_owned()), (3, 2, "\"off\"".to_owned())]);
    let (reply, copies) = thermostat.run(client(2), &lie);
    assert_eq!((reply, copies.len()), (Reply::Delivered { accepted_up_to: 2 }, 0));
    thermostat.run(client(2), &cold);
    let producers = &thermostat.figures(THERMOSTAT)["incoming"][0]["producers"];
    let counts = |key: &str| (0..4).map(|i| producers[i][key].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(counts("disagreements"), [0, 0, 2, 2]);
    assert_eq!(counts("equivocations"), [0, 0, 2, 0]);

    let unordered = Operation::Deliver {
        wire: SMOOTHED,
        events: [4, 3].map(|seq| NumberedEvent { seq, event: b"1".to_vec() }).to_vec(),
    };
    let refused = Reply::Refused(Refusal::NotAscending);
    assert_eq!(thermostat.run(client(0), &unordered).0, refused);
    assert_eq!(thermostat.run(client(0), &deliver(SMOOTHED, 0, &[json!(1)])).0, refused);
    let far = deliver(SMOOTHED, 2 + VOTER_WINDOW, &[json!(1), json!(2)]);
    assert_eq!(thermostat.run(client(0), &far).0, Reply::Busy { taken: 1, accepted_up_to: 2 });
}

#[test]
fn what_a_component_may_not_do_is_dropped_and_told() {
    let mut puppet = puppet();
    let reason = |puppet: &mut Driven, action: &str| {
        let (reply, copies) =
            puppet.run(edge(1), &deliver(WireId(0), 0, &[json!({ "do": action, "count": 33 })]));
        assert!(matches!(reply, Reply::Delivered { .. }));
        assert!(copies.is_empty());
        puppet.figures(1)["last_refusal"]["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(reason(&mut puppet, "refuse"), "as told");
    assert_eq!(reason(&mut puppet, "emit"), "it emitted 33 events for one, at most 32 are allowed");
    assert_eq!(reason(&mut puppet, "stray"), "it emitted on `nowhere`, which is no output port");
    assert_eq!(reason(&mut puppet, "mistype"), "it emitted on `text`: expected string, found an integer");
    assert!(reason(&mut puppet, "swell").starts_with("it emitted 40002 bytes on `out`"));
    assert_eq!(puppet.figures(1)["refused_events"], 5);
    assert_eq!(puppet.service.broken(), None);
    puppet.run(edge(1), &deliver(WireId(0), 0, &[json!({ "do": "break" })]));
    assert_eq!(puppet.service.broken().as_deref(), Some("its process has died"));
    let emit = json!({ "do": "emit", "count": 1, "what": "nonsense" });
    assert_eq!(puppet.run(edge(1), &deliver(WireId(0), 0, &[emit])).1, [], "nothing is asked of it any more");
}

#[test]
fn each_event_has_agreed_time_and_a_seed_of_its_own() {
    let mut puppet = puppet();
    let events = [json!({ "do": "context" }), json!({ "do": "context" })];
    let (_, copies) = puppet.run(edge(1), &deliver(WireId(0), 0, &events));
    let values: Vec<Value> = copies.iter().map(|c| serde_json::from_slice(&c.event).unwrap()).collect();
    assert_eq!(values[0][0], 1_000);
    assert_ne!(values[0][1], values[2][1]);
    assert_eq!(values[0], values[1], "both wires of a port carry the same event");
}

/// Fills the outbox of wire 3 of the puppet, whose edge wires are acknowledged at once.
fn fill(puppet: &mut Driven) -> u64 {
    let mut events = 0;
    loop {
        let emit = deliver(WireId(0), 0, &[json!({ "do": "emit", "count": 32, "what": events })]);
        match puppet.run(edge(1), &emit).0 {
            Reply::Delivered { .. } => events += 1,
            Reply::Busy { taken: 0, .. } => return events,
            other => panic!("{other:?}"),
        }
        puppet.run(edge(1), &Operation::Acknowledge { wire: WireId(2), up_to: u64::MAX });
    }
}

#[test]
fn a_full_outbox_makes_the_edge_wait_and_loses_nothing() {
    let mut puppet = puppet();
    assert_eq!(fill(&mut puppet), MAX_OUTBOX_EVENTS as u64 / 32);
    let before = pages(&mut puppet.service);
    let two = deliver(WireId(0), 0, &[json!(1), json!(2)]);
    let busy = Reply::Busy { taken: 0, accepted_up_to: 32 };
    assert_eq!(puppet.run(edge(1), &two), (busy.clone(), Vec::new()));
    assert_eq!(pages(&mut puppet.service), before, "a refused delivery changes nothing");

    let acknowledge = Operation::Acknowledge { wire: WireId(3), up_to: 32 };
    assert_eq!(puppet.run(courier(1, 2), &acknowledge).0, Reply::Acknowledged { released_up_to: 0 });
    assert_eq!(puppet.run(edge(1), &two).0, busy);
    assert_eq!(puppet.run(courier(1, 0), &acknowledge).0, Reply::Acknowledged { released_up_to: 32 });
    let burst = json!({ "do": "emit", "count": 32, "what": "last" });
    let (reply, copies) = puppet.run(edge(1), &deliver(WireId(0), 0, &[burst.clone(), burst]));
    assert_eq!(reply, Reply::Busy { taken: 1, accepted_up_to: 33 });
    assert_eq!(copies.len(), 64);
}

#[test]
fn agreed_events_wait_for_room_and_come_when_there_is_some() {
    let mut puppet = puppet();
    fill(&mut puppet);
    let written = deliver(WireId(1), 1, &[json!({ "do": "emit", "count": 1, "what": "written" })]);
    for replica in 0..3 {
        let (reply, copies) = puppet.run(producer(0, replica, 1), &written);
        assert_eq!((reply, copies.len()), (Reply::Delivered { accepted_up_to: 0 }, 0));
    }
    let acknowledge = Operation::Acknowledge { wire: WireId(3), up_to: 40 };
    assert_eq!(puppet.run(courier(1, 0), &acknowledge).1.len(), 0);
    let (_, copies) = puppet.run(courier(1, 1), &acknowledge);
    let expected = [(2, 1025, "[\"written\",0]".to_owned()), (3, 1025, "[\"written\",0]".to_owned())];
    assert_eq!(texts(&copies), expected);
    let progress = Operation::Progress { wire: WireId(1) };
    assert_eq!(puppet.query(producer(0, 3, 1), &progress), Reply::Progress { accepted_up_to: 1 });
}

/// Carries everything from smoother to thermostat, the courier of replica 3 lying.
fn carry(smoother: &mut Driven, thermostat: &mut Driven, couriers: &mut [Courier], rounds: usize) {
    for _ in 0..rounds {
        for (replica, courier_) in (0u16..).zip(couriers.iter_mut()) {
            if courier_.is_behind() {
                let outputs = smoother.query(courier(SMOOTHER, replica), &courier_.catch_up());
                assert!(courier_.on_outputs(outputs));
            }
            let client = producer(SMOOTHER, replica, THERMOSTAT);
            if let Some(mut delivery) = courier_.delivery() {
                if let (3, Operation::Deliver { events, .. }) = (replica, &mut delivery) {
                    events.iter_mut().for_each(|e| e.event = b"-50".to_vec());
                }
                let reply = thermostat.run(client, &delivery).0;
                courier_.on_reply(&delivery, &reply);
            } else if let Some(progress) = courier_.progress() {
                courier_.on_reply(&progress, &thermostat.query(client, &progress));
            }
            if let Some(acknowledge) = courier_.acknowledgement() {
                smoother.run(courier(SMOOTHER, replica), &acknowledge);
                courier_.on_acknowledged(&acknowledge);
            }
        }
    }
}

#[test]
fn couriers_connect_two_groups_with_a_liar_between_them() {
    let plan = plan(TWO_STAGE);
    let mut smoother = Driven::new(service(&plan, SMOOTHER));
    let mut thermostat = Driven::new(service(&plan, THERMOSTAT));
    let mut couriers = vec![Courier::new(SMOOTHED); 4];
    let mut sent = Vec::new();
    for i in 0..200u32 {
        let (reply, copies) = smoother.run(edge(SMOOTHER), &deliver(READINGS, 0, &[json!(15 + i % 12)]));
        assert!(matches!(reply, Reply::Delivered { .. }));
        for copy in copies.into_iter().filter(|c| c.wire == SMOOTHED) {
            sent.push(copy.event.clone());
            for (replica, courier) in couriers.iter_mut().enumerate() {
                // Each of them misses some emissions.
                if i as usize % 7 != replica {
                    courier.on_output(copy.clone());
                }
            }
        }
        if i % 50 == 0 {
            carry(&mut smoother, &mut thermostat, &mut couriers, 1);
        }
    }
    carry(&mut smoother, &mut thermostat, &mut couriers, 20);
    assert_eq!(smoother.figures(SMOOTHER)["outgoing"][1]["depth"], 0);
    let incoming = &thermostat.figures(THERMOSTAT)["incoming"][0];
    assert_eq!(incoming["accepted"], sent.len());
    assert!(incoming["producers"][3]["disagreements"].as_u64().unwrap() > 0);

    let mut reference = Driven::new(service(&plan, THERMOSTAT));
    for (seq, event) in (1..).zip(sent) {
        let events = vec![NumberedEvent { seq, event }];
        for replica in 0..2 {
            let deliver = Operation::Deliver { wire: SMOOTHED, events: events.clone() };
            reference.run(producer(SMOOTHER, replica, THERMOSTAT), &deliver);
        }
    }
    let all = Operation::Outputs { wire: COMMANDS, from: 1 };
    let edge = edge(THERMOSTAT);
    assert_eq!(thermostat.query(edge, &all), reference.query(edge, &all));
}

#[test]
fn the_pages_that_change_are_those_of_what_changed() {
    let mut puppet = puppet();
    let big = json!("x".repeat(30_000));
    puppet.run(edge(1), &deliver(WireId(0), 0, &[big.clone(), big.clone(), big.clone()]));
    let mut before = pages(&mut puppet.service);
    assert_eq!(before.iter().count(), 4, "a layout, a header and two pages of the component");
    let mut after = before.clone();
    puppet.service.save(&mut after);
    assert_eq!(before.differing(&mut after), [0u32; 0]);
    puppet.run(edge(1), &deliver(WireId(0), 0, &[big]));
    puppet.service.save(&mut after);
    assert_eq!(before.differing(&mut after), [0, 1, 3]);
    // A state that has become shorter leaves no pages behind.
    let mut shorter = after.clone();
    for index in 4..6 {
        shorter.set(index, [1].as_slice());
    }
    puppet.service.save(&mut shorter);
    assert_eq!(shorter, after);
}

/// Operations of all kinds by all kinds of clients on the thermostat of the two stages.
fn operations() -> impl Strategy<Value = Vec<(ClientId, Vec<u8>)>> {
    let client = prop_oneof![
        4 => (0u16..4).prop_map(|r| producer(SMOOTHER, r, THERMOSTAT)),
        1 => (0u16..4).prop_map(|r| courier(THERMOSTAT, r)),
        1 => Just(edge(THERMOSTAT)),
        1 => any::<u64>().prop_map(ClientId),
    ];
    let values =
        proptest::collection::vec(prop_oneof![(-5i32..45).prop_map(|t| json!(t)), Just(json!("?"))], 0..5);
    let operation = prop_oneof![
        4 => (0u64..30, values).prop_map(|(from, values)| deliver(SMOOTHED, from, &values).encode()),
        1 => any::<u64>().prop_map(|up_to| Operation::Acknowledge { wire: COMMANDS, up_to }.encode()),
        1 => any::<u64>().prop_map(|from| Operation::Outputs { wire: COMMANDS, from }.encode()),
        1 => Just(Operation::Inspect.encode()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ];
    proptest::collection::vec((client, operation), 0..60)
}

fn run_all(plan: &Plan, operations: &[(ClientId, Vec<u8>)]) -> (Driven, Vec<althing_replica::Outcome>) {
    let mut driven = Driven::new(service(plan, THERMOSTAT));
    let outcomes = operations.iter().map(|(client, bytes)| driven.outcome(*client, bytes)).collect();
    (driven, outcomes)
}

proptest! {
    #[test]
    fn same_operations_same_outcomes_and_pages(operations in operations()) {
        let plan = plan(TWO_STAGE);
        let (mut one, one_outcomes) = run_all(&plan, &operations);
        let mut other = Driven::new(service(&plan, THERMOSTAT));
        let mut other_outcomes = Vec::new();
        for (client, bytes) in &operations {
            // Looking at the state in between must not change it.
            other.service.save(&mut Pages::default());
            other.service.query(bytes, *client);
            other_outcomes.push(other.outcome(*client, bytes));
        }
        prop_assert_eq!(one_outcomes, other_outcomes);
        prop_assert_eq!(pages(&mut one.service), pages(&mut other.service));
    }

    #[test]
    fn an_installed_state_goes_on_alike(before in operations(), elsewhere in operations(), after in operations()) {
        let plan = plan(TWO_STAGE);
        let (mut old, _) = run_all(&plan, &before);
        let (mut new, _) = run_all(&plan, &elsewhere);
        let mut previous = pages(&mut new.service);
        let mut installed = pages(&mut old.service);
        let changed = previous.differing(&mut installed);
        new.service.install(&installed, &changed).unwrap();
        prop_assert_eq!(pages(&mut new.service), installed);
        new.seq = old.seq;
        for (client, bytes) in &after {
            prop_assert_eq!(old.outcome(*client, bytes), new.outcome(*client, bytes));
        }
        prop_assert_eq!(pages(&mut old.service), pages(&mut new.service));
    }

    #[test]
    fn what_is_no_state_is_refused_and_changes_nothing(
        operations in operations(),
        page in 0usize..3,
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let plan = plan(TWO_STAGE);
        let (mut source, _) = run_all(&plan, &operations);
        let mut broken: Vec<(u32, Vec<u8>)> =
            pages(&mut source.service).iter().map(|(index, page)| (index, page.to_vec())).collect();
        let page = page.min(broken.len() - 1);
        let bytes = &mut broken[page].1;
        if cut {
            bytes.pop();
        } else {
            let at = at.index(bytes.len());
            bytes[at] = bytes[at].wrapping_add(with.max(1));
        }
        let mut broken: Pages = broken.into_iter().map(|(index, bytes)| (index, Page::from(bytes))).collect();
        let mut target = Driven::new(service(&plan, THERMOSTAT));
        let mut untouched = pages(&mut target.service);
        let changed = untouched.differing(&mut broken);
        match target.service.install(&broken, &changed) {
            Err(_) => prop_assert_eq!(pages(&mut target.service), untouched),
            // A change of a figure gives another state, which only its digest tells from the right one.
            Ok(()) => prop_assert_eq!(pages(&mut target.service), broken),
        }
        let _ = target.run(producer(SMOOTHER, 0, THERMOSTAT), &deliver(SMOOTHED, 1, &[json!(1)]));
    }
}
