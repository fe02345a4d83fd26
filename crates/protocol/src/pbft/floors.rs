//! The floors that backups hold a primary to, so that one that does just enough not to be voted out
//! does not decide how fast the group is (the attack of "Making Byzantine Fault Tolerant Systems Tolerate
//! Byzantine Faults", NSDI'09, and of "Byzantine Replication Under Attack", DSN'08).
//!
//! - *Throughput*: what waits is proposed within `primary_slack` times what the others take to agree on a
//!   proposal. That is a floor on throughput which knows nothing of demand: it asks for nothing while
//!   nobody waits, and moves with the load and the speed of the machines (TAT of Prime).
//! - *Fairness*: nobody is served more than `primary_passes` times before somebody who waits (Aardvark), in
//!   what was proposed once the primary had that request. A correct one keeps the order of arrival.
//!
//! A backup knows of what waits in two ways. A client that has waited too long sends a signed request to
//! all: the primary must take it, so one such request is enough. And each client shows now and then a copy
//! of what it sends to the primary to one backup, which the primary can't foresee. A client could show
//! what it has never sent, so it takes those of most owners that were watched, and of two at least. A client
//! that is served late is told so; when f + 1 backups have told it, it asks all of them from the start for
//! a while, signed, and then it is of the first kind.
//!
//! What is proposed beyond a number that is not can't be executed: a gap is a wait like that of a complaint.
//!
//! Machines pause, and all that waits then is late at once. So to be late counts once it was seen twice, one
//! after the other.
//!
//! A backup that finds its primary below a floor says so in its `Status`, and can take it back. When f + 1
//! say so, one of them is correct, and all leave the view. Once f + 1 primaries in a row were left so, one of
//! them was correct, and the floors are too high: all allow twice as much from then on, until a primary has
//! long been seen to need no more than half of it.

use super::log::Entry;
use super::turnaround::Turnaround;
use super::{Pbft, PbftMessage, Step};
use crate::{Action, Batch, Request};
use althing_types::{ClientId, Instant, ReplicaId, RequestNumber, Seq};
use borsh::{BorshDeserialize, BorshSerialize};
use core::time::Duration;

/// What is allowed doubles so often at most.
const MAX_CAUTION: u32 = 8;

/// A signed request may wait for this share of the view timeout in any case.
const LEAST_PATIENCE: u32 = 10;

/// What is watched may take this share of the view timeout in any case.
const LEAST_TURNAROUND: u32 = 100;

/// Clients have to find the primary slow for this share of the view timeout.
const SUSTAINED: u32 = 8;

/// How long what a client has shown counts, in view timeouts.
const FINDING_TIMEOUTS: u32 = 2;

/// After so many view timeouts without a reason for it, caution is halved.
const CALM_TIMEOUTS: u32 = 32;

/// What waits for the primary alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
enum Awaited {
    /// That this request is proposed.
    Request(ClientId, RequestNumber),
    /// That something is proposed for this number, as it is for later ones.
    Number(Seq),
}

/// How this replica judges the primary of its view.
#[derive(Debug, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Floors {
    pub(super) measured: Turnaround,
    /// What is allowed has doubled so often.
    caution: u32,
    /// So many primaries in a row were left for what they did, since what is allowed doubled last.
    left_in_a_row: usize,
    /// When either of those last changed.
    cautious_since: Instant,
    /// Since when most clients that were watched have been served too late.
    slow_since: Option<Instant>,
    /// What had waited too long when that was last looked at, and when that was.
    overdue: Option<(Awaited, Instant)>,
    /// Until when the first and the last of late are known to have waited that do no longer.
    overdue_ends: Option<(Instant, Instant)>,
    /// The number that the primary has passed over, and since when that is known.
    gap: Option<(Seq, Instant)>,
    is_suspicious: bool,
}

impl Floors {
    pub(super) fn begin_view(&mut self) {
        self.measured.begin_view();
        (self.slow_since, self.is_suspicious) = (None, false);
        (self.overdue, self.overdue_ends, self.gap) = (None, None, None);
    }

    pub(super) fn is_suspicious(&self) -> bool {
        self.is_suspicious
    }
}

impl Pbft {
    /// A client shows this replica what it has sent to the primary.
    pub(super) fn on_witness(&mut self, step: &Step, request: &Request, owner: ClientId) {
        if self.config.settings.primary_slack == 0 || !request.is_authentic || !self.is_judging() {
            return;
        }
        let Request { client, number, .. } = *request;
        // Whoever shows a lot must not have the whole log looked through for it.
        let is_proposed = self.pending.has_executed(client, number) || self.is_under_way(client, number);
        let measured = &mut self.floors.measured;
        if is_proposed {
            measured.find_prompt(step.now, client, owner);
        } else {
            measured.witness(step.now, client, number, owner);
        }
    }

