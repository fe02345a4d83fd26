//! Ending at a checkpoint, and starting from one with other members.

use crate::group::{Group, R, proof_of};
use crate::requests::{CLOSER, signed, with_macs};
use althing_protocol::{Event, Protocol};
use althing_types::{Seq, View};

/// A group that has executed one request, and is then closed everywhere.
fn closed() -> Group {
    let mut group = Group::new(4);
    group.work(1..=1);
    (0..4).for_each(|i| group.event(i, Event::Close(Seq(1))));
    group
}

fn has_ended(group: &Group, i: usize) -> bool {
    group.nodes[i].closed.as_ref().is_some_and(|(seq, _, votes)| *seq == Seq(4) && votes.len() >= 3)
}

#[test]
fn a_closed_instance_is_filled_up_to_its_checkpoint_and_no_further() {
    let mut group = closed();
    group.run_until(|group| (0..4).all(|i| has_ended(group, i)));
    (2..9).for_each(|client| group.submit(&signed(client, 100)));
    group.settle();
    for i in 0..4 {
        assert_eq!((group.nodes[i].zyzzyva.executed(), group.nodes[i].zyzzyva.accepted()), (Seq(4), Seq(4)));
        assert_eq!(group.nodes[i].order().len(), 4);
    }
}

#[test]
fn a_primary_that_does_not_bring_it_to_its_end_is_voted_out() {
    let mut group = Group::new(4);
    group.work(1..=1);
    group.down = vec![R[0]];
    (1..4).for_each(|i| group.event(i, Event::Close(Seq(1))));
    group.run_until(|group| (1..4).all(|i| has_ended(group, i)));
    assert!((1..4).all(|i| group.nodes[i].zyzzyva.view() >= View(1)));
    group.assert_safe();
}

#[test]
fn nothing_is_accepted_beyond_the_end_that_a_request_gives() {
    let mut group = Group::new(4);
    (1..4).chain([CLOSER]).chain(5..8).for_each(|client| group.submit(&signed(client, 1)));
    group.run_until(|group| (0..4).all(|i| has_ended(group, i)));
    assert!((0..4).all(|i| group.done(i) == [(1, 1), (2, 1), (3, 1), (CLOSER, 1)]));
}

#[test]
fn who_has_ended_says_so_again_after_a_restart() {
    let mut group = closed();
    group.run_until(|group| (0..4).all(|i| has_ended(group, i)));
    let before = group.nodes[2].closed.clone();
    group.restart(2);
    assert_eq!(group.nodes[2].closed, before);
    assert!(before.expect("it has ended").2.iter().all(|(signer, proof)| *proof == proof_of(*signer)));
}

#[test]
fn the_successor_goes_on_from_there_with_what_waits_signed() {
    let mut group = closed();
    group.run_until(|group| (0..4).all(|i| has_ended(group, i)));
    group.submit(&signed(5, 1));
    group.submit(&with_macs(6, 1));
    let (seq, state, _) = group.nodes[0].closed.clone().expect("it has ended");
    (0..4).for_each(|i| group.succeed(i, 5));
    group.join((seq, state), 5);
    assert_eq!(group.nodes[4].zyzzyva.answers_from(), None, "it has no state to answer from");
    group.run_with_transfers(|group| group.have_executed(&[0, 1, 2, 3, 4], 2));
    assert_eq!(group.executed(4), [(1, 1), (5, 1)]);
    assert!(group.nodes.iter().all(|node| node.zyzzyva.view() == View(0)));
    for number in 2..=9 {
        group.submit(&signed(1, number));
        group.run_with_transfers(|group| group.have_executed(&[0, 1, 2, 3, 4], 1 + number as usize));
    }
    assert!(group.nodes.iter().all(|node| node.zyzzyva.stable() == Seq(12)));
    group.assert_safe();
}

#[test]
fn power_that_fails_in_the_successor_loses_nothing() {
    let mut group = closed();
    group.run_until(|group| (0..4).all(|i| has_ended(group, i)));
    (0..4).for_each(|i| group.succeed(i, 4));
    group.work(2..=3);
    group.wires.clear();
    (0..4).for_each(|i| group.restart(i));
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 3));
    group.event(0, Event::HandOver);
    group.run_until(|group| group.common_view() == Some(View(1)));
    group.work(4..=7);
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 7));
    group.assert_safe();
}
