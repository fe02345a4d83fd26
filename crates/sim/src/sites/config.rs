use serde::Serialize;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// What orders events at one level of a system of sites: among the sites, or in one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LevelProtocol {
    /// Practical Byzantine Fault Tolerance.
    Pbft,
    /// Paxos, among sites or servers that only crash.
    Paxos,
}

/// Who runs what: a wide-area protocol, and one in each site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Composition {
    /// Among the sites.
    pub wide: LevelProtocol,
    /// In each site, by id.
    pub sites: Vec<LocalGroup>,
}

/// The group of servers of one site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LocalGroup {
    /// What orders events there.
    pub protocol: LevelProtocol,
    /// How many servers it has.
    pub servers: usize,
}

impl Composition {
    /// So many sites, all alike.
    #[must_use]
    pub fn uniform(wide: LevelProtocol, sites: usize, protocol: LevelProtocol, servers: usize) -> Self {
        Self { wide, sites: vec![LocalGroup { protocol, servers }; sites] }
    }
}

/// `wide/local`, as in `paxos/pbft`: the smallest such system that tolerates a fault at each level. `wide/mixed` has
/// sites of different kinds and sizes.
impl FromStr for Composition {
    type Err = UnknownComposition;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        use LevelProtocol::{Paxos, Pbft};
        let unknown = || UnknownComposition { name: name.to_owned() };
        let (wide, local) = name.split_once('/').ok_or_else(unknown)?;
        let (wide, sites) = match wide {
            "pbft" => (Pbft, 4),
            "paxos" => (Paxos, 3),
            _ => return Err(unknown()),
        };
        Ok(match local {
            "pbft" => Self::uniform(wide, sites, Pbft, 4),
            "paxos" => Self::uniform(wide, sites, Paxos, 3),
            "mixed" => {
                let kinds = [(Pbft, 4), (Paxos, 3), (Pbft, 7), (Paxos, 5)].into_iter().cycle().take(sites);
                Self {
                    wide,
                    sites: kinds.map(|(protocol, servers)| LocalGroup { protocol, servers }).collect(),
                }
            }
            _ => return Err(unknown()),
        })
    }
}

/// A name that is none of a composition.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{name:?} is no composition; there are pbft/pbft, pbft/paxos, pbft/mixed, paxos/pbft, paxos/paxos and paxos/mixed"
)]
pub struct UnknownComposition {
    /// The name.
    pub name: String,
}

/// What goes wrong in a run of a system of sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SitesFamily {
    /// Nothing.
    Calm,
    /// In each site as many servers are faulty as it tolerates: they keep silent as forwarders and peers, send
    /// wrong shares, or lie in the site's protocol.
    FaultyServers,
    /// The wide-area network loses, delays, duplicates and reorders.
    BadLinks,
    /// Sites are cut off from each other, in groups or alone, and come back.
    Partitions,
    /// As many sites as the system tolerates fail, the leading one first, and come back.
    SitesFail,
    /// As many sites as the system tolerates are wholly Byzantine.
    ByzantineSites,
    /// In as many sites more servers lie than the site tolerates, each in its own way or several together.
    OverrunSites,
    /// Servers are killed, or the power goes, at one of a site, at a whole site, or everywhere; they start again from
    /// their disks.
    Restarts,
    /// All of these.
    Chaos,
    /// Each site's administrator gives it other settings and another leader all the time, while servers are faulty and
    /// are killed.
    Reconfigure,
}

impl SitesFamily {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Calm,
        Self::FaultyServers,
        Self::BadLinks,
        Self::Partitions,
        Self::SitesFail,
        Self::ByzantineSites,
        Self::OverrunSites,
        Self::Restarts,
        Self::Chaos,
        Self::Reconfigure,
    ];

    /// Its name, as users know it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::FaultyServers => "faulty-servers",
            Self::BadLinks => "bad-links",
            Self::Partitions => "partitions",
            Self::SitesFail => "sites-fail",
            Self::ByzantineSites => "byzantine-sites",
            Self::OverrunSites => "overrun-sites",
            Self::Restarts => "restarts",
            Self::Chaos => "chaos",
            Self::Reconfigure => "reconfigure",
        }
    }
}

