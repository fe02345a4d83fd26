//! Schedules that once broke safety or liveness, each with what broke and why.

use crate::group::{Group, LIAR, R, VIEW_TIMER, proof_of, settings_with_batches, signed, with_macs};
use althing_protocol::pbft::{NewView, PbftMessage, PrePrepare, Signed, ViewChange, Vote};
use althing_protocol::{Batch, Event};
use althing_types::{Digest, ReplicaId, Seq, View};
use std::sync::Arc;
use std::time::Duration;

fn group() -> Group {
    Group::with(4, settings_with_batches())
}

/// Broke safety: a new view left out null requests at its end, though one may have committed, as the
/// primary's fill for a learner does. Its number was then given to another batch.
#[test]
fn a_committed_null_request_keeps_its_number() {
    let mut group = group();
    // The primary fills up, and only replica 2 gets the commits.
    group.receive(0, R[3], PbftMessage::FillTo { target: Seq(1) });
    group.deliver(|wire| {
        wire.to == R[3] || (matches!(wire.message, PbftMessage::Commit(_)) && wire.to != R[2])
    });
    assert_eq!(group.nodes[2].decisions.len(), 1);
    assert_eq!(group.nodes[2].decisions[0].digest, Digest::NULL);
    group.down = vec![R[0]];
    group.submit(&signed(1, 1));
    group.run_until(|group| (1..4).all(|i| group.executed(i) == [(1, 1)]));
    for i in [1, 3] {
        assert_eq!(group.nodes[i].decisions[0].digest, Digest::NULL, "replica {i} diverged at 1");
    }
}

/// Broke liveness: the timer for a new view ran only while a quorum asked for exactly that view. One
/// replica that was a little ahead, and asked for the next, stopped the others' timers for ever.
#[test]
fn one_replica_that_asks_for_a_later_view_does_not_disarm_the_others() {
    let mut group = group();
    group.down = vec![R[1]];
    group.submit(&signed(1, 1));
    group.lose();
    // All three that are up change to view 1, whose primary is down.
    group.give_up(2);
    group.give_up(3);
    group.deliver(|wire| !matches!(wire.message, PbftMessage::ViewChange(_)));
    group.give_up(0);
    group.settle();
    for i in [2, 3] {
        assert!(group.nodes[i].timers.contains_key(&VIEW_TIMER), "replica {i} waits for nothing");
    }
    group.run_until(|group| [0, 2, 3].iter().all(|i| group.executed(*i) == [(1, 1)]));
}

/// Broke liveness: a client whose MAC is good at one replica only poisons the batch that this replica
/// proposes as primary. It proposed the request again in every view it led: four such clients, one for
/// each replica, stopped the service, and with it the requests of honest clients.
#[test]
fn clients_with_macs_good_for_one_replica_each_do_not_stop_the_service() {
    let mut group = group();
    for i in 0..4 {
        group.event(i, Event::Request(with_macs(LIAR + i as u64, 1)));
    }
    group.submit(&signed(1, 1));
    // Before the network heals, the proposals of view 0 are lost.
    group.deliver(|wire| matches!(wire.message, PbftMessage::PrePrepare(_)));
    for i in 1..4 {
        group.give_up(i);
    }
    group.run_until(|group| (0..4).all(|i| group.executed(i).contains(&(1, 1))));
}

