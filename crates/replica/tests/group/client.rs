//! The client alone, with replies made up by replicas with real keys.

use crate::net::keyring;
use althing_crypto::{Domain, KeySeed, Keyring};
use althing_protocol::zyzzyva::Composition;
use althing_protocol::{Answers, RequestAuth};
use althing_replica::*;
use althing_types::{
    ClientId, Instant, Principal, Quorums, ReplicaId, RequestNumber, Seq, View, decode, encode,
};
use std::time::Duration;

const NOW: Instant = Instant(0);
const RETRY: Duration = Duration::from_millis(10);
const SEPARATE_BYTES: usize = 100;

fn client(reads: ReadPolicy) -> Client {
    Client::new(ClientConfig {
        client: ClientId(0),
        keyring: keyring(4, Principal::Client(ClientId(0))),
        quorums: Quorums::byzantine(4, 1).unwrap(),
        membership: None,
        limits: Limits::default(),
        auth: RequestAuthKind::Macs,
        reads,
        answers: AnswerPolicy::default(),
        separate_bytes: SEPARATE_BYTES,
        composition: Composition::Zyzzyva,
        witnesses: Vec::new(),
        retry: RETRY,
        first_number: RequestNumber(7),
    })
}

fn submit(client: &mut Client, kind: OperationKind) -> Vec<ClientOutput> {
    let mut out = Vec::new();
    client.submit(NOW, b"operation".to_vec(), kind, &mut out).unwrap();
    out
}

fn hear(client: &mut Client, from: u16, message: &ClientMessage) -> Vec<ClientOutput> {
    let (body, replica) = (encode(message), ReplicaId(from));
    let mut ring = keyring(4, Principal::Replica(replica));
    let mac = ring.mac(Principal::Client(ClientId(0)), Domain::Reply, &body).unwrap();
    let frame = ReplyFrame { replica, mac, body };
    let mut out = Vec::new();
    client.handle(NOW, ClientInput::Frame { from: replica, bytes: encode(&frame) }, &mut out);
    out
}

fn reply_in(view: u64, number: u64, result: &[u8]) -> ClientMessage {
    let outcome = ReplyOutcome::Result(result.to_vec());
    let number = RequestNumber(number);
    ClientMessage::Reply { view: View(view), number, execution: Execution::Earlier, outcome }
}

fn reply(number: u64, result: &[u8]) -> ClientMessage {
    reply_in(0, number, result)
}

fn answer(number: u64, answer: QueryAnswer) -> ClientMessage {
    ClientMessage::QueryReply { number: RequestNumber(number), answer }
}

fn completed(number: u64, result: &[u8], was_ordered: bool) -> Vec<ClientOutput> {
    let (number, result) = (RequestNumber(number), result.to_vec());
    vec![ClientOutput::CancelTimer, ClientOutput::Completed { number, result, was_ordered }]
}

fn receivers(out: &[ClientOutput]) -> Vec<u16> {
    out.iter().filter_map(|o| if let ClientOutput::Send { to, .. } = o { Some(to.0) } else { None }).collect()
}

fn sent(out: &[ClientOutput]) -> ClientFrame {
    let frame =
        out.iter().find_map(|o| if let ClientOutput::Send { frame, .. } = o { Some(frame) } else { None });
    decode(frame.expect("something is sent"), 1 << 20).unwrap()
}

/// A replica's keys, of which it has announced some, each at its time.
fn announced(from: u16, at: &[u64]) -> Keyring {
    let mut ring = keyring(4, Principal::Replica(ReplicaId(from)));
    for at in at {
        let seed = KeySeed::from([*at as u8; 32]);
        ring.refresh(Instant(*at), &seed, Duration::from_secs(60));
    }
    ring
}

fn hear_at(
    client: &mut Client,
    now: Instant,
    ring: &mut Keyring,
    message: &ClientMessage,
) -> Vec<ClientOutput> {
    let Principal::Replica(replica) = ring.me() else { panic!("a replica's keys") };
    let body = encode(message);
    let mac = ring.mac(Principal::Client(ClientId(0)), Domain::Reply, &body).expect("it is of the group");
    let mut out = Vec::new();
    let bytes = encode(&ReplyFrame { replica, mac, body });
    client.handle(now, ClientInput::Frame { from: replica, bytes }, &mut out);
    out
}

