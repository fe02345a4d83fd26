use crate::Request;
use alloc::collections::BTreeMap;
use althing_types::{ClientId, RequestNumber};
use borsh::{BorshDeserialize, BorshSerialize};

/// What a request takes beside its operation, about.
const OVERHEAD_BYTES: usize = 256;

/// Requests that clients have sent to another replica to be ordered, and to this one to have them when they
/// are proposed by name: the latest of each client. They take a bounded number of bytes, and the oldest make
/// room for new ones: what is missing later is asked for.
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct Bodies {
    by_client: BTreeMap<ClientId, (u64, Request)>,
    /// Whose is the oldest, and so on.
    by_age: BTreeMap<u64, ClientId>,
    arrivals: u64,
    bytes: usize,
}

impl Bodies {
    /// Holds a request, unless a later one of its client is held.
    pub(crate) fn hold(&mut self, request: Request, most_bytes: usize) {
        let client = request.client;
        if self.get(client).is_some_and(|known| known.number >= request.number) {
            return;
        }
        self.remove(client);
        self.arrivals += 1;
        self.bytes += bytes_of(&request);
        self.by_age.insert(self.arrivals, client);
        self.by_client.insert(client, (self.arrivals, request));
        while self.bytes > most_bytes
            && let Some(oldest) = self.by_age.first_key_value().map(|(_, client)| *client)
        {
            self.remove(oldest);
        }
    }

    pub(crate) fn get(&self, client: ClientId) -> Option<&Request> {
        self.by_client.get(&client).map(|(_, request)| request)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Request> {
        self.by_client.values_mut().map(|(_, request)| request)
    }

    /// This client has gone on to later ones than `last`.
    pub(crate) fn drop_up_to(&mut self, client: ClientId, last: RequestNumber) {
        if self.get(client).is_some_and(|request| request.number <= last) {
            self.remove(client);
        }
    }

    /// Forgets what this client has sent, unless it is signed.
    pub(crate) fn drop_unsigned(&mut self, client: ClientId) {
        if self.get(client).is_some_and(Request::has_macs) {
            self.remove(client);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_client.len()
    }

    fn remove(&mut self, client: ClientId) {
        if let Some((arrival, request)) = self.by_client.remove(&client) {
            self.by_age.remove(&arrival);
            self.bytes -= bytes_of(&request);
        }
    }
}

fn bytes_of(request: &Request) -> usize {
    request.operation.len() + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Answers, RequestAuth, RequestKind};
    use alloc::vec;
    use alloc::vec::Vec;
    use althing_crypto::Proof;
    use althing_types::Epoch;

    fn request(client: u64, number: u64, bytes: usize) -> Request {
        Request {
            client: ClientId(client),
            number: RequestNumber(number),
            kind: RequestKind::Service,
            operation: vec![0; bytes],
            epoch: Epoch(0),
            answers: Answers::All,
            auth: RequestAuth::Signed(Proof(vec![])),
            is_authentic: true,
        }
    }

    fn held(bodies: &Bodies) -> Vec<(u64, u64)> {
        bodies.by_client.values().map(|(_, request)| (request.client.0, request.number.0)).collect()
    }

    #[test]
    fn of_each_client_the_latest_is_held_and_the_oldest_makes_room() {
        let mut bodies = Bodies::default();
        let most = 3 * (1000 + OVERHEAD_BYTES);
        for (client, number) in [(1, 1), (2, 5), (3, 1), (1, 2), (2, 4)] {
            bodies.hold(request(client, number, 1000), most);
        }
        assert_eq!(held(&bodies), [(1, 2), (2, 5), (3, 1)]);
        bodies.hold(request(4, 1, 1000), most);
        assert_eq!(held(&bodies), [(1, 2), (3, 1), (4, 1)], "that of 2 had been here for longest");
        bodies.drop_up_to(ClientId(1), RequestNumber(1));
        bodies.drop_up_to(ClientId(3), RequestNumber(1));
        assert_eq!(held(&bodies), [(1, 2), (4, 1)]);
        bodies.hold(request(9, 1, most), most);
        assert_eq!((held(&bodies), bodies.bytes, bodies.by_age.len()), (vec![], 0, 0), "too large by itself");
    }

    #[test]
    fn many_small_ones_take_room_too() {
        let mut bodies = Bodies::default();
        (0..1000).for_each(|client| bodies.hold(request(client, 1, 1), 100 * OVERHEAD_BYTES));
        assert_eq!((bodies.len(), bodies.by_age.len()), (99, 99));
    }
}
