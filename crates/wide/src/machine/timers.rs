use alloc::collections::{BTreeMap, BTreeSet};
use althing_types::{ReplicaId, nanos};
use borsh::{BorshDeserialize, BorshSerialize};
use core::time::Duration;

/// Names a timer of a logical machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Timer {
    /// One of the wide-area protocol's, by its number.
    Protocol(u32),
    /// What has been received has to be acknowledged.
    Acknowledge,
    /// An acknowledgement that rode on something which may not have arrived has to be said by itself.
    AcknowledgeAgain,
    /// What waits has to be shown to all sites.
    Relay,
}

#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
struct Running {
    generation: u64,
    #[borsh(serialize_with = "nanos::serialize", deserialize_with = "nanos::deserialize")]
    after: Duration,
    /// At which servers it has expired.
    expired: BTreeSet<ReplicaId>,
}

/// The timers of a logical machine. No server's clock decides alone that one expires: each that sees it expire
/// says so, and when enough have, it has (SRDS'07 §4).
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct Timers {
    running: BTreeMap<Timer, Running>,
    /// How many were ever set.
    generations: u64,
}

impl Timers {
    /// Sets a timer, afresh where it is running.
    pub(crate) fn set(&mut self, timer: Timer, after: Duration) {
        self.generations += 1;
        let running = Running { generation: self.generations, after, expired: BTreeSet::new() };
        self.running.insert(timer, running);
    }

    pub(crate) fn cancel(&mut self, timer: Timer) {
        self.running.remove(&timer);
    }

    pub(crate) fn is_running(&self, timer: Timer) -> bool {
        self.running.contains_key(&timer)
    }

    /// A timer has expired at a server; says whether it has now expired at `enough`, and runs no more.
    pub(crate) fn on_expired(
        &mut self,
        (timer, generation): (Timer, u64),
        server: ReplicaId,
        enough: usize,
    ) -> bool {
        let Some(running) = self.running.get_mut(&timer).filter(|running| running.generation == generation)
        else {
            return false;
        };
        running.expired.insert(server);
        let has_expired = running.expired.len() >= enough;
        if has_expired {
            self.running.remove(&timer);
        }
        has_expired
    }

    /// The timers that run: for each how many had been set when it was, and for how long it was set.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Timer, u64, Duration)> {
        self.running.iter().map(|(timer, running)| (*timer, running.generation, running.after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMER: Timer = Timer::Protocol(1);

    #[test]
    fn a_timer_expires_once_enough_servers_say_so_of_that_setting() {
        let mut timers = Timers::default();
        timers.set(TIMER, Duration::from_secs(1));
        let expired = |timers: &mut Timers, generation, server| {
            timers.on_expired((TIMER, generation), ReplicaId(server), 2)
        };
        assert!(!expired(&mut timers, 1, 0) && !expired(&mut timers, 1, 0), "the same one twice");
        timers.set(TIMER, Duration::from_secs(1));
        assert!(!expired(&mut timers, 1, 1), "it was set afresh");
        assert!(!expired(&mut timers, 2, 1) && expired(&mut timers, 2, 3));
        assert!(!expired(&mut timers, 2, 2) && !timers.is_running(TIMER));
    }
}
