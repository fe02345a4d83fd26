//! Althing keeps a system working, correctly, while some of its machines crash, lie or are taken
//! over.
//!
//! This crate is the door for those who build on it: implement [`Service`] and run it in a replica
//! group, or implement [`Component`] and wire it in a spec file. The `althing` command is its binary.

pub use althing_components::{Component, ComponentContext, ComponentError, OutputEvent};
pub use althing_replica::{Context, Emission, InstallError, MAX_PAGE_BYTES, MAX_PAGES, Outcome, Service};
pub use althing_types::{ClientId, Instant, ReplicaId, Seq, View};

pub use althing_components as components;
pub use althing_crypto as crypto;
pub use althing_node as node;
pub use althing_protocol as protocol;
pub use althing_replica as replica;
pub use althing_services as services;
pub use althing_sim as sim;
pub use althing_types as types;
