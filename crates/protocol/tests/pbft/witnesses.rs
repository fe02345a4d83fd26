//! Replicas that agree and do not execute: what they make a checkpoint of, and when.

use crate::group::{CLOSER, Group, R, Wire, proof_of, settings, signed};
use althing_protocol::pbft::{Checkpoint, PbftMessage, PbftSettings};
use althing_protocol::{Event, Misbehaviour, Protocol};
use althing_types::{Digest, ReplicaId, Seq};

/// Three of four execute.
fn group() -> Group {
    Group::with(4, PbftSettings { witnesses: vec![R[3]], ..settings() })
}

fn is_made(wire: &Wire) -> bool {
    matches!(wire.message, PbftMessage::Made(_))
}

/// The checkpoints that a replica has signed.
fn signed_by(group: &Group, from: ReplicaId) -> Vec<Checkpoint> {
    let mut signed = group.sent(from, |wire| match wire.message {
        PbftMessage::Checkpoint(checkpoint) => Some(checkpoint),
        _ => None,
    });
    signed.dedup();
    signed
}

fn submit(group: &mut Group, numbers: core::ops::RangeInclusive<u64>) {
    for number in numbers {
        group.submit(&signed(1, number));
        group.settle();
    }
}

/// The first checkpoint, which executors make and of which the witness hears nothing.
fn unheard(group: &mut Group) -> Checkpoint {
    for number in 1..=4 {
        group.submit(&signed(1, number));
        group.deliver(|wire| is_made(wire) || (is_checkpoint(wire) && wire.to == R[3]));
    }
    signed_by(group, R[0])[0]
}

#[test]
fn a_witness_signs_what_executors_have_made_and_needs_no_state() {
    let mut group = group();
    submit(&mut group, 1..=9);
    let made: Vec<_> = (0..4).map(|i| signed_by(&group, R[i])).collect();
    assert!(made.iter().all(|own| *own == made[0] && own.len() == 2), "{made:?}");
    assert!(group.nodes.iter().all(|node| node.pbft.stable() == Seq(8) && node.evidence.is_empty()));
    assert_eq!(group.nodes[3].pbft.answers_from(), None);
    assert!((0..3).all(|i| group.nodes[i].pbft.answers_from().is_some()));
    let told: Vec<_> = group.history.iter().filter(|wire| is_made(wire)).map(|wire| wire.to).collect();
    assert_eq!(told, [R[3]; 6], "nobody but the witness has to be told");
}

#[test]
fn it_takes_f_plus_1_that_say_the_same() {
    let mut group = group();
    let first = unheard(&mut group);
    let wrong = Checkpoint { state: Digest([9; 32]), ..first };
    group.receive(3, R[0], PbftMessage::Made(first));
    group.receive(3, R[1], PbftMessage::Made(wrong));
    assert_eq!(signed_by(&group, R[3]), []);
    // Nor does it change its mind for one that says now this, now that.
    group.receive(3, R[1], PbftMessage::Made(first));
    assert_eq!(signed_by(&group, R[3]), []);
    let accused = &group.nodes[3].evidence[0];
    assert_eq!(
        (accused.accused, &accused.misbehaviour),
        (R[1], &Misbehaviour::ConflictingCheckpoint(Seq(4)))
    );
    group.receive(3, R[2], PbftMessage::Made(first));
    assert_eq!(signed_by(&group, R[3]), [first]);
}

#[test]
fn what_others_have_signed_is_not_what_they_say() {
    let mut group = group();
    let first = unheard(&mut group);
    // All three have signed it, and two of the signatures have come.
    let mut group = self::group();
    for number in 1..=4 {
        group.submit(&signed(1, number));
        group.deliver(|wire| is_made(wire) || (wire.from == R[2] && wire.to == R[3] && is_checkpoint(wire)));
    }
    assert_eq!((signed_by(&group, R[3]), group.nodes[3].pbft.executed()), (vec![], Seq(4)));
    assert_eq!(signed_by(&group, R[0]), [first]);
    // A certificate is enough.
    group.receive(3, R[2], PbftMessage::Checkpoint(first));
    assert_eq!((signed_by(&group, R[3]), group.nodes[3].pbft.stable()), (vec![first], Seq(4)));
}

