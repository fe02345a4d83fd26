use crate::bodies::Bodies;
use crate::{Batch, Request, RequestAuth};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use althing_types::{ClientId, Instant, Quorums, RequestNumber};
use borsh::{BorshDeserialize, BorshSerialize};

/// When a request arrived, relative to others.
pub(crate) type Arrival = u64;

/// Requests that wait to be executed, the latest of each client, in order of arrival.
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct Pending {
    requests: BTreeMap<Arrival, Request>,
    by_client: BTreeMap<ClientId, Arrival>,
    /// Those that no batch of the present view holds, by their place in the queue.
    unproposed: BTreeMap<Arrival, Arrival>,
    /// The place of each in the queue: that of the request which it took the place of, if it did.
    places: BTreeMap<Arrival, Arrival>,
    since: BTreeMap<Arrival, Instant>,
    /// Those that their clients have signed.
    signed: BTreeSet<Arrival>,
    /// What another replica is to order, and this one may be told of by name.
    bodies: Bodies,
    /// The last request of each client that was executed.
    executed: BTreeMap<ClientId, RequestNumber>,
    arrivals: Arrival,
}

impl Pending {
    /// Adds a request, unless it is not newer than what its client has waiting or executed. A
    /// signed copy replaces one with MACs.
    pub(crate) fn insert(&mut self, now: Instant, request: Request) -> bool {
        let client = request.client;
        let is_executed = self.has_executed(client, request.number);
        let is_signed = matches!(request.auth, RequestAuth::Signed(_));
        if is_executed {
            return false;
        }
        let mut place = self.arrivals + 1;
        let mut is_in_batch = false;
        if let Some(arrival) = self.by_client.get(&client).copied() {
            let waiting = &self.requests[&arrival];
            let is_upgrade = is_signed && waiting.has_macs() && waiting.number == request.number;
            if waiting.number >= request.number && !is_upgrade {
                return false;
            }
            // Or a client could keep its own request from ever being proposed, and have the primary blamed.
            let earlier = self.places[&arrival];
            if self.unproposed.contains_key(&earlier) {
                place = earlier;
            } else {
                // A batch can't be mended by another: all after it wait for it in any case.
                is_in_batch = is_upgrade;
            }
            self.remove(arrival);
        }
        self.arrivals += 1;
        self.by_client.insert(client, self.arrivals);
        self.places.insert(self.arrivals, place);
        if !is_in_batch {
            self.unproposed.insert(place, self.arrivals);
        }
        if is_signed {
            self.signed.insert(self.arrivals);
        }
        self.requests.insert(self.arrivals, request);
        self.since.insert(self.arrivals, now);
        true
    }

    /// What of it is good for every replica of another membership: signed, and naming no more replicas than
    /// there are.
    pub(crate) fn fit_for(&self, quorums: Quorums) -> Self {
        let executed = self.executed.clone();
        let mut kept = Self { executed, arrivals: self.arrivals, ..Self::default() };
        for arrival in &self.signed {
            let request = &self.requests[arrival];
            if request.answers.named() <= quorums.n() {
                kept.insert(self.since(*arrival), request.clone());
            }
        }
        kept
    }

    /// What of it is known without anybody's word: what was executed.
    pub(crate) fn executed_only(self) -> Self {
        Self { executed: self.executed, arrivals: self.arrivals, ..Self::default() }
    }

    fn remove(&mut self, arrival: Arrival) {
        if let Some(request) = self.requests.remove(&arrival) {
            self.by_client.remove(&request.client);
            self.note_in_batch(arrival);
            self.places.remove(&arrival);
            self.signed.remove(&arrival);
            self.since.remove(&arrival);
        }
    }

    /// Notes that a batch of the present view holds what this client has waiting.
    pub(crate) fn note_client_in_batch(&mut self, client: ClientId) {
        if let Some(arrival) = self.by_client.get(&client).copied() {
            self.note_in_batch(arrival);
        }
    }

