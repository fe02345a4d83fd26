//! What a backup measures of a primary: how long it takes to propose what waits for it, beside what the
//! others take to agree on what it has proposed.

use crate::{Batch, Request};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use althing_types::{ClientId, Instant, RequestNumber, Seq, nanos};
use borsh::{BorshDeserialize, BorshSerialize};
use core::time::Duration;

/// The most owners of clients whose copies wait to be seen proposed.
const MAX_WITNESSED: usize = 1024;

/// How many of the requests that were proposed last are remembered.
const MAX_SERVED: usize = 1024;

/// So many owners have to be served too late, at least: one alone may only say that it asked the primary.
const LEAST_LATE_CLIENTS: usize = 2;

/// A request of which a copy is here, and that is not proposed yet.
#[derive(Debug, Clone, Copy, BorshSerialize, BorshDeserialize)]
struct Waiting {
    number: RequestNumber,
    owner: ClientId,
    since: Instant,
}

/// What a copy of a client's request showed.
#[derive(Debug, Clone, Copy, BorshSerialize, BorshDeserialize)]
struct Finding {
    client: ClientId,
    /// From when on it waited for the primary alone.
    since: Instant,
    at: Instant,
    #[borsh(serialize_with = "nanos::serialize", deserialize_with = "nanos::deserialize")]
    turnaround: Duration,
    /// How long it waited in all, also while the primary had no room for it.
    #[borsh(serialize_with = "nanos::serialize", deserialize_with = "nanos::deserialize")]
    waited: Duration,
    /// How often one other client was served meanwhile, at most.
    passes: u32,
    /// Whether the client knows that it was served late.
    is_told: bool,
}

/// A request that has been passed over, and how often each other client was served instead.
#[derive(Debug, BorshSerialize, BorshDeserialize)]
struct PassedOver {
    client: ClientId,
    number: RequestNumber,
    /// From when on what arrives was proposed by a primary that had the request.
    known_from: Instant,
    by: BTreeMap<ClientId, u32>,
}

/// The measurements of one backup. All but the group's own speed begin anew with each view.
#[derive(Debug, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Turnaround {
    /// How long a batch takes from its proposal to its execution here. Rises at once, falls slowly.
    #[borsh(serialize_with = "nanos::serialize_option", deserialize_with = "nanos::deserialize_option")]
    agreement: Option<Duration>,
    /// When the batches that are not executed yet were proposed.
    proposed: BTreeMap<Seq, Instant>,
    /// The primary used all that it was allowed until then: whoever waits does not wait for it.
    pub(super) excused_until: Instant,
    /// Of each owner one client at a time: who has many sessions is watched no more than who has one.
    witnessed: BTreeMap<ClientId, Waiting>,
    watched: BTreeSet<ClientId>,
    /// The last finding of each owner.
    findings: BTreeMap<ClientId, Finding>,
    passed_over: Option<PassedOver>,
    /// Who was served last, and when.
    served: VecDeque<(Instant, ClientId)>,
}

impl Turnaround {
    /// A view starts: what was seen of its predecessor's primary says nothing of this one.
    pub(super) fn begin_view(&mut self) {
        let agreement = self.agreement;
        *self = Self { agreement, ..Self::default() };
    }

    /// How long the others take to agree on a batch; `None` as long as nobody knows.
    pub(super) fn agreement(&self) -> Option<Duration> {
        self.agreement
    }

