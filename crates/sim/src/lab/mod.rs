//! Groups on machines with one core each, to compare protocols on equal terms.
//!
//! Replicas and clients are the production code; time is virtual. Only what computing takes is real: whoever runs
//! this lends it a [meter](run), and each input keeps its replica's core busy for as long as it took to handle. So
//! groups of any size can be compared on a machine that has fewer cores than they have replicas. Two runs give
//! nearly, not exactly, the same.

mod config;
mod world;

pub use config::{LabConfig, LabFault, LabLatency, LabProtocol, LabReport, SwitchConfig, SwitchReport};

use althing_protocol::paxos::{Paxos, PaxosConfig, PaxosSettings};
use althing_protocol::pbft::{Pbft, PbftConfig, PbftSettings};
use althing_protocol::unreplicated::Unreplicated;
use althing_protocol::zyzzyva::{Zyzzyva, ZyzzyvaConfig, ZyzzyvaSettings};
use world::World;

/// Runs a group under load. `meter` says how long the core on which this runs has worked, in nanoseconds, from
/// whenever on.
///
/// # Panics
/// If the group is larger than a group may be.
#[must_use]
pub fn run(config: &LabConfig, meter: &dyn Fn() -> u64) -> LabReport {
    let quorums = config.quorums();
    match config.protocol {
        LabProtocol::Unreplicated => World::new(config, meter, |_| Unreplicated::default()).run(),
        LabProtocol::Pbft => World::new(config, meter, |me| {
            Pbft::new(PbftConfig::new(me, quorums, PbftSettings::default()).expect("defaults are valid"))
        })
        .run(),
        LabProtocol::Speculative(composition) => World::new(config, meter, |me| {
            let settings = ZyzzyvaSettings { composition, ..ZyzzyvaSettings::default() };
            Zyzzyva::new(ZyzzyvaConfig::new(me, quorums, settings).expect("defaults are valid"))
        })
        .run(),
        LabProtocol::Paxos => World::new(config, meter, |me| {
            Paxos::new(PaxosConfig::new(me, quorums, PaxosSettings::default()).expect("defaults are valid"))
        })
        .run(),
    }
}

/// Runs a group that goes over to another protocol under load. `meter` is as for [`run`].
///
/// # Panics
/// If one of the two has no successors, or the group has not gone over within half of the time for which it is
/// measured.
#[must_use]
pub fn switch(config: &SwitchConfig, meter: &dyn Fn() -> u64) -> SwitchReport {
    let settings = |protocol: LabProtocol| protocol.settings().expect("a protocol that has successors");
    let (from, to) = (settings(config.group.protocol), settings(config.to));
    World::switching(config, (&from, to), meter).switch()
}

#[cfg(test)]
mod tests {
    use super::*;
    use althing_protocol::zyzzyva::Composition;
    use std::cell::Cell;
    use std::time::Duration;

    /// A core that takes as long for each input: a microsecond between two looks at the meter.
    fn steady() -> impl Fn() -> u64 {
        let ticks = Cell::new(0);
        move || {
            ticks.set(ticks.get() + 1000);
            ticks.get()
        }
    }

    fn config(protocol: LabProtocol) -> LabConfig {
        let (warm_up, measured) = (Duration::from_millis(5), Duration::from_millis(20));
        LabConfig { warm_up, measured, ..LabConfig::new(protocol, 1) }
    }

    #[test]
    fn a_client_waits_for_as_many_message_delays_as_the_protocol_takes() {
        for (protocol, delays) in [
            (LabProtocol::Unreplicated, 2),
            (LabProtocol::Paxos, 4),
            (LabProtocol::Pbft, 4),
            (LabProtocol::Speculative(Composition::Zyzzyva), 3),
            (LabProtocol::Speculative(Composition::Quorum), 2),
            (LabProtocol::Speculative(Composition::Chain), 5),
            (LabProtocol::Speculative(Composition::Aliph), 2),
        ] {
            let config = LabConfig { delay: Duration::from_millis(1), ..config(protocol) };
            let report = run(&config, &steady());
            let latency = report.latency.expect("operations are completed").median_us / 1000.0;
            let excess = latency - f64::from(delays);
            assert!((0.0..0.5).contains(&excess), "{protocol:?}: {latency} ms");
        }
    }

