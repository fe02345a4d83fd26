//! Bugs planted in the code under test, to see that the oracles catch them. They stand around the
//! production code and never in it.

mod flawed_paxos;
mod flawed_protocol;
mod flawed_service;
mod flawed_storage;

use crate::adversary::{Behaviour, Means};
use crate::config::{Family, ProtocolKind, SimConfig};
use crate::disk::AnyStorage;
use crate::medium::Medium;
use crate::plan::Plan;
use crate::report::RunReport;
use crate::subject::{AnyTamper, Genuine, Message, Probe, Subject, Tested, limits};
use crate::world::simulate;
use althing_protocol::pbft::PbftSettings;
use althing_replica::{Client, ClientConfig, LimitSettings, Limits};
use althing_types::{ClientId, Quorums, ReplicaId};
use flawed_paxos::FlawedPaxos;
use flawed_protocol::FlawedProtocol;
use flawed_service::FlawedService;
use flawed_storage::FlawedStorage;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// A bug that some oracle has to catch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Planted {
    /// Quorums are sized as if no replica could be faulty.
    SmallQuorums,
    /// View changes don't say what prepared before.
    Forgetful,
    /// Replicas commit what they have not prepared.
    SkippedPrepare,
    /// Replicas execute for good what they should execute tentatively.
    HastyExecution,
    /// Votes leave before they are on disk.
    UnsyncedVotes,
    /// Now and then a request is executed again under another number.
    ExecutedTwice,
    /// Now and then another operation is executed than was submitted.
    CorruptedOperation,
    /// Replicas keep every message for ever.
    Leak,
    /// View changes are never sent.
    NoViewChange,
    /// Replicas accuse whoever is slower than they are.
    Slander,
    /// A replica panics at a certain batch.
    Panic,
    /// The service's state depends on which replica it runs on.
    Nondeterminism,
    /// Now and then a read gives nothing.
    LostRead,
    /// The service adds to a state that it is to install.
    WrongInstall,
    /// Clients believe the first reply.
    GullibleClient,
    /// Records are said to be on disk before they are.
    UnsyncedLog,
    /// Segments are named before they are on disk.
    UnsyncedSegments,
    /// Segments are removed before the log names others in their place.
    HastyRemoval,
    /// A segment leaves out what has changed since another state than the one on disk.
    WrongBase,
    /// A file takes the place of another before its content is on disk.
    UnsyncedDraft,
    /// A sync that failed is tried again, and its success believed.
    SecondSync,
    /// A tail that a crash left unfinished is taken for damage.
    TornIsDamage,
    /// Damage is taken for the tail that a crash left unfinished.
    DamageIsTorn,
    /// A log that was never synced is believed after the power has failed.
    TrustedCache,
    /// An instance goes on where its epoch has ended.
    NoEnd,
    /// Replicas take back a change of the members that they have granted.
    LostGrant,
    /// What was said in one epoch counts in the next.
    OldVotes,
    /// From the second epoch on, quorums are sized as if no replica could be faulty.
    SmallSuccessor,
    /// From the second epoch on, replicas go by the settings of the first.
    OldSettings,
    /// From the second epoch on, replicas take requests as in the first.
    OldPolicy,
    /// What a replica said last before it left the group is sent again.
    LateVotes,
    /// Replicas never take new keys.
    LastingKeys,
    /// Replaced keys stay good for ever.
    KeptKeys,
    /// Those who step down, and who follow them, don't say what prepared before.
    BareSteps,
    /// Replicas find every primary too slow.
    Impatient,
    /// Primaries may take as long as the view timeout lets them.
    NoThroughputFloor,
    /// Primaries may serve whom they like, as long as the view timeout lets them.
    NoFairnessFloor,
    /// Replicas that were taken over are never recovered.
    NoRecovery,
    /// A replica that recovers believes what is on its disk: pages and votes.
    BelievedDisk,
    /// A replica that recovers counts as recovered at once, whatever it may have said before.
    UnboundedVotes,
    /// A replica that recovers goes on with its memory as it is.
    KeptMemory,
    /// A replica that is cut off while it recovers starts as if nothing had been.
    ForgottenRecovery,
    /// In Paxos, promises and votes leave before they are on disk.
    UnsyncedAccepts,
    /// In Paxos, a new leader forgets what others have accepted.
    ForgetfulLeader,
    /// In Paxos, a replica that lost its disk votes at once.
    HastyAcceptor,
    /// A witness believes one executor.
    GullibleWitness,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 46] = [
        Self::SmallQuorums,
        Self::Forgetful,
        Self::SkippedPrepare,
        Self::HastyExecution,
        Self::UnsyncedVotes,
        Self::ExecutedTwice,
        Self::CorruptedOperation,
        Self::Leak,
        Self::NoViewChange,
        Self::Slander,
        Self::Panic,
        Self::Nondeterminism,
        Self::LostRead,
        Self::WrongInstall,
        Self::GullibleClient,
        Self::UnsyncedLog,
        Self::UnsyncedSegments,
        Self::HastyRemoval,
        Self::WrongBase,
        Self::UnsyncedDraft,
        Self::SecondSync,
        Self::TornIsDamage,
        Self::DamageIsTorn,
        Self::TrustedCache,
        Self::NoEnd,
        Self::LostGrant,
        Self::OldVotes,
        Self::SmallSuccessor,
        Self::OldSettings,
        Self::OldPolicy,
        Self::LateVotes,
        Self::LastingKeys,
        Self::KeptKeys,
        Self::BareSteps,
        Self::Impatient,
        Self::NoThroughputFloor,
        Self::NoFairnessFloor,
        Self::NoRecovery,
        Self::BelievedDisk,
        Self::UnboundedVotes,
        Self::KeptMemory,
        Self::ForgottenRecovery,
        Self::UnsyncedAccepts,
        Self::ForgetfulLeader,
        Self::HastyAcceptor,
        Self::GullibleWitness,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SmallQuorums => "small-quorums",
            Self::Forgetful => "forgetful",
            Self::SkippedPrepare => "skipped-prepare",
            Self::HastyExecution => "hasty-execution",
            Self::UnsyncedVotes => "unsynced-votes",
            Self::ExecutedTwice => "executed-twice",
            Self::CorruptedOperation => "corrupted-operation",
            Self::Leak => "leak",
            Self::NoViewChange => "no-view-change",
            Self::Slander => "slander",
            Self::Panic => "panic",
            Self::Nondeterminism => "nondeterminism",
            Self::LostRead => "lost-read",
            Self::WrongInstall => "wrong-install",
            Self::GullibleClient => "gullible-client",
            Self::UnsyncedLog => "unsynced-log",
            Self::UnsyncedSegments => "unsynced-segments",
            Self::HastyRemoval => "hasty-removal",
            Self::WrongBase => "wrong-base",
            Self::UnsyncedDraft => "unsynced-draft",
            Self::SecondSync => "second-sync",
            Self::TornIsDamage => "torn-is-damage",
            Self::DamageIsTorn => "damage-is-torn",
            Self::TrustedCache => "trusted-cache",
            Self::NoEnd => "no-end",
            Self::LostGrant => "lost-grant",
            Self::OldVotes => "old-votes",
            Self::SmallSuccessor => "small-successor",
            Self::OldSettings => "old-settings",
            Self::OldPolicy => "old-policy",
            Self::LateVotes => "late-votes",
            Self::LastingKeys => "lasting-keys",
            Self::KeptKeys => "kept-keys",
            Self::BareSteps => "bare-steps",
            Self::Impatient => "impatient",
            Self::NoThroughputFloor => "no-throughput-floor",
            Self::NoFairnessFloor => "no-fairness-floor",
            Self::NoRecovery => "no-recovery",
            Self::BelievedDisk => "believed-disk",
            Self::UnboundedVotes => "unbounded-votes",
            Self::KeptMemory => "kept-memory",
            Self::ForgottenRecovery => "forgotten-recovery",
            Self::UnsyncedAccepts => "unsynced-accepts",
            Self::ForgetfulLeader => "forgetful-leader",
            Self::HastyAcceptor => "hasty-acceptor",
            Self::GullibleWitness => "gullible-witness",
        }
    }

    /// The oracles that may catch it: it shows in one of these ways.
    #[must_use]
    pub fn oracles(self) -> &'static [&'static str] {
        match self {
            Self::SmallQuorums
            | Self::Forgetful
            | Self::SkippedPrepare
            | Self::HastyExecution
            | Self::BareSteps
            | Self::ForgetfulLeader => &["agreement"],
            // Replicas contradict what they said before the crash, or forget what clients were told.
            Self::UnsyncedVotes => &["agreement", "linearizability", "exactly-once", "accusation"],
            Self::UnsyncedAccepts | Self::HastyAcceptor => &["agreement", "linearizability", "exactly-once"],
            Self::ExecutedTwice => &["exactly-once"],
            Self::CorruptedOperation => &["validity"],
            Self::Leak => &["memory"],
            Self::NoViewChange => &["liveness"],
            // It signs what is wrong, and is taken for one that lies.
            Self::Slander | Self::GullibleWitness => &["accusation"],
            Self::Panic => &["panic"],
            // Who has copied the keys of more replicas than are tolerated can tell clients, and replicas,
            // whatever it wants.
            Self::NoRecovery => &["agreement", "linearizability", "checkpoint", "liveness"],
            Self::LastingKeys | Self::KeptKeys => &["linearizability", "agreement"],
            Self::BelievedDisk | Self::UnboundedVotes | Self::KeptMemory | Self::ForgottenRecovery => {
                &["agreement", "checkpoint"]
            }
            Self::Nondeterminism | Self::WrongInstall | Self::WrongBase => &["checkpoint"],
            Self::LostRead | Self::GullibleClient => &["linearizability"],
            Self::UnsyncedLog
            | Self::UnsyncedSegments
            | Self::HastyRemoval
            | Self::UnsyncedDraft
            | Self::SecondSync
            | Self::TornIsDamage
            | Self::DamageIsTorn
            | Self::TrustedCache => &["durability"],
            Self::NoEnd | Self::LostGrant | Self::OldSettings | Self::OldPolicy | Self::LateVotes => {
                &["membership"]
            }
            // A proposal of the old epoch stands against a correct primary's of the new one, or is executed.
            Self::OldVotes => &["accusation", "agreement", "exactly-once"],
            // The proof of how the epoch ended has too few votes, or two things are decided.
            Self::SmallSuccessor => &["agreement", "exactly-once", "panic"],
            Self::Impatient => &["patience"],
            Self::NoThroughputFloor | Self::NoFairnessFloor => &["throughput"],
        }
    }

    /// A run in which it can show.
    #[must_use]
    pub fn config(self, seed: u64) -> SimConfig {
        let (family, replicas) = match self {
            Self::SmallQuorums | Self::SkippedPrepare => (Family::Twins, 7),
            Self::Forgetful => (Family::Partition, 4),
            Self::HastyExecution => (Family::Delay, 4),
            Self::UnsyncedVotes
            | Self::UnsyncedLog
            | Self::UnsyncedSegments
            | Self::HastyRemoval
            | Self::WrongBase
            | Self::UnsyncedDraft
            | Self::TornIsDamage => (Family::CrashDisk, 4),
            Self::SecondSync | Self::DamageIsTorn => (Family::DiskFaults, 4),
            Self::TrustedCache => (Family::AsyncLog, 4),
            Self::LastingKeys | Self::KeptKeys => (Family::KeyTheft, 4),
            Self::BareSteps => (Family::PlannedStops, 4),
            Self::Impatient => (Family::SlowPrimary, 4),
            Self::NoThroughputFloor => (Family::SlowPrimary, 4),
            Self::NoFairnessFloor => (Family::UnfairPrimary, 4),
            Self::NoRecovery
            | Self::BelievedDisk
            | Self::UnboundedVotes
            | Self::KeptMemory
            | Self::ForgottenRecovery => (Family::MobileAdversary, 4),
            Self::GullibleWitness => (Family::WrongCheckpoint, 4),
            Self::NoViewChange => (Family::Mute, 4),
            Self::WrongInstall => (Family::CrashEmpty, 4),
            Self::GullibleClient => (Family::WrongReply, 4),
            Self::NoEnd
            | Self::LostGrant
            | Self::OldVotes
            | Self::SmallSuccessor
            | Self::OldSettings
            | Self::OldPolicy
            | Self::LateVotes => (Family::Reconfigure, 4),
            Self::UnsyncedAccepts => (Family::CrashDisk, 3),
            Self::ForgetfulLeader => (Family::Partition, 5),
            Self::HastyAcceptor => (Family::CrashEmpty, 3),
            _ => (Family::Calm, 4),
        };
        let protocol = if self.is_in_paxos() { ProtocolKind::Paxos } else { ProtocolKind::Pbft };
        let has_witnesses = self == Self::GullibleWitness;
        SimConfig { protocol, has_witnesses, ..SimConfig::new(family, replicas, seed) }
    }

    fn is_in_paxos(self) -> bool {
        matches!(self, Self::UnsyncedAccepts | Self::ForgetfulLeader | Self::HastyAcceptor)
    }

    /// Runs `config` with this bug in the code under test.
    #[must_use]
    pub fn run(self, config: &SimConfig) -> RunReport {
        if self.is_in_paxos() {
            simulate(&FlawedPaxos(self), config)
        } else {
            simulate(&Flawed(self), config)
        }
    }

    /// Runs up to `seeds` seeds, until an oracle that has to catches the bug; gives back that run.
    #[must_use]
    pub fn hunt(self, seeds: u64) -> Option<RunReport> {
        let is_caught = |report: &RunReport| {
            report.failure.as_ref().is_some_and(|failure| self.oracles().contains(&failure.oracle))
        };
        (0..seeds).map(|seed| self.run(&self.config(seed))).find(is_caught)
    }
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Longer than any run.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// The production code with a bug around it.
struct Flawed(Planted);

