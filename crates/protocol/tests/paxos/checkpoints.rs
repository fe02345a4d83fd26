//! Checkpoints, the log's bounds, and catching up.

use crate::group::{Group, R, settings, signed};
use althing_protocol::Event;
use althing_protocol::paxos::PaxosMessage;
use althing_types::{Seq, View};
use std::time::Duration;

#[test]
fn a_majority_makes_a_checkpoint_stable_and_the_log_short() {
    let mut group = Group::new(5);
    group.down = vec![R[3], R[4]];
    group.work(1..=30);
    for node in &group.nodes[..3] {
        assert_eq!((node.paxos.stable(), node.paxos.executed()), (Seq(28), Seq(30)));
        assert!(node.records.len() < 15, "{} records", node.records.len());
        assert!(node.paxos.footprint() < 60, "holds {}", node.paxos.footprint());
    }
}

#[test]
fn without_a_stable_checkpoint_a_leader_stops_at_the_end_of_its_log() {
    let mut group = Group::new(3);
    group.loses = |wire| matches!(wire.message, PaxosMessage::Checkpoint(_));
    for client in 1..=20 {
        group.submit(&signed(client, 1));
    }
    group.settle();
    assert!(group.nodes.iter().all(|node| node.paxos.executed() == Seq(settings().log_size)));
    group.loses = |_| false;
    group.run_until(|group| group.have_executed(&[0, 1, 2], 20));
}

#[test]
fn a_slower_disk_misses_nothing_within_a_log() {
    let mut group = Group::new(3);
    group.unkept = vec![R[2]];
    group.work(1..=14);
    assert!(group.have_executed(&[0, 1, 2], 14));
    assert_eq!(group.nodes[2].paxos.stable(), Seq(0));
    group.work(15..=20);
    assert_eq!(group.executed(2).len(), 16, "two logs are its window");
}

#[test]
fn who_slept_for_less_than_a_log_is_told_what_was_decided() {
    let mut group = Group::new(3);
    group.work(1..=4);
    group.down = vec![R[2]];
    group.work(5..=7);
    group.down = vec![];
    group.run_until(|group| group.have_executed(&[0, 1, 2], 7));
    assert_eq!(group.nodes[2].fetching, None);
}

#[test]
fn who_slept_for_longer_fetches_the_state_and_goes_on() {
    let mut group = Group::new(3);
    group.down = vec![R[2]];
    group.work(1..=50);
    group.down = vec![];
    group.run_with_transfers(2, 0, |group| group.have_executed(&[0, 1, 2], 50));
    // It is needed now.
    group.down = vec![R[1]];
    group.submit(&signed(1, 51));
    group.run_until(|group| group.have_executed(&[0, 2], 51));
}

/// A leader that is far behind may be voted for by one that is not: it catches up first.
#[test]
fn a_leader_that_is_behind_catches_up_before_it_starts() {
    let mut group = Group::new(3);
    group.down = vec![R[1]];
    group.work(1..=50);
    group.down = vec![R[0]];
    group.submit(&signed(1, 51));
    group.run_until(|group| group.nodes[1].fetching.is_some());
    group.run_for(Duration::from_millis(300));
    assert!(!group.history.iter().any(|wire| matches!(wire.message, PaxosMessage::StartView(_))));
    group.run_with_transfers(1, 2, |group| group.have_executed(&[1, 2], 51));
    assert_eq!(group.nodes[1].paxos.view(), View(1));
}

/// Else it could vouch for a checkpoint that it can't get to from its own disk.
#[test]
fn nothing_is_executed_on_a_state_that_was_fetched_before_it_is_on_disk() {
    let mut group = Group::new(3);
    group.down = vec![R[2]];
    group.work(1..=50);
    (group.down, group.unkept) = (vec![], vec![R[2]]);
    group.run_until(|group| group.nodes[2].fetching.is_some());
    group.transfer(2, 0);
    group.run_for(Duration::from_secs(5));
    assert_eq!(group.executed(2).len(), 48);
    group.unkept = vec![];
    group.event(2, Event::StateKept(Seq(48)));
    group.run_until(|group| group.have_executed(&[0, 1, 2], 50));
}

#[test]
fn a_group_that_restarts_as_a_whole_goes_on() {
    let mut group = Group::new(5);
    group.work(1..=30);
    (0..5).for_each(|i| group.restart(i));
    group.submit(&signed(1, 31));
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3, 4], 31));
}
