//! The keys that replicas announce, and what becomes of a request under way when one does.

use super::{Client, Outstanding, Phase};
use crate::ClientOutput;
use alloc::vec::Vec;
use althing_crypto::{Learned, NewKey};
use althing_types::{Instant, Principal, ReplicaId};

impl Client {
    /// A replica that announces a key could not check what this client sent, or is about to say something
    /// that this client could not check without. What is under way is sent once more: a request goes to
    /// all, signed, since the others may have replaced their keys too.
    pub(super) fn on_new_key(
        &mut self,
        now: Instant,
        from: ReplicaId,
        new_key: NewKey,
        out: &mut Vec<ClientOutput>,
    ) {
        let learned =
            if new_key.replica == from { self.config.keyring.learn(now, new_key) } else { Learned::Forged };
        match learned {
            Learned::New => {}
            Learned::Known => return,
            Learned::TooFarAhead => {
                let reason = "an announcement of a key is for a time that is far ahead";
                return out.push(ClientOutput::Refused { from, reason });
            }
            Learned::Forged | Learned::Ahead => {
                let reason = "an announcement of a key is not signed by its replica";
                return out.push(ClientOutput::Refused { from, reason });
            }
        }
        self.forget_what_keys_said(out);
        let at = now + self.config.limits.settings().key_grace;
        self.retire_at.get_or_insert(at);
        match &self.outstanding {
            Some(Outstanding { phase: Phase::Query(_), .. }) => self.ask_once_more(from, out),
            Some(Outstanding { has_macs: true, .. }) => {
                self.sign();
                self.send_to_all(out);
            }
            _ => {}
        }
    }

    /// Sends the query under way to `from`, sealed anew.
    fn ask_once_more(&mut self, from: ReplicaId, out: &mut Vec<ClientOutput>) {
        let Some(Outstanding { number, operation, .. }) = &self.outstanding else { return };
        let (number, operation) = (*number, operation.clone());
        let frame = self.query_frame(number, operation);
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.frame = frame.clone();
        }
        out.push(ClientOutput::Send { to: from, frame });
    }

    pub(super) fn retire_keys(&mut self, now: Instant, out: &mut Vec<ClientOutput>) {
        if self.retire_at.is_some_and(|at| at <= now) {
            let grace = self.config.limits.settings().key_grace;
            self.config.keyring.retire(now, grace);
            self.retire_at = self.config.keyring.is_retiring().then_some(now + grace);
            self.forget_what_keys_said(out);
        }
    }

    /// A replica says something under its key of this number.
    pub(super) fn note_key(&mut self, from: ReplicaId, counter: u64) {
        if let Some(Outstanding { said_under, .. }) = &mut self.outstanding {
            let oldest = said_under.entry(from).or_insert(counter);
            *oldest = counter.min(*oldest);
        }
    }

    /// What was said under a key counts as long as the key does (TOCS'02 §4.3.2). Else who has one replica
    /// after the other could have each give the same wrong result to an operation that is not answered
    /// meanwhile, and one day enough would have.
    fn forget_what_keys_said(&mut self, out: &mut Vec<ClientOutput>) {
        let keyring = &self.config.keyring;
        let is_over =
            |from: &ReplicaId, key: &mut u64| *key < keyring.believes_from(Principal::Replica(*from));
        let ended = self.emitted_under.extract_if(.., is_over);
        out.extend(ended.map(|(from, _)| ClientOutput::EmissionsEnded { from }));
        let Some(outstanding) = &mut self.outstanding else { return };
        for (from, _) in outstanding.said_under.extract_if(.., is_over) {
            match &mut outstanding.phase {
                Phase::Ordered(ballot) => ballot.forget(from),
                Phase::Query(tally) => tally.forget(from),
            }
            outstanding.busy.remove(&from);
            self.numbering.forget_claim(from);
        }
    }
}
