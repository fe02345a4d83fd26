//! Load on a group, from processes of its own: what clients cost is measured apart from what replicas
//! cost, and one process does not bound what is offered.

mod clock;
mod generator;
mod observed;
mod process;
mod processes;
mod schedule;
mod workload;

#[cfg(test)]
mod honesty_tests;

pub(super) use clock::{monotonic_ns, sleep_until};
pub(super) use observed::{Gap, Observed, Window};
pub(crate) use process::RunLoad;
pub(super) use processes::LoadProcesses;
pub(super) use schedule::Arrivals;
pub(super) use workload::{ServiceKind, Workload};

use schedule::Part;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a load process is told before anything else.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Role {
    /// Its clients, the first of which are used.
    pub(super) client_files: Vec<PathBuf>,
    pub(super) workload: Workload,
    /// How long an operation may take before it has failed.
    pub(super) timeout_ms: u64,
    pub(super) seed: u64,
    /// Which of how many load processes of the group it is.
    pub(super) index: u32,
    pub(super) of: u32,
}

impl Role {
    fn part(&self) -> Part {
        Part { index: self.index, of: self.of }
    }
}

/// How operations are offered.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "loop", rename_all = "snake_case")]
pub(super) enum Load {
    /// Each client sends its next operation when its last is answered.
    Closed {
        /// Clients.
        clients: usize,
    },
    /// Operations are due at times fixed in advance.
    Open {
        /// Clients, each with one operation under way: what is due on top waits.
        clients: usize,
        /// Operations that are due in a second.
        offered_per_second: f64,
        arrivals: Arrivals,
    },
}

impl Load {
    pub(super) fn clients(&self) -> usize {
        match self {
            Self::Closed { clients } | Self::Open { clients, .. } => *clients,
        }
    }
}

/// What a load process is asked for, one JSON line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
enum Order {
    /// The first: what it is there for. It writes the keys that reads will find.
    Begin(Box<Role>),
    /// Connects so many of its clients with all replicas.
    Connect { clients: usize },
    /// Runs those, and disconnects them.
    Run { load: Load, window: Window },
}

/// What it answers, one JSON line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
enum Answer {
    Done,
    Observed(Box<Observed>),
    Failed { reason: String },
}
