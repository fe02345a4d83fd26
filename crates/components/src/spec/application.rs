use crate::builtins::Builtin;
use crate::spec::problem::Problem;
use crate::spec::sites::ReplicationProtocol;
use crate::value::PortType;
use althing_replica::Durability;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// An application that has passed every rule of the spec file: what is in it fits together.
#[derive(Debug, Clone, PartialEq)]
pub struct Application {
    pub(super) name: String,
    pub(super) broker: Option<BrokerAddress>,
    pub(super) components: Vec<ComponentSpec>,
    pub(super) wires: Vec<Wire>,
    pub(super) warnings: Vec<Problem>,
}

impl Application {
    /// The application's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The MQTT broker to use, or `None` for one that Althing runs itself.
    #[must_use]
    pub fn broker(&self) -> Option<&BrokerAddress> {
        self.broker.as_ref()
    }

    /// The components, in the order of the file.
    #[must_use]
    pub fn components(&self) -> &[ComponentSpec] {
        &self.components
    }

    /// The wires, in the order of the file.
    #[must_use]
    pub fn wires(&self) -> &[Wire] {
        &self.wires
    }

    /// What is allowed but probably not meant.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// The component at an index that a [`End::Port`] of this application holds.
    #[must_use]
    pub fn component(&self, index: usize) -> &ComponentSpec {
        &self.components[index]
    }
}

/// Where an MQTT broker listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BrokerAddress {
    pub(super) host: String,
    pub(super) port: u16,
}

impl BrokerAddress {
    /// Host name or IP address, an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A component as the spec file describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct ComponentSpec {
    pub(super) name: String,
    pub(super) implementation: Implementation,
    pub(super) inputs: BTreeMap<String, PortType>,
    pub(super) outputs: BTreeMap<String, PortType>,
    pub(super) replication: Option<Replication>,
    pub(super) durability: Durability,
}

impl ComponentSpec {
    /// The component's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is made of.
    #[must_use]
    pub fn implementation(&self) -> &Implementation {
        &self.implementation
    }

    /// Input ports and what they take.
    #[must_use]
    pub fn inputs(&self) -> &BTreeMap<String, PortType> {
        &self.inputs
    }

    /// Output ports and what they give.
    #[must_use]
    pub fn outputs(&self) -> &BTreeMap<String, PortType> {
        &self.outputs
    }

    /// How it is replicated, if it is.
    #[must_use]
    pub fn replication(&self) -> Option<Replication> {
        self.replication
    }

    /// What an event that it took survives.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.durability
    }
}

/// What a component is made of.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Implementation {
    /// One that Althing ships.
    Builtin {
        /// Which one.
        name: Builtin,
        /// Its settings.
        config: Map<String, Value>,
    },
    /// A program that speaks the [line protocol](crate::process).
    Process {
        /// The program and its arguments; never empty.
        argv: Vec<String>,
    },
}

impl fmt::Display for Implementation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin { name, .. } => write!(f, "builtin {name}"),
            Self::Process { argv } => write!(f, "process {}", argv.join(" ")),
        }
    }
}

/// Against which faults a component is replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Replication {
    pub(super) protocol: ReplicationProtocol,
    pub(super) f: u16,
    pub(super) recovery_s: Option<u64>,
}

impl Replication {
    /// What replicates it: it follows from the faults.
    #[must_use]
    pub fn protocol(self) -> ReplicationProtocol {
        self.protocol
    }

    /// Replicas that may be faulty.
    #[must_use]
    pub fn f(self) -> u16 {
        self.f
    }

    /// The time in which each replica recovers once, in seconds, if they do.
    #[must_use]
    pub fn recovery_s(self) -> Option<u64> {
        self.recovery_s
    }

    /// Replicas it takes.
    #[must_use]
    pub fn n(self) -> u16 {
        u16::try_from(self.protocol.least(self.f.into())).expect("f is bounded")
    }
}

/// A connection along which events travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wire {
    pub(super) from: End,
    pub(super) to: End,
    pub(super) carries: PortType,
}

impl Wire {
    /// Where events come from.
    #[must_use]
    pub fn from(&self) -> &End {
        &self.from
    }

    /// Where they go.
    #[must_use]
    pub fn to(&self) -> &End {
        &self.to
    }

    /// The type of the port they come from, or of the port they go to if they come from MQTT.
    #[must_use]
    pub fn carries(&self) -> PortType {
        self.carries
    }
}

/// An end of a wire.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A port of a component.
    Port {
        /// The component's index in [`Application::components`].
        component: usize,
        /// The port.
        port: String,
    },
    /// MQTT messages.
    Mqtt {
        /// The topic they are published under, or a filter where a wire comes from.
        topic: String,
    },
}
