//! What replicas do that were taken over: they run the production code with their real keys, and what
//! they say is changed on its way out.

mod equivocation;
mod forgery;
mod state_lies;
mod view_lies;

pub(crate) use forgery::Forger;

use crate::dice::Dice;
use crate::fault::{Injection, Injections};
use althing_crypto::Keyring;
use althing_protocol::pbft::PbftMessage;
use althing_protocol::{Auth, Message};
use althing_replica::{
    ClientMessage, EngineMessage, Execution, Injected, Outgoing, QueryAnswer, ReplyOutcome, Tamper,
};
use althing_types::{Principal, Quorums, RequestNumber, Seq, View};
use equivocation::Equivocation;
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
}

impl Adversary {
    pub(crate) fn new(behaviours: BTreeSet<Behaviour>, mut means: Means) -> Self {
        Self {
            silence: Silence::new(&behaviours, &mut means),
            equivocation: Equivocation::new(&mut means.dice),
            view_lies: ViewLies::new(&mut means.dice),
            state_lies: StateLies::new(&mut means.dice),
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
        if self.has(Behaviour::WrongReply) { wrong_replies(&mut self.means, message) } else { vec![message] }
    }
}

fn each(said: Said, mut change: impl FnMut(PbftMessage, Auth) -> Said) -> Said {
    said.into_iter().flat_map(|(message, auth)| change(message, auth)).collect()
}

impl Tamper<PbftMessage> for Adversary {
    fn tamper(&mut self, to: Principal, message: Outgoing<PbftMessage>) -> Vec<Outgoing<PbftMessage>> {
        if self.silence.swallows(&mut self.means, to, &message) {
            return Vec::new();
        }
        match message {
            Outgoing::Protocol(message, auth) => {
                let said = self.tamper_protocol(to, message, auth);
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

/// What is not said.
struct Silence {
    /// Kinds of messages that are never sent; all of them where this is empty.
    kinds: Option<BTreeSet<&'static str>>,
    victims: BTreeSet<Principal>,
}

/// Every kind of message among replicas and to clients.
const KINDS: [&str; 13] = [
    "pre-prepare",
    "prepare",
    "commit",
    "checkpoint",
    "view-change",
    "new-view",
    "status",
    "decided",
    "batch-body",
    "recover-report",
    "caught",
    "engine",
    "client",
];

impl Silence {
    fn new(behaviours: &BTreeSet<Behaviour>, means: &mut Means) -> Self {
        let dice = &mut means.dice;
        let mut silence = Self { kinds: None, victims: BTreeSet::new() };
        if behaviours.contains(&Behaviour::Mute) {
            let is_total = dice.chance(300);
            let kinds = KINDS.into_iter().filter(|_| !is_total && dice.chance(300));
            silence.kinds = Some(kinds.collect());
        }
        if behaviours.contains(&Behaviour::Selective) {
            let replicas = means.quorums.replicas().map(Principal::Replica);
            let clients = (0..crate::keys::CLIENTS).map(|id| Principal::Client(althing_types::ClientId(id)));
            silence.victims = replicas.chain(clients).filter(|_| dice.chance(400)).collect();
        }
        silence
    }

    fn swallows(&self, means: &mut Means, to: Principal, message: &Outgoing<PbftMessage>) -> bool {
        let kind = match message {
            Outgoing::Protocol(message, _) => message.kind(),
            Outgoing::Engine(_) => "engine",
            Outgoing::Client(_) => "client",
        };
        let is_mute = match &self.kinds {
            Some(kinds) if kinds.is_empty() => {
                Tamper::<PbftMessage>::tamper(&mut Injected::Mute, to, message.clone()).is_empty()
            }
            Some(kinds) => kinds.contains(kind),
            None => false,
        };
        let is_silent = is_mute || self.victims.contains(&to);
        if is_silent {
            means.injections.note(Injection::Muted);
        }
        is_silent
    }
}

/// A wrong result, a wrong view, an answer to another request, or the truth and a lie together.
fn wrong_replies(means: &mut Means, message: ClientMessage) -> Vec<ClientMessage> {
    if !means.dice.chance(800) {
        return vec![message];
    }
    means.injections.note(Injection::ReplyFalsified);
    let way = means.dice.below(7);
    let mut lie = message.clone();
    match &mut lie {
        ClientMessage::Reply { view, number, execution, outcome } => match way {
            0 => *view = View(means.dice.pick(&[0, view.0.saturating_add(1), u64::MAX])),
            1 => *number = RequestNumber(number.0.wrapping_add(1)),
            6 => *execution = otherwise(*execution),
            2 => *outcome = ReplyOutcome::TooLong { bytes: u64::MAX },
            3 => *outcome = ReplyOutcome::Result(means.dice.bytes(40)),
            _ => {
                // What all liars would make of it, so that they agree with each other.
                if let ReplyOutcome::Result(bytes) = outcome {
                    match bytes.last_mut() {
                        Some(byte) => *byte ^= 1,
                        None => bytes.push(1),
                    }
                }
            }
        },
        ClientMessage::ReplyDigest { view, number, execution, outcome } => match way {
            0 => *view = View(means.dice.pick(&[0, view.0.saturating_add(1), u64::MAX])),
            1 => *number = RequestNumber(number.0.wrapping_add(1)),
            6 => *execution = otherwise(*execution),
            _ => outcome.0[0] ^= 1,
        },
        ClientMessage::QueryReply { answer, .. } => {
            *answer = if way < 3 { QueryAnswer::MustOrder } else { QueryAnswer::Result(vec![0, 0]) };
        }
        ClientMessage::Succession(links) => {
            links.iter_mut().for_each(|link| link.state.0[0] ^= 1);
        }
        ClientMessage::NewKey(new_key) => new_key.key[0] ^= 1,
        ClientMessage::Busy { .. }
        | ClientMessage::Superseded { .. }
        | ClientMessage::Emission { .. }
        | ClientMessage::Late
        | ClientMessage::MustSign { .. } => {}
    }
    if way == 5 { vec![lie, message] } else { vec![lie] }
}

/// Another way to have executed the same.
fn otherwise(execution: Execution) -> Execution {
    match execution {
        Execution::Tentative(seq) => Execution::Final(seq),
        Execution::Final(seq) => Execution::Tentative(seq),
        Execution::Earlier => Execution::Final(Seq(1)),
    }
}

/// An engine's message that answers nothing, for those who send more than they are asked for.
fn stale(ticket: u64) -> EngineMessage {
    EngineMessage::Fetched { ticket, parts: althing_replica::Parts::Unavailable }
}
