//! The only place of Althing with threads, sockets, disks and the wall clock.

pub mod channel;
mod client;
mod clock;
pub mod config;
pub mod frame;
pub mod log;
pub mod net;
mod wiring;

pub use client::{Answer, GroupClient, InvokeError, ReplicaEmission};
