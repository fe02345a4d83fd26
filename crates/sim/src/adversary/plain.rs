use super::{Behaviour, Means};
use crate::dice::Dice;
use crate::fault::Injection;
use althing_protocol::{Auth, Message};
use althing_types::Principal;
use std::collections::{BTreeMap, BTreeSet};

/// Lies in any protocol, by what each message says of [what would contradict it](Message::contradiction).
#[derive(Default)]
pub(super) struct PlainLies {
    /// Who is told another story for now; drawn when first needed, and now and then anew.
    victims: BTreeMap<Principal, bool>,
    /// How many of the others are victims, per thousand; drawn when first needed.
    share: Option<u64>,
}

impl PlainLies {
    fn is_victim(&mut self, dice: &mut Dice, to: Principal) -> bool {
        if dice.chance(5) {
            self.victims.clear();
        }
        let share = *self.share.get_or_insert_with(|| dice.pick(&[200, 400, 500, 700]));
        *self.victims.entry(to).or_insert_with(|| dice.chance(share))
    }

    /// What is said instead of `message`: the same to everybody, or something else to some.
    pub(super) fn tamper<M: Message>(
        &mut self,
        means: &mut Means,
        behaviours: &BTreeSet<Behaviour>,
        to: Principal,
        (message, auth): (M, Auth),
    ) -> Vec<(M, Auth)> {
        let has = |behaviour| behaviours.contains(&behaviour);
        let injection = match message.kind() {
            "checkpoint" if has(Behaviour::WrongCheckpoint) => Injection::CheckpointFalsified,
            "view-change" | "new-view" if has(Behaviour::LyingViewChange) => Injection::ViewChangeFalsified,
            "status" if has(Behaviour::LyingState) => Injection::StatusFalsified,
            _ if has(Behaviour::Equivocate) && self.is_victim(&mut means.dice, to) => Injection::Equivocated,
            _ => return vec![(message, auth)],
        };
        if !means.dice.chance(600) {
            return vec![(message, auth)];
        }
        let Some(other) = message.contradiction() else { return vec![(message, auth)] };
        means.injections.note(injection);
        match means.dice.below(5) {
            0 => vec![(other, auth), (message, auth)],
            1 => vec![(message, auth), (other, auth)],
            _ => vec![(other, auth)],
        }
    }
}
