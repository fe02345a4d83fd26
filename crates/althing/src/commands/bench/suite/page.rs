//! The suite's page of the book.

use super::scenario::{Pace, Picture};
use super::{Measured, PAGE};
use crate::commands::bench::report::{Report, Row};
use crate::commands::bench::statistics::Spread;
use crate::commands::bench::table;
use miette::{IntoDiagnostic, Result};
use serde::Serialize;
use std::fmt::Write;

/// Targets that this suite does not measure, and what does.
const NOT_MEASURED: [(&str, &str); 3] = [
    ("checkpoint of a 1 GiB state with 1% of its pages changed", COST_OF_A_CHECKPOINT),
    ("a replica that missed 1% of a 1 GiB state", COST_OF_A_CHECKPOINT),
    ("a soak of 10 minutes with faults every second", "`just soak`"),
];

const COST_OF_A_CHECKPOINT: &str = "[What a checkpoint costs](profile.md#what-a-checkpoint-costs)";

/// All that the suite found.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    pub(super) commit: String,
    pub(super) is_quick: bool,
    pub(super) pace: Pace,
    #[serde(rename = "scenarios")]
    pub(super) measured: Vec<Measured>,
}

impl Page {
    pub(super) fn json(&self) -> Result<String> {
        let mut json = serde_json::to_string(self).into_diagnostic()?;
        json.push('\n');
        Ok(json)
    }

    pub(super) fn markdown(&self) -> String {
        let mut out = String::new();
        self.introduction(&mut out);
        self.targets(&mut out);
        self.measured.iter().for_each(|measured| section(measured, &mut out));
        out
    }

    fn introduction(&self, out: &mut String) {
        out.push_str("# Benchmarks\n\n");
        let _ = writeln!(
            out,
            "<!-- Written by `just benchmarks` (`althing bench --suite docs/src`): changes to {PAGE} are lost. -->\n"
        );
        if self.is_quick {
            out.push_str(
                "> **From a short run** (`--quick`), which shows that everything is measured. Its figures are \
                 rough, and nothing kept other work off the machine.\n\n",
            );
        }
        out.push_str(
            "All replicas, the unreplicated server and the load processes share one machine, over loopback. \
             Runs of the contenders alternate, since machines drift. *×* is a figure against that of the \
             unreplicated server: the median over the rounds of the ratio to its neighbour. Rates and \
             latencies are medians of the rounds. [Benchmarking](benchmarking.md) says how these figures are \
             come by; the [JSON](benchmarks/results.json) holds all of them, for each round and process.\n\n",
        );
        self.circumstances(out);
    }

    fn circumstances(&self, out: &mut String) {
        let Some(Measured { report, .. }) = self.measured.first() else { return };
        let machine = &report.machine;
        let _ = writeln!(out, "| | |\n|---|---|");
        let _ = writeln!(out, "| machine | {} cores, {} |", machine.cores, machine.cpu_model);
        #[expect(clippy::cast_precision_loss, reason = "a memory's size to a tenth of a GiB")]
        let gib = machine.memory_bytes as f64 / f64::from(1 << 30);
        let _ = writeln!(out, "| memory | {gib:.1} GiB |");
        let _ = writeln!(out, "| kernel | {} |", machine.kernel);
        let _ = writeln!(out, "| filesystem of the replicas | {} |", machine.filesystem);
        let _ = writeln!(out, "| commit | {} |", self.commit);
        let _ = writeln!(out, "| date | {} |", report.date);
        let _ = writeln!(
            out,
            "| a run | {} round(s) of {} s, after {} s to warm up |",
            self.pace.rounds, self.pace.measured_seconds, self.pace.warm_up_seconds
        );
        let foreign = self.measured.iter().flat_map(|measured| &measured.report.rows);
        let foreign = foreign.map(|row| row.foreign_cores.max).fold(0.0, f64::max);
        let _ = writeln!(out, "| other work on the machine | at most {foreign:.2} cores during a run |\n");
    }

    fn targets(&self, out: &mut String) {
        out.push_str("## Targets\n\n| what | target | measured | met |\n|---|---|---|---|\n");
        for Measured { scenario, report } in &self.measured {
            for goal in &scenario.goals {
                let measured = goal.figure.of(report);
                let _ = writeln!(
                    out,
                    "| {} | {} | {} | {} |",
                    goal.what,
                    goal.target(),
                    measured.map_or_else(|| "–".to_owned(), |value| goal.figure.written(value)),
                    if measured.is_some_and(|value| goal.bound.is_met(value)) { "yes" } else { "**no**" },
                );
            }
        }
        for (what, by) in NOT_MEASURED {
            let _ = writeln!(out, "| {what} | | not measured here, but by: {by} | |");
        }
        out.push('\n');
    }
}

fn section(Measured { scenario, report }: &Measured, out: &mut String) {
    let _ = writeln!(out, "## {}\n\n{}\n", scenario.title, scenario.about);
    let _ = writeln!(out, "```sh\n{}\n```\n", report.settings.command());
    rows(report, out);
    if scenario.picture != Picture::None {
        let _ = writeln!(out, "![{}]({})\n", scenario.title, scenario.picture_file());
    }
    let mut notes = report.rows.iter().flat_map(table::notes).peekable();
    if notes.peek().is_some() {
        notes.for_each(|note| {
            let _ = writeln!(out, "- {note}");
        });
        out.push('\n');
    }
    if scenario.id == "requests-0" {
        processes(report, out);
    }
}

