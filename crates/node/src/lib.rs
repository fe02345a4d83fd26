//! The only place of Althing with threads, sockets, disks and the wall clock.

mod ahead;
pub mod channel;
mod client;
mod clock;
pub mod config;
pub mod control;
pub mod deployment;
mod edge;
pub mod frame;
mod links;
pub mod log;
pub mod net;
mod parent;
mod process_component;
mod replica;
mod roster;
mod services;
pub mod supervisor;
mod timers;
mod wiring;

pub use client::{Answer, GroupClient, InvokeError, ReplicaEmission};
pub use edge::{EdgeError, run_edge};
pub use links::{LinksError, run_links};
pub use parent::die_with_parent;
pub use process_component::{LAUNCH_COMMAND, StartProgramError, launch};
pub use replica::{Ended, ReplicaError, RunOptions, run_replica, wipe};
pub use services::Services;
