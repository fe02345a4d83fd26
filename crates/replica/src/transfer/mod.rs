//! State transfer: bringing a replica to a checkpoint that others have vouched for, from replicas
//! of which any one may lie (TOCS'02 §5.3.2).
//!
//! The receiver knows the digest of the state's root and walks the tree down from there, only where
//! it differs from what it has. Whatever it is sent is checked against the digest above it before it
//! is kept, so a liar can waste one answer and nothing else. It asks one replica at a time; who does
//! not answer, does not have the checkpoint, or lies, loses its turn. A newer target keeps all that
//! was fetched and is still part of it.
//!
//! Difference from the paper: there is no designated replier with the others sending digests, since
//! the digests come from the stable checkpoint's certificate.

use crate::MAX_PAGE_BYTES;
use crate::checkpoints::Checkpoints;
use crate::pages::{Children, NodeId, Page, PageTree, node_digest, page_digest};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use althing_types::{Digest, Instant, Quorums, ReplicaId, Seq};
use borsh::{BorshDeserialize, BorshSerialize};
use core::time::Duration;

const MAX_NODES_PER_FETCH: usize = 32;
const MAX_PAGES_PER_FETCH: usize = 256;
/// An answer carries as many of the pages asked for as fit into this, and at least one.
const MAX_ANSWER_BYTES: usize = 16 * MAX_PAGE_BYTES;
/// The longest message of the engine: an answer full of pages, with their lengths.
pub(crate) const MAX_ENGINE_MESSAGE_BYTES: usize = MAX_ANSWER_BYTES + 8 * MAX_PAGES_PER_FETCH;
/// Waiting times double with each fruitless round, this many times at most.
const MAX_DOUBLINGS: u32 = 5;

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
        /// What was asked for: all the nodes, or as many of the pages, from the first, as fit.
        parts: Parts,
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
    /// The children of each node asked for.
    Nodes(Vec<Vec<(u8, Digest)>>),
    /// The bytes of each page.
    Pages(Vec<Vec<u8>>),
    /// The replica does not keep that checkpoint, or has served enough for now.
    Unavailable,
}

/// Answers other replicas' questions from the checkpoints that are kept, at a bounded rate each.
#[derive(Debug)]
pub(crate) struct Supplier {
    bytes_per_second: u64,
    /// When each replica will have been served, at that rate, what it has got.
    served_until: BTreeMap<ReplicaId, Instant>,
}

impl Supplier {
    /// How much of the rate may be used at once.
    const BURST: Duration = Duration::from_secs(1);

    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, served_until: BTreeMap::new() }
    }

    /// The parts of checkpoint `seq` that `from` asked for.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        from: ReplicaId,
        (seq, state): (Seq, Digest),
        want: &Want,
        checkpoints: &Checkpoints,
    ) -> Parts {
        let busy_until = self.served_until.get(&from).copied().unwrap_or_default().max(now);
        if busy_until.since(now) > Self::BURST {
            return Parts::Unavailable;
        }
        let Some(parts) = checkpoints.find(seq, state).and_then(|own| cut(&own.tree, want)) else {
            return Parts::Unavailable;
        };
        let bytes: usize = match &parts {
            Parts::Nodes(nodes) => nodes.iter().map(|children| children.len() * 33).sum(),
            Parts::Pages(pages) => pages.iter().map(Vec::len).sum(),
            Parts::Unavailable => 0,
        };
        let nanos = (bytes as u64).saturating_mul(1_000_000_000) / self.bytes_per_second;
        self.served_until.insert(from, busy_until + Duration::from_nanos(nanos));
        parts
    }
}

/// What is asked for, or `None` where it is more than one may ask for or not there.
fn cut(tree: &PageTree, want: &Want) -> Option<Parts> {
    match want {
        Want::Nodes(ids) if ids.len() <= MAX_NODES_PER_FETCH => {
            Some(Parts::Nodes(ids.iter().map(|id| tree.children(*id)).collect::<Option<_>>()?))
        }
        Want::Pages(indexes) if indexes.len() <= MAX_PAGES_PER_FETCH => {
            let (mut pages, mut room) = (Vec::new(), MAX_ANSWER_BYTES);
            for index in indexes {
                let page = tree.page(*index)?;
                let Some(left) = room.checked_sub(page.len()) else { break };
                room = left;
                pages.push(page.to_vec());
            }
            Some(Parts::Pages(pages))
        }
        _ => None,
    }
}

/// What a transfer does next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Ask `to`, and call [`Transfer::on_timer`] if it has not answered in time.
    Ask { to: ReplicaId, message: EngineMessage, within: Duration },
    /// Nobody can be asked now: call [`Transfer::on_timer`] after this time.
    Pause(Duration),
    /// An answer, or the timer, is still to come.
    Wait,
    /// All is there: the target's state, verified.
    Complete(PageTree),
}

