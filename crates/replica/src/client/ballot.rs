use crate::frame::{Execution, Given, ReplyOutcome};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use althing_crypto::Proof;
use althing_protocol::zyzzyva::Composition;
use althing_protocol::{CommitCertificate, Speculation};
use althing_types::{Digest, Quorums, ReplicaId, View};

/// What replicas say that a request gave: some with the whole of it, others with its digest; some for
/// good, others tentatively, or before they have heard each other.
#[derive(Debug)]
pub(super) struct Ballot {
    /// How many have to say the same for good.
    enough: usize,
    quorums: Quorums,
    /// What decides how many have to speculate alike.
    composition: Composition,
    /// Each replica's last word.
    words: BTreeMap<ReplicaId, Word>,
    /// The last whole outcome that each has given.
    outcomes: BTreeMap<ReplicaId, (Digest, ReplyOutcome)>,
    /// What the replicas were shown a certificate of, and what the request gave there.
    shown: Option<(Speculation, Digest)>,
    /// Who keeps it.
    keepers: BTreeSet<ReplicaId>,
    /// Who has signed something else than what it said: what it speculates counts no more.
    forgers: BTreeSet<ReplicaId>,
}

/// What a replica says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    digest: Digest,
    of: Said,
}

/// Of what a replica says it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Executed(View, Execution),
    /// With a proof, where the client has asked for one.
    Speculated(Speculation, Option<Proof>),
}

impl Word {
    fn is_for_good(&self) -> bool {
        matches!(self.of, Said::Executed(_, Execution::Final(_) | Execution::Earlier))
    }
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
    pub(super) fn new(enough: usize, quorums: Quorums, composition: Composition) -> Self {
        let (words, outcomes) = (BTreeMap::new(), BTreeMap::new());
        Self {
            enough,
            quorums,
            composition,
            words,
            outcomes,
            shown: None,
            keepers: BTreeSet::new(),
            forgers: BTreeSet::new(),
        }
    }

    /// Takes down what a replica says that it has executed.
    pub(super) fn say(&mut self, from: ReplicaId, execution: (View, Execution), given: Given) -> Verdict {
        let digest = self.take(from, given);
        let (view, execution) = execution;
        let is_final = self.insert(from, Word { digest, of: Said::Executed(view, execution) });
        self.verdict(digest, is_final)
    }

    /// Takes down what a replica says that it has executed before it heard the others.
    pub(super) fn speculate(
        &mut self,
        from: ReplicaId,
        (speculation, proof): (Speculation, Option<Proof>),
        given: Given,
    ) -> Verdict {
        if self.forgers.contains(&from) {
            return Verdict::Open;
        }
        let digest = self.take(from, given);
        let proof = proof.or_else(|| self.proof_of(from, digest, speculation));
        let is_final = self.insert(from, Word { digest, of: Said::Speculated(speculation, proof) });
        self.verdict(digest, is_final)
    }

    /// Takes down that a replica keeps the certificate that it was shown.
    pub(super) fn keep(&mut self, from: ReplicaId, speculation: Speculation) -> Verdict {
        let Some((_, digest)) = self.shown.filter(|(shown, _)| *shown == speculation) else {
            return Verdict::Open;
        };
        self.keepers.insert(from);
        self.verdict(digest, self.is_kept(digest))
    }

    /// Whether so many keep the certificate, or have executed for good what it is of, that it outlives the view. At
    /// which number does not matter, for reads either: who keeps it, or has made it final, has vouched for that
    /// number, and answers no read before it is final there.
    fn is_kept(&self, digest: Digest) -> bool {
        let is_shown = self.shown.is_some_and(|(_, shown)| shown == digest);
        let is_for_good = |(id, word): &(&ReplicaId, &Word)| {
            word.digest == digest && word.is_for_good() && !self.keepers.contains(*id)
        };
        let for_good = self.words.iter().filter(is_for_good).count();
        is_shown && self.keepers.len() + for_good >= self.quorums.agreement()
    }

    fn take(&mut self, from: ReplicaId, given: Given) -> Digest {
        match given {
            Given::Digest(digest) => digest,
            Given::Whole(outcome) => {
                let digest = outcome.digest();
                self.outcomes.insert(from, (digest, outcome));
                digest
            }
        }
    }

