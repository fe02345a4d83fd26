//! An instance that is decoded from its encoding goes on as the original: the harness sees to that after each
//! event, in runs that reach as much of the state as there is.

use crate::group::{Group, R, settings, settings_with_batches, signed};
use althing_protocol::Event;
use althing_protocol::pbft::{PbftMessage, PbftSettings};
use althing_types::View;
use std::time::Duration;

fn group(settings: PbftSettings) -> Group {
    let mut group = Group::with(4, settings);
    group.is_restored = true;
    group
}

#[test]
fn in_the_normal_case_past_checkpoints_and_the_end_of_the_log() {
    let mut group = group(settings());
    for number in 1..=20 {
        group.submit(&signed(number % 3, number));
        group.run_until(|group| (0..4).all(|i| group.executed(i).len() == number as usize));
    }
}

#[test]
fn while_views_change_and_a_replica_falls_behind() {
    let mut group = group(settings_with_batches());
    group.down = vec![R[0], R[3]];
    group.submit(&signed(1, 1));
    group.run_for(Duration::from_millis(1500));
    group.down = vec![R[0]];
    group.run_until(|group| (1..4).all(|i| group.executed(i) == [(1, 1)]));
    group.down = vec![R[2]];
    for number in 1..=12 {
        group.submit(&signed(2, number));
        group.run_until(|group| [0, 1, 3].iter().all(|i| group.executed(*i).contains(&(2, number))));
    }
    group.down = vec![];
    group.submit(&signed(3, 1));
    group.run_with_transfers(2, 1, |group| group.executed(2).contains(&(3, 1)));
    assert!(group.nodes[1].pbft.view() > View(0));
}

#[test]
fn with_bodies_apart_from_the_order_and_what_came_early() {
    let mut group = group(PbftSettings { separate_bytes: 1, tentative_requests: 0, ..settings() });
    group.unkept = vec![R[2]];
    for number in 1..=10 {
        for i in 1..4 {
            group.event(i, Event::Body(signed(1, number)));
        }
        group.event(0, Event::Request(signed(1, number)));
        group.run_until(|group| [0, 1, 3].iter().all(|i| group.executed(*i).len() == number as usize));
    }
    let is_short = |message: &PbftMessage| matches!(message, PbftMessage::ShortPrePrepare(_));
    assert!(group.history.iter().any(|wire| is_short(&wire.message)));
}