/// Broke liveness: a new primary did not hold in Q what its own new view proposed. With one replica
/// silent too few then vouched for what had prepared in that view, too many denied what had prepared
/// before it, and no later view could decide the number.
#[test]
fn a_new_primary_vouches_for_what_its_new_view_proposes() {
    let mut group = group();
    // Replica 0, faulty, has the batch prepare at 2 and 3; replica 1 never gets the proposal.
    for i in [0, 2, 3] {
        group.event(i, Event::Request(signed(1, 1)));
    }
    group.deliver(|wire| match wire.message {
        PbftMessage::PrePrepare(_) => wire.to == R[1],
        PbftMessage::Commit(_) | PbftMessage::Forward(_) | PbftMessage::FetchBatch { .. } => true,
        _ => false,
    });
    group.give_up(2);
    group.give_up(3);
    // Replica 1 fetches the batch and starts view 1, but only replica 2 hears of it and prepares.
    let (mut has_started, mut prepared) = (false, None);
    group.deliver(|wire| {
        let is_lost = wire.from == R[0] || wire.to == R[0];
        match wire.message {
            _ if is_lost => true,
            PbftMessage::Forward(_) | PbftMessage::Commit(_) => true,
            PbftMessage::NewView(_) => {
                has_started = true;
                wire.to != R[2]
            }
            PbftMessage::BatchBody { .. } => has_started || wire.from == R[3],
            PbftMessage::FetchBatch { .. } => has_started,
            PbftMessage::Prepare(vote) if wire.from == R[2] && vote.view == View(1) => {
                prepared = Some(vote);
                false
            }
            _ => false,
        }
    });
    // With the vote of replica 0, which then falls silent, the batch prepares at 2 alone.
    group.receive(2, R[0], PbftMessage::Prepare(prepared.expect("replica 2 prepares in view 1")));
    group.lose();
    group.down = vec![R[0]];
    group.give_up(2);
    group.give_up(3);
    group.run_until(|group| (1..4).all(|i| group.executed(i) == [(1, 1)]));
}

/// Replica 3 alone gives up on view 0.
fn give_up_alone(group: &mut Group) {
    group.event(3, Event::Request(signed(9, 1)));
    group.lose();
    group.give_up(3);
}

/// Broke safety: a view change is a vote on every number, that nothing has prepared there and that its
/// signer votes no more in earlier views. One that a replica signed before it lost its disk was still
/// good when it voted again, and a faulty primary started a view with it that forgot its new votes.
#[test]
fn a_view_change_from_before_the_disk_was_lost_is_void() {
    let mut group = group();
    give_up_alone(&mut group);
    let former = group.intercept_view_change(R[1]);
    group.recover(3, 0);
    // Up to a checkpoint, so that no view change has anything to claim.
    for number in 1..=4 {
        if group.nodes[2].pbft.stable() < group.nodes[0].pbft.executed() {
            group.submit(&signed(2, number));
            group.run_for(Duration::from_millis(500));
        }
    }
    assert_eq!(group.nodes[3].pbft.view(), View(0));
    // From here on replica 1 is faulty. Replica 0 commits a batch with its help and that of replica 3;
    // nothing of this reaches replica 2, which gives up.
    let seq = group.nodes[0].pbft.executed().next();
    group.event(0, Event::Request(signed(5, 1)));
    group.deliver(|wire| {
        wire.to == R[2] || (matches!(wire.message, PbftMessage::Commit(_)) && wire.to != R[0])
    });
    assert_eq!(group.nodes[0].pbft.executed(), seq);
    group.event(2, Event::Request(signed(6, 1)));
    group.lose();
    group.give_up(2);
    let ignorant = group.intercept_view_change(R[1]);
    assert!(ignorant.content.prepared.is_empty() && ignorant.content.stable_seq().next() == seq);
    start_view_without_memory(&mut group, ignorant, former);
    propose_another(&mut group, seq);
    let committed = group.nodes[0].decisions[seq.0 as usize - 1].digest;
    for i in [2, 3] {
        let at_seq = group.nodes[i].decisions.get(seq.0 as usize - 1).map(|decision| decision.digest);
        assert!(at_seq.is_none_or(|digest| digest == committed), "replica {i} diverged at {seq}");
    }
}

/// Replica 1, faulty, starts view 1 from view changes that all know nothing of the last batch.
fn start_view_without_memory(group: &mut Group, ignorant: Signed<ViewChange>, former: Signed<ViewChange>) {
    let stable = ignorant.content.stable.clone();
    let fake = ViewChange { view: View(1), incarnation: 0, stable, prepared: vec![], pre_prepared: vec![] };
    let fake = Signed { signer: R[1], content: fake, proof: proof_of(R[1]) };
    let new_view = NewView { view: View(1), view_changes: vec![fake, ignorant, former], proposals: vec![] };
    for i in [2, 3] {
        group.receive(i, R[1], PbftMessage::NewView(new_view.clone()));
    }
}