    /// Notes that a batch of the present view holds a request.
    fn note_in_batch(&mut self, arrival: Arrival) {
        if let Some(place) = self.places.get(&arrival) {
            self.unproposed.remove(place);
        }
    }

    /// Whether this request, or a later one of its client, was executed.
    pub(crate) fn has_executed(&self, client: ClientId, number: RequestNumber) -> bool {
        self.executed.get(&client).is_some_and(|last| *last >= number)
    }

    /// Whether this very request came from its client, authenticated.
    pub(crate) fn has_authentic(&self, request: &Request) -> bool {
        let Request { client, number, .. } = *request;
        let mut known = self.bodies.get(client, number).into_iter().chain(self.waiting(client, number));
        known.any(|known| known.digest() == request.digest())
    }

    /// Holds an authentic request that another replica is to order; says whether it is new.
    pub(crate) fn hold_body(&mut self, request: Request, most_bytes: usize) -> bool {
        !self.has_executed(request.client, request.number) && self.bodies.hold(request, most_bytes)
    }

    /// The request of that name, as it came from its client.
    pub(crate) fn named(&self, client: ClientId, number: RequestNumber) -> Option<&Request> {
        self.bodies.get(client, number).or_else(|| self.waiting(client, number))
    }

    fn waiting(&self, client: ClientId, number: RequestNumber) -> Option<&Request> {
        let waiting = self.by_client.get(&client).map(|arrival| &self.requests[arrival]);
        waiting.filter(|request| request.number == number)
    }

    /// Notes that a request was executed.
    pub(crate) fn note_executed(&mut self, client: ClientId, number: RequestNumber) {
        let last = self.executed.entry(client).or_default();
        *last = (*last).max(number);
        let last = *last;
        self.bodies.drop_up_to(client, last);
        if let Some(arrival) = self.by_client.get(&client).copied()
            && self.requests[&arrival].number <= last
        {
            self.remove(arrival);
        }
    }

    /// The state comes from elsewhere: what this replica has executed on its way to another one does not count.
    pub(crate) fn forget_executed(&mut self) {
        self.executed.clear();
    }

    /// The signed request that has waited longest. One with MACs may be bad for the primary and is
    /// no reason to doubt it; its client signs when it asks again.
    pub(crate) fn oldest_signed(&self) -> Option<Arrival> {
        self.signed.first().copied()
    }

    /// The request that has waited longest.
    pub(crate) fn oldest(&self) -> Option<Arrival> {
        self.requests.keys().next().copied()
    }

    /// Of those that their clients have signed and no batch of the present view holds, the one that has
    /// waited longest.
    pub(crate) fn oldest_unproposed_signed(&self) -> Option<(Arrival, &Request)> {
        let is_unproposed = |arrival: &Arrival| self.unproposed.contains_key(&self.places[arrival]);
        let oldest = self.signed.iter().copied().find(is_unproposed)?;
        Some((oldest, &self.requests[&oldest]))
    }

    /// When a request arrived.
    pub(crate) fn since(&self, arrival: Arrival) -> Instant {
        self.since.get(&arrival).copied().unwrap_or_default()
    }

    /// Forgets what this client has waiting, unless it is signed.
    pub(crate) fn drop_unsigned(&mut self, client: ClientId) {
        self.bodies.drop_unsigned(client);
        let waiting = self.by_client.get(&client).copied();
        if let Some(arrival) = waiting.filter(|arrival| !self.signed.contains(arrival)) {
            self.remove(arrival);
        }
    }

    /// How many requests are in no batch of the present view.
    pub(crate) fn unproposed(&self) -> usize {
        self.unproposed.len()
    }

    pub(crate) fn has_unproposed(&self, signed_only: bool) -> bool {
        self.next_unproposed(signed_only).is_some()
    }

    fn next_unproposed(&self, signed_only: bool) -> Option<Arrival> {
        self.unproposed.values().copied().find(|arrival| !signed_only || self.signed.contains(arrival))
    }