/// What an answer was worth.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// It answers no open question.
    Stale,
    /// It brought the transfer forward.
    Progress,
    /// The replica can't help.
    Unavailable,
    /// It does not match the checkpoint: the replica lies.
    Wrong,
}

#[derive(Debug)]
struct Question {
    to: ReplicaId,
    ticket: u64,
    want: Want,
}

/// A state transfer under way. See the module's description.
#[derive(Debug)]
pub(crate) struct Transfer {
    me: ReplicaId,
    quorums: Quorums,
    timeout: Duration,
    seq: Seq,
    state: Digest,
    /// What this replica had when it started.
    base: PageTree,
    /// Verified, with the digests they were verified against.
    nodes: BTreeMap<NodeId, (Digest, Children)>,
    pages: BTreeMap<u32, (Digest, Page)>,
    wanted_nodes: BTreeMap<NodeId, Digest>,
    wanted_pages: BTreeMap<u32, Digest>,
    source: ReplicaId,
    liars: BTreeSet<ReplicaId>,
    unavailable: BTreeSet<ReplicaId>,
    fruitless_rounds: u32,
    is_paused: bool,
    question: Option<Question>,
    next_ticket: u64,
    fetched_bytes: u64,
}

impl Transfer {
    /// Starts to fetch the state at `seq` with digest `state`, from `base`. `first_ticket` must be
    /// above all tickets used before.
    pub(crate) fn new(
        (me, quorums): (ReplicaId, Quorums),
        timeout: Duration,
        (seq, state): (Seq, Digest),
        mut base: PageTree,
        first_ticket: u64,
    ) -> Self {
        base.refresh();
        let mut transfer = Self {
            me,
            quorums,
            timeout,
            seq,
            state,
            base,
            nodes: BTreeMap::new(),
            pages: BTreeMap::new(),
            wanted_nodes: BTreeMap::new(),
            wanted_pages: BTreeMap::new(),
            source: me,
            liars: BTreeSet::new(),
            unavailable: BTreeSet::new(),
            fruitless_rounds: 0,
            is_paused: false,
            question: None,
            next_ticket: first_ticket,
            fetched_bytes: 0,
        };
        transfer.plan();
        transfer.rotate();
        transfer
    }

    pub(crate) fn target(&self) -> (Seq, Digest) {
        (self.seq, self.state)
    }