/// Replica 1, faulty, proposes another batch at `seq` in view 1 to replicas 2 and 3, and commits it.
fn propose_another(group: &mut Group, seq: Seq) {
    let batch = Arc::new(Batch { time: group.now, requests: vec![signed(7, 1)] });
    let digest = batch.digest();
    for i in [2, 3] {
        let proposal = PrePrepare { view: View(1), seq, batch: Arc::clone(&batch) };
        group.receive(i, R[1], PbftMessage::PrePrepare(proposal));
        group.receive(i, R[1], PbftMessage::Commit(Vote { view: View(1), seq, digest }));
    }
    let is_cut_off = |i: ReplicaId| i == R[0] || i == R[1];
    group.deliver(|wire| is_cut_off(wire.from) || wire.to == R[0]);
}

/// Broke accountability, and liveness: the view changes of a replica before and after it lost its disk
/// contradict each other. It was accused with proof, and its new ones were not counted.
#[test]
fn a_replica_is_not_held_to_what_it_signed_before_it_lost_its_disk() {
    let mut group = group();
    give_up_alone(&mut group);
    // It reaches all; one alone moves nobody.
    group.settle();
    group.recover(3, 0);
    group.down = vec![R[0]];
    group.submit(&signed(8, 1));
    group.run_until(|group| (1..4).all(|i| group.executed(i).contains(&(8, 1))));
    // Nor does it help to repeat the old one.
    let said = group.sent(R[3], |wire| match &wire.message {
        PbftMessage::ViewChange(_) => Some(wire.message.clone()),
        _ => None,
    });
    group.receive(1, R[3], said[0].clone());
    for (i, node) in group.nodes.iter().enumerate() {
        assert!(node.evidence.is_empty(), "replica {i} accuses: {:?}", node.evidence);
    }
}

/// Broke the bound on memory: a batch for any view was kept, in case the others decide it, and every
/// replica is the primary of some view.
#[test]
fn a_batch_from_a_replica_that_leads_nothing_is_not_kept() {
    let mut group = group();
    let batch = Arc::new(Batch { time: group.now, requests: vec![signed(9, 1)] });
    let digest = batch.digest();
    let proposal = PrePrepare { view: View(3), seq: Seq(1), batch };
    let before = group.nodes[0].pbft.footprint();
    group.receive(0, R[3], PbftMessage::PrePrepare(proposal));
    group.receive(0, R[3], PbftMessage::FetchBatch { seq: Seq(1), digest });
    let bodies = group.sent(R[0], |wire| matches!(wire.message, PbftMessage::BatchBody { .. }).then_some(()));
    assert_eq!((bodies.len(), group.nodes[0].pbft.footprint()), (0, before));
}

/// Broke liveness: a checkpoint was said, and a restart forgot the state that it stood for. One liar that
/// alone held the certificate then had every new view start above what anybody could execute.
#[test]
fn a_restart_does_not_lose_the_state_that_a_checkpoint_stands_for() {
    let mut group = Group::new(4);
    // Replica 1, faulty, is the only one that has heard all three.
    let stable = Some(group.certify_unheard());
    group.down = vec![R[1], R[3]];
    for i in [0, 2] {
        group.restart(i);
        group.run_for(Duration::from_millis(300));
    }
    group.down = vec![R[1]];
    for i in [0, 2, 3] {
        group.event(i, Event::Request(signed(2, 1)));
    }
    group.lose();
    let (view, incarnation) = (View(1), 0);
    let lie = ViewChange { view, incarnation, stable, prepared: vec![], pre_prepared: vec![] };
    for i in [0, 2, 3] {
        group.receive(i, R[1], PbftMessage::ViewChange(lie.clone()));
    }
    for i in [0, 2, 3] {
        if group.nodes[i].pbft.is_in_view() {
            group.give_up(i);
        }
    }
    group.run_until(|group| group.nodes[3].fetching.is_some() && group.executed(0).len() >= 4);
    group.transfer(3, 0);
    group.run_until(|group| [0, 2, 3].into_iter().all(|i| group.executed(i).contains(&(2, 1))));
}