impl fmt::Display for SitesFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SitesFamily {
    type Err = UnknownSitesFamily;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|family| family.name() == name);
        known.ok_or_else(|| UnknownSitesFamily { name: name.to_owned() })
    }
}

/// A bug planted in a system of sites, to see that an oracle catches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SitesPlanted {
    /// A wide-area protocol that tolerates crashes runs although a site is Byzantine.
    Traitor,
    /// A server of each site goes by other settings than the rest.
    UnevenServers,
    /// What is not acknowledged is never sent again, and no virtual link is given up.
    NoSecondTry,
    /// What waits for long is not shown to all sites, while the one that leads takes no notice of one of them.
    NoRelay,
    /// A server acknowledges what is not on its disk.
    NoDisk,
    /// A site takes messages for malformed that are only long.
    ShortMessages,
    /// What servers put in order for their site does not follow that into another epoch.
    StuckLanes,
}

impl SitesPlanted {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Traitor,
        Self::UnevenServers,
        Self::NoSecondTry,
        Self::NoRelay,
        Self::NoDisk,
        Self::ShortMessages,
        Self::StuckLanes,
    ];

    /// The oracles of which one has to catch it.
    #[must_use]
    pub fn oracles(self) -> &'static [&'static str] {
        match self {
            Self::Traitor => &["agreement", "linearizability"],
            Self::UnevenServers => &["checkpoint"],
            Self::NoSecondTry | Self::NoRelay | Self::StuckLanes => &["liveness"],
            Self::ShortMessages => &["accusation"],
            Self::NoDisk => &["agreement", "linearizability", "checkpoint", "liveness"],
        }
    }

    /// A run in which it may show.
    #[must_use]
    pub fn config(self, seed: u64) -> SitesConfig {
        let (wide, family) = match self {
            Self::Traitor => (LevelProtocol::Paxos, SitesFamily::ByzantineSites),
            Self::UnevenServers | Self::NoRelay | Self::ShortMessages => {
                (LevelProtocol::Pbft, SitesFamily::Calm)
            }
            Self::NoSecondTry => (LevelProtocol::Pbft, SitesFamily::BadLinks),
            Self::NoDisk => (LevelProtocol::Pbft, SitesFamily::Restarts),
            Self::StuckLanes => (LevelProtocol::Pbft, SitesFamily::Reconfigure),
        };
        let sites = if wide == LevelProtocol::Paxos { 3 } else { 4 };
        SitesConfig {
            composition: Composition::uniform(wide, sites, LevelProtocol::Pbft, 4),
            is_disseminating: false,
            has_real_signatures: false,
            family,
            planted: Some(self),
            seed,
            trace_lines: 40,
        }
    }
}

/// A name that is none of a fault family of sites.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there is no fault family {name:?}; there are {}", SitesFamily::ALL.map(SitesFamily::name).join(", "))]
pub struct UnknownSitesFamily {
    /// The name.
    pub name: String,
}

/// One run. Equal configurations give equal runs, to the last event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SitesConfig {
    /// Who runs what.
    pub composition: Composition,
    /// Whether each site disseminates its own clients' updates; else the leading site does.
    pub is_disseminating: bool,
    /// What goes wrong.
    pub family: SitesFamily,
    /// Whether sites sign as they do outside of simulations; else by symbols, and a run takes far less time.
    pub has_real_signatures: bool,
    /// A bug that is planted in it, if one is.
    pub planted: Option<SitesPlanted>,
    /// What chance follows from.
    pub seed: u64,
    /// How many of the last events a failed run tells.
    pub trace_lines: usize,
}
