//! Which runs there are, and what each figure shows of them.

use althing_sim::ProtocolKind::{Paxos, Pbft};
use althing_sim::wan::{Carriage, Composition, CostTable, System, WanConfig};
use std::time::Duration;

/// What a client's update and a site's signature take at least, in the paper: 456 bytes (SRDS'07 §7).
const PROPOSAL_BYTES: u64 = 456;

/// A set of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sweep {
    /// The paper's systems, each event ordered and each message signed alone.
    Unoptimised { diameter_ms: u64 },
    /// The paper's systems.
    Optimised { diameter_ms: u64 },
    /// Its way of carrying updates, and ours.
    Carriages,
}

/// One run.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) sweep: Sweep,
    /// What is run, as legends have it.
    pub(super) name: &'static str,
    pub(super) config: WanConfig,
}

/// What a figure shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    Throughput,
    Latency,
}

/// A figure of the paper, or one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figure(u8);

pub(super) const STEWARD: &str = "Steward";

/// The paper's systems, in its order.
const SYSTEMS: [(&str, System); 5] = [
    (STEWARD, System::Steward),
    ("Paxos/Paxos", sites(Paxos, Paxos, Carriage::Leader)),
    ("BFT/Paxos", sites(Pbft, Paxos, Carriage::Leader)),
    ("Paxos/BFT", sites(Paxos, Pbft, Carriage::Leader)),
    ("BFT/BFT", sites(Pbft, Pbft, Carriage::Leader)),
];

/// Ways of carrying updates.
const CARRIAGES: [(&str, System); 6] = [
    ("Paxos/BFT", sites(Paxos, Pbft, Carriage::Leader)),
    ("BFT/BFT", sites(Pbft, Pbft, Carriage::Leader)),
    ("Paxos/BFT, bundles", sites(Paxos, Pbft, Carriage::Origin)),
    ("BFT/BFT, bundles", sites(Pbft, Pbft, Carriage::Origin)),
    ("Paxos/BFT, vouched bundles", sites(Paxos, Pbft, Carriage::Vouched)),
    ("BFT/BFT, vouched bundles", sites(Pbft, Pbft, Carriage::Vouched)),
];

const fn sites(
    wide: althing_sim::ProtocolKind,
    local: althing_sim::ProtocolKind,
    carriage: Carriage,
) -> System {
    System::Sites(Composition { wide, local, carriage })
}

impl Sweep {
    /// Its runs, with these numbers of clients in place of its own if there are any.
    pub(super) fn runs(self, clients: &[u64], costs: &CostTable) -> Vec<Run> {
        let (systems, own): (&[_], &[u64]) = match self {
            Self::Unoptimised { .. } => (&SYSTEMS, &[1, 2, 5, 10, 15, 20, 30]),
            Self::Optimised { .. } => (&SYSTEMS, &[5, 20, 50, 100, 150, 200, 300]),
            Self::Carriages => (&CARRIAGES, &[5, 100, 1000, 2500, 5000, 10_000]),
        };
        let clients = if clients.is_empty() { own } else { clients };
        let runs = systems.iter().flat_map(|&(name, system)| {
            clients.iter().map(move |clients| {
                let mut config = WanConfig::new(system, *clients);
                config.is_optimised = !matches!(self, Self::Unoptimised { .. });
                config.diameter = Duration::from_millis(self.diameter_ms());
                config.costs = costs.clone();
                Run { sweep: self, name, config }
            })
        });
        runs.collect()
    }

    pub(super) fn diameter_ms(self) -> u64 {
        match self {
            Self::Unoptimised { diameter_ms } | Self::Optimised { diameter_ms } => diameter_ms,
            Self::Carriages => 50,
        }
    }

    /// What it is called where runs are listed.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unoptimised { .. } => "unoptimised",
            Self::Optimised { .. } => "optimised",
            Self::Carriages => "carriages",
        }
    }
}

impl Figure {
    pub(super) const ALL: [Self; 10] =
        [Self(4), Self(5), Self(6), Self(7), Self(8), Self(9), Self(10), Self(11), Self(12), Self(13)];

    pub(super) fn number(self) -> u8 {
        self.0
    }

    pub(super) fn sweep(self) -> Sweep {
        match self.0 {
            4 | 5 => Sweep::Unoptimised { diameter_ms: 50 },
            6 | 7 => Sweep::Unoptimised { diameter_ms: 100 },
            8 | 9 => Sweep::Optimised { diameter_ms: 50 },
            10 | 11 => Sweep::Optimised { diameter_ms: 100 },
            _ => Sweep::Carriages,
        }
    }

    pub(super) fn quantity(self) -> Quantity {
        if self.0.is_multiple_of(2) { Quantity::Throughput } else { Quantity::Latency }
    }

    pub(super) fn title(self) -> String {
        let what = match self.quantity() {
            Quantity::Throughput => "throughput",
            Quantity::Latency => "latency",
        };
        let sweep = self.sweep();
        let of = match sweep {
            Sweep::Unoptimised { .. } => "unoptimised protocols",
            Sweep::Optimised { .. } => "optimised protocols",
            Sweep::Carriages => "ways of carrying updates",
        };
        format!("Figure {}: {what} of {of}, {} ms", self.0, sweep.diameter_ms())
    }
}

/// What the leading site's link lets through at most, in updates a second, where each proposal goes so often to each of
/// the other sites: f + 1 servers to f + 1 each, or 2f + 1 to one each, and in each case nothing else is sent.
pub(super) fn redundant_bounds(config: &WanConfig) -> [(String, f64); 2] {
    let f = (config.servers as u64 - 1) / 3;
    let bound = |copies: u64| {
        let bits = 8 * PROPOSAL_BYTES * copies * (u64::from(config.sites) - 1);
        config.uplink_bits_per_s as f64 / bits as f64
    };
    [("(f + 1)² sends", (f + 1) * (f + 1)), ("2f + 1 sends", 2 * f + 1)]
        .map(|(name, copies)| (name.to_owned(), bound(copies)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redundant_sends_are_bounded_as_in_the_paper() {
        let bounds = redundant_bounds(&WanConfig::new(System::Steward, 1));
        assert_eq!(bounds.map(|(_, bound)| bound.round()), [19.0, 62.0]);
    }

    #[test]
    fn each_figure_of_the_paper_has_its_runs() {
        for figure in Figure::ALL {
            let runs = figure.sweep().runs(&[], &CostTable::paper());
            let is_unoptimised = (4..=7).contains(&figure.number());
            assert!(runs.iter().all(|run| run.config.is_optimised != is_unoptimised));
            let ms = if [6, 7, 10, 11].contains(&figure.number()) { 100 } else { 50 };
            assert!(runs.iter().all(|run| run.config.diameter == Duration::from_millis(ms)), "{figure:?}");
        }
    }
}
