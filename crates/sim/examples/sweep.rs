//! Runs many seeds and adds up what happened: `sweep [PROTOCOL[+witnesses]:]FAMILY|all N FIRST COUNT [TRACE_LINES]`.

use althing_sim::{Family, ProtocolKind, RunReport, SimConfig, run_many};
use std::collections::BTreeMap;

/// After the name of a protocol: with witnesses.
const WITNESSES: &str = "+witnesses";

/// Failures of one family that are shown in full.
const SHOWN: usize = 3;

#[derive(Default)]
struct Sum {
    operations: u64,
    /// The least share of the undisturbed operations, in 1000.
    least_share: Option<u64>,
    shares: u64,
    shared: u64,
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

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize| args.get(place).and_then(|text| text.parse::<usize>().ok());
    let (Some(family), Some(replicas), Some(first), Some(count)) =
        (args.first(), number(1), number(2), number(3))
    else {
        eprintln!("usage: sweep [PROTOCOL[+witnesses]:]FAMILY|all N FIRST COUNT [TRACE_LINES]");
        std::process::exit(2);
    };
    let (protocol, family) = match family.split_once(':') {
        Some((name, family)) => {
            let name = name.trim_end_matches(WITNESSES);
            let named = ProtocolKind::ALL.into_iter().find(|protocol| protocol.name() == name);
            let Some(protocol) = named else {
                eprintln!("no protocol is named {name}");
                std::process::exit(2);
            };
            (protocol, family)
        }
        None => (ProtocolKind::Pbft, family.as_str()),
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
    let has_witnesses = args[0].contains(WITNESSES);
    for family in families.into_iter().filter(|family| !has_witnesses || !family.recovers_in_turn()) {
        let config = SimConfig::of(protocol, family, replicas, 0).unwrap_or_else(|error| {
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
