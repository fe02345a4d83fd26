//! When a replica votes again that starts without its records, or doubts them.
//!
//! A replica without its records may have voted for anything within the log that it had. It is a
//! *learner*: it follows and does not vote, until nothing that its former self signed can matter.
//!
//! Let L be the size of the log and `bar` = 4L above the highest checkpoint that an agreement quorum
//! of the others has ever made; each has that on disk before it says so, so that a restart does not make
//! it forget. The former self's stable checkpoint `h` was made by f + 1 of the others that are correct (of
//! the f that are not, it was one), and one of those reported; so `h` ≤ `bar` − 4L. The learner votes again
//! once
//! 1. a checkpoint at or above `bar` is stable here: prepares and commits of the former self were for
//!    numbers up to `h` + L < `bar`, which are decided;
//! 2. it has seen an agreement quorum of commits, which does not hold itself, for a number above `bar`
//!    in some view `u`, and is itself in `u` or a later view.
//!
//! By 2 its former view changes are harmless. One for view `w` ≤ `u` promises nothing that it does not
//! keep. One for `w` > `u` is *stale*, as is one that a replica has taken back ([`super::rejoin`]): its
//! signer votes below it. Of the stale ones that a new view for `w` counts, take that whose signer voted
//! again first. The new view counts one of a correct replica out of the quorum of commits as well. That was
//! made after its commit above `bar`, or else its signer would have voted again even before; its stable
//! checkpoint then lies at or above `bar` − L ≥ `h` + 3L, and the stale one is void (`choice`).
//!
//! For that a bar of 2L would do. A former self that was faulty otherwise may have signed after such a commit
//! what a correct replica signs only before: see [`super::stale`].
//!
//! A replica that recovers proactively (TOCS'02 §4.3) does have its records, and can't know whether
//! somebody else has written them. It goes by them from the start, and votes: if nobody had taken it over
//! they are true, and it is as correct as after any restart. If somebody had, it was faulty, and counts as
//! faulty for a while yet: what it says by forged records is no worse than what its former self could say.
//! That ends under the two conditions above, with the quorum of 2 being one of others, in the view that this
//! replica is in:
//! - It was begun only with a proven checkpoint `s` and records within L of it ([`super::suspicion`]).
//!   One of those who report has made `s`; so `s` + L ≤ `bar` − 3L, and no such record outlives `bar`.
//! - What it said above that since it started, it said by this program and knows. Its records may claim that
//!   an agreement quorum votes in a view that forgets ([`super::stale`]). It goes by what it sees: else it
//!   would stand there for something above `bar`, and say so in view changes that it signs meanwhile.
//! - Its view changes from before, and what those since say by forged records, claim something for numbers up
//!   to `bar` − 3L only, where no view above `u` decides anything any more.
//!
//! From then on it speaks in a new incarnation, so that no view change of its former self stands in the
//! way of its own.
//!
//! Whoever had it could sign for the epoch after this one too, once that was known. So one that gets there
//! in doubt stays in doubt, and the same is shown anew with what the others have in that epoch.

use super::message::{CheckpointCertificate, PbftMessage};
use super::persistence::{Deferred, Record};
use super::{Pbft, Step, choice};
use alloc::collections::BTreeMap;
use althing_types::{Instant, ReplicaId, Seq, View};
use borsh::{BorshDeserialize, BorshSerialize};
use core::time::Duration;

/// Incarnations further ahead of the clock than this are not believed.
const AHEAD: Duration = Duration::from_secs(60);

/// One replica's recoveries are helped with null requests once in so many view timeouts.
const FILL_INTERVAL_TIMEOUTS: u32 = 10;

/// Who was so many logs behind when it was heard last is fetching the state, and not just heard long ago.
const STRAGGLING_LOGS: u64 = 8;

/// A replica doubts that the others are in its view if they have not committed there for so many view timeouts.
const ASTRAY_AFTER_TIMEOUTS: u32 = 2;

/// A learner asks once in each status period; one that was not heard for so many votes again, or is down.
const HEARD_PERIODS: u32 = 10;

/// Whether a replica may vote.
#[derive(Debug, BorshSerialize, BorshDeserialize)]
pub(super) enum Membership {
    /// It knows all that it ever voted for.
    Voter,
    /// It lost its disk.
    Learner(Estimation),
    /// It votes by records that somebody else may have written.
    Recovering(Estimation),
}

impl Membership {
    pub(super) fn is_voter(&self) -> bool {
        !matches!(self, Self::Learner(_))
    }

