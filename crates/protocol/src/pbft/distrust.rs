//! Clients whose MACs were good at some replicas and bad at others.
//!
//! Such a request can stall a batch until the view ends (the attack on PBFT's authenticators of
//! Aardvark, NSDI'09 §3). Who has caught a client in that way believes only its signatures for a while, each
//! time for longer. The replica that proposed the request can't know: its MAC was good there. So those who
//! caught the client name it when they leave the view, and f + 1 that do convince everybody.
//!
//! A primary may have garbled a correct client's MACs itself. So trust comes back with time, and a client
//! that is not believed is told at once to sign: it loses a round trip and not its patience.

use super::message::PbftMessage;
use super::{Pbft, Step};
use crate::distrust::Distrust;
use althing_types::{ClientId, Instant, ReplicaId};

impl Pbft {
    /// This replica has caught clients: it believes them no longer, and tells the others why it leaves.
    pub(super) fn name_caught(&mut self, step: &mut Step, caught: &[ClientId]) {
        if caught.is_empty() {
            return;
        }
        let clients = Distrust::nameable(caught);
        for client in &clients {
            self.distrust(step.now, *client);
        }
        let me = self.me();
        self.distrust.name(me, &clients, usize::MAX);
        step.broadcast(PbftMessage::Caught { clients });
    }

    pub(super) fn on_caught(&mut self, step: &Step, from: ReplicaId, clients: &[ClientId]) {
        let enough = self.quorums().one_correct();
        for client in self.distrust.name(from, clients, enough) {
            self.distrust(step.now, client);
        }
    }

    fn distrust(&mut self, now: Instant, client: ClientId) {
        if self.distrust.add(now, client, self.config.settings.view_timeout) {
            self.pending.drop_unsigned(client);
        }
    }
}