    pub(crate) fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes
    }

    pub(crate) fn next_ticket(&self) -> u64 {
        self.next_ticket
    }

    /// Goes for a newer checkpoint instead, keeping what is still part of it.
    pub(crate) fn retarget(&mut self, seq: Seq, state: Digest) {
        (self.seq, self.state) = (seq, state);
        self.unavailable.clear();
        // Whoever has not answered yet may never: where targets come faster than the timeout, it
        // would be asked for ever. And whoever lied was left in its turn if nobody else had any.
        if self.question.take().is_some() || !self.is_usable(self.source) {
            self.rotate();
        }
        self.is_paused = false;
        self.plan();
    }

    /// What to do next, after any event.
    pub(crate) fn step(&mut self) -> Step {
        if self.question.is_some() || self.is_paused {
            return Step::Wait;
        }
        if self.wanted_nodes.is_empty() && self.wanted_pages.is_empty() {
            return Step::Complete(self.assemble());
        }
        let within = self.timeout * (1 << self.fruitless_rounds.min(MAX_DOUBLINGS));
        if !self.is_usable(self.source) {
            self.is_paused = true;
            return Step::Pause(within);
        }
        let (to, ticket, want) = (self.source, self.next_ticket, self.next_want());
        self.next_ticket += 1;
        self.question = Some(Question { to, ticket, want: want.clone() });
        let message = EngineMessage::Fetch { seq: self.seq, state: self.state, ticket, want };
        Step::Ask { to, message, within }
    }

    fn next_want(&self) -> Want {
        if self.wanted_nodes.is_empty() {
            Want::Pages(self.wanted_pages.keys().take(MAX_PAGES_PER_FETCH).copied().collect())
        } else {
            Want::Nodes(self.wanted_nodes.keys().take(MAX_NODES_PER_FETCH).copied().collect())
        }
    }

    /// Takes an answer from `from`.
    pub(crate) fn on_fetched(&mut self, from: ReplicaId, ticket: u64, parts: Parts) -> Received {
        let is_answer = |question: &mut Question| (question.to, question.ticket) == (from, ticket);
        let Some(question) = self.question.take_if(is_answer) else {
            return Received::Stale;
        };
        let is_right = match (question.want, parts) {
            (_, Parts::Unavailable) => {
                self.unavailable.insert(from);
                self.rotate();
                return Received::Unavailable;
            }
            (Want::Nodes(ids), Parts::Nodes(nodes)) => self.take_nodes(&ids, nodes),
            (Want::Pages(indexes), Parts::Pages(pages)) => self.take_pages(&indexes, pages),
            _ => false,
        };
        if is_right {
            self.fruitless_rounds = 0;
            return Received::Progress;
        }
        self.liars.insert(from);
        self.rotate();
        Received::Wrong
    }

    /// The answer did not come in time, or the pause is over.
    pub(crate) fn on_timer(&mut self) {
        if let Some(question) = self.question.take() {
            self.unavailable.insert(question.to);
            self.rotate();
        } else if self.is_paused {
            self.is_paused = false;
            self.fruitless_rounds += 1;
            self.unavailable.clear();
            if self.quorums.replicas().all(|id| !self.is_usable(id)) {
                // More liars than can be: one of them was slandered by our own bad memory.
                self.liars.clear();
            }
            self.rotate();
        }
    }

    /// Keeps the nodes if all are right; nothing of an answer with a wrong one is kept.
    fn take_nodes(&mut self, ids: &[NodeId], nodes: Vec<Children>) -> bool {
        let is_right = |(id, children): (&NodeId, &Children)| {
            self.wanted_nodes.get(id) == Some(&node_digest(*id, children))
        };
        if nodes.len() != ids.len() || !ids.iter().zip(&nodes).all(is_right) {
            return false;
        }
        for (id, children) in ids.iter().zip(nodes) {
            self.fetched_bytes += children.len() as u64 * 33;
            if let Some(digest) = self.wanted_nodes.remove(id) {
                self.nodes.insert(*id, (digest, children));
                self.expand(*id, digest);
            }
        }
        true
    }

    fn take_pages(&mut self, indexes: &[u32], pages: Vec<Vec<u8>>) -> bool {
        let is_right = |(index, bytes): (&u32, &Vec<u8>)| {
            self.wanted_pages.get(index) == Some(&page_digest(*index, bytes))
        };
        if pages.is_empty() || pages.len() > indexes.len() || !indexes.iter().zip(&pages).all(is_right) {
            return false;
        }
        for (index, bytes) in indexes.iter().zip(pages) {
            self.fetched_bytes += bytes.len() as u64;
            if let Some(digest) = self.wanted_pages.remove(index) {
                self.pages.insert(*index, (digest, bytes.into()));
            }
        }
        true
    }

    /// Finds out what is missing of the target.
    fn plan(&mut self) {
        self.wanted_nodes.clear();
        self.wanted_pages.clear();
        self.expand(NodeId::ROOT, self.state);
    }

    /// Finds out what is missing below `id`, which has to have `digest`.
    fn expand(&mut self, id: NodeId, digest: Digest) {
        if self.base.digest(id) == Some(digest) {
            return;
        }
        if id.level == 0 {
            if self.pages.get(&id.index).is_none_or(|(kept, _)| *kept != digest) {
                self.wanted_pages.insert(id.index, digest);
            }
            return;
        }
        match self.nodes.get(&id) {
            Some((kept, children)) if *kept == digest => {
                for (slot, below) in children.clone() {
                    self.expand(id.child(slot), below);
                }
            }
            _ => {
                self.wanted_nodes.insert(id, digest);
            }
        }
    }

    /// The target's state from the base and what was fetched.
    fn assemble(&self) -> PageTree {
        let mut tree = self.base.clone();
        self.apply(NodeId::ROOT, self.state, &mut tree);
        assert_eq!(tree.refresh(), self.state, "each part has the digest that the target asks for");
        tree
    }

    fn apply(&self, id: NodeId, digest: Digest, tree: &mut PageTree) {
        if self.base.digest(id) == Some(digest) {
            return;
        }
        if id.level == 0 {
            tree.set_verified(id.index, self.pages[&id.index].1.clone(), digest);
            return;
        }
        let (_, children) = &self.nodes[&id];
        for (slot, _) in self.base.children(id).unwrap_or_default() {
            if children.binary_search_by_key(&slot, |(s, _)| *s).is_err() {
                tree.remove_all(id.child(slot));
            }
        }
        for (slot, below) in children {
            self.apply(id.child(*slot), *below, tree);
        }
    }

    fn is_usable(&self, id: ReplicaId) -> bool {
        id != self.me && !self.liars.contains(&id) && !self.unavailable.contains(&id)
    }

    /// Turns to the next replica that can be asked; stays where there is none.
    fn rotate(&mut self) {
        let after = self.quorums.replicas().filter(|id| *id > self.source);
        let upto = self.quorums.replicas().filter(|id| *id <= self.source);
        if let Some(next) = after.chain(upto).find(|id| self.is_usable(*id)) {
            self.source = next;
        }
    }
}

#[cfg(test)]
mod tests;
