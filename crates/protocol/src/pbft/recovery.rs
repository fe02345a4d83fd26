//! Starting again: from the records on disk, or without them.
//!
//! A replica without its records may have voted for anything within the log that it had. It is a
//! *learner*: it follows and does not vote, until nothing that its former self signed can matter.
//!
//! Let L be the size of the log and `bar` = 2L above the highest checkpoint that an agreement quorum
//! of the others has ever made; each has that on disk before it says so, so that a restart does not make
//! it forget. The former self's stable checkpoint `h` was made by f + 1 of the others that are correct (of
//! the f that are not, it was one), and one of those reported; so `h` ≤ `bar` − 2L. The learner votes again
//! once
//! 1. a checkpoint at or above `bar` is stable here: prepares and commits of the former self were for
//!    numbers up to `h` + L < `bar`, which are decided;
//! 2. it has seen an agreement quorum of commits, which does not hold itself, for a number above `bar`
//!    in some view `u`, and is itself in `u` or a later view.
//!
//! By 2 its former view changes are harmless. One for view `w` ≤ `u` promises nothing that it does not
//! keep. One for `w` > `u` could only help to start `w` together with that of a correct replica out of
//! the quorum of commits, made after its commit above `bar`; its stable checkpoint then lies at or above
//! `bar` − L ≥ `h` + L, and the former self's view change is void (`choice`).

use super::message::{CheckpointCertificate, PbftMessage, Vote};
use super::persistence::{Deferred, Record};
use super::{Pbft, STATUS_TIMER, Step, choice};
use crate::{Action, Start};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_types::{Instant, ReplicaId, Seq, View};

/// One replica's recoveries are helped with null requests once in so many view timeouts.
const FILL_INTERVAL_TIMEOUTS: u32 = 10;

/// Whether a replica may vote.
#[derive(Debug)]
pub(super) enum Membership {
    /// It knows all that it ever voted for.
    Voter,
    /// It lost its disk.
    Learner {
        /// Binds answers to this start.
        nonce: u64,
        /// Where the others stand: the last checkpoint that each has made.
        reports: BTreeMap<ReplicaId, Seq>,
        /// Above everything that this replica could have voted for, once known.
        bar: Option<Seq>,
        /// The first view seen to commit above the bar.
        witnessed: Option<View>,
    },
}

impl Membership {
    pub(super) fn is_voter(&self) -> bool {
        matches!(self, Self::Voter)
    }

    fn learner(nonce: u64) -> Self {
        Self::Learner { nonce, reports: BTreeMap::new(), bar: None, witnessed: None }
    }
}

impl Pbft {
    pub(super) fn on_start(&mut self, step: &mut Step, start: Start) {
        step.actions.push(Action::SetTimer { id: STATUS_TIMER, after: self.config.settings.status_period });
        match start {
            Start::Genesis => step.actions.push(Action::EnteredView(self.view)),
            Start::Handover { executed, has_state } => {
                self.in_view_since = step.now;
                self.begin_at_start(executed, has_state);
                step.actions.push(Action::EnteredView(self.view));
                if self.has_forgotten {
                    self.begin_anew(step);
                    self.ask_where_others_stand(step);
                }
                self.forward_pending(step);
                self.fetch_start(step);
            }
            Start::Recovered { stable, executed, records, is_closed, has_forgotten } => {
                let has_start = self.start.is_some_and(|start| stable >= start.seq);
                self.begin_at_start(stable, has_start);
                (self.executed, self.acknowledged) = (stable, stable);
                self.stable_durable = stable;
                self.end = is_closed.then_some(stable);
                for (client, number) in executed {
                    self.pending.note_executed(client, number);
                }
                for record in records {
                    // What this replica wrote itself it can read, unless the disk lies: then it knows
                    // no longer what it voted for.
                    match althing_types::decode(&record, usize::MAX) {
                        Ok(record) => self.replay(record),
                        Err(_) => {
                            self.begin_anew(step);
                            break;
                        }
                    }
                }
                // Cut off before it was on disk that it began anew.
                if has_forgotten && self.incarnation == 0 && self.quorums().n() > 1 {
                    self.begin_anew(step);
                }
                self.vouched = self.end_of_execution();
                self.say_if_closed(step);
                self.fetch_start(step);
                if let Some(content) = self.own_view_change.clone() {
                    step.actions.push(Action::LeftView(self.view));
                    step.broadcast_signed(PbftMessage::ViewChange(content));
                } else {
                    step.actions.push(Action::EnteredView(self.view));
                }
            }
            // In a group of one nobody else knows anything either.
            Start::Amnesia if self.quorums().n() == 1 => step.actions.push(Action::EnteredView(self.view)),
            Start::Amnesia => {
                self.begin_at_start(Seq(0), false);
                step.actions.push(Action::EnteredView(self.view));
                self.begin_anew(step);
                self.ask_where_others_stand(step);
                self.fetch_start(step);
            }
        }
    }

