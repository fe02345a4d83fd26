//! What the suite measures: the targets of the production release of PBFT, as far as one command can
//! measure them.

use super::ATTACHMENTS;
use super::goal::{Bound, Figure, Goal};
use crate::commands::bench::injection::Injection;
use crate::commands::bench::load::{Arrivals, Load, ServiceKind, Workload};
use crate::commands::bench::report::Report;
use crate::commands::bench::settings::{ContenderSettings, Settings};
use althing_node::config::{RawPbft, ReadKind, RequestAuthKind};
use althing_replica::Durability;
use serde::Serialize;
use std::iter;

/// Clients of an open loop: far more than are busy as long as the rate is served.
const OPEN_CLIENTS: usize = 256;

/// How long and how often the suite measures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Pace {
    pub(super) warm_up_seconds: f64,
    pub(super) measured_seconds: f64,
    pub(super) rounds: usize,
    /// Of runs with a fault, and when in them it comes.
    fault_run_seconds: f64,
    fault_at_seconds: f64,
}

impl Pace {
    pub(super) fn quick() -> Self {
        Self {
            warm_up_seconds: 0.5,
            measured_seconds: 1.0,
            rounds: 1,
            fault_run_seconds: 4.0,
            fault_at_seconds: 1.0,
        }
    }

