//! When a replica votes again that has lost its disk.
//!
//! It may have promised any view, and accepted anything within its window. It is a *learner*: it follows and
//! does not vote, until nothing that its former self said can matter. Up to then it is one of the replicas that
//! are down, of which there are at most f, so that whatever was decided with its vote is known to a replica out
//! of every agreement quorum of the others.
//!
//! Let W be the size of the window, and `bar` = 2W above the highest checkpoint that an agreement quorum of the
//! others has ever made; each has that on disk before it says so. The former self's stable checkpoint `h` was
//! made by an agreement quorum, and one of the others in it reported; so `h` ≤ `bar` − 2W. The learner votes
//! again once
//! 1. a checkpoint at or above `bar` is stable here: what the former self accepted was for numbers up to
//!    `h` + W < `bar`, and all of those are decided;
//! 2. it has seen an agreement quorum, which does not hold itself, accept something above `bar` in some view `u`,
//!    and is itself in `u` or a later view.
//!
//! By 1 no promise of its own leaves anything out: what it says nothing of lies below its stable checkpoint.
//!
//! By 2 the promises of its former self are harmless. One for a view up to `u` promises nothing that it does not
//! keep. One for `w` > `u` is *stale*: its maker votes below it. Of the stale ones that a leader counts for `w`,
//! whenever it does, take that whose maker voted again first. The leader counts one of the quorum of 2 as well,
//! since two agreement quorums meet in more than the maker. That one promised `w` after it accepted something
//! above `bar` in `u`, or else it would have been stale, and its maker would have voted again even before. So
//! its stable checkpoint lies at or above `bar` − W, and the leader starts there or higher. The stale promise
//! was made from `h` or below, and its window ends at `h` + W < `bar` − W: it is void (`election`).
//!
//! Votes of the former self that arrive late are true: it had accepted that, and until its successor votes, it
//! is as if it had not heard of anything since.

use super::message::{Checkpoint, PaxosMessage};
use super::persistence::{Deferred, Record};
use super::{Paxos, Step};
use alloc::collections::BTreeMap;
use althing_types::{Instant, ReplicaId, Seq, View};
use borsh::{BorshDeserialize, BorshSerialize};

/// Who was so many logs behind when it was heard last is fetching the state, and not just heard long ago.
const STRAGGLING_LOGS: u64 = 8;

/// The leader fills up so many logs at most.
const MOST_FILLED_LOGS: u64 = 8;

/// A learner asks once in each status period; one that was not heard for so many votes again, or is down.
const HEARD_PERIODS: u32 = 10;

/// Whether a replica may vote.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
pub(super) enum Membership {
    /// It knows all that it ever said.
    Voter,
    /// It lost its disk.
    Learner(Estimation),
}

impl Membership {
    pub(super) fn is_voter(&self) -> bool {
        matches!(self, Self::Voter)
    }
}

/// What a replica finds out about what its former self may have said.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
pub(super) struct Estimation {
    /// Binds answers to this start.
    nonce: u64,
    /// Where the others stand: the last checkpoint that each has made.
    reports: BTreeMap<ReplicaId, Seq>,
    /// Above everything that this replica could have voted for, once known.
    bar: Option<Seq>,
    /// The last view seen to accept something above the bar.
    witnessed: Option<View>,
}

impl Paxos {
    /// Its disk does not say what it has said.
    pub(super) fn begin_anew(&mut self, step: &mut Step) {
        self.become_learner(step.now);
        self.state.is_reborn = true;
        self.state.outbox.persist(step.actions, &Record::Reborn { is_voter: false }, Deferred::Nothing);
    }

    pub(super) fn become_learner(&mut self, now: Instant) {
        let (reports, bar, witnessed) = (BTreeMap::new(), None, None);
        self.state.membership = Membership::Learner(Estimation { nonce: now.0, reports, bar, witnessed });
    }

