//! Quorum, Chain and Backup, and how they follow each other.

use crate::group::{Group, R, Wire, composed};
use crate::requests::{signed, with_macs};
use althing_protocol::zyzzyva::{Composition, OrderRequest, ZyzzyvaMessage, ZyzzyvaSettings};
use althing_protocol::{Batch, Message};
use althing_types::{Instant, Seq, View};
use std::sync::Arc;
use std::time::Duration;

/// What is told to clients of these numbers by each replica that tells them anything.
fn told(group: &Group, seq: u64) -> Vec<usize> {
    (0..group.nodes.len()).filter(|i| group.nodes[*i].told.contains_key(&Seq(seq))).collect()
}

/// All are in this view.
fn are_in(view: u64) -> impl Fn(&Group) -> bool {
    move |group| group.common_view() == Some(View(view))
}

#[test]
fn in_quorum_all_execute_what_arrives_without_a_message_between_them() {
    let mut group = Group::composed(4, Composition::Quorum);
    group.submit(&signed(1, 1));
    group.submit(&signed(2, 1));
    assert!(group.history.is_empty(), "{:?}", group.history);
    for i in 0..4 {
        assert_eq!(group.speculated(i), [(1, 1), (2, 1)]);
    }
    assert_eq!(group.oracle.decided.len(), 2, "clients have decided both");
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 2));
    assert_eq!(group.common_view(), Some(View(0)));
}

#[test]
fn contention_ends_quorum_and_what_was_asked_for_is_executed_all_the_same() {
    for (composition, next) in [(Composition::Quorum, 1), (Composition::Aliph, 1)] {
        let mut group = Group::composed(4, composition);
        let (one, other) = (signed(1, 1), signed(2, 1));
        for i in 0..4 {
            let (first, second) = if i < 2 { (&one, &other) } else { (&other, &one) };
            group.submit_to(&[i], first);
            group.submit_to(&[i], second);
        }
        let before = group.now;
        group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 2));
        assert_eq!(group.common_view(), Some(View(next)), "{composition:?}");
        let patience = ZyzzyvaSettings::default().settle_patience;
        assert!(group.now.since(before) <= 3 * patience, "it is seen when replicas settle");
        group.assert_safe();
    }
}

#[test]
fn where_one_is_silent_certificates_of_two_clients_within_a_view_timeout_end_quorum() {
    let far = ZyzzyvaSettings { checkpoint_period: 64, log_size: 128, ..composed(Composition::Quorum) };
    let mut group = Group::with(4, far);
    group.down = vec![R[3]];
    let show = |group: &mut Group, client, number| {
        group.submit(&signed(client, number));
        group.settle();
        let certificate = group.certificate_of_clients().expect("three have said the same");
        for _ in 0..2 {
            (0..3).for_each(|i| group.show(i, &certificate));
        }
        group.settle();
    };
    (1..4).for_each(|number| show(&mut group, 1, number));
    group.run_for(composed(Composition::Quorum).view_timeout + Duration::from_millis(1));
    show(&mut group, 2, 1);
    show(&mut group, 3, 1);
    assert_eq!(
        group.common_view(),
        Some(View(0)),
        "one alone is served so, and one replica may be late once"
    );
    group.run_for(composed(Composition::Quorum).settle_patience + Duration::from_millis(1));
    show(&mut group, 2, 2);
    assert_eq!(group.common_view(), Some(View(0)), "it was this one's before");
    show(&mut group, 3, 2);
    group.run_until(are_in(1));
    assert!(group.have_executed(&[0, 1, 2], 7));
    group.assert_safe();
}

#[test]
fn a_request_that_one_replica_missed_ends_quorum_with_the_next_one() {
    let mut group = Group::composed(4, Composition::Quorum);
    group.submit_to(&[0, 1, 2], &signed(1, 1));
    group.submit(&signed(2, 1));
    group.run_until(are_in(1));
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 2));
    group.assert_safe();
}

#[test]
fn who_missed_the_last_request_in_quorum_gets_it_all_the_same() {
    let mut group = Group::composed(4, Composition::Quorum);
    group.submit_to(&[0, 1, 2], &signed(1, 1));
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 1));
    assert_eq!(group.common_view(), Some(View(1)));
    group.assert_safe();
}

