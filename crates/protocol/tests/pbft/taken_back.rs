//! View changes that nobody stands for any more: of a replica that came back alone, and of one that has
//! lost its disk since. What one faulty replica makes of them.

use crate::group::{Group, R, VIEW_TIMER, Wire, proof_of, settings, signed};
use althing_protocol::pbft::{
    CheckpointCertificate, Claim, NewView, PbftMessage, PrePrepare, Signed, ViewChange, Vote,
};
use althing_protocol::{Batch, Decision, Event, Misbehaviour};
use althing_types::{Digest, Instant, Seq, View};
use std::sync::Arc;
use std::time::Duration;

const LOG: u64 = 8;

fn is_in(group: &Group, i: usize, view: u64) -> bool {
    group.nodes[i].pbft.view() == View(view) && group.nodes[i].pbft.is_in_view()
}

fn stable_of(signed: &Signed<ViewChange>) -> u64 {
    signed.content.stable.as_ref().map_or(0, |certificate| certificate.checkpoint.seq.0)
}

/// Replica `i` alone gives up on view 0. Nobody hears of it, but what it said is not lost for good.
fn ask_alone(group: &mut Group, i: usize) -> Signed<ViewChange> {
    group.event(i, Event::Request(signed(5 + i as u64, 1)));
    group.lose();
    group.give_up(i);
    group.intercept_view_change(R[0])
}

/// Replica 3 asks for view 1 alone, and comes back.
fn come_back(group: &mut Group) -> Signed<ViewChange> {
    let taken_back = ask_alone(group, 3);
    group.run_until(|group| is_in(group, 3, 0));
    group.settle();
    taken_back
}

/// Replica 2 asks for view 1 alone, loses its disk, and votes again in view 0.
fn forget(group: &mut Group) -> Signed<ViewChange> {
    let forgotten = ask_alone(group, 2);
    group.recover(2, 0);
    group.settle();
    forgotten
}

/// What replica 1 signs as if nothing had ever happened.
fn lie(signer: usize) -> Signed<ViewChange> {
    let (view, incarnation, stable) = (View(1), 0, None);
    let content = ViewChange { view, incarnation, stable, prepared: vec![], pre_prepared: vec![] };
    Signed { signer: R[signer], content, proof: proof_of(R[signer]) }
}

/// A batch is decided at replica 3 alone. It and replicas 0 and 2 have committed it.
fn decide_at_one(group: &mut Group) -> Decision {
    assert!((0..4).all(|i| is_in(group, i, 0)));
    group.submit(&signed(1, 1));
    group.deliver(|wire| matches!(wire.message, PbftMessage::Commit(_)) && wire.to != R[3]);
    let decided = group.nodes[3].decisions.last().expect("it has executed it").clone();
    assert_eq!(decided.batch.requests[0].client.0, 1);
    decided
}

/// Replica 1, which leads view 1, starts it with these view changes, and proposes another batch there, for
/// the number of the one that was decided.
fn start_falsely(group: &mut Group, view_changes: Vec<Signed<ViewChange>>, decided: &Decision) {
    let new_view = NewView { view: View(1), view_changes, proposals: vec![] };
    let batch = Arc::new(Batch { time: Instant(1), requests: vec![signed(2, 1)] });
    let (view, seq, digest) = (View(1), decided.seq, batch.digest());
    group.down = vec![R[3]];
    for i in [0, 2] {
        group.receive(i, R[1], PbftMessage::NewView(new_view.clone()));
        group.receive(i, R[1], PbftMessage::PrePrepare(PrePrepare { view, seq, batch: Arc::clone(&batch) }));
    }
    group.settle();
    for i in [0, 2] {
        group.receive(i, R[1], PbftMessage::Commit(Vote { view, seq, digest }));
        let own = group.nodes[i].decisions.get(seq.0 as usize - 1);
        assert!(own.is_none_or(|own| own.digest == decided.digest), "replica {i} decided something else");
    }
}

