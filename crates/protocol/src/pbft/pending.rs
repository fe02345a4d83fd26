use crate::{Batch, Request, RequestAuth};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use althing_types::{ClientId, Digest, Instant, RequestNumber};

/// The most clients whose MACs are no longer believed.
const MAX_DISTRUSTED: usize = 4096;

/// When a request arrived, relative to others.
pub(super) type Arrival = u64;

/// Requests that wait to be executed, the latest of each client, in order of arrival.
#[derive(Debug, Clone, Default)]
pub(super) struct Pending {
    requests: BTreeMap<Arrival, Request>,
    by_client: BTreeMap<ClientId, Arrival>,
    /// Those that this replica, as primary, has not put into a batch of the present view.
    unproposed: BTreeSet<Arrival>,
    since: BTreeMap<Arrival, Instant>,
    /// Those that their clients have signed.
    signed: BTreeSet<Arrival>,
    /// The last request of each client that was executed.
    executed: BTreeMap<ClientId, RequestNumber>,
    arrivals: Arrival,
    /// Clients whose MACs were once good for some replicas and bad for others: only their
    /// signatures count from then on.
    distrusted: BTreeSet<ClientId>,
}

impl Pending {
    /// Adds a request, unless it is not newer than what its client has waiting or executed. A
    /// signed copy replaces one with MACs.
    pub(super) fn insert(&mut self, now: Instant, request: Request) -> bool {
        let client = request.client;
        let is_executed = self.executed.get(&client).is_some_and(|last| *last >= request.number);
        let is_signed = matches!(request.auth, RequestAuth::Signed(_));
        if is_executed || (!is_signed && self.distrusted.contains(&client)) {
            return false;
        }
        if let Some(arrival) = self.by_client.get(&client).copied() {
            let waiting = &self.requests[&arrival];
            let is_upgrade =
                is_signed && matches!(waiting.auth, RequestAuth::Macs(_)) && waiting.number == request.number;
            if waiting.number >= request.number && !is_upgrade {
                return false;
            }
            self.remove(arrival);
        }
        self.arrivals += 1;
        self.by_client.insert(client, self.arrivals);
        self.unproposed.insert(self.arrivals);
        if is_signed {
            self.signed.insert(self.arrivals);
        }
        self.requests.insert(self.arrivals, request);
        self.since.insert(self.arrivals, now);
        true
    }

    fn remove(&mut self, arrival: Arrival) {
        if let Some(request) = self.requests.remove(&arrival) {
            self.by_client.remove(&request.client);
            self.unproposed.remove(&arrival);
            self.signed.remove(&arrival);
            self.since.remove(&arrival);
        }
    }

    /// Whether this very request came from its client, authenticated.
    pub(super) fn has_authentic(&self, client: ClientId, digest: Digest) -> bool {
        self.by_client.get(&client).is_some_and(|arrival| self.requests[arrival].digest() == digest)
    }

    /// Notes that a request was executed.
    pub(super) fn note_executed(&mut self, client: ClientId, number: RequestNumber) {
        let last = self.executed.entry(client).or_default();
        *last = (*last).max(number);
        if let Some(arrival) = self.by_client.get(&client).copied()
            && self.requests[&arrival].number <= *last
        {
            self.remove(arrival);
        }
    }

    /// The signed request that has waited longest. One with MACs may be bad for the primary and is
    /// no reason to doubt it; its client signs when it asks again.
    pub(super) fn oldest_signed(&self) -> Option<Arrival> {
        self.signed.first().copied()
    }

    /// When a request arrived.
    pub(super) fn since(&self, arrival: Arrival) -> Instant {
        self.since.get(&arrival).copied().unwrap_or_default()
    }

    /// Believes only signatures of this client from now on.
    pub(super) fn distrust(&mut self, client: ClientId) {
        // Whoever names clients that don't exist fills the set with them, and no further.
        if self.distrusted.len() >= MAX_DISTRUSTED {
            self.distrusted.pop_first();
        }
        self.distrusted.insert(client);
        self.drop_unsigned(client);
    }