fn is_checkpoint(wire: &Wire) -> bool {
    matches!(wire.message, PbftMessage::Checkpoint(_))
}

#[test]
fn a_witness_whose_log_is_not_there_yet_waits_for_that() {
    let mut group = group();
    submit(&mut group, 1..=3);
    group.submit(&signed(1, 4));
    let mut late = vec![];
    group.deliver(|wire| {
        let is_late = wire.to == R[3] && !is_made(wire) && !is_checkpoint(wire);
        late.extend(is_late.then(|| wire.clone()));
        is_late || (wire.to == R[3] && is_checkpoint(wire))
    });
    assert_eq!((group.nodes[3].pbft.executed(), signed_by(&group, R[3])), (Seq(3), vec![]));
    assert_eq!(signed_by(&group, R[0]).len(), 1, "the executors are there");
    group.wires.extend(late);
    group.settle();
    assert_eq!(group.nodes[3].pbft.executed(), Seq(4));
    assert_eq!(signed_by(&group, R[3]), signed_by(&group, R[0]));
}

#[test]
fn checkpoints_become_stable_with_f_plus_1_executors_and_the_witnesses() {
    for lost in [0, 2] {
        let mut group = group();
        group.down = vec![R[lost]];
        let up = |done: &dyn Fn(usize) -> bool| (0..4).filter(|i| *i != lost).all(done);
        for number in 1..=20 {
            group.submit(&signed(1, number));
            group.run_until(|group| up(&|i| group.executed(i).len() == number as usize));
        }
        group.run_until(|group| up(&|i| group.nodes[i].pbft.stable() >= Seq(16)));
    }
}

/// What an intruder had a replica say that is itself again by now.
#[test]
fn what_was_said_under_keys_that_have_ended_does_not_count() {
    let mut group = group();
    let first = unheard(&mut group);
    let wrong = Checkpoint { state: Digest([9; 32]), ..first };
    let says = |from, key, made| Event::Message { from, message: PbftMessage::Made(made), proof: None, key };
    group.event(3, says(R[0], 1, wrong));
    group.event(3, Event::KeysEnded { of: R[0], before: 2 });
    group.event(3, says(R[1], 1, wrong));
    assert_eq!(signed_by(&group, R[3]), []);
    // Where the new key is known before the old one has ended, too; and that it has changed is no fault.
    group.event(3, says(R[1], 2, first));
    assert_eq!(signed_by(&group, R[3]), []);
    group.event(3, says(R[0], 2, first));
    assert_eq!(signed_by(&group, R[3]), [first]);
    assert!(group.nodes[3].evidence.is_empty());
}

#[test]
fn who_is_no_witness_is_told_nothing_and_who_is_one_tells_nobody() {
    let mut group = group();
    let first = unheard(&mut group);
    group.receive(0, R[1], PbftMessage::Made(first));
    group.receive(3, R[3], PbftMessage::Made(first));
    assert_eq!(group.nodes[0].evidence[0].misbehaviour, Misbehaviour::InvalidMessage);
    let mut five = Group::with(5, PbftSettings { witnesses: vec![R[2], R[3]], ..settings() });
    five.receive(2, R[3], PbftMessage::Made(first));
    assert_eq!(five.nodes[2].evidence[0].misbehaviour, Misbehaviour::InvalidMessage);
}

#[test]
fn a_witness_that_starts_again_says_the_same() {
    let mut group = group();
    submit(&mut group, 1..=4);
    for number in 5..=8 {
        group.submit(&signed(1, number));
        group.deliver(|wire| is_checkpoint(wire) && wire.from != R[3]);
    }
    let before = signed_by(&group, R[3]);
    assert_eq!((before.len(), group.nodes[3].pbft.stable()), (2, Seq(4)));
    group.restart(3);
    group.history.clear();
    group.run_until(|group| group.nodes.iter().all(|node| node.pbft.stable() == Seq(8)));
    let after = signed_by(&group, R[3]);
    assert!(after.iter().all(|said| before.contains(said)), "{after:?} after {before:?}");
    assert!(group.nodes.iter().all(|node| node.evidence.is_empty()));
}

