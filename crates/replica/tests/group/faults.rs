//! A PBFT group with a faulty replica.

use crate::ledger::Operation;
use crate::net::{Net, Settings, keyring};
use crate::recovery::pbft;
use althing_crypto::{Domain, Proof};
use althing_protocol::pbft::{Checkpoint, CheckpointCertificate, Pbft, PbftMessage};
use althing_protocol::{Answers, Misbehaviour, Request, RequestAuth, RequestKind};
use althing_replica::*;
use althing_types::{ClientId, Digest, Epoch, Principal, ReplicaId, RequestNumber, Seq, View, encode};
use std::collections::BTreeSet;
use std::time::Duration;

fn group(settings: Settings) -> Net<Pbft> {
    let quorums = settings.quorums;
    Net::new(settings, move |id| pbft(id, quorums))
}

fn work(net: &mut Net<Pbft>, rounds: u32) {
    for i in 0..rounds {
        assert_eq!(net.write(500, &i.to_le_bytes()).len(), if i == 0 { 0 } else { 4 });
    }
}

#[test]
fn replies_and_emissions_of_a_liar_convince_nobody() {
    let mut net = group(Settings::new(4));
    net.replica(0).set_tamper(Some(Box::new(Injected::Lie)));
    work(&mut net, 20);
    assert_eq!(net.write(500, b""), 19u32.to_le_bytes());
    let emission = Emission { channel: 1, payload: b"payload".to_vec() };
    let [lie] = &net.replica(0).seal_emission(&emission, ClientId(0))[..] else { panic!("one frame") };
    let (_, message) = decode_reply_frame(lie, &Limits::default()).unwrap();
    assert!(matches!(message, ClientMessage::Emission { payload, .. } if payload != b"payload"));
}

#[test]
fn what_is_shown_and_never_ordered_takes_nobodys_place() {
    let engine = EngineSettings { max_outstanding_requests: 2, ..EngineSettings::default() };
    let mut net = group(Settings { engine, ..Settings::new(4) });
    for client in [1, 2] {
        let me = Principal::Client(ClientId(client));
        let mut request = Request {
            client: ClientId(client),
            number: RequestNumber(1),
            kind: RequestKind::Service,
            epoch: Epoch(0),
            operation: encode(&Operation::Read(0)),
            answers: Answers::All,
            auth: RequestAuth::Signed(Proof(vec![])),
            is_authentic: false,
        };
        request.auth =
            RequestAuth::Macs(keyring(4, me).authenticate(Domain::Request, &request.signed_bytes()));
        (0..4).for_each(|to| net.inject(me, ReplicaId(to), &encode(&ClientFrame::Body(request.clone()))));
    }
    net.run_for(Duration::from_millis(10));
    assert!((0..4).all(|i| net.status(i).outstanding == 0));
    work(&mut net, 1);
}

/// What each replica tells client 0 once its request of so many bytes has been executed.
fn told(net: &mut Net<Pbft>, number: u64, answers: Answers, bytes: u32, to: &[u16]) -> [&'static str; 4] {
    let client = Principal::Client(ClientId(0));
    let mut request = Request {
        client: ClientId(0),
        number: RequestNumber(number),
        kind: RequestKind::Service,
        epoch: Epoch(0),
        operation: encode(&Operation::Long(bytes)),
        answers,
        auth: RequestAuth::Signed(Proof(vec![])),
        is_authentic: false,
    };
    request.auth =
        RequestAuth::Macs(keyring(4, client).authenticate(Domain::Request, &request.signed_bytes()));
    net.told.clear();
    for to in to {
        net.inject(client, ReplicaId(*to), &encode(&ClientFrame::Request(request.clone())));
    }
    net.run_for(Duration::from_secs(1));
    let mut told = ["nothing"; 4];
    for (from, message) in &net.told {
        told[usize::from(from.0)] = match message {
            ClientMessage::Reply { outcome: ReplyOutcome::Result(result), .. } => {
                assert_eq!(result.len(), bytes as usize);
                "result"
            }
            ClientMessage::ReplyDigest { outcome, .. } => {
                assert_eq!(*outcome, ReplyOutcome::Result(vec![7; bytes as usize]).digest());
                "digest"
            }
            _ => panic!("{message:?}"),
        };
    }
    told
}