/// The client hears of the last key that was announced.
fn tell_key(client: &mut Client, now: Instant, ring: &Keyring) {
    let Principal::Replica(replica) = ring.me() else { panic!("a replica's keys") };
    let body = encode(&ClientMessage::NewKey(ring.announcement().expect("there is one").clone()));
    let bytes = encode(&ReplyFrame { replica, mac: Default::default(), body });
    client.handle(now, ClientInput::Frame { from: replica, bytes }, &mut Vec::new());
}

#[test]
fn what_a_replica_said_counts_as_long_as_the_key_under_which_it_did() {
    let grace = Limits::default().settings().key_grace.as_nanos() as u64;
    let lie = reply(7, b"lie");
    let mut client = client(ReadPolicy::Ordered);
    submit(&mut client, OperationKind::Ordered);
    let mut first = announced(1, &[5]);
    tell_key(&mut client, Instant(5), &first);
    assert_eq!(hear_at(&mut client, Instant(6), &mut first, &lie), []);
    // It recovers, and so announces another key. What it said is good for what is in flight, no longer.
    tell_key(&mut client, Instant(10), &announced(1, &[5, 10]));
    let mut second = announced(2, &[7]);
    tell_key(&mut client, Instant(10), &second);
    let late = Instant(10 + grace);
    assert_eq!(hear_at(&mut client, late, &mut second, &lie), [], "one lie, and one that is over");
    // The second one's still counts.
    let mut third = announced(3, &[9]);
    tell_key(&mut client, late, &third);
    assert_eq!(hear_at(&mut client, late, &mut third, &lie), completed(7, b"lie", true));
}

#[test]
fn what_was_said_under_a_key_that_is_still_good_counts() {
    let grace = Limits::default().settings().key_grace.as_nanos() as u64;
    let mut client = client(ReadPolicy::Ordered);
    submit(&mut client, OperationKind::Ordered);
    let (mut first, mut second) = (announced(1, &[5]), announced(2, &[5]));
    tell_key(&mut client, Instant(5), &first);
    tell_key(&mut client, Instant(5), &second);
    assert_eq!(hear_at(&mut client, Instant(6), &mut first, &reply(7, b"result")), []);
    tell_key(&mut client, Instant(10), &announced(1, &[5, 10]));
    let in_time = Instant(9 + grace);
    assert_eq!(
        hear_at(&mut client, in_time, &mut second, &reply(7, b"result")),
        completed(7, b"result", true)
    );
}

#[test]
fn a_result_counts_once_one_correct_replica_must_stand_for_it() {
    let mut client = client(ReadPolicy::Ordered);
    assert_eq!(receivers(&submit(&mut client, OperationKind::ReadOnly)), [0]);
    assert_eq!(hear(&mut client, 1, &reply(7, b"lie")), []);
    assert_eq!(hear(&mut client, 1, &reply(7, b"lie")), [], "the same replica again");
    assert_eq!(hear(&mut client, 2, &reply(7, b"right")), []);
    assert_eq!(hear(&mut client, 3, &reply(6, b"right")), [], "another request's");
    assert_eq!(hear(&mut client, 3, &reply(7, b"right")), completed(7, b"right", true));
    assert_eq!(hear(&mut client, 0, &reply(7, b"right")), [], "it is complete");
    assert_eq!(client.outstanding(), None);
}

#[test]
fn with_fast_reads_a_write_waits_for_an_agreement_quorum() {
    let mut client = client(ReadPolicy::Fast);
    submit(&mut client, OperationKind::Ordered);
    assert_eq!(hear(&mut client, 0, &reply(7, b"r")), []);
    assert_eq!(hear(&mut client, 1, &reply(7, b"r")), []);
    assert_eq!(hear(&mut client, 2, &reply(7, b"r")), completed(7, b"r", true));
}

#[test]
fn what_is_large_goes_to_all_but_only_the_primary_is_to_order_it() {
    let mut client = client(ReadPolicy::Ordered);
    let mut send = |bytes: usize| {
        let mut out = Vec::new();
        client.submit(NOW, vec![7; bytes], OperationKind::Ordered, &mut out).unwrap();
        client.abandon(&mut Vec::new());
        let frames = out.iter().filter_map(|output| match output {
            ClientOutput::Send { to, frame } => Some((to.0, decode(frame, 1 << 20).unwrap())),
            _ => None,
        });
        frames.collect::<Vec<(u16, ClientFrame)>>()
    };
    assert_eq!(send(SEPARATE_BYTES - 1).len(), 1);
    let sent = send(SEPARATE_BYTES);
    assert_eq!(sent.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [1, 2, 3, 0], "the primary last");
    let ClientFrame::Request(request) = &sent[3].1 else { panic!("{sent:?}") };
    assert!(sent[..3].iter().all(|(_, frame)| *frame == ClientFrame::Body(request.clone())));
}

