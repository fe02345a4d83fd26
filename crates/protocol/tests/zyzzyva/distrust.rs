//! Clients whose MACs are good at some replicas only, in a chain.

use crate::group::{Group, R, Wire};
use crate::requests::{GREAT_LIAR, LIAR, signed, with_macs};
use althing_crypto::{Authenticator, Mac, Proof};
use althing_protocol::zyzzyva::{Composition, ZyzzyvaMessage};
use althing_protocol::{Event, Request, RequestAuth};
use althing_types::{ClientId, View};
use std::sync::Arc;

fn chain(n: usize) -> Group {
    Group::composed(n, Composition::Chain)
}

#[test]
fn beyond_the_first_f_plus_1_a_chain_takes_their_word_for_a_client() {
    for (n, first) in [(4, 2), (7, 3)] {
        for bad_at in first..n {
            let mut group = chain(n);
            let client = LIAR + bad_at as u64;
            group.event(0, Event::Request(with_macs(client, 1)));
            group.settle();
            for i in 0..n {
                assert_eq!(group.done(i), [(client, 1)], "bad at {bad_at} of {n}");
            }
            assert_eq!(group.common_view(), Some(View(0)));
        }
    }
}

/// The first two of a chain of seven, which may both be faulty, order what no client sent.
#[test]
fn f_replicas_cant_have_a_chain_execute_what_no_client_sent() {
    let mut group = chain(7);
    // Good at the head only, which is as good as made up.
    group.event(0, Event::Request(with_macs(GREAT_LIAR, 1)));
    group.settle();
    let order = group.history.iter().find_map(|wire| match &wire.message {
        ZyzzyvaMessage::Pass(order) if wire.to == R[1] => Some(order.clone()),
        _ => None,
    });
    let mut order = order.expect("the head has passed it on");
    Arc::make_mut(&mut order.batch).requests[0].is_authentic = false;
    group.receive(2, R[1], ZyzzyvaMessage::Pass(order));
    group.settle();
    assert_eq!((0..7).map(|i| group.done(i).len()).collect::<Vec<_>>(), [1, 0, 0, 0, 0, 0, 0]);
}

/// Nobody else has seen anything of it.
#[test]
fn where_protocols_take_turns_whom_one_replica_names_has_to_sign() {
    let client = LIAR + 2;
    for (composition, view, has_to) in
        [(Composition::Chain, 0, true), (Composition::Chain, 1, true), (Composition::Zyzzyva, 0, false)]
    {
        let mut group = Group::composed(4, composition);
        if view == 1 {
            (0..4).for_each(|i| group.hand_over(i));
            group.run_until(|group| group.common_view() == Some(View(1)));
        }
        let primary = usize::try_from(view).expect("small");
        group.receive(primary, R[3], ZyzzyvaMessage::Caught { clients: vec![ClientId(client)] });
        group.event(primary, Event::Request(with_macs(client, 1)));
        assert_eq!(group.nodes[primary].told_to_sign.contains(&ClientId(client)), has_to, "{composition:?}");
        group.settle();
        assert_eq!(group.done(primary).is_empty(), has_to, "{composition:?} in view {view}");
        group.event(primary, Event::Request(signed(client, 1)));
        group.run_until(|group| group.done(primary) == [(client, 1)]);
    }
}

#[test]
fn the_second_of_a_chain_names_whom_it_does_not_believe() {
    let mut group = chain(4);
    let client = LIAR + 1;
    group.event(0, Event::Request(with_macs(client, 1)));
    group.event(0, Event::Request(with_macs(1, 1)));
    group.run_until(|group| group.common_view() > Some(View(0)));
    let names = |wire: &Wire| match &wire.message {
        ZyzzyvaMessage::Caught { clients } => wire.from == R[1] && *clients == [ClientId(client)],
        _ => false,
    };
    assert_eq!(group.history.iter().filter(|wire| names(wire)).count(), 3);
    // Whoever is not to blame signs when it asks again.
    group.submit(&signed(1, 1));
    group.run_until(|group| (0..4).all(|i| group.executed(i).contains(&(1, 1))));
    group.assert_safe();
}

/// What the head has ordered is passed on to replica `to` by its predecessor, changed like this.
fn passed_changed(group: &mut Group, to: usize, change: impl Fn(&mut Request)) {
    group.event(0, Event::Request(signed(1, 1)));
    group.deliver(|wire| wire.to == R[to] && matches!(wire.message, ZyzzyvaMessage::Pass(_)));
    let order = group.history.iter().rev().find_map(|wire| match &wire.message {
        ZyzzyvaMessage::Pass(order) => Some(order.clone()),
        _ => None,
    });
    let mut order = order.expect("it was passed on");
    Arc::make_mut(&mut order.batch).requests.iter_mut().for_each(change);
    group.receive(to, R[to - 1], ZyzzyvaMessage::Pass(order));
}

#[test]
fn whoever_checks_no_macs_names_nobody_for_them() {
    let mut group = chain(4);
    passed_changed(&mut group, 3, |request| *request = Request { is_authentic: false, ..with_macs(9, 1) });
    group.hand_over(3);
    group.settle();
    let is_caught = |wire: &Wire| matches!(wire.message, ZyzzyvaMessage::Caught { .. });
    assert!(!group.history.iter().any(is_caught), "client 9 has never asked for anything");
}

#[test]
fn what_nobody_checks_is_no_longer_than_anybody_needs() {
    for (auth, is_taken) in [
        (RequestAuth::Signed(Proof(vec![0; 64])), true),
        (RequestAuth::Signed(Proof(vec![0; 1 << 20])), false),
        (RequestAuth::Macs(Authenticator(vec![Mac::default(); 1000])), false),
    ] {
        let mut group = chain(4);
        passed_changed(&mut group, 2, |request| request.auth = auth.clone());
        assert_eq!(group.nodes[2].evidence.is_empty(), is_taken, "{auth:?}");
        assert_eq!(group.done(2), if is_taken { vec![(1, 1)] } else { vec![] });
    }
}
