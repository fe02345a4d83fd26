//! What backups hold a primary to before the view timeout of one second.

use crate::group::{Group, LIAR, R, Wire, settings, settings_with_batches, signed, with_macs};
use althing_protocol::pbft::{PbftMessage, PbftSettings, PrePrepare, Status};
use althing_protocol::{Batch, Event, Request};
use althing_types::{ClientId, Seq, View};
use std::sync::Arc;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// A client of its own shows its first request.
fn witness(client: u64) -> Event<PbftMessage> {
    Event::Witness { request: with_macs(client, 1), owner: ClientId(client) }
}

fn is_proposal_of_first_primary(wire: &Wire) -> bool {
    wire.from == R[0] && matches!(wire.message, PbftMessage::PrePrepare(_))
}

/// A group that has agreed on something, so that replicas know how long that takes: no time at all.
fn group(settings: PbftSettings) -> Group {
    let mut group = Group::with(4, settings);
    group.submit(&signed(1, 1));
    group.settle();
    group
}

fn views(group: &Group) -> Vec<u64> {
    group.nodes.iter().map(|node| node.pbft.view().0).collect()
}

#[test]
fn a_primary_that_lets_a_complaint_wait_is_replaced_long_before_the_timeout() {
    let run = |settings, pauses: u64| {
        let mut group = group(settings);
        for number in 2..2 + pauses {
            group.loses = is_proposal_of_first_primary;
            group.submit(&signed(1, number));
            group.run_for(350 * MS);
            group.loses = |_| false;
            group.run_for(200 * MS);
        }
        views(&group)
    };
    assert_eq!(run(settings(), 2), [1; 4]);
    assert_eq!(run(settings(), 1), [0; 4], "its machine may have paused");
    assert_eq!(run(PbftSettings { primary_slack: 0, ..settings() }, 3), [0; 4], "switched off");
}

/// A primary under the test's hand proposes these at a number.
fn propose(group: &mut Group, seq: u64, requests: &[Request]) {
    let time = if requests.is_empty() { Batch::null().time } else { group.now };
    let batch = Arc::new(Batch { time, requests: requests.to_vec() });
    for i in 1..4 {
        let batch = Arc::clone(&batch);
        group.receive(i, R[0], PbftMessage::PrePrepare(PrePrepare { view: View(0), seq: Seq(seq), batch }));
    }
    group.settle();
}

#[test]
fn a_primary_that_always_keeps_somebody_waiting_is_replaced() {
    let mut group = group(settings_with_batches());
    group.down = vec![R[0]];
    // Ten clients, one after the other; each waits for so many tenths of a second.
    let mut run = |steps: u64, wait: u64| {
        let request = |step: u64| signed(2 + step % 10, 1 + step / 10);
        for step in 0..steps {
            group.submit(&request(step));
            group.run_for(100 * MS);
            if let Some(step) = step.checked_sub(wait) {
                propose(&mut group, 2 + step, &[request(step)]);
            }
        }
        (group.nodes[1].pbft.view(), group.executed(1).len())
    };
    let (view, executed) = run(60, 7);
    assert_eq!(view, View(1), "{executed} were executed");
}

#[test]
fn a_primary_that_leaves_a_number_free_has_not_proposed_what_comes_after_it() {
    let mut group = group(settings());
    group.down = vec![R[0]];
    for round in 0..10 {
        let request = signed(2 + round % 3, 1 + round / 3);
        group.submit(&request);
        propose(&mut group, 3 + 2 * round, &[request]);
        group.run_for(900 * MS);
        propose(&mut group, 2 + 2 * round, &[]);
        group.run_for(100 * MS);
    }
    assert_eq!(group.nodes[1].pbft.view(), View(1), "{} were executed", group.executed(1).len());
}

#[test]
fn nothing_is_held_against_a_primary_while_nobody_waits() {
    let mut group = group(settings());
    group.run_for(100_000 * MS);
    group.submit(&signed(1, 2));
    group.run_for(100_000 * MS);
    assert_eq!((views(&group), group.executed(3)), (vec![0; 4], vec![(1, 1), (1, 2)]));
}

