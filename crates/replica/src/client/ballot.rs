use crate::frame::{Execution, ReplyOutcome};
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
struct Word {
    digest: Digest,
    view: View,
    execution: Execution,
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
        execution: (View, Execution),
        outcome: ReplyOutcome,
    ) -> Verdict {
        let digest = outcome.digest();
        self.outcomes.insert(from, (digest, outcome));
        self.vouch(from, execution, digest)
    }

    /// As [`Self::give`], where the replica gives the digest alone.
    pub(super) fn vouch(&mut self, from: ReplicaId, execution: (View, Execution), digest: Digest) -> Verdict {
        let (view, execution) = execution;
        let word = Word { digest, view, execution };
        self.words.insert(from, word);
        if !self.is_final(word) {
            return Verdict::Open;
        }
        let whole = self.outcomes.values().find(|(given, _)| *given == digest);
        whole.map_or(Verdict::Withheld, |(_, outcome)| Verdict::Decided(outcome.clone()))
    }

    /// What a replica has said counts no more. The whole of an outcome is worth what those say who vouch for
    /// its digest.
    pub(super) fn forget(&mut self, replica: ReplicaId) {
        self.words.remove(&replica);
    }

    /// Whether what this word says can't change any more, and every later read sees it.
    ///
    /// What one correct replica has executed for good can't change; for reads without ordering, so many
    /// have to say so that each later reader meets one of them. What an agreement quorum has executed
    /// tentatively in one view can't change either. What others have executed for good *at the same number*
    /// adds to it: who takes it back then answers no read before it has got to that number again.
    fn is_final(&self, word: Word) -> bool {
        let alike = || self.words.values().filter(|other| other.digest == word.digest);
        let for_good = alike().filter(|other| !matches!(other.execution, Execution::Tentative(_)));
        if for_good.count() >= self.enough {
            return true;
        }
        let seq = match word.execution {
            Execution::Tentative(seq) | Execution::Final(seq) => seq,
            Execution::Earlier => return false,
        };
        let at_the_number = alike().filter(|other| other.execution == Execution::Final(seq)).count();
        let in_view = |view| {
            let is_it = |other: &&Word| other.view == view && other.execution == Execution::Tentative(seq);
            alike().filter(is_it).count()
        };
        let most = alike().map(|other| in_view(other.view)).max().unwrap_or(0);
        at_the_number + most >= self.agreement
    }

    /// Those of `asked` who had to answer by now and have not: the first `firmly`, and the others too where
    /// the execution was tentative.
    pub(super) fn silent(&self, asked: &[ReplicaId], firmly: usize) -> Vec<ReplicaId> {
        let is_tentative = self.words.values().any(|word| matches!(word.execution, Execution::Tentative(_)));
        let had_to = if is_tentative { asked.len() } else { firmly };
        asked.iter().take(had_to).filter(|id| !self.words.contains_key(*id)).copied().collect()
    }

    /// Those who say that it gave something else.
    pub(super) fn liars(&self, outcome: &ReplyOutcome) -> Vec<ReplicaId> {
        let digest = outcome.digest();
        self.words.iter().filter(|(_, word)| word.digest != digest).map(|(id, _)| *id).collect()
    }

    /// Whether this replica has said anything.
    pub(super) fn has_heard(&self, replica: ReplicaId) -> bool {
        self.words.contains_key(&replica)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use althing_types::Seq;

    const R: [ReplicaId; 4] = [ReplicaId(0), ReplicaId(1), ReplicaId(2), ReplicaId(3)];

    fn outcome(byte: u8) -> ReplyOutcome {
        ReplyOutcome::Result(alloc::vec![byte; 100])
    }

    fn at(view: u64, execution: Execution) -> (View, Execution) {
        (View(view), execution)
    }

    fn for_good(view: u64) -> (View, Execution) {
        at(view, Execution::Final(Seq(1)))
    }

    fn tentative(view: u64) -> (View, Execution) {
        at(view, Execution::Tentative(Seq(1)))
    }

    fn ballot(enough: usize) -> Ballot {
        Ballot::new(enough, Quorums::byzantine(4, 1).expect("four are enough"))
    }

    #[test]
    fn digests_count_and_one_whole_outcome_is_needed() {
        let mut ballot = ballot(2);
        let digest = outcome(1).digest();
        assert_eq!(ballot.vouch(R[0], for_good(0), digest), Verdict::Open);
        assert_eq!(ballot.vouch(R[0], for_good(0), digest), Verdict::Open, "the same replica again");
        assert_eq!(ballot.give(R[1], for_good(0), outcome(2)), Verdict::Open);
        assert_eq!(ballot.vouch(R[2], for_good(1), digest), Verdict::Withheld);
        assert_eq!(ballot.liars(&outcome(1)), [R[1]]);
        assert_eq!(ballot.give(R[3], for_good(0), outcome(1)), Verdict::Decided(outcome(1)));
    }

    #[test]
    fn who_changes_its_word_keeps_one() {
        let mut ballot = ballot(2);
        for byte in 0..9 {
            ballot.give(R[0], for_good(0), outcome(byte));
        }
        assert_eq!(ballot.outcomes.len(), 1);
        assert_eq!(ballot.vouch(R[1], for_good(0), outcome(0).digest()), Verdict::Open);
    }

    #[test]
    fn what_is_tentative_takes_an_agreement_quorum_in_one_view() {
        let (good, in_0, in_1) = (for_good(2), tentative(0), tentative(1));
        let (later, earlier) = (at(2, Execution::Final(Seq(2))), at(2, Execution::Earlier));
        for (enough, words, is_decided) in [
            (2, alloc::vec![in_1, in_1], false),
            (2, alloc::vec![in_1, in_1, in_1], true),
            (2, alloc::vec![in_1, in_1, in_0], false),
            (2, alloc::vec![in_0, in_1, good], false),
            (2, alloc::vec![in_1, good, in_1], true),
            (2, alloc::vec![in_1, later, in_1], false),
            (2, alloc::vec![in_1, earlier, in_1], false),
            (2, alloc::vec![good, in_0, later], true),
            (2, alloc::vec![earlier, in_0, good], true),
            // With fast reads: who takes it back at one number may answer though it came at another.
            (3, alloc::vec![later, in_0, later], false),
            (3, alloc::vec![earlier, in_0, good], false),
            (3, alloc::vec![good, in_1, good], true),
            (3, alloc::vec![good, in_0, later, earlier], true),
        ] {
            let mut ballot = ballot(enough);
            let mut last = Verdict::Open;
            for (from, execution) in R.into_iter().zip(&words) {
                last = ballot.give(from, *execution, outcome(1));
            }
            assert_eq!(last != Verdict::Open, is_decided, "{enough}: {words:?}");
        }
    }

    #[test]
    fn who_had_to_answer_and_has_not_is_silent() {
        let mut ballot = ballot(2);
        ballot.give(R[1], for_good(0), outcome(1));
        assert_eq!(ballot.silent(&R[..3], 2), [R[0]], "the third had to say nothing");
        ballot.give(R[1], tentative(0), outcome(1));
        assert_eq!(ballot.silent(&R[..3], 2), [R[0], R[2]]);
        assert!(ballot.has_heard(R[1]) && !ballot.has_heard(R[2]));
    }
}
