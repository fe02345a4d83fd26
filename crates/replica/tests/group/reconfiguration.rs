//! From one epoch to the next: the members of a PBFT group change while it works.

use crate::ledger::Operation;
use crate::net::{CLIENTS, Net, Settings, admin, member};
use althing_protocol::Protocol;
use althing_protocol::pbft::{Pbft, PbftConfig, PbftSettings};
use althing_replica::membership::{Change, Membership, Reconfigure, Refusal};
use althing_replica::*;
use althing_types::{Epoch, ReplicaId, Seq, View};
use std::time::Duration;

const R: fn(u16) -> ReplicaId = ReplicaId;

pub(crate) fn group(n: usize) -> Net<Pbft> {
    group_with(Settings::new(n))
}

pub(crate) fn group_with(settings: Settings) -> Net<Pbft> {
    let membership = first_membership(&settings, agreed(pbft_settings()));
    Net::with_members(settings, Some(membership), |id, quorums| {
        Pbft::new(PbftConfig::new(id, quorums, pbft_settings()).expect("good settings"))
    })
}

/// The members of a new group, which go by what they have agreed on.
pub(crate) fn first_membership(settings: &Settings, agreed: althing_protocol::Settings) -> Membership {
    let n = u16::try_from(settings.quorums.n()).expect("a small group");
    let f = u16::try_from(settings.quorums.f()).expect("a small group");
    let members = (0..n).map(member).collect();
    let (admins, first_primary, engine) = (vec![admin().public()], R(0), settings.engine);
    let (epoch, settings, is_one_machine) = (Epoch(0), agreed, false);
    Membership { epoch, f, members, admins, settings, first_primary, engine, is_one_machine }
}

pub(crate) fn agreed(settings: PbftSettings) -> althing_protocol::Settings {
    althing_protocol::Settings::Pbft(settings)
}

pub(crate) fn pbft_settings() -> PbftSettings {
    PbftSettings { checkpoint_period: 8, log_size: 16, ..PbftSettings::default() }
}

pub(crate) fn command(epoch: u64, f: u16, changes: &[Change]) -> Reconfigure {
    Reconfigure { epoch: Epoch(epoch), f, changes: changes.to_vec() }
}

/// Changes the group, and starts the machines that have joined.
pub(crate) fn change<P: Protocol>(net: &mut Net<P>, command: Reconfigure, joining: &[u16]) -> Membership {
    let next = net.reconfigure(1, command).expect("it is allowed").next;
    for machine in joining {
        net.provide(*machine, &next);
        net.start(R(*machine), Startup::Genesis);
    }
    next
}

pub(crate) fn all_in<P: Protocol>(net: &Net<P>, machines: &[u16], epoch: u64) -> bool {
    let first = net.status(machines[0]).executed;
    machines.iter().all(|id| {
        net.membership(*id).epoch == Epoch(epoch)
            && net.status(*id).executed == first
            && net.cells(*id) == net.cells(machines[0])
    })
}

pub(crate) fn work<P: Protocol>(net: &mut Net<P>, first: u32, count: u32) {
    for i in first..first + count {
        net.write(i, &[i as u8; 100]);
    }
}

pub(crate) fn has_all<P: Protocol>(net: &Net<P>, machine: u16, count: u32) -> bool {
    (0..count).all(|i| net.cells(machine)[i as usize] == [i as u8; 100])
}

#[test]
fn four_become_seven_and_four_again() {
    let mut net = group(4);
    work(&mut net, 0, 5);
    for (epoch, machine) in (0..3).zip(4u16..) {
        let f = if machine == 6 { 2 } else { 1 };
        change(&mut net, command(epoch, f, &[Change::Add(member(machine))]), &[machine]);
        work(&mut net, 5 + 5 * machine as u32, 5);
    }
    net.run_until("seven agree", |net| all_in(net, &[0, 1, 2, 3, 4, 5, 6], 3));
    // The first three go, the primary of view 0 among them.
    change(&mut net, command(3, 1, &[Change::Remove(R(0)), Change::Remove(R(1))]), &[]);
    change(&mut net, command(4, 1, &[Change::Remove(R(0))]), &[]);
    work(&mut net, 50, 10);
    net.run_until("four agree", |net| all_in(net, &[3, 4, 5, 6], 5));
    net.run_until("three know that they are gone", |net| (0..3).all(|id| net.is_retired(id)));
    assert_eq!(net.cells(6)[52], [52; 100]);
    (0..3).for_each(|id| net.stop(R(id)));
    net.stop(R(6));
    work(&mut net, 60, 20);
    assert!(net.evidence.is_empty(), "{:?}", net.evidence);
}

