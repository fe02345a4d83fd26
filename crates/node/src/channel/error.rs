use std::{fmt, io};

use althing_types::GroupId;

use super::hello::VERSION;
use crate::frame::FrameError;

/// Why a channel did not come about, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The peer closed the channel between two frames.
    #[error("the peer closed the connection")]
    Closed,
    /// The connection failed or ended in the middle of a message.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The peer broke the framing.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The first bytes are not those of an Althing channel.
    #[error("the peer does not speak Althing's protocol")]
    NotAlthing,
    /// The peer speaks another version.
    #[error(
        "the peer speaks version {found} of the channel protocol, and this node version {VERSION}; run the same \
         release of althing at both ends"
    )]
    Version {
        /// The peer's version.
        found: u16,
    },
    /// The peer wants another group.
    #[error("the peer asks for group {found:?}, which is not served here")]
    Group {
        /// The group asked for.
        found: GroupId,
    },
    /// The peer's role is none that exists.
    #[error("the peer announces the unknown role {found}")]
    Role {
        /// The role's code.
        found: u8,
    },
    /// A handshake message has the wrong length or does not authenticate.
    #[error("handshake message {number} does not authenticate: a peer's key is not the expected one")]
    Handshake {
        /// The number of the Noise message, from 1.
        number: u8,
    },
    /// A message after the handshake does not authenticate: it was altered, replayed or reordered.
    #[error("message {number} of the channel does not authenticate")]
    Message {
        /// The number of the message, from 0.
        number: u64,
    },
    /// A frame between a client and a replica is too short to name its session.
    #[error("the peer sent a frame without a session")]
    NoSession,
    /// The other side refused us.
    #[error("refused by the peer: {0}")]
    Refused(Refusal),
    /// We refused the other side.
    #[error("refused: {0}")]
    Refusing(Refusal),
}

/// Why an acceptor does not take a dialler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The versions of the channel protocol differ. Who refuses says its own with it.
    Version,
    /// Another group is served there.
    Group,
    /// The handshake failed: the dialler expected another key.
    Handshake,
    /// Nobody known has the dialler's key.
    UnknownKey,
    /// The key belongs to somebody who does not dial here in this role.
    Role,
    /// As many clients as allowed are connected.
    Busy,
    /// A reason unknown to this version.
    Other(u8),
}

impl Refusal {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Version => 1,
            Self::Group => 2,
            Self::Handshake => 3,
            Self::UnknownKey => 4,
            Self::Role => 5,
            Self::Busy => 6,
            Self::Other(code) => code,
        }
    }

    pub(super) fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Version,
            2 => Self::Group,
            3 => Self::Handshake,
            4 => Self::UnknownKey,
            5 => Self::Role,
            6 => Self::Busy,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version => {
                write!(
                    f,
                    "it does not speak version {VERSION} of the channel protocol, as this node does; run "
                )?;
                f.write_str("the same release of althing at both ends")
            }
            Self::Group => f.write_str("another group is served there"),
            Self::Handshake => f.write_str("the acceptor's key is not the one the dialler expects"),
            Self::UnknownKey => f.write_str("the dialler's key is not in the directory"),
            Self::Role => f.write_str("the key's owner does not dial here in this role"),
            Self::Busy => f.write_str("too many clients are connected"),
            Self::Other(code) => write!(f, "reason {code}, unknown to this version"),
        }
    }
}
