//! What a process is told: JSON files, read into raw structures and checked into ones that can't be
//! wrong.
//!
//! | file | holds | read by |
//! |---|---|---|
//! | group | a group's members with their addresses and public keys, and its settings | everybody |
//! | replica | which replica to run, with which secret key and service | `replica` |
//! | edge | the MQTT ends of wires | `edge` |
//! | links | the ways between sites, and what is imposed on them | `links` |
//! | client | which client of which group to be | command lines, loads, tests |
//! | site | the public keys of a site, and how its key is shared | its servers |
//! | system | the sites that replicate something together, their keys and their clients | their servers and clients |
//!
//! Where the members of a group change, a group file gets successors ([`write_successor`]).
//!
//! Paths in a file are relative to the directory that the file lies in.

mod client;
mod edge;
mod engine;
mod error;
mod files;
mod group;
mod links;
mod protocols;
mod replica;
mod service;
mod site;
mod site_server;
mod succession;
mod system;
mod system_settings;

pub use client::{AnswerKind, ClientFile, RawClient};
pub use edge::{Broker, EdgeConfig, EdgeGroup, EdgeWire, RawBroker, RawEdge, RawEdgeGroup, RawEdgeWire};
pub use engine::{RawEngine, RequestAuthKind};
pub use error::{ConfigError, Rule};
pub use group::{
    ClientEntry, GroupConfig, MAX_SESSIONS, RawClientEntry, RawGroup, RawReplicaEntry, ReadKind, ReplicaEntry,
};
pub use links::{LinksConfig, RawLinks, RawWay, WayConfig};
pub use protocols::{ProtocolKind, RawPaxos, RawPbft, RawSettings, RawZyzzyva};
pub use replica::{ConsumerConfig, CourierConfig, RawConsumer, RawCourier, RawReplica, ReplicaFile};
pub use service::{
    ComponentConfig, ImplementationConfig, ProcessConfig, RawComponent, RawImplementation, RawIncoming,
    RawMember, RawOutgoing, RawService, RawSink, RawSource, ServiceConfig,
};
pub use site::{DealtSite, RawSiteKeys, SiteKeysFile, deal_site};
pub use site_server::{OutpostPeer, RawOutpostPeer, RawSiteServer, SiteServerConfig};
pub use succession::write_successor;
pub use system::{RawResident, RawSystem, RawSystemSite, SystemConfig, SystemSite};
pub use system_settings::{DisseminationKind, RawSystemSettings};

pub(crate) use files::{create_directory, generate_identity, read_json, write_json, write_secret};
pub(crate) use group::{DEFAULT_KEY_REFRESH_MS, LEAST_SLOT_MS};
