use crate::plan::WireId;
use crate::value::MAX_EVENT_BYTES;
use althing_types::{DecodeError, decode, encode};
use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

/// The most events that one operation delivers.
pub const MAX_EVENTS_PER_DELIVERY: usize = 64;

/// The most bytes that an operation may have.
pub const MAX_OPERATION_BYTES: usize = 256 * 1024;

/// The most bytes of events that a reply to [`Operation::Outputs`] holds; one event always fits.
pub const MAX_OUTPUTS_BYTES: usize = 128 * 1024;

/// The most bytes that a reply may have.
pub const MAX_REPLY_BYTES: usize = 1024 * 1024;

/// What clients ask of a component's group.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Operation {
    /// Brings events of an incoming wire, in ascending order. From the edge, their numbers are not
    /// looked at.
    Deliver {
        /// The wire.
        wire: WireId,
        /// The events.
        events: Vec<NumberedEvent>,
    },
    /// Says that the consumer of an outgoing wire has all its events up to this one.
    Acknowledge {
        /// The wire.
        wire: WireId,
        /// Number of the last event that the consumer has.
        up_to: u64,
    },
    /// Reads the outbox of an outgoing wire. Changes nothing.
    Outputs {
        /// The wire.
        wire: WireId,
        /// Number of the first event wanted.
        from: u64,
    },
    /// Reads how far an incoming wire is. Changes nothing.
    Progress {
        /// The wire.
        wire: WireId,
    },
    /// Reads the component's figures as JSON. Changes nothing.
    Inspect,
}

/// An event with its place on its wire.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct NumberedEvent {
    /// Its number, from 1.
    pub seq: u64,
    /// Its canonical JSON.
    pub event: Vec<u8>,
}

/// The payload of an emission: one event on one wire.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct OutputCopy {
    /// The wire.
    pub wire: WireId,
    /// Its number on the wire, from 1.
    pub seq: u64,
    /// Its canonical JSON.
    pub event: Vec<u8>,
}

/// What a group answers.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Reply {
    /// All events of the delivery were taken.
    Delivered {
        /// Number of the last event of the wire that the component has taken (for a wire from the
        /// edge: how many it has taken).
        accepted_up_to: u64,
    },
    /// The first `taken` events were taken. The others were not looked at: deliver them again later.
    Busy {
        /// Events taken, from the beginning of the delivery.
        taken: u32,
        /// As in [`Reply::Delivered`].
        accepted_up_to: u64,
    },
    /// The acknowledgement was noted.
    Acknowledged {
        /// Number of the last event that the group no longer keeps.
        released_up_to: u64,
    },
    /// Events of an outbox.
    Outputs {
        /// Number of the last event that the group no longer keeps.
        released_up_to: u64,
        /// Number of the last event of the wire.
        last: u64,
        /// Kept events from the wanted one on, ascending and without gaps.
        events: Vec<NumberedEvent>,
    },
    /// How far an incoming wire is.
    Progress {
        /// As in [`Reply::Delivered`].
        accepted_up_to: u64,
    },
    /// The component's figures, as a JSON object.
    Inspection {
        /// JSON text.
        json: String,
    },
    /// Nothing was done.
    Refused(Refusal),
}

/// Why an operation was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Error)]
pub enum Refusal {
    /// Not the encoding of an [`Operation`], or too long.
    #[error("not an operation of this service")]
    Malformed,
    /// More than [`MAX_EVENTS_PER_DELIVERY`] events.
    #[error("more than {MAX_EVENTS_PER_DELIVERY} events in one delivery")]
    TooManyEvents,
    /// An event longer than [`MAX_EVENT_BYTES`].
    #[error("an event of more than {MAX_EVENT_BYTES} bytes")]
    EventTooLong,
    /// The numbers of the events do not ascend from 1 or above.
    #[error("event numbers start at 1 and ascend")]
    NotAscending,
    /// The component has no such wire on this side.
    #[error("this component has no wire {}", .0.0)]
    UnknownWire(WireId),
    /// The client has no business there.
    #[error("this client may not do that")]
    NotAuthorised,
}

impl Operation {
    /// The canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads an operation from bytes that may come from anywhere.
    ///
    /// # Errors
    /// When they are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let operation = decode(bytes, MAX_OPERATION_BYTES).map_err(|_| Refusal::Malformed)?;
        if let Self::Deliver { events, .. } = &operation {
            if events.len() > MAX_EVENTS_PER_DELIVERY {
                return Err(Refusal::TooManyEvents);
            }
            if events.iter().any(|e| e.event.len() > MAX_EVENT_BYTES) {
                return Err(Refusal::EventTooLong);
            }
        }
        Ok(operation)
    }
}

impl Reply {
    /// The canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a reply from bytes that may come from anywhere.
    ///
    /// # Errors
    /// When they are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes, MAX_REPLY_BYTES)
    }
}

impl OutputCopy {
    /// The canonical bytes: the payload of an emission.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads the payload of an emission from bytes that may come from anywhere.
    ///
    /// # Errors
    /// When they are none, or too long.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes, MAX_EVENT_BYTES + 64)
    }
}
