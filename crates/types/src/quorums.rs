use crate::{ReplicaId, View};
use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

/// A group size that can't tolerate the faults asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum QuorumsError {
    /// Byzantine agreement needs n ≥ 3f + 1 (PBFT §3).
    #[error("{n} replicas tolerate {} Byzantine fault(s), not {f}; use at least {} replicas", n.saturating_sub(1) / 3, 3 * f + 1)]
    TooFewReplicas {
        /// Replicas given.
        n: usize,
        /// Faults asked for.
        f: usize,
    },
    /// Agreement among replicas that crash needs n ≥ 2f + 1.
    #[error("{n} replicas tolerate {} crash(es), not {f}; use at least {} replicas", n.saturating_sub(1) / 2, 2 * f + 1)]
    TooFewForCrashes {
        /// Replicas given.
        n: usize,
        /// Faults asked for.
        f: usize,
    },
    /// More replicas than a group may have.
    #[error("{n} replicas, but a group has at most {}", Quorums::MAX_REPLICAS)]
    TooManyReplicas {
        /// Replicas given.
        n: usize,
    },
}

/// What a faulty replica may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum FaultModel {
    /// Anything.
    Byzantine,
    /// Stop, be slow, and start again, with its disk or without: nothing that it says is wrong.
    Crash,
}

/// The quorums of a group, each named by what it is for. Built once from the fault model; no other
/// place computes a quorum's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Quorums {
    model: FaultModel,
    n: usize,
    f: usize,
    /// Who leads view 0.
    first: ReplicaId,
}

impl Quorums {
    /// The largest group.
    pub const MAX_REPLICAS: usize = 100;

    /// Quorums for `n` replicas of which `f` may be Byzantine, for any n ≥ 3f + 1.
    ///
    /// # Errors
    /// When `n` is too small for `f`, or above [`Self::MAX_REPLICAS`].
    ///
    /// # Panics
    /// Never: the intersections asserted here follow from n ≥ 3f + 1.
    pub fn byzantine(n: usize, f: usize) -> Result<Self, QuorumsError> {
        if n > Self::MAX_REPLICAS {
            return Err(QuorumsError::TooManyReplicas { n });
        }
        if f > Self::MAX_REPLICAS || n < 3 * f + 1 {
            return Err(QuorumsError::TooFewReplicas { n, f });
        }
        let quorums = Self { model: FaultModel::Byzantine, n, f, first: ReplicaId(0) };
        assert!(2 * quorums.agreement() > n + f, "two agreement quorums share a correct replica");
        assert!(quorums.agreement() <= n - f, "the correct replicas alone form a quorum");
        assert!(quorums.one_correct() > f, "a weak quorum holds a correct replica");
        Ok(quorums)
    }

    /// Quorums for `n` replicas of which `f` may crash, for any n ≥ 2f + 1.
    ///
    /// # Errors
    /// When `n` is too small for `f`, or above [`Self::MAX_REPLICAS`].
    ///
    /// # Panics
    /// Never: the intersections asserted here follow from n ≥ 2f + 1.
    pub fn crash(n: usize, f: usize) -> Result<Self, QuorumsError> {
        if n > Self::MAX_REPLICAS {
            return Err(QuorumsError::TooManyReplicas { n });
        }
        if f > Self::MAX_REPLICAS || n < 2 * f + 1 {
            return Err(QuorumsError::TooFewForCrashes { n, f });
        }
        let quorums = Self { model: FaultModel::Crash, n, f, first: ReplicaId(0) };
        assert!(2 * quorums.agreement() > n, "two agreement quorums share a replica");
        assert!(quorums.agreement() <= n - f, "the replicas that stay up alone form a quorum");
        assert!(quorums.one_correct() == 1, "nobody lies");
        Ok(quorums)
    }

    /// What a faulty replica may do.
    #[must_use]
    pub fn model(self) -> FaultModel {
        self.model
    }

    /// Replicas in the group.
    #[must_use]
    pub fn n(self) -> usize {
        self.n
    }

    /// Faulty replicas tolerated.
    #[must_use]
    pub fn f(self) -> usize {
        self.f
    }

    /// Any two of these share a replica that does not lie: ⌈(n + f + 1) / 2⌉, which is 2f + 1 when
    /// n = 3f + 1; where nobody lies, a majority. Prepared and committed certificates, stable checkpoints and
    /// new views need one.
    #[must_use]
    pub fn agreement(self) -> usize {
        (self.n + self.liars()) / 2 + 1
    }

    /// At least one of these does not lie: f + 1, or 1 where nobody does. Replies, joining a view change,
    /// vouching.
    #[must_use]
    pub fn one_correct(self) -> usize {
        self.liars() + 1
    }

    /// How many may say something that is wrong: f, or none where replicas only crash.
    #[must_use]
    pub fn liars(self) -> usize {
        match self.model {
            FaultModel::Byzantine => self.f,
            FaultModel::Crash => 0,
        }
    }

    /// The most a replica can wait for without depending on a faulty one: n − f.
    #[must_use]
    pub fn available(self) -> usize {
        self.n - self.f
    }

    /// How many may agree without executing, so that 2f + 1 execute: f + 1 of those are correct, and whatever so many
    /// say alike is right.
    #[must_use]
    pub fn most_witnesses(self) -> usize {
        self.n - (2 * self.f + 1)
    }

    /// As many have to have executed an operation for good, where some are witnesses, that whoever
    /// [reads without ordering](Self::read) later meets a correct one of them.
    #[must_use]
    pub fn read_by_later(self, witnesses: usize) -> usize {
        if witnesses == 0 { self.agreement() } else { self.available() - witnesses }
    }