#[test]
fn in_a_chain_each_passes_on_what_it_has_on_disk_and_the_last_f_plus_1_tell_clients() {
    for (n, told_by) in [(4, vec![2, 3]), (7, vec![4, 5, 6])] {
        let mut group = Group::composed(n, Composition::Chain);
        group.event(0, althing_protocol::Event::Request(signed(1, 1)));
        group.settle();
        assert_eq!(group.oracle.decided.len(), 1, "a client has decided");
        let f = (n - 1) / 3;
        let passed = group.history.iter().filter(|wire| matches!(wire.message, ZyzzyvaMessage::Pass(_)));
        assert_eq!(passed.count(), n - 1, "the batch goes over each link once");
        let linked = (1..n).map(|place| place.saturating_sub(1).min(f)).sum::<usize>();
        assert_eq!(group.history.len(), n - 1 + linked, "{:?}", group.history);
        for i in 0..n {
            assert_eq!(group.speculated(i), [(1, 1)]);
        }
        let deciding: Vec<_> = (0..n).filter(|i| is_decisive(&group, *i)).collect();
        assert_eq!(deciding, told_by);
    }
}

fn is_decisive(group: &Group, i: usize) -> bool {
    let n = group.nodes.len();
    let quorums = althing_types::Quorums::byzantine(n, (n - 1) / 3).expect("enough replicas");
    Composition::Chain.is_decisive(quorums, View(0), crate::group::replica(i))
}

#[test]
fn what_is_not_on_disk_goes_no_further_along_the_chain() {
    let mut group = Group::composed(4, Composition::Chain);
    group.stuck = vec![R[1]];
    group.submit(&signed(1, 1));
    group.settle();
    assert_eq!([0, 1, 2, 3].map(|i| group.done(i).len()), [1, 0, 0, 0]);
    group.sync(1);
    group.settle();
    assert_eq!([0, 1, 2, 3].map(|i| group.done(i).len()), [1; 4]);
}

/// Of two that can make a client decide one is faulty, and makes something up.
#[test]
fn nobody_accepts_what_its_predecessor_alone_says() {
    let mut group = Group::composed(4, Composition::Chain);
    let batch = Arc::new(Batch { time: Instant(1), requests: vec![signed(9, 1)] });
    group.submit(&signed(1, 1));
    group.settle();
    let genuine = |wire: &Wire| match &wire.message {
        ZyzzyvaMessage::Pass(order) if wire.to == R[3] => Some(order.clone()),
        _ => None,
    };
    let first = group.history.iter().find_map(genuine).expect("it was passed on");
    // Another group's replica 2 knows what comes next.
    let mut other = Group::composed(4, Composition::Chain);
    other.submit(&signed(1, 1));
    other.settle();
    other.event(0, althing_protocol::Event::Request(signed(9, 1)));
    other.settle();
    let forged = other.history.iter().filter_map(genuine).next_back().expect("it was passed on there");
    assert!(forged.seq == first.seq.next() && forged.batch.requests == batch.requests);
    group.receive(3, R[2], ZyzzyvaMessage::Pass(forged));
    assert_eq!(group.done(3), [(1, 1)], "replica 1 has not accepted it");
    // It contradicts what goes along the chain: that ends there, and nothing is lost.
    group.submit(&signed(2, 1));
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 2));
    group.assert_safe();
}

#[test]
fn only_the_predecessor_passes_anything_on() {
    let mut group = Group::composed(4, Composition::Chain);
    let batch = Arc::new(Batch { time: Instant(1), requests: vec![signed(9, 1)] });
    let order = OrderRequest { view: View(0), seq: Seq(1), history: batch.digest(), batch };
    group.receive(3, R[0], ZyzzyvaMessage::Pass(order.clone()));
    group.receive(0, R[3], ZyzzyvaMessage::Pass(order));
    assert!(group.nodes[3].evidence.iter().all(|evidence| evidence.accused == R[0]));
    assert_eq!([0, 3].map(|i| group.nodes[i].evidence.len()), [1, 1]);
    assert!(group.done(3).is_empty());
}

#[test]
fn what_is_lost_between_links_is_passed_on_again() {
    for lost in ["pass", "link"] {
        let mut group = Group::composed(4, Composition::Chain);
        group.submit(&signed(1, 1));
        let is_lost = |wire: &Wire| match (&wire.message, lost) {
            (ZyzzyvaMessage::Pass(_), "pass") => wire.to == R[2],
            (ZyzzyvaMessage::Linked(_), "link") => wire.to == R[3],
            _ => false,
        };
        group.deliver(is_lost);
        assert!(group.done(3).is_empty());
        group.run_until(|group| group.done(3).len() == 1);
        assert_eq!(group.common_view(), Some(View(0)), "{lost}");
    }
}

