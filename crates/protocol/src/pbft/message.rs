use crate::separate::ShortProposal;
use crate::{Batch, Message, Request, SignedPart};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_crypto::Proof;
use althing_types::{ClientId, Digest, ReplicaId, Seq, View, encode};
use borsh::{BorshDeserialize, BorshSerialize};

/// The primary's proposal of a batch for a sequence number (PBFT §4.2).
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct PrePrepare {
    /// The view it is proposed in.
    pub view: View,
    /// The number it is proposed for.
    pub seq: Seq,
    /// The batch.
    pub batch: Arc<Batch>,
}

/// A vote for a batch at a sequence number: the content of a prepare or a commit (PBFT §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Vote {
    /// The view it is cast in.
    pub view: View,
    /// The number it is for.
    pub seq: Seq,
    /// The batch it is for.
    pub digest: Digest,
}

/// A replica's statement that it has executed up to `seq` and what its state then was (PBFT §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Checkpoint {
    /// The last sequence number executed.
    pub seq: Seq,
    /// The digest of the state.
    pub state: Digest,
}

/// What a replica signs when it makes a checkpoint, in [`Domain::Protocol`](althing_crypto::Domain).
#[must_use]
pub fn checkpoint_statement(seq: Seq, state: Digest) -> Vec<u8> {
    encode(&PbftMessage::Checkpoint(Checkpoint { seq, state }))
}

/// Signed checkpoints of an agreement quorum: proof that a checkpoint is stable.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct CheckpointCertificate {
    /// What they agree on.
    pub checkpoint: Checkpoint,
    /// Who signed it, ascending.
    pub votes: Vec<(ReplicaId, Proof)>,
}

/// A batch that prepared, or was pre-prepared, at a replica: an element of P or Q (TOCS'02 §4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Claim {
    /// The sequence number.
    pub seq: Seq,
    /// The batch.
    pub digest: Digest,
    /// The last view in which it happened.
    pub view: View,
}

/// A replica's wish to move to `view`, with what it knows of earlier views (TOCS'02 §4.4).
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ViewChange {
    /// The view to move to.
    pub view: View,
    /// When its signer last began anew; 0 if never. A replica that lost its disk does not know what it
    /// signed before, and one that came back to a view alone has taken its view change back.
    pub incarnation: u64,
    /// The last stable checkpoint; `None` stands for the initial state.
    pub stable: Option<CheckpointCertificate>,
    /// P: for each number above the stable checkpoint, the batch that prepared last. Ascending.
    pub prepared: Vec<Claim>,
    /// Q: for each number above the stable checkpoint, each batch pre-prepared there. Ascending.
    pub pre_prepared: Vec<Claim>,
}

/// The new primary's start of a view (TOCS'02 §4.4).
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct NewView {
    /// The view that starts.
    pub view: View,
    /// The view changes that it follows from, ascending by signer.
    pub view_changes: Vec<Signed<ViewChange>>,
    /// What follows: the batch for each number above the highest stable checkpoint among them.
    pub proposals: Vec<(Seq, Digest)>,
}

impl NewView {
    /// The highest stable checkpoint among its view changes.
    pub(super) fn start(&self) -> Seq {
        self.view_changes.iter().map(|signed| signed.content.stable_seq()).max().unwrap_or_default()
    }
}

/// Something that a replica signed.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Signed<T> {
    /// Who signed it.
    pub signer: ReplicaId,
    /// What it says.
    pub content: T,
    /// The signer's proof.
    pub proof: Proof,
}

/// Where a replica stands, so that others can see what it misses (TOCS'02 §5.2).
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
    /// Whether it finds the primary of its view below a floor.
    pub is_suspicious: bool,
}

/// What PBFT replicas say to each other.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum PbftMessage {
    /// A client's request, passed on to the primary.
    Forward(Request),
    /// Phase one.
    PrePrepare(PrePrepare),
    /// Phase one, with requests by name.
    ShortPrePrepare(ShortProposal),
    /// Asks the primary for its proposal as a whole: the sender lacks a request that it names.
    FetchProposal {
        /// The view it was proposed in.
        view: View,
        /// The number it was proposed for.
        seq: Seq,
    },
    /// Phase two.
    Prepare(Vote),
    /// Phase three.
    Commit(Vote),
    /// Transferable.
    Checkpoint(Checkpoint),
    /// Transferable.
    ViewChange(ViewChange),
    /// Transferable.
    NewView(NewView),
    /// A new view, passed on to a replica that missed it.
    RelayNewView(Signed<NewView>),
    /// A stable checkpoint, passed on to a replica that missed it.
    RelayStable(CheckpointCertificate),
    /// Where the sender stands.
    Status(Status),
    /// The sender has executed this batch: for one that has missed too many commits of it.
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
    /// A replica that lost its disk, or doubts what is on it, asks where the others stand.
    RecoverQuery {
        /// Binds the answers to this question.
        nonce: u64,
        /// Whether it votes meanwhile.
        is_voting: bool,
    },
    /// A replica waits for the group to get to a number, to vote again or to come back to a view: the
    /// primary fills up with null requests.
    FillTo {
        /// The number.
        target: Seq,
    },
    /// The answer to a [`PbftMessage::RecoverQuery`].
    RecoverReport {
        /// The question's.
        nonce: u64,
        /// The last checkpoint that the sender has ever made, stable or not.
        last: Seq,
        /// The last stable one.
        stable: Option<CheckpointCertificate>,
    },
    /// The sender has left a view in which requests of these clients, with MACs that were bad for it, held
    /// up the order.
    Caught {
        /// The clients.
        clients: Vec<ClientId>,
    },
    /// To a witness: the sender has made this checkpoint. It says so for as long as its key lasts, and can't be
    /// shown to others.
    Made(Checkpoint),
}

