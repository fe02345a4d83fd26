//! Coming back to a view that a replica alone gave up on.

use crate::group::{Group, R, Wire, signed};
use althing_protocol::Event;
use althing_protocol::pbft::{PbftMessage, ViewChange};
use althing_types::{Seq, View};
use std::time::Duration;

/// The highest number that the others may commit without the replica being let back in: four times the log.
const BAR: u64 = 32;

/// Only replica `i` waits for a request, in vain.
fn give_up_alone(group: &mut Group, i: usize) {
    let view = group.nodes[i].pbft.view();
    group.event(i, Event::Request(signed(9, 1)));
    group.lose();
    group.give_up(i);
    group.settle();
    assert_eq!((group.nodes[i].pbft.view(), group.nodes[i].pbft.is_in_view()), (view.next(), false));
}

fn is_in(group: &Group, i: usize, view: u64) -> bool {
    group.nodes[i].pbft.view() == View(view) && group.nodes[i].pbft.is_in_view()
}

/// The group goes on in `view` with only three up, so that each has to vote.
fn has_to_vote(group: &mut Group, down: usize, client: u64) {
    group.down = vec![R[down]];
    let views: Vec<_> = group.nodes.iter().map(|node| node.pbft.view()).collect();
    group.submit(&signed(client, 1));
    group.settle();
    for i in (0..4).filter(|i| *i != down) {
        assert!(group.executed(i).contains(&(client, 1)), "replica {i}");
        assert_eq!(group.nodes[i].pbft.view(), views[i]);
    }
    group.down.clear();
}

#[test]
fn it_comes_back_to_the_first_view_without_any_client() {
    let mut group = Group::new(4);
    give_up_alone(&mut group, 3);
    group.run_until(|group| is_in(group, 3, 0));
    assert!(group.nodes[3].pbft.stable() >= Seq(BAR));
    group.settle();
    has_to_vote(&mut group, 1, 2);
}

#[test]
fn it_comes_back_to_a_later_view() {
    let mut group = Group::new(4);
    group.down = vec![R[0]];
    group.submit(&signed(1, 1));
    group.run_until(|group| (1..4).all(|i| group.executed(i).len() == 1));
    group.down.clear();
    group.run_until(|group| is_in(group, 0, 1));
    give_up_alone(&mut group, 3);
    group.run_until(|group| is_in(group, 3, 1));
    group.settle();
    has_to_vote(&mut group, 2, 2);
}

#[test]
fn it_comes_back_only_above_the_bar() {
    let mut group = Group::new(4);
    give_up_alone(&mut group, 3);
    group.loses = |wire| matches!(wire.message, PbftMessage::FillTo { .. });
    for number in 1..=BAR {
        group.submit(&signed(1, number));
        group.settle();
    }
    group.run_for(Duration::from_secs(10));
    assert_eq!(group.nodes[3].pbft.stable(), Seq(BAR));
    assert!(!group.nodes[3].pbft.is_in_view());
    group.submit(&signed(1, BAR + 1));
    group.run_until(|group| is_in(group, 3, 0));
}

#[test]
fn what_it_took_back_is_not_held_against_it() {
    let mut group = Group::new(4);
    give_up_alone(&mut group, 3);
    group.run_until(|group| is_in(group, 3, 0));
    group.settle();
    // Its second view change for view 1 differs from the first, and is needed.
    group.down = vec![R[0]];
    group.submit(&signed(2, 1));
    group.run_until(|group| (1..4).all(|i| group.executed(i).contains(&(2, 1))));
    assert!((1..4).all(|i| is_in(&group, i, 1)));
    assert!(group.nodes.iter().all(|node| node.evidence.is_empty()));
}

#[test]
fn it_is_still_back_after_a_restart() {
    for first in [0, 1] {
        let mut group = Group::new(4);
        if first == 1 {
            group.down = vec![R[0]];
            group.submit(&signed(1, 1));
            group.run_until(|group| (1..4).all(|i| is_in(group, i, 1)));
            group.down.clear();
            group.run_until(|group| is_in(group, 0, 1));
        }
        give_up_alone(&mut group, 3);
        group.run_until(|group| is_in(group, 3, first));
        group.restart(3);
        assert!(is_in(&group, 3, first));
        group.run_until(|group| group.nodes[3].pbft.executed() == group.nodes[1].pbft.executed());
        has_to_vote(&mut group, 2, 2);
    }
}

