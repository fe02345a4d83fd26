//! Large requests by name (*separate request transmission*, TOCS'02 §5.1.5): what protocols share of it.

use crate::pending::Pending;
use crate::{Batch, Request};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_types::{ClientId, Digest, Instant, ReplicaId, RequestNumber, Seq, View};
use borsh::{BorshDeserialize, BorshSerialize};
use core::time::Duration;

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

/// A proposal that names the requests which their clients have sent to all replicas (TOCS'02 §5.1.5).
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ShortProposal {
    /// The view it is proposed in.
    pub view: View,
    /// The number it is proposed for.
    pub seq: Seq,
    /// The whole batch's digest.
    pub digest: Digest,
    /// The batch's time.
    pub time: Instant,
    /// The requests that it holds, in their order.
    pub whole: Vec<Request>,
    /// The others, in their order.
    pub named: Vec<NamedRequest>,
}

impl ShortProposal {
    /// Shortens a proposal of a batch of this digest; `None` where it holds nothing that `is_separate`.
    pub(crate) fn of(
        (view, seq, digest): (View, Seq, Digest),
        batch: &Batch,
        is_separate: impl Fn(&Request) -> bool,
    ) -> Option<Self> {
        let (mut whole, mut named) = (Vec::new(), Vec::new());
        for (place, request) in (0u32..).zip(&batch.requests) {
            if is_separate(request) {
                named.push(NamedRequest { place, client: request.client, number: request.number });
            } else {
                whole.push(request.clone());
            }
        }
        (!named.is_empty()).then_some(Self { view, seq, digest, time: batch.time, whole, named })
    }

    /// How many requests it holds and names.
    pub(crate) fn requests(&self) -> usize {
        self.whole.len().saturating_add(self.named.len())
    }

    /// The batch that is meant, if all that is named is known, and `fits` says that so much may be in one: a request
    /// that is named again and again would be copied as often.
    pub(crate) fn put_together(
        &self,
        pending: &Pending,
        fits: impl FnOnce(&[&Request]) -> bool,
    ) -> Option<Batch> {
        let mut requests = Vec::new();
        let mut whole = self.whole.iter();
        for NamedRequest { place, client, number } in &self.named {
            let before = usize::try_from(*place).ok()?.checked_sub(requests.len())?;
            requests.extend(whole.by_ref().take(before));
            requests.push(pending.named(*client, *number)?);
        }
        requests.extend(whole);
        let batch = fits(&requests)
            .then(|| Batch { time: self.time, requests: requests.into_iter().cloned().collect() })?;
        (batch.digest() == self.digest).then_some(batch)
    }
}

/// The least that a replica may hold of requests that are to be proposed by name, in bytes.
const LEAST_ROOM: usize = 16 << 20;

/// How many bytes of requests a replica holds that are to be proposed by name: as many as may be under way, and enough for
/// it to be cut off from the primary for a while.
pub(crate) fn room(max_batch_bytes: usize, pipeline: u64) -> usize {
    let under_way = usize::try_from(pipeline).unwrap_or(usize::MAX);
    max_batch_bytes.saturating_mul(under_way).max(LEAST_ROOM)
}

/// How many status periods have to end for that much time to have passed: what comes during one sees it end at once.
pub(crate) fn periods(patience: Duration, status_period: Duration) -> u32 {
    let periods = patience.as_nanos().div_ceil(status_period.as_nanos().max(1));
    u32::try_from(periods).unwrap_or(u32::MAX).saturating_add(1)
}

/// Proposals of one view of which some request is still to come from its client, until they are executed.
///
/// At most one for each number is held, and the protocol holds them only for numbers of its log and of the next one.
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct Unfinished(BTreeMap<Seq, Held>);

/// One of them.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
struct Held {
    short: ShortProposal,
    /// Under which key its proposer has said it.
    key: u64,
    /// How many status periods have ended since it came. By the timer: the time that a logical machine is given can be
    /// made to stand still.
    waited: u32,
}

impl Unfinished {
    /// Holds a proposal that came under a key, unless one of its view is held for that number: what comes again does not
    /// wait again, and a correct proposer has no other.
    pub(crate) fn hold(&mut self, key: u64, short: ShortProposal) {
        let known = self.0.get(&short.seq);
        if known.is_none_or(|known| known.short.view < short.view) {
            self.0.insert(short.seq, Held { short, key, waited: 0 });
        }
    }

    /// Whether this batch is waited for: until its proposer has been asked for it and had a period to answer.
    pub(crate) fn has(&self, (view, seq, digest): (View, Seq, Digest), patience: u32) -> bool {
        self.0.get(&seq).is_some_and(|held| {
            (held.short.view, held.short.digest) == (view, digest) && held.waited <= patience
        })
    }

