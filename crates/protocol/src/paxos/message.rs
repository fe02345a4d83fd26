use crate::separate::ShortProposal;
use crate::{Batch, Message, Request, SignedPart};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{Digest, Seq, View, encode};
use borsh::{BorshDeserialize, BorshSerialize};

/// The leader's proposal of a batch for a sequence number, which it has accepted itself: phase 2a.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Proposal {
    /// The view it is proposed in.
    pub view: View,
    /// The number it is proposed for.
    pub seq: Seq,
    /// The batch.
    pub batch: Arc<Batch>,
}

/// That a replica has accepted a batch at a number in a view, for good: phase 2b, and what a promise says of
/// earlier views.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Vote {
    /// The number.
    pub seq: Seq,
    /// The view.
    pub view: View,
    /// The batch.
    pub digest: Digest,
}

/// A replica's state at a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Checkpoint {
    /// The last sequence number executed.
    pub seq: Seq,
    /// The digest of the state.
    pub state: Digest,
}

/// A replica's promise to accept nothing in views below `view`, for all numbers at once, and what it has
/// accepted: phase 1b.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Promise {
    /// The view that it asks for.
    pub view: View,
    /// Its stable checkpoint; `None` stands for the initial state. All up to there is decided.
    pub stable: Option<Checkpoint>,
    /// The last that it has accepted at each number above that. Ascending.
    pub accepted: Vec<Vote>,
}

/// A leader's start of its view: phase 2a by name for all that may have been decided before.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct StartView {
    /// The view.
    pub view: View,
    /// The highest stable checkpoint among the promises that it follows from.
    pub stable: Option<Checkpoint>,
    /// What it proposes for each number above that, up to the last that any of them has accepted. Ascending.
    pub values: Vec<(Seq, Digest)>,
}

/// Where a replica stands, so that others can see what it misses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Status {
    /// The view it is in or moving to.
    pub view: View,
    /// Whether the view has started for it.
    pub is_in_view: bool,
    /// Its last stable checkpoint.
    pub stable: Seq,
    /// The last batch it executed.
    pub executed: Seq,
}

/// What a replica signs when it makes the checkpoint at which its instance ends, in
/// [`Domain::Protocol`](althing_crypto::Domain).
#[must_use]
pub fn checkpoint_statement(seq: Seq, state: Digest) -> Vec<u8> {
    encode(&PaxosMessage::Checkpoint(Checkpoint { seq, state }))
}

/// What Paxos replicas say to each other. The first byte of an encoding tells it from those of other protocols.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum PaxosMessage {
    /// A client's request, which the sender has found authentic, passed on to the leader.
    Forward(Request) = 64,
    /// Phase 2a.
    Accept(Proposal),
    /// Phase 2a, with requests by name.
    ShortAccept(ShortProposal),
    /// Asks the leader for its proposal as a whole: the sender lacks a request that it names.
    FetchProposal {
        /// The view it was proposed in.
        view: View,
        /// The number it was proposed for.
        seq: Seq,
    },
    /// Phase 2b.
    Accepted(Vote),
    /// The sender has made this checkpoint. It is signed where its instance ends there.
    Checkpoint(Checkpoint),
    /// Phase 1b.
    Promise(Promise),
    /// A view starts, from its leader or passed on.
    StartView(StartView),
    /// This checkpoint is stable.
    Stable(Checkpoint),
    /// Where the sender stands.
    Status(Status),
    /// This batch is decided: for one that has missed too many votes for it.
    Decided {
        /// The number.
        seq: Seq,
        /// The batch.
        digest: Digest,
    },
    /// Asks for the batch with this digest.
    FetchBatch {
        /// The number it was proposed for.
        seq: Seq,
        /// Its digest.
        digest: Digest,
    },
    /// A batch that was asked for.
    BatchBody {
        /// The number it was proposed for.
        seq: Seq,
        /// The batch.
        batch: Arc<Batch>,
    },
    /// A replica that lost its disk asks where the others stand.
    RecoverQuery {
        /// Binds the answers to this question.
        nonce: u64,
    },
    /// The answer to a [`PaxosMessage::RecoverQuery`].
    RecoverReport {
        /// The question's.
        nonce: u64,
        /// The last checkpoint that the sender has ever made, stable or not.
        last: Seq,
        /// The last stable one.
        stable: Option<Checkpoint>,
    },
    /// A replica waits for the group to get to a number, to vote again: the leader fills up with null
    /// requests.
    FillTo {
        /// The number.
        target: Seq,
    },
}

impl Promise {
    /// The sequence number of the stable checkpoint.
    #[must_use]
    pub fn stable_seq(&self) -> Seq {
        self.stable.map_or(Seq(0), |checkpoint| checkpoint.seq)
    }
}

impl Message for PaxosMessage {
    fn signed_parts(&self) -> Vec<SignedPart> {
        Vec::new()
    }

    /// None: who passes a request on, or proposes it, has found it authentic.
    fn requests_mut(&mut self) -> &mut [Request] {
        &mut []
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Forward(_) => "forward",
            Self::Accept(_) | Self::ShortAccept(_) => "accept",
            Self::FetchProposal { .. } => "fetch-proposal",
            Self::Accepted(_) => "accepted",
            Self::Checkpoint(_) => "checkpoint",
            Self::Promise(_) => "promise",
            Self::StartView(_) => "start-view",
            Self::Stable(_) => "stable-checkpoint",
            Self::Status(_) => "status",
            Self::Decided { .. } => "decided",
            Self::FetchBatch { .. } => "fetch-batch",
            Self::BatchBody { .. } => "batch-body",
            Self::RecoverQuery { .. } => "recover-query",
            Self::RecoverReport { .. } => "recover-report",
            Self::FillTo { .. } => "fill-to",
        }
    }

    /// No replica says both, since here none lies: it shows what happens where one does all the same.
    fn contradiction(&self) -> Option<Self> {
        let Self::Accept(proposal) = self else { return None };
        let mut other = proposal.clone();
        let time = &mut Arc::make_mut(&mut other.batch).time.0;
        *time = time.wrapping_add(1);
        Some(Self::Accept(other))
    }
}
