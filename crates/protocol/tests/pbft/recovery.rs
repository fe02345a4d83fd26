//! Starting again, with the disk and without.

use crate::group::{Group, R, Wire, signed};
use althing_protocol::Event;
use althing_protocol::pbft::{NewView, PbftMessage};
use althing_types::{Seq, View};

#[test]
fn a_replica_restarted_from_disk_knows_what_it_voted_for() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    group.deliver(|wire| matches!(wire.message, PbftMessage::Commit(_)));
    // Everybody loses power at once. The batch had prepared, so it keeps its number.
    for i in 0..4 {
        group.restart(i);
    }
    group.run_until(|group| (0..4).all(|i| group.executed(i) == [(1, 1)]));
}

#[test]
fn a_group_restarted_from_disk_goes_on_from_its_checkpoint() {
    let mut group = Group::new(4);
    for number in 1..=6 {
        group.submit(&signed(1, number));
        group.settle();
    }
    for i in 0..4 {
        group.restart(i);
        assert_eq!(group.nodes[i].pbft.stable(), Seq(4));
    }
    group.run_until(|group| (0..4).all(|i| group.executed(i).len() == 6));
    group.submit(&signed(1, 7));
    group.settle();
    assert!((0..4).all(|i| group.executed(i).last() == Some(&(1, 7))));
}

#[test]
fn a_replica_without_its_disk_votes_again_only_above_what_it_may_have_voted_for() {
    let mut group = Group::new(4);
    for number in 1..=6 {
        group.submit(&signed(1, number));
        group.settle();
    }
    group.recover(3, 1);
    assert!(group.nodes[3].pbft.stable() >= Seq(36), "4 had been stable, and four times the log is 32");
    group.down = vec![R[1]];
    group.submit(&signed(1, 7));
    group.run_until(|group| group.executed(3).contains(&(1, 7)));
}

#[test]
fn a_primary_without_its_disk_is_voted_out() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    group.settle();
    group.restart_without_disk(0);
    group.run_until(|group| (1..4).all(|i| group.nodes[i].pbft.view() == View(1)));
    group.submit(&signed(1, 2));
    group.run_until(|group| (1..4).all(|i| group.executed(i).len() == 2));
}

/// The new views for view 1 that its primary has sent.
fn new_views(group: &Group) -> Vec<NewView> {
    group.sent(R[1], |wire| match &wire.message {
        PbftMessage::NewView(new_view) => Some(new_view.clone()),
        _ => None,
    })
}

#[test]
fn a_new_primary_that_restarts_sends_the_new_view_it_had_made() {
    let mut group = Group::new(4);
    group.down = vec![R[0]];
    group.submit(&signed(1, 1));
    group.lose();
    for i in 1..4 {
        group.give_up(i);
    }
    // The new view is on disk and under way when its maker loses power, before it has entered itself.
    group.deliver_until(|wire| matches!(wire.message, PbftMessage::NewView(_)));
    let made = new_views(&group);
    assert!(made[0].view_changes.iter().all(|signed| signed.signer != R[0]));
    group.restart(1);
    assert!(!group.nodes[1].pbft.is_in_view());
    // It arrives nowhere. Then replica 0 is back and 3 is not: another new view would follow.
    group.lose();
    group.down = vec![R[3]];
    group.run_until(|group| (0..3).all(|i| group.executed(i) == [(1, 1)]));
    let sent = new_views(&group);
    assert!(sent.len() > made.len() && sent.iter().all(|new_view| *new_view == made[0]));
    assert!(group.nodes.iter().all(|node| node.evidence.is_empty()));
}

#[test]
fn a_replica_that_restarts_repeats_its_view_change() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    group.lose();
    group.give_up(2);
    let said = group.intercept_view_change(R[1]);
    group.restart(2);
    assert_eq!(group.intercept_view_change(R[1]), said);
}

#[test]
fn a_group_of_one_goes_on_after_its_proposal_alone_reached_the_disk() {
    let mut group = Group::new(1);
    group.submit(&signed(1, 1));
    // Of all that it wrote, only the proposal survives.
    group.nodes[0].records.truncate(1);
    group.restart(0);
    group.run_until(|group| group.executed(0) == [(1, 1)]);
}

/// Otherwise a replica that lost its disk could vote again too soon: what it signed before about a
/// checkpoint that the others had made, and forgotten, would still count.
#[test]
fn a_restart_does_not_make_a_replica_forget_which_checkpoints_it_made() {
    let mut group = Group::new(4);
    for number in 1..=8 {
        group.submit(&signed(1, number));
        group.deliver(|wire| matches!(wire.message, PbftMessage::Checkpoint(_)) && wire.to != R[3]);
    }
    let stable: Vec<_> = group.nodes.iter().map(|node| node.pbft.stable()).collect();
    assert_eq!(stable, [0, 0, 0, 8].map(Seq));
    for i in 0..3 {
        group.restart(i);
    }
    group.lose();
    group.restart_without_disk(3);
    group.deliver(|wire| !matches!(wire.message, PbftMessage::RecoverQuery { .. }));
    for from in &R[..3] {
        let reports = group.sent(*from, |wire| match wire.message {
            PbftMessage::RecoverReport { last, .. } => Some(last),
            _ => None,
        });
        assert_eq!(reports, [Seq(8)], "{from}");
    }
}

#[test]
fn a_query_that_comes_late_does_not_end_the_view_of_one_that_votes_again() {
    let mut group = Group::new(4);
    group.recover(1, 2);
    group.settle();
    let is_query = |wire: &&Wire| matches!(wire.message, PbftMessage::RecoverQuery { .. });
    let late: Vec<_> = group.history.iter().filter(is_query).cloned().collect();
    for i in [0, 2, 3] {
        group.event(i, Event::Request(signed(2, 1)));
    }
    group.lose();
    for i in [0, 2, 3] {
        group.give_up(i);
    }
    let all_in_view_1 =
        |group: &Group| group.nodes.iter().all(|node| node.pbft.is_in_view() && node.pbft.view() == View(1));
    group.run_until(all_in_view_1);
    for wire in late {
        group.receive(wire.to.0.into(), wire.from, wire.message);
    }
    assert!(all_in_view_1(&group));
}