#[test]
fn a_witness_that_lost_its_disk_votes_again_and_takes_part_in_checkpoints() {
    let mut group = group();
    submit(&mut group, 1..=9);
    group.recover(3, 0);
    group.down = vec![R[1]];
    let stable = group.nodes[0].pbft.stable();
    submit(&mut group, 10..=40);
    group.run_until(|group| group.nodes[3].pbft.stable() > Seq(stable.0 + 8));
    assert!(group.nodes.iter().all(|node| node.evidence.is_empty()));
}

#[test]
fn a_witness_that_is_behind_by_more_than_the_log_fetches_what_it_keeps() {
    let mut group = group();
    group.down = vec![R[3]];
    submit(&mut group, 1..=21);
    group.down.clear();
    group.run_with_transfers(3, 0, |group| group.nodes[3].pbft.executed() >= Seq(20));
    let stable = group.nodes[0].pbft.stable();
    submit(&mut group, 22..=40);
    group.run_with_transfers(3, 0, |group| group.nodes[3].pbft.stable() > Seq(stable.0 + 8));
    assert!(group.nodes.iter().all(|node| node.evidence.is_empty()));
}

#[test]
fn an_instance_with_witnesses_ends_and_has_a_successor() {
    let mut group = group();
    group.down = vec![R[1]];
    [1, 2, CLOSER].into_iter().for_each(|client| group.submit(&signed(client, 1)));
    let up = [0, 2, 3];
    group.run_until(|group| up.iter().all(|i| group.nodes[*i].closed.is_some()));
    up.into_iter().for_each(|i| group.succeed(i, 4));
    (3..12).for_each(|client| group.submit(&signed(client, 1)));
    group.run_until(|group| up.iter().all(|i| group.executed(*i).len() == 12));
    group.run_until(|group| up.iter().all(|i| group.nodes[*i].pbft.stable() >= Seq(12)));
}

#[test]
fn nothing_is_tentative_where_a_faulty_executor_could_hold_that_up() {
    let is_eager = |n, witnesses: &[ReplicaId]| {
        let mut group = Group::with(n, PbftSettings { witnesses: witnesses.to_vec(), ..settings() });
        group.submit(&signed(1, 1));
        group.deliver(|wire| matches!(wire.message, PbftMessage::Commit(_)));
        let eager: Vec<_> = (0..n).filter(|i| group.nodes[*i].tentative.is_some()).collect();
        group.run_until(|group| group.nodes.iter().all(|node| node.decisions.len() == 1));
        assert!(group.nodes.iter().all(|node| node.decisions[0].is_eager != eager.is_empty()));
        eager
    };
    assert_eq!(is_eager(4, &[]), [0, 1, 2, 3]);
    assert_eq!(is_eager(4, &[R[3]]), []);
    assert_eq!(is_eager(5, &[R[3]]), [], "three of four, and it takes four");
}

#[test]
fn a_witness_stands_in_for_an_executor_that_is_gone_for_more_than_a_log() {
    let mut group = group();
    submit(&mut group, 1..=8);
    group.down = vec![R[2]];
    for number in 9..=16 {
        submit(&mut group, number..=number);
    }
    assert_eq!(
        (group.nodes[3].standing_in, group.nodes[3].pbft.stable()),
        (None, Seq(16)),
        "it may come back"
    );
    submit(&mut group, 17..=20);
    let (seq, state) = group.nodes[3].standing_in.take().expect("it is missed");
    assert_eq!((seq, group.nodes[0].standing_in), (Seq(20), None));
    assert!(group.nodes[3].pbft.is_witness(), "it has nothing yet");
    submit(&mut group, 21..=23);
    let made = signed_by(&group, R[0]);
    assert!(made.contains(&Checkpoint { seq, state }));
    group.nodes[3].decisions.truncate(20);
    group.event(3, Event::StateInstalled { seq, executed: vec![] });
    assert!(!group.nodes[3].pbft.is_witness() && group.nodes[3].pbft.answers_from().is_some());
    assert_eq!(group.nodes[3].decisions.len(), 23, "it has executed what came meanwhile");
    submit(&mut group, 24..=30);
    assert_eq!(signed_by(&group, R[3]), signed_by(&group, R[0]));
    assert!(
        group.nodes[3].pbft.stable() == Seq(28)
            && group.sent(R[3], |wire| is_made(wire).then_some(())).is_empty()
    );
    // After a restart it is what it was.
    group.restart(3);
    assert!(group.nodes[3].pbft.is_witness());
    assert!(group.nodes.iter().all(|node| node.evidence.is_empty()));
}

