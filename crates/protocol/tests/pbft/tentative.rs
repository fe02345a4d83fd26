//! Tentative execution: when, when not, and that what an agreement quorum has executed stays.

use crate::group::{Group, R, Wire, settings, settings_with_batches, signed};
use althing_protocol::pbft::{PbftMessage, PbftSettings};
use althing_protocol::{Event, Protocol};
use althing_types::{Seq, View};

fn is_commit(wire: &Wire) -> bool {
    matches!(wire.message, PbftMessage::Commit(_))
}

/// The replicas that have executed something tentatively.
fn tentative(group: &Group) -> Vec<usize> {
    (0..group.nodes.len()).filter(|i| group.nodes[*i].tentative.is_some()).collect()
}

#[test]
fn a_small_batch_is_executed_before_the_commits_of_others_come() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    let mut commits = vec![];
    group.deliver(|wire| {
        commits.extend(is_commit(wire).then(|| wire.clone()));
        is_commit(wire)
    });
    assert_eq!(tentative(&group), [0, 1, 2, 3]);
    assert!(group.nodes.iter().all(|node| node.decisions.is_empty() && node.pbft.executed() == Seq(0)));
    // The next one waits until this one is decided.
    group.submit(&signed(2, 1));
    group.deliver(is_commit);
    assert!(group.nodes.iter().all(|node| node.tentative.as_ref().is_some_and(|next| next.seq == Seq(1))));
    for wire in commits {
        group.receive(wire.to.0.into(), wire.from, wire.message);
    }
    for node in &group.nodes {
        assert_eq!((node.decisions.len(), node.tentative.as_ref().map(|next| next.seq)), (1, Some(Seq(2))));
        assert!(node.decisions[0].is_eager);
    }
}

#[test]
fn a_checkpoint_a_large_batch_or_none_where_it_is_switched_off_waits() {
    // The fourth makes a checkpoint.
    let mut group = Group::new(4);
    for number in 1..=4 {
        group.submit(&signed(1, number));
        group.deliver(|wire| is_commit(wire) && number == 4);
    }
    assert_eq!((tentative(&group), group.nodes[0].decisions.len()), (vec![], 3));

    let mut group = Group::with(4, settings_with_batches());
    for client in 1..=20 {
        group.event(0, Event::Request(signed(client, 1)));
    }
    group.settle();
    let eager: Vec<_> = group.nodes[3].decisions.iter().map(|decision| decision.is_eager).collect();
    let is_small = |size: usize, seq: usize| size <= 4 && seq % 4 != 0;
    let sizes: Vec<_> = group.nodes[3].decisions.iter().map(|d| d.batch.requests.len()).collect();
    assert!(sizes.iter().any(|size| *size > 4));
    assert_eq!(eager, sizes.iter().zip(1..).map(|(size, seq)| is_small(*size, seq)).collect::<Vec<_>>());

    let mut group = Group::with(4, PbftSettings { tentative_requests: 0, ..settings() });
    group.submit(&signed(1, 1));
    group.deliver(is_commit);
    assert_eq!(tentative(&group), []);
}

#[test]
fn who_leaves_the_view_takes_it_back_and_answers_no_query_until_it_has_got_there_again() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    group.deliver(is_commit);
    assert_eq!(group.nodes[3].pbft.answers_from(), Some(Seq(0)));
    group.give_up(3);
    assert_eq!((tentative(&group), group.nodes[3].pbft.answers_from()), (vec![0, 1, 2], Some(Seq(1))));
    group.run_until(|group| (0..4).all(|i| group.executed(i) == [(1, 1)]));
    assert_eq!(tentative(&group), []);
}

/// What a client takes for final.
#[test]
fn what_an_agreement_quorum_has_executed_tentatively_is_decided() {
    for slept in 1..4 {
        let mut group = Group::new(4);
        // One replica hears nothing of it, and no commit arrives.
        group.event(0, Event::Request(signed(1, 1)));
        group.deliver(|wire| is_commit(wire) || wire.to == R[slept] || wire.from == R[slept]);
        let done: Vec<_> = (0..4).filter(|i| *i != slept).collect();
        assert_eq!(tentative(&group), done);
        let digest = group.nodes[0].tentative.as_ref().expect("it has executed it").digest;
        // The new view is made by two of those who have it, and the one that slept.
        group.down = vec![R[0]];
        group.submit(&signed(2, 1));
        group.lose();
        for i in 1..4 {
            if group.nodes[i].pbft.view() == View(0) && group.nodes[i].pbft.is_in_view() {
                group.give_up(i);
            }
        }
        group.run_until(|group| (1..4).all(|i| group.executed(i).contains(&(2, 1))));
        assert!((1..4).all(|i| group.nodes[i].decisions[0].digest == digest), "{slept} slept");
    }
}
