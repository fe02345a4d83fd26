//! What a benchmark found. Its JSON form is described in the book, in `benchmarking.md`: names carry
//! their units, and what stands there today keeps its name and meaning within one `format`.

use super::contender::Run;
use super::injection::Injected;
use super::load::{Gap, Load, Observed};
use super::machine::Machine;
use super::settings::{ContenderSettings, Settings};
use super::statistics::{Distribution, Spread, number};
use super::usage::{Part, Usage, Used};
use serde::Serialize;
use std::time::Duration;

/// The version of the JSON form.
const FORMAT: u32 = 1;

/// An open loop counts as served up to this shortfall of what was due, as a share and as a number: some
/// operations are always under way when a run ends.
const ALLOWED_SHORTFALL: (f64, f64) = (0.01, 10.0);

/// Milliseconds of a step of the course of a run.
const STEP_MS: usize = 100;

/// A whole benchmark.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    format: u32,
    version: &'static str,
    pub(super) date: String,
    pub(super) machine: Machine,
    pub(super) settings: Settings,
    pub(super) rows: Vec<Row>,
}

impl Report {
    pub(super) fn new(settings: Settings, machine: Machine, date: String, rows: Vec<Row>) -> Self {
        Self { format: FORMAT, version: env!("CARGO_PKG_VERSION"), date, machine, settings, rows }
    }
}

/// All rounds of one contender under one load.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    #[serde(flatten)]
    pub(super) contender: ContenderSettings,
    pub(super) replicas: usize,
    #[serde(flatten)]
    pub(super) load: Load,
    pub(super) operations_per_second: Spread,
    /// Of the rounds' quantiles.
    pub(super) latency_p50_us: Spread,
    pub(super) latency_p99_us: Spread,
    /// Over all operations of all rounds.
    pub(super) latency: Option<Distribution>,
    pub(super) read_latency: Option<Distribution>,
    pub(super) update_latency: Option<Distribution>,
    /// How long operations of an open loop waited in the generator.
    pub(super) generator_wait: Option<Distribution>,
    pub(super) operations: u64,
    pub(super) failed: u64,
    pub(super) failure_reasons: Vec<String>,
    /// Due, and not sent by the end: latencies are at least what stands here.
    pub(super) unsent: u64,
    /// Of an open loop: whether what was due was also done.
    pub(super) is_offered_rate_served: Option<bool>,
    pub(super) views_left: u64,
    /// Cores that everything else on the machine kept busy.
    pub(super) foreign_cores: Spread,
    pub(super) cpu: Cpu,
    pub(super) processes: Vec<ProcessRow>,
    /// Against the first contender under the same load, round by round.
    pub(super) throughput_ratio: Option<Spread>,
    /// Of the median latencies.
    pub(super) latency_ratio: Option<Spread>,
    /// Cores that the attacker kept busy, or who was as busy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attacker_cores: Option<Spread>,
    /// Under attack, against the same with a process that was as busy and attacked nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) against_busy: Option<AgainstBusy>,
    pub(super) rounds: Vec<Round>,
}

/// What a flood costs, round by round: what its attacker's use of the processor does is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct AgainstBusy {
    pub(super) throughput_ratio: Spread,
    pub(super) latency_p50_ratio: Spread,
    pub(super) latency_p99_ratio: Spread,
}

/// Processor time of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Cpu {
    /// Of all replicas together.
    pub(super) replicas_us_per_operation: f64,
    /// Of all load processes together.
    pub(super) load_us_per_operation: f64,
}

/// What a process used, over all rounds.
#[derive(Debug, Serialize)]
pub(super) struct ProcessRow {
    pub(super) name: String,
    pub(super) part: Part,
    pub(super) cpu_seconds: f64,
    pub(super) cpu_us_per_operation: f64,
    pub(super) voluntary_switches_per_operation: f64,
    pub(super) involuntary_switches_per_operation: f64,
    pub(super) peak_memory_bytes: u64,
}

/// One round.
#[derive(Debug, Serialize)]
pub(super) struct Round {
    pub(super) operations_per_second: f64,
    pub(super) latency_p50_us: u64,
    pub(super) latency_p99_us: u64,
    pub(super) failed: u64,
    pub(super) unsent: u64,
    pub(super) longest_gap: Gap,
    pub(super) injected: Vec<Injected>,
    /// Operations completed in each tenth of a second, the last of which may be cut short.
    pub(super) completed_per_100_ms: Vec<u64>,
}

impl Round {
    fn of(run: &Run, measured: Duration) -> Self {
        let observed = &run.observed;
        let latencies = observed.latencies();
        let step = |step: &[u32]| step.iter().copied().map(u64::from).sum();
        Self {
            operations_per_second: number(observed.operations()) / measured.as_secs_f64(),
            latency_p50_us: latencies.value_at_quantile(0.5),
            latency_p99_us: latencies.value_at_quantile(0.99),
            failed: observed.failed,
            unsent: observed.unsent,
            longest_gap: observed.longest_gap(0),
            injected: run.injected.clone(),
            completed_per_100_ms: observed.completed.chunks(STEP_MS).map(step).collect(),
        }
    }
}

