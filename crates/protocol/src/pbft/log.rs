use super::message::{Claim, Vote};
use crate::Batch;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{Digest, Quorums, ReplicaId, Seq, View};
use borsh::{BorshDeserialize, BorshSerialize};

/// The most digests that Q keeps for one sequence number. Only liveness depends on it, and only
/// after that many view changes that each chose another batch for the same number.
const MAX_PRE_PREPARED: usize = 8;

/// A batch that the primary of `view` assigned to a sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct Assignment {
    pub(super) view: View,
    pub(super) digest: Digest,
    /// Whether the requests may be believed: each was authenticated here, or enough others vouch.
    pub(super) is_authentic: bool,
    /// Whether this replica has handed its own vote for it (or, as primary, the proposal) to disk.
    pub(super) is_accepted: bool,
    /// Whether that vote or proposal is on disk, so that it may leave, again and again.
    pub(super) is_durable: bool,
    /// Whether the requests could be believed as soon as the batch was here.
    pub(super) was_authentic: bool,
    /// Whether the primary stands for it: not any more once the key has ended under which it said so.
    pub(super) has_primary: bool,
    /// Whether the primary has signed that, in its new view.
    pub(super) is_signed: bool,
}

impl Assignment {
    /// One that this replica has yet to stand for.
    pub(super) fn new(view: View, digest: Digest, is_authentic: bool) -> Self {
        let was_authentic = is_authentic;
        Self {
            view,
            digest,
            is_authentic,
            is_accepted: false,
            is_durable: false,
            was_authentic,
            has_primary: true,
            is_signed: false,
        }
    }
}

/// What is known about one sequence number.
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Entry {
    /// What the primary of the present view assigned.
    pub(super) assignment: Option<Assignment>,
    /// Batches by digest: those assigned, and those fetched because others agreed on them.
    pub(super) bodies: BTreeMap<Digest, Arc<Batch>>,
    /// The latest prepare of each replica.
    pub(super) prepares: BTreeMap<ReplicaId, (View, Digest)>,
    /// The latest commit of each replica.
    pub(super) commits: BTreeMap<ReplicaId, (View, Digest)>,
    /// The batch that this replica has executed here.
    pub(super) executed: Option<Digest>,
    /// What others say that they have executed here.
    pub(super) decided: BTreeMap<ReplicaId, Digest>,
    /// The batch that prepared here last: this number's element of P.
    pub(super) prepared: Option<(View, Digest)>,
    /// The batches pre-prepared here, each with the last view: this number's elements of Q.
    pub(super) pre_prepared: BTreeMap<Digest, View>,
    /// The oldest key of each replica under which it has said something here, by its number.
    pub(super) said_under: BTreeMap<ReplicaId, u64>,
}

/// How a vote changed a tally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tally {
    /// It counts.
    Counted,
    /// It was known, or a later one of the same replica is.
    Stale,
    /// The same replica voted for another batch in the same view.
    Conflict,
}

impl Entry {
    /// Files a vote. Of each replica only the vote of the latest view is kept: memory is bounded
    /// and votes that arrive before their view starts here are not lost.
    pub(super) fn file(
        votes: &mut BTreeMap<ReplicaId, (View, Digest)>,
        from: ReplicaId,
        vote: &Vote,
    ) -> Tally {
        match votes.get(&from) {
            Some((view, digest)) if *view == vote.view && *digest != vote.digest => Tally::Conflict,
            Some((view, _)) if *view >= vote.view => Tally::Stale,
            _ => {
                votes.insert(from, (vote.view, vote.digest));
                Tally::Counted
            }
        }
    }

    /// How many backups prepared this batch in this view.
    pub(super) fn prepares_for(&self, view: View, digest: Digest) -> usize {
        self.prepares.values().filter(|vote| **vote == (view, digest)).count()
    }

    /// How many stand for an assignment of this number: the backups that prepared it, and the primary.
    pub(super) fn standing_for(&self, assignment: &Assignment) -> usize {
        usize::from(assignment.has_primary) + self.prepares_for(assignment.view, assignment.digest)
    }

    /// Whether the assignment has prepared: the primary and enough backups stand for it (PBFT §4.2).
    pub(super) fn has_prepared(&self, quorums: Quorums) -> Option<Assignment> {
        let assignment = self.assignment.filter(|a| a.is_accepted)?;
        (self.standing_for(&assignment) >= quorums.agreement()).then_some(assignment)
    }

