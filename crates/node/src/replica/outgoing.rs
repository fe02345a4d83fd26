use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use althing_types::Principal;
use bytes::Bytes;
use tokio::time::Instant;

use super::flood::Flooding;
use crate::config::GroupConfig;
use crate::net::NetworkHandle;

/// Bytes of frames that are held back, at most; more are dropped, as by any slow network.
const MAX_HELD_BYTES: usize = 64 << 20;

/// How long a frame that nobody waits for waits for another to the same receiver: with it, it costs
/// neither side a system call or a wake-up.
const LAZY_DELAY: Duration = Duration::from_millis(1);

/// What leaves: at once, with the next frame to the same receiver, or late where the replica was told to
/// be slow.
#[derive(Debug)]
pub(super) struct Outgoing {
    group: Arc<GroupConfig>,
    network: NetworkHandle,
    delay: Duration,
    held: VecDeque<(Instant, Principal, Arc<[u8]>)>,
    held_bytes: usize,
    /// Frames that nobody waits for, in order, and when the first of them has to leave.
    lazy: Vec<(Principal, Arc<[u8]>)>,
    lazy_until: Option<Instant>,
    /// What it was told to flood others with.
    flood: Option<Flooding>,
}

impl Outgoing {
    pub(super) fn new(group: Arc<GroupConfig>, network: NetworkHandle) -> Self {
        let (held, lazy) = (VecDeque::new(), Vec::new());
        let delay = Duration::ZERO;
        Self { group, network, delay, held, held_bytes: 0, lazy, lazy_until: None, flood: None }
    }

    /// From now on, others are flooded like this, or no more.
    pub(super) fn set_flood(&mut self, flood: Option<Flooding>) {
        self.flood = flood;
    }

    /// From now on, frames leave so much later.
    pub(super) fn set_delay(&mut self, delay: Duration) {
        self.delay = delay;
        if delay.is_zero() {
            self.flush(None);
        }
    }

    pub(super) fn send(&mut self, to: Principal, frame: Arc<[u8]>) {
        self.flush_lazy_to(to);
        self.dispatch(to, frame);
    }

    /// Sends what waits for this receiver.
    fn flush_lazy_to(&mut self, to: Principal) {
        if self.lazy.is_empty() {
            return;
        }
        let waiting: Vec<_> = self.lazy.extract_if(.., |(other, _)| *other == to).collect();
        if self.lazy.is_empty() {
            self.lazy_until = None;
        }
        for (to, frame) in waiting {
            self.dispatch(to, frame);
        }
    }

    pub(super) fn send_lazily(&mut self, to: Principal, frame: Arc<[u8]>) {
        self.lazy_until.get_or_insert_with(|| Instant::now() + LAZY_DELAY);
        self.lazy.push((to, frame));
    }

    /// Sends what nobody waited for until now.
    pub(super) fn flush_lazy(&mut self) {
        self.lazy_until = None;
        for (to, frame) in std::mem::take(&mut self.lazy) {
            self.dispatch(to, frame);
        }
    }

    fn dispatch(&mut self, to: Principal, frame: Arc<[u8]>) {
        if self.delay.is_zero() {
            self.put(to, frame);
        } else if self.held_bytes + frame.len() <= MAX_HELD_BYTES {
            self.held_bytes += frame.len();
            self.held.push_back((Instant::now() + self.delay, to, frame));
        }
    }

    /// When the next frame that waits has to leave.
    pub(super) fn next(&self) -> Option<Instant> {
        let held = self.held.front().map(|(at, ..)| *at);
        let flood = self.flood.as_ref().map(Flooding::next);
        [held, self.lazy_until, flood].into_iter().flatten().min()
    }

    /// Sends the frames that are due by `now`, or all.
    pub(super) fn flush(&mut self, now: Option<Instant>) {
        let is_due = |at: Instant| now.is_none_or(|now| at <= now);
        if self.lazy_until.is_some_and(is_due) {
            self.flush_lazy();
        }
        while let Some((_, to, frame)) = self.held.pop_front_if(|(at, ..)| is_due(*at)) {
            self.held_bytes -= frame.len();
            self.put(to, frame);
        }
        if let (Some(flood), Some(now)) = (&mut self.flood, now) {
            flood.pour(now);
        }
    }

    /// Gives a frame to the network, in the session that it is for. The network counts what it has to
    /// drop, and the protocols repeat it.
    fn put(&mut self, to: Principal, frame: Arc<[u8]>) {
        let frame = Bytes::from_owner(frame);
        if let Some(flood) = &mut self.flood {
            flood.has_sent(to, &frame);
        }
        let _ = match to {
            Principal::Replica(_) => self.network.send(to, frame),
            Principal::Client(id) => {
                let (owner, session) = self.group.session_of(id).unwrap_or((id, 0));
                self.network.send_in(session, Principal::Client(owner), frame)
            }
        };
    }
}
