//! What travels between the members of a group, and how it is decoded. Everything here comes from
//! outside and may be anything: decoding is bounded by [`Limits`] and never panics.

use crate::Limits;
use crate::membership::Link;
use crate::transfer::{EngineMessage, MAX_ENGINE_MESSAGE_BYTES};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_crypto::{Authenticator, Domain, Mac, NewKey, Proof, hash};
use althing_protocol::{CommitCertificate, Request, Speculation};
use althing_types::{
    ClientId, DecodeError, Digest, Epoch, ReplicaId, RequestNumber, Seq, View, decode, encode,
};
use borsh::{BorshDeserialize, BorshSerialize};

/// How a message among replicas is authenticated.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Seal {
    /// For all replicas: a MAC for each.
    Macs(Authenticator),
    /// For one replica.
    Mac(Mac),
    /// For anybody, transferable.
    Proof(Proof),
}

/// Whose message it is among replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Room {
    /// The protocol's: the body is the canonical encoding of its message.
    Protocol,
    /// The engine's own: the body is an [`EngineMessage`].
    Engine,
}

impl Room {
    /// What the seal is made in.
    #[must_use]
    pub fn domain(self) -> Domain {
        match self {
            Self::Protocol => Domain::Protocol,
            Self::Engine => Domain::Engine,
        }
    }
}

/// What a replica sends to a replica.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Envelope {
    /// The epoch in which it is said.
    pub epoch: Epoch,
    /// Who says it: a place in that epoch.
    pub sender: ReplicaId,
    /// Whose message it is.
    pub room: Room,
    /// The sender's authentication over exactly `body`.
    pub seal: Seal,
    /// The message.
    pub body: Vec<u8>,
}

/// A question that changes nothing, answered without ordering.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Query {
    /// Who asks.
    pub client: ClientId,
    /// The client's number for it, from the same sequence as its requests.
    pub number: RequestNumber,
    /// The epoch that the client takes for the present one.
    pub epoch: Epoch,
    /// What to answer, in the service's own encoding.
    pub operation: Vec<u8>,
    /// The client's MACs over [`Query::signed_bytes`].
    pub macs: Authenticator,
}

impl Query {
    /// What the client authenticates.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        encode(&(self.client, self.number, self.epoch, &self.operation))
    }
}

/// A client's wish that a replica sign what it has speculated, and go on to sign for a while: it makes certificates.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Prove {
    /// Who asks.
    pub client: ClientId,
    /// The request of which it wants a proof now.
    pub first: RequestNumber,
    /// The last one of which it wants a proof with the first answer.
    pub last: RequestNumber,
    /// The epoch that the client takes for the present one.
    pub epoch: Epoch,
    /// The client's MACs over [`Prove::signed_bytes`].
    pub macs: Authenticator,
}

impl Prove {
    /// What the client authenticates.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        encode(&(self.client, self.first, self.last, self.epoch))
    }
}

/// What a client sends to a replica.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum ClientFrame {
    /// An operation to be ordered and executed.
    Request(Request),
    /// A question to be answered from the present state.
    Query(Query),
    /// A copy of a request that was sent to the primary, for this replica to see what becomes of it.
    Witness(Request),
    /// A request that was sent to the primary, for this replica to have it when it is proposed.
    Body(Request),
    /// Proof that an agreement quorum has speculated alike, for this replica to keep. It stands for itself.
    Certificate {
        /// Who shows it.
        client: ClientId,
        /// The request that this is about.
        number: RequestNumber,
        /// The epoch that the client takes for the present one.
        epoch: Epoch,
        /// The proof.
        certificate: CommitCertificate,
    },
    /// Has this replica sign what it has speculated.
    Prove(Prove),
}

impl ClientFrame {
    /// The epoch that the client takes for the present one.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        match self {
            Self::Request(request) | Self::Witness(request) | Self::Body(request) => request.epoch,
            Self::Query(query) => query.epoch,
            Self::Prove(prove) => prove.epoch,
            Self::Certificate { epoch, .. } => *epoch,
        }
    }
}

/// What executing a request gave.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum ReplyOutcome {
    /// The service's result.
    Result(Vec<u8>),
    /// The operation was executed, but its result is longer than the group allows.
    TooLong {
        /// The result's length.
        bytes: u64,
    },
}

impl ReplyOutcome {
    /// What a service's result is to its client.
    pub(crate) fn of(result: Vec<u8>, max_reply_bytes: usize) -> Self {
        if result.len() <= max_reply_bytes {
            Self::Result(result)
        } else {
            Self::TooLong { bytes: result.len() as u64 }
        }
    }

    /// What stands for it where the whole is not needed.
    #[must_use]
    pub fn digest(&self) -> Digest {
        hash("althing reply", &encode(self))
    }
}

/// What a request gave, or its digest: somebody else is to say it then (PBFT §5.1.1).
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Given {
    /// The whole of it.
    Whole(ReplyOutcome),
    /// [`ReplyOutcome::digest`] of it.
    Digest(Digest),
}

/// How a replica has executed a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Execution {
    /// At this number, to be taken back if the view ends before that is decided.
    Tentative(Seq),
    /// At this number, for good.
    Final(Seq),
    /// For good, some time ago: the number is not kept.
    Earlier,
}

/// What a query gave.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum QueryAnswer {
    /// The service's answer.
    Result(Vec<u8>),
    /// The operation has to be ordered.
    MustOrder,
}

