//! What survives a restart, and what a lost disk means.

use crate::group::{Group, R};
use crate::requests::signed;
use althing_protocol::zyzzyva::ZyzzyvaMessage;
use althing_types::{Seq, View};

#[test]
fn power_that_fails_everywhere_loses_nothing_that_was_answered() {
    for count in [1, 3, 4, 5, 9, 12] {
        let mut group = Group::new(4);
        group.work(1..=count);
        let decided = group.oracle.decided.clone();
        assert_eq!(decided.len() as u64, count);
        group.wires.clear();
        for i in 0..4 {
            group.restart(i);
        }
        group.run_until(|group| group.have_executed(&[0, 1, 2, 3], count as usize));
        assert_eq!(group.nodes[2].order(), decided);
        group.work(count + 1..=count + 5);
        assert_eq!(group.oracle.decided.len() as u64, count + 5);
        group.assert_safe();
    }
}

#[test]
fn what_was_not_on_disk_was_never_answered() {
    let mut group = Group::new(4);
    group.work(1..=1);
    group.stuck = vec![R[1], R[2], R[3]];
    group.work(2..=2);
    assert_eq!(group.oracle.decided.len(), 1);
    group.wires.clear();
    for i in 1..4 {
        group.restart(i);
        assert_eq!(group.nodes[i].zyzzyva.accepted(), Seq(1));
    }
    group.stuck.clear();
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 2));
    group.assert_safe();
}

#[test]
fn a_replica_that_starts_again_holds_to_the_certificate_that_it_said_it_held() {
    let mut group = Group::new(4);
    group.work(1..=2);
    let shown = group.certificate_of_clients().unwrap();
    for i in 0..3 {
        group.show(i, &shown);
    }
    group.lose();
    for i in 0..4 {
        group.restart(i);
        group.give_up(i);
    }
    let reported = group.wires.iter().filter(|wire| match &wire.message {
        ZyzzyvaMessage::ViewChange(content) => content.certificate.as_ref() == Some(&shown),
        _ => false,
    });
    assert_eq!(reported.count(), 3 * 4, "three hold it and tell all");
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 2));
    group.assert_safe();
}

#[test]
fn a_replica_that_starts_again_between_two_views_goes_on_from_there() {
    for stage in ["view-change", "new-view", "speculated", "committed"] {
        let mut group = Group::new(4);
        group.work(1..=2);
        for i in 0..4 {
            group.give_up(i);
        }
        group.deliver(|wire| {
            use althing_protocol::Message;
            wire.message.kind() == stage
        });
        for i in 0..4 {
            group.restart(i);
            assert_eq!(group.nodes[i].zyzzyva.view(), View(1), "{stage}");
        }
        group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 2));
        assert_eq!(group.common_view(), Some(View(1)), "{stage}");
        group.assert_safe();
    }
}

#[test]
fn a_replica_confirms_one_new_view_of_each_number_also_after_a_restart() {
    let mut group = Group::new(4);
    group.work(1..=1);
    for i in 0..4 {
        group.give_up(i);
    }
    group.deliver(|wire| matches!(wire.message, ZyzzyvaMessage::Speculated(_)));
    let confirmed = |group: &Group| {
        let said = group.history.iter().filter(|wire| wire.from == R[2]);
        let said = said.filter_map(|wire| match wire.message {
            ZyzzyvaMessage::Speculated(own) if own.view == View(1) => Some(own),
            _ => None,
        });
        said.collect::<std::collections::BTreeSet<_>>()
    };
    let before = confirmed(&group);
    assert_eq!(before.len(), 1);
    group.restart(2);
    assert_eq!(confirmed(&group), before);
}

#[test]
fn who_has_lost_its_disk_says_nothing_and_keeps_up() {
    let mut group = Group::new(4);
    group.work(1..=3);
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 3));
    group.restart_without_disk(3);
    let before = group.history.len();
    for number in 4..=14 {
        group.submit(&signed(1, number));
        group.run_with_transfers(|group| group.have_executed(&[0, 1, 2], number as usize));
    }
    group.run_with_transfers(|group| group.have_executed(&[0, 1, 2, 3], 14));
    assert!(group.nodes[3].told.is_empty());
    use ZyzzyvaMessage as M;
    let votes = group.history[before..].iter().filter(|wire| wire.from == R[3]).filter(|wire| {
        matches!(wire.message, M::Speculated(_) | M::Committed(_) | M::Checkpoint(_) | M::ViewChange(_))
    });
    assert_eq!(votes.count(), 0);
    group.restart(3);
    assert!(!group.nodes[3].zyzzyva.is_voting(), "it knows no more after another restart");
}

/// Replica 3 has slept, and hears of a view that starts beyond what it has. Its disk syncs only when it is told to.
fn with_a_sleeper() -> Group {
    let mut group = Group::new(4);
    group.loses = |wire| wire.to == R[3] || wire.from == R[3];
    group.work(1..=4);
    group.run_until(|group| (0..3).all(|i| group.nodes[i].zyzzyva.stable().0 == 4));
    group.work(5..=6);
    group.loses = |_| false;
    group.stuck = vec![R[3]];
    (0..3).for_each(|i| group.give_up(i));
    group.settle();
    group
}

/// The state that a view starts from may come while the record that enters the view is on its way to the disk.
#[test]
fn what_a_view_started_with_is_not_forgotten_where_its_state_came_meanwhile() {
    let sync_next = |group: &mut Group| {
        group.sync_one(3);
        group.settle();
    };
    let mut records = 0;
    let mut group = with_a_sleeper();
    while !group.nodes[3].zyzzyva.is_in_view() || group.nodes[3].zyzzyva.view().0 == 0 {
        sync_next(&mut group);
        records += 1;
        assert!(records < 20, "{}", group.describe());
    }
    let mut group = with_a_sleeper();
    (1..records).for_each(|_| sync_next(&mut group));
    group.run_for(core::time::Duration::from_millis(300));
    assert!(!group.nodes[3].zyzzyva.is_in_view());
    group.keeps_for_ever = true;
    assert!(group.transfer(3), "{}", group.describe());
    group.sync(3);
    group.settle();
    assert_eq!((group.nodes[3].zyzzyva.view().0, group.nodes[3].zyzzyva.accepted().0), (1, 6));
    group.restart(3);
    assert_eq!(group.nodes[3].zyzzyva.accepted().0, 6, "{}", group.describe());
    group.assert_safe();
}
