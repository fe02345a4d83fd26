//! The deterministic simulator of Althing: the production code of replicas and clients under virtual
//! time, with a network, disks, clocks and adversaries that are as bad as the fault model allows, and
//! oracles that watch.
//!
//! A run is a function of its [`SimConfig`]: the same seed gives the same events and the same
//! [`RunReport::trace_hash`]. Nothing here knows threads; run seeds side by side by calling [`run`]
//! from several.
//!
//! ```
//! use althing_sim::{Family, SimConfig, run};
//!
//! let report = run(&SimConfig::new(Family::Equivocate, 4, 7));
//! assert!(report.is_success());
//! ```

mod adversary;
mod clock;
mod config;
mod dice;
mod disk;
mod fault;
mod host;
mod intruder;
mod keys;
pub mod lab;
mod medium;
mod network;
mod oracle;
mod plan;
mod planted;
mod queue;
mod report;
mod rogue;
mod script;
pub mod sites;
mod subject;
mod trace;
pub mod wan;
mod witness;
mod workload;
mod world;

/// The oracles that are of use outside of simulations too.
pub mod judge {
    pub use crate::oracle::{History, Verdict, Violation};
}

pub use config::{Family, ProtocolKind, SimConfig, UnknownFamily, Unsuited};
pub use planted::Planted;
pub use report::{Failure, RunReport};

/// Runs `seeds` of one family, and hands each report to `progress` as it comes; gives back those
/// that failed.
pub fn run_many(
    config: &SimConfig,
    seeds: impl IntoIterator<Item = u64>,
    mut progress: impl FnMut(&RunReport),
) -> Vec<RunReport> {
    let mut failed = Vec::new();
    for seed in seeds {
        let report = run(&SimConfig { seed, ..config.clone() });
        progress(&report);
        if !report.is_success() {
            failed.push(report);
        }
    }
    failed
}

/// Runs one simulation to its end.
#[must_use]
pub fn run(config: &SimConfig) -> RunReport {
    match config.protocol {
        _ if config.family.changes_members() => world::simulate(&subject::GenuineAny, config),
        ProtocolKind::Pbft => world::simulate(&subject::Genuine, config),
        ProtocolKind::Paxos => world::simulate(&subject::GenuinePaxos, config),
        ProtocolKind::Speculative(composition) => {
            world::simulate(&subject::GenuineZyzzyva(composition), config)
        }
    }
}
