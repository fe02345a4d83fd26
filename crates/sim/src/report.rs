use crate::config::SimConfig;
use serde::Serialize;
use std::collections::BTreeMap;

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunReport {
    /// What was run.
    pub config: SimConfig,
    /// The digest of all events, in hexadecimal: equal for equal runs.
    pub trace_hash: String,
    /// Events delivered.
    pub events: u64,
    /// How long the run took in virtual time, in milliseconds.
    pub virtual_time_ms: u64,
    /// How much of that came after the faults had ended, in milliseconds.
    pub recovery_ms: u64,
    /// How often each kind of fault was injected.
    pub faults_injected: BTreeMap<&'static str, u64>,
    /// Operations of correct clients that completed.
    pub operations: u64,
    /// Those of them that were complete when the faults ended.
    pub operations_by_healing: u64,
    /// How many that would have been without faults, where clients are held to a share of them.
    pub operations_undisturbed: Option<u64>,
    /// Views above the first that correct replicas entered, counted once each.
    pub view_changes: u64,
    /// State transfers that correct replicas completed.
    pub state_transfers: u64,
    /// How often correct replicas accused faulty ones, by what of.
    pub evidence: BTreeMap<&'static str, u64>,
    /// The oracle that was violated, if one was.
    pub failure: Option<Failure>,
}

/// What should have held in a run and did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Which oracle found it.
    pub oracle: &'static str,
    /// What it found.
    pub message: String,
    /// The last events before it, oldest first.
    pub trace_tail: Vec<String>,
}

impl RunReport {
    /// Whether all oracles were content.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.failure.is_none()
    }
}
