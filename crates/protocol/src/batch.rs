use alloc::vec::Vec;
use althing_crypto::{Authenticator, Hasher, Proof};
use althing_types::{ClientId, Digest, Epoch, Instant, Quorums, ReplicaId, RequestNumber, decode, encode};
use borsh::{BorshDeserialize, BorshSerialize};

/// More than any signature of a client, a site's included.
const MAX_PROOF_BYTES: usize = 1024;

/// How a client shows that a request is its own.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum RequestAuth {
    /// A MAC for each replica (PBFT §5.3). Cheap, but a faulty client can make some of them wrong.
    Macs(Authenticator),
    /// A signature: all replicas see the same.
    Signed(Proof),
}

/// Which replicas a client wants to hear from when its request is executed. The fewer answer, the less
/// all have to do; the more, the sooner the client is sure where some are slow or faulty.
#[derive(Debug, Clone, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub enum Answers {
    /// From all, with the whole result.
    #[default]
    All,
    /// From some, and from nobody else.
    Few {
        /// The first gives the whole result, the others its digest (PBFT §5.1.1).
        asked: Vec<ReplicaId>,
        /// How many of them answer where the execution is final in any case. A tentative one is answered
        /// by all, since it takes more answers to make a result final.
        firmly: u16,
    },
}

/// What one replica is to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// The whole result.
    Whole,
    /// The result's digest.
    Digest,
    /// Nothing, unless the client asks again.
    Nothing,
}

impl Answers {
    /// What `replica` is to answer, where the batch is one that is executed tentatively or not.
    #[must_use]
    pub fn share_of(&self, replica: ReplicaId, is_eager: bool) -> Share {
        let Self::Few { asked, firmly } = self else { return Share::Whole };
        let answering = if is_eager { asked.len() } else { usize::from(*firmly) };
        match asked.iter().take(answering).position(|id| *id == replica) {
            Some(0) => Share::Whole,
            Some(_) => Share::Digest,
            None => Share::Nothing,
        }
    }

    /// What `replica` is to answer where all have to: the first of those named gives the whole.
    #[must_use]
    pub fn share_of_all(&self, replica: ReplicaId) -> Share {
        match self {
            Self::Few { asked, .. } if asked.first() != Some(&replica) => Share::Digest,
            Self::Few { .. } | Self::All => Share::Whole,
        }
    }

    /// How many replicas are named.
    #[must_use]
    pub fn named(&self) -> usize {
        match self {
            Self::All => 0,
            Self::Few { asked, .. } => asked.len(),
        }
    }
}

/// Whom an operation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub enum RequestKind {
    /// The replicated service.
    #[default]
    Service,
    /// The group itself: it is to have other members from the next epoch on.
    Reconfigure,
    /// The service, once for each of the [bundled](Request::bundled) requests. Whoever takes such a request has to
    /// check each of them: a replica takes none from clients.
    Bundle,
}

/// The operation of a [`RequestKind::Bundle`].
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Bundle {
    /// Requests, each with its client's authentication.
    Signed(Vec<Request>),
    /// Operations for the service, each with its client and the client's number for it. Whoever made the bundle answers
    /// for them.
    Vouched(Vec<(ClientId, RequestNumber, Vec<u8>)>),
}

impl Bundle {
    /// The requests in it, in order.
    #[must_use]
    pub fn requests(self) -> Vec<Request> {
        match self {
            Self::Signed(requests) => requests,
            Self::Vouched(operations) => operations
                .into_iter()
                .map(|(client, number, operation)| Request::vouched(client, number, operation))
                .collect(),
        }
    }
}

/// A client's request to execute an operation.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Request {
    /// Who asks.
    pub client: ClientId,
    /// The client's number for it, growing from request to request.
    pub number: RequestNumber,
    /// Whom the operation is for.
    pub kind: RequestKind,
    /// What to execute, in the encoding of whom it is for.
    pub operation: Vec<u8>,
    /// The epoch that the client takes for the present one: it names replicas by their places in that.
    pub epoch: Epoch,
    /// Who is to answer.
    pub answers: Answers,
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
        encode(&(self.client, self.number, self.kind, self.epoch, &self.answers, &self.operation))
    }

    /// The requests that it consists of; none unless it is a [`RequestKind::Bundle`], or where it is malformed.
    #[must_use]
    pub fn bundled(&self) -> Vec<Self> {
        match self.kind {
            RequestKind::Bundle => decode::<Bundle>(&self.operation, usize::MAX).map(Bundle::requests),
            RequestKind::Service | RequestKind::Reconfigure => return Vec::new(),
        }
        .unwrap_or_default()
    }

    /// A request that somebody else answers for: it has no authentication of its own.
    #[must_use]
    pub fn vouched(client: ClientId, number: RequestNumber, operation: Vec<u8>) -> Self {
        Self {
            client,
            number,
            kind: RequestKind::Service,
            operation,
            epoch: Epoch(0),
            answers: Answers::All,
            auth: RequestAuth::Signed(Proof(Vec::new())),
            is_authentic: false,
        }
    }

    /// Whether it is authenticated by MACs: good at one replica, it may be bad at another.
    #[must_use]
    pub fn has_macs(&self) -> bool {
        matches!(self.auth, RequestAuth::Macs(_))
    }

    /// Whether what its digest does not cover is no longer than anybody needs.
    pub(crate) fn is_lean(&self) -> bool {
        let is_short = match &self.auth {
            RequestAuth::Macs(macs) => macs.0.len() <= Quorums::MAX_REPLICAS,
            RequestAuth::Signed(proof) => proof.0.len() <= MAX_PROOF_BYTES,
        };
        is_short && self.answers.named() <= Quorums::MAX_REPLICAS
    }

    /// Names the request, whatever its authentication, its epoch and whoever is to answer: two copies that
    /// differ only in that are the same request.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new("althing request");
        hasher.value(&(self.client, self.number, self.kind));
        hasher.bytes(&self.operation);
        hasher.finish()
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

/// With adaptive batching, a batch has at least one request for so many that are under way.
const SHARES_UNDER_WAY: usize = 2;

/// Whether to wait for more requests: those that wait are few beside those under way, whose end makes
/// room in any case. So a lone request waits for nobody, and under load there are few large batches
/// under way instead of many small ones, whatever the network's latency (TOCS'02 §5.1.4 bounds their
/// number instead, which has to be set to the latency).
pub(crate) fn are_few(waiting: usize, under_way: usize) -> bool {
    waiting * SHARES_UNDER_WAY < under_way
}

/// Whether these requests may be in one batch: a single one always may.
pub(crate) fn fit<'a>(
    requests: impl ExactSizeIterator<Item = &'a Request>,
    max_requests: usize,
    max_bytes: usize,
) -> bool {
    let count = requests.len();
    let bytes: usize = requests.map(|request| request.operation.len()).sum();
    count <= max_requests && (bytes <= max_bytes || count == 1)
}