impl Subject for Flawed {
    type Protocol = FlawedProtocol;
    type Service = FlawedService;

    fn protocol(&self, me: ReplicaId, quorums: Quorums, settings: PbftSettings) -> FlawedProtocol {
        FlawedProtocol::new(self.0, Genuine.protocol(me, quorums, settings))
    }

    fn adversary(behaviours: BTreeSet<Behaviour>, means: Means) -> Option<AnyTamper<Message<Self>>> {
        Genuine::adversary(behaviours, means)
    }

    fn forwarded(message: &Message<Self>) -> Option<ClientId> {
        Genuine::forwarded(message)
    }

    fn service(&self, me: ReplicaId) -> FlawedService {
        FlawedService::new(self.0, me)
    }

    fn client(&self, config: ClientConfig) -> Client {
        let quorums =
            if self.0 == Planted::GullibleClient { fearless(config.quorums) } else { config.quorums };
        Client::new(ClientConfig { quorums, ..config })
    }

    fn storage(&self, medium: Medium) -> AnyStorage {
        Box::new(FlawedStorage::new(self.0, medium))
    }

    fn recovers(&self) -> bool {
        self.0 != Planted::NoRecovery
    }

    fn doubts(&self) -> bool {
        self.0 != Planted::BelievedDisk
    }

