use crate::disk::End;
use crate::fault::Fault;
use crate::queue::Node;
use crate::subject::{Message, Subject, limits};
use althing_protocol::Evidence;
use althing_replica::membership::Membership;
use althing_replica::{
    Report, Room, Timer, decode_client_frame, decode_engine_message, decode_envelope, decode_reply_frame,
};
use althing_types::{ClientId, DecodeError, Digest, RequestNumber, Seq, decode};
use std::fmt::Debug;
use std::sync::Arc;

/// One event, as a trace tells it. It is put into words only if something fails.
#[derive(Debug, Clone)]
pub(crate) enum Line {
    Arrival { from: Node, to: Node, frame: Arc<[u8]>, said: Said },
    Timer { host: usize, timer: Timer },
    Persisted { host: usize, id: u64 },
    Kept { host: usize, seq: Seq },
    ClientTimer { client: usize },
    Booted { host: usize, what: &'static str },
    Crashed { host: usize, how: End },
    DiskFailed { host: usize, error: String },
    Fault(Fault),
    Entered { host: usize, membership: Box<Membership>, start: Option<(Seq, Digest)> },
    Robbed { host: usize },
    Seized { host: usize },
    Recovered { host: usize },
    Reported { host: usize, report: Report },
    Accused { host: usize, evidence: Evidence },
    Submitted { client: ClientId, number: RequestNumber, what: String },
    Completed { client: ClientId, number: RequestNumber, result: Vec<u8> },
}

/// The longest message in words.
const MOST_CHARS: usize = 400;

impl Line {
    pub(crate) fn words(&self, at: u64) -> String {
        let time = format!("{:>5}.{:06} ms", at / 1_000_000, at % 1_000_000);
        let what = match self {
            Self::Arrival { from, to, frame, said } => {
                format!("{} -> {}: {}", node(*from), node(*to), frame_words(frame, *said))
            }
            Self::Timer { host, timer } => format!("host {host}: {timer:?}"),
            Self::Persisted { host, id } => format!("host {host}: on disk up to record {id}"),
            Self::Kept { host, seq } => format!("host {host}: the state of {seq} is on disk"),
            Self::ClientTimer { client } => format!("client {client}: timer"),
            Self::Booted { host, what } => format!("host {host}: starts {what}"),
            Self::Crashed { host, how } => format!("host {host}: goes down: {how:?}"),
            Self::DiskFailed { host, error } => format!("host {host}: stops for its disk: {error}"),
            Self::Robbed { host } => format!("host {host}: its keys are copied"),
            Self::Seized { host } => format!("host {host}: is taken over"),
            Self::Recovered { host } => format!("host {host}: has recovered"),
            Self::Fault(fault) => format!("fault: {}", short(fault)),
            Self::Entered { host, membership, start } => {
                let machines = membership.members.iter().map(|member| member.address.as_str());
                let (machines, f) = (machines.collect::<Vec<_>>().join(" "), membership.f);
                format!("host {host}: is in {} from {start:?}: f = {f}, {machines}", membership.epoch)
            }
            Self::Reported { host, report } => format!("host {host}: {}", short(report)),
            Self::Accused { host, evidence } => {
                format!("host {host}: accuses {}: it {}", evidence.accused, evidence.misbehaviour)
            }
            Self::Submitted { client, number, what } => format!("{client} submits {number}: {what}"),
            Self::Completed { client, number, result } => {
                format!("{client}: {number} is complete: {result:?}")
            }
        };
        format!("{time}  {what}")
    }
}

fn node(node: Node) -> String {
    match node {
        Node::Host(host) => format!("host {host}"),
        Node::Client(client) => format!("client {client}"),
    }
}

fn short(value: &impl Debug) -> String {
    let mut words = format!("{value:?}");
    if words.len() > MOST_CHARS {
        let cut = (0..=MOST_CHARS).rev().find(|at| words.is_char_boundary(*at)).unwrap_or(0);
        words.truncate(cut);
        words.push_str("...");
    }
    words
}

/// Puts a protocol's message into words.
pub(crate) type Said = fn(&[u8]) -> Result<String, DecodeError>;

/// Puts a message of the subject's protocol into words.
pub(crate) fn said<X: Subject>(body: &[u8]) -> Result<String, DecodeError> {
    decode::<Message<X>>(body, usize::MAX).map(|message| short(&message))
}

fn frame_words(frame: &[u8], said: Said) -> String {
    let limits = limits();
    if let Ok(envelope) = decode_envelope(frame, &limits) {
        let said = match envelope.room {
            Room::Engine => decode_engine_message(&envelope.body).map(|message| short(&message)),
            Room::Protocol => said(&envelope.body),
        };
        return said.unwrap_or_else(|_| format!("a malformed body of {} bytes", envelope.body.len()));
    }
    if let Ok((_, message)) = decode_reply_frame(frame, &limits) {
        return short(&message);
    }
    match decode_client_frame(frame, &limits) {
        Ok(message) => short(&message),
        Err(_) => format!("garbage of {} bytes", frame.len()),
    }
}
