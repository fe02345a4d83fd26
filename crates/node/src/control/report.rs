use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::call::Fault;
use super::links::LinksReport;
use super::site_report::SiteReport;
use crate::config::{RawEngine, RawSettings};

/// Where a process stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "runs", rename_all = "snake_case")]
pub enum Status {
    /// A replica.
    Replica(ReplicaReport),
    /// The edge.
    Edge(EdgeReport),
    /// The links between sites.
    Links(LinksReport),
}

/// What part a replica plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It leads its view.
    Primary,
    /// It follows.
    Backup,
    /// It lost its disk and does not vote until that is safe.
    Learner,
    /// It is new and asks the others where to begin.
    Joining,
    /// It has left the group, and shows others the way.
    Retired,
    /// It agrees, leads its view in its turn, and executes nothing.
    Witness,
}

/// Where a replica stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaReport {
    /// The process's name.
    pub name: String,
    /// Its operating system id.
    pub pid: u32,
    /// The group.
    pub group: String,
    /// Which replica.
    pub replica: u16,
    /// The epoch in which it is that: how often the members had changed before.
    #[serde(default)]
    pub epoch: u64,
    /// What the group runs in that epoch, and how; `None` where nothing is replicated.
    #[serde(default)]
    pub settings: Option<Box<RawSettings>>,
    /// How many requests it takes, and which.
    #[serde(default)]
    pub engine: RawEngine,
    /// Replicas in the group.
    pub n: usize,
    /// Replicas that may be faulty.
    pub f: usize,
    /// What part it plays.
    pub role: Role,
    /// The view that it is in, or moving to.
    pub view: u64,
    /// Whether that view has started here.
    pub is_in_view: bool,
    /// The view's primary.
    pub primary: u16,
    /// The last batch executed.
    pub executed: u64,
    /// The last stable checkpoint.
    pub stable: u64,
    /// Whether it votes.
    pub is_voting: bool,
    /// Whether it is fetching the state.
    pub is_transferring: bool,
    /// Clients that have had a request executed.
    pub clients: u32,
    /// Requests accepted and not yet executed.
    pub outstanding: usize,
    /// Members of the group that are connected.
    pub connected: Vec<String>,
    /// The fault that it was told to have.
    pub fault: Fault,
    /// Its last recovery, if this process is the one that came of it.
    #[serde(default)]
    pub recovery: Option<RecoveryReport>,
    /// The longest time in which no more replicas may be taken over than are tolerated, if they recover in
    /// turn: from one recovery to the end of the next, and until nobody believes keys that were copied
    /// before, in milliseconds.
    #[serde(default)]
    pub vulnerable_ms: Option<u64>,
    /// What others were caught at, the latest last; bounded.
    pub evidence: Vec<EvidenceReport>,
    /// Counters since the process started.
    pub counters: Box<ReplicaCounters>,
    /// What the service says about itself.
    pub service: Value,
    /// Where its site stands among the others, if the group is a site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<Box<SiteReport>>,
}

/// A recovery in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryReport {
    /// When the process before this one ended for it, in nanoseconds since the Unix epoch.
    pub began_ns: u64,
    /// How long it took until the replica voted again.
    pub silent_ms: u64,
    /// How long it took until nothing that it may have said before could matter any more.
    pub took_ms: u64,
}

/// Who can be accused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accused {
    /// A replica of the group.
    #[default]
    Replica,
    /// A site of the system that the group is a site of.
    Site,
}

/// That a replica, or a site, broke the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceReport {
    /// Who did it.
    pub accused: u16,
    /// Who that is.
    #[serde(default)]
    pub of: Accused,
    /// What it did.
    pub misbehaviour: String,
    /// Whether the proof convinces those who did not see it.
    pub is_transferable: bool,
    /// When it was seen, in nanoseconds since the Unix epoch.
    pub seen_ns: u64,
}

/// Counters of a replica since its process started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaCounters {
    /// Batches executed.
    pub batches: u64,
    /// Requests executed.
    pub requests: u64,
    /// Views entered.
    pub views_entered: u64,
    /// Views left.
    pub views_left: u64,
    /// State transfers completed.
    pub transfers: u64,
    /// State fetched in them, in bytes.
    pub transferred_bytes: u64,
    /// Times that its own state was found to differ from that of the others.
    pub divergences: u64,
    /// Keys that it has taken.
    pub keys_refreshed: u64,
    /// New keys of others that it has learnt of.
    pub keys_learned: u64,
    /// Frames that were not let in.
    pub refused_frames: u64,
    /// Events emitted.
    pub emissions: u64,
    /// Records written to disk.
    pub records: u64,
    /// Times that the whole log was replaced.
    pub rewrites: u64,
    /// Frames sent.
    pub sent_frames: u64,
    /// Bytes in these.
    pub sent_bytes: u64,
    /// Frames received.
    pub received_frames: u64,
    /// Bytes in these.
    pub received_bytes: u64,
    /// Frames dropped because a queue was full or nobody connected.
    pub dropped_frames: u64,
    /// Connections refused.
    pub refused_connections: u64,
}

/// Where the edge stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeReport {
    /// The process's name.
    pub name: String,
    /// Its operating system id.
    pub pid: u32,
    /// The application.
    pub application: String,
    /// Where the broker is.
    pub broker: String,
    /// Whether the edge runs it itself.
    pub is_broker_embedded: bool,
    /// The groups with wires that have MQTT ends.
    pub groups: Vec<EdgeGroupReport>,
}

/// Where the edge stands with one group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeGroupReport {
    /// The group.
    pub group: String,
    /// Replicas connected.
    pub connected: usize,
    /// Wires from MQTT.
    pub incoming: Vec<IncomingReport>,
    /// Wires to MQTT.
    pub outgoing: Vec<OutgoingReport>,
}

/// A wire from MQTT.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncomingReport {
    /// The wire.
    pub wire: u32,
    /// The topic filter.
    pub topic: String,
    /// Whether the broker is connected.
    pub is_connected: bool,
    /// Messages received.
    pub received: u64,
    /// Messages that the group has accepted.
    pub accepted: u64,
    /// Messages refused: no value of the port's type.
    pub refused: u64,
    /// Why the last one was.
    pub last_refusal: Option<String>,
    /// Messages that the broker sent again and that were recognised.
    pub duplicates: u64,
    /// Messages of quality of service 0 that were dropped under overload.
    pub dropped: u64,
}

/// A wire to MQTT.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutgoingReport {
    /// The wire.
    pub wire: u32,
    /// The topic.
    pub topic: String,
    /// The last event that enough replicas agree on.
    pub agreed: u64,
    /// The last event that the broker has taken.
    pub published: u64,
    /// The last event that the group knows to be published.
    pub acknowledged: u64,
    /// For how many events each replica has sent something else than was agreed on.
    pub disagreements: Vec<u64>,
    /// How often each replica has sent two values for one event.
    pub equivocations: Vec<u64>,
    /// Emissions that broke the protocol.
    pub refused: u64,
}
