use crate::ConfigError;
use crate::pbft::{PbftConfig, PbftSettings};
use althing_types::{Quorums, ReplicaId};
use borsh::{BorshDeserialize, BorshSerialize};

/// What all replicas of a group run, and with which settings: a part of what they agree on, and of what a
/// [`successor`](crate::Protocol::successor) is made from. Protocols that have successors are here.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Settings {
    /// Practical Byzantine Fault Tolerance.
    Pbft(PbftSettings),
}

impl Settings {
    /// Whether a group with these quorums can go by them.
    ///
    /// # Errors
    /// The rule that they break: what the protocol's own configuration would refuse.
    pub fn check(&self, quorums: Quorums) -> Result<(), ConfigError> {
        match self {
            Self::Pbft(settings) => PbftConfig::new(ReplicaId(0), quorums, settings.clone()).map(drop),
        }
    }

    /// From how many bytes on an operation goes from its client to all replicas; 0: none does.
    #[must_use]
    pub fn separate_bytes(&self) -> usize {
        match self {
            Self::Pbft(settings) => settings.separate_bytes,
        }
    }

    /// A checkpoint is made every so many sequence numbers.
    #[must_use]
    pub fn checkpoint_period(&self) -> u64 {
        match self {
            Self::Pbft(settings) => settings.checkpoint_period,
        }
    }
}