/// Not all that are correct need have entered it: nobody but those who did could bring it along.
#[test]
fn what_a_chain_starts_with_is_told_only_once_it_is_final() {
    let settings = ZyzzyvaSettings { backup_requests: 1000, ..composed(Composition::Chain) };
    let mut group = Group::with(4, settings);
    group.submit(&signed(1, 1));
    group.settle();
    (0..4).for_each(|i| group.give_up(i));
    group.run_until(are_in(1));
    group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 1));
    // In view 5 there is a chain again. What is ordered just before is brought along.
    for view in 1..4 {
        group.submit(&signed(1, view + 1));
        group.lose();
        (0..4).for_each(|i| group.give_up(i));
        group.run_until(are_in(view + 1));
    }
    group.submit(&signed(2, 1));
    group.deliver(|wire| wire.message.kind() == "committed");
    assert!((0..4).all(|i| group.nodes[i].zyzzyva.accepted() > group.nodes[i].zyzzyva.executed()));
    (0..4).for_each(|i| group.give_up(i));
    group.deliver(|wire| wire.message.kind() == "committed");
    assert_eq!(group.common_view(), Some(View(5)));
    let brought = group.nodes[0].zyzzyva.accepted();
    assert!(brought > group.nodes[0].zyzzyva.executed());
    assert_eq!(told(&group, brought.0), [], "nobody says it early");
    group.run_until(|group| (0..4).all(|i| group.nodes[i].zyzzyva.executed() == brought));
    group.submit(&signed(3, 1));
    group.settle();
    assert_eq!(told(&group, brought.0 + 1), [0, 1, 2, 3]);
    group.assert_safe();
}

#[test]
fn who_asks_again_for_what_a_chain_has_executed_ends_it() {
    for composition in [Composition::Chain, Composition::Quorum] {
        let mut group = Group::composed(4, composition);
        group.submit(&signed(1, 1));
        group.settle();
        group.ask_again(2, 1);
        group.settle();
        assert_eq!(group.common_view(), Some(View(0)), "it is executed just now");
        group.ask_again(1, 1);
        group.settle();
        assert_eq!(group.common_view(), Some(View(0)), "it may have asked before it was executed");
        group.run_for(2 * ZyzzyvaSettings::default().settle_patience);
        group.ask_again(1, 1);
        group.settle();
        assert_eq!(group.common_view(), Some(View(1)), "{composition:?}");
        group.ask_again(1, 1);
        group.settle();
        assert_eq!(group.common_view(), Some(View(1)), "Backup goes on");
        group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 2));
    }
}

#[test]
fn a_chain_with_a_replica_down_gives_way_to_backup() {
    for (down, id) in R.into_iter().enumerate() {
        let mut group = Group::composed(4, Composition::Chain);
        group.down = vec![id];
        let up: Vec<_> = (0..4).filter(|i| *i != down).collect();
        group.submit(&signed(1, 1));
        group.run_until(|group| group.have_executed(&up, 1));
        group.run_for(Duration::from_millis(100));
        group.ask_again(1, 1);
        group.run_until(|group| group.common_view() > Some(View(0)));
        group.submit(&signed(1, 2));
        group.run_until(|group| group.have_executed(&up, 2));
        for number in 3..20 {
            group.submit(&signed(1, number));
            group.run_until(|group| group.have_executed(&up, usize::try_from(number).expect("few")));
        }
        assert!(group.common_view() < Some(View(5)), "nobody tries a chain while one is not heard");
        group.assert_safe();
    }
}

#[test]
fn one_that_has_lost_its_disk_ends_what_needs_all() {
    for composition in [Composition::Chain, Composition::Quorum] {
        let mut group = Group::composed(4, composition);
        group.work(1..=2);
        group.run_until(|group| group.have_executed(&[0, 1, 2, 3], 2));
        group.restart_without_disk(3);
        group.run_until(|group| group.common_view() == Some(View(1)));
        for number in 3..12 {
            group.submit(&signed(1, number));
            group.run_with_transfers(|group| group.executed(3).contains(&(1, number)));
        }
        assert_eq!(group.common_view(), Some(View(1)), "nothing faster is tried");
        group.assert_safe();
    }
}

#[test]
fn backup_tells_clients_only_what_is_final() {
    let mut group = Group::composed(4, Composition::Chain);
    (0..4).for_each(|i| group.hand_over(i));
    group.run_until(are_in(1));
    let before = group.oracle.early;
    group.submit(&signed(1, 1));
    group.settle();
    assert!(group.have_executed(&[0, 1, 2, 3], 1), "without any timer");
    assert_eq!(group.oracle.early, before);
    let statements = group.history.iter().filter(|wire| wire.message.kind() == "committed").count();
    assert!(statements >= 12, "all hold the certificate");
}

