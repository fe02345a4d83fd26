//! View changes: nothing that a client may have decided is lost, whoever reports what.

use crate::group::{Group, R, certificate, config, proof_of, settings};
use crate::requests::signed;
use althing_protocol::zyzzyva::{OrderRequest, Signed, ViewChange, ZyzzyvaMessage};
use althing_protocol::{Batch, Event, Misbehaviour};
use althing_types::{Digest, ReplicaId, Seq, View};
use std::sync::Arc;

#[test]
fn a_silent_primary_is_replaced() {
    for n in [4, 5, 7] {
        let mut group = Group::new(n);
        group.down = vec![R[0]];
        group.submit(&signed(1, 1));
        let others: Vec<_> = (1..n).collect();
        group.run_until(|group| group.have_executed(&others, 1));
        assert_eq!(group.common_view(), Some(View(1)));
        group.assert_safe();
    }
}

#[test]
fn what_all_have_speculated_is_brought_along_and_answered_anew() {
    let mut group = Group::new(4);
    group.work(1..=3);
    assert_eq!(group.oracle.decided.len(), 3);
    group.down = vec![R[0]];
    for i in 1..4 {
        group.give_up(i);
    }
    group.settle();
    assert_eq!(group.common_view(), Some(View(1)));
    for i in 1..4 {
        assert_eq!(group.done(i), [(1, 1), (1, 2), (1, 3)]);
        assert!(group.nodes[i].told.values().all(|told| told.view == View(1)));
    }
    group.run_until(|group| group.have_executed(&[1, 2, 3], 3));
    group.assert_safe();
}

#[test]
fn a_view_is_entered_only_once_a_quorum_has_confirmed_what_it_starts_with() {
    let mut group = Group::new(4);
    group.work(1..=1);
    for i in 0..4 {
        group.give_up(i);
    }
    group.deliver(|wire| matches!(wire.message, ZyzzyvaMessage::Speculated(_)));
    assert!(group.nodes.iter().all(|node| !node.zyzzyva.is_in_view() && node.zyzzyva.view() == View(1)));
    assert!(group.nodes.iter().all(|node| node.told.is_empty()));
    group.run_until(|group| group.common_view() == Some(View(1)));
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 1));
}

#[test]
fn a_batch_that_a_new_view_brings_along_is_fetched_where_it_is_missing() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    group.deliver(|wire| wire.to == R[3]);
    for i in 0..4 {
        group.give_up(i);
    }
    group.settle();
    assert_eq!(group.common_view(), Some(View(1)));
    assert_eq!(group.done(3), [(1, 1)]);
    assert!(group.history.iter().any(|wire| matches!(wire.message, ZyzzyvaMessage::FetchBatch { .. })));
}

#[test]
fn a_primary_that_hands_over_costs_nobody_a_timeout() {
    let mut group = Group::new(4);
    group.work(1..=1);
    let before = group.now;
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 1));
    group.event(0, Event::HandOver);
    group.settle();
    assert_eq!(group.common_view(), Some(View(1)));
    assert!(group.now.since(before) < settings().view_timeout);
    group.work(2..=2);
    assert_eq!(group.oracle.decided.len(), 2);
}

#[test]
fn one_replica_alone_ends_no_view() {
    let mut group = Group::new(4);
    group.work(1..=1);
    group.give_up(2);
    group.settle();
    let views: Vec<_> = group.nodes.iter().map(|node| node.zyzzyva.view()).collect();
    assert_eq!(views, [View(0), View(0), View(1), View(0)]);
    group.run_until(|group| group.have_executed(&[0, 1, 3], 1));
    assert_eq!(group.nodes[0].zyzzyva.view(), View(0));
    group.run_until(|group| group.common_view() == Some(View(1)));
    assert!(
        group.now.since(althing_types::Instant(0)) > settings().view_timeout * 16,
        "it is taken along in the end"
    );
    assert_eq!(group.done(2), [(1, 1)]);
}

/// What primary `signer` of `view` may order first: a request of this client.
pub(crate) fn first_order(group: &Group, client: u64) -> OrderRequest {
    // An honest instance tells the history that goes with the batch.
    let mut honest = Group::new(group.nodes.len());
    honest.event(0, Event::Request(signed(client, 1)));
    let order = honest.wires.iter().find_map(|wire| match &wire.message {
        ZyzzyvaMessage::OrderRequest(order) => Some(order.clone()),
        _ => None,
    });
    order.expect("the primary orders it")
}

