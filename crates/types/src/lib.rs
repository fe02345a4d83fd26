#![no_std]
//! Identifiers, quorums, agreed time and the bounded canonical codec: the words that every other
//! crate of Althing speaks.

extern crate alloc;

mod codec;
mod digest;
mod ids;
mod quorums;
mod recent;
mod time;

pub use codec::{DecodeError, decode, encode};
pub use digest::Digest;
pub use ids::{ClientId, Epoch, GroupId, Principal, ReplicaId, RequestNumber, Seq, SiteId, View};
pub use quorums::{FaultModel, Quorums, QuorumsError};
pub use recent::Recent;
pub use time::{Instant, nanos};
