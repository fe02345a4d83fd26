//! Ending at a checkpoint, and starting from one.

use crate::group::{CLOSER, Closed, Group, Node, R, Wire, paxos, proof_of, replica, settings, signed};
use althing_protocol::paxos::{PaxosMessage, PaxosSettings};
use althing_protocol::{Event, Protocol, Settings, Start};
use althing_types::{Digest, Quorums, Seq, View};

/// A group that has executed one request, and is then closed everywhere.
fn closed(n: usize) -> Group {
    let mut group = Group::new(n);
    group.work(1..=1);
    (0..n).for_each(|i| group.event(i, Event::Close(Seq(1))));
    group
}

fn has_ended(group: &Group, i: usize) -> bool {
    let is_proven = |(seq, _, votes): &Closed| {
        let majority = (group.nodes.len() / 2) + 1;
        assert!(votes.iter().all(|(signer, proof)| *proof == proof_of(*signer)));
        *seq == Seq(4) && votes.len() >= majority && votes.is_sorted_by_key(|(signer, _)| *signer)
    };
    group.nodes[i].closed.as_ref().is_some_and(is_proven)
}

impl Group {
    /// Replica `i`, whose instance has ended, goes on in a group of `n`.
    fn succeed(&mut self, i: usize, n: usize) {
        let settings = self.next_settings();
        let node = &mut self.nodes[i];
        let (seq, state, _) = node.closed.take().expect("its instance has ended");
        let quorums = Quorums::crash(n, (n - 1) / 2).expect("enough replicas");
        let successor = node.paxos.successor(replica(i), quorums, &settings, Some((seq, state)));
        node.paxos = successor.expect("good settings");
        node.timers.clear();
        node.records.clear();
        self.wires.retain(|wire| wire.from != replica(i));
        self.event(i, Event::Start(Start::Handover { executed: seq, has_state: true }));
    }

    /// Its checkpoints lie elsewhere.
    fn next_settings(&self) -> Settings {
        Settings::Paxos(PaxosSettings { checkpoint_period: 3, log_size: 9, ..self.settings.clone() })
    }

    /// A replica that has nothing joins the `n - 1` others, whose instances have started from `begun`.
    fn join(&mut self, begun: (Seq, Digest), n: usize, start: Start) {
        let i = self.nodes.len();
        let quorums = Quorums::crash(n, (n - 1) / 2).expect("enough replicas");
        let template = paxos(0, i, &self.settings);
        let successor = template.successor(replica(i), quorums, &self.next_settings(), Some(begun));
        self.nodes.push(Node::new(successor.expect("good settings")));
        self.event(i, Event::Start(start));
    }
}

#[test]
fn a_closed_instance_is_filled_up_to_its_checkpoint_and_no_further() {
    for n in [1, 3, 4] {
        let mut group = closed(n);
        group.is_restored = true;
        (1..9).for_each(|number| group.submit(&signed(2, number)));
        group.run_until(|group| (0..n).all(|i| has_ended(group, i)));
        (2..9).for_each(|client| group.submit(&signed(client, 100)));
        group.settle();
        for node in &group.nodes {
            assert_eq!((node.paxos.executed(), node.decisions.len()), (Seq(4), 4));
        }
    }
}

#[test]
fn a_leader_that_does_not_bring_it_to_its_end_is_replaced() {
    let mut group = Group::new(3);
    group.work(1..=1);
    group.down = vec![R[0]];
    (1..3).for_each(|i| group.event(i, Event::Close(Seq(1))));
    group.run_until(|group| (1..3).all(|i| has_ended(group, i)));
    assert!((1..3).all(|i| group.nodes[i].paxos.view() >= View(1)));
}

/// What the leader proposed before it knew of the end may even be accepted by all.
#[test]
fn what_was_proposed_beyond_the_end_is_void() {
    let mut group = Group::with(3, PaxosSettings { adaptive_batching: false, ..settings() });
    (1..4).chain([CLOSER]).chain(5..8).for_each(|client| group.submit(&signed(client, 1)));
    group.run_until(|group| (0..3).all(|i| has_ended(group, i)));
    let accepted = |wire: &Wire| matches!(&wire.message, PaxosMessage::Accepted(vote) if vote.seq == Seq(7));
    assert!(group.history.iter().any(accepted), "it was accepted");
    assert!((0..3).all(|i| group.executed(i) == [(1, 1), (2, 1), (3, 1), (CLOSER, 1)]));
}

#[test]
fn only_the_last_checkpoint_is_signed() {
    let mut group = Group::new(3);
    group.work(1..=9);
    assert!(group.nodes.iter().all(|node| node.paxos.stable() == Seq(8)));
    assert!(group.history.iter().all(|wire| wire.proof.is_none()));
    group.submit(&signed(CLOSER, 1));
    group.run_until(|group| group.nodes.iter().all(|node| node.closed.is_some()));
    let signed: Vec<_> = group.history.iter().filter(|wire| wire.proof.is_some()).collect();
    let is_last =
        |wire: &Wire| matches!(&wire.message, PaxosMessage::Checkpoint(last) if last.seq == Seq(12));
    assert!(signed.len() >= 6 && signed.iter().all(|wire| is_last(wire)));
}

