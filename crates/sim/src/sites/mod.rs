//! Systems of sites: whole compositions under virtual time, with faults at both levels at once.

mod config;
mod host;
mod keys;
mod plan;
mod report;
mod server;
mod uplinks;
mod world;

pub use config::{
    Composition, LocalGroup, SitesConfig, SitesFamily, SitesPlanted, UnknownComposition, UnknownSitesFamily,
};
pub use report::SitesReport;
pub use world::simulate;
