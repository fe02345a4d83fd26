//! Witnesses: replicas that agree on the order, keep the log, and execute nothing.
//!
//! 2f + 1 *executors* are enough to give clients f + 1 equal results, and to have the state where f of them are
//! faulty (Yin et al., SOSP'03, separate agreement from execution so; the witnesses here are those of n that are
//! left). For agreement a witness is a replica as any other. It has no state whose digest it could sign. It *makes*
//! a checkpoint once
//! 1. it has all batches up to there, in order, on its own disk; and
//! 2. f + 1 executors have told it the same digest, of whom one is correct and has it; or a certificate says so.
//!
//! Then a stable checkpoint is what it was.
//! - *Its digest is right.* One of its signers is correct, and either has executed up to there or was told by a
//!   correct executor that has.
//! - *Its state is not lost.* At least f + 1 executors said that they have it: either a correct witness is among its
//!   signers, which was told by so many, or all its correct signers are executors, and those are f + 1. One of them
//!   is correct, whoever the f are that fail. With executors alone f + 1 would be: so fewer may leave a group at
//!   once that has witnesses (`Reconfigure` in the engine).
//! - *It comes.* Of 2f + 1 executors f + 1 are correct, whatever the others say. With the correct witnesses they are
//!   n − f, which is an agreement quorum.
//!
//! What executors tell a witness has MACs, and counts as long as their keys ([`super::words`]). Signed checkpoints
//! can be kept: f that are taken over could sign a wrong one for a number that is yet to come, and recover; with
//! those that are taken over next they would be f + 1. A certificate takes 2f + 1, and is as good as ever.
//!
//! A witness never contradicts itself. What it was told is right, so it is the same after a restart.
//!
//! Nothing is executed tentatively where the executors that are left beside f faulty ones are no agreement quorum:
//! else clients would wait for one that is faulty.

use super::message::{Checkpoint, PbftMessage};
use super::{Pbft, Step};
use crate::Misbehaviour;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_types::{Digest, ReplicaId, Seq};
use borsh::{BorshDeserialize, BorshSerialize};

/// The digests that executors have told this witness, each with the number of the key under which they did: one of
/// each executor for each checkpoint in the log.
#[derive(Debug, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Attested(BTreeMap<Seq, BTreeMap<ReplicaId, (Digest, u64)>>);

impl Attested {
    pub(super) fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// What was said of numbers up to this one is of no use any more.
    pub(super) fn truncate(&mut self, stable: Seq) {
        self.0 = self.0.split_off(&stable.next());
    }

    /// Drops what a replica said under keys before this one.
    pub(super) fn forget(&mut self, of: ReplicaId, before: u64) {
        for said in self.0.values_mut() {
            said.retain(|from, (_, key)| *from != of || *key >= before);
        }
    }

    /// What so many say alike of this number.
    fn agreed(&self, seq: Seq, enough: usize) -> Option<Digest> {
        let said = self.0.get(&seq)?;
        let votes = |digest: &Digest| said.values().filter(|(other, _)| other == digest).count();
        said.values().map(|(digest, _)| *digest).find(|digest| votes(digest) >= enough)
    }
}

impl Pbft {
    /// Tells a witness that this executor made a checkpoint.
    pub(super) fn tell_made(&self, step: &mut Step, to: ReplicaId, made: Checkpoint) {
        if self.config.is_witness(to) && !self.config.is_witness(self.me()) {
            step.send(to, PbftMessage::Made(made));
        }
    }

    pub(super) fn on_made(&mut self, step: &mut Step, (from, key): (ReplicaId, u64), made: Checkpoint) {
        let Checkpoint { seq, state } = made;
        if !self.config.is_witness(self.me()) || self.config.is_witness(from) {
            return self.accuse(step, from, Misbehaviour::InvalidMessage, Vec::new());
        }
        self.standing_in.hear(from, seq.min(self.high_watermark()));
        if !self.is_in_watermarks(seq) || !self.is_checkpoint(seq) {
            return;
        }
        let said = self.attested.0.entry(seq).or_default();
        let known = said.entry(from).or_insert((state, key));
        if known.0 != state && known.1 == key {
            self.accuse(step, from, Misbehaviour::ConflictingCheckpoint(seq), Vec::new());
        } else if known.1 < key {
            // Somebody else may have said the other thing.
            *known = (state, key);
        }
    }

    /// The next checkpoint above what this replica has made, or is stable, if it has executed up to there.
    fn unattested(&self) -> Option<Seq> {
        let made = self.own_checkpoints.last_key_value().map_or(self.stable, |(seq, _)| *seq);
        let period = self.config.settings.checkpoint_period;
        let next = Seq((made.max(self.stable).0 / period + 1) * period);
        (self.config.is_witness(self.me()) && next <= self.acknowledged).then_some(next)
    }

    /// Whether this witness has yet to be told what the state is at a checkpoint that it has got to.
    pub(super) fn awaits_digest(&self) -> bool {
        self.unattested().is_some()
    }

    /// As witness: makes the checkpoints that it has got to and was told of.
    pub(super) fn attest(&mut self, step: &mut Step) {
        while let Some(seq) = self.unattested() {
            let certified = self.behind.as_ref().map(|certificate| certificate.checkpoint);
            let is_new =
                |it: &Checkpoint| it.seq <= self.acknowledged && !self.own_checkpoints.contains_key(&it.seq);
            // What lies below is of no use any more.
            if let Some(Checkpoint { seq, state }) = certified.filter(is_new) {
                self.make_checkpoint(step, seq, state);
                continue;
            }
            match self.attested.agreed(seq, self.quorums().one_correct()) {
                Some(state) => self.make_checkpoint(step, seq, state),
                None => return,
            }
        }
    }

    /// Whether batches may be executed tentatively: an agreement quorum of executors is there where f are faulty, or
    /// all replicas execute.
    pub(super) fn can_be_eager(&self) -> bool {
        let (quorums, witnesses) = (self.quorums(), self.config.settings.witnesses.len());
        witnesses == 0 || quorums.available() - witnesses >= quorums.agreement()
    }
}