#[test]
fn frames_that_are_not_from_the_channels_replica_are_refused() {
    let mut client = client(ReadPolicy::Ordered);
    submit(&mut client, OperationKind::Ordered);
    let body = encode(&reply(7, b"r"));
    let to = Principal::Client(ClientId(0));
    let seal = |by: u16, claimed: u16, to: Principal| {
        let mac = keyring(4, Principal::Replica(ReplicaId(by))).mac(to, Domain::Reply, &body).unwrap();
        encode(&ReplyFrame { replica: ReplicaId(claimed), mac, body: body.clone() })
    };
    let mut out = Vec::new();
    for (from, bytes) in [
        (1, seal(1, 2, to)),
        (2, seal(1, 2, to)),
        (2, seal(1, 1, to)),
        (1, seal(1, 1, Principal::Client(ClientId(1)))),
        (1, b"garbage".to_vec()),
        (9, seal(1, 1, to)),
    ] {
        let from = ReplicaId(from);
        client.handle(NOW, ClientInput::Frame { from, bytes }, &mut out);
        assert!(matches!(out.pop(), Some(ClientOutput::Refused { from: by, .. }) if by == from));
    }
    assert!(out.is_empty());
}

#[test]
fn the_primary_is_learnt_from_one_correct_replica_and_not_from_a_liar() {
    let mut client = client(ReadPolicy::Ordered);
    submit(&mut client, OperationKind::Ordered);
    hear(&mut client, 3, &reply_in(98, 7, b"lie"));
    hear(&mut client, 1, &reply_in(1, 7, b"r"));
    hear(&mut client, 2, &reply_in(2, 7, b"r"));
    assert_eq!(receivers(&submit(&mut client, OperationKind::Ordered)), [2]);
}

#[test]
fn it_asks_everybody_signed_and_ever_more_patiently() {
    let mut client = client(ReadPolicy::Ordered);
    let first = submit(&mut client, OperationKind::Ordered);
    assert!(matches!(sent(&first), ClientFrame::Request(r) if matches!(r.auth, RequestAuth::Macs(_))));
    for factor in [2, 4, 8, 16, 32, 32] {
        let mut out = Vec::new();
        client.handle(NOW, ClientInput::Timer, &mut out);
        assert_eq!(receivers(&out), [0, 1, 2, 3]);
        assert_eq!(out.last(), Some(&ClientOutput::SetTimer { after: RETRY * factor }));
        let ClientFrame::Request(request) = sent(&out) else { panic!("a request") };
        let RequestAuth::Signed(proof) = &request.auth else { panic!("a signature") };
        let (from, ring) = (Principal::Client(ClientId(0)), keyring(4, Principal::Replica(ReplicaId(1))));
        assert!(ring.verify(from, proof, Domain::Request, &request.signed_bytes()));
        assert_eq!((request.number, &request.operation[..]), (RequestNumber(7), &b"operation"[..]));
    }
}

fn answers(out: &[ClientOutput]) -> Answers {
    let ClientFrame::Request(request) = sent(out) else { panic!("a request") };
    request.answers
}

fn few(replicas: [u16; 3], firmly: u16) -> Answers {
    Answers::Few { asked: replicas.map(ReplicaId).to_vec(), firmly }
}

fn digest_of(number: u64, result: &[u8]) -> ClientMessage {
    let outcome = ReplyOutcome::Result(result.to_vec()).digest();
    let number = RequestNumber(number);
    ClientMessage::ReplyDigest { view: View(0), number, execution: Execution::Earlier, outcome }
}

