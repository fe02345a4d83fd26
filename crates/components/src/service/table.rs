use crate::plan::WireId;
use crate::value::PortType;
use althing_types::{ClientId, ReplicaId};
use std::collections::{BTreeMap, BTreeSet};

/// What a [`ComponentService`](crate::ComponentService) knows about the world: its ports, the wires
/// at them, and which client may do what. A plan makes it; it is the same at every replica and not
/// part of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceTable {
    /// The component's name.
    pub component: String,
    /// Input ports.
    pub inputs: BTreeMap<String, PortType>,
    /// Output ports.
    pub outputs: BTreeMap<String, PortType>,
    /// Wires that bring events.
    pub incoming: BTreeMap<WireId, Incoming>,
    /// Wires that take events away.
    pub outgoing: BTreeMap<WireId, Outgoing>,
    /// Everyone who may speak to the group.
    pub clients: BTreeSet<ClientId>,
    /// Clients that may read every outbox: the operator.
    pub observers: BTreeSet<ClientId>,
}

/// A wire that brings events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The input port at its end.
    pub port: String,
    /// Who brings them.
    pub source: Source,
}

/// Who brings the events of a wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The edge, whose word is taken as it is and in the order of execution.
    Edge {
        /// The edge.
        client: ClientId,
    },
    /// The replicas of another group, whose copies are voted on.
    Group {
        /// Replicas of that group.
        n: u16,
        /// Replicas of it that may lie.
        f: u16,
        /// Which client is which replica.
        clients: BTreeMap<ClientId, ReplicaId>,
    },
}

/// A wire that takes events away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The output port at its beginning.
    pub port: String,
    /// Who says that they have arrived.
    pub sink: Sink,
}

/// Who says that the events of a wire have arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// The edge, alone.
    Edge {
        /// The edge.
        client: ClientId,
    },
    /// The couriers of the group's own replicas, f + 1 of them together.
    Group {
        /// Replicas of the own group.
        n: u16,
        /// Replicas of the own group that may lie.
        f: u16,
        /// Which client is the courier of which replica.
        couriers: BTreeMap<ClientId, ReplicaId>,
    },
}

impl Source {
    /// Whether `client` may deliver here.
    pub(crate) fn admits(&self, client: ClientId) -> bool {
        match self {
            Self::Edge { client: edge } => client == *edge,
            Self::Group { clients, .. } => clients.contains_key(&client),
        }
    }
}

impl Sink {
    /// How many voices acknowledge, and how many of them may lie.
    pub(crate) fn voices(&self) -> (u16, u16) {
        match self {
            Self::Edge { .. } => (1, 0),
            Self::Group { n, f, .. } => (*n, *f),
        }
    }

    /// The voice that `client` is, if it may acknowledge here.
    pub(crate) fn voice(&self, client: ClientId) -> Option<u16> {
        match self {
            Self::Edge { client: edge } => (client == *edge).then_some(0),
            Self::Group { couriers, .. } => couriers.get(&client).map(|replica| replica.0),
        }
    }
}
