//! Certificates: those that clients show, and those that replicas make among themselves.

use crate::group::{Group, R, certificate, settings};
use crate::requests::signed;
use althing_protocol::zyzzyva::{ZyzzyvaMessage, ZyzzyvaSettings};
use althing_protocol::{Event, Misbehaviour, Protocol, Speculation};
use althing_types::{Digest, Seq, View};
use std::time::Duration;

#[test]
fn what_a_quorum_holds_a_clients_certificate_for_is_final_without_any_timer() {
    let mut group = Group::new(4);
    group.down = vec![R[3]];
    group.work(1..=2);
    assert!(group.oracle.decided.is_empty(), "one is missing");
    let shown = group.certificate_of_clients().expect("three have told the client");
    for i in 0..3 {
        group.show(i, &shown);
        assert_eq!(group.nodes[i].certified, Some(shown.speculation));
    }
    assert_eq!(group.oracle.decided.len(), 2);
    group.settle();
    assert!(group.have_executed(&[0, 1, 2], 2));
    group.assert_safe();
}

#[test]
fn a_certificate_that_one_replica_holds_makes_nothing_final() {
    let mut group = Group::new(4);
    group.work(1..=1);
    let shown = group.certificate_of_clients().unwrap();
    for i in [1, 2] {
        group.show(i, &shown);
        group.settle();
        assert!(group.nodes.iter().all(|node| node.decisions.is_empty()), "{i} of 4 say that they hold it");
    }
    group.show(3, &shown);
    group.settle();
    assert!(group.have_executed(&[0, 1, 2, 3], 1));
}

#[test]
fn a_certificate_for_what_is_missing_has_it_fetched() {
    let mut group = Group::new(4);
    for number in 1..=2 {
        group.submit(&signed(number, 1));
        group.deliver(|wire| wire.to == R[2]);
    }
    let shown = group.certificate_of_clients().unwrap();
    group.show(2, &shown);
    assert_eq!(group.nodes[2].certified, None);
    group.settle();
    assert_eq!(group.nodes[2].certified, Some(shown.speculation));
    assert_eq!(group.speculated(2), [(1, 1), (2, 1)]);
}

#[test]
fn a_certificate_of_another_view_is_not_held() {
    let mut group = Group::new(4);
    group.work(1..=1);
    let own = group.nodes[1].told[&Seq(1)];
    let other = Speculation { view: View(1), ..own };
    group.show(1, &certificate(other, &R[..3]));
    assert_eq!(group.nodes[1].certified, None);
    group.give_up(1);
    group.show(1, &certificate(own, &R[..3]));
    assert_eq!(group.nodes[1].certified, None, "it has left that view");
}

#[test]
fn who_is_shown_a_certificate_of_something_else_leaves_the_view() {
    let mut group = Group::new(4);
    group.work(1..=1);
    let own = group.nodes[1].told[&Seq(1)];
    group.show(1, &certificate(Speculation { history: Digest([7; 32]), ..own }, &R[..3]));
    assert_eq!((group.nodes[1].zyzzyva.view(), group.nodes[1].certified), (View(1), None));
}

#[test]
fn under_load_replicas_that_are_not_equally_far_settle_what_the_primary_has() {
    let settings = ZyzzyvaSettings { checkpoint_period: 64, log_size: 128, ..settings() };
    let mut group = Group::with(4, settings);
    for number in 1..=40 {
        group.submit(&signed(1, number));
        // The replicas lag by other numbers of messages, always.
        for _ in 0..3 {
            if let Some(wire) = group.wires.pop_front() {
                group.arrive(wire);
            }
        }
        group.now = group.now + Duration::from_millis(10);
        let now = group.now;
        group.fire_next(now);
    }
    group.run_until(|group| {
        group.have_executed(&[0, 1, 2, 3], group.executed(0).len()) && group.speculated(0).is_empty()
    });
    assert!(!group.executed(0).is_empty());
    assert_eq!(group.common_view(), Some(View(0)));
    group.assert_safe();
}

#[test]
fn two_speculations_of_one_number_in_one_view_are_evidence() {
    let mut group = Group::new(4);
    let own = Speculation { view: View(0), seq: Seq(1), history: Digest([1; 32]) };
    for history in [1, 1, 2] {
        let said = Speculation { history: Digest([history; 32]), ..own };
        group.receive(1, R[3], ZyzzyvaMessage::Speculated(said));
    }
    let [evidence] = &group.nodes[1].evidence[..] else { panic!("{:?}", group.nodes[1].evidence) };
    assert_eq!(
        (evidence.accused, evidence.misbehaviour.clone()),
        (R[3], Misbehaviour::ConflictingVote(View(0), Seq(1)))
    );
    assert_eq!(evidence.statements.len(), 2);
}

#[test]
fn what_was_said_under_a_key_that_has_ended_makes_nothing_final() {
    let mut group = Group::new(4);
    group.work(1..=1);
    let shown = group.certificate_of_clients().unwrap();
    group.show(1, &shown);
    let says = |group: &mut Group, from: usize, key: u64| {
        let message = ZyzzyvaMessage::Committed(shown.speculation);
        group.event(1, Event::Message { from: R[from], message, proof: None, key });
    };
    says(&mut group, 2, 3);
    group.event(1, Event::KeysEnded { of: R[2], before: 4 });
    says(&mut group, 3, 1);
    assert!(group.executed(1).is_empty(), "whoever had the old key may have said it");
    says(&mut group, 2, 4);
    assert_eq!(group.executed(1), [(1, 1)]);
    group.event(1, Event::KeysEnded { of: R[3], before: 9 });
    assert_eq!(group.executed(1), [(1, 1)], "what is final stays so");
}

#[test]
fn no_query_is_answered_while_something_is_speculative() {
    let mut group = Group::new(4);
    group.work(1..=2);
    for node in &group.nodes {
        assert_eq!(node.zyzzyva.answers_from(), Some(Seq(2)), "a client may have decided that already");
        assert_eq!(node.zyzzyva.executed(), Seq(0));
    }
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 2));
    assert!(group.nodes.iter().all(|node| node.zyzzyva.answers_from() == Some(Seq(2))));
}
