//! Larger batches under load: while many requests are under way, more gather into the next batch, as in our PBFT.
//!
//! A PBFT primary sees by the votes what is under way. Here nobody says anything to it, so backups do (`Reached`),
//! each once it has accepted so many requests since it last did. Below that many under way nothing gathers: where
//! requests come one by one they wait for nothing, and hardly a message more is sent.

use super::message::ZyzzyvaMessage;
use super::mode::Mode;
use super::{Step, Zyzzyva};
use crate::batch;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_types::{ReplicaId, Seq, View};
use borsh::{BorshDeserialize, BorshSerialize};

/// A backup says how far it is once it has accepted so many requests since, and requests gather while at least so
/// many are under way. It is one number for both: what is under way for longer is what a backup will speak of.
const GATHER_FROM: usize = 8;

/// How far replicas are in the present view.
#[derive(Debug, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Progress {
    /// As primary: the last number of which each backup has said that it has accepted all up to there.
    reached: BTreeMap<ReplicaId, Seq>,
    /// As backup: the last number of which it has said so.
    said: Seq,
}

impl Zyzzyva {
    /// As backup: tells the primary how far it is, once that is worth a message.
    pub(super) fn say_reached(&mut self, step: &mut Step) {
        let (view, durable) = (self.view, self.durable);
        let is_to_say = match self.mode() {
            Mode::Zyzzyva | Mode::Backup => !self.is_leading(),
            // It has all that those before it have.
            Mode::Chain => self.is_tail() && !self.is_leading(),
            Mode::Quorum => false,
        };
        if !is_to_say || !self.is_in_view || !self.is_voting() || self.progress.said >= durable {
            return;
        }
        let accepted = self.log.after(self.progress.said).take_while(|(seq, _)| *seq <= durable);
        let requests: usize = accepted.map(|(_, slot)| slot.batch.requests.len()).sum();
        if requests >= GATHER_FROM {
            self.progress.said = durable;
            step.send(self.primary(), ZyzzyvaMessage::Reached { view, seq: durable });
        }
    }

    pub(super) fn on_reached(&mut self, from: ReplicaId, view: View, seq: Seq) {
        if self.is_leading() && view == self.view && from != self.me() {
            let reached = self.progress.reached.entry(from).or_default();
            *reached = seq.min(self.log.last()).max(*reached);
        }
    }

    /// As primary: whether to wait for more requests.
    pub(super) fn gathers(&self) -> bool {
        let waiting = self.pending.unproposed();
        if waiting >= self.config.settings.max_batch_requests {
            return false;
        }
        let through = self.executed.max(self.reached_by_quorum());
        let under_way: usize = self.log.after(through).map(|(_, slot)| slot.batch.requests.len()).sum();
        under_way >= GATHER_FROM && batch::are_few(waiting, under_way)
    }

    /// How far an agreement quorum has accepted, this replica included; in a chain all.
    fn reached_by_quorum(&self) -> Seq {
        let mut reached: Vec<Seq> = self.progress.reached.values().copied().collect();
        reached.sort_unstable_by(|a, b| b.cmp(a));
        let others = if self.mode() == Mode::Chain { 1 } else { self.quorums().agreement() - 1 };
        match others.checked_sub(1) {
            Some(last) => reached.get(last).copied().unwrap_or_default(),
            None => self.log.last(),
        }
    }
}
