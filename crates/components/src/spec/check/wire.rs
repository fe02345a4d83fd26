use super::component::{DeclaredPort, Draft};
use super::{Checker, shortened};
use crate::spec::application::{End, Wire};
use crate::spec::nearest::nearest;
use crate::spec::problem::Span;
use crate::spec::raw::RawWire;
use crate::spec::rule::{Direction, Rule};
use crate::spec::{MQTT_PREFIX, topic};
use crate::value::PortType;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;

/// A wire whose ends exist.
pub(super) struct Checked {
    pub(super) wire: Wire,
}

impl Checked {
    /// Whether the wire begins (out) or ends (in) at this port.
    pub(super) fn touches(&self, index: usize, name: &str, direction: Direction) -> bool {
        let end = match direction {
            Direction::In => &self.wire.to,
            Direction::Out => &self.wire.from,
        };
        matches!(end, End::Port { component, port } if *component == index && port == name)
    }
}

/// An end that exists, with its type unless that is wrong; MQTT has none of its own.
struct CheckedEnd {
    end: End,
    kind: Option<PortType>,
}

impl Checker<'_> {
    /// Checks all wires; those that are wrong give `None`.
    pub(super) fn wires(&mut self, raw: &[Spanned<RawWire>], drafts: &[Draft<'_>]) -> Vec<Option<Checked>> {
        let mut lines = BTreeMap::new();
        let mut wires = Vec::with_capacity(raw.len());
        for wire in raw {
            let checked = self.wire(wire, drafts);
            if let Some(Checked { wire: checked }) = &checked {
                let ends = (checked.from.clone(), checked.to.clone());
                let line = self.span(wire).map_or(0, |span| span.line);
                if let Some(first_line) = lines.insert(ends, line) {
                    let rule = Rule::DuplicateWire {
                        from: wire.value.from.value.clone(),
                        to: wire.value.to.value.clone(),
                        first_line,
                    };
                    self.report(rule, &wire.value.from);
                }
            }
            wires.push(checked);
        }
        wires
    }

    fn wire(&mut self, raw: &Spanned<RawWire>, drafts: &[Draft<'_>]) -> Option<Checked> {
        let RawWire { from, to } = &raw.value;
        let checked_from = self.end(from, drafts, Direction::Out);
        let checked_to = self.end(to, drafts, Direction::In);
        let is_mqtt = |end: &Spanned<String>| end.value.starts_with(MQTT_PREFIX);
        if is_mqtt(from) && is_mqtt(to) {
            self.report(Rule::MqttToMqtt, from);
            return None;
        }
        let (checked_from, checked_to) = (checked_from?, checked_to?);
        let carries = match (checked_from.kind, checked_to.kind) {
            (Some(from_type), Some(to_type)) if !from_type.fits(to_type) => {
                let rule =
                    Rule::TypeMismatch { from: from.value.clone(), from_type, to: to.value.clone(), to_type };
                self.report(rule, to);
                from_type
            }
            (Some(kind), _) | (None, Some(kind)) => kind,
            (None, None) => return None,
        };
        Some(Checked { wire: Wire { from: checked_from.end, to: checked_to.end, carries } })
    }

    /// Checks an end of a wire: `needed` is the direction that a port there must have.
    fn end(&mut self, text: &Spanned<String>, drafts: &[Draft<'_>], needed: Direction) -> Option<CheckedEnd> {
        if let Some(topic) = text.value.strip_prefix(MQTT_PREFIX) {
            return self.topic(text, topic, needed);
        }
        let Some((name, port)) = text.value.split_once('.') else {
            let end = shortened(&text.value);
            self.report(Rule::BadEnd { end }, text);
            return None;
        };
        let Some(component) = drafts.iter().position(|d| d.name.value == name) else {
            let known: Vec<_> = drafts.iter().map(|d| d.name.value.clone()).collect();
            let rule = Rule::UnknownComponent {
                name: shortened(name),
                nearest: nearest(name, known.iter().map(String::as_str)),
                known,
            };
            let span = self.part(text, 0, name.len());
            self.report_at(rule, span);
            return None;
        };
        let draft = &drafts[component];
        let (there, other) = match needed {
            Direction::In => (&draft.inputs, &draft.outputs),
            Direction::Out => (&draft.outputs, &draft.inputs),
        };
        match there.get(port) {
            Some(DeclaredPort { kind, .. }) => {
                Some(CheckedEnd { end: End::Port { component, port: port.to_owned() }, kind: *kind })
            }
            None => {
                let span = self.part(text, name.len() + 1, port.len());
                if other.contains_key(port) {
                    let rule = Rule::WrongDirection {
                        component: name.to_owned(),
                        port: port.to_owned(),
                        actual: opposite(needed),
                    };
                    self.report_at(rule, span);
                } else if draft.has_all_ports {
                    let rule = Rule::UnknownPort {
                        component: name.to_owned(),
                        port: shortened(port),
                        nearest: nearest(port, there.keys().map(String::as_str)),
                        known: there.keys().cloned().collect(),
                    };
                    self.report_at(rule, span);
                }
                None
            }
        }
    }

    fn topic(&mut self, text: &Spanned<String>, topic: &str, needed: Direction) -> Option<CheckedEnd> {
        let fault = match needed {
            Direction::In => topic::name_fault(topic),
            Direction::Out => topic::filter_fault(topic),
        };
        if let Some(reason) = fault {
            let rule = Rule::BadTopic { topic: shortened(topic), reason };
            let span = self.part(text, MQTT_PREFIX.len(), topic.len());
            self.report_at(rule, span);
            return None;
        }
        Some(CheckedEnd { end: End::Mqtt { topic: topic.to_owned() }, kind: None })
    }

    fn part(&self, text: &Spanned<String>, start: usize, length: usize) -> Option<Span> {
        Some(self.span(text)?.part(self.text, start, length))
    }
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::In => Direction::Out,
        Direction::Out => Direction::In,
    }
}