    fn begin_anew(&mut self, step: &mut Step) {
        self.incarnation = step.now.0.max(1);
        self.membership = Membership::learner(self.incarnation);
        let record = Record::Life { incarnation: self.incarnation, is_voter: false };
        self.outbox.persist(step, &record, Deferred::Nothing);
    }

    /// Redoes what a record says, without doing again what it led to.
    fn replay(&mut self, record: Record) {
        let me = self.me();
        match record {
            Record::PrePrepared { view, seq, batch } => {
                let digest = batch.digest();
                if seq <= self.stable {
                    return;
                }
                let is_backup = self.quorums().primary(view) != me;
                let entry = self.log.entry(seq);
                entry.bodies.insert(digest, batch);
                entry.note_pre_prepared(view, digest);
                if is_backup {
                    super::log::Entry::file(&mut entry.prepares, me, &Vote { view, seq, digest });
                }
                self.resume_assignment(view, seq, digest);
            }
            Record::Prepared(vote) if vote.seq > self.stable => {
                let entry = self.log.entry(vote.seq);
                entry.prepared = Some((vote.view, vote.digest));
                super::log::Entry::file(&mut entry.commits, me, &vote);
            }
            Record::Prepared(_) => {}
            Record::Executed { seq, digest, batch } if seq > self.stable => {
                let entry = self.log.entry(seq);
                entry.executed = Some(digest);
                entry.bodies.extend(batch.map(|batch| (digest, batch)));
            }
            Record::Executed { .. } => {}
            Record::LeftView(content) => {
                self.view = content.view;
                self.is_in_view = false;
                self.new_view = None;
                self.own_new_view = None;
                self.own_view_change = Some(content);
                (self.is_view_change_durable, self.is_new_view_durable) = (true, false);
            }
            Record::MadeNewView(content) => {
                self.own_new_view = Some(content);
                self.is_new_view_durable = true;
            }
            Record::EnteredView(signed) => {
                self.resume_view(signed);
                self.resume_assignments();
            }
            Record::Stable(certificate) => {
                self.stable = certificate.checkpoint.seq;
                self.own_checkpoints.insert(self.stable, certificate.checkpoint.state);
                self.stable_certificate = Some(certificate);
                self.log.truncate(self.stable);
                self.next_seq = self.next_seq.max(self.stable.next());
            }
            Record::MadeCheckpoint(seq) => {
                self.made = self.made.max(seq);
                self.made_durable = self.made;
            }
            Record::EnteredFirstView => self.begin_view(View(0)),
            Record::Life { incarnation, is_voter } => {
                self.incarnation = incarnation;
                self.membership = if is_voter { Membership::Voter } else { Membership::learner(incarnation) };
            }
        }
    }

    /// Takes up again what this replica stands for of what the new view assigned. What it proposed or
    /// accepted later comes later.
    fn resume_assignments(&mut self) {
        let view = self.view;
        let resumed: Vec<_> = self
            .log
            .iter()
            .flat_map(|(seq, entry)| {
                entry.pre_prepared.iter().map(move |(digest, view)| (*view, seq, *digest))
            })
            .filter(|(pre_prepared, seq, digest)| {
                let assigned = self.log.get(*seq).and_then(|entry| entry.assignment);
                *pre_prepared == view && assigned.is_some_and(|assigned| assigned.digest == *digest)
            })
            .collect();
        for (view, seq, digest) in resumed {
            self.resume_assignment(view, seq, digest);
        }
    }

