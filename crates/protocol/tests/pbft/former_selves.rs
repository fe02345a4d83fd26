//! What a replica signed while somebody else had it, against what it says once it has recovered.

use crate::group::{Group, R, proof_of, signed};
use althing_protocol::pbft::{Checkpoint, NewView, PbftMessage, PrePrepare, Signed, ViewChange, Vote};
use althing_protocol::{Batch, Event};
use althing_types::{Digest, Instant, Seq, View};
use std::sync::Arc;

/// Replica `i` recovers by its disk, which is right.
fn recover(group: &mut Group, i: usize) {
    group.restart_in_doubt(i);
    group.run_until(|group| group.nodes[i].pbft.is_settled());
}

/// Broke liveness for good: of two view changes that of the later incarnation counted, whatever that was. One
/// from the end of time, signed by each of two replicas while somebody had it, silenced both for ever.
#[test]
fn a_view_change_from_the_far_future_does_not_silence_a_replica_that_recovered() {
    let mut group = Group::new(4);
    let (prepared, pre_prepared) = (vec![], vec![]);
    let last = ViewChange { view: View(1), incarnation: u64::MAX, stable: None, prepared, pre_prepared };
    for taken in [2, 3] {
        recover(&mut group, taken);
    }
    // Whoever has kept that can say it again.
    for (i, taken) in [(0, 2), (0, 3), (1, 2), (1, 3), (2, 3), (3, 2)] {
        group.receive(i, R[taken], PbftMessage::ViewChange(last.clone()));
    }
    for number in 1..=20 {
        group.submit(&signed(1, number));
        group.settle();
    }
    // Replica 1 leads the next view, then 2 and 3: each needs what the others ask for.
    group.down = vec![R[0]];
    group.submit(&signed(1, 21));
    group.run_until(|group| (1..4).all(|i| group.executed(i).contains(&(1, 21))));
}

/// Broke liveness for good: the first digest that a replica had signed for a checkpoint counted. Whoever had it
/// once could sign for all checkpoints to come, and say that in time.
#[test]
fn a_checkpoint_that_was_signed_ahead_does_not_hide_the_true_one() {
    let mut group = Group::new(4);
    for (i, taken) in [(0, 2), (0, 3), (2, 3), (3, 2)] {
        for seq in [4, 8] {
            let wrong = Checkpoint { seq: Seq(seq), state: Digest([9; 32]) };
            group.receive(i, R[taken], PbftMessage::Checkpoint(wrong));
        }
    }
    // Each of those that are up is needed.
    group.down = vec![R[1]];
    for number in 1..=8 {
        group.submit(&signed(1, number));
        group.settle();
    }
    group.run_until(|group| [0, 2, 3].iter().all(|i| group.nodes[*i].pbft.stable() == Seq(8)));
}

/// Broke everything for good: *f* + 1 may have signed that at different times.
#[test]
fn a_view_from_the_end_of_all_is_not_gone_to() {
    let mut group = Group::new(4);
    for from in [2, 3] {
        let (prepared, pre_prepared) = (vec![], vec![]);
        let view = View(u64::MAX);
        let last = ViewChange { view, incarnation: 0, stable: None, prepared, pre_prepared };
        for i in 0..2 {
            group.receive(i, R[from], PbftMessage::ViewChange(last.clone()));
        }
    }
    group.submit(&signed(1, 1));
    group.run_until(|group| (0..4).all(|i| group.executed(i) == [(1, 1)]));
    group.down = vec![R[3]];
    group.submit(&signed(1, 2));
    group.run_until(|group| (0..3).all(|i| group.executed(i).contains(&(1, 2))));
}

/// What a replica may have signed before anything was executed.
fn old_view_change() -> ViewChange {
    ViewChange { view: View(1), incarnation: 0, stable: None, prepared: vec![], pre_prepared: vec![] }
}

/// Broke agreement: of the three view changes for a new view one was by the former self of a replica that has
/// recovered, one by a correct replica that had been alone and has taken it back, and one by the replica that
/// somebody has now. Each of the first two was void only as long as nobody had anybody else.
#[test]
fn old_view_changes_of_one_that_recovered_and_one_that_came_back_start_no_view() {
    let mut group = Group::new(4);
    // Replica 3 gives up alone, and comes back. What it said then does not get lost.
    group.event(3, Event::Request(signed(9, 1)));
    group.lose();
    group.give_up(3);
    let taken_back = group.intercept_view_change(R[2]);
    assert_eq!(taken_back.content, old_view_change());
    group.run_until(|group| group.nodes[3].pbft.is_in_view() && group.nodes[3].pbft.view() == View(0));
    // Somebody had replica 2 sign the same, before it recovers.
    recover(&mut group, 2);
    group.settle();
    // A batch is decided at one replica, and two more stand for it.
    group.submit(&signed(1, 1));
    group.deliver(|wire| matches!(wire.message, PbftMessage::Commit(_)) && wire.to != R[3]);
    let decided = group.nodes[3].decisions.last().expect("it has executed it").clone();
    assert_eq!(decided.batch.requests[0].client.0, 1);
    // Now somebody has replica 1, which leads view 1.
    let old = |i: usize| Signed { signer: R[i], content: old_view_change(), proof: proof_of(R[i]) };
    let view_changes = vec![old(1), old(2), taken_back];
    let new_view = NewView { view: View(1), view_changes, proposals: vec![] };
    group.down = vec![R[3]];
    let batch = Arc::new(Batch { time: Instant(1), requests: vec![signed(2, 1)] });
    for i in [0, 2] {
        group.receive(i, R[1], PbftMessage::NewView(new_view.clone()));
        let proposal = PrePrepare { view: View(1), seq: decided.seq, batch: Arc::clone(&batch) };
        group.receive(i, R[1], PbftMessage::PrePrepare(proposal));
    }
    group.settle();
    for i in [0, 2] {
        let vote = Vote { view: View(1), seq: decided.seq, digest: batch.digest() };
        group.receive(i, R[1], PbftMessage::Commit(vote));
        let own = group.nodes[i].decisions.get(decided.seq.0 as usize - 1);
        assert!(own.is_none_or(|own| own.digest == decided.digest), "replica {i} decided something else");
    }
}

/// The state that it then fetched did not undo it: replicas that somebody had one after the other took nothing
/// from that client any more.
#[test]
fn what_was_never_executed_keeps_no_client_from_being_served() {
    let mut group = Group::new(4);
    let forged = Batch { time: Instant(1), requests: vec![signed(1, u64::MAX)] };
    let executed = (Seq(1), forged.digest(), Some(Arc::new(forged)));
    group.nodes[2].records.push([vec![6], althing_types::encode(&executed)].concat());
    group.restart_in_doubt(2);
    group.run_with_transfers(2, 0, |group| group.nodes[2].pbft.is_settled());
    group.event(2, Event::Request(signed(1, 1)));
    let passed_on = group.sent(R[2], |wire| match &wire.message {
        PbftMessage::Forward(request) => Some((request.client.0, request.number.0)),
        _ => None,
    });
    assert_eq!(passed_on, [(1, 1)]);
}
