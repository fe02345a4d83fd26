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
mod keys;
mod network;
mod oracle;
mod plan;
mod queue;
mod report;
mod rogue;
mod script;
mod subject;
mod trace;
mod witness;
mod workload;
mod world;

pub use config::{Family, ProtocolKind, SimConfig, UnknownFamily};
pub use report::{Failure, RunReport};

/// Runs one simulation to its end.
#[must_use]
pub fn run(config: &SimConfig) -> RunReport {
    match config.protocol {
        ProtocolKind::Pbft => world::simulate(&subject::Genuine, config),
    }
}
