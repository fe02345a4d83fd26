//! State transfer: bringing a replica to a checkpoint that others have vouched for, from replicas
//! of which any one may lie (TOCS'02 §5.3.2).
//!
//! The receiver knows the digest of the state's root and walks the tree down from there, only where
//! it differs from what it has. Whatever it is sent is checked against the digest above it before it
//! is kept, so a liar can waste one answer and nothing else.
//!
//! It asks all others at once, each for another share of what is missing, one question at a time. Who
//! does not answer in time, does not have the checkpoint, or has served enough for now, is left alone
//! for a while, longer each time, and its share is asked of others; who lies is not asked again. Who is
//! done while others are not is asked for their shares too, so that none can hold up the rest by
//! answering late. So what is under way is bounded by an answer a replica, and the fast ones do most of
//! the work. A newer target keeps all that was fetched and is still part of it, and what is on its way.
//!
//! Difference from the paper: there is no designated replier with the others sending digests, since
//! the digests come from the stable checkpoint's certificate.

mod missing;
mod receiver;
mod source;
mod supplier;

pub(crate) use missing::{Missing, Scope};
pub(crate) use receiver::{Received, Step, Transfer};
pub(crate) use supplier::{Supplier, cut};

use crate::MAX_PAGE_BYTES;
use crate::membership::Link;
use crate::pages::NodeId;
use alloc::vec::Vec;
use althing_crypto::NewKey;
use althing_types::{Digest, Seq};
use borsh::{BorshDeserialize, BorshSerialize};

const MAX_NODES_PER_FETCH: usize = 256;
const MAX_PAGES_PER_FETCH: usize = 256;
/// An answer carries as many of the parts asked for as fit into this: at least one.
const MAX_ANSWER_BYTES: usize = 16 * MAX_PAGE_BYTES;
/// Beside the nodes asked for, an answer carries what lies below them, as far as it fits into this. Each
/// level is else a round trip, and a group that goes on may give a replica that is far away time for
/// fewer of them than there are levels.
const MAX_UNASKED_BYTES: usize = 16 * 1024;
/// The longest message of the engine: an answer full of pages, with their lengths.
pub(crate) const MAX_ENGINE_MESSAGE_BYTES: usize = MAX_ANSWER_BYTES + 8 * MAX_PAGES_PER_FETCH;
/// What the engines of a group say to each other.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum EngineMessage {
    /// Asks for parts of a checkpoint's state.
    Fetch {
        /// The checkpoint.
        seq: Seq,
        /// The digest of its state.
        state: Digest,
        /// Binds the answer to this question.
        ticket: u64,
        /// Which parts.
        want: Want,
    },
    /// The answer.
    Fetched {
        /// The question's.
        ticket: u64,
        /// What was asked for: as many of the parts, from the first, as fit; see [`Parts`].
        parts: Parts,
    },
    /// Asks from which state the epoch started.
    AskStart,
    /// The answer.
    Start {
        /// The checkpoint.
        seq: Seq,
        /// The digest of its state.
        state: Digest,
    },
    /// The receiver speaks in an epoch that has ended: the proof of that, and of who follows. It stands
    /// for itself, whoever says it in whatever epoch.
    Succession(Vec<Link>),
    /// The sender announces a key. Always sealed with a proof.
    NewKey {
        /// The key.
        new_key: NewKey,
        /// What the receiver has announced last, as far as the sender knows: so that it sees whether that
        /// was lost, or has a higher number than what it announces now.
        known: Option<NewKey>,
    },
}

/// Which parts of a state are asked for.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Want {
    /// Interior nodes of the page tree.
    Nodes(Vec<NodeId>),
    /// Pages.
    Pages(Vec<u32>),
}

/// Parts of a state.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Parts {
    /// The children of each node asked for; after those of the last one, of the nodes below, those of
    /// the first one first, level by level.
    Nodes(Vec<Vec<(u8, Digest)>>),
    /// The bytes of each page.
    Pages(Vec<Vec<u8>>),
    /// The replica does not keep that checkpoint, or has served enough for now.
    Unavailable,
}

#[cfg(test)]
mod tests;
