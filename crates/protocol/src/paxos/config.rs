use crate::config::{Basics, ConfigError, ProtocolName};
use althing_types::{FaultModel, Quorums, ReplicaId, nanos};
use borsh::{BorshDeserialize, BorshSerialize};
use core::time::Duration;

/// Settings of a Paxos replica, not yet checked. [`Default`] gives values for a local network.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct PaxosSettings {
    /// K: a checkpoint is made every so many sequence numbers.
    pub checkpoint_period: u64,
    /// L: how many sequence numbers above its stable checkpoint a leader may have in use; at least 2K.
    pub log_size: u64,
    /// How many batches the leader may have under way.
    pub pipeline: u64,
    /// Whether the leader lets requests gather into larger batches while many are under way.
    pub adaptive_batching: bool,
    /// How many requests are under way at least before others gather, where they do.
    pub gather_from: usize,
    /// The most requests in a batch.
    pub max_batch_requests: usize,
    /// The most operation bytes in a batch; a single request may exceed it.
    pub max_batch_bytes: usize,
    /// An operation of at least so many bytes goes from its client to all replicas, and is proposed by name;
    /// 0: none does.
    pub separate_bytes: usize,
    /// How long at least a replica waits for what it lacks of a proposal by name before it asks for the whole, which it does
    /// when a status period ends; 0: not at all. Shorter than the view timeout by three such periods.
    #[borsh(serialize_with = "nanos::serialize", deserialize_with = "nanos::deserialize")]
    pub separate_patience: Duration,
    /// How long a request may wait before its replica gives up on the leader. Doubles with each
    /// view change that brings no progress.
    #[borsh(serialize_with = "nanos::serialize", deserialize_with = "nanos::deserialize")]
    pub view_timeout: Duration,
    /// How often a replica that waits for something tells the others where it stands.
    #[borsh(serialize_with = "nanos::serialize", deserialize_with = "nanos::deserialize")]
    pub status_period: Duration,
}

impl Default for PaxosSettings {
    fn default() -> Self {
        Self {
            checkpoint_period: 128,
            log_size: 256,
            pipeline: 16,
            adaptive_batching: true,
            gather_from: 0,
            max_batch_requests: 256,
            max_batch_bytes: 1 << 20,
            separate_bytes: 0,
            separate_patience: Duration::ZERO,
            view_timeout: Duration::from_secs(1),
            status_period: Duration::from_millis(100),
        }
    }
}

/// Checked settings of one replica of one group.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct PaxosConfig {
    pub(super) me: ReplicaId,
    pub(super) quorums: Quorums,
    pub(super) settings: PaxosSettings,
}

impl PaxosConfig {
    /// The largest L: a promise holds a claim of 48 bytes for each number of a window, which is two logs long,
    /// and must stay small beside the messages that carry batches.
    const MAX_LOG_SIZE: u64 = 50_000;

    /// Checks `settings` for replica `me` of a group with these quorums.
    ///
    /// # Errors
    /// One variant of [`ConfigError`] a rule.
    pub fn new(me: ReplicaId, quorums: Quorums, settings: PaxosSettings) -> Result<Self, ConfigError> {
        Basics {
            protocol: (ProtocolName::Paxos, FaultModel::Crash),
            checkpoint_period: settings.checkpoint_period,
            log_size: settings.log_size,
            pipeline: settings.pipeline,
            max_batch_requests: settings.max_batch_requests,
            max_batch_bytes: settings.max_batch_bytes,
            separate_patience: settings.separate_patience,
            view_timeout: settings.view_timeout,
            status_period: settings.status_period,
            most_log_size: Self::MAX_LOG_SIZE,
        }
        .check(me, quorums)?;
        Ok(Self { me, quorums, settings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Setting;

    fn check(change: impl FnOnce(&mut PaxosSettings)) -> Result<PaxosConfig, ConfigError> {
        let mut settings = PaxosSettings::default();
        change(&mut settings);
        PaxosConfig::new(ReplicaId(2), Quorums::crash(3, 1).unwrap(), settings)
    }

    #[test]
    fn each_rule_refuses_what_breaks_it() {
        assert!(check(|_| {}).is_ok() && check(|s| s.log_size = 50_048).is_err());
        let zero = |name| Err(ConfigError::Zero(name));
        assert_eq!(check(|s| s.pipeline = 0), zero(Setting::Pipeline));
        assert_eq!(check(|s| s.checkpoint_period = 0), zero(Setting::CheckpointPeriod));
        let small = ConfigError::LogTooSmall { log_size: 255, checkpoint_period: 128 };
        assert_eq!(check(|s| s.log_size = 255), Err(small));
        let late = ConfigError::TooLong(Setting::ViewTimeout);
        assert_eq!(check(|s| s.view_timeout = Duration::MAX), Err(late));
    }

    #[test]
    fn a_group_that_is_to_tolerate_lies_is_refused() {
        let four = Quorums::byzantine(4, 1).unwrap();
        let refused = PaxosConfig::new(ReplicaId(0), four, PaxosSettings::default());
        assert_eq!(
            refused,
            Err(ConfigError::WrongModel { protocol: ProtocolName::Paxos, stands: FaultModel::Crash })
        );
        let stranger =
            PaxosConfig::new(ReplicaId(3), Quorums::crash(3, 1).unwrap(), PaxosSettings::default());
        assert!(matches!(stranger, Err(ConfigError::NoSuchReplica { n: 3, .. })));
    }
}