/// Others count on it that a witness was told: it may be the only correct one that has the state, for now.
#[test]
fn who_stands_in_signs_nothing_that_executors_have_not_told_it() {
    let mut group = group();
    submit(&mut group, 1..=8);
    group.down = vec![R[2]];
    submit(&mut group, 9..=20);
    let (seq, _) = group.nodes[3].standing_in.take().expect("it is missed");
    group.event(3, Event::StateInstalled { seq, executed: vec![] });
    assert!(!group.nodes[3].pbft.is_witness());
    for number in 21..=24 {
        group.submit(&signed(1, number));
        group.deliver(|wire| wire.to == R[3] && (is_made(wire) || is_checkpoint(wire)));
    }
    assert_eq!(group.nodes[3].decisions.len(), 24);
    assert!(signed_by(&group, R[3]).iter().all(|own| own.seq < Seq(24)), "nobody has told it");
    group.run_until(|group| group.nodes[3].pbft.stable() == Seq(24));
    assert!(group.nodes.iter().all(|node| node.evidence.is_empty()));
}

/// It could be kept, and shown when its key is long gone.
#[test]
fn what_executors_tell_a_witness_is_not_taken_with_a_signature() {
    let mut group = group();
    let first = unheard(&mut group);
    for executor in [R[0], R[1]] {
        let (message, proof) = (PbftMessage::Made(first), Some(proof_of(executor)));
        group.event(3, Event::Message { from: executor, message, proof, key: 0 });
    }
    assert!(signed_by(&group, R[3]).is_empty());
    let accused: Vec<_> =
        group.nodes[3].evidence.iter().map(|evidence| evidence.misbehaviour.clone()).collect();
    assert_eq!(accused, [Misbehaviour::InvalidMessage, Misbehaviour::InvalidMessage]);
}

#[test]
fn a_number_out_of_reach_makes_nobody_stand_in_nor_keeps_it_from_that() {
    let mut group = group();
    let far = Checkpoint { seq: Seq(u64::MAX), state: Digest([1; 32]) };
    group.event(3, Event::Message { from: R[2], message: PbftMessage::Made(far), proof: None, key: 0 });
    group.down = vec![R[2]];
    submit(&mut group, 1..=32);
    assert!(group.nodes[3].standing_in.is_some());
}

#[test]
fn as_many_stand_in_as_are_missed() {
    let mut group = Group::with(7, PbftSettings { witnesses: vec![R[0], R[2]], ..settings() });
    let wants = |group: &Group| [0, 2].map(|i| group.nodes[i].standing_in.is_some());
    let eleven = |group: &mut Group, first: u64| {
        for number in first..first + 24 {
            group.submit(&signed(1, number));
            let done = |group: &Group, i: usize| group.executed(i).contains(&(1, number));
            group.run_until(|group| [0, 1, 2, 3, 4].iter().all(|i| done(group, *i)));
        }
    };
    eleven(&mut group, 1);
    assert_eq!(wants(&group), [false, false]);
    group.down = vec![ReplicaId(6)];
    eleven(&mut group, 25);
    assert_eq!(wants(&group), [true, false]);
    group.down.push(ReplicaId(5));
    eleven(&mut group, 49);
    assert_eq!(wants(&group), [true, true]);
}
