//! A witness stands in for an executor that is down.
//!
//! With an executor less the state is on a machine less, and nothing says for how long. So a witness that has heard of no
//! checkpoint of an executor's for more than a log fetches the state, and executes from there on: as many witnesses as
//! executors are missing, the first ones first. It is a matter of its own. Nobody counts on it: it signs checkpoints as
//! before, once f + 1 executors have told it what they are, tells no other witness of them, and is an executor to clients
//! only where one correct word is enough.
//!
//! It executes until its epoch ends or it starts again. Whoever is only slow can have each witness fetch the state once
//! in an epoch, and gains nothing else.
//!
//! The state that it fetches is the last stable one, and it goes on taking batches down meanwhile. Once the state is there
//! it executes again what its log holds since, which is all: a log is truncated no further than that.

use super::message::Checkpoint;
use super::{Pbft, Step};
use crate::Action;
use alloc::collections::BTreeMap;
use althing_types::{ReplicaId, Seq};
use borsh::{BorshDeserialize, BorshSerialize};

/// What a witness knows of those that execute, and whether it stands in for one.
#[derive(Debug, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct StandingIn {
    /// The last checkpoint that each executor has told this witness of.
    heard: BTreeMap<ReplicaId, Seq>,
    /// From where on this witness has listened.
    since: Option<Seq>,
    /// Whether it fetches the state.
    is_wanted: bool,
    /// Whether it has the state, and executes.
    is_done: bool,
}

impl StandingIn {
    /// An executor tells this witness of a checkpoint.
    pub(super) fn hear(&mut self, from: ReplicaId, made: Seq) {
        let last = self.heard.entry(from).or_default();
        *last = made.max(*last);
    }
}

impl Pbft {
    /// Whether this replica executes nothing now.
    pub(super) fn executes_nothing(&self) -> bool {
        self.config.is_witness(self.me()) && !self.standing_in.is_done
    }

    /// As witness, with another stable checkpoint: asks for its state, if too many executors are missing.
    pub(super) fn stand_in_if_missed(&mut self, step: &mut Step, stable: Checkpoint) {
        // What is fetched must not fall behind what is stable, at the end of the instance neither.
        let is_too_late = self.end.is_some() && !self.standing_in.is_wanted;
        if !self.executes_nothing() || is_too_late || !self.membership.is_voter() {
            return;
        }
        let log_size = self.config.settings.log_size;
        let since = *self.standing_in.since.get_or_insert(stable.seq);
        let heard = |id: &ReplicaId| self.standing_in.heard.get(id).copied().unwrap_or_default().max(since);
        let is_missing = |id: &ReplicaId| stable.seq.0 > heard(id).0 + log_size;
        let executors = self.quorums().replicas().filter(|id| !self.config.is_witness(*id));
        let missing = executors.filter(is_missing).count();
        let before = self.config.settings.witnesses.iter().filter(|id| **id < self.me()).count();
        self.standing_in.is_wanted |= missing > before;
        if self.standing_in.is_wanted && self.fetching.is_none() {
            let Checkpoint { seq, state } = stable;
            step.actions.push(Action::StandIn { seq, state });
        }
    }

    /// The state at the last checkpoint that is proven here is there, with the service: what came since is executed again.
    pub(super) fn on_standing_in(&mut self, seq: Seq) {
        assert!(
            self.standing_in.is_wanted && seq >= self.stable,
            "it was asked for, and nothing later is stable"
        );
        self.standing_in.is_done = true;
        (self.executed, self.acknowledged) = (seq, seq);
        self.own_checkpoints.retain(|own, _| *own <= seq);
    }
}