#[test]
fn a_primary_that_serves_others_before_one_that_waits_is_replaced() {
    let run_after = |settings, wait| {
        let mut group = group(settings);
        group.loses = |wire| wire.to == R[0] && matches!(wire.message, PbftMessage::Forward(_));
        for i in 1..4 {
            group.event(i, Event::Request(signed(9, 1)));
        }
        group.run_for(wait);
        for number in 2..=4 {
            group.event(0, Event::Request(signed(1, number)));
            group.settle();
        }
        group.run_for(30 * MS);
        views(&group)
    };
    let run = |settings| run_after(settings, 60 * MS);
    assert_eq!(run(settings()), [1; 4]);
    assert_eq!(run_after(settings(), 40 * MS), [0; 4], "it may still have been on its way to the primary");
    assert_eq!(run(PbftSettings { primary_passes: 3, ..settings() }), [0; 4], "three are allowed");
    assert_eq!(run(PbftSettings { primary_passes: 0, ..settings() }), [0; 4], "switched off");
}

#[test]
fn what_is_proposed_already_does_not_wait_for_the_primary() {
    let mut group = group(settings());
    group.event(0, Event::Request(with_macs(1, 2)));
    group.deliver(|wire| !matches!(wire.message, PbftMessage::PrePrepare(_)));
    group.history.clear();
    group.loses = |wire| matches!(wire.message, PbftMessage::Commit(_));
    group.submit(&signed(1, 2));
    group.run_for(350 * MS);
    let suspects = |wire: &Wire| matches!(wire.message, PbftMessage::Status(status) if status.is_suspicious);
    assert!(!group.history.iter().any(suspects));
    let proposed = group.sent(R[0], |wire| match &wire.message {
        PbftMessage::PrePrepare(proposal) => Some(proposal.seq),
        _ => None,
    });
    assert!(proposed.iter().all(|seq| *seq == Seq(2)), "nor is it proposed again: {proposed:?}");
    group.loses = |_| false;
    group.run_until(|group| (0..4).all(|i| group.executed(i) == [(1, 1), (1, 2)]));
    assert_eq!(views(&group), [0; 4]);
}

#[test]
fn copies_of_what_clients_sent_to_the_primary_speak_for_most_clients_or_not_at_all() {
    let run = |late: &[&[u64]], in_time: &[u64]| {
        let mut group = group(settings());
        for client in in_time {
            group.event(0, Event::Request(with_macs(*client, 1)));
            group.settle();
            (1..4).for_each(|i| group.event(i, witness(*client)));
        }
        for clients in late {
            for client in *clients {
                (1..4).for_each(|i| group.event(i, witness(*client)));
            }
            group.run_for(150 * MS);
            for client in *clients {
                group.event(0, Event::Request(with_macs(*client, 1)));
            }
            group.settle();
        }
        group.run_for(350 * MS);
        views(&group)
    };
    assert_eq!(run(&[&[2], &[3]], &[]), [1; 4]);
    assert_eq!(run(&[&[2], &[3]], &[1]), [1; 4], "two of three");
    assert_eq!(run(&[&[2], &[3]], &[4, 5, 6]), [0; 4], "two of five");
    assert_eq!(run(&[&[2, 3]], &[]), [0; 4], "its machine may have paused");
    assert_eq!(run(&[&[2]], &[]), [0; 4], "one client may not have asked the primary at all");
}

#[test]
fn who_was_served_before_it_was_shown_speaks_for_the_primary() {
    let run = |served: u64| {
        let mut group = group(settings());
        for client in 20..20 + served {
            group.submit(&with_macs(client, 1));
            group.settle();
            (1..4).for_each(|i| group.event(i, witness(client)));
        }
        for client in [2, 3] {
            (1..4).for_each(|i| group.event(i, witness(client)));
            group.run_for(150 * MS);
            group.event(0, Event::Request(with_macs(client, 1)));
            group.settle();
        }
        group.run_for(350 * MS);
        views(&group)
    };
    assert_eq!(run(1), [1; 4], "two of three are late");
    assert_eq!(run(2), [0; 4], "two of four are not most");
}

/// Proposals of this primary get lost for so long, while somebody has complained.
fn pause(group: &mut Group, number: u64, loses: fn(&Wire) -> bool) {
    group.loses = loses;
    group.submit(&signed(1, number));
    group.run_for(350 * MS);
    group.loses = |_| false;
    group.run_for(200 * MS);
}