#[test]
fn a_client_hears_from_whom_it_wants_to() {
    let mut net = group(Settings::new(4));
    let only = |replicas: &[u16]| {
        let asked = replicas.iter().copied().map(ReplicaId).collect();
        Answers::Few { asked, firmly: 7 }
    };
    let (r, d, none) = ("result", "digest", "nothing");
    assert_eq!(told(&mut net, 1, Answers::All, 100, &[0]), [r, r, r, r]);
    assert_eq!(told(&mut net, 2, only(&[2, 0]), 100, &[0]), [d, none, r, none]);
    assert_eq!(told(&mut net, 3, only(&[2, 0]), 32, &[0]), [r, none, r, none], "a digest is no shorter");
    assert_eq!(told(&mut net, 4, only(&[]), 100, &[0]), [none; 4]);
    assert_eq!(told(&mut net, 4, only(&[]), 100, &[1, 3]), [none, r, none, r], "it asks again");
    let five = only(&[0, 1, 2, 3, 0]);
    assert_eq!(told(&mut net, 5, five, 100, &[0]), [none; 4], "refused: more than there are replicas");
}

/// The batch may hold a copy of the request that asks others.
#[test]
fn who_is_asked_before_the_execution_answers_after_it() {
    let mut net = group(Settings::new(4));
    net.stop(ReplicaId(2));
    net.stop(ReplicaId(3));
    let only_0 = Answers::Few { asked: vec![ReplicaId(0)], firmly: 1 };
    assert_eq!(told(&mut net, 1, only_0, 100, &[0]), ["nothing"; 4]);
    assert_eq!(told(&mut net, 1, Answers::All, 100, &[1]), ["nothing"; 4]);
    net.restart_from_disk(ReplicaId(2));
    net.run_until("the client is told", |net| net.told.len() == 2);
    let who: BTreeSet<_> = net.told.iter().map(|(from, _)| from.0).collect();
    assert_eq!(who, BTreeSet::from([0, 1]));
}

#[test]
fn a_mute_or_equivocating_primary_is_voted_out() {
    for fault in [Injected::Mute, Injected::Equivocate] {
        let mut net = group(Settings::new(4));
        net.replica(0).set_tamper(Some(Box::new(fault)));
        net.write(1, b"x");
        net.run_until("a view change", |net| (1..4).all(|id| net.status(id).view > View(0)));
        net.write(1, b"y");
        net.run_until("all have it", |net| (1..4).all(|id| net.cells(id)[1] == b"y"));
    }
}

#[test]
fn a_selective_replica_harms_nobody() {
    let mut net = group(Settings::new(4));
    let victims = BTreeSet::from([Principal::Replica(ReplicaId(1)), Principal::Client(ClientId(0))]);
    net.replica(3).set_tamper(Some(Box::new(Injected::Selective(victims))));
    work(&mut net, 20);
    net.run_until("all have it", |net| (0..4).all(|id| net.cells(id)[500] == 19u32.to_le_bytes()));
}

#[test]
fn reads_without_ordering_agree_with_what_was_written() {
    let mut net = group(Settings { reads: ReadPolicy::Fast, ..Settings::new(4) });
    net.replica(2).set_tamper(Some(Box::new(Injected::Lie)));
    net.write(7, b"seven");
    let read = (b"seven".to_vec(), false);
    assert_eq!(net.call(1, &Operation::Read(7), OperationKind::ReadOnly), read);
    // With two that do not answer right there is no agreement, and it is ordered instead.
    net.stop(ReplicaId(3));
    assert_eq!(net.submit(1, &Operation::Read(7), OperationKind::ReadOnly).0, 2);
    net.run_for(Duration::from_millis(150));
    assert_eq!(net.take_events(1), [], "three of four answer, and one of them lies");
    net.replica(2).set_tamper(None);
    net.run_for(Duration::from_secs(2));
    assert!(
        matches!(&net.take_events(1)[..], [ClientOutput::Completed { was_ordered: true, result, .. }] if result == b"seven")
    );
    // What has to be ordered is, though it was called a read.
    net.restart_from_disk(ReplicaId(3));
    let (_, was_ordered) = net.call(1, &Operation::Write(8, vec![1]), OperationKind::ReadOnly);
    assert!(was_ordered);
}

