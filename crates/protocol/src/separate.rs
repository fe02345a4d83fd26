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

/// A backup that lacked a client's request is sent so many of that client as a whole from then on.
const SENT_WHOLE: u32 = 64;

/// The most clients of which that is remembered, for all backups together.
const MAX_REMEMBERED: usize = 4096;

/// As primary: whose requests which backup lacked, and how many it is still to be sent as a whole. A backup
/// that lies changes only what it is sent itself.
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct Lacked(BTreeMap<(ReplicaId, ClientId), u32>);

impl Lacked {
    pub(crate) fn note(&mut self, backup: ReplicaId, client: ClientId) {
        if self.0.len() >= MAX_REMEMBERED && !self.0.contains_key(&(backup, client)) {
            self.0.pop_first();
        }
        self.0.insert((backup, client), SENT_WHOLE);
    }

    /// Whether the next request of this client is to be sent to this backup as a whole.
    pub(crate) fn take(&mut self, backup: ReplicaId, client: ClientId) -> bool {
        let Some(left) = self.0.get_mut(&(backup, client)) else { return false };
        *left -= 1;
        if *left == 0 {
            self.0.remove(&(backup, client));
        }
        true
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
        lacked.note(backup, client);
        assert!(!lacked.take(ReplicaId(2), client));
        let times = (0..1000).take_while(|_| lacked.take(backup, client)).count();
        assert_eq!((times, lacked.0.len()), (64, 0));
        (0..2 * MAX_REMEMBERED as u64).for_each(|id| lacked.note(backup, ClientId(id)));
        assert_eq!(lacked.0.len(), MAX_REMEMBERED);
    }
}
