use super::{Checker, shortened};
use crate::builtins::{Builtin, BuiltinError};
use crate::spec::application::{ComponentSpec, Implementation, Replication};
use crate::spec::nearest::nearest;
use crate::spec::problem::Span;
use crate::spec::raw::{Entries, RawComponent, RawProactiveRecovery, RawReplicate};
use crate::spec::rule::{Direction, Named, Rule};
use crate::spec::{LEAST_TURN_S, MAX_PORTS, MOST_RECOVERY_S, ReplicationProtocol};
use crate::value::PortType;
use althing_replica::Durability;
use althing_types::{FaultModel, Quorums};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;
use std::collections::BTreeMap;

/// Names that mean something else as the first word of a wire's end or as a process.
const RESERVED: [&str; 3] = ["mqtt", "edge", "operator"];

/// A component as far as its description could be understood, so that wires can be checked even
/// when something about it is wrong.
pub(super) struct Draft<'a> {
    pub(super) name: &'a Spanned<String>,
    implementation: Option<Implementation>,
    pub(super) inputs: Ports,
    pub(super) outputs: Ports,
    /// Whether the ports are all known; if not, a wire to a port that is not among them may be right.
    pub(super) has_all_ports: bool,
    replication: Option<Replication>,
    durability: Durability,
}

/// Ports by name.
pub(super) type Ports = BTreeMap<String, DeclaredPort>;

/// A port, its type unless that is wrong, and where it is declared.
pub(super) struct DeclaredPort {
    pub(super) kind: Option<PortType>,
    pub(super) span: Option<Span>,
}

impl Draft<'_> {
    /// The component, if everything about it is right.
    pub(super) fn finish(self) -> Option<ComponentSpec> {
        Some(ComponentSpec {
            name: self.name.value.clone(),
            implementation: self.implementation?,
            inputs: types(&self.inputs)?,
            outputs: types(&self.outputs)?,
            replication: self.replication,
            durability: self.durability,
        })
    }
}

fn types(ports: &Ports) -> Option<BTreeMap<String, PortType>> {
    let typed = |(name, port): (&String, &DeclaredPort)| Some((name.clone(), port.kind?));
    ports.iter().map(typed).collect()
}