    fn resume_assignment(&mut self, view: althing_types::View, seq: Seq, digest: althing_types::Digest) {
        if view == self.view && self.is_in_view {
            let resumed = super::log::Assignment::new(view, digest, true);
            let assignment = super::log::Assignment { is_accepted: true, is_durable: true, ..resumed };
            self.log.entry(seq).assignment = Some(assignment);
            self.next_seq = self.next_seq.max(seq.next());
        }
    }

    /// As a learner: asks the others for their checkpoints, until it may vote again.
    pub(super) fn ask_where_others_stand(&self, step: &mut Step) {
        if let Membership::Learner { nonce, bar, .. } = &self.membership {
            step.broadcast(PbftMessage::RecoverQuery { nonce: *nonce });
            if let Some(bar) = bar {
                step.broadcast(PbftMessage::FillTo { target: self.beyond(*bar) });
            }
        }
    }

    /// Where the group has to get for a replica to have a checkpoint at or above `bar`, and to see a
    /// number above it commit that stays in the logs.
    pub(super) fn beyond(&self, bar: Seq) -> Seq {
        Seq(bar.max(self.executed).0.next_multiple_of(self.config.settings.checkpoint_period)).next()
    }

    pub(super) fn on_recover_query(&mut self, step: &mut Step, from: ReplicaId, nonce: u64) {
        // Who lost its own disk does not know what checkpoints it made.
        if self.membership.is_voter() {
            let (last, stable) = (self.made.max(self.stable), self.stable_certificate.clone());
            step.send(from, PbftMessage::RecoverReport { nonce, last, stable });
        }
        // A primary that does not vote can't lead. One that has asked for this view in its new life votes.
        let known = self.view_changes.get(&from).map(|signed| &signed.content);
        let votes_again = known.is_some_and(|vc| vc.incarnation >= nonce && vc.view >= self.view);
        if self.is_in_view && from == self.primary() && !votes_again {
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
        // A correct replica's bar lies at most 3L above any stable checkpoint that it was told of.
        let is_plausible = target > self.executed && target.0 <= self.stable.0 + 3 * settings.log_size + 1;
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
        let (terms, quorums, settings) = (self.terms(), self.config.quorums, &self.config.settings);
        let (log_size, period) = (settings.log_size, settings.checkpoint_period);
        let Membership::Learner { nonce, reports, bar, .. } = &mut self.membership else { return };
        let certified = stable.as_ref().map_or(0, |certificate| certificate.checkpoint.seq.0);
        let is_proven = stable.as_ref().is_none_or(|certificate| choice::is_certificate(&terms, certificate));
        // Who claims more than its own log could hold lies; the proof bounds every other claim.
        if answered != *nonce || !is_proven || last.0 > certified + log_size || !last.0.is_multiple_of(period)
        {
            return;
        }
        reports.insert(from, last);
        if bar.is_none() && reports.len() >= quorums.agreement() {
            let highest = reports.values().copied().max().unwrap_or_default();
            *bar = Some(Seq(highest.0 + 2 * log_size));
        }
        if let Some(certificate) = stable {
            self.on_certificate(step, certificate);
        }
    }

    /// Notes that an agreement quorum committed a number: as a learner, or while waiting for a view.
    pub(super) fn witness(&mut self, seq: Seq, view: View) {
        if let Membership::Learner { bar: Some(bar), witnessed, .. } = &mut self.membership
            && seq > *bar
        {
            witnessed.get_or_insert(view);
        }
        self.note_left_behind(seq, view);
    }

    /// Ends the learner's silence once nothing that its former self signed can matter.
    pub(super) fn vote_again_if_safe(&mut self, step: &mut Step) {
        if let Membership::Learner { bar: Some(bar), witnessed: Some(view), .. } = &self.membership
            && self.stable >= *bar
            && self.view >= *view
        {
            self.membership = Membership::Voter;
            let record = Record::Life { incarnation: self.incarnation, is_voter: true };
            self.outbox.persist(step, &record, Deferred::Nothing);
        }
    }
}