    /// The next requests for a batch, in order of arrival.
    pub(crate) fn take_batch(
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
            self.note_in_batch(arrival);
        }
        requests
    }

    /// A new view starts: nothing is proposed in it yet.
    pub(crate) fn reset_proposed(&mut self) {
        self.unproposed = self.places.iter().map(|(arrival, place)| (*place, *arrival)).collect();
    }

    /// A batch of the present view already holds these.
    pub(crate) fn note_proposed(&mut self, batch: &Batch) {
        for request in &batch.requests {
            if let Some(arrival) = self.by_client.get(&request.client).copied()
                && self.requests[&arrival].number == request.number
            {
                self.note_in_batch(arrival);
            }
        }
    }

    /// How many requests are held.
    pub(crate) fn len(&self) -> usize {
        self.requests.len() + self.bodies.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Request> {
        self.requests.values()
    }

    /// All that are held, the bodies included.
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut Request> {
        self.requests.values_mut().chain(self.bodies.iter_mut())
    }

    pub(crate) fn is_empty(&self) -> bool {
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
        let (kind, epoch, answers) = Default::default();
        Request { client, number, kind, operation: vec![0; 10], epoch, answers, auth, is_authentic: true }
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
    fn what_is_signed_is_good_in_another_membership_too() {
        let mut pending = pending(&[signed(1, 3), with_macs(2, 1), signed(3, 1)]);
        pending.note_executed(ClientId(4), RequestNumber(7));
        let four = Quorums::byzantine(4, 1).unwrap();
        let asked = (0..5).map(althing_types::ReplicaId).collect();
        let of_five = Request { answers: Answers::Few { asked, firmly: 5 }, ..signed(5, 1) };
        assert!(pending.insert(Instant(0), of_five));
        let mut kept = pending.fit_for(four);
        assert_eq!(waiting(&kept), [(1, 3), (3, 1)]);
        assert_eq!(take(&mut kept, 9, 100, true), [1, 3]);
        assert!(!kept.insert(Instant(0), signed(4, 7)) && kept.insert(Instant(0), signed(4, 8)));
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
    fn a_client_that_goes_on_keeps_its_place_in_the_queue_and_not_its_wait() {
        let mut pending = pending(&[signed(1, 1), signed(2, 1), signed(1, 2), signed(1, 3)]);
        let (oldest, request) = pending.oldest_unproposed_signed().expect("two wait");
        assert_eq!((request.client, pending.since(oldest)), (ClientId(2), Instant(2_000_000_000)));
        assert_eq!(take(&mut pending, 1, 100, false), [1], "or it could have the primary blamed for ever");
        assert!(pending.insert(Instant(0), signed(1, 4)));
        assert_eq!(take(&mut pending, 9, 100, false), [2, 1], "what was proposed has had its turn");
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
    fn a_signature_that_comes_after_the_proposal_has_it_proposed_again_only_in_another_view() {
        let mut pending = pending(&[with_macs(1, 1)]);
        assert_eq!(take(&mut pending, 9, 100, false), [1]);
        assert!(pending.insert(Instant(7), signed(1, 1)));
        assert!(!pending.has_unproposed(false) && pending.oldest_unproposed_signed().is_none());
        assert!(pending.oldest_signed().is_some(), "it has to be executed all the same");
        pending.reset_proposed();
        assert_eq!(take(&mut pending, 9, 100, true), [1]);
    }

    #[test]
    fn what_a_batch_of_the_view_holds_already_is_not_proposed_again() {
        let mut pending = pending(&[signed(1, 1), signed(2, 2)]);
        let time = Instant::default();
        pending.note_proposed(&Batch { time, requests: vec![signed(1, 1), signed(2, 1), signed(3, 1)] });
        assert_eq!(take(&mut pending, 9, 100, false), [2], "an older one of the same client was");
    }
}
