//! Assignments without signatures: what is missed, what is hearsay, and primaries that lie.

use crate::group::{Group, R, settings};
use crate::requests::signed;
use crate::view_changes::{first_order, group_with_a_faulty_primary, order_to};
use althing_protocol::zyzzyva::ZyzzyvaMessage as M;
use althing_protocol::{Message, Misbehaviour, Speculation};
use althing_types::{Instant, ReplicaId, Seq, View};
use std::time::Duration;

/// Where groups begin.
const BEGINNING: Instant = Instant(1_000_000_000);

/// Whom replica `i` accuses of two assignments of one number, and with how many statements.
fn accused(group: &Group, i: usize) -> Vec<(ReplicaId, usize)> {
    let conflicting = Misbehaviour::ConflictingPrePrepare(View(0), Seq(1));
    let evidence = group.nodes[i].evidence.iter().filter(|evidence| evidence.misbehaviour == conflicting);
    evidence.map(|evidence| (evidence.accused, evidence.statements.len())).collect()
}

#[test]
fn a_correct_primary_signs_no_assignment() {
    let mut group = Group::new(4);
    group.work(1..=9);
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 9));
    let orders = || group.history.iter().filter(|wire| wire.message.kind() == "order-request");
    assert_eq!(orders().count(), 27);
    assert!(orders().all(|wire| wire.proof.is_none()));
    assert!(!group.history.iter().any(|wire| wire.message.kind() == "demand"));
}

#[test]
fn a_missed_assignment_is_asked_for_and_comes_from_the_primary() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    group.deliver(|wire| wire.to == R[3]);
    group.work(2..=2);
    let kinds = |kind| group.history.iter().filter(|wire| wire.message.kind() == kind).count();
    assert_eq!((kinds("fill-hole"), kinds("hearsay")), (1, 0));
    assert_eq!(group.speculated(3), [(1, 1), (1, 2)]);
}

#[test]
fn what_the_primary_keeps_from_a_replica_others_pass_on_and_vouch_for() {
    let mut group = Group::new(4);
    group.loses = |wire| wire.from == R[0] && wire.to == R[3] && wire.message.kind() == "order-request";
    group.work(1..=3);
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 3));
    assert!(group.now.since(BEGINNING) < settings().view_timeout);
    assert_eq!(group.common_view(), Some(View(0)));
    let passed_on: Vec<_> = group.history.iter().filter(|wire| wire.message.kind() == "hearsay").collect();
    assert!(passed_on.iter().any(|wire| wire.to == R[3] && wire.from != R[0]));
    group.assert_safe();
}

#[test]
fn hearsay_is_taken_only_where_one_correct_replica_must_have_accepted_it() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    group.deliver(|wire| wire.to == R[3]);
    let lie = first_order(&group, 2);
    let told = |history| Speculation { view: View(0), seq: Seq(1), history };
    let vouched = told(lie.history);
    // One says it as often as it likes, and in each way.
    for message in [M::Hearsay(lie), M::Speculated(vouched), M::Committed(vouched)] {
        group.receive(3, R[1], message);
    }
    assert_eq!(group.nodes[3].zyzzyva.accepted(), Seq(0));
    let truth = first_order(&group, 1);
    let vouched = told(truth.history);
    group.receive(3, R[2], M::Hearsay(truth));
    group.receive(3, R[2], M::Speculated(vouched));
    assert_eq!(group.nodes[3].zyzzyva.accepted(), Seq(0), "nor is the truth believed from one");
    group.receive(3, R[0], M::Committed(vouched));
    assert_eq!(group.speculated(3), [(1, 1)]);
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 1));
    group.assert_safe();
}

#[test]
fn what_many_pass_on_is_kept_only_a_little_ahead() {
    let mut group = Group::new(4);
    let order = first_order(&group, 1);
    let before = group.nodes[3].zyzzyva.footprint();
    for seq in (1..=9).chain(1 << 40..(1 << 40) + 100).map(Seq) {
        for from in [R[1], R[2], R[3], R[0]] {
            group.receive(
                3,
                from,
                M::Hearsay(althing_protocol::zyzzyva::OrderRequest { seq, ..order.clone() }),
            );
        }
    }
    assert_eq!(group.nodes[3].zyzzyva.footprint() - before, 2 * 9, "of each other backup");
}

#[test]
fn a_primary_that_signs_two_assignments_of_one_number_is_proven_faulty_and_left() {
    let mut group = group_with_a_faulty_primary(false);
    let a = order_to(&mut group, 1, 1);
    order_to(&mut group, 2, 1);
    let b = order_to(&mut group, 3, 2);
    group.run_for(settings().settle_patience);
    let demands = group.history.iter().filter(|wire| matches!(wire.message, M::Demand { seq: Seq(1), .. }));
    let demanding: Vec<_> = demands.map(|wire| wire.from).collect();
    assert!(demanding.contains(&R[1]) && demanding.contains(&R[3]), "{demanding:?}");
    assert_eq!(group.common_view(), Some(View(0)));
    // It signs what it is asked for.
    group.receive_signed(1, R[0], M::OrderRequest(a));
    group.settle();
    group.receive_signed(3, R[0], M::OrderRequest(b));
    group.settle();
    for i in 1..4 {
        assert_eq!(accused(&group, i), [(R[0], 2)], "replica {i} can prove it");
    }
    group.run_until(|group| group.common_view() == Some(View(1)));
    assert!(group.now.since(BEGINNING) < settings().view_timeout);
    group.assert_safe();
}

#[test]
fn a_primary_that_lies_and_signs_nothing_is_left_by_whom_it_told_what_the_others_contradict() {
    let mut group = group_with_a_faulty_primary(false);
    for (to, client) in [(1, 1), (2, 1), (3, 2)] {
        order_to(&mut group, to, client);
    }
    group.run_for(Duration::from_millis(300));
    let views: Vec<_> = group.nodes[1..].iter().map(|node| node.zyzzyva.view()).collect();
    assert_eq!(views, [View(0), View(0), View(1)]);
    assert_eq!(accused(&group, 3), [(R[0], 0)], "it knows, and can't prove it");
    group.run_until(|group| group.common_view() == Some(View(1)));
    group.assert_safe();
}

#[test]
fn a_liar_among_the_backups_ends_no_view_by_contradicting() {
    let mut group = Group::new(4);
    group.work(1..=3);
    for number in 1..=3 {
        let own = group.nodes[1].told[&Seq(number)];
        let lie = Speculation { history: althing_types::Digest([7; 32]), ..own };
        for i in 0..3 {
            group.receive(i, R[3], M::Speculated(lie));
        }
    }
    group.settle();
    let demands = group.history.iter().filter(|wire| wire.message.kind() == "demand");
    assert_eq!(demands.count(), 2, "each backup asks once a while");
    group.down = vec![R[3]];
    group.run_until(|group| group.have_executed(&[0, 1, 2], 3));
    group.run_for(Duration::from_millis(500));
    assert_eq!(group.common_view(), Some(View(0)));
    assert!((0..3).all(|i| group.nodes[i].evidence.is_empty()));
    group.assert_safe();
}

#[test]
fn a_primary_that_tells_one_replica_two_things_is_left_by_it() {
    let mut group = group_with_a_faulty_primary(false);
    order_to(&mut group, 1, 1);
    order_to(&mut group, 1, 2);
    assert_eq!((group.nodes[1].zyzzyva.view(), accused(&group, 1)), (View(1), vec![(R[0], 0)]));
}
