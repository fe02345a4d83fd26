//! A Paxos instance as the state of a logical machine.

use super::Paxos;
use crate::{Replicable, Request};
use alloc::sync::Arc;

impl Replicable for Paxos {
    fn vouch(&mut self) {
        let vouch = |request: &mut Request| request.is_authentic = true;
        self.state.pending.all_mut().for_each(vouch);
        self.state.unfinished.whole_mut().for_each(vouch);
        for batch in self.state.log.entries_mut().flat_map(|entry| entry.batches.values_mut()) {
            Arc::make_mut(batch).requests.iter_mut().for_each(vouch);
        }
    }
}
