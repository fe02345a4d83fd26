use crate::Emission;
use crate::execution::StateError;
use crate::kept::KeptState;
use crate::membership::Membership;
use crate::records::RecordError;
use crate::remains::Remains;
use crate::storage::SegmentContent;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_crypto::{KeySeed, PublicIdentity};
use althing_protocol::{Evidence, TimerId};
use althing_types::{ClientId, Digest, Epoch, Principal, ReplicaId, RequestNumber, Seq, View};
use core::time::Duration;
use thiserror::Error;

/// What a replica starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Startup {
    /// The group is new: no replica has ever run.
    Genesis,
    /// What is on disk.
    Recovered {
        /// The records, as [`Output::Append`] and [`Output::Rewrite`] gave them, oldest first.
        records: Vec<Vec<u8>>,
        /// The state that they name, as [`Output::Keep`] gave it, unless that is the initial one.
        kept: Option<KeptState>,
    },
    /// The disk is lost, or there never was one, and the group has been running.
    Amnesia,
    /// What is on a disk that somebody else may have written to.
    Recovering(Remains),
}

/// Names a timer of a replica, for its runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer(pub(crate) TimerKind);

/// Whose timer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerKind {
    Protocol(TimerId),
    Transfer,
    Join,
    Keys,
}

impl Timer {
    pub(crate) const TRANSFER: Self = Self(TimerKind::Transfer);
    pub(crate) const KEYS: Self = Self(TimerKind::Keys);

