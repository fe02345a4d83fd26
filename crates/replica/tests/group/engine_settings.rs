//! From one epoch to the next: how many requests replicas take, and which.

use crate::ledger::Operation;
use crate::net::{Net, member, signatures_only};
use crate::reconfiguration::{all_in, change, command, group, work};
use althing_protocol::RequestAuth;
use althing_protocol::pbft::Pbft;
use althing_replica::membership::{Change, MembershipError, Refusal};
use althing_replica::*;
use althing_types::{ClientId, Epoch, Principal, ReplicaId, decode};
use std::time::Duration;

const R: fn(u16) -> ReplicaId = ReplicaId;

fn bounded() -> EngineSettings {
    EngineSettings {
        max_outstanding_requests: 1,
        outstanding_expiry: Duration::from_secs(3),
        ..signatures_only()
    }
}

fn all_go_by(net: &mut Net<Pbft>, machines: &[u16], settings: EngineSettings) {
    for id in machines {
        assert_eq!(net.replica(*id).engine_settings(), settings, "replica {id}");
    }
}

/// How a client authenticates what it submits now, as the primary gets it.
fn auth_of(net: &mut Net<Pbft>, client: u64) -> RequestAuth {
    let from = Principal::Client(ClientId(client));
    net.submit(client, &Operation::Read(0), OperationKind::Ordered);
    let frames = net.under_way(from, Principal::Replica(R(0)));
    let last = frames.last().expect("it goes to the primary");
    let Ok(ClientFrame::Request(request)) = decode(last, last.len()) else { panic!("a request") };
    net.run_for(Duration::from_millis(100));
    assert!(matches!(net.take_events(client)[..], [ClientOutput::Completed { .. }]));
    request.auth
}

#[test]
fn all_go_by_what_was_ordered_and_so_does_who_joins_or_slept() {
    let mut net = group(4);
    work(&mut net, 0, 5);
    assert!(matches!(auth_of(&mut net, 0), RequestAuth::Macs(_)));
    net.stop(R(3));
    let done = net.reconfigure(1, command(0, 1, &[Change::Engine(bounded())])).expect("it is allowed");
    assert_eq!((done.before.engine, done.next.engine), (EngineSettings::default(), bounded()));
    assert_eq!(done.before.settings, done.next.settings);
    work(&mut net, 5, 10);
    net.run_until("three agree", |net| all_in(net, &[0, 1, 2], 1));
    assert!(matches!(auth_of(&mut net, 0), RequestAuth::Signed(_)), "the client has learnt of it");
    let startup = net.open_disk(R(3));
    net.start(R(3), startup);
    net.run_until("it has caught up", |net| all_in(net, &[0, 1, 2, 3], 1));
    change(&mut net, command(1, 1, &[Change::Add(member(4))]), &[4]);
    work(&mut net, 20, 10);
    net.run_until("five agree", |net| all_in(net, &[0, 1, 2, 3, 4], 2));
    all_go_by(&mut net, &[0, 1, 2, 3, 4], bounded());
    for id in 0..5 {
        net.stop(R(id));
    }
    for id in 0..5 {
        net.restart_from_disk(R(id));
    }
    all_go_by(&mut net, &[0, 1, 2, 3, 4], bounded());
    change(&mut net, command(2, 1, &[Change::Engine(EngineSettings::default())]), &[]);
    work(&mut net, 30, 10);
    assert!(matches!(auth_of(&mut net, 0), RequestAuth::Macs(_)), "and back");
}

