//! Replacing a leader without losing what a majority may have accepted.

use crate::group::{Group, R, Wire, signed};
use althing_protocol::paxos::{PaxosMessage, Promise, Vote};
use althing_protocol::{Batch, Event};
use althing_types::{Digest, Seq, View};
use std::time::Duration;

fn is_vote(wire: &Wire) -> bool {
    matches!(wire.message, PaxosMessage::Accepted(_))
}

#[test]
fn a_dead_leader_is_replaced_and_what_was_accepted_survives() {
    let mut group = Group::new(3);
    group.submit(&signed(1, 1));
    // Accepted everywhere, and nobody hears of it.
    group.deliver(is_vote);
    // With n = 3 the leader's vote and one's own decide.
    assert_eq!((group.executed(0).len(), group.executed(1).len()), (0, 1));
    group.down = vec![R[0]];
    group.submit(&signed(2, 1));
    group.run_until(|group| group.have_executed(&[1, 2], 2));
    assert_eq!(group.executed(1), [(1, 1), (2, 1)]);
    assert_eq!(group.nodes[1].paxos.view(), View(1));
}

#[test]
fn what_one_of_a_majority_alone_remembers_is_proposed_again() {
    let mut group = Group::new(5);
    group.submit(&signed(1, 1));
    // Replicas 0, 1 and 2 accept it, and replica 2 learns that.
    group.deliver(|wire| {
        let reaches = |ids: &[u16]| ids.contains(&wire.to.0);
        if is_vote(wire) { !reaches(&[2]) } else { !reaches(&[0, 1, 2]) }
    });
    assert_eq!(group.executed(2), [(1, 1)]);
    // Both others that know of it are gone. Replica 1 is the next leader.
    group.down = vec![R[0], R[2]];
    group.submit(&signed(2, 1));
    group.run_until(|group| group.have_executed(&[1, 3, 4], 2));
    assert_eq!(group.nodes[3].decisions[0].digest, group.nodes[2].decisions[0].digest);
}

#[test]
fn holes_are_filled_with_null_requests() {
    let mut group = Group::new(3);
    for client in 1..=3 {
        group.event(0, Event::Request(signed(client, 1)));
    }
    // Of three proposals only the last arrives, at replica 2.
    group.deliver(|wire| match &wire.message {
        PaxosMessage::Accept(proposal) => proposal.seq != Seq(3) || wire.to != R[2],
        _ => true,
    });
    group.down = vec![R[0]];
    group.submit(&signed(9, 1));
    group.run_until(|group| group.have_executed(&[1, 2], 2));
    assert_eq!(group.executed(1), [(3, 1), (9, 1)]);
    let digests: Vec<_> = group.nodes[1].decisions.iter().map(|decision| decision.digest).collect();
    assert_eq!(digests[..2], [Digest::NULL; 2]);
    assert!(Batch::null().is_null());
}

#[test]
fn the_highest_view_counts_and_not_what_most_have_accepted() {
    let mut group = Group::new(5);
    // The leader of view 0 gets its own vote only.
    group.event(0, Event::Request(signed(1, 1)));
    group.lose();
    // That of view 1 has another request accepted, by a majority, and only replica 3 learns it.
    group.down = vec![R[0]];
    for i in 1..5 {
        group.event(i, Event::Request(signed(2, 1)));
    }
    group.lose();
    for i in 1..5 {
        group.give_up(i);
    }
    group.deliver(|wire| is_vote(wire) && wire.to != R[3]);
    assert_eq!(group.executed(3), [(2, 1)]);
    // Now it is the old leader and two of the others, and they hear of each other's promises only.
    group.down = vec![R[1], R[3]];
    group.loses = |wire| {
        let of_views = matches!(wire.message, PaxosMessage::Promise(_));
        let of_batches =
            matches!(wire.message, PaxosMessage::FetchBatch { .. } | PaxosMessage::BatchBody { .. });
        !of_views && !of_batches
    };
    group.submit(&signed(5, 1));
    group.run_until(|group| group.nodes[2].paxos.view() == View(2) && group.nodes[2].paxos.is_in_view());
    group.loses = |_| false;
    group.run_until(|group| [0, 2, 4].iter().all(|i| group.executed(*i).contains(&(5, 1))));
    assert!([0, 2, 4].iter().all(|i| group.executed(*i)[0] == (2, 1)));
}

#[test]
fn successive_dead_leaders_are_passed_over_and_come_back() {
    let mut group = Group::new(5);
    group.down = vec![R[0], R[1]];
    group.submit(&signed(1, 1));
    group.run_until(|group| group.have_executed(&[2, 3, 4], 1));
    assert_eq!(group.nodes[4].paxos.view(), View(2));
    group.down = vec![];
    group.submit(&signed(1, 2));
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3, 4], 2));
    assert!(group.nodes.iter().all(|node| node.paxos.view() == View(2) && node.paxos.is_in_view()));
}