    /// Whether this replica can say how the primary does. One that brings its instance to an end has nothing
    /// to propose any more but what nobody waits for.
    fn is_judging(&self) -> bool {
        let is_backup = self.is_in_view && self.primary() != self.me();
        is_backup && self.membership.is_voter() && self.behind.is_none() && self.end.is_none()
    }

    /// As backup: the primary has proposed `batch`.
    pub(super) fn note_proposal(&mut self, now: Instant, seq: Seq, batch: &Batch) {
        let settings = &self.config.settings;
        let bytes: usize = batch.requests.iter().map(|request| request.operation.len()).sum();
        let is_full =
            batch.requests.len() >= settings.max_batch_requests || 2 * bytes >= settings.max_batch_bytes;
        let transit = self.transit();
        self.floors.measured.note_proposed(now, seq, batch, transit);
        if is_full {
            // Whoever else waits has to wait for the next.
            self.floors.measured.excuse(now);
        }
    }

    /// As backup: a batch is executed.
    pub(super) fn note_agreement(&mut self, now: Instant, seq: Seq) {
        let assignment = self.log.get(seq).and_then(|entry| entry.assignment);
        let was_authentic = assignment.is_some_and(|assignment| assignment.was_authentic);
        self.floors.measured.note_executed(now, seq, was_authentic);
        if self.is_primary_held_up() {
            self.floors.measured.excuse(now);
        }
    }

    /// Whether the primary may propose nothing more now: its pipeline is full, or the log is.
    fn is_primary_held_up(&self) -> bool {
        let pipeline = self.config.settings.pipeline;
        let is_under_way = |seq: &u64| {
            let assignment = self.log.get(Seq(*seq)).and_then(|entry| entry.assignment);
            assignment.is_some_and(|assignment| assignment.is_accepted)
        };
        let first = self.executed.0.saturating_add(1);
        let under_way = (first..first.saturating_add(pipeline)).take_while(is_under_way).count() as u64;
        under_way >= pipeline || Seq(first.saturating_add(under_way)) > self.high_watermark()
    }

    /// Judges the primary, now and then, and says so if that has changed.
    pub(super) fn review_primary(&mut self, step: &mut Step) {
        let (now, timeout) = (step.now, self.config.settings.view_timeout);
        let was_suspicious = self.floors.is_suspicious;
        if self.is_judging() {
            if self.is_primary_held_up() {
                self.floors.measured.excuse(now);
            }
            let transit = self.transit();
            self.floors.measured.review(now, timeout * FINDING_TIMEOUTS, transit);
            if let Some(allowed) = self.allowance(LEAST_TURNAROUND, self.floors.caution) {
                let passes = self.config.settings.primary_passes;
                let late = self.floors.measured.tell_late(allowed, passes);
                step.actions.extend(late.into_iter().map(Action::Late));
            }
            self.note_gap(now);
            self.floors.is_suspicious =
                self.is_overdue(now) || self.is_unfair() || self.is_slow_for_most(now);
            self.relax(now);
        } else {
            self.floors.begin_view();
        }
        if self.floors.is_suspicious != was_suspicious {
            step.broadcast(PbftMessage::Status(self.status()));
        }
    }

    /// Watches that nobody is passed over, with every proposal.
    pub(super) fn watch_fairness(&mut self, step: &mut Step) {
        if !self.is_judging() {
            return;
        }
        let oldest = self.pending.oldest_unproposed_signed().map(|(arrival, request)| {
            let since = self.pending.since(arrival).max(self.in_view_since);
            (request.client, request.number, since + self.transit())
        });
        self.floors.measured.guard(oldest);
        if !self.floors.is_suspicious && self.is_unfair() {
            self.floors.is_suspicious = true;
            step.broadcast(PbftMessage::Status(self.status()));
        }
    }

    /// What the primary may take, from what the others take; `None` where nobody can know.
    fn allowance(&self, least: u32, caution: u32) -> Option<Duration> {
        let settings = &self.config.settings;
        let (timeout, slack) = (settings.view_timeout, settings.primary_slack);
        let agreement = self.floors.measured.agreement().filter(|_| slack > 0)?;
        let doublings = (caution + self.fruitless_views).min(MAX_CAUTION);
        Some(agreement.saturating_mul(slack).clamp(timeout / least, timeout) * 2u32.pow(doublings))
    }

    /// What has waited longest for the primary alone, and from when on: a signed request, or a gap in what is
    /// proposed.
    fn oldest_wait(&self) -> Option<(Awaited, Instant)> {
        let request = self.pending.oldest_unproposed_signed().map(|(arrival, request)| {
            let since = self.pending.since(arrival).max(self.in_view_since);
            let since = since.max(self.floors.measured.excused_until);
            (Awaited::Request(request.client, request.number), since)
        });
        let gap = self.floors.gap.map(|(seq, since)| (Awaited::Number(seq), since));
        request.into_iter().chain(gap).min_by_key(|(_, since)| *since)
    }

