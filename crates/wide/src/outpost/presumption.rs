//! What is believed for a while without a check: each server checks what another site has signed when it executes it, so
//! its peer need not do so before it brings it forward, as long as nobody of that site lies.

use super::Outpost;
use super::held::Waiting;
use super::receiving::Receiving;
use crate::message::LinkMessage;
use althing_types::{Instant, ReplicaId, SiteId};

impl Receiving {
    /// Whether these messages come next, after what is there, and are all that they do: they pass nothing over.
    fn is_continued_by(&self, received: u64, messages: &[LinkMessage]) -> bool {
        let next = received.saturating_add(1);
        let first = messages[0].header.number;
        let is_next = first > received && self.held.count(next..first) == first - next;
        let adds = |message: &LinkMessage| {
            let known = self.held.at(message.header.number);
            message.header.base <= next && known.is_none_or(|known| known.message == *message)
        };
        is_next && messages.iter().all(adds)
    }
}

impl Outpost {
    /// Whether what a server of another site has sent is put in order before its signature is checked.
    ///
    /// Only who has sent something genuine, and was the last to, is believed that far, and only where nobody of its site has
    /// deceived this server for long; and only that these messages are the next ones, so that nothing follows from them
    /// before they are executed.
    pub(super) fn is_presumed(
        &self,
        now: Instant,
        (site, server): (SiteId, ReplicaId),
        messages: &[LinkMessage],
    ) -> bool {
        let received = self.received.get(&site).copied().unwrap_or_default();
        self.receiving.get(&site).is_some_and(|receiving| {
            let is_known = receiving.forwarder.is_some_and(|(known, _)| known == server);
            is_known && !self.distrust.is_wary(now, site) && receiving.is_continued_by(received, messages)
        })
    }

    /// Something genuine has come: whoever has sent something else in its place that is not is found out.
    pub(super) fn compare(&mut self, now: Instant, site: SiteId, messages: &[LinkMessage]) {
        for message in messages {
            let receiving = self.receiving.get(&site);
            let held = receiving.and_then(|receiving| receiving.held.at(message.header.number));
            if let Some(Waiting { message: other, unchecked: Some(server) }) = held
                && other != message
                && !other.is_genuine(&self.config.keys)
            {
                self.on_deceived(now, (site, *server), message.header.number);
            }
        }
    }

    /// What was submitted, and may have been executed or not, is checked if it was not before. Where it was executed that costs
    /// nothing; and where something else came in its place meanwhile, whoever sent it is still found out.
    pub(super) fn check_submitted(&mut self, now: Instant, site: SiteId) {
        let Some(receiving) = self.receiving.get_mut(&site) else { return };
        let submitted = core::mem::take(&mut receiving.submitted);
        loop {
            let Some(receiving) = self.receiving.get_mut(&site) else { return };
            let Some((message, server)) = receiving.held.first_unchecked(submitted.clone()) else { return };
            let number = message.header.number;
            if message.is_genuine(&self.config.keys) {
                receiving.held.note_checked(number);
            } else {
                self.on_deceived(now, (site, server), number);
            }
        }
    }

    /// A server of another site was believed, and should not have been. Nothing that it was believed after that is kept: it
    /// might cost as much again.
    fn on_deceived(&mut self, now: Instant, (site, server): (SiteId, ReplicaId), number: u64) {
        self.distrust.on_deceived(now, site, self.config.tick);
        if let Some(receiving) = self.receiving.get_mut(&site) {
            receiving.held.drop_unchecked(number, server);
            receiving.forwarder.take_if(|(known, _)| *known == server);
        }
    }
}