fn rows(report: &Report, out: &mut String) {
    out.push_str(
        "| contender | load | op/s | min – max | p50 ms | p99 ms | throughput | latency | CPU µs/op: replicas | \
         load |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in &report.rows {
        let Spread { median, min, max } = row.operations_per_second;
        let _ = writeln!(
            out,
            "| {} (n={}) | {} | {median:.0} | {min:.0} – {max:.0} | {:.3} | {:.3} | {} | {} | {:.1} | {:.1} |",
            row.contender.name,
            row.replicas,
            table::load(&row.load),
            row.latency_p50_us.median / 1000.0,
            row.latency_p99_us.median / 1000.0,
            table::ratio(row.throughput_ratio),
            table::ratio(row.latency_ratio),
            row.cpu.replicas_us_per_operation,
            row.cpu.load_us_per_operation,
        );
    }
    out.push('\n');
}

/// Where the processor's time goes under the last load.
fn processes(report: &Report, out: &mut String) {
    let Some(last) = report.rows.last() else { return };
    let of_last = |row: &&Row| row.load == last.load;
    let _ = writeln!(
        out,
        "By process, at {}:\n\n| contender | process | CPU s | CPU µs/op | switches/op: voluntary | involuntary | \
         peak memory MiB |\n|---|---|--:|--:|--:|--:|--:|",
        table::load(&last.load)
    );
    for row in report.rows.iter().filter(of_last) {
        for process in &row.processes {
            let _ = writeln!(
                out,
                "| {} | {} | {:.2} | {:.2} | {:.3} | {:.3} | {} |",
                row.contender.name,
                process.name,
                process.cpu_seconds,
                process.cpu_us_per_operation,
                process.voluntary_switches_per_operation,
                process.involuntary_switches_per_operation,
                process.peak_memory_bytes >> 20,
            );
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::report::tests::report;
    use crate::commands::bench::suite::scenario;

    fn page() -> Page {
        let pace = Pace::quick();
        let scenarios = scenario::closed_loops(&pace).into_iter().chain(scenario::open_loops(&pace, 1000.0));
        let measured = scenarios.map(|scenario| {
            let report = report(scenario.settings.clone());
            Measured { scenario, report }
        });
        Page { commit: "0123456789ab".to_owned(), is_quick: true, measured: measured.collect(), pace }
    }

    #[test]
    fn the_page_says_of_every_target_whether_it_is_met() {
        let markdown = page().markdown();
        let line = |what: &str| {
            let line = markdown.lines().find(|line| line.contains(what));
            line.unwrap_or_else(|| panic!("no {what} in {markdown}")).to_owned()
        };
        assert!(line("0 B, 64 clients: throughput").ends_with("| at least 0.25 × | 0.40 × | yes |"));
        assert!(line("0 B, 1 client: latency").ends_with("| at most 2.50 × | 3.00 × | **no** |"));
        assert!(
            line("0 B, 1024 clients, MACs, `none`").ends_with("| at least 100000 op/s | 400 op/s | **no** |")
        );
        assert!(line("in 3 view timeouts").ends_with("| at most 3000 ms | 300 ms | yes |"));
        assert!(line("operations that failed").ends_with("| at most 0 | 0 | yes |"));
        assert!(line("a soak of 10 minutes").contains("not measured"));
        assert_eq!(markdown.matches("not measured").count(), NOT_MEASURED.len());
    }

    #[test]
    fn the_page_states_its_circumstances_and_shows_every_scenario() {
        let page = page();
        let markdown = page.markdown();
        for stated in
            ["2 cores, a processor", "1.0 GiB", "Linux 6", "ext4", "0123456789ab", "2026-11-21", "--quick"]
        {
            assert!(markdown.contains(stated), "no {stated}");
        }
        for measured in &page.measured {
            assert!(markdown.contains(&format!("\n## {}\n", measured.scenario.title)));
            assert!(markdown.contains(&measured.report.settings.command()));
            let is_shown = markdown.contains(&format!("]({})", measured.scenario.picture_file()));
            assert_eq!(is_shown, measured.scenario.picture != Picture::None);
        }
        // A table whose rows differ in length is none.
        let columns = |line: &str| line.matches('|').count();
        for pair in markdown.lines().collect::<Vec<_>>().windows(2) {
            if pair.iter().all(|line| line.starts_with('|')) {
                assert_eq!(columns(pair[0]), columns(pair[1]), "{pair:?}");
            }
        }
    }

    #[test]
    fn the_json_holds_settings_goals_and_reports() {
        let json: serde_json::Value = serde_json::from_str(&page().json().unwrap()).unwrap();
        let first = &json["scenarios"][0];
        assert_eq!((&json["commit"], &json["is_quick"]), (&"0123456789ab".into(), &true.into()));
        assert_eq!((&first["id"], &first["report"]["format"]), (&"requests-0".into(), &1.into()));
        assert_eq!(first["report"]["rows"].as_array().map(Vec::len), Some(8));
        assert_eq!(first["goals"][0]["bound"]["at_least"], 0.25);
    }
}
