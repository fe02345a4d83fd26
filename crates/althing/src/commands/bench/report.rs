//! What a benchmark found, for people and for programs.

use super::load::Observed;
use serde::Serialize;
use std::time::Duration;

/// One run: a protocol under a number of clients, in one round.
pub(super) struct Run {
    pub(super) operations_per_second: f64,
    pub(super) observed: Observed,
}

/// All rounds of one protocol under one number of clients.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) protocol: String,
    pub(super) replicas: usize,
    pub(super) clients: usize,
    /// Median over the rounds.
    pub(super) operations_per_second: f64,
    pub(super) slowest_round: f64,
    pub(super) fastest_round: f64,
    /// Over all operations of all rounds, in microseconds.
    pub(super) latency_p50_us: u64,
    pub(super) latency_p99_us: u64,
    pub(super) operations: u64,
    /// Throughput as a share of the baseline's in the same run.
    pub(super) throughput_ratio: Option<f64>,
    /// Median latency as a multiple of the baseline's.
    pub(super) latency_ratio: Option<f64>,
}

/// A whole benchmark.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) version: &'static str,
    pub(super) cores: usize,
    pub(super) service: String,
    pub(super) request_bytes: usize,
    pub(super) reply_bytes: usize,
    pub(super) durability: String,
    pub(super) request_auth: String,
    pub(super) seconds_per_run: f64,
    pub(super) rounds: usize,
    pub(super) rows: Vec<Row>,
}

impl Row {
    pub(super) fn of(protocol: &str, replicas: usize, clients: usize, runs: &[Run]) -> Self {
        let mut rates: Vec<f64> = runs.iter().map(|run| run.operations_per_second).collect();
        rates.sort_by(f64::total_cmp);
        let mut all = Observed::nothing();
        for run in runs {
            all.add(&run.observed);
        }
        Self {
            protocol: protocol.to_owned(),
            replicas,
            clients,
            operations_per_second: median(&rates),
            slowest_round: rates.first().copied().unwrap_or_default(),
            fastest_round: rates.last().copied().unwrap_or_default(),
            latency_p50_us: all.latencies.value_at_quantile(0.5),
            latency_p99_us: all.latencies.value_at_quantile(0.99),
            operations: all.operations,
            throughput_ratio: None,
            latency_ratio: None,
        }
    }

    /// Sets this row against the baseline's of the same number of clients.
    pub(super) fn compare(&mut self, baseline: &Self) {
        self.throughput_ratio = Some(self.operations_per_second / baseline.operations_per_second);
        #[expect(clippy::cast_precision_loss, reason = "latencies in microseconds are small numbers")]
        let ratio = self.latency_p50_us as f64 / baseline.latency_p50_us as f64;
        self.latency_ratio = Some(ratio);
    }
}

impl Run {
    pub(super) fn new(observed: Observed, measured: Duration) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "counts of one run are small numbers")]
        let operations_per_second = observed.operations as f64 / measured.as_secs_f64();
        Self { operations_per_second, observed }
    }
}

impl Report {
    /// A table, widest first, for a terminal.
    pub(super) fn print(&self) {
        println!(
            "service {}, {} B requests, {} B replies, durability {}, {}, {} core(s), {} round(s) of {} s",
            self.service,
            self.request_bytes,
            self.reply_bytes,
            self.durability,
            self.request_auth,
            self.cores,
            self.rounds,
            self.seconds_per_run,
        );
        println!();
        println!(
            "{:<14} {:>7} {:>12} {:>10} {:>10} {:>12} {:>12}",
            "protocol", "clients", "op/s", "p50 ms", "p99 ms", "throughput", "latency"
        );
        for row in &self.rows {
            println!(
                "{:<14} {:>7} {:>12.0} {:>10} {:>10} {:>12} {:>12}",
                format!("{} (n={})", row.protocol, row.replicas),
                row.clients,
                row.operations_per_second,
                millis(row.latency_p50_us),
                millis(row.latency_p99_us),
                row.throughput_ratio.map_or_else(|| "baseline".to_owned(), |ratio| format!("× {ratio:.2}")),
                row.latency_ratio.map_or_else(|| "baseline".to_owned(), |ratio| format!("× {ratio:.2}")),
            );
        }
        println!();
        println!(
            "op/s: median of the rounds; latencies: over all operations; ×: against the baseline above,"
        );
        println!("measured in alternation with it. All replicas and clients share this machine's cores.");
    }
}

fn millis(micros: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "latencies in microseconds are small numbers")]
    let millis = micros as f64 / 1000.0;
    format!("{millis:.3}")
}

/// The median of ascending numbers; of an even count, the mean of the middle two.
fn median(ascending: &[f64]) -> f64 {
    match ascending.len() {
        0 => 0.0,
        len if len % 2 == 1 => ascending[len / 2],
        len => f64::midpoint(ascending[len / 2 - 1], ascending[len / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }

    #[test]
    fn a_row_sums_up_its_rounds_and_stands_against_a_baseline() {
        let run = |operations: u64, micros: u64| {
            let mut observed = Observed::nothing();
            observed.operations = operations;
            observed.latencies.record_n(micros, operations).unwrap();
            Run::new(observed, Duration::from_secs(2))
        };
        let baseline = Row::of("unreplicated", 1, 1, &[run(400, 100)]);
        let mut row = Row::of("pbft", 4, 1, &[run(100, 300), run(300, 200), run(200, 200)]);
        row.compare(&baseline);
        assert_eq!((row.operations_per_second, row.slowest_round, row.operations), (100.0, 50.0, 600));
        assert_eq!((row.throughput_ratio, row.latency_p50_us), (Some(0.5), 200));
        assert_eq!(row.latency_ratio, Some(2.0));
    }
}