    #[test]
    fn a_core_that_is_busy_bounds_the_throughput() {
        let slow =
            LabConfig { frame_cost: Duration::from_micros(50), clients: 64, ..config(LabProtocol::Pbft) };
        let fast = LabConfig { frame_cost: Duration::from_micros(5), ..slow.clone() };
        let (slow, fast) = (run(&slow, &steady()), run(&fast, &steady()));
        assert!(slow.operations_per_s * 3.0 < fast.operations_per_s, "{slow:?} {fast:?}");
        assert!(slow.busiest_core > 0.9, "{slow:?}");
    }

    #[test]
    fn a_link_that_is_full_bounds_the_throughput() {
        let config = LabConfig {
            bits_per_s: 10_000_000,
            request_bytes: 4096,
            clients: 16,
            ..config(LabProtocol::Unreplicated)
        };
        let wide = LabConfig { reply_bytes: 4096, measured: Duration::from_millis(200), ..config };
        let report = run(&wide, &steady());
        let most = 10_000_000.0 / (8.0 * 4096.0);
        assert!(report.operations_per_s <= most && report.operations_per_s > most * 0.7, "{report:?}");
    }

    #[test]
    fn a_group_goes_on_whatever_is_wrong() {
        let replicated = || LabProtocol::ALL.into_iter().filter(|protocol| protocol.has_backups());
        for (protocol, fault) in
            replicated().flat_map(|protocol| LabFault::ALL.map(|fault| (protocol, fault)))
        {
            // Far away from each other, so that little happens before anybody notices.
            let (delay, measured) = (Duration::from_millis(20), Duration::from_secs(1));
            let config = LabConfig { fault, clients: 2, delay, measured, ..config(protocol) };
            let report = run(&config, &steady());
            assert!(report.operations >= 10, "{protocol:?}, {fault:?}: {report:?}");
        }
    }

    #[test]
    fn several_clients_over_uneven_links_end_quorum_and_one_does_not() {
        let (delay, fault) = (Duration::from_millis(20), LabFault::UnevenLinks);
        let uneven = LabConfig { fault, delay, ..config(LabProtocol::Speculative(Composition::Quorum)) };
        let (one, several) =
            (run(&uneven, &steady()), run(&LabConfig { clients: 8, ..uneven.clone() }, &steady()));
        assert_eq!(one.last_view, 0);
        assert!(several.last_view > 0, "{several:?}");
    }

    #[test]
    fn each_protocol_gives_way_to_each_other_and_the_pause_is_seen() {
        let pairs: Vec<_> = SwitchConfig::pairs().collect();
        let zyzzyva = LabProtocol::Speculative(Composition::Zyzzyva);
        assert!(pairs.len() >= 30 && pairs.contains(&(LabProtocol::Paxos, zyzzyva)), "{pairs:?}");
        for (from, to) in pairs {
            let group = LabConfig { clients: 8, measured: Duration::from_millis(200), ..config(from) };
            let near = switch(&SwitchConfig { group: group.clone(), to }, &steady());
            let delay = Duration::from_millis(1);
            let far = switch(&SwitchConfig { group: LabConfig { delay, ..group }, to }, &steady());
            for report in [near, far] {
                assert!(
                    report.answered_ms > 0.0 && report.entered_ms >= report.answered_ms / 2.0,
                    "{report:?}"
                );
                assert!(report.pause_ms > 0.0 && report.slowest_ms >= report.pause_ms, "{report:?}");
                assert_eq!(report.stalled > 0, report.slowest_ms > report.usual_slowest_ms, "{report:?}");
            }
            // Who waits waits for messages: the farther apart the machines are, the longer.
            assert!(
                far.pause_ms > 2.0 * near.pause_ms && far.pause_ms >= 2.0,
                "{from:?} {to:?}: {near:?} {far:?}"
            );
        }
    }
}
