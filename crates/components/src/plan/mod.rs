//! The planner: turns an [`Application`] into the groups, wires, clients and processes that run it.
//!
//! Each component becomes a group: of 3f + 1 replicas where the file asks for replication, else of
//! one, and both run the same engine. A wire between components is carried by the producer's
//! replicas, each of which is a client of the consumer's group and has its own copy of every event
//! ordered there; the consumer's state machine votes on the copies. A wire with an MQTT end is
//! carried by the edge, one process that is a client of every group.

mod clients;
mod drawing;
mod sites;
mod text;

pub use clients::ClientRole;
pub use sites::{LinkBound, PlannedSite, SiteGroup, SitePlan};

use crate::builtins::BuiltinError;
use crate::component::Component;
use crate::service::{Incoming, Outgoing, ServiceTable, Sink, Source};
use crate::spec::{Application, BrokerAddress, End, Implementation, ReplicationProtocol};
use crate::value::PortType;
use althing_replica::Durability;
use althing_types::{ClientId, GroupId, Quorums, ReplicaId};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// Names a wire of a plan: its place in the spec file, from 0. Also the channel of the emissions on it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize, Serialize,
)]
pub struct WireId(pub u32);

impl fmt::Display for WireId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}", self.0)
    }
}

/// What runs an application.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    application: String,
    broker: Option<BrokerAddress>,
    groups: Vec<Group>,
    wires: Vec<PlannedWire>,
    processes: Vec<PlannedProcess>,
}

/// A replica group: one component of the application.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// Its index in [`Plan::groups`].
    pub index: u16,
    /// The component's name.
    pub component: String,
    /// Names the group in whatever is authenticated.
    #[serde(serialize_with = "serialize_group_id")]
    pub id: GroupId,
    /// Replicas.
    pub n: u16,
    /// Replicas that may be faulty.
    pub f: u16,
    /// What replicates it, and so what faulty ones may do.
    pub protocol: ReplicationProtocol,
    /// The time in which each replica recovers once, in seconds, if they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_s: Option<u64>,
    /// What an event that was taken survives.
    pub durability: Durability,
    /// What the component is made of.
    pub implementation: Implementation,
    /// Input ports.
    pub inputs: BTreeMap<String, PortType>,
    /// Output ports.
    pub outputs: BTreeMap<String, PortType>,
    /// Everyone who may speak to the group.
    pub clients: Vec<PlannedClient>,
}

impl Group {
    /// The group's quorums.
    #[must_use]
    pub fn quorums(&self) -> Quorums {
        let quorums = self.protocol.quorums(usize::from(self.n), usize::from(self.f));
        quorums.expect("the planner makes as many replicas as it takes")
    }

    /// How many replicas may say something that is wrong: so many copies and one more have to agree.
    #[must_use]
    pub fn liars(&self) -> u16 {
        u16::try_from(self.quorums().liars()).expect("a group has at most 100 replicas")
    }

    /// The name of the process that runs `replica`.
    #[must_use]
    pub fn process_name(&self, replica: ReplicaId) -> String {
        format!("{}-{}", self.component, replica.0)
    }

    /// A fresh component for a replica of this group, or `None` where the component is a program,
    /// which the node has to start.
    ///
    /// # Errors
    /// Never for a plan made from a checked [`Application`].
    pub fn builtin(&self) -> Result<Option<Box<dyn Component>>, BuiltinError> {
        match &self.implementation {
            Implementation::Builtin { name, config } => {
                Ok(Some(name.build(config, &self.inputs, &self.outputs)?))
            }
            Implementation::Process { .. } => Ok(None),
        }
    }
}

/// A client of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedClient {
    /// Its identifier.
    #[serde(serialize_with = "serialize_client_id")]
    pub id: ClientId,
    /// Why it speaks to the group.
    #[serde(flatten)]
    pub role: ClientRole,
    /// The process that it runs in; `None` for the operator.
    pub process: Option<String>,
}

/// A wire and who carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedWire {
    /// Its name, and the channel of emissions on it.
    pub id: WireId,
    /// Where events come from.
    pub from: PlannedEnd,
    /// Where they go.
    pub to: PlannedEnd,
    /// What they carry.
    pub carries: PortType,
}

/// An end of a planned wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PlannedEnd {
    /// A port of a group.
    Group {
        /// The group's index.
        group: u16,
        /// The port.
        port: String,
    },
    /// MQTT, held by the edge.
    Mqtt {
        /// Topic, or filter where the wire comes from.
        topic: String,
    },
}