    fn remembers_recoveries(&self) -> bool {
        self.0 != Planted::ForgottenRecovery
    }

    fn starts_afresh(&self) -> bool {
        self.0 != Planted::KeptMemory
    }

    fn renews_keys(&self) -> bool {
        self.0 != Planted::LastingKeys
    }

    fn forgets_leavers(&self) -> bool {
        self.0 != Planted::LateVotes
    }

    fn on_epoch(&self, replica: &mut Tested<Self>, plan: &Plan) {
        if self.0 == Planted::OldPolicy {
            replica.set_engine_settings(plan.engine);
        }
    }

    fn limits(&self) -> Limits {
        let settings = limits().settings().clone();
        let key_grace = if self.0 == Planted::KeptKeys { FOR_EVER } else { settings.key_grace };
        Limits::new(LimitSettings { key_grace, ..settings }).expect("valid bounds")
    }

    fn quorums(&self, quorums: Quorums) -> Quorums {
        if self.0 == Planted::SmallQuorums { fearless(quorums) } else { quorums }
    }

    fn settings(&self, settings: PbftSettings) -> PbftSettings {
        match self.0 {
            Planted::NoThroughputFloor => PbftSettings { primary_slack: 0, ..settings },
            Planted::NoFairnessFloor => PbftSettings { primary_passes: 0, ..settings },
            _ => settings,
        }
    }

    fn probe(protocol: &FlawedProtocol) -> Probe {
        protocol.probe()
    }
}

/// The quorums of a group in which nobody is ever faulty.
fn fearless(quorums: Quorums) -> Quorums {
    Quorums::byzantine(quorums.n(), 0).expect("f = 0 is always allowed")
}