#[test]
fn a_primary_that_waits_asks_for_the_next_view_itself() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    // Replica 1 executes, with the help of replica 3, which falls silent. Replica 2 has not prepared.
    group.deliver(|wire| match wire.message {
        PbftMessage::Prepare(_) => wire.to == R[2],
        PbftMessage::Commit(_) => wire.to != R[1],
        _ => false,
    });
    let executed: Vec<_> = (0..4).map(|i| group.executed(i).len()).collect();
    assert_eq!(executed, [0, 1, 0, 0]);
    group.give_up(2);
    group.lose();
    group.down = vec![R[3]];
    group.run_until(|group| (0..3).all(|i| group.executed(i) == [(1, 1)]));
}

#[test]
fn a_null_request_that_hangs_ends_the_view() {
    let mut group = Group::new(4);
    give_up_alone(&mut group, 3);
    // With one down nothing commits, and no client waits for anything: only replica 3 does.
    group.down = vec![R[2]];
    group.run_until(|group| [0, 1, 3].into_iter().all(|i| is_in(group, i, 1)));
    group.down.clear();
    group.settle();
    has_to_vote(&mut group, 2, 2);
}

/// Once a correct primary made two new views for one view so: with another faulty, the group could be
/// stuck for ever, and it was accused itself.
#[test]
fn it_does_not_come_back_from_a_view_that_it_has_begun_to_lead() {
    let mut group = Group::new(4);
    give_up_alone(&mut group, 1);
    for number in 1..=BAR {
        group.submit(&signed(1, number));
        group.settle();
    }
    // The commits that would let it come back are late.
    let mut late = vec![];
    group.submit(&signed(1, BAR + 1));
    group.deliver(|wire| {
        let is_late = wire.to == R[1] && matches!(wire.message, PbftMessage::Commit(_));
        late.extend(is_late.then(|| wire.clone()));
        is_late
    });
    assert_eq!((late.len(), group.nodes[1].pbft.stable()), (3, Seq(BAR)));
    group.submit(&signed(2, 1));
    group.lose();
    for i in [0, 2, 3] {
        group.give_up(i);
    }
    group.deliver_until(|wire| matches!(wire.message, PbftMessage::NewView(_)));
    // It loses power when the new view is on disk, and nobody has it yet.
    group.restart(1);
    group.lose();
    for wire in late {
        group.receive(1, wire.from, wire.message);
    }
    assert!(!group.nodes[1].pbft.is_in_view());
    group.run_until(|group| (0..4).all(|i| is_in(group, i, 1) && group.executed(i).contains(&(2, 1))));
    let new_views = group.sent(R[1], |wire| match &wire.message {
        PbftMessage::NewView(new_view) => Some(new_view.clone()),
        _ => None,
    });
    assert!(new_views.windows(2).all(|pair| pair[0] == pair[1]));
    assert!(group.nodes.iter().all(|node| node.evidence.is_empty()));
}

#[test]
fn what_it_took_back_does_not_help_one_alone_to_end_the_view() {
    let mut group = Group::new(4);
    give_up_alone(&mut group, 3);
    group.run_until(|group| is_in(group, 3, 0));
    // The others hear of it with its next status.
    group.run_for(Duration::from_secs(5));
    let (view, incarnation, stable) = (View(1), 0, None);
    let lie = ViewChange { view, incarnation, stable, prepared: vec![], pre_prepared: vec![] };
    for i in [0, 1, 3] {
        group.receive(i, R[2], PbftMessage::ViewChange(lie.clone()));
    }
    group.lose();
    assert!([0, 1, 3].into_iter().all(|i| is_in(&group, i, 0)));
}

#[test]
fn asking_to_come_back_does_not_end_a_view_that_began_meanwhile() {
    let mut group = Group::new(4);
    give_up_alone(&mut group, 1);
    group.loses = |wire| matches!(wire.message, PbftMessage::FillTo { .. });
    group.run_for(Duration::from_secs(5));
    let is_asking = |wire: &&Wire| matches!(wire.message, PbftMessage::FillTo { .. });
    let asking: Vec<_> = group.history.iter().filter(is_asking).cloned().collect();
    assert!(!asking.is_empty());
    for i in [0, 2, 3] {
        group.event(i, Event::Request(signed(2, 1)));
    }
    group.lose();
    for i in [0, 2, 3] {
        group.give_up(i);
    }
    group.settle();
    // Replica 1 leads view 1. What it asked for before that arrives only now.
    assert!((0..4).all(|i| is_in(&group, i, 1)));
    for wire in asking {
        group.receive(wire.to.0.into(), wire.from, wire.message);
    }
    assert!((0..4).all(|i| is_in(&group, i, 1)));
}
