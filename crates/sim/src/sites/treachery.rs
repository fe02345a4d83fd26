//! A wide-area protocol that a whole site runs with the intent to break the system: what it says, all its servers
//! say, and so the site signs it. A site with more faulty servers than it tolerates can do no more.

use crate::dice::Dice;
use althing_protocol::{Action, Actions, Auth, Event, Message, Protocol, Replicable};
use althing_types::{Instant, Quorums, ReplicaId, Seq};
use borsh::{BorshDeserialize, BorshSerialize};

/// A protocol as it is, or with treachery around it.
#[derive(Debug, BorshSerialize, BorshDeserialize)]
pub(super) struct Disguised<P> {
    inner: P,
    treachery: Option<Treachery>,
}

/// How a site betrays the others. What it does follows from its state, so that all its servers do the same.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
pub(super) struct Treachery {
    pub(super) me: ReplicaId,
    pub(super) quorums: Quorums,
    pub(super) seed: u64,
    /// How often in 1000 cases it contradicts itself, and how often it says nothing.
    pub(super) contradicts: u64,
    pub(super) keeps_silent: u64,
    said: u64,
}

impl Treachery {
    pub(super) fn new(me: ReplicaId, quorums: Quorums, dice: &mut Dice) -> Self {
        let (contradicts, keeps_silent) = dice.pick(&[(500, 0), (200, 200), (0, 500), (1000, 0), (300, 100)]);
        Self { me, quorums, seed: dice.below(u64::MAX), contradicts, keeps_silent, said: 0 }
    }

    /// What becomes of a message to one site.
    fn twist<M: Message>(&mut self, message: M) -> Option<M> {
        self.said += 1;
        let mut dice = Dice::new(self.seed ^ self.said.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        if dice.chance(self.keeps_silent) {
            return None;
        }
        match message.contradiction() {
            Some(other) if dice.chance(self.contradicts) => Some(other),
            _ => Some(message),
        }
    }

    fn twist_all<M: Message>(&mut self, actions: Actions<M>) -> Actions<M> {
        let mut twisted = Vec::new();
        for action in actions {
            match action {
                Action::Send { to, message, auth } => {
                    twisted.extend(self.twist(message).map(|message| Action::Send { to, message, auth }));
                }
                Action::Broadcast { message, auth } => {
                    for to in self.quorums.replicas() {
                        if to != self.me {
                            let other = self.twist(message.clone());
                            twisted.extend(other.map(|message| Action::Send { to, message, auth }));
                        } else if auth == Auth::Transferable {
                            twisted.push(Action::Send { to, message: message.clone(), auth });
                        }
                    }
                }
                action => twisted.push(action),
            }
        }
        twisted
    }
}

impl<P> Disguised<P> {
    pub(super) fn new(inner: P, treachery: Option<Treachery>) -> Self {
        Self { inner, treachery }
    }
}

impl<P: Protocol> Protocol for Disguised<P> {
    type Message = P::Message;

    fn handle(&mut self, now: Instant, event: Event<P::Message>, actions: &mut Actions<P::Message>) {
        let Some(treachery) = &mut self.treachery else {
            return self.inner.handle(now, event, actions);
        };
        let mut honest = Vec::new();
        self.inner.handle(now, event, &mut honest);
        actions.extend(treachery.twist_all(honest));
    }

    fn answers_from(&self) -> Option<Seq> {
        self.inner.answers_from()
    }
}

impl<P: Replicable> Replicable for Disguised<P> {
    fn vouch(&mut self) {
        self.inner.vouch();
    }
}