impl CheckpointCertificate {
    fn signed_parts(&self, parts: &mut Vec<SignedPart>) {
        let bytes = checkpoint_statement(self.checkpoint.seq, self.checkpoint.state);
        parts.extend(self.votes.iter().map(|(signer, proof)| SignedPart {
            signer: *signer,
            bytes: bytes.clone(),
            proof: proof.clone(),
        }));
    }
}

impl ViewChange {
    /// The sequence number of the stable checkpoint: h.
    #[must_use]
    pub fn stable_seq(&self) -> Seq {
        self.stable.as_ref().map_or(Seq(0), |certificate| certificate.checkpoint.seq)
    }

    fn signed_parts(&self, parts: &mut Vec<SignedPart>) {
        if let Some(certificate) = &self.stable {
            certificate.signed_parts(parts);
        }
    }
}

impl NewView {
    fn signed_parts(&self, parts: &mut Vec<SignedPart>) {
        for view_change in &self.view_changes {
            parts.push(view_change.as_part(PbftMessage::ViewChange));
            view_change.content.signed_parts(parts);
        }
    }
}

impl<T: Clone> Signed<T> {
    fn as_part(&self, wrap: impl FnOnce(T) -> PbftMessage) -> SignedPart {
        SignedPart {
            signer: self.signer,
            bytes: encode(&wrap(self.content.clone())),
            proof: self.proof.clone(),
        }
    }
}

impl Message for PbftMessage {
    fn signed_parts(&self) -> Vec<SignedPart> {
        let mut parts = Vec::new();
        match self {
            Self::ViewChange(view_change) => view_change.signed_parts(&mut parts),
            Self::NewView(new_view) => new_view.signed_parts(&mut parts),
            Self::RelayNewView(signed) => {
                parts.push(signed.as_part(Self::NewView));
                signed.content.signed_parts(&mut parts);
            }
            Self::RelayStable(certificate) | Self::RecoverReport { stable: Some(certificate), .. } => {
                certificate.signed_parts(&mut parts);
            }
            _ => {}
        }
        parts
    }

    fn requests_mut(&mut self) -> &mut [Request] {
        match self {
            Self::Forward(request) => core::slice::from_mut(request),
            Self::PrePrepare(proposal) => &mut Arc::make_mut(&mut proposal.batch).requests,
            Self::ShortPrePrepare(proposal) => &mut proposal.whole,
            Self::BatchBody { batch, .. } => &mut Arc::make_mut(batch).requests,
            _ => &mut [],
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Forward(_) => "forward",
            Self::PrePrepare(_) | Self::ShortPrePrepare(_) => "pre-prepare",
            Self::FetchProposal { .. } => "fetch-proposal",
            Self::Prepare(_) => "prepare",
            Self::Commit(_) => "commit",
            Self::Checkpoint(_) => "checkpoint",
            Self::ViewChange(_) => "view-change",
            Self::NewView(_) | Self::RelayNewView(_) => "new-view",
            Self::RelayStable(_) => "stable-checkpoint",
            Self::Status(_) => "status",
            Self::Decided { .. } => "decided",
            Self::FetchBatch { .. } => "fetch-batch",
            Self::BatchBody { .. } => "batch-body",
            Self::RecoverQuery { .. } => "recover-query",
            Self::FillTo { .. } => "fill-to",
            Self::RecoverReport { .. } => "recover-report",
            Self::Caught { .. } => "caught",
            Self::Made(_) => "made",
        }
    }

    fn contradiction(&self) -> Option<Self> {
        let flip = |digest: Digest| {
            let mut other = digest;
            other.0[0] ^= 0xff;
            other
        };
        match self {
            Self::PrePrepare(proposal) => {
                let mut other = proposal.clone();
                let time = &mut Arc::make_mut(&mut other.batch).time.0;
                *time = time.wrapping_add(1);
                Some(Self::PrePrepare(other))
            }
            Self::ShortPrePrepare(own) => {
                Some(Self::ShortPrePrepare(ShortProposal { digest: flip(own.digest), ..own.clone() }))
            }
            Self::Prepare(vote) => Some(Self::Prepare(Vote { digest: flip(vote.digest), ..*vote })),
            Self::Commit(vote) => Some(Self::Commit(Vote { digest: flip(vote.digest), ..*vote })),
            Self::Checkpoint(own) => Some(Self::Checkpoint(Checkpoint { state: flip(own.state), ..*own })),
            Self::Made(own) => Some(Self::Made(Checkpoint { state: flip(own.state), ..*own })),
            Self::ViewChange(own) => {
                let other = ViewChange { prepared: Vec::new(), pre_prepared: Vec::new(), ..own.clone() };
                (other != *own).then_some(Self::ViewChange(other))
            }
            Self::NewView(own) => {
                let mut other = own.clone();
                match other.proposals.last_mut() {
                    Some((_, digest)) => *digest = flip(*digest),
                    None => other.proposals.push((Seq(1), Digest::NULL)),
                }
                Some(Self::NewView(other))
            }
            _ => None,
        }
    }
}
