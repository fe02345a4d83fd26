mod component;
mod wire;

use super::application::{Application, BrokerAddress};
use super::nearest::nearest;
use super::problem::{Problem, Problems, Severity, Span};
use super::raw::RawApplication;
use super::rule::{Direction, Named, Rule};
use super::{MAX_COMPONENTS, MAX_NAME_CHARS, MAX_WIRES};
use althing_replica::Durability;
use component::Draft;
use serde_saphyr::Spanned;

/// Checks every rule on `raw`, which was read from `text`.
pub(super) fn check(text: &str, raw: &RawApplication) -> Result<Application, Problems> {
    let mut checker = Checker::new(text);
    checker.name(&raw.name, Named::Application);
    let broker = raw.mqtt.as_ref().and_then(|mqtt| checker.broker(&mqtt.broker));
    let components = &raw.components.value.0;
    match components.len() {
        0 => checker.report(Rule::NoComponents, &raw.components),
        1..=MAX_COMPONENTS => {}
        count => checker.report(Rule::TooManyComponents { count }, &raw.components),
    }
    let wires = match &raw.wires {
        Some(wires) if wires.value.len() > MAX_WIRES => {
            let count = wires.value.len();
            checker.report(Rule::TooManyWires { count }, wires);
            &wires.value[..MAX_WIRES]
        }
        Some(wires) => wires.value.as_slice(),
        None => [].as_slice(),
    };
    let drafts: Vec<_> = components
        .iter()
        .take(MAX_COMPONENTS)
        .map(|(name, component)| checker.component(name, component))
        .collect();
    let wires = checker.wires(wires, &drafts);
    checker.unconnected(&drafts, &wires);

    let warnings = checker.finish()?;
    Ok(Application {
        name: raw.name.value.clone(),
        broker,
        components: drafts.into_iter().filter_map(Draft::finish).collect(),
        wires: wires.into_iter().flatten().map(|w| w.wire).collect(),
        warnings,
    })
}

/// Collects what is wrong with a spec file.
pub(super) struct Checker<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, problems: Vec::new() }
    }

    /// The warnings, or all errors, in the order of the file.
    pub(super) fn finish(self) -> Result<Vec<Problem>, Problems> {
        let mut problems = self.problems;
        problems.sort_by_key(Problem::span);
        if problems.iter().any(|p| p.severity() == Severity::Error) {
            // Warnings would hide the errors, and half of them go away with them.
            problems.retain(|p| p.severity() == Severity::Error);
            return Err(Problems::new(problems));
        }
        Ok(problems)
    }
}

impl Checker<'_> {
    pub(super) fn report<T>(&mut self, rule: Rule, place: &Spanned<T>) {
        let span = self.span(place);
        self.report_at(rule, span);
    }

    fn report_at(&mut self, rule: Rule, span: Option<Span>) {
        self.problems.push(Problem::new(rule, span));
    }

    fn span<T>(&self, place: &Spanned<T>) -> Option<Span> {
        Span::of(place.referenced, self.text)
    }

    pub(super) fn name(&mut self, name: &Spanned<String>, what: Named) {
        let may_underscore = what == Named::Port;
        let is_sign = |c: char| c == '-' || (may_underscore && c == '_');
        let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || is_sign(c);
        let text = name.value.as_str();
        if !text.starts_with(|c: char| c.is_ascii_lowercase())
            || text.ends_with(is_sign)
            || !text.chars().all(is_good)
            || text.len() > MAX_NAME_CHARS
        {
            let rule = Rule::BadName { what, name: shortened(text) };
            self.report(rule, name);
        }
    }

    pub(super) fn durability_named(&mut self, name: &Spanned<String>) -> Option<Durability> {
        let durability = Durability::named(&name.value);
        if durability.is_none() {
            let rule = Rule::UnknownDurability {
                name: shortened(&name.value),
                nearest: nearest(&name.value, Durability::ALL.iter().map(|d| d.name())),
            };
            self.report(rule, name);
        }
        durability
    }

    fn broker(&mut self, address: &Spanned<String>) -> Option<BrokerAddress> {
        match broker(&address.value) {
            Ok(broker) => Some(broker),
            Err(reason) => {
                let rule = Rule::BadBroker { address: shortened(&address.value), reason };
                self.report(rule, address);
                None
            }
        }
    }

    fn unconnected(&mut self, drafts: &[Draft<'_>], wires: &[Option<wire::Checked>]) {
        // A wire that is wrong was meant for some port, and nobody knows which.
        if wires.iter().any(Option::is_none) {
            return;
        }
        for (index, draft) in drafts.iter().enumerate() {
            for (direction, ports) in [(Direction::In, &draft.inputs), (Direction::Out, &draft.outputs)] {
                for (port, declared) in ports {
                    let touches = |w: &wire::Checked| w.touches(index, port, direction);
                    if !wires.iter().flatten().any(touches) {
                        let rule = Rule::Unconnected {
                            component: draft.name.value.clone(),
                            port: port.clone(),
                            direction,
                        };
                        self.report_at(rule, declared.span);
                    }
                }
            }
        }
    }
}

/// Text from the file as messages show it.
pub(super) fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(80).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

fn broker(address: &str) -> Result<BrokerAddress, &'static str> {
    let (host, port) = address.rsplit_once(':').ok_or("the port is missing")?;
    let port = match port.parse::<u16>() {
        Ok(port) if port > 0 && port.to_string().len() <= 5 => port,
        _ => return Err("the port is a number from 1 to 65535"),
    };
    let in_brackets = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let is_host_character = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let host = match in_brackets {
        Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6,
        Some(_) => return Err("this is no IPv6 address in the brackets"),
        None if host.is_empty() => return Err("the host is missing"),
        None if host.contains("//") => return Err("leave the scheme away"),
        None if host.contains(':') => return Err("an IPv6 address stands in brackets"),
        None if host.len() > 253 || !host.chars().all(is_host_character) => {
            return Err("this is no host name");
        }
        None => host,
    };
    Ok(BrokerAddress { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_addresses() {
        for good in ["localhost:1883", "10.0.0.1:1", "broker.example.org:65535", "[::1]:1883"] {
            assert_eq!(broker(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "localhost",
            "localhost:",
            "localhost:0",
            "localhost:65536",
            "localhost:mqtt",
            ":1883",
            "mqtt://localhost:1883",
            "::1:1883",
            "[::1:1883",
            "[x]:1",
            "a b:1",
            "a:+1x",
        ] {
            assert!(broker(bad).is_err(), "{bad}");
        }
    }
}