/// A process of the running application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedProcess {
    /// Its name: `<component>-<replica>`, or `edge`.
    pub name: String,
    /// What it runs.
    #[serde(flatten)]
    pub runs: Runs,
}

/// What a process runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "runs")]
pub enum Runs {
    /// One replica of a group.
    Replica {
        /// The group's index.
        group: u16,
        /// Which replica.
        #[serde(serialize_with = "serialize_replica")]
        replica: ReplicaId,
    },
    /// The MQTT ends of all wires.
    Edge,
}

impl Plan {
    /// The name of the edge's process.
    pub const EDGE: &'static str = "edge";

    /// Plans `application`.
    #[must_use]
    pub fn of(application: &Application) -> Self {
        let wires: Vec<_> = (0..).zip(application.wires()).map(planned_wire).collect();
        let mut groups: Vec<_> = (0..)
            .zip(application.components())
            .map(|(index, component)| {
                let replication = component.replication();
                Group {
                    index,
                    component: component.name().to_owned(),
                    id: group_id(application.name(), component.name()),
                    n: replication.map_or(1, |r| r.n()),
                    f: replication.map_or(0, |r| r.f()),
                    protocol: replication.map_or(ReplicationProtocol::Pbft, |r| r.protocol()),
                    recovery_s: replication.and_then(|r| r.recovery_s()),
                    durability: component.durability(),
                    implementation: component.implementation().clone(),
                    inputs: component.inputs().clone(),
                    outputs: component.outputs().clone(),
                    clients: Vec::new(),
                }
            })
            .collect();
        let clients: Vec<_> = groups.iter().map(|g| clients_of(g, &groups, &wires)).collect();
        for (group, clients) in groups.iter_mut().zip(clients) {
            group.clients = clients;
        }
        Self {
            application: application.name().to_owned(),
            broker: application.broker().cloned(),
            processes: processes(&groups, &wires),
            groups,
            wires,
        }
    }

    /// The application's name.
    #[must_use]
    pub fn application(&self) -> &str {
        &self.application
    }

    /// The MQTT broker to use, or `None` for an embedded one.
    #[must_use]
    pub fn broker(&self) -> Option<&BrokerAddress> {
        self.broker.as_ref()
    }

    /// The groups, one a component.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The group with this index.
    #[must_use]
    pub fn group(&self, index: u16) -> &Group {
        &self.groups[usize::from(index)]
    }

    /// The group of this component.
    #[must_use]
    pub fn group_of(&self, component: &str) -> Option<&Group> {
        self.groups.iter().find(|g| g.component == component)
    }

    /// The wires; the one with id `i` is at index `i`.
    #[must_use]
    pub fn wires(&self) -> &[PlannedWire] {
        &self.wires
    }

    /// The wires that come from MQTT or go there: the edge's.
    pub fn edge_wires(&self) -> impl Iterator<Item = &PlannedWire> {
        self.wires.iter().filter(|w| w.has_mqtt())
    }

    /// The wires that the replicas of this group carry to other groups.
    pub fn courier_wires(&self, group: u16) -> impl Iterator<Item = &PlannedWire> {
        self.wires.iter().filter(move |w| w.from.group() == Some(group) && w.to.group().is_some())
    }

    /// All processes.
    #[must_use]
    pub fn processes(&self) -> &[PlannedProcess] {
        &self.processes
    }

    /// What the [`ComponentService`](crate::ComponentService) of this group has to know.
    #[must_use]
    pub fn service_table(&self, group: u16) -> ServiceTable {
        let own = self.group(group);
        let edge = ClientRole::Edge.client_id(group);
        let incoming = self.wires.iter().filter(|w| w.to.group() == Some(group));
        let outgoing = self.wires.iter().filter(|w| w.from.group() == Some(group));
        ServiceTable {
            component: own.component.clone(),
            inputs: own.inputs.clone(),
            outputs: own.outputs.clone(),
            incoming: incoming
                .map(|wire| {
                    let source = match wire.from.group() {
                        None => Source::Edge { client: edge },
                        Some(producer) => self.source(producer, group),
                    };
                    let port = wire.to.port().to_owned();
                    (wire.id, Incoming { port, source })
                })
                .collect(),
            outgoing: outgoing
                .map(|wire| {
                    let sink = match wire.to.group() {
                        None => Sink::Edge { client: edge },
                        Some(_) => own.sink(),
                    };
                    let port = wire.from.port().to_owned();
                    (wire.id, Outgoing { port, sink })
                })
                .collect(),
            clients: own.clients.iter().map(|c| c.id).collect(),
            observers: [ClientRole::Operator.client_id(group)].into(),
        }
    }

