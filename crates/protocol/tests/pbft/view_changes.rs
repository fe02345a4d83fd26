//! Leaving a view, and starting the next without losing what may have committed.

use crate::group::{Group, LIAR, R, VIEW_TIMER, settings_with_batches, signed, with_macs};
use althing_protocol::pbft::PbftMessage;
use althing_protocol::{Event, Message};
use althing_types::View;
use std::time::Duration;

#[test]
fn a_dead_primary_is_replaced_and_what_had_prepared_survives() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    // All commits are lost: the request prepared and no replica executed it.
    group.deliver(|wire| matches!(wire.message, PbftMessage::Commit(_)));
    assert!(group.nodes.iter().all(|node| node.decisions.is_empty()));
    group.down = vec![R[0]];
    group.submit(&signed(2, 1));
    group.run_until(|group| (1..4).all(|i| group.executed(i).len() == 2));
    for i in 1..4 {
        assert_eq!(group.executed(i), [(1, 1), (2, 1)]);
        assert_eq!(group.nodes[i].pbft.view(), View(1));
    }
}

#[test]
fn a_batch_that_only_one_replica_executed_keeps_its_number() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    group.deliver(|wire| matches!(wire.message, PbftMessage::Commit(_)) && wire.to != R[3]);
    assert_eq!(group.executed(3), [(1, 1)]);
    // It falls silent with the primary's knowledge gone too: the others must find the batch again.
    group.down = vec![R[3]];
    group.submit(&signed(2, 1));
    group.run_until(|group| (0..3).all(|i| group.executed(i).len() == 2));
    assert_eq!(group.nodes[1].decisions[0].digest, group.nodes[3].decisions[0].digest);
}

#[test]
fn successive_dead_primaries_are_passed_over() {
    let mut group = Group::new(7);
    group.down = vec![R[0], R[1]];
    group.submit(&signed(1, 1));
    group.run_until(|group| (2..7).all(|i| group.executed(i) == [(1, 1)]));
    assert_eq!(group.nodes[6].pbft.view(), View(2));
}

#[test]
fn an_equivocating_primary_is_caught_or_replaced_and_nothing_diverges() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    for wire in group.wires.iter_mut().filter(|wire| wire.to.0 % 2 == 1) {
        if let Some(other) = wire.message.contradiction() {
            wire.message = other;
        }
    }
    group.run_until(|group| (1..4).all(|i| group.executed(i) == [(1, 1)]));
    assert_eq!(group.nodes[1].decisions[0].digest, group.nodes[2].decisions[0].digest);
}

#[test]
fn a_new_view_has_its_own_timeout_and_the_next_one_twice_that() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    group.lose();
    // However long the request has waited before.
    group.now = group.now + Duration::from_secs(1);
    for i in 1..4 {
        group.give_up(i);
    }
    group.deliver(|wire| matches!(wire.message, PbftMessage::PrePrepare(_)));
    assert_eq!(group.nodes[2].pbft.view(), View(1));
    assert_eq!(group.nodes[2].timers.get(&VIEW_TIMER), Some(&(group.now + Duration::from_secs(1))));
    group.lose();
    for i in [0, 2, 3] {
        group.give_up(i);
    }
    group.deliver(|wire| matches!(wire.message, PbftMessage::PrePrepare(_)));
    assert_eq!(group.nodes[3].pbft.view(), View(2));
    assert_eq!(group.nodes[3].timers.get(&VIEW_TIMER), Some(&(group.now + Duration::from_secs(2))));
}

/// Client `LIAR` poisons the first batch of replica 0, which also holds back an honest request.
fn poisoned() -> Group {
    let mut group = Group::with(4, settings_with_batches());
    group.event(0, Event::Request(with_macs(LIAR, 1)));
    group.submit(&signed(1, 1));
    group.settle();
    assert!(group.nodes.iter().all(|node| node.decisions.is_empty()));
    group
}

#[test]
fn a_primary_that_leaves_its_view_drops_the_requests_that_stalled_it() {
    let mut group = poisoned();
    group.run_until(|group| (0..4).all(|i| group.executed(i) == [(1, 1)]));
    assert_eq!(group.nodes[0].pbft.view(), View(1));
    // On entering the view each replica passes on what it still has waiting.
    let forwarded = group.sent(R[0], |wire| match &wire.message {
        PbftMessage::Forward(request) => Some(request.client.0),
        _ => None,
    });
    assert!(forwarded.contains(&1) && !forwarded.contains(&LIAR), "{forwarded:?}");
}

#[test]
fn a_client_caught_with_bad_macs_has_to_sign() {
    let mut group = poisoned();
    group.run_until(|group| (0..4).all(|i| group.executed(i) == [(1, 1)]));
    // Replica 3 would take these for authentic, and pass them on to the primary.
    group.history.clear();
    group.event(3, Event::Request(with_macs(LIAR, 2)));
    assert!(group.history.is_empty(), "{:?}", group.history);
    group.event(3, Event::Request(with_macs(2, 1)));
    group.event(3, Event::Request(signed(LIAR, 3)));
    group.settle();
    for i in 0..4 {
        assert_eq!(group.executed(i)[1..], [(2, 1), (LIAR, 3)]);
    }
}

#[test]
fn after_a_fruitless_view_signed_requests_go_first() {
    let mut group = Group::with(4, settings_with_batches());
    group.down = vec![R[0]];
    group.event(1, Event::Request(with_macs(2, 1)));
    group.submit(&signed(1, 1));
    group.run_until(|group| (1..4).all(|i| group.executed(i).len() == 2));
    // Though it came first, and one batch would have held both.
    let batches: Vec<_> =
        group.nodes[2].decisions.iter().map(|decision| decision.batch.requests.len()).collect();
    assert_eq!((batches, group.executed(2)), (vec![1, 1], vec![(1, 1), (2, 1)]));
}
