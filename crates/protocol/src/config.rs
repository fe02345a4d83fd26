use althing_types::{FaultModel, Quorums, ReplicaId};
use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt;
use core::time::Duration;
use thiserror::Error;

/// The most requests that a batch may be allowed to hold: no more are taken from a replica at once.
const MOST_BATCH_REQUESTS: usize = 4096;

/// The most bytes of operations that it may be: with what each request has beside, a batch fits into a message of
/// 32 MiB, and so does one with a single operation more.
const MOST_BATCH_BYTES: usize = 16 << 20;

/// The longest time that anybody waits for.
pub(crate) const MAX_DURATION: Duration = Duration::from_secs(3600);

/// A setting that stands under a rule of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Setting {
    /// `checkpoint_period`.
    CheckpointPeriod,
    /// `pipeline`.
    Pipeline,
    /// `max_batch_requests`.
    MaxBatchRequests,
    /// `view_timeout`.
    ViewTimeout,
    /// `status_period`.
    StatusPeriod,
    /// `max_clock_skew`.
    MaxClockSkew,
    /// `backup_requests`.
    BackupRequests,
    /// `max_batch_bytes`.
    MaxBatchBytes,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CheckpointPeriod => "checkpoint_period",
            Self::Pipeline => "pipeline",
            Self::MaxBatchRequests => "max_batch_requests",
            Self::ViewTimeout => "view_timeout",
            Self::StatusPeriod => "status_period",
            Self::MaxClockSkew => "max_clock_skew",
            Self::BackupRequests => "backup_requests",
            Self::MaxBatchBytes => "max_batch_bytes",
        })
    }
}

/// A protocol that has settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum ProtocolName {
    /// [`Pbft`](crate::pbft::Pbft).
    Pbft,
    /// [`Paxos`](crate::paxos::Paxos).
    Paxos,
    /// [`Zyzzyva`](crate::zyzzyva::Zyzzyva).
    Zyzzyva,
}

impl fmt::Display for ProtocolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pbft => "PBFT",
            Self::Paxos => "Paxos",
            Self::Zyzzyva => "Zyzzyva",
        })
    }
}

/// Settings that make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error, BorshSerialize, BorshDeserialize)]
pub enum ConfigError {
    /// The replica has no place in the group.
    #[error("{replica} is not one of the group's {n} replicas")]
    NoSuchReplica {
        /// The replica.
        replica: ReplicaId,
        /// The group's size.
        n: usize,
    },
    /// Quorums for other faults than the protocol stands.
    #[error("{protocol} is for groups whose replicas {}", match .stands {
        FaultModel::Byzantine => "may do anything",
        FaultModel::Crash => "only crash: where they may lie, it tolerates nothing",
    })]
    WrongModel {
        /// The protocol.
        protocol: ProtocolName,
        /// The faults that it stands.
        stands: FaultModel,
    },
    /// A setting that must not be zero is.
    #[error("{0} must not be zero")]
    Zero(Setting),
    /// The log could fill up before a checkpoint becomes stable.
    #[error(
        "log_size is {log_size}, but must be at least twice the checkpoint_period of {checkpoint_period}"
    )]
    LogTooSmall {
        /// The log's size.
        log_size: u64,
        /// The checkpoint period.
        checkpoint_period: u64,
    },
    /// Checkpoints that do not divide the log.
    #[error("log_size is {log_size}, but must be a multiple of the checkpoint_period of {checkpoint_period}")]
    LogNotMultiple {
        /// The log's size.
        log_size: u64,
        /// The checkpoint period.
        checkpoint_period: u64,
    },
    /// A log so large that a new view would no longer be a message of bounded size.
    #[error("log_size is {log_size}, but must be at most {most} in a group of {n}")]
    LogTooLarge {
        /// The log's size.
        log_size: u64,
        /// The largest in this group.
        most: u64,
        /// The group's size.
        n: usize,
    },
    /// A duration that nobody waits for.
    #[error("{0} must be at most an hour")]
    TooLong(Setting),
    /// A proposal would be given up before everybody has been asked for what it lacks.
    #[error("separate_patience and five status periods together must be shorter than the view_timeout")]
    TooPatient,
    /// A primary could name what does not exist, and be as slow as that allows.
    #[error("separate_patience must be 0 where primary_slack or primary_passes hold the primary to a floor")]
    PatientFloors,
    /// A primary would be given up for a batch that nobody has begun to settle.
    #[error("settle_patience must be at most half of the view_timeout")]
    SettlesLate,
    /// A setting that would let batches grow beyond what others take.
    #[error("{setting} must be at most {most}")]
    TooLarge {
        /// The setting.
        setting: Setting,
        /// The most that it may be.
        most: u64,
    },
    /// Witnesses that are not named once each, in order.
    #[error("the witnesses must be given once each, in ascending order")]
    WitnessOrder,
    /// A witness that has no place in the group.
    #[error("{witness} is to be a witness, and is none of the group's {n} replicas")]
    NoSuchWitness {
        /// The witness.
        witness: ReplicaId,
        /// The group's size.
        n: usize,
    },
    /// With so many witnesses, not enough would be left to execute.
    #[error(
        "{witnesses} of {n} replicas are to be witnesses, and at most {most} may: 2f + 1 have to execute; name fewer \
         of them, or let the group grow first"
    )]
    TooManyWitnesses {
        /// So many.
        witnesses: usize,
        /// As many may be.
        most: usize,
        /// The group's size.
        n: usize,
    },
}

