//! Nothing leaves before it is on disk, and what is on disk is believed.

use crate::group::{Group, R, Wire, signed};
use althing_protocol::Event;
use althing_protocol::paxos::PaxosMessage;
use althing_types::{Seq, View};

fn says(group: &Group, from: usize, what: fn(&PaxosMessage) -> bool) -> bool {
    group.history.iter().any(|wire| wire.from == R[from] && what(&wire.message))
}

#[test]
fn proposals_and_votes_wait_for_their_own_records() {
    let mut group = Group::new(3);
    group.stuck = vec![R[0], R[1]];
    group.event(0, Event::Request(signed(1, 1)));
    group.settle();
    assert!(!says(&group, 0, |message| matches!(message, PaxosMessage::Accept(_))));
    group.sync(0);
    group.deliver(|wire| wire.to == R[2]);
    assert!(!says(&group, 1, |message| matches!(message, PaxosMessage::Accepted(_))));
    assert!(group.have_executed(&[0, 1], 0));
    group.sync(1);
    group.deliver(|wire| wire.to == R[2]);
    assert!(group.have_executed(&[0, 1], 1));
}

#[test]
fn promises_and_starts_wait_for_their_own_records() {
    let mut group = Group::new(3);
    group.down = vec![R[0]];
    group.submit(&signed(1, 1));
    group.stuck = vec![R[1]];
    (1..3).for_each(|i| group.give_up(i));
    group.settle();
    let is_promise = |message: &PaxosMessage| matches!(message, PaxosMessage::Promise(_));
    let is_start = |message: &PaxosMessage| matches!(message, PaxosMessage::StartView(_));
    assert!(says(&group, 2, is_promise) && !says(&group, 1, is_promise));
    group.sync(1);
    group.stuck = vec![R[1]];
    // Its promise is on disk, and with that of the other one it starts its view.
    group.settle();
    assert!(says(&group, 1, is_promise));
    assert!(says(&group, 1, is_start), "both were given to the disk before");
    group.sync(1);
    group.run_until(|group| group.have_executed(&[1, 2], 1));
}

#[test]
fn who_restarts_knows_what_it_promised_and_accepted() {
    let mut group = Group::new(3);
    group.submit(&signed(1, 1));
    group.deliver(|wire| matches!(wire.message, PaxosMessage::Accepted(_)));
    assert_eq!(group.executed(1), [(1, 1)]);
    let digest = group.nodes[1].decisions[0].digest;
    // Everybody restarts, and the one that led is gone. What was decided stays.
    (0..3).for_each(|i| group.restart(i));
    assert!(group.nodes.iter().all(|node| node.decisions.is_empty()));
    group.down = vec![R[0]];
    group.submit(&signed(2, 1));
    group.run_until(|group| group.have_executed(&[1, 2], 2));
    assert_eq!(group.nodes[2].decisions[0].digest, digest);
}

#[test]
fn a_promise_outlives_a_restart() {
    let mut group = Group::new(3);
    group.event(1, Event::Request(signed(1, 1)));
    group.lose();
    group.give_up(1);
    group.lose();
    group.restart(1);
    assert_eq!((group.nodes[1].paxos.view(), group.nodes[1].paxos.is_in_view()), (View(1), false));
    assert!(
        group.wires.iter().any(|wire| matches!(wire.message, PaxosMessage::Promise(_))),
        "it says it again"
    );
    group.lose();
    group.event(0, Event::Request(signed(2, 1)));
    // The proposal of view 0 finds no acceptor in it.
    group.deliver(|wire| wire.to == R[2] || wire.from == R[2]);
    assert!(!says(&group, 1, |message| matches!(message, PaxosMessage::Accepted(_))));
}

#[test]
fn a_leader_that_restarts_leads_on_and_proposes_nothing_twice() {
    let mut group = Group::new(3);
    group.work(1..=2);
    group.event(0, Event::Request(signed(2, 1)));
    group.lose();
    group.restart(0);
    group.event(0, Event::Request(signed(3, 1)));
    group.run_until(|group| group.have_executed(&[0, 1, 2], 4));
    assert_eq!(group.executed(1), [(1, 1), (1, 2), (2, 1), (3, 1)]);
    assert!(group.nodes.iter().all(|node| node.paxos.view() == View(0)));
}

/// A leader that crashes between its start and what it accepts in it goes on with the same start, whatever it would
/// choose now.
#[test]
fn a_view_is_started_once() {
    let mut group = Group::new(5);
    group.event(0, Event::Request(signed(1, 1)));
    group.deliver(|wire| wire.to != R[2]);
    group.down = vec![R[0]];
    for i in 1..5 {
        group.event(i, Event::Request(signed(2, 1)));
    }
    group.lose();
    (1..5).for_each(|i| group.give_up(i));
    let is_start = |wire: &Wire| matches!(wire.message, PaxosMessage::StartView(_));
    group.stuck = vec![R[1]];
    group.deliver(is_start);
    group.sync_one(1);
    group.deliver(is_start);
    let starts = |group: &Group| -> Vec<_> {
        let said = group.history.iter().filter(|wire| wire.from == R[1]);
        said.filter_map(|wire| match &wire.message {
            PaxosMessage::StartView(start) => Some(start.values.clone()),
            _ => None,
        })
        .collect()
    };
    let before = starts(&group);
    assert_eq!((before.len(), before[0][0].0), (4, Seq(1)));
    group.restart(1);
    // It would choose otherwise now: who accepted the first request is gone.
    group.down = vec![R[0], R[2]];
    group.stuck = vec![];
    // Nobody has that batch. The view goes by, and the next leaders may choose.
    group.run_until(|group| group.have_executed(&[1, 3, 4], 1));
    let started = |wire: &&Wire| matches!(&wire.message, PaxosMessage::StartView(s) if s.view == View(1));
    let again = group.history.iter().filter(started).filter(|wire| wire.from == R[1]);
    assert!(again.count() > before.len(), "it says it again");
    let first = group.history.iter().filter(started).map(|wire| format!("{:?}", wire.message));
    assert_eq!(first.collect::<std::collections::BTreeSet<_>>().len(), 1, "and nothing else");
}
