//! Quorum: each replica orders what clients send to all of them, as it arrives (Aublin et al. §4.2, after Q/U).
//!
//! Without contention all have the same history, and the client decides in one round trip. Histories that differ end
//! the view, since nothing else brings them together: under contention, or once a replica that has missed something
//! goes on. One that is faulty can always end it, and gains no more than that.
//!
//! Batches hold one request and no time, so that they are the same everywhere: the service's clock goes on by a
//! nanosecond with each of them.

use super::mode::Mode;
use super::{Step, Zyzzyva};
use crate::Batch;
use alloc::sync::Arc;
use althing_types::{Instant, Seq};

impl Zyzzyva {
    /// Orders what has come from clients.
    pub(super) fn order_arrivals(&mut self, step: &mut Step) {
        let settings = &self.config.settings;
        let (max_bytes, pipeline) = (settings.max_batch_bytes, settings.pipeline);
        while self.is_in_view && self.is_voting() && self.mode() == Mode::Quorum {
            let seq = self.log.last().next();
            let is_full = seq > self.accept_to() || seq.0 > self.durable.0.saturating_add(pipeline);
            if is_full || !self.pending.has_unproposed(false) {
                return;
            }
            let requests = self.pending.take_batch(1, max_bytes, false);
            let batch = Batch { time: Instant::default(), requests };
            let digest = batch.digest();
            self.accept(step, Arc::new(batch), digest, None);
        }
    }

    /// Ends the view if f + 1 others have long made final what this replica has missed: nobody passes it on.
    pub(super) fn abort_if_missing(&mut self, step: &mut Step, accepted_at_last_tick: Seq) {
        let (view, accepted) = (self.view, self.log.last());
        let are_ahead = self.peers.count(|peer| peer.view == view && peer.executed > accepted);
        let is_behind = are_ahead >= self.quorums().one_correct() && accepted_at_last_tick == accepted;
        if self.mode() == Mode::Quorum && is_behind {
            self.abort(step);
        }
    }

    /// Another replica has something else at a place than this one.
    pub(super) fn on_contention(&mut self, step: &mut Step) {
        if self.mode() == Mode::Quorum {
            self.abort(step);
        }
    }
}
