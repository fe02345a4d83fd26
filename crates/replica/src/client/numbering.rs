use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_types::{Quorums, ReplicaId, RequestNumber};

/// The numbers of a client's requests, each greater than all before it: also than those of an earlier
/// instance of the same client. That can't be known for sure (its clock may have been set back), so
/// replicas say where a number is not above the last one that they have executed.
#[derive(Debug)]
pub(super) struct Numbering {
    next: RequestNumber,
    /// Whether a request of this instance has been executed: then only another one could have come
    /// between.
    is_established: bool,
    /// What each replica says to be the last number executed, about the present request.
    claims: BTreeMap<ReplicaId, RequestNumber>,
}

impl Numbering {
    pub(super) fn new(first: RequestNumber) -> Self {
        Self { next: first, is_established: false, claims: BTreeMap::new() }
    }

    /// The number of another request.
    pub(super) fn take(&mut self) -> RequestNumber {
        self.claims.clear();
        let number = self.next;
        self.next = RequestNumber(number.0.saturating_add(1));
        number
    }

    /// What replicas have said of the present request counts no more.
    pub(super) fn forget_claims(&mut self) {
        self.claims.clear();
    }

    /// What this replica has said of it counts no more.
    pub(super) fn forget_claim(&mut self, replica: ReplicaId) {
        self.claims.remove(&replica);
    }

    /// A request has been executed under its number.
    pub(super) fn establish(&mut self) {
        self.is_established = true;
    }

    /// Whether this instance alone uses the client's numbers, as far as it knows.
    pub(super) fn is_established(&self) -> bool {
        self.is_established
    }

    /// Takes down that a replica has executed `last`, and not the present request, whose number is no
    /// greater. Says whether a correct one does; numbers then go on above what that one can have meant.
    pub(super) fn claim(&mut self, from: ReplicaId, last: RequestNumber, quorums: Quorums) -> bool {
        self.claims.insert(from, last);
        let mut claims: Vec<_> = self.claims.values().copied().collect();
        claims.sort_unstable_by(|a, b| b.cmp(a));
        match claims.get(quorums.one_correct() - 1) {
            Some(last) if *last >= self.next => {
                self.next = RequestNumber(last.0.saturating_add(1));
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_correct_replica_moves_the_numbers_on_and_a_liar_does_not() {
        let quorums = Quorums::byzantine(4, 1).expect("four are enough");
        let mut numbering = Numbering::new(RequestNumber(7));
        let n = RequestNumber;
        assert_eq!(numbering.take(), n(7));
        assert!(!numbering.claim(ReplicaId(0), n(u64::MAX), quorums));
        assert!(!numbering.claim(ReplicaId(0), n(u64::MAX), quorums), "the same replica again");
        assert!(numbering.claim(ReplicaId(1), n(90), quorums));
        assert_eq!(numbering.take(), n(91));
        assert!(!numbering.claim(ReplicaId(1), n(100), quorums), "an earlier claim is over");
    }
}
