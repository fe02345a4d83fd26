use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use althing_components::{
    Builtin, Component, Incoming, Outgoing, PortType, ServiceTable, Sink, Source, WireId,
};
use althing_types::{ClientId, ReplicaId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::{ConfigError, Rule};
use super::files::relative_to;
use super::group::{GroupConfig, parse_client_id};
use super::site_server::{RawSiteServer, SiteServerConfig};

/// How long a process may take for an event, in milliseconds, unless its file says otherwise.
const DEFAULT_DEADLINE_MS: u64 = 1000;

/// What a group runs, as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RawService {
    /// The key-value store.
    Kv,
    /// A service that does nothing, for measurements.
    Null {
        /// Length of its replies in bytes.
        reply_bytes: usize,
    },
    /// One that the program brings along.
    Own {
        /// Its name there.
        name: String,
    },
    /// A component of an application.
    Component(Box<RawComponent>),
    /// What a system of sites replicates, of which this group is one.
    Site(Box<RawSiteServer>),
}

/// A component as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawComponent {
    /// Its name.
    pub name: String,
    /// What it is made of.
    pub implementation: RawImplementation,
    /// Input ports.
    pub inputs: BTreeMap<String, PortType>,
    /// Output ports.
    pub outputs: BTreeMap<String, PortType>,
    /// Wires that bring events.
    pub incoming: Vec<RawIncoming>,
    /// Wires that take events away.
    pub outgoing: Vec<RawOutgoing>,
    /// Clients that may read every outbox.
    #[serde(default)]
    pub observers: Vec<String>,
}

/// What a component is made of, as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RawImplementation {
    /// One that Althing ships.
    Builtin {
        /// Its name.
        name: String,
        /// Its settings.
        #[serde(default)]
        config: Map<String, Value>,
    },
    /// A program that speaks the line protocol.
    Process {
        /// The program and its arguments.
        argv: Vec<String>,
        /// Where it runs.
        working_directory: PathBuf,
        /// How long it may take for one event.
        #[serde(default = "default_deadline_ms")]
        deadline_ms: u64,
    },
}

fn default_deadline_ms() -> u64 {
    DEFAULT_DEADLINE_MS
}

/// A wire that brings events, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawIncoming {
    /// The wire.
    pub wire: u32,
    /// The input port at its end.
    pub port: String,
    /// Who brings the events.
    pub source: RawSource,
}

/// Who brings the events of a wire, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RawSource {
    /// The edge.
    Edge {
        /// Its client id.
        client: String,
    },
    /// The replicas of another group.
    Group {
        /// How many of them may lie.
        f: u16,
        /// Which client is which replica.
        members: Vec<RawMember>,
    },
}

/// A wire that takes events away, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawOutgoing {
    /// The wire.
    pub wire: u32,
    /// The output port at its beginning.
    pub port: String,
    /// Who says that events have arrived.
    pub sink: RawSink,
}

/// Who says that the events of a wire have arrived, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RawSink {
    /// The edge.
    Edge {
        /// Its client id.
        client: String,
    },
    /// The couriers of the own replicas.
    Couriers {
        /// Which client is the courier of which replica.
        members: Vec<RawMember>,
    },
}

/// A client that stands for a replica, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMember {
    /// The client's id.
    pub client: String,
    /// The replica.
    pub replica: u16,
}

/// What a replica runs, checked.
#[derive(Debug, Clone)]
pub enum ServiceConfig {
    /// The key-value store.
    Kv,
    /// A service that does nothing and replies with so many bytes.
    Null {
        /// Length of its replies in bytes.
        reply_bytes: usize,
    },
    /// One that the program brings along, by its name there.
    Own(String),
    /// A component of an application.
    Component(Box<ComponentConfig>),
    /// What a system of sites replicates, of which this group is one.
    Site(Box<SiteServerConfig>),
}

/// A component, checked.
#[derive(Debug, Clone)]
pub struct ComponentConfig {
    /// What the component's service has to know.
    pub table: ServiceTable,
    /// What it is made of.
    pub implementation: ImplementationConfig,
}

/// What a component is made of, checked.
#[derive(Debug, Clone)]
pub enum ImplementationConfig {
    /// One that Althing ships; its settings have been tried.
    Builtin {
        /// Which one.
        builtin: Builtin,
        /// Its settings.
        config: Map<String, Value>,
    },
    /// A program.
    Process(ProcessConfig),
}

/// A program that is a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessConfig {
    /// The program.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Where it runs.
    pub working_directory: PathBuf,
    /// How long it may take for one event.
    pub deadline: Duration,
}

impl RawService {
    /// Checks what stands in the file at `path`, for this replica of `group`.
    pub(super) fn check(
        self,
        path: &Path,
        group: &GroupConfig,
        replica: ReplicaId,
    ) -> Result<ServiceConfig, ConfigError> {
        Ok(match self {
            Self::Kv => ServiceConfig::Kv,
            Self::Null { reply_bytes } => ServiceConfig::Null { reply_bytes },
            Self::Own { name } => ServiceConfig::Own(name),
            Self::Component(raw) => {
                let component = raw.check(path, group).map_err(ConfigError::rule(path))?;
                ServiceConfig::Component(Box::new(component))
            }
            Self::Site(raw) => ServiceConfig::Site(Box::new(raw.check(path, group, replica)?)),
        })
    }
}

