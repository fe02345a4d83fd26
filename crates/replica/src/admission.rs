use alloc::collections::{BTreeMap, BTreeSet};
use althing_types::{ClientId, Instant, RequestNumber};
use core::time::Duration;

/// Which requests are accepted and not yet executed: one a client, and not more than a bound over
/// all clients, so that a flood by many ends in "busy" and not in memory.
///
/// A request may never be executed (its client went away, its primary dropped it), so one that is
/// older than the expiry gives its place to whoever wants it.
#[derive(Debug)]
pub(crate) struct Admission {
    most: usize,
    expiry: Duration,
    numbers: BTreeMap<ClientId, (RequestNumber, Instant)>,
    ages: BTreeSet<(Instant, ClientId)>,
}

impl Admission {
    pub(crate) fn new(most: usize, expiry: Duration) -> Self {
        Self { most, expiry, numbers: BTreeMap::new(), ages: BTreeSet::new() }
    }

    /// Whether `client` may have `number` under way; a retransmission always may.
    pub(crate) fn admit(&mut self, now: Instant, client: ClientId, number: RequestNumber) -> bool {
        if let Some((_, since)) = self.numbers.get(&client).copied() {
            self.ages.remove(&(since, client));
        } else if self.numbers.len() >= self.most && !self.expire_one(now) {
            return false;
        }
        self.numbers.insert(client, (number, now));
        self.ages.insert((now, client));
        true
    }

    /// Takes down that `client`'s requests up to `number` are executed.
    pub(crate) fn executed(&mut self, client: ClientId, number: RequestNumber) {
        if let Some((outstanding, since)) = self.numbers.get(&client).copied()
            && outstanding <= number
        {
            self.numbers.remove(&client);
            self.ages.remove(&(since, client));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    fn expire_one(&mut self, now: Instant) -> bool {
        match self.ages.first().copied() {
            Some((since, client)) if now.since(since) >= self.expiry => {
                self.ages.remove(&(since, client));
                self.numbers.remove(&client);
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
    fn the_bound_holds_until_execution_or_expiry_makes_room() {
        let mut admission = Admission::new(2, Duration::from_nanos(10));
        let mut admit =
            |now, client, number| admission.admit(Instant(now), ClientId(client), RequestNumber(number));
        assert!(admit(0, 1, 1) && admit(1, 2, 1));
        assert!(!admit(2, 3, 1), "full");
        assert!(admit(3, 1, 2), "the same client has its place");
        assert!(!admit(10, 3, 1), "client 2's request is not yet old");
        assert!(admit(11, 3, 1), "now it is");
        admission.executed(ClientId(3), RequestNumber(0));
        assert_eq!(admission.len(), 2, "an older number frees nothing");
        admission.executed(ClientId(3), RequestNumber(1));
        assert_eq!((admission.len(), admission.ages.len()), (1, 1));
        assert!(admission.admit(Instant(12), ClientId(4), RequestNumber(1)));
    }
}
