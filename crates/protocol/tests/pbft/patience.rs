//! Proposals by name, where replicas wait for what they lack of them.

use crate::group::{Group, R, Wire, settings_with_batches, signed, with_macs};
use althing_protocol::pbft::{PbftMessage, PbftSettings};
use althing_protocol::{Event, Request, TimerId};
use althing_types::{Seq, View};
use std::time::Duration;

/// As long as a status period.
const PATIENCE: Duration = Duration::from_millis(100);

/// The timer of the status.
const STATUS_TIMER: TimerId = TimerId(1);

/// All requests of these tests are of three bytes.
fn group() -> Group {
    let floors = PbftSettings { primary_slack: 0, primary_passes: 0, ..settings_with_batches() };
    Group::with(4, PbftSettings { separate_bytes: 3, separate_patience: PATIENCE, ..floors })
}

/// A client sends its request to the primary, and to some of the others beforehand.
fn send(group: &mut Group, request: &Request, shown_to: &[usize]) {
    for i in shown_to {
        group.event(*i, Event::Body(request.clone()));
    }
    group.event(0, Event::Request(request.clone()));
}

fn asks_primary(wire: &Wire) -> bool {
    matches!(wire.message, PbftMessage::FetchProposal { .. })
}

fn asks_all(wire: &Wire) -> bool {
    matches!(wire.message, PbftMessage::FetchBatch { .. })
}

fn asking(group: &Group) -> usize {
    group.history.iter().filter(|wire| asks_primary(wire) || asks_all(wire)).count()
}

#[test]
fn what_comes_late_is_put_together_without_a_word() {
    let mut group = group();
    group.is_restored = true;
    send(&mut group, &with_macs(1, 1), &[1]);
    group.settle();
    assert!((0..4).all(|i| group.executed(i).is_empty()), "two of four have it");
    group.event(2, Event::Body(with_macs(1, 1)));
    group.settle();
    assert!((0..3).all(|i| group.executed(i) == [(1, 1)]));
    assert!(group.executed(3).is_empty(), "it is decided, and not all here");
    // What its client sends as a request is as good.
    group.event(3, Event::Request(signed(1, 1)));
    group.settle();
    assert_eq!(group.executed(3), [(1, 1)]);
    assert_eq!(asking(&group), 0);
    assert!(group.nodes.iter().all(|node| node.pbft.footprint() == group.nodes[0].pbft.footprint()));
}

#[test]
fn what_does_not_come_is_asked_for_and_once() {
    let mut group = group();
    send(&mut group, &signed(1, 1), &[1, 2]);
    group.loses = |wire| wire.from == R[3] && matches!(wire.message, PbftMessage::Status(_));
    group.run_for(PATIENCE);
    assert_eq!((group.executed(0).len(), group.executed(3).len(), asking(&group)), (1, 0, 0));
    group.run_for(PATIENCE);
    assert_eq!(group.executed(3), [(1, 1)]);
    let asked: Vec<_> = group.history.iter().filter(|wire| asks_primary(wire)).collect();
    assert_eq!(asked.iter().map(|wire| (wire.from, wire.to)).collect::<Vec<_>>(), [(R[3], R[0])]);
    assert_eq!(group.history.iter().filter(|wire| asks_all(wire)).count(), 0, "the primary had it");
}

#[test]
fn others_are_asked_where_the_primary_does_not_answer() {
    let mut group = group();
    send(&mut group, &signed(1, 1), &[1, 2]);
    group.settle();
    group.loses = |wire| asks_primary(wire) || matches!(wire.message, PbftMessage::PrePrepare(_));
    group.run_until(|group| group.executed(3) == [(1, 1)]);
    assert!(group.history.iter().any(asks_all));
    assert!(group.nodes.iter().all(|node| node.pbft.view() == View(0)));
}

#[test]
fn a_primary_that_names_what_does_not_exist_keeps_nobody_from_what_is_decided() {
    let mut group = group();
    group.loses = |wire| {
        let is_primarys = wire.from == R[0] && wire.to == R[3];
        is_primarys && matches!(wire.message, PbftMessage::ShortPrePrepare(_) | PbftMessage::PrePrepare(_))
    };
    send(&mut group, &with_macs(1, 1), &[1, 2]);
    let short = group.history.iter().find_map(|wire| match &wire.message {
        PbftMessage::ShortPrePrepare(short) => Some(short.clone()),
        _ => None,
    });
    let mut short = short.expect("it was sent");
    short.named[0].number.0 = 99;
    let before = group.nodes[3].pbft.footprint();
    for again in 0..40 {
        group.receive(3, R[0], PbftMessage::ShortPrePrepare(short.clone()));
        assert!(again > 0 || group.nodes[3].pbft.footprint() > before, "it is held");
        group.run_for(PATIENCE / 4);
    }
    assert_eq!(group.executed(3), [(1, 1)]);
    assert!(group.history.iter().any(asks_all));
}

