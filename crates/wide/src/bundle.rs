//! Updates of a site's clients, gathered into requests of the site's own: each site's uplink then carries what
//! its own clients say, and whoever leads proposes it by name (TOCS'02 §5.1.5, with a site in the client's place).
//!
//! The site is a client of the sites with so many *slots*, each of which has one bundle under way. While a slot
//! is free an update leaves at once; while none is, updates gather. So bundles grow with the load, and only then.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use althing_protocol::{Bundle, Request, RequestKind};
use althing_types::{ClientId, RequestNumber, SiteId, encode};
use borsh::{BorshDeserialize, BorshSerialize};

/// Clients with this bit are slots of sites. No other client may have it.
const SLOT: u64 = 1 << 63;

/// The most updates in a bundle: each has a signature to be checked.
pub(crate) const MAX_BUNDLED: usize = 1024;

/// What an update takes in a bundle beside its operation, where its signature is left out: client, number and length.
const VOUCHED_BYTES: usize = 20;

/// The client that a slot of a site is.
fn slot_client(site: SiteId, slot: u16) -> ClientId {
    ClientId(SLOT | u64::from(site.0) << 16 | u64::from(slot))
}

/// Which site's slot a client is, and which of its slots, if it is one.
pub(crate) fn slot_of(client: ClientId) -> Option<(SiteId, u16)> {
    let slot = client.0 & !SLOT;
    let (site, slot) = (u16::try_from(slot >> 16).ok()?, u16::try_from(slot & 0xffff).ok()?);
    (client.0 & SLOT != 0).then_some((SiteId(site), slot))
}

/// A bundle under way.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
struct Outstanding {
    request: Request,
    /// How often the relay timer had expired when it left, or was last shown to all sites.
    since: u64,
}

/// What a site bundles.
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct Bundler {
    queue: VecDeque<Request>,
    /// The last number of each slot that was ever used.
    numbers: BTreeMap<u16, RequestNumber>,
    under_way: BTreeMap<u16, Outstanding>,
}

impl Bundler {
    /// Takes in a client's request, in the place of an earlier one of the same client.
    pub(crate) fn push(&mut self, request: Request) {
        match self.queue.iter_mut().find(|queued| queued.client == request.client) {
            Some(queued) => *queued = request,
            None => self.queue.push_back(request),
        }
    }

    /// The next bundle that may leave, as a request of `site`, which has yet to sign it; with the signatures of the
    /// clients in it, or without where the site answers for them.
    pub(crate) fn next(
        &mut self,
        now: u64,
        site: SiteId,
        (slots, most_bytes, is_vouching): (u16, usize, bool),
    ) -> Option<Request> {
        let slot = (0..slots).find(|slot| !self.under_way.contains_key(slot))?;
        let mut requests = Vec::new();
        let mut bytes = 0;
        while let Some(request) = self.queue.front() {
            bytes +=
                if is_vouching { request.operation.len() + VOUCHED_BYTES } else { encode(request).len() };
            if (bytes > most_bytes && !requests.is_empty()) || requests.len() >= MAX_BUNDLED {
                break;
            }
            requests.extend(self.queue.pop_front());
        }
        if requests.is_empty() {
            return None;
        }
        let vouched = |request: Request| (request.client, request.number, request.operation);
        let bundle = if is_vouching {
            Bundle::Vouched(requests.into_iter().map(vouched).collect())
        } else {
            Bundle::Signed(requests)
        };
        let number = self.numbers.entry(slot).or_default();
        number.0 += 1;
        let request = Request {
            kind: RequestKind::Bundle,
            ..Request::vouched(slot_client(site, slot), *number, encode(&bundle))
        };
        self.under_way.insert(slot, Outstanding { request: request.clone(), since: now });
        Some(request)
    }

    /// A slot's request was executed.
    pub(crate) fn on_executed(&mut self, client: ClientId, number: RequestNumber) {
        self.under_way.retain(|_, bundle| bundle.request.client != client || bundle.request.number > number);
    }