    pub(crate) fn protocol(id: TimerId) -> Self {
        Self(TimerKind::Protocol(id))
    }
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The replica starts. Always the first input, and only that.
    Start(Startup),
    /// Bytes came over the channel of `from`.
    Frame {
        /// Whose channel it is, as the channel's own handshake has shown.
        from: Principal,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Bytes came over the channel of a replica that has no place in the present epoch: one that has left, or
    /// one that this replica does not know of yet.
    Stray {
        /// Whose channel it is.
        from: Box<PublicIdentity>,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A timer expired.
    Timer(Timer),
    /// The record with this id, and all before it, are on disk.
    Persisted(u64),
    /// The replica is to stop soon: where it leads a view, it hands that over. Once it is in a view that
    /// another leads it is missed by nobody; it may be ended at any time. It holds for the epochs that it
    /// still gets to as well.
    HandOver,
    /// There is a new channel to a member of the group.
    Connected(Principal),
    /// It is time for a new key. A runtime hands this in after the start, and every so often as it wants
    /// what may have been stolen to be worth nothing; or never, and then MAC keys follow from the
    /// identities alone.
    Refresh {
        /// What the key is made of.
        seed: KeySeed,
        /// How long others believe it: a few times as long as until the next one.
        lifetime: Duration,
    },
    /// The state that [`Output::Keep`] gave is on disk.
    Kept(Seq),
}

/// Something to be done by the runtime, in the order given.
#[derive(Debug, Clone)]
pub enum Output {
    /// As [`Self::Send`], but nobody waits for it: it may leave together with what is sent to the same
    /// receiver next, within a moment.
    SendLazily {
        /// To whom.
        to: Principal,
        /// The bytes.
        frame: Arc<[u8]>,
    },
    /// Somebody waits now for what is sent lazily.
    Flush,
    /// Send a frame. It may get lost.
    Send {
        /// To whom.
        to: Principal,
        /// What.
        frame: Arc<[u8]>,
    },
    /// As [`Self::Send`], to a replica that has no place in the present epoch.
    SendStray {
        /// To whom.
        to: PublicIdentity,
        /// The bytes.
        frame: Arc<[u8]>,
    },
    /// From here on, replicas are called by their places in this membership. The runtime keeps its channels
    /// to those that have left for a while: they may have to be told.
    Epoch {
        /// Who belongs to the epoch.
        membership: Box<Membership>,
        /// This replica's own place.
        me: ReplicaId,
        /// The checkpoint that the epoch started from, and the digest of its state.
        start: Option<(Seq, Digest)>,
    },
    /// Hand in [`Input::Timer`] after this time. A timer that is running starts afresh.
    SetTimer {
        /// Which.
        timer: Timer,
        /// From now.
        after: Duration,
    },
    /// Forget a timer.
    CancelTimer(Timer),
    /// Write a record to disk, then hand in [`Input::Persisted`]; for several, the last id will do.
    Append {
        /// Grows from record to record.
        id: u64,
        /// The record.
        record: Vec<u8>,
    },
    /// Write these segments to disk while everything else goes on, then hand in [`Input::Kept`]. There is
    /// no other before that.
    Keep {
        /// The checkpoint whose state is then there.
        seq: Seq,
        /// What [`write_segments`](crate::storage::write_segments) takes.
        segments: Vec<SegmentContent>,
    },
    /// Replace all that was appended so far by these records, in one step; a rewrite that was cut off
    /// changes nothing. Needs no answer.
    Rewrite {
        /// The records, oldest first.
        records: Vec<Vec<u8>>,
        /// The numbers of segments that they name no more: to be removed once the records are durable.
        dropped: Vec<u64>,
    },
    /// The service emitted something, for listeners that the runtime knows; see
    /// [`Replica::seal_emission`](crate::Replica::seal_emission).
    Emit(Emission),
    /// A replica broke the protocol.
    Evidence(Evidence),
    /// Something that an operator may want to know.
    Report(Report),
    /// This replica can't go on: it does nothing any more.
    Stop(StopReason),
}

/// Why a replica can't go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StopReason {
    /// The service does not take back a state that it had. A new replica may start from the disk.
    #[error("the service does not take back a state of its own: {0}")]
    State(StateError),
    /// What is on disk can't be used: by this service, or by any. It is left as it is, since a replica
    /// that went on as one that lost its disk could never go back, and many may be in that place at once.
    #[error("what is on the disk can not be used: {0}")]
    Records(RecordError),
}

/// What a replica tells about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It is now in this view.
    EnteredView(View),
    /// It has given up on the view before this one.
    LeftView(View),
    /// It executed a batch.
    Executed {
        /// The batch's number.
        seq: Seq,
        /// The view in which it was decided.
        view: View,
        /// The batch's digest.
        digest: Digest,
        /// The requests that took effect, in order: those not executed before.
        requests: Vec<(ClientId, RequestNumber)>,
    },
    /// This replica has no place in the epoch that follows its own. It does nothing any more but show others the
    /// way; once they are in that epoch it may be stopped.
    Retired {
        /// The epoch.
        epoch: Epoch,
    },
    /// A checkpoint is stable.
    Stable {
        /// The checkpoint.
        seq: Seq,
        /// The digest of its state.
        state: Digest,
    },
    /// This replica's own checkpoint differs from the stable one: its state has gone bad.
    Diverged {
        /// The checkpoint.
        seq: Seq,
    },
    /// It has begun to fetch the state of a checkpoint.
    TransferStarted {
        /// The checkpoint.
        seq: Seq,
    },
    /// Its state is now that of a checkpoint.
    TransferFinished {
        /// The checkpoint.
        seq: Seq,
        /// How much of the state had to be fetched.
        bytes: u64,
    },
    /// Others have said what its disk says of the start of the epoch: it goes on from the state there.
    Confirmed {
        /// Where that state stands; 0 for the initial one.
        seq: Seq,
    },
    /// It got to a checkpoint by executing before the state of it, or of an earlier one, had been
    /// fetched.
    TransferDropped {
        /// The checkpoint whose state was being fetched.
        seq: Seq,
    },
    /// A verified state could not be installed: a bug, or replicas that run different services.
    StateRefused {
        /// The checkpoint.
        seq: Seq,
        /// Why.
        error: StateError,
    },
    /// Something that came was not let in.
    Refused {
        /// Over whose channel it came.
        from: Principal,
        /// Why.
        reason: &'static str,
    },
    /// An emission was dropped, because it is longer than the group allows.
    EmissionTooLong {
        /// Its channel.
        channel: u32,
        /// Its length.
        bytes: usize,
    },
    /// It has a new key of its own.
    KeyRefreshed {
        /// The key's number.
        counter: u64,
    },
    /// It has learnt of another replica's new key.
    KeyLearned {
        /// Whose.
        of: ReplicaId,
        /// The key's number.
        counter: u64,
    },
}
