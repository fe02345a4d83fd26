use crate::speculation::SPECULATION_TAG;
use crate::{Batch, CommitCertificate, Message, Request, SignedPart, Speculation};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_crypto::Proof;
use althing_types::{ClientId, Digest, ReplicaId, Seq, View, encode};
use borsh::{BorshDeserialize, BorshSerialize};

/// The primary's assignment of a batch to a sequence number (Zyzzyva §3.1).
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct OrderRequest {
    /// The view it is made in.
    pub view: View,
    /// The number.
    pub seq: Seq,
    /// The digest of all batches up to this one.
    pub history: Digest,
    /// The batch.
    pub batch: Arc<Batch>,
}

/// A replica's statement that what it has executed up to `seq` is final, and what its state then was.
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
    encode(&ZyzzyvaMessage::Checkpoint(Checkpoint { seq, state }))
}

/// Signed checkpoints of an agreement quorum: proof that a checkpoint is stable.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct CheckpointCertificate {
    /// What they agree on.
    pub checkpoint: Checkpoint,
    /// Who signed it, ascending.
    pub votes: Vec<(ReplicaId, Proof)>,
}

/// A replica's wish to move to `view`, with what it has accepted in earlier ones (Zyzzyva §3.3).
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ViewChange {
    /// The view to move to.
    pub view: View,
    /// The last stable checkpoint; `None` stands for the initial state.
    pub stable: Option<CheckpointCertificate>,
    /// Of the certificates that it holds, the one of the latest view, and of that view's the longest.
    pub certificate: Option<CommitCertificate>,
    /// The batches that follow the stable checkpoint, in order and without gaps.
    pub log: Vec<Digest>,
}

/// The new primary's start of a view. What it starts with follows from the view changes inside.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct NewView {
    /// The view that starts.
    pub view: View,
    /// The view changes that it follows from, ascending by signer.
    pub view_changes: Vec<Signed<ViewChange>>,
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

/// Where a replica stands, so that others can see what it misses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Status {
    /// The view it is in or moving to.
    pub view: View,
    /// Whether the view has started for it.
    pub is_in_view: bool,
    /// Whether it votes: one that lost its disk does not.
    pub is_voting: bool,
    /// The last checkpoint that it knows to be stable, and has or goes on from.
    pub stable: Seq,
    /// The last batch it has accepted.
    pub accepted: Seq,
    /// The last batch that is final for it.
    pub executed: Seq,
}

/// What Zyzzyva replicas say to each other.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum ZyzzyvaMessage {
    /// Transferable: what the sender has accepted. The engine signs the same for clients.
    Speculated(Speculation) = SPECULATION_TAG,
    /// A client's request, passed on to the primary.
    Forward(Request),
    /// Transferable where a signature was demanded.
    OrderRequest(OrderRequest),
    /// The primary's signed assignment, passed on to a replica that missed it or was told another.
    RelayOrder(Signed<OrderRequest>),
    /// To the next of the chain: what the sender has accepted, as its view's head has ordered it.
    Pass(OrderRequest),
    /// To those after the next of the chain: what the sender has accepted.
    Linked(Speculation),
    /// Asks for assignments of this view.
    FillHole {
        /// The view they were made in.
        view: View,
        /// The first.
        first: Seq,
        /// The last.
        last: Seq,
    },
    /// The sender holds a certificate for this on its disk, and is in that view.
    Committed(Speculation),
    /// Transferable.
    Checkpoint(Checkpoint),
    /// A stable checkpoint, passed on to a replica that missed it.
    RelayStable(CheckpointCertificate),
    /// Transferable.
    ViewChange(ViewChange),
    /// Transferable.
    NewView(NewView),
    /// A new view, passed on to a replica that missed it.
    RelayNewView {
        /// The new view.
        new_view: Signed<NewView>,
        /// The proof that an agreement quorum has confirmed it, where the sender is in it.
        certificate: Option<CommitCertificate>,
    },
    /// Where the sender stands.
    Status(Status),
    /// Asks for the batch with this digest.
    FetchBatch {
        /// Its number.
        seq: Seq,
        /// Its digest.
        digest: Digest,
    },
    /// A batch that was asked for.
    BatchBody {
        /// Its number.
        seq: Seq,
        /// The batch.
        batch: Arc<Batch>,
    },
    /// The sender has left a view in which requests of these clients, with MACs that were bad for it, held
    /// up the order.
    Caught {
        /// The clients.
        clients: Vec<ClientId>,
    },
    /// What the primary has told the sender, which has no signature of it, passed on to a replica that missed it.
    Hearsay(OrderRequest),
    /// Has the primary sign an assignment of this view.
    Demand {
        /// The view it was made in.
        view: View,
        /// Its number.
        seq: Seq,
    },
    /// Tells the primary that the sender has accepted all up to a number.
    Reached {
        /// The view it was ordered in.
        view: View,
        /// The number.
        seq: Seq,
    },
}

fn votes_as_parts(bytes: &[u8], votes: &[(ReplicaId, Proof)], parts: &mut Vec<SignedPart>) {
    let part = |(signer, proof): &(ReplicaId, Proof)| SignedPart {
        signer: *signer,
        bytes: bytes.to_vec(),
        proof: proof.clone(),
    };
    parts.extend(votes.iter().map(part));
}

impl CheckpointCertificate {
    fn signed_parts(&self, parts: &mut Vec<SignedPart>) {
        let Checkpoint { seq, state } = self.checkpoint;
        votes_as_parts(&checkpoint_statement(seq, state), &self.votes, parts);
    }
}

