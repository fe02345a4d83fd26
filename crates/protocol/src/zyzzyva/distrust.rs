//! Clients whose MACs were good at the primary and bad at others: their requests hold up the order until the view
//! ends. Those who saw it name such clients when they leave, and whoever believes that takes nothing from them
//! for a while that is not signed, as in our PBFT.

use super::message::ZyzzyvaMessage;
use super::{Step, Zyzzyva};
use crate::distrust::Distrust;
use crate::{Action, Request};
use alloc::vec::Vec;
use althing_types::{ClientId, Instant, ReplicaId};

impl Zyzzyva {
    /// Whether this client has to sign; it is told so then, unless it need not ask again.
    pub(super) fn must_sign(&self, step: &mut Step, request: &Request) -> bool {
        let Request { client, number, .. } = *request;
        let must = request.is_authentic && request.has_macs() && self.distrust.has(step.now, client);
        if must && !self.pending.has_executed(client, number) {
            step.actions.push(Action::MustSign { client, number });
        }
        must
    }

    /// The view ends. What the primary has ordered with MACs and nobody settled is dropped there; whoever could not
    /// accept it says because of whom. A correct client asks again, and signs.
    pub(super) fn drop_requests_that_stall(&mut self, step: &mut Step) {
        if self.is_leading() && !self.mode().needs_all() {
            let stalled = self.log.after(self.executed).flat_map(|(_, slot)| &slot.batch.requests);
            for request in stalled {
                self.pending.drop_unsigned(request.client);
            }
            return;
        }
        let next = self.orders.said(self.log.last().next()).filter(|_| self.is_in_view);
        let next = next.map(|said| &said.order.batch).or_else(|| self.passed_next());
        let requests = next.into_iter().flat_map(|batch| &batch.requests);
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
        let enough = self.quorums().one_correct();
        for client in self.distrust.name(from, clients, enough) {
            self.believe_only_signatures_of(step.now, client);
        }
    }

    fn believe_only_signatures_of(&mut self, now: Instant, client: ClientId) {
        if self.distrust.add(now, client, self.config.settings.view_timeout) {
            self.pending.drop_unsigned(client);
        }
    }
}
