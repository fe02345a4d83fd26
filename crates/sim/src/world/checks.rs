//! What the oracles are asked, and when.

use super::World;
use super::effects::Told;
use crate::host::Host;
use crate::keys::{GroupKeys, elastic_client, machine_with, member};
use crate::oracle::{Execution, Holdings, Succession, Verdict, Violation, judge, keep_primary};
use crate::plan::RECOVERY;
use crate::subject::Subject;
use althing_protocol::zyzzyva::Composition;
use althing_protocol::{Evidence, Misbehaviour, Protocol};
use althing_replica::membership::Membership;
use althing_replica::{Replica, Report, Service};
use althing_types::{Epoch, Seq, View};
use std::sync::Arc;

impl<X: Subject> World<'_, X> {
    /// Holds a correct replica to all that has to hold of it, after each input.
    pub(super) fn check_host(&mut self, host: usize, told: Told) -> Verdict {
        self.check_reports(host, &told.reports)?;
        for (membership, start) in &told.epochs {
            self.succession.entered(host, membership, *start)?;
        }
        if let (Some((membership, _)), Some(replica)) = (told.epochs.last(), &self.hosts[host].replica) {
            let engine = replica.engine_settings();
            Succession::goes_by(host, membership, replica.settings().as_ref(), engine)?;
        }
        for (membership, evidence) in &told.evidence {
            *self.evidence.entry(kind(evidence)).or_default() += 1;
            match membership {
                None => {
                    let keyring = GroupKeys::of_group(self.plan.quorums.n()).replica(self.hosts[host].id);
                    judge(host, evidence, keyring, |id| self.was_always_correct(id))?;
                }
                Some(membership) => {
                    let keyring = membership.keyring(&elastic_client(0));
                    let machine = |place| machine_with(&membership.member(place)?.key);
                    let is_correct = |id| machine(id).is_some_and(|id| self.was_always_correct(id));
                    judge(host, evidence, &keyring, is_correct)?;
                }
            }
        }
        self.check_memory(host)
    }

    fn check_reports(&mut self, host: usize, reports: &[(Epoch, Report)]) -> Verdict {
        let mut state_at = None;
        for (epoch, report) in reports {
            match report {
                Report::Executed { seq, digest, requests, .. } => {
                    let Some(replica) = &self.hosts[host].replica else { continue };
                    let executes = !replica.is_witness();
                    let witnessed = executes.then(|| replica.service().at(*seq).iter().collect());
                    let execution = Execution { seq: *seq, batch: *digest, requests, witnessed };
                    self.ledger.executed(host, &execution)?;
                    if self.plan.membership.is_some() {
                        self.succession.executed(host, *epoch, *seq, requests)?;
                    }
                    state_at = Some(*seq);
                }
                Report::Stable { seq, state } => self.ledger.stable(host, *seq, *state)?,
                Report::TransferFinished { seq, .. } => {
                    self.state_transfers += 1;
                    self.ledger.standing(host, *seq);
                    state_at = Some(*seq);
                }
                Report::Confirmed { seq } => {
                    self.ledger.standing(host, *seq);
                    state_at = Some(*seq);
                }
                Report::Retired { .. } => self.succession.retired(host),
                Report::EnteredView(view) => {
                    self.views.insert(*view);
                    // Others go on to another view under contention.
                    if self.plan.is_undisturbed && self.plan.composition == Composition::Zyzzyva {
                        keep_primary(*view)?;
                    }
                }
                Report::Diverged { seq } => {
                    let message =
                        format!("host {host}'s own checkpoint at {seq} differs from the stable one");
                    return Err(Violation::new("checkpoint", message));
                }
                Report::StateRefused { seq, error } => {
                    let message = format!("host {host} can't install the state of {seq}: {error}");
                    return Err(Violation::new("checkpoint", message));
                }
                _ => {}
            }
        }
        self.check_state(host, state_at)
    }

    fn check_state(&mut self, host: usize, state_at: Option<Seq>) -> Verdict {
        // What is tentative is not there yet, as far as others can see.
        match (&self.hosts[host].replica, state_at) {
            (Some(replica), Some(seq)) if !replica.is_tentative() && !replica.is_witness() => {
                self.ledger.state(host, seq, replica.service().state())
            }
            _ => Ok(()),
        }
    }

    /// The state that a replica found on its disk has to be one that the group had.
    pub(super) fn check_start(&mut self, host: usize) -> Verdict {
        let at = &self.hosts[host];
        match &at.replica {
            Some(replica) if at.is_correct => {
                let seq = replica.status().executed;
                self.ledger.standing(host, seq);
                self.check_state(host, Some(seq))
            }
            _ => Ok(()),
        }
    }

    fn check_memory(&self, host: usize) -> Verdict {
        let at = &self.hosts[host];
        let Some(replica) = &at.replica else { return Ok(()) };
        let status = replica.status();
        let held = Holdings {
            protocol: X::probe(replica.protocol()).footprint,
            checkpoints: status.checkpoints,
            outstanding: status.outstanding,
            records: at.promised.len(),
        };
        self.memory.check(host, held)
    }

    /// Whether all that has to happen after the faults has happened.
    pub(super) fn is_settled(&self) -> bool {
        let are_done = self.workers.iter().all(crate::workload::Worker::is_done);
        are_done && self.succession.unfulfilled().is_empty() && self.stragglers().is_empty()
    }

    /// The correct replicas that have not yet got beyond where the group was when the faults ended,
    /// or do not vote; and, if nobody stays faulty, those that are not where the others are.
    ///
    /// Among some that stay faulty that can't be asked for: a replica that is lied to by them may
    /// always be a checkpoint behind, or in a view that they served for the others alone.
    pub(super) fn stragglers(&self) -> Vec<String> {
        let (last, view, latest) = (self.last_executed(), self.last_view(), self.latest_membership());
        let mut stragglers = Vec::new();
        for (host, at) in self.hosts.iter().enumerate().filter(|(_, at)| at.is_correct) {
            let Some(replica) = &at.replica else {
                stragglers.push(format!("host {host} is down"));
                continue;
            };
            let (status, probe) = (replica.status(), X::probe(replica.protocol()));
            if let Some(latest) = &latest {
                let has_place = latest.place_of(&member(at.id).key).is_some();
                let is_there = replica.membership() == Some(&**latest) && replica.takes_part();
                let has_left = replica.is_retired() || has_nobody_to_ask(replica);
                if (has_place && !is_there) || (!has_place && !has_left) {
                    let epoch = replica.membership().map(|membership| membership.epoch);
                    stragglers.push(format!("host {host} in {epoch:?}: {status:?}, {probe:?}"));
                }
                if !has_place {
                    continue;
                }
            }
            let is_with_others = status.is_in_view && status.view == view && status.executed == last;
            let is_alone = self.plan.byzantine.is_empty() && !is_with_others;
            if status.executed < self.healed_at || !(probe.is_voting || probe.is_mute) || is_alone {
                stragglers.push(format!("host {host}: {status:?}, {probe:?}"));
            }
        }
        for (host, _) in self.hosts.iter().enumerate().filter(|(_, at)| at.is_freed) {
            stragglers.push(format!("host {host} has not recovered"));
        }
        stragglers
    }

    /// The latest membership that a correct replica is in, where members change.
    fn latest_membership(&self) -> Option<Arc<Membership>> {
        let correct = self.hosts.iter().filter(|host| host.is_correct);
        correct.filter_map(|host| host.membership.clone()).max_by_key(|membership| membership.epoch)
    }

    /// The latest view that a correct replica is in.
    fn last_view(&self) -> View {
        let latest = self.latest_membership().map(|membership| membership.epoch);
        let is_in_it = |host: &&Host<X>| host.membership.as_ref().map(|m| m.epoch) == latest;
        let statuses = self.hosts.iter().filter(|host| host.is_correct).filter(is_in_it);
        let statuses = statuses.filter_map(|host| host.replica.as_ref()).map(|replica| replica.status());
        statuses.filter(|status| status.is_in_view).map(|status| status.view).max().unwrap_or_default()
    }

    /// What correct replicas have executed at most.
    pub(super) fn last_executed(&self) -> Seq {
        let correct = self.hosts.iter().filter(|host| host.is_correct);
        let executed =
            correct.filter_map(|host| host.replica.as_ref()).map(|replica| replica.status().executed);
        executed.max().unwrap_or_default()
    }

    pub(super) fn explain_what_hangs(&self) -> Violation {
        let mut lines = vec![format!(
            "{} s after the faults ended, with {} operations executed:",
            RECOVERY.as_secs(),
            self.ledger.operations()
        )];
        for worker in self.workers.iter().filter(|worker| !worker.is_done()) {
            lines.push(match worker.client.outstanding() {
                Some(number) => format!("{} still waits for {number}", worker.id),
                None => format!("{} has operations left to do", worker.id),
            });
        }
        let is_straggling = !self.stragglers().is_empty();
        lines.push(format!(
            "replicas have to execute {}{}",
            self.healed_at,
            if is_straggling { ", and some don't" } else { "" }
        ));
        for (host, at) in self.hosts.iter().enumerate().filter(|(_, at)| at.is_correct || at.is_freed) {
            lines.extend(at.replica.as_ref().map(|replica| {
                format!("host {host}: {:?}, {:?}", replica.status(), X::probe(replica.protocol()))
            }));
        }
        let unfulfilled = self.succession.unfulfilled();
        let oracle = if unfulfilled.is_empty() { "liveness" } else { "membership" };
        lines.extend(unfulfilled);
        Violation::new(oracle, lines.join("\n"))
    }
}

