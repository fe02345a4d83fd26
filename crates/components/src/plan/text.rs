use super::{Group, Plan, PlannedEnd, PlannedWire, Runs};
use althing_replica::Durability;
use althing_types::{FaultModel, ReplicaId};
use std::fmt::Write;

/// Columns that the text keeps to where it can.
pub(super) const COLUMNS: usize = 96;

impl Plan {
    /// The application before and after planning, as text for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.application());
        text.push_str("\nAs written\n");
        let ends: Vec<_> = self.wires().iter().map(|w| (self.end(&w.from), self.end(&w.to))).collect();
        let widest = ends.iter().map(|(from, _)| from.chars().count()).max().unwrap_or(0);
        for ((from, to), wire) in ends.iter().zip(self.wires()) {
            let kind = wire.carries.name();
            let _ =
                writeln!(text, "  {from:widest$}  ── {kind} {:─<fill$}▶  {to}", "", fill = 9 - kind.len());
        }
        if ends.is_empty() {
            text.push_str("  no wires\n");
        }

        let broker = match (self.broker(), self.edge_wires().next()) {
            (_, None) => String::new(),
            (Some(address), _) => format!(", MQTT broker {address}"),
            (None, _) => ", embedded MQTT broker".to_owned(),
        };
        let count = self.processes().len();
        let processes = if count == 1 { "process" } else { "processes" };
        let _ = writeln!(text, "\nAs it runs: {count} {processes}{broker}");
        let widest = self.groups().iter().map(|g| g.component.chars().count()).max().unwrap_or(0);
        let widest = widest.max(Self::EDGE.len());
        for group in self.groups() {
            let _ =
                writeln!(text, "  {:widest$}  {}; {}", group.component, group.implementation, faults(group));
            self.write_processes(group, widest, &mut text);
        }
        if self.processes().iter().any(|p| p.runs == Runs::Edge) {
            let _ = writeln!(text, "  {:widest$}  holds the MQTT ends of the wires", Self::EDGE);
        }

        if !self.wires().is_empty() {
            text.push_str("\nHow events travel\n");
        }
        for (wire, (from, to)) in self.wires().iter().zip(&ends) {
            let _ = writeln!(text, "  {from} ─▶ {to}\n      {}", self.way(wire));
        }
        text
    }

    fn write_processes(&self, group: &Group, indent: usize, text: &mut String) {
        let mut line = String::new();
        for replica in group.quorums().replicas() {
            let name = group.process_name(replica);
            if !line.is_empty() && indent + 4 + line.chars().count() + 2 + name.len() > COLUMNS {
                let _ = writeln!(text, "  {:indent$}  {line}", "");
                line.clear();
            }
            if !line.is_empty() {
                line.push_str("  ");
            }
            line.push_str(&name);
        }
        let _ = writeln!(text, "  {:indent$}  {line}", "");
    }

    fn end(&self, end: &PlannedEnd) -> String {
        match end {
            PlannedEnd::Group { group, port } => format!("{}.{port}", self.group(*group).component),
            PlannedEnd::Mqtt { topic } => format!("mqtt:{topic}"),
        }
    }

    fn way(&self, wire: &PlannedWire) -> String {
        let ordered = |group: &Group| match group.n {
            1 => format!("{} takes it", group.component),
            n => format!("the {n} replicas of {} order it", group.component),
        };
        let first = |group: &Group| group.process_name(ReplicaId(0));
        match (wire.from.group(), wire.to.group()) {
            (None, Some(to)) => format!("edge receives it, {}", ordered(self.group(to))),
            (Some(from), None) => match self.group(from) {
                from if from.n == 1 => format!("{} sends it, edge publishes it", first(from)),
                from => format!("edge publishes {}", taken(from)),
            },
            (Some(from), Some(to)) => {
                let (from, to) = (self.group(from), self.group(to));
                match (from.n, to.n) {
                    (1, _) => format!("{} sends it, {}", from.process_name(ReplicaId(0)), ordered(to)),
                    (_, 1) => format!("{} takes {}", to.component, taken(from)),
                    (n, m) => {
                        let when = match from.liars() {
                            0 => "take the first".to_owned(),
                            liars => format!("take it once {} agree", liars + 1),
                        };
                        format!("the {m} replicas of {} order each of {n} copies, and {when}", to.component)
                    }
                }
            }
            (None, None) => String::new(),
        }
    }
}

/// When the replicas of a group are believed.
fn taken(from: &Group) -> String {
    match from.liars() {
        0 => format!("the first of {} copies", from.n),
        liars => format!("it once {} of {} copies agree", liars + 1, from.n),
    }
}

fn faults(group: &Group) -> String {
    let faults = match (group.n, group.f, group.protocol.faults()) {
        (1, ..) => "1 replica, which nothing protects".to_owned(),
        (n, 1, FaultModel::Byzantine) => format!("{n} replicas, right while 1 of them lies"),
        (n, f, FaultModel::Byzantine) => format!("{n} replicas, right while {f} of them lie"),
        (n, 1, FaultModel::Crash) => {
            format!("{n} replicas, there while 1 of them has crashed, and none may lie")
        }
        (n, f, FaultModel::Crash) => {
            format!("{n} replicas, there while {f} of them have crashed, and none may lie")
        }
    };
    let faults = match group.recovery_s {
        Some(every) => format!("{faults}; each recovers every {every} s"),
        None => faults,
    };
    match group.durability {
        Durability::Sync => faults,
        other => format!("{faults}; durability {other}"),
    }
}
