use crate::paxos::{self, PaxosConfig, PaxosSettings};
use crate::pbft::{self, PbftConfig, PbftSettings};
use crate::zyzzyva::{self, Composition, ZyzzyvaConfig, ZyzzyvaSettings};
use crate::{ConfigError, ProtocolName};
use alloc::vec::Vec;
use althing_types::{Digest, FaultModel, Quorums, QuorumsError, ReplicaId, Seq};
use borsh::{BorshDeserialize, BorshSerialize};

/// What all replicas of a group run, and with which settings: a part of what they agree on, and of what a
/// [`successor`](crate::Protocol::successor) is made from. Protocols that have successors are here.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Settings {
    /// Practical Byzantine Fault Tolerance.
    Pbft(PbftSettings),
    /// Paxos, among replicas that crash and do not lie.
    Paxos(PaxosSettings),
    /// Speculative Byzantine fault tolerance.
    Zyzzyva(ZyzzyvaSettings),
}

impl Settings {
    /// The protocol that they are of.
    #[must_use]
    pub fn protocol(&self) -> ProtocolName {
        match self {
            Self::Pbft(_) => ProtocolName::Pbft,
            Self::Paxos(_) => ProtocolName::Paxos,
            Self::Zyzzyva(_) => ProtocolName::Zyzzyva,
        }
    }

    /// The faults that a group which goes by them stands.
    #[must_use]
    pub fn fault_model(&self) -> FaultModel {
        match self {
            Self::Pbft(_) | Self::Zyzzyva(_) => FaultModel::Byzantine,
            Self::Paxos(_) => FaultModel::Crash,
        }
    }

    /// The quorums of `n` replicas that go by them, of which `f` may be faulty.
    ///
    /// # Errors
    /// Where there are too few for that, or too many.
    pub fn quorums(&self, n: usize, f: usize) -> Result<Quorums, QuorumsError> {
        match self.fault_model() {
            FaultModel::Byzantine => Quorums::byzantine(n, f),
            FaultModel::Crash => Quorums::crash(n, f),
        }
    }

    /// Whether a group with these quorums can go by them.
    ///
    /// # Errors
    /// The rule that they break: what the protocol's own configuration would refuse.
    pub fn check(&self, quorums: Quorums) -> Result<(), ConfigError> {
        match self {
            Self::Pbft(settings) => PbftConfig::new(ReplicaId(0), quorums, settings.clone()).map(drop),
            Self::Paxos(settings) => PaxosConfig::new(ReplicaId(0), quorums, settings.clone()).map(drop),
            Self::Zyzzyva(settings) => ZyzzyvaConfig::new(ReplicaId(0), quorums, settings.clone()).map(drop),
        }
    }

    /// What a replica signs of the checkpoint at which an instance ends, in
    /// [`Domain::Protocol`](althing_crypto::Domain).
    #[must_use]
    pub fn checkpoint_statement(&self, seq: Seq, state: Digest) -> Vec<u8> {
        match self {
            Self::Pbft(_) => pbft::checkpoint_statement(seq, state),
            Self::Paxos(_) => paxos::checkpoint_statement(seq, state),
            Self::Zyzzyva(_) => zyzzyva::checkpoint_statement(seq, state),
        }
    }

    /// From how many bytes on an operation goes from its client to all replicas; 0: none does.
    #[must_use]
    pub fn separate_bytes(&self) -> usize {
        match self {
            Self::Pbft(settings) => settings.separate_bytes,
            Self::Paxos(settings) => settings.separate_bytes,
            Self::Zyzzyva(_) => 0,
        }
    }

    /// Which protocols take turns, for clients: it matters only where they are told what is speculative.
    #[must_use]
    pub fn composition(&self) -> Composition {
        match self {
            Self::Pbft(_) | Self::Paxos(_) => Composition::Zyzzyva,
            Self::Zyzzyva(settings) => settings.composition,
        }
    }

    /// Whether replicas execute what is not decided yet.
    #[must_use]
    pub fn is_tentative(&self) -> bool {
        match self {
            Self::Pbft(settings) => settings.tentative_requests > 0,
            Self::Paxos(_) => false,
            Self::Zyzzyva(_) => true,
        }
    }

    /// The places of the replicas that agree and do not execute, ascending.
    #[must_use]
    pub fn witnesses(&self) -> &[ReplicaId] {
        match self {
            Self::Pbft(settings) => &settings.witnesses,
            Self::Paxos(_) | Self::Zyzzyva(_) => &[],
        }
    }

    /// The same for a group in which replicas have other places: `place` says which, or that it is gone.
    #[must_use]
    pub fn moved(mut self, place: impl Fn(ReplicaId) -> Option<ReplicaId>) -> Self {
        if let Self::Pbft(settings) = &mut self {
            settings.witnesses = settings.witnesses.iter().copied().filter_map(place).collect();
        }
        self
    }

    /// A checkpoint is made every so many sequence numbers.
    #[must_use]
    pub fn checkpoint_period(&self) -> u64 {
        match self {
            Self::Pbft(settings) => settings.checkpoint_period,
            Self::Paxos(settings) => settings.checkpoint_period,
            Self::Zyzzyva(settings) => settings.checkpoint_period,
        }
    }
}