    /// Takes out those that name this request of a client and that `finish` makes a whole of, with the key under which
    /// each was said.
    pub(crate) fn finish(
        &mut self,
        (client, number): (ClientId, RequestNumber),
        mut finish: impl FnMut(&ShortProposal) -> Option<Batch>,
    ) -> Vec<(ShortProposal, u64, Batch)> {
        let names = |short: &ShortProposal| {
            short.named.iter().any(|named| (named.client, named.number) == (client, number))
        };
        let concerned = self.0.values().filter(|held| names(&held.short));
        let finished: Vec<_> =
            concerned.filter_map(|held| Some((held.short.seq, finish(&held.short)?))).collect();
        let take = |(seq, batch)| self.0.remove(&seq).map(|held| (held.short, held.key, batch));
        finished.into_iter().filter_map(take).collect()
    }

    /// A status period has ended; the numbers of those that have now waited for so many.
    pub(crate) fn overdue(&mut self, patience: u32) -> Vec<Seq> {
        let mut overdue = Vec::new();
        for (seq, held) in &mut self.0 {
            held.waited = held.waited.saturating_add(1);
            overdue.extend((held.waited == patience).then_some(*seq));
        }
        overdue
    }

    /// Drops those of earlier views, and for numbers up to this one.
    pub(crate) fn drop_before(&mut self, view: View, executed: Seq) {
        self.0.retain(|seq, held| *seq > executed && held.short.view >= view);
    }

    /// Drops those that were said under keys before this one by whom `is_its`.
    pub(crate) fn forget(&mut self, before: u64, is_its: impl Fn(View) -> bool) {
        self.0.retain(|_, held| held.key >= before || !is_its(held.short.view));
    }

    pub(crate) fn whole_mut(&mut self) -> impl Iterator<Item = &mut Request> {
        self.0.values_mut().flat_map(|held| &mut held.short.whole)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// A backup that has lacked requests of a client again and again is sent so many as a whole.
const MOST_WHOLE: u32 = 64;

/// That it did is forgotten when it has been sent so many times as many by name since: what it lacks of them it says later,
/// and who lacks them on purpose gains nothing by waiting.
const NAMED: u32 = 64;

/// The most clients of which that is remembered, for all backups together.
const MAX_REMEMBERED: usize = 4096;

/// As primary: whose requests which backup lacked, and how many it is still to be sent as a whole: one after the first
/// time, since it may have been cut off for a moment, and each time twice as many. A backup that lies changes only what
/// it is sent itself.
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct Lacked(BTreeMap<(ReplicaId, ClientId), Spell>);

/// For how long requests of a client are sent to a backup as a whole.
#[derive(Debug, Clone, Copy, BorshSerialize, BorshDeserialize)]
struct Spell {
    length: u32,
    /// How many are still to be sent as a whole.
    whole: u32,
    /// After how many that are sent by name it is forgotten.
    named: u32,
}

impl Lacked {
    pub(crate) fn note(&mut self, backup: ReplicaId, client: ClientId) {
        if self.0.len() >= MAX_REMEMBERED && !self.0.contains_key(&(backup, client)) {
            self.0.pop_first();
        }
        let known = self.0.get(&(backup, client));
        // What it lacks while it is sent them whole was named before.
        if known.is_none_or(|spell| spell.whole == 0) {
            let length = known.map_or(1, |spell| (2 * spell.length).min(MOST_WHOLE));
            self.0.insert((backup, client), Spell { length, whole: length, named: NAMED * length });
        }
    }

    /// Whether the next request of this client is to be sent to this backup as a whole.
    pub(crate) fn take(&mut self, backup: ReplicaId, client: ClientId) -> bool {
        let Some(spell) = self.0.get_mut(&(backup, client)) else { return false };
        let is_whole = spell.whole > 0;
        let left = if is_whole { &mut spell.whole } else { &mut spell.named };
        *left -= 1;
        if spell.named == 0 {
            self.0.remove(&(backup, client));
        }
        is_whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_requests_were_lacked_are_sent_whole_there_for_a_while_that_grows() {
        let mut lacked = Lacked::default();
        let (backup, client) = (ReplicaId(1), ClientId(1));
        assert!(!lacked.take(backup, client));
        for length in [1, 2, 4, 8, 16, 32, 64, 64] {
            // What was under way by name is lacked as well.
            (0..3).for_each(|_| lacked.note(backup, client));
            let whole = (0..1000).take_while(|_| lacked.take(backup, client)).count();
            assert_eq!(whole, length);
        }
        assert!((1..NAMED * 64).all(|_| !lacked.take(backup, client)));
        assert!(lacked.0.is_empty(), "it has what is sent by name again");
        lacked.note(backup, client);
        assert!(lacked.take(backup, client) && !lacked.take(backup, client));
        (0..2 * MAX_REMEMBERED as u64).for_each(|id| lacked.note(backup, ClientId(id)));
        assert_eq!(lacked.0.len(), MAX_REMEMBERED);
    }
}
