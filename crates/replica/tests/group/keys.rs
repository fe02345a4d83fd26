//! New keys while a group works.

use crate::ledger::Operation;
use crate::net::{Net, Settings, keyring, signatures_only};
use crate::recovery::pbft;
use althing_crypto::{Domain, Keyring};
use althing_protocol::pbft::{Pbft, PbftMessage};
use althing_replica::*;
use althing_types::{ClientId, Digest, Epoch, Instant, Principal, ReplicaId, Seq, encode};
use std::time::Duration;

/// As long as replaced keys may still be good: they are retired once in a grace.
const RETIRED: Duration = Duration::from_secs(4);

fn group(settings: Settings) -> Net<Pbft> {
    let quorums = settings.quorums;
    Net::new(settings, move |id| pbft(id, quorums))
}

fn refresh(net: &mut Net<Pbft>, id: u16, seed: u8) {
    net.input(ReplicaId(id), Input::Refresh { seed: [seed; 32].into(), lifetime: 20 * RETIRED });
}

/// Replicas whose refusals were reported since `first`.
fn refused(net: &Net<Pbft>, first: usize) -> usize {
    net.reports[first..].iter().filter(|(_, report)| matches!(report, Report::Refused { .. })).count()
}

#[test]
fn all_replicas_renew_their_keys_and_no_client_waits() {
    let reads = ReadPolicy::Fast;
    for settings in [
        Settings { reads, ..Settings::new(4) },
        Settings { engine: signatures_only(), reads, ..Settings::new(4) },
    ] {
        let mut net = group(settings);
        for round in 0..6u8 {
            for id in 0..4 {
                refresh(&mut net, id, 10 * round + id as u8);
                let before = net.now;
                net.write(u32::from(id), &[round]);
                let (value, _) = net.call(1, &Operation::Read(u32::from(id)), OperationKind::ReadOnly);
                assert_eq!(value, [round]);
                assert!(net.now.since(before) < Duration::from_millis(100), "it had to ask again");
            }
            // Every other round all keys that clients know are retired before they ask again.
            net.run_for(if round % 2 == 0 { RETIRED } else { Duration::from_millis(10) });
        }
        let learned = net.reports.iter().filter(|(_, r)| matches!(r, Report::KeyLearned { .. })).count();
        assert_eq!(learned, 6 * 4 * 3);
        assert!(net.evidence.is_empty(), "{:?}", net.evidence);
        let first = net.reports.len();
        net.write(9, &[9]);
        net.run_for(Duration::from_secs(1));
        assert_eq!(refused(&net, first), 0, "{:?}", &net.reports[first..]);
    }
}

/// Frames that whoever has copied the keys of `thief` could send to replica 0 and to client 0.
fn forge(thief: &mut Keyring) -> [Vec<u8>; 2] {
    let Principal::Replica(sender) = thief.me() else { panic!("a replica's keys") };
    let body = encode(&PbftMessage::FetchBatch { seq: Seq(1), digest: Digest::NULL });
    let mac = thief.mac(Principal::Replica(ReplicaId(0)), Domain::Protocol, &body).unwrap();
    let protocol =
        encode(&Envelope { epoch: Epoch(0), sender, room: Room::Protocol, seal: Seal::Mac(mac), body });
    let body = encode(&ClientMessage::Emission { channel: 7, payload: b"forged".to_vec() });
    let mac = thief.mac(Principal::Client(ClientId(0)), Domain::Reply, &body).unwrap();
    [protocol, encode(&ReplyFrame { replica: sender, mac, body })]
}

/// Whether replica 0, and whether client 0, believe what whoever has these keys sends.
fn are_believed(net: &mut Net<Pbft>, thief: &mut Keyring) -> (bool, bool) {
    let [protocol, reply] = forge(thief);
    let (first, from) = (net.reports.len(), thief.me());
    net.input(ReplicaId(0), Input::Frame { from, bytes: protocol });
    let by_replica = refused(net, first) == 0;
    net.take_events(0);
    net.inject_to_client(from, ClientId(0), &reply);
    net.run_for(Duration::from_millis(1));
    let events = net.take_events(0);
    let by_client = events.iter().any(|event| matches!(event, ClientOutput::Emission { channel: 7, .. }));
    (by_replica, by_client)
}

#[test]
fn stolen_keys_are_worth_nothing_after_the_next_refresh() {
    let mut net = group(Settings::new(4));
    (0..4).for_each(|id| refresh(&mut net, id, id as u8));
    net.write(1, &[1]);
    net.call(0, &Operation::Read(1), OperationKind::ReadOnly);
    net.run_for(Duration::from_millis(300));
    let mut stolen = net.replica(2).keyring().clone();
    assert_eq!(are_believed(&mut net, &mut stolen), (true, true));
    // All that it takes is that the one that was robbed renews its own key.
    refresh(&mut net, 2, 77);
    net.write(2, &[2]);
    net.run_for(RETIRED);
    assert_eq!(are_believed(&mut net, &mut stolen), (false, false));
    let mut genuine = net.replica(2).keyring().clone();
    assert_eq!(are_believed(&mut net, &mut genuine), (true, true));
}

#[test]
fn an_announcement_that_was_lost_heals_by_itself() {
    let mut net = group(Settings::new(4));
    (0..4).for_each(|id| refresh(&mut net, id, id as u8));
    net.write(1, &[1]);
    refresh(&mut net, 1, 50);
    net.lose_all_under_way();
    // Two of the others are cut off from 1 as far as MACs go, until they hear of its key.
    net.run_for(RETIRED);
    for i in 0..20 {
        net.write(i, &[3]);
    }
    let own = net.replica(1).keyring().announcement().unwrap().counter;
    for id in [0, 2, 3] {
        let known = net.replica(id).keyring().announced(ReplicaId(1)).unwrap().counter;
        assert_eq!(known, own, "replica {id}");
    }
    let first = net.reports.len();
    net.write(1, &[4]);
    net.run_for(Duration::from_secs(1));
    assert_eq!(refused(&net, first), 0, "{:?}", &net.reports[first..]);
}

#[test]
fn a_replica_that_restarts_with_its_clock_set_back_is_heard_again() {
    let mut net = group(Settings::new(4));
    (0..4).for_each(|id| refresh(&mut net, id, id as u8));
    net.write(1, &[1]);
    let (id, now) = (ReplicaId(3), net.now);
    net.stop(id);
    net.now = Instant(5);
    net.restart_from_disk(id);
    refresh(&mut net, 3, 90);
    net.now = now;
    net.run_for(RETIRED);
    let own = net.replica(3).keyring().announcement().unwrap().counter;
    for other in 0..3 {
        assert_eq!(net.replica(other).keyring().announced(id).unwrap().counter, own);
    }
    // Three of four, of which it is one.
    net.stop(ReplicaId(2));
    net.write(2, &[2]);
    net.write(3, &[3]);
}

#[test]
fn a_client_that_starts_later_learns_the_keys_it_needs() {
    let mut net = group(Settings::new(4));
    for round in 0..3 {
        (0..4).for_each(|id| refresh(&mut net, id, 10 * round + id as u8));
        net.run_for(RETIRED);
    }
    let before = net.now;
    net.call(2, &Operation::Write(1, vec![1]), OperationKind::Ordered);
    assert!(net.now.since(before) < Duration::from_millis(100));
    // What follows from the identities alone is good for nothing any more.
    let mut blank = keyring(4, Principal::Replica(ReplicaId(2)));
    assert!(!are_believed(&mut net, &mut blank).0);
}
