//! Ordering, execution and checkpoints while nobody gives up on the primary.

use crate::group::{Group, R, VIEW_TIMER, settings_with_batches, signed, with_macs};
use althing_protocol::pbft::{PbftMessage, PbftSettings};
use althing_protocol::{Batch, Event, Message};
use althing_types::{Digest, Instant, Seq, View};
use std::time::Duration;

#[test]
fn a_request_to_any_replica_is_executed_by_all() {
    for n in [1, 4, 5, 6, 7] {
        let mut group = Group::new(n);
        group.event(n - 1, Event::Request(signed(1, 1)));
        group.settle();
        for i in 0..n {
            assert_eq!(group.executed(i), [(1, 1)], "replica {i} of {n}");
        }
    }
}

#[test]
fn a_request_is_executed_once_however_often_it_arrives() {
    let mut group = Group::new(4);
    for _ in 0..3 {
        group.submit(&signed(1, 1));
        group.settle();
    }
    assert_eq!(group.executed(2), [(1, 1)]);
}

#[test]
fn requests_gather_into_larger_batches_while_many_are_under_way() {
    let ways =
        [(true, 0, vec![1, 1, 1, 2, 3, 4]), (true, 6, vec![1, 1, 1, 1, 1, 1, 3]), (false, 0, vec![1; 12])];
    for (adaptive_batching, gather_from, sizes) in ways {
        let settings = PbftSettings { adaptive_batching, gather_from, ..settings_with_batches() };
        let mut group = Group::with(4, settings);
        for client in 1..=12 {
            group.event(0, Event::Request(signed(client, 1)));
        }
        let proposed = group.sent(R[0], |wire| match &wire.message {
            PbftMessage::PrePrepare(proposal) if wire.to == R[1] => Some(proposal.batch.requests.len()),
            _ => None,
        });
        let log_size = settings_with_batches().log_size as usize;
        assert_eq!(proposed, sizes[..sizes.len().min(log_size)]);
        group.settle();
        assert_eq!(group.executed(3).len(), 12);
    }
}

#[test]
fn a_stable_checkpoint_truncates_the_log() {
    let mut group = Group::new(4);
    for number in 1..=40 {
        group.submit(&signed(1, number));
        group.settle();
    }
    for node in &group.nodes {
        assert_eq!(node.pbft.stable(), Seq(40));
        assert_eq!(node.decisions.len(), 40);
        assert!(node.pbft.footprint() < 30, "{}", node.pbft.footprint());
    }
}

#[test]
fn an_unauthenticated_request_needs_vouchers_and_gets_them() {
    // The client's MAC is bad for replica 3 only: it prepares because others vouch.
    let mut group = Group::new(4);
    group.event(0, Event::Request(with_macs(1, 1)));
    for wire in group.wires.iter_mut().filter(|wire| wire.to == R[3]) {
        wire.message.requests_mut().iter_mut().for_each(|request| request.is_authentic = false);
    }
    group.settle();
    assert_eq!(group.executed(3), [(1, 1)]);
}

#[test]
fn a_forged_request_is_not_ordered() {
    let mut group = Group::new(4);
    group.event(0, Event::Request(signed(1, 1)));
    for wire in &mut group.wires {
        wire.message.requests_mut().iter_mut().for_each(|request| request.is_authentic = false);
    }
    group.settle();
    assert!(group.nodes.iter().all(|node| node.decisions.is_empty()));
}

#[test]
fn a_request_with_macs_does_not_unseat_a_primary() {
    let mut group = Group::new(4);
    group.event(3, Event::Request(with_macs(1, 1)));
    group.lose();
    group.run_for(Duration::from_secs(30));
    assert!(group.nodes.iter().all(|node| node.pbft.is_in_view() && node.pbft.view() == View(0)));
}

#[test]
fn the_timer_guards_the_oldest_signed_request_from_its_arrival() {
    let (timeout, step) = (Duration::from_secs(1), Duration::from_millis(300));
    let mut group = Group::new(4);
    let start = group.now;
    let deadline = |group: &Group| group.nodes[1].timers.get(&VIEW_TIMER).copied();
    // The primary hears of none of these from replica 1.
    for (client, at) in [(1, start), (2, start + step), (3, start + step * 2)] {
        group.now = at;
        group.event(1, Event::Request(signed(client, 1)));
        group.lose();
        assert_eq!(deadline(&group), Some(start + timeout));
    }
    // That a later one is served helps the oldest nothing.
    group.event(0, Event::Request(signed(2, 1)));
    group.settle();
    assert_eq!(group.executed(1), [(2, 1)]);
    assert_eq!(deadline(&group), Some(start + timeout));
    // The next in line has waited already: it gets no new timeout.
    group.now = start + step * 3;
    group.event(0, Event::Request(signed(1, 1)));
    group.settle();
    assert_eq!(deadline(&group), Some(start + step * 2 + timeout));
    group.event(0, Event::Request(signed(3, 1)));
    group.settle();
    assert_eq!(deadline(&group), None);
}

#[test]
fn correct_replicas_are_never_accused() {
    let mut group = Group::new(4);
    for number in 1..=20 {
        group.submit(&signed(1, number));
        group.settle();
    }
    group.down = vec![R[0]];
    group.submit(&signed(1, 21));
    group.run_until(|group| group.executed(1).len() == 21);
    assert!(group.nodes.iter().all(|node| node.evidence.is_empty()));
}

#[test]
fn the_null_request_has_the_null_digest() {
    assert_eq!(Batch::null().digest(), Digest::NULL);
    assert_ne!(Batch { time: Instant(1), requests: vec![] }.digest(), Digest::NULL);
}

#[test]
fn an_idle_group_sends_nothing_but_statuses() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    group.settle();
    group.history.clear();
    group.run_for(Duration::from_secs(30));
    assert!(group.history.iter().any(|wire| matches!(wire.message, PbftMessage::Status(_))));
    assert!(group.history.iter().all(|wire| matches!(wire.message, PbftMessage::Status(_))));
}