#[test]
fn backup_ends_after_k_requests_and_k_doubles_while_what_follows_fails() {
    let mut group = Group::composed(4, Composition::Aliph);
    let mut served = Vec::new();
    let mut number = 0;
    for round in 0..3u64 {
        let (start, chain) = (6 * round, 6 * round + 1);
        assert_eq!(group.common_view(), Some(View(start)));
        // Neither of the first two does.
        group.hand_over(1);
        group.run_until(are_in(chain));
        group.hand_over(1);
        group.run_until(are_in(chain + 1));
        group.run_for(Duration::from_secs(2));
        let before = number;
        while group.common_view() == Some(View(chain + 1)) {
            number += 1;
            group.submit(&signed(1, number));
            group.run_for(Duration::from_secs(1));
        }
        group.run_until(are_in(6 * (round + 1)));
        served.push(number - before);
    }
    assert_eq!(served, [3, 6, 12]);
    // Quorum lasts longer than that: k is what it was.
    group.run_for(Duration::from_secs(60));
    group.hand_over(1);
    group.run_until(are_in(19));
    group.hand_over(1);
    group.run_until(are_in(20));
    while group.common_view() == Some(View(20)) {
        number += 1;
        group.submit(&signed(1, number));
        group.run_for(Duration::from_secs(1));
    }
    group.run_until(are_in(24));
    group.hand_over(1);
    group.run_until(are_in(25));
    group.hand_over(1);
    group.run_until(are_in(26));
    group.run_for(Duration::from_secs(2));
    let before = number;
    while group.common_view() == Some(View(26)) {
        number += 1;
        group.submit(&signed(1, number));
        group.run_for(Duration::from_secs(1));
    }
    assert_eq!(number - before, 3);
    group.assert_safe();
}

#[test]
fn something_faster_is_tried_though_all_have_started_again_meanwhile() {
    let mut group = Group::composed(4, Composition::Chain);
    (0..4).for_each(|i| group.hand_over(i));
    group.run_until(are_in(1));
    (0..4).for_each(|i| group.restart(i));
    group.settle();
    assert_eq!(group.common_view(), Some(View(1)));
    group.work(1..=3);
    group.run_until(are_in(5));
}

/// The next head judges by itself too late, and goes along.
#[test]
fn whoever_goes_along_to_something_faster_asks_nobody_for_signatures() {
    let mut group = Group::composed(4, Composition::Chain);
    (0..4).for_each(|i| group.hand_over(i));
    group.run_until(are_in(1));
    // Up to a checkpoint, so that the next view starts with nothing.
    group.work(1..=4);
    group.run_for(Duration::from_secs(1));
    group.restart(1);
    group.run_until(are_in(5));
    group.event(1, althing_protocol::Event::Request(with_macs(2, 1)));
    group.settle();
    assert!(group.done(1).contains(&(2, 1)));
}

#[test]
fn a_chain_that_serves_one_client_alone_gives_way_to_quorum() {
    let mut group = Group::composed(4, Composition::Aliph);
    group.hand_over(1);
    group.run_until(are_in(1));
    let timeout = composed(Composition::Aliph).view_timeout;
    for round in 0..3 {
        // Two clients: it stays.
        for number in 1..8 {
            group.submit(&signed(1, 100 * round + number));
            group.submit(&signed(2, 100 * round + number));
            group.run_for(timeout);
        }
        let chain = 6 * round + 1;
        assert_eq!(group.common_view(), Some(View(chain)));
        // One: it takes longer each time, since Quorum is not what serves it then.
        let before = group.now;
        let mut number = 100 * round + 10;
        while group.common_view() == Some(View(chain)) {
            group.submit(&signed(1, number));
            group.run_for(timeout / 10);
            number += 1;
        }
        assert_eq!(group.common_view(), Some(View(chain + 5)));
        let waited = group.now.since(before);
        let least = timeout * if round == 0 { 1 } else { 2u32.pow(round as u32) };
        assert!(waited >= least / 2 && waited < 2 * least, "round {round}: {waited:?}");
        group.hand_over(1);
        group.run_until(are_in(chain + 6));
    }
    group.assert_safe();
}

#[test]
fn a_round_of_backup_whose_first_primaries_are_silent_gets_on() {
    let settings = ZyzzyvaSettings { backup_requests: 1000, ..composed(Composition::Aliph) };
    let mut group = Group::with(7, settings);
    group.hand_over(6);
    group.run_until(are_in(1));
    group.hand_over(6);
    // The primaries of views 2 and 3.
    group.down = vec![R[2], R[3]];
    for number in 1..10 {
        group.submit(&signed(1, number));
        group.run_until(|group| group.executed(0).contains(&(1, number)));
    }
    assert_eq!(group.common_view(), Some(View(4)));
    group.assert_safe();
}
