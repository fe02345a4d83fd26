use std::time::Duration;

use althing_components::spec::ReplicationProtocol;
use althing_protocol::Settings;
use althing_protocol::paxos::PaxosSettings;
use althing_protocol::pbft::PbftSettings;
use althing_protocol::zyzzyva::{Composition, ZyzzyvaSettings};
use althing_types::{Quorums, QuorumsError, ReplicaId};
use serde::{Deserialize, Serialize};

/// The protocol that a group runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProtocolKind {
    /// Practical Byzantine Fault Tolerance.
    #[default]
    Pbft,
    /// Paxos, among replicas that crash and do not lie.
    Paxos,
    /// Speculative Byzantine fault tolerance.
    Zyzzyva,
    /// Quorum without contention and faults, and Backup else.
    Quorum,
    /// Chain without faults, and Backup else.
    Chain,
    /// Quorum, Chain under contention, and Backup where there are faults.
    Aliph,
    /// None: one server that nothing backs. What replication is measured against.
    Unreplicated,
}

impl ProtocolKind {
    /// Those that replicate.
    pub const REPLICATED: [Self; 6] =
        [Self::Pbft, Self::Paxos, Self::Zyzzyva, Self::Quorum, Self::Chain, Self::Aliph];

    /// Its name, in files and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pbft => "pbft",
            Self::Paxos => "paxos",
            Self::Zyzzyva => "zyzzyva",
            Self::Quorum => "quorum",
            Self::Chain => "chain",
            Self::Aliph => "aliph",
            Self::Unreplicated => "unreplicated",
        }
    }

    /// The quorums of a group of `n` that runs it and tolerates `f` faulty replicas.
    ///
    /// # Errors
    /// Where there are too few for that, or too many.
    pub fn quorums(self, n: usize, f: usize) -> Result<Quorums, QuorumsError> {
        match self {
            Self::Paxos => Quorums::crash(n, f),
            _ => Quorums::byzantine(n, f),
        }
    }

    /// The fewest replicas of a group that runs it and tolerates `f` faulty ones.
    #[must_use]
    pub fn least_replicas(self, f: usize) -> usize {
        match self {
            Self::Paxos => 2 * f + 1,
            _ => 3 * f + 1,
        }
    }

    /// Which protocols take turns, where replicas speculate.
    #[must_use]
    pub fn composition(self) -> Option<Composition> {
        match self {
            Self::Zyzzyva => Some(Composition::Zyzzyva),
            Self::Quorum => Some(Composition::Quorum),
            Self::Chain => Some(Composition::Chain),
            Self::Aliph => Some(Composition::Aliph),
            Self::Pbft | Self::Paxos | Self::Unreplicated => None,
        }
    }

    /// Whether the members of a group that runs it can change, and what it runs.
    #[must_use]
    pub fn has_successors(self) -> bool {
        Self::REPLICATED.contains(&self)
    }

    /// The most that may be faulty among `n` that run it.
    #[must_use]
    pub fn most_faults(self, n: usize) -> usize {
        n.saturating_sub(1) / (self.least_replicas(1) - 1)
    }
}

impl From<&Settings> for ProtocolKind {
    fn from(settings: &Settings) -> Self {
        match settings {
            Settings::Pbft(_) => Self::Pbft,
            Settings::Paxos(_) => Self::Paxos,
            Settings::Zyzzyva(settings) => match settings.composition {
                Composition::Zyzzyva => Self::Zyzzyva,
                Composition::Quorum => Self::Quorum,
                Composition::Chain => Self::Chain,
                Composition::Aliph => Self::Aliph,
            },
        }
    }
}

/// What a group has agreed on, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "protocol", rename_all = "snake_case")]
pub enum RawSettings {
    /// Of PBFT.
    Pbft(RawPbft),
    /// Of Paxos.
    Paxos(RawPaxos),
    /// Of Zyzzyva.
    Zyzzyva(RawZyzzyva),
    /// Of Quorum with Backup.
    Quorum(RawZyzzyva),
    /// Of Chain with Backup.
    Chain(RawZyzzyva),
    /// Of Aliph.
    Aliph(RawZyzzyva),
}

/// As far as whole milliseconds go.
impl From<&Settings> for RawSettings {
    fn from(settings: &Settings) -> Self {
        match settings {
            Settings::Pbft(settings) => Self::Pbft(settings.into()),
            Settings::Paxos(settings) => Self::Paxos(settings.into()),
            Settings::Zyzzyva(settings) => Self::speculative(settings.composition, settings.into()),
        }
    }
}

impl RawSettings {
    fn speculative(composition: Composition, raw: RawZyzzyva) -> Self {
        match composition {
            Composition::Zyzzyva => Self::Zyzzyva(raw),
            Composition::Quorum => Self::Quorum(raw),
            Composition::Chain => Self::Chain(raw),
            Composition::Aliph => Self::Aliph(raw),
        }
    }

