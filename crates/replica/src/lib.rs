#![no_std]
//! The `Service` contract, and the engine that runs a service under a replication protocol:
//! authentication, exactly-once clients, execution, checkpoints, state transfer, durability; and the
//! client's side of it. Sans-IO: a runtime brings clock, network and disk.
//!
//! The way of a request: [`Client`] seals it; [`Replica`] opens it, checks it and hands it to the
//! protocol; once ordered it is executed by the [`Service`], and the reply goes back. Every so often
//! the state becomes a checkpoint, from which a replica that fell behind can be brought up to date
//! by others that it need not trust.

extern crate alloc;

mod accusations;
mod actions;
mod admission;
mod announced;
mod checkpoints;
mod client;
mod client_table;
mod durability;
mod engine_settings;
mod epochs;
mod execution;
mod frame;
mod guide;
mod hollow;
mod inbound;
mod io;
mod kept;
mod keys;
mod limits;
pub mod membership;
mod nested;
mod outbound;
mod pages;
mod penalties;
mod queries;
mod records;
mod remains;
mod replica;
mod service;
mod speculation;
pub mod storage;
mod tally;
mod tamper;
mod tentative;
mod transfer;

pub use client::{
    AnswerPolicy, Client, ClientConfig, ClientInput, ClientOutput, OperationKind, ReadPolicy,
    RequestAuthKind, SubmitError,
};
pub use client_table::Standing;
pub use durability::Durability;
pub use engine_settings::{EngineSettings, EngineSettingsError, RequestAuthPolicy};
pub use execution::{Effect, StateError};
pub use frame::{
    ClientFrame, ClientMessage, Envelope, Execution, Given, Prove, Query, QueryAnswer, ReplyFrame,
    ReplyOutcome, Room, Seal, decode_client_frame, decode_engine_message, decode_envelope,
    decode_reply_frame,
};
pub use io::{Input, Output, Report, Startup, StopReason, Timer};
pub use kept::KeptState;
pub use limits::{LimitSettings, Limits, LimitsError};
pub use nested::{Gathering, NESTED_PAGES, Nested, OWN_PAGES, StateTree};
pub use pages::{MAX_PAGE_BYTES, MAX_PAGES, NodeId, Page, Pages, Path};
pub use records::{EngineRecord, EpochRecord, RecordError, StateName, decode_record};
pub use remains::Remains;
pub use replica::{Replica, ReplicaConfig, ReplicaStatus};
pub use service::{Context, Emission, InstallError, LateResult, Outcome, Service};
pub use tamper::{Injected, Outgoing, Tamper};
pub use transfer::{EngineMessage, Parts, Want};
