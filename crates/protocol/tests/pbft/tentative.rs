//! Tentative execution: when, when not, and that what an agreement quorum has executed stays.

use crate::group::{Group, R, Wire, proof_of, settings, settings_with_batches, signed, with_macs};
use althing_protocol::pbft::{Claim, PbftMessage, PbftSettings, PrePrepare, ViewChange, Vote};
use althing_protocol::{Action, Batch, Event, Protocol};
use althing_types::{Instant, Seq, View};
use std::sync::Arc;
use std::time::Duration;

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
    let is_small = |size: usize, seq: usize| size <= 4 && !seq.is_multiple_of(4);
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
    for slept in &R[1..] {
        let mut group = Group::new(4);
        // One replica hears nothing of it, and no commit arrives.
        group.event(0, Event::Request(signed(1, 1)));
        group.deliver(|wire| is_commit(wire) || wire.to == *slept || wire.from == *slept);
        let done: Vec<_> = (0..4).filter(|i| R[*i] != *slept).collect();
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

/// The engine must not be in another view while the batch of this one is tentative.
#[test]
fn who_follows_others_out_of_the_view_takes_it_back_at_once() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    group.deliver(is_commit);
    assert_eq!(tentative(&group), [0, 1, 2, 3]);
    group.give_up(1);
    group.give_up(2);
    let asked: Vec<_> = group
        .wires
        .drain(..)
        .filter(|wire| wire.to == R[3] && matches!(wire.message, PbftMessage::ViewChange(_)))
        .collect();
    let [first, second] = &asked[..] else { panic!("{asked:?}") };
    group.receive(3, first.from, first.message.clone());
    assert!(group.nodes[3].pbft.is_in_view());
    let (from, message) = (second.from, second.message.clone());
    let event = Event::Message { from, message, proof: Some(proof_of(from)), key: 0 };
    let mut actions = vec![];
    group.nodes[3].pbft.handle(group.now, event, &mut actions);
    assert!(actions.iter().any(|action| matches!(action, Action::LeftView(View(1)))));
    assert!(actions.iter().any(|action| matches!(action, Action::Rollback)), "{actions:?}");
}

/// The client has all that it needs, and nobody asks for anything else. What the request emits once waited
/// for ever, and so did queries.
#[test]
fn what_is_tentative_becomes_final_though_the_client_is_satisfied_and_the_primary_gone() {
    let mut group = Group::new(4);
    group.event(0, Event::Request(with_macs(1, 1)));
    group.deliver(|wire| is_commit(wire) || wire.to == R[3] || wire.from == R[3]);
    assert_eq!(tentative(&group), [0, 1, 2]);
    group.down = vec![R[0]];
    group.run_for(Duration::from_secs(300));
    assert_eq!(tentative(&group), [0], "it is down");
    assert!((1..4).all(|i| group.executed(i) == [(1, 1)]));
}

