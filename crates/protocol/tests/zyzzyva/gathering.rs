//! Requests gather while many are under way, and wait for nobody where few are.

use crate::group::{Group, R, settings};
use crate::requests::signed;
use althing_protocol::zyzzyva::{ZyzzyvaMessage as M, ZyzzyvaSettings};
use althing_protocol::{Event, Message};
use althing_types::{Seq, View};

fn large_batches() -> ZyzzyvaSettings {
    let (checkpoint_period, log_size) = (64, 128);
    ZyzzyvaSettings { checkpoint_period, log_size, max_batch_requests: 64, ..settings() }
}

/// How many requests there are in each batch that the primary has sent to replica 3.
fn sizes(group: &Group) -> Vec<usize> {
    let to_one = group.history.iter().filter(|wire| wire.to == R[3]);
    let batches = to_one.filter_map(|wire| match &wire.message {
        M::OrderRequest(order) => Some(order.batch.requests.len()),
        _ => None,
    });
    batches.collect()
}

fn ask(group: &mut Group, clients: core::ops::RangeInclusive<u64>) {
    for client in clients {
        group.event(0, Event::Request(signed(client, 1)));
    }
}

#[test]
fn requests_gather_while_many_are_under_way_and_go_on_once_backups_have_them() {
    for is_one_down in [false, true] {
        let mut group = Group::with(4, large_batches());
        group.down = if is_one_down { vec![R[3]] } else { vec![] };
        ask(&mut group, 1..=11);
        assert_eq!(sizes(&group), [1, 1, 1, 1, 1, 1, 1, 1], "three are few beside eight");
        ask(&mut group, 12..=12);
        assert_eq!(sizes(&group)[8..], [4], "half as many are not");
        ask(&mut group, 13..=14);
        assert_eq!(sizes(&group).len(), 9);
        let before = group.now;
        group.settle();
        assert_eq!((sizes(&group)[9..].to_vec(), group.now), (vec![2], before), "no timer was needed");
        assert_eq!(group.done(1).len(), 14);
    }
}

#[test]
fn one_request_at_a_time_waits_for_nobody_and_hardly_any_backup_speaks() {
    let mut group = Group::with(4, large_batches());
    group.work(1..=32);
    assert_eq!(sizes(&group), [1; 32]);
    let said = group.history.iter().filter(|wire| wire.message.kind() == "reached").count();
    assert_eq!(said, 3 * 32 / 8);
}

#[test]
fn what_a_liar_says_to_have_reached_makes_nobody_wait_and_nothing_final() {
    let mut group = Group::with(4, large_batches());
    for _ in 0..3 {
        group.receive(0, R[3], M::Reached { view: View(0), seq: Seq(u64::MAX) });
    }
    group.receive(1, R[3], M::Reached { view: View(0), seq: Seq(9) });
    ask(&mut group, 1..=9);
    assert_eq!(sizes(&group), [1; 8], "it counts for one, and for no more than there is");
    group.settle();
    assert_eq!((group.done(1).len(), group.executed(1).len()), (9, 0));
}

#[test]
fn where_nobody_says_how_far_he_is_requests_wait_no_longer_than_until_the_others_are_final() {
    let mut group = Group::with(4, large_batches());
    group.loses = |wire| wire.message.kind() == "reached";
    ask(&mut group, 1..=11);
    group.settle();
    assert_eq!(group.done(1).len(), 8);
    let before = group.now;
    group.run_until(|group| group.done(1).len() == 11);
    assert!(group.now.since(before) <= settings().settle_patience);
    group.assert_safe();
}
