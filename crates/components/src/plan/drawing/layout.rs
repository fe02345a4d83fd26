//! A layered layout for small directed graphs, from left to right: layers by longest path, order
//! within a layer by barycentres, heights by least squares. Deterministic.

/// The free space between two boxes of a layer.
const GAP: f64 = 26.0;

/// The height that is kept free where a wire passes through a layer.
const LANE: f64 = 10.0;

/// Sweeps over the layers; small graphs settle earlier.
const SWEEPS: usize = 12;

/// Where a node wants to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pin {
    /// Wherever its wires put it.
    Free,
    /// In the last layer.
    Last,
}

/// A graph to lay out.
pub(super) struct Graph {
    /// Width, height and place of each node.
    pub(super) nodes: Vec<(f64, f64, Pin)>,
    /// The wires.
    pub(super) wires: Vec<Wire>,
    /// The free space between two layers, labels not counted.
    pub(super) layer_gap: f64,
}

/// A wire to lay out.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wire {
    /// The node where it begins.
    pub(super) from: usize,
    /// The node where it ends.
    pub(super) to: usize,
    /// Widths of the labels at its beginning and end.
    pub(super) labels: (f64, f64),
}

/// Where everything is.
#[derive(Debug)]
pub(super) struct Layout {
    /// The upper left corner of each node.
    pub(super) corners: Vec<(f64, f64)>,
    /// The points each wire passes on its way; `None` for a wire that leads back.
    pub(super) lanes: Vec<Option<Vec<Lane>>>,
    /// Width and height of everything but the wires that lead back.
    pub(super) size: (f64, f64),
}

/// Where a wire passes through a layer: straight from left to right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lane {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) y: f64,
}

/// A node of the layout: one of the graph, or the place where a wire passes through a layer.
struct Cell {
    width: f64,
    height: f64,
    layer: usize,
    y: f64,
    left: Vec<usize>,
    right: Vec<usize>,
}

impl Cell {
    fn centre(&self) -> f64 {
        self.y + self.height / 2.0
    }
}

pub(super) fn layout(graph: &Graph) -> Layout {
    let leads_back = wires_that_lead_back(graph);
    let layers = layers(graph, &leads_back);
    let mut cells: Vec<Cell> = graph
        .nodes
        .iter()
        .zip(&layers)
        .map(|(&(width, height, _), &layer)| Cell {
            width,
            height,
            layer,
            y: 0.0,
            left: Vec::new(),
            right: Vec::new(),
        })
        .collect();
    let chains: Vec<_> = graph
        .wires
        .iter()
        .zip(&leads_back)
        .map(|(wire, back)| (!back).then(|| chain(&mut cells, wire.from, wire.to)))
        .collect();
    let mut rows = rows(&cells);
    for sweep in 0..SWEEPS {
        order(&cells, &mut rows, sweep % 2 == 0);
    }
    place(&mut cells, &rows);

    let spans = spans(graph, &cells, &rows);
    let corner = |cell: &Cell| {
        let (left, right) = spans[cell.layer];
        (left + (right - left - cell.width) / 2.0, cell.y)
    };
    let lane = |&c: &usize| {
        let (left, right) = spans[cells[c].layer];
        Lane { left, right, y: cells[c].centre() }
    };
    let height = cells.iter().map(|c| c.y + c.height).fold(0.0, f64::max);
    Layout {
        corners: cells[..graph.nodes.len()].iter().map(corner).collect(),
        lanes: chains.iter().map(|chain| chain.as_ref().map(|c| c.iter().map(lane).collect())).collect(),
        size: (spans.last().map_or(0.0, |span| span.1), height),
    }
}

/// From where to where each layer extends, with room for the labels between two layers.
fn spans(graph: &Graph, cells: &[Cell], rows: &[Vec<usize>]) -> Vec<(f64, f64)> {
    let mut x = 0.0;
    let mut spans = Vec::with_capacity(rows.len());
    for (layer, row) in rows.iter().enumerate() {
        let width = row.iter().map(|&c| cells[c].width).fold(0.0, f64::max);
        spans.push((x, x + width));
        let begins = graph.wires.iter().filter(|w| cells[w.from].layer == layer).map(|w| w.labels.0);
        let ends = graph.wires.iter().filter(|w| cells[w.to].layer == layer + 1).map(|w| w.labels.1);
        x += width + graph.layer_gap + begins.fold(0.0, f64::max) + ends.fold(0.0, f64::max);
    }
    spans
}

