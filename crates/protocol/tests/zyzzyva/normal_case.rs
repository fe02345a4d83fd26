//! Ordering, speculation, settling and checkpoints while nobody gives up on the primary.

use crate::group::{Group, R, settings};
use crate::requests::{GREAT_LIAR, LIAR, signed, with_macs};
use althing_protocol::zyzzyva::{ZyzzyvaMessage, ZyzzyvaSettings};
use althing_protocol::{Event, Message};
use althing_types::{ClientId, Seq, View};
use std::time::Duration;

#[test]
fn a_request_to_any_replica_is_speculated_by_all_and_final_without_any_client() {
    for n in [1, 4, 5, 6, 7] {
        let mut group = Group::new(n);
        group.event(n - 1, Event::Request(signed(1, 1)));
        group.settle();
        for i in 0..n {
            assert_eq!(
                (group.speculated(i), group.executed(i)),
                (vec![(1, 1)], vec![]),
                "replica {i} of {n}"
            );
        }
        assert_eq!(group.oracle.decided.len(), 1, "a client that hears of all needs nobody else");
        group.run_until(|group| group.have_executed(&(0..n).collect::<Vec<_>>(), 1));
        group.assert_safe();
    }
}

#[test]
fn a_speculation_takes_one_message_from_the_primary_to_each() {
    let mut group = Group::new(4);
    group.event(0, Event::Request(signed(1, 1)));
    group.settle();
    let kinds: Vec<_> = group.history.iter().map(|wire| (wire.from, wire.message.kind())).collect();
    assert_eq!(kinds, [(R[0], "order-request"); 3]);
}

#[test]
fn a_request_is_executed_once_however_often_it_arrives() {
    let mut group = Group::new(4);
    for _ in 0..3 {
        group.submit(&signed(1, 1));
        group.settle();
        group.run_for(Duration::from_millis(200));
    }
    assert_eq!(group.executed(2), [(1, 1)]);
}

#[test]
fn requests_gather_while_the_pipeline_is_full() {
    let mut group = Group::with(4, ZyzzyvaSettings { max_batch_requests: 16, pipeline: 2, ..settings() });
    group.stuck = vec![R[0]];
    for client in 1..=12 {
        group.event(0, Event::Request(signed(client, 1)));
    }
    group.sync(0);
    group.settle();
    let sizes: Vec<_> =
        group.nodes[3].speculative.iter().map(|decision| decision.batch.requests.len()).collect();
    assert_eq!(sizes, [1, 1, 10]);
}

#[test]
fn nothing_is_said_of_a_batch_before_it_is_on_disk() {
    let mut group = Group::new(4);
    group.stuck = vec![R[0], R[2]];
    group.submit(&signed(1, 1));
    group.settle();
    assert!(
        group.history.iter().all(|wire| wire.message.kind() == "forward"),
        "the primary has said nothing"
    );
    group.sync(0);
    group.settle();
    assert_eq!((group.speculated(1), group.speculated(2)), (vec![(1, 1)], vec![]));
    assert!(group.oracle.decided.is_empty());
    group.sync(2);
    assert_eq!(group.speculated(2), [(1, 1)]);
    assert_eq!(group.oracle.decided.len(), 1);
}

#[test]
fn a_certificate_is_on_disk_before_it_is_said_to_be_held() {
    let mut group = Group::new(4);
    group.work(1..=1);
    let shown = group.certificate_of_clients().expect("all have told the client");
    group.stuck = vec![R[1]];
    group.show(1, &shown);
    assert_eq!(group.nodes[1].certified, None);
    group.sync(1);
    assert_eq!(group.nodes[1].certified, Some(shown.speculation));
}

#[test]
fn the_order_waits_at_a_checkpoint_until_that_is_stable() {
    let mut group = Group::new(4);
    group.loses = |wire| matches!(wire.message, ZyzzyvaMessage::Checkpoint(_));
    for number in 1..=6 {
        group.submit(&signed(number, 1));
    }
    group.settle();
    for i in 0..4 {
        assert_eq!((group.executed(i).len(), group.speculated(i).len()), (4, 0), "final, and nothing beyond");
    }
    group.loses = |_| false;
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 6));
    assert!(group.nodes.iter().all(|node| node.zyzzyva.stable() == Seq(4)));
}

#[test]
fn the_log_is_truncated_at_stable_checkpoints() {
    let mut group = Group::new(4);
    group.work(1..=16);
    let before = group.nodes[2].zyzzyva.footprint();
    group.work(17..=40);
    for (i, node) in group.nodes.iter().enumerate() {
        assert_eq!((node.zyzzyva.stable(), node.zyzzyva.executed()), (Seq(40), Seq(40)), "replica {i}");
        assert!(node.zyzzyva.footprint() <= before, "{} elements", node.zyzzyva.footprint());
    }
    assert_eq!(group.nodes[0].zyzzyva.view(), View(0));
}

#[test]
fn a_replica_whose_macs_are_bad_follows_those_that_have_accepted() {
    let mut group = Group::new(4);
    group.event(0, Event::Request(with_macs(LIAR + 3, 1)));
    group.settle();
    assert_eq!((group.speculated(2), group.speculated(3)), (vec![(LIAR + 3, 1)], vec![]));
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 1));
    assert_eq!(group.common_view(), Some(View(0)));
}

#[test]
fn a_request_that_is_good_for_the_primary_alone_ends_one_view_and_is_dropped() {
    let mut group = Group::new(4);
    group.event(0, Event::Request(with_macs(GREAT_LIAR, 1)));
    group.run_until(|group| group.common_view() == Some(View(1)));
    group.submit(&signed(1, 1));
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 1));
    assert_eq!(group.executed(0), [(1, 1)]);
    for view in 2..=5 {
        let primary = (view as usize - 1) % 4;
        group.event(primary, Event::HandOver);
        group.run_until(|group| group.common_view() == Some(View(view)));
    }
    group.submit(&signed(1, 2));
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 2));
    assert_eq!(group.common_view(), Some(View(5)), "its view was not spoilt again");
}

#[test]
fn a_client_whose_macs_have_ended_a_view_has_to_sign() {
    let mut group = Group::new(4);
    group.event(0, Event::Request(with_macs(GREAT_LIAR, 1)));
    group.run_until(|group| group.common_view() == Some(View(1)));
    group.settle();
    for i in 0..4 {
        group.event(i, Event::Request(with_macs(GREAT_LIAR, 2)));
        assert_eq!(group.nodes[i].told_to_sign, [ClientId(GREAT_LIAR)]);
    }
    group.event(2, Event::Request(signed(GREAT_LIAR, 2)));
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 1));
    assert_eq!(group.common_view(), Some(View(1)));
}

#[test]
fn who_was_cut_off_for_long_fetches_the_state_and_takes_part_again() {
    let mut group = Group::new(4);
    group.down = vec![R[3]];
    group.work(1..=14);
    group.run_until(|group| group.have_executed(&[0, 1, 2], 14));
    group.down.clear();
    group.run_with_transfers(|group| group.have_executed(&[0, 1, 2, 3], 14));
    group.work(15..=15);
    assert_eq!(group.oracle.decided.len(), 15, "all four have answered alike");
    group.assert_safe();
}

#[test]
fn each_replica_goes_on_from_its_own_encoding() {
    let mut group = Group::new(4);
    group.is_restored = true;
    group.work(1..=6);
    group.run_for(Duration::from_millis(300));
    group.down = vec![R[0]];
    group.work(7..=7);
    group.run_until(|group| group.have_executed(&[1, 2, 3], 7));
    group.assert_safe();
}