#[test]
fn what_is_not_allowed_is_refused_and_changes_nothing() {
    let mut net = group(4);
    let add = |machine| Change::Add(member(machine));
    for (command, refusal) in [
        (command(7, 1, &[add(4)]), Refusal::Epoch { meant: Epoch(7), present: Epoch(0) }),
        (command(0, 1, &[]), Refusal::NoChange),
        (command(0, 1, &[add(4), add(5)]), Refusal::TooManyJoin { joining: 2, most: 1 }),
    ] {
        assert_eq!(net.reconfigure(0, command), Err(refusal));
    }
    let next = net.reconfigure(0, command(0, 1, &[add(4)])).expect("it is allowed").next;
    // The same again, before the epoch has ended or after.
    let again = net.reconfigure(2, command(0, 1, &[add(4)])).expect_err("it has been done");
    let is_late = matches!(again, Refusal::UnderWay(Epoch(1)) | Refusal::Epoch { present: Epoch(1), .. });
    assert!(is_late, "{again}");
    assert_eq!((next.epoch, next.members.len()), (Epoch(1), 5));
    let mut fixed = Net::new(Settings::new(4), |id| crate::recovery::pbft(id, Settings::new(4).quorums));
    assert_eq!(fixed.reconfigure(0, command(0, 1, &[add(4)])), Err(Refusal::Fixed));
}

#[test]
fn a_replica_takes_the_place_of_a_dead_primary() {
    let mut net = group(4);
    work(&mut net, 0, 3);
    net.stop(R(0));
    change(&mut net, command(0, 1, &[Change::Replace(R(0), member(9))]), &[9]);
    work(&mut net, 3, 20);
    net.run_until("all agree", |net| all_in(net, &[9, 1, 2, 3], 1));
    assert!(has_all(&net, 9, 23));
    // Nobody knows of the old one any more, and it learns that.
    net.restart_from_disk(R(0));
    net.run_until("it knows that it is gone", |net| net.is_retired(0));
    net.stop(R(0));
    net.restart_from_disk(R(0));
    assert!(net.is_retired(0));
    work(&mut net, 23, 10);
    // With f others gone the new one has to vote.
    net.stop(R(2));
    work(&mut net, 33, 10);
}

#[test]
fn who_slept_through_epochs_is_shown_the_way() {
    let mut net = group(4);
    work(&mut net, 0, 3);
    net.stop(R(3));
    change(&mut net, command(0, 1, &[Change::Add(member(4))]), &[4]);
    work(&mut net, 3, 30);
    change(&mut net, command(1, 1, &[Change::Replace(R(1), member(5))]), &[5]);
    work(&mut net, 33, 30);
    net.restart_from_disk(R(3));
    work(&mut net, 63, 2);
    net.run_until("it has caught up", |net| all_in(net, &[0, 2, 3, 4, 5], 2));
    assert!(has_all(&net, 3, 65));
    // It has written down where it is.
    net.stop(R(3));
    net.restart_from_disk(R(3));
    assert_eq!(net.membership(3).epoch, Epoch(2));
    work(&mut net, 65, 10);
    net.run_until("it takes part", |net| all_in(net, &[0, 2, 3, 4, 5], 2));
}