    /// What is written, as the protocol takes it: not yet checked.
    #[must_use]
    pub fn settings(&self) -> Settings {
        match self {
            Self::Pbft(raw) => Settings::Pbft(raw.settings()),
            Self::Paxos(raw) => Settings::Paxos(raw.settings()),
            Self::Zyzzyva(raw) => Settings::Zyzzyva(raw.settings(Composition::Zyzzyva)),
            Self::Quorum(raw) => Settings::Zyzzyva(raw.settings(Composition::Quorum)),
            Self::Chain(raw) => Settings::Zyzzyva(raw.settings(Composition::Chain)),
            Self::Aliph(raw) => Settings::Zyzzyva(raw.settings(Composition::Aliph)),
        }
    }
}

/// As spec files name them.
impl From<ReplicationProtocol> for ProtocolKind {
    fn from(protocol: ReplicationProtocol) -> Self {
        match protocol {
            ReplicationProtocol::Pbft => Self::Pbft,
            ReplicationProtocol::Paxos => Self::Paxos,
        }
    }
}

/// Settings of PBFT as they are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawPbft {
    /// A checkpoint is made every so many sequence numbers.
    pub checkpoint_period: u64,
    /// How many sequence numbers above the stable checkpoint may be in use.
    pub log_size: u64,
    /// How many batches the primary may have under way.
    pub pipeline: u64,
    /// Whether requests gather into larger batches while many are under way.
    pub adaptive_batching: bool,
    /// How many requests are under way at least before others gather.
    pub gather_from: usize,
    /// The most requests in a batch.
    pub max_batch_requests: usize,
    /// The most bytes of operations in a batch.
    pub max_batch_bytes: usize,
    /// An operation of at least so many bytes goes from its client to all replicas, and is proposed by name;
    /// 0: none does.
    pub separate_bytes: usize,
    /// How long a replica waits for what it lacks of such a proposal before it asks for the whole; 0: not at all.
    pub separate_patience_ms: u64,
    /// A batch of up to so many requests is executed before it is decided.
    pub tentative_requests: usize,
    /// Whether a commit that nobody waits for leaves with the next message.
    pub piggyback_commits: bool,
    /// How long a request may wait before its replica gives up on the primary.
    pub view_timeout_ms: u64,
    /// How often a replica that waits tells the others where it stands.
    pub status_period_ms: u64,
    /// How far ahead of a backup's clock a batch's time may lie.
    pub max_clock_skew_ms: u64,
    /// How many times as long as the others take to agree the primary may take to propose; 0: only the view
    /// timeout holds it to anything.
    pub primary_slack: u32,
    /// How often another client may be served while one waits that has complained; 0: as often as it likes.
    pub primary_passes: u32,
    /// The numbers of the replicas that agree and do not execute, ascending.
    pub witnesses: Vec<u16>,
}

