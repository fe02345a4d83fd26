//! Systems of sites: whole compositions under virtual time, with faults at both levels at once.

mod config;
mod host;
pub(crate) mod keys;
mod plan;
mod report;
mod server;
pub(crate) mod symbolic;
pub(crate) mod uplinks;
mod world;

pub use config::{
    Composition, LevelProtocol, LocalGroup, SitesConfig, SitesFamily, SitesPlanted, UnknownComposition,
    UnknownSitesFamily,
};
pub use report::SitesReport;
pub(crate) use server::{paxos_settings, quorums};
pub use world::simulate;