/// The proof of a checkpoint that all have made.
fn certificate(group: &Group, seq: Seq) -> CheckpointCertificate {
    let made = group.sent(R[0], |wire| match &wire.message {
        PbftMessage::Checkpoint(checkpoint) if checkpoint.seq == seq => Some(*checkpoint),
        _ => None,
    });
    CheckpointCertificate { checkpoint: made[0], votes: [0, 1, 3].map(|i| (R[i], proof_of(R[i]))).to_vec() }
}

/// Whoever came back later had to see the other one commit far above what that had asked with, or had
/// come so far itself: one of the two view changes voids the other.
#[test]
fn old_view_changes_of_one_that_came_back_and_one_that_forgot_start_no_view() {
    for forgets_first in [false, true] {
        let mut group = Group::new(4);
        let (first, second) = if forgets_first {
            (forget(&mut group), come_back(&mut group))
        } else {
            (come_back(&mut group), forget(&mut group))
        };
        assert!(stable_of(&first) + LOG <= stable_of(&second));
        let decided = decide_at_one(&mut group);
        let (of_2, of_3) = if forgets_first { (first, second) } else { (second, first) };
        start_falsely(&mut group, vec![lie(1), of_2, of_3], &decided);
        for i in [0, 2] {
            let evidence = &group.nodes[i].evidence;
            assert!(evidence.iter().any(|e| e.misbehaviour == Misbehaviour::InvalidNewView(View(1))));
            assert!(is_in(&group, i, 0));
        }
        group.down.clear();
        group.run_until(|group| (0..4).all(|i| group.executed(i).contains(&(1, 1))));
        assert!(
            (0..4).all(|i| group.nodes[i].decisions[decided.seq.0 as usize - 1].digest == decided.digest)
        );
    }
}

/// Each waits for the other's commits. Only a new view helps, and then both are held to what they asked with.
#[test]
fn of_one_that_waits_and_one_that_forgot_neither_comes_back_below_the_other() {
    let mut group = Group::new(4);
    let waits = ask_alone(&mut group, 3);
    let forgotten = ask_alone(&mut group, 2);
    assert_eq!((stable_of(&waits), stable_of(&forgotten)), (0, 0));
    group.restart_without_disk(2);
    group.loses = |wire| matches!(wire.message, PbftMessage::ViewChange(_));
    group.run_for(Duration::from_secs(60));
    assert!(!group.nodes[2].pbft.is_voting() && !group.nodes[3].pbft.is_in_view());
    assert!((0..4).all(|i| group.nodes[i].pbft.executed() == Seq(0)));
    group.loses = |_| false;
    while !group.nodes[2].pbft.is_voting() {
        group.run_until(|group| group.nodes[2].pbft.is_voting() || group.nodes[2].fetching.is_some());
        if group.nodes[2].fetching.is_some() {
            group.transfer(2, 0);
        }
    }
    group.submit(&signed(1, 1));
    group.run_until(|group| (0..4).all(|i| group.executed(i).contains(&(1, 1))));
}

/// The former self of replica 2 was not correct: it ran on an old copy of its disk, or in somebody's hands.
#[test]
fn what_a_faulty_former_self_signed_starts_no_view() {
    let mut group = Group::new(4);
    let taken_back = come_back(&mut group);
    group.recover(2, 0);
    group.settle();
    let decided = decide_at_one(&mut group);
    start_falsely(&mut group, vec![lie(1), lie(2), taken_back], &decided);
}

/// What they know has to last.
#[test]
fn what_a_faulty_former_self_signed_starts_no_view_after_a_restart_either() {
    let mut group = Group::new(4);
    let taken_back = come_back(&mut group);
    group.recover(2, 0);
    group.settle();
    let decided = decide_at_one(&mut group);
    for i in [0, 2] {
        group.restart(i);
    }
    group.lose();
    start_falsely(&mut group, vec![lie(1), lie(2), taken_back], &decided);
}

