use serde::{Deserialize, Serialize};

/// Some of the links between sites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LinkSelection {
    /// What one site sends to another.
    Pair {
        /// The site that sends.
        from: String,
        /// The site that receives.
        to: String,
    },
    /// What a site sends and receives.
    Site {
        /// The site.
        site: String,
    },
    /// All.
    All,
}

/// How a link between sites can be made faulty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LinkFault {
    /// It is as it should be.
    #[default]
    None,
    /// Nothing arrives, and nobody is told.
    Cut,
    /// It takes longer, and carries less.
    Slow {
        /// By so many milliseconds longer.
        delay_ms: u64,
        /// So many bits a second, if that is less than the uplink has.
        #[serde(default)]
        bps: Option<u64>,
    },
    /// Bits are flipped on the way.
    Corrupt {
        /// One in so many of a thousand packets of up to 1500 bytes.
        per_mille: u16,
    },
}

/// Where the links between sites stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinksReport {
    /// The process's name.
    pub name: String,
    /// Its operating system id.
    pub pid: u32,
    /// The system.
    pub system: String,
    /// How long what a site sends is under way, in milliseconds.
    pub delay_ms: u64,
    /// What a site can send, in bits a second, if that is limited.
    pub uplink_bps: Option<u64>,
    /// The uplinks of the sites.
    pub uplinks: Vec<UplinkReport>,
    /// From each site to each other.
    pub pairs: Vec<PairReport>,
}

/// Where a site's uplink stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkReport {
    /// The site.
    pub site: String,
    /// How long what waits for it keeps it busy, in milliseconds.
    pub backlog_ms: u64,
}

/// Where the link from one site to another stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairReport {
    /// The site that sends.
    pub from: String,
    /// The site that receives.
    pub to: String,
    /// Connections that it is a direction of.
    pub connections: u64,
    /// Bytes that have arrived.
    pub delivered_bytes: u64,
    /// Bytes under way.
    pub held_bytes: u64,
    /// Packets in which a bit was flipped.
    pub corrupted: u64,
    /// The fault that it was told to have.
    pub fault: LinkFault,
}
