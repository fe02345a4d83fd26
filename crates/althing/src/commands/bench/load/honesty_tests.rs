//! A server that stalls once, under both loops, in virtual time: whoever was due during the stall has
//! to be in an open loop's figures.

use super::clock::Clock;
use super::generator::{Target, closed, open};
use super::observed::{Observed, Window};
use super::schedule::{Arrivals, Part, Schedule};
use super::workload::{Asked, Mix, ServiceKind, Workload};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use tokio::runtime::Builder;

const MS: u64 = 1_000_000;

/// A clock that jumps to the next time that somebody waits for, whenever everybody waits.
#[derive(Clone, Default)]
struct VirtualClock(Arc<Mutex<Times>>);

#[derive(Default)]
struct Times {
    now_ns: u64,
    /// Who waits until when, the soonest first; the number tells equal times apart.
    waiting: BTreeMap<(u64, u64), Waker>,
    number: u64,
}

impl VirtualClock {
    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.lock().expect("no test has failed in here")
    }

    /// Runs `load` with this clock: nothing else moves the time.
    fn run<T>(&self, load: impl Future<Output = T>) -> T {
        let clock = self.clone();
        let advance = move || {
            // Where nobody waits for a time, the load has ended.
            let next = clock.times().waiting.pop_first();
            if let Some(((due_ns, _), waker)) = next {
                clock.times().now_ns = due_ns;
                waker.wake();
            }
        };
        let runtime = Builder::new_current_thread().on_thread_park(advance).build();
        runtime.expect("an event loop").block_on(load)
    }
}

impl Clock for VirtualClock {
    fn now_ns(&self) -> u64 {
        self.times().now_ns
    }

    async fn sleep_until(&self, due_ns: u64) {
        poll_fn(|context| {
            let mut times = self.times();
            if times.now_ns >= due_ns {
                return Poll::Ready(());
            }
            times.number += 1;
            let number = times.number;
            times.waiting.insert((due_ns, number), context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Serves one operation after the other, in a millisecond each, except that it stalls once.
struct StallingServer {
    clock: VirtualClock,
    stall_ns: std::ops::Range<u64>,
    turn: tokio::sync::Mutex<()>,
}

struct Client(Arc<StallingServer>);

impl Target for Client {
    async fn ask(&self, _asked: Asked) -> Result<(), String> {
        let _turn = self.0.turn.lock().await;
        if self.0.stall_ns.contains(&self.0.clock.now_ns()) {
            self.0.clock.sleep_until(self.0.stall_ns.end).await;
        }
        self.0.clock.sleep_until(self.0.clock.now_ns() + MS).await;
        Ok(())
    }
}

/// 10 seconds, with a stall of one second in the middle.
const WINDOW: Window = Window { start_ns: 0, from_ns: 1000 * MS, until_ns: 11_000 * MS };
const STALL: std::ops::Range<u64> = 5000 * MS..6000 * MS;

fn clients(count: usize, stall_ns: std::ops::Range<u64>) -> (VirtualClock, Vec<Client>) {
    let clock = VirtualClock::default();
    let server =
        Arc::new(StallingServer { clock: clock.clone(), stall_ns, turn: tokio::sync::Mutex::default() });
    (clock, (0..count).map(|_| Client(Arc::clone(&server))).collect())
}

fn mix() -> Mix {
    let service = ServiceKind::Null;
    Mix::new(&Workload { service, request_bytes: 0, reply_bytes: 0, read_share: 0.0, keys: 1 }, 1, 0)
}

fn millis_at(observed: &Observed, quantile: f64) -> f64 {
    observed.latencies().value_at_quantile(quantile) as f64 / 1000.0
}

fn open_loop(clients: usize, per_second: f64, stall: std::ops::Range<u64>) -> Observed {
    let (clock, clients) = self::clients(clients, stall);
    let schedule = Schedule::new(Arrivals::Uniform, per_second, Part { index: 0, of: 1 }, 1);
    clock.run(open(clients, mix(), schedule, clock.clone(), WINDOW)).expect("nothing fails")
}

fn closed_loop(clients: usize, stall: std::ops::Range<u64>) -> Observed {
    let (clock, clients) = self::clients(clients, stall);
    let clients = clients.into_iter().map(|client| (client, mix())).collect();
    clock.run(closed(clients, clock.clone(), WINDOW)).expect("nothing fails")
}

#[test]
fn an_open_loop_shows_the_stall_to_all_that_were_due_in_it() {
    for clients in [1, 1000] {
        let observed = open_loop(clients, 100.0, STALL);
        assert_eq!((observed.offered, observed.operations(), observed.unsent), (1000, 1000, 0));
        // One second of ten stalls: every tenth operation was due in it, and those wait half a second
        // on average. However many may be under way, the wait is the same.
        assert!((900.0..1000.0).contains(&millis_at(&observed, 0.99)), "{}", millis_at(&observed, 0.99));
        assert!((450.0..650.0).contains(&millis_at(&observed, 0.95)), "{}", millis_at(&observed, 0.95));
        assert!(millis_at(&observed, 0.85) < 3.0, "{}", millis_at(&observed, 0.85));
        assert!(observed.longest_gap(0).length_ms.abs_diff(1000) < 12, "{:?}", observed.longest_gap(0));
    }
}

#[test]
fn a_closed_loop_hides_the_stall() {
    let observed = closed_loop(1, STALL);
    // The one operation that met the stall is one of thousands.
    assert!(millis_at(&observed, 0.99) < 3.0);
    assert!(millis_at(&observed, 1.0) >= 1000.0);
    assert!(observed.longest_gap(0).length_ms.abs_diff(1000) < 3);
}

#[test]
fn the_wait_for_a_free_client_counts_and_is_told_apart() {
    let wait = |observed: &Observed| observed.waits.value_at_quantile(0.99) as f64 / 1000.0;
    let bounded = open_loop(1, 100.0, STALL);
    assert!(wait(&bounded) > 900.0, "all but the first wait in the generator");
    let unbounded = open_loop(1000, 100.0, STALL);
    assert!(wait(&unbounded) < 2.0, "all wait at the server: {}", wait(&unbounded));
}

#[test]
fn what_is_offered_above_capacity_shows_as_unsent() {
    // The server can do 1000 operations a second at most.
    let observed = open_loop(10, 2000.0, 0..0);
    assert_eq!(observed.offered, 20_000);
    assert!(observed.operations() <= 10_001, "{}", observed.operations());
    assert!(observed.unsent > 8_000, "{}", observed.unsent);
    assert!(millis_at(&observed, 0.5) > 1000.0, "the wait grows: {}", millis_at(&observed, 0.5));
}

#[test]
fn a_stall_that_outlives_the_run_is_not_cut_off() {
    let until_after_the_end = 8000 * MS..20_000 * MS;
    let observed = open_loop(1, 100.0, until_after_the_end.clone());
    assert_eq!((observed.offered, observed.operations()), (1000, 700));
    assert_eq!(observed.unsent, 299);
    assert!(millis_at(&observed, 1.0) >= 12_000.0, "{}", millis_at(&observed, 1.0));
    let observed = closed_loop(1, until_after_the_end);
    assert!(millis_at(&observed, 1.0) >= 11_990.0);
}
