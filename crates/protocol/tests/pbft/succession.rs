//! Ending at a checkpoint, and starting from one with other members.

use crate::group::{CLOSER, Group, R, Wire, proof_of, settings, signed, with_macs};
use althing_protocol::pbft::{Pbft, PbftMessage, PbftSettings};
use althing_protocol::{Action, Event, PersistId, Protocol, Start};
use althing_types::{Quorums, Seq, View};

/// A group that has executed one request, and is then closed everywhere.
fn closed() -> Group {
    let mut group = Group::with(4, PbftSettings { pipeline: 16, ..settings() });
    group.submit(&signed(1, 1));
    group.settle();
    (0..4).for_each(|i| group.event(i, Event::Close(Seq(1))));
    group
}

fn has_ended(group: &Group, i: usize) -> bool {
    group.nodes[i].closed.as_ref().is_some_and(|(seq, _, votes)| *seq == Seq(4) && votes.len() >= 3)
}

#[test]
fn a_closed_instance_is_filled_up_to_its_checkpoint_and_no_further() {
    let mut group = closed();
    (1..9).for_each(|number| group.submit(&signed(2, number)));
    group.run_until(|group| (0..4).all(|i| has_ended(group, i)));
    (2..9).for_each(|client| group.submit(&signed(client, 100)));
    group.settle();
    for i in 0..4 {
        assert_eq!(group.nodes[i].pbft.executed(), Seq(4));
        assert_eq!(group.nodes[i].decisions.len(), 4);
    }
}

#[test]
fn a_primary_that_does_not_bring_it_to_its_end_is_voted_out() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    group.settle();
    group.down = vec![R[0]];
    (1..4).for_each(|i| group.event(i, Event::Close(Seq(1))));
    group.run_until(|group| (1..4).all(|i| has_ended(group, i)));
    assert!((1..4).all(|i| group.nodes[i].pbft.view() >= View(1)));
}

/// What the primary proposed before it knew of the end may even be committed.
#[test]
fn what_was_proposed_beyond_the_end_is_void() {
    let mut group = Group::with(4, PbftSettings { pipeline: 16, adaptive_batching: false, ..settings() });
    (1..4).chain([CLOSER]).chain(5..8).for_each(|client| group.submit(&signed(client, 1)));
    group.run_until(|group| (0..4).all(|i| has_ended(group, i)));
    let commits = |wire: &Wire| match wire.message {
        PbftMessage::Commit(vote) => Some(vote.seq),
        _ => None,
    };
    assert!(R.iter().all(|id| group.sent(*id, commits).contains(&Seq(7))), "it was committed");
    assert!((0..4).all(|i| group.executed(i) == [(1, 1), (2, 1), (3, 1), (CLOSER, 1)]));
}

#[test]
fn the_successor_goes_on_from_there_with_what_waits_signed() {
    let mut group = closed();
    group.run_until(|group| (0..4).all(|i| has_ended(group, i)));
    group.submit(&signed(5, 1));
    group.submit(&with_macs(6, 1));
    let (seq, state, votes) = group.nodes[0].closed.clone().expect("it has ended");
    assert!(votes.iter().all(|(signer, proof)| *proof == proof_of(*signer)));
    (0..4).for_each(|i| group.succeed(i, 5));
    group.join((seq, state), 5);
    group.run_until(|group| group.nodes[4].fetching.is_some());
    assert_eq!(group.nodes[4].pbft.answers_from(), None, "it has no state to answer from");
    group.transfer(4, 0);
    group.run_until(|group| (0..5).all(|i| group.executed(i).contains(&(5, 1))));
    assert!((0..5).all(|i| !group.executed(i).contains(&(6, 1))), "its client asks again");
    // Four of five make a quorum now.
    group.down = vec![R[1]];
    (7..20).for_each(|client| group.submit(&signed(client, 1)));
    group.run_until(|group| [0, 2, 3, 4].iter().all(|i| group.executed(*i).len() == 15));
    group.run_until(|group| [0, 2, 3, 4].iter().all(|i| group.nodes[*i].pbft.stable() >= Seq(16)));
    assert!(group.nodes.iter().all(|node| node.evidence.is_empty()));
}

#[test]
fn the_successor_survives_the_loss_of_its_first_primary() {
    let mut group = closed();
    group.run_until(|group| (0..4).all(|i| has_ended(group, i)));
    group.submit(&signed(5, 1));
    (0..4).for_each(|i| group.succeed(i, 4));
    group.down = vec![R[0]];
    group.lose();
    group.run_until(|group| (1..4).all(|i| group.executed(i).contains(&(5, 1))));
    // A view change without progress builds on the start too: its certificate has no votes.
    group.down = vec![R[1]];
    group.submit(&signed(8, 1));
    group.run_until(|group| [2, 3].iter().all(|i| group.executed(*i).contains(&(8, 1))));
}

/// Storage may still be busy with the records of the predecessor, and says so one by one.
#[test]
fn records_of_the_successor_are_numbered_on() {
    let mut group = closed();
    group.run_until(|group| (0..4).all(|i| has_ended(group, i)));
    let (now, node, mut actions) = (group.now, &mut group.nodes[1], vec![]);
    node.pbft.handle(now, Event::Request(signed(10, 1)), &mut actions);
    let (seq, state, _) = node.closed.clone().expect("it has ended");
    let quorums = Quorums::byzantine(4, 1).expect("four are enough");
    let settings = node.pbft.settings().expect("PBFT has successors");
    let successor = node.pbft.successor(R[0], quorums, &settings, Some((seq, state)));
    let mut successor = successor.expect("good settings");
    successor.handle(now, Event::Start(Start::Handover { executed: seq, has_state: true }), &mut actions);
    let first = actions.iter().find_map(|action| match action {
        Action::Persist { id, .. } => Some(*id),
        _ => None,
    });
    let first = first.expect("as primary, it proposes what waits");
    let says = |successor: &mut Pbft, id| {
        let mut actions = vec![];
        successor.handle(now, Event::Persisted(id), &mut actions);
        actions.iter().any(|action| matches!(action, Action::Broadcast { .. }))
    };
    assert!(first.0 > 1 && (1..first.0).all(|id| !says(&mut successor, PersistId(id))));
    assert!(says(&mut successor, first));
}