#[test]
fn it_is_periods_that_are_waited_for_and_not_a_time_that_may_stand_still() {
    let mut group = group();
    group.loses = |wire| wire.from == R[3] && matches!(wire.message, PbftMessage::Status(_));
    send(&mut group, &with_macs(1, 1), &[1, 2]);
    group.settle();
    // What comes during a period sees it end at once.
    for asked in [0, 0, 1] {
        assert_eq!((asking(&group), group.executed(3).len()), (asked, asked));
        group.event(3, Event::Timer(STATUS_TIMER));
        group.settle();
    }
    assert_eq!(group.executed(3), [(1, 1)]);
}

#[test]
fn a_primary_that_names_what_nobody_has_is_left() {
    let mut group = group();
    group.event(0, Event::Request(signed(1, 1)));
    group.loses = |wire| wire.from == R[0] && matches!(wire.message, PbftMessage::PrePrepare(_));
    for i in 1..4 {
        group.event(i, Event::Request(signed(2, 1)));
    }
    group.run_until(|group| (1..4).all(|i| group.executed(i).contains(&(2, 1))));
    assert!((1..4).all(|i| group.nodes[i].pbft.view() > View(0)));
}

#[test]
fn a_view_that_ends_takes_what_is_decided_from_the_others() {
    let mut group = group();
    send(&mut group, &signed(1, 1), &[1, 2]);
    group.settle();
    assert!(group.executed(3).is_empty());
    group.down = vec![R[0]];
    for i in 1..4 {
        group.event(i, Event::Request(signed(2, 1)));
    }
    group.run_until(|group| (1..4).all(|i| group.executed(i) == [(1, 1), (2, 1)]));
}

#[test]
fn what_is_beyond_the_log_waits_too_and_no_farther_than_another_log() {
    let mut group = group();
    group.unkept = vec![R[3]];
    for number in 1..=8 {
        send(&mut group, &with_macs(1, number), &[1, 2, 3]);
        group.settle();
    }
    for number in 9..=11 {
        send(&mut group, &with_macs(1, number), if number == 10 { &[1, 2] } else { &[1, 2, 3] });
        group.settle();
    }
    assert_eq!((group.executed(0).len(), group.executed(3).len(), asking(&group)), (11, 8, 0));
    let held = group.nodes[3].pbft.footprint();
    let far = group.history.iter().find_map(|wire| match &wire.message {
        PbftMessage::ShortPrePrepare(short) => Some(short.clone()),
        _ => None,
    });
    let mut far = far.expect("there were some");
    (far.seq, far.named[0].number.0) = (Seq(17), 99);
    group.receive(3, R[0], PbftMessage::ShortPrePrepare(far));
    assert_eq!((group.nodes[3].pbft.footprint(), asking(&group)), (held, 1));
    group.unkept = vec![];
    group.event(3, Event::StateKept(Seq(4)));
    group.settle();
    assert_eq!(group.executed(3).len(), 9);
    // Others have gone on since, so this is not the latest of its client: it is asked for.
    group.event(3, Event::Body(with_macs(1, 10)));
    group.run_for(2 * PATIENCE);
    assert_eq!(group.executed(3).len(), 11);
}

#[test]
fn what_was_said_under_keys_that_have_ended_is_forgotten() {
    let mut group = group();
    send(&mut group, &with_macs(1, 1), &[]);
    group.settle();
    assert_eq!(asking(&group), 0);
    group.event(1, Event::KeysEnded { of: R[0], before: 1 });
    for i in 1..4 {
        group.event(i, Event::Body(with_macs(1, 1)));
    }
    let voted = group.sent(R[1], |wire| matches!(wire.message, PbftMessage::Prepare(_)).then_some(()));
    assert!(voted.is_empty(), "replica 1 has no proposal any more");
    group.run_until(|group| (0..4).all(|i| group.executed(i) == [(1, 1)]));
}
