use serde::{Deserialize, Serialize};

/// Where a site stands among the sites of its system, as one of its servers has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteReport {
    /// The system.
    pub system: String,
    /// The protocol among the sites.
    pub protocol: String,
    /// The view among the sites that the site is in, or moving to.
    pub view: u64,
    /// The site that leads it.
    pub leader: String,
    /// The last batch of the sites that was executed.
    pub executed: u64,
    /// How the site stands with each other one that it has spoken with.
    pub links: Vec<LinkReport>,
    /// Whether the site lies to the others, because enough of its servers are told to betray them.
    pub is_taken_over: bool,
    /// Wrong shares of the site's signature that other servers have sent to this one.
    pub wrong_shares: u64,
    /// Servers of the system, this one included.
    pub servers: usize,
    /// Other servers of the system that are connected.
    pub connected: usize,
    /// Frames sent to other servers of the system, beside those of the group.
    pub sent_frames: u64,
    /// Bytes in these.
    pub sent_bytes: u64,
    /// Frames received from them.
    pub received_frames: u64,
    /// Bytes in these.
    pub received_bytes: u64,
}

/// How a site stands with another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkReport {
    /// The other site.
    pub site: String,
    /// How many virtual links to it had their turn before the present one.
    pub turn: u64,
    /// The server of this site that sends.
    pub forwarder: u16,
    /// The server of the other site that receives.
    pub peer: u16,
    /// How many times its timeout a virtual link gets now.
    pub patience: u32,
    /// Up to which number the other site has acknowledged what was said.
    pub acknowledged: u64,
    /// Messages that are not acknowledged.
    pub unacknowledged: usize,
    /// Bytes in these.
    pub unacknowledged_bytes: u64,
    /// Up to which number this site has received what the other one said.
    pub received: u64,
}
