//! What replicas say ends with the keys under which they said it: whoever has one after the other would else be a
//! quorum one day, at a replica that is cut off meanwhile.

use crate::group::{Group, R, proof_of, signed};
use althing_protocol::pbft::{PbftMessage, PrePrepare, Vote};
use althing_protocol::{Batch, Event, Misbehaviour};
use althing_types::{Digest, Instant, ReplicaId, Seq, View};
use std::sync::Arc;

/// The keys that replicas have at first, and those after them.
const OLD: u64 = 1;
const NEW: u64 = 2;

/// Replica 3 hears this from `from`, under its key of this number.
fn hear(group: &mut Group, from: ReplicaId, key: u64, message: PbftMessage) {
    group.event(3, Event::Message { from, message, proof: None, key });
}

/// The first keys of `of` have ended for replica 3.
fn end_keys(group: &mut Group, of: ReplicaId) {
    group.event(3, Event::KeysEnded { of, before: NEW });
}

fn batch(client: u64) -> Arc<Batch> {
    Arc::new(Batch { time: Instant(1), requests: vec![signed(client, 1)] })
}

fn proposal(seq: u64, batch: &Arc<Batch>) -> PbftMessage {
    PbftMessage::PrePrepare(PrePrepare { view: View(0), seq: Seq(seq), batch: Arc::clone(batch) })
}

fn vote(seq: u64, digest: Digest) -> Vote {
    Vote { view: View(0), seq: Seq(seq), digest }
}

/// How many replicas replica 3 has told that it prepared number 1, last.
fn commits(group: &Group) -> usize {
    let is_commit =
        |message: &PbftMessage| matches!(message, PbftMessage::Commit(vote) if vote.seq == Seq(1));
    group.sent(R[3], |wire| is_commit(&wire.message).then_some(())).len()
}

#[test]
fn who_says_that_it_has_executed_something_says_so_for_as_long_as_its_key() {
    let mut group = Group::new(4);
    let lie = PbftMessage::Decided { seq: Seq(1), digest: Digest::NULL };
    hear(&mut group, R[0], OLD, lie.clone());
    end_keys(&mut group, R[0]);
    hear(&mut group, R[1], OLD, lie.clone());
    assert_eq!(group.executed(3), [], "lies of different times");
    assert_eq!(group.nodes[3].pbft.executed(), Seq(0));
    end_keys(&mut group, R[2]);
    hear(&mut group, R[2], NEW, lie);
    assert_eq!(group.nodes[3].pbft.executed(), Seq(1), "two whose keys hold");
}

#[test]
fn commits_count_as_long_as_their_keys_and_a_quorum_of_them_for_good() {
    let mut group = Group::new(4);
    for seq in [1, 2] {
        for from in [0, 1] {
            hear(&mut group, R[from], OLD, PbftMessage::Commit(vote(seq, Digest::NULL)));
        }
    }
    // Number 2 is decided, and waits for number 1.
    hear(&mut group, R[2], OLD, PbftMessage::Commit(vote(2, Digest::NULL)));
    (0..3).for_each(|of| end_keys(&mut group, R[of]));
    hear(&mut group, R[2], NEW, PbftMessage::Commit(vote(1, Digest::NULL)));
    assert_eq!(group.nodes[3].pbft.executed(), Seq(0), "votes of different times");
    for from in [0, 1] {
        hear(&mut group, R[from], NEW, PbftMessage::Commit(vote(1, Digest::NULL)));
    }
    assert_eq!(group.nodes[3].pbft.executed(), Seq(2));
}

/// Whoever had a replica could say that it votes in the last view of all: true votes came too late then, for good.
#[test]
fn a_vote_for_a_view_that_never_comes_is_gone_with_its_key() {
    let mut group = Group::new(4);
    let last = Vote { view: View(u64::MAX - 1), ..vote(1, Digest::NULL) };
    for from in [0, 1] {
        hear(&mut group, R[from], OLD, PbftMessage::Commit(last));
        end_keys(&mut group, R[from]);
    }
    for from in [0, 1, 2] {
        hear(&mut group, R[from], NEW, PbftMessage::Commit(vote(1, Digest::NULL)));
    }
    assert_eq!(group.nodes[3].pbft.executed(), Seq(1));
}

#[test]
fn prepares_count_as_long_as_their_keys() {
    let mut group = Group::new(4);
    let batch = batch(1);
    hear(&mut group, R[1], OLD, PbftMessage::Prepare(vote(1, batch.digest())));
    end_keys(&mut group, R[1]);
    hear(&mut group, R[0], OLD, proposal(1, &batch));
    assert_eq!(commits(&group), 0, "only the primary stands for it, and this replica");
    hear(&mut group, R[1], NEW, PbftMessage::Prepare(vote(1, batch.digest())));
    assert_eq!(commits(&group), 3);
}

