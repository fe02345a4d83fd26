use super::layout::Pin;
use crate::plan::{Group, Plan, PlannedEnd, PlannedWire};
use althing_types::FaultModel;

/// The most replicas of a group that are drawn one by one.
const MAX_DRAWN_REPLICAS: u16 = 7;

/// What is drawn: boxes and wires.
pub(super) struct Scene {
    pub(super) heading: &'static str,
    pub(super) caption: String,
    pub(super) nodes: Vec<Node>,
    pub(super) wires: Vec<DrawnWire>,
}

/// A box.
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) title: String,
    pub(super) subtitle: String,
    pub(super) pin: Pin,
}

/// What a box stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// An MQTT topic.
    Topic,
    /// A component as written, or a group of one.
    Component,
    /// A group of replicas, with the names that are drawn.
    Group {
        /// Names, or `…` for those left out.
        replicas: Vec<String>,
    },
    /// The edge.
    Edge,
}

/// A wire between boxes.
pub(super) struct DrawnWire {
    pub(super) from: usize,
    pub(super) to: usize,
    /// The output port.
    pub(super) leaves: String,
    /// The input port.
    pub(super) enters: String,
    /// How many equal copies of how many make an event, where that is more than one of one.
    pub(super) vote: Option<(u16, u16)>,
}

/// The application as its author wrote it.
pub(super) fn before(plan: &Plan) -> Scene {
    let mut scene = Scene {
        heading: "As written",
        caption: count(plan.groups().len(), "component") + ", " + &count(plan.wires().len(), "wire"),
        nodes: plan.groups().iter().map(component).collect(),
        wires: Vec::new(),
    };
    for wire in plan.wires() {
        let from = scene.end(&wire.from, Pin::Free);
        let to = scene.end(&wire.to, Pin::Last);
        scene.wires.push(drawn(wire, from, to, None));
    }
    scene
}

/// The application as it runs.
pub(super) fn after(plan: &Plan) -> Scene {
    let broker = match plan.broker() {
        Some(address) => format!("MQTT broker {address}"),
        None => "embedded MQTT broker".to_owned(),
    };
    let mut scene = Scene {
        heading: "As it runs",
        caption: count(plan.processes().len(), "process") + ", " + &broker,
        nodes: plan.groups().iter().map(group).collect(),
        wires: Vec::new(),
    };
    let mut edges = [None, None];
    for wire in plan.wires() {
        match (wire.from.group(), wire.to.group()) {
            (Some(from), Some(to)) => {
                let vote = plan.group(from).vote();
                scene.wires.push(drawn(wire, usize::from(from), usize::from(to), vote));
            }
            (None, Some(to)) => {
                let topic = scene.end(&wire.from, Pin::Free);
                let edge = scene.edge(&mut edges[0], "orders readings");
                scene.connect(topic, edge);
                scene.wires.push(drawn(wire, edge, usize::from(to), None));
            }
            (Some(from), None) => {
                let edge = scene.edge(&mut edges[1], "votes on outputs");
                let vote = plan.group(from).vote();
                scene.wires.push(drawn(wire, usize::from(from), edge, vote));
                let topic = scene.end(&wire.to, Pin::Last);
                scene.connect(edge, topic);
            }
            (None, None) => {}
        }
    }
    scene
}

impl Scene {
    /// The box of an end of a wire; topics get theirs when they come up first, one for each side.
    fn end(&mut self, end: &PlannedEnd, pin: Pin) -> usize {
        let topic = match end {
            PlannedEnd::Group { group, .. } => return usize::from(*group),
            PlannedEnd::Mqtt { topic } => topic,
        };
        let title = format!("mqtt:{topic}");
        let known = |n: &Node| n.kind == Kind::Topic && n.title == title && n.pin == pin;
        let known = self.nodes.iter().position(known);
        known.unwrap_or_else(|| {
            self.nodes.push(Node { kind: Kind::Topic, title, subtitle: String::new(), pin });
            self.nodes.len() - 1
        })
    }

    fn edge(&mut self, slot: &mut Option<usize>, subtitle: &str) -> usize {
        *slot.get_or_insert_with(|| {
            let title = Plan::EDGE.to_owned();
            self.nodes.push(Node { kind: Kind::Edge, title, subtitle: subtitle.to_owned(), pin: Pin::Free });
            self.nodes.len() - 1
        })
    }

    /// Connects two boxes once, however many wires there are between them.
    fn connect(&mut self, from: usize, to: usize) {
        if !self.wires.iter().any(|w| (w.from, w.to) == (from, to)) {
            let (leaves, enters) = (String::new(), String::new());
            self.wires.push(DrawnWire { from, to, leaves, enters, vote: None });
        }
    }
}

impl Group {
    fn vote(&self) -> Option<(u16, u16)> {
        (self.n > 1).then_some((self.liars() + 1, self.n))
    }
}

fn drawn(wire: &PlannedWire, from: usize, to: usize, vote: Option<(u16, u16)>) -> DrawnWire {
    let (leaves, enters) = (wire.from.port().to_owned(), wire.to.port().to_owned());
    DrawnWire { from, to, leaves, enters, vote }
}

fn component(group: &Group) -> Node {
    Node {
        kind: Kind::Component,
        title: group.component.clone(),
        subtitle: group.implementation.to_string(),
        pin: Pin::Free,
    }
}

fn group(group: &Group) -> Node {
    if group.n == 1 {
        return component(group);
    }
    let name = |replica: u16| format!("{}-{replica}", group.component);
    let replicas = if group.n <= MAX_DRAWN_REPLICAS {
        (0..group.n).map(name).collect()
    } else {
        let first = (0..MAX_DRAWN_REPLICAS - 2).map(name);
        first.chain(["…".to_owned(), name(group.n - 1)]).collect()
    };
    let does = match group.protocol.faults() {
        FaultModel::Byzantine => "lie",
        FaultModel::Crash => "crash",
    };
    Node {
        kind: Kind::Group { replicas },
        title: group.component.clone(),
        subtitle: format!("{} replicas, {} may {does}", group.n, group.f),
        pin: Pin::Free,
    }
}

/// A count with its noun.
pub(super) fn count(count: usize, noun: &str) -> String {
    match (count, noun) {
        (1, _) => format!("1 {noun}"),
        (_, "process") => format!("{count} processes"),
        _ => format!("{count} {noun}s"),
    }
}
