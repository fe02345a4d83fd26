//! What an outpost sends and takes together.

use super::register::Register;
use super::system::{SERVER, SYSTEM, Setting, lane_client, resident, update};
use super::vouching::{ME, OTHER};
use super::{ORIGIN, pbft, setting};
use althing_crypto::site::{SiteBatch, SiteSignature};
use althing_crypto::{Domain, hash};
use althing_protocol::pbft::Pbft;
use althing_replica::{Context, Service};
use althing_types::{ClientId, Instant, Quorums, ReplicaId, RequestNumber, Seq, SiteId, decode, encode};
use althing_wide::{
    Header, Kind, Lane, LinkMessage, LogicalMachine, Outpost, OutpostConfig, OutpostInput, OutpostOutput,
    OutpostTimer, Parcel, SiteEvent, SiteOperation, link_headers,
};

const MS: u64 = 1_000_000;

/// One server of a site, and what it sends.
pub(crate) struct Server {
    pub(crate) machine: LogicalMachine<Pbft, Register>,
    pub(crate) outpost: Outpost,
}

impl Server {
    pub(crate) fn new() -> Self {
        let sites = Quorums::byzantine(4, 1).expect("valid");
        let setting = setting(sites, ORIGIN);
        let protocol = pbft(ReplicaId(ME.0), sites);
        let machine = LogicalMachine::new(setting.machine_config(ME), protocol, Register::default());
        Self { machine, outpost: Outpost::new(setting.outpost_config(ME)) }
    }

    /// Its site executes one operation of a batch.
    pub(crate) fn execute(&mut self, seq: u64, client: ClientId, operation: &SiteOperation) {
        let context = Context {
            client,
            number: RequestNumber(seq),
            seq: Seq(seq),
            time: Instant(seq * MS),
            seed: [0; 32],
        };
        self.machine.execute(&encode(operation), &context);
    }

    /// What it does then.
    pub(crate) fn outputs(&mut self, ms: u64, seq: u64, input: OutpostInput) -> Vec<OutpostOutput> {
        let mut outputs = Vec::new();
        self.outpost.handle(Instant(ms * MS), input, (&self.machine, Seq(seq)), &mut outputs);
        outputs
    }

    /// What it sends to the other site then.
    fn sent(&mut self, ms: u64, seq: u64, input: OutpostInput) -> Vec<Vec<u8>> {
        let to_other = |output| match output {
            OutpostOutput::ToSite { site: OTHER, bytes, .. } => Some(bytes.to_vec()),
            _ => None,
        };
        self.outputs(ms, seq, input).into_iter().filter_map(to_other).collect()
    }
}

fn parcel(bytes: &[u8]) -> Parcel {
    decode(&bytes[1..], bytes.len()).expect("it is a parcel")
}

fn numbers(bytes: &[u8]) -> Vec<u64> {
    link_headers(bytes).iter().map(|header| header.number).collect()
}

pub(crate) type Messages = Vec<(Header, Vec<u8>)>;

/// What the other site signs if it says this at once, and its signature.
fn signed(messages: &Messages) -> (SiteBatch, SiteSignature) {
    let statement = |(header, body): &(Header, Vec<u8>)| header.statement(hash("althing link body", body));
    let statements: Vec<Vec<u8>> = messages.iter().map(statement).collect();
    let statements: Vec<_> = statements.iter().map(|said| (Domain::Link, &said[..])).collect();
    let (batch, deal) = (SiteBatch::new(SYSTEM, OTHER, &statements), Setting::deal(OTHER));
    let shares = [(ReplicaId(0), deal.secrets[0].share(&batch.statement()))].into();
    let signature = deal.shares.combine(&batch.statement(), &shares).signature.expect("one is enough");
    (batch, signature)
}

/// One of these messages by itself.
pub(crate) fn alone(messages: &Messages, index: usize) -> LinkMessage {
    let (batch, signature) = signed(messages);
    let (header, body) = messages[index].clone();
    LinkMessage { header, proof: batch.proof(index, signature), body }
}