#[test]
fn a_primary_stands_for_what_it_proposed_as_long_as_its_key() {
    let mut group = Group::new(4);
    let (first, other) = (batch(1), batch(2));
    hear(&mut group, R[0], OLD, proposal(1, &first));
    end_keys(&mut group, R[0]);
    hear(&mut group, R[1], OLD, PbftMessage::Prepare(vote(1, first.digest())));
    assert_eq!(commits(&group), 0, "a primary and a backup of different times");
    // This replica has voted for it, and votes for no other in that view.
    hear(&mut group, R[0], NEW, proposal(1, &other));
    let accused = group.nodes[3].evidence.pop().expect("the primary contradicts itself");
    assert_eq!(accused.misbehaviour, Misbehaviour::ConflictingPrePrepare(View(0), Seq(1)));
    hear(&mut group, R[0], NEW, proposal(1, &first));
    assert_eq!(commits(&group), 3, "it stands for it still");
}

/// What is on disk does not say under which keys others said it.
#[test]
fn after_a_restart_a_primary_has_to_say_again_what_it_stands_for() {
    let mut group = Group::new(4);
    let batch = batch(1);
    hear(&mut group, R[0], OLD, proposal(1, &batch));
    group.restart(3);
    hear(&mut group, R[1], OLD, PbftMessage::Prepare(vote(1, batch.digest())));
    assert_eq!(commits(&group), 0);
    hear(&mut group, R[0], NEW, proposal(1, &batch));
    assert_eq!(commits(&group), 3);
}

#[test]
fn what_came_early_is_held_as_long_as_its_key() {
    let mut group = Group::new(4);
    // The log of replica 3 moves on late.
    group.unkept = vec![R[3]];
    for number in 1..=8 {
        group.submit(&signed(1, number));
        group.settle();
    }
    for from in [0, 1] {
        hear(&mut group, R[from], OLD, PbftMessage::Commit(vote(9, Digest::NULL)));
        end_keys(&mut group, R[from]);
    }
    group.unkept.clear();
    group.event(3, Event::StateKept(Seq(4)));
    hear(&mut group, R[2], NEW, PbftMessage::Commit(vote(9, Digest::NULL)));
    assert_eq!(group.nodes[3].pbft.executed(), Seq(8), "it executed what nobody decided");
    for from in [0, 1] {
        hear(&mut group, R[from], NEW, PbftMessage::Commit(vote(9, Digest::NULL)));
    }
    assert_eq!(group.nodes[3].pbft.executed(), Seq(9), "three whose keys hold");
}

/// It could be kept, and shown once the key is long gone under which it might have come.
#[test]
fn a_vote_that_is_signed_is_none() {
    let mut group = Group::new(4);
    let batch = batch(1);
    let digest = batch.digest();
    for (from, message) in [
        (0, proposal(1, &batch)),
        (1, PbftMessage::Prepare(vote(1, digest))),
        (1, PbftMessage::Commit(vote(1, digest))),
        (1, PbftMessage::Decided { seq: Seq(1), digest }),
    ] {
        let proof = Some(proof_of(R[from]));
        group.event(3, Event::Message { from: R[from], message, proof, key: NEW });
        let accused = group.nodes[3].evidence.pop().expect("nobody correct does that");
        assert_eq!((accused.accused, accused.misbehaviour), (R[from], Misbehaviour::InvalidMessage));
    }
    hear(&mut group, R[2], NEW, PbftMessage::Decided { seq: Seq(1), digest: Digest::NULL });
    assert_eq!(group.nodes[3].pbft.executed(), Seq(0));
}

/// All keys end, again and again, while something is under way: what is true comes again.
#[test]
fn a_group_goes_on_though_all_that_is_under_way_is_forgotten() {
    let mut group = Group::new(4);
    for number in 1..=12 {
        group.submit(&signed(1, number));
        group.deliver(|wire| match wire.message {
            PbftMessage::Prepare(_) => number % 2 == 0,
            PbftMessage::Commit(_) => number % 2 == 1,
            _ => false,
        });
        assert!(group.nodes.iter().all(|node| node.pbft.executed() < Seq(number)));
        for (i, of) in (0..4).flat_map(|i| R.map(|of| (i, of))).filter(|(i, of)| usize::from(of.0) != *i) {
            group.event(i, Event::KeysEnded { of, before: NEW });
        }
        group.run_until(|group| (0..4).all(|i| group.executed(i).contains(&(1, number))));
        assert!(group.nodes.iter().all(|node| node.pbft.view() == View(0)));
    }
}