#[test]
fn as_few_are_asked_to_answer_as_are_enough_and_others_once_one_of_them_fails() {
    let mut client = client(ReadPolicy::Ordered);
    assert_eq!(answers(&submit(&mut client, OperationKind::Ordered)), few([0, 1, 2], 2));
    assert_eq!(hear(&mut client, 1, &digest_of(7, b"r")), []);
    assert_eq!(hear(&mut client, 0, &reply(7, b"r")), completed(7, b"r", true));
    // Replica 1 says nothing.
    assert_eq!(answers(&submit(&mut client, OperationKind::Ordered)), few([0, 1, 2], 2));
    assert_eq!(hear(&mut client, 0, &reply(8, b"r")), []);
    let mut out = Vec::new();
    client.handle(NOW, ClientInput::Timer, &mut out);
    assert_eq!((receivers(&out), answers(&out)), (vec![0, 1, 2, 3], Answers::All));
    assert_eq!(hear(&mut client, 3, &reply(8, b"r")), completed(8, b"r", true));
    // All are for a while, and then others.
    for number in 9..13 {
        assert_eq!(answers(&submit(&mut client, OperationKind::Ordered)), Answers::All);
        hear(&mut client, 0, &reply(number, b"r"));
        assert_eq!(hear(&mut client, 2, &reply(number, b"r")), completed(number, b"r", true));
    }
    assert_eq!(answers(&submit(&mut client, OperationKind::Ordered)), few([0, 2, 3], 2));
}

#[test]
fn what_is_tentative_is_believed_from_an_agreement_quorum_in_one_view() {
    let mut client = client(ReadPolicy::Ordered);
    let tentative = |view: u64| {
        let (number, outcome) = (RequestNumber(7), ReplyOutcome::Result(b"r".to_vec()));
        ClientMessage::Reply { view: View(view), number, execution: Execution::Tentative(Seq(1)), outcome }
    };
    submit(&mut client, OperationKind::Ordered);
    for (from, view) in [(0, 0), (1, 0), (3, 1)] {
        assert_eq!(hear(&mut client, from, &tentative(view)), []);
    }
    assert_eq!(hear(&mut client, 2, &tentative(0)), completed(7, b"r", true));
}

#[test]
fn a_result_that_is_not_what_the_others_say_has_all_asked_at_once() {
    let mut client = client(ReadPolicy::Fast);
    submit(&mut client, OperationKind::Ordered);
    assert_eq!(hear(&mut client, 0, &reply(7, b"lie")), []);
    for from in [1, 2] {
        assert_eq!(hear(&mut client, from, &digest_of(7, b"r")), []);
    }
    let out = hear(&mut client, 3, &digest_of(7, b"r"));
    assert_eq!((receivers(&out), answers(&out)), (vec![0, 1, 2, 3], Answers::All));
    assert_eq!(hear(&mut client, 3, &digest_of(7, b"r")), [], "once");
    assert_eq!(hear(&mut client, 2, &reply(7, b"r")), completed(7, b"r", true));
}

#[test]
fn a_client_whose_clock_was_set_back_goes_on_above_what_it_has_used() {
    let mut client = client(ReadPolicy::Ordered);
    submit(&mut client, OperationKind::Ordered);
    let used = |number: u64, last: u64| {
        let (number, last) = (RequestNumber(number), RequestNumber(last));
        ClientMessage::Superseded { number, last }
    };
    assert_eq!(hear(&mut client, 1, &used(7, 90)), []);
    assert_eq!(hear(&mut client, 2, &used(6, 90)), [], "another request's");
    let out = hear(&mut client, 3, &used(7, 95));
    assert_eq!(out[0], ClientOutput::Renumbered { from: RequestNumber(7), to: RequestNumber(91) });
    let ClientFrame::Request(request) = sent(&out) else { panic!("a request") };
    assert_eq!((request.number, &request.operation[..]), (RequestNumber(91), &b"operation"[..]));
    for from in [0, 1] {
        hear(&mut client, from, &reply(91, b"r"));
    }
    // From here on only somebody else can have used its numbers.
    submit(&mut client, OperationKind::Ordered);
    assert_eq!(hear(&mut client, 1, &used(92, 200)), []);
    let superseded = ClientOutput::Superseded { number: RequestNumber(92) };
    assert_eq!(hear(&mut client, 3, &used(92, 200)), [ClientOutput::CancelTimer, superseded]);
    assert_eq!(client.outstanding(), None);
    let out = submit(&mut client, OperationKind::Ordered);
    assert!(matches!(sent(&out), ClientFrame::Request(r) if r.number == RequestNumber(201)));
}

#[test]
fn one_operation_at_a_time_and_none_too_long() {
    let mut client = client(ReadPolicy::Ordered);
    let mut out = Vec::new();
    let limit = Limits::default().settings().max_operation_bytes;
    let bytes = limit + 1;
    let error = client.submit(NOW, vec![0; bytes], OperationKind::Ordered, &mut out);
    assert_eq!(error, Err(SubmitError::TooLong { bytes, limit }));
    assert!(out.is_empty());
    submit(&mut client, OperationKind::Ordered);
    let error = client.submit(NOW, vec![], OperationKind::Ordered, &mut out);
    assert_eq!(error, Err(SubmitError::Outstanding { number: RequestNumber(7) }));
    assert_eq!(client.abandon(&mut out), Some(RequestNumber(7)));
    assert_eq!(out, [ClientOutput::CancelTimer]);
    assert_eq!(client.abandon(&mut out), None);
    assert_eq!(client.submit(NOW, vec![], OperationKind::Ordered, &mut out), Ok(RequestNumber(8)));
    assert_eq!(hear(&mut client, 0, &reply(7, b"r")), []);
}