/// One that was cut off has promised a view that nobody else asks for. The leader takes up its view, since it
/// has no use for an acceptor that accepts nothing of it.
#[test]
fn who_gave_up_alone_is_followed() {
    let mut group = Group::new(5);
    group.down = vec![R[4]];
    group.work(1..=2);
    group.down = vec![R[0], R[1], R[2], R[3]];
    group.event(4, Event::Request(signed(7, 1)));
    group.run_for(Duration::from_secs(60));
    assert_eq!((group.nodes[4].paxos.view(), group.nodes[4].paxos.is_in_view()), (View(1), false));
    group.lose();
    group.down = vec![];
    group.run_until(|group| group.nodes.iter().all(|n| n.paxos.is_in_view() && n.paxos.view() == View(1)));
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3, 4], 3));
}

#[test]
fn a_leader_hands_over_without_a_timeout() {
    let mut group = Group::new(3);
    group.work(1..=1);
    let before = group.now;
    group.event(0, Event::HandOver);
    group.settle();
    assert!(group.nodes.iter().all(|node| node.paxos.view() == View(1) && node.paxos.is_in_view()));
    group.submit(&signed(1, 2));
    group.settle();
    assert!(group.have_executed(&[0, 1, 2], 2) && group.now == before);
}

#[test]
fn the_timeout_doubles_while_there_is_no_progress() {
    let mut group = Group::new(3);
    group.down = vec![R[0]];
    group.loses = |wire| matches!(wire.message, PaxosMessage::StartView(_) | PaxosMessage::Accept(_));
    group.submit(&signed(1, 1));
    group.run_for(Duration::from_secs(40));
    let view = group.nodes[1].paxos.view().0;
    assert!((4..=7).contains(&view), "with 1, 1, 2, 4 and so on seconds it came to {view}");
    group.loses = |_| false;
    group.run_until(|group| group.have_executed(&[1, 2], 1));
}

/// Who missed the start of a view and gets into it by a proposal is brought what it was started with.
#[test]
fn the_start_of_a_view_may_get_lost() {
    let mut group = Group::new(3);
    group.submit(&signed(1, 1));
    group.deliver(|wire| is_vote(wire) || wire.to == R[2]);
    group.down = vec![R[0]];
    group.loses = |wire| matches!(wire.message, PaxosMessage::StartView(_));
    group.submit(&signed(2, 1));
    group.run_until(|group| group.have_executed(&[1, 2], 2));
    assert_eq!(group.executed(2), [(1, 1), (2, 1)]);
    assert!([1, 2].iter().all(|i| group.nodes[*i].paxos.view() == View(1)));
}

/// It would have the next leader propose something for billions of numbers.
#[test]
fn a_promise_that_no_replica_makes_is_reported() {
    let mut group = Group::new(3);
    let vote = Vote { seq: Seq(17), view: View(0), digest: Digest::NULL };
    let promise = |vote| Promise { view: View(1), stable: None, accepted: vec![vote] };
    group.receive(1, R[2], PaxosMessage::Promise(promise(vote)));
    assert_eq!(group.nodes[1].evidence.len(), 1);
    assert_eq!(group.nodes[1].paxos.view(), View(0));
    group.receive(1, R[2], PaxosMessage::Promise(promise(Vote { seq: Seq(16), ..vote })));
    assert_eq!((group.nodes[1].evidence.len(), group.nodes[1].paxos.view()), (1, View(1)));
}

/// A new leader fetches a batch that only an acceptor has.
#[test]
fn a_leader_starts_once_it_has_what_it_has_to_propose() {
    let mut group = Group::new(3);
    group.event(0, Event::Request(signed(1, 1)));
    group.deliver(|wire| wire.to != R[2]);
    assert_eq!(group.executed(2).len(), 1);
    group.down = vec![R[0]];
    let is_start = |wire: &Wire| matches!(wire.message, PaxosMessage::StartView(_));
    group.loses = |wire| matches!(wire.message, PaxosMessage::BatchBody { .. });
    group.submit(&signed(2, 1));
    // Replica 1 leads view 1, and replica 2, which has it all, the next one.
    group.run_until(|group| group.nodes[2].paxos.view() == View(2));
    let starts: Vec<_> = group.history.iter().filter(|wire| is_start(wire)).map(|wire| wire.from).collect();
    assert!(!starts.contains(&R[1]), "{starts:?}");
    group.loses = |_| false;
    group.run_until(|group| group.have_executed(&[1, 2], 2));
}
