use super::{MAX_ANSWER_BYTES, MAX_NODES_PER_FETCH, MAX_PAGES_PER_FETCH, MAX_UNASKED_BYTES, Parts, Want};
use crate::checkpoints::Checkpoints;
use crate::pages::{Children, NodeId, PageTree};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_types::{Digest, Instant, ReplicaId, Seq};
use core::time::Duration;

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
        let Some(own) = checkpoints.find_whole(seq, state) else { return Parts::Unavailable };
        let parts = cut(&own.tree, want).unwrap_or(Parts::Unavailable);
        let bytes: usize = match &parts {
            Parts::Nodes(nodes) => nodes.iter().map(node_bytes).sum(),
            Parts::Pages(pages) => pages.iter().map(Vec::len).sum(),
            // Nobody who knows the state's digest asks for what is not part of it, and finding out may
            // have cost as much as any answer.
            Parts::Unavailable => MAX_ANSWER_BYTES,
        };
        let nanos = (bytes as u64).saturating_mul(1_000_000_000) / self.bytes_per_second;
        self.served_until.insert(from, busy_until + Duration::from_nanos(nanos));
        parts
    }
}

/// What is asked for, as far as it fits into an answer; `None` where it is more than one may ask for,
/// or not there.
pub(crate) fn cut(tree: &PageTree, want: &Want) -> Option<Parts> {
    match want {
        Want::Nodes(ids) if ids.len() <= MAX_NODES_PER_FETCH => Some(Parts::Nodes(nodes(tree, ids)?)),
        Want::Pages(indexes) if indexes.len() <= MAX_PAGES_PER_FETCH => {
            Some(Parts::Pages(pages(tree, indexes)?))
        }
        _ => None,
    }
}

/// As many of the pages, from the first, as fit into an answer.
fn pages(tree: &PageTree, wanted: &[u32]) -> Option<Vec<Vec<u8>>> {
    let (mut pages, mut room) = (Vec::new(), MAX_ANSWER_BYTES);
    for index in wanted {
        let page = tree.page(*index)?;
        let Some(left) = room.checked_sub(page.len()) else { break };
        room = left;
        pages.push(page.to_vec());
    }
    Some(pages)
}

/// The children of as many of the nodes, from the first, as fit into an answer, and of some below.
fn nodes(tree: &PageTree, wanted: &[NodeId]) -> Option<Vec<Children>> {
    let (mut nodes, mut room) = (Vec::new(), MAX_ANSWER_BYTES);
    let mut order = wanted.to_vec();
    while let Some(id) = order.get(nodes.len()).copied() {
        if nodes.len() == wanted.len() {
            room = room.min(MAX_UNASKED_BYTES);
        }
        let children = tree.children(id)?;
        let Some(left) = room.checked_sub(node_bytes(&children)) else { break };
        room = left;
        order.extend(id.nodes_below(&children).map(|(below, _)| below));
        nodes.push(children);
    }
    Some(nodes)
}

/// What a node takes in an answer.
pub(super) fn node_bytes(children: &Children) -> usize {
    size_of::<u32>() + children.len() * (1 + size_of::<Digest>())
}