impl RawComponent {
    fn check(self, path: &Path, group: &GroupConfig) -> Result<ComponentConfig, Rule> {
        let implementation = self.implementation.check(path)?;
        let mut incoming = BTreeMap::new();
        for RawIncoming { wire, port, source } in self.incoming {
            known_port(wire, &port, &self.inputs)?;
            let source = source.check(wire, group)?;
            insert_wire(&mut incoming, wire, Incoming { port, source })?;
        }
        let mut outgoing = BTreeMap::new();
        for RawOutgoing { wire, port, sink } in self.outgoing {
            known_port(wire, &port, &self.outputs)?;
            let sink = sink.check(wire, group)?;
            insert_wire(&mut outgoing, wire, Outgoing { port, sink })?;
        }
        let observers = self.observers.iter().map(|id| known_client(id, group));
        let table = ServiceTable {
            component: self.name,
            inputs: self.inputs,
            outputs: self.outputs,
            incoming,
            outgoing,
            clients: group.clients().keys().copied().collect(),
            observers: observers.collect::<Result<BTreeSet<_>, _>>()?,
        };
        let component = ComponentConfig { table, implementation };
        component.build_builtin()?;
        Ok(component)
    }
}

impl RawImplementation {
    fn check(self, path: &Path) -> Result<ImplementationConfig, Rule> {
        match self {
            Self::Builtin { name, config } => {
                let builtin = Builtin::named(&name).ok_or(Rule::NoSuchBuiltin(name))?;
                Ok(ImplementationConfig::Builtin { builtin, config })
            }
            Self::Process { argv, working_directory, deadline_ms } => {
                let mut argv = argv.into_iter();
                let program = argv.next().filter(|p| !p.is_empty()).ok_or(Rule::NoProgram)?;
                if deadline_ms == 0 {
                    return Err(Rule::Zero("deadline_ms"));
                }
                Ok(ImplementationConfig::Process(ProcessConfig {
                    program,
                    arguments: argv.collect(),
                    working_directory: relative_to(path, &working_directory),
                    deadline: Duration::from_millis(deadline_ms),
                }))
            }
        }
    }
}

impl ComponentConfig {
    /// A fresh component, or `None` where it is a program.
    ///
    /// # Errors
    /// Never for one that was checked.
    pub fn build_builtin(&self) -> Result<Option<Box<dyn Component>>, Rule> {
        match &self.implementation {
            ImplementationConfig::Builtin { builtin, config } => {
                Ok(Some(builtin.build(config, &self.table.inputs, &self.table.outputs)?))
            }
            ImplementationConfig::Process(_) => Ok(None),
        }
    }
}

impl RawSource {
    fn check(self, wire: u32, group: &GroupConfig) -> Result<Source, Rule> {
        match self {
            Self::Edge { client } => Ok(Source::Edge { client: known_client(&client, group)? }),
            Self::Group { f, members } => {
                let n = u16::try_from(members.len()).unwrap_or(u16::MAX);
                althing_types::Quorums::byzantine(members.len(), usize::from(f))?;
                Ok(Source::Group { n, f, clients: check_members(wire, n, &members, group)? })
            }
        }
    }
}

impl RawSink {
    fn check(self, wire: u32, group: &GroupConfig) -> Result<Sink, Rule> {
        match self {
            Self::Edge { client } => Ok(Sink::Edge { client: known_client(&client, group)? }),
            Self::Couriers { members } => {
                let [n, f] = [group.quorums().n(), group.quorums().liars()]
                    .map(|count| u16::try_from(count).expect("a group has at most 100 replicas"));
                Ok(Sink::Group { n, f, couriers: check_members(wire, n, &members, group)? })
            }
        }
    }
}

fn check_members(
    wire: u32,
    n: u16,
    members: &[RawMember],
    group: &GroupConfig,
) -> Result<BTreeMap<ClientId, ReplicaId>, Rule> {
    let mut clients = BTreeMap::new();
    let mut replicas = BTreeSet::new();
    for RawMember { client, replica } in members {
        clients.insert(known_client(client, group)?, ReplicaId(*replica));
        replicas.insert(*replica);
    }
    let is_each_once = clients.len() == members.len() && replicas.into_iter().eq(0..n);
    if is_each_once { Ok(clients) } else { Err(Rule::WrongMembers { wire, n }) }
}

fn known_client(text: &str, group: &GroupConfig) -> Result<ClientId, Rule> {
    let client = parse_client_id(text)?;
    if group.clients().contains_key(&client) {
        return Ok(client);
    }
    Err(Rule::NoSuchClient { group: group.name().to_owned(), client })
}

fn known_port(wire: u32, port: &str, ports: &BTreeMap<String, PortType>) -> Result<(), Rule> {
    if ports.contains_key(port) {
        return Ok(());
    }
    Err(Rule::NoSuchPort { wire, port: port.to_owned() })
}

fn insert_wire<T>(wires: &mut BTreeMap<WireId, T>, wire: u32, end: T) -> Result<(), Rule> {
    if wires.insert(WireId(wire), end).is_some() {
        return Err(Rule::DuplicateWire(wire));
    }
    Ok(())
}
