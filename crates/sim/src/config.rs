use althing_protocol::zyzzyva::Composition;
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// What goes wrong in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Nothing.
    Calm,
    /// Messages take long, some very long.
    Delay,
    /// Messages get lost.
    Loss,
    /// Messages arrive twice, the second time much later.
    Duplicate,
    /// Messages overtake each other.
    Reorder,
    /// Replicas can't reach each other, in both directions or one.
    Partition,
    /// Replicas crash and restart with what was on disk; sometimes the power fails for all at once.
    CrashDisk,
    /// Replicas crash and restart with an empty disk.
    CrashEmpty,
    /// Faulty replicas tell some one thing and others another, and stand to each version.
    Equivocate,
    /// Faulty replicas say nothing, or nothing of some kind.
    Mute,
    /// Faulty replicas leave out some of the others.
    Selective,
    /// Faulty replicas are as slow as they can be without being voted out.
    Slow,
    /// Faulty replicas sign wrong digests for checkpoints.
    WrongCheckpoint,
    /// Faulty replicas give clients wrong results.
    WrongReply,
    /// Messages with bad authentication, inner and outer, and in others' names; and plain garbage.
    Forge,
    /// Old messages arrive again.
    Replay,
    /// Faulty replicas lie in view changes and new views.
    LyingViewChange,
    /// Faulty replicas lie to those that fetch state or ask where the group stands.
    LyingState,
    /// Clients with MACs that are good for some only, with reused numbers, with garbage.
    BadClient,
    /// Faulty replicas run twice, with the same keys; who hears which copy changes.
    Twins,
    /// All of it, mixed.
    Chaos,
    /// Disks fail to sync, run full and change bits, while replicas are killed and the power fails.
    DiskFaults,
    /// Faulty primaries propose as late as they can without being voted out.
    SlowPrimary,
    /// Faulty primaries serve one client late or not at all.
    UnfairPrimary,
    /// Clients with MACs that are good for some only, again and again.
    InconsistentMacs,
    /// Nothing waits for the disk: all replicas are killed at once, and the power fails at some.
    AsyncLog,
    /// Somebody goes from replica to replica and copies their keys: of more than are tolerated in the
    /// course of time, and never of more at a time. Then it speaks in the names of all of them.
    KeyTheft,
    /// Primaries step down, and replicas stop on purpose and start again; faulty ones that step down may
    /// say so to some only.
    PlannedStops,
    /// The members change all the time, and what they run, while others crash, are cut off, lose their disks or lie.
    Reconfigure,
    /// Replicas recover in turn, each in doubt of what is on its disk.
    ProactiveRecovery,
    /// Somebody takes over replica after replica: never more than are tolerated at a time, and in the end
    /// all of them. Each is recovered in its turn.
    MobileAdversary,
    /// All that changes in [`Self::Reconfigure`] does, while replicas recover in turn.
    RecoveringMembers,
}

