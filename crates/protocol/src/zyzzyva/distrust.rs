//! Clients whose MACs were good at the primary and bad at others: their requests hold up the order until the view
//! ends. Those who saw it name such clients when they leave, and whoever believes that takes nothing from them
//! for a while that is not signed, as in our PBFT.
//!
//! A chain stands still where a single replica does not believe a request, and no other ever sees it. So where
//! protocols take turns one name is enough to doubt a client: the head of a chain and the primary of Backup order only
//! what it signs. A replica that lies can have all clients sign there. It could as well have ended the chain.

use super::message::ZyzzyvaMessage;
use super::mode::Mode;
use super::{Step, Zyzzyva};
use crate::distrust::Distrust;
use crate::{Action, Request};
use alloc::vec::Vec;
use althing_types::{ClientId, Instant, ReplicaId};

impl Zyzzyva {
    /// Whether this client has to sign; it is told so then, unless it need not ask again.
    pub(super) fn must_sign(&self, step: &mut Step, request: &Request) -> bool {
        let Request { client, number, .. } = *request;
        let is_doubted = self.is_wary() && self.doubted.has(step.now, client);
        let must =
            request.is_authentic && request.has_macs() && (is_doubted || self.distrust.has(step.now, client));
        if must && !self.pending.has_executed(client, number) {
            step.actions.push(Action::MustSign { client, number });
        }
        must
    }

    /// The view ends. What the primary has ordered with MACs and nobody settled is dropped there: a correct client asks
    /// again, and signs.
    pub(super) fn drop_requests_that_stall(&mut self) {
        if self.is_leading() && self.mode().is_led() {
            let stalled = self.log.after(self.executed).flat_map(|(_, slot)| &slot.batch.requests);
            for request in stalled {
                self.pending.drop_unsigned(request.client);
            }
        }
    }

    /// The view ends: says because of whom this replica could not accept what comes next.
    pub(super) fn name_unbelieved(&mut self, step: &mut Step) {
        if !self.is_in_view || self.is_leading() {
            return;
        }
        let next = self.orders.said(self.log.last().next()).map(|said| &said.order.batch);
        let requests = next.or_else(|| self.refused_next()).into_iter().flat_map(|batch| &batch.requests);
        let is_bad = |r: &&Request| r.has_macs() && !r.is_authentic && !self.pending.has_authentic(r);
        let caught: Vec<_> = requests.filter(is_bad).map(|request| request.client).collect();
        self.name_caught(step, &caught);
    }

    fn name_caught(&mut self, step: &mut Step, caught: &[ClientId]) {
        if caught.is_empty() {
            return;
        }
        let clients = Distrust::nameable(caught);
        for client in &clients {
            self.believe_only_signatures_of(step.now, *client);
        }
        let me = self.me();
        self.distrust.name(me, &clients, usize::MAX);
        step.broadcast(ZyzzyvaMessage::Caught { clients });
    }

    pub(super) fn on_caught(&mut self, step: &Step, from: ReplicaId, clients: &[ClientId]) {
        for client in Distrust::nameable(clients) {
            let is_new = self.doubted.add(step.now, client, self.config.settings.view_timeout);
            if is_new && self.is_wary() {
                self.pending.drop_unsigned(client);
            }
        }
        let enough = self.quorums().one_correct();
        for client in self.distrust.name(from, clients, enough) {
            self.believe_only_signatures_of(step.now, client);
        }
    }

    /// What waits from clients that somebody has named is ordered only once they have signed it.
    pub(super) fn drop_doubted(&mut self, now: Instant) {
        if self.is_wary() {
            let doubted: Vec<_> = self.doubted.clients(now).collect();
            for client in doubted {
                self.pending.drop_unsigned(client);
            }
        }
    }

    /// Whether this replica goes by the word of one.
    fn is_wary(&self) -> bool {
        matches!(self.mode(), Mode::Chain | Mode::Backup) && self.primary() == self.me()
    }

    fn believe_only_signatures_of(&mut self, now: Instant, client: ClientId) {
        if self.distrust.add(now, client, self.config.settings.view_timeout) {
            self.pending.drop_unsigned(client);
        }
    }
}