/// One replica in that view is enough: it stands for another batch there, a faulty one says that this prepared,
/// and the next new view chooses what prepared last.
#[test]
fn nobody_stands_for_anything_in_a_view_that_a_faulty_former_self_helped_to_start() {
    let mut group = Group::new(4);
    let taken_back = come_back(&mut group);
    group.recover(2, 0);
    group.settle();
    group.restart(2);
    group.settle();
    // Replica 2 hears nothing of what replica 3 decides, with the help of 0 and 1.
    group.submit(&signed(1, 1));
    group.deliver(|wire| {
        wire.to == R[2] || (matches!(wire.message, PbftMessage::Commit(_)) && wire.to != R[3])
    });
    let decided = group.nodes[3].decisions.last().expect("it has executed it").clone();
    assert_eq!(decided.batch.requests[0].client.0, 1);
    // Now somebody has replica 1, and replica 3 is not heard.
    group.down = vec![R[1], R[3]];
    let new_view =
        NewView { view: View(1), view_changes: vec![lie(1), lie(2), taken_back], proposals: vec![] };
    group.receive(2, R[1], PbftMessage::NewView(new_view));
    let batch = Arc::new(Batch { time: Instant(1), requests: vec![signed(2, 1)] });
    let (seq, digest) = (decided.seq, batch.digest());
    let proposal = PrePrepare { view: View(1), seq, batch: Arc::clone(&batch) };
    group.receive(2, R[1], PbftMessage::PrePrepare(proposal));
    group.settle();
    let claim = Claim { seq, digest, view: View(1) };
    let stable = group.nodes[1].pbft.stable();
    let certificate = certificate(&group, stable);
    let (prepared, pre_prepared) = (vec![claim], vec![claim]);
    let next =
        ViewChange { view: View(2), incarnation: 0, stable: Some(certificate), prepared, pre_prepared };
    for i in [0, 2] {
        group.receive(i, R[1], PbftMessage::ViewChange(next.clone()));
    }
    for i in [0, 2] {
        if group.nodes[i].timers.contains_key(&VIEW_TIMER) {
            group.give_up(i);
        }
    }
    group.settle();
    let vote = Vote { view: View(2), seq, digest };
    for message in [PbftMessage::Prepare(vote), PbftMessage::Commit(vote)] {
        for i in [0, 2] {
            group.receive(i, R[1], message.clone());
        }
        group.settle();
    }
    group.down = vec![R[1]];
    group.run_until(|group| [0, 2, 3].iter().all(|i| group.executed(*i).contains(&(1, 1))));
    for i in [0, 2] {
        let own = &group.nodes[i].decisions[seq.0 as usize - 1];
        assert_eq!(own.digest, decided.digest, "replica {i} decided something else");
    }
}

/// Somebody wrote onto the disk of replica 2, before it recovered, that it had committed in view 1: there it would
/// have seen a quorum vote. Nothing else of that is left, for it commits nothing itself meanwhile.
fn recover_from_a_forged_commit(group: &mut Group) {
    let vote = Vote { view: View(1), seq: group.nodes[2].pbft.stable().next(), digest: Digest([9; 32]) };
    let prepared = [vec![1], althing_types::encode(&vote)].concat();
    group.nodes[2].records.push(prepared);
    group.restart_in_doubt(2);
    group.loses = |wire| wire.to == R[2] && matches!(wire.message, PbftMessage::Prepare(_));
    group.run_until(|group| group.nodes[2].pbft.is_settled());
    group.settle();
    group.loses = |_| false;
}

/// What was forged ends with the doubt, on the disk as in memory.
#[test]
fn a_commit_that_was_forged_opens_no_view_once_the_replica_has_recovered_and_starts_again() {
    let mut group = Group::new(4);
    let taken_back = come_back(&mut group);
    recover_from_a_forged_commit(&mut group);
    group.restart(2);
    let view_changes = vec![lie(1), lie(2), taken_back];
    let new_view = NewView { view: View(1), view_changes, proposals: vec![] };
    group.receive(2, R[1], PbftMessage::NewView(new_view));
    assert!(is_in(&group, 2, 0), "it follows a view that forgets what was decided");
}

