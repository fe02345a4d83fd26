use super::{Behaviour, Means};
use crate::fault::Injection;
use althing_protocol::Message;
use althing_replica::{Injected, Outgoing, Tamper};
use althing_types::Principal;
use std::collections::BTreeSet;

/// What is not said.
pub(super) struct Silence {
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
    pub(super) fn new(behaviours: &BTreeSet<Behaviour>, means: &mut Means) -> Self {
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

    pub(super) fn swallows<M: Message>(
        &self,
        means: &mut Means,
        to: Principal,
        message: &Outgoing<M>,
    ) -> bool {
        let kind = match message {
            Outgoing::Protocol(message, _) => message.kind(),
            Outgoing::Engine(_) => "engine",
            Outgoing::Client(_) => "client",
        };
        let is_mute = match &self.kinds {
            Some(kinds) if kinds.is_empty() => {
                Tamper::<M>::tamper(&mut Injected::Mute, to, message.clone()).is_empty()
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
