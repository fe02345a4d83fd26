//! What travels between a client and a replica: frames, each with the session of the client that it
//! belongs to. So the sessions of a client share a connection, and with it system calls and wake-ups.
//!
//! ```text
//! session u16 little-endian | content
//! ```
//!
//! Between replicas there are no sessions, and a frame is its content.

use althing_types::Principal;
use bytes::Bytes;

use crate::channel::Role;

/// Length of the session before the content, in bytes.
pub(super) const SESSION_LEN: usize = 2;

/// A frame and the session that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Enveloped {
    pub(super) session: u16,
    pub(super) bytes: Bytes,
}

/// Whether the frames between these two name a session.
pub(super) fn has_sessions(me: Principal, peer: Principal) -> bool {
    Role::from(me) == Role::Client || Role::from(peer) == Role::Client
}

impl Enveloped {
    /// Reads a frame that names its session; `None` where it is too short.
    pub(super) fn opened(mut frame: Bytes) -> Option<Self> {
        let session = u16::from_le_bytes(*frame.first_chunk::<SESSION_LEN>()?);
        let bytes = frame.split_off(SESSION_LEN);
        Some(Self { session, bytes })
    }
}