    /// Takes a word down; says whether what it says can't change any more.
    fn insert(&mut self, from: ReplicaId, word: Word) -> bool {
        self.words.insert(from, word.clone());
        self.is_final(&word)
    }

    fn verdict(&self, digest: Digest, is_final: bool) -> Verdict {
        if !is_final {
            return Verdict::Open;
        }
        let whole = self.outcomes.values().find(|(given, _)| *given == digest);
        whole.map_or(Verdict::Withheld, |(_, outcome)| Verdict::Decided(outcome.clone()))
    }

    /// The proof of what a replica has speculated does not hold.
    pub(super) fn distrust(&mut self, replica: ReplicaId) {
        self.forgers.insert(replica);
        self.forget(replica);
    }

    /// What a replica has said counts no more. The whole of an outcome is worth what those say who vouch for
    /// its digest.
    pub(super) fn forget(&mut self, replica: ReplicaId) {
        self.words.remove(&replica);
        self.keepers.remove(&replica);
    }

    /// Whether what this word says can't change any more, and every later read sees it.
    ///
    /// What one correct replica has executed for good can't change; for reads without ordering, so many
    /// have to say so that each later reader meets one of them. What an agreement quorum has executed
    /// tentatively in one view can't change either. What others have executed for good *at the same number*
    /// adds to it: who takes it back then answers no read before it has got to that number again.
    ///
    /// What all have speculated alike in one view can't change: all that are correct bring it into the next. So it
    /// is where some have got it for good meanwhile: either one of those is correct, or all others are. In a chain
    /// those at its end speak for all that are correct.
    fn is_final(&self, word: &Word) -> bool {
        let alike = || self.words.values().filter(|other| other.digest == word.digest);
        if alike().filter(|other| other.is_for_good()).count() >= self.enough || self.is_kept(word.digest) {
            return true;
        }
        let count = |said: &dyn Fn(View, Execution) -> bool| {
            alike().filter(|other| matches!(other.of, Said::Executed(view, how) if said(view, how))).count()
        };
        let at = |seq| count(&|_, execution| execution == Execution::Final(seq));
        let seq = match word.of {
            Said::Speculated(speculation, _) => {
                return self.is_speculated_by_all(word.digest, speculation);
            }
            Said::Executed(_, Execution::Earlier) => return false,
            Said::Executed(_, Execution::Tentative(seq) | Execution::Final(seq)) => seq,
        };
        let at_the_number = at(seq);
        let most_in_one_view = alike()
            .filter_map(|other| match other.of {
                Said::Executed(view, _) => Some(view),
                Said::Speculated(..) => None,
            })
            .map(|view| count(&|other, execution| other == view && execution == Execution::Tentative(seq)))
            .max();
        at_the_number + most_in_one_view.unwrap_or(0) >= self.quorums.agreement()
    }

    /// Whether all that it takes have speculated thus, or have got it for good at that number.
    fn is_speculated_by_all(&self, digest: Digest, speculation: Speculation) -> bool {
        let is_alike = |id| {
            self.words.get(&id).is_some_and(|word| {
                let is_it = match word.of {
                    Said::Speculated(other, _) => other == speculation,
                    Said::Executed(_, execution) => execution == Execution::Final(speculation.seq),
                };
                is_it && word.digest == digest
            })
        };
        let (quorums, view) = (self.quorums, speculation.view);
        quorums.replicas().filter(|id| self.composition.is_decisive(quorums, view, *id)).all(is_alike)
    }

    /// Who has speculated thus, and the proof of it.
    fn speculated(
        &self,
        digest: Digest,
        speculation: Speculation,
    ) -> impl Iterator<Item = (ReplicaId, Option<&Proof>)> {
        self.words.iter().filter_map(move |(id, word)| match &word.of {
            Said::Speculated(other, proof) if (word.digest, *other) == (digest, speculation) => {
                Some((*id, proof.as_ref()))
            }
            _ => None,
        })
    }

