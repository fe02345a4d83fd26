//! Requests that clients send to all replicas, and that are proposed by name.

use crate::group::{Group, LIAR, R, Wire, settings_with_batches, signed, with_macs};
use althing_protocol::pbft::{NamedRequest, PbftMessage, PbftSettings, ShortProposal};
use althing_protocol::{Batch, Event, Misbehaviour, Request};
use althing_types::{ClientId, Digest, Instant, RequestNumber, Seq, View};
use std::collections::VecDeque;
use std::time::Duration;

/// All requests of these tests are of three bytes.
fn group() -> Group {
    Group::with(4, PbftSettings { separate_bytes: 3, ..settings_with_batches() })
}

/// A client sends its request to the primary, and to some of the others beforehand.
fn send(group: &mut Group, request: &Request, shown_to: &[usize]) {
    for i in shown_to {
        group.event(*i, Event::Body(request.clone()));
    }
    group.event(0, Event::Request(request.clone()));
}

fn is_short(wire: &Wire) -> bool {
    matches!(wire.message, PbftMessage::ShortPrePrepare(_))
}

fn is_whole(wire: &Wire) -> bool {
    matches!(wire.message, PbftMessage::PrePrepare(_))
}

/// How many proposals of each form the primary has sent, and who has asked for a whole one.
fn proposals(group: &Group) -> (usize, usize, Vec<u16>) {
    let asks = |wire: &&Wire| matches!(wire.message, PbftMessage::FetchProposal { .. });
    let count = |is: fn(&Wire) -> bool| group.history.iter().filter(|wire| is(wire)).count();
    let asking = group.history.iter().filter(asks).map(|wire| wire.from.0).collect();
    (count(is_short), count(is_whole), asking)
}

fn executed(group: &Group) -> Vec<Vec<(u64, u64)>> {
    (0..4).map(|i| group.executed(i)).collect()
}

#[test]
fn what_all_have_is_proposed_by_name() {
    let mut group = group();
    send(&mut group, &with_macs(1, 1), &[1, 2, 3]);
    send(&mut group, &signed(2, 1), &[1, 2, 3]);
    group.settle();
    assert_eq!(executed(&group), vec![vec![(1, 1), (2, 1)]; 4]);
    assert_eq!(proposals(&group), (6, 0, vec![]), "two batches, to three each");
    let carried = group.sent(R[0], |wire| match &wire.message {
        PbftMessage::ShortPrePrepare(short) => Some((short.whole.len(), short.named.len())),
        _ => None,
    });
    assert_eq!(carried, [(0, 1); 6]);
    assert!(group.nodes.iter().all(|node| node.pbft.footprint() == group.nodes[0].pbft.footprint()));
}

#[test]
fn small_and_large_requests_share_a_batch() {
    let settings = PbftSettings { separate_bytes: 3, pipeline: 1, ..settings_with_batches() };
    let mut group = Group::with(4, settings);
    let small = |client| Request { operation: vec![1], ..signed(client, 1) };
    // While the first is under way the others gather.
    send(&mut group, &signed(1, 1), &[1, 2, 3]);
    for request in [small(2), signed(3, 1), small(4), signed(5, 1), signed(6, 1)] {
        send(&mut group, &request, &[1, 2, 3]);
    }
    group.settle();
    assert_eq!(executed(&group), vec![[1, 2, 3, 4, 5, 6].map(|client| (client, 1)).to_vec(); 4]);
    assert_eq!(proposals(&group).2, vec![] as Vec<u16>);
    let places = group.sent(R[0], |wire| match &wire.message {
        PbftMessage::ShortPrePrepare(short) if short.whole.len() == 2 => {
            Some(short.named.iter().map(|named| named.place).collect::<Vec<_>>())
        }
        _ => None,
    });
    assert_eq!(places, vec![vec![1, 3, 4]; 3]);
}

#[test]
fn who_lacks_requests_again_and_again_asks_ever_more_rarely_and_is_sent_whole_ones_meanwhile() {
    let mut group = group();
    send(&mut group, &with_macs(1, 1), &[1, 2]);
    group.settle();
    assert_eq!(executed(&group), vec![vec![(1, 1)]; 4]);
    assert_eq!(proposals(&group), (3, 1, vec![3]));
    for number in 2..=70 {
        send(&mut group, &with_macs(1, number), &[1, 2]);
        send(&mut group, &with_macs(2, number), &[1, 2, 3]);
        group.settle();
    }
    // It asks for 1, 3, 6, 11, 20, 37 and 70.
    let unasked = 1 + 2 + 4 + 8 + 16 + 32;
    assert_eq!(
        proposals(&group),
        (6 * 70 - 3 - unasked, 7 + unasked, vec![3; 7]),
        "whole ones of that client, to that backup"
    );
    assert_eq!(group.executed(3).len(), 2 * 70 - 1);
}