#[test]
fn the_power_may_fail_everywhere_around_the_change() {
    for steps in (0..400).step_by(37) {
        let mut net = group(4);
        work(&mut net, 0, 4);
        net.provide(4, &net.membership(0).clone());
        let wanted = command(0, 1, &[Change::Add(member(4))]);
        net.submit_command(1, wanted.clone());
        net.take_steps(steps);
        (0..4).for_each(|id| net.stop(R(id)));
        (0..4).for_each(|id| net.restart_from_disk(R(id)));
        work(&mut net, 4, 12);
        net.run_until("the group has changed", |net| {
            (0..4).all(|id| net.membership(id).epoch == Epoch(1) && has_all(net, id, 16))
        });
        (0..4).for_each(|id| net.stop(R(id)));
        (0..4).for_each(|id| net.restart_from_disk(R(id)));
        assert!((0..4).all(|id| net.membership(id).epoch == Epoch(1)), "{steps} steps");
        work(&mut net, 16, 3);
        assert!(net.evidence.is_empty(), "{:?}", net.evidence);
    }
}

#[test]
fn a_new_replica_may_be_stopped_before_it_knows_anything() {
    let mut net = group(4);
    work(&mut net, 0, 4);
    let next = change(&mut net, command(0, 1, &[Change::Add(member(4))]), &[4]);
    net.stop(R(4));
    work(&mut net, 4, 20);
    net.restart_from_disk(R(4));
    work(&mut net, 24, 4);
    net.run_until("it has caught up", |net| all_in(net, &[0, 1, 2, 3, 4], 1));
    // It loses its disk later: it has voted, and is no new one.
    net.stop(R(4));
    net.disks.remove(&R(4));
    net.provide(4, &next);
    net.start(R(4), Startup::Amnesia);
    work(&mut net, 28, 2);
    net.run_until("it has caught up", |net| all_in(net, &[0, 1, 2, 3, 4], 1));
    work(&mut net, 30, 60);
    net.run_until("it votes", |net| net.votes(4));
}

#[test]
fn one_that_forgets_between_epochs_does_not_vote_at_once() {
    let mut net = group(5);
    work(&mut net, 0, 4);
    net.stop(R(2));
    net.disks.remove(&R(2));
    net.start(R(2), Startup::Amnesia);
    net.submit_command(1, command(0, 1, &[Change::Add(member(7))]));
    net.run_until("it is in the next epoch", |net| net.membership(2).epoch == Epoch(1));
    assert!(!net.votes(2));
    let next = net.membership(2).clone();
    net.provide(7, &next);
    net.start(R(7), Startup::Genesis);
    work(&mut net, 4, 80);
    net.run_until("it votes", |net| net.votes(2));
    net.run_until("all agree", |net| all_in(net, &[0, 1, 2, 3, 4, 7], 1));
}

#[test]
fn without_a_disk_too() {
    let mut net = group_with(Settings { durability: Durability::None, ..Settings::new(4) });
    work(&mut net, 0, 4);
    change(&mut net, command(0, 1, &[Change::Add(member(4))]), &[4]);
    work(&mut net, 4, 10);
    net.stop(R(1));
    // Its file is of the first epoch.
    net.start(R(1), Startup::Amnesia);
    work(&mut net, 14, 10);
    net.run_until("all agree", |net| all_in(net, &[0, 1, 2, 3, 4], 1));
}

#[test]
fn a_client_that_was_away_finds_the_group_again() {
    let mut net = group_with(Settings { reads: ReadPolicy::Fast, ..Settings::new(4) });
    net.call(2, &Operation::Write(0, vec![1]), OperationKind::Ordered);
    for (epoch, machine) in (0..4).zip(10u16..) {
        let place = u16::try_from(epoch).expect("small");
        change(&mut net, command(epoch, 1, &[Change::Replace(R(place), member(machine))]), &[machine]);
        work(&mut net, 1 + 9 * epoch as u32, 9);
        net.run_for(Duration::from_secs(1));
    }
    assert!((0..4).all(|id| net.is_retired(id)));
    let (read, _) = net.call(2, &Operation::Read(0), OperationKind::ReadOnly);
    assert_eq!(read, [1], "from machines of which it knew none");
    let (_, was_ordered) = net.call(2, &Operation::Read(0), OperationKind::ReadOnly);
    assert!(!was_ordered, "it is where the others are");
    assert_eq!(net.call(2, &Operation::Write(0, vec![2]), OperationKind::Ordered).0, [1]);
    assert!(CLIENTS > 2 && net.status(13).stable >= Seq(8));
}

