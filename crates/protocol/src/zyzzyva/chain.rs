//! Chain: requests go from the head, which is the primary, from replica to replica, and the last f + 1 tell clients
//! (Aublin et al. §4.3, after van Renesse and Schneider, OSDI'04).
//!
//! A replica accepts what its predecessor passes on once the f before that say that they have accepted the same, on
//! their disks: of f + 1 predecessors one is correct, and so, up the chain, all correct ones before have accepted it.
//! What the last f + 1 tell a client alike all correct replicas have accepted, since one of those is correct, and so
//! it is decided as in [`super::choice`]: *by all*. That is told only of what was ordered in the view. What the view
//! started with is not: not all need have entered it yet.
//!
//! Deviation: an acceptance goes to the f successors after the next in a message of its own, in place of a MAC that
//! those between pass on; and each of the last f + 1 tells the client itself.

use super::mode::{Mode, at_place, place};
use super::{Step, Zyzzyva};
use crate::zyzzyva::message::{OrderRequest, ZyzzyvaMessage};
use crate::{Batch, Misbehaviour, Share, Speculation};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{Digest, ReplicaId, Seq};
use borsh::{BorshDeserialize, BorshSerialize};

/// How many numbers one status brings at most.
const RESEND_BURST: usize = 32;

/// What predecessors have said in this view of numbers that are not accepted here.
#[derive(Debug, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Links {
    /// What the predecessor has passed on, and under which of its keys.
    passed: BTreeMap<Seq, (OrderRequest, (ReplicaId, u64))>,
    /// What those before it have accepted: the history, and their key's number.
    accepted: BTreeMap<Seq, BTreeMap<ReplicaId, (Digest, u64)>>,
}

impl Links {
    pub(super) fn clear(&mut self) {
        self.passed.clear();
        self.accepted.clear();
    }

    /// What is accepted needs no vouching any more.
    fn forget_up_to(&mut self, seq: Seq) {
        self.passed = self.passed.split_off(&seq.next());
        self.accepted = self.accepted.split_off(&seq.next());
    }

    /// What a replica has said under keys that have ended counts no longer.
    pub(super) fn forget(&mut self, replica: ReplicaId, before: u64) {
        self.passed.retain(|_, (_, (from, key))| *from != replica || *key >= before);
        for said in self.accepted.values_mut() {
            said.retain(|from, (_, key)| *from != replica || *key >= before);
        }
    }

    /// What is passed on, and not accepted yet.
    pub(super) fn batches_mut(&mut self) -> impl Iterator<Item = &mut Arc<Batch>> {
        self.passed.values_mut().map(|(order, _)| &mut order.batch)
    }

    pub(super) fn len(&self) -> usize {
        self.passed.len() + self.accepted.values().map(BTreeMap::len).sum::<usize>()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.passed.is_empty() && self.accepted.is_empty()
    }
}

impl Zyzzyva {
    fn my_place(&self) -> usize {
        place(self.quorums(), self.view, self.me())
    }

    pub(super) fn is_tail(&self) -> bool {
        self.my_place() + 1 == self.quorums().n()
    }

    fn at(&self, place: usize) -> ReplicaId {
        at_place(self.quorums(), self.view, place)
    }

    /// What this replica tells clients of what it speculates, where that is not up to them.
    pub(super) fn share(&self) -> Option<Share> {
        let (n, place) = (self.quorums().n(), self.my_place());
        (self.mode() == Mode::Chain).then(|| match n - place {
            1 => Share::Whole,
            from_the_end if from_the_end <= self.quorums().one_correct() => Share::Digest,
            _ => Share::Nothing,
        })
    }

    /// What the predecessor has passed on for the next number, and those before it have accepted, where it stands still
    /// if this replica does not believe it.
    pub(super) fn refused_next(&self) -> Option<&Arc<Batch>> {
        let seq = self.log.last().next();
        let (order, _) = self.links.passed.get(&seq).filter(|_| self.is_checked_here())?;
        let has_said = |from| {
            let said = self.links.accepted.get(&seq).and_then(|said| said.get(&from));
            said.is_some_and(|(history, _)| *history == order.history)
        };
        self.vouchers().all(has_said).then_some(&order.batch)
    }

    /// Whether `seq` may be one of the chain of this view. One that is accepted has to be the same.
    fn is_of_chain(&mut self, step: &mut Step, own: Speculation) -> bool {
        let Speculation { view, seq, history } = own;
        if view != self.view || self.mode() != Mode::Chain || seq > self.high_watermark() {
            return false;
        }
        // Before it has entered the view its log is another one.
        if !self.is_in_view || seq > self.log.last() {
            return true;
        }
        let is_other = self.log.history_at(seq).is_some_and(|known| known != history);
        if seq > self.brought_to().max(self.log.base()) && is_other {
            self.abort(step);
        }
        false
    }

