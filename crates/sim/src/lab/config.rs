use althing_protocol::Settings;
use althing_protocol::paxos::PaxosSettings;
use althing_protocol::pbft::PbftSettings;
use althing_protocol::zyzzyva::{Composition, ZyzzyvaSettings};
use althing_types::{Quorums, ReplicaId};
use serde::{Serialize, Serializer};
use std::time::Duration;

/// A protocol to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LabProtocol {
    /// One server that nothing backs.
    Unreplicated,
    /// Among replicas that crash and do not lie.
    Paxos,
    /// Practical Byzantine Fault Tolerance.
    Pbft,
    /// Speculative Byzantine fault tolerance.
    Speculative(Composition),
}

impl LabProtocol {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Unreplicated,
        Self::Paxos,
        Self::Pbft,
        Self::Speculative(Composition::Zyzzyva),
        Self::Speculative(Composition::Quorum),
        Self::Speculative(Composition::Chain),
        Self::Speculative(Composition::Aliph),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreplicated => "unreplicated",
            Self::Paxos => "paxos",
            Self::Pbft => "pbft",
            Self::Speculative(composition) => composition.name(),
        }
    }

    /// Which protocols take turns, for clients.
    #[must_use]
    pub(super) fn composition(self) -> Composition {
        match self {
            Self::Speculative(composition) => composition,
            Self::Unreplicated | Self::Paxos | Self::Pbft => Composition::Zyzzyva,
        }
    }

    /// What a group that runs it goes by, if such a group can come to run something else.
    #[must_use]
    pub fn settings(self) -> Option<Settings> {
        match self {
            Self::Unreplicated => None,
            Self::Paxos => Some(Settings::Paxos(PaxosSettings::default())),
            Self::Pbft => Some(Settings::Pbft(PbftSettings::default())),
            Self::Speculative(composition) => {
                Some(Settings::Zyzzyva(ZyzzyvaSettings { composition, ..ZyzzyvaSettings::default() }))
            }
        }
    }

    /// Whether there are replicas without which it goes on.
    #[must_use]
    pub fn has_backups(self) -> bool {
        self != Self::Unreplicated
    }
}

impl Serialize for LabProtocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What is wrong in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LabFault {
    /// Nothing.
    None,
    /// Nothing, but a message is under way for up to twice as long as another: what several clients send reaches
    /// replicas in different orders.
    UnevenLinks,
    /// As many replicas as are tolerated take ten times as long for everything, the first primary not among them.
    BackupSlow,
    /// As many replicas as are tolerated have been down all along, the first primary not among them.
    BackupDown,
    /// The first primary has been down all along.
    PrimaryDown,
}

impl LabFault {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::None, Self::UnevenLinks, Self::BackupSlow, Self::BackupDown, Self::PrimaryDown];

    /// Its name, in files and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::UnevenLinks => "uneven-links",
            Self::BackupSlow => "backup-slow",
            Self::BackupDown => "backup-down",
            Self::PrimaryDown => "primary-down",
        }
    }

    /// Whether it is one of a replica's, so that one server alone can't have it.
    #[must_use]
    pub fn is_of_replicas(self) -> bool {
        !matches!(self, Self::None | Self::UnevenLinks)
    }

    /// Who is up, and who of those is slow.
    pub(super) fn of(self, quorums: Quorums) -> (Vec<ReplicaId>, Vec<ReplicaId>) {
        let all: Vec<_> = quorums.replicas().collect();
        let (others, last) = all.split_at(all.len() - quorums.f());
        match self {
            Self::None | Self::UnevenLinks => (all, Vec::new()),
            Self::BackupSlow => (all.clone(), last.to_vec()),
            Self::BackupDown => (others.to_vec(), Vec::new()),
            Self::PrimaryDown => (all[1..].to_vec(), Vec::new()),
        }
    }
}

