//! What a replica has accepted since the last stable checkpoint, and the digests that name it.
//!
//! A history is a chain of digests. It begins anew at each stable checkpoint, from the digest of the state
//! there: so whoever has that state can go on, wherever it has it from.

use super::message::{Checkpoint, OrderRequest, Signed};
use crate::Batch;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_crypto::Hasher;
use althing_types::{Digest, Instant, Seq, View};
use borsh::{BorshDeserialize, BorshSerialize};

/// What histories after this checkpoint begin with; `None` stands for the initial state.
#[must_use]
pub(super) fn beginning(checkpoint: Option<Checkpoint>) -> Digest {
    let mut hasher = Hasher::new("althing zyzzyva checkpoint");
    hasher.value(&checkpoint);
    hasher.finish()
}

/// h<sub>n</sub> = H(h<sub>n−1</sub>, d<sub>n</sub>) (Zyzzyva §3.1).
#[must_use]
pub(super) fn extended(history: Digest, batch: Digest) -> Digest {
    let mut hasher = Hasher::new("althing zyzzyva history");
    hasher.bytes(&history.0);
    hasher.bytes(&batch.0);
    hasher.finish()
}

/// A batch that this replica has accepted.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
pub(super) struct Slot {
    /// The view in which it was ordered, or brought into by a new view.
    pub(super) view: View,
    pub(super) digest: Digest,
    /// The digest of all batches up to this one.
    pub(super) history: Digest,
    pub(super) batch: Arc<Batch>,
    /// When this replica accepted it, since it started last.
    pub(super) accepted_at: Instant,
    /// The primary's signed assignment, where it has signed one and it is known.
    pub(super) order: Option<Signed<OrderRequest>>,
}

impl Slot {
    /// The primary's assignment at this number, where it was ordered in the slot's view.
    pub(super) fn order_request(&self, seq: Seq) -> OrderRequest {
        OrderRequest { view: self.view, seq, history: self.history, batch: Arc::clone(&self.batch) }
    }
}

/// The batches that were accepted, without gaps.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
pub(super) struct Log {
    /// The last stable checkpoint, and what histories begin with there.
    base: (Seq, Digest),
    /// Those after it, and those before whose state is not on disk yet.
    slots: BTreeMap<Seq, Slot>,
}

impl Default for Log {
    fn default() -> Self {
        Self { base: (Seq(0), beginning(None)), slots: BTreeMap::new() }
    }
}

impl Log {
    /// The last stable checkpoint.
    pub(super) fn base(&self) -> Seq {
        self.base.0
    }

    /// The last batch.
    pub(super) fn last(&self) -> Seq {
        let last = self.slots.last_key_value().map_or(Seq(0), |(seq, _)| *seq);
        last.max(self.base.0)
    }

    pub(super) fn get(&self, seq: Seq) -> Option<&Slot> {
        self.slots.get(&seq)
    }

    pub(super) fn get_mut(&mut self, seq: Seq) -> Option<&mut Slot> {
        self.slots.get_mut(&seq)
    }

    /// The history up to a number after the base, or at it.
    pub(super) fn history_at(&self, seq: Seq) -> Option<Digest> {
        if seq == self.base.0 {
            return Some(self.base.1);
        }
        self.slots.get(&seq).filter(|_| seq > self.base.0).map(|slot| slot.history)
    }

    /// The history up to the last batch.
    pub(super) fn history(&self) -> Digest {
        self.history_at(self.last()).expect("the last batch is the base or has a slot")
    }

    /// What the history would be with one more batch.
    pub(super) fn history_with(&self, batch: Digest) -> Digest {
        extended(self.history(), batch)
    }

    /// Adds a batch after the last one.
    pub(super) fn push(
        &mut self,
        view: View,
        digest: Digest,
        batch: Arc<Batch>,
        order: Option<Signed<OrderRequest>>,
    ) -> Seq {
        let (seq, history) = (self.last().next(), self.history_with(digest));
        let accepted_at = Instant::default();
        self.slots.insert(seq, Slot { view, digest, history, batch, accepted_at, order });
        seq
    }

    /// The last batch is that of a checkpoint which is stable: the history begins anew.
    pub(super) fn begin_anew_at(&mut self, checkpoint: Checkpoint) {
        assert!(checkpoint.seq >= self.last(), "nothing is accepted beyond a checkpoint before it is stable");
        self.base = (checkpoint.seq, beginning(Some(checkpoint)));
    }

    /// Goes on from a checkpoint whose state comes from elsewhere.
    pub(super) fn jump_to(&mut self, checkpoint: Checkpoint) {
        self.slots.clear();
        self.base = (checkpoint.seq, beginning(Some(checkpoint)));
    }

    /// Forgets what comes after the base.
    pub(super) fn drop_after_base(&mut self) {
        self.slots.split_off(&self.base.0.next());
    }

    /// Forgets everything up to `stable`, whose state is on disk.
    pub(super) fn truncate(&mut self, stable: Seq) {
        self.slots = self.slots.split_off(&stable.next());
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Seq, &Slot)> {
        self.slots.iter().map(|(seq, slot)| (*seq, slot))
    }

    pub(super) fn slots_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.values_mut()
    }

    /// The batches after a number.
    pub(super) fn after(&self, seq: Seq) -> impl Iterator<Item = (Seq, &Slot)> {
        self.slots.range(seq.next()..).map(|(seq, slot)| (*seq, slot))
    }

    /// The digests of the batches after the base, for a view change.
    pub(super) fn digests(&self) -> Vec<Digest> {
        self.after(self.base.0).map(|(_, slot)| slot.digest).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}
