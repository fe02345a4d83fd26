use super::choice::Ranking;
use super::mode::Composition;
use crate::config::{Basics, ConfigError, MAX_DURATION, ProtocolName, Setting};
use althing_types::{FaultModel, Quorums, ReplicaId, nanos};
use borsh::{BorshDeserialize, BorshSerialize};
use core::time::Duration;

/// Settings of a Zyzzyva replica, not yet checked. [`Default`] gives values for a local network.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ZyzzyvaSettings {
    /// Which protocols take turns.
    pub composition: Composition,
    /// How many requests Backup makes final before something faster is tried again. Doubles each time that
    /// this fails.
    pub backup_requests: u64,
    /// A checkpoint is made every so many sequence numbers. The order waits there until it is stable.
    pub checkpoint_period: u64,
    /// How many sequence numbers above the last state on disk may be in use; at least two periods.
    pub log_size: u64,
    /// How many batches the primary may order that are not on its disk yet.
    pub pipeline: u64,
    /// The most requests in a batch.
    pub max_batch_requests: usize,
    /// The most operation bytes in a batch; a single request may exceed it.
    pub max_batch_bytes: usize,
    /// How long a batch may stay speculative before replicas make it final without any client: at most half
    /// of the view timeout.
    #[borsh(serialize_with = "nanos::serialize", deserialize_with = "nanos::deserialize")]
    pub settle_patience: Duration,
    /// How long a request may wait to be final before its replica gives up on the primary. Doubles with each
    /// view change that brings no progress.
    #[borsh(serialize_with = "nanos::serialize", deserialize_with = "nanos::deserialize")]
    pub view_timeout: Duration,
    /// How often a replica that waits for something tells the others where it stands.
    #[borsh(serialize_with = "nanos::serialize", deserialize_with = "nanos::deserialize")]
    pub status_period: Duration,
    /// How far ahead of a backup's clock a batch's time may lie.
    #[borsh(serialize_with = "nanos::serialize", deserialize_with = "nanos::deserialize")]
    pub max_clock_skew: Duration,
}

impl Default for ZyzzyvaSettings {
    fn default() -> Self {
        Self {
            composition: Composition::Zyzzyva,
            backup_requests: 256,
            checkpoint_period: 128,
            log_size: 256,
            pipeline: 16,
            max_batch_requests: 256,
            max_batch_bytes: 1 << 20,
            settle_patience: Duration::from_millis(50),
            view_timeout: Duration::from_secs(1),
            status_period: Duration::from_millis(100),
            max_clock_skew: Duration::from_secs(10),
        }
    }
}

/// Checked settings of one replica of one group.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ZyzzyvaConfig {
    pub(super) me: ReplicaId,
    pub(super) quorums: Quorums,
    pub(super) settings: ZyzzyvaSettings,
    pub(super) ranking: Ranking,
}

impl ZyzzyvaConfig {
    /// The largest log times n: a new view holds a view change of each replica, with 32 bytes for each
    /// number, and must fit into a message of 24 MiB.
    const MAX_LOG_SIZE_TIMES_N: u64 = 500_000;

    /// Checks `settings` for replica `me` of a group with these quorums.
    ///
    /// # Errors
    /// One variant of [`ConfigError`] a rule.
    pub fn new(me: ReplicaId, quorums: Quorums, settings: ZyzzyvaSettings) -> Result<Self, ConfigError> {
        Basics {
            protocol: (ProtocolName::Zyzzyva, FaultModel::Byzantine),
            checkpoint_period: settings.checkpoint_period,
            log_size: settings.log_size,
            pipeline: settings.pipeline,
            max_batch_requests: settings.max_batch_requests,
            max_batch_bytes: settings.max_batch_bytes,
            separate_patience: Duration::ZERO,
            view_timeout: settings.view_timeout,
            status_period: settings.status_period,
            most_log_size: Self::MAX_LOG_SIZE_TIMES_N / quorums.n() as u64,
        }
        .check(me, quorums)?;
        if settings.max_clock_skew > MAX_DURATION {
            return Err(ConfigError::TooLong(Setting::MaxClockSkew));
        }
        if settings.settle_patience > settings.view_timeout / 2 {
            return Err(ConfigError::SettlesLate);
        }
        if settings.backup_requests == 0 {
            return Err(ConfigError::Zero(Setting::BackupRequests));
        }
        Ok(Self { me, quorums, settings, ranking: Ranking::LatestView })
    }

    /// Which protocols take turns.
    #[must_use]
    pub fn composition(&self) -> Composition {
        self.settings.composition
    }

    /// The same with the paper's choice of what a new view starts with, which loses what was decided. For the
    /// test that shows it, and nothing else.
    #[doc(hidden)]
    #[must_use]
    pub fn with_the_longest_certificate_first(self) -> Self {
        Self { ranking: Ranking::Longest, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::ConfigError as E;
    use super::*;

    fn check(me: u16, n: usize, change: impl FnOnce(&mut ZyzzyvaSettings)) -> Result<ZyzzyvaConfig, E> {
        let mut settings = ZyzzyvaSettings::default();
        change(&mut settings);
        ZyzzyvaConfig::new(ReplicaId(me), Quorums::byzantine(n, (n - 1) / 3).unwrap(), settings)
    }

    #[test]
    fn each_rule_refuses_what_breaks_it() {
        type Change = fn(&mut ZyzzyvaSettings);
        let cases: [(Change, E); 11] = [
            (|s| s.backup_requests = 0, E::Zero(Setting::BackupRequests)),
            (|s| s.checkpoint_period = 0, E::Zero(Setting::CheckpointPeriod)),
            (|s| s.pipeline = 0, E::Zero(Setting::Pipeline)),
            (|s| s.max_batch_requests = 0, E::Zero(Setting::MaxBatchRequests)),
            (
                |s| s.max_batch_bytes = 100_000_000,
                E::TooLarge { setting: Setting::MaxBatchBytes, most: 16 << 20 },
            ),
            (|s| s.status_period = Duration::from_secs(3601), E::TooLong(Setting::StatusPeriod)),
            (|s| s.max_clock_skew = Duration::MAX, E::TooLong(Setting::MaxClockSkew)),
            (|s| s.settle_patience = Duration::from_millis(501), E::SettlesLate),
            (|s| s.log_size = 255, E::LogTooSmall { log_size: 255, checkpoint_period: 128 }),
            (|s| s.log_size = 300, E::LogNotMultiple { log_size: 300, checkpoint_period: 128 }),
            (|s| s.log_size = u64::MAX, E::LogTooLarge { log_size: u64::MAX, most: 125_000, n: 4 }),
        ];
        for (change, error) in cases {
            assert_eq!(check(0, 4, change), Err(error));
        }
        let (crash, settings) = (Quorums::crash(3, 1).unwrap(), ZyzzyvaSettings::default());
        let wrong = E::WrongModel { protocol: ProtocolName::Zyzzyva, stands: FaultModel::Byzantine };
        assert_eq!(ZyzzyvaConfig::new(ReplicaId(0), crash, settings), Err(wrong));
        assert_eq!(check(4, 4, |_| {}), Err(E::NoSuchReplica { replica: ReplicaId(4), n: 4 }));
    }

    #[test]
    fn the_limits_themselves_are_good() {
        for n in [1, 4, 100] {
            assert!(check(0, n, |_| {}).is_ok(), "the defaults, in a group of {n}");
        }
        assert!(check(0, 4, |s| s.settle_patience = Duration::ZERO).is_ok());
        assert!(check(0, 4, |s| s.settle_patience = s.view_timeout / 2).is_ok());
    }
}
