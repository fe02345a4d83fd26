use alloc::vec::Vec;
use althing_crypto::{Authenticator, Hasher, Proof, hash};
use althing_types::{ClientId, Digest, Instant, RequestNumber, encode};
use borsh::{BorshDeserialize, BorshSerialize};

/// How a client shows that a request is its own.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum RequestAuth {
    /// A MAC for each replica (PBFT §5.3). Cheap, but a faulty client can make some of them wrong.
    Macs(Authenticator),
    /// A signature: all replicas see the same.
    Signed(Proof),
}

/// A client's request to execute an operation.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Request {
    /// Who asks.
    pub client: ClientId,
    /// The client's number for it, growing from request to request.
    pub number: RequestNumber,
    /// What to execute, in the service's own encoding.
    pub operation: Vec<u8>,
    /// The client's authentication over [`Request::signed_bytes`].
    pub auth: RequestAuth,
    /// Whether *this replica* has checked `auth` and found it good. Set by the layer that holds the
    /// keys; never sent.
    #[borsh(skip)]
    pub is_authentic: bool,
}

impl Request {
    /// What the client authenticates.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        encode(&(self.client, self.number, &self.operation))
    }

    /// Names the request whatever its authentication: two copies that differ only in their MACs are
    /// the same request.
    #[must_use]
    pub fn digest(&self) -> Digest {
        hash("althing request", &self.signed_bytes())
    }
}

/// What one sequence number orders: some requests, and the time they execute at.
#[derive(Debug, Clone, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub struct Batch {
    /// The primary's clock when it made the batch.
    pub time: Instant,
    /// The requests, in order of execution.
    pub requests: Vec<Request>,
}

impl Batch {
    /// The null request: executes nothing (PBFT §4.4).
    #[must_use]
    pub fn null() -> Self {
        Self::default()
    }

    /// Whether this is the null request.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.requests.is_empty() && self.time == Instant::default()
    }

    /// Names the batch. The null request's digest is [`Digest::NULL`].
    #[must_use]
    pub fn digest(&self) -> Digest {
        if self.is_null() {
            return Digest::NULL;
        }
        let mut hasher = Hasher::new("althing batch");
        hasher.value(&self.time);
        for request in &self.requests {
            hasher.bytes(&request.digest().0);
        }
        hasher.finish()
    }
}
