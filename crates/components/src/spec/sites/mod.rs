//! Systems of sites in the spec file: each site is a group of servers that acts as one machine, and the
//! sites replicate a service among themselves. A file is such a system if it has `wide` or `sites`.

mod check;
mod raw;
mod system;

pub(super) use check::check;
pub(super) use raw::RawSites;
pub use system::{LinkSpec, ReplicationProtocol, SiteService, SiteSpec, SiteSystem, Updates};

/// The fewest sites of a system: three, of which one may crash.
pub const LEAST_SITES: usize = 3;

/// The most sites of a system.
pub const MAX_SITES: usize = 32;

/// The longest delay that a link can be given, one way, in milliseconds. Servers have 5 s to connect, which takes three
/// ways, and what they compute.
pub const MAX_DELAY_MS: i64 = 1000;

/// The lowest rate that a site's uplink can be given, in megabits a second. Over one that is lower the servers of a site do
/// not connect in time to all others.
pub const LEAST_MBPS: f64 = 0.1;

/// The highest rate that a site's uplink can be given, in megabits a second.
pub const MAX_MBPS: f64 = 100_000.0;