impl Default for RawPbft {
    fn default() -> Self {
        Self::from(&PbftSettings::default())
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// As far as whole milliseconds go.
impl From<&PbftSettings> for RawPbft {
    fn from(settings: &PbftSettings) -> Self {
        Self {
            checkpoint_period: settings.checkpoint_period,
            log_size: settings.log_size,
            pipeline: settings.pipeline,
            adaptive_batching: settings.adaptive_batching,
            gather_from: settings.gather_from,
            max_batch_requests: settings.max_batch_requests,
            max_batch_bytes: settings.max_batch_bytes,
            separate_bytes: settings.separate_bytes,
            separate_patience_ms: ms(settings.separate_patience),
            tentative_requests: settings.tentative_requests,
            piggyback_commits: settings.piggyback_commits,
            view_timeout_ms: ms(settings.view_timeout),
            status_period_ms: ms(settings.status_period),
            max_clock_skew_ms: ms(settings.max_clock_skew),
            primary_slack: settings.primary_slack,
            primary_passes: settings.primary_passes,
            witnesses: settings.witnesses.iter().map(|witness| witness.0).collect(),
        }
    }
}

impl RawPbft {
    /// What suits sites that are far apart: each message costs a signature of the site, and there is no pressure of
    /// single clients on the leading site.
    #[must_use]
    pub fn among_sites() -> Self {
        Self {
            checkpoint_period: 16,
            log_size: 64,
            pipeline: 4,
            max_batch_requests: 64,
            max_batch_bytes: 256 * 1024,
            separate_patience_ms: 500,
            tentative_requests: 0,
            piggyback_commits: false,
            view_timeout_ms: 5000,
            status_period_ms: 500,
            primary_slack: 0,
            primary_passes: 0,
            ..Self::default()
        }
    }

    /// What is written, as the protocol takes it: not yet checked.
    #[must_use]
    pub fn settings(&self) -> PbftSettings {
        PbftSettings {
            checkpoint_period: self.checkpoint_period,
            log_size: self.log_size,
            pipeline: self.pipeline,
            adaptive_batching: self.adaptive_batching,
            gather_from: self.gather_from,
            max_batch_requests: self.max_batch_requests,
            max_batch_bytes: self.max_batch_bytes,
            separate_bytes: self.separate_bytes,
            separate_patience: Duration::from_millis(self.separate_patience_ms),
            tentative_requests: self.tentative_requests,
            piggyback_commits: self.piggyback_commits,
            view_timeout: Duration::from_millis(self.view_timeout_ms),
            status_period: Duration::from_millis(self.status_period_ms),
            max_clock_skew: Duration::from_millis(self.max_clock_skew_ms),
            primary_slack: self.primary_slack,
            primary_passes: self.primary_passes,
            witnesses: self.witnesses.iter().copied().map(ReplicaId).collect(),
        }
    }
}

/// Settings of Paxos as they are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawPaxos {
    /// A checkpoint is made every so many sequence numbers.
    pub checkpoint_period: u64,
    /// How many sequence numbers above its stable checkpoint a leader may have in use.
    pub log_size: u64,
    /// How many batches the leader may have under way.
    pub pipeline: u64,
    /// Whether requests gather into larger batches while many are under way.
    pub adaptive_batching: bool,
    /// How many requests are under way at least before others gather.
    pub gather_from: usize,
    /// The most requests in a batch.
    pub max_batch_requests: usize,
    /// The most bytes of operations in a batch.
    pub max_batch_bytes: usize,
    /// An operation of at least so many bytes goes from its client to all replicas, and is proposed by name;
    /// 0: none does.
    pub separate_bytes: usize,
    /// How long a replica waits for what it lacks of such a proposal before it asks for the whole; 0: not at all.
    pub separate_patience_ms: u64,
    /// How long a request may wait before its replica gives up on the leader.
    pub view_timeout_ms: u64,
    /// How often a replica that waits tells the others where it stands.
    pub status_period_ms: u64,
}

impl Default for RawPaxos {
    fn default() -> Self {
        Self::like(&RawPbft::default())
    }
}

/// As far as whole milliseconds go.
impl From<&PaxosSettings> for RawPaxos {
    fn from(settings: &PaxosSettings) -> Self {
        Self {
            checkpoint_period: settings.checkpoint_period,
            log_size: settings.log_size,
            pipeline: settings.pipeline,
            adaptive_batching: settings.adaptive_batching,
            gather_from: settings.gather_from,
            max_batch_requests: settings.max_batch_requests,
            max_batch_bytes: settings.max_batch_bytes,
            separate_bytes: settings.separate_bytes,
            separate_patience_ms: ms(settings.separate_patience),
            view_timeout_ms: ms(settings.view_timeout),
            status_period_ms: ms(settings.status_period),
        }
    }
}

impl RawPaxos {
    /// What these settings of PBFT say that means the same here.
    #[must_use]
    pub fn like(pbft: &RawPbft) -> Self {
        Self {
            checkpoint_period: pbft.checkpoint_period,
            log_size: pbft.log_size,
            pipeline: pbft.pipeline,
            adaptive_batching: pbft.adaptive_batching,
            gather_from: pbft.gather_from,
            max_batch_requests: pbft.max_batch_requests,
            max_batch_bytes: pbft.max_batch_bytes,
            separate_bytes: pbft.separate_bytes,
            separate_patience_ms: pbft.separate_patience_ms,
            view_timeout_ms: pbft.view_timeout_ms,
            status_period_ms: pbft.status_period_ms,
        }
    }

    pub(super) fn settings(&self) -> PaxosSettings {
        PaxosSettings {
            checkpoint_period: self.checkpoint_period,
            log_size: self.log_size,
            pipeline: self.pipeline,
            adaptive_batching: self.adaptive_batching,
            gather_from: self.gather_from,
            max_batch_requests: self.max_batch_requests,
            max_batch_bytes: self.max_batch_bytes,
            separate_bytes: self.separate_bytes,
            separate_patience: Duration::from_millis(self.separate_patience_ms),
            view_timeout: Duration::from_millis(self.view_timeout_ms),
            status_period: Duration::from_millis(self.status_period_ms),
        }
    }
}

/// Settings of Zyzzyva, Quorum, Chain and Aliph as they are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawZyzzyva {
    /// How many requests Backup makes final before something faster is tried again. Doubles each time that this fails.
    pub backup_requests: u64,
    /// A checkpoint is made every so many sequence numbers. The order waits there until it is stable.
    pub checkpoint_period: u64,
    /// How many sequence numbers above the last state on disk may be in use.
    pub log_size: u64,
    /// How many batches the primary may order that are not on its disk yet.
    pub pipeline: u64,
    /// The most requests in a batch.
    pub max_batch_requests: usize,
    /// The most bytes of operations in a batch.
    pub max_batch_bytes: usize,
    /// How long a batch may stay speculative before replicas make it final without any client.
    pub settle_patience_ms: u64,
    /// How long a request may wait to be final before its replica gives up on the primary.
    pub view_timeout_ms: u64,
    /// How often a replica that waits tells the others where it stands.
    pub status_period_ms: u64,
    /// How far ahead of a backup's clock a batch's time may lie.
    pub max_clock_skew_ms: u64,
}

