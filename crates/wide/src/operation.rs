//! What a site's own protocol orders, and what its clients are answered.

use crate::LinkMessage;
use crate::machine::{Timer, Treachery};
use alloc::vec::Vec;
use althing_crypto::{Domain, Identity, Proof};
use althing_protocol::{Answers, Request, RequestAuth, RequestKind};
use althing_replica::{Parts, ReplyOutcome};
use althing_types::{ClientId, Epoch, GroupId, RequestNumber, SiteId};
use borsh::{BorshDeserialize, BorshSerialize};

/// An operation of a [`LogicalMachine`](crate::LogicalMachine).
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum SiteOperation {
    /// A client of this site wants something ordered by all sites.
    Update(Update),
    /// A server of this site tells what has happened.
    Events(Vec<SiteEvent>),
}

/// A client's update, to be ordered by all sites.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Update {
    /// The client's number for it, growing from update to update.
    pub number: RequestNumber,
    /// What is to be executed, in the encoding of the service that the sites replicate.
    pub operation: Vec<u8>,
    /// The client's signature over the request that it makes, in the name of the system.
    pub proof: Proof,
}

impl Update {
    /// An update that `client` has signed.
    #[must_use]
    pub fn new(
        (system, client, identity): (GroupId, ClientId, &Identity),
        number: RequestNumber,
        operation: Vec<u8>,
    ) -> Self {
        let mut update = Self { number, operation, proof: Proof(Vec::new()) };
        let signed = update.clone().into_request(client).signed_bytes();
        update.proof = identity.sign_in(system, Domain::Request, &signed);
        update
    }

    /// The request that it makes among the sites.
    #[must_use]
    pub fn into_request(self, client: ClientId) -> Request {
        Request {
            client,
            number: self.number,
            kind: RequestKind::Service,
            operation: self.operation,
            epoch: Epoch(0),
            answers: Answers::All,
            auth: RequestAuth::Signed(self.proof),
            is_authentic: false,
        }
    }
}

/// Something that a server of a site tells the others.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum SiteEvent {
    /// Another site has said something, or this one has, which is now signed.
    Incoming(LinkMessage),
    /// A timer has expired at this server.
    Expired {
        /// Which.
        timer: Timer,
        /// How often it had been set when it was set last.
        generation: u64,
    },
    /// A virtual link to a site has not done in time what it owes.
    Suspected {
        /// The site.
        site: SiteId,
        /// The number of the virtual link's turn.
        turn: u64,
        /// The message that it owes, and all before it.
        number: u64,
    },
    /// Another site has given this of the state that this one fetches.
    Fetched(Parts),
    /// Somebody has taken the server over, and it is to betray the other sites with those that say the same; or not any
    /// more. For fault injection.
    TakenOver(Option<Treachery>),
}

/// What a client hears of its update.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Answer {
    /// It was executed.
    Executed(ReplyOutcome),
    /// The client has gone on: this update will not be executed, unless it was asked for before and is under way.
    Superseded {
        /// The last one executed, or asked for.
        last: RequestNumber,
    },
    /// It is malformed, or not signed by this client, or the client does not live in this site.
    Refused,
}
