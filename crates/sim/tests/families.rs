//! A few seeds of every fault family, in groups of every kind of size.

use althing_protocol::zyzzyva::Composition;
use althing_sim::{Family, ProtocolKind, SimConfig, run, run_many};

fn check(replicas: usize, seeds: std::ops::Range<u64>) {
    check_protocol(ProtocolKind::Pbft, replicas, seeds);
}

fn check_protocol(protocol: ProtocolKind, replicas: usize, seeds: std::ops::Range<u64>) {
    check_group(protocol, (replicas, false), seeds);
}

fn check_group(
    protocol: ProtocolKind,
    (replicas, has_witnesses): (usize, bool),
    seeds: std::ops::Range<u64>,
) {
    let suits = |family: &Family| protocol.stands(*family) && !(has_witnesses && family.recovers_in_turn());
    for family in Family::ALL.into_iter().filter(suits) {
        let config = SimConfig::of(protocol, family, replicas, 0).expect("it is made for that");
        let config = SimConfig { has_witnesses, ..config };
        // Attacks on throughput take long, and are run twice.
        let seeds = if family.least_share().is_some() {
            seeds.start..seeds.start + seeds.end.div_ceil(5)
        } else {
            seeds.clone()
        };
        let failed = run_many(&config, seeds, |_| {});
        if let Some((report, failure)) =
            failed.first().and_then(|report| Some((report, report.failure.as_ref()?)))
        {
            let (seed, tail) = (report.config.seed, failure.trace_tail.join("\n"));
            panic!(
                "{tail}\n{protocol}, {family}, n = {replicas}, witnesses {has_witnesses}, seed {seed}: {}: {}",
                failure.oracle, failure.message
            );
        }
    }
}

#[test]
fn four_replicas() {
    check(4, 0..20);
}

#[test]
fn four_and_seven_replicas_with_witnesses() {
    check_group(ProtocolKind::Pbft, (4, true), 0..6);
    check_group(ProtocolKind::Pbft, (7, true), 0..2);
}

#[test]
fn seven_replicas() {
    check(7, 0..6);
}

#[test]
fn paxos_among_three_and_five() {
    check_protocol(ProtocolKind::Paxos, 3, 0..20);
    check_protocol(ProtocolKind::Paxos, 5, 0..6);
}

#[test]
fn zyzzyva_among_four_and_seven() {
    check_protocol(ProtocolKind::Speculative(Composition::Zyzzyva), 4, 0..20);
    check_protocol(ProtocolKind::Speculative(Composition::Zyzzyva), 7, 0..6);
}

#[test]
fn quorum_and_chain_among_four_and_seven() {
    for composition in [Composition::Quorum, Composition::Chain] {
        check_protocol(ProtocolKind::Speculative(composition), 4, 0..8);
        check_protocol(ProtocolKind::Speculative(composition), 7, 0..3);
    }
}

#[test]
fn aliph_among_four_and_seven() {
    check_protocol(ProtocolKind::Speculative(Composition::Aliph), 4, 0..8);
    check_protocol(ProtocolKind::Speculative(Composition::Aliph), 7, 0..3);
}

#[test]
fn zyzzyva_in_other_sizes() {
    for n in [1, 5, 10] {
        check_protocol(ProtocolKind::Speculative(Composition::Zyzzyva), n, 0..3);
        check_protocol(ProtocolKind::Speculative(Composition::Aliph), n, 0..1);
    }
}

#[test]
fn paxos_in_other_sizes() {
    for n in [1, 2, 4, 7] {
        check_protocol(ProtocolKind::Paxos, n, 0..3);
    }
}

#[test]
fn other_sizes() {
    check(1, 0..3);
    check(5, 0..3);
    check(10, 0..1);
}

#[test]
fn a_seed_replays_to_the_same_trace() {
    for family in Family::ALL {
        let [first, second] = [(); 2].map(|()| run(&SimConfig::new(family, 4, 77)));
        assert_eq!(first, second);
        if let Ok(paxos) = SimConfig::of(ProtocolKind::Paxos, family, 3, 77) {
            assert_eq!(run(&paxos), run(&paxos));
        }
        let other = run(&SimConfig::new(family, 4, 78));
        assert_ne!(first.trace_hash, other.trace_hash);
    }
}

#[test]
fn groups_that_change_run_both_protocols_in_turn() {
    for (protocol, replicas) in [(ProtocolKind::Pbft, 4), (ProtocolKind::Pbft, 1), (ProtocolKind::Paxos, 3)] {
        for family in Family::ALL.into_iter().filter(|family| family.changes_members()) {
            let config = |seed| SimConfig::of(protocol, family, replicas, seed).expect("it is made for that");
            let changed = |seed| *run(&config(seed)).faults_injected.get("protocol-changed").unwrap_or(&0);
            let changed: Vec<u64> = (0..10).map(changed).collect();
            // In half of the runs among four one lies from the beginning, and the group can't change before that has left.
            let there_and_back = changed.iter().filter(|count| **count >= 2).count();
            let is_enough = there_and_back >= 2 && changed.iter().sum::<u64>() >= 8;
            assert!(is_enough, "{family} from {protocol} among {replicas}: {changed:?}");
        }
    }
}

#[test]
fn faults_are_really_injected() {
    for family in Family::ALL {
        let injected: usize =
            (0..10).map(|seed| run(&SimConfig::new(family, 4, seed)).faults_injected.len()).sum();
        assert_eq!(injected == 0, family == Family::Calm, "{family}");
    }
}
