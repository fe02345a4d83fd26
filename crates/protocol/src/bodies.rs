use crate::Request;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_types::{ClientId, RequestNumber};
use borsh::{BorshDeserialize, BorshSerialize};

/// What a request takes beside its operation, about.
const OVERHEAD_BYTES: usize = 256;

type Name = (ClientId, RequestNumber);

/// Requests that clients have sent to another replica to be ordered, and to this one to have them when they
/// are proposed by name: all that are not executed here yet. So a replica that was cut off for a while has what the
/// others have gone on with meanwhile. They take a bounded number of bytes, and the oldest make room for new ones: what is
/// missing later is asked for.
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct Bodies {
    by_name: BTreeMap<Name, (u64, Request)>,
    /// Which is the oldest, and so on.
    by_age: BTreeMap<u64, Name>,
    arrivals: u64,
    bytes: usize,
}

impl Bodies {
    /// Holds a request, unless one of that name is held; says whether it is now.
    pub(crate) fn hold(&mut self, request: Request, most_bytes: usize) -> bool {
        let name = (request.client, request.number);
        if bytes_of(&request) > most_bytes || self.by_name.contains_key(&name) {
            return false;
        }
        self.arrivals += 1;
        self.bytes += bytes_of(&request);
        self.by_age.insert(self.arrivals, name);
        self.by_name.insert(name, (self.arrivals, request));
        while self.bytes > most_bytes
            && let Some(oldest) = self.by_age.first_key_value().map(|(_, name)| *name)
        {
            self.remove(oldest);
        }
        true
    }

    pub(crate) fn get(&self, client: ClientId, number: RequestNumber) -> Option<&Request> {
        self.by_name.get(&(client, number)).map(|(_, request)| request)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Request> {
        self.by_name.values_mut().map(|(_, request)| request)
    }

    /// This client has gone on to later ones than `last`.
    pub(crate) fn drop_up_to(&mut self, client: ClientId, last: RequestNumber) {
        while let Some((name, _)) = self.by_name.range((client, RequestNumber(0))..=(client, last)).next() {
            self.remove(*name);
        }
    }

    /// Forgets what this client has sent, unless it is signed.
    pub(crate) fn drop_unsigned(&mut self, client: ClientId) {
        let of_client = self.by_name.range((client, RequestNumber(0))..=(client, RequestNumber(u64::MAX)));
        let unsigned = of_client.filter(|(_, (_, request))| request.has_macs());
        let unsigned: Vec<Name> = unsigned.map(|(name, _)| *name).collect();
        unsigned.into_iter().for_each(|name| self.remove(name));
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    fn remove(&mut self, name: Name) {
        if let Some((arrival, request)) = self.by_name.remove(&name) {
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
        let bytes = bodies.by_name.values().map(|(_, request)| bytes_of(request)).sum();
        assert_eq!((bodies.bytes, bodies.by_age.len()), (bytes, bodies.len()), "what is counted is there");
        bodies.by_name.keys().map(|(client, number)| (client.0, number.0)).collect()
    }

    #[test]
    fn all_that_wait_are_held_and_the_oldest_makes_room() {
        let mut bodies = Bodies::default();
        let most = 4 * (1000 + OVERHEAD_BYTES);
        let held_now: Vec<bool> = [(1, 1), (2, 5), (3, 1), (2, 4), (2, 4)]
            .map(|(client, number)| bodies.hold(request(client, number, 1000), most))
            .into();
        assert_eq!(held_now, [true, true, true, true, false]);
        assert_eq!(held(&bodies), [(1, 1), (2, 4), (2, 5), (3, 1)]);
        bodies.hold(request(4, 1, 1000), most);
        assert_eq!(held(&bodies), [(2, 4), (2, 5), (3, 1), (4, 1)], "that of 1 had been here for longest");
        bodies.drop_up_to(ClientId(2), RequestNumber(4));
        bodies.drop_up_to(ClientId(3), RequestNumber(7));
        assert_eq!(held(&bodies), [(2, 5), (4, 1)]);
        assert!(!bodies.hold(request(9, 1, most), most), "too large by itself");
        assert_eq!(held(&bodies), [(2, 5), (4, 1)]);
    }

    #[test]
    fn what_is_unsigned_is_forgotten_of_one_client() {
        let mut bodies = Bodies::default();
        for (client, number) in [(1, 1), (1, 2), (2, 1)] {
            let auth = if number == 2 {
                RequestAuth::Signed(Proof(vec![]))
            } else {
                RequestAuth::Macs(althing_crypto::Authenticator::default())
            };
            bodies.hold(Request { auth, ..request(client, number, 1) }, 1 << 20);
        }
        bodies.drop_unsigned(ClientId(1));
        assert_eq!(held(&bodies), [(1, 2), (2, 1)]);
    }

    #[test]
    fn many_small_ones_take_room_too() {
        let mut bodies = Bodies::default();
        let held_now = (0..1000).filter(|client| bodies.hold(request(*client, 1, 1), 100 * OVERHEAD_BYTES));
        assert_eq!((held_now.count(), held(&bodies).len()), (1000, 99));
    }
}
