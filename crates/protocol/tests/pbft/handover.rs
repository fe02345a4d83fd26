//! A primary that steps down.

use crate::group::{Group, R, VIEW_TIMER, settings_with_batches, signed, with_macs};
use althing_protocol::Event;
use althing_protocol::pbft::PbftMessage;
use althing_types::View;
use std::collections::BTreeSet;
use std::time::Duration;

fn views(group: &Group) -> Vec<(View, bool)> {
    group.nodes.iter().map(|node| (node.pbft.view(), node.pbft.is_in_view())).collect()
}

#[test]
fn a_primary_that_steps_down_is_followed_without_a_timeout() {
    let mut group = Group::new(4);
    group.event(0, Event::Request(with_macs(1, 1)));
    group.settle();
    let before = group.now;
    group.event(0, Event::HandOver);
    group.settle();
    assert_eq!(views(&group), vec![(View(1), true); 4]);
    group.event(1, Event::Request(with_macs(2, 1)));
    group.settle();
    // What needs no signature still needs none, and no time has passed.
    assert!((0..4).all(|i| group.executed(i) == [(1, 1), (2, 1)]));
    assert_eq!(group.now, before);
    // The next view has the first one's timeout.
    group.submit(&signed(3, 1));
    group.lose();
    let ends = group.now + settings_with_batches().view_timeout;
    assert_eq!(group.nodes[2].timers.get(&VIEW_TIMER), Some(&ends));
}

#[test]
fn what_is_under_way_and_what_waits_survives_the_step() {
    let mut group = Group::new(4);
    group.event(0, Event::Request(with_macs(1, 1)));
    group.deliver(|wire| matches!(wire.message, PbftMessage::Commit(_)));
    group.event(0, Event::Request(with_macs(2, 1)));
    group.lose();
    group.event(0, Event::HandOver);
    group.event(0, Event::Request(with_macs(3, 1)));
    group.settle();
    for i in 0..4 {
        // One that is ordered twice takes effect once: that is the engine's part.
        let executed: BTreeSet<_> = group.executed(i).into_iter().collect();
        assert_eq!(executed, BTreeSet::from([(1, 1), (2, 1), (3, 1)]));
    }
}

#[test]
fn backups_and_lone_replicas_have_nothing_to_hand_over() {
    let mut group = Group::new(4);
    (1..4).for_each(|i| group.event(i, Event::HandOver));
    group.settle();
    assert_eq!(views(&group), vec![(View(0), true); 4]);
    let mut alone = Group::new(1);
    alone.event(0, Event::HandOver);
    alone.submit(&signed(1, 1));
    alone.settle();
    assert_eq!(alone.executed(0), [(1, 1)]);
}

#[test]
fn the_next_in_turn_follows_whatever_view_is_asked_for() {
    let mut group = Group::new(7);
    group.event(0, Event::HandOver);
    let mut content = group
        .sent(R[0], |wire| match &wire.message {
            PbftMessage::ViewChange(content) => Some(content.clone()),
            _ => None,
        })
        .remove(0);
    group.lose();
    // It would like to be followed by replica 3.
    content.view = View(3);
    (1..7).for_each(|i| group.receive(i, R[0], PbftMessage::ViewChange(content.clone())));
    assert!(group.nodes[1..].iter().all(|node| node.pbft.view() == View(1)));
}

#[test]
fn one_that_is_told_alone_leaves_alone_and_the_group_goes_on() {
    let mut group = Group::new(4);
    group.event(0, Event::HandOver);
    // Only replica 3 hears of it, and the primary goes on as if it had said nothing.
    group.deliver(|wire| matches!(wire.message, PbftMessage::ViewChange(_)) && wire.to != R[3]);
    assert_eq!(group.nodes[3].pbft.view(), View(1));
    group.down = vec![R[0]];
    group.submit(&signed(1, 1));
    group.run_until(|group| (1..4).all(|i| group.executed(i) == [(1, 1)]));
}

#[test]
fn a_primary_that_led_in_vain_counts_as_one_though_it_hands_over() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    group.lose();
    group.event(0, Event::HandOver);
    group.deliver(|wire| matches!(wire.message, PbftMessage::PrePrepare(_)));
    assert_eq!(views(&group)[1..], [(View(1), true); 3]);
    group.lose();
    for i in 1..4 {
        group.give_up(i);
    }
    group.deliver(|wire| matches!(wire.message, PbftMessage::PrePrepare(_)));
    assert_eq!(group.nodes[3].pbft.view(), View(2));
    let ends = group.now + Duration::from_secs(2);
    assert_eq!(group.nodes[3].timers.get(&VIEW_TIMER), Some(&ends));
}