/// Whether this replica has forgotten all, and knows of no other member. If the group has replaced it
/// meanwhile, nobody knows whom to tell: that it waits is all that it can do.
fn has_nobody_to_ask<P: Protocol, S: Service>(replica: &Replica<P, S>) -> bool {
    let is_alone = replica.membership().is_some_and(|membership| membership.members.len() == 1);
    is_alone && !replica.takes_part()
}

fn kind(evidence: &Evidence) -> &'static str {
    match evidence.misbehaviour {
        Misbehaviour::ConflictingPrePrepare(..) => "conflicting-pre-prepare",
        Misbehaviour::ConflictingVote(..) => "conflicting-vote",
        Misbehaviour::ConflictingCheckpoint(_) => "conflicting-checkpoint",
        Misbehaviour::WrongCheckpoint(_) => "wrong-checkpoint",
        Misbehaviour::ConflictingViewChange(_) => "conflicting-view-change",
        Misbehaviour::InvalidViewChange(_) => "invalid-view-change",
        Misbehaviour::InvalidNewView(_) => "invalid-new-view",
        Misbehaviour::InvalidBatch(..) => "invalid-batch",
        Misbehaviour::InvalidMessage => "invalid-message",
        Misbehaviour::Forgery => "forgery",
        Misbehaviour::WrongState(_) => "wrong-state",
    }
}
