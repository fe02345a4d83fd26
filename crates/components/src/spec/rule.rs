use super::sites::{LEAST_MBPS, LEAST_SITES, MAX_DELAY_MS, MAX_MBPS, MAX_SITES, ReplicationProtocol};
use super::{MAX_COMPONENTS, MAX_PORTS, MAX_SPEC_BYTES, MAX_WIRES, MOST_RECOVERY_S};
use crate::builtins::BuiltinError;
use crate::value::PortType;
use althing_types::Quorums;
use std::fmt;
use thiserror::Error;

/// A rule of the spec file, with the values that break it.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Rule {
    /// Longer than [`MAX_SPEC_BYTES`].
    #[error("the file has {bytes} bytes, but a spec file has at most {MAX_SPEC_BYTES}")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
    },
    /// Nothing in it.
    #[error("the file describes no application: it is empty")]
    Empty,
    /// Not YAML.
    #[error("this is not YAML: {message}")]
    NotYaml {
        /// What the parser says.
        message: String,
    },
    /// A key that means nothing here.
    #[error("there is no key `{key}` here")]
    UnknownKey {
        /// The key.
        key: String,
        /// The keys that there are.
        known: Vec<&'static str>,
        /// One of them that looks like it.
        nearest: Option<String>,
    },
    /// A key that has to be there and isn't.
    #[error("the key `{key}` is missing")]
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// A key that is there twice: a component, a port, a setting or anything else.
    #[error("`{key}` is there twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A value of another shape.
    #[error("expected {expected} here")]
    WrongShape {
        /// What it should be.
        expected: String,
    },
    /// A name with characters that names don't have.
    #[error("`{name}` is no name for {what}")]
    BadName {
        /// What it names.
        what: Named,
        /// The name.
        name: String,
    },
    /// A name that Althing uses itself.
    #[error("{what} can't be called `{name}`: that means something else here")]
    ReservedName {
        /// What it names.
        what: Named,
        /// The name.
        name: String,
    },
    /// No component.
    #[error("the application has no components")]
    NoComponents,
    /// More than [`MAX_COMPONENTS`].
    #[error("{count} components, but an application has at most {MAX_COMPONENTS}")]
    TooManyComponents {
        /// Components given.
        count: usize,
    },
    /// More than [`MAX_WIRES`].
    #[error("{count} wires, but an application has at most {MAX_WIRES}")]
    TooManyWires {
        /// Wires given.
        count: usize,
    },
    /// More than [`MAX_PORTS`].
    #[error("`{component}` has {count} ports as `{direction}`, but at most {MAX_PORTS} are possible")]
    TooManyPorts {
        /// The component.
        component: String,
        /// Which ports.
        direction: Direction,
        /// How many.
        count: usize,
    },
    /// A process without any port.
    #[error("`{component}` has no ports, so nothing can reach it")]
    NoPorts {
        /// The component.
        component: String,
    },
    /// Neither `builtin` nor `process`.
    #[error("nothing says what `{component}` is made of")]
    NoImplementation {
        /// The component.
        component: String,
    },
    /// Both of them.
    #[error("`{component}` is both a builtin and a process")]
    TwoImplementations {
        /// The component.
        component: String,
    },
    /// A builtin that does not exist.
    #[error("there is no builtin `{name}`")]
    UnknownBuiltin {
        /// Its name.
        name: String,
        /// One that looks like it.
        nearest: Option<String>,
    },
    /// Settings that don't suit the builtin.
    #[error("{0}")]
    BadSetting(BuiltinError),
    /// Ports that the builtin does not have.
    #[error("{0}")]
    BuiltinPorts(BuiltinError),
    /// Settings for a program.
    #[error("`{component}` is a process, and `config` is for builtins")]
    ConfigOfProcess {
        /// The component.
        component: String,
    },
    /// A program that is not named.
    #[error("`process` of `{component}` names no program")]
    EmptyCommand {
        /// The component.
        component: String,
    },
    /// A port type that does not exist.
    #[error("there is no port type `{name}`")]
    UnknownType {
        /// Its name.
        name: String,
        /// One that looks like it.
        nearest: Option<String>,
    },
    /// A fault model that does not exist.
    #[error("there is no fault model `{name}`")]
    UnknownFaultModel {
        /// Its name.
        name: String,
    },
    /// Too few faults, or more than a group can tolerate.
    #[error("f is {f}, but it must be from 1 to {}", protocol.most_faulty(Quorums::MAX_REPLICAS))]
    FaultsOutOfRange {
        /// The faults asked for.
        f: i64,
        /// What is to replicate the component.
        protocol: ReplicationProtocol,
    },
    /// Replicas that only crash are never taken over.
    #[error("replicas that only crash need no proactive recovery")]
    RecoveryOfCrashes,
    /// Recoveries that follow each other too fast, or never.
    #[error("`every_s` is {every_s}, but it must be from {least} to {MOST_RECOVERY_S}")]
    RecoveryOutOfRange {
        /// The time asked for, in seconds.
        every_s: i64,
        /// The shortest for a group of this size.
        least: i64,
    },
    /// A durability that does not exist.
    #[error("there is no durability `{name}`")]
    UnknownDurability {
        /// Its name.
        name: String,
        /// One that looks like it.
        nearest: Option<String>,
    },
    /// A single replica that writes nothing: a warning.
    #[error("`{component}` is a single replica that writes nothing: it is lost when its process stops")]
    ForgetsWhenItStops {
        /// The component.
        component: String,
    },
    /// An address that is none.
    #[error("`{address}` is no address of an MQTT broker: {reason}")]
    BadBroker {
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An end of a wire that is neither a port nor a topic.
    #[error("`{end}` is no end of a wire")]
    BadEnd {
        /// The end.
        end: String,
    },
    /// A wire at a component that does not exist.
    #[error("there is no component `{name}`")]
    UnknownComponent {
        /// Its name.
        name: String,
        /// One that looks like it.
        nearest: Option<String>,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A wire at a port that does not exist.
    #[error("`{component}` has no port `{port}`")]
    UnknownPort {
        /// The component.
        component: String,
        /// The port.
        port: String,
        /// A port that looks like it.
        nearest: Option<String>,
        /// The ports in the direction that is meant.
        known: Vec<String>,
    },
    /// A wire that comes from an input or goes to an output.
    #[error("`{component}.{port}` is an {} port, so no wire {} it", actual.adjective(), actual.verb_it_lacks())]
    WrongDirection {
        /// The component.
        component: String,
        /// The port.
        port: String,
        /// The direction it has.
        actual: Direction,
    },
    /// A wire from MQTT to MQTT.
    #[error("this wire connects MQTT with MQTT and no component with anything")]
    MqttToMqtt,
    /// A topic that MQTT does not allow there.
    #[error("`{topic}` is no MQTT topic for this end: {reason}")]
    BadTopic {
        /// The topic.
        topic: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A wire between ports of types that don't fit.
    #[error("`{from}` gives {from_type}, but `{to}` takes {to_type}")]
    TypeMismatch {
        /// The output port.
        from: String,
        /// Its type.
        from_type: PortType,
        /// The input port.
        to: String,
        /// Its type.
        to_type: PortType,
    },
    /// A wire that is there twice: each event would arrive twice.
    #[error("the wire from `{from}` to `{to}` is there twice, already in line {first_line}")]
    DuplicateWire {
        /// Where it comes from.
        from: String,
        /// Where it goes.
        to: String,
        /// The line of the one before.
        first_line: usize,
    },
    /// A word that names none of the things that are possible.
    #[error("there is no {what} `{name}`")]
    UnknownChoice {
        /// What is chosen.
        what: Choice,
        /// The word.
        name: String,
        /// One that looks like it.
        nearest: Option<String>,
        /// Those that there are.
        known: Vec<&'static str>,
    },
    /// Fewer than [`LEAST_SITES`] or more than [`MAX_SITES`].
    #[error("{count} site(s), but a system has from {LEAST_SITES} to {MAX_SITES}")]
    SitesOutOfRange {
        /// Sites given.
        count: usize,
    },
    /// Too few sites for the faults asked for.
    #[error("{count} sites that run {protocol} tolerate {} faulty, not {f}", protocol.most_faulty(*count))]
    TooFewSites {
        /// The protocol among them.
        protocol: ReplicationProtocol,
        /// Sites given.
        count: usize,
        /// The faults asked for.
        f: usize,
    },
    /// No fault, or more than the protocol tolerates in the largest group.
    #[error("f is {f}, but with {protocol} it must be from 1 to {most}")]
    FaultsAtLevel {
        /// The protocol.
        protocol: ReplicationProtocol,
        /// The faults asked for.
        f: i64,
        /// The most that are possible.
        most: usize,
    },
    /// Too few servers for the faults asked for, or more than a site can have.
    #[error("{servers} server(s), but with f = {f} a site has from {least} to {}", Quorums::MAX_REPLICAS)]
    ServersOutOfRange {
        /// Servers given.
        servers: i64,
        /// The faults asked for.
        f: usize,
        /// The fewest servers.
        least: usize,
    },
    /// A delay below zero, or above [`MAX_DELAY_MS`].
    #[error("`delay_ms` is {ms}, but it must be from 0 to {MAX_DELAY_MS}")]
    DelayOutOfRange {
        /// The delay asked for, in milliseconds.
        ms: i64,
    },
    /// A rate below [`LEAST_MBPS`] or above [`MAX_MBPS`].
    #[error("`mbps` is {mbps}, but it must be from {LEAST_MBPS} to {MAX_MBPS}")]
    RateOutOfRange {
        /// The rate asked for, in megabits a second.
        mbps: f64,
    },
    /// Sites that write nothing. An error where the sites are taken not to lie, else a warning.
    #[error("a site whose servers all stop at once forgets what it told the other sites")]
    ForgetfulSites {
        /// The protocol among the sites.
        wide: ReplicationProtocol,
    },
    /// A port that no wire touches: a warning.
    #[error("no wire {} `{component}.{port}`", direction.verb())]
    Unconnected {
        /// The component.
        component: String,
        /// The port.
        port: String,
        /// Its direction.
        direction: Direction,
    },
}

/// What a name is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// An application.
    Application,
    /// A system of sites.
    System,
    /// A site.
    Site,
    /// A component.
    Component,
    /// A port.
    Port,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Application => "an application",
            Self::System => "a system",
            Self::Site => "a site",
            Self::Component => "a component",
            Self::Port => "a port",
        })
    }
}

/// What a word chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// A replication protocol.
    Protocol,
    /// What sites replicate.
    Service,
    /// Who carries updates.
    Updates,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protocol => "protocol",
            Self::Service => "service of sites",
            Self::Updates => "way of updates",
        })
    }
}

/// The direction of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Takes events.
    In,
    /// Gives events.
    Out,
}

impl Direction {
    pub(super) fn adjective(self) -> &'static str {
        match self {
            Self::In => "input",
            Self::Out => "output",
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Self::In => "goes to",
            Self::Out => "comes from",
        }
    }

    fn verb_it_lacks(self) -> &'static str {
        match self {
            Self::In => Self::Out.verb(),
            Self::Out => Self::In.verb(),
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::In => "in",
            Self::Out => "out",
        })
    }
}
