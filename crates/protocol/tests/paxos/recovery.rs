//! A replica that lost its disk.

use crate::group::{Group, R, Wire, signed};
use althing_protocol::Event;
use althing_protocol::paxos::PaxosMessage;
use althing_types::{Seq, View};
use std::time::Duration;

#[test]
fn who_lost_its_disk_votes_again_and_no_client_has_to_come_along() {
    for n in [3, 4, 5] {
        let mut group = Group::new(n);
        group.work(1..=10);
        group.restart_without_disk(1);
        assert!(!group.nodes[1].paxos.is_voting());
        group.history.clear();
        group.run_with_transfers(1, 0, |group| group.nodes[1].paxos.is_voting());
        // Four logs of eight above the last checkpoint that was made.
        assert!(group.nodes[1].paxos.stable() >= Seq(8 + 4 * 8));
        let said = group.history.iter().filter(|wire| wire.from == R[1]);
        let is_vote =
            |message: &PaxosMessage| matches!(message, PaxosMessage::Accepted(_) | PaxosMessage::Promise(_));
        assert!(!said.map(|wire| &wire.message).any(is_vote), "it was silent");
        group.submit(&signed(1, 11));
        group.run_with_transfers(1, 0, |group| group.executed(1).last() == Some(&(1, 11)));
        // And its vote counts.
        group.down = R[2..n].iter().copied().take((n - 1) / 2).collect();
        group.submit(&signed(1, 12));
        group.run_until(|group| group.executed(1).last() == Some(&(1, 12)));
    }
}

/// The value is decided with the vote of one that forgets it. A leader that would hear of it only from that one
/// has to hear of it.
#[test]
fn a_vote_that_was_forgotten_is_not_missed() {
    let mut group = Group::new(3);
    group.event(0, Event::Request(signed(1, 1)));
    group.deliver(|wire| wire.to == R[2] || wire.from == R[2]);
    assert!(group.have_executed(&[0, 1], 1));
    group.restart_without_disk(1);
    group.down = vec![R[0]];
    group.submit(&signed(2, 1));
    group.run_for(Duration::from_secs(30));
    assert!(group.executed(2).is_empty(), "the two of them know nothing for sure");
    group.down = vec![];
    group.run_with_transfers(1, 0, |group| group.have_executed(&[0, 1, 2], 2));
    assert_eq!(group.executed(2)[0], (1, 1));
}

#[test]
fn the_leader_that_lost_its_disk_is_replaced() {
    let mut group = Group::new(3);
    group.work(1..=5);
    group.restart_without_disk(0);
    group.run_with_transfers(0, 1, |group| group.nodes[0].paxos.is_voting());
    assert!(group.nodes.iter().all(|node| node.paxos.view() >= View(1)));
    group.submit(&signed(1, 6));
    group.run_with_transfers(0, 1, |group| group.have_executed(&[0, 1, 2], 6));
}

#[test]
fn a_learner_that_restarts_is_a_learner_still() {
    let mut group = Group::new(3);
    group.work(1..=5);
    group.restart_without_disk(2);
    group.lose();
    group.restart(2);
    assert!(!group.nodes[2].paxos.is_voting());
    group.run_with_transfers(2, 0, |group| group.nodes[2].paxos.is_voting());
    group.restart(2);
    assert!(group.nodes[2].paxos.is_voting());
}

/// A promise of the former self comes late, to a leader that would start from it in a view above the one in
/// which its maker has voted since.
#[test]
fn a_promise_of_a_former_self_is_void() {
    let mut group = Group::new(3);
    group.work(1..=2);
    // Replica 2 gives up on the view, and nobody hears of it yet.
    group.event(2, Event::Request(signed(5, 1)));
    group.lose();
    group.give_up(2);
    let late: Vec<Wire> = group.wires.drain(..).collect();
    let late = late.into_iter().find(|wire| wire.to == R[1]).expect("a promise was sent").message;
    group.restart_without_disk(2);
    group.run_with_transfers(2, 0, |group| group.nodes[2].paxos.is_voting());
    assert!(group.nodes.iter().all(|node| node.paxos.view() == View(0)));
    // Replicas 0 and 2 decide something that replica 1 never hears of.
    group.event(0, Event::Request(signed(6, 1)));
    group.deliver(|wire| wire.to == R[1] || wire.from == R[1]);
    assert_eq!(group.executed(2).last(), Some(&(6, 1)));
    // Replica 1 leads view 1, with its own promise and the late one.
    group.down = vec![R[0], R[2]];
    group.receive(1, R[2], late);
    group.run_for(Duration::from_secs(30));
    let starts = group.history.iter().filter(|wire| matches!(wire.message, PaxosMessage::StartView(_)));
    assert_eq!(starts.count(), 0, "it does not count");
    group.down = vec![R[0]];
    group.submit(&signed(7, 1));
    group.run_until(|group| group.executed(1).last() == Some(&(7, 1)));
    assert!(group.executed(1).contains(&(6, 1)));
}
