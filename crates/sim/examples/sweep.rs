//! Runs many seeds and adds up what happened:
//! `sweep [PROTOCOL[>OTHER][+witnesses]:]FAMILY|all N FIRST COUNT [TRACE_LINES]`.

use althing_sim::{Family, ProtocolKind, RunReport, SimConfig, run_many};
use std::collections::BTreeMap;

/// Failures of one family that are shown in full.
const SHOWN: usize = 3;

#[derive(Default)]
struct Sum {
    operations: u64,
    /// The least share of the undisturbed operations, in 1000.
    least_share: Option<u64>,
    shares: u64,
    shared: u64,
    /// Changes of the protocol, and runs in which there was one.
    changes: u64,
    changed: u64,
    views: u64,
    transfers: u64,
    events: u64,
    slowest_recovery_ms: u64,
    evidence: BTreeMap<&'static str, u64>,
}

impl Sum {
    fn add(&mut self, report: &RunReport) {
        self.operations += report.operations;
        if let Some(undisturbed) = report.operations_undisturbed {
            let share = report.operations_by_healing * 1000 / undisturbed.max(1);
            self.least_share = Some(self.least_share.map_or(share, |least| least.min(share)));
            (self.shares, self.shared) = (self.shares + share, self.shared + 1);
        }
        let changes = report.faults_injected.get("protocol-changed").copied().unwrap_or_default();
        (self.changes, self.changed) = (self.changes + changes, self.changed + u64::from(changes > 0));
        self.views += report.view_changes;
        self.transfers += report.state_transfers;
        self.events += report.events;
        self.slowest_recovery_ms = self.slowest_recovery_ms.max(report.recovery_ms);
        for (kind, times) in &report.evidence {
            *self.evidence.entry(*kind).or_default() += times;
        }
    }
}

fn show(failed: &[RunReport]) {
    for report in failed.iter().take(SHOWN) {
        let Some(failure) = &report.failure else { continue };
        for line in &failure.trace_tail {
            println!("    {line}");
        }
        let SimConfig { family, replicas, seed, .. } = report.config;
        println!("{family} n={replicas} seed={seed}: {}: {}", failure.oracle, failure.message);
    }
}

fn named(name: &str) -> ProtocolKind {
    let named = ProtocolKind::ALL.into_iter().find(|protocol| protocol.name() == name);
    named.unwrap_or_else(|| {
        eprintln!("no protocol is named {name}");
        std::process::exit(2);
    })
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize| args.get(place).and_then(|text| text.parse::<usize>().ok());
    let (Some(family), Some(replicas), Some(first), Some(count)) =
        (args.first(), number(1), number(2), number(3))
    else {
        eprintln!("usage: sweep [PROTOCOL[>OTHER][+witnesses]:]FAMILY|all N FIRST COUNT [TRACE_LINES]");
        std::process::exit(2);
    };
    let (protocols, family) = family.split_once(':').unwrap_or(("pbft", family));
    let (protocols, has_witnesses) = match protocols.strip_suffix("+witnesses") {
        Some(protocols) => (protocols, true),
        None => (protocols, false),
    };
    let (protocol, other) = match protocols.split_once('>') {
        Some((protocol, other)) => (named(protocol), Some(named(other))),
        None => (named(protocols), None),
    };
    let families = match family {
        "all" => Family::ALL.into_iter().filter(|family| protocol.stands(*family)).collect(),
        name => match name.parse() {
            Ok(family) => vec![family],
            Err(error) => {
                eprintln!("{error}");
                std::process::exit(2);
            }
        },
    };
    let mut has_failed = false;
    for family in families.into_iter().filter(|family| !has_witnesses || !family.recovers_in_turn()) {
        let config = SimConfig::of(protocol, family, replicas, 0);
        let config = config.and_then(|config| other.map_or(Ok(config.clone()), |other| config.and(other)));
        let config = config.unwrap_or_else(|error| {
            eprintln!("{error}");
            std::process::exit(2);
        });
        let config = SimConfig { trace_lines: number(4).unwrap_or(0), has_witnesses, ..config };
        let mut sum = Sum::default();
        let seeds = first as u64..(first + count) as u64;
        let failed = run_many(&config, seeds, |report| sum.add(report));
        show(&failed);
        has_failed |= !failed.is_empty();
        let seeds: Vec<_> = failed.iter().take(12).map(|report| report.config.seed).collect();
        println!(
            "{family:<18} n={replicas} {count} runs: {} operations, {} views, {} transfers, {} events, recovery <= {} ms, evidence {:?}, {} failures {seeds:?}",
            sum.operations,
            sum.views,
            sum.transfers,
            sum.events,
            sum.slowest_recovery_ms,
            sum.evidence,
            failed.len(),
        );
        if sum.changes > 0 {
            println!("{:<18} {} changes of the protocol, in {} runs", "", sum.changes, sum.changed);
        }
        if let Some(least) = sum.least_share {
            println!(
                "{:<18} {} in 1000 of the undisturbed operations at least, {} on average",
                "",
                least,
                sum.shares / sum.shared
            );
        }
    }
    std::process::exit(i32::from(has_failed));
}
