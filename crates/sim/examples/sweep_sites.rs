//! Runs many seeds of a system of sites: `sweep_sites FAMILY|all COMPOSITION FIRST COUNT [TRACE_LINES]`.

use althing_sim::sites::{Composition, SitesConfig, SitesFamily, simulate};

/// One run in so many has real signatures.
const REAL: usize = 64;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize| args.get(place).and_then(|text| text.parse::<usize>().ok());
    let composition = args.get(1).and_then(|name| name.parse::<Composition>().ok());
    let (Some(name), Some(composition), Some(first), Some(count)) =
        (args.first(), composition, number(2), number(3))
    else {
        eprintln!("usage: sweep_sites FAMILY|all COMPOSITION FIRST COUNT [TRACE_LINES]");
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
                    composition: composition.clone(),
                    is_disseminating,
                    has_real_signatures: seed % REAL == REAL - 1,
                    family,
                    planted: None,
                    seed: seed as u64,
                    trace_lines: number(4).unwrap_or(0),
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
                    let outcome = in_a_line(&report);
                    println!("{outcome}");
                }
            }
            println!(
                "{} {family} {is_disseminating}: {count} runs, {failed} failed, {updates} updates, slowest recovery {slowest} ms",
                args[1]
            );
        }
    }
}

/// What a single run came to, in a line.
fn in_a_line(report: &althing_sim::sites::SitesReport) -> String {
    format!(
        "{} events, {} ms, {} updates, {} us each, {} bytes and {} messages between sites, trace {}",
        report.events,
        report.virtual_time_ms,
        report.updates,
        report.mean_latency_us,
        report.wide_area_bytes,
        report.wide_area_messages,
        report.trace_hash
    )
}
