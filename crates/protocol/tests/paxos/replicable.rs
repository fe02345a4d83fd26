//! An instance that is decoded from its encoding goes on as the original: the harness sees to that after each
//! event, in runs that reach as much of the state as there is.

use crate::group::{Group, R, settings, signed};
use althing_protocol::Event;
use althing_protocol::paxos::PaxosSettings;

#[test]
fn past_checkpoints_a_change_of_the_leader_and_a_lost_disk() {
    let mut group = Group::new(3);
    group.is_restored = true;
    group.work(1..=10);
    group.down = vec![R[0]];
    group.submit(&signed(1, 11));
    group.run_until(|group| group.have_executed(&[1, 2], 11));
    group.work(12..=40);
    group.down = vec![];
    group.run_with_transfers(0, 1, |group| group.have_executed(&[0, 1, 2], 40));
    group.restart_without_disk(2);
    group.run_with_transfers(2, 1, |group| group.nodes[2].paxos.is_voting());
}

#[test]
fn with_bodies_apart_from_the_order_and_a_slow_disk() {
    let mut group = Group::with(3, PaxosSettings { separate_bytes: 1, ..settings() });
    group.is_restored = true;
    group.unkept = vec![R[2]];
    for number in 1..=10 {
        group.event(1, Event::Body(signed(1, number)));
        group.event(0, Event::Request(signed(1, number)));
        group.run_until(|group| group.executed(1).len() == number as usize);
    }
}
