use miette::{IntoDiagnostic, Result};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A clock that a load generator sends by.
pub(super) trait Clock: Send + Sync + 'static {
    /// Nanoseconds since some instant.
    fn now_ns(&self) -> u64;

    /// Resolves at that time, or at once where it has passed. For one waiter at a time.
    fn sleep_until(&self, due_ns: u64) -> impl Future<Output = ()> + Send;
}

/// Nanoseconds of the machine's monotonic clock, which is the same for all its processes.
pub(in super::super) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec * NANOS_PER_SECOND + now.tv_nsec).unwrap_or_default()
}

/// Waits until the machine's monotonic clock shows `due_ns`; good to a millisecond.
pub(in super::super) async fn sleep_until(due_ns: u64) {
    tokio::time::sleep(Duration::from_nanos(due_ns.saturating_sub(monotonic_ns()))).await;
}

/// The machine's monotonic clock with a timer of its own. The event loop's timers would do for
/// everything but the sending of an open loop: they round up to whole milliseconds, which would then
/// be counted as the group's latency.
#[derive(Debug)]
pub(super) struct MonotonicClock {
    /// A timer of the kernel. It is read like a pipe: eight bytes, once it has expired.
    timer: Receiver,
}

impl MonotonicClock {
    pub(super) fn new() -> Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).into_diagnostic()?;
        Ok(Self { timer: Receiver::from_owned_fd_unchecked(timer).into_diagnostic()? })
    }

    fn set(&self, due_ns: u64) {
        let due = i64::try_from(due_ns).unwrap_or(i64::MAX);
        let spec = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            // A time of zero would disarm the timer.
            it_value: Timespec { tv_sec: due / NANOS_PER_SECOND, tv_nsec: (due % NANOS_PER_SECOND).max(1) },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &spec)
            .expect("the timer is one and its time is valid");
    }
}

impl Clock for MonotonicClock {
    fn now_ns(&self) -> u64 {
        monotonic_ns()
    }

    async fn sleep_until(&self, due_ns: u64) {
        if monotonic_ns() >= due_ns {
            return;
        }
        self.set(due_ns);
        while monotonic_ns() < due_ns {
            self.timer.readable().await.expect("the event loop runs");
            // It has not expired where the event loop told of an earlier time; then nothing is read.
            let _ = self.timer.try_read(&mut [0; 8]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_wakes_after_the_time_and_never_before() {
        let clock = MonotonicClock::new().unwrap();
        let start = clock.now_ns();
        for step in 1..=20 {
            let due = start + step * 300_000;
            clock.sleep_until(due).await;
            assert!(clock.now_ns() >= due);
        }
        clock.sleep_until(start).await;
    }
}
