//! Getting what was missed: votes, batches, state.

use crate::group::{Group, R, signed, with_macs};
use althing_protocol::pbft::{PbftMessage, PrePrepare, Status, Vote};
use althing_protocol::{Batch, Event, Message};
use althing_types::{Digest, Instant, Seq, View};
use std::sync::Arc;
use std::time::Duration;

/// The default, after which a replica that waits speaks up, and asks again.
const STATUS_PERIOD: Duration = Duration::from_millis(100);

#[test]
fn a_replica_that_slept_learns_the_state() {
    let mut group = Group::new(4);
    group.down = vec![R[3]];
    for number in 1..=30 {
        group.submit(&signed(1, number));
        group.settle();
    }
    group.down.clear();
    group.run_until(|group| group.nodes[3].fetching.is_some());
    group.transfer(3, 1);
    group.run_until(|group| group.executed(3).len() == 30);
}

#[test]
fn a_replica_that_missed_some_messages_gets_them_again() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    group.deliver(|wire| wire.to == R[2]);
    assert!(group.executed(2).is_empty());
    group.run_until(|group| group.executed(2) == [(1, 1)]);
    assert_eq!(group.nodes[2].pbft.view(), View(0));
}

#[test]
fn what_comes_beyond_the_log_counts_once_the_log_gets_there() {
    let mut group = Group::new(4);
    group.unkept = vec![R[3]];
    for number in 1..=10 {
        group.submit(&signed(1, number));
        group.settle();
    }
    assert_eq!((group.executed(0).len(), group.executed(3).len()), (10, 8), "a log is that long");
    group.event(3, Event::StateKept(Seq(4)));
    assert_eq!(group.executed(3).len(), 10, "nothing has to be said again");
}

#[test]
fn of_what_comes_beyond_the_log_only_what_may_count_is_held() {
    let mut group = Group::new(4);
    let mut held = |from, message| {
        let before = group.nodes[3].pbft.footprint();
        group.receive(3, from, message);
        group.nodes[3].pbft.footprint() - before
    };
    let vote = |seq| Vote { view: View(0), seq: Seq(seq), digest: Digest([1; 32]) };
    let proposal = |view, seq| {
        let batch = Arc::new(Batch { time: Instant(0), requests: vec![signed(1, 1)] });
        PbftMessage::PrePrepare(PrePrepare { view: View(view), seq: Seq(seq), batch })
    };
    let too_much = |seq| {
        let batch = Batch { time: Instant(0), requests: vec![signed(1, 1), signed(2, 1)] };
        PbftMessage::PrePrepare(PrePrepare { view: View(0), seq: Seq(seq), batch: Arc::new(batch) })
    };
    for (from, message, is_held) in [
        (R[1], PbftMessage::Prepare(vote(9)), 1),
        (R[1], PbftMessage::Prepare(vote(9)), 0),
        (R[1], PbftMessage::Prepare(vote(16)), 1),
        (R[1], PbftMessage::Prepare(vote(17)), 0),
        (R[0], PbftMessage::Prepare(vote(10)), 0),
        (R[0], PbftMessage::Commit(vote(10)), 1),
        (R[0], proposal(0, 10), 1),
        (R[0], proposal(0, 10), 0),
        (R[1], proposal(0, 10), 0),
        // Each is the primary of some view: of none but this one are batches held.
        (R[1], proposal(1, 10), 0),
        (R[2], proposal(2, 11), 0),
        (R[1], proposal(0, 12), 0),
        (R[0], too_much(12), 0),
        (R[0], proposal(0, 12), 1),
    ] {
        assert_eq!(held(from, message.clone()), is_held, "{from}: {message:?}");
    }
}

#[test]
fn a_primary_that_waits_hears_from_those_that_miss_what_it_said() {
    let mut group = Group::new(4);
    let start = group.now;
    group.event(0, Event::Request(with_macs(1, 1)));
    group.lose();
    group.run_until(|group| (0..4).all(|i| group.executed(i) == [(1, 1)]));
    assert!(group.now.since(start) < 5 * STATUS_PERIOD, "{:?}", group.now.since(start));
    group.run_for(10 * STATUS_PERIOD);
    group.history.clear();
    group.run_for(100 * STATUS_PERIOD);
    let statuses = group.history.iter().filter(|wire| matches!(wire.message, PbftMessage::Status(_)));
    assert_eq!(statuses.count(), 10 * 4 * 3, "nobody talks more than it has to while nobody waits");
}

