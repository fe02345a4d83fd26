//! A Zyzzyva instance as the state of a logical machine.

use super::Zyzzyva;
use crate::{Batch, Replicable, Request};
use alloc::sync::Arc;

impl Replicable for Zyzzyva {
    fn vouch(&mut self) {
        let vouch = |request: &mut Request| request.is_authentic = true;
        let vouch_for_batch = |batch: &mut Arc<Batch>| {
            Arc::make_mut(batch).requests.iter_mut().for_each(vouch);
        };
        self.pending.all_mut().for_each(vouch);
        self.bodies.values_mut().for_each(vouch_for_batch);
        self.orders.batches_mut().for_each(vouch_for_batch);
        self.links.batches_mut().for_each(vouch_for_batch);
        for slot in self.log.slots_mut() {
            vouch_for_batch(&mut slot.batch);
            slot.order.iter_mut().map(|order| &mut order.content.batch).for_each(vouch_for_batch);
        }
    }
}
