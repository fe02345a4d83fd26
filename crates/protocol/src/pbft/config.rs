use crate::config::{Basics, ConfigError as PbftConfigError, MAX_DURATION, ProtocolName, Setting};
use alloc::vec::Vec;
use althing_types::{FaultModel, Quorums, ReplicaId, nanos};
use borsh::{BorshDeserialize, BorshSerialize};
use core::time::Duration;

/// Settings of a PBFT replica, not yet checked. [`Default`] gives values for a local network.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct PbftSettings {
    /// K: a checkpoint is made every so many sequence numbers.
    pub checkpoint_period: u64,
    /// L: how many sequence numbers above the stable checkpoint may be in use; at least 2K.
    pub log_size: u64,
    /// How many batches the primary may have under way.
    pub pipeline: u64,
    /// Whether the primary lets requests gather into larger batches while many are under way.
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
    /// when a status period ends; 0: not at all. Shorter than the view timeout by three such periods, and 0 where the
    /// primary is held to a floor.
    #[borsh(serialize_with = "nanos::serialize", deserialize_with = "nanos::deserialize")]
    pub separate_patience: Duration,
    /// A batch of up to so many requests is executed before it is decided; 0: none is.
    pub tentative_requests: usize,
    /// Whether a commit that nobody waits for leaves with the next message.
    pub piggyback_commits: bool,
    /// How long a request may wait before its replica gives up on the primary. Doubles with each
    /// view change that brings no progress.
    #[borsh(serialize_with = "nanos::serialize", deserialize_with = "nanos::deserialize")]
    pub view_timeout: Duration,
    /// How often a replica that waits for something tells the others where it stands.
    #[borsh(serialize_with = "nanos::serialize", deserialize_with = "nanos::deserialize")]
    pub status_period: Duration,
    /// How far ahead of a backup's clock a batch's time may lie.
    #[borsh(serialize_with = "nanos::serialize", deserialize_with = "nanos::deserialize")]
    pub max_clock_skew: Duration,
    /// How many times as long as the others take to agree on a proposal the primary may take to make it; 0:
    /// only the view timeout holds it to anything.
    pub primary_slack: u32,
    /// How often another client may be served while one waits that has complained; 0: as often as it likes.
    pub primary_passes: u32,
    /// The places of the replicas that agree and do not execute, ascending: at most n − (2f + 1), so that 2f + 1
    /// execute.
    pub witnesses: Vec<ReplicaId>,
}

impl Default for PbftSettings {
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
            tentative_requests: 4,
            piggyback_commits: true,
            view_timeout: Duration::from_secs(1),
            status_period: Duration::from_millis(100),
            max_clock_skew: Duration::from_secs(10),
            primary_slack: 4,
            primary_passes: 2,
            witnesses: Vec::new(),
        }
    }
}

/// Checked settings of one replica of one group.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct PbftConfig {
    pub(super) me: ReplicaId,
    pub(super) quorums: Quorums,
    pub(super) settings: PbftSettings,
}

impl PbftConfig {
    /// The largest L times n: a new view holds a view change of each replica, with up to nine claims of
    /// 48 bytes for each number, and must fit into a message of 24 MiB.
    const MAX_LOG_SIZE_TIMES_N: u64 = 50_000;

    /// Checks `settings` for replica `me` of a group with these quorums.
    ///
    /// # Errors
    /// One variant of [`PbftConfigError`] a rule.
    pub fn new(me: ReplicaId, quorums: Quorums, settings: PbftSettings) -> Result<Self, PbftConfigError> {
        Basics {
            protocol: (ProtocolName::Pbft, FaultModel::Byzantine),
            checkpoint_period: settings.checkpoint_period,
            log_size: settings.log_size,
            pipeline: settings.pipeline,
            max_batch_requests: settings.max_batch_requests,
            max_batch_bytes: settings.max_batch_bytes,
            separate_patience: settings.separate_patience,
            view_timeout: settings.view_timeout,
            status_period: settings.status_period,
            most_log_size: Self::MAX_LOG_SIZE_TIMES_N / quorums.n() as u64,
        }
        .check(me, quorums)?;
        if settings.max_clock_skew > MAX_DURATION {
            return Err(PbftConfigError::TooLong(Setting::MaxClockSkew));
        }
        let has_floors = settings.primary_slack > 0 || settings.primary_passes > 0;
        if has_floors && !settings.separate_patience.is_zero() {
            return Err(PbftConfigError::PatientFloors);
        }
        check_witnesses(quorums, &settings.witnesses)?;
        Ok(Self { me, quorums, settings })
    }

    /// Whether a replica of the group agrees and does not execute.
    pub(super) fn is_witness(&self, replica: ReplicaId) -> bool {
        self.settings.witnesses.contains(&replica)
    }
}

