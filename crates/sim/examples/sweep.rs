//! Runs many seeds: `sweep FAMILY|all N FIRST COUNT`.

use althing_sim::{Family, SimConfig, run};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let families: Vec<Family> =
        if args[0] == "all" { Family::ALL.to_vec() } else { vec![args[0].parse().expect("a family")] };
    let number = |place: usize| args[place].parse::<u64>().expect("a number");
    let (n, first, count) = (args[1].parse().expect("a size"), number(2), number(3));
    for family in families {
        let (mut failures, mut operations, mut recovery, mut views, mut transfers, mut events) =
            (Vec::new(), 0, 0, 0, 0, 0);
        let mut evidence = std::collections::BTreeMap::<_, u64>::new();
        for seed in first..first + count {
            let mut config = SimConfig::new(family, n, seed);
            config.trace_lines = std::env::var("TRACE").ok().and_then(|t| t.parse().ok()).unwrap_or(0);
            let report = run(&config);
            operations += report.operations;
            events += report.events;
            recovery = recovery.max(report.recovery_ms);
            views += report.view_changes;
            transfers += report.state_transfers;
            for (kind, times) in report.evidence {
                *evidence.entry(kind).or_default() += times;
            }
            if let Some(failure) = report.failure {
                if failures.len() < 3 {
                    for line in &failure.trace_tail {
                        println!("    {line}");
                    }
                    println!("{family} n={n} seed={seed}: {}: {}", failure.oracle, failure.message);
                }
                failures.push((seed, failure.oracle));
            }
        }
        println!(
            "{family:<18} n={n} {count} runs: {operations} operations, {views} views, {transfers} transfers, {events} events, recovery <= {recovery} ms, evidence {evidence:?}, {} failures {:?}",
            failures.len(),
            &failures[..failures.len().min(12)]
        );
    }
}
