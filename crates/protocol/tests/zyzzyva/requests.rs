//! Requests of clients, those included that some replicas believe and others don't.

use althing_crypto::{Authenticator, Proof};
use althing_protocol::{Answers, Request, RequestAuth, RequestKind};
use althing_types::{ClientId, Epoch, RequestNumber};

/// The MACs of client `LIAR + i` are bad at replica `i` only.
pub(crate) const LIAR: u64 = 10;

/// The MACs of client `GREAT_LIAR + i` are good at replica `i` only.
pub(crate) const GREAT_LIAR: u64 = 20;

/// Where a request of this client is final, the instance is closed.
pub(crate) const CLOSER: u64 = 99;

/// A request with its client's signature.
pub(crate) fn signed(client: u64, number: u64) -> Request {
    Request {
        client: ClientId(client),
        number: RequestNumber(number),
        kind: RequestKind::Service,
        operation: vec![1, 2, 3],
        epoch: Epoch(0),
        answers: Answers::All,
        auth: RequestAuth::Signed(Proof(vec![])),
        is_authentic: true,
    }
}

/// A request with MACs, good where it is handed in; see [`LIAR`] and [`GREAT_LIAR`] for where else.
pub(crate) fn with_macs(client: u64, number: u64) -> Request {
    Request { auth: RequestAuth::Macs(Authenticator::default()), ..signed(client, number) }
}
