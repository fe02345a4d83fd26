//! Which runs there are, and what each figure shows of them.

use althing_sim::sites::LevelProtocol::{Paxos, Pbft};
use althing_sim::wan::{Carriage, Composition, CostTable, LinkFault, LinkTrial, System, WanConfig};
use std::time::Duration;

/// What a client's update and a site's signature take at least, in the paper: 456 bytes (SRDS'07 §7).
const PROPOSAL_BYTES: u64 = 456;

/// A set of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sweep {
    /// The paper's systems, each event ordered and each message signed alone.
    Unoptimised { diameter_ms: u64 },
    /// The paper's systems, and a Steward that packs what it says as ours do.
    Optimised { diameter_ms: u64 },
    /// Its way of carrying updates, and ours.
    Carriages,
    /// What limits the optimised protocols.
    Limits,
    /// A client in the leading site alone, and one in each, with our own primitives.
    Light,
    /// Servers that fail in their part of the links between sites.
    Faults,
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
    ThroughputOverTime,
}

/// A figure of the paper, or one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figure(u8);

pub(super) const STEWARD: &str = "Steward";
pub(super) const PACKED_STEWARD: &str = "Steward, packed";

/// The paper's systems, in its order.
const SYSTEMS: [(&str, System); 5] = [
    (STEWARD, System::Steward),
    ("Paxos/Paxos", sites(Paxos, Paxos, Carriage::Leader)),
    ("BFT/Paxos", sites(Pbft, Paxos, Carriage::Leader)),
    ("Paxos/BFT", sites(Paxos, Pbft, Carriage::Leader)),
    ("BFT/BFT", sites(Pbft, Pbft, Carriage::Leader)),
];

/// What is compared with them where they are optimised. Unoptimised, there is nothing to pack.
const PACKED: [(&str, System); 1] = [(PACKED_STEWARD, System::PackedSteward)];

/// How many clients there are where each site carries its own updates: more than the leading site's link would serve.
const MANY: [u64; 6] = [5, 1000, 3000, 6000, 8000, 10000];

/// Ways of carrying updates, and for how many clients.
const CARRIAGES: [(&str, System, &[u64]); 6] = [
    ("Paxos/BFT", sites(Paxos, Pbft, Carriage::Leader), &[5, 100, 300, 1000]),
    ("BFT/BFT", sites(Pbft, Pbft, Carriage::Leader), &[5, 100, 300, 1000]),
    ("Paxos/BFT, bundles", sites(Paxos, Pbft, Carriage::Origin), &MANY),
    ("BFT/BFT, bundles", sites(Pbft, Pbft, Carriage::Origin), &MANY),
    ("Paxos/BFT, vouched bundles", sites(Paxos, Pbft, Carriage::Vouched), &MANY),
    ("BFT/BFT, vouched bundles", sites(Pbft, Pbft, Carriage::Vouched), &MANY),
];

/// What runs at light load, on so many processors: with more than one, Byzantine sites check ahead.
const LIGHT: [(&str, System, usize); 14] = [
    ("Paxos/Paxos", sites(Paxos, Paxos, Carriage::Leader), 1),
    ("BFT/Paxos", sites(Pbft, Paxos, Carriage::Leader), 1),
    ("Paxos/BFT", sites(Paxos, Pbft, Carriage::Leader), 1),
    ("Paxos/BFT, two processors", sites(Paxos, Pbft, Carriage::Leader), 2),
    ("Paxos/BFT, four processors", sites(Paxos, Pbft, Carriage::Leader), 4),
    ("BFT/BFT", sites(Pbft, Pbft, Carriage::Leader), 1),
    ("BFT/BFT, two processors", sites(Pbft, Pbft, Carriage::Leader), 2),
    ("BFT/BFT, four processors", sites(Pbft, Pbft, Carriage::Leader), 4),
    ("Paxos/BFT, vouched bundles", sites(Paxos, Pbft, Carriage::Vouched), 1),
    ("Paxos/BFT, vouched bundles, two processors", sites(Paxos, Pbft, Carriage::Vouched), 2),
    ("Paxos/BFT, vouched bundles, four processors", sites(Paxos, Pbft, Carriage::Vouched), 4),
    ("BFT/BFT, vouched bundles", sites(Pbft, Pbft, Carriage::Vouched), 1),
    ("BFT/BFT, vouched bundles, two processors", sites(Pbft, Pbft, Carriage::Vouched), 2),
    ("BFT/BFT, vouched bundles, four processors", sites(Pbft, Pbft, Carriage::Vouched), 4),
];

