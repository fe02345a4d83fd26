//! Replicas that recover in a group whose members change: which epochs they believe, and what becomes of
//! their doubts.

use crate::net::{Net, member};
use crate::reconfiguration::{all_in, change, command, group, has_all, work};
use althing_protocol::pbft::Pbft;
use althing_replica::membership::Change;
use althing_replica::*;
use althing_types::{Digest, ReplicaId, Seq, encode};
use std::time::Duration;

const R: fn(u16) -> ReplicaId = ReplicaId;

/// What is on a replica's disk.
type Found = (Vec<Vec<u8>>, Option<KeptState>);

/// What somebody makes of the record of an epoch.
type Forgery<'a> = &'a dyn Fn(&mut EpochRecord);

/// Stops a replica, and gives what is on its disk.
fn stopped(net: &mut Net<Pbft>, machine: u16) -> Found {
    net.stop(R(machine));
    let Startup::Recovered { records, kept } = net.open_disk(R(machine)) else { panic!("it has a disk") };
    (records, kept)
}

/// It recovers; whether it could believe its disk.
fn recover(net: &mut Net<Pbft>, machine: u16, (records, mut kept): Found) -> bool {
    let is_sound = net.unstarted(R(machine)).is_sound(&records, kept.as_mut());
    let records = is_sound.then_some(records);
    net.start(R(machine), Startup::Recovering(Remains { records, kept }));
    is_sound
}

fn is_settled(net: &mut Net<Pbft>, machine: u16) -> bool {
    net.replica(machine).protocol().is_settled()
}

/// Works until a replica has recovered.
fn settle(net: &mut Net<Pbft>, machine: u16, first: u32) {
    for round in 0..200 {
        if is_settled(net, machine) {
            return;
        }
        work(net, first + round % 50, 1);
        net.run_for(Duration::from_millis(200));
    }
    panic!("it has not recovered");
}

/// A replica of the changed group votes in doubt, where without it there would be no quorum; and it recovers.
fn is_needed_and_recovers(net: &mut Net<Pbft>, machine: u16) {
    assert!(net.votes(machine) && !is_settled(net, machine));
    net.stop(R(1));
    work(net, 20, 4);
    net.restart_from_disk(R(1));
    settle(net, machine, 30);
    net.run_until("all agree", |net| all_in(net, &[0, 1, 2, 4], 1));
}

/// The first record that names an epoch, changed.
fn with_epoch(records: &[Vec<u8>], change: Forgery<'_>) -> Vec<Vec<u8>> {
    let mut records = records.to_vec();
    for record in &mut records {
        if let Ok(EngineRecord::Epoch(mut epoch)) = decode_record(record) {
            change(&mut epoch);
            *record = encode(&EngineRecord::Epoch(epoch));
        }
    }
    records
}

/// Four replicas, of which the last was replaced: in epoch 1.
fn changed_group() -> Net<Pbft> {
    let mut net = group(4);
    work(&mut net, 0, 4);
    change(&mut net, command(0, 1, &[Change::Replace(R(3), member(4))]), &[4]);
    work(&mut net, 4, 12);
    net.run_until("all agree", |net| all_in(net, &[0, 1, 2, 4], 1));
    net
}

