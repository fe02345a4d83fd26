//! The two loops of a load.
//!
//! In a *closed* loop each client sends its next operation when the last one is answered: it shows
//! what the group can do. A group that stalls is not asked meanwhile, so the operations that it would
//! have delayed are missing from the latencies (coordinated omission).
//!
//! In an *open* loop operations are due at times fixed in advance, as if sent by users who know
//! nothing of each other, and a latency counts from when its operation was due. A stall is seen by
//! all that were due in it. Each client has one operation under way; while all are busy, what is due
//! waits here, and its wait counts.

use super::clock::Clock;
use super::observed::{Observed, Timed, Window};
use super::schedule::Schedule;
use super::workload::{Asked, Mix};
use miette::{IntoDiagnostic, Result};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;

/// What is put under load: one client, with one operation under way at a time.
pub(super) trait Target: Send + Sync + 'static {
    /// Has an operation done; the error says why there is no right answer.
    fn ask(&self, asked: Asked) -> impl Future<Output = Result<(), String>> + Send;
}

/// What all clients of a process share.
struct Shared<C> {
    clock: C,
    window: Window,
    observed: Mutex<Observed>,
}

impl<C: Clock> Shared<C> {
    fn new(clock: C, window: Window) -> Arc<Self> {
        Arc::new(Self { clock, window, observed: Mutex::new(Observed::nothing(&window)) })
    }

    fn observe(&self, note: impl FnOnce(&mut Observed)) {
        note(&mut self.observed.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn ask(&self, target: &impl Target, asked: Asked, due_ns: Option<u64>) {
        let sent_ns = self.clock.now_ns();
        let is_read = asked.is_read;
        let outcome = target.ask(asked).await;
        let timed =
            Timed { is_read, due_ns: due_ns.unwrap_or(sent_ns), sent_ns, ended_ns: self.clock.now_ns() };
        self.observe(|observed| observed.record(&self.window, &timed, outcome));
    }
}

/// Runs a closed loop of these clients, each with what it asks for.
pub(super) async fn closed<T: Target, C: Clock>(
    clients: Vec<(T, Mix)>,
    clock: C,
    window: Window,
) -> Result<Observed> {
    let shared = Shared::new(clock, window);
    shared.clock.sleep_until(window.start_ns).await;
    let mut running = JoinSet::new();
    for (target, mut mix) in clients {
        let shared = Arc::clone(&shared);
        running.spawn(async move {
            while shared.clock.now_ns() < shared.window.until_ns {
                shared.ask(&target, mix.next(), None).await;
            }
        });
    }
    all_of(running, shared).await
}

/// Runs an open loop over these clients: what `mix` asks for, when `schedule` says.
pub(super) async fn open<T: Target, C: Clock>(
    clients: Vec<T>,
    mix: Mix,
    schedule: Schedule,
    clock: C,
    window: Window,
) -> Result<Observed> {
    let shared = Shared::new(clock, window);
    // Clients that are free stand in line for what is due next.
    let pacer = Arc::new(tokio::sync::Mutex::new(Pacer { schedule, mix }));
    let mut running = JoinSet::new();
    for target in clients {
        let (shared, pacer) = (Arc::clone(&shared), Arc::clone(&pacer));
        running.spawn(async move {
            loop {
                let next = pacer.lock().await.next(&shared).await;
                let Some((asked, due_ns)) = next else { return };
                shared.ask(&target, asked, Some(due_ns)).await;
            }
        });
    }
    all_of(running, shared).await
}

async fn all_of<C: Clock>(mut running: JoinSet<()>, shared: Arc<Shared<C>>) -> Result<Observed> {
    while let Some(ended) = running.join_next().await {
        ended.into_diagnostic()?;
    }
    let shared = Arc::into_inner(shared).expect("all clients have ended");
    Ok(shared.observed.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Hands out operations when they are due.
struct Pacer {
    schedule: Schedule,
    mix: Mix,
}

impl Pacer {
    /// The next operation, once it is due; `None` when the run is over. Whatever was due by then and
    /// never sent is taken down as such.
    async fn next<C: Clock>(&mut self, shared: &Shared<C>) -> Option<(Asked, u64)> {
        let until_ns = shared.window.until_ns;
        let mut due_ns = self.due(shared)?;
        if due_ns < until_ns {
            shared.clock.sleep_until(due_ns).await;
            if shared.clock.now_ns() < until_ns {
                return Some((self.mix.next(), due_ns));
            }
        }
        while due_ns < until_ns {
            let is_read = self.mix.next().is_read;
            shared.observe(|observed| observed.record_unsent(&shared.window, is_read, due_ns));
            due_ns = self.due(shared)?;
        }
        None
    }

    fn due<C>(&mut self, shared: &Shared<C>) -> Option<u64> {
        self.schedule.next().map(|after_start| shared.window.start_ns.saturating_add(after_start))
    }
}
