use crate::frame::ReplyOutcome;
use crate::tally::Tally;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_types::{Digest, ReplicaId};

/// What replicas say that a request gave: some with the whole of it, others with its digest.
#[derive(Debug)]
pub(super) struct Ballot {
    tally: Tally<Digest>,
    /// The last whole outcome that each has given.
    outcomes: BTreeMap<ReplicaId, (Digest, ReplyOutcome)>,
}

/// What a ballot has come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not enough say the same.
    Open,
    /// Enough say the same, and nobody has given the whole of it.
    Withheld,
    /// Enough say the same.
    Decided(ReplyOutcome),
}

impl Ballot {
    pub(super) fn new() -> Self {
        Self { tally: Tally::new(), outcomes: BTreeMap::new() }
    }

    /// Takes down what a replica gives; `enough` have to say the same.
    pub(super) fn give(&mut self, from: ReplicaId, outcome: ReplyOutcome, enough: usize) -> Verdict {
        let digest = outcome.digest();
        self.outcomes.insert(from, (digest, outcome));
        self.vouch(from, digest, enough)
    }

    /// As [`Self::give`], where the replica gives the digest alone.
    pub(super) fn vouch(&mut self, from: ReplicaId, digest: Digest, enough: usize) -> Verdict {
        if self.tally.vote(from, digest) < enough {
            return Verdict::Open;
        }
        let whole = self.outcomes.values().find(|(given, _)| *given == digest);
        whole.map_or(Verdict::Withheld, |(_, outcome)| Verdict::Decided(outcome.clone()))
    }

    /// Those who say what most say.
    pub(super) fn majority(&self) -> Vec<ReplicaId> {
        self.tally.majority().collect()
    }

    /// Whether this replica has said anything.
    pub(super) fn has_heard(&self, replica: ReplicaId) -> bool {
        self.tally.has_heard(replica)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(byte: u8) -> ReplyOutcome {
        ReplyOutcome::Result(alloc::vec![byte; 100])
    }

    #[test]
    fn digests_count_and_one_whole_outcome_is_needed() {
        let (mut ballot, r) = (Ballot::new(), ReplicaId);
        let digest = outcome(1).digest();
        assert_eq!(ballot.vouch(r(0), digest, 2), Verdict::Open);
        assert_eq!(ballot.vouch(r(0), digest, 2), Verdict::Open, "the same replica again");
        assert_eq!(ballot.give(r(1), outcome(2), 2), Verdict::Open);
        assert_eq!(ballot.vouch(r(2), digest, 2), Verdict::Withheld);
        assert_eq!(ballot.majority(), [r(0), r(2)]);
        assert_eq!(ballot.give(r(3), outcome(1), 2), Verdict::Decided(outcome(1)));
    }

    #[test]
    fn a_whole_outcome_counts_as_its_digest_does() {
        let (mut ballot, r) = (Ballot::new(), ReplicaId);
        assert_eq!(ballot.give(r(0), outcome(1), 2), Verdict::Open);
        assert_eq!(ballot.vouch(r(1), outcome(1).digest(), 2), Verdict::Decided(outcome(1)));
        assert!(ballot.has_heard(r(1)) && !ballot.has_heard(r(2)));
    }

    #[test]
    fn who_changes_its_word_keeps_one() {
        let (mut ballot, r) = (Ballot::new(), ReplicaId);
        for byte in 0..9 {
            ballot.give(r(0), outcome(byte), 2);
        }
        assert_eq!(ballot.outcomes.len(), 1);
        assert_eq!(ballot.vouch(r(1), outcome(0).digest(), 2), Verdict::Open);
    }
}
