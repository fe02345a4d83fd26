//! What is checked ahead: while the site's group orders what a peer brings forward, its servers can already find out whether
//! that was said.

use super::LogicalMachine;
use crate::message::{Header, LinkMessage};
use crate::operation::{SiteEvent, SiteOperation};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use althing_crypto::hash;
use althing_protocol::Replicable;
use althing_replica::Service;
use althing_types::{ClientId, Digest, Seq, SiteId, decode};

/// How many signatures of one operation are checked ahead at most.
const MOST_SIGNATURES: usize = 16;

/// For how many of the site's batches nothing is checked ahead for a lane that has had something checked in vain.
const BATCHES_IN_DOUBT: u64 = 1024;

/// What this server has checked ahead. Each lane has one operation at a time, so nobody can have it check more than comes in
/// order: another one is looked at only once there was one.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    begun: BTreeMap<ClientId, Digest>,
    /// Up to which batch nothing is checked for a lane.
    doubted: BTreeMap<ClientId, Seq>,
}

impl Ahead {
    fn is_to_be_checked(&self, lane: ClientId, next: Seq) -> bool {
        !self.begun.contains_key(&lane) && self.doubted.get(&lane).is_none_or(|until| *until < next)
    }

    /// An operation of a lane is executed in this batch: says whether it is what was checked, if anything was.
    fn is_as_foreseen(&mut self, lane: ClientId, operation: &[u8]) -> bool {
        let begun = self.begun.remove(&lane);
        begun.is_none_or(|digest| digest == digest_of(operation))
    }

    /// A lane has had something checked in vain.
    fn doubt(&mut self, lane: ClientId, now: Seq) {
        self.doubted.insert(lane, Seq(now.0.saturating_add(BATCHES_IN_DOUBT)));
    }
}

fn digest_of(operation: &[u8]) -> Digest {
    hash("althing operation checked ahead", operation)
}

impl<P: Replicable, S: Service> LogicalMachine<P, S> {
    /// Has what a peer brings forward checked ahead, each signature once.
    pub(super) fn check_ahead(&mut self, lane: ClientId, operation: &[u8]) {
        let is_lane = self.config.lanes.contains_key(&lane);
        let next = Seq(self.now.0.0.saturating_add(1));
        if !is_lane || !self.config.keys.can_foresee() || !self.ahead.is_to_be_checked(lane, next) {
            return;
        }
        let Ok(SiteOperation::Events(events)) = decode(operation, usize::MAX) else { return };
        let messages = self.to_be_checked(&events);
        if !messages.is_empty() {
            self.ahead.begun.insert(lane, digest_of(operation));
            messages.into_iter().for_each(|message| message.foresee(&self.config.keys));
        }
    }

    /// What has to be checked when this is executed, whatever is executed before: one message for each signature.
    fn to_be_checked<'a>(&self, events: &'a [SiteEvent]) -> Vec<&'a LinkMessage> {
        let mut following: BTreeMap<SiteId, u64> = BTreeMap::new();
        let mut signatures = BTreeSet::new();
        let mut messages = Vec::new();
        for event in events {
            let SiteEvent::Incoming(message) = event else { continue };
            let Header { from, number, .. } = message.header;
            let next = following.entry(from).or_insert_with(|| self.core.links.received(from) + 1);
            // What passes something over may be no news by then, and nobody checks it.
            if !self.is_apt(&message.header) || number > *next || messages.len() == MOST_SIGNATURES {
                break;
            }
            if number == *next {
                *next += 1;
            }
            if signatures.insert(message.proof.signature) {
                messages.push(message);
            }
        }
        messages
    }

    /// This server was brought to another state: what it has heard of may have been executed before.
    pub(super) fn forget_what_is_ahead(&mut self) {
        self.ahead.begun.clear();
    }

    /// An operation of a lane was executed, and all that it brought forward was said, or not.
    pub(super) fn note_executed(&mut self, lane: ClientId, operation: &[u8], was_said: bool) {
        if !self.ahead.is_as_foreseen(lane, operation) || !was_said {
            self.ahead.doubt(lane, self.now.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_has_one_operation_checked_ahead_and_none_for_long_once_that_was_in_vain() {
        let (lane, other) = (ClientId(1), ClientId(2));
        let mut ahead = Ahead::default();
        let begin = |ahead: &mut Ahead| ahead.begun.insert(lane, digest_of(b"said"));
        assert!(ahead.is_to_be_checked(lane, Seq(1)));
        begin(&mut ahead);
        assert!(!ahead.is_to_be_checked(lane, Seq(1)) && ahead.is_to_be_checked(other, Seq(1)));
        assert!(ahead.is_as_foreseen(lane, b"said") && ahead.is_to_be_checked(lane, Seq(2)));
        assert!(ahead.is_as_foreseen(lane, b"not looked at"));
        begin(&mut ahead);
        assert!(!ahead.is_as_foreseen(lane, b"something else"));
        ahead.doubt(lane, Seq(2));
        assert!(!ahead.is_to_be_checked(lane, Seq(1026)) && ahead.is_to_be_checked(other, Seq(1026)));
        assert!(ahead.is_to_be_checked(lane, Seq(1027)));
    }
}
