//! Runs many seeds of a system of sites: `sweep_sites FAMILY SITES SERVERS FIRST COUNT [TRACE_LINES]`.

use althing_sim::ProtocolKind;
use althing_sim::sites::{Composition, SitesConfig, SitesFamily, simulate};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize| args.get(place).and_then(|text| text.parse::<usize>().ok());
    let (Some(name), Some(sites), Some(servers), Some(first), Some(count)) =
        (args.first(), number(1), number(2), number(3), number(4))
    else {
        eprintln!("usage: sweep_sites FAMILY|all SITES SERVERS FIRST COUNT [TRACE_LINES]");
        std::process::exit(2);
    };
    let families = match name.parse::<SitesFamily>() {
        Ok(family) => vec![family],
        Err(_) => SitesFamily::ALL.to_vec(),
    };
    for family in families {
        for is_disseminating in [false, true] {
            let (mut failed, mut updates, mut slowest) = (0, 0, 0);
            for seed in first..first + count {
                let config = SitesConfig {
                    composition: Composition::uniform(ProtocolKind::Pbft, sites, ProtocolKind::Pbft, servers),
                    is_disseminating,
                    has_real_signatures: false,
                    family,
                    seed: seed as u64,
                    trace_lines: number(5).unwrap_or(0),
                };
                let report = simulate(&config);
                (updates, slowest) = (updates + report.updates, slowest.max(report.recovery_ms));
                if let Some(failure) = &report.failure {
                    failed += 1;
                    failure.trace_tail.iter().for_each(|line| println!("    {line}"));
                    println!(
                        "{family} seed={seed} {is_disseminating}: {}: {}",
                        failure.oracle, failure.message
                    );
                }
                if count == 1 {
                    println!("{report:#?}");
                }
            }
            println!(
                "{family} {is_disseminating}: {count} runs, {failed} failed, {updates} updates, slowest recovery {slowest} ms"
            );
        }
    }
}