impl Family {
    /// All families, in the order in which they are listed to people.
    pub const ALL: [Self; 32] = [
        Self::Calm,
        Self::Delay,
        Self::Loss,
        Self::Duplicate,
        Self::Reorder,
        Self::Partition,
        Self::CrashDisk,
        Self::CrashEmpty,
        Self::DiskFaults,
        Self::AsyncLog,
        Self::Equivocate,
        Self::Mute,
        Self::Selective,
        Self::Slow,
        Self::WrongCheckpoint,
        Self::WrongReply,
        Self::Forge,
        Self::Replay,
        Self::LyingViewChange,
        Self::LyingState,
        Self::BadClient,
        Self::SlowPrimary,
        Self::UnfairPrimary,
        Self::InconsistentMacs,
        Self::Twins,
        Self::Reconfigure,
        Self::KeyTheft,
        Self::PlannedStops,
        Self::ProactiveRecovery,
        Self::MobileAdversary,
        Self::RecoveringMembers,
        Self::Chaos,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Delay => "delay",
            Self::Loss => "loss",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Partition => "partition",
            Self::CrashDisk => "crash-disk",
            Self::CrashEmpty => "crash-empty",
            Self::Equivocate => "equivocate",
            Self::Mute => "mute",
            Self::Selective => "selective",
            Self::Slow => "slow",
            Self::WrongCheckpoint => "wrong-checkpoint",
            Self::WrongReply => "wrong-reply",
            Self::Forge => "forge",
            Self::Replay => "replay",
            Self::LyingViewChange => "lying-view-change",
            Self::LyingState => "lying-state",
            Self::BadClient => "bad-client",
            Self::Twins => "twins",
            Self::Reconfigure => "reconfigure",
            Self::Chaos => "chaos",
            Self::DiskFaults => "disk-faults",
            Self::AsyncLog => "async-log",
            Self::KeyTheft => "key-theft",
            Self::PlannedStops => "planned-stops",
            Self::SlowPrimary => "slow-primary",
            Self::UnfairPrimary => "unfair-primary",
            Self::InconsistentMacs => "inconsistent-macs",
            Self::ProactiveRecovery => "proactive-recovery",
            Self::MobileAdversary => "mobile-adversary",
            Self::RecoveringMembers => "recovering-members",
        }
    }

    /// Whether the members of the group change, and what it runs.
    #[must_use]
    pub fn changes_members(self) -> bool {
        matches!(self, Self::Reconfigure | Self::RecoveringMembers)
    }

    /// Whether it is something that replicas which only crash have to stand: their faults, and those of disks,
    /// of the network and of clients. Where the protocol changes, replicas may lie while it is one that stands that.
    #[must_use]
    pub fn is_free_of_lies(self) -> bool {
        matches!(
            self,
            Self::Calm
                | Self::Delay
                | Self::Loss
                | Self::Duplicate
                | Self::Reorder
                | Self::Partition
                | Self::CrashDisk
                | Self::CrashEmpty
                | Self::DiskFaults
                | Self::AsyncLog
                | Self::Replay
                | Self::BadClient
                | Self::InconsistentMacs
                | Self::PlannedStops
                | Self::Reconfigure
                | Self::RecoveringMembers
                | Self::Chaos
        )
    }

    /// Whether nobody in it has to vote again whom somebody else may have spoken for, and nothing holds a primary to a
    /// floor.
    #[must_use]
    pub fn needs_no_recovery(self) -> bool {
        !matches!(
            self,
            Self::KeyTheft
                | Self::SlowPrimary
                | Self::UnfairPrimary
                | Self::ProactiveRecovery
                | Self::MobileAdversary
                | Self::RecoveringMembers
        )
    }

    /// Whether replicas recover in turn, or are recovered: of a group that does so all execute, since a witness would
    /// start as one that lost its disk.
    #[must_use]
    pub fn recovers_in_turn(self) -> bool {
        matches!(self, Self::ProactiveRecovery | Self::MobileAdversary | Self::RecoveringMembers)
    }

    /// In an attack on throughput: how many in 1000 of the operations that it would complete undisturbed each
    /// correct client has to complete. What the floors for primaries promise, ADR 16: not more.
    #[must_use]
    pub fn least_share(self) -> Option<u64> {
        match self {
            Self::SlowPrimary | Self::UnfairPrimary => Some(250),
            Self::InconsistentMacs => Some(500),
            _ => None,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is none of a fault family.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there is no fault family {name:?}; there are {}", Family::ALL.map(Family::name).join(", "))]
pub struct UnknownFamily {
    /// The name.
    pub name: String,
}

impl FromStr for Family {
    type Err = UnknownFamily;

    fn from_str(name: &str) -> Result<Self, UnknownFamily> {
        let found = Self::ALL.into_iter().find(|family| family.name() == name);
        found.ok_or_else(|| UnknownFamily { name: name.to_owned() })
    }
}

impl Serialize for Family {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Which protocol is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum ProtocolKind {
    /// Practical Byzantine Fault Tolerance.
    #[default]
    Pbft,
    /// Paxos, among replicas that only crash.
    Paxos,
    /// Speculative Byzantine fault tolerance.
    Speculative(Composition),
}

impl ProtocolKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Pbft,
        Self::Paxos,
        Self::Speculative(Composition::Zyzzyva),
        Self::Speculative(Composition::Quorum),
        Self::Speculative(Composition::Chain),
        Self::Speculative(Composition::Aliph),
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pbft => "pbft",
            Self::Paxos => "paxos",
            Self::Speculative(composition) => composition.name(),
        }
    }

    /// Which protocols take turns, for clients.
    pub(crate) fn composition(self) -> Composition {
        match self {
            Self::Speculative(composition) => composition,
            Self::Pbft | Self::Paxos => Composition::Zyzzyva,
        }
    }

    /// Whether it is made to stand this family. In a family with faulty replicas, where these only crash, there
    /// are none.
    #[must_use]
    pub fn stands(self, family: Family) -> bool {
        match self {
            Self::Pbft => true,
            Self::Paxos => family.is_free_of_lies(),
            Self::Speculative(_) => family.needs_no_recovery(),
        }
    }
}

