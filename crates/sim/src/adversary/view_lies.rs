use super::{Means, Said};
use crate::dice::Dice;
use crate::fault::Injection;
use althing_crypto::Domain;
use althing_protocol::Auth;
use althing_protocol::pbft::{CheckpointCertificate, Claim, NewView, PbftMessage, ViewChange};
use althing_types::{Digest, Seq, View, encode};
use std::collections::BTreeMap;

/// Lies in view changes and new views: about what prepared, what was proposed, which checkpoint is
/// stable, and what follows from what others said.
pub(super) struct ViewLies {
    /// How often it lies, per thousand.
    rate: u64,
    /// The one lie told to everybody, by view; without it, each hears another.
    told: Option<BTreeMap<View, PbftMessage>>,
    /// An older certificate, to pass for the last.
    old: Option<CheckpointCertificate>,
}

impl ViewLies {
    pub(super) fn new(dice: &mut Dice) -> Self {
        let told = dice.chance(600).then(BTreeMap::new);
        Self { rate: dice.pick(&[300, 700, 1000]), told, old: None }
    }

    pub(super) fn tamper(&mut self, means: &mut Means, message: PbftMessage, auth: Auth) -> Said {
        match message {
            PbftMessage::ViewChange(content) => {
                let key = content.view;
                let old = self.old.clone();
                self.old = content.stable.clone().or(old.clone());
                let lie = self.lie(means, key, |means| {
                    means.injections.note(Injection::ViewChangeFalsified);
                    PbftMessage::ViewChange(falsified(&mut means.dice, content.clone(), old))
                });
                vec![(lie.unwrap_or(PbftMessage::ViewChange(content)), auth)]
            }
            PbftMessage::NewView(content) => {
                // The two kinds of lies about one view must not be taken for each other.
                let key = View(content.view.0 | 1 << 63);
                let lie = self.lie(means, key, |means| {
                    means.injections.note(Injection::NewViewFalsified);
                    PbftMessage::NewView(invalid(means, content.clone()))
                });
                vec![(lie.unwrap_or(PbftMessage::NewView(content)), auth)]
            }
            PbftMessage::Status(status) if means.dice.chance(40) => {
                means.injections.note(Injection::ViewChangeFalsified);
                let ahead = means.dice.pick(&[1, 1, 2, 7, 1 << 40]);
                let view = View(status.view.0.saturating_add(ahead));
                let stable = self.old.clone();
                let content = ViewChange {
                    view,
                    incarnation: 0,
                    stable,
                    prepared: Vec::new(),
                    pre_prepared: Vec::new(),
                };
                let lie = PbftMessage::ViewChange(falsified(&mut means.dice, content, None));
                vec![(PbftMessage::Status(status), auth), (lie, Auth::Transferable)]
            }
            message => vec![(message, auth)],
        }
    }

    fn lie(
        &mut self,
        means: &mut Means,
        key: View,
        make: impl FnOnce(&mut Means) -> PbftMessage,
    ) -> Option<PbftMessage> {
        if let Some(lie) = self.told.as_ref().and_then(|told| told.get(&key)) {
            return Some(lie.clone());
        }
        if !means.dice.chance(self.rate) {
            return None;
        }
        let lie = make(means);
        if let Some(told) = &mut self.told {
            told.insert(key, lie.clone());
        }
        Some(lie)
    }
}

fn falsified(dice: &mut Dice, mut content: ViewChange, old: Option<CheckpointCertificate>) -> ViewChange {
    for _ in 0..dice.between(1, 2) {
        let last_view = View(content.view.0.saturating_sub(1));
        let first = content.stable_seq().0 + 1;
        let invented = Claim { seq: Seq(first + dice.below(4)), digest: Digest([7; 32]), view: last_view };
        match dice.below(12) {
            0 => content.prepared.clear(),
            1 => content.pre_prepared.clear(),
            2 => {
                content.prepared.clear();
                content.pre_prepared.clear();
            }
            3 => content.prepared.iter_mut().for_each(|claim| claim.view = last_view),
            4 => {
                content.prepared.iter_mut().for_each(|claim| claim.view = last_view);
                content.pre_prepared.iter_mut().for_each(|claim| claim.view = last_view);
            }
            5 => content.prepared.iter_mut().for_each(|claim| claim.digest = Digest([7; 32])),
            6 => insert(&mut content.prepared, invented),
            7 => {
                insert(&mut content.prepared, invented);
                content.pre_prepared.push(invented);
                content.pre_prepared.sort_unstable_by_key(|claim| (claim.seq, claim.digest));
            }
            8 => content.stable = if dice.chance(500) { old.clone() } else { None },
            9 => content.incarnation = dice.pick(&[0, 1, content.incarnation.wrapping_add(1), u64::MAX]),
            10 => {
                if let Some(certificate) = &mut content.stable {
                    certificate.votes.pop();
                }
            }
            _ => {
                content.prepared.iter_mut().for_each(|claim| claim.seq.0 = claim.seq.0.wrapping_add(1 << 30))
            }
        }
    }
    content
}

/// In place of the claim for its number, so that the view change stays well-formed.
fn insert(claims: &mut Vec<Claim>, claim: Claim) {
    claims.retain(|other| other.seq != claim.seq);
    claims.push(claim);
    claims.sort_unstable();
}

fn invalid(means: &mut Means, mut content: NewView) -> NewView {
    match means.dice.below(8) {
        0 => drop(content.proposals.pop()),
        1 => {
            let next = content.proposals.last().map_or(Seq(1), |(seq, _)| seq.next());
            content.proposals.push((next, Digest([7; 32])));
        }
        2 => content.proposals.iter_mut().for_each(|(_, digest)| *digest = Digest::NULL),
        3 => drop(content.view_changes.pop()),
        4 => {
            if let Some(one) = content.view_changes.first().cloned() {
                content.view_changes.push(one);
            }
        }
        5 => content.view_changes.clear(),
        6 => {
            // Its own view change inside, signed anew, says something else than what it sent before.
            let me = means.keyring.me();
            let own = content
                .view_changes
                .iter_mut()
                .find(|signed| althing_types::Principal::Replica(signed.signer) == me);
            if let Some(own) = own {
                own.content = falsified(&mut means.dice, own.content.clone(), None);
                let bytes = encode(&PbftMessage::ViewChange(own.content.clone()));
                own.proof = means.keyring.sign(Domain::Protocol, &bytes);
            }
        }
        _ => content.view = content.view.next(),
    }
    content
}
