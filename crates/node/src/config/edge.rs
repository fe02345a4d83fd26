use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use althing_components::{PortType, WireId};
use serde::{Deserialize, Serialize};

use super::client::{ClientFile, RawClient};
use super::error::{ConfigError, Rule};
use super::files::{read_json, relative_to};
use super::group::checked_name;

/// An edge file as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawEdge {
    /// The application's name: part of what the broker knows the edge by.
    pub application: String,
    /// The MQTT broker.
    pub broker: RawBroker,
    /// The control socket.
    pub control: PathBuf,
    /// The directory of what the edge keeps.
    pub data: PathBuf,
    /// The groups with wires that have MQTT ends.
    pub groups: Vec<RawEdgeGroup>,
}

/// The MQTT broker as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RawBroker {
    /// One that the edge runs itself, at this address.
    Embedded {
        /// Where it listens.
        address: SocketAddr,
    },
    /// One that runs elsewhere.
    External {
        /// Host name or IP address.
        host: String,
        /// TCP port.
        port: u16,
    },
}

/// A group with MQTT wires, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawEdgeGroup {
    /// The group, and the edge as its client.
    pub client: RawClient,
    /// Wires from MQTT to this group.
    pub incoming: Vec<RawEdgeWire>,
    /// Wires from this group to MQTT.
    pub outgoing: Vec<RawEdgeWire>,
}

/// A wire with an MQTT end, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawEdgeWire {
    /// The wire.
    pub wire: u32,
    /// The topic to publish to, or the filter to subscribe to.
    pub topic: String,
    /// What it carries.
    pub carries: PortType,
}

/// The MQTT broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broker {
    /// One that the edge runs itself, at this address.
    Embedded(SocketAddr),
    /// One that runs elsewhere.
    External {
        /// Host name or IP address.
        host: String,
        /// TCP port.
        port: u16,
    },
}

impl Broker {
    /// Host and port to connect to.
    #[must_use]
    pub fn host_and_port(&self) -> (String, u16) {
        match self {
            Self::Embedded(address) => (address.ip().to_string(), address.port()),
            Self::External { host, port } => (host.clone(), *port),
        }
    }
}

/// A checked edge file.
#[derive(Debug, Clone)]
pub struct EdgeConfig {
    application: String,
    broker: Broker,
    control: PathBuf,
    data: PathBuf,
    groups: Vec<EdgeGroup>,
}

/// A group with MQTT wires.
#[derive(Debug, Clone)]
pub struct EdgeGroup {
    /// The group, and the edge as its client.
    pub client: ClientFile,
    /// Wires from MQTT to this group.
    pub incoming: Vec<EdgeWire>,
    /// Wires from this group to MQTT.
    pub outgoing: Vec<EdgeWire>,
}

/// A wire with an MQTT end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeWire {
    /// The wire.
    pub wire: WireId,
    /// The topic to publish to, or the filter to subscribe to.
    pub topic: String,
    /// What it carries.
    pub carries: PortType,
}

impl EdgeConfig {
    /// Reads and checks an edge file, and the group and key files that it names.
    ///
    /// # Errors
    /// When one of them can't be read or breaks a rule.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let raw: RawEdge = read_json(path)?;
        let rule = ConfigError::rule(path);
        let mut wires = BTreeSet::new();
        let mut check = |raw: RawEdgeWire, is_filter: bool| {
            if !wires.insert(raw.wire) {
                return Err(rule(Rule::DuplicateWire(raw.wire)));
            }
            raw.check(is_filter).map_err(&rule)
        };
        let mut groups = Vec::new();
        for RawEdgeGroup { client, incoming, outgoing } in raw.groups {
            groups.push(EdgeGroup {
                client: ClientFile::check(client, path)?,
                incoming: incoming.into_iter().map(|w| check(w, true)).collect::<Result<_, _>>()?,
                outgoing: outgoing.into_iter().map(|w| check(w, false)).collect::<Result<_, _>>()?,
            });
        }
        Ok(Self {
            application: checked_name(raw.application).map_err(&rule)?,
            broker: match raw.broker {
                RawBroker::Embedded { address } => Broker::Embedded(address),
                RawBroker::External { host, port } => Broker::External { host, port },
            },
            control: relative_to(path, &raw.control),
            data: relative_to(path, &raw.data),
            groups,
        })
    }

    /// The application's name.
    #[must_use]
    pub fn application(&self) -> &str {
        &self.application
    }

    /// The MQTT broker.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The control socket.
    #[must_use]
    pub fn control(&self) -> &Path {
        &self.control
    }

    /// The directory of what the edge keeps.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The groups with wires that have MQTT ends.
    #[must_use]
    pub fn groups(&self) -> &[EdgeGroup] {
        &self.groups
    }
}

impl RawEdgeWire {
    fn check(self, is_filter: bool) -> Result<EdgeWire, Rule> {
        let (is_valid, kind) = if is_filter {
            (rumqttc::valid_filter(&self.topic), "topic filter")
        } else {
            (rumqttc::valid_topic(&self.topic) && !self.topic.is_empty(), "topic")
        };
        if !is_valid {
            return Err(Rule::Topic { wire: self.wire, topic: self.topic, kind });
        }
        Ok(EdgeWire { wire: WireId(self.wire), topic: self.topic, carries: self.carries })
    }
}