/// A tentative reply once named the view that its replica had moved on to: what a client was told then did
/// not happen. Replica 0 is faulty and played by the test.
#[test]
fn a_word_in_the_wrong_view_makes_a_client_believe_what_does_not_happen() {
    let mut group = Group::with(4, PbftSettings { adaptive_batching: false, ..settings_with_batches() });
    group.down = vec![R[0]];
    let write = signed(1, 1);
    let is_prepare = |wire: &Wire| matches!(wire.message, PbftMessage::Prepare(_));
    // The views in which correct replicas have told the client that they executed it tentatively.
    let mut words = vec![];

    // View 0: 1 alone commits the write at 1.
    let batch = Arc::new(Batch { time: Instant(1), requests: vec![write.clone()] });
    for i in [1, 2] {
        let proposal = PrePrepare { view: View(0), seq: Seq(1), batch: Arc::clone(&batch) };
        group.receive(i, R[0], PbftMessage::PrePrepare(proposal));
    }
    group.deliver(|wire| !(is_prepare(wire) && wire.from == R[2] && wire.to == R[1]));
    assert_eq!(tentative(&group), [1]);

    // 2, 3 and the faulty one go on to view 2.
    let to_or_from_1 = |wire: &Wire| wire.to == R[1] || wire.from == R[1];
    for i in [2, 3] {
        group.event(i, Event::Request(signed(2, 1)));
    }
    let asks = |view, pre_prepared| {
        let (stable, prepared) = (None, vec![]);
        PbftMessage::ViewChange(ViewChange { view, incarnation: 0, stable, prepared, pre_prepared })
    };
    let mut asked = vec![];
    for view in [View(1), View(2)] {
        group.give_up(2);
        group.give_up(3);
        for i in [2, 3] {
            group.receive(i, R[0], asks(view, vec![]));
        }
        group.deliver(|wire| {
            let is_kept = wire.to == R[1]
                && matches!(&wire.message, PbftMessage::ViewChange(own) if own.view == View(2));
            asked.extend(is_kept.then(|| wire.clone()));
            to_or_from_1(wire) || is_commit(wire)
        });
    }
    // 1 hears of it, and of the client, before its view change is on disk.
    let mut actions = vec![];
    for wire in asked {
        let Wire { from, message, proof, .. } = wire;
        let event = Event::Message { from, message, proof, key: 0 };
        group.nodes[1].pbft.handle(group.now, event, &mut actions);
    }
    let mut told_view = View(0);
    for action in &actions {
        match action {
            Action::LeftView(view) => told_view = *view,
            Action::Rollback => group.nodes[1].tentative = None,
            _ => {}
        }
    }
    if group.nodes[1].tentative.is_some() {
        // What the engine answers to the client that asks again; see the test of that name there.
        words.push(told_view);
    }
    for action in actions {
        if let Action::Persist { id, record } = action {
            group.nodes[1].records.push(record);
            group.event(1, Event::Persisted(id));
        }
    }

    // View 2: another request at 1, which 2 and 3 decide; then the write at 2, which 2 alone commits.
    let proposed = |group: &Group, by: usize, view, seq| {
        let proposed = group.sent(R[by], |wire| match &wire.message {
            PbftMessage::PrePrepare(p) if p.seq == seq && p.view == view => Some(p.batch.digest()),
            _ => None,
        });
        *proposed.first().expect("it is proposed")
    };
    let other = proposed(&group, 2, View(2), Seq(1));
    let vote = Vote { view: View(2), seq: Seq(1), digest: other };
    for i in [2, 3] {
        group.receive(i, R[0], PbftMessage::Prepare(vote));
        group.receive(i, R[0], PbftMessage::Commit(vote));
    }
    group.deliver(to_or_from_1);
    for (i, from) in [(2, R[3]), (3, R[2])] {
        group.receive(i, from, PbftMessage::Commit(vote));
    }
    assert!([2, 3].iter().all(|i| group.executed(*i) == [(2, 1)]));
    group.event(2, Event::Request(write.clone()));
    group.deliver(|wire| to_or_from_1(wire) || is_commit(wire));
    let vote = Vote { view: View(2), seq: Seq(2), digest: proposed(&group, 2, View(2), Seq(2)) };
    group.receive(2, R[0], PbftMessage::Prepare(vote));
    group.lose();
    assert!(group.nodes[2].tentative.is_some());
    words.push(View(2));

    // View 3, without 2: nobody knows that the write prepared, and something else takes its place.
    group.down = vec![R[0], R[2]];
    group.event(3, Event::Request(signed(3, 1)));
    group.give_up(3);
    let claim = Claim { seq: Seq(1), digest: other, view: View(2) };
    for i in [1, 3] {
        group.receive(i, R[0], asks(View(3), vec![claim]));
    }
    group.settle();
    let mut helped = vec![];
    for _ in 0..20 {
        for seq in [Seq(1), Seq(2)] {
            let voted = group.sent(R[1], |wire| match wire.message {
                PbftMessage::Prepare(vote) if vote.view == View(3) && vote.seq == seq => Some(vote),
                _ => None,
            });
            if let Some(vote) = voted.first().filter(|vote| !helped.contains(*vote)) {
                helped.push(*vote);
                for i in [1, 3] {
                    group.receive(i, R[0], PbftMessage::Prepare(*vote));
                    group.receive(i, R[0], PbftMessage::Commit(*vote));
                }
            }
        }
        group.run_for(Duration::from_millis(50));
    }
    for i in [1, 3] {
        assert_eq!(group.executed(i), [(2, 1), (3, 1)], "the write is nowhere");
    }
    // With the faulty one an agreement quorum told the client that it executed the write in view 2.
    let in_view_2 = words.iter().filter(|view| **view == View(2)).count();
    assert!(1 + in_view_2 < 3, "the client believes that the write is done");
}
