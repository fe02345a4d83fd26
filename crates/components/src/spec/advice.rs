use super::problem::Severity;
use super::rule::{Choice, Direction, Named, Rule};
use super::sites::ReplicationProtocol;
use super::{LEAST_TURN_S, MAX_NAME_CHARS, MAX_TOPIC_BYTES};
use crate::builtins::{Builtin, BuiltinError};
use crate::value::PortType;
use althing_replica::Durability;
use althing_types::{FaultModel, Quorums};

impl Rule {
    /// How bad it is to break it.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::Unconnected { .. }
            | Self::ForgetsWhenItStops { .. }
            | Self::ForgetfulSites { wide: ReplicationProtocol::Pbft } => Severity::Warning,
            _ => Severity::Error,
        }
    }

    /// A stable name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "spec::too_large",
            Self::Empty => "spec::empty",
            Self::NotYaml { .. } => "spec::not_yaml",
            Self::UnknownKey { .. } => "spec::unknown_key",
            Self::MissingKey { .. } => "spec::missing_key",
            Self::DuplicateKey { .. } => "spec::duplicate_key",
            Self::WrongShape { .. } => "spec::wrong_shape",
            Self::BadName { .. } => "spec::bad_name",
            Self::ReservedName { .. } => "spec::reserved_name",
            Self::NoComponents => "spec::no_components",
            Self::TooManyComponents { .. } => "spec::too_many_components",
            Self::TooManyWires { .. } => "spec::too_many_wires",
            Self::TooManyPorts { .. } => "spec::too_many_ports",
            Self::NoPorts { .. } => "spec::no_ports",
            Self::NoImplementation { .. } => "spec::no_implementation",
            Self::TwoImplementations { .. } => "spec::two_implementations",
            Self::UnknownBuiltin { .. } => "spec::unknown_builtin",
            Self::BadSetting(_) => "spec::bad_setting",
            Self::BuiltinPorts(_) => "spec::builtin_ports",
            Self::ConfigOfProcess { .. } => "spec::config_of_process",
            Self::EmptyCommand { .. } => "spec::empty_command",
            Self::UnknownType { .. } => "spec::unknown_type",
            Self::UnknownFaultModel { .. } => "spec::unknown_fault_model",
            Self::FaultsOutOfRange { .. } => "spec::faults_out_of_range",
            Self::RecoveryOfCrashes => "spec::recovery_of_crashes",
            Self::RecoveryOutOfRange { .. } => "spec::recovery_out_of_range",
            Self::UnknownDurability { .. } => "spec::unknown_durability",
            Self::ForgetsWhenItStops { .. } => "spec::forgets_when_it_stops",
            Self::BadBroker { .. } => "spec::bad_broker",
            Self::BadEnd { .. } => "spec::bad_end",
            Self::UnknownComponent { .. } => "spec::unknown_component",
            Self::UnknownPort { .. } => "spec::unknown_port",
            Self::WrongDirection { .. } => "spec::wrong_direction",
            Self::MqttToMqtt => "spec::mqtt_to_mqtt",
            Self::BadTopic { .. } => "spec::bad_topic",
            Self::TypeMismatch { .. } => "spec::type_mismatch",
            Self::DuplicateWire { .. } => "spec::duplicate_wire",
            Self::Unconnected { .. } => "spec::unconnected",
            Self::UnknownChoice { what: Choice::Protocol, .. } => "spec::unknown_protocol",
            Self::UnknownChoice { what: Choice::Service, .. } => "spec::unknown_service",
            Self::UnknownChoice { what: Choice::Updates, .. } => "spec::unknown_updates",
            Self::SitesOutOfRange { .. } => "spec::sites_out_of_range",
            Self::TooFewSites { .. } => "spec::too_few_sites",
            Self::FaultsAtLevel { .. } => "spec::faults_at_level",
            Self::ServersOutOfRange { .. } => "spec::servers_out_of_range",
            Self::DelayOutOfRange { .. } => "spec::delay_out_of_range",
            Self::RateOutOfRange { .. } => "spec::rate_out_of_range",
            Self::ForgetfulSites { .. } => "spec::forgetful_sites",
        }
    }

    /// A few words to put at the place.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::UnknownKey { nearest, .. }
            | Self::UnknownBuiltin { nearest, .. }
            | Self::UnknownType { nearest, .. }
            | Self::UnknownDurability { nearest, .. }
            | Self::UnknownChoice { nearest, .. }
            | Self::UnknownComponent { nearest, .. }
            | Self::UnknownPort { nearest, .. } => match nearest {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => "unknown".into(),
            },
            Self::WrongShape { expected } => format!("expected {expected}"),
            Self::BadTopic { reason, .. } | Self::BadBroker { reason, .. } => (*reason).into(),
            Self::TypeMismatch { to_type, .. } => format!("takes {to_type}"),
            Self::DuplicateKey { .. } | Self::DuplicateWire { .. } => "again".into(),
            Self::Unconnected { .. } => "not connected".into(),
            Self::MissingKey { key } => format!("`{key}` is missing in here"),
            Self::WrongDirection { actual, .. } => format!("this is an {}", actual.adjective()),
            _ => "here".into(),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::TooLarge { .. } => "split the application into several".into(),
            Self::Empty => "start with `name:`, `components:` and `wires:`".into(),
            Self::NotYaml { .. } => "indent with spaces, close what you open, and quote text with \
                                     special characters"
                .into(),
            Self::UnknownKey { known, .. } => format!("possible here: {}", quoted(known)),
            Self::MissingKey { key } => format!("add `{key}:`"),
            Self::DuplicateKey { key } => format!("rename or remove one `{key}`"),
            Self::WrongShape { expected } => format!("write {expected}"),
            Self::BadName { what, .. } => name_help(*what),
            Self::ReservedName { .. } => "choose another name".into(),
            Self::NoComponents => "add one component at least under `components:`".into(),
            Self::TooManyComponents { .. } | Self::TooManyWires { .. } => {
                "split the application into several that meet at MQTT topics".into()
            }
            Self::TooManyPorts { .. } => {
                "carry several values in one event of type json, or split the component".into()
            }
            Self::NoPorts { .. } => "declare its ports, as in `in: { temperature: number }`".into(),
            Self::NoImplementation { .. } => format!(
                "add `builtin:` with one of {}, or `process:` with a command such as `[python3, \
                 thermostat.py]`",
                quoted(&Builtin::ALL.map(Builtin::name))
            ),
            Self::TwoImplementations { .. } => "remove `builtin:` or `process:`".into(),
            Self::UnknownBuiltin { .. } => {
                format!("possible: {}", quoted(&Builtin::ALL.map(Builtin::name)))
            }
            Self::BadSetting(error) => setting_help(error),
            Self::BuiltinPorts(_) => {
                "declare these ports, or leave `in` and `out` away: a builtin brings its own".into()
            }
            Self::ConfigOfProcess { .. } => "pass settings as arguments of the command".into(),
            Self::EmptyCommand { .. } => {
                "give the program and its arguments, as in `[python3, thermostat.py]`".into()
            }
            Self::UnknownType { .. } => {
                format!("possible: {}", quoted(&PortType::ALL.map(PortType::name)))
            }
            Self::UnknownFaultModel { .. } => "possible: `byzantine`, `crash`".into(),
            Self::UnknownChoice { .. }
            | Self::SitesOutOfRange { .. }
            | Self::TooFewSites { .. }
            | Self::FaultsAtLevel { .. }
            | Self::ServersOutOfRange { .. }
            | Self::DelayOutOfRange { .. }
            | Self::RateOutOfRange { .. }
            | Self::ForgetfulSites { .. } => self.help_with_sites(),
            Self::FaultsOutOfRange { f, protocol } => {
                let (survived, replicas) = match protocol.faults() {
                    FaultModel::Byzantine => ("lying replica of four", "3f + 1"),
                    FaultModel::Crash => ("crashed replica of three", "2f + 1"),
                };
                if *f < 1 {
                    format!(
                        "`f: 1` survives one {survived}; without `replicate` there is one replica that nothing \
                         protects"
                    )
                } else {
                    let most = Quorums::MAX_REPLICAS;
                    format!("f faults take {replicas} replicas, and a group has at most {most}")
                }
            }
            Self::RecoveryOfCrashes => {
                "remove `proactive_recovery`, or write `faults: byzantine`: it is for replicas that may be taken over"
                    .into()
            }
            Self::RecoveryOutOfRange { .. } => {
                format!("each replica recovers once in that time, and needs {LEAST_TURN_S} s for its turn")
            }
            Self::UnknownDurability { .. } => {
                format!("possible: {}", quoted(&Durability::ALL.map(Durability::name)))
            }
            Self::ForgetsWhenItStops { .. } => {
                "write `durability: sync`, or let others hold its state with `replicate`".into()
            }
            Self::BadBroker { .. } => {
                "write `host:port`, as in `localhost:1883`, or remove `mqtt` to use the embedded \
                 broker"
                    .into()
            }
            Self::BadEnd { .. } => {
                "write `component.port`, as in `thermostat.heater`, or `mqtt:topic/path`".into()
            }
            Self::UnknownComponent { known, .. } if known.is_empty() => {
                "declare it under `components:`".into()
            }
            Self::UnknownComponent { known, .. } => {
                format!("declare it, or use one of {}", quoted(known))
            }
            Self::UnknownPort { known, .. } if known.is_empty() => "it has no ports in this direction".into(),
            Self::UnknownPort { known, .. } => format!("possible: {}", quoted(known)),
            Self::WrongDirection { .. } => {
                "wires go from an `out` port to an `in` port; turn the wire around or use another \
                 port"
                    .into()
            }
            Self::MqttToMqtt => "let one end be a component's port; to forward messages unchanged, use the \
                 broker's bridge"
                .into(),
            Self::BadTopic { .. } => format!(
                "a topic has levels separated by `/` and at most {MAX_TOPIC_BYTES} bytes; only where \
                 a wire comes from, a level can be `+`, and the last one `#`"
            ),
            Self::TypeMismatch { .. } => {
                "declare the same type at both ends, or `json` where events go to; integer also \
                 fits number"
                    .into()
            }
            Self::DuplicateWire { .. } => "remove one of them".into(),
            Self::Unconnected { direction: Direction::In, .. } => {
                "without a wire it never gets an event; add one or remove the port".into()
            }
            Self::Unconnected { .. } => {
                "what it emits there is dropped; add a wire or remove the port".into()
            }
        }
    }

    /// What to do about a rule of systems of sites.
    fn help_with_sites(&self) -> String {
        match self {
            Self::UnknownChoice { known, .. } => format!("possible: {}", quoted(known)),
            Self::SitesOutOfRange { .. } => {
                "a faulty site takes 3 sites with `protocol: paxos`, and 4 with `pbft`".into()
            }
            Self::TooFewSites { protocol, count, f } => {
                let needed = protocol.least(*f);
                let other = match protocol {
                    ReplicationProtocol::Pbft if *count >= ReplicationProtocol::Paxos.least(*f) => {
                        ", or `paxos`, where sites fail and don't lie"
                    }
                    _ => "",
                };
                format!("that takes {needed} sites{other}")
            }
            Self::FaultsAtLevel { f, .. } if *f < 1 => {
                "what tolerates no fault is down as soon as one machine is".into()
            }
            Self::FaultsAtLevel { protocol, most, .. } => {
                format!(
                    "f faults take {}f + 1, and there are {} at most",
                    protocol.least(1) - 1,
                    protocol.least(*most)
                )
            }
            Self::ServersOutOfRange { .. } => "leave `servers` out for as few as tolerate f faults".into(),
            Self::DelayOutOfRange { .. } => {
                "give the time that one way takes; over a slower link servers do not connect in time".into()
            }
            Self::RateOutOfRange { .. } => {
                "give what a site can send to all others together, in megabits a second".into()
            }
            Self::ForgetfulSites { wide: ReplicationProtocol::Paxos } => {
                "write `durability: sync` or `async`: Paxos is safe only among sites that remember".into()
            }
            _ => "write `durability: sync`, or count such a site among the f faulty ones".into(),
        }
    }
}

fn name_help(what: Named) -> String {
    let also = match what {
        Named::Port => ", `-` and `_`",
        Named::Application | Named::System | Named::Site | Named::Component => " and `-`",
    };
    format!("use up to {MAX_NAME_CHARS} lower-case letters, digits{also}, a letter first and no sign last")
}

fn setting_help(error: &BuiltinError) -> String {
    match error {
        BuiltinError::UnknownSetting { key, known, .. } => {
            match super::nearest::nearest(key, known.iter().copied()) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => format!("possible: {}", quoted(known)),
            }
        }
        BuiltinError::MissingSetting { key, .. } => format!("add `{key}:` under `config:`"),
        _ => "correct the value".into(),
    }
}

fn quoted<T: AsRef<str>>(names: &[T]) -> String {
    let quoted: Vec<_> = names.iter().map(|n| format!("`{}`", n.as_ref())).collect();
    quoted.join(", ")
}
