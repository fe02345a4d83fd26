use crate::spec::problem::Problem;
use althing_replica::Durability;
use althing_types::{FaultModel, Quorums, QuorumsError, ReplicaId, SiteId};
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// A system of sites that has passed every rule of the spec file.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteSystem {
    pub(super) name: String,
    pub(super) service: SiteService,
    pub(super) wide: ReplicationProtocol,
    pub(super) quorums: Quorums,
    pub(super) sites: Vec<SiteSpec>,
    pub(super) links: LinkSpec,
    pub(super) updates: Updates,
    pub(super) durability: Durability,
    pub(super) warnings: Vec<Problem>,
}

impl SiteSystem {
    /// The system's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the sites replicate.
    #[must_use]
    pub fn service(&self) -> SiteService {
        self.service
    }

    /// The protocol among the sites.
    #[must_use]
    pub fn wide(&self) -> ReplicationProtocol {
        self.wide
    }

    /// The quorums of sites.
    #[must_use]
    pub fn quorums(&self) -> Quorums {
        self.quorums
    }

    /// The sites, in the order of the file: the first one is [`SiteId`] 0.
    #[must_use]
    pub fn sites(&self) -> &[SiteSpec] {
        &self.sites
    }

    /// A site and its id by its name.
    #[must_use]
    pub fn site(&self, name: &str) -> Option<(SiteId, &SiteSpec)> {
        (0u16..).map(SiteId).zip(&self.sites).find(|(_, site)| site.name == name)
    }

    /// What is imposed on the links between sites.
    #[must_use]
    pub fn links(&self) -> LinkSpec {
        self.links
    }

    /// Who carries the updates of a site's clients to the other sites.
    #[must_use]
    pub fn updates(&self) -> Updates {
        self.updates
    }

    /// What an acknowledged update survives in each site.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// What is allowed but probably not meant.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }
}

/// A site as the spec file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteSpec {
    pub(super) name: String,
    pub(super) local: ReplicationProtocol,
    pub(super) quorums: Quorums,
}

impl SiteSpec {
    /// The site's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The protocol among its servers.
    #[must_use]
    pub fn local(&self) -> ReplicationProtocol {
        self.local
    }

    /// The quorums of its servers.
    #[must_use]
    pub fn quorums(&self) -> Quorums {
        self.quorums
    }

    /// The name of one of its servers, and of the process that it is.
    #[must_use]
    pub fn server_name(&self, server: ReplicaId) -> String {
        format!("{}-{}", self.name, server.0)
    }
}

/// A replication protocol, at either level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicationProtocol {
    /// Practical Byzantine Fault Tolerance: of 3f + 1, f may do anything.
    Pbft,
    /// Paxos: of 2f + 1, f may crash, and none lies.
    Paxos,
}

impl ReplicationProtocol {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Pbft, Self::Paxos];

    /// Its name in the spec file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pbft => "pbft",
            Self::Paxos => "paxos",
        }
    }

    /// The faults that it tolerates.
    #[must_use]
    pub fn faults(self) -> FaultModel {
        match self {
            Self::Pbft => FaultModel::Byzantine,
            Self::Paxos => FaultModel::Crash,
        }
    }

    /// The quorums of `n` that run it, of which `f` may be faulty.
    ///
    /// # Errors
    /// Where there are too few for that, or too many.
    pub fn quorums(self, n: usize, f: usize) -> Result<Quorums, QuorumsError> {
        match self.faults() {
            FaultModel::Byzantine => Quorums::byzantine(n, f),
            FaultModel::Crash => Quorums::crash(n, f),
        }
    }

    /// The fewest that tolerate `f` faulty ones.
    #[must_use]
    pub fn least(self, f: usize) -> usize {
        match self.faults() {
            FaultModel::Byzantine => 3 * f + 1,
            FaultModel::Crash => 2 * f + 1,
        }
    }

    /// The most faulty ones that `n` tolerate.
    #[must_use]
    pub fn most_faulty(self, n: usize) -> usize {
        match self.faults() {
            FaultModel::Byzantine => n.saturating_sub(1) / 3,
            FaultModel::Crash => n.saturating_sub(1) / 2,
        }
    }
}

impl fmt::Display for ReplicationProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A service that sites replicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SiteService {
    /// The key-value store.
    Kv,
}

impl SiteService {
    /// All there are.
    pub const ALL: [Self; 1] = [Self::Kv];

    /// Its name in the spec file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kv => "kv",
        }
    }
}

/// Who carries the updates of a site's clients to the other sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Updates {
    /// Each site those of its own clients; the leading site orders them by name.
    #[default]
    Origin,
    /// The same without the clients' signatures, which only their own site checks: it answers for them. A site that is
    /// taken over as a whole can invent updates of its own clients.
    Vouched,
    /// The leading site all of them (SRDS'07 §4).
    Leader,
}

impl Updates {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Origin, Self::Vouched, Self::Leader];

    /// Its name in the spec file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Vouched => "vouched",
            Self::Leader => "leader",
        }
    }
}

/// What is imposed on the links between sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct LinkSpec {
    pub(super) delay_ms: u64,
    pub(super) uplink_bps: Option<u64>,
}

impl LinkSpec {
    /// How long what a site sends is under way to another at least.
    #[must_use]
    pub fn delay(self) -> Duration {
        Duration::from_millis(self.delay_ms)
    }

    /// What a site can send to all other sites together, in bits a second; `None` for whatever the network takes.
    #[must_use]
    pub fn uplink_bps(self) -> Option<u64> {
        self.uplink_bps
    }

    /// Whether anything is imposed at all.
    #[must_use]
    pub fn is_imposed(self) -> bool {
        self != Self::default()
    }
}