/// Which wires would close a cycle.
fn wires_that_lead_back(graph: &Graph) -> Vec<bool> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    fn visit(node: usize, graph: &Graph, marks: &mut [Mark], back: &mut [bool]) {
        marks[node] = Mark::Open;
        for (wire, &Wire { from, to, .. }) in graph.wires.iter().enumerate() {
            if from == node {
                match marks[to] {
                    Mark::New => visit(to, graph, marks, back),
                    Mark::Open => back[wire] = true,
                    Mark::Done => {}
                }
            }
        }
        marks[node] = Mark::Done;
    }
    let mut marks = vec![Mark::New; graph.nodes.len()];
    let mut back = vec![false; graph.wires.len()];
    for node in 0..graph.nodes.len() {
        if marks[node] == Mark::New {
            visit(node, graph, &mut marks, &mut back);
        }
    }
    back
}

fn layers(graph: &Graph, leads_back: &[bool]) -> Vec<usize> {
    let mut layers = vec![0; graph.nodes.len()];
    let forward = || {
        graph.wires.iter().zip(leads_back).filter(|(_, back)| !**back).map(|(wire, _)| (wire.from, wire.to))
    };
    // The longest path has fewer wires than there are nodes.
    for _ in 0..graph.nodes.len() {
        for (from, to) in forward() {
            layers[to] = layers[to].max(layers[from] + 1);
        }
    }
    let is_last = |node: &usize| graph.nodes[*node].2 == Pin::Last;
    let free = (0..layers.len()).filter(|n| !is_last(n)).map(|n| layers[n] + 1).max();
    let last = layers.iter().copied().max().max(free).unwrap_or(0);
    for node in (0..layers.len()).filter(is_last) {
        layers[node] = last;
    }
    layers
}

/// Adds a cell for each layer between the ends of a wire and links the cells in a row.
fn chain(cells: &mut Vec<Cell>, from: usize, to: usize) -> Vec<usize> {
    let mut chain = Vec::new();
    let mut previous = from;
    for layer in cells[from].layer + 1..cells[to].layer {
        let cell = cells.len();
        cells.push(Cell { width: 0.0, height: LANE, layer, y: 0.0, left: vec![previous], right: Vec::new() });
        cells[previous].right.push(cell);
        chain.push(cell);
        previous = cell;
    }
    cells[previous].right.push(to);
    cells[to].left.push(previous);
    chain
}

fn rows(cells: &[Cell]) -> Vec<Vec<usize>> {
    let count = cells.iter().map(|c| c.layer + 1).max().unwrap_or(0);
    let mut rows = vec![Vec::new(); count];
    for (index, cell) in cells.iter().enumerate() {
        rows[cell.layer].push(index);
    }
    rows
}

/// Orders each layer by where its neighbours are in the layer before (or after).
fn order(cells: &[Cell], rows: &mut [Vec<usize>], rightwards: bool) {
    let mut positions = vec![0.0; cells.len()];
    for row in rows.iter() {
        for (position, &cell) in row.iter().enumerate() {
            positions[cell] = position as f64;
        }
    }
    let sequence: Vec<_> =
        if rightwards { (0..rows.len()).collect() } else { (0..rows.len()).rev().collect() };
    for layer in sequence {
        let row = &mut rows[layer];
        let wish = |&cell: &usize| {
            let neighbours = if rightwards { &cells[cell].left } else { &cells[cell].right };
            mean(neighbours.iter().map(|&n| positions[n])).unwrap_or(positions[cell])
        };
        row.sort_by(|a, b| wish(a).total_cmp(&wish(b)));
        for (position, &cell) in row.iter().enumerate() {
            positions[cell] = position as f64;
        }
    }
}

