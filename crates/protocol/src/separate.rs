//! Large requests by name (*separate request transmission*, TOCS'02 §5.1.5): what protocols share of it.

use crate::pending::Pending;
use crate::{Batch, Request};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_types::{ClientId, Instant, ReplicaId, RequestNumber};
use borsh::{BorshDeserialize, BorshSerialize};

/// A request in a batch, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct NamedRequest {
    /// How many of the batch's requests come before it.
    pub place: u32,
    /// Whose it is.
    pub client: ClientId,
    /// The client's number for it.
    pub number: RequestNumber,
}

/// A batch's requests: those that are carried whole, in their order, and those by name.
pub(crate) type Parted = (Vec<Request>, Vec<NamedRequest>);

/// Parts a batch; `None` where it holds nothing that `is_separate`.
pub(crate) fn part(batch: &Batch, is_separate: impl Fn(&Request) -> bool) -> Option<Parted> {
    let (mut whole, mut named) = (Vec::new(), Vec::new());
    for (place, request) in (0u32..).zip(&batch.requests) {
        if is_separate(request) {
            named.push(NamedRequest { place, client: request.client, number: request.number });
        } else {
            whole.push(request.clone());
        }
    }
    (!named.is_empty()).then_some((whole, named))
}

/// The batch of `time` that is meant, if all that is named is known, and `fits` says that so much may be in one:
/// a request that is named again and again would be copied as often.
pub(crate) fn put_together(
    pending: &Pending,
    time: Instant,
    (whole, named): (&[Request], &[NamedRequest]),
    fits: impl FnOnce(&[&Request]) -> bool,
) -> Option<Batch> {
    let mut requests = Vec::new();
    let mut whole = whole.iter();
    for NamedRequest { place, client, number } in named {
        let before = usize::try_from(*place).ok()?.checked_sub(requests.len())?;
        requests.extend(whole.by_ref().take(before));
        requests.push(pending.named(*client, *number)?);
    }
    requests.extend(whole);
    fits(&requests).then(|| Batch { time, requests: requests.into_iter().cloned().collect() })
}

/// A backup that has lacked a client's requests again and again is sent so many of that client as a whole, each time.
const MOST_SENT_WHOLE: u32 = 64;

/// The most clients of which that is remembered, for all backups together.
const MAX_REMEMBERED: usize = 4096;

/// What a backup gets of a client's requests.
#[derive(Debug, Clone, Copy, Default, BorshSerialize, BorshDeserialize)]
struct Care {
    /// How many it was to be sent as a whole after it lacked one the last time.
    whole: u32,
    /// How many of those are left.
    left: u32,
    /// How many it has been sent by name since, and did not lack.
    named: u32,
}

/// As primary: whose requests which backup lacked, and how many it is still to be sent as a whole. The first time it may
/// just have come late; each further time they are twice as many, until as many have been sent by name again and
/// were not lacked. A backup that lies changes what it is sent itself, and costs others a fetch at most.
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct Lacked(BTreeMap<(ReplicaId, ClientId), Care>);

impl Lacked {
    pub(crate) fn note(&mut self, backup: ReplicaId, client: ClientId) {
        if self.0.len() >= MAX_REMEMBERED && !self.0.contains_key(&(backup, client)) {
            self.0.pop_first();
        }
        let care = self.0.entry((backup, client)).or_default();
        let whole = (2 * care.whole).clamp(1, MOST_SENT_WHOLE);
        *care = Care { whole, left: whole, named: 0 };
    }

    /// Whether the next request of this client is to be sent to this backup as a whole.
    pub(crate) fn take(&mut self, backup: ReplicaId, client: ClientId) -> bool {
        let Some(care) = self.0.get_mut(&(backup, client)) else { return false };
        if care.left > 0 {
            care.left -= 1;
            return true;
        }
        care.named += 1;
        // The one that is sent now may be lacked too.
        if care.named > care.whole {
            self.0.remove(&(backup, client));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_requests_were_lacked_are_sent_whole_there_for_a_while() {
        let mut lacked = Lacked::default();
        let (backup, client) = (ReplicaId(1), ClientId(1));
        assert!(!lacked.take(backup, client));
        let noted = |lacked: &mut Lacked| {
            lacked.note(backup, client);
            (0..1000).take_while(|_| lacked.take(backup, client)).count()
        };
        assert_eq!(noted(&mut lacked), 1);
        assert!(!lacked.take(ReplicaId(2), client));
        let times: [usize; 7] = core::array::from_fn(|_| noted(&mut lacked));
        assert_eq!(times, [2, 4, 8, 16, 32, 64, 64], "whoever goes on costs a fetch in so many");
        let whole = (0..100).filter(|_| lacked.take(backup, client)).count();
        assert_eq!((whole, lacked.0.len()), (0, 0), "as many by name were not lacked");
        assert_eq!(noted(&mut lacked), 1, "it is forgiven");
        (0..2 * MAX_REMEMBERED as u64).for_each(|id| lacked.note(backup, ClientId(id)));
        assert_eq!(lacked.0.len(), MAX_REMEMBERED);
    }
}