    /// What a replica said here counts no longer, but where it is part of what is complete.
    pub(super) fn forget(&mut self, quorums: Quorums, replica: ReplicaId) {
        if self.committed(quorums).is_none() {
            self.commits.remove(&replica);
        }
        if self.executed_by_others(quorums).is_none() {
            self.decided.remove(&replica);
        }
        self.prepares.remove(&replica);
        if let Some(assignment) = &mut self.assignment
            && !assignment.is_signed
            && quorums.primary(assignment.view) == replica
        {
            assignment.has_primary = false;
        }
        self.said_under.remove(&replica);
    }

    /// The batch that an agreement quorum has committed in one view, whatever this replica itself
    /// has seen of it (PBFT §4.2, committed-local).
    pub(super) fn committed(&self, quorums: Quorums) -> Option<(View, Digest)> {
        self.commits
            .values()
            .copied()
            .find(|vote| self.commits.values().filter(|other| *other == vote).count() >= quorums.agreement())
    }

    /// The same, without what `me` says.
    pub(super) fn committed_without(&self, quorums: Quorums, me: ReplicaId) -> Option<(View, Digest)> {
        let others = || self.commits.iter().filter(|(from, _)| **from != me).map(|(_, vote)| *vote);
        others().find(|vote| others().filter(|other| other == vote).count() >= quorums.agreement())
    }

    /// The batch that f + 1 replicas have executed: one of them is correct.
    pub(super) fn executed_by_others(&self, quorums: Quorums) -> Option<Digest> {
        self.decided.values().copied().find(|digest| {
            self.decided.values().filter(|other| *other == digest).count() >= quorums.one_correct()
        })
    }

    /// What was executed here, with its batch where no element of Q holds that.
    pub(super) fn executed(&self) -> Option<(Digest, Option<Arc<Batch>>)> {
        let digest = self.executed?;
        let is_held = self.pre_prepared.contains_key(&digest);
        Some((digest, self.bodies.get(&digest).filter(|_| !is_held).cloned()))
    }

