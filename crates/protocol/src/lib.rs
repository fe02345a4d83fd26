#![no_std]
//! The `Protocol` contract, what protocols share, and one module for each replication protocol.
//!
//! A protocol is a deterministic state machine that orders operations: it is handed events with the
//! time they happen at, and answers with actions. It has no clock, socket, thread or disk, and it
//! knows no keys: it asks for a kind of authentication ([`Auth`]) and is given only messages whose
//! authentication, outer and inner, has been checked.

extern crate alloc;

mod any;
mod batch;
mod bodies;
mod config;
mod contract;
mod distrust;
mod evidence;
mod legacy;
mod outbox;
pub mod paxos;
pub mod pbft;
mod pending;
mod separate;
mod settings;
mod speculation;
pub mod unreplicated;
pub mod zyzzyva;

pub use any::{AnyMessage, AnyProtocol};
pub use batch::{Answers, Batch, Bundle, Request, RequestAuth, RequestKind, Share};
pub use config::{ConfigError, ProtocolName, Setting};
pub use contract::{
    Action, Actions, Auth, Decision, Event, Message, PersistId, Protocol, Replicable, SignedPart, Start,
    TimerId,
};
pub use evidence::{Evidence, Misbehaviour, Statement};
pub use settings::Settings;
pub use speculation::{CommitCertificate, Speculation};
