use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use althing_types::ReplicaId;

/// Counts which replicas say the same. Each replica's last word counts, and values nobody holds to
/// any more are dropped, so that it never keeps more values than there are replicas.
#[derive(Debug)]
pub(crate) struct Tally<T> {
    values: Vec<(T, BTreeSet<ReplicaId>)>,
}

impl<T: PartialEq> Tally<T> {
    pub(crate) fn new() -> Self {
        Self { values: Vec::new() }
    }

    /// Takes down what `replica` says, and gives back how many say the same.
    pub(crate) fn vote(&mut self, replica: ReplicaId, value: T) -> usize {
        for (_, voters) in &mut self.values {
            voters.remove(&replica);
        }
        self.values.retain(|(held, voters)| !voters.is_empty() || *held == value);
        if let Some((_, voters)) = self.values.iter_mut().find(|(held, _)| *held == value) {
            voters.insert(replica);
            return voters.len();
        }
        self.values.push((value, BTreeSet::from([replica])));
        1
    }

    /// What `replica` has said counts no more.
    pub(crate) fn forget(&mut self, replica: ReplicaId) {
        for (_, voters) in &mut self.values {
            voters.remove(&replica);
        }
        self.values.retain(|(_, voters)| !voters.is_empty());
    }

    /// How many have said anything.
    pub(crate) fn voters(&self) -> usize {
        self.values.iter().map(|(_, voters)| voters.len()).sum()
    }

    /// How many say what most say.
    pub(crate) fn largest(&self) -> usize {
        self.values.iter().map(|(_, voters)| voters.len()).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_replica_counts_once_with_its_last_word() {
        let mut tally = Tally::new();
        let r = ReplicaId;
        assert_eq!(tally.vote(r(0), "a"), 1);
        assert_eq!(tally.vote(r(0), "a"), 1);
        assert_eq!(tally.vote(r(1), "a"), 2);
        assert_eq!(tally.vote(r(1), "b"), 1);
        assert_eq!((tally.voters(), tally.largest()), (2, 1));
        for word in ["c", "d", "e"] {
            tally.vote(r(0), word);
        }
        assert_eq!(tally.values.len(), 2);
        tally.forget(r(0));
        assert_eq!((tally.voters(), tally.values.len()), (1, 1));
    }
}
