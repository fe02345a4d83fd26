use super::{Means, Said};
use crate::dice::Dice;
use crate::fault::Injection;
use althing_protocol::pbft::{PbftMessage, PrePrepare, ShortProposal, Vote};
use althing_protocol::{Auth, Batch, Message};
use althing_types::{Digest, Principal, Seq, View};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Tells victims another story than the rest, and stands to both: the votes that a victim gets are
/// for the batch that it was shown.
pub(super) struct Equivocation {
    /// Which principals are victims, by view; drawn when first needed.
    victims: BTreeMap<(View, Principal), bool>,
    /// The batch shown to the victims instead of the one with this digest.
    fakes: BTreeMap<(View, Seq), (Digest, Arc<Batch>)>,
    /// How many of the others are victims, per thousand.
    share: u64,
    /// How often a commit follows a proposal at once, per thousand.
    haste: u64,
}

impl Equivocation {
    pub(super) fn new(dice: &mut Dice) -> Self {
        let (share, haste) = (dice.pick(&[200, 400, 500, 700]), dice.pick(&[0, 300, 1000]));
        Self { victims: BTreeMap::new(), fakes: BTreeMap::new(), share, haste }
    }

    pub(super) fn tamper(
        &mut self,
        means: &mut Means,
        to: Principal,
        message: PbftMessage,
        auth: Auth,
    ) -> Said {
        match message {
            PbftMessage::PrePrepare(PrePrepare { view, seq, ref batch }) => {
                let real = (batch.digest(), Batch::clone(batch));
                self.propose(means, to, (view, seq, real), (message, auth))
            }
            PbftMessage::ShortPrePrepare(ref short) => {
                let &ShortProposal { view, seq, digest, time, .. } = short;
                // As far as it is here.
                let real = (digest, Batch { time, requests: short.whole.clone() });
                self.propose(means, to, (view, seq, real), (message, auth))
            }
            PbftMessage::Prepare(vote) => vec![(PbftMessage::Prepare(self.vote(means, to, vote)), auth)],
            PbftMessage::Commit(vote) => vec![(PbftMessage::Commit(self.vote(means, to, vote)), auth)],
            PbftMessage::Decided { seq, .. } if means.dice.chance(500) => {
                // To the victims of the last view, the batch that they were shown.
                let fake = self.fakes.iter().rev().find(|((_, at), _)| *at == seq);
                let digest = fake.map_or(Digest([9; 32]), |(_, (_, fake))| fake.digest());
                vec![(PbftMessage::Decided { seq, digest }, auth)]
            }
            message => self.contradict(means, to, message, auth),
        }
    }

    fn is_victim(&mut self, means: &mut Means, view: View, to: Principal) -> bool {
        let share = self.share;
        *self.victims.entry((view, to)).or_insert_with(|| means.dice.chance(share))
    }

    fn propose(
        &mut self,
        means: &mut Means,
        to: Principal,
        (view, seq, (digest, batch)): (View, Seq, (Digest, Batch)),
        (real, auth): (PbftMessage, Auth),
    ) -> Said {
        let falsify = || (digest, Arc::new(falsified(&mut means.dice, &batch)));
        let (_, fake) = self.fakes.entry((view, seq)).or_insert_with(falsify);
        let fake = (fake.digest(), PbftMessage::PrePrepare(PrePrepare { view, seq, batch: fake.clone() }));
        let is_victim = self.is_victim(means, view, to);
        let ((digest, shown), (_, hidden)) =
            if is_victim { (fake, (digest, real)) } else { ((digest, real), fake) };
        if is_victim {
            means.injections.note(Injection::Equivocated);
        }
        let vote = Vote { view, seq, digest };
        let mut said = vec![(shown, auth)];
        if means.dice.chance(30) {
            said.push((hidden, auth));
        }
        if means.dice.chance(self.haste) {
            said.push((PbftMessage::Commit(vote), Auth::Mac));
        }
        said
    }

    fn vote(&mut self, means: &mut Means, to: Principal, vote: Vote) -> Vote {
        if !self.is_victim(means, vote.view, to) {
            return vote;
        }
        means.injections.note(Injection::Equivocated);
        match self.fakes.get(&(vote.view, vote.seq)) {
            Some((_, fake)) => Vote { digest: fake.digest(), ..vote },
            None => Vote { digest: Digest([9; 32]), ..vote },
        }
    }

    /// Statements that are signed: a contradiction is proof against whoever makes it.
    fn contradict(&mut self, means: &mut Means, to: Principal, message: PbftMessage, auth: Auth) -> Said {
        let view = match &message {
            PbftMessage::ViewChange(content) => content.view,
            PbftMessage::NewView(content) => content.view,
            _ => View(0),
        };
        if !means.dice.chance(500) || !self.is_victim(means, view, to) {
            return vec![(message, auth)];
        }
        let Some(other) = message.contradiction() else { return vec![(message, auth)] };
        means.injections.note(Injection::Equivocated);
        if means.dice.chance(200) { vec![(other, auth), (message, auth)] } else { vec![(other, auth)] }
    }
}

/// Another batch that backups may accept as well.
fn falsified(dice: &mut Dice, batch: &Batch) -> Batch {
    let mut other = batch.clone();
    match dice.below(4) {
        0 => other = Batch::null(),
        1 if other.requests.len() > 1 => {
            other.requests.pop();
        }
        2 if other.requests.len() > 1 => other.requests.reverse(),
        3 if !other.requests.is_empty() => {
            let again = other.requests[0].clone();
            other.requests.push(again);
        }
        _ => other.time.0 += 1,
    }
    other
}
