use crate::blink::LinkConfig;
use alloc::sync::Arc;
use althing_crypto::site::{SiteKeys, SiteSigner};
use althing_types::ReplicaId;
use core::time::Duration;

/// What an outpost has to know from the start.
#[derive(Clone)]
pub struct OutpostConfig {
    /// Which site it belongs to, and what the links go by.
    pub links: LinkConfig,
    /// Beside which server.
    pub server: ReplicaId,
    /// How it signs with the other servers of the site.
    pub signer: Arc<dyn SiteSigner>,
    /// The public keys of all sites: those of the machine beside it ([`MachineConfig::keys`](crate::MachineConfig)), so
    /// that what comes is checked once by a server, and not again when it is executed.
    pub keys: SiteKeys,
    /// How often what may have been lost is asked for or sent again.
    pub tick: Duration,
    /// How many bytes may be under way to a site.
    pub window_bytes: u64,
    /// How many bytes a second this server gives of the site's state at most, to all servers of other sites together: the
    /// sites that ask share it, and of a site those servers that do.
    pub supply_bytes_per_second: u64,
    /// The longest operation that the site's group takes, in bytes. What comes from other sites and is longer is
    /// dropped.
    pub operation_bytes: usize,
    /// How many events it puts into one operation at most, at least one. The more there are the less each costs.
    pub events_at_once: usize,
}