    /// The proof that a replica has given of this before.
    fn proof_of(&self, replica: ReplicaId, digest: Digest, speculation: Speculation) -> Option<Proof> {
        match &self.words.get(&replica)?.of {
            Said::Speculated(said, proof) if *said == speculation => {
                proof.clone().filter(|_| self.words[&replica].digest == digest)
            }
            _ => None,
        }
    }

    /// Whether an agreement quorum has speculated as this replica has.
    pub(super) fn is_agreed_on(&self, by: ReplicaId) -> bool {
        self.words.get(&by).is_some_and(|word| match word.of {
            Said::Speculated(speculation, _) => {
                self.speculated(word.digest, speculation).count() >= self.quorums.agreement()
            }
            Said::Executed(..) => false,
        })
    }

    /// Whether an agreement quorum has speculated alike.
    pub(super) fn is_agreed(&self) -> bool {
        self.words.keys().any(|id| self.is_agreed_on(*id))
    }

    /// What an agreement quorum has speculated alike and signed, if one has: what the request gave, and what the
    /// certificate is made of. Nobody has checked the proofs.
    pub(super) fn certificate(&self) -> Option<(Digest, CommitCertificate)> {
        self.words.values().find_map(|word| {
            let Said::Speculated(speculation, _) = word.of else { return None };
            let votes: Vec<_> = self
                .speculated(word.digest, speculation)
                .filter_map(|(signer, proof)| Some((signer, proof?.clone())))
                .collect();
            let is_enough = votes.len() >= self.quorums.agreement();
            is_enough.then_some((word.digest, CommitCertificate { speculation, votes }))
        })
    }

    /// Whether somebody has given the whole of this outcome.
    pub(super) fn has_whole(&self, digest: Digest) -> bool {
        self.outcomes.values().any(|(given, _)| *given == digest)
    }

    /// All replicas are shown a certificate of this, where the request gave an outcome of this digest.
    pub(super) fn show(&mut self, speculation: Speculation, digest: Digest) {
        if self.shown != Some((speculation, digest)) {
            self.shown = Some((speculation, digest));
            self.keepers.clear();
        }
    }

