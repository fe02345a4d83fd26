use althing_types::ReplicaId;
use althing_wide::{SelectionOrder, Servers, Suspect, Turn};

/// What a site's servers may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SiteKind {
    /// Anything: 3F + 1 servers.
    Byzantine,
    /// Crash: 2F + 1 servers.
    Benign,
}

impl SiteKind {
    fn servers(self, faults: usize) -> Servers {
        match self {
            Self::Byzantine => Servers::byzantine(3 * faults + 1, faults),
            Self::Benign => Servers::benign(2 * faults + 1, faults),
        }
        .expect("as many as it takes")
    }

    fn count(self, faults: usize) -> usize {
        match self {
            Self::Byzantine => 3 * faults + 1,
            Self::Benign => 2 * faults + 1,
        }
    }
}

/// How the virtual links from a site to another fare, over all ways in which so many servers of each can be faulty: a row
/// of SRDS'07 Table 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkFigures {
    /// The part of the virtual links with two correct servers, at least.
    pub correct: f64,
    /// The most links in a row with a faulty server, as tried.
    pub in_a_row: u64,
    /// The same, as the production code has it.
    pub bound: u64,
}

/// The figures of the links from a site of one kind with so many faulty servers to one of another kind that is no larger:
/// tries all placements of faulty servers, of any number that the other site tolerates.
///
/// # Panics
/// With more than three faults in a site: that takes too long.
#[must_use]
pub fn link_figures((from, to): (SiteKind, SiteKind), faults: usize) -> LinkFigures {
    assert!(faults <= 3, "too many placements to try");
    let all = (0..=faults * 2).filter(|others| to.count(*others) <= from.count(faults));
    let worst = LinkFigures { correct: 1.0, in_a_row: 0, bound: 0 };
    all.map(|others| between((from, faults), (to, others))).fold(worst, |worst, figures| LinkFigures {
        correct: worst.correct.min(figures.correct),
        in_a_row: worst.in_a_row.max(figures.in_a_row),
        bound: worst.bound.max(figures.bound),
    })
}

/// The figures of the links between two sites with so many faulty servers each.
fn between((from, faults): (SiteKind, usize), (to, others): (SiteKind, usize)) -> LinkFigures {
    let (senders, receivers) = (from.count(faults), to.count(others));
    let order = SelectionOrder::new(from.servers(faults), to.servers(others));
    let placements = placements(senders, faults)
        .flat_map(|sending| placements(receivers, others).map(move |receiving| (sending, receiving)));
    let correct = (senders - faults) * (receivers - others);
    LinkFigures {
        correct: correct as f64 / (senders * receivers) as f64,
        in_a_row: placements
            .map(|faulty| longest_run(&order, (senders, receivers), faulty))
            .max()
            .unwrap_or(0),
        bound: order.most_faulty_in_a_row(),
    }
}

/// The longest run of links with a faulty server, where each is given up for one that is.
fn longest_run(order: &SelectionOrder, (senders, receivers): (usize, usize), faulty: (u32, u32)) -> u64 {
    let is_faulty = |bits: u32, server: ReplicaId| bits >> server.0 & 1 == 1;
    let (mut turn, mut run, mut longest) = (Turn::default(), 0, 0);
    // The order is no longer than this; a run may go over its end.
    for _ in 0..2 * senders * receivers * senders.max(receivers) {
        let link = order.virtual_link(turn);
        let is_forwarders = is_faulty(faulty.0, link.forwarder);
        run = if is_forwarders || is_faulty(faulty.1, link.peer) { run + 1 } else { 0 };
        longest = longest.max(run);
        turn = order.after(turn, if is_forwarders { Suspect::Forwarder } else { Suspect::Peer });
    }
    longest
}

/// All ways in which so many of these can be faulty, as bits.
fn placements(all: usize, faulty: usize) -> impl Iterator<Item = u32> {
    (0u32..1 << all).filter(move |bits| bits.count_ones() as usize == faulty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_is_what_the_production_code_says() {
        use SiteKind::{Benign, Byzantine};
        for kinds in [(Byzantine, Byzantine), (Byzantine, Benign), (Benign, Byzantine), (Benign, Benign)] {
            for faults in 1..=2 {
                let figures = link_figures(kinds, faults);
                assert_eq!(figures.in_a_row, figures.bound, "{kinds:?}, {faults}");
            }
        }
        assert!((link_figures((Byzantine, Byzantine), 1).correct - 9.0 / 16.0).abs() < 1e-9);
    }
}
