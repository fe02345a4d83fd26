//! A report for people, on a terminal.

use super::injection::Injected;
use super::load::Load;
use super::report::{Report, Row};
use super::statistics::Spread;
use althing_replica::Durability;
use std::fmt::Write;

/// From so many cores on, what else runs on the machine is worth a note.
const NOTED_CORES: f64 = 0.2;

/// The report as text that ends with a line break.
pub(super) fn table(report: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}\n", heading(report));
    let _ = writeln!(
        out,
        "{:<30} {:>11} {:>9} {:>19} {:>9} {:>9} {:>10} {:>9} {:>10} {:>8}",
        "contender",
        "load",
        "op/s",
        "min – max",
        "p50 ms",
        "p99 ms",
        "CPU µs/op",
        "load's",
        "throughput",
        "latency"
    );
    for row in &report.rows {
        let spread = row.operations_per_second;
        let _ = writeln!(
            out,
            "{:<30} {:>11} {:>9.0} {:>19} {:>9.3} {:>9.3} {:>10.1} {:>9.1} {:>10} {:>8}",
            format!("{} (n={})", row.contender.name, row.replicas),
            load(&row.load),
            spread.median,
            format!("{:.0} – {:.0}", spread.min, spread.max),
            row.latency_p50_us.median / 1000.0,
            row.latency_p99_us.median / 1000.0,
            row.cpu.replicas_us_per_operation,
            row.cpu.load_us_per_operation,
            ratio(row.throughput_ratio),
            ratio(row.latency_ratio),
        );
    }
    out.push('\n');
    for note in report.rows.iter().flat_map(notes) {
        let _ = writeln!(out, "{note}");
    }
    if report.machine.writes_to_memory()
        && report.rows.iter().any(|row| row.contender.durability == Durability::Sync)
    {
        let _ = writeln!(
            out,
            "note: replicas wrote to {}, which no disk backs; see --dir",
            report.machine.filesystem
        );
    }
    out.push_str(
        "op/s, p50 and p99: medians of the rounds. CPU: of all replicas, and of all load processes, for\n\
         one operation. ×: against the first contender, measured in alternation. All share this machine.\n",
    );
    out
}

fn heading(report: &Report) -> String {
    let settings = &report.settings;
    let workload = &settings.workload;
    let mut text = format!(
        "{:?} service, {} B requests, {} B replies",
        workload.service, workload.request_bytes, workload.reply_bytes
    );
    if workload.read_share > 0.0 {
        let _ = write!(text, ", {:.0}% reads ({:?})", workload.read_share * 100.0, settings.reads);
    }
    let auth = settings.contenders.first().map(|contender| contender.request_auth);
    let _ = write!(
        text,
        ", {:?}, {} load process(es), {} core(s), {} round(s) of {} s",
        auth.unwrap_or_default(),
        settings.load_processes,
        report.machine.cores,
        settings.rounds,
        settings.measured_seconds,
    );
    text.to_lowercase().replace(" b ", " B ")
}

/// A load in a few letters.
pub(super) fn load(load: &Load) -> String {
    match load {
        Load::Closed { clients } => format!("{clients} cl."),
        Load::Open { offered_per_second, .. } => format!("{offered_per_second:.0}/s"),
    }
}

/// A ratio to the first contender, where there is one.
pub(super) fn ratio(ratio: Option<Spread>) -> String {
    ratio.map_or_else(|| "–".to_owned(), |ratio| format!("× {:.2}", ratio.median))
}

/// What a reader of a row has to know, a line each.
pub(super) fn notes(row: &Row) -> Vec<String> {
    let mut notes = Vec::new();
    if row.is_offered_rate_served == Some(false) {
        notes.push(format!(
            "the offered rate was not reached; {} operation(s) were due and never sent, so latencies are lower \
             bounds",
            row.unsent
        ));
    }
    if row.failed > 0 {
        notes.push(format!("{} operation(s) failed: {}", row.failed, row.failure_reasons.join("; ")));
    }
    for (number, round) in (1..).zip(&row.rounds) {
        notes.extend(round.injected.iter().map(|seen| injected(number, seen)));
    }
    if let Some(cores) = row.attacker_cores {
        notes.push(format!("the attacker, or who was as busy, kept {:.2} core(s) busy", cores.median));
    }
    if let Some(against) = row.against_busy {
        notes.push(format!(
            "against a process as busy that attacks nobody: throughput × {:.2}, p50 × {:.2}, p99 × {:.2}",
            against.throughput_ratio.median,
            against.latency_p50_ratio.median,
            against.latency_p99_ratio.median
        ));
    }
    if row.views_left > 0 {
        notes.push(format!("replicas left a view {} time(s)", row.views_left));
    }
    if row.foreign_cores.max > NOTED_CORES {
        notes.push(format!("other processes kept up to {:.1} core(s) busy", row.foreign_cores.max));
    }
    let who = format!("{} at {}", row.contender.name, load(&row.load));
    notes.into_iter().map(|note| format!("{who}: {note}")).collect()
}

fn injected(round: u32, seen: &Injected) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a run has few milliseconds")]
    let at = seen.at_ms as f64 / 1000.0;
    let whom =
        if seen.replicas.is_empty() { "nobody, as it was down,".into() } else { seen.replicas.join(", ") };
    format!(
        "{} into {whom} at {at:.2} s of round {round}; the longest time without a completed operation from then on \
         was {} ms",
        seen.fault, seen.longest_gap.length_ms
    )
}