impl Checker<'_> {
    pub(super) fn component<'a>(&mut self, name: &'a Spanned<String>, raw: &RawComponent) -> Draft<'a> {
        self.name(name, Named::Component);
        if RESERVED.contains(&name.value.as_str()) {
            let rule = Rule::ReservedName { what: Named::Component, name: name.value.clone() };
            self.report(rule, name);
        }
        let mut draft = Draft {
            name,
            implementation: None,
            inputs: self.ports(name, raw.inputs.as_ref(), Direction::In),
            outputs: self.ports(name, raw.outputs.as_ref(), Direction::Out),
            has_all_ports: true,
            replication: raw.replicate.as_ref().and_then(|r| self.replication(r)),
            durability: self.durability(name, raw),
        };
        let component = name.value.clone();
        match (&raw.builtin, &raw.process) {
            (Some(builtin), None) => self.builtin(builtin, raw, &mut draft),
            (None, Some(argv)) => self.process(argv, raw, &mut draft),
            (None, None) => {
                draft.has_all_ports = false;
                self.report(Rule::NoImplementation { component }, name);
            }
            (Some(_), Some(process)) => {
                draft.has_all_ports = false;
                self.report(Rule::TwoImplementations { component }, process);
            }
        }
        draft
    }

    fn ports(
        &mut self,
        component: &Spanned<String>,
        raw: Option<&Spanned<Entries<Spanned<String>>>>,
        direction: Direction,
    ) -> Ports {
        let Some(raw) = raw else {
            return Ports::new();
        };
        let count = raw.value.0.len();
        if count > MAX_PORTS {
            let rule = Rule::TooManyPorts { component: component.value.clone(), direction, count };
            self.report(rule, raw);
        }
        let mut ports = Ports::new();
        for (port, kind) in &raw.value.0 {
            self.name(port, Named::Port);
            let span = self.span(port);
            let declared = PortType::named(&kind.value);
            if declared.is_none() {
                let rule = Rule::UnknownType {
                    name: shortened(&kind.value),
                    nearest: nearest(&kind.value, PortType::ALL.iter().map(|t| t.name())),
                };
                self.report(rule, kind);
            }
            let kind = declared;
            ports.insert(port.value.clone(), DeclaredPort { kind, span });
        }
        ports
    }

    fn builtin(&mut self, name: &Spanned<String>, raw: &RawComponent, draft: &mut Draft<'_>) {
        let Some(builtin) = Builtin::named(&name.value) else {
            draft.has_all_ports = false;
            let rule = Rule::UnknownBuiltin {
                name: shortened(&name.value),
                nearest: nearest(&name.value, Builtin::ALL.iter().map(|b| b.name())),
            };
            self.report(rule, name);
            return;
        };
        let span = self.span(draft.name);
        let usual = |ports: BTreeMap<String, PortType>| -> Ports {
            let declared = |(port, kind)| {
                let kind = Some(kind);
                (port, DeclaredPort { kind, span })
            };
            ports.into_iter().map(declared).collect()
        };
        if raw.inputs.is_none() {
            draft.inputs = usual(builtin.usual_inputs());
        }
        if raw.outputs.is_none() {
            draft.outputs = usual(builtin.usual_outputs());
        }
        let config: Map<String, Value> = match &raw.config {
            None => Map::new(),
            Some(config) => {
                let entry = |(key, value): &(Spanned<String>, Spanned<Value>)| {
                    (key.value.clone(), value.value.clone())
                };
                config.value.0.iter().map(entry).collect()
            }
        };
        let (Some(inputs), Some(outputs)) = (types(&draft.inputs), types(&draft.outputs)) else {
            return;
        };
        if let Err(error) = builtin.check_ports(&inputs, &outputs) {
            let is_input = matches!(error, BuiltinError::WrongPorts { direction: "in", .. });
            let place = if is_input { &raw.inputs } else { &raw.outputs };
            let span = match place {
                Some(place) => self.span(place),
                None => self.span(draft.name),
            };
            self.report_at(Rule::BuiltinPorts(error), span);
            // The settings are checked all the same, with ports that suit.
            draft.implementation = None;
            let (inputs, outputs) = (builtin.usual_inputs(), builtin.usual_outputs());
            self.settings(builtin, name, raw, config, (&inputs, &outputs));
            return;
        }
        draft.implementation = self.settings(builtin, name, raw, config, (&inputs, &outputs));
    }

    fn settings(
        &mut self,
        builtin: Builtin,
        name: &Spanned<String>,
        raw: &RawComponent,
        config: Map<String, Value>,
        (inputs, outputs): (&BTreeMap<String, PortType>, &BTreeMap<String, PortType>),
    ) -> Option<Implementation> {
        let Err(error) = builtin.build(&config, inputs, outputs) else {
            return Some(Implementation::Builtin { name: builtin, config });
        };
        let entry = |key: &str| {
            let entries = raw.config.iter().flat_map(|config| &config.value.0);
            entries.clone().find(|(name, _)| name.value == key)
        };
        let span = match &error {
            BuiltinError::UnknownSetting { key, .. } => entry(key).map(|(key, _)| self.span(key)),
            BuiltinError::BadSetting { key, .. } => entry(key).map(|(_, value)| self.span(value)),
            _ => raw.config.as_ref().map(|config| self.span(config)),
        };
        let span = span.unwrap_or_else(|| self.span(name));
        self.report_at(Rule::BadSetting(error), span);
        None
    }

    fn process(&mut self, argv: &Spanned<Vec<Spanned<String>>>, raw: &RawComponent, draft: &mut Draft<'_>) {
        let component = draft.name.value.clone();
        if let Some(config) = &raw.config {
            let component = component.clone();
            self.report(Rule::ConfigOfProcess { component }, config);
        }
        if draft.inputs.is_empty() && draft.outputs.is_empty() {
            let component = component.clone();
            self.report(Rule::NoPorts { component }, draft.name);
        }
        let words: Vec<_> = argv.value.iter().map(|word| word.value.clone()).collect();
        if words.first().is_none_or(|program| program.trim().is_empty()) {
            self.report(Rule::EmptyCommand { component }, argv);
            return;
        }
        draft.implementation = Some(Implementation::Process { argv: words });
    }

    fn durability(&mut self, component: &Spanned<String>, raw: &RawComponent) -> Durability {
        let Some(name) = &raw.durability else { return Durability::default() };
        let Some(durability) = self.durability_named(name) else { return Durability::default() };
        if durability == Durability::None && raw.replicate.is_none() {
            self.report(Rule::ForgetsWhenItStops { component: component.value.clone() }, name);
        }
        durability
    }

    /// Each of the `n` replicas needs time for its turn.
    fn recovery_s(&mut self, n: u16, every_s: &Spanned<i64>) -> Option<u64> {
        let least = LEAST_TURN_S * i64::from(n);
        if (least..=MOST_RECOVERY_S).contains(&every_s.value) {
            return u64::try_from(every_s.value).ok();
        }
        self.report(Rule::RecoveryOutOfRange { every_s: every_s.value, least }, every_s);
        None
    }

    fn replication(&mut self, raw: &RawReplicate) -> Option<Replication> {
        let protocol = match raw.faults.value.as_str() {
            "byzantine" => ReplicationProtocol::Pbft,
            "crash" => ReplicationProtocol::Paxos,
            name => {
                self.report(Rule::UnknownFaultModel { name: shortened(name) }, &raw.faults);
                ReplicationProtocol::Pbft
            }
        };
        let most = protocol.most_faulty(Quorums::MAX_REPLICAS);
        let f = u16::try_from(raw.f.value).ok().filter(|f| (1..=most).contains(&usize::from(*f)));
        let Some(f) = f else {
            self.report(Rule::FaultsOutOfRange { f: raw.f.value, protocol }, &raw.f);
            return None;
        };
        let replication = Replication { protocol, f, recovery_s: None };
        let Some(RawProactiveRecovery { every_s }) = &raw.proactive_recovery else {
            return Some(replication);
        };
        if protocol.faults() == FaultModel::Crash {
            self.report(Rule::RecoveryOfCrashes, every_s);
        }
        Some(Replication { recovery_s: self.recovery_s(replication.n(), every_s), ..replication })
    }
}