/// What is run with a faster link and faster processors: how many times as fast each is.
const LIMITS: [(&str, System, (u64, u32)); 6] = [
    ("Paxos/BFT", sites(Paxos, Pbft, Carriage::Leader), (1, 1)),
    ("Paxos/BFT, processors twice as fast", sites(Paxos, Pbft, Carriage::Leader), (1, 2)),
    ("Paxos/BFT, links twice as fast", sites(Paxos, Pbft, Carriage::Leader), (2, 1)),
    ("BFT/BFT", sites(Pbft, Pbft, Carriage::Leader), (1, 1)),
    ("BFT/BFT, processors twice as fast", sites(Pbft, Pbft, Carriage::Leader), (1, 2)),
    ("BFT/BFT, links twice as fast", sites(Pbft, Pbft, Carriage::Leader), (2, 1)),
];

/// By when what a link carries has to be acknowledged where it may be faulty.
const LINK_TIMEOUT: Duration = Duration::from_secs(1);

/// How servers fail. One that is slow is so by as much as a link has time.
const FAULTS: [(&str, System, LinkFault); 8] = [
    ("Paxos/BFT, silent forwarder", sites(Paxos, Pbft, Carriage::Vouched), LinkFault::SilentForwarder),
    ("Paxos/BFT, deaf peer", sites(Paxos, Pbft, Carriage::Vouched), LinkFault::DeafPeer),
    ("Paxos/BFT, slow forwarder", sites(Paxos, Pbft, Carriage::Vouched), SLOW),
    ("Paxos/BFT, one in each site", sites(Paxos, Pbft, Carriage::Vouched), LinkFault::AsManyAsTolerated),
    ("BFT/BFT, silent forwarder", sites(Pbft, Pbft, Carriage::Vouched), LinkFault::SilentForwarder),
    ("BFT/BFT, deaf peer", sites(Pbft, Pbft, Carriage::Vouched), LinkFault::DeafPeer),
    ("BFT/BFT, slow forwarder", sites(Pbft, Pbft, Carriage::Vouched), SLOW),
    ("BFT/BFT, one in each site", sites(Pbft, Pbft, Carriage::Vouched), LinkFault::AsManyAsTolerated),
];

const SLOW: LinkFault = LinkFault::SlowForwarder(LINK_TIMEOUT);

const fn sites(
    wide: althing_sim::sites::LevelProtocol,
    local: althing_sim::sites::LevelProtocol,
    carriage: Carriage,
) -> System {
    System::Sites(Composition { wide, local, carriage })
}