    /// As one that has lost its disk: asks the others for their checkpoints, until that does not matter any more.
    pub(super) fn ask_where_others_stand(&mut self, step: &mut Step) {
        let Membership::Learner(Estimation { nonce, bar, .. }) = self.state.membership else { return };
        step.broadcast(PaxosMessage::RecoverQuery { nonce });
        if let Some(bar) = bar {
            step.broadcast(PaxosMessage::FillTo { target: self.beyond(bar) });
        }
    }

    /// Where the group has to get for a replica to have a checkpoint at or above `bar`, and to see a
    /// number above it accepted that stays in the logs.
    fn beyond(&self, bar: Seq) -> Seq {
        let executed = self.state.executed;
        Seq(bar.max(executed).0.next_multiple_of(self.config.settings.checkpoint_period)).next()
    }

    /// Whether no replica was heard lately that has lost its disk, and none has said last that it is far behind.
    #[must_use]
    pub fn knows_no_straggler(&self, now: Instant) -> bool {
        let settings = &self.config.settings;
        let lately = settings.status_period * HEARD_PERIODS;
        let behind = Seq(self.state.stable.0.saturating_sub(settings.log_size * STRAGGLING_LOGS));
        self.state.learners.values().all(|heard| now.since(*heard) > lately)
            && self.state.peers.executed_below(behind) == 0
    }

    pub(super) fn on_recover_query(&mut self, step: &mut Step, from: ReplicaId, nonce: u64) {
        self.state.learners.insert(from, step.now);
        // Who lost its own disk does not know what checkpoints it made.
        if self.is_voting() {
            let last = self.state.made_durable.max(self.state.stable);
            let stable = self.state.stable_checkpoint;
            step.send(from, PaxosMessage::RecoverReport { nonce, last, stable });
        }
        // Who does not vote can't lead.
        if from == self.leader() {
            self.leave_view(step, self.state.view.next());
        }
    }

    pub(super) fn on_fill_to(&mut self, target: Seq) {
        // A bar lies at most six logs above any checkpoint that is stable.
        let most = Seq(self.state.stable.0.saturating_add(MOST_FILLED_LOGS * self.config.settings.log_size));
        if target <= most {
            self.state.fill_to = self.state.fill_to.max(target);
        }
    }

    pub(super) fn on_recover_report(
        &mut self,
        step: &mut Step,
        from: ReplicaId,
        answered: u64,
        last: Seq,
        stable: Option<Checkpoint>,
    ) {
        let (agreement, window) = (self.quorums().agreement(), self.window());
        let Membership::Learner(Estimation { nonce, reports, bar, .. }) = &mut self.state.membership else {
            return;
        };
        if answered != *nonce {
            return;
        }
        reports.insert(from, last);
        if bar.is_none() && reports.len() >= agreement {
            let highest = reports.values().copied().max().unwrap_or_default();
            *bar = Some(Seq(highest.0 + 2 * window));
        }
        if let Some(checkpoint) = stable {
            self.on_stable(step, checkpoint);
        }
    }

    /// Notes, for one that has lost its disk, that an agreement quorum of others accepted something.
    pub(super) fn witness(&mut self, seq: Seq) {
        let (me, quorums) = (self.me(), self.quorums());
        let Membership::Learner(Estimation { bar: Some(bar), witnessed, .. }) = &mut self.state.membership
        else {
            return;
        };
        let entry = self.state.log.get(seq).filter(|_| seq > *bar);
        if let Some((view, _)) = entry.and_then(|entry| entry.chosen_by(quorums, |from| from != me)) {
            *witnessed = (*witnessed).max(Some(view));
        }
    }

    /// Ends the learner's silence, once nothing that its former self said can matter.
    pub(super) fn vote_again_if_safe(&mut self, step: &mut Step) {
        let Membership::Learner(Estimation { bar: Some(bar), witnessed: Some(view), .. }) =
            self.state.membership
        else {
            return;
        };
        if self.state.stable >= bar && self.state.view >= view {
            self.state.membership = Membership::Voter;
            let record = Record::Reborn { is_voter: true };
            self.state.outbox.persist(step.actions, &record, Deferred::Nothing);
        }
    }
}