/// All of them as they are sent, with this signature.
fn together(messages: &Messages, signature: SiteSignature) -> Vec<u8> {
    const LINK: u8 = 0;
    let proof = signed(messages).0.range_proof(0..messages.len(), signature);
    [vec![LINK], encode(&Parcel::new(proof, messages.clone()))].concat()
}

/// The number of the first message that a server puts in order when this comes.
fn taken(bytes: Vec<u8>, site: SiteId) -> Option<u64> {
    let input = OutpostInput::FromSite { site, server: SERVER, bytes };
    let outputs = Server::new().outputs(1, 1, input);
    let operation = outputs.into_iter().find_map(|output| match output {
        OutpostOutput::Submit { operation, .. } => Some(operation),
        _ => None,
    });
    let Ok(SiteOperation::Events(events)) = decode(&operation?, 1 << 20) else { return None };
    events.iter().find_map(|event| match event {
        SiteEvent::Incoming(message) => Some(message.header.number),
        _ => None,
    })
}

pub(crate) fn header(number: u64, acknowledged: u64, kind: Kind) -> Header {
    Header { from: OTHER, to: ME, number, base: 1, acknowledged, kind }
}

#[test]
fn what_a_site_says_at_once_goes_together_and_what_is_left_of_it_again() {
    let mut server = Server::new();
    server.outputs(0, 0, OutpostInput::Start);
    for index in [0, 1] {
        let client = resident(ME, index);
        server.execute(1, client, &SiteOperation::Update(update(client, 1, &[7; 300])));
    }
    let sent = server.sent(1, 1, OutpostInput::Observe);
    assert_eq!(sent.iter().map(|bytes| numbers(bytes)).collect::<Vec<_>>(), [[1, 2]]);
    let sites = Quorums::byzantine(4, 1).expect("valid");
    let keys = || setting(sites, ORIGIN).keys();
    let first: Vec<LinkMessage> = parcel(&sent[0]).open(&keys()).expect("it is signed").collect();
    assert!(first.iter().all(|message| message.is_genuine(&keys())), "each stands for itself");
    assert_ne!(first[0].proof, first[1].proof);
    // The other site has the first, and the second gets lost.
    let acknowledgement = vec![(header(0, 1, Kind::Acknowledgement), Vec::new())];
    let event = SiteOperation::Events(vec![SiteEvent::Incoming(alone(&acknowledgement, 0))]);
    server.execute(2, lane_client(Lane::From(OTHER)), &event);
    let tick = || OutpostInput::Timer(OutpostTimer::Tick);
    assert_eq!(server.sent(2, 2, OutpostInput::Observe), Vec::<Vec<u8>>::new());
    let again = server.sent(2000, 2, tick());
    assert_eq!(again.iter().map(|bytes| numbers(bytes)).collect::<Vec<_>>(), [[2]]);
    let again: Vec<LinkMessage> = parcel(&again[0]).open(&keys()).expect("it is signed").collect();
    assert_eq!(again, first[1..], "with the same proof");
    assert_eq!(server.sent(2001, 2, tick()), Vec::<Vec<u8>>::new(), "once is enough for now");
}

#[test]
fn what_gets_lost_is_sent_again_though_the_site_goes_on_speaking() {
    let mut server = Server::new();
    server.outputs(0, 0, OutpostInput::Start);
    let mut sent = Vec::new();
    for (seq, ms) in [(1, 100), (2, 300)] {
        let client = resident(ME, seq - 1);
        server.execute(seq, client, &SiteOperation::Update(update(client, 1, &[7; 300])));
        sent.extend(server.sent(ms, seq, OutpostInput::Observe));
    }
    let tick = || OutpostInput::Timer(OutpostTimer::Tick);
    assert!(server.sent(340, 2, tick()).is_empty());
    // Half the link's timeout after the first, and not after the last.
    sent.extend(server.sent(360, 2, tick()));
    let sent: Vec<_> = sent.iter().map(|bytes| numbers(bytes)).collect();
    assert_eq!(sent, [[1], [2], [1], [2]]);
}