impl Sweep {
    /// Its runs, with these numbers of clients in place of its own if there are any. Light load is measured with what our
    /// `own` primitives cost.
    pub(super) fn runs(self, clients: &[u64], costs: &CostTable, own: &CostTable) -> Vec<Run> {
        let own_clients =
            |own: &'static [u64]| if clients.is_empty() { own.to_vec() } else { clients.to_vec() };
        let runs = |name, system, clients: Vec<u64>| {
            clients.into_iter().map(move |clients| self.run(name, system, clients, costs)).collect::<Vec<_>>()
        };
        let all = |systems: &[(&'static str, System)], clients: &'static [u64]| -> Vec<Run> {
            systems.iter().flat_map(|&(name, system)| runs(name, system, own_clients(clients))).collect()
        };
        match self {
            Self::Unoptimised { .. } => all(&SYSTEMS, &[1, 2, 5, 10, 15, 20, 30]),
            Self::Optimised { .. } => [&SYSTEMS[..], &PACKED]
                .iter()
                .flat_map(|systems| all(systems, &[5, 20, 50, 100, 150, 200, 300]))
                .collect(),
            Self::Carriages => CARRIAGES
                .iter()
                .flat_map(|&(name, system, own)| runs(name, system, own_clients(own)))
                .collect(),
            Self::Light => {
                let light = |&(name, system, processors): &(&'static str, System, usize)| {
                    [1, 5].map(|clients| {
                        let mut run = self.run(name, system, clients, own);
                        run.config.processors = processors;
                        run
                    })
                };
                LIGHT.iter().flat_map(light).collect()
            }
            Self::Limits => LIMITS.iter().map(|limit| self.limit(limit, costs)).collect(),
            Self::Faults => FAULTS.iter().map(|fault| self.fault(fault, costs)).collect(),
        }
    }

    fn run(self, name: &'static str, system: System, clients: u64, costs: &CostTable) -> Run {
        let mut config = WanConfig::new(system, clients);
        config.is_optimised = !matches!(self, Self::Unoptimised { .. });
        config.diameter = Duration::from_millis(self.diameter_ms());
        config.costs = costs.clone();
        Run { sweep: self, name, config }
    }

    fn limit(
        self,
        (name, system, (link, cpu)): &(&'static str, System, (u64, u32)),
        costs: &CostTable,
    ) -> Run {
        let costs = if *cpu > 1 { costs.on_faster(*cpu) } else { costs.clone() };
        let mut run = self.run(name, *system, 300, &costs);
        run.config.uplink_bits_per_s *= link;
        run
    }

    /// Sites of four servers, so that one may be faulty in each. They fail four seconds after all has warmed up.
    fn fault(self, (name, system, fault): &(&'static str, System, LinkFault), costs: &CostTable) -> Run {
        let mut run = self.run(name, *system, 200, costs);
        run.config.servers = 4;
        let at = run.config.warm_up + Duration::from_secs(4);
        run.config.measured = Duration::from_secs(12);
        run.config.trial =
            Some(LinkTrial { timeout: LINK_TIMEOUT, floor_bytes_per_s: 50_000, fault: *fault, at });
        run
    }

    pub(super) fn diameter_ms(self) -> u64 {
        match self {
            Self::Unoptimised { diameter_ms } | Self::Optimised { diameter_ms } => diameter_ms,
            Self::Carriages | Self::Limits | Self::Light | Self::Faults => 50,
        }
    }

    /// What it is called where runs are listed.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unoptimised { .. } => "unoptimised",
            Self::Optimised { .. } => "optimised",
            Self::Carriages => "carriages",
            Self::Limits => "limits",
            Self::Light => "light",
            Self::Faults => "faults",
        }
    }
}

impl Figure {
    pub(super) const ALL: [Self; 11] = [
        Self(4),
        Self(5),
        Self(6),
        Self(7),
        Self(8),
        Self(9),
        Self(10),
        Self(11),
        Self(12),
        Self(13),
        Self(14),
    ];

    pub(super) fn number(self) -> u8 {
        self.0
    }

    pub(super) fn sweep(self) -> Sweep {
        match self.0 {
            4 | 5 => Sweep::Unoptimised { diameter_ms: 50 },
            6 | 7 => Sweep::Unoptimised { diameter_ms: 100 },
            8 | 9 => Sweep::Optimised { diameter_ms: 50 },
            10 | 11 => Sweep::Optimised { diameter_ms: 100 },
            12 | 13 => Sweep::Carriages,
            _ => Sweep::Faults,
        }
    }

    /// What is run with it and shown in tables.
    pub(super) fn beside(self) -> Option<Sweep> {
        match self.0 {
            8 | 9 => Some(Sweep::Limits),
            12 | 13 => Some(Sweep::Light),
            _ => None,
        }
    }

    pub(super) fn quantity(self) -> Quantity {
        match self.sweep() {
            Sweep::Faults => Quantity::ThroughputOverTime,
            _ if self.0.is_multiple_of(2) => Quantity::Throughput,
            _ => Quantity::Latency,
        }
    }

    pub(super) fn title(self) -> String {
        let what = match self.quantity() {
            Quantity::Throughput | Quantity::ThroughputOverTime => "throughput",
            Quantity::Latency => "latency",
        };
        let sweep = self.sweep();
        let of = match sweep {
            Sweep::Unoptimised { .. } => "unoptimised protocols",
            Sweep::Optimised { .. } => "optimised protocols",
            Sweep::Carriages => "ways of carrying updates",
            Sweep::Limits | Sweep::Light => "optimised protocols",
            Sweep::Faults => "BFT/BFT with faulty servers from 8 s on",
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
            let costs = CostTable::paper();
            let runs = figure.sweep().runs(&[], &costs, &costs);
            let is_unoptimised = (4..=7).contains(&figure.number());
            assert!(runs.iter().all(|run| run.config.is_optimised != is_unoptimised));
            let ms = if [6, 7, 10, 11].contains(&figure.number()) { 100 } else { 50 };
            assert!(runs.iter().all(|run| run.config.diameter == Duration::from_millis(ms)), "{figure:?}");
        }
    }
}
