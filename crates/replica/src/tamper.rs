//! Fault injection: what a replica says is changed before it is sealed with its real keys, so that
//! others see what a replica that was taken over could send.

use crate::frame::{ClientMessage, Given, QueryAnswer, ReplyOutcome};
use crate::transfer::{EngineMessage, Parts};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use althing_protocol::{Auth, Message};
use althing_types::{Principal, ReplicaId};

/// Something that a replica is about to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing<M> {
    /// A message of the protocol.
    Protocol(M, Auth),
    /// A message of the engine.
    Engine(EngineMessage),
    /// A message to a client.
    Client(ClientMessage),
}

/// A fault: decides, destination by destination, what is sent instead.
pub trait Tamper<M> {
    /// What to send to `to` instead of `message`.
    fn tamper(&mut self, to: Principal, message: Outgoing<M>) -> Vec<Outgoing<M>>;
}

/// The faults that can be had from a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Injected {
    /// Sends nothing.
    Mute,
    /// Sends nothing to these.
    Selective(BTreeSet<Principal>),
    /// Falsifies what it tells about the state: replies, answers to queries, emissions, and the
    /// parts of checkpoints. All who lie so tell the same lie.
    Lie,
    /// Tells replicas with odd ids the contrary of what it tells the others.
    Equivocate,
}

impl<M: Message> Tamper<M> for Injected {
    fn tamper(&mut self, to: Principal, message: Outgoing<M>) -> Vec<Outgoing<M>> {
        match self {
            Self::Mute => Vec::new(),
            Self::Selective(victims) if victims.contains(&to) => Vec::new(),
            Self::Selective(_) => alloc::vec![message],
            Self::Lie => alloc::vec![falsified(message)],
            Self::Equivocate => alloc::vec![contradicted(to, message)],
        }
    }
}

fn contradicted<M: Message>(to: Principal, message: Outgoing<M>) -> Outgoing<M> {
    match (to, message) {
        (Principal::Replica(ReplicaId(id)), Outgoing::Protocol(message, auth)) if id % 2 == 1 => {
            Outgoing::Protocol(message.contradiction().unwrap_or(message), auth)
        }
        (_, message) => message,
    }
}

fn falsified<M>(message: Outgoing<M>) -> Outgoing<M> {
    match message {
        Outgoing::Protocol(..) => message,
        Outgoing::Engine(EngineMessage::Fetched { ticket, parts }) => {
            Outgoing::Engine(EngineMessage::Fetched { ticket, parts: falsified_parts(parts) })
        }
        Outgoing::Engine(_) => message,
        Outgoing::Client(message) => Outgoing::Client(falsified_answer(message)),
    }
}

fn falsified_parts(mut parts: Parts) -> Parts {
    match &mut parts {
        Parts::Nodes(nodes) => {
            if let Some((_, digest)) = nodes.first_mut().and_then(|children| children.first_mut()) {
                digest.0[0] ^= 1;
            }
        }
        Parts::Pages(pages) => {
            if let Some(page) = pages.first_mut() {
                flip(page);
            }
        }
        Parts::Unavailable => {}
    }
    parts
}

fn falsified_answer(mut message: ClientMessage) -> ClientMessage {
    match &mut message {
        ClientMessage::Reply { outcome: ReplyOutcome::Result(bytes), .. }
        | ClientMessage::Speculated { given: Given::Whole(ReplyOutcome::Result(bytes)), .. }
        | ClientMessage::QueryReply { answer: QueryAnswer::Result(bytes), .. }
        | ClientMessage::Emission { payload: bytes, .. } => flip(bytes),
        ClientMessage::ReplyDigest { outcome, .. }
        | ClientMessage::Speculated { given: Given::Digest(outcome), .. } => outcome.0[0] ^= 1,
        _ => {}
    }
    message
}

/// Changes the last byte, where most encodings have a value rather than a tag; makes one up where
/// there is none.
fn flip(bytes: &mut Vec<u8>) {
    match bytes.last_mut() {
        Some(byte) => *byte ^= 1,
        None => bytes.push(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Execution;
    use althing_crypto::{Domain, Identity};
    use althing_protocol::Speculation;
    use althing_types::{Digest, GroupId, RequestNumber, Seq, View};

    #[test]
    fn who_lies_does_so_in_all_that_a_client_could_take_for_a_result() {
        let (view, number) = (View(1), RequestNumber(2));
        let (execution, digest) = (Execution::Tentative(Seq(3)), Digest([4; 32]));
        let outcome = || ReplyOutcome::Result(alloc::vec![5]);
        let speculation = Speculation { view, seq: Seq(3), history: digest };
        let proof = Identity::from_secret_bytes(&[6; 64]).sign_in(GroupId([7; 16]), Domain::Protocol, b"");
        let speculated =
            |given| ClientMessage::Speculated { number, speculation, proof: Some(proof.clone()), given };
        for told in [
            ClientMessage::Reply { view, number, execution, outcome: outcome() },
            ClientMessage::ReplyDigest { view, number, execution, outcome: digest },
            ClientMessage::QueryReply { number, answer: QueryAnswer::Result(Vec::new()) },
            ClientMessage::Emission { channel: 1, payload: alloc::vec![8] },
            speculated(Given::Whole(outcome())),
            speculated(Given::Digest(digest)),
        ] {
            assert_ne!(falsified_answer(told.clone()), told);
        }
        let busy = ClientMessage::Busy { number };
        assert_eq!(falsified_answer(busy.clone()), busy);
    }
}