    /// Forgets what this client has waiting, unless it is signed.
    pub(super) fn drop_unsigned(&mut self, client: ClientId) {
        let waiting = self.by_client.get(&client).copied();
        if let Some(arrival) = waiting.filter(|arrival| !self.signed.contains(arrival)) {
            self.remove(arrival);
        }
    }

    /// How many requests are in no batch of the present view.
    pub(super) fn unproposed(&self) -> usize {
        self.unproposed.len()
    }

    pub(super) fn has_unproposed(&self, signed_only: bool) -> bool {
        self.next_unproposed(signed_only).is_some()
    }

    fn next_unproposed(&self, signed_only: bool) -> Option<Arrival> {
        self.unproposed.iter().copied().find(|arrival| !signed_only || self.signed.contains(arrival))
    }

    /// The next requests for a batch, in order of arrival.
    pub(super) fn take_batch(
        &mut self,
        max_requests: usize,
        max_bytes: usize,
        signed_only: bool,
    ) -> Vec<Request> {
        let mut requests = Vec::new();
        let mut bytes = 0;
        while requests.len() < max_requests {
            let Some(arrival) = self.next_unproposed(signed_only) else { break };
            let request = &self.requests[&arrival];
            if !requests.is_empty() && bytes + request.operation.len() > max_bytes {
                break;
            }
            bytes += request.operation.len();
            requests.push(request.clone());
            self.unproposed.remove(&arrival);
        }
        requests
    }

    /// A new view starts: nothing is proposed in it yet.
    pub(super) fn reset_proposed(&mut self) {
        self.unproposed = self.requests.keys().copied().collect();
    }