/// What a client sent is of the epoch before; it is shown the way, signs, and sends it again. In whichever step the
/// change catches it.
#[test]
fn what_was_sent_with_macs_goes_through_in_an_epoch_that_wants_signatures() {
    let mut caught = 0;
    for steps in (0..200).step_by(4) {
        let mut net = group(4);
        work(&mut net, 0, 3);
        net.submit_command(1, command(0, 1, &[Change::Engine(signatures_only())]));
        net.take_steps(steps);
        let number = net.submit(0, &Operation::Write(9, vec![7]), OperationKind::Ordered);
        let had_macs = net.under_way(Principal::Client(ClientId(0)), Principal::Replica(R(0))).iter().any(|frame| {
            matches!(decode(frame, frame.len()), Ok(ClientFrame::Request(request)) if request.has_macs())
        });
        net.run_until("it is done", |net| net.cells(0)[9] == [7]);
        caught += u32::from(had_macs && net.membership(0).epoch == Epoch(1));
        net.run_for(Duration::from_millis(150));
        let events = net.take_events(0);
        let is_done = |event: &ClientOutput| matches!(event, ClientOutput::Completed { number: done, .. } if *done == number);
        assert!(matches!(&events[..], [event] if is_done(event)), "after {steps} steps: {events:?}");
        assert_eq!(net.membership(0).epoch, Epoch(1));
        assert!(!net.reports.iter().any(|(_, report)| matches!(report, Report::Refused { .. })));
    }
    assert!(caught > 0, "the change never overtook a request");
}

#[test]
fn who_finds_no_place_waits_and_gets_one() {
    let mut net = group(4);
    change(&mut net, command(0, 1, &[Change::Engine(bounded())]), &[]);
    net.run_until("all are there", |net| all_in(net, &[0, 1, 2, 3], 1));
    let numbers: Vec<_> = (0..3)
        .map(|client| {
            let operation = Operation::Write(client as u32, vec![1]);
            net.submit(client, &operation, OperationKind::Ordered)
        })
        .collect();
    net.run_for(Duration::from_secs(20));
    for (client, number) in (0..).zip(numbers) {
        let events = net.take_events(client);
        let is_done = |event: &ClientOutput| matches!(event, ClientOutput::Completed { number: done, .. } if *done == number);
        assert!(events.iter().any(is_done), "client {client}: {events:?}");
        let expected = |event: &ClientOutput| is_done(event) || matches!(event, ClientOutput::Busy { .. });
        assert!(events.iter().all(expected), "client {client}: {events:?}");
    }
    let is_busy = |told: &ClientMessage| matches!(told, ClientMessage::Busy { .. });
    assert!(net.told.iter().any(|(_, told)| is_busy(told)), "there are places for fewer");
}

#[test]
fn an_administrator_needs_no_place() {
    let mut net = group(4);
    change(&mut net, command(0, 1, &[Change::Engine(bounded())]), &[]);
    net.run_until("all are there", |net| all_in(net, &[0, 1, 2, 3], 1));
    for id in [2, 3] {
        net.stop(R(id));
    }
    net.submit(0, &Operation::Write(0, vec![1]), OperationKind::Ordered);
    net.run_for(Duration::from_secs(1));
    net.told.clear();
    net.submit_command(1, command(1, 1, &[Change::Engine(EngineSettings::default())]));
    net.run_for(Duration::from_secs(1));
    assert!(!net.told.iter().any(|(_, told)| matches!(told, ClientMessage::Busy { .. })), "{:?}", net.told);
    for id in [2, 3] {
        net.restart_from_disk(R(id));
    }
    net.run_until("it is done", |net| all_in(net, &[0, 1, 2, 3], 2));
}

#[test]
fn settings_that_no_group_can_go_by_change_nothing() {
    let mut net = group(4);
    let refused = |error| Err(Refusal::Invalid(MembershipError::Engine(error)));
    let none = EngineSettings { max_outstanding_requests: 0, ..bounded() };
    let short = EngineSettings { outstanding_expiry: Duration::ZERO, ..bounded() };
    let asked = |settings: &[EngineSettings]| {
        command(0, 1, &settings.iter().copied().map(Change::Engine).collect::<Vec<_>>())
    };
    assert_eq!(net.reconfigure(0, asked(&[none])), refused(EngineSettingsError::Outstanding(0)));
    assert_eq!(net.reconfigure(0, asked(&[short])), refused(EngineSettingsError::Expiry(0)));
    assert_eq!(net.reconfigure(0, asked(&[bounded(), bounded()])), Err(Refusal::SettingsTwice(2)));
    assert_eq!(net.reconfigure(0, asked(&[EngineSettings::default()])), Err(Refusal::NoChange));
    work(&mut net, 0, 20);
    assert!((0..4).all(|id| net.membership(id).epoch == Epoch(0)));
    all_go_by(&mut net, &[0, 1, 2, 3], EngineSettings::default());
}