    pub(super) fn full() -> Self {
        Self {
            warm_up_seconds: 2.0,
            measured_seconds: 5.0,
            rounds: 5,
            fault_run_seconds: 10.0,
            fault_at_seconds: 3.0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Picture {
    None,
    /// Throughput against latency.
    Curve,
    /// Throughput over time.
    Course,
}

/// One benchmark of the suite.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Scenario {
    /// Names its files.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// What it shows, for people.
    pub(super) about: &'static str,
    #[serde(skip)]
    pub(super) settings: Settings,
    pub(super) picture: Picture,
    pub(super) goals: Vec<Goal>,
}

impl Scenario {
    /// Where its picture lies, from the page.
    pub(super) fn picture_file(&self) -> String {
        format!("{ATTACHMENTS}/{}.svg", self.id)
    }
}

/// The most that a replicated contender did in a second.
pub(super) fn capacity(report: &Report) -> f64 {
    let replicated = report.rows.iter().filter(|row| row.contender.f > 0);
    replicated.map(|row| row.operations_per_second.median).fold(0.0, f64::max)
}

/// All scenarios in closed loops. The first measures what the group can do.
pub(super) fn closed_loops(pace: &Pace) -> Vec<Scenario> {
    vec![
        empty_requests(pace),
        shared_connections(pace),
        reads(pace),
        sized_requests(pace, "requests-1k", "Requests of 1 KiB", 1024),
        sized_requests(pace, "requests-4k", "Requests of 4 KiB", 4096),
        durability(pace),
        signatures(pace),
        store(pace),
    ]
}

/// All scenarios in open loops, of a group that does `capacity` operations a second.
pub(super) fn open_loops(pace: &Pace, capacity: f64) -> Vec<Scenario> {
    let rate = |share: f64| (capacity * share).max(1.0).round();
    vec![open_loop(pace, [0.2, 0.5, 0.8].map(rate)), primary_killed(pace, rate(0.2))]
}

fn empty_requests(pace: &Pace) -> Scenario {
    Scenario {
        id: "requests-0",
        title: "Requests without content",
        about: "The cost of replication itself: requests and replies of 0 bytes, MACs, nothing on disk. \
            Four replicas share the cores that the one server has for itself.",
        settings: settings(pace, closed([1, 16, 64, 256])),
        picture: Picture::Curve,
        goals: vec![
            share_of_baseline("0 B, 64 clients: throughput against the unreplicated server", 64),
            share_of_baseline("0 B, 256 clients: throughput against the unreplicated server", 256),
            Goal {
                what: "0 B, 1 client: latency against the unreplicated round trip",
                figure: Figure::LatencyMultiple { of: "pbft", clients: 1 },
                bound: Bound::AtMost(2.5),
            },
        ],
    }
}

fn shared_connections(pace: &Pace) -> Scenario {
    let mut settings = settings(pace, closed([256, 1024]));
    settings.contenders = against_baseline(
        [("pbft-none", Durability::None), ("pbft-sync", Durability::Sync)],
        RequestAuthKind::Macs,
    );
    settings.clients_per_connection = 256;
    Scenario {
        id: "shared-connections",
        title: "Clients that share connections",
        about: "Requests and replies of 0 bytes of 256 clients on each connection, as from an application \
            server that has many users: the most operations that this machine does.",
        settings,
        picture: Picture::Curve,
        goals: vec![
            Goal {
                what: "0 B, 1024 clients, MACs, `none`",
                figure: Figure::Throughput { of: "pbft-none", clients: 1024 },
                bound: Bound::AtLeast(100_000.0),
            },
            Goal {
                what: "0 B, 1024 clients, MACs, `sync`",
                figure: Figure::Throughput { of: "pbft-sync", clients: 1024 },
                bound: Bound::AtLeast(40_000.0),
            },
        ],
    }
}

fn reads(pace: &Pace) -> Scenario {
    let mut settings = settings(pace, closed([1, 64]));
    settings.workload.read_share = 1.0;
    settings.reads = ReadKind::Fast;
    Scenario {
        id: "reads",
        title: "Reads only",
        about: "Requests that change nothing, answered without being ordered as long as an agreement \
            quorum gives the same answer.",
        settings,
        picture: Picture::None,
        goals: vec![Goal {
            what: "read-only, 1 client: latency against the unreplicated round trip",
            figure: Figure::LatencyMultiple { of: "pbft", clients: 1 },
            bound: Bound::AtMost(1.3),
        }],
    }
}

fn sized_requests(pace: &Pace, id: &'static str, title: &'static str, bytes: usize) -> Scenario {
    let mut settings = settings(pace, closed([64]));
    settings.workload.request_bytes = bytes;
    let what = if bytes == 1024 {
        "1 KiB, 64 clients: bytes/s against the unreplicated server"
    } else {
        "4 KiB, 64 clients: bytes/s against the unreplicated server"
    };
    Scenario {
        id,
        title,
        about: "Requests with content, replies without.",
        settings,
        picture: Picture::None,
        goals: vec![share_of_baseline(what, 64)],
    }
}

fn durability(pace: &Pace) -> Scenario {
    let mut settings = settings(pace, closed([1, 64, 256]));
    settings.contenders = against_baseline(
        [("pbft-none", Durability::None), ("pbft-sync", Durability::Sync)],
        RequestAuthKind::Macs,
    );
    Scenario {
        id: "durability",
        title: "What durability costs",
        about: "With `sync` a vote is on disk before it leaves, so that an acknowledged operation survives \
            the power failing everywhere at once. How long a write takes decides: see the filesystem above. \
            The unreplicated server writes nothing.",
        settings,
        picture: Picture::Curve,
        goals: vec![Goal {
            what: "`sync` against `none`, 256 clients: throughput",
            figure: Figure::ThroughputShare { of: "pbft-sync", against: "pbft-none", clients: 256 },
            bound: Bound::AtLeast(0.5),
        }],
    }
}

fn signatures(pace: &Pace) -> Scenario {
    let mut settings = settings(pace, closed([64]));
    settings.contenders = against_baseline([("pbft", Durability::None)], RequestAuthKind::Signatures);
    Scenario {
        id: "signatures",
        title: "Clients that sign",
        about: "Every request is signed by its client, and every replica verifies it. The baseline \
            verifies it once.",
        settings,
        picture: Picture::None,
        goals: Vec::new(),
    }
}

fn store(pace: &Pace) -> Scenario {
    let mut settings = settings(pace, closed([64]));
    settings.workload = Workload {
        service: ServiceKind::Kv,
        request_bytes: 128,
        reply_bytes: 0,
        read_share: 0.9,
        keys: 1000,
    };
    settings.reads = ReadKind::Fast;
    Scenario {
        id: "store",
        title: "The key-value store, nine of ten operations read",
        about: "1000 keys with values of 128 bytes.",
        settings,
        picture: Picture::None,
        goals: Vec::new(),
    }
}

fn open_loop(pace: &Pace, rates: [f64; 3]) -> Scenario {
    Scenario {
        id: "open-loop",
        title: "Operations at fixed times",
        about: "An open loop: operations are due at random times fixed in advance, at 20, 50 and 80% of the \
            most that the group did above, and latencies count from then. What stalls delay shows here; a \
            closed loop hides it.",
        settings: settings(pace, open(&rates)),
        picture: Picture::Curve,
        goals: Vec::new(),
    }
}

fn primary_killed(pace: &Pace, rate: f64) -> Scenario {
    let mut settings = settings(pace, open(&[rate]));
    settings.contenders = against_baseline([("pbft", Durability::Sync)], RequestAuthKind::Macs);
    settings.measured_seconds = pace.fault_run_seconds;
    settings.injections = vec![stop_primary(pace.fault_at_seconds)];
    #[expect(clippy::cast_precision_loss, reason = "a timeout in milliseconds is a small number")]
    let view_timeout_ms = RawPbft::default().view_timeout_ms as f64;
    Scenario {
        id: "primary-killed",
        title: "The primary is killed",
        about: "SIGKILL under an open loop, with `sync`; the process is not started again. The \
            unreplicated server is spared.",
        settings,
        picture: Picture::Course,
        goals: vec![
            Goal {
                what: "primary killed under load: clients served again, in 3 view timeouts",
                figure: Figure::Gap { of: "pbft" },
                bound: Bound::AtMost(3.0 * view_timeout_ms),
            },
            Goal {
                what: "primary killed under load: operations that failed",
                figure: Figure::Failed { of: "pbft" },
                bound: Bound::AtMost(0.0),
            },
        ],
    }
}

fn stop_primary(at_seconds: f64) -> Injection {
    format!("stop:primary@{at_seconds}").parse().expect("it is written as faults are")
}

fn share_of_baseline(what: &'static str, clients: usize) -> Goal {
    Goal {
        what,
        figure: Figure::ThroughputShare { of: "pbft", against: "unreplicated", clients },
        bound: Bound::AtLeast(0.25),
    }
}

/// The unreplicated server, and groups of four with these names.
fn against_baseline<const N: usize>(
    groups: [(&str, Durability); N],
    auth: RequestAuthKind,
) -> Vec<ContenderSettings> {
    let groups = groups.map(|(name, durability)| ContenderSettings::pbft(name, 1, durability, auth));
    iter::once(ContenderSettings::unreplicated(auth)).chain(groups).collect()
}

fn closed(clients: impl IntoIterator<Item = usize>) -> Vec<Load> {
    clients.into_iter().map(|clients| Load::Closed { clients }).collect()
}

fn open(rates: &[f64]) -> Vec<Load> {
    let arrivals = Arrivals::Poisson;
    rates
        .iter()
        .map(|rate| Load::Open { clients: OPEN_CLIENTS, offered_per_second: *rate, arrivals })
        .collect()
}

/// The null service without content, alone and under PBFT, with nothing on disk.
fn settings(pace: &Pace, loads: Vec<Load>) -> Settings {
    Settings {
        workload: Workload {
            service: ServiceKind::Null,
            request_bytes: 0,
            reply_bytes: 0,
            read_share: 0.0,
            keys: 1000,
        },
        reads: ReadKind::Ordered,
        contenders: against_baseline([("pbft", Durability::None)], RequestAuthKind::Macs),
        loads,
        pbft: RawPbft::default(),
        injections: Vec::new(),
        attacks: Vec::new(),
        load_processes: 1,
        clients_per_connection: 1,
        seed: 1,
        warm_up_seconds: pace.warm_up_seconds,
        measured_seconds: pace.measured_seconds,
        rounds: pace.rounds,
        timeout_seconds: 10.0,
    }
}
