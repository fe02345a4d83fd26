use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use althing_replica::Timer;
use tokio::time::Instant;

/// The timers of a replica: few, and set far more often than they expire.
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeMap<Timer, Instant>,
    order: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, after: Duration) {
        self.cancel(timer);
        let at = Instant::now() + after;
        self.due.insert(timer, at);
        self.order.insert((at, timer));
    }

    pub(super) fn cancel(&mut self, timer: Timer) {
        if let Some(at) = self.due.remove(&timer) {
            self.order.remove(&(at, timer));
        }
    }

    /// When the next timer expires.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes a timer that has expired by `now`.
    pub(super) fn expired(&mut self, now: Instant) -> Option<Timer> {
        let (at, timer) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.cancel(timer);
        Some(timer)
    }
}