impl Row {
    /// The row of at least one run.
    pub(super) fn of(contender: &ContenderSettings, load: Load, runs: &[Run], measured: Duration) -> Self {
        let rounds: Vec<_> = runs.iter().map(|run| Round::of(run, measured)).collect();
        let spread = |figure: &dyn Fn(&Round) -> f64| Spread::of(rounds.iter().map(figure));
        let all = all_of(runs.iter().map(|run| &run.observed));
        let is_open = matches!(load, Load::Open { .. });
        Self {
            contender: contender.clone(),
            replicas: contender.replicas(),
            load,
            operations_per_second: spread(&|round| round.operations_per_second),
            latency_p50_us: spread(&|round| number(round.latency_p50_us)),
            latency_p99_us: spread(&|round| number(round.latency_p99_us)),
            latency: Distribution::of(&all.latencies()),
            // Of a load that does both: otherwise it is the same again.
            read_latency: both(&all).then(|| Distribution::of(&all.reads)).flatten(),
            update_latency: both(&all).then(|| Distribution::of(&all.updates)).flatten(),
            generator_wait: is_open.then(|| Distribution::of(&all.waits)).flatten(),
            operations: all.operations(),
            failed: all.failed,
            unsent: all.unsent,
            is_offered_rate_served: is_open.then(|| is_served(&all)),
            views_left: runs.iter().map(|run| run.views_left).sum(),
            foreign_cores: Spread::of(runs.iter().map(|run| run.foreign_cores)),
            cpu: Cpu {
                replicas_us_per_operation: cpu_us(runs, Part::Replica) / number(all.operations()).max(1.0),
                load_us_per_operation: cpu_us(runs, Part::Load) / number(all.operations()).max(1.0),
            },
            processes: process_rows(runs, all.operations()),
            throughput_ratio: None,
            latency_ratio: None,
            attacker_cores: spread_of_some(runs.iter().filter_map(|run| run.attacker_cores)),
            against_busy: None,
            failure_reasons: all.reasons,
            rounds,
        }
    }

    /// Sets this row against that of another contender under the same load. Rounds alternate, so each
    /// is compared with its neighbour: what drifts over the whole time does not count.
    pub(super) fn compare(&mut self, baseline: &Self) {
        self.throughput_ratio = self.ratio(baseline, &|round| round.operations_per_second);
        self.latency_ratio = self.ratio(baseline, &|round| number(round.latency_p50_us));
    }

    /// Sets this row, of a group under attack, against that of the process that was as busy.
    pub(super) fn compare_with_busy(&mut self, busy: &Self) {
        let ratio = |figure: &dyn Fn(&Round) -> f64| self.ratio(busy, figure);
        let throughput = ratio(&|round| round.operations_per_second);
        let p50 = ratio(&|round| number(round.latency_p50_us));
        let p99 = ratio(&|round| number(round.latency_p99_us));
        self.against_busy = throughput.zip(p50).zip(p99).map(|((throughput, p50), p99)| AgainstBusy {
            throughput_ratio: throughput,
            latency_p50_ratio: p50,
            latency_p99_ratio: p99,
        });
    }

    fn ratio(&self, baseline: &Self, figure: &dyn Fn(&Round) -> f64) -> Option<Spread> {
        let pairs = self.rounds.iter().zip(&baseline.rounds).map(|(own, base)| (figure(own), figure(base)));
        // Nothing is a multiple of nothing.
        spread_of_some(pairs.filter(|(_, base)| *base > 0.0).map(|(own, base)| own / base))
    }
}

fn spread_of_some(values: impl Iterator<Item = f64>) -> Option<Spread> {
    let values: Vec<_> = values.collect();
    (!values.is_empty()).then(|| Spread::of(values))
}

fn both(observed: &Observed) -> bool {
    !observed.reads.is_empty() && !observed.updates.is_empty()
}

fn is_served(observed: &Observed) -> bool {
    let (share, count) = ALLOWED_SHORTFALL;
    let offered = number(observed.offered);
    offered - number(observed.operations()) <= f64::max(share * offered, count)
}

fn all_of<'a>(mut observed: impl Iterator<Item = &'a Observed>) -> Observed {
    let mut all = observed.next().expect("there is a run").clone();
    observed.for_each(|one| all.add(one));
    all
}

fn cpu_us(runs: &[Run], part: Part) -> f64 {
    let used = runs.iter().flat_map(|run| &run.used).filter(|used| used.part == part);
    used.map(|used| used.usage.cpu.as_secs_f64() * 1e6).sum()
}

fn process_rows(runs: &[Run], operations: u64) -> Vec<ProcessRow> {
    let Some(first) = runs.first() else { return Vec::new() };
    let row = |process: &Used| {
        let all = runs.iter().flat_map(|run| &run.used).filter(|used| used.name == process.name);
        let usage = all.clone().map(|used| used.usage).reduce(Usage::and).unwrap_or_default();
        let per_operation = |count: f64| count / number(operations).max(1.0);
        ProcessRow {
            name: process.name.clone(),
            part: process.part,
            cpu_seconds: usage.cpu.as_secs_f64(),
            cpu_us_per_operation: per_operation(usage.cpu.as_secs_f64() * 1e6),
            voluntary_switches_per_operation: per_operation(number(usage.switches.voluntary)),
            involuntary_switches_per_operation: per_operation(number(usage.switches.involuntary)),
            peak_memory_bytes: all.map(|used| used.peak_memory_bytes).max().unwrap_or_default(),
        }
    };
    first.used.iter().map(row).collect()
}

#[cfg(test)]
pub(super) mod tests;
