use super::*;
use crate::commands::bench::load::{Arrivals, Window};
use crate::commands::bench::usage::Switches;
use althing_node::config::RequestAuthKind;
use althing_replica::Durability;

const MS: u64 = 1_000_000;
const WINDOW: Window = Window { start_ns: 0, from_ns: 0, until_ns: 2000 * MS };
const MEASURED: Duration = Duration::from_secs(2);
const CLOSED: Load = Load::Closed { clients: 1 };
const OPEN: Load = Load::Open { clients: 1, offered_per_second: 100.0, arrivals: Arrivals::Uniform };

fn run(operations: u32, micros: u64, cpu_ms: [u64; 2]) -> Run {
    let mut observed = Observed::nothing(&WINDOW);
    observed.completed[150] = operations;
    observed.offered = operations.into();
    observed.updates.record_n(micros, operations.into()).expect("it is within the bounds");
    let used = [("pbft-0", Part::Replica), ("load-0", Part::Load)].into_iter().zip(cpu_ms);
    let used = used.map(|((name, part), ms)| Used {
        name: name.to_owned(),
        part,
        usage: Usage {
            cpu: Duration::from_millis(ms),
            switches: Switches { voluntary: 2 * ms, involuntary: ms },
        },
        peak_memory_bytes: ms,
    });
    Run {
        observed,
        used: used.collect(),
        foreign_cores: 0.0,
        injected: Vec::new(),
        views_left: 0,
        attacker_cores: None,
    }
}

/// A report of what `settings` could have found: the baseline does 1000 operations a second, the others
/// 400, in 100 µs and 300 µs; faults come when they should, and 300 ms pass.
pub(in super::super) fn report(settings: Settings) -> Report {
    let machine = Machine {
        cores: 2,
        cpu_model: "a processor".to_owned(),
        memory_bytes: 1 << 30,
        kernel: "Linux 6".to_owned(),
        filesystem: "ext4".to_owned(),
    };
    let mut rows: Vec<Row> = Vec::new();
    for load in &settings.loads {
        let mut of_load: Vec<Row> = Vec::new();
        for contender in &settings.contenders {
            let is_baseline = contender.f == 0;
            let (operations, micros) = if is_baseline { (2000, 100) } else { (800, 300) };
            let mut run = run(operations, micros, [400, 100]);
            let faults = settings.injections.iter().filter(|_| !is_baseline);
            run.injected = faults
                .map(|fault| Injected {
                    fault: *fault,
                    replicas: vec![format!("{}-0", contender.name)],
                    at_ms: 1000,
                    longest_gap: Gap { began_ms: 1000, length_ms: 300 },
                })
                .collect();
            let mut row = Row::of(contender, *load, &[run], MEASURED);
            if let Some(baseline) = of_load.first() {
                row.compare(baseline);
            }
            of_load.push(row);
        }
        rows.append(&mut of_load);
    }
    Report::new(settings, machine, "2026-11-21".to_owned(), rows)
}

fn row(runs: &[Run]) -> Row {
    let contender = ContenderSettings::pbft("pbft", 1, Durability::None, RequestAuthKind::Macs);
    Row::of(&contender, CLOSED, runs, MEASURED)
}

#[test]
fn a_row_sums_up_its_rounds() {
    let row = row(&[run(100, 300, [10, 1]), run(300, 200, [30, 3]), run(200, 200, [20, 2])]);
    assert_eq!(row.operations_per_second, Spread { median: 100.0, min: 50.0, max: 150.0 });
    assert_eq!(row.latency_p50_us, Spread { median: 200.0, min: 200.0, max: 300.0 });
    assert_eq!((row.operations, row.replicas, row.latency.map(|all| all.count)), (600, 4, Some(600)));
    assert_eq!((row.read_latency, row.generator_wait), (None, None));
    // 60 ms of processor time for 600 operations.
    assert_eq!(row.cpu, Cpu { replicas_us_per_operation: 100.0, load_us_per_operation: 10.0 });
    let replica = &row.processes[0];
    assert_eq!((replica.name.as_str(), replica.cpu_us_per_operation), ("pbft-0", 100.0));
    assert_eq!((replica.peak_memory_bytes, replica.voluntary_switches_per_operation), (30, 0.2));
    assert_eq!(row.rounds[0].longest_gap, Gap { began_ms: 151, length_ms: 1849 });
    assert_eq!(row.rounds[0].completed_per_100_ms[..3], [0, 100, 0]);
}

#[test]
fn rounds_are_compared_pair_by_pair() {
    // The machine got ten times slower after the first round: of pooled medians the ratio would be 1.
    let baseline = row(&[run(1000, 10, [1, 1]), run(100, 100, [1, 1]), run(100, 100, [1, 1])]);
    let mut slower = row(&[run(100, 30, [1, 1]), run(50, 300, [1, 1]), run(50, 300, [1, 1])]);
    slower.compare(&baseline);
    assert_eq!(slower.throughput_ratio, Some(Spread { median: 0.5, min: 0.1, max: 0.5 }));
    assert_eq!(slower.latency_ratio, Some(Spread { median: 3.0, min: 3.0, max: 3.0 }));
    slower.compare(&row(&[run(0, 10, [1, 1])]));
    assert_eq!(slower.throughput_ratio, None);
}

#[test]
fn an_open_loop_says_whether_it_was_served() {
    let contender = ContenderSettings::unreplicated(RequestAuthKind::Macs);
    let mut short = run(980, 10, [1, 1]);
    short.observed.offered = 1000;
    short.observed.unsent = 20;
    let row = Row::of(&contender, OPEN, &[short], MEASURED);
    assert_eq!((row.is_offered_rate_served, row.unsent), (Some(false), 20));
    let row = Row::of(&contender, OPEN, &[run(1000, 10, [1, 1])], MEASURED);
    assert_eq!(row.is_offered_rate_served, Some(true));
    assert_eq!(Row::of(&contender, CLOSED, &[run(1, 1, [0, 0])], MEASURED).is_offered_rate_served, None);
}

#[test]
fn reads_and_updates_are_told_apart_where_there_are_both() {
    let mut mixed = run(10, 100, [1, 1]);
    mixed.observed.reads.record_n(50, 10).expect("it is within the bounds");
    let row = row(&[mixed]);
    let p50 = |distribution: Option<Distribution>| distribution.map(|d| (d.count, d.p50_us));
    assert_eq!((p50(row.read_latency), p50(row.update_latency)), (Some((10, 50)), Some((10, 100))));
    assert_eq!(row.latency.map(|all| all.count), Some(20));
}