/// Gives each cell a height at which its wires are as straight as its layer allows.
fn place(cells: &mut [Cell], rows: &[Vec<usize>]) {
    for row in rows {
        let mut y = 0.0;
        for &cell in row {
            cells[cell].y = y;
            y += cells[cell].height + GAP;
        }
    }
    for sweep in 0..2 * SWEEPS {
        let sequence: Vec<_> =
            if sweep % 2 == 0 { rows.iter().collect() } else { rows.iter().rev().collect() };
        for row in sequence {
            let wishes: Vec<_> = row
                .iter()
                .map(|&c| {
                    let neighbours = cells[c].left.iter().chain(&cells[c].right);
                    let centre = mean(neighbours.map(|&n| cells[n].centre())).unwrap_or(cells[c].centre());
                    centre - cells[c].height / 2.0
                })
                .collect();
            let heights: Vec<_> = row.iter().map(|&c| cells[c].height).collect();
            for (&cell, y) in row.iter().zip(without_overlap(&wishes, &heights)) {
                cells[cell].y = y;
            }
        }
    }
    let top = cells.iter().map(|c| c.y).fold(f64::INFINITY, f64::min);
    for cell in cells {
        cell.y -= top;
    }
}

/// The heights nearest to the wished ones (least squares) at which boxes in this order don't overlap:
/// pool adjacent violators.
fn without_overlap(wishes: &[f64], heights: &[f64]) -> Vec<f64> {
    let mut offset = 0.0;
    let mut pools: Vec<(f64, usize)> = Vec::new();
    let mut offsets = Vec::new();
    for (wish, height) in wishes.iter().zip(heights) {
        pools.push((wish - offset, 1));
        while let [.., (before, n), (after, m)] = pools[..]
            && before > after
        {
            pools.truncate(pools.len() - 2);
            pools.push(((before * n as f64 + after * m as f64) / (n + m) as f64, n + m));
        }
        offsets.push(offset);
        offset += height + GAP;
    }
    let levels = pools.into_iter().flat_map(|(level, n)| std::iter::repeat_n(level, n));
    levels.zip(offsets).map(|(level, offset)| level + offset).collect()
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), v| (sum + v, count + 1));
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(nodes: usize, wires: &[(usize, usize)]) -> Graph {
        let wire = |&(from, to): &(usize, usize)| Wire { from, to, labels: (0.0, 0.0) };
        let wires = wires.iter().map(wire).collect();
        Graph { nodes: vec![(100.0, 40.0, Pin::Free); nodes], wires, layer_gap: 50.0 }
    }

    #[test]
    fn boxes_do_not_overlap_and_wires_lead_right() {
        let wires = [(0, 2), (1, 2), (2, 3), (2, 4), (0, 4), (3, 5), (4, 5), (1, 5)];
        let layout = layout(&graph(6, &wires));
        for (i, a) in layout.corners.iter().enumerate() {
            for b in &layout.corners[i + 1..] {
                let apart = (a.0 - b.0).abs() >= 100.0 || (a.1 - b.1).abs() >= 40.0;
                assert!(apart, "{a:?} and {b:?} overlap");
            }
        }
        for &(from, to) in &wires {
            assert!(layout.corners[from].0 + 100.0 < layout.corners[to].0);
        }
        assert_eq!(layout.lanes[4].as_ref().unwrap().len(), 1, "it passes through one layer");
    }

    #[test]
    fn cycles_are_cut_and_the_last_stays_last() {
        let mut graph = graph(4, &[(0, 1), (1, 2), (2, 0), (1, 1), (0, 3)]);
        graph.nodes[3].2 = Pin::Last;
        let layout = layout(&graph);
        let back: Vec<_> = layout.lanes.iter().map(Option::is_none).collect();
        assert_eq!(back, [false, false, true, true, false]);
        assert!(layout.corners[..3].iter().all(|c| c.0 < layout.corners[3].0));
    }

    #[test]
    fn an_empty_graph_has_no_size() {
        assert_eq!(layout(&graph(0, &[])).size, (0.0, 0.0));
    }

    #[test]
    fn overlap_is_removed_with_the_least_movement() {
        let ys = without_overlap(&[0.0, 0.0, 500.0], &[40.0, 40.0, 40.0]);
        assert_eq!(ys, [-33.0, 33.0, 500.0]);
    }
}
