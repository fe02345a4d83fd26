//! Closed-loop load: each client sends its next operation when the last is answered.

use althing_node::GroupClient;
use althing_node::config::ClientFile;
use hdrhistogram::Histogram;
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Latencies are kept from 1 µs to this, with three significant digits.
const HIGHEST_LATENCY_MICROS: u64 = 60_000_000;

/// How long one operation may take before the run is given up.
const GIVE_UP: Duration = Duration::from_secs(30);

/// What one client, or all of them, saw during the measured time.
pub(super) struct Observed {
    pub(super) operations: u64,
    /// In microseconds.
    pub(super) latencies: Histogram<u64>,
}

impl Observed {
    pub(super) fn nothing() -> Self {
        let latencies =
            Histogram::new_with_bounds(1, HIGHEST_LATENCY_MICROS, 3).expect("the bounds are sound");
        Self { operations: 0, latencies }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.latencies.add(&other.latencies).expect("all histograms have the same bounds");
    }
}

/// Connected clients of one group.
pub(super) struct Clients(Vec<GroupClient>);

impl Clients {
    /// Connects one client for each file, and waits until each has all its replicas.
    pub(super) async fn connect(files: &[ClientFile]) -> Result<Self> {
        let mut clients = Vec::with_capacity(files.len());
        for file in files {
            let client = GroupClient::connect(file).await.into_diagnostic()?;
            let replicas = client.group().replicas().len();
            let mut connected = client.connected();
            tokio::time::timeout(GIVE_UP, connected.wait_for(|count| *count == replicas))
                .await
                .map_err(|_| {
                    miette!("a client could not connect to all {replicas} replicas within {GIVE_UP:?}")
                })?
                .into_diagnostic()?;
            clients.push(client);
        }
        Ok(Self(clients))
    }

    /// Runs them all for `warm_up` and then `measured`, and counts what completed in the latter.
    pub(super) async fn run(
        &self,
        operation: &[u8],
        warm_up: Duration,
        measured: Duration,
    ) -> Result<Observed> {
        let from = Instant::now() + warm_up;
        let until = from + measured;
        let mut running = JoinSet::new();
        for client in &self.0 {
            running.spawn(run_one(client.clone(), operation.to_vec(), from, until));
        }
        let mut all = Observed::nothing();
        while let Some(one) = running.join_next().await {
            all.add(&one.into_diagnostic()??);
        }
        Ok(all)
    }
}

async fn run_one(client: GroupClient, operation: Vec<u8>, from: Instant, until: Instant) -> Result<Observed> {
    let mut observed = Observed::nothing();
    loop {
        let started = Instant::now();
        if started >= until {
            return Ok(observed);
        }
        client
            .invoke_within(operation.clone(), GIVE_UP)
            .await
            .into_diagnostic()
            .wrap_err("the benchmark was given up")?;
        let ended = Instant::now();
        if started >= from && ended <= until {
            let micros = u64::try_from((ended - started).as_micros()).unwrap_or(u64::MAX);
            observed.latencies.saturating_record(micros.max(1));
            observed.operations += 1;
        }
    }
}