impl ViewChange {
    /// The number of the stable checkpoint.
    #[must_use]
    pub fn stable_seq(&self) -> Seq {
        self.stable.as_ref().map_or(Seq(0), |certificate| certificate.checkpoint.seq)
    }

    fn signed_parts(&self, parts: &mut Vec<SignedPart>) {
        if let Some(stable) = &self.stable {
            stable.signed_parts(parts);
        }
        if let Some(CommitCertificate { speculation, votes }) = &self.certificate {
            votes_as_parts(&speculation.statement(), votes, parts);
        }
    }
}

impl NewView {
    fn signed_parts(&self, parts: &mut Vec<SignedPart>) {
        for view_change in &self.view_changes {
            parts.push(view_change.as_part(ZyzzyvaMessage::ViewChange));
            view_change.content.signed_parts(parts);
        }
    }
}

impl<T: Clone> Signed<T> {
    fn as_part(&self, wrap: impl FnOnce(T) -> ZyzzyvaMessage) -> SignedPart {
        let bytes = encode(&wrap(self.content.clone()));
        SignedPart { signer: self.signer, bytes, proof: self.proof.clone() }
    }
}

impl Message for ZyzzyvaMessage {
    fn signed_parts(&self) -> Vec<SignedPart> {
        let mut parts = Vec::new();
        match self {
            Self::RelayOrder(signed) => parts.push(signed.as_part(Self::OrderRequest)),
            Self::RelayStable(certificate) => certificate.signed_parts(&mut parts),
            Self::ViewChange(view_change) => view_change.signed_parts(&mut parts),
            Self::NewView(new_view) => new_view.signed_parts(&mut parts),
            Self::RelayNewView { new_view, certificate } => {
                parts.push(new_view.as_part(Self::NewView));
                new_view.content.signed_parts(&mut parts);
                if let Some(CommitCertificate { speculation, votes }) = certificate {
                    votes_as_parts(&speculation.statement(), votes, &mut parts);
                }
            }
            _ => {}
        }
        parts
    }

    fn requests_mut(&mut self) -> &mut [Request] {
        match self {
            Self::Forward(request) => core::slice::from_mut(request),
            Self::OrderRequest(order) | Self::Hearsay(order) | Self::Pass(order) => {
                &mut Arc::make_mut(&mut order.batch).requests
            }
            Self::RelayOrder(signed) => &mut Arc::make_mut(&mut signed.content.batch).requests,
            Self::BatchBody { batch, .. } => &mut Arc::make_mut(batch).requests,
            _ => &mut [],
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Speculated(_) => "speculated",
            Self::Forward(_) => "forward",
            Self::OrderRequest(_) | Self::RelayOrder(_) => "order-request",
            Self::Pass(_) | Self::Linked(_) => "chain-link",
            Self::FillHole { .. } => "fill-hole",
            Self::Committed(_) => "committed",
            Self::Checkpoint(_) => "checkpoint",
            Self::RelayStable(_) => "stable-checkpoint",
            Self::ViewChange(_) => "view-change",
            Self::NewView(_) | Self::RelayNewView { .. } => "new-view",
            Self::Status(_) => "status",
            Self::FetchBatch { .. } => "fetch-batch",
            Self::BatchBody { .. } => "batch-body",
            Self::Caught { .. } => "caught",
            Self::Hearsay(_) => "hearsay",
            Self::Demand { .. } => "demand",
            Self::Reached { .. } => "reached",
        }
    }

    fn contradiction(&self) -> Option<Self> {
        let flip = |digest: Digest| {
            let mut other = digest;
            other.0[0] ^= 0xff;
            other
        };
        let otherwise = |own: &OrderRequest| {
            let mut other = own.clone();
            let time = &mut Arc::make_mut(&mut other.batch).time.0;
            *time = time.wrapping_add(1);
            other.history = flip(other.history);
            other
        };
        let flipped = |own: &Speculation| Speculation { history: flip(own.history), ..*own };
        match self {
            Self::Speculated(own) => Some(Self::Speculated(flipped(own))),
            Self::Committed(own) => Some(Self::Committed(flipped(own))),
            Self::Linked(own) => Some(Self::Linked(flipped(own))),
            Self::Checkpoint(own) => Some(Self::Checkpoint(Checkpoint { state: flip(own.state), ..*own })),
            Self::OrderRequest(own) => Some(Self::OrderRequest(otherwise(own))),
            Self::Hearsay(own) => Some(Self::Hearsay(otherwise(own))),
            Self::Pass(own) => Some(Self::Pass(otherwise(own))),
            Self::ViewChange(own) => {
                let other = ViewChange { certificate: None, log: Vec::new(), ..own.clone() };
                (other != *own).then_some(Self::ViewChange(other))
            }
            Self::NewView(own) => {
                let mut other = own.clone();
                other.view_changes.pop();
                Some(Self::NewView(other))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_signs_for_clients_is_what_replicas_say_to_each_other() {
        let speculation = Speculation { view: View(3), seq: Seq(7), history: Digest([9; 32]) };
        assert_eq!(encode(&ZyzzyvaMessage::Speculated(speculation)), speculation.statement());
        let others = [
            ZyzzyvaMessage::Committed(speculation),
            ZyzzyvaMessage::Checkpoint(Checkpoint { seq: Seq(1), state: Digest::NULL }),
        ];
        for other in others {
            assert!(encode(&other)[0] > SPECULATION_TAG, "{other:?} begins as no other protocol's message");
        }
    }
}
