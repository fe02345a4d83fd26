//! Each oracle catches a bug that is planted for it; without the bug the same run is clean.

use althing_sim::Planted;
use std::collections::BTreeSet;

/// Seeds in which a planted bug has to show: most do in the first few, and those that need a crash between
/// two syncs in some hundred.
const SEEDS: u64 = 400;

#[test]
fn each_planted_bug_is_caught_by_its_oracle() {
    for bug in Planted::ALL {
        let report = bug.hunt(SEEDS).unwrap_or_else(|| panic!("{bug} was not caught in {SEEDS} seeds"));
        let failure = report.failure.expect("a hunt ends with a failure");
        println!("{bug}: seed {}: {}: {}", report.config.seed, failure.oracle, failure.message);
    }
}

#[test]
fn every_oracle_has_a_bug_to_catch() {
    let caught: BTreeSet<_> = Planted::ALL.into_iter().flat_map(Planted::oracles).copied().collect();
    let oracles = [
        "accusation",
        "agreement",
        "checkpoint",
        "durability",
        "exactly-once",
        "linearizability",
        "liveness",
        "membership",
        "memory",
        "panic",
        "patience",
        "throughput",
        "validity",
    ];
    assert_eq!(caught, oracles.into_iter().collect());
}
