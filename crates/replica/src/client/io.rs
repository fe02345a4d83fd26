use crate::membership::Membership;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{ReplicaId, RequestNumber};
use core::time::Duration;
use thiserror::Error;

/// Whether an operation changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    /// It may: it has to be ordered.
    Ordered,
    /// It changes nothing: it is tried without ordering, as far as [`ReadPolicy`](crate::ReadPolicy) lets it.
    ReadOnly,
    /// It changes the group itself: a [`SignedReconfigure`](crate::membership::SignedReconfigure), answered
    /// with a [`ReconfigureOutcome`](crate::membership::ReconfigureOutcome).
    Reconfigure,
}

/// Why an operation was not submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SubmitError {
    /// A client has one operation under way at a time.
    #[error("request {number} is still outstanding")]
    Outstanding {
        /// The one under way.
        number: RequestNumber,
    },
    /// The operation is longer than the group allows.
    #[error("the operation has {bytes} bytes where at most {limit} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The length allowed.
        limit: usize,
    },
}

/// Something that happened to a client.
#[derive(Debug, Clone)]
pub enum ClientInput {
    /// Bytes came over the channel of a replica.
    Frame {
        /// Whose channel it is.
        from: ReplicaId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The timer expired.
    Timer,
    /// What was sent to this replica lately may not have arrived: there is no channel to it any more, or
    /// there was none.
    Unreachable(ReplicaId),
    /// This is a later membership: somebody whom the client trusts, such as another client in the same
    /// process, has seen the proof.
    Epoch(Box<Membership>),
}

/// Something to be done by the client's runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientOutput {
    /// Send a frame. It may get lost.
    Send {
        /// To whom.
        to: ReplicaId,
        /// What.
        frame: Arc<[u8]>,
    },
    /// Hand in [`ClientInput::Timer`] after this time. There is one timer; it starts afresh.
    SetTimer {
        /// From now.
        after: Duration,
    },
    /// Forget the timer.
    CancelTimer,
    /// The outstanding operation is complete.
    Completed {
        /// Its number.
        number: RequestNumber,
        /// Its result.
        result: Vec<u8>,
        /// Whether it was ordered, or answered without.
        was_ordered: bool,
    },
    /// The outstanding operation was executed, but its result is longer than the group allows.
    ResultTooLong {
        /// Its number.
        number: RequestNumber,
        /// The result's length.
        bytes: u64,
    },
    /// The outstanding operation is submitted under another number, because an earlier instance of this
    /// client has used higher ones.
    Renumbered {
        /// The number that it had.
        from: RequestNumber,
        /// The one that it has now.
        to: RequestNumber,
    },
    /// Another instance of this client is at work, which must not be: the outstanding operation is given
    /// up, and may or may not have taken effect.
    Superseded {
        /// Its number.
        number: RequestNumber,
    },
    /// The group has no room for the operation now. The client keeps trying.
    Busy {
        /// Its number.
        number: RequestNumber,
    },
    /// From here on, replicas are called by their places in this membership: the runtime opens channels to them,
    /// and what it hands in from others is not let in.
    Epoch(Box<Membership>),
    /// One replica says that the service emitted this. Only f + 1 of them together are right.
    Emission {
        /// Who says so.
        from: ReplicaId,
        /// Which listeners it is for.
        channel: u32,
        /// The event.
        payload: Vec<u8>,
    },
    /// What this replica has said that the service emitted counts no longer, where it was not agreed on: a key
    /// has ended under which it was said, and by now somebody else may have been its author.
    EmissionsEnded {
        /// Who said so.
        from: ReplicaId,
    },
    /// Something that came was not let in.
    Refused {
        /// Over whose channel it came.
        from: ReplicaId,
        /// Why.
        reason: &'static str,
    },
}