impl Serialize for ProtocolKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Display for ProtocolKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A run that would show nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unsuited {
    /// A fault family that a protocol is not made for.
    #[error("{protocol} is not made for {family}: {}", match .protocol {
        ProtocolKind::Paxos => "its replicas crash, and do not lie",
        ProtocolKind::Pbft | ProtocolKind::Speculative(_) => "who recovers would not vote again, and primaries have no floor",
    })]
    Protocol {
        /// The protocol.
        protocol: ProtocolKind,
        /// The family.
        family: Family,
    },
    /// No group changes its protocol in this family.
    #[error("the protocol stays the same in {family}; it changes in {}", Family::Reconfigure)]
    NoChange {
        /// The family.
        family: Family,
    },
}

/// One run. Equal configurations give equal runs, to the last event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SimConfig {
    /// The protocol.
    pub protocol: ProtocolKind,
    /// In a family whose groups change their protocol: the one that they change to, and back; `None` is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<ProtocolKind>,
    /// What goes wrong.
    pub family: Family,
    /// How many replicas; as many may be faulty as the protocol tolerates.
    pub replicas: usize,
    /// What all chance follows from.
    pub seed: u64,
    /// How many of the last events a failure is reported with.
    pub trace_lines: usize,
    /// Whether some replicas are witnesses, which agree and do not execute: of a group that runs PBFT, as far as it
    /// does.
    pub has_witnesses: bool,
}

impl SimConfig {
    /// The largest group that is simulated.
    pub const MAX_REPLICAS: usize = 16;

    /// A run of PBFT.
    ///
    /// # Panics
    /// If `replicas` is 0 or above [`Self::MAX_REPLICAS`].
    #[must_use]
    pub fn new(family: Family, replicas: usize, seed: u64) -> Self {
        assert!((1..=Self::MAX_REPLICAS).contains(&replicas), "{replicas} replicas can't be simulated");
        let (protocol, other, trace_lines, has_witnesses) = (ProtocolKind::Pbft, None, 200, false);
        Self { protocol, other, family, replicas, seed, trace_lines, has_witnesses }
    }

    /// A run of any protocol.
    ///
    /// # Errors
    /// Where the protocol is not made for the family.
    ///
    /// # Panics
    /// If `replicas` is 0 or above [`Self::MAX_REPLICAS`].
    pub fn of(protocol: ProtocolKind, family: Family, replicas: usize, seed: u64) -> Result<Self, Unsuited> {
        let config = Self { protocol, ..Self::new(family, replicas, seed) };
        if protocol.stands(family) { Ok(config) } else { Err(Unsuited::Protocol { protocol, family }) }
    }

    /// The same, in which the group changes to this protocol and back, again and again. Where one of both is Paxos,
    /// nobody lies.
    ///
    /// # Errors
    /// Where that is not made for the family, or where no protocol changes in it.
    pub fn and(self, other: ProtocolKind) -> Result<Self, Unsuited> {
        let family = self.family;
        if !family.changes_members() {
            return Err(Unsuited::NoChange { family });
        }
        if !other.stands(family) {
            return Err(Unsuited::Protocol { protocol: other, family });
        }
        Ok(Self { other: Some(other), ..self })
    }

    /// Whether some replicas may be faulty in other ways than that they crash.
    pub(crate) fn has_liars(&self) -> bool {
        self.protocol != ProtocolKind::Paxos && self.other != Some(ProtocolKind::Paxos)
    }

    /// How many replicas may be faulty: the most that `replicas` tolerate.
    #[must_use]
    pub fn faults(&self) -> usize {
        match self.protocol {
            ProtocolKind::Pbft | ProtocolKind::Speculative(_) => (self.replicas - 1) / 3,
            ProtocolKind::Paxos => (self.replicas - 1) / 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for family in Family::ALL {
            assert_eq!(family.name().parse(), Ok(family));
        }
        let lie = SimConfig::of(ProtocolKind::Paxos, Family::Equivocate, 3, 1).unwrap_err();
        assert_eq!(lie.to_string(), "paxos is not made for equivocate: its replicas crash, and do not lie");
        let calm = SimConfig::new(Family::Calm, 4, 1).and(ProtocolKind::Paxos).unwrap_err();
        assert_eq!(calm.to_string(), "the protocol stays the same in calm; it changes in reconfigure");
        let crash = SimConfig::of(ProtocolKind::Paxos, Family::CrashEmpty, 5, 1).unwrap();
        assert_eq!(crash.faults(), 2);
        assert!("nonsense".parse::<Family>().unwrap_err().to_string().contains("crash-disk"));
    }
}
