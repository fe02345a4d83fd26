use std::{
    collections::HashMap,
    hash::Hash,
    sync::Mutex,
    time::{Duration, Instant},
};

/// Lets one line of a kind into the log per interval, so that whoever can make us log cannot fill
/// the disk. The number of kinds must be bounded.
pub(super) struct Throttle<K> {
    interval: Duration,
    kinds: Mutex<HashMap<K, Kind>>,
}

struct Kind {
    last: Instant,
    suppressed: u64,
}

impl<K: Eq + Hash> Throttle<K> {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, kinds: Mutex::default() }
    }

    /// Whether to log now; if so, how many were left out since the last time.
    pub(super) fn pass(&self, kind: K) -> Option<u64> {
        let now = Instant::now();
        let mut kinds = self.kinds.lock().expect("no holder panics");
        let Some(known) = kinds.get_mut(&kind) else {
            kinds.insert(kind, Kind { last: now, suppressed: 0 });
            return Some(0);
        };
        if now - known.last < self.interval {
            known.suppressed += 1;
            return None;
        }
        known.last = now;
        Some(std::mem::take(&mut known.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_kind_passes_in_an_interval() {
        let throttle = Throttle::new(Duration::from_secs(3600));
        assert_eq!(throttle.pass("a"), Some(0));
        assert_eq!(throttle.pass("a"), None);
        assert_eq!(throttle.pass("b"), Some(0));
        assert_eq!(throttle.pass("a"), None);
        let a_while_ago = Instant::now() - Duration::from_secs(3600);
        throttle.kinds.lock().unwrap().get_mut("a").unwrap().last = a_while_ago;
        assert_eq!(throttle.pass("a"), Some(2));
    }
}