    /// So many of those that execute have a state, at least, that an agreement quorum has signed: witnesses sign what
    /// one correct one and others have said that they have.
    #[must_use]
    pub fn having_stable_state(self, witnesses: usize) -> usize {
        self.agreement().saturating_sub(witnesses).max(self.one_correct())
    }

    /// So many equal answers, where some are witnesses and answer nothing, make a read that is not ordered. They meet
    /// a correct one of those that have executed any operation [that is done](Self::read_by_later), and of those that
    /// have [the last state of their epoch](Self::having_stable_state) and answer no more.
    #[must_use]
    pub fn read(self, witnesses: usize) -> usize {
        if witnesses == 0 {
            return self.agreement();
        }
        self.n - witnesses - self.having_stable_state(witnesses) + self.one_correct()
    }

    /// The same with another replica to lead view 0; those after it follow in turn.
    ///
    /// # Panics
    /// If there is no such replica.
    #[must_use]
    pub fn led_first_by(self, first: ReplicaId) -> Self {
        assert!(self.has(first), "{first} is not one of {}", self.n);
        Self { first, ..self }
    }

    /// The primary of `view`: replica `view mod n` (PBFT §4), counted from the one that leads view 0.
    #[must_use]
    pub fn primary(self, view: View) -> ReplicaId {
        let n = self.n as u64;
        let index = (view.0 % n + u64::from(self.first.0)) % n;
        ReplicaId(u16::try_from(index).expect("a group has at most 100 replicas"))
    }

    /// All replicas, in order.
    pub fn replicas(self) -> impl Iterator<Item = ReplicaId> {
        (0..self.n).map(|i| ReplicaId(u16::try_from(i).expect("a group has at most 100 replicas")))
    }

    /// Whether `replica` has a place in this group.
    #[must_use]
    pub fn has(self, replica: ReplicaId) -> bool {
        usize::from(replica.0) < self.n
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_the_papers_for_3f_plus_1() {
        for f in 0..=33 {
            let q = Quorums::byzantine(3 * f + 1, f).unwrap();
            assert_eq!((q.agreement(), q.one_correct(), q.available()), (2 * f + 1, f + 1, 2 * f + 1));
        }
    }

    #[test]
    fn too_few_and_too_many_are_refused() {
        assert_eq!(Quorums::byzantine(3, 1), Err(QuorumsError::TooFewReplicas { n: 3, f: 1 }));
        assert_eq!(Quorums::byzantine(101, 1), Err(QuorumsError::TooManyReplicas { n: 101 }));
        assert_eq!(Quorums::crash(4, 2), Err(QuorumsError::TooFewForCrashes { n: 4, f: 2 }));
        assert_eq!(Quorums::crash(101, 1), Err(QuorumsError::TooManyReplicas { n: 101 }));
        assert!(Quorums::crash(0, 0).is_err() && Quorums::crash(usize::MAX, usize::MAX).is_err());
    }

    #[test]
    fn where_nobody_lies_a_majority_agrees() {
        for f in 0..=49 {
            let q = Quorums::crash(2 * f + 1, f).unwrap();
            assert_eq!((q.agreement(), q.one_correct(), q.available()), (f + 1, 1, f + 1));
        }
        assert_eq!(Quorums::crash(4, 1).unwrap().agreement(), 3);
    }

    #[test]
    fn another_may_lead_first_and_all_have_their_turn() {
        let q = Quorums::byzantine(4, 1).unwrap().led_first_by(ReplicaId(3));
        assert_eq!([0, 1, 2, 3, 4].map(|view| q.primary(View(view)).0), [3, 0, 1, 2, 3]);
        assert_eq!(q.primary(View(u64::MAX)), ReplicaId(2));
    }

    proptest! {
        #[test]
        fn any_valid_group_keeps_its_intersections(f in 0usize..33, extra in 0usize..40) {
            let n = (3 * f + 1 + extra).min(100);
            let q = Quorums::byzantine(n, f).unwrap();
            prop_assert!(2 * q.agreement() - n > f);
            prop_assert!(q.agreement() + f <= n);
            // A view change sees every committed batch: an agreement quorum of view changes meets
            // the correct part of any agreement quorum of commits.
            prop_assert!(q.agreement() + (q.agreement() - f) > n);
        }

        #[test]
        fn reads_meet_what_was_executed_before_however_many_are_witnesses(
            f in 0usize..20, extra in 0usize..40, share in 0usize..=100,
        ) {
            let q = Quorums::byzantine(3 * f + 1 + extra, f).unwrap();
            let witnesses = q.most_witnesses() * share / 100;
            let executors = q.n() - witnesses;
            prop_assert!(executors > 2 * f);
            prop_assert!(q.read_by_later(witnesses) + q.read(witnesses) > executors + f);
            prop_assert!(q.read(witnesses) + q.having_stable_state(witnesses) > executors + f);
            prop_assert!(q.read(witnesses) <= executors && q.read(witnesses) > 2 * f);
            prop_assert!(q.read_by_later(witnesses) >= q.one_correct());
            prop_assert!(q.read_by_later(witnesses) + f <= executors, "some may be faulty");
        }

        #[test]
        fn any_valid_group_that_crashes_keeps_its_intersections(f in 0usize..49, extra in 0usize..40) {
            let n = (2 * f + 1 + extra).min(100);
            let q = Quorums::crash(n, f).unwrap();
            prop_assert!(2 * q.agreement() > n);
            prop_assert!(q.agreement() <= q.available());
            // A replica that lost its disk asks an agreement quorum of the others: it meets whatever an
            // agreement quorum that this replica was one of did.
            prop_assert!(q.agreement() + (q.agreement() - 1) > n - 1);
        }
    }
}