    /// The primary could not propose just now: it gets as much time as the others take to let it.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.excused_until = now + self.agreement.unwrap_or_default();
    }

    /// The primary has proposed a batch. It may come a second time, and counts once.
    pub(super) fn note_proposed(&mut self, now: Instant, seq: Seq, batch: &Batch, transit: Duration) {
        if self.proposed.insert(seq, now).is_some() {
            return;
        }
        // What had come for later numbers could not be executed: its primary alone has taken that long.
        self.proposed.range_mut(seq..).for_each(|(_, at)| *at = now);
        for Request { client, number, .. } in &batch.requests {
            if let Some(waiting) = self.witnessed.get(client).copied()
                && waiting.number <= *number
            {
                self.witnessed.remove(client);
                self.watched.remove(&waiting.owner);
                self.find(now, *client, waiting, transit);
            }
            if let Some(passed_over) = &mut self.passed_over
                && passed_over.client != *client
                && passed_over.known_from <= now
            {
                *passed_over.by.entry(*client).or_default() += 1;
            }
            self.served.push_back((now, *client));
        }
        let surplus = self.served.len().saturating_sub(MAX_SERVED);
        self.served.drain(..surplus);
    }

    /// A batch was decided, and is executed. One that this replica could not check at once says nothing
    /// about how fast the others are.
    pub(super) fn note_executed(&mut self, now: Instant, seq: Seq, was_authentic: bool) {
        if let Some(at) = self.proposed.remove(&seq)
            && was_authentic
        {
            let (took, before) = (now.since(at), self.agreement.unwrap_or_default());
            self.agreement =
                Some(if took > before { (before + took) / 2 } else { before - (before - took) / 16 });
        }
        self.proposed = self.proposed.split_off(&seq.next());
    }

    /// A client has shown this replica a copy of what it has sent to the primary.
    pub(super) fn witness(&mut self, now: Instant, client: ClientId, number: RequestNumber, owner: ClientId) {
        if self.watched.len() < MAX_WITNESSED && self.watched.insert(owner) {
            self.witnessed.insert(client, Waiting { number, owner, since: now });
        }
    }

    /// The copy came after the proposal.
    pub(super) fn find_prompt(&mut self, now: Instant, client: ClientId, owner: ClientId) {
        let waiting = Waiting { number: RequestNumber::default(), owner, since: now };
        self.find(now, client, waiting, Duration::ZERO);
    }

    fn find(&mut self, now: Instant, client: ClientId, waiting: Waiting, transit: Duration) {
        let Waiting { owner, since, .. } = waiting;
        let has_room = self.findings.len() < MAX_WITNESSED;
        if has_room || self.findings.contains_key(&owner) {
            let (waited, passes) = (now.since(since), self.passes_since(since + transit, client));
            let since = since.max(self.excused_until);
            let turnaround = now.since(since);
            let finding = Finding { client, since, at: now, turnaround, waited, passes, is_told: false };
            self.findings.insert(owner, finding);
        }
    }

    /// How often one other client was served since then, at most.
    fn passes_since(&self, since: Instant, client: ClientId) -> u32 {
        let mut by = BTreeMap::<ClientId, u32>::new();
        for (_, served) in self.served.iter().rev().take_while(|(at, _)| *at >= since) {
            *by.entry(*served).or_default() += u32::from(*served != client);
        }
        by.into_values().max().unwrap_or_default()
    }

    /// Takes down how long requests have waited that still do, and forgets findings older than `lifetime`.
    pub(super) fn review(&mut self, now: Instant, lifetime: Duration, transit: Duration) {
        let waiting: Vec<_> = self.witnessed.iter().map(|(client, waiting)| (*client, *waiting)).collect();
        for (client, waiting) in waiting {
            // One that still waits shows something only once it has waited longer than the last one did.
            let before = self.findings.get(&waiting.owner).map_or(Duration::ZERO, |finding| finding.waited);
            if now.since(waiting.since) > before {
                self.find(now, client, waiting, transit);
            }
        }
        self.findings.retain(|_, finding| now.since(finding.at) <= lifetime);
    }

    /// Whether clients of most of the owners that were watched lately, and not only of one, were served later
    /// than `allowed`, and one of them after another. Of those that say that they asked the primary some may
    /// not have; and all that wait while a machine pauses are late at once, and once.
    pub(super) fn is_late_for_most(&self, allowed: Duration) -> bool {
        let late = || self.findings.values().filter(|finding| finding.turnaround > allowed);
        let first_end = late().map(|finding| finding.at).min();
        let last_start = late().map(|finding| finding.since).max();
        let count = late().count();
        count >= LEAST_LATE_CLIENTS && 2 * count > self.findings.len() && last_start >= first_end
    }

    /// The clients that were served later than `allowed`, or after others had been served more than
    /// `passes` times, and that have yet to be told.
    pub(super) fn tell_late(&mut self, allowed: Duration, passes: u32) -> Vec<ClientId> {
        let late = |finding: &mut Finding| {
            let is_passed_over = passes > 0 && finding.passes > passes;
            let is_late = (is_passed_over || finding.turnaround > allowed) && !finding.is_told;
            finding.is_told |= is_late;
            is_late.then_some(finding.client)
        };
        self.findings.values_mut().filter_map(late).collect()
    }

    /// Watches that nobody is served over and over before this request, in what arrives from then on.
    pub(super) fn guard(&mut self, oldest: Option<(ClientId, RequestNumber, Instant)>) {
        let guarded = self.passed_over.as_ref().map(|passed_over| (passed_over.client, passed_over.number));
        if guarded != oldest.map(|(client, number, _)| (client, number)) {
            self.passed_over = oldest.map(|(client, number, known_from)| PassedOver {
                client,
                number,
                known_from,
                by: BTreeMap::new(),
            });
        }
    }

    /// How often one client was served at most while the guarded request waited.
    pub(super) fn passes(&self) -> u32 {
        let by = self.passed_over.iter().flat_map(|passed_over| passed_over.by.values());
        by.copied().max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Answers, RequestAuth, RequestKind};
    use althing_crypto::Authenticator;
    use althing_types::Epoch;

    const MS: u64 = 1_000_000;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn batch(clients: &[u64], number: u64) -> Batch {
        let request = |client: &u64| Request {
            client: ClientId(*client),
            number: RequestNumber(number),
            kind: RequestKind::Service,
            operation: alloc::vec![],
            epoch: Epoch(0),
            answers: Answers::All,
            auth: RequestAuth::Macs(Authenticator::default()),
            is_authentic: true,
        };
        Batch { time: Instant(0), requests: clients.iter().map(request).collect() }
    }

    #[test]
    fn the_groups_own_speed_rises_at_once_and_falls_slowly() {
        let mut measured = Turnaround::default();
        let mut took = |seq, from: u64, to: u64, was_authentic| {
            measured.note_proposed(Instant(from * MS), Seq(seq), &Batch::null(), ms(0));
            measured.note_executed(Instant(to * MS), Seq(seq), was_authentic);
            measured.agreement()
        };
        assert_eq!(took(1, 0, 9, false), None, "it waited for others to vouch");
        assert_eq!(took(2, 10, 26, true), Some(ms(8)));
        assert_eq!(took(3, 30, 46, true), Some(ms(12)));
        assert_eq!(took(4, 50, 50, true), Some(Duration::from_micros(11_250)));
    }

    #[test]
    fn what_waited_for_an_earlier_number_says_nothing_of_the_others() {
        let mut measured = Turnaround::default();
        for (seq, at) in [(2, 0), (1, 90)] {
            measured.note_proposed(Instant(at * MS), Seq(seq), &Batch::null(), ms(0));
        }
        for seq in [1, 2] {
            measured.note_executed(Instant(94 * MS), Seq(seq), true);
        }
        assert_eq!(measured.agreement(), Some(ms(3)));
    }

    #[test]
    fn most_of_the_clients_watched_and_two_at_least_have_to_be_late() {
        let mut measured = Turnaround::default();
        for client in [1, 2, 3] {
            measured.witness(Instant(0), ClientId(client), RequestNumber(5), ClientId(client));
        }
        measured.note_proposed(Instant(2 * MS), Seq(1), &batch(&[1, 2], 5), ms(0));
        assert!(!measured.is_late_for_most(ms(2)), "they are served in time");
        measured.review(Instant(40 * MS), ms(100), ms(0));
        assert!(!measured.is_late_for_most(ms(2)), "one client alone is not believed");
        measured.note_proposed(Instant(40 * MS), Seq(2), &batch(&[3], 5), ms(0));
        measured.witness(Instant(40 * MS), ClientId(2), RequestNumber(6), ClientId(2));
        measured.review(Instant(45 * MS), ms(100), ms(0));
        assert!(measured.is_late_for_most(ms(4)) && !measured.is_late_for_most(ms(5)));
        assert_eq!(measured.tell_late(ms(9), 0), [ClientId(3)]);
        assert_eq!(measured.tell_late(ms(4), 0), [ClientId(2)], "each is told once");
        measured.find_prompt(Instant(46 * MS), ClientId(4), ClientId(4));
        assert!(!measured.is_late_for_most(ms(4)), "two of four are not most");
        measured.review(Instant(146 * MS), ms(100), ms(0));
        measured.begin_view();
        assert!(!measured.is_late_for_most(ms(0)));
    }

    /// A client shows a request, and it is proposed so much later; gives back the time after that.
    fn serve(measured: &mut Turnaround, at: u64, (client, owner): (u64, u64), wait: u64) -> u64 {
        measured.witness(Instant(at * MS), ClientId(client), RequestNumber(1), ClientId(owner));
        measured.note_proposed(Instant((at + wait) * MS), Seq(at), &batch(&[client], 1), ms(0));
        at + wait + 1
    }

    #[test]
    fn who_has_many_sessions_counts_as_one() {
        let (mut measured, mut now) = (Turnaround::default(), 1);
        for session in 1..9 {
            now = serve(&mut measured, now, (session, 1), 9);
            assert!(!measured.is_late_for_most(ms(8)));
        }
        serve(&mut measured, now, (20, 20), 9);
        assert!(measured.is_late_for_most(ms(8)), "two owners");
    }

    #[test]
    fn all_that_wait_during_one_pause_are_late_once() {
        let mut measured = Turnaround::default();
        for client in 1..9 {
            measured.witness(Instant(client * MS), ClientId(client), RequestNumber(1), ClientId(client));
        }
        measured.note_proposed(Instant(100 * MS), Seq(1), &batch(&[1, 2, 3, 4], 1), ms(0));
        measured.note_proposed(Instant(101 * MS), Seq(2), &batch(&[5, 6, 7, 8], 1), ms(0));
        assert!(!measured.is_late_for_most(ms(8)));
        serve(&mut measured, 102, (1, 1), 9);
        assert!(measured.is_late_for_most(ms(8)), "and again");
    }

    #[test]
    fn what_waits_while_the_primary_may_not_propose_does_not_wait_for_it() {
        let mut measured = Turnaround::default();
        measured.note_proposed(Instant(0), Seq(1), &Batch::null(), ms(0));
        measured.note_executed(Instant(20 * MS), Seq(1), true);
        for (client, from) in [(1, 20), (2, 64)] {
            measured.witness(Instant(from * MS), ClientId(client), RequestNumber(1), ClientId(client));
            measured.excuse(Instant((from + 30) * MS));
            measured.note_proposed(Instant((from + 43) * MS), Seq(from), &batch(&[client], 1), ms(0));
        }
        assert!(measured.is_late_for_most(ms(2)) && !measured.is_late_for_most(ms(3)));
    }

    #[test]
    fn a_client_that_was_passed_over_is_told_however_busy_the_primary_is() {
        let told = |passes, transit| {
            let mut measured = Turnaround { agreement: Some(ms(2)), ..Turnaround::default() };
            measured.witness(Instant(0), ClientId(9), RequestNumber(1), ClientId(9));
            for seq in 1..=3 {
                let now = Instant(seq * 2 * MS);
                measured.note_proposed(now, Seq(seq), &batch(&[1], seq), transit);
                measured.excuse(now);
            }
            measured.review(Instant(7 * MS), ms(100), transit);
            measured.tell_late(ms(5), passes)
        };
        assert_eq!(told(2, ms(2)), [ClientId(9)]);
        assert_eq!(told(3, ms(2)), []);
        assert_eq!(told(2, ms(3)), [], "the first may have been proposed before the request was there");
    }

    #[test]
    fn passes_count_for_one_request_at_a_time_once_it_must_be_known_and_not_its_own_client() {
        let mut measured = Turnaround::default();
        let guarded = Some((ClientId(9), RequestNumber(1), Instant(2 * MS)));
        measured.guard(guarded);
        let mut passes = |seq, clients: &[u64]| {
            measured.note_proposed(Instant(seq * MS), Seq(seq), &batch(clients, seq), ms(0));
            measured.guard(guarded);
            measured.passes()
        };
        assert_eq!(passes(1, &[1, 2]), 0, "proposed before the request was there");
        assert_eq!([passes(2, &[1, 2]), passes(3, &[1])], [1, 2]);
        assert_eq!(passes(3, &[1]), 2, "the same proposal again");
        assert_eq!(passes(4, &[9, 1]), 3);
        measured.guard(Some((ClientId(8), RequestNumber(1), Instant(2 * MS))));
        assert_eq!(measured.passes(), 0);
    }

    #[test]
    fn inventing_requests_does_not_fill_the_memory() {
        let mut measured = Turnaround::default();
        for client in 0..MAX_WITNESSED as u64 + 9 {
            measured.witness(Instant(0), ClientId(client), RequestNumber(1), ClientId(client));
            measured.find_prompt(Instant(0), ClientId(client), ClientId(client));
        }
        assert_eq!((measured.witnessed.len(), measured.findings.len()), (MAX_WITNESSED, MAX_WITNESSED));
        for seq in 1..=MAX_SERVED as u64 {
            measured.note_proposed(Instant(0), Seq(seq), &batch(&[1, 2], seq), ms(0));
        }
        measured.note_executed(Instant(0), Seq(MAX_SERVED as u64 - 1), true);
        assert_eq!((measured.served.len(), measured.proposed.len()), (MAX_SERVED, 1));
        measured.review(Instant(9 * MS), ms(8), ms(0));
        assert!(
            measured.findings.values().all(|finding| finding.at == Instant(9 * MS)),
            "the rest is too old"
        );
    }

    #[test]
    fn an_earlier_request_of_the_same_client_serves_nobody() {
        let mut measured = Turnaround::default();
        measured.witness(Instant(0), ClientId(1), RequestNumber(5), ClientId(1));
        measured.note_proposed(Instant(MS), Seq(1), &batch(&[1], 4), ms(0));
        assert_eq!((measured.witnessed.len(), measured.findings.len()), (1, 0));
        measured.guard(Some((ClientId(1), RequestNumber(5), Instant(0))));
        measured.note_proposed(Instant(2 * MS), Seq(2), &batch(&[1], 4), ms(0));
        assert_eq!(measured.passes(), 0, "nor passes itself over");
    }
}