    /// The next number that has no proposal, if a later one has: none of those can be executed before.
    fn passed_over(&self) -> Option<Seq> {
        let is_proposed = |entry: &Entry| entry.assignment.is_some();
        let mut free = self.executed.next();
        while self.log.get(free).is_some_and(is_proposed) {
            free = free.next();
        }
        let has_later = || self.early.has_proposal_in(self.view) || self.log.above(free).any(is_proposed);
        (free <= self.high_watermark() && has_later()).then_some(free)
    }

    fn note_gap(&mut self, now: Instant) {
        let known = self.floors.gap;
        self.floors.gap = self.passed_over().map(|seq| {
            let since = known.filter(|(before, _)| *before == seq).map_or(now, |(_, since)| since);
            (seq, since)
        });
    }

    /// Whether a complaint waits too long that began to once another one had: a machine may pause, and a
    /// pause that does not end is for the view timer. Somebody else may wait all the while in between.
    fn is_overdue(&mut self, now: Instant) -> bool {
        let allowed = self.allowance(LEAST_PATIENCE, self.floors.caution);
        let is_late = |since: Instant| allowed.is_some_and(|allowed| now.since(since) > allowed);
        let overdue = self.oldest_wait().filter(|(_, since)| is_late(*since));
        let lifetime = self.config.settings.view_timeout * FINDING_TIMEOUTS;
        let floors = &mut self.floors;
        if let Some((first, last)) = floors.overdue_ends
            && now.since(first) > lifetime
        {
            floors.overdue_ends = (now.since(last) <= lifetime).then_some((last, last));
        }
        if let Some((before, end)) = floors.overdue
            && overdue.is_none_or(|(awaited, _)| awaited != before)
        {
            let first = floors.overdue_ends.map_or(end, |(first, _)| first);
            floors.overdue_ends = Some((first, end));
        }
        floors.overdue = overdue.map(|(awaited, _)| (awaited, now));
        let first_end = floors.overdue_ends.map(|(first, _)| first);
        overdue.zip(first_end).is_some_and(|((_, since), end)| since >= end)
    }

    fn is_unfair(&self) -> bool {
        let most = self.config.settings.primary_passes;
        most > 0 && self.floors.measured.passes() > most
    }

    /// How long after a request came here, and was passed on, what arrives was proposed by a primary that
    /// had it: a message to the primary, what that writes to its disk, and a message back. The others take
    /// longer to agree.
    fn transit(&self) -> Duration {
        let least = self.config.settings.view_timeout / (2 * LEAST_PATIENCE);
        let doublings = (self.floors.caution + self.fruitless_views).min(MAX_CAUTION);
        self.floors.measured.agreement().unwrap_or_default().max(least) * 2u32.pow(doublings)
    }

    fn is_slow_for_most(&mut self, now: Instant) -> bool {
        let allowed = self.allowance(LEAST_TURNAROUND, self.floors.caution);
        if !allowed.is_some_and(|allowed| self.floors.measured.is_late_for_most(allowed)) {
            self.floors.slow_since = None;
            return false;
        }
        let since = *self.floors.slow_since.get_or_insert(now);
        now.since(since) >= self.config.settings.view_timeout / SUSTAINED
    }

    /// Allows less again once the primary has long needed less.
    fn relax(&mut self, now: Instant) {
        let calm = self.config.settings.view_timeout * CALM_TIMEOUTS;
        let floors = &self.floors;
        let is_at_rest = floors.caution == 0 && floors.left_in_a_row == 0;
        if is_at_rest || now.since(floors.cautious_since.max(self.in_view_since)) < calm {
            return;
        }
        self.floors.left_in_a_row = 0;
        self.floors.cautious_since = now;
        let Some(less) = self.floors.caution.checked_sub(1) else { return };
        let allowed = self.allowance(LEAST_TURNAROUND, less).map(|allowed| allowed / 2);
        if !allowed.is_some_and(|allowed| self.floors.measured.is_late_for_most(allowed)) {
            self.floors.caution = less;
        }
    }

    /// Leaves a view whose primary f + 1 replicas find below a floor: one of them is correct.
    pub(super) fn leave_if_suspected(&mut self, step: &mut Step) {
        if !self.is_in_view || !self.membership.is_voter() {
            return;
        }
        let is_other = |from: ReplicaId| from != self.me();
        let suspecting = self.peers.suspecting(self.view, step.now, self.view_timeout());
        let others = suspecting.filter(|from| is_other(*from)).count();
        if others + usize::from(self.floors.is_suspicious) >= self.quorums().one_correct() {
            self.floors.left_in_a_row += 1;
            if self.floors.left_in_a_row >= self.quorums().one_correct() {
                self.floors.left_in_a_row = 0;
                self.floors.caution = (self.floors.caution + 1).min(MAX_CAUTION);
            }
            self.floors.cautious_since = step.now;
            self.leave_view(step, self.view.next());
        }
    }
}