    /// Whether nothing that it does not know of can matter any more.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self, Self::Voter)
    }

    pub(super) fn learner(nonce: u64) -> Self {
        Self::Learner(Estimation::new(nonce))
    }

    /// What a replica has reported counts no longer. It is asked again, until the bar is known.
    pub(super) fn forget_report(&mut self, of: ReplicaId) {
        if let Some(Estimation { reports, bar: None, .. }) = self.estimation_mut() {
            reports.remove(&of);
        }
    }

    fn estimation(&self) -> Option<&Estimation> {
        match self {
            Self::Voter => None,
            Self::Learner(estimation) | Self::Recovering(estimation) => Some(estimation),
        }
    }

    fn estimation_mut(&mut self) -> Option<&mut Estimation> {
        match self {
            Self::Voter => None,
            Self::Learner(estimation) | Self::Recovering(estimation) => Some(estimation),
        }
    }
}

/// What a replica finds out about what its former self may have signed.
#[derive(Debug, BorshSerialize, BorshDeserialize)]
pub(super) struct Estimation {
    /// Binds answers to this start.
    nonce: u64,
    /// Where the others stand: the last checkpoint that each has made.
    reports: BTreeMap<ReplicaId, Seq>,
    /// Above everything that this replica could have voted for, once known.
    bar: Option<Seq>,
    /// The last view seen to commit above the bar.
    witnessed: Option<View>,
}

impl Estimation {
    fn new(nonce: u64) -> Self {
        Self { nonce, reports: BTreeMap::new(), bar: None, witnessed: None }
    }
}

impl Pbft {
    /// It may have been told of a view where a quorum votes, to stand for something in one that forgets.
    pub(super) fn begin_to_doubt(&mut self, now: Instant) {
        (self.proven, self.last_commit) = (None, None);
        self.membership = Membership::Recovering(Estimation::new(now.0.max(1)));
    }

    /// The latest incarnation that anybody believes.
    pub(super) fn last_incarnation(now: Instant) -> u64 {
        (now + AHEAD).0
    }

    /// That of who begins anew now. One that nobody would believe may have been written by somebody else.
    pub(super) fn next_incarnation(&self, now: Instant) -> u64 {
        let is_own = self.membership.is_settled();
        let known = Some(self.incarnation).filter(|known| is_own || *known < Self::last_incarnation(now));
        now.0.max(known.unwrap_or_default().saturating_add(1))
    }

    pub(super) fn begin_anew(&mut self, step: &mut Step) {
        self.incarnation = self.next_incarnation(step.now);
        self.membership = Membership::learner(self.incarnation);
        let record = Record::Life { incarnation: self.incarnation, is_voter: false };
        self.outbox.persist(step.actions, &record, Deferred::Nothing);
    }

    /// As one that has lost its past, or doubts it: asks the others for their checkpoints, until that does
    /// not matter any more.
    pub(super) fn ask_where_others_stand(&mut self, step: &mut Step) {
        let Some(&Estimation { nonce, bar, .. }) = self.membership.estimation() else { return };
        let is_voting = self.membership.is_voter();
        step.broadcast(PbftMessage::RecoverQuery { nonce, is_voting });
        if let Some(bar) = bar {
            let target = self.beyond(bar);
            step.broadcast(PbftMessage::FillTo { target });
            // One that votes may lead, and is then the one to fill up.
            self.grant_fill(step.now, self.me(), target);
        }
    }

    /// In doubt it may be in a view that its records alone speak of, and the others in one below. It gives up on that,
    /// and can come back then as any replica that did so alone (`rejoin`). Or it leads a view that is old, and may
    /// propose nothing there.
    pub(super) fn leave_if_astray(&mut self, step: &mut Step) {
        let Membership::Recovering(estimation) = &self.membership else { return };
        let settings = &self.config.settings;
        let heard = settings.status_period * HEARD_PERIODS * 2;
        let patience = heard.max(settings.view_timeout * ASTRAY_AFTER_TIMEOUTS);
        let is_below = |view: View| view < self.view;
        let is_past_bar = estimation.bar.is_some_and(|bar| self.stable >= bar);
        if self.is_leading() && !self.may_stand_at(self.next_seq) {
            self.on_hand_over(step);
        } else if self.is_in_view
            && is_past_bar
            && estimation.witnessed.is_some_and(is_below)
            && step.now.since(self.in_view_since) >= patience
            && self.peers.in_view_below(self.view) > self.quorums().f()
        {
            self.ask_for_view(step, self.view.next());
        }
    }

    /// Where the group has to get for a replica to have a checkpoint at or above `bar`, and to see a
    /// number above it commit that stays in the logs.
    pub(super) fn beyond(&self, bar: Seq) -> Seq {
        Seq(bar.max(self.executed).0.next_multiple_of(self.config.settings.checkpoint_period)).next()
    }

    /// Whether no replica was heard lately that has lost its past or doubts it, and none has said last that
    /// it is far behind.
    #[must_use]
    pub fn knows_no_straggler(&self, now: Instant) -> bool {
        let settings = &self.config.settings;
        let lately = settings.status_period * HEARD_PERIODS;
        let behind = Seq(self.stable.0.saturating_sub(settings.log_size * STRAGGLING_LOGS));
        self.learners.values().all(|heard| now.since(*heard) > lately)
            && self.peers.executed_below(behind) == 0
    }

