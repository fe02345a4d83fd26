//! Changes of the members under attack, and with the power failing at the worst instant.

use crate::ledger::Operation;
use crate::net::{identity, keyring, member};
use crate::reconfiguration::{agreed, all_in, change, command, group, has_all, pbft_settings, work};
use althing_crypto::{Domain, Proof};
use althing_protocol::{Answers, Request, RequestAuth, RequestKind};
use althing_replica::membership::{Change, Membership};
use althing_replica::*;
use althing_types::{ClientId, Epoch, Principal, ReplicaId, RequestNumber, View, encode};
use std::time::Duration;

const R: fn(u16) -> ReplicaId = ReplicaId;

/// A request of client 2's, signed.
fn signed(number: u64, epoch: u64, answers: Answers) -> ClientFrame {
    let mut request = Request {
        client: ClientId(2),
        number: RequestNumber(number),
        kind: RequestKind::Service,
        operation: encode(&Operation::Write(7, vec![7])),
        epoch: Epoch(epoch),
        answers,
        auth: RequestAuth::Signed(Proof(Vec::new())),
        is_authentic: false,
    };
    let keys = keyring(1, Principal::Client(ClientId(2)));
    request.auth = RequestAuth::Signed(keys.sign(Domain::Request, &request.signed_bytes()));
    ClientFrame::Request(request)
}

/// The power fails between the record that names the epoch and that of a replica's new life.
#[test]
fn who_has_lost_its_disk_has_still_lost_it_if_the_power_fails_at_its_start() {
    let mut net = group(4);
    work(&mut net, 0, 4);
    net.stop(R(2));
    net.cut_after_rewrite.insert(R(2));
    net.start(R(2), Startup::Amnesia);
    net.restart_from_disk(R(2));
    assert!(!net.votes(2), "it does not know what it has said");
    work(&mut net, 4, 80);
    net.run_until("it votes", |net| net.votes(2));
}

#[test]
fn who_has_lost_its_disk_has_still_lost_it_if_the_power_fails_as_it_joins() {
    let mut net = group(4);
    work(&mut net, 0, 4);
    let next = change(&mut net, command(0, 1, &[Change::Add(member(4))]), &[4]);
    work(&mut net, 4, 4);
    net.run_until("all agree", |net| all_in(net, &[0, 1, 2, 3, 4], 1));
    net.stop(R(4));
    net.provide(4, &next);
    net.cut_after_rewrite.insert(R(4));
    net.start(R(4), Startup::Amnesia);
    net.run_for(Duration::from_secs(2));
    assert!(net.cut_after_rewrite.is_empty(), "it was told of the start");
    net.restart_from_disk(R(4));
    assert!(!net.votes(4), "it does not know what it has said");
    work(&mut net, 8, 80);
    net.run_until("it votes", |net| net.votes(4));
}

#[test]
fn who_has_lost_its_disk_has_still_lost_it_if_the_power_fails_between_epochs() {
    let mut net = group(5);
    work(&mut net, 0, 4);
    net.stop(R(2));
    net.start(R(2), Startup::Amnesia);
    net.submit_command(1, command(0, 1, &[Change::Add(member(7))]));
    while net.membership(2).epoch == Epoch(0) {
        net.cut_after_rewrite.insert(R(2));
        net.run_until("it replaces its log", |net| net.cut_after_rewrite.is_empty());
        net.restart_from_disk(R(2));
        assert!(!net.votes(2), "it does not know what it has said");
    }
}

/// A client signs a request that makes sense in its epoch, and that waits when the next one begins, which is
/// smaller.
#[test]
fn a_request_that_moves_over_is_one_that_the_next_epoch_takes() {
    let mut net = group(5);
    work(&mut net, 0, 4);
    net.slow_disks.extend((0..5).map(R));
    net.submit_command(1, command(0, 1, &[Change::Remove(R(4))]));
    net.run_for(Duration::from_millis(100));
    assert_eq!(net.membership(0).epoch, Epoch(0), "the end is being kept");
    let asked = (0..5).map(R).collect();
    let frame = encode(&signed(50, 0, Answers::Few { asked, firmly: 5 }));
    (0..5).for_each(|id| net.inject(Principal::Client(ClientId(2)), R(id), &frame));
    net.run_for(Duration::from_millis(100));
    net.slow_disks.clear();
    (0..5).for_each(|id| net.finish_keeping(R(id)));
    net.run_until("the epoch has begun", |net| (0..4).all(|id| net.membership(id).epoch == Epoch(1)));
    work(&mut net, 4, 4);
    net.run_for(Duration::from_secs(20));
    assert!(net.evidence.is_empty(), "{:?}", net.evidence);
    assert!((0..4).all(|id| net.status(id).view == View(0)));
}