    fn source(&self, producer: u16, consumer: u16) -> Source {
        let producer = self.group(producer);
        let client = |replica| {
            let role = ClientRole::Producer { group: producer.index, replica };
            (role.client_id(consumer), replica)
        };
        Source::Group {
            n: producer.n,
            f: producer.liars(),
            clients: producer.quorums().replicas().map(client).collect(),
        }
    }
}

impl Group {
    fn sink(&self) -> Sink {
        let courier = |replica| {
            let role = ClientRole::Courier { replica };
            (role.client_id(self.index), replica)
        };
        Sink::Group { n: self.n, f: self.liars(), couriers: self.quorums().replicas().map(courier).collect() }
    }
}

impl PlannedWire {
    /// Whether the edge holds an end of it.
    #[must_use]
    pub fn has_mqtt(&self) -> bool {
        self.from.group().is_none() || self.to.group().is_none()
    }
}

impl PlannedEnd {
    /// The group, unless this is an MQTT end.
    #[must_use]
    pub fn group(&self) -> Option<u16> {
        match self {
            Self::Group { group, .. } => Some(*group),
            Self::Mqtt { .. } => None,
        }
    }

    /// The topic, if this is an MQTT end.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        match self {
            Self::Group { .. } => None,
            Self::Mqtt { topic } => Some(topic),
        }
    }

    fn port(&self) -> &str {
        match self {
            Self::Group { port, .. } => port,
            Self::Mqtt { .. } => "",
        }
    }
}

fn planned_wire((index, wire): (u32, &crate::spec::Wire)) -> PlannedWire {
    let end = |end: &End| match end {
        End::Port { component, port } => PlannedEnd::Group {
            group: u16::try_from(*component).expect("components are bounded"),
            port: port.clone(),
        },
        End::Mqtt { topic } => PlannedEnd::Mqtt { topic: topic.clone() },
    };
    PlannedWire { id: WireId(index), from: end(wire.from()), to: end(wire.to()), carries: wire.carries() }
}

fn clients_of(group: &Group, groups: &[Group], wires: &[PlannedWire]) -> Vec<PlannedClient> {
    let client = |role: ClientRole, process| PlannedClient { id: role.client_id(group.index), role, process };
    let mut clients = Vec::new();
    for producer in groups {
        let feeds =
            |w: &PlannedWire| w.from.group() == Some(producer.index) && w.to.group() == Some(group.index);
        if wires.iter().any(feeds) {
            clients.extend(producer.quorums().replicas().map(|replica| {
                let role = ClientRole::Producer { group: producer.index, replica };
                client(role, Some(producer.process_name(replica)))
            }));
        }
    }
    clients.extend(
        group
            .quorums()
            .replicas()
            .map(|replica| client(ClientRole::Courier { replica }, Some(group.process_name(replica)))),
    );
    clients.push(client(ClientRole::Edge, Some(Plan::EDGE.to_owned())));
    clients.push(client(ClientRole::Operator, None));
    clients
}

fn processes(groups: &[Group], wires: &[PlannedWire]) -> Vec<PlannedProcess> {
    let replicas = groups.iter().flat_map(|group| {
        group.quorums().replicas().map(|replica| PlannedProcess {
            name: group.process_name(replica),
            runs: Runs::Replica { group: group.index, replica },
        })
    });
    let edge = wires
        .iter()
        .any(PlannedWire::has_mqtt)
        .then(|| PlannedProcess { name: Plan::EDGE.to_owned(), runs: Runs::Edge });
    replicas.chain(edge).collect()
}

/// Names depend on names only, so that a group keeps its identity when others come and go.
fn group_id(application: &str, component: &str) -> GroupId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"althing component group\0");
    hasher.update(application.as_bytes());
    hasher.update(b"\0");
    hasher.update(component.as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    GroupId(id)
}

fn serialize_group_id<S: Serializer>(id: &GroupId, serializer: S) -> Result<S::Ok, S::Error> {
    let hex: String = id.0.iter().map(|b| format!("{b:02x}")).collect();
    serializer.serialize_str(&hex)
}

fn serialize_client_id<S: Serializer>(id: &ClientId, serializer: S) -> Result<S::Ok, S::Error> {
    // As text: it does not fit the 53 bits of a JavaScript number.
    serializer.serialize_str(&id.0.to_string())
}

fn serialize_replica<S: Serializer>(id: &ReplicaId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(id.0)
}