    /// Notes that the batch was pre-prepared in `view`.
    pub(super) fn note_pre_prepared(&mut self, view: View, digest: Digest) {
        self.pre_prepared.insert(digest, view);
        if self.pre_prepared.len() > MAX_PRE_PREPARED {
            let keep = self.prepared.map(|(_, digest)| digest);
            let oldest = self
                .pre_prepared
                .iter()
                .filter(|(digest, _)| Some(**digest) != keep)
                .min_by_key(|(_, view)| **view)
                .map(|(digest, _)| *digest);
            if let Some(digest) = oldest {
                self.pre_prepared.remove(&digest);
                if self.executed != Some(digest) {
                    self.bodies.remove(&digest);
                }
            }
        }
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

    /// The entries above a number.
    pub(super) fn above(&self, seq: Seq) -> impl Iterator<Item = &Entry> {
        self.0.range(seq.next()..).map(|(_, entry)| entry)
    }

    pub(super) fn last_seq(&self) -> Option<Seq> {
        self.0.keys().next_back().copied()
    }

    /// Forgets everything up to `stable`.
    pub(super) fn truncate(&mut self, stable: Seq) {
        self.0 = self.0.split_off(&stable.next());
    }

    /// A new view starts: forgets what the primaries of earlier ones assigned, and the batches that
    /// nothing refers to any more.
    pub(super) fn start_view(&mut self) {
        for entry in self.0.values_mut() {
            entry.assignment = None;
            let Entry { bodies, pre_prepared, commits, executed, .. } = entry;
            bodies.retain(|digest, _| {
                pre_prepared.contains_key(digest)
                    || *executed == Some(*digest)
                    || commits.values().any(|(_, committed)| committed == digest)
            });
        }
    }

    /// The state comes from elsewhere: forgets what this replica executed.
    pub(super) fn forget_executed(&mut self) {
        for entry in self.0.values_mut() {
            entry.executed = None;
        }
    }

    /// P, for a view change.
    pub(super) fn prepared(&self) -> Vec<Claim> {
        let claim = |(seq, entry): (Seq, &Entry)| {
            let (view, digest) = entry.prepared?;
            Some(Claim { seq, digest, view })
        };
        self.iter().filter_map(claim).collect()
    }

    /// Q, for a view change.
    pub(super) fn pre_prepared(&self) -> Vec<Claim> {
        let claims = |(seq, entry): (Seq, &Entry)| {
            let claim = move |(digest, view): (&Digest, &View)| Claim { seq, digest: *digest, view: *view };
            entry.pre_prepared.iter().map(claim).collect::<Vec<_>>()
        };
        self.iter().flat_map(claims).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: u64 = MAX_PRE_PREPARED as u64;

    fn digest(i: u64) -> Digest {
        Digest([u8::try_from(i).unwrap(); 32])
    }

    fn vote(view: u64, i: u64) -> Vote {
        Vote { view: View(view), seq: Seq(1), digest: digest(i) }
    }

    fn filed(votes: &mut BTreeMap<ReplicaId, (View, Digest)>, from: u16, view: u64, i: u64) -> Tally {
        Entry::file(votes, ReplicaId(from), &vote(view, i))
    }

    #[test]
    fn of_each_replica_the_latest_vote_counts() {
        let mut votes = BTreeMap::new();
        let cases = [
            (1, 1, Tally::Counted),
            (1, 1, Tally::Stale),
            (1, 2, Tally::Conflict),
            (0, 2, Tally::Stale),
            (3, 2, Tally::Counted),
            (1, 1, Tally::Stale),
        ];
        for (view, i, tally) in cases {
            assert_eq!(filed(&mut votes, 1, view, i), tally, "digest {i} in view {view}");
        }
        assert_eq!(votes.into_iter().collect::<Vec<_>>(), [(ReplicaId(1), (View(3), digest(2)))]);
    }

    #[test]
    fn commits_of_one_view_for_one_batch_make_a_quorum() {
        let quorums = Quorums::byzantine(4, 1).unwrap();
        let mut entry = Entry::default();
        for (from, view, i) in [(0, 1, 1), (1, 1, 1), (2, 2, 1), (3, 1, 2)] {
            filed(&mut entry.commits, from, view, i);
            assert_eq!(entry.committed(quorums), None);
        }
        filed(&mut entry.commits, 3, 2, 1);
        filed(&mut entry.commits, 1, 2, 1);
        assert_eq!(entry.committed(quorums), Some((View(2), digest(1))));
    }

    #[test]
    fn what_one_correct_replica_executed_takes_f_plus_1_claims_of_one_batch() {
        let quorums = Quorums::byzantine(4, 1).unwrap();
        let mut entry = Entry::default();
        for (from, i, decided) in [(0, 1, None), (1, 2, None), (2, 2, Some(digest(2)))] {
            entry.decided.insert(ReplicaId(from), digest(i));
            assert_eq!(entry.executed_by_others(quorums), decided);
        }
    }

    #[test]
    fn q_is_bounded_and_keeps_what_prepared() {
        let mut entry = Entry { prepared: Some((View(0), digest(0))), ..Entry::default() };
        for i in 0..=MANY {
            entry.bodies.insert(digest(i), Arc::new(Batch::null()));
            entry.note_pre_prepared(View(i), digest(i));
        }
        // The oldest that did not prepare went, with its body.
        let kept: Vec<_> = (0..=MANY).filter(|i| *i != 1).map(digest).collect();
        assert_eq!(entry.pre_prepared.keys().copied().collect::<Vec<_>>(), kept);
        assert_eq!(entry.bodies.keys().copied().collect::<Vec<_>>(), kept);
    }

    #[test]
    fn a_new_view_keeps_the_batches_that_something_refers_to() {
        let mut log = Log::default();
        let entry = log.entry(Seq(1));
        for i in 1..=3 {
            entry.bodies.insert(digest(i), Arc::new(Batch::null()));
        }
        entry.note_pre_prepared(View(0), digest(1));
        filed(&mut entry.commits, 3, 0, 2);
        let (view, digest_3) = (View(0), digest(3));
        let assignment = Assignment::new(view, digest_3, true);
        entry.assignment = Some(assignment);
        log.start_view();
        let entry = log.entry(Seq(1));
        assert_eq!(entry.assignment, None);
        assert_eq!(entry.bodies.keys().copied().collect::<Vec<_>>(), [digest(1), digest(2)]);
    }
}
