use std::pin::pin;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, sleep};

use super::config::TimeShare;

/// Time for work that anybody can cause: a share of a processor's, so that such work holds up no other for
/// long. What was not used is saved up, to a bound.
pub(super) struct Allowance {
    share: TimeShare,
    account: Mutex<Account>,
    /// Those who wait for a turn, in the order in which they came.
    queue: tokio::sync::Mutex<()>,
}

/// What is left, or owed, as of some time.
struct Account {
    left_ns: i128,
    at: Instant,
}

impl Allowance {
    pub(super) fn new(share: TimeShare) -> Self {
        let account = Account { left_ns: nanos(share.saved), at: Instant::now() };
        Self { share, account: Mutex::new(account), queue: tokio::sync::Mutex::default() }
    }

    /// Waits until there is time left. A cancelled call loses its place.
    pub(super) async fn turn(&self) {
        let _place = self.queue.lock().await;
        while let Some(pause) = self.pause(Instant::now()) {
            sleep(pause).await;
        }
    }

    /// Does the work, at the expense of this allowance: for as long as it keeps the processor busy, not for
    /// what it waits, nor for what the processor does meanwhile for others. Where those leave little of it, a
    /// share of all time would else be used up by a few pieces of work.
    pub(super) async fn spend_on<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        std::future::poll_fn(|context| {
            let begun = thread_time();
            let done = work.as_mut().poll(context);
            self.charge(Instant::now(), thread_time().saturating_sub(begun));
            done
        })
        .await
    }

    /// Takes the cost of something that was done from what is left.
    pub(super) fn charge(&self, now: Instant, cost: Duration) {
        self.account(now).left_ns -= nanos(cost);
    }

    /// How long it takes until there is time left again, if there is none.
    fn pause(&self, now: Instant) -> Option<Duration> {
        let left_ns = self.account(now).left_ns;
        let lacking = u64::try_from(1 - left_ns).ok().filter(|lacking| *lacking > 0)?;
        Some(Duration::from_nanos(lacking.saturating_mul(100).div_ceil(u64::from(self.share.percent))))
    }

    /// The account as of now.
    fn account(&self, now: Instant) -> MutexGuard<'_, Account> {
        let mut account = self.account.lock().expect("no holder panics");
        let gained = nanos(now.saturating_duration_since(account.at)) * i128::from(self.share.percent) / 100;
        account.left_ns = (account.left_ns + gained).min(nanos(self.share.saved));
        account.at = account.at.max(now);
        account
    }
}

/// For how long this thread has had the processor.
fn thread_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

#[expect(clippy::cast_possible_wrap, reason = "no time takes that many bits")]
fn nanos(duration: Duration) -> i128 {
    duration.as_nanos() as i128
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often work of so long is done in so much time, by somebody who always has some.
    fn done(share: TimeShare, cost: Duration, time: Duration) -> u128 {
        let allowance = Allowance::new(share);
        let begun = Instant::now();
        let (mut now, mut count) = (begun, 0);
        while now - begun < time {
            if let Some(pause) = allowance.pause(now) {
                now += pause;
            } else {
                now += cost;
                allowance.charge(now, cost);
                count += 1;
            }
        }
        count
    }

    #[test]
    fn work_takes_its_share_of_time_and_what_was_saved_up() {
        let ms = Duration::from_millis;
        let share = TimeShare { percent: 10, saved: ms(100) };
        // A second of ten, and what was saved: each piece takes a millisecond.
        let count = done(share, ms(1), ms(10_000));
        assert!((1090..=1110).contains(&count), "{count}");
        let count = done(TimeShare { percent: 50, saved: ms(1) }, ms(1), ms(1000));
        assert!((495..=505).contains(&count), "{count}");
    }

    #[test]
    fn nobody_waits_while_there_is_time_left() {
        let share = TimeShare { percent: 10, saved: Duration::from_millis(100) };
        let allowance = Allowance::new(share);
        let now = Instant::now();
        for _ in 0..50 {
            assert_eq!(allowance.pause(now), None);
            allowance.charge(now, Duration::from_millis(2));
        }
        let pause = allowance.pause(now).expect("all is used");
        assert!(pause < Duration::from_millis(21), "{pause:?}");
        assert_eq!(allowance.pause(now + pause), None);
        let later = now + Duration::from_secs(3600);
        assert_eq!(allowance.pause(later), None);
        assert_eq!(allowance.account(later).left_ns, nanos(share.saved), "no more is saved up");
    }

    #[tokio::test]
    async fn what_waits_costs_nothing() {
        let share = TimeShare { percent: 1, saved: Duration::from_secs(60) };
        let allowance = Allowance::new(share);
        let waited = sleep(Duration::from_millis(50));
        allowance.spend_on(waited).await;
        let used = nanos(share.saved) - allowance.account(Instant::now()).left_ns;
        assert!(used < nanos(Duration::from_millis(10)), "{used}");
        allowance.spend_on(async { std::thread::sleep(Duration::from_millis(30)) }).await;
        let used = nanos(share.saved) - allowance.account(Instant::now()).left_ns;
        assert!(used < nanos(Duration::from_millis(10)), "{used}: the processor was free meanwhile");
        let begun = thread_time();
        let work = async { while thread_time() - begun < Duration::from_millis(30) {} };
        allowance.spend_on(work).await;
        let used = nanos(share.saved) - allowance.account(Instant::now()).left_ns;
        assert!(used > nanos(Duration::from_millis(15)), "{used}");
    }
}
