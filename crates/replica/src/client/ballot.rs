use crate::frame::ReplyOutcome;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_types::{Digest, Quorums, ReplicaId, View};

/// What replicas say that a request gave: some with the whole of it, others with its digest; some for
/// good, others tentatively.
#[derive(Debug)]
pub(super) struct Ballot {
    /// How many have to say the same for good.
    enough: usize,
    /// How many have to say the same in one view, tentatively or for good.
    agreement: usize,
    /// Each replica's last word.
    words: BTreeMap<ReplicaId, Word>,
    /// The last whole outcome that each has given.
    outcomes: BTreeMap<ReplicaId, (Digest, ReplyOutcome)>,
}

/// What a replica says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word {
    digest: Digest,
    /// The view in which it executed the request, if it may have to take that back.
    tentative_in: Option<View>,
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
    /// A ballot in which `enough` replicas decide by what they say for good.
    pub(super) fn new(enough: usize, quorums: Quorums) -> Self {
        let (words, outcomes) = (BTreeMap::new(), BTreeMap::new());
        Self { enough, agreement: quorums.agreement(), words, outcomes }
    }

    /// Takes down the outcome that a replica gives.
    pub(super) fn give(
        &mut self,
        from: ReplicaId,
        tentative_in: Option<View>,
        outcome: ReplyOutcome,
    ) -> Verdict {
        let digest = outcome.digest();
        self.outcomes.insert(from, (digest, outcome));
        self.vouch(from, tentative_in, digest)
    }

    /// As [`Self::give`], where the replica gives the digest alone.
    pub(super) fn vouch(&mut self, from: ReplicaId, tentative_in: Option<View>, digest: Digest) -> Verdict {
        let word = Word { digest, tentative_in };
        self.words.insert(from, word);
        if !self.is_final(word) {
            return Verdict::Open;
        }
        let whole = self.outcomes.values().find(|(given, _)| *given == digest);
        whole.map_or(Verdict::Withheld, |(_, outcome)| Verdict::Decided(outcome.clone()))
    }

    /// Whether what this word says can't change any more. What one correct replica has executed for good
    /// can't, nor what an agreement quorum has executed tentatively in the same view.
    fn is_final(&self, word: Word) -> bool {
        let alike = || self.words.values().filter(|other| other.digest == word.digest);
        let for_good = alike().filter(|other| other.tentative_in.is_none()).count();
        let views = alike().filter_map(|other| other.tentative_in);
        let tentatively = |view| alike().filter(|other| other.tentative_in == Some(view)).count();
        let most = views.map(tentatively).max().unwrap_or(0);
        for_good >= self.enough || for_good + most >= self.agreement
    }

    /// Those who say that it gave this.
    pub(super) fn voters(&self, outcome: &ReplyOutcome) -> Vec<ReplicaId> {
        let digest = outcome.digest();
        self.words.iter().filter(|(_, word)| word.digest == digest).map(|(id, _)| *id).collect()
    }

    /// Whether this replica has said anything.
    pub(super) fn has_heard(&self, replica: ReplicaId) -> bool {
        self.words.contains_key(&replica)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const R: [ReplicaId; 4] = [ReplicaId(0), ReplicaId(1), ReplicaId(2), ReplicaId(3)];

    fn outcome(byte: u8) -> ReplyOutcome {
        ReplyOutcome::Result(alloc::vec![byte; 100])
    }

    fn ballot() -> Ballot {
        Ballot::new(2, Quorums::byzantine(4, 1).expect("four are enough"))
    }

    #[test]
    fn digests_count_and_one_whole_outcome_is_needed() {
        let mut ballot = ballot();
        let digest = outcome(1).digest();
        assert_eq!(ballot.vouch(R[0], None, digest), Verdict::Open);
        assert_eq!(ballot.vouch(R[0], None, digest), Verdict::Open, "the same replica again");
        assert_eq!(ballot.give(R[1], None, outcome(2)), Verdict::Open);
        assert_eq!(ballot.vouch(R[2], None, digest), Verdict::Withheld);
        assert_eq!(ballot.voters(&outcome(1)), [R[0], R[2]]);
        assert_eq!(ballot.give(R[3], None, outcome(1)), Verdict::Decided(outcome(1)));
        assert!(ballot.has_heard(R[1]));
    }

    #[test]
    fn who_changes_its_word_keeps_one() {
        let mut ballot = ballot();
        for byte in 0..9 {
            ballot.give(R[0], None, outcome(byte));
        }
        assert_eq!(ballot.outcomes.len(), 1);
        assert_eq!(ballot.vouch(R[1], None, outcome(0).digest()), Verdict::Open);
        assert!(!ballot.has_heard(R[2]));
    }

    #[test]
    fn what_is_tentative_takes_an_agreement_quorum_in_one_view() {
        let (one, two) = (Some(View(1)), Some(View(2)));
        let decided = Verdict::Decided(outcome(1));
        for (words, verdict) in [
            (alloc::vec![one, one], Verdict::Open),
            (alloc::vec![one, one, one], decided),
            (alloc::vec![one, one, two], Verdict::Open),
            (alloc::vec![one, two, None], Verdict::Open),
            (alloc::vec![one, None, one], Verdict::Decided(outcome(1))),
            (alloc::vec![one, two, one, None], Verdict::Decided(outcome(1))),
            (alloc::vec![None, two, None], Verdict::Decided(outcome(1))),
        ] {
            let mut ballot = ballot();
            let mut last = Verdict::Open;
            for (from, tentative_in) in R.into_iter().zip(&words) {
                last = ballot.give(from, *tentative_in, outcome(1));
            }
            assert_eq!(last, verdict, "{words:?}");
        }
    }
}