fn seal(sender: u16, room: Room, body: Vec<u8>, is_transferable: bool) -> Vec<u8> {
    let mut keyring = keyring(4, Principal::Replica(ReplicaId(sender)));
    let to = Principal::Replica(ReplicaId(0));
    let seal = if is_transferable {
        Seal::Proof(keyring.sign(room.domain(), &body))
    } else {
        Seal::Mac(keyring.mac(to, room.domain(), &body).unwrap())
    };
    encode(&Envelope { epoch: Epoch(0), sender: ReplicaId(sender), room, seal, body })
}

#[test]
fn a_forged_part_convicts_whoever_sent_it() {
    let mut net = group(Settings::new(4));
    let checkpoint = Checkpoint { seq: Seq(8), state: Digest([7; 32]) };
    let signed = encode(&PbftMessage::Checkpoint(checkpoint));
    let own = keyring(4, Principal::Replica(ReplicaId(1))).sign(Domain::Protocol, &signed);
    let votes = vec![
        (ReplicaId(1), own.clone()),
        (ReplicaId(2), Proof(vec![1; 64])),
        (ReplicaId(3), Proof(vec![1; 64])),
    ];
    let forged = encode(&PbftMessage::RelayStable(CheckpointCertificate { checkpoint, votes }));
    let from = Principal::Replica(ReplicaId(1));
    for is_transferable in [false, true] {
        net.inject(from, ReplicaId(0), &seal(1, Room::Protocol, forged.clone(), is_transferable));
    }
    net.inject(from, ReplicaId(0), &seal(1, Room::Engine, vec![200, 1, 2], false));
    net.inject(from, ReplicaId(0), &seal(1, Room::Protocol, vec![200, 1, 2], true));
    net.run_for(Duration::from_millis(10));
    let caught: Vec<_> = net
        .evidence
        .iter()
        .map(|(by, e)| (by.0, e.accused.0, e.misbehaviour.clone(), e.is_transferable()))
        .collect();
    assert_eq!(
        caught,
        [
            (0, 1, Misbehaviour::Forgery, false),
            (0, 1, Misbehaviour::Forgery, true),
            (0, 1, Misbehaviour::InvalidMessage, false),
            (0, 1, Misbehaviour::InvalidMessage, true),
        ]
    );
}

#[test]
fn a_frame_counts_only_on_its_senders_channel_and_for_its_room() {
    let mut net = group(Settings::new(4));
    let status = encode(&PbftMessage::FetchBatch { seq: Seq(1), digest: Digest::NULL });
    let good = seal(1, Room::Protocol, status.clone(), false);
    let mut other_room: Envelope = althing_types::decode(&good, 1 << 20).unwrap();
    other_room.room = Room::Engine;
    let mut other_body: Envelope = althing_types::decode(&good, 1 << 20).unwrap();
    other_body.body.push(0);
    let frames = [
        (2, good.clone()),
        (0, seal(0, Room::Protocol, status, false)),
        (1, encode(&other_room)),
        (1, encode(&other_body)),
        (1, good[..good.len() - 1].to_vec()),
    ];
    for (index, (from, bytes)) in frames.into_iter().enumerate() {
        net.input(ReplicaId(0), Input::Frame { from: Principal::Replica(ReplicaId(from)), bytes });
        let refused = net.reports.iter().filter(|(_, r)| matches!(r, Report::Refused { .. })).count();
        assert_eq!(refused, index + 1, "frame {index}");
    }
    assert!(net.evidence.is_empty(), "anybody could have made those");
}