/// The same, and its disk says too that it has lost its past, and waits for view 1.
#[test]
fn a_commit_that_was_forged_opens_no_view_to_one_that_has_lost_its_past_either() {
    let mut group = Group::new(4);
    let taken_back = come_back(&mut group);
    // The others hear that replica 3 is back.
    group.run_for(Duration::from_secs(10));
    let vote = Vote { view: View(1), seq: group.nodes[2].pbft.stable().next(), digest: Digest([9; 32]) };
    let left = lie(2).content;
    let (prepared, left) = (althing_types::encode(&vote), althing_types::encode(&left));
    let has_lost = althing_types::encode(&(1_u64, false));
    let forged = [(9, has_lost), (2, left), (1, prepared)];
    let forged = forged.into_iter().map(|(kind, content)| [vec![kind], content].concat());
    group.nodes[2].records.extend(forged);
    group.restart_in_doubt(2);
    assert!(!group.nodes[2].pbft.is_voting());
    group.run_with_transfers(2, 0, |group| group.nodes[2].pbft.is_settled());
    assert!((0..4).all(|i| i == 2 || is_in(&group, i, 0)));
    let view_changes = vec![lie(1), lie(2), taken_back];
    let new_view = NewView { view: View(1), view_changes, proposals: vec![] };
    group.receive(2, R[1], PbftMessage::NewView(new_view));
    assert!(!is_in(&group, 2, 1), "it follows a view that forgets what was decided");
    group.run_until(|group| is_in(group, 2, 0));
}

/// Each replica was somebody's once, and signed a view change for a far view: its new view is proven. The disk of
/// replica 2 says that it is in there, and maybe also that it does not vote.
#[test]
fn one_that_finds_itself_in_a_view_that_nobody_is_in_comes_back() {
    for has_lost in [false, true] {
        let mut group = Group::new(4);
        group.submit(&signed(1, 1));
        group.settle();
        let far = |signer: usize| {
            let content = ViewChange { view: View(4001), ..lie(signer).content };
            Signed { content, ..lie(signer) }
        };
        let content =
            NewView { view: View(4001), view_changes: [0, 1, 3].map(far).to_vec(), proposals: vec![] };
        let entered = Signed { signer: R[1], content, proof: proof_of(R[1]) };
        if has_lost {
            group.nodes[2].records.push([vec![9], althing_types::encode(&(1_u64, false))].concat());
        }
        group.nodes[2].records.push([vec![4], althing_types::encode(&entered)].concat());
        group.restart_in_doubt(2);
        assert!(is_in(&group, 2, if has_lost { 0 } else { 4001 }));
        group.run_with_transfers(2, 0, |group| group.nodes[2].pbft.is_settled() && is_in(group, 2, 0));
        assert!((0..4).all(|i| is_in(&group, i, 0)));
    }
}

/// Hands a request to all but replica 1, and has it executed.
fn work(group: &mut Group, number: u64) {
    for i in [0, 2, 3] {
        group.event(i, Event::Request(signed(1, number)));
    }
    group.settle();
}

/// About which number a message votes, if it does.
fn voted_on(message: &PbftMessage) -> Option<Seq> {
    match message {
        PbftMessage::Prepare(vote) | PbftMessage::Commit(vote) => Some(vote.seq),
        _ => None,
    }
}

