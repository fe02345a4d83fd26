use crate::EngineSettings;
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
    pub(crate) fn new(settings: &EngineSettings) -> Self {
        let (most, expiry) = (0, Duration::ZERO);
        let mut admission = Self { most, expiry, outstanding: BTreeMap::new(), ages: BTreeSet::new() };
        admission.go_by(settings);
        admission
    }

    /// Other bounds hold from now on. What has a place keeps it.
    pub(crate) fn go_by(&mut self, settings: &EngineSettings) {
        self.most = usize::try_from(settings.max_outstanding_requests).unwrap_or(usize::MAX);
        self.expiry = settings.outstanding_expiry;
    }

    /// How many may be outstanding, and how long each counts.
    pub(crate) fn bounds(&self) -> (usize, Duration) {
        (self.most, self.expiry)
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
        let (mut is_owed, mut since) = (is_owed, now);
        if let Some(before) = self.outstanding.get(&client).copied() {
            // A copy of an earlier attempt may come late.
            is_owed |= before.is_owed && before.number == number;
            // Who asks for one thing after the other and waits for none can't keep its place by that.
            since = before.since;
        } else if !self.make_room(now) {
            return false;
        }
        self.outstanding.insert(client, Outstanding { number, since, is_owed });
        self.ages.insert((since, client));
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

    /// Where fewer may be outstanding than were before, it takes more than one to go.
    fn make_room(&mut self, now: Instant) -> bool {
        while self.outstanding.len() >= self.most {
            if !self.expire_one(now) {
                return false;
            }
        }
        true
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

    fn admission(most: u32, expiry: Duration) -> Admission {
        Admission::new(&bounds(most, expiry))
    }

    fn bounds(max_outstanding_requests: u32, outstanding_expiry: Duration) -> EngineSettings {
        EngineSettings { max_outstanding_requests, outstanding_expiry, ..EngineSettings::default() }
    }

    #[test]
    fn the_bound_holds_until_execution_or_expiry_makes_room() {
        let mut admission = admission(2, Duration::from_nanos(10));
        let mut admit = |now, client, number| {
            admission.admit(Instant(now), ClientId(client), RequestNumber(number), false)
        };
        assert!(admit(0, 1, 1) && admit(1, 2, 1));
        assert!(!admit(2, 3, 1), "full");
        assert!(admit(3, 1, 2), "the same client has its place");
        assert!(!admit(9, 3, 1), "none has had its time");
        assert!(admit(10, 3, 1), "client 1 has, whatever it asked for meanwhile");
        admission.executed(ClientId(3), RequestNumber(0));
        assert_eq!(admission.len(), 2, "an older number frees nothing");
        admission.executed(ClientId(3), RequestNumber(1));
        assert_eq!((admission.len(), admission.ages.len()), (1, 1));
        assert!(admission.admit(Instant(12), ClientId(4), RequestNumber(1), false));
    }

    #[test]
    fn where_fewer_may_be_outstanding_than_are_nobody_loses_a_place_before_its_time() {
        let mut admission = admission(4, Duration::from_nanos(10));
        let admit = |admission: &mut Admission, now, client| {
            admission.admit(Instant(now), ClientId(client), RequestNumber(1), false)
        };
        assert!((0..4).all(|client| admit(&mut admission, client, client)));
        admission.go_by(&bounds(2, Duration::from_nanos(10)));
        assert_eq!(admission.len(), 4);
        assert!(!admit(&mut admission, 11, 9), "two have had their time, and three would have to go");
        assert!(admit(&mut admission, 12, 9), "now three have");
        assert_eq!(admission.clients(), [ClientId(3), ClientId(9)]);
        admission.go_by(&bounds(3, Duration::from_nanos(10)));
        assert!(admit(&mut admission, 12, 8), "more may be again");
    }

    #[test]
    fn an_answer_is_owed_to_who_asked_for_it_and_for_that_request_only() {
        let mut admission = admission(9, Duration::from_secs(1));
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
        let mut admission = admission(9, Duration::from_secs(1));
        admission.admit(Instant(1), ClientId(1), RequestNumber(2), true);
        admission.admit(Instant(2), ClientId(1), RequestNumber(2), false);
        assert!(admission.executed(ClientId(1), RequestNumber(2)));
    }
}