#[test]
fn a_backup_that_was_cut_off_has_what_the_others_went_on_with() {
    let mut group = group();
    let requests = || (1..=3).flat_map(|number| [1, 2].map(|client| signed(client, number)));
    let mut late = VecDeque::new();
    for request in requests() {
        send(&mut group, &request, &[1, 2, 3]);
        group.deliver(|wire| {
            let is_late = (wire.from, wire.to) == (R[0], R[3]);
            late.extend(is_late.then(|| wire.clone()));
            is_late
        });
    }
    assert_eq!((group.executed(2).len(), group.executed(3).len()), (6, 0));
    group.wires.append(&mut late);
    group.settle();
    assert_eq!(executed(&group)[3], requests().map(|it| (it.client.0, it.number.0)).collect::<Vec<_>>());
    assert_eq!((proposals(&group).1, proposals(&group).2), (0, vec![]), "nothing had to be asked for");
}

#[test]
fn two_requests_of_one_name_are_told_apart() {
    let mut group = group();
    let request = signed(1, 1);
    group.event(1, Event::Body(Request { operation: vec![9; 3], ..request.clone() }));
    send(&mut group, &request, &[2, 3]);
    group.settle();
    assert_eq!(executed(&group), vec![vec![(1, 1)]; 4]);
    let operations = group.nodes.iter().map(|node| node.decisions[0].batch.requests[0].operation.clone());
    assert_eq!(operations.collect::<Vec<_>>(), vec![vec![1, 2, 3]; 4]);
    assert_eq!(proposals(&group).2, vec![1]);
}

#[test]
fn macs_that_are_bad_elsewhere_are_still_a_matter_of_whom_they_are_good_at() {
    let mut group = group();
    // Good at replica 0 alone, and shown to nobody: the others have only its word.
    send(&mut group, &with_macs(LIAR, 1), &[]);
    group.settle();
    assert_eq!(executed(&group), vec![vec![]; 4]);
    assert_eq!(proposals(&group).2, vec![1, 2, 3]);
    // Who was shown it believes it.
    send(&mut group, &with_macs(LIAR + 1, 1), &[]);
    group.event(1, Event::Body(with_macs(LIAR, 1)));
    group.run_for(Duration::from_secs(60));
    assert!(group.nodes.iter().all(|node| node.pbft.view() == View(0)), "nobody signed: nobody waits");
}

#[test]
fn what_is_only_shown_is_nobodys_fault_and_goes_when_its_client_goes_on() {
    let mut group = group();
    let before: Vec<_> = group.nodes.iter().map(|node| node.pbft.footprint()).collect();
    for i in 1..4 {
        group.event(i, Event::Body(signed(1, 1)));
        group.event(i, Event::Body(Request { is_authentic: false, ..signed(7, 1) }));
        group.event(i, Event::Body(Request { operation: vec![0; 2], ..signed(8, 1) }));
    }
    group.run_for(Duration::from_secs(60));
    assert!(group.nodes.iter().all(|node| node.pbft.view() == View(0)));
    let held = |group: &Group, i: usize| group.nodes[i].pbft.footprint() - before[i];
    assert_eq!([0, 1, 2, 3].map(|i| held(&group, i)), [0, 1, 1, 1]);
    send(&mut group, &signed(1, 2), &[]);
    group.settle();
    let decided = held(&group, 0);
    assert_eq!([1, 2, 3].map(|i| held(&group, i)), [decided; 3], "the earlier is not held any more");
    (1..4).for_each(|i| group.event(i, Event::Body(signed(1, 2))));
    assert_eq!([1, 2, 3].map(|i| held(&group, i)), [decided; 3], "it is executed");
}

#[test]
fn one_that_is_named_again_and_again_is_not_copied_as_often() {
    let settings = PbftSettings { separate_bytes: 3, max_batch_bytes: 30, ..settings_with_batches() };
    let mut group = Group::with(4, settings);
    group.event(1, Event::Body(Request { operation: vec![1; 20], ..signed(1, 1) }));
    let named = |place| NamedRequest { place, client: ClientId(1), number: RequestNumber(1) };
    for times in [1, 2] {
        let request = Request { operation: vec![1; 20], ..signed(1, 1) };
        let batch = Batch { time: Instant(0), requests: vec![request; times] };
        let short = ShortProposal {
            view: View(0),
            seq: Seq(times as u64),
            digest: batch.digest(),
            time: Instant(0),
            whole: vec![],
            named: (0u32..).take(times).map(named).collect(),
        };
        group.receive(1, R[0], PbftMessage::ShortPrePrepare(short));
        assert_eq!(proposals(&group).2.len(), times - 1);
    }
}

#[test]
fn what_is_lost_comes_again_whole() {
    for is_lost in [is_short, |wire: &Wire| matches!(wire.message, PbftMessage::FetchProposal { .. })] {
        let mut group = group();
        group.loses = is_lost;
        send(&mut group, &with_macs(1, 1), &[]);
        group.run_until(|group| executed(group) == vec![vec![(1, 1)]; 4]);
        assert!(group.nodes.iter().all(|node| node.pbft.view() == View(0)));
    }
}

