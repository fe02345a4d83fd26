use super::config::SitesConfig;
use crate::report::Failure;
use serde::Serialize;

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SitesReport {
    /// What was run.
    pub config: SitesConfig,
    /// The digest of all events, in hexadecimal: equal for equal runs.
    pub trace_hash: String,
    /// Events delivered.
    pub events: u64,
    /// How long the run took in virtual time, in milliseconds.
    pub virtual_time_ms: u64,
    /// How much of that came after the faults had ended, in milliseconds.
    pub recovery_ms: u64,
    /// Updates of clients of correct sites that completed.
    pub updates: u64,
    /// How long such an update took on average, in microseconds.
    pub mean_latency_us: u64,
    /// Bytes that left all sites.
    pub wide_area_bytes: u64,
    /// Messages that left all sites.
    pub wide_area_messages: u64,
    /// The oracle that was violated, if one was.
    pub failure: Option<Failure>,
}

impl SitesReport {
    /// Whether all oracles were content.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.failure.is_none()
    }
}
