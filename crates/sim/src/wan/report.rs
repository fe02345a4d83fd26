use super::config::WanConfig;
use super::trial::TrialReport;
use serde::Serialize;

/// How long updates took, in milliseconds, from when a client made them to when it had the answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// On average.
    pub mean_ms: f64,
    /// At least half of them took no longer.
    pub p50_ms: f64,
    /// At least 99 of 100 took no longer.
    pub p99_ms: f64,
}

impl Latency {
    /// Of so many nanoseconds each; `None` of nothing.
    pub(super) fn of(mut nanos: Vec<u64>) -> Option<Self> {
        nanos.sort_unstable();
        let ms = |nanos: u64| nanos as f64 / 1e6;
        let last = nanos.len().checked_sub(1)?;
        let mean_ms = nanos.iter().map(|nanos| ms(*nanos)).sum::<f64>() / nanos.len() as f64;
        Some(Self { mean_ms, p50_ms: ms(nanos[last / 2]), p99_ms: ms(nanos[last * 99 / 100]) })
    }
}

/// What an experiment has shown. Whatever is counted was counted while it was measured.
#[derive(Debug, Clone, Serialize)]
pub struct WanReport {
    /// What was run.
    pub config: WanConfig,
    /// Updates that were answered, a second.
    pub updates_per_s: f64,
    /// How long they took; `None` where none was answered.
    pub latency: Option<Latency>,
    /// Updates answered in each tenth of a second, from the start of the run on.
    pub answered_per_100_ms: Vec<u64>,
    /// Bytes that left all sites for others, for each update that was answered.
    pub wide_bytes_per_update: f64,
    /// Messages between sites, for each.
    pub wide_messages_per_update: f64,
    /// How often one of them was sent on average: 1 where none was repeated.
    pub copies: f64,
    /// How much of the time the leading site's link out was in use, from 0 to 1.
    pub leader_uplink: f64,
    /// The same of the site whose link was in use most.
    pub busiest_uplink: f64,
    /// How much of the time the processor of the leading site's busiest server was busy.
    pub leader_cpu: f64,
    /// How often the leading site ordered a batch, for each update that was answered.
    pub leader_orderings_per_update: f64,
    /// How often it signed, for each.
    pub leader_signatures_per_update: f64,
    /// Updates that the site which has executed most has executed in the whole run.
    pub executed: u64,
    /// What came of it where something failed.
    pub trial: Option<TrialReport>,
    /// The digest of all that happened.
    pub trace_hash: String,
}