#[test]
fn who_has_left_can_not_vote_any_more() {
    let mut net = group(5);
    work(&mut net, 0, 3);
    change(&mut net, command(0, 1, &[Change::Remove(R(4))]), &[]);
    net.run_until("it knows that it is gone", |net| net.is_retired(4));
    let before = net.status(4).executed;
    net.stop(R(3));
    work(&mut net, 3, 10);
    assert_eq!(net.status(4).executed, before);
    // Three of four are enough; two and the one that left are not.
    net.stop(R(2));
    net.submit(0, &Operation::Write(99, vec![9]), OperationKind::Ordered);
    net.run_for(Duration::from_secs(20));
    assert!(net.take_events(0).iter().all(|event| !matches!(event, ClientOutput::Completed { .. })));
}

#[test]
fn keys_that_were_announced_stay_in_use_in_the_next_epoch() {
    let mut net = group(4);
    for id in 0..4 {
        let seed = [id as u8; 32].into();
        net.input(R(id), Input::Refresh { seed, lifetime: Duration::from_secs(3600) });
    }
    work(&mut net, 0, 4);
    let first = net.reports.len();
    change(&mut net, command(0, 1, &[Change::Replace(R(1), member(4))]), &[4]);
    work(&mut net, 4, 10);
    net.run_until("all agree", |net| all_in(net, &[0, 4, 2, 3], 1));
    for id in [0, 2, 3] {
        assert!(net.replica(id).keyring().announcement().is_some());
        let is_it = |report: &Report| matches!(report, Report::KeyLearned { of, .. } if *of == R(id));
        let told = net.reports[first..].iter().filter(|(by, report)| by.0 != id && is_it(report)).count();
        assert_eq!(told, 3, "all others have heard of the key of {id} anew");
    }
    let learned = net.replica(4).keyring().announced(R(2)).cloned();
    assert_eq!(learned.as_ref(), net.replica(2).keyring().announcement());
}

#[test]
fn who_joins_hears_of_the_keys_of_those_that_it_asks() {
    let mut net = group(4);
    let seed = |id: u16| [id as u8; 32].into();
    let lifetime = Duration::from_secs(3600);
    (0..4).for_each(|id| net.input(R(id), Input::Refresh { seed: seed(id), lifetime }));
    work(&mut net, 0, 4);
    let next = net.reconfigure(1, command(0, 1, &[Change::Add(member(4))])).expect("it is allowed").next;
    work(&mut net, 4, 10);
    net.run_for(Duration::from_secs(5));
    // All that was said to it so far is lost.
    net.provide(4, &next);
    net.start(R(4), Startup::Genesis);
    net.input(R(4), Input::Refresh { seed: seed(4), lifetime });
    work(&mut net, 14, 10);
    net.run_until("all agree", |net| all_in(net, &[0, 1, 2, 3, 4], 1));
}

#[test]
fn what_is_on_disk_at_the_start_of_an_epoch_is_a_state_that_is_whole() {
    let mut net = group(4);
    work(&mut net, 0, 3);
    change(&mut net, command(0, 1, &[Change::Add(member(4))]), &[4]);
    net.run_until("all are there", |net| (0..4).all(|id| net.membership(id).epoch == Epoch(1)));
    for id in 0..4 {
        net.stop(R(id));
        let Startup::Recovered { records, kept } = net.open_disk(R(id)) else {
            panic!("it has a disk");
        };
        let kept = kept.expect("an epoch starts from a state");
        let state = records.iter().find_map(|record| match decode_record(record) {
            Ok(EngineRecord::Epoch(epoch)) => Some(epoch.start.expect("it is not the first")),
            _ => None,
        });
        let (seq, _) = state.expect("the log says of which epoch it is");
        let EngineRecord::State(name) = decode_record(&records[0]).expect("it is the engine's") else {
            panic!("a state is named first");
        };
        assert!(name.seq >= seq && !name.segments.is_empty(), "{id} has {} of {seq}", name.seq);
        net.start(R(id), Startup::Recovered { records, kept: Some(kept) });
    }
    work(&mut net, 3, 3);
}