pub(crate) fn order_to(group: &mut Group, to: usize, client: u64) -> OrderRequest {
    let mut order = first_order(group, client);
    Arc::make_mut(&mut order.batch).requests.iter_mut().for_each(|request| request.is_authentic = true);
    group.receive(to, R[0], ZyzzyvaMessage::OrderRequest(order.clone()));
    order
}

/// Three correct replicas of four; replica 0 is the test's.
pub(crate) fn group_with_a_faulty_primary(with_the_papers_rule: bool) -> Group {
    let config = |i| {
        let config = config(i, 4, &settings());
        if with_the_papers_rule { config.with_the_longest_certificate_first() } else { config }
    };
    Group::of((0..4).map(config).collect(), &[R[0]])
}

#[test]
fn an_assignment_that_does_not_follow_is_not_accepted() {
    let mut group = group_with_a_faulty_primary(false);
    let order = OrderRequest { history: Digest([3; 32]), ..first_order(&group, 1) };
    group.receive(1, R[0], ZyzzyvaMessage::OrderRequest(order));
    assert_eq!((group.nodes[1].zyzzyva.accepted(), group.nodes[1].zyzzyva.view()), (Seq(0), View(1)));
    assert_eq!(group.nodes[1].evidence[0].misbehaviour, Misbehaviour::InvalidBatch(View(0), Seq(1)));
}

#[test]
fn only_the_primary_assigns_numbers() {
    let mut group = Group::new(4);
    let order =
        OrderRequest { view: View(0), seq: Seq(1), history: Digest::NULL, batch: Arc::new(Batch::null()) };
    group.receive(2, R[1], ZyzzyvaMessage::OrderRequest(order));
    assert_eq!(group.nodes[2].evidence[0].misbehaviour, Misbehaviour::InvalidMessage);
    assert_eq!(group.nodes[2].zyzzyva.accepted(), Seq(0));
}

/// Delivers what was sent, but for the view changes of `silent`, and for what would make anything final for
/// replicas.
fn deliver_without_view_changes_of(group: &mut Group, silent: ReplicaId) {
    group.deliver(|wire| match &wire.message {
        ZyzzyvaMessage::ViewChange(_) => wire.from == silent,
        ZyzzyvaMessage::Committed(_) => true,
        _ => false,
    });
}

/// The published counterexample to the paper's view change (arXiv 1712.01367 §3), on three correct replicas and
/// a faulty one. Gives back what clients have decided, and what all correct replicas have speculated at the end.
fn counterexample(with_the_papers_rule: bool) -> (Group, Digest, Digest) {
    let mut group = group_with_a_faulty_primary(with_the_papers_rule);
    // View 0: the faulty primary orders a to two and b to the third; one is shown a certificate for a.
    let a = order_to(&mut group, 1, 1);
    order_to(&mut group, 2, 1);
    let b = order_to(&mut group, 3, 2);
    let of_a = certificate(group.nodes[1].told[&Seq(1)], &[R[0], R[1], R[2]]);
    group.show(2, &of_a);
    assert_eq!(group.nodes[2].certified, Some(of_a.speculation));
    group.lose();
    // View 1: the report of who holds it is late, and the faulty one claims b.
    let (batch_of_a, a, b) = (Arc::clone(&a.batch), a.batch.digest(), b.batch.digest());
    let claim = |view, log, certificate| ViewChange { view: View(view), stable: None, certificate, log };
    for i in 1..4 {
        group.receive(i, R[0], ZyzzyvaMessage::ViewChange(claim(1, vec![b], None)));
        assert_eq!(group.nodes[i].zyzzyva.view(), View(1), "a primary that leaves is followed");
    }
    deliver_without_view_changes_of(&mut group, R[2]);
    // b is decided: all have speculated it in view 1.
    let first_decided = group.oracle.decided.clone();
    assert_eq!((first_decided, group.common_view()), (vec![b], Some(View(1))));
    // View 2: the faulty one shows the old certificate for a.
    for i in 1..4 {
        group.receive(i, R[0], ZyzzyvaMessage::ViewChange(claim(2, vec![a], Some(of_a.clone()))));
    }
    group.lose();
    for i in 1..4 {
        group.give_up(i);
    }
    deliver_without_view_changes_of(&mut group, R[0]);
    // Where a is chosen, the faulty one has it for who asks.
    for i in 1..4 {
        let batch = Arc::clone(&batch_of_a);
        group.receive(i, R[0], ZyzzyvaMessage::BatchBody { seq: Seq(1), batch });
    }
    deliver_without_view_changes_of(&mut group, R[0]);
    assert_eq!(group.common_view(), Some(View(2)));
    let last = group.nodes[1].order()[0];
    assert!((1..4).all(|i| group.nodes[i].order()[0] == last));
    (group, b, last)
}