#[test]
fn busy_is_believed_from_one_correct_replica() {
    let mut client = client(ReadPolicy::Ordered);
    submit(&mut client, OperationKind::Ordered);
    let (number, busy) = (RequestNumber(7), ClientMessage::Busy { number: RequestNumber(7) });
    assert_eq!(hear(&mut client, 1, &busy), []);
    assert_eq!(hear(&mut client, 1, &busy), []);
    assert_eq!(hear(&mut client, 2, &busy), [ClientOutput::Busy { number }]);
    assert_eq!(hear(&mut client, 3, &busy), []);
}

#[test]
fn a_query_needs_an_agreement_quorum() {
    let mut client = client(ReadPolicy::Fast);
    let out = submit(&mut client, OperationKind::ReadOnly);
    assert_eq!(receivers(&out), [0, 1, 2, 3]);
    assert!(matches!(sent(&out), ClientFrame::Query(_)));
    let right = answer(7, QueryAnswer::Result(b"r".to_vec()));
    assert_eq!(hear(&mut client, 0, &right), []);
    assert_eq!(hear(&mut client, 1, &answer(7, QueryAnswer::Result(b"lie".to_vec()))), []);
    assert_eq!(hear(&mut client, 2, &right), []);
    assert_eq!(hear(&mut client, 2, &reply(7, b"r")), [], "nothing was ordered");
    assert_eq!(hear(&mut client, 3, &right), completed(7, b"r", false));
}

#[test]
fn a_query_that_gets_no_agreement_is_ordered_under_its_own_number() {
    let result = |bytes: &[u8]| QueryAnswer::Result(bytes.to_vec());
    let table: [(&str, Vec<QueryAnswer>); 3] = [
        ("two and two", vec![result(b"a"), result(b"a"), result(b"b"), result(b"b")]),
        ("all differ", vec![result(b"a"), result(b"b"), result(b"c")]),
        ("it has to be ordered", vec![QueryAnswer::MustOrder, result(b"a"), QueryAnswer::MustOrder]),
    ];
    for (name, answers) in table {
        let mut client = client(ReadPolicy::Fast);
        submit(&mut client, OperationKind::ReadOnly);
        let last = answers.len() - 1;
        for (from, given) in answers.into_iter().enumerate() {
            let out = hear(&mut client, from as u16, &answer(7, given));
            assert_eq!(out.is_empty(), from < last, "{name}: {from}");
            if from == last {
                assert!(
                    matches!(sent(&out), ClientFrame::Request(r) if r.number == RequestNumber(7)),
                    "{name}"
                );
            }
        }
        for from in 0..3 {
            let out = hear(&mut client, from, &reply(7, b"r"));
            assert_eq!(out, if from < 2 { vec![] } else { completed(7, b"r", true) }, "{name}");
        }
    }
    let mut client = client(ReadPolicy::Fast);
    submit(&mut client, OperationKind::ReadOnly);
    let mut out = Vec::new();
    client.handle(NOW, ClientInput::Timer, &mut out);
    assert!(matches!(sent(&out), ClientFrame::Request(_)), "it took too long");
}

#[test]
fn emissions_are_passed_on_with_who_said_so() {
    let mut client = client(ReadPolicy::Ordered);
    let message = ClientMessage::Emission { channel: 3, payload: b"p".to_vec() };
    let expected = ClientOutput::Emission { from: ReplicaId(2), channel: 3, payload: b"p".to_vec() };
    assert_eq!(hear(&mut client, 2, &message), [expected]);
}