    /// Those of `asked` who had to answer by now and have not: the first `firmly`, and the others too where
    /// the execution was tentative or speculative.
    pub(super) fn silent(&self, asked: &[ReplicaId], firmly: usize) -> Vec<ReplicaId> {
        let is_early = |word: &Word| {
            matches!(word.of, Said::Executed(_, Execution::Tentative(_)) | Said::Speculated(..))
        };
        let had_to = if self.words.values().any(is_early) { asked.len() } else { firmly };
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

    impl Ballot {
        fn give(&mut self, from: ReplicaId, execution: (View, Execution), outcome: ReplyOutcome) -> Verdict {
            self.say(from, execution, Given::Whole(outcome))
        }

        fn vouch(&mut self, from: ReplicaId, execution: (View, Execution), digest: Digest) -> Verdict {
            self.say(from, execution, Given::Digest(digest))
        }
    }

    fn ballot(enough: usize) -> Ballot {
        Ballot::new(enough, Quorums::byzantine(4, 1).expect("four are enough"), Composition::Zyzzyva)
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

    fn speculation(view: u64, history: u8) -> Speculation {
        Speculation { view: View(view), seq: Seq(1), history: Digest([history; 32]) }
    }

    fn speculate(ballot: &mut Ballot, from: ReplicaId, said: Speculation, byte: u8) -> Verdict {
        ballot.speculate(from, (said, Some(Proof(alloc::vec![]))), Given::Whole(outcome(byte)))
    }

    #[test]
    fn what_is_speculated_takes_all_in_one_view_with_one_history() {
        for (last, is_decided) in [
            ((speculation(0, 0), 1), true),
            ((speculation(1, 0), 1), false),
            ((speculation(0, 9), 1), false),
            ((speculation(0, 0), 2), false),
        ] {
            let mut ballot = ballot(2);
            for from in &R[..3] {
                assert_eq!(speculate(&mut ballot, *from, speculation(0, 0), 1), Verdict::Open);
            }
            let verdict = speculate(&mut ballot, R[3], last.0, last.1);
            assert_eq!(verdict != Verdict::Open, is_decided, "{last:?}");
        }
    }

    #[test]
    fn what_is_not_signed_agrees_and_proves_nothing_and_a_proof_once_given_stays() {
        let mut ballot = ballot(2);
        let said = speculation(0, 0);
        let mut say = |from: usize, proof: Option<u8>| {
            let proof = proof.map(|byte| Proof(alloc::vec![byte]));
            let verdict = ballot.speculate(R[from], (said, proof), Given::Whole(outcome(1)));
            (verdict != Verdict::Open, ballot.is_agreed(), ballot.certificate().is_some())
        };
        assert_eq!(say(0, None), (false, false, false));
        assert_eq!(say(1, Some(1)), (false, false, false));
        assert_eq!(say(2, None), (false, true, false));
        assert_eq!(say(1, None), (false, true, false));
        assert_eq!(say(0, Some(0)), (false, true, false));
        assert_eq!(say(2, Some(2)), (false, true, true));
        assert_eq!(say(3, None), (true, true, true), "all, signed or not");
        let (_, certificate) = ballot.certificate().expect("three have signed");
        assert_eq!(certificate.votes.iter().map(|(signer, _)| *signer).collect::<Vec<_>>(), R[..3]);
    }

    #[test]
    fn in_a_chain_the_last_f_plus_1_speak_for_all() {
        // In view 5 the chain starts at replica 1.
        for (view, decisive) in [(0, [2, 3]), (5, [3, 0])] {
            let four = Quorums::byzantine(4, 1).expect("four are enough");
            let mut ballot = Ballot::new(2, four, Composition::Chain);
            let others = (0..4).filter(|i| !decisive.contains(i));
            for i in others.chain([decisive[0]]) {
                assert_eq!(speculate(&mut ballot, R[i], speculation(view, 0), 1), Verdict::Open, "{i}");
            }
            let last = speculate(&mut ballot, R[decisive[1]], speculation(view, 0), 1);
            assert_eq!(last, Verdict::Decided(outcome(1)));
        }
    }

    #[test]
    fn an_agreement_quorum_that_keeps_the_certificate_decides() {
        let mut ballot = ballot(2);
        let (said, other) = (speculation(0, 0), speculation(0, 9));
        speculate(&mut ballot, R[0], other, 1);
        speculate(&mut ballot, R[1], said, 1);
        speculate(&mut ballot, R[2], said, 1);
        assert_eq!(ballot.certificate(), None, "two are too few");
        assert_eq!(ballot.keep(R[0], said), Verdict::Open, "nobody was shown one");
        speculate(&mut ballot, R[3], said, 1);
        let (digest, certificate) = ballot.certificate().expect("three are enough");
        assert_eq!((digest, certificate.speculation), (outcome(1).digest(), said));
        assert!(certificate.is_complete(Quorums::byzantine(4, 1).unwrap()));
        ballot.show(said, digest);
        for (from, kept, verdict) in [
            (R[0], said, Verdict::Open),
            (R[0], said, Verdict::Open),
            (R[1], other, Verdict::Open),
            (R[2], said, Verdict::Open),
            (R[3], said, Verdict::Decided(outcome(1))),
        ] {
            assert_eq!(ballot.keep(from, kept), verdict, "{from}");
        }
    }

    #[test]
    fn what_others_have_for_good_at_the_number_adds_to_what_is_speculated() {
        let elsewhere = at(0, Execution::Final(Seq(2)));
        for (executed, is_decided) in [(for_good(0), true), (elsewhere, false), (tentative(0), false)] {
            let mut ballot = ballot(2);
            assert_eq!(ballot.give(R[0], executed, outcome(1)), Verdict::Open);
            for from in &R[1..3] {
                assert_eq!(speculate(&mut ballot, *from, speculation(0, 0), 1), Verdict::Open);
            }
            let last = speculate(&mut ballot, R[3], speculation(0, 0), 1);
            assert_eq!(last != Verdict::Open, is_decided, "{executed:?}");
            let (digest, certificate) = ballot.certificate().expect("three say the same");
            ballot.show(certificate.speculation, digest);
            ballot.keep(R[1], certificate.speculation);
            let kept = ballot.keep(R[2], certificate.speculation);
            assert_eq!(kept != Verdict::Open, executed != tentative(0), "{executed:?}");
        }
    }
}