#[test]
fn an_epoch_is_believed_by_what_proves_it_and_not_by_its_record() {
    let mut net = changed_group();
    let (records, mut kept) = stopped(&mut net, 2);
    let mut is_sound = |records: &[Vec<u8>]| net.unstarted(R(2)).is_sound(records, kept.as_mut());
    assert!(is_sound(&records));
    let changes: [(&str, Forgery<'_>); 8] = [
        ("nothing leads there", &|epoch| epoch.links.clear()),
        ("others follow", &|epoch| epoch.membership.members[3] = member(9)),
        ("more may be faulty", &|epoch| epoch.membership.f = 0),
        ("it goes on from elsewhere", &|epoch| epoch.start = Some((Seq(8), Digest([7; 32])))),
        ("it is the first", &|epoch| epoch.start = None),
        ("it has left", &|epoch| epoch.is_retired = true),
        ("the end is signed by fewer", &|epoch| drop(epoch.links[0].votes.pop())),
        ("somebody else has signed", &|epoch| {
            let votes = &mut epoch.links[0].votes;
            let last = votes.len() - 1;
            votes[last].1 = votes[0].1.clone();
        }),
    ];
    for (what, change) in changes {
        assert!(!is_sound(&with_epoch(&records, change)), "{what}");
    }
    let is_epoch = |record: &&Vec<u8>| matches!(decode_record(record), Ok(EngineRecord::Epoch(_)));
    let unnamed: Vec<_> = records.iter().filter(|record| !is_epoch(record)).cloned().collect();
    assert!(!is_sound(&unnamed), "what was said in a later epoch was not said in the first one");
}

#[test]
fn who_recovers_in_a_later_epoch_votes_there_at_once() {
    let mut net = changed_group();
    let found = stopped(&mut net, 2);
    assert!(recover(&mut net, 2, found));
    is_needed_and_recovers(&mut net, 2);
}

/// Only others can say from where the epoch started that its group file is of.
#[test]
fn who_recovers_in_the_epoch_that_it_joined_asks_where_that_started() {
    let mut net = changed_group();
    let found = stopped(&mut net, 4);
    assert!(recover(&mut net, 4, found));
    assert!(!net.takes_part(4));
    net.run_until("it is told", |net| net.takes_part(4));
    is_needed_and_recovers(&mut net, 4);
}

#[test]
fn who_is_told_of_another_start_than_its_disk_says_has_forgotten() {
    let mut net = changed_group();
    let (records, _) = stopped(&mut net, 4);
    // All that somebody can make up without the others: an epoch that starts from a state of its own.
    let elsewhere = |epoch: &mut EpochRecord| epoch.start = Some((Seq(16), Digest([7; 32])));
    let forged: Vec<_> = with_epoch(&records, &elsewhere)
        .into_iter()
        .filter(|record| matches!(decode_record(record), Ok(EngineRecord::Epoch(_))))
        .collect();
    assert!(recover(&mut net, 4, (forged, None)));
    net.run_until("it is told", |net| net.takes_part(4));
    assert!(!net.votes(4));
    settle(&mut net, 4, 30);
    net.run_until("all agree", |net| all_in(net, &[0, 1, 2, 4], 1));
    assert!(has_all(&net, 4, 16));
}

#[test]
fn doubts_last_into_the_next_epoch() {
    let mut net = group(4);
    work(&mut net, 0, 12);
    let found = stopped(&mut net, 2);
    assert!(recover(&mut net, 2, found));
    // Far from its bar, the group goes on to other members.
    change(&mut net, command(0, 1, &[Change::Replace(R(3), member(4))]), &[4]);
    net.run_until("it is there", |net| net.membership(2).epoch.0 == 1);
    assert!(net.votes(2) && !is_settled(&mut net, 2));
    settle(&mut net, 2, 20);
    net.run_until("all agree", |net| all_in(net, &[0, 1, 2, 4], 1));
}

#[test]
fn who_recovers_while_its_epoch_ends_is_shown_the_way() {
    let mut net = group(4);
    work(&mut net, 0, 12);
    net.submit_command(1, command(0, 1, &[Change::Replace(R(3), member(4))]));
    net.take_steps(60);
    let found = stopped(&mut net, 2);
    assert!(recover(&mut net, 2, found));
    net.run_until("the others go over", |net| net.membership(0).epoch.0 == 1);
    let next = net.membership(0).clone();
    net.provide(4, &next);
    net.start(R(4), Startup::Genesis);
    work(&mut net, 20, 4);
    settle(&mut net, 2, 30);
    net.run_until("all agree", |net| all_in(net, &[0, 1, 2, 4], 1));
}

/// What it joined is over before anybody has said from where that started. It has said nothing in what follows, or
/// would have a record of it; unless it had lost its disk before.
#[test]
fn who_recovers_when_the_epoch_that_it_joined_is_over_votes_in_the_next_if_it_knew_all() {
    for has_forgotten in [false, true] {
        let mut net = changed_group();
        let (records, kept) = stopped(&mut net, 4);
        change(&mut net, command(1, 1, &[Change::Replace(R(0), member(5))]), &[5]);
        net.run_until("the others go over", |net| all_in(net, &[1, 2, 5], 2));
        let records = with_epoch(&records, &|epoch| epoch.has_forgotten = has_forgotten);
        assert!(recover(&mut net, 4, (records, kept)));
        net.run_until("it is shown", |net| net.membership(4).epoch.0 == 2 && net.takes_part(4));
        assert_eq!(net.votes(4), !has_forgotten);
        settle(&mut net, 4, 30);
        net.run_until("all agree", |net| all_in(net, &[1, 2, 4, 5], 2));
    }
}

#[test]
fn who_is_removed_before_it_is_told_where_its_epoch_started_can_prove_it_all_the_same() {
    let mut net = changed_group();
    let found = stopped(&mut net, 4);
    change(&mut net, command(1, 1, &[Change::Replace(R(3), member(5))]), &[5]);
    net.run_until("the others go over", |net| all_in(net, &[0, 1, 2, 5], 2));
    assert!(recover(&mut net, 4, found));
    net.run_until("it is shown", |net| net.is_retired(4));
    net.run_for(Duration::from_secs(1));
    let found = stopped(&mut net, 4);
    assert!(recover(&mut net, 4, found) && net.is_retired(4));
}

#[test]
fn who_is_removed_while_it_recovers_retires() {
    let mut net = group(5);
    work(&mut net, 0, 12);
    let found = stopped(&mut net, 2);
    change(&mut net, command(0, 1, &[Change::Remove(R(2))]), &[]);
    work(&mut net, 12, 4);
    assert!(recover(&mut net, 2, found));
    net.run_until("it knows", |net| net.is_retired(2));
    // And so it is if it recovers once more: it can prove that.
    let found = stopped(&mut net, 2);
    assert!(recover(&mut net, 2, found) && net.is_retired(2));
    // Without the proof it has to be shown again.
    let (records, kept) = stopped(&mut net, 2);
    let unproven = with_epoch(&records, &|epoch| epoch.links.clear());
    assert!(!recover(&mut net, 2, (unproven, kept)) && !net.is_retired(2));
    net.run_until("it is shown", |net| net.is_retired(2));
    assert!(net.evidence.is_empty(), "{:?}", net.evidence);
}
