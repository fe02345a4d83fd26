use super::{Means, Said, stale};
use crate::dice::Dice;
use crate::fault::Injection;
use althing_protocol::pbft::{Checkpoint, CheckpointCertificate, PbftMessage, Status};
use althing_protocol::{Auth, Batch};
use althing_replica::{EngineMessage, Parts};
use althing_types::{Digest, Seq, View};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Lies about the state: in checkpoints, to those that fetch it, and to those that ask where the group
/// stands.
pub(super) struct StateLies {
    rate: u64,
    /// Whether all hear the same wrong digest of a checkpoint.
    is_consistent: bool,
    told: BTreeMap<Seq, Digest>,
    certificate: Option<CheckpointCertificate>,
}

impl StateLies {
    pub(super) fn new(dice: &mut Dice) -> Self {
        Self {
            rate: dice.pick(&[300, 600, 1000]),
            is_consistent: dice.chance(600),
            told: BTreeMap::new(),
            certificate: None,
        }
    }

    /// A wrong digest, of a checkpoint or of one that nobody has made yet.
    pub(super) fn checkpoint(&mut self, means: &mut Means, message: PbftMessage, auth: Auth) -> Said {
        let own = match message {
            PbftMessage::Checkpoint(own) => own,
            PbftMessage::Made(own) => return self.made(means, own, auth),
            message => return vec![(message, auth)],
        };
        if !means.dice.chance(self.rate) {
            return vec![(PbftMessage::Checkpoint(own), auth)];
        }
        means.injections.note(Injection::CheckpointFalsified);
        let fresh = Digest([u8::try_from(means.dice.below(256)).expect("a byte"); 32]);
        let state = if self.is_consistent { *self.told.entry(own.seq).or_insert(fresh) } else { fresh };
        let lie = (PbftMessage::Checkpoint(Checkpoint { state, ..own }), auth);
        match means.dice.below(5) {
            0 => vec![lie, (PbftMessage::Checkpoint(own), auth)],
            1 => {
                let seq = Seq(own.seq.0 + means.checkpoint_period);
                vec![lie, (PbftMessage::Checkpoint(Checkpoint { seq, state }), auth)]
            }
            _ => vec![lie],
        }
    }

    /// What it tells a witness, which may be something else than what it signs.
    fn made(&mut self, means: &mut Means, own: Checkpoint, auth: Auth) -> Said {
        if !means.dice.chance(self.rate) {
            return vec![(PbftMessage::Made(own), auth)];
        }
        means.injections.note(Injection::CheckpointFalsified);
        let fresh = Digest([u8::try_from(means.dice.below(256)).expect("a byte"); 32]);
        let state = self.told.get(&own.seq).copied().filter(|_| self.is_consistent).unwrap_or(fresh);
        let lie = (PbftMessage::Made(Checkpoint { state, ..own }), auth);
        match means.dice.below(3) {
            0 => vec![lie, (PbftMessage::Made(own), auth)],
            _ => vec![lie],
        }
    }

    /// Lies about where it stands, and certificates that prove less than they should.
    pub(super) fn tamper(&mut self, means: &mut Means, message: PbftMessage, auth: Auth) -> Said {
        if let PbftMessage::RelayStable(certificate) = &message {
            self.certificate = Some(certificate.clone());
        }
        if !means.dice.chance(self.rate / 2) {
            return vec![(message, auth)];
        }
        means.injections.note(Injection::StatusFalsified);
        match message {
            PbftMessage::Status(status) => self.status(means, status, auth),
            PbftMessage::RelayStable(certificate) => {
                vec![(PbftMessage::RelayStable(weakened(&mut means.dice, certificate)), auth)]
            }
            PbftMessage::RecoverReport { nonce, last, stable } => {
                let last = match means.dice.below(5) {
                    0 => Seq(0),
                    1 => Seq(u64::MAX),
                    2 => Seq(last.0 + means.checkpoint_period),
                    _ => last,
                };
                let stable = match means.dice.below(4) {
                    0 => None,
                    1 => stable.map(|certificate| weakened(&mut means.dice, certificate)),
                    2 => self.certificate.clone(),
                    _ => stable,
                };
                let nonce = if means.dice.chance(100) { nonce + 1 } else { nonce };
                vec![(PbftMessage::RecoverReport { nonce, last, stable }, auth)]
            }
            // All liars name the same, so that together they could pass for one more than there are.
            PbftMessage::Decided { seq, .. } => {
                vec![(PbftMessage::Decided { seq, digest: Digest([7; 32]) }, auth)]
            }
            PbftMessage::BatchBody { seq, batch } => {
                let mut other = Batch::clone(&batch);
                other.time.0 += 1;
                vec![(PbftMessage::BatchBody { seq, batch: Arc::new(other) }, auth)]
            }
            message => vec![(message, auth)],
        }
    }

