#![no_std]
//! Logical machines: the servers of a site act as one machine, and the sites run any replication protocol
//! among themselves (Amir, Coan, Kirsch and Lane, "Customizable Fault Tolerance for Wide-Area Replication",
//! SRDS'07). Sans-IO, as everything below.
//!
//! A [`LogicalMachine`] is a [`Service`](althing_replica::Service) whose operations are the events of a
//! wide-area [`Protocol`](althing_protocol::Protocol): the site's own protocol orders them, and so all its
//! servers make the same transitions. What it says to other sites waits in the replicated state until they
//! have acknowledged it. An [`Outpost`] beside each server carries that over the wide-area network: it helps
//! to sign for the site, sends and receives where it is its turn to, and brings what happens to the order.

extern crate alloc;

mod blink;
mod bundle;
mod machine;
mod message;
mod operation;
mod outpost;
mod parcel;
mod server;
mod station;

pub use blink::{
    LinkConfig, LinkPace, LinkPaceError, LinkProgress, LinkWatch, Obligation, SelectionOrder, Servers,
    Suspect, TooFewServers, Turn, VirtualLink,
};
pub use machine::{Dissemination, LinkStanding, LogicalMachine, MachineConfig, Resident, Timer, Treachery};
pub use message::{Header, Kind, LinkMessage, Spoken};
pub use operation::{Answer, SiteEvent, SiteOperation, Update};
pub use outpost::{
    Lane, Outpost, OutpostConfig, OutpostInput, OutpostOutput, OutpostTimer, contradiction, link_headers,
};
pub use parcel::Parcel;
pub use server::{ServerInput, ServerOutput, ServerTimer, SiteServer};
pub use station::{Station, StationInput, StationOutput};
