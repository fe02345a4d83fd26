//! From one epoch to the next: the settings of a PBFT group change while it works.

use crate::net::{Net, member};
use crate::reconfiguration::{agreed, all_in, change, command, group, pbft_settings, work};
use althing_protocol::pbft::{Pbft, PbftSettings};
use althing_protocol::{ConfigError, Setting};
use althing_replica::membership::{Change, MembershipError, Refusal};
use althing_replica::*;
use althing_types::{Epoch, ReplicaId, View};
use std::time::Duration;

const R: fn(u16) -> ReplicaId = ReplicaId;

/// Checkpoints lie elsewhere than before, and operations of 100 bytes go from clients to all.
fn others() -> PbftSettings {
    PbftSettings {
        checkpoint_period: 6,
        log_size: 18,
        pipeline: 3,
        adaptive_batching: false,
        separate_bytes: 100,
        view_timeout: Duration::from_millis(700),
        ..pbft_settings()
    }
}

fn set(settings: PbftSettings) -> Change {
    Change::Settings(agreed(settings))
}

fn all_go_by(net: &Net<Pbft>, machines: &[u16], settings: &PbftSettings) -> bool {
    machines.iter().all(|id| net.settings(*id) == Some(agreed(settings.clone())))
}

#[test]
fn all_replicas_go_by_what_was_ordered_and_so_does_who_joins() {
    let mut net = group(4);
    work(&mut net, 0, 5);
    let done = net.reconfigure(1, command(0, 1, &[set(others())])).expect("it is allowed");
    assert_eq!(done.before.settings, agreed(pbft_settings()), "the answer says what was");
    assert_eq!(done.next.settings, agreed(others()), "and what will be");
    assert_eq!(done.next.members, done.before.members);
    work(&mut net, 5, 10);
    net.run_until("four agree", |net| all_in(net, &[0, 1, 2, 3], 1));
    assert!(all_go_by(&net, &[0, 1, 2, 3], &others()));
    assert!(net.status(0).stable.0.is_multiple_of(6), "its checkpoints lie where they are to lie now");
    // With a member in one command.
    let third = PbftSettings { pipeline: 9, max_batch_requests: 2, ..others() };
    change(&mut net, command(1, 1, &[set(third.clone()), Change::Add(member(4))]), &[4]);
    work(&mut net, 20, 10);
    net.run_until("five agree", |net| all_in(net, &[0, 1, 2, 3, 4], 2));
    assert!(all_go_by(&net, &[0, 1, 2, 3, 4], &third));
    // Without a word on settings they stay.
    change(&mut net, command(2, 1, &[Change::Remove(R(1))]), &[]);
    work(&mut net, 30, 10);
    net.run_until("four agree", |net| all_in(net, &[0, 2, 3, 4], 3));
    assert!(all_go_by(&net, &[0, 2, 3, 4], &third));
    assert!(net.evidence.is_empty(), "{:?}", net.evidence);
}

#[test]
fn the_settings_of_an_epoch_outlast_restarts_and_lost_disks() {
    let mut net = group(4);
    work(&mut net, 0, 3);
    // This one sleeps through it, and starts with the group file of the first epoch.
    net.stop(R(3));
    change(&mut net, command(0, 1, &[set(others())]), &[]);
    work(&mut net, 3, 30);
    let startup = net.open_disk(R(3));
    net.start(R(3), startup);
    net.run_until("it has caught up", |net| all_in(net, &[0, 1, 2, 3], 1));
    assert!(all_go_by(&net, &[3], &others()));
    (0..4).for_each(|id| net.stop(R(id)));
    for id in 0..4 {
        let startup = net.open_disk(R(id));
        net.start(R(id), startup);
    }
    assert!(all_go_by(&net, &[0, 1, 2, 3], &others()), "the log names them");
    work(&mut net, 40, 5);
    net.stop(R(2));
    net.start(R(2), Startup::Amnesia);
    work(&mut net, 45, 5);
    net.run_until("it has learnt and votes", |net| net.votes(2) && all_in(net, &[0, 1, 2, 3], 1));
    assert!(all_go_by(&net, &[2], &others()));
}

/// The start of an epoch lies where none of its own checkpoints would: nobody has made another one yet.
#[test]
fn who_lost_its_disk_learns_in_an_epoch_whose_start_lies_between_checkpoints() {
    let mut net = group(4);
    work(&mut net, 0, 3);
    change(&mut net, command(0, 1, &[set(others())]), &[]);
    net.run_until("all are there", |net| all_in(net, &[0, 1, 2, 3], 1));
    assert!(!net.status(0).stable.0.is_multiple_of(6), "the start is no checkpoint of its own");
    net.stop(R(2));
    net.start(R(2), Startup::Amnesia);
    net.run_until("it votes", |net| net.votes(2));
    assert!(all_go_by(&net, &[2], &others()));
}

#[test]
fn settings_that_the_protocol_would_refuse_change_nothing() {
    let mut net = group(4);
    let refused = |error| Err(Refusal::Invalid(MembershipError::Settings(error)));
    let (mut none, mut odd) = (others(), others());
    none.pipeline = 0;
    odd.log_size = 20;
    let zero = ConfigError::Zero(Setting::Pipeline);
    assert_eq!(net.reconfigure(0, command(0, 1, &[set(none)])), refused(zero));
    let odd_log = ConfigError::LogNotMultiple { log_size: 20, checkpoint_period: 6 };
    assert_eq!(net.reconfigure(0, command(0, 1, &[set(odd.clone())])), refused(odd_log));
    // Nor does what comes with them.
    let both = [Change::Add(member(4)), set(odd)];
    assert_eq!(net.reconfigure(0, command(0, 1, &both)), refused(odd_log));
    assert_eq!(net.reconfigure(0, command(0, 1, &[set(pbft_settings())])), Err(Refusal::NoChange));
    work(&mut net, 0, 20);
    assert!((0..4).all(|id| net.membership(id).epoch == Epoch(0)));
    assert!(all_go_by(&net, &[0, 1, 2, 3], &pbft_settings()));
}

#[test]
fn another_replica_leads_the_first_view_of_an_epoch_and_those_after_it_follow() {
    let mut net = group(4);
    work(&mut net, 0, 3);
    let next = change(&mut net, command(0, 1, &[Change::FirstPrimary(R(2))]), &[]);
    assert_eq!(next.first_primary, R(2));
    work(&mut net, 3, 10);
    net.run_until("all are there", |net| all_in(net, &[0, 1, 2, 3], 1));
    // Who would have led before is not needed.
    net.stop(R(0));
    work(&mut net, 13, 10);
    assert!((1..4).all(|id| net.status(id).view == View(0)));
    let startup = net.open_disk(R(0));
    net.start(R(0), startup);
    net.run_until("it is back", |net| all_in(net, &[0, 1, 2, 3], 1));
    net.stop(R(2));
    work(&mut net, 23, 10);
    assert!([0, 1, 3].iter().all(|id| net.status(*id).view == View(1)), "R3 leads now");
    assert!(net.evidence.is_empty(), "{:?}", net.evidence);
}