#[test]
fn a_message_that_is_too_long_for_an_operation_is_left_out_of_a_parcel() {
    let longest = Server::new().outpost.operation_bytes() - 64;
    let sixteen = |body: usize| {
        let mut messages: Messages =
            (1..=16).map(|number| (header(number, 0, Kind::Protocol), Vec::new())).collect();
        messages[0].1 = vec![0; body];
        messages
    };
    // Four siblings of its path are in the parcel: so it may be longer than that by itself.
    let overhead = encode(&alone(&sixteen(0), 0)).len();
    for (body, expected) in [(longest - overhead, Some(1)), (longest - overhead + 1, None)] {
        let messages = sixteen(body);
        let bytes = together(&messages, signed(&messages).1);
        assert!(bytes.len() < longest, "as a whole it is short enough");
        assert_eq!(taken(bytes, OTHER), expected);
    }
}

#[test]
fn nothing_of_a_parcel_is_taken_if_one_message_was_not_said() {
    let messages: Messages = [1, 2, 3].map(|number| (header(number, 0, Kind::Protocol), vec![5; 20])).into();
    let signature = signed(&messages).1;
    assert_eq!(taken(together(&messages, signature), OTHER), Some(1));
    assert_eq!(taken(together(&messages, signature), SiteId(2)), None, "another site has sent it");
    let mut other = messages.clone();
    other[2].1[7] = 0;
    assert_eq!(taken(together(&other, signature), OTHER), None);
    let foreign: Messages =
        messages.into_iter().map(|(header, body)| (Header { to: SiteId(2), ..header }, body)).collect();
    let bytes = together(&foreign, signed(&foreign).1);
    assert_eq!(taken(bytes, OTHER), None, "it is for another site");
}

#[test]
fn what_grows_with_the_proofs_of_its_own_takes_several_turns() {
    let messages: Messages = (1..=512).map(|number| (header(number, 0, Kind::Protocol), vec![9])).collect();
    // What is said beside it makes the paths long.
    let beside = (513..=1 << 15).map(|number| (header(number, 0, Kind::Protocol), vec![9]));
    let all: Messages = messages.iter().cloned().chain(beside).collect();
    let (batch, signature) = signed(&all);
    let proof = batch.range_proof(0..messages.len(), signature);
    let parcel = Parcel::new(proof, messages.clone());
    let sent = [vec![0], encode(&parcel)].concat();
    let mut server = Server::new();
    let config = setting(Quorums::byzantine(4, 1).expect("valid"), ORIGIN).outpost_config(ME);
    server.outpost = Outpost::new(OutpostConfig { operation_bytes: 4 << 20, ..config });
    let mut input = OutpostInput::FromSite { site: OTHER, server: SERVER, bytes: sent.clone() };
    let (mut turns, mut longest, mut bytes) = (0, 0, 0);
    for seq in 1..100 {
        let outputs = server.outputs(seq, seq, input);
        let operation = outputs.into_iter().find_map(|output| match output {
            OutpostOutput::Submit { lane: Lane::From(OTHER), operation } => Some(operation),
            _ => None,
        });
        let Some(operation) = operation else { break };
        (turns, longest, bytes) = (turns + 1, longest.max(operation.len()), bytes + operation.len());
        let operation = decode(&operation, 4 << 20).expect("it is an operation");
        server.execute(seq + 1, lane_client(Lane::From(OTHER)), &operation);
        input = OutpostInput::Completed(Lane::From(OTHER));
    }
    assert!(turns > 1 && longest <= 256 * 1024, "{turns} turns, the longest of {longest} bytes");
    assert!(bytes > 10 * sent.len(), "{bytes} bytes of {}", sent.len());
}