#[test]
fn a_view_that_ends_loses_nothing_that_was_proposed_by_name() {
    let mut group = group();
    send(&mut group, &signed(1, 1), &[1, 2, 3]);
    // All prepare it, and nobody commits.
    group.deliver(|wire| matches!(wire.message, PbftMessage::Commit(_)));
    group.down = vec![R[0]];
    for i in 1..4 {
        group.event(i, Event::Request(signed(2, 1)));
    }
    group.run_until(|group| (1..4).all(|i| group.executed(i).len() == 2));
    assert!((1..4).all(|i| group.executed(i) == [(1, 1), (2, 1)]));
    // The new primary has what the client of a third one sends to all, and proposes it by name again.
    let before = proposals(&group).0;
    for i in [2, 3] {
        group.event(i, Event::Body(signed(3, 1)));
    }
    group.event(1, Event::Request(signed(3, 1)));
    group.run_until(|group| (1..4).all(|i| group.executed(i).len() == 3));
    assert!(proposals(&group).0 > before);
}

#[test]
fn beyond_a_log_that_waits_for_its_disk_the_whole_is_held() {
    let mut group = group();
    group.unkept = vec![R[3]];
    for number in 1..=12 {
        // What replica 3 lacks beyond its log it asks for at once, as ever.
        send(&mut group, &with_macs(1, number), if number == 10 { &[1, 2] } else { &[1, 2, 3] });
        group.settle();
    }
    assert_eq!((group.executed(0).len(), group.executed(3).len()), (12, 8));
    assert_eq!(proposals(&group).2, vec![3]);
    group.unkept = vec![];
    group.event(3, Event::StateKept(Seq(4)));
    group.settle();
    assert_eq!(group.executed(3).len(), 12, "without a word from anybody");
}

#[test]
fn a_proposal_is_asked_for_where_it_counts_and_given_once_by_who_made_it() {
    let mut group = group();
    send(&mut group, &with_macs(1, 1), &[1, 2, 3]);
    group.settle();
    let named = vec![NamedRequest { place: 0, client: ClientId(7), number: RequestNumber(1) }];
    let short = |view, seq| {
        let (view, seq, digest) = (View(view), Seq(seq), Digest([7; 32]));
        let (time, whole, named) = (Instant(0), vec![], named.clone());
        PbftMessage::ShortPrePrepare(ShortProposal { view, seq, digest, time, whole, named })
    };
    group.receive(1, R[0], short(0, 1));
    group.receive(1, R[0], short(4, 2));
    group.event(2, Event::Request(signed(2, 1)));
    group.lose();
    group.give_up(2);
    group.receive(2, R[1], short(1, 2));
    assert_eq!(proposals(&group).2, vec![] as Vec<u16>, "executed, of another view, not in it");
    group.receive(1, R[0], short(0, 2));
    assert_eq!(proposals(&group).2, vec![1]);
    for (at, view) in [(1, 0), (0, 4), (0, 0), (0, 0)] {
        group.receive(at, R[3], PbftMessage::FetchProposal { view: View(view), seq: Seq(1) });
    }
    assert_eq!(proposals(&group).1, 1);
}

#[test]
fn nonsense_is_asked_about_or_held_against_its_sender() {
    let named = |place, client| NamedRequest { place, client: ClientId(client), number: RequestNumber(1) };
    let short = |named: &[NamedRequest]| ShortProposal {
        view: View(0),
        seq: Seq(1),
        digest: Digest([7; 32]),
        time: Instant(0),
        whole: vec![signed(9, 1)],
        named: named.to_vec(),
    };
    let mut group = group();
    group.event(1, Event::Body(signed(1, 1)));
    group.event(1, Event::Body(signed(2, 1)));
    let all = [
        vec![named(0, 1), named(0, 2)],
        vec![named(1, 2), named(0, 1)],
        vec![named(u32::MAX, 1)],
        vec![named(3, 1)],
        vec![named(0, 1); 100],
        vec![],
    ];
    for names in &all {
        group.receive(1, R[0], PbftMessage::ShortPrePrepare(short(names)));
    }
    assert_eq!(proposals(&group).2, vec![1; all.len()]);
    assert!(group.nodes[1].evidence.is_empty());
    group.receive(1, R[2], PbftMessage::ShortPrePrepare(short(&[named(0, 1)])));
    let accused: Vec<_> =
        group.nodes[1].evidence.iter().map(|e| (e.accused, e.misbehaviour.clone())).collect();
    assert_eq!(accused, [(R[2], Misbehaviour::InvalidMessage)]);
    // Nobody but the primary answers such a question, and that one not about what it has not said.
    let sent = group.history.len();
    group.receive(2, R[1], PbftMessage::FetchProposal { view: View(0), seq: Seq(1) });
    group.receive(0, R[1], PbftMessage::FetchProposal { view: View(0), seq: Seq(1) });
    group.receive(0, R[1], PbftMessage::FetchProposal { view: View(4), seq: Seq(u64::MAX) });
    assert_eq!(group.history.len(), sent);
}