    fn status(&mut self, means: &mut Means, mut status: Status, auth: Auth) -> Said {
        let dice = &mut means.dice;
        match dice.below(7) {
            0 => {
                let (stable, executed) = (Seq(0), Seq(0));
                status = Status { view: View(0), is_in_view: false, stable, executed, is_suspicious: false };
            }
            1 => status.executed = Seq(u64::MAX),
            2 => status.stable = Seq(u64::MAX),
            3 => status.view = View(u64::MAX),
            4 => status.is_in_view = !status.is_in_view,
            5 => status.is_suspicious = true,
            _ => status.executed.0 = status.executed.0.saturating_sub(dice.below(9)),
        }
        let mut said = vec![(PbftMessage::Status(status), auth)];
        if dice.chance(100) {
            // It plays a replica that lost its disk, to make the others work.
            let target = Seq(dice.pick(&[0, status.stable.0 / 2, u64::MAX]));
            said.push((PbftMessage::RecoverQuery { nonce: 1, is_voting: false }, Auth::Mac));
            said.push((PbftMessage::FillTo { target }, Auth::Mac));
        }
        if dice.chance(200) {
            let seq = Seq(status.stable.0.saturating_add(dice.below(6)));
            said.push((
                PbftMessage::Decided { seq, digest: dice.pick(&[Digest([7; 32]), Digest::NULL]) },
                Auth::Mac,
            ));
        }
        if dice.chance(100) {
            let seq = Seq(status.executed.0.saturating_add(dice.below(3)));
            said.push((PbftMessage::FetchBatch { seq, digest: Digest([3; 32]) }, Auth::Mac));
        }
        said
    }

    /// Wrong parts of the state, and other things than were asked for.
    pub(super) fn engine(&mut self, means: &mut Means, message: EngineMessage) -> Vec<EngineMessage> {
        let EngineMessage::Fetched { ticket, parts } = message else {
            return vec![if means.dice.chance(self.rate) { misled(means, message) } else { message }];
        };
        if !means.dice.chance(self.rate) {
            return vec![EngineMessage::Fetched { ticket, parts }];
        }
        means.injections.note(Injection::StateFalsified);
        let way = means.dice.below(8);
        let lie = match (way, parts) {
            (0, _) => return vec![stale(ticket)],
            (1, parts) => return vec![EngineMessage::Fetched { ticket: ticket + 1, parts }, stale(ticket)],
            (2, _) => Parts::Pages(Vec::new()),
            (3, _) => Parts::Nodes(vec![vec![(0, Digest::NULL)]]),
            (4, Parts::Pages(mut pages)) => {
                pages.pop();
                Parts::Pages(pages)
            }
            (_, Parts::Pages(mut pages)) => {
                if let Some(byte) = pages.first_mut().and_then(|page| page.last_mut()) {
                    *byte ^= 1;
                }
                Parts::Pages(pages)
            }
            (4, Parts::Nodes(mut nodes)) => {
                for children in &mut nodes {
                    children.pop();
                }
                Parts::Nodes(nodes)
            }
            (_, Parts::Nodes(mut nodes)) => {
                if let Some((_, digest)) = nodes.first_mut().and_then(|children| children.first_mut()) {
                    digest.0[0] ^= 1;
                }
                Parts::Nodes(nodes)
            }
            (_, Parts::Unavailable) => Parts::Pages(vec![vec![0; 100]]),
        };
        vec![EngineMessage::Fetched { ticket, parts: lie }]
    }
}

/// A wrong start of the epoch, or a way to the next one that leads nowhere.
fn misled(means: &mut Means, mut message: EngineMessage) -> EngineMessage {
    means.injections.note(Injection::StateFalsified);
    match &mut message {
        EngineMessage::Start { seq, state } if means.dice.chance(500) => {
            seq.0 += means.checkpoint_period;
            state.0[0] ^= 1;
        }
        EngineMessage::Start { state, .. } => state.0[0] ^= 1,
        EngineMessage::Succession(links) => {
            for link in links {
                match means.dice.below(3) {
                    0 => link.state.0[0] ^= 1,
                    1 => drop(link.votes.pop()),
                    _ => link.seq.0 += 1,
                }
            }
        }
        _ => {}
    }
    message
}

/// A certificate that certifies nothing.
fn weakened(dice: &mut Dice, mut certificate: CheckpointCertificate) -> CheckpointCertificate {
    match dice.below(4) {
        0 => drop(certificate.votes.pop()),
        1 => certificate.checkpoint.seq.0 += 1,
        2 => certificate.checkpoint.state.0[0] ^= 1,
        _ => {
            if let Some(one) = certificate.votes.first().cloned() {
                certificate.votes.insert(0, one);
            }
        }
    }
    certificate
}