#[test]
fn the_longest_certificate_of_any_view_loses_what_a_later_view_has_decided() {
    let (group, decided, last) = counterexample(true);
    assert_ne!(last, decided);
    assert!(!group.oracle.contradictions.is_empty(), "clients have decided both");
}

#[test]
fn the_certificate_of_the_latest_view_keeps_what_a_later_view_has_decided() {
    let (mut group, decided, last) = counterexample(false);
    assert_eq!(last, decided);
    group.run_until(|group| group.have_executed(&[1, 2, 3], 1));
    assert_eq!(group.nodes[1].decisions[0].digest, decided);
    group.assert_safe();
}

#[test]
fn view_changes_that_no_correct_replica_makes_are_evidence() {
    let mut group = Group::new(4);
    group.work(1..=1);
    let told = group.nodes[1].told[&Seq(1)];
    let log: Vec<Digest> = group.nodes[1].order();
    let good = ViewChange {
        view: View(1),
        stable: None,
        certificate: Some(certificate(told, &R[..3])),
        log: log.clone(),
    };
    let bad = [
        (
            "a certificate that two have signed",
            ViewChange { certificate: Some(certificate(told, &R[..2])), ..good.clone() },
        ),
        ("a certificate for something else", ViewChange { log: vec![Digest([1; 32])], ..good.clone() }),
        ("a certificate for more than it has", ViewChange { log: vec![], ..good.clone() }),
        (
            "a certificate of the view that it asks for",
            ViewChange {
                certificate: Some(certificate(
                    althing_protocol::Speculation { view: View(1), ..told },
                    &R[..3],
                )),
                ..good.clone()
            },
        ),
        (
            "more than lies between two checkpoints",
            ViewChange { certificate: None, log: vec![log[0]; 5], ..good.clone() },
        ),
    ];
    for (what, content) in bad {
        group.receive(2, R[3], ZyzzyvaMessage::ViewChange(content));
        let evidence = group.nodes[2].evidence.pop().map(|evidence| evidence.misbehaviour);
        assert_eq!(evidence, Some(Misbehaviour::InvalidViewChange(View(1))), "{what}");
    }
    group.receive(2, R[3], ZyzzyvaMessage::ViewChange(good.clone()));
    assert!(group.nodes[2].evidence.is_empty());
    group.receive(2, R[3], ZyzzyvaMessage::ViewChange(ViewChange { certificate: None, ..good }));
    assert_eq!(group.nodes[2].evidence[0].misbehaviour, Misbehaviour::ConflictingViewChange(View(1)));
}

#[test]
fn a_new_view_from_too_few_view_changes_is_evidence() {
    let mut group = Group::new(4);
    let content = ViewChange { view: View(1), stable: None, certificate: None, log: vec![] };
    let of = |signer: ReplicaId| Signed { signer, content: content.clone(), proof: proof_of(signer) };
    for signers in [&[R[0], R[3]][..], &[R[0], R[3], R[3]][..]] {
        let view_changes = signers.iter().map(|signer| of(*signer)).collect();
        let new_view = althing_protocol::zyzzyva::NewView { view: View(1), view_changes };
        group.receive(2, R[1], ZyzzyvaMessage::NewView(new_view));
        let evidence = group.nodes[2].evidence.pop().map(|evidence| evidence.misbehaviour);
        assert_eq!(evidence, Some(Misbehaviour::InvalidNewView(View(1))));
    }
    assert_eq!(group.nodes[2].zyzzyva.view(), View(0));
}