/// Whether these can be the places of replicas that do not execute: 2f + 1 have to, so that f + 1 correct ones do
/// where f are faulty.
fn check_witnesses(quorums: Quorums, witnesses: &[ReplicaId]) -> Result<(), PbftConfigError> {
    if !witnesses.is_sorted_by(|one, next| one < next) {
        return Err(PbftConfigError::WitnessOrder);
    }
    let n = quorums.n();
    if let Some(witness) = witnesses.iter().copied().find(|witness| !quorums.has(*witness)) {
        return Err(PbftConfigError::NoSuchWitness { witness, n });
    }
    let most = quorums.most_witnesses();
    if witnesses.len() > most {
        return Err(PbftConfigError::TooManyWitnesses { witnesses: witnesses.len(), most, n });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::PbftConfigError as E;
    use super::*;
    use alloc::vec;

    fn check(me: u16, n: usize, change: impl FnOnce(&mut PbftSettings)) -> Result<PbftConfig, E> {
        let mut settings = PbftSettings::default();
        change(&mut settings);
        PbftConfig::new(ReplicaId(me), Quorums::byzantine(n, (n - 1) / 3).unwrap(), settings)
    }

    #[test]
    fn each_rule_refuses_what_breaks_it() {
        type Change = fn(&mut PbftSettings);
        let cases: [(Change, E); 20] = [
            (|s| s.checkpoint_period = 0, E::Zero(Setting::CheckpointPeriod)),
            (|s| s.pipeline = 0, E::Zero(Setting::Pipeline)),
            (|s| s.max_batch_requests = 0, E::Zero(Setting::MaxBatchRequests)),
            (
                |s| s.max_batch_bytes = 100_000_000,
                E::TooLarge { setting: Setting::MaxBatchBytes, most: 16 << 20 },
            ),
            (|s| s.view_timeout = Duration::ZERO, E::Zero(Setting::ViewTimeout)),
            (|s| s.status_period = Duration::ZERO, E::Zero(Setting::StatusPeriod)),
            (|s| s.view_timeout = Duration::from_secs(3601), E::TooLong(Setting::ViewTimeout)),
            (|s| s.status_period = Duration::from_secs(3601), E::TooLong(Setting::StatusPeriod)),
            (|s| s.max_clock_skew = Duration::MAX, E::TooLong(Setting::MaxClockSkew)),
            (|s| s.separate_patience = s.view_timeout, E::TooPatient),
            (|s| s.separate_patience = Duration::MAX, E::TooPatient),
            (|s| s.separate_patience = Duration::from_millis(1), E::PatientFloors),
            (|s| s.log_size = 255, E::LogTooSmall { log_size: 255, checkpoint_period: 128 }),
            (
                |s| s.checkpoint_period = u64::MAX,
                E::LogTooSmall { log_size: 256, checkpoint_period: u64::MAX },
            ),
            (|s| s.log_size = 300, E::LogNotMultiple { log_size: 300, checkpoint_period: 128 }),
            (|s| s.log_size = u64::MAX, E::LogTooLarge { log_size: u64::MAX, most: 12_500, n: 4 }),
            (
                |s| s.witnesses = [2, 3].map(ReplicaId).to_vec(),
                E::TooManyWitnesses { witnesses: 2, most: 1, n: 4 },
            ),
            (|s| s.witnesses = vec![ReplicaId(4)], E::NoSuchWitness { witness: ReplicaId(4), n: 4 }),
            (|s| s.witnesses = [3, 3].map(ReplicaId).to_vec(), E::WitnessOrder),
            (|s| s.witnesses = [3, 2].map(ReplicaId).to_vec(), E::WitnessOrder),
        ];
        for (change, error) in cases {
            assert_eq!(check(0, 4, change), Err(error));
        }
        let crash = PbftConfig::new(ReplicaId(0), Quorums::crash(3, 1).unwrap(), PbftSettings::default());
        assert_eq!(crash, Err(E::WrongModel { protocol: ProtocolName::Pbft, stands: FaultModel::Byzantine }));
        assert_eq!(check(4, 4, |_| {}), Err(E::NoSuchReplica { replica: ReplicaId(4), n: 4 }));
    }

    #[test]
    fn the_limits_themselves_are_good() {
        for n in [1, 4, 100] {
            assert!(check(0, n, |_| {}).is_ok(), "the defaults, in a group of {n}");
        }
        for (n, most) in [(4, 1), (5, 2), (7, 2), (100, 33)] {
            let first = |count| (0..count).map(ReplicaId).collect();
            assert!(check(0, n, |s| s.witnesses = first(most)).is_ok(), "{most} of {n}");
            assert!(check(0, n, |s| s.witnesses = first(most + 1)).is_err(), "{most} of {n}");
        }
        let log = |log_size, checkpoint_period| {
            check(3, 4, |s| (s.log_size, s.checkpoint_period) = (log_size, checkpoint_period))
        };
        assert!(log(2, 1).is_ok() && log(12_500, 6_250).is_ok());
        assert_eq!(log(12_504, 4), Err(E::LogTooLarge { log_size: 12_504, most: 12_500, n: 4 }));
        let hour = MAX_DURATION;
        assert!(
            check(0, 4, |s| (s.view_timeout, s.status_period, s.max_clock_skew) = (hour, hour, hour)).is_ok()
        );
        assert!(check(0, 4, |s| (s.max_clock_skew, s.max_batch_bytes) = (Duration::ZERO, 0)).is_ok());
    }

    #[test]
    fn an_error_names_the_setting_and_its_values() {
        let said = alloc::format!("{}", check(0, 4, |s| s.log_size = 300).unwrap_err());
        assert_eq!(said, "log_size is 300, but must be a multiple of the checkpoint_period of 128");
    }
}