    /// The predecessor passes on what it has accepted.
    pub(super) fn on_passed(&mut self, step: &mut Step, (from, key): (ReplicaId, u64), order: OrderRequest) {
        let OrderRequest { view, seq, history, .. } = order;
        if !self.is_of_chain(step, Speculation { view, seq, history }) {
            return;
        }
        if self.my_place() == 0 || from != self.at(self.my_place() - 1) {
            return self.accuse(step, from, Misbehaviour::InvalidMessage, Vec::new());
        }
        // A larger one would be kept for nothing.
        if !self.is_acceptable(&order.batch) {
            self.accuse(step, from, Misbehaviour::InvalidBatch(view, seq), Vec::new());
            return self.abort(step);
        }
        let known = self.links.passed.get(&seq);
        if known.is_none_or(|(known, _)| known.history == history) {
            self.links.passed.insert(seq, (order, (from, key)));
        }
    }

    /// Somebody before the predecessor has accepted something.
    pub(super) fn on_linked(&mut self, step: &mut Step, (from, key): (ReplicaId, u64), own: Speculation) {
        if self.is_of_chain(step, own) && self.vouchers().any(|before| before == from) {
            let said = self.links.accepted.entry(own.seq).or_default();
            if said.get(&from).is_none_or(|(known, _)| *known == own.history) {
                said.insert(from, (own.history, key));
            }
        }
    }

    /// Those who have to have accepted, beside the predecessor, what this replica accepts.
    fn vouchers(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        let me = self.my_place();
        let first = me.saturating_sub(self.quorums().one_correct());
        (first..me.saturating_sub(1)).map(|place| self.at(place))
    }

    /// Accepts what comes next along the chain, as far as it is here and vouched for.
    pub(super) fn accept_passed(&mut self, step: &mut Step) {
        while self.is_in_view && self.is_voting() && self.mode() == Mode::Chain {
            let seq = self.log.last().next();
            let Some((order, _)) = self.links.passed.get(&seq).filter(|_| seq <= self.accept_to()) else {
                return;
            };
            let batch = Arc::clone(&order.batch);
            let digest = batch.digest();
            if self.log.history_with(digest) != order.history {
                let (predecessor, view) = (self.at(self.my_place() - 1), self.view);
                self.accuse(step, predecessor, Misbehaviour::InvalidBatch(view, seq), Vec::new());
                return self.abort(step);
            }
            let said = self.links.accepted.get(&seq);
            let say = |from: ReplicaId| said.and_then(|said| said.get(&from)).map(|(history, _)| *history);
            let words: Vec<_> = self.vouchers().map(say).collect();
            if words.iter().flatten().any(|history| *history != order.history) {
                return self.abort(step);
            }
            if words.contains(&None) || !self.is_believed_here(step, &batch) {
                return;
            }
            self.links.forget_up_to(seq);
            self.accept(step, batch, digest, None);
        }
    }

    /// Whether this replica checks who has sent what those before it have accepted. Beyond the first f + 1 it takes
    /// their word for it: one of the f + 1 before is correct, and so, up the chain, one has checked it that is (the chain
    /// authenticators of Aublin et al. §4.3, which hold MACs of clients for the first f + 1).
    fn is_checked_here(&self) -> bool {
        self.my_place() < self.quorums().one_correct()
    }

    fn is_believed_here(&self, step: &Step, batch: &Batch) -> bool {
        if self.is_checked_here() { self.is_believed(step, batch) } else { self.is_in_time(step, batch) }
    }

    /// Passes on what is accepted, and on disk, to the next, and says so to the f after that.
    pub(super) fn pass_on(&self, step: &mut Step, seq: Seq) {
        let (me, n) = (self.my_place(), self.quorums().n());
        for place in (me + 1..n).take(self.quorums().one_correct()) {
            self.link(step, place, seq);
        }
    }

    fn link(&self, step: &mut Step, place: usize, seq: Seq) {
        let Some(slot) = self.log.get(seq) else { return };
        let (view, history, batch) = (self.view, slot.history, Arc::clone(&slot.batch));
        step.send(
            self.at(place),
            if place == self.my_place() + 1 {
                ZyzzyvaMessage::Pass(OrderRequest { view, seq, history, batch })
            } else {
                ZyzzyvaMessage::Linked(Speculation { view, seq, history })
            },
        );
    }

    /// Says again what a successor that stands still may have missed.
    pub(super) fn link_again(&self, step: &mut Step, to: ReplicaId, accepted: Seq) {
        let (me, theirs) = (self.my_place(), place(self.quorums(), self.view, to));
        if theirs <= me || theirs > me + self.quorums().one_correct() {
            return;
        }
        let first = accepted.max(self.brought_to());
        let missed = self.log.after(first).map(|(seq, _)| seq).take_while(|seq| *seq <= self.durable);
        for seq in missed.take(RESEND_BURST) {
            self.link(step, theirs, seq);
        }
    }
}
