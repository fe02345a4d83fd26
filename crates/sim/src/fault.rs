use crate::network::{Layout, Weather};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A fault of the plan, at its time. Whom it hits is decided then, since it depends on how the run
/// has gone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    /// The network behaves like this from now on.
    Weather(Weather),
    /// Who can reach whom from now on.
    Layout(Layout),
    /// A replica crashes, and restarts after a while.
    Crash { loses_disk: bool, down: Duration },
    /// All replicas crash at once, and restart after a while.
    PowerFailure { down: Duration },
    /// The disk of a replica fails it.
    Disk { failure: DiskFailure, down: Duration },
    /// A host restarts.
    Restart(usize),
    /// There is room again on the disk of a host.
    Room(usize),
    /// An old frame arrives again.
    Replay,
    /// The primary steps down.
    StepDown,
    /// A replica is told to stop, hands over, and starts again after a while.
    PlannedStop { down: Duration },
    /// A host that was told to stop does.
    StopNow { host: usize, down: Duration },
    /// It is the turn of the next replica to recover.
    Recover,
    /// A host that is to recover goes down, and comes back without its disk.
    RecoverNow { host: usize, down: Duration },
    /// A replica is taken over.
    Seize,
    /// The keys of a replica are copied.
    Theft,
    /// Whoever copied keys speaks in the names of all that it has robbed.
    Impersonation,
    /// A faulty client says something: of all kinds, or always with MACs that are good for some only.
    RogueTurn { client: usize, has_one_trick: bool },
    /// The faults end. What is Byzantine stays so.
    Heal,
}

/// How a disk fails a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiskFailure {
    /// Something can't be made durable.
    Sync,
    /// It runs full, and for a while nobody makes room.
    Full,
    /// A bit of what was durable changes.
    BitFlip,
}

/// What kind of fault was injected, for the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Injection {
    Delayed,
    Lost,
    Duplicated,
    Overtaking,
    Corrupted,
    CutOff,
    LayoutChanged,
    Crashed,
    DiskLost,
    PowerFailed,
    Killed,
    StoppedInOrder,
    StartCutOff,
    WritesLost,
    WritesKept,
    WritesTorn,
    WritesReordered,
    SyncFailed,
    DiskFull,
    BitFlipped,
    DiskRefused,
    Muted,
    Equivocated,
    Slowed,
    CheckpointFalsified,
    ReplyFalsified,
    Forged,
    Replayed,
    ViewChangeFalsified,
    NewViewFalsified,
    StateFalsified,
    StatusFalsified,
    BadRequest,
    Twinned,
    MembersChanged,
    ProtocolChanged,
    KeysStolen,
    Impersonated,
    SteppedDown,
    HeldBack,
    Recovered,
    Seized,
    DiskForged,
    MemoryCorrupted,
}

impl Injection {
    const ALL: [Self; 44] = [
        Self::Delayed,
        Self::Lost,
        Self::Duplicated,
        Self::Overtaking,
        Self::Corrupted,
        Self::CutOff,
        Self::LayoutChanged,
        Self::Crashed,
        Self::DiskLost,
        Self::PowerFailed,
        Self::Killed,
        Self::StoppedInOrder,
        Self::StartCutOff,
        Self::WritesLost,
        Self::WritesKept,
        Self::WritesTorn,
        Self::WritesReordered,
        Self::SyncFailed,
        Self::DiskFull,
        Self::BitFlipped,
        Self::DiskRefused,
        Self::Muted,
        Self::Equivocated,
        Self::Slowed,
        Self::CheckpointFalsified,
        Self::ReplyFalsified,
        Self::Forged,
        Self::Replayed,
        Self::ViewChangeFalsified,
        Self::NewViewFalsified,
        Self::StateFalsified,
        Self::StatusFalsified,
        Self::BadRequest,
        Self::Twinned,
        Self::MembersChanged,
        Self::ProtocolChanged,
        Self::KeysStolen,
        Self::Impersonated,
        Self::SteppedDown,
        Self::HeldBack,
        Self::Recovered,
        Self::Seized,
        Self::DiskForged,
        Self::MemoryCorrupted,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Delayed => "delayed",
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::Overtaking => "overtaking",
            Self::Corrupted => "corrupted",
            Self::CutOff => "cut-off",
            Self::LayoutChanged => "layout-changed",
            Self::Crashed => "crashed",
            Self::DiskLost => "disk-lost",
            Self::PowerFailed => "power-failed",
            Self::Killed => "killed",
            Self::StoppedInOrder => "stopped-in-order",
            Self::StartCutOff => "start-cut-off",
            Self::WritesLost => "writes-lost",
            Self::WritesKept => "writes-kept",
            Self::WritesTorn => "writes-torn",
            Self::WritesReordered => "writes-reordered",
            Self::SyncFailed => "sync-failed",
            Self::DiskFull => "disk-full",
            Self::BitFlipped => "bit-flipped",
            Self::DiskRefused => "disk-refused",
            Self::Muted => "muted",
            Self::Equivocated => "equivocated",
            Self::Slowed => "slowed",
            Self::CheckpointFalsified => "checkpoint-falsified",
            Self::ReplyFalsified => "reply-falsified",
            Self::Forged => "forged",
            Self::Replayed => "replayed",
            Self::ViewChangeFalsified => "view-change-falsified",
            Self::NewViewFalsified => "new-view-falsified",
            Self::StateFalsified => "state-falsified",
            Self::StatusFalsified => "status-falsified",
            Self::BadRequest => "bad-request",
            Self::Twinned => "twinned",
            Self::MembersChanged => "members-changed",
            Self::ProtocolChanged => "protocol-changed",
            Self::KeysStolen => "keys-stolen",
            Self::Impersonated => "impersonated",
            Self::SteppedDown => "stepped-down",
            Self::HeldBack => "held-back",
            Self::Recovered => "recovered",
            Self::Seized => "seized",
            Self::DiskForged => "disk-forged",
            Self::MemoryCorrupted => "memory-corrupted",
        }
    }
}

/// Counts injections. Shared with the adversaries inside the replicas.
#[derive(Debug, Clone)]
pub(crate) struct Injections(Arc<[AtomicU64; Injection::ALL.len()]>);

impl Default for Injections {
    fn default() -> Self {
        Self(Arc::new(std::array::from_fn(|_| AtomicU64::new(0))))
    }
}

impl Injections {
    pub(crate) fn note(&self, injection: Injection) {
        self.0[injection as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often each kind was injected, without those that were not.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        let count =
            |injection: Injection| (injection.name(), self.0[injection as usize].load(Ordering::Relaxed));
        Injection::ALL.into_iter().map(count).filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_injection_is_counted_under_its_own_name() {
        for (place, injection) in Injection::ALL.into_iter().enumerate() {
            assert_eq!(injection as usize, place);
            let injections = Injections::default();
            injections.note(injection);
            assert_eq!(injections.counts(), BTreeMap::from([(injection.name(), 1)]));
        }
    }
}