/// Whoever signs the end of an epoch can get there from its own disk: when the power comes back it may be
/// shown the proof before anything else, and forgets the old epoch then.
#[test]
fn the_end_of_an_epoch_is_not_signed_upon_a_fetched_state_that_is_not_on_disk() {
    let mut net = group(4);
    work(&mut net, 0, 9);
    net.stop(R(3));
    work(&mut net, 9, 12);
    net.slow_disks.insert(R(3));
    net.restart_from_disk(R(3));
    net.run_until("it has a state of the others", |net| net.status(3).executed >= Seq(16));
    net.stop(R(2));
    net.submit_command(1, command(0, 1, &[Change::Add(member(4))]));
    net.run_for(Duration::from_secs(20));
    assert_eq!((net.status(3).executed, net.status(0).executed), (Seq(16), Seq(24)));
    assert_eq!(net.membership(0).epoch, Epoch(0), "its vote is needed to prove the end");
    net.slow_disks.clear();
    net.finish_keeping(R(3));
    net.run_until("the epoch has ended", |net| {
        [0, 1, 3].iter().all(|id| net.membership(*id).epoch == Epoch(1))
    });
    assert!(has_all(&net, 3, 21));
}

/// The power fails once one replica alone has kept the end of an epoch, and that one does not come back.
#[test]
fn the_last_operations_of_an_epoch_outlive_who_has_kept_its_end() {
    let mut net = group(4);
    work(&mut net, 0, 4);
    net.stop(R(3));
    net.slow_disks.extend([R(1), R(2)]);
    net.submit_command(1, command(0, 1, &[Change::Replace(R(0), member(4))]));
    net.run_until("the first knows the end", |net| net.is_retired(0));
    assert!((1..3).all(|id| net.membership(id).epoch == Epoch(0)), "they wait for their disks");
    // The one that slept is shown the proof, and drops what it has of the epoch.
    (1..3).for_each(|id| net.stop(R(id)));
    net.restart_from_disk(R(3));
    net.run_until("it is shown the end", |net| net.membership(3).epoch == Epoch(1));
    net.stop(R(0));
    net.stop(R(3));
    net.disks.remove(&R(0));
    // So are the others before their disks have done anything, and the power fails again.
    for _ in 0..2 {
        (1..4).for_each(|id| net.restart_from_disk(R(id)));
        net.run_for(Duration::from_secs(2));
        (1..4).for_each(|id| net.stop(R(id)));
    }
    net.slow_disks.clear();
    (1..4).for_each(|id| net.restart_from_disk(R(id)));
    net.provide(4, &net.membership(3).clone());
    net.start(R(4), Startup::Genesis);
    work(&mut net, 4, 10);
    net.run_until("all agree", |net| all_in(net, &[4, 1, 2, 3], 1));
    assert!(has_all(&net, 4, 14));
}

#[test]
fn who_is_to_stop_hands_over_in_the_next_epoch_too() {
    let mut net = group(4);
    work(&mut net, 0, 4);
    net.slow_disks.extend((0..4).map(R));
    net.submit_command(1, command(0, 1, &[Change::Replace(R(3), member(4))]));
    net.run_for(Duration::from_millis(100));
    // The end has to be kept, and who knows of it is as good as gone from its view.
    net.input(R(0), Input::HandOver);
    net.slow_disks.clear();
    (0..4).for_each(|id| net.finish_keeping(R(id)));
    net.run_until("the epoch has begun", |net| (0..3).all(|id| net.membership(id).epoch == Epoch(1)));
    net.run_for(Duration::from_millis(100));
    assert!((0..3).all(|id| net.status(id).view == View(1) && net.status(id).is_in_view));
}
