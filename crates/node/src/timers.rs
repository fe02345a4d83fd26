use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

/// Timers: set far more often than they expire.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    due: BTreeMap<K, Instant>,
    order: BTreeSet<(Instant, K)>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { due: BTreeMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Ord + Copy> Timers<K> {
    pub(crate) fn set(&mut self, timer: K, after: Duration) {
        self.cancel(timer);
        let at = Instant::now() + after;
        self.due.insert(timer, at);
        self.order.insert((at, timer));
    }

    pub(crate) fn cancel(&mut self, timer: K) {
        if let Some(at) = self.due.remove(&timer) {
            self.order.remove(&(at, timer));
        }
    }

    /// When the next timer expires.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes a timer that has expired by `now`.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<K> {
        let (at, timer) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.cancel(timer);
        Some(timer)
    }
}