#[test]
fn only_a_replica_that_stands_still_is_sent_votes_again() {
    let mut group = Group::new(4);
    for number in 1..=3 {
        group.submit(&signed(1, number));
        group.settle();
    }
    // What replica 0 answers to replica 1 when that says that it has executed so much.
    let mut answer = |after: Duration, executed: u64| -> Vec<(&str, Seq)> {
        group.now = group.now + after;
        group.history.clear();
        let status = Status {
            view: View(0),
            is_in_view: true,
            stable: Seq(0),
            executed: Seq(executed),
            is_suspicious: false,
        };
        group.receive(0, R[1], PbftMessage::Status(status));
        group.lose();
        group.sent(R[0], |wire| match &wire.message {
            PbftMessage::PrePrepare(proposal) => Some((wire.message.kind(), proposal.seq)),
            PbftMessage::Commit(vote) => Some((wire.message.kind(), vote.seq)),
            _ => None,
        })
    };
    assert_eq!(answer(STATUS_PERIOD, 0), [], "it is heard of for the first time");
    assert_eq!(answer(STATUS_PERIOD, 1), [], "it moves");
    let missed = |seq| [("pre-prepare", Seq(seq)), ("commit", Seq(seq))];
    assert_eq!(answer(STATUS_PERIOD, 1), [missed(2), missed(3)].concat(), "it stands still");
    assert_eq!(answer(STATUS_PERIOD / 4, 1), [], "it has just been answered");
    assert_eq!(answer(STATUS_PERIOD, 2), [], "it moves again");
    assert_eq!(answer(STATUS_PERIOD, 2), missed(3), "it stands still again");
    assert_eq!(answer(STATUS_PERIOD, 3), [], "it has everything");
}

#[test]
fn a_committed_batch_that_is_missing_is_asked_for_again_after_a_while() {
    let mut group = Group::new(4);
    let questions = |group: &Group| {
        group
            .sent(R[2], |wire| matches!(wire.message, PbftMessage::FetchBatch { .. }).then_some(wire.to))
            .len()
    };
    group.loses = |wire| matches!(wire.message, PbftMessage::FetchBatch { .. });
    group.event(0, Event::Request(signed(1, 1)));
    group.deliver(|wire| wire.to == R[2] && matches!(wire.message, PbftMessage::PrePrepare(_)));
    assert_eq!(questions(&group), 3, "one to each of the others");
    // Whatever else happens meanwhile, it does not ask again at once.
    group.event(2, Event::Request(signed(2, 1)));
    assert_eq!(questions(&group), 3);
    group.loses = |wire| matches!(wire.message, PbftMessage::PrePrepare(_));
    group.run_until(|group| group.executed(2).contains(&(1, 1)));
    assert_eq!(questions(&group), 6);
    assert_eq!(group.nodes[2].pbft.view(), View(0));
}

#[test]
fn a_batch_that_a_new_view_assigned_is_asked_for_again() {
    let mut group = Group::new(4);
    // Replica 3 knows the request and not the batch; the batch prepares at the others.
    group.submit(&signed(1, 1));
    group.deliver(|wire| {
        matches!(wire.message, PbftMessage::Commit(_))
            || (wire.to == R[3] && matches!(wire.message, PbftMessage::PrePrepare(_)))
    });
    group.down = vec![R[0]];
    for i in 1..4 {
        group.give_up(i);
    }
    // Without replica 3 nothing prepares in view 1. Its question is lost, and it gets no proposal.
    group.deliver(|wire| matches!(wire.message, PbftMessage::FetchBatch { .. }));
    assert!((1..4).all(|i| group.nodes[i].pbft.view() == View(1) && group.executed(i).is_empty()));
    group.loses = |wire| matches!(wire.message, PbftMessage::PrePrepare(_));
    group.run_until(|group| (1..4).all(|i| group.executed(i) == [(1, 1)]));
    assert_eq!(group.nodes[3].pbft.view(), View(1));
}

#[test]
fn a_batch_body_that_nobody_asked_for_is_dropped() {
    let mut group = Group::new(4);
    group.event(0, Event::Request(signed(1, 1)));
    group.lose();
    let batch = group.sent(R[0], |wire| match &wire.message {
        PbftMessage::PrePrepare(proposal) => Some(proposal.batch.clone()),
        _ => None,
    });
    let before = group.nodes[2].pbft.footprint();
    group.receive(2, R[1], PbftMessage::BatchBody { seq: Seq(1), batch: batch[0].clone() });
    assert_eq!(group.nodes[2].pbft.footprint(), before);
}

#[test]
fn one_correct_replica_that_has_executed_a_batch_decides_it() {
    let mut group = Group::new(4);
    group.event(0, Event::Request(signed(1, 1)));
    group.deliver(|wire| wire.to == R[2] && !matches!(wire.message, PbftMessage::PrePrepare(_)));
    let digest = group.nodes[0].decisions[0].digest;
    let decided = PbftMessage::Decided { seq: Seq(1), digest };
    // One replica may say so as often as it likes.
    group.receive(2, R[0], decided.clone());
    group.receive(2, R[0], decided.clone());
    assert!(group.executed(2).is_empty());
    group.receive(2, R[1], decided);
    assert_eq!(group.executed(2), [(1, 1)]);
}