/// The settings that every protocol with a log and a leader has.
pub(crate) struct Basics {
    /// The protocol, and the faults that it stands.
    pub(crate) protocol: (ProtocolName, FaultModel),
    pub(crate) checkpoint_period: u64,
    pub(crate) log_size: u64,
    pub(crate) pipeline: u64,
    pub(crate) max_batch_requests: usize,
    pub(crate) max_batch_bytes: usize,
    pub(crate) separate_patience: Duration,
    pub(crate) view_timeout: Duration,
    pub(crate) status_period: Duration,
    /// The largest log in this group.
    pub(crate) most_log_size: u64,
}

impl Basics {
    /// Checks them for replica `me` of a group with these quorums.
    pub(crate) fn check(&self, me: ReplicaId, quorums: Quorums) -> Result<(), ConfigError> {
        let (protocol, stands) = self.protocol;
        if quorums.model() != stands {
            return Err(ConfigError::WrongModel { protocol, stands });
        }
        if !quorums.has(me) {
            return Err(ConfigError::NoSuchReplica { replica: me, n: quorums.n() });
        }
        for (setting, value, most) in [
            (Setting::MaxBatchRequests, self.max_batch_requests, MOST_BATCH_REQUESTS),
            (Setting::MaxBatchBytes, self.max_batch_bytes, MOST_BATCH_BYTES),
        ] {
            if value > most {
                return Err(ConfigError::TooLarge { setting, most: most as u64 });
            }
        }
        for (name, is_zero) in [
            (Setting::CheckpointPeriod, self.checkpoint_period == 0),
            (Setting::Pipeline, self.pipeline == 0),
            (Setting::MaxBatchRequests, self.max_batch_requests == 0),
            (Setting::ViewTimeout, self.view_timeout.is_zero()),
            (Setting::StatusPeriod, self.status_period.is_zero()),
        ] {
            if is_zero {
                return Err(ConfigError::Zero(name));
            }
        }
        for (name, duration) in
            [(Setting::ViewTimeout, self.view_timeout), (Setting::StatusPeriod, self.status_period)]
        {
            if duration > MAX_DURATION {
                return Err(ConfigError::TooLong(name));
            }
        }
        // A period may just have begun when patience does; then one is asked, and two periods later everybody.
        let asked_by = self.separate_patience.saturating_add(5 * self.status_period);
        if !self.separate_patience.is_zero() && asked_by >= self.view_timeout {
            return Err(ConfigError::TooPatient);
        }
        let Self { log_size, checkpoint_period, most_log_size: most, .. } = *self;
        if log_size > most {
            return Err(ConfigError::LogTooLarge { log_size, most, n: quorums.n() });
        }
        if log_size / 2 < checkpoint_period {
            return Err(ConfigError::LogTooSmall { log_size, checkpoint_period });
        }
        if !log_size.is_multiple_of(checkpoint_period) {
            return Err(ConfigError::LogNotMultiple { log_size, checkpoint_period });
        }
        Ok(())
    }
}
