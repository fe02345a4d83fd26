//! New keys: this replica's own, and those of others (TOCS'02 §4.3.1).
//!
//! An announcement is signed and counted, so it needs no channel, no order and no memory: whoever gets
//! one twice, late, or from anybody, comes to the same. What is lost heals by itself. A MAC that does not
//! hold, or holds under a key that was replaced, shows that its maker does not know this replica's key,
//! and it is told; what it is told shows it whether *its* last announcement has arrived.

use crate::epochs::{Place, Tenure};
use crate::replica::Replica;
use crate::{Output, Report, Service, Timer};
use alloc::vec::Vec;
use althing_crypto::{KeySeed, Learned, NewKey};
use althing_protocol::{Event, Evidence, Misbehaviour, Protocol};
use althing_types::{Instant, Principal, ReplicaId};
use core::time::Duration;

impl<P: Protocol, S: Service> Replica<P, S> {
    /// Takes a new key of its own.
    pub(crate) fn refresh(
        &mut self,
        now: Instant,
        seed: &KeySeed,
        lifetime: Duration,
        outputs: &mut Vec<Output>,
    ) {
        self.outbound.keyring.refresh(now, seed, lifetime);
        self.spread_key(now, outputs);
    }

    /// Tells all replicas, and the clients that have a key to replace. Other clients are told with the
    /// next message to them.
    pub(crate) fn spread_key(&mut self, now: Instant, outputs: &mut Vec<Output>) {
        let replicas = self.quorums.replicas().map(Principal::Replica);
        let members: Vec<_> = replicas.chain(self.outbound.told_clients()).collect();
        for to in members {
            self.outbound.announce(now, to, outputs);
        }
        if let Some(new_key) = self.outbound.keyring.announcement() {
            outputs.push(Output::Report(Report::KeyRefreshed { counter: new_key.counter }));
        }
        self.retire_later(outputs);
    }

    /// Whatever is replaced while the timer runs waits for its next turn: twice the grace at most.
    fn retire_later(&mut self, outputs: &mut Vec<Output>) {
        if !self.is_retiring && self.outbound.keyring.is_retiring() {
            self.is_retiring = true;
            let after = self.limits.settings().key_grace;
            outputs.push(Output::SetTimer { timer: Timer::KEYS, after });
        }
    }

    /// Drops the keys that nothing in flight can need any more.
    pub(crate) fn retire_keys(&mut self, now: Instant, outputs: &mut Vec<Output>) {
        self.outbound.keyring.retire(now, self.limits.settings().key_grace);
        self.is_retiring = false;
        self.forget_what_keys_said();
        self.retire_later(outputs);
    }

    /// What a replica said under a key counts as long as the key does. Else who has one replica after the other
    /// could have each say the same to one that is cut off, and one day enough would have.
    fn forget_what_keys_said(&mut self) {
        let me = self.me;
        for of in self.quorums.replicas().filter(|id| *id != me) {
            let before = self.outbound.keyring.believes_from(Principal::Replica(of));
            let known = self.believed_from.entry(of).or_default();
            if core::mem::replace(known, before) == before {
                continue;
            }
            if let Some(Tenure { place: Place::Joining(said, _), .. }) = &mut self.tenure {
                said.forget(of);
            }
            self.events.push_back(Event::KeysEnded { of, before });
        }
    }

    /// Tells those of this replica's key who have shown that they don't know it.
    pub(crate) fn tell_outdated(&mut self, now: Instant, outputs: &mut Vec<Output>) {
        for who in self.opener.take_outdated() {
            self.outbound.announce(now, who, outputs);
        }
    }

    pub(crate) fn on_new_key(
        &mut self,
        now: Instant,
        from: ReplicaId,
        (new_key, known): (NewKey, Option<NewKey>),
        outputs: &mut Vec<Output>,
    ) {
        let counter = new_key.counter;
        let learned =
            if new_key.replica == from { self.outbound.keyring.learn(now, new_key) } else { Learned::Forged };
        match learned {
            Learned::New => {
                outputs.push(Output::Report(Report::KeyLearned { of: from, counter }));
                self.forget_what_keys_said();
                self.retire_later(outputs);
            }
            Learned::TooFarAhead => {
                let reason = "an announcement of a key is for a time that is far ahead";
                outputs.push(Output::Report(Report::Refused { from: Principal::Replica(from), reason }));
            }
            Learned::Known | Learned::Ahead => {}
            Learned::Forged => {
                let misbehaviour = Misbehaviour::Forgery;
                let evidence = Evidence { accused: from, misbehaviour, statements: Vec::new() };
                self.accusations.bring(evidence, outputs);
            }
        }
        let own = self.outbound.keyring.announcement().map_or(0, |own| own.counter);
        if known.as_ref().map_or(0, |known| known.counter) < own {
            self.outbound.announce(now, Principal::Replica(from), outputs);
        }
        // It may be wrong about this replica, and is no liar for it: what was forged is not signed.
        if let Some(known) = known.filter(|known| known.replica == self.me)
            && self.outbound.keyring.learn(now, known) == Learned::Ahead
        {
            self.spread_key(now, outputs);
        }
    }
}
