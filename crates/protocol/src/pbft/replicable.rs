//! A PBFT instance as the state of a logical machine.

use super::Pbft;
use super::persistence::Deferred;
use crate::{Batch, Message, Replicable, Request};
use alloc::sync::Arc;

impl Replicable for Pbft {
    fn vouch(&mut self) {
        let vouch = |request: &mut Request| request.is_authentic = true;
        let vouch_for_batch = |batch: &mut Arc<Batch>| {
            Arc::make_mut(batch).requests.iter_mut().for_each(vouch);
        };
        self.pending.all_mut().for_each(vouch);
        self.unfinished.whole_mut().for_each(vouch);
        self.log.entries_mut().flat_map(|entry| entry.bodies.values_mut()).for_each(vouch_for_batch);
        self.early.messages_mut().flat_map(Message::requests_mut).for_each(vouch);
        for deferred in self.outbox.waiting_mut() {
            if let Deferred::Propose(proposal) = deferred {
                vouch_for_batch(&mut proposal.batch);
            }
        }
    }
}
