//! New keys, and somebody who copies them.

use super::World;
use super::line::Line;
use crate::dice::nanos;
use crate::fault::Injection;
use crate::queue::{Happening, Node};
use crate::subject::{KEY_GRACE, Subject};
use althing_crypto::{Domain, Keyring, NewKey};
use althing_protocol::pbft::PbftMessage;
use althing_replica::{ClientMessage, Envelope, Execution, Input, ReplyFrame, ReplyOutcome, Room, Seal};
use althing_types::{Digest, Principal, ReplicaId, View, encode};
use std::sync::Arc;
use std::time::Duration;

/// How long an announcement may take to arrive everywhere, with all that it takes to have lost it before.
const SPREADING: Duration = Duration::from_millis(60);

/// Keys that were copied from a replica are of use for so long after it has taken another.
pub(super) const ROBBED: Duration =
    Duration::from_millis((KEY_GRACE.as_millis() * 2 + SPREADING.as_millis()) as u64);

/// A key is believed for so many periods.
const LIFETIME_PERIODS: u32 = 4;

/// Who copies keys.
#[derive(Default)]
pub(super) struct Thief {
    /// What it has copied, from whom, and up to when that may be of use.
    loot: Vec<(usize, Keyring, u64)>,
}

impl<X: Subject> World<'_, X> {
    /// A replica takes a new key, if it is up and the plan has it so; and again after a while.
    pub(super) fn refresh(&mut self, host: usize, incarnation: u32) {
        let Some(period) = self.plan.key_period else { return };
        let at = &self.hosts[host];
        if at.incarnation != incarnation || at.replica.is_none() || !self.subject.renews_keys() {
            return;
        }
        let mut seed = [0; 32];
        self.key_dice.fill(&mut seed);
        self.trace.digest(self.now, 7, host, &[]);
        self.input(host, Input::Refresh { seed: seed.into(), lifetime: period * LIFETIME_PERIODS });
        let again = nanos(self.key_dice.around(period));
        self.queue.schedule(self.now + again, Happening::Refresh { host, incarnation });
    }

    /// A replica that has started again has new channels to the clients.
    pub(super) fn reconnect(&mut self, host: usize) {
        for client in 0..self.workers.len() {
            self.input(host, Input::Connected(Principal::Client(self.workers[client].id)));
        }
    }

    /// What replicas have announced last.
    pub(super) fn announced(&self) -> impl Iterator<Item = NewKey> {
        let replicas = self.hosts.iter().filter_map(|host| host.replica.as_ref());
        replicas.filter_map(|replica| replica.keyring().announcement().cloned())
    }

    /// Copies the keys of a replica: all but its identity. What was copied is of use until the replica
    /// has taken another key, the others have heard of that, and have retired the last.
    pub(super) fn steal_keys(&mut self) {
        let period = self.plan.key_period.unwrap_or_default();
        let good_for = period * 3 / 2 + KEY_GRACE * 2 + SPREADING;
        let robbed = self.thief.loot.iter().filter(|(.., until)| *until > self.now);
        if robbed.count() >= self.plan.quorums.f() {
            return;
        }
        let never = |host: &usize| self.thief.loot.iter().all(|(robbed, ..)| robbed != host);
        let is_up = |host: &usize| self.hosts[*host].is_correct && self.hosts[*host].replica.is_some();
        let mut victims: Vec<_> = (0..self.hosts.len()).filter(is_up).collect();
        if victims.iter().any(never) {
            victims.retain(never);
        }
        if victims.is_empty() {
            return;
        }
        let victim = self.dice.pick(&victims);
        let Some(replica) = &self.hosts[victim].replica else { return };
        self.injections.note(Injection::KeysStolen);
        self.trace.line(self.now, Line::Robbed { host: victim });
        // In the last loot from this host the keys are older, and may be of more use to somebody else.
        self.thief.loot.retain(|(robbed, _, until)| *robbed != victim || *until > self.now);
        self.thief.loot.push((victim, replica.keyring().clone(), self.now + nanos(good_for)));
    }

    /// Whoever takes a replica over copies its keys.
    pub(super) fn copy_keys(&mut self, host: usize) {
        let Some(replica) = &self.hosts[host].replica else { return };
        self.injections.note(Injection::KeysStolen);
        self.thief.loot.retain(|(robbed, ..)| *robbed != host);
        self.thief.loot.push((host, replica.keyring().clone(), 0));
    }

    /// Speaks in the names of all that were ever robbed: tells a client a result that was never there,
    /// and a replica that a batch was executed that never was.
    pub(super) fn impersonate(&mut self) {
        let client = self.dice.index(self.workers.len());
        let to = self.dice.index(self.hosts.len());
        let mut frames = Vec::new();
        for (host, keyring, _) in &mut self.thief.loot {
            let sender = self.hosts[*host].id;
            if let Some(number) = self.workers[client].client.outstanding() {
                let outcome = ReplyOutcome::Result(b"never there".to_vec());
                let (view, execution) = (View(0), Execution::Earlier);
                let message = ClientMessage::Reply { view, number, execution, outcome };
                let target = Principal::Client(self.workers[client].id);
                frames.extend(
                    reply(keyring, sender, target, &message).map(|f| (sender, Node::Client(client), f)),
                );
            }
            // A lie to whoever was robbed is one by the rules: its own keys are out as well.
            if let Some(replica) = self.hosts[to].replica.as_ref().filter(|_| *host != to) {
                let seq = replica.status().executed.next();
                let message = PbftMessage::Decided { seq, digest: Digest::NULL };
                let target = Principal::Replica(self.hosts[to].id);
                frames.extend(sealed(keyring, sender, target, &message).map(|f| (sender, Node::Host(to), f)));
            }
        }
        for (sender, to, frame) in frames {
            self.injections.note(Injection::Impersonated);
            let as_from = Principal::Replica(sender);
            let from = self.nodes_of(as_from)[0];
            self.queue.schedule(self.now, Happening::Arrival { from, as_from, to, frame });
        }
    }
}

fn reply(
    keyring: &mut Keyring,
    replica: ReplicaId,
    to: Principal,
    message: &ClientMessage,
) -> Option<Arc<[u8]>> {
    let body = encode(message);
    let mac = keyring.mac(to, Domain::Reply, &body)?;
    Some(encode(&ReplyFrame { replica, mac, body }).into())
}

fn sealed(
    keyring: &mut Keyring,
    sender: ReplicaId,
    to: Principal,
    message: &PbftMessage,
) -> Option<Arc<[u8]>> {
    let body = encode(message);
    let seal = Seal::Mac(keyring.mac(to, Domain::Protocol, &body)?);
    Some(
        encode(&Envelope { epoch: althing_types::Epoch(0), sender, room: Room::Protocol, seal, body }).into(),
    )
}
