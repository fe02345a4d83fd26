use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
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
    outstanding: BTreeMap<ClientId, Outstanding>,
    ages: BTreeSet<(Instant, ClientId)>,
}

#[derive(Debug, Clone, Copy)]
struct Outstanding {
    number: RequestNumber,
    since: Instant,
    /// Whether the client itself asked this replica for an answer.
    is_owed: bool,
}

impl Admission {
    pub(crate) fn new(most: usize, expiry: Duration) -> Self {
        Self { most, expiry, outstanding: BTreeMap::new(), ages: BTreeSet::new() }
    }

    /// Whether `client` may have `number` under way; a retransmission always may. `is_owed` says that
    /// the client wants an answer from this replica, whoever else is to answer.
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        client: ClientId,
        number: RequestNumber,
        is_owed: bool,
    ) -> bool {
        let mut is_owed = is_owed;
        if let Some(before) = self.outstanding.get(&client).copied() {
            self.ages.remove(&(before.since, client));
            // A copy of an earlier attempt may come late.
            is_owed |= before.is_owed && before.number == number;
        } else if self.outstanding.len() >= self.most && !self.expire_one(now) {
            return false;
        }
        self.outstanding.insert(client, Outstanding { number, since: now, is_owed });
        self.ages.insert((now, client));
        true
    }

    /// Whether this replica owes the client an answer to this request.
    pub(crate) fn owes(&self, client: ClientId, number: RequestNumber) -> bool {
        self.outstanding.get(&client).is_some_and(|request| request.number == number && request.is_owed)
    }

    /// Takes down that `client`'s requests up to `number` are executed; says whether this replica owes it
    /// an answer to that one.
    pub(crate) fn executed(&mut self, client: ClientId, number: RequestNumber) -> bool {
        let Some(outstanding) = self.outstanding.get(&client).copied() else { return false };
        if outstanding.number > number {
            return false;
        }
        let is_owed = self.owes(client, number);
        self.outstanding.remove(&client);
        self.ages.remove(&(outstanding.since, client));
        is_owed
    }

    /// Who has a request outstanding.
    pub(crate) fn clients(&self) -> Vec<ClientId> {
        self.outstanding.keys().copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.outstanding.len()
    }

    fn expire_one(&mut self, now: Instant) -> bool {
        match self.ages.first().copied() {
            Some((since, client)) if now.since(since) >= self.expiry => {
                self.ages.remove(&(since, client));
                self.outstanding.remove(&client);
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
        let mut admit = |now, client, number| {
            admission.admit(Instant(now), ClientId(client), RequestNumber(number), false)
        };
        assert!(admit(0, 1, 1) && admit(1, 2, 1));
        assert!(!admit(2, 3, 1), "full");
        assert!(admit(3, 1, 2), "the same client has its place");
        assert!(!admit(10, 3, 1), "client 2's request is not yet old");
        assert!(admit(11, 3, 1), "now it is");
        admission.executed(ClientId(3), RequestNumber(0));
        assert_eq!(admission.len(), 2, "an older number frees nothing");
        admission.executed(ClientId(3), RequestNumber(1));
        assert_eq!((admission.len(), admission.ages.len()), (1, 1));
        assert!(admission.admit(Instant(12), ClientId(4), RequestNumber(1), false));
    }

    #[test]
    fn an_answer_is_owed_to_who_asked_for_it_and_for_that_request_only() {
        let mut admission = Admission::new(9, Duration::from_secs(1));
        let (client, number) = (ClientId(1), RequestNumber);
        admission.admit(Instant(0), client, number(1), false);
        assert!(!admission.executed(client, number(1)));
        admission.admit(Instant(1), client, number(2), false);
        admission.admit(Instant(2), client, number(2), true);
        assert!(!admission.executed(client, number(1)) && admission.executed(client, number(2)));
        assert!(!admission.executed(client, number(2)), "it has been given");
        admission.admit(Instant(3), client, number(3), true);
        assert!(!admission.executed(client, number(4)), "it has gone on");
    }

    #[test]
    fn a_late_copy_of_the_first_attempt_takes_no_debt_back() {
        let mut admission = Admission::new(9, Duration::from_secs(1));
        admission.admit(Instant(1), ClientId(1), RequestNumber(2), true);
        admission.admit(Instant(2), ClientId(1), RequestNumber(2), false);
        assert!(admission.executed(ClientId(1), RequestNumber(2)));
    }
}
