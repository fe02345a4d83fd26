//! When something faster is tried again: from Backup after k requests and a while, and from a chain that serves one
//! client alone.
//!
//! Each replica judges by itself; those that are correct see the same, nearly at the same time, and f + 1 of them take
//! the others along. So no primary ends Backup early, nor keeps a group in it. k and the while double each time that
//! what was tried did not last as long as Backup had: so nobody who makes it fail again and again, be it a replica or a
//! client, can cost more than a share of the time that falls with each attempt.

use super::mode::{Composition, Mode};
use super::status::IDLE_PERIODS;
use super::{Step, Zyzzyva};
use crate::Batch;
use alloc::collections::BTreeMap;
use althing_types::{ClientId, Instant, ReplicaId, View};
use borsh::{BorshDeserialize, BorshSerialize};
use core::time::Duration;

/// What is waited for doubles this often at most.
const MAX_DOUBLINGS: u32 = 10;

/// Backup goes on for so many view timeouts at least.
const LEAST_TIMEOUTS: u32 = 2;

/// What this replica goes by.
#[derive(Debug, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Trials {
    /// The last view of the present round.
    last: View,
    /// When this replica entered a view of this round first.
    began: Instant,
    /// When it entered Backup in this round.
    backup_since: Option<Instant>,
    /// How many requests Backup has made final since.
    served: u64,
    doublings: u32,
    /// When the last view of Quorum began, and after how long others did not last, in a row.
    quorum_since: Option<Instant>,
    short_quorums: u32,
    /// Of whose request a certificate was shown in Quorum, and when: the first within a view timeout.
    pub(super) shown: Option<(ClientId, Instant)>,
    /// The one client whose requests were ordered in this chain since then, and how many.
    lone_client: Option<(ClientId, Instant, u64)>,
    /// When each replica was last heard.
    heard: BTreeMap<ReplicaId, Instant>,
}

impl Trials {
    pub(super) fn hear(&mut self, from: ReplicaId, now: Instant) {
        self.heard.insert(from, now);
    }

    /// A view has started, in a round of which `last` is the last.
    fn begin(&mut self, now: Instant, mode: Mode, (last, view_timeout): (View, Duration)) {
        if last != self.last {
            self.close_account(now);
            (self.last, self.began, self.backup_since, self.served) = (last, now, None, 0);
        }
        (self.lone_client, self.shown) = (None, None);
        match mode {
            Mode::Backup => drop(self.backup_since.get_or_insert(now)),
            Mode::Quorum => self.quorum_since = Some(now),
            Mode::Chain => {
                let is_short = self
                    .quorum_since
                    .take()
                    .is_some_and(|since| now.since(since) < doubled(view_timeout, self.short_quorums));
                self.short_quorums = if is_short { self.short_quorums.saturating_add(1) } else { 0 };
            }
            Mode::Zyzzyva => {}
        }
    }

    /// The round is over: what was tried in it has failed if it did not last as long as Backup.
    fn close_account(&mut self, now: Instant) {
        let Some(since) = self.backup_since else { return };
        let has_failed = since.since(self.began) < now.since(since);
        self.doublings = if has_failed { (self.doublings + 1).min(MAX_DOUBLINGS) } else { 0 };
    }
}

fn doubled(time: Duration, doublings: u32) -> Duration {
    time.saturating_mul(1 << doublings.min(MAX_DOUBLINGS))
}

impl Zyzzyva {
    /// A view has started here.
    pub(super) fn begin_trial(&mut self, now: Instant) {
        let settings = &self.config.settings;
        let anew = settings.composition.next_round(self.quorums(), self.view);
        self.trials.begin(now, self.mode(), (anew, settings.view_timeout));
    }

    pub(super) fn count_final(&mut self, batch: &Batch) {
        if self.mode() == Mode::Backup {
            self.trials.served += batch.requests.len() as u64;
        }
    }

    /// Notes whose requests a chain orders.
    pub(super) fn note_clients(&mut self, now: Instant, batch: &Batch) {
        let mut clients = batch.requests.iter().map(|request| request.client);
        let Some(first) = clients.next() else { return };
        let is_alone = clients.all(|client| client == first);
        let requests = batch.requests.len() as u64;
        self.trials.lone_client = match self.trials.lone_client {
            _ if !is_alone => None,
            Some((client, since, served)) if client == first => Some((client, since, served + requests)),
            _ => Some((first, now, requests)),
        };
    }

    /// Leaves the view for where the faster protocols are tried anew, once that is due.
    pub(super) fn try_anew(&mut self, step: &mut Step) {
        if self.is_in_view
            && self.is_voting()
            && self.is_trial_due(step.now, 1)
            && self.do_all_take_part(step.now)
        {
            self.ask_for_view(step, self.anew());
        }
    }

    /// Where the stages are tried again.
    pub(super) fn anew(&self) -> View {
        self.config.settings.composition.next_round(self.quorums(), self.view)
    }

    /// Where to follow who leaves: where all is tried anew, if that is soon due anyway; else to the next view.
    pub(super) fn next_view_of_trials(&self, now: Instant) -> View {
        if self.is_trial_due(now, 2) { self.anew() } else { self.view.next() }
    }

    /// Whether a `part` of what has to be waited for is over.
    fn is_trial_due(&self, now: Instant, part: u32) -> bool {
        let settings = &self.config.settings;
        match self.mode() {
            Mode::Backup => {
                let doublings = self.trials.doublings;
                let patience = doubled(settings.view_timeout * LEAST_TIMEOUTS, doublings);
                let served = settings.backup_requests.saturating_mul(1 << doublings);
                let is_long =
                    self.trials.backup_since.is_some_and(|since| now.since(since) >= patience / part);
                is_long && self.trials.served >= served / u64::from(part)
            }
            // Where Quorum is tried before.
            Mode::Chain if settings.composition == Composition::Aliph => {
                let patience = doubled(settings.view_timeout, self.trials.short_quorums);
                self.trials.lone_client.is_some_and(|(_, since, served)| {
                    served >= settings.backup_requests && now.since(since) >= patience / part
                })
            }
            Mode::Chain | Mode::Quorum | Mode::Zyzzyva => false,
        }
    }

    /// Whether all replicas vote, and have been heard since each of them had to say something at the latest.
    fn do_all_take_part(&self, now: Instant) -> bool {
        let silence = self.config.settings.status_period * (2 * IDLE_PERIODS as u32);
        let is_heard = |id| self.trials.heard.get(&id).is_some_and(|at| now.since(*at) <= silence);
        let does_none_sit_by = self.peers.count(|peer| !peer.is_voting) == 0;
        does_none_sit_by && self.quorums().replicas().filter(|id| *id != self.me()).all(is_heard)
    }
}
