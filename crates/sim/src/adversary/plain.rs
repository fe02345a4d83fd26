use super::silence::Silence;
use super::state_lies::StateLies;
use super::{Behaviour, Means, replies};
use crate::fault::Injection;
use althing_protocol::{Auth, Message};
use althing_replica::{Outgoing, Tamper};
use althing_types::Principal;
use std::collections::{BTreeMap, BTreeSet};

/// The part of a faulty replica that changes messages of any protocol before they are sealed: it goes by what
/// each message says of [what would contradict it](Message::contradiction).
pub(crate) struct PlainAdversary {
    means: Means,
    behaviours: BTreeSet<Behaviour>,
    silence: Silence,
    state_lies: StateLies,
    /// Who is told another story for now; drawn when first needed, and now and then anew.
    victims: BTreeMap<Principal, bool>,
    /// How many of the others are victims, per thousand.
    share: u64,
}

impl PlainAdversary {
    pub(crate) fn new(behaviours: BTreeSet<Behaviour>, mut means: Means) -> Self {
        Self {
            silence: Silence::new(&behaviours, &mut means),
            state_lies: StateLies::new(&mut means.dice),
            victims: BTreeMap::new(),
            share: means.dice.pick(&[200, 400, 500, 700]),
            behaviours,
            means,
        }
    }

    fn has(&self, behaviour: Behaviour) -> bool {
        self.behaviours.contains(&behaviour)
    }

    fn is_victim(&mut self, to: Principal) -> bool {
        if self.means.dice.chance(5) {
            self.victims.clear();
        }
        let (share, dice) = (self.share, &mut self.means.dice);
        *self.victims.entry(to).or_insert_with(|| dice.chance(share))
    }

    /// What is said instead of `message`: the same to everybody, or something else to some.
    fn lie<M: Message>(&mut self, to: Principal, message: M, auth: Auth) -> Vec<(M, Auth)> {
        let behaviour = match message.kind() {
            "checkpoint" if self.has(Behaviour::WrongCheckpoint) => Injection::CheckpointFalsified,
            "view-change" | "new-view" if self.has(Behaviour::LyingViewChange) => {
                Injection::ViewChangeFalsified
            }
            "status" if self.has(Behaviour::LyingState) => Injection::StatusFalsified,
            _ if self.has(Behaviour::Equivocate) && self.is_victim(to) => Injection::Equivocated,
            _ => return vec![(message, auth)],
        };
        if !self.means.dice.chance(600) {
            return vec![(message, auth)];
        }
        let Some(other) = message.contradiction() else { return vec![(message, auth)] };
        self.means.injections.note(behaviour);
        match self.means.dice.below(5) {
            0 => vec![(other, auth), (message, auth)],
            1 => vec![(message, auth), (other, auth)],
            _ => vec![(other, auth)],
        }
    }
}

impl<M: Message> Tamper<M> for PlainAdversary {
    fn tamper(&mut self, to: Principal, message: Outgoing<M>) -> Vec<Outgoing<M>> {
        if self.silence.swallows(&mut self.means, to, &message) {
            return Vec::new();
        }
        match message {
            Outgoing::Protocol(message, auth) => {
                let said = self.lie(to, message, auth);
                said.into_iter().map(|(message, auth)| Outgoing::Protocol(message, auth)).collect()
            }
            Outgoing::Engine(message) if self.has(Behaviour::LyingState) => {
                self.state_lies.engine(&mut self.means, message).into_iter().map(Outgoing::Engine).collect()
            }
            Outgoing::Client(message) if self.has(Behaviour::WrongReply) => {
                replies::falsify(&mut self.means, message).into_iter().map(Outgoing::Client).collect()
            }
            other => vec![other],
        }
    }
}
