//! Systems of sites: a few seeds of every fault family in every composition, and bugs that are planted.

use althing_sim::sites::{Composition, SitesConfig, SitesFamily, SitesPlanted, simulate};

/// Seeds in which a planted bug has to show.
const SEEDS: u64 = 12;

fn config(composition: &str, family: SitesFamily, seed: u64) -> SitesConfig {
    SitesConfig {
        composition: composition.parse::<Composition>().expect("a composition"),
        is_disseminating: seed.is_multiple_of(2),
        has_real_signatures: false,
        family,
        planted: None,
        seed,
        trace_lines: 60,
    }
}

fn check(config: &SitesConfig) {
    let report = simulate(config);
    if let Some(failure) = &report.failure {
        let SitesConfig { composition, family, seed, .. } = config;
        let tail = failure.trace_tail.join("\n");
        panic!("{tail}\n{composition:?}, {family}, seed {seed}: {}: {}", failure.oracle, failure.message);
    }
    assert!(report.updates > 0);
}

fn check_families(composition: &str, first: u64) {
    for (seed, family) in (first..).zip(SitesFamily::ALL) {
        check(&config(composition, family, seed));
    }
}

#[test]
fn byzantine_over_byzantine() {
    check_families("pbft/pbft", 1);
}

#[test]
fn crash_over_byzantine() {
    check_families("paxos/pbft", 1);
}

#[test]
fn byzantine_over_crash() {
    check_families("pbft/paxos", 1);
}

#[test]
fn crash_over_crash() {
    check_families("paxos/paxos", 2);
}

#[test]
fn sites_of_different_kinds_and_sizes() {
    check_families("pbft/mixed", 1);
    check_families("paxos/mixed", 2);
}

#[test]
fn with_the_signatures_that_sites_make_outside() {
    let real = |composition, seed| SitesConfig {
        has_real_signatures: true,
        ..config(composition, SitesFamily::FaultyServers, seed)
    };
    check(&real("paxos/pbft", 1));
}

#[test]
fn a_run_follows_from_its_seed() {
    let config = config("pbft/mixed", SitesFamily::Chaos, 5);
    assert_eq!(simulate(&config), simulate(&config));
}

#[test]
fn each_planted_bug_is_caught_by_its_oracle() {
    for planted in SitesPlanted::ALL {
        let mut reports = (1..=SEEDS).map(|seed| simulate(&planted.config(seed)));
        let failure = reports.find_map(|report| report.failure);
        let failure = failure.unwrap_or_else(|| panic!("{planted:?} was not caught in {SEEDS} seeds"));
        let (oracle, message) = (failure.oracle, failure.message);
        assert!(planted.oracles().contains(&oracle), "{planted:?}: {oracle}: {message}");
    }
}