/// In a view that forgets replica 1 would stand for another batch than the one that was decided, and say so in what it
/// asks for the next view with, which lasts. Whoever had others next had them say that this batch prepared there, and
/// a new view would choose it.
#[test]
fn who_doubts_its_disk_stands_for_nothing_in_a_view_that_forgets() {
    let mut group = Group::new(4);
    let taken_back = come_back(&mut group);
    // The others hear that replica 3 is back.
    group.run_for(Duration::from_secs(10));
    // The disk of replica 1 says that it leads view 1, and has seen a quorum vote there.
    let view_changes = vec![lie(1), lie(2), taken_back];
    let content = NewView { view: View(1), view_changes, proposals: vec![] };
    let entered = Signed { signer: R[1], content, proof: proof_of(R[1]) };
    let first = group.nodes[1].pbft.stable();
    let vote = Vote { view: View(1), seq: first.next(), digest: Digest([9; 32]) };
    group.nodes[1].records.push([vec![4], althing_types::encode(&entered)].concat());
    group.nodes[1].records.push([vec![1], althing_types::encode(&vote)].concat());
    group.restart_in_doubt(1);
    group.settle();
    assert!(is_in(&group, 1, 1));
    let bar = Seq(first.0 + 4 * LOG);
    let mut number = 0;
    while group.nodes[0].pbft.executed() <= bar {
        number += 1;
        work(&mut group, number);
    }
    assert_eq!(group.nodes[1].pbft.stable(), bar);
    // The next number is decided at replica 3. Replica 1 proposes something else for it in its view.
    let decided = bar.next().next();
    group.event(1, Event::Request(signed(2, 1)));
    group.lose();
    for i in [0, 2, 3] {
        group.event(i, Event::Request(signed(1, number + 1)));
    }
    let is_commit = |wire: &Wire| matches!(wire.message, PbftMessage::Commit(_));
    group.deliver(|wire| wire.to == R[1] || (is_commit(wire) && wire.to != R[3]));
    assert_eq!([0, 1, 2, 3].map(|i| group.nodes[i].pbft.executed() >= decided), [false, false, false, true]);
    // The others pass over view 1. In view 2 they commit what comes before, and no more.
    for _ in 0..2 {
        for i in [0, 2] {
            group.give_up(i);
        }
        group.deliver(|wire| voted_on(&wire.message).is_some_and(|seq| seq >= decided));
    }
    assert!((0..4).all(|i| is_in(&group, i, 2)));
    let claims = group.sent(R[1], |wire| match &wire.message {
        PbftMessage::ViewChange(content) => Some(content.pre_prepared.clone()),
        _ => None,
    });
    assert!(claims.iter().flatten().all(|claim| claim.view != View(1)), "{claims:?}");
    assert!(!claims.is_empty());
    let has_all = |group: &Group| (0..4).all(|i| group.executed(i).contains(&(1, number + 1)));
    group.run_until(|group| group.nodes[1].pbft.is_settled() && has_all(group));
}

/// A group in view 1, which started more than two logs ago.
fn in_an_old_view() -> Group {
    let mut group = Group::new(4);
    for i in 0..4 {
        group.event(i, Event::Request(signed(5, 1)));
    }
    group.lose();
    (0..4).for_each(|i| group.give_up(i));
    group.settle();
    for number in 1..=3 * LOG {
        group.submit(&signed(1, number));
        group.settle();
    }
    assert!((0..4).all(|i| is_in(&group, i, 1)));
    group
}

/// What it knows of its view is from its disk. If the group can't do without it, it takes the next view.
#[test]
fn one_that_doubts_its_disk_in_an_old_view_is_there_when_another_falls_silent() {
    let mut group = in_an_old_view();
    group.restart_in_doubt(2);
    group.down = vec![R[3]];
    group.submit(&signed(2, 1));
    group.run_until(|group| (0..3).all(|i| group.executed(i).contains(&(2, 1))));
    assert!(!group.nodes[2].pbft.is_settled());
    group.down.clear();
    group.run_with_transfers(3, 0, |group| group.nodes[2].pbft.is_settled());
}

#[test]
fn one_that_doubts_its_disk_and_leads_an_old_view_hands_it_over() {
    let mut group = in_an_old_view();
    group.restart_in_doubt(1);
    group.submit(&signed(2, 1));
    group.run_for(settings().status_period * 2);
    assert!((0..4).all(|i| group.executed(i).contains(&(2, 1))), "nobody waits for a timeout");
    group.run_until(|group| group.nodes[1].pbft.is_settled());
}