impl Default for RawZyzzyva {
    fn default() -> Self {
        Self::from(&ZyzzyvaSettings::default())
    }
}

/// As far as whole milliseconds go.
impl From<&ZyzzyvaSettings> for RawZyzzyva {
    fn from(settings: &ZyzzyvaSettings) -> Self {
        Self {
            backup_requests: settings.backup_requests,
            checkpoint_period: settings.checkpoint_period,
            log_size: settings.log_size,
            pipeline: settings.pipeline,
            max_batch_requests: settings.max_batch_requests,
            max_batch_bytes: settings.max_batch_bytes,
            settle_patience_ms: ms(settings.settle_patience),
            view_timeout_ms: ms(settings.view_timeout),
            status_period_ms: ms(settings.status_period),
            max_clock_skew_ms: ms(settings.max_clock_skew),
        }
    }
}

impl RawZyzzyva {
    /// What these settings of PBFT say that means the same here.
    #[must_use]
    pub fn like(pbft: &RawPbft) -> Self {
        Self {
            backup_requests: Self::default().backup_requests,
            checkpoint_period: pbft.checkpoint_period,
            log_size: pbft.log_size,
            pipeline: pbft.pipeline,
            max_batch_requests: pbft.max_batch_requests,
            max_batch_bytes: pbft.max_batch_bytes,
            settle_patience_ms: Self::default().settle_patience_ms.min(pbft.view_timeout_ms / 2),
            view_timeout_ms: pbft.view_timeout_ms,
            status_period_ms: pbft.status_period_ms,
            max_clock_skew_ms: pbft.max_clock_skew_ms,
        }
    }

    pub(super) fn settings(&self, composition: Composition) -> ZyzzyvaSettings {
        ZyzzyvaSettings {
            composition,
            backup_requests: self.backup_requests,
            checkpoint_period: self.checkpoint_period,
            log_size: self.log_size,
            pipeline: self.pipeline,
            max_batch_requests: self.max_batch_requests,
            max_batch_bytes: self.max_batch_bytes,
            settle_patience: Duration::from_millis(self.settle_patience_ms),
            view_timeout: Duration::from_millis(self.view_timeout_ms),
            status_period: Duration::from_millis(self.status_period_ms),
            max_clock_skew: Duration::from_millis(self.max_clock_skew_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_where_nothing_is_said_is_what_the_protocols_take() {
        assert_eq!(RawPaxos::default().settings(), PaxosSettings::default());
        let zyzzyva = RawZyzzyva::default().settings(Composition::Zyzzyva);
        assert_eq!(zyzzyva, ZyzzyvaSettings::default());
        assert_eq!(RawPbft::default().settings(), PbftSettings::default());
    }

    #[test]
    fn what_is_agreed_on_is_read_back_as_it_was_written() {
        let paxos = RawPaxos { pipeline: 5, ..RawPaxos::default() };
        let witnessed = RawPbft { witnesses: vec![3], ..RawPbft::default() };
        let speculative = Composition::ALL.map(|each| RawSettings::speculative(each, RawZyzzyva::default()));
        for raw in
            [RawSettings::Pbft(RawPbft::default()), RawSettings::Pbft(witnessed), RawSettings::Paxos(paxos)]
                .into_iter()
                .chain(speculative)
        {
            let written = serde_json::to_value(&raw).expect("it can be written");
            assert_eq!(written["protocol"], ProtocolKind::from(&raw.settings()).name());
            assert_eq!(serde_json::from_value::<RawSettings>(written).expect("it can be read"), raw);
            assert_eq!(RawSettings::from(&raw.settings()), raw);
        }
    }

    #[test]
    fn the_most_faults_are_those_that_so_many_replicas_stand() {
        for kind in ProtocolKind::REPLICATED {
            for n in 1..20 {
                let most = kind.most_faults(n);
                assert!(kind.quorums(n, most).is_ok() && kind.quorums(n, most + 1).is_err(), "{kind:?}, {n}");
            }
        }
    }
}