    pub(super) fn on_recover_query(&mut self, step: &mut Step, from: ReplicaId, nonce: u64, is_voting: bool) {
        self.learners.insert(from, step.now);
        // Who lost its own disk does not know what checkpoints it made.
        if self.membership.is_voter() {
            let (last, stable) = (self.made.max(self.stable), self.stable_certificate.clone());
            step.send(from, PbftMessage::RecoverReport { nonce, last, stable });
        }
        // A primary that does not vote can't lead. One that has asked for this view in its new life votes.
        let known = self.view_changes.get(&from).map(|signed| &signed.content);
        let votes_again = known.is_some_and(|vc| vc.incarnation >= nonce && vc.view >= self.view);
        if self.is_in_view && from == self.primary() && !is_voting && !votes_again {
            self.leave_view(step, self.view.next());
        }
    }

    pub(super) fn on_fill_to(&mut self, step: &mut Step, from: ReplicaId, target: Seq) {
        self.grant_fill(step.now, from, target);
        // A primary that waits for the others has given up on its own view.
        let asked = self.view_changes.get(&from).filter(|_| !self.returned.contains(&from));
        let has_left = asked.is_some_and(|signed| signed.content.view > self.view);
        if self.is_in_view && from == self.primary() && has_left {
            self.leave_view(step, self.view.next());
        }
    }

    /// Agrees to fill up with null requests for a replica that recovers, and not again too soon: one
    /// that only claims to recover keeps the group busy no more than a bounded share of the time.
    fn grant_fill(&mut self, now: Instant, to: ReplicaId, target: Seq) {
        let settings = &self.config.settings;
        // A correct replica's bar lies at most 5L above any stable checkpoint that it was told of.
        let is_plausible = target > self.executed && target.0 <= self.stable.0 + 5 * settings.log_size + 1;
        let interval = settings.view_timeout * FILL_INTERVAL_TIMEOUTS;
        let is_due = self.fills.get(&to).is_none_or(|at| now.since(*at) >= interval);
        if is_plausible && is_due {
            self.fills.insert(to, now);
            self.fill_to = self.fill_to.max(target);
        }
    }

    pub(super) fn on_recover_report(
        &mut self,
        step: &mut Step,
        from: ReplicaId,
        answered: u64,
        last: Seq,
        stable: Option<CheckpointCertificate>,
    ) {
        let (terms, quorums, log_size) = (self.terms(), self.config.quorums, self.config.settings.log_size);
        let Some(Estimation { nonce, reports, bar, .. }) = self.membership.estimation_mut() else { return };
        let certified = stable.as_ref().map_or(0, |certificate| certificate.checkpoint.seq.0);
        let is_proven = stable.as_ref().is_none_or(|certificate| choice::is_certificate(&terms, certificate));
        // Who claims more than its own log could hold lies; the proof bounds every other claim.
        if answered != *nonce || !is_proven || last.0 > certified + log_size || !terms.has_checkpoint(last) {
            return;
        }
        reports.insert(from, last);
        if bar.is_none() && reports.len() >= quorums.agreement() {
            let highest = reports.values().copied().max().unwrap_or_default();
            *bar = Some(Seq(highest.0 + 4 * log_size));
        }
        if let Some(certificate) = stable {
            self.on_certificate(step, certificate);
        }
    }

    /// Notes that an agreement quorum committed a number: for one that has lost its past or doubts it, or
    /// waits for a view.
    pub(super) fn witness(&mut self, seq: Seq, view: View) {
        let (me, quorums) = (self.me(), self.quorums());
        let is_by_others = || {
            let entry = self.log.get(seq);
            entry.is_some_and(|entry| entry.committed_without(quorums, me).is_some())
        };
        let is_witness = self.membership.estimation().is_some() && is_by_others();
        if let Some(Estimation { bar: Some(bar), witnessed, .. }) = self.membership.estimation_mut()
            && seq > *bar
            && is_witness
        {
            *witnessed = (*witnessed).max(Some(view));
        }
        self.note_proven(view);
        self.note_left_behind(seq, view);
    }

    /// Ends the learner's silence, or the doubts, once nothing that the former self signed can matter.
    pub(super) fn vote_again_if_safe(&mut self, step: &mut Step) {
        let Some(&Estimation { bar: Some(bar), witnessed: Some(view), .. }) = self.membership.estimation()
        else {
            return;
        };
        if self.stable < bar || self.view < view {
            return;
        }
        if matches!(self.membership, Membership::Recovering(_)) {
            // What it asks for while it waits for a view it asks for as its former self.
            if !self.is_in_view || self.view != view {
                return;
            }
            self.incarnation = self.next_incarnation(step.now);
            self.view_changes.remove(&self.config.me);
        }
        self.membership = Membership::Voter;
        let record = Record::Life { incarnation: self.incarnation, is_voter: true };
        self.outbox.persist(step.actions, &record, Deferred::Nothing);
    }
}
