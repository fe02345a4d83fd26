//! What replicas do that were taken over: they run the production code with their real keys, and what
//! they say is changed on its way out.

mod equivocation;
mod forgery;
mod plain;
mod replies;
mod silence;
mod state_lies;
mod view_lies;

pub(crate) use forgery::Forger;

use crate::dice::Dice;
use crate::fault::Injections;
use althing_crypto::Keyring;
use althing_protocol::pbft::PbftMessage;
use althing_protocol::zyzzyva::ZyzzyvaMessage;
use althing_protocol::{AnyMessage, Auth, Message};
use althing_replica::{ClientMessage, EngineMessage, Outgoing, Tamper};
use althing_types::{Principal, Quorums};
use equivocation::Equivocation;
use plain::PlainLies;
use silence::Silence;
use state_lies::StateLies;
use std::collections::BTreeSet;
use view_lies::ViewLies;

/// A way of being faulty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Behaviour {
    Equivocate,
    Mute,
    Selective,
    Slow,
    /// Proposes late.
    SlowPrimary,
    /// Hears one client late, or never.
    UnfairPrimary,
    WrongCheckpoint,
    WrongReply,
    Forge,
    Replay,
    LyingViewChange,
    LyingState,
    /// Runs twice, each copy correct in itself.
    Twin,
}

impl Behaviour {
    /// Those that can be mixed at will.
    pub(crate) const ALL: [Self; 10] = [
        Self::Equivocate,
        Self::Mute,
        Self::Selective,
        Self::Slow,
        Self::WrongCheckpoint,
        Self::WrongReply,
        Self::Forge,
        Self::Replay,
        Self::LyingViewChange,
        Self::LyingState,
    ];
}

/// What is said instead: PBFT messages, each with its kind of authentication.
type Said = Vec<(PbftMessage, Auth)>;

/// What an adversary of any kind has at hand.
pub(crate) struct Means {
    pub(crate) dice: Dice,
    pub(crate) injections: Injections,
    pub(crate) keyring: Keyring,
    pub(crate) quorums: Quorums,
    pub(crate) checkpoint_period: u64,
}

/// The part of a faulty replica that changes messages before they are sealed.
pub(crate) struct Adversary {
    means: Means,
    behaviours: BTreeSet<Behaviour>,
    silence: Silence,
    equivocation: Equivocation,
    view_lies: ViewLies,
    state_lies: StateLies,
    /// For protocols that have no lies of their own here.
    plain_lies: PlainLies,
}

impl Adversary {
    pub(crate) fn new(behaviours: BTreeSet<Behaviour>, mut means: Means) -> Self {
        Self {
            silence: Silence::new(&behaviours, &mut means),
            equivocation: Equivocation::new(&mut means.dice),
            view_lies: ViewLies::new(&mut means.dice),
            state_lies: StateLies::new(&mut means.dice),
            plain_lies: PlainLies::default(),
            behaviours,
            means,
        }
    }

    fn has(&self, behaviour: Behaviour) -> bool {
        self.behaviours.contains(&behaviour)
    }

    fn tamper_protocol(&mut self, to: Principal, message: PbftMessage, auth: Auth) -> Said {
        let mut said = vec![(message, auth)];
        if self.has(Behaviour::LyingViewChange) {
            said = each(said, |message, auth| self.view_lies.tamper(&mut self.means, message, auth));
        }
        if self.has(Behaviour::WrongCheckpoint) {
            said = each(said, |message, auth| self.state_lies.checkpoint(&mut self.means, message, auth));
        }
        if self.has(Behaviour::LyingState) {
            said = each(said, |message, auth| self.state_lies.tamper(&mut self.means, message, auth));
        }
        if self.has(Behaviour::Equivocate) {
            said = each(said, |message, auth| self.equivocation.tamper(&mut self.means, to, message, auth));
        }
        if self.has(Behaviour::Forge) {
            said = each(said, |message, auth| forgery::invent(&mut self.means, message, auth));
        }
        said
    }

    fn tamper_client(&mut self, message: ClientMessage) -> Vec<ClientMessage> {
        if self.has(Behaviour::WrongReply) {
            replies::falsify(&mut self.means, message)
        } else {
            vec![message]
        }
    }
}

fn each(said: Said, mut change: impl FnMut(PbftMessage, Auth) -> Said) -> Said {
    said.into_iter().flat_map(|(message, auth)| change(message, auth)).collect()
}

/// A protocol that adversaries lie in.
trait Lied: Message {
    /// What is said instead.
    fn lie(self, adversary: &mut Adversary, to: Principal, auth: Auth) -> Vec<(Self, Auth)>;
}

impl Lied for PbftMessage {
    fn lie(self, adversary: &mut Adversary, to: Principal, auth: Auth) -> Said {
        adversary.tamper_protocol(to, self, auth)
    }
}

impl Lied for ZyzzyvaMessage {
    fn lie(self, adversary: &mut Adversary, to: Principal, auth: Auth) -> Vec<(Self, Auth)> {
        let Adversary { means, behaviours, plain_lies, .. } = adversary;
        plain_lies.tamper(means, behaviours, to, (self, auth))
    }
}

impl Lied for AnyMessage {
    fn lie(self, adversary: &mut Adversary, to: Principal, auth: Auth) -> Vec<(Self, Auth)> {
        fn any<M: Into<AnyMessage>>(said: Vec<(M, Auth)>) -> Vec<(AnyMessage, Auth)> {
            said.into_iter().map(|(message, auth)| (message.into(), auth)).collect()
        }
        match self {
            Self::Pbft(message) => any(message.lie(adversary, to, auth)),
            Self::Zyzzyva(message) => any(message.lie(adversary, to, auth)),
            // Nobody lies where Paxos runs.
            Self::Paxos(_) => vec![(self, auth)],
        }
    }
}

impl<M: Lied> Tamper<M> for Adversary {
    fn tamper(&mut self, to: Principal, message: Outgoing<M>) -> Vec<Outgoing<M>> {
        if self.silence.swallows(&mut self.means, to, &message) {
            return Vec::new();
        }
        match message {
            Outgoing::Protocol(message, auth) => {
                let said = message.lie(self, to, auth);
                said.into_iter().map(|(message, auth)| Outgoing::Protocol(message, auth)).collect()
            }
            Outgoing::Engine(message) if self.has(Behaviour::LyingState) => {
                self.state_lies.engine(&mut self.means, message).into_iter().map(Outgoing::Engine).collect()
            }
            Outgoing::Engine(message) => vec![Outgoing::Engine(message)],
            Outgoing::Client(message) => {
                self.tamper_client(message).into_iter().map(Outgoing::Client).collect()
            }
        }
    }
}

/// An engine's message that answers nothing, for those who send more than they are asked for.
fn stale(ticket: u64) -> EngineMessage {
    EngineMessage::Fetched { ticket, parts: althing_replica::Parts::Unavailable }
}
