use super::message::Vote;
use crate::Batch;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{Digest, Quorums, ReplicaId, Seq, View};
use borsh::{BorshDeserialize, BorshSerialize};

/// A batch that this replica has accepted at a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct Accepted {
    pub(super) view: View,
    pub(super) digest: Digest,
    /// Whether that is on disk, so that it may be said, again and again.
    pub(super) is_durable: bool,
}

/// What is known about one sequence number.
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Entry {
    /// What the leader of the present view proposes.
    pub(super) proposal: Option<Digest>,
    /// What this replica has accepted here last.
    pub(super) accepted: Option<Accepted>,
    /// Batches by digest.
    pub(super) batches: BTreeMap<Digest, Arc<Batch>>,
    /// The latest vote of each replica, its own among them once that is on disk.
    pub(super) votes: BTreeMap<ReplicaId, (View, Digest)>,
    /// What is decided here, as far as this replica knows.
    pub(super) decided: Option<(View, Digest)>,
}

impl Entry {
    /// Files a vote. Of each replica only the vote of the latest view is kept, so that memory is bounded.
    pub(super) fn file(&mut self, from: ReplicaId, vote: &Vote) {
        let known = self.votes.get(&from);
        if known.is_none_or(|(view, _)| *view < vote.view) {
            self.votes.insert(from, (vote.view, vote.digest));
        }
    }

    /// The batch that an agreement quorum has accepted in one view.
    pub(super) fn chosen(&self, quorums: Quorums) -> Option<(View, Digest)> {
        self.chosen_by(quorums, |_| true)
    }

    /// The same, as far as it takes only the votes of those who are `counted`.
    pub(super) fn chosen_by(
        &self,
        quorums: Quorums,
        counted: impl Fn(ReplicaId) -> bool,
    ) -> Option<(View, Digest)> {
        let votes = || self.votes.iter().filter(|(from, _)| counted(**from)).map(|(_, vote)| *vote);
        votes().find(|vote| votes().filter(|other| other == vote).count() >= quorums.agreement())
    }

    /// The batch of this digest, if it is here.
    pub(super) fn batch(&self, digest: Digest) -> Option<Arc<Batch>> {
        let null = || (digest == Digest::NULL).then(|| Arc::new(Batch::null()));
        self.batches.get(&digest).cloned().or_else(null)
    }
}

/// The sequence numbers above the stable checkpoint.
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Log(BTreeMap<Seq, Entry>);

impl Log {
    pub(super) fn entry(&mut self, seq: Seq) -> &mut Entry {
        self.0.entry(seq).or_default()
    }

    pub(super) fn get(&self, seq: Seq) -> Option<&Entry> {
        self.0.get(&seq)
    }

    pub(super) fn get_mut(&mut self, seq: Seq) -> Option<&mut Entry> {
        self.0.get_mut(&seq)
    }

    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.0.values_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Seq, &Entry)> {
        self.0.iter().map(|(seq, entry)| (*seq, entry))
    }

    /// The last number at which this replica has accepted something.
    pub(super) fn last_accepted(&self) -> Option<Seq> {
        self.0.iter().rev().find(|(_, entry)| entry.accepted.is_some()).map(|(seq, _)| *seq)
    }

    pub(super) fn last_seq(&self) -> Option<Seq> {
        self.0.keys().next_back().copied()
    }

    /// Forgets everything up to `stable`.
    pub(super) fn truncate(&mut self, stable: Seq) {
        self.0 = self.0.split_off(&stable.next());
    }

    /// A view starts, with these values: forgets what the leaders of earlier ones proposed, and the batches that
    /// nothing refers to any more.
    pub(super) fn start_view(&mut self, values: &[(Seq, Digest)]) {
        for (seq, entry) in &mut self.0 {
            entry.proposal = None;
            let Entry { batches, accepted, votes, decided, .. } = entry;
            batches.retain(|digest, _| {
                values.binary_search(&(*seq, *digest)).is_ok()
                    || accepted.is_some_and(|accepted| accepted.digest == *digest)
                    || decided.is_some_and(|(_, decided)| decided == *digest)
                    || votes.values().any(|(_, voted)| voted == digest)
            });
        }
    }

    /// What this replica has accepted, for a promise.
    pub(super) fn accepted(&self) -> Vec<Vote> {
        let vote = |(seq, entry): (Seq, &Entry)| {
            let Accepted { view, digest, .. } = entry.accepted?;
            Some(Vote { seq, view, digest })
        };
        self.iter().filter_map(vote).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(i: u8) -> Digest {
        Digest([i; 32])
    }

    fn vote(view: u64, i: u8) -> Vote {
        Vote { seq: Seq(1), view: View(view), digest: digest(i) }
    }

    #[test]
    fn a_majority_of_one_view_decides_and_the_latest_vote_of_each_counts() {
        let quorums = Quorums::crash(5, 2).unwrap();
        let mut entry = Entry::default();
        for (from, view, i) in [(0, 1, 1), (1, 1, 1), (2, 2, 1), (3, 2, 1), (0, 1, 1), (0, 0, 1)] {
            entry.file(ReplicaId(from), &vote(view, i));
            assert_eq!(entry.chosen(quorums), None, "after the vote of {from} in {view}");
        }
        entry.file(ReplicaId(0), &vote(2, 1));
        assert_eq!(entry.chosen(quorums), Some((View(2), digest(1))));
        assert_eq!(entry.chosen_by(quorums, |from| from.0 != 0), None);
    }

    #[test]
    fn a_view_keeps_the_batches_that_something_refers_to() {
        let mut log = Log::default();
        let entry = log.entry(Seq(1));
        for i in 1..=5 {
            entry.batches.insert(digest(i), Arc::new(Batch::null()));
        }
        entry.accepted = Some(Accepted { view: View(0), digest: digest(1), is_durable: true });
        entry.file(ReplicaId(2), &vote(0, 2));
        entry.decided = Some((View(0), digest(3)));
        entry.proposal = Some(digest(4));
        log.start_view(&[(Seq(1), digest(5))]);
        let entry = log.entry(Seq(1));
        assert_eq!(entry.proposal, None);
        assert_eq!(entry.batches.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 5].map(digest));
    }
}
