use super::costs::CostTable;
use super::trial::LinkTrial;
use crate::sites::LevelProtocol;
use althing_types::SiteId;
use serde::Serialize;
use std::time::Duration;

/// How the updates of a site's clients get to the other sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Carriage {
    /// By way of the leading site, one wide-area message an update: the paper's.
    Leader,
    /// Each site sends those of its own clients to all, in bundles, with their signatures.
    Origin,
    /// The same without the clients' signatures: the site answers for them.
    Vouched,
}

/// Sites as logical machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Composition {
    /// What runs among the sites.
    pub wide: LevelProtocol,
    /// What runs in each.
    pub local: LevelProtocol,
    /// Who carries updates.
    pub carriage: Carriage,
}

/// What replicates the updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// Ours.
    Sites(Composition),
    /// A model of the one that the paper compares itself with.
    Steward,
    /// The same, but what a site says at once goes to another in packets, as ours does.
    PackedSteward,
}

/// One experiment.
#[derive(Debug, Clone, Serialize)]
pub struct WanConfig {
    /// What replicates.
    pub system: System,
    /// Whether a site orders all that waits at once, and signs all that it then says with one signature (SRDS'07 §6).
    pub is_optimised: bool,
    /// How long a message takes from any site to any other, once it has left.
    pub diameter: Duration,
    /// What leaves a site, in bits a second.
    pub uplink_bits_per_s: u64,
    /// How many sites there are.
    pub sites: u16,
    /// How many servers each has.
    pub servers: usize,
    /// What a client wants executed, in bytes.
    pub update_bytes: usize,
    /// How many clients there are, spread evenly over the sites. Each waits for the answer to an update before it
    /// makes the next.
    pub clients: u64,
    /// What cryptography costs.
    pub costs: CostTable,
    /// How many processors each server has. With more than one it checks ahead what other sites have signed, while its site
    /// orders that.
    pub processors: usize,
    /// How long a message takes within a site.
    pub lan_delay: Duration,
    /// How long the system runs before it is measured.
    pub warm_up: Duration,
    /// How long it is measured.
    pub measured: Duration,
    /// Where chance is needed: when clients start.
    pub seed: u64,
    /// What fails. Where there is nothing one outpost stands for all that a site has, and no link is ever given up.
    pub trial: Option<LinkTrial>,
}

impl WanConfig {
    /// The paper's network and sites: 5 sites of 16 servers, 10 Mbps out of each, 50 ms between any two, updates of 200
    /// bytes, its cost table, and everything optimised.
    #[must_use]
    pub fn new(system: System, clients: u64) -> Self {
        Self {
            system,
            is_optimised: true,
            diameter: Duration::from_millis(50),
            uplink_bits_per_s: 10_000_000,
            sites: 5,
            servers: 16,
            update_bytes: 200,
            clients,
            costs: CostTable::paper(),
            processors: 1,
            lan_delay: Duration::from_micros(100),
            warm_up: Duration::from_secs(4),
            measured: Duration::from_secs(10),
            seed: 1,
            trial: None,
        }
    }

    /// In which site a client lives.
    pub(super) fn home(&self, index: u64) -> SiteId {
        SiteId(u16::try_from(index % u64::from(self.sites)).expect("sites are few"))
    }
}