    /// Bundles that have seen a whole period of the relay timer go by, which has now expired so often. They count from
    /// now on anew.
    pub(crate) fn overdue(&mut self, now: u64) -> impl Iterator<Item = &Request> {
        let overdue = self.under_way.values_mut().filter(move |bundle| bundle.since + 2 <= now);
        overdue.map(move |bundle| {
            bundle.since = now;
            &bundle.request
        })
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use althing_crypto::Proof;
    use althing_protocol::{Answers, RequestAuth};
    use althing_types::Epoch;

    fn update(client: u64) -> Request {
        Request {
            client: ClientId(client),
            number: RequestNumber(1),
            kind: RequestKind::Service,
            operation: alloc::vec![0; 100],
            epoch: Epoch(0),
            answers: Answers::All,
            auth: RequestAuth::Signed(Proof(Vec::new())),
            is_authentic: false,
        }
    }

    fn clients(bundle: &Request) -> Vec<u64> {
        bundle.bundled().iter().map(|request| request.client.0).collect()
    }

    #[test]
    fn what_finds_no_free_slot_gathers() {
        let mut bundler = Bundler::default();
        let next = |bundler: &mut Bundler| bundler.next(1, SiteId(3), (2, 1000, false));
        assert!(next(&mut bundler).is_none());
        let mut left = Vec::new();
        for client in 1..=12 {
            bundler.push(update(client));
            left.extend(next(&mut bundler));
        }
        assert_eq!(left.iter().map(clients).collect::<Vec<_>>(), [[1], [2]]);
        assert_eq!(slot_of(left[1].client), Some((SiteId(3), 1)));
        bundler.on_executed(left[1].client, RequestNumber(1));
        let third = next(&mut bundler).unwrap();
        assert_eq!((third.client, third.number), (left[1].client, RequestNumber(2)));
        assert_eq!(clients(&third), [3, 4, 5, 6, 7, 8, 9], "as many as fit");
        assert!(next(&mut bundler).is_none());
        bundler.on_executed(left[0].client, RequestNumber(1));
        assert_eq!(clients(&next(&mut bundler).unwrap()), [10, 11, 12]);
    }

    #[test]
    fn of_each_client_one_update_waits() {
        let mut bundler = Bundler::default();
        for (client, number) in [(1, 1), (2, 1), (1, 2)] {
            bundler.push(Request { number: RequestNumber(number), ..update(client) });
        }
        let bundle = bundler.next(1, SiteId(0), (1, 1000, false)).unwrap();
        let bundled = bundle.bundled();
        let numbers: Vec<_> = bundled.iter().map(|request| (request.client.0, request.number.0)).collect();
        assert_eq!(numbers, [(1, 2), (2, 1)]);
    }

    #[test]
    fn what_waits_too_long_is_shown_again_and_no_client_is_a_slot() {
        let mut bundler = Bundler::default();
        bundler.push(update(1));
        bundler.next(5, SiteId(0), (1, 1000, false)).unwrap();
        let counts = [6, 7, 8, 9, 10].map(|now| bundler.overdue(now).count());
        assert_eq!(counts, [0, 1, 0, 1, 0]);
        assert_eq!(slot_of(ClientId(1 << 62)), None);
        assert!(!bundler.is_idle());
    }

    #[test]
    fn where_the_site_answers_for_its_clients_their_signatures_stay_at_home() {
        let mut bundler = Bundler::default();
        for client in 1..=9 {
            let auth = RequestAuth::Signed(Proof(alloc::vec![7; 64]));
            bundler.push(Request { auth, ..update(client) });
        }
        let bundle = bundler.next(1, SiteId(0), (1, 8 * (100 + VOUCHED_BYTES), true)).unwrap();
        let vouched: Vec<Request> = (1..=8)
            .map(|client| Request::vouched(ClientId(client), RequestNumber(1), alloc::vec![0; 100]))
            .collect();
        assert_eq!(bundle.bundled(), vouched, "as many as fit");
        assert_eq!(bundle.operation.len(), 1 + 4 + 8 * (100 + VOUCHED_BYTES));
    }
}
