//! One replica: exactly-once, agreed values, refusals.

use crate::ledger::{Ledger, Operation};
use crate::net::{Net, Settings, keyring, signatures_only};
use althing_crypto::{Domain, Identity, Keyring, Proof};
use althing_protocol::unreplicated::{Silence, Unreplicated};
use althing_protocol::{
    Action, Actions, Answers, Batch, Decision, Event, Protocol, Request, RequestAuth, RequestKind,
};
use althing_replica::*;
use althing_types::{
    ClientId, Epoch, GroupId, Instant, Principal, Quorums, ReplicaId, RequestNumber, Seq, View, encode,
};
use std::sync::Arc;

const R0: ReplicaId = ReplicaId(0);
const C0: Principal = Principal::Client(ClientId(0));

/// Orders like a lying primary: every request twice in its batch, with a clock that stands still,
/// and once more in each later batch.
#[derive(Default)]
struct Repeating {
    seq: Seq,
    seen: Vec<Request>,
}

impl Protocol for Repeating {
    type Message = Silence;

    fn handle(&mut self, _: Instant, event: Event<Silence>, actions: &mut Actions<Silence>) {
        let Event::Request(request) = event else { return };
        self.seq = self.seq.next();
        self.seen.push(request);
        let mut requests = self.seen.clone();
        requests.extend(self.seen.clone());
        let batch = Arc::new(Batch { time: Instant(5), requests });
        let (seq, digest) = (self.seq, batch.digest());
        actions.push(Action::Execute(Decision {
            seq,
            view: View(0),
            digest,
            batch,
            is_checkpoint: true,
            is_eager: false,
        }));
    }
}

#[test]
fn each_request_takes_effect_once_however_often_it_is_ordered() {
    let mut net = Net::new(Settings::new(1), |_| Repeating::default());
    assert_eq!(net.write(1, b"a"), b"");
    assert_eq!(net.write(1, b"b"), b"a");
    assert_eq!(net.write(1, b"c"), b"b");
    assert_eq!(net.replica(0).service().contexts.len(), 3);
}

#[test]
fn agreed_time_and_seed_never_stand_still() {
    let mut net = Net::new(Settings::new(1), |_| Repeating::default());
    (0..5).for_each(|i| drop(net.write(i, b"x")));
    let contexts = &net.replica(0).service().contexts;
    assert!(contexts.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 != pair[1].1));
}

fn request(number: u64, operation: &Operation) -> Request {
    let mut request = Request {
        client: ClientId(0),
        number: RequestNumber(number),
        kind: RequestKind::Service,
        epoch: Epoch(0),
        operation: encode(operation),
        answers: Answers::All,
        auth: RequestAuth::Signed(Proof(Vec::new())),
        is_authentic: false,
    };
    request.auth = RequestAuth::Macs(keyring(1, C0).authenticate(Domain::Request, &request.signed_bytes()));
    request
}

fn send(net: &mut Net<Unreplicated>, from: Principal, frame: &ClientFrame) {
    net.input(R0, Input::Frame { from, bytes: encode(frame) });
}

#[test]
fn a_request_sent_again_is_answered_from_the_table_and_an_older_one_is_too_late() {
    let mut net = Net::new(Settings::new(1), |_| Unreplicated::default());
    let write = |number, byte: u8| ClientFrame::Request(request(number, &Operation::Write(0, vec![byte])));
    send(&mut net, C0, &write(5, 1));
    send(&mut net, C0, &write(6, 2));
    let mut outputs = Vec::new();
    for number in [6, 5, 6] {
        let now = net.now;
        let input = Input::Frame { from: C0, bytes: encode(&write(number, 3)) };
        net.replica(0).handle(now, input, &mut outputs);
        let [Output::Send { frame, .. }] = &std::mem::take(&mut outputs)[..] else { panic!("one answer") };
        let (_, message) = decode_reply_frame(frame, &Limits::default()).unwrap();
        match message {
            ClientMessage::Reply { number: RequestNumber(6), .. } => assert_eq!(number, 6),
            ClientMessage::Superseded { number: RequestNumber(5), last: RequestNumber(6) } => {
                assert_eq!(number, 5);
            }
            _ => panic!("{message:?}"),
        }
    }
    assert_eq!(net.cells(0)[0], [2]);
}

#[test]
fn what_is_not_authentic_is_refused_and_reported() {
    let mut net = Net::new(Settings::new(1), |_| Unreplicated::default());
    let good = request(1, &Operation::Write(0, vec![1]));
    let (c1, stranger) = (Principal::Client(ClientId(1)), Principal::Client(ClientId(99)));
    let mut other_operation = good.clone();
    other_operation.operation.push(0);
    let mut other_number = good.clone();
    other_number.number = RequestNumber(2);
    let mut unsigned = good.clone();
    unsigned.auth = RequestAuth::Signed(Proof(vec![0; 64]));
    let frames = [
        (c1, encode(&ClientFrame::Request(good.clone()))),
        (stranger, encode(&ClientFrame::Request(good.clone()))),
        (C0, encode(&ClientFrame::Request(other_operation))),
        (C0, encode(&ClientFrame::Request(other_number))),
        (C0, encode(&ClientFrame::Request(unsigned))),
        (C0, b"garbage".to_vec()),
        (C0, Vec::new()),
        (Principal::Replica(R0), encode(&ClientFrame::Request(good.clone()))),
        (Principal::Replica(ReplicaId(7)), vec![0; 100]),
    ];
    for (index, (from, bytes)) in frames.into_iter().enumerate() {
        net.input(R0, Input::Frame { from, bytes });
        assert_eq!(net.reports.len(), index + 1, "frame {index}");
        assert!(matches!(net.reports[index].1, Report::Refused { from: by, .. } if by == from));
    }
    assert_eq!(net.status(0).executed, Seq(0));
    send(&mut net, C0, &ClientFrame::Request(good));
    assert_eq!(net.status(0).executed, Seq(1));
}