#[test]
fn the_successor_goes_on_from_there_with_what_waits_and_who_joins() {
    let mut group = closed(3);
    group.run_until(|group| (0..3).all(|i| has_ended(group, i)));
    group.submit(&signed(5, 1));
    let (seq, state, _) = group.nodes[0].closed.clone().expect("it has ended");
    (0..3).for_each(|i| group.succeed(i, 4));
    group.join((seq, state), 4, Start::Handover { executed: Seq(0), has_state: false });
    group.run_until(|group| group.nodes[3].fetching.is_some());
    assert_eq!(group.nodes[3].paxos.answers_from(), None, "it has no state to answer from");
    group.transfer(3, 0);
    group.run_until(|group| (0..4).all(|i| group.executed(i).contains(&(5, 1))));
    // Three of four make a majority now.
    group.down = vec![R[0]];
    (7..20).for_each(|client| group.submit(&signed(client, 1)));
    group.run_until(|group| group.have_executed(&[1, 2, 3], 15));
    group.run_until(|group| (1..4).all(|i| group.nodes[i].paxos.stable() >= Seq(15)));
    assert!(group.nodes.iter().all(|node| node.evidence.is_empty()));
}

/// The others may be in the next epoch by then, and say only that.
#[test]
fn who_has_signed_the_end_gets_there_from_its_own_disk_alone() {
    let mut group = Group::new(3);
    group.unkept = R[..3].to_vec();
    group.work(1..=1);
    // This one is told what is decided, and has accepted none of it.
    group.loses = |wire| {
        let is_accept = matches!(&wire.message, PaxosMessage::Accept(_));
        is_accept && wire.to == R[2]
    };
    group.work(2..=2);
    group.submit(&signed(CLOSER, 1));
    let has_signed = |wire: &Wire| wire.from == R[2] && wire.proof.is_some();
    group.run_until(|group| group.history.iter().any(has_signed));
    let expected = group.executed(2);
    assert_eq!(expected, [(1, 1), (1, 2), (CLOSER, 1)]);
    group.down = vec![R[0], R[1]];
    group.nodes[2].decisions.clear();
    group.history.clear();
    group.restart(2);
    assert_eq!((group.executed(2), group.nodes[2].paxos.executed()), (expected, Seq(4)));
    assert!(group.history.iter().any(has_signed), "and says so again");
}

/// Who has the proof may be gone, and told others no more than that the checkpoint is stable.
#[test]
fn who_has_fetched_the_state_at_the_end_signs_it_too() {
    let mut group = Group::new(3);
    group.down = vec![R[2]];
    group.loses = |wire| wire.from == R[0] && wire.proof.is_some();
    group.work(1..=2);
    group.submit(&signed(CLOSER, 1));
    group.run_until(|group| group.nodes[1].paxos.stable() == Seq(4));
    assert!(has_ended(&group, 0) && !has_ended(&group, 1), "it knows by its word");
    group.down = vec![R[0]];
    group.loses = |_| false;
    group.run_with_transfers(2, 1, |group| group.nodes[2].paxos.stable() == Seq(4));
    // As the engine says of such a state.
    group.event(2, Event::Close(Seq(4)));
    group.run_until(|group| has_ended(group, 1) && has_ended(group, 2));
}

#[test]
fn who_is_cut_off_where_its_instance_ends_ends_it_again() {
    let mut group = closed(3);
    group.run_until(|group| (0..3).all(|i| has_ended(group, i)));
    // All of them at once: none has kept the proof.
    group.lose();
    (0..3).for_each(|i| group.restart(i));
    assert!((0..3).all(|i| !has_ended(&group, i)));
    group.run_until(|group| (0..3).all(|i| has_ended(group, i)));
}

#[test]
fn who_lost_its_disk_learns_where_the_successor_started() {
    let mut group = closed(3);
    group.run_until(|group| (0..3).all(|i| has_ended(group, i)));
    let (seq, state, _) = group.nodes[0].closed.clone().expect("it has ended");
    (0..2).for_each(|i| group.succeed(i, 3));
    group.nodes.pop();
    group.join((seq, state), 3, Start::Amnesia);
    assert!(!group.nodes[2].paxos.is_voting());
    group.run_with_transfers(2, 0, |group| group.nodes[2].paxos.is_voting());
    group.submit(&signed(3, 1));
    group.run_with_transfers(2, 0, |group| (0..3).all(|i| group.executed(i).contains(&(3, 1))));
}