/// What a replica says to a client.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum ClientMessage {
    /// A request was executed.
    Reply {
        /// The view that the replica is in.
        view: View,
        /// The request's number.
        number: RequestNumber,
        /// How it was executed.
        execution: Execution,
        /// What it gave.
        outcome: ReplyOutcome,
    },
    /// A request was executed; somebody else is to say what it gave (PBFT §5.1.1).
    ReplyDigest {
        /// The view that the replica is in.
        view: View,
        /// The request's number.
        number: RequestNumber,
        /// How it was executed.
        execution: Execution,
        /// [`ReplyOutcome::digest`] of what it gave.
        outcome: Digest,
    },
    /// A query was answered.
    QueryReply {
        /// The query's number.
        number: RequestNumber,
        /// What it gave.
        answer: QueryAnswer,
    },
    /// The replica has no room for the request now; ask again later.
    Busy {
        /// The request's number.
        number: RequestNumber,
    },
    /// The request's number is not above the last one executed for this client: it will not be executed.
    Superseded {
        /// The request's number.
        number: RequestNumber,
        /// The last one executed.
        last: RequestNumber,
    },
    /// The client speaks in an epoch that has ended: the proof of that, and of who follows. It stands for
    /// itself.
    Succession(Vec<Link>),
    /// The service sent an event of its own accord.
    Emission {
        /// Which listeners it is for.
        channel: u32,
        /// The event.
        payload: Vec<u8>,
    },
    /// The replica announces a key. The client believes the proof in it, and needs no MAC.
    NewKey(NewKey),
    /// What the client has shown this replica was served late, or still waits.
    Late,
    /// The client's MACs are not believed for now: the request is taken once it is signed.
    MustSign {
        /// The request's number.
        number: RequestNumber,
    },
    /// A request was executed before this replica knew what the others do (Zyzzyva's spec-response).
    Speculated {
        /// The request's number.
        number: RequestNumber,
        /// After which batches.
        speculation: Speculation,
        /// The replica's proof over [`Speculation::statement`], where a client has asked for one.
        proof: Option<Proof>,
        /// What it gave.
        given: Given,
    },
    /// This replica keeps a certificate for this or for later batches of its view (Zyzzyva's local commit).
    Certified {
        /// The request's number.
        number: RequestNumber,
        /// As the client has shown it.
        speculation: Speculation,
    },
}

impl ClientMessage {
    /// Whether it says what an operation gave.
    pub(crate) fn is_result(&self) -> bool {
        match self {
            Self::Reply { .. }
            | Self::ReplyDigest { .. }
            | Self::QueryReply { .. }
            | Self::Speculated { .. }
            | Self::Certified { .. } => true,
            Self::Busy { .. }
            | Self::Superseded { .. }
            | Self::Succession(_)
            | Self::Emission { .. }
            | Self::NewKey(_)
            | Self::Late
            | Self::MustSign { .. } => false,
        }
    }
}

/// What a replica sends to a client.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ReplyFrame {
    /// Who says it.
    pub replica: ReplicaId,
    /// The replica's MAC over exactly `body`, for this client.
    pub mac: Mac,
    /// A [`ClientMessage`].
    pub body: Vec<u8>,
}

/// Decodes what came from a replica.
///
/// # Errors
/// When it is too long or no envelope.
pub fn decode_envelope(bytes: &[u8], limits: &Limits) -> Result<Envelope, DecodeError> {
    decode(bytes, limits.max_replica_frame_bytes())
}

/// Decodes the body of an envelope of the engine.
///
/// # Errors
/// When it is too long or no message of the engine.
pub fn decode_engine_message(bytes: &[u8]) -> Result<EngineMessage, DecodeError> {
    decode(bytes, MAX_ENGINE_MESSAGE_BYTES)
}

/// Decodes what came from a client.
///
/// # Errors
/// When it is too long or no client's frame.
pub fn decode_client_frame(bytes: &[u8], limits: &Limits) -> Result<ClientFrame, DecodeError> {
    decode(bytes, limits.max_client_frame_bytes())
}

/// Decodes what a client got from a replica: the frame, and the message in it.
///
/// # Errors
/// When it is too long or no reply frame.
pub fn decode_reply_frame(bytes: &[u8], limits: &Limits) -> Result<(ReplyFrame, ClientMessage), DecodeError> {
    let frame: ReplyFrame = decode(bytes, limits.max_reply_frame_bytes())?;
    let message = decode(&frame.body, limits.max_reply_frame_bytes())?;
    Ok((frame, message))
}

/// The bytes of a frame, shared by all who get it.
pub(crate) fn frame_bytes<T: BorshSerialize>(frame: &T) -> Arc<[u8]> {
    encode(frame).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LimitSettings, MAX_PAGE_BYTES};
    use proptest::prelude::*;

    #[test]
    fn the_longest_allowed_fits_and_one_more_byte_does_not() {
        let limits = Limits::default();
        let request = |bytes: usize| {
            encode(&ClientFrame::Request(Request {
                client: ClientId(1),
                number: RequestNumber(1),
                kind: althing_protocol::RequestKind::Service,
                epoch: Epoch(0),
                operation: alloc::vec![0; bytes],
                answers: althing_protocol::Answers::All,
                auth: althing_protocol::RequestAuth::Macs(Authenticator(alloc::vec![Mac::default(); 100])),
                is_authentic: false,
            }))
        };
        let longest = limits.settings().max_operation_bytes;
        assert!(decode_client_frame(&request(longest), &limits).is_ok());
        assert!(decode_client_frame(&request(longest + 16384), &limits).is_err());
        assert!(LimitSettings::default().max_message_bytes > MAX_PAGE_BYTES);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let limits = Limits::default();
            let _ = decode_envelope(&bytes, &limits);
            let _ = decode_engine_message(&bytes);
            let _ = decode_client_frame(&bytes, &limits);
            let _ = decode_reply_frame(&bytes, &limits);
        }
    }
}
