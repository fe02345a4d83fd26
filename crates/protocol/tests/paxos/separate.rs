//! Requests that clients send to all replicas, and that are proposed by name.

use crate::group::{Group, R, Wire, settings, signed, with_macs};
use althing_protocol::paxos::{PaxosMessage, PaxosSettings};
use althing_protocol::{Event, Request};
use std::time::Duration;

/// All requests of these tests are of three bytes.
fn group() -> Group {
    Group::with(3, PaxosSettings { separate_bytes: 3, max_batch_requests: 16, ..settings() })
}

fn send(group: &mut Group, request: &Request, shown_to: &[usize]) {
    for i in shown_to {
        group.event(*i, Event::Body(request.clone()));
    }
    group.event(0, Event::Request(request.clone()));
}

/// How many proposals of each form were sent, and who has asked for a whole one.
fn proposals(group: &Group) -> (usize, usize, Vec<u16>) {
    let count = |is: fn(&Wire) -> bool| group.history.iter().filter(|wire| is(wire)).count();
    let asking = group.history.iter().filter(|w| matches!(w.message, PaxosMessage::FetchProposal { .. }));
    (
        count(|wire| matches!(wire.message, PaxosMessage::ShortAccept(_))),
        count(|wire| matches!(wire.message, PaxosMessage::Accept(_))),
        asking.map(|wire| wire.from.0).collect(),
    )
}

#[test]
fn what_all_have_is_proposed_by_name() {
    let mut group = group();
    send(&mut group, &with_macs(1, 1), &[1, 2]);
    send(&mut group, &signed(2, 1), &[1, 2]);
    send(&mut group, &Request { operation: vec![1], ..signed(3, 1) }, &[]);
    group.settle();
    assert!(group.have_executed(&[0, 1, 2], 3));
    assert_eq!(proposals(&group).2, [] as [u16; 0]);
    let carried = group.history.iter().filter_map(|wire| match &wire.message {
        PaxosMessage::ShortAccept(short) => Some(short.named.len()),
        _ => None,
    });
    assert_eq!(carried.sum::<usize>(), 2 * 2, "to two replicas each");
}

#[test]
fn who_lacks_a_request_accepts_nothing_before_it_has_the_whole() {
    let mut group = group();
    send(&mut group, &with_macs(1, 1), &[1]);
    // The leader is gone before anybody can ask it.
    group.deliver(|wire| matches!(wire.message, PaxosMessage::FetchProposal { .. }));
    let votes = |group: &Group, from| {
        let of = |wire: &&Wire| wire.from == from && matches!(wire.message, PaxosMessage::Accepted(_));
        group.history.iter().filter(of).count()
    };
    assert_eq!((votes(&group, R[1]), votes(&group, R[2])), (2, 0));
    group.run_until(|group| group.have_executed(&[0, 1, 2], 1));
    send(&mut group, &with_macs(1, 2), &[1]);
    group.settle();
    assert!(group.have_executed(&[0, 1, 2], 2));
    assert_eq!(proposals(&group).2, [2, 2], "and again");
    // From now on it is sent whole ones.
    send(&mut group, &with_macs(1, 3), &[1]);
    group.settle();
    assert!(group.have_executed(&[0, 1, 2], 3));
    assert_eq!(proposals(&group).2, [2, 2]);
}

#[test]
fn who_lacks_a_batch_asks_one_of_those_who_accepted_it_and_then_everybody() {
    let mut group = Group::with(5, PaxosSettings { checkpoint_period: 64, log_size: 128, ..settings() });
    let from_leader = |wire: &Wire| (wire.from, wire.to) == (R[0], R[4]);
    let asked = |group: &Group| -> Vec<u16> {
        let asking =
            group.history.iter().filter(|wire| matches!(wire.message, PaxosMessage::FetchBatch { .. }));
        asking.map(|wire| wire.to.0).collect()
    };
    for number in 1..=6 {
        group.submit(&signed(1, number));
        group.deliver(from_leader);
    }
    assert!(group.have_executed(&[0, 1, 2, 3, 4], 6));
    let one_by_one = asked(&group);
    assert_eq!(one_by_one.len(), 6, "each batch came once");
    assert!([1, 2, 3].iter().all(|voter| one_by_one.contains(voter)) && !one_by_one.contains(&0));
    group.submit(&signed(1, 7));
    group.deliver(|wire| from_leader(wire) || matches!(wire.message, PaxosMessage::FetchBatch { .. }));
    assert!(!group.have_executed(&[4], 7));
    group.run_until(|group| group.have_executed(&[4], 7));
    assert_eq!(asked(&group).len(), 6 + 1 + 4);
}

#[test]
fn a_view_that_ends_loses_nothing_that_was_proposed_by_name() {
    let mut group = group();
    send(&mut group, &signed(1, 1), &[1, 2]);
    group.deliver(|wire| matches!(wire.message, PaxosMessage::Accepted(_)));
    group.down = vec![R[0]];
    group.submit(&signed(2, 1));
    group.run_until(|group| group.have_executed(&[1, 2], 2));
    assert_eq!(group.executed(2), [(1, 1), (2, 1)]);
}

#[test]
fn with_patience_what_comes_late_is_put_together_without_a_word() {
    let patience = Duration::from_millis(250);
    let settings = PaxosSettings { separate_bytes: 3, separate_patience: patience, ..settings() };
    let mut group = Group::with(3, settings);
    let asking = |group: &Group| {
        let asks = |wire: &&Wire| {
            matches!(wire.message, PaxosMessage::FetchProposal { .. } | PaxosMessage::FetchBatch { .. })
        };
        group.history.iter().filter(asks).count()
    };
    send(&mut group, &with_macs(1, 1), &[1]);
    group.settle();
    assert!(group.have_executed(&[0, 1], 1) && group.executed(2).is_empty(), "decided, and not all here");
    group.event(2, Event::Body(with_macs(1, 1)));
    group.settle();
    assert!(group.have_executed(&[2], 1));
    assert_eq!(asking(&group), 0);
    send(&mut group, &with_macs(1, 2), &[1]);
    group.settle();
    assert_eq!(asking(&group), 0);
    group.run_until(|group| group.have_executed(&[2], 2));
    assert_eq!((asking(&group), proposals(&group).2), (1, vec![2]), "the leader had it");
}