#[test]
fn garbage_counts_for_whoever_owns_the_sessions_that_it_comes_in() {
    let identity = |byte: u8| Identity::from_secret_bytes(&[byte; 64]);
    let keys = |client: u64| identity(if client < 20 { 2 } else { 3 }).public();
    let clients = (0..=20).map(|id| (ClientId(id), keys(id))).collect();
    let (me, replicas) = (Principal::Replica(R0), vec![identity(1).public()]);
    let config = ReplicaConfig {
        replica: R0,
        quorums: Quorums::byzantine(1, 0).expect("one is enough"),
        keyring: Keyring::new(GroupId([9; 16]), me, identity(1), replicas, clients),
        limits: Limits::default(),
        engine: EngineSettings::default(),
        durability: Durability::None,
        membership: None,
    };
    let mut replica = Replica::new(config, Unreplicated::default(), Ledger::new());
    replica.handle(Instant(1), Input::Start(Startup::Genesis), &mut Vec::new());
    let mut looked_at = |client| {
        let (from, mut outputs) = (Principal::Client(ClientId(client)), Vec::new());
        replica.handle(Instant(1), Input::Frame { from, bytes: b"garbage".to_vec() }, &mut outputs);
        outputs.len()
    };
    assert_eq!(
        (0..100).map(|frame| looked_at(frame % 20)).sum::<usize>(),
        32,
        "twenty sessions of one client"
    );
    assert_eq!(looked_at(20), 1, "another client's");
}

#[test]
fn who_sends_macs_where_signatures_are_asked_for_is_told_to_sign() {
    let settings = Settings { engine: signatures_only(), ..Settings::new(1) };
    let mut net = Net::new(settings, |_| Unreplicated::default());
    send(&mut net, C0, &ClientFrame::Request(request(1, &Operation::Read(0))));
    net.run_for(std::time::Duration::from_millis(10));
    let is_told = |(by, told): &(ReplicaId, ClientMessage)| {
        *by == R0 && matches!(told, ClientMessage::MustSign { number: RequestNumber(1) })
    };
    assert!(net.told.iter().any(is_told), "{:?}", net.told);
    assert!(net.replica(0).service().contexts.is_empty(), "and nothing is executed");
    // Whose MACs are bad as well is nobody that one could tell.
    let mut forged = request(2, &Operation::Read(0));
    forged.auth = RequestAuth::Macs(althing_crypto::Authenticator(vec![Default::default()]));
    send(&mut net, C0, &ClientFrame::Request(forged));
    assert!(net.has_report(0, |report| matches!(report, Report::Refused { .. })));
    assert_eq!(net.write(0, b"signed"), b"");
}

/// Takes requests and does nothing with them.
struct Idle;

impl Protocol for Idle {
    type Message = Silence;
    fn handle(&mut self, _: Instant, _: Event<Silence>, _: &mut Actions<Silence>) {}
}

#[test]
fn a_full_replica_says_so_and_the_client_hears_it() {
    let engine = EngineSettings { max_outstanding_requests: 2, ..EngineSettings::default() };
    let settings = Settings { engine, ..Settings::new(1) };
    let mut net = Net::new(settings, |_| Idle);
    let numbers: Vec<_> =
        (0..3).map(|client| net.submit(client, &Operation::Read(0), OperationKind::Ordered)).collect();
    net.run_for(std::time::Duration::from_millis(50));
    assert_eq!(net.status(0).outstanding, 2);
    assert_eq!(net.take_events(0), []);
    assert_eq!(net.take_events(2), [ClientOutput::Busy { number: numbers[2] }]);
}

#[test]
fn a_result_that_is_too_long_is_told_and_not_cut() {
    let limits = LimitSettings { max_reply_bytes: 1000, ..LimitSettings::default() };
    let settings = Settings { limits: Limits::new(limits).unwrap(), ..Settings::new(1) };
    let mut net = Net::new(settings, |_| Unreplicated::default());
    let call = |net: &mut Net<_>, operation| {
        let number = net.submit(0, &operation, OperationKind::Ordered);
        net.run_for(std::time::Duration::from_millis(50));
        (number, net.take_events(0))
    };
    let (number, events) = call(&mut net, Operation::Long(1001));
    assert_eq!(events, [ClientOutput::ResultTooLong { number, bytes: 1001 }]);
    let (number, events) = call(&mut net, Operation::Long(1000));
    assert_eq!(events, [ClientOutput::Completed { number, result: vec![7; 1000], was_ordered: true }]);
    call(&mut net, Operation::Emit(4, vec![0; 1001]));
    assert!(net.emitted.is_empty());
    assert!(net.has_report(0, |r| *r == Report::EmissionTooLong { channel: 4, bytes: 1001 }));
    call(&mut net, Operation::Emit(4, vec![0; 1000]));
    assert_eq!(net.emitted.len(), 1);
}

#[test]
#[should_panic(expected = "the first input starts the replica")]
fn nothing_may_come_before_the_start() {
    let config = ReplicaConfig {
        replica: R0,
        quorums: Settings::new(1).quorums,
        keyring: keyring(1, Principal::Replica(R0)),
        limits: Limits::default(),
        engine: EngineSettings::default(),
        durability: Durability::None,
        membership: None,
    };
    let mut replica = Replica::new(config, Idle, crate::ledger::Ledger::new());
    replica.handle(Instant(0), Input::Persisted(1), &mut Vec::new());
}