    /// A batch of the present view already holds these.
    pub(super) fn note_proposed(&mut self, batch: &Batch) {
        for request in &batch.requests {
            if let Some(arrival) = self.by_client.get(&request.client)
                && self.requests[arrival].number == request.number
            {
                self.unproposed.remove(arrival);
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Request> {
        self.requests.values()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Answers;
    use alloc::vec;
    use althing_crypto::{Authenticator, Proof};

    fn request(client: u64, number: u64, auth: RequestAuth) -> Request {
        let (client, number) = (ClientId(client), RequestNumber(number));
        Request { client, number, operation: vec![0; 10], answers: Answers::All, auth, is_authentic: true }
    }

    fn signed(client: u64, number: u64) -> Request {
        request(client, number, RequestAuth::Signed(Proof(vec![])))
    }

    fn with_macs(client: u64, number: u64) -> Request {
        request(client, number, RequestAuth::Macs(Authenticator::default()))
    }

    /// Requests that arrived one second after the other.
    fn pending(requests: &[Request]) -> Pending {
        let mut pending = Pending::default();
        for (second, request) in (1u64..).zip(requests) {
            pending.insert(Instant(second * 1_000_000_000), request.clone());
        }
        pending
    }

    fn waiting(pending: &Pending) -> Vec<(u64, u64)> {
        pending.iter().map(|request| (request.client.0, request.number.0)).collect()
    }

    fn take(pending: &mut Pending, max_requests: usize, max_bytes: usize, signed_only: bool) -> Vec<u64> {
        let taken = pending.take_batch(max_requests, max_bytes, signed_only);
        taken.iter().map(|request| request.client.0).collect()
    }

    #[test]
    fn of_each_client_only_the_latest_request_waits() {
        let mut pending = pending(&[signed(1, 2), signed(2, 1), signed(1, 1), signed(1, 3)]);
        assert_eq!(waiting(&pending), [(2, 1), (1, 3)]);
        assert!(!pending.insert(Instant(0), signed(1, 3)));
        pending.note_executed(ClientId(1), RequestNumber(3));
        assert_eq!(waiting(&pending), [(2, 1)]);
        assert!(!pending.insert(Instant(0), signed(1, 3)) && pending.insert(Instant(0), signed(1, 4)));
    }

    #[test]
    fn a_signed_copy_replaces_one_with_macs_and_not_the_reverse() {
        let mut pending = pending(&[with_macs(1, 1)]);
        assert_eq!(pending.oldest_signed(), None);
        assert!(pending.insert(Instant(7), signed(1, 1)));
        assert!(!pending.insert(Instant(9), with_macs(1, 1)));
        assert_eq!(pending.oldest_signed().map(|arrival| pending.since(arrival)), Some(Instant(7)));
        assert_eq!(waiting(&pending), [(1, 1)]);
    }

    #[test]
    fn the_oldest_signed_request_keeps_its_arrival_while_others_go() {
        let mut pending = pending(&[with_macs(1, 1), signed(2, 1), signed(3, 1)]);
        let since = |pending: &Pending| pending.oldest_signed().map(|arrival| pending.since(arrival).0);
        assert_eq!(since(&pending), Some(2_000_000_000));
        pending.note_executed(ClientId(1), RequestNumber(1));
        pending.insert(Instant(9_000_000_000), signed(4, 1));
        assert_eq!(since(&pending), Some(2_000_000_000));
        pending.note_executed(ClientId(2), RequestNumber(1));
        assert_eq!(since(&pending), Some(3_000_000_000));
    }

    #[test]
    fn a_distrusted_client_has_to_sign() {
        let mut pending = pending(&[with_macs(1, 1), with_macs(2, 1)]);
        pending.distrust(ClientId(1));
        assert_eq!(waiting(&pending), [(2, 1)]);
        assert!(!pending.insert(Instant(0), with_macs(1, 2)) && pending.insert(Instant(0), signed(1, 2)));
        pending.distrust(ClientId(1));
        assert_eq!(waiting(&pending), [(2, 1), (1, 2)], "what is signed stays");
    }

    #[test]
    fn dropping_what_is_unsigned_leaves_the_client_its_credit() {
        let mut pending = pending(&[with_macs(1, 1), signed(2, 1)]);
        for client in [1, 2, 3] {
            pending.drop_unsigned(ClientId(client));
        }
        assert_eq!(waiting(&pending), [(2, 1)]);
        assert!(pending.insert(Instant(0), with_macs(1, 1)));
    }

    #[test]
    fn inventing_clients_does_not_fill_the_memory() {
        let mut pending = Pending::default();
        for client in 0..MAX_DISTRUSTED as u64 + 10 {
            pending.distrust(ClientId(client));
        }
        assert_eq!(pending.distrusted.len(), MAX_DISTRUSTED);
    }

    #[test]
    fn a_batch_holds_what_fits_in_order_and_each_request_once_a_view() {
        let mut pending = pending(&[signed(1, 1), with_macs(2, 1), signed(3, 1), with_macs(4, 1)]);
        assert_eq!(take(&mut pending, 9, 25, false), [1, 2], "10 bytes each");
        assert_eq!(take(&mut pending, 9, 5, false), [3], "one always fits");
        assert!(pending.has_unproposed(false) && !pending.has_unproposed(true));
        assert_eq!(take(&mut pending, 9, 100, false), [4]);
        assert!(!pending.has_unproposed(false));
        pending.reset_proposed();
        assert_eq!(take(&mut pending, 9, 100, true), [1, 3], "signed ones only");
        assert_eq!(take(&mut pending, 1, 100, false), [2]);
    }

    #[test]
    fn what_a_batch_of_the_view_holds_already_is_not_proposed_again() {
        let mut pending = pending(&[signed(1, 1), signed(2, 2)]);
        let time = Instant::default();
        pending.note_proposed(&Batch { time, requests: vec![signed(1, 1), signed(2, 1), signed(3, 1)] });
        assert_eq!(take(&mut pending, 9, 100, false), [2], "an older one of the same client was");
    }
}
