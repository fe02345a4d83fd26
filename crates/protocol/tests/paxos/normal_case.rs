//! Without faults.

use crate::group::{Group, R, settings, signed, with_macs};
use althing_protocol::paxos::{PaxosMessage, PaxosSettings, Proposal};
use althing_protocol::{Batch, Event, Misbehaviour, Request};
use althing_types::{Seq, View};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn what_a_majority_accepts_is_executed_everywhere_in_two_delays() {
    for n in [1, 2, 3, 4, 5] {
        let mut group = Group::new(n);
        group.work(1..=20);
        assert!(group.have_executed(&(0..n).collect::<Vec<_>>(), 20), "n = {n}");
    }
    let mut group = Group::new(5);
    group.down = vec![R[3], R[4]];
    group.event(0, Event::Request(signed(1, 1)));
    group.settle();
    assert!(group.have_executed(&[0, 1, 2], 1));
    let kinds: Vec<_> = group.history.iter().map(|wire| wire.message.clone()).collect();
    let accepts = kinds.iter().filter(|message| matches!(message, PaxosMessage::Accept(_))).count();
    let accepted = kinds.iter().filter(|message| matches!(message, PaxosMessage::Accepted(_))).count();
    assert_eq!((accepts, accepted, kinds.len()), (4, 2 * 4, 12));
}

#[test]
fn less_than_a_majority_decides_nothing() {
    let mut group = Group::new(5);
    group.down = vec![R[2], R[3], R[4]];
    group.work(1..=3);
    group.run_for(Duration::from_secs(60));
    assert!(group.have_executed(&[0, 1], 0));
    group.down = vec![R[2], R[3]];
    group.run_until(|group| group.have_executed(&[0, 1, 4], 3));
}

#[test]
fn a_request_that_reaches_anybody_is_executed() {
    let mut group = Group::new(3);
    for i in 0..3 {
        group.event(i, Event::Request(signed(i as u64, 1)));
    }
    group.settle();
    assert!(group.have_executed(&[0, 1, 2], 3));
}

/// The attack that Aardvark is named for: a client whose MACs are good at some replicas only.
#[test]
fn macs_that_are_bad_elsewhere_hold_up_nobody() {
    let mut group = Group::new(3);
    group.event(2, Event::Request(with_macs(1, 1)));
    for wire in &mut group.wires {
        if let PaxosMessage::Forward(request) = &mut wire.message {
            request.is_authentic = false;
        }
    }
    group.settle();
    assert!(group.have_executed(&[0, 1, 2], 1));
    group.event(2, Event::Request(Request { is_authentic: false, ..with_macs(2, 1) }));
    group.settle();
    assert!(group.have_executed(&[0, 1, 2], 1), "nobody has found that one good");
}

#[test]
fn requests_gather_while_the_pipeline_is_full() {
    let settings = PaxosSettings { pipeline: 2, max_batch_requests: 16, ..settings() };
    let mut group = Group::with(3, settings);
    for client in 1..=10 {
        group.event(0, Event::Request(signed(client, 1)));
    }
    group.settle();
    let sizes: Vec<_> = group.nodes[1].decisions.iter().map(|d| d.batch.requests.len()).collect();
    assert_eq!((sizes[0], sizes.iter().sum::<usize>()), (1, 10));
    assert!(sizes.len() <= 5, "{sizes:?}");
}

#[test]
fn lost_messages_come_again() {
    let mut group = Group::new(3);
    let mut dice = 1u32;
    for number in 1..=12 {
        group.submit(&signed(1, number));
        group.deliver(|_| {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            dice >> 30 == 0
        });
    }
    group.run_until(|group| {
        group.have_executed(&[0, 1, 2], group.executed(0).len()) && group.executed(0).len() > 5
    });
    group.submit(&signed(1, 13));
    group.run_until(|group| (0..3).all(|i| group.executed(i).last() == Some(&(1, 13))));
}

#[test]
fn who_proposes_in_a_view_that_is_not_its_own_is_reported() {
    let mut group = Group::new(3);
    let batch = Arc::new(Batch { requests: vec![signed(1, 1)], ..Batch::default() });
    let proposal = Proposal { view: View(0), seq: Seq(1), batch };
    group.receive(1, R[2], PaxosMessage::Accept(proposal));
    group.settle();
    assert_eq!(group.nodes[1].evidence[0].misbehaviour, Misbehaviour::InvalidMessage);
    assert!(group.have_executed(&[0, 1, 2], 0));
}

#[test]
fn an_idle_group_sends_nothing_but_statuses() {
    let mut group = Group::new(3);
    group.work(1..=6);
    group.run_for(Duration::from_secs(2));
    group.history.clear();
    group.run_for(Duration::from_secs(30));
    assert!(!group.history.is_empty());
    assert!(group.history.iter().all(|wire| matches!(wire.message, PaxosMessage::Status(_))));
    assert!(group.nodes.iter().all(|node| node.evidence.is_empty()));
}