impl Serialize for LabFault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabConfig {
    /// What is run, with its default settings, and nothing on disk.
    pub protocol: LabProtocol,
    /// How many faulty replicas are tolerated, by as few replicas as can.
    pub f: usize,
    /// Clients, each with one request under way at a time, and a machine of its own.
    pub clients: u64,
    /// How long an operation is.
    pub request_bytes: usize,
    /// How long a result is.
    pub reply_bytes: usize,
    /// What is wrong.
    pub fault: LabFault,
    /// How long a message is under way between two machines.
    pub delay: Duration,
    /// What each replica's link carries out of its machine in a second, in bits.
    pub bits_per_s: u64,
    /// How long a replica's core is busy with each frame that it sends or takes, beside handling it.
    pub frame_cost: Duration,
    /// How long the group runs as it goes on before it is measured.
    pub warm_up: Duration,
    /// How long it is measured.
    pub measured: Duration,
}

impl LabConfig {
    /// What clients and replicas of the default settings wait, one after the other, for a primary that is down, and
    /// some more.
    const NOTICED_WITHIN: Duration = Duration::from_millis(2500);

    /// A group that tolerates a fault, on a local network, under so many clients.
    #[must_use]
    pub fn new(protocol: LabProtocol, clients: u64) -> Self {
        Self {
            protocol,
            f: 1,
            clients,
            request_bytes: 0,
            reply_bytes: 0,
            fault: LabFault::None,
            delay: Duration::from_micros(50),
            bits_per_s: 10_000_000_000,
            frame_cost: Duration::from_micros(2),
            warm_up: Duration::from_millis(200),
            measured: Duration::from_secs(1),
        }
    }

    /// When it begins to be measured, from its start: once the group has done about the fault what it can.
    #[must_use]
    pub(super) fn measured_from(&self) -> Duration {
        self.warm_up + if self.fault == LabFault::None { Duration::ZERO } else { Self::NOTICED_WITHIN }
    }

    /// The group's quorums.
    ///
    /// # Panics
    /// If it is larger than a group may be.
    #[must_use]
    pub fn quorums(&self) -> Quorums {
        let quorums = match self.protocol {
            LabProtocol::Unreplicated => Quorums::byzantine(1, 0),
            LabProtocol::Paxos => Quorums::crash(2 * self.f + 1, self.f),
            LabProtocol::Pbft | LabProtocol::Speculative(_) => Quorums::byzantine(3 * self.f + 1, self.f),
        };
        quorums.expect("groups are smaller")
    }
}

/// A run in which the group goes over to another protocol.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SwitchConfig {
    /// The group, with 3f + 1 replicas whatever it runs, and the load on it. The command is given in the middle of the
    /// time for which it is measured.
    pub group: LabConfig,
    /// What it comes to run, with its default settings.
    pub to: LabProtocol,
}

impl SwitchConfig {
    /// Each protocol that can be left with each that can follow, other than itself.
    pub fn pairs() -> impl Iterator<Item = (LabProtocol, LabProtocol)> {
        let all = || LabProtocol::ALL.into_iter().filter(|protocol| protocol.settings().is_some());
        all().flat_map(move |from| all().filter(move |to| *to != from).map(move |to| (from, to)))
    }
}

/// What a switch has cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SwitchReport {
    /// How long the command took, in milliseconds.
    pub answered_ms: f64,
    /// How long after the command the last replica ran the other protocol, in milliseconds.
    pub entered_ms: f64,
    /// The longest time in which no operation was completed, in milliseconds.
    pub pause_ms: f64,
    /// Operations that took longer than any did before the command, or some time after the switch.
    pub stalled: u64,
    /// What the slowest operation took meanwhile, in milliseconds.
    pub slowest_ms: f64,
    /// What the slowest one took before and afterwards, in milliseconds.
    pub usual_slowest_ms: f64,
}

/// How long clients waited.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LabLatency {
    /// The mean, in microseconds.
    pub mean_us: f64,
    /// The median, in microseconds.
    pub median_us: f64,
    /// The 99th percentile, in microseconds.
    pub p99_us: f64,
}

/// What a run has shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabReport {
    /// Operations completed while it was measured.
    pub operations: u64,
    /// The same in a second.
    pub operations_per_s: f64,
    /// How long they took; `None` where there were none.
    pub latency: Option<LabLatency>,
    /// Which share of the time the busiest replica's core worked.
    pub busiest_core: f64,
    /// How long the cores of all replicas worked for an operation, in microseconds.
    pub core_us_per_operation: f64,
    /// Frames that replicas sent for an operation.
    pub frames_per_operation: f64,
    /// The last view that a replica entered.
    pub last_view: u64,
}
