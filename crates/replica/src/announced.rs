use alloc::collections::BTreeMap;
use althing_types::{Instant, Principal};
use core::time::Duration;

/// Who has been told of which of this replica's keys, and when: each is told once of its own accord, and
/// again where it shows that it does not know, after a while.
#[derive(Debug)]
pub(crate) struct Announced {
    repeat: Duration,
    told: BTreeMap<Principal, Told>,
}

#[derive(Debug, Default)]
struct Told {
    counter: u64,
    /// When it was last told because it did not know.
    at: Option<Instant>,
}

impl Announced {
    pub(crate) fn new(repeat: Duration) -> Self {
        Self { repeat, told: BTreeMap::new() }
    }

    /// Who has been told of any key.
    pub(crate) fn told(&self) -> impl Iterator<Item = Principal> {
        self.told.keys().copied()
    }

    /// Whether `to` has not been told of the key with this number; from now on it has.
    pub(crate) fn is_first(&mut self, to: Principal, counter: u64) -> bool {
        let told = self.told.entry(to).or_default();
        let is_first = told.counter < counter;
        told.counter = told.counter.max(counter);
        is_first
    }

    /// Whether to tell `to` now, which does not know of the key with this number.
    pub(crate) fn is_due(&mut self, now: Instant, to: Principal, counter: u64) -> bool {
        let is_first = self.is_first(to, counter);
        let told = self.told.entry(to).or_default();
        let is_due = is_first || told.at.is_none_or(|at| now.since(at) >= self.repeat);
        if is_due {
            told.at = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use althing_types::ReplicaId;

    #[test]
    fn each_is_told_once_of_each_key_and_again_only_after_a_while() {
        let to = Principal::Replica(ReplicaId(3));
        let mut announced = Announced::new(Duration::from_nanos(100));
        assert!(announced.is_first(to, 5));
        assert!(!announced.is_first(to, 5));
        let due: alloc::vec::Vec<_> =
            [0, 99, 100, 150, 201].map(|at| announced.is_due(Instant(at), to, 5)).into();
        assert_eq!(due, [true, false, true, false, true]);
        assert!(announced.is_due(Instant(202), to, 6), "of a new key at once");
        assert!(!announced.is_first(to, 6));
    }
}
