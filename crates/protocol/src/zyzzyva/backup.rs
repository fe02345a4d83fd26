//! Backup: what clients are told is final (Aublin et al. §4.4). The primary orders, all sign what they have accepted
//! at once, and all hold the certificate, so that a batch takes three phases, as in PBFT. It works whatever f replicas
//! and any clients do, and what cannot is tried again after k requests.
//!
//! The primary ends it, and may do so early or never: then one view change is lost, or the group goes on with a
//! protocol that is merely slower. A correct one ends it only while all replicas are heard and vote, and doubles k each time
//! that what was tried did not bring as many requests as Backup itself had: so nobody who makes it fail again and
//! again, be it a replica or a client, can cost more than a share of the time that falls with each attempt.

use super::mode::{Composition, Mode};
use super::status::IDLE_PERIODS;
use super::{Step, Zyzzyva};
use crate::{Batch, Request};
use alloc::collections::BTreeMap;
use althing_types::{ClientId, Instant, ReplicaId, RequestNumber, Seq};
use borsh::{BorshDeserialize, BorshSerialize};

/// k doubles this often at most.
const MAX_DOUBLINGS: u32 = 20;

/// What this replica goes by when it ends Backup. It is its own view of things, and nobody depends on it.
#[derive(Debug, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Trials {
    /// Requests made final in views of Backup since one of another kind.
    in_backup: u64,
    /// Requests made final in the views of other kinds before.
    in_stages: u64,
    doublings: u32,
    /// Requests made final in the last view of Quorum.
    in_quorum: u64,
    /// In how many of these in a row they were few.
    short_quorums: u32,
    /// As head: the one client whose requests it has ordered since then.
    lone_client: Option<(ClientId, Instant)>,
    /// When each replica was last heard.
    heard: BTreeMap<ReplicaId, Instant>,
}

impl Trials {
    pub(super) fn hear(&mut self, from: ReplicaId, now: Instant) {
        self.heard.insert(from, now);
    }

    fn count(&mut self, mode: Mode, requests: u64) {
        match mode {
            Mode::Backup => self.in_backup += requests,
            Mode::Quorum => {
                self.in_quorum += requests;
                self.in_stages += requests;
            }
            Mode::Chain | Mode::Zyzzyva => self.in_stages += requests,
        }
    }

    /// A view has started, where Backup goes on for `first` requests if it did not have to double that.
    pub(super) fn begin(&mut self, mode: Mode, first: u64) {
        self.lone_client = None;
        if mode == Mode::Chain {
            self.short_quorums =
                if self.in_quorum < first { self.short_quorums.saturating_add(1) } else { 0 };
            self.in_quorum = 0;
        }
        if mode == Mode::Backup || self.in_backup == 0 {
            return;
        }
        // Who ends Backup early does not say anything about what was tried before.
        if self.in_backup >= self.most(first) {
            let has_failed = self.in_stages < self.in_backup;
            self.doublings = if has_failed { (self.doublings + 1).min(MAX_DOUBLINGS) } else { 0 };
        }
        (self.in_backup, self.in_stages) = (0, 0);
    }

    fn most(&self, first: u64) -> u64 {
        first.saturating_mul(1 << self.doublings)
    }
}

impl Zyzzyva {
    pub(super) fn count_final(&mut self, batch: &Batch) {
        self.trials.count(self.mode(), batch.requests.len() as u64);
    }

    /// As primary: has what it has accepted made final, one round of messages after the other.
    pub(super) fn settle_at_once(&mut self, step: &mut Step) {
        let is_due = self.is_leading() && self.mode() == Mode::Backup && self.is_unsettled();
        let said = self.said.filter(|said| said.view == self.view).map_or(Seq(0), |said| said.seq);
        if is_due && said <= self.executed {
            self.say(step, self.durable);
        }
    }

    /// As primary of Backup: goes back to what is faster, after k requests.
    pub(super) fn end_backup(&mut self, step: &mut Step) {
        if !self.is_leading() || self.mode() != Mode::Backup {
            return;
        }
        let most = self.trials.most(self.config.settings.backup_requests);
        if self.trials.in_backup < most || !self.do_all_take_part(step.now) {
            return;
        }
        let next = self.config.settings.composition.next_round(self.quorums(), self.view);
        self.ask_for_view(step, next);
    }

    /// As head of a chain: goes back to Quorum, where that is tried before, once it has served one client alone for
    /// long; for longer each time that Quorum did not last.
    pub(super) fn end_chain(&mut self, step: &mut Step) {
        let settings = &self.config.settings;
        if !self.is_leading() || self.mode() != Mode::Chain || settings.composition != Composition::Aliph {
            return;
        }
        let doublings = self.trials.short_quorums.min(MAX_DOUBLINGS);
        let patience = settings.view_timeout.saturating_mul(1 << doublings);
        let is_calm = self.trials.lone_client.is_some_and(|(_, since)| step.now.since(since) >= patience);
        if is_calm && self.log.last() == self.executed {
            self.ask_for_view(step, settings.composition.next_round(self.quorums(), self.view));
        }
    }

    /// As head: notes whose requests it orders.
    pub(super) fn note_clients(&mut self, now: Instant, batch: &Batch) {
        let mut clients = batch.requests.iter().map(|request| request.client);
        let Some(first) = clients.next() else { return };
        let is_alone = clients.all(|client| client == first);
        let known = self.trials.lone_client.filter(|(client, _)| is_alone && *client == first);
        self.trials.lone_client = known.or(is_alone.then_some((first, now)));
    }

    /// Whether all replicas vote, and have been heard since each of them had to say something at the latest.
    fn do_all_take_part(&self, now: Instant) -> bool {
        let silence = self.config.settings.status_period * (2 * IDLE_PERIODS as u32);
        let is_heard = |id| self.trials.heard.get(&id).is_some_and(|at| now.since(*at) <= silence);
        let does_none_sit_by = self.peers.count(|peer| !peer.is_voting) == 0;
        does_none_sit_by && self.quorums().replicas().filter(|id| *id != self.me()).all(is_heard)
    }

    /// Executes nothing early where clients are told what is final.
    pub(super) fn may_speculate_at(&self, seq: Seq) -> bool {
        match self.mode() {
            Mode::Zyzzyva | Mode::Quorum => true,
            // Of what the view started with the last of the chain do not know that all before them have it.
            Mode::Chain => seq > self.brought_to(),
            Mode::Backup => false,
        }
    }

    /// A client has not believed what it was told, or was not told by all that it needs, and asks again (Aublin et al.
    /// §4.2.2, PANIC). Any client may say so of its own requests of this view.
    pub(super) fn on_asked_again(&mut self, step: &mut Step, client: ClientId, number: RequestNumber) {
        let (view, brought) = (self.view, self.brought_to());
        let is_it = |request: &Request| (request.client, request.number) == (client, number);
        let is_of_view = self.is_in_view
            && self.mode().needs_all()
            && self
                .log
                .after(brought)
                .any(|(_, slot)| slot.view == view && slot.batch.requests.iter().any(is_it));
        if is_of_view {
            self.abort(step);
        }
    }

    /// Leaves a view for the next one, because its way of ordering does not do any more. The next primary need not be
    /// given more time for that, nor clients asked for signatures.
    pub(super) fn abort(&mut self, step: &mut Step) {
        if self.is_voting() && self.is_in_view {
            self.ask_for_view(step, self.view.next());
        }
    }
}