#[test]
fn a_pause_is_forgotten_in_time_and_with_its_view() {
    let mut group = group(settings());
    pause(&mut group, 2, is_proposal_of_first_primary);
    group.run_for(3_000 * MS);
    pause(&mut group, 3, is_proposal_of_first_primary);
    assert_eq!(views(&group), [0; 4]);
    pause(&mut group, 4, is_proposal_of_first_primary);
    assert_eq!(views(&group), [1; 4]);
    pause(&mut group, 5, |wire| wire.from == R[1] && matches!(wire.message, PbftMessage::PrePrepare(_)));
    assert_eq!(views(&group), [1; 4], "the next has paused once");
}

#[test]
fn a_primary_whose_pipeline_or_log_is_full_keeps_nobody_waiting() {
    let mut group = group(PbftSettings { pipeline: 1, ..settings_with_batches() });
    for number in 2..5 {
        group.event(0, Event::Request(with_macs(2, number)));
        group.deliver(|wire| matches!(wire.message, PbftMessage::Commit(_)));
        pause(&mut group, number, |wire| matches!(wire.message, PbftMessage::Commit(_)));
    }
    assert_eq!((views(&group), group.executed(1).len()), (vec![0; 4], 7));
    let mut group = self::group(settings_with_batches());
    group.unkept = R.to_vec();
    for number in 2..=8 {
        group.submit(&signed(1, number));
        group.settle();
    }
    for (number, stable) in [(9, 4), (13, 8)] {
        group.submit(&signed(1, number));
        group.run_for(350 * MS);
        (0..4).for_each(|i| group.event(i, Event::StateKept(Seq(stable))));
        group.run_for(200 * MS);
        for number in 10..=12 {
            group.submit(&signed(1, number));
            group.settle();
        }
    }
    assert_eq!((views(&group), group.executed(1).len()), (vec![0; 4], 13));
}

#[test]
fn what_f_replicas_say_of_a_primary_changes_nothing() {
    let mut group = group(settings());
    let suspicion = |view| {
        let (stable, executed) = (Seq(0), Seq(1));
        PbftMessage::Status(Status {
            view: View(view),
            is_in_view: true,
            stable,
            executed,
            is_suspicious: true,
        })
    };
    for i in [0, 2, 3] {
        group.receive(i, R[1], suspicion(0));
    }
    group.run_for(5_000 * MS);
    assert_eq!(views(&group), [0; 4]);
    for i in [0, 3] {
        group.receive(i, R[1], suspicion(0));
        group.receive(i, R[2], suspicion(7));
    }
    group.settle();
    assert_eq!(views(&group), [0; 4], "one of them speaks of another view");
    for i in [0, 3] {
        group.receive(i, R[2], suspicion(0));
    }
    group.settle();
    assert_eq!(views(&group), [1; 4]);
}

#[test]
fn a_suspicion_that_is_not_repeated_ends() {
    let run = |pause| {
        let mut group = group(settings());
        group.down = vec![R[1], R[2]];
        let status = PbftMessage::Status(Status {
            view: View(0),
            is_in_view: true,
            stable: Seq(0),
            executed: Seq(1),
            is_suspicious: true,
        });
        group.receive(3, R[1], status.clone());
        group.run_for(pause);
        group.receive(3, R[2], status);
        group.settle();
        group.nodes[3].pbft.view()
    };
    assert_eq!(run(900 * MS), View(1));
    assert_eq!(run(1100 * MS), View(0));
}

#[test]
fn whoever_was_fooled_by_a_client_hears_of_it_from_f_plus_1() {
    let mut group = group(settings());
    // Good at replica 0 only: nobody else can believe what it proposes.
    group.event(0, Event::Request(with_macs(LIAR, 1)));
    group.submit(&signed(1, 2));
    group.run_until(|group| (0..4).all(|i| group.executed(i).contains(&(1, 2))));
    assert_eq!(views(&group), [1; 4]);
    group.history.clear();
    let forwarded = |group: &Group| {
        group.sent(R[0], |wire| match &wire.message {
            PbftMessage::Forward(request) => Some(request.client.0),
            _ => None,
        })
    };
    group.event(0, Event::Request(with_macs(LIAR, 2)));
    assert_eq!(forwarded(&group), [], "its MACs are not believed");
    group.event(0, Event::Request(with_macs(2, 1)));
    group.event(0, Event::Request(signed(LIAR, 2)));
    assert_eq!(forwarded(&group), [2, LIAR], "others' are, and its signatures");
    group.run_for(65_000 * MS);
    group.history.clear();
    group.event(0, Event::Request(with_macs(LIAR, 3)));
    assert_eq!(forwarded(&group), [LIAR], "they are again");
}
