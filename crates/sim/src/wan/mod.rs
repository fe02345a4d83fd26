//! The wide-area experiments of Amir, Coan, Kirsch and Lane, "Customizable Fault Tolerance for Wide-Area
//! Replication", SRDS'07 §7, in virtual time.
//!
//! As in the paper one machine does the work of a whole site. What the sites say to each other, sign, carry and
//! order is the production code: one real [`LogicalMachine`](althing_wide::LogicalMachine) and one real
//! [`Outpost`](althing_wide::Outpost) a site, or one for each of its servers where virtual links are to fail. What
//! happens inside a site is a model: its protocol's rounds and all signatures take the time that a [`CostTable`]
//! says, on the one processor of the server that has most to do. Steward is a model as a whole.

mod config;
mod costs;
mod cpu;
mod links;
mod meter;
mod report;
mod rounds;
mod site;
mod steward;
mod tally;
mod trial;
mod world;

pub use config::{Carriage, Composition, System, WanConfig};
pub use costs::{CostTable, MessageCosts, SchemeCosts};
pub use links::{LinkFigures, SiteKind, link_figures};
pub use report::{Latency, WanReport};
pub use rounds::{Rounds, rounds};
pub use trial::{LinkFault, LinkTrial, TrialReport};

use crate::sites::LevelProtocol;
use althing_protocol::paxos::Paxos;
use althing_protocol::pbft::Pbft;

/// Runs one experiment to its end. The same configuration gives the same report.
///
/// # Panics
/// Where sites disagree, or the production code breaks a promise: then no figure would mean anything.
#[must_use]
pub fn run(config: &WanConfig) -> WanReport {
    match config.system {
        System::Steward | System::PackedSteward => steward::Steward::new(config).run(),
        System::Sites(composition) => match composition.wide {
            LevelProtocol::Pbft => world::World::<Pbft>::new(config, composition).run(),
            LevelProtocol::Paxos => world::World::<Paxos>::new(config, composition).run(),
        },
    }
}