/// It waits for nothing when the others leave, and so says nothing.
#[test]
fn who_missed_the_end_and_has_nothing_to_say_is_shown_the_way_too() {
    let mut net = group(4);
    work(&mut net, 0, 4);
    net.run_for(Duration::from_secs(5));
    net.cut_off.insert(R(3));
    change(&mut net, command(0, 1, &[Change::Add(member(4))]), &[4]);
    work(&mut net, 4, 10);
    net.cut_off.clear();
    work(&mut net, 14, 20);
    net.run_for(Duration::from_secs(10));
    work(&mut net, 34, 4);
    net.run_for(Duration::from_secs(10));
    assert_eq!(net.membership(3).epoch, Epoch(1));
    assert!(has_all(&net, 3, 38));
}

#[test]
fn another_key_on_the_disk_of_a_member_is_refused() {
    let mut net = group(4);
    work(&mut net, 0, 4);
    let next = change(&mut net, command(0, 1, &[Change::Rekey(R(3), member(9).key)]), &[]);
    work(&mut net, 4, 10);
    net.run_until("it knows that its key is out", |net| net.is_retired(3));
    net.stop(R(3));
    // The operator starts the same machine with its new key, on the data that is there.
    net.provide(9, &next);
    let startup = net.open_disk(R(3));
    net.move_disk(3, 9);
    net.start(R(9), startup);
    assert_eq!(net.refused.len(), 1);
}

/// What a client says in an old epoch costs an answer that is much longer than the question.
#[test]
fn a_client_that_asks_in_an_old_epoch_is_not_shown_the_way_all_the_time() {
    let mut net = group(4);
    work(&mut net, 0, 4);
    change(&mut net, command(0, 1, &[Change::Add(member(4))]), &[4]);
    work(&mut net, 4, 4);
    net.told.clear();
    let ClientFrame::Request(mut request) = signed(5, 0, Answers::All) else { panic!("it is a request") };
    request.auth = RequestAuth::Signed(Proof(vec![0; 64]));
    let frame = encode(&ClientFrame::Request(request));
    for _ in 0..1000 {
        net.inject(Principal::Client(ClientId(2)), R(0), &frame);
    }
    net.run_for(Duration::from_millis(10));
    let shown = net.told.iter().filter(|(_, told)| matches!(told, ClientMessage::Succession(_))).count();
    assert!(shown <= 2, "{shown} times");
}

#[test]
fn two_members_can_not_share_half_a_key() {
    let (a, b) = (identity(Principal::Replica(R(0))).public(), identity(Principal::Replica(R(9))).public());
    let mut mixed = b.to_bytes();
    mixed[..32].copy_from_slice(&a.to_bytes()[..32]);
    let mixed = althing_crypto::PublicIdentity::from_bytes(&mixed).expect("a point");
    let mut members: Vec<_> = (0..4).map(member).collect();
    members[3].key = mixed;
    let (admins, settings, first_primary) = (Vec::new(), agreed(pbft_settings()), R(0));
    let (engine, is_one_machine, epoch) = (EngineSettings::default(), false, Epoch(0));
    let membership =
        Membership { epoch, f: 1, members, admins, settings, first_primary, engine, is_one_machine };
    assert!(membership.check().is_err(), "who has the first's signatures has two votes");
}

/// Alone it is a quorum of the first epoch, and clients that know no other would believe it.
#[test]
fn who_was_the_whole_group_once_does_not_speak_for_it_alone_after_it_has_forgotten() {
    let mut net = group(1);
    work(&mut net, 0, 3);
    for (epoch, machine) in (0..3).zip(1u16..) {
        let f = u16::from(machine == 3);
        change(&mut net, command(epoch, f, &[Change::Add(member(machine))]), &[machine]);
        work(&mut net, 3 + 5 * epoch as u32, 5);
    }
    net.run_until("four agree", |net| all_in(net, &[0, 1, 2, 3], 3));
    net.stop(R(0));
    net.start(R(0), Startup::Amnesia);
    net.submit(2, &Operation::Read(0), OperationKind::Ordered);
    net.run_for(Duration::from_secs(10));
    let told = net.take_events(2);
    let is_answer = |event: &ClientOutput| matches!(event, ClientOutput::Completed { .. });
    assert!(!told.iter().any(is_answer), "no answer is better than one from nothing: {told:?}");
}
