//! A picture of a plan, before and after, as SVG.

mod layout;
mod scene;

use super::Plan;
use layout::{Graph, Lane, Layout, Wire, layout};
use scene::{DrawnWire, Kind, Node, Scene};
use std::fmt::Write;

const MARGIN: f64 = 32.0;
const HEADING: f64 = 64.0;
const REPLICA_HEIGHT: f64 = 24.0;
const REPLICA_GAP: f64 = 7.0;
const GROUP_HEADER: f64 = 50.0;
const PADDING: f64 = 14.0;
const LAYER_GAP: f64 = 64.0;

const STYLE: &str = "
  text { font-family: system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #1f2933 }
  .heading { font-size: 18px; font-weight: 600 }
  .caption { font-size: 13px; fill: #616e7c }
  .title { font-size: 14px; font-weight: 600; text-anchor: middle }
  .subtitle { font-size: 11.5px; fill: #52606d; text-anchor: middle }
  .topic { font-size: 12.5px; text-anchor: middle; fill: #7a4a00 }
  .replica { font-size: 12px; text-anchor: middle }
  .port { font-size: 11px; fill: #616e7c }
  .vote { font-size: 11px; fill: #2b6a4a; font-weight: 600 }
  .port, .vote { paint-order: stroke; stroke: #ffffff; stroke-width: 3px }
  .end { text-anchor: end }
  .ballot { fill: #2f9e69; stroke: #ffffff; stroke-width: 1.5 }
  .wire { fill: none; stroke: #7b8794; stroke-width: 1.6 }
  .copy { fill: none; stroke: #58a17c; stroke-width: 1.1 }
";

impl Plan {
    /// The application before and after planning, as an SVG picture.
    #[must_use]
    pub fn svg(&self) -> String {
        let pictures = [scene::before(self), scene::after(self)].map(Picture::of);
        let width = pictures.iter().map(|p| p.layout.size.0).fold(420.0, f64::max) + 2.0 * MARGIN;
        let mut body = String::new();
        let mut y = MARGIN / 2.0;
        for picture in &pictures {
            picture.draw(y, width, &mut body);
            y += picture.height() + MARGIN;
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {y:.0}\" width=\"{width:.0}\" \
             height=\"{y:.0}\" role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n{ARROW}\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n",
            title = escaped(&format!("{}: as written, and as it runs", self.application())),
        )
    }
}

const ARROW: &str = "<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" \
    markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0.8 L7 4 L0 7.2 z\" fill=\"#7b8794\"/></marker></defs>\n";

/// A scene with the place of everything in it.
struct Picture {
    scene: Scene,
    sizes: Vec<(f64, f64)>,
    layout: Layout,
}

/// The side of a box that a wire is at.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Left,
    Right,
}

impl Picture {
    fn of(scene: Scene) -> Self {
        let count =
            |ends: &dyn Fn(&DrawnWire) -> usize, node| scene.wires.iter().filter(|w| ends(w) == node).count();
        let size = |(index, node): (usize, &Node)| {
            size(node, count(&|w| w.to, index).max(count(&|w| w.from, index)))
        };
        let sizes: Vec<_> = scene.nodes.iter().enumerate().map(size).collect();
        let wire = |wire: &DrawnWire| Wire {
            from: wire.from,
            to: wire.to,
            labels: (label_width(&wire.leaving()), label_width(&wire.entering())),
        };
        let graph = Graph {
            nodes: sizes.iter().zip(&scene.nodes).map(|(&(w, h), n)| (w, h, n.pin)).collect(),
            wires: scene.wires.iter().map(wire).collect(),
            layer_gap: LAYER_GAP,
        };
        let layout = layout(&graph);
        Self { scene, sizes, layout }
    }

    fn wires_back(&self) -> usize {
        self.layout.lanes.iter().filter(|lanes| lanes.is_none()).count()
    }

    fn height(&self) -> f64 {
        HEADING + self.layout.size.1 + 24.0 * self.wires_back() as f64
    }

    fn draw(&self, y: f64, width: f64, out: &mut String) {
        text(out, "heading", MARGIN, y + 22.0, self.scene.heading);
        text(out, "caption", MARGIN, y + 42.0, &self.scene.caption);
        let left = (width - self.layout.size.0) / 2.0;
        let _ = writeln!(out, "<g transform=\"translate({left:.1} {:.1})\">", y + HEADING);
        let mut back = 0;
        for (index, wire) in self.scene.wires.iter().enumerate() {
            self.draw_wire(index, wire, &mut back, out);
        }
        for (node, (&corner, &size)) in
            self.scene.nodes.iter().zip(self.layout.corners.iter().zip(&self.sizes))
        {
            draw_node(node, corner, size, out);
        }
        for (index, wire) in self.scene.wires.iter().enumerate() {
            self.draw_labels(index, wire, out);
        }
        out.push_str("</g>\n");
    }

    /// Where a wire is at a box: the wires of a side are spread over it in the order of their other ends.
    fn anchor(&self, wire: usize, side: Side) -> (f64, f64) {
        let end = |w: &DrawnWire| if side == Side::Left { w.to } else { w.from };
        let node = end(&self.scene.wires[wire]);
        let other = |index: usize| {
            let wire = &self.scene.wires[index];
            match &self.layout.lanes[index] {
                None => f64::INFINITY,
                Some(lanes) if side == Side::Left => lanes.last().map_or(self.centre(wire.from), |l| l.y),
                Some(lanes) => lanes.first().map_or(self.centre(wire.to), |l| l.y),
            }
        };
        let mut mates: Vec<_> =
            (0..self.scene.wires.len()).filter(|&i| end(&self.scene.wires[i]) == node).collect();
        mates.sort_by(|&a, &b| other(a).total_cmp(&other(b)));
        let place = mates.iter().position(|&i| i == wire).unwrap_or(0);
        let ((x, y), (width, height)) = (self.layout.corners[node], self.sizes[node]);
        let share = (place + 1) as f64 / (mates.len() + 1) as f64;
        (if side == Side::Left { x } else { x + width }, y + height * share)
    }

    fn centre(&self, node: usize) -> f64 {
        self.layout.corners[node].1 + self.sizes[node].1 / 2.0
    }

    fn draw_wire(&self, index: usize, wire: &DrawnWire, back: &mut usize, out: &mut String) {
        let target = self.anchor(index, Side::Left);
        let copies = match &self.scene.nodes[wire.from].kind {
            Kind::Group { replicas } if wire.vote.is_some() => self.replica_anchors(wire.from, replicas),
            _ => Vec::new(),
        };
        let Some(lanes) = &self.layout.lanes[index] else {
            *back += 1;
            let depth = self.layout.size.1 + 20.0 * *back as f64;
            let path = path_back(self.anchor(index, Side::Right), target, depth);
            let _ = writeln!(out, "<path class=\"wire\" d=\"{path}\" marker-end=\"url(#arrow)\"/>");
            return;
        };
        if copies.is_empty() {
            let path = path(self.anchor(index, Side::Right), lanes, target);
            let _ = writeln!(out, "<path class=\"wire\" d=\"{path}\" marker-end=\"url(#arrow)\"/>");
        }
        for from in copies {
            let path = path(from, lanes, target);
            let _ = writeln!(out, "<path class=\"copy\" d=\"{path}\"/>");
        }
    }

    /// The right ends of the replicas drawn in a group.
    fn replica_anchors(&self, node: usize, replicas: &[String]) -> Vec<(f64, f64)> {
        let (x, y) = self.layout.corners[node];
        let right = x + self.sizes[node].0 - PADDING;
        let top = |i: usize| y + GROUP_HEADER + i as f64 * (REPLICA_HEIGHT + REPLICA_GAP);
        let drawn = replicas.iter().enumerate().filter(|(_, name)| *name != "…");
        drawn.map(|(i, _)| (right, top(i) + REPLICA_HEIGHT / 2.0)).collect()
    }

    fn draw_labels(&self, index: usize, wire: &DrawnWire, out: &mut String) {
        let (x, y) = self.anchor(index, Side::Left);
        let class = if wire.vote.is_some() { "vote" } else { "port" };
        text(out, &format!("{class} end"), x - 11.0, y - 6.0, &wire.entering());
        if wire.vote.is_some() {
            let _ = writeln!(out, "<circle class=\"ballot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5.5\"/>");
        }
        let (x, y) = self.anchor(index, Side::Right);
        text(out, "port", x + 8.0, y - 6.0, &wire.leaving());
    }
}

impl DrawnWire {
    /// The label where it begins: the port, unless copies of several replicas leave there.
    fn leaving(&self) -> String {
        if self.vote.is_some() { String::new() } else { self.leaves.clone() }
    }

    /// The label where it ends: the port, and how many copies of how many must be equal.
    fn entering(&self) -> String {
        match self.vote {
            None => self.enters.clone(),
            Some((enough, of)) if self.enters.is_empty() => format!("{enough} of {of}"),
            Some((enough, of)) => format!("{}: {enough} of {of}", self.enters),
        }
    }
}

fn label_width(label: &str) -> f64 {
    6.4 * label.chars().count() as f64
}

/// Width and height of a box with so many wires on its busiest side.
fn size(node: &Node, wires: usize) -> (f64, f64) {
    let lines = [(&node.title, 8.4), (&node.subtitle, 6.7)];
    let text = lines.map(|(line, each)| line.chars().take(MAX_LINE_CHARS).count() as f64 * each);
    let width = text[0].max(text[1]) + 2.0 * PADDING;
    let spread = 20.0 * (wires + 1) as f64;
    match &node.kind {
        Kind::Topic => (width, spread.max(30.0)),
        Kind::Component | Kind::Edge => (width.max(110.0), spread.max(52.0)),
        Kind::Group { replicas } => {
            let longest = replicas.iter().map(|r| r.chars().count()).max().unwrap_or(0) as f64;
            let rows = replicas.len() as f64;
            let height = GROUP_HEADER + rows * (REPLICA_HEIGHT + REPLICA_GAP) - REPLICA_GAP + PADDING;
            (width.max(longest * 7.4 + 4.0 * PADDING), height.max(spread))
        }
    }
}

/// The longest line of text in a box.
const MAX_LINE_CHARS: usize = 40;

fn draw_node(node: &Node, (x, y): (f64, f64), (width, height): (f64, f64), out: &mut String) {
    let (fill, stroke, radius) = match node.kind {
        Kind::Topic => ("#fff7e6", "#e8a33d", height.min(30.0) / 2.0),
        Kind::Component => ("#eef4fd", "#5b8dd6", 8.0),
        Kind::Edge => ("#f4f5f7", "#9aa5b1", 8.0),
        Kind::Group { .. } => ("#eef8f2", "#58a17c", 12.0),
    };
    let _ = writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{radius:.1}\" fill=\"{fill}\" \
         stroke=\"{stroke}\" stroke-width=\"1.4\"/>"
    );
    let centre = x + width / 2.0;
    match &node.kind {
        Kind::Topic => text(out, "topic", centre, y + height / 2.0 + 4.5, &node.title),
        Kind::Component | Kind::Edge => {
            text(out, "title", centre, y + height / 2.0 - 3.0, &node.title);
            text(out, "subtitle", centre, y + height / 2.0 + 14.0, &node.subtitle);
        }
        Kind::Group { replicas } => {
            text(out, "title", centre, y + 21.0, &node.title);
            text(out, "subtitle", centre, y + 38.0, &node.subtitle);
            let mut top = y + GROUP_HEADER;
            for replica in replicas {
                draw_replica(replica, (x + PADDING, top), width - 2.0 * PADDING, out);
                top += REPLICA_HEIGHT + REPLICA_GAP;
            }
        }
    }
}

fn draw_replica(name: &str, (x, y): (f64, f64), width: f64, out: &mut String) {
    if name != "…" {
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{REPLICA_HEIGHT}\" rx=\"5\" fill=\"#ffffff\" \
             stroke=\"#8cc5a6\"/>"
        );
    }
    text(out, "replica", x + width / 2.0, y + 16.5, name);
}

/// A smooth way from left to right, straight where it passes through layers.
fn path(from: (f64, f64), lanes: &[Lane], to: (f64, f64)) -> String {
    let mut path = format!("M{:.1} {:.1}", from.0, from.1);
    let mut at = from;
    let mut curve = |path: &mut String, x: f64, y: f64, on: f64| {
        let bend = (x - at.0) / 2.0;
        let _ = write!(path, " C{:.1} {:.1} {:.1} {y:.1} {x:.1} {y:.1}", at.0 + bend, at.1, x - bend);
        if on > x {
            let _ = write!(path, " H{on:.1}");
        }
        at = (on, y);
    };
    for lane in lanes {
        curve(&mut path, lane.left, lane.y, lane.right);
    }
    curve(&mut path, to.0, to.1, to.0);
    path
}

/// A way back, below everything.
fn path_back(from: (f64, f64), to: (f64, f64), depth: f64) -> String {
    let (out, back) = (from.0 + 22.0, to.0 - 22.0);
    format!(
        "M{:.1} {:.1} C{out:.1} {:.1} {out:.1} {:.1} {out:.1} {:.1} Q{out:.1} {depth:.1} {:.1} {depth:.1} H{:.1} \
         Q{back:.1} {depth:.1} {back:.1} {:.1} C{back:.1} {:.1} {back:.1} {:.1} {:.1} {:.1}",
        from.0,
        from.1,
        from.1,
        from.1 + 8.0,
        depth - 12.0,
        out - 12.0,
        back + 12.0,
        depth - 12.0,
        to.1 + 8.0,
        to.1,
        to.0,
        to.1,
    )
}

fn text(out: &mut String, class: &str, x: f64, y: f64, text: &str) {
    if !text.is_empty() {
        let mut shown: String = text.chars().take(MAX_LINE_CHARS).collect();
        if shown.len() < text.len() && class != "caption" {
            shown.pop();
            shown.push('…');
        }
        let shown = if class == "caption" { text } else { &shown };
        let _ = writeln!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(shown));
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML has no control characters; topics have none either, arguments of commands may.
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
