use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use althing_types::Principal;
use bytes::Bytes;
use tokio::time::Instant;

use crate::net::NetworkHandle;

/// Bytes of frames that are held back, at most; more are dropped, as by any slow network.
const MAX_HELD_BYTES: usize = 64 << 20;

/// What leaves: at once, or late where the replica was told to be slow.
#[derive(Debug)]
pub(super) struct Outgoing {
    network: NetworkHandle,
    delay: Duration,
    held: VecDeque<(Instant, Principal, Arc<[u8]>)>,
    held_bytes: usize,
}

impl Outgoing {
    pub(super) fn new(network: NetworkHandle) -> Self {
        Self { network, delay: Duration::ZERO, held: VecDeque::new(), held_bytes: 0 }
    }

    /// From now on, frames leave so much later.
    pub(super) fn set_delay(&mut self, delay: Duration) {
        self.delay = delay;
        if delay.is_zero() {
            self.flush(None);
        }
    }

    pub(super) fn send(&mut self, to: Principal, frame: Arc<[u8]>) {
        if self.delay.is_zero() {
            // The network counts what it has to drop, and the protocols repeat it.
            let _ = self.network.send(to, Bytes::from_owner(frame));
        } else if self.held_bytes + frame.len() <= MAX_HELD_BYTES {
            self.held_bytes += frame.len();
            self.held.push_back((Instant::now() + self.delay, to, frame));
        }
    }

    /// When the next frame that is held back has to leave.
    pub(super) fn next(&self) -> Option<Instant> {
        self.held.front().map(|(at, ..)| *at)
    }

    /// Sends the frames that are due by `now`, or all.
    pub(super) fn flush(&mut self, now: Option<Instant>) {
        while let Some((_, to, frame)) = self.held.pop_front_if(|(at, ..)| now.is_none_or(|now| *at <= now)) {
            self.held_bytes -= frame.len();
            let _ = self.network.send(to, Bytes::from_owner(frame));
        }
    }
}