/// Whoever waits for f + 1 of them may wait for long, and have heard one from somebody who has another replica by
/// now.
#[test]
fn what_a_replica_emitted_ends_with_the_key() {
    let grace = Limits::default().settings().key_grace.as_nanos() as u64;
    let emission = |payload: &[u8]| ClientMessage::Emission { channel: 3, payload: payload.to_vec() };
    let passed_on = |from: u16, payload: &[u8]| {
        let (from, payload) = (ReplicaId(from), payload.to_vec());
        ClientOutput::Emission { from, channel: 3, payload }
    };
    let mut client = client(ReadPolicy::Ordered);
    let (mut first, mut second) = (announced(1, &[5]), announced(2, &[5]));
    tell_key(&mut client, Instant(5), &first);
    tell_key(&mut client, Instant(5), &second);
    assert_eq!(hear_at(&mut client, Instant(6), &mut first, &emission(b"open")), [passed_on(1, b"open")]);
    // It recovers. Nothing is under way to the client meanwhile, which so has no timer.
    tell_key(&mut client, Instant(10), &announced(1, &[5, 10]));
    let in_time = Instant(9 + grace);
    assert_eq!(hear_at(&mut client, in_time, &mut second, &emission(b"a")), [passed_on(2, b"a")]);
    // What is replaced between two turns waits for the next.
    let late = Instant(9 + 2 * grace);
    let ended = ClientOutput::EmissionsEnded { from: ReplicaId(1) };
    assert_eq!(hear_at(&mut client, late, &mut second, &emission(b"open")), [ended, passed_on(2, b"open")]);
    assert_eq!(hear_at(&mut client, late, &mut second, &emission(b"b")), [passed_on(2, b"b")], "said once");
}

fn tentative_in(view: u64, number: u64, result: &[u8]) -> ClientMessage {
    let (outcome, number) = (ReplyOutcome::Result(result.to_vec()), RequestNumber(number));
    ClientMessage::Reply { view: View(view), number, execution: Execution::Tentative(Seq(1)), outcome }
}

/// Replica 1 has taken that back, and 0 lies. A reader may then hear 0, 1 and 2.
#[test]
fn with_fast_reads_a_stale_tentative_word_does_not_complete_a_write() {
    let mut client = client(ReadPolicy::Fast);
    submit(&mut client, OperationKind::Ordered);
    assert_eq!(hear(&mut client, 1, &tentative_in(0, 7, b"r")), []);
    client.handle(NOW, ClientInput::Timer, &mut Vec::new());
    assert_eq!(hear(&mut client, 0, &reply_in(2, 7, b"r")), []);
    assert_eq!(hear(&mut client, 3, &reply_in(2, 7, b"r")), []);
}

/// Replica 1 answers whatever is asked again, and nothing at first.
#[test]
fn who_answers_only_when_asked_again_does_not_cost_a_wait_each_time() {
    let mut client = client(ReadPolicy::Ordered);
    let mut waits = 0;
    for number in 7..17 {
        let out = submit(&mut client, OperationKind::Ordered);
        let Answers::Few { asked, .. } = answers(&out) else {
            for id in [0, 2] {
                hear(&mut client, id, &reply(number, b"r"));
            }
            continue;
        };
        for id in &asked {
            if id.0 != 1 {
                hear(&mut client, id.0, &tentative_in(0, number, b"r"));
            }
        }
        if client.outstanding().is_some() {
            waits += 1;
            client.handle(NOW, ClientInput::Timer, &mut Vec::new());
            for id in [1, 0, 2, 3] {
                hear(&mut client, id, &reply(number, b"r"));
            }
        }
        assert_eq!(client.outstanding(), None);
    }
    assert!(waits < 3, "{waits} of 10 operations had to be sent again");
}

#[test]
fn it_asks_the_others_at_once_when_the_primary_is_gone() {
    let mut client = client(ReadPolicy::Ordered);
    assert_eq!(receivers(&submit(&mut client, OperationKind::Ordered)), [0]);
    let gone = |client: &mut Client, replica| {
        let mut out = Vec::new();
        client.handle(NOW, ClientInput::Unreachable(ReplicaId(replica)), &mut out);
        out
    };
    assert_eq!(gone(&mut client, 2), [], "it was not asked");
    let again = gone(&mut client, 0);
    assert_eq!(receivers(&again), [0, 1, 2, 3]);
    let ClientFrame::Request(request) = sent(&again) else { panic!("it is ordered") };
    assert!(matches!(request.auth, RequestAuth::Signed(_)) && request.answers == Answers::All);
    assert_eq!(gone(&mut client, 0), [], "all have been asked");
    hear(&mut client, 1, &reply(7, b"r"));
    assert_eq!(hear(&mut client, 2, &reply(7, b"r")), completed(7, b"r", true));
    assert_eq!(gone(&mut client, 0), [], "nothing is outstanding");
}
