//! What runs have shown, as text.

use super::figures::{PACKED_STEWARD, Run, STEWARD, Sweep};
use althing_sim::sites::LevelProtocol;
use althing_sim::wan::{CostTable, SchemeCosts, System, WanReport};
use std::fmt::Write;

/// What the paper's systems did of Steward's throughput, optimised: 35% and 12% less (SRDS'07 §1).
const PAPERS_SHARE_OF_STEWARD: [(&str, f64); 2] = [("Paxos/BFT", 0.88), ("BFT/BFT", 0.65)];

/// One line about a run.
pub(super) fn line(run: &Run, report: &WanReport) -> String {
    let mean_ms = report.latency.map_or(f64::NAN, |latency| latency.mean_ms);
    format!(
        "{} {}, {} ms, {} clients: {:.0}/s, {mean_ms:.0} ms",
        run.sweep.name(),
        run.name,
        run.sweep.diameter_ms(),
        run.config.clients,
        report.updates_per_s,
    )
}

/// All runs, a line each.
pub(super) fn csv(runs: &[Run], reports: &[WanReport]) -> String {
    let mut csv = String::from(
        "sweep,system,diameter_ms,costs,clients,updates_per_s,latency_mean_ms,latency_p50_ms,latency_p99_ms,\
         wide_bytes_per_update,wide_messages_per_update,copies,leader_uplink,busiest_uplink,leader_cpu,\
         leader_orderings_per_update,leader_signatures_per_update,trace_hash\n",
    );
    for (run, report) in runs.iter().zip(reports) {
        let latency = |of: fn(&althing_sim::wan::Latency) -> f64| {
            report.latency.as_ref().map(|latency| format!("{:.3}", of(latency))).unwrap_or_default()
        };
        let _ = writeln!(
            csv,
            "{},\"{}\",{},{},{},{:.1},{},{},{},{:.1},{:.3},{:.4},{:.4},{:.4},{:.4},{:.4},{:.4},{}",
            run.sweep.name(),
            run.name,
            run.sweep.diameter_ms(),
            run.config.costs.name,
            run.config.clients,
            report.updates_per_s,
            latency(|latency| latency.mean_ms),
            latency(|latency| latency.p50_ms),
            latency(|latency| latency.p99_ms),
            report.wide_bytes_per_update,
            report.wide_messages_per_update,
            report.copies,
            report.leader_uplink,
            report.busiest_uplink,
            report.leader_cpu,
            report.leader_orderings_per_update,
            report.leader_signatures_per_update,
            report.trace_hash,
        );
    }
    csv
}

/// What cryptography costs.
pub(super) fn costs(table: &CostTable) -> String {
    let us = |duration: std::time::Duration| duration.as_secs_f64() * 1e6;
    let scheme = |name: &str, scheme: &SchemeCosts| {
        let SchemeCosts { sign, combine, verify, bytes } = scheme;
        format!(
            "  {name:<10} sign or share {:>6.0} µs, combine {:>6.0} µs, verify {:>6.0} µs, {bytes} bytes\n",
            us(*sign),
            us(*combine),
            us(*verify)
        )
    };
    let CostTable { name, within, plain, threshold } = table;
    let within = format!(
        "  messages within a site: to seal one for all {:.1} µs, to check one {:.1} µs\n",
        us(within.seal),
        us(within.check)
    );
    format!("costs: {name}\n{within}{}{}", scheme("plain", plain), scheme("threshold", threshold))
}

/// The run of a system in a sweep that has got furthest.
fn best_of<'a>(
    runs: &'a [Run],
    reports: &'a [WanReport],
    (sweep, name): (Sweep, &str),
) -> Option<(&'a Run, &'a WanReport)> {
    let apt = runs.iter().zip(reports).filter(|(run, _)| run.sweep == sweep && run.name == name);
    apt.max_by(|a, b| a.1.updates_per_s.total_cmp(&b.1.updates_per_s))
}

/// The run of a system in a sweep with the fewest clients.
fn lightest_of<'a>(
    runs: &'a [Run],
    reports: &'a [WanReport],
    (sweep, name): (Sweep, &str),
) -> Option<(&'a Run, &'a WanReport)> {
    let apt = runs.iter().zip(reports).filter(|(run, _)| run.sweep == sweep && run.name == name);
    apt.min_by_key(|(run, _)| run.config.clients)
}

/// The sweeps and systems that there are, in order.
fn systems(runs: &[Run]) -> Vec<(Sweep, System, &'static str)> {
    let mut systems: Vec<_> = runs.iter().map(|run| (run.sweep, run.config.system, run.name)).collect();
    systems.sort_unstable();
    systems.dedup();
    systems
}

/// What each system does at most.
pub(super) fn best(runs: &[Run], reports: &[WanReport]) -> String {
    let mut text = format!(
        "{:<12} {:>6}  {:<27} {:>8} {:>9} {:>9} {:>8} {:>7} {:>6}\n",
        "at most", "ms", "system", "clients", "updates/s", "mean ms", "uplink", "CPU", "copies"
    );
    let has_figures = |sweep: &Sweep| !matches!(sweep, Sweep::Limits | Sweep::Light | Sweep::Faults);
    for (sweep, _, name) in systems(runs).into_iter().filter(|(sweep, ..)| has_figures(sweep)) {
        let Some((run, report)) = best_of(runs, reports, (sweep, name)) else { continue };
        let _ = writeln!(
            text,
            "{:<12} {:>6}  {name:<27} {:>8} {:>9.0} {:>9.0} {:>7.0}% {:>6.0}% {:>6.3}",
            sweep.name(),
            sweep.diameter_ms(),
            run.config.clients,
            report.updates_per_s,
            report.latency.map_or(f64::NAN, |latency| latency.mean_ms),
            100.0 * report.busiest_uplink,
            100.0 * report.leader_cpu,
            report.copies,
        );
    }
    text
}

/// What the optimised protocols do with faster links and processors.
pub(super) fn limits(runs: &[Run], reports: &[WanReport]) -> String {
    let mut text = String::new();
    for (run, report) in runs.iter().zip(reports).filter(|(run, _)| run.sweep == Sweep::Limits) {
        if text.is_empty() {
            let (what, rate, link, cpu) = ("what limits them", "updates/s", "link", "CPU");
            let _ = writeln!(text, "{what:<36} {rate:>9} {link:>6} {cpu:>6}");
        }
        let (rate, link, cpu) =
            (report.updates_per_s, 100.0 * report.leader_uplink, 100.0 * report.leader_cpu);
        let _ = writeln!(text, "{:<36} {rate:>9.0} {link:>5.0}% {cpu:>5.0}%", run.name);
    }
    text
}

/// Table 3: what a server of the leading site signs for each update where nothing is optimised, as counted and as the
/// paper has it.
pub(super) fn cryptography(runs: &[Run], reports: &[WanReport]) -> String {
    let sweep = Sweep::Unoptimised { diameter_ms: 50 };
    let mut text = String::new();
    for (_, system, name) in systems(runs).into_iter().filter(|(of, ..)| *of == sweep) {
        let Some((run, report)) = best_of(runs, reports, (sweep, name)) else { continue };
        let others = u64::from(run.config.sites) - 1;
        let (signs_an_order, is_threshold, paper) = match system {
            System::Steward | System::PackedSteward => (2.0, true, (1, 3)),
            System::Sites(composition) => match (composition.wide, composition.local) {
                (LevelProtocol::Paxos, LevelProtocol::Paxos) => (1.0, false, (0, 2 + others)),
                (LevelProtocol::Pbft, LevelProtocol::Paxos) => (1.0, false, (0, 3 + 2 * others)),
                (LevelProtocol::Paxos, LevelProtocol::Pbft) => (2.0, true, (1, 3 + 2 * others)),
                (LevelProtocol::Pbft, LevelProtocol::Pbft) => (2.0, true, (2, 4 + 4 * others)),
            },
        };
        let signatures = report.leader_signatures_per_update;
        // Each share of a signature is signed by who sends it; a site without shares signs what it says.
        let plain = report.leader_orderings_per_update * signs_an_order + signatures;
        let threshold = if is_threshold { signatures } else { 0.0 };
        if text.is_empty() {
            let _ = writeln!(text, "Table 3, counted (the paper's): signatures of a server for each update");
        }
        let _ = writeln!(
            text,
            "  {name:<12} threshold {threshold:>5.2} ({}), plain {plain:>6.2} ({})",
            paper.0, paper.1
        );
    }
    text
}

/// What, its target, what was measured, and whether that is enough.
type Row = (String, String, String, bool);

/// How many wide-area delays an update takes on average: one of a client of the leading site two with Paxos and three with
/// PBFT, others one more. Who waits for less makes more updates.
fn delays(wide: LevelProtocol, clients: u64, sites: u16) -> f64 {
    let of_leader = match wide {
        LevelProtocol::Paxos => 2.0,
        LevelProtocol::Pbft => 3.0,
    };
    let at_leader = clients.div_ceil(u64::from(sites)) as f64;
    let all = clients as f64;
    all / (at_leader / of_leader + (all - at_leader) / (of_leader + 1.0))
}

/// One client of the leading site, or one in each.
fn light_load(run: &Run, report: &WanReport) -> Option<Row> {
    let System::Sites(composition) = report.config.system else { return None };
    let latency = report.latency.filter(|_| run.sweep == Sweep::Light)?;
    let delays = delays(composition.wide, run.config.clients, run.config.sites);
    let least_ms = delays * run.config.diameter.as_secs_f64() * 1e3;
    let clients = if run.config.clients == 1 { "one client in all" } else { "one client a site" };
    let what = format!("{}, {clients}, our own primitives", run.name);
    let target = format!("{delays:.2} delays, {least_ms:.1} ms, and under 10 ms");
    let is_met = latency.mean_ms < least_ms + 10.0;
    Some((what, target, format!("{:.1} ms", latency.mean_ms), is_met))
}

/// How much more or less one does than another, and whether that is the least share of it that will do.
fn against((name, ours): (&str, &WanReport), (other, theirs): (&str, &WanReport), least: f64) -> Row {
    let share = ours.updates_per_s / theirs.updates_per_s;
    let percent = |share: f64| 100.0 * (share - 1.0);
    let (what, target) = (format!("{name} against {other}"), format!("{:.0}%", percent(least)));
    (what, target, format!("{:+.1}%", percent(share)), share >= least)
}

/// Whether updates were answered as before in time. An acknowledgement takes a round trip, which comes on top.
fn recovery(run: &Run, report: &WanReport) -> Option<Row> {
    let trial = report.trial?;
    let bound = trial.bound.as_secs_f64();
    let most = trial.bound + 2 * run.config.diameter;
    let what = format!("{}, back to 90% of the throughput", run.name);
    let measured = trial.back_after.map_or("not within the run".to_owned(), |after| {
        format!(
            "{:.1} s, after {} links, {} in a row",
            after.as_secs_f64(),
            trial.given_up,
            trial.given_up_in_a_row
        )
    });
    let is_met = trial.back_after.is_some_and(|after| after <= most);
    Some((what, format!("{bound:.1} s and a round trip"), measured, is_met))
}

/// The targets that the runs say something of, as a table in Markdown; nothing where they say nothing.
pub(super) fn targets(runs: &[Run], reports: &[WanReport]) -> Option<String> {
    let optimised = Sweep::Optimised { diameter_ms: 50 };
    let unoptimised = Sweep::Unoptimised { diameter_ms: 50 };
    let best = |sweep: Sweep, name: &str| best_of(runs, reports, (sweep, name)).map(|(_, report)| report);
    let mut rows: Vec<Row> = Vec::new();
    let is_normal = |report: &&WanReport| {
        matches!(report.config.system, System::Sites(_)) && report.config.trial.is_none()
    };
    let compositions = reports.iter().filter(is_normal);
    let copies = compositions.map(|report| report.copies).fold(0.0, f64::max);
    if copies > 0.0 {
        let what = "wide-area copies of a message, the worst run";
        rows.push((what.into(), "1".into(), format!("{copies:.4}"), copies <= 1.0));
    }
    if let (Some(fast), Some(slow)) = (best(optimised, "Paxos/BFT"), best(unoptimised, "Paxos/BFT")) {
        let times = fast.updates_per_s / slow.updates_per_s;
        let what = "Paxos/BFT, optimised against not";
        rows.push((what.into(), "at least 4 times".into(), format!("{times:.1} times"), times >= 4.0));
        let what = "Paxos/BFT, use of the leading site's link";
        let link = fast.leader_uplink;
        rows.push((what.into(), "bandwidth limits".into(), format!("{:.0}%", 100.0 * link), link > 0.95));
    }
    for steward in [STEWARD, PACKED_STEWARD] {
        rows.extend(PAPERS_SHARE_OF_STEWARD.iter().filter_map(|&(name, least)| {
            let (ours, theirs) = (best(optimised, name)?, best(optimised, steward)?);
            Some(against((name, ours), (steward, theirs), least))
        }));
    }
    for name in ["Paxos/BFT", "BFT/BFT"] {
        for way in ["bundles", "vouched bundles"] {
            let ours = format!("{name}, {way}");
            if let Some(report) = best(Sweep::Carriages, &ours) {
                let rate = report.updates_per_s;
                rows.push((
                    ours.clone(),
                    "6000 updates/s".into(),
                    format!("{rate:.0} updates/s"),
                    rate >= 6000.0,
                ));
            }
            let light = |name: &str| {
                let (_, report) = lightest_of(runs, reports, (Sweep::Carriages, name))?;
                report.latency.map(|latency| latency.mean_ms)
            };
            if let (Some(ms), Some(papers)) = (light(&ours), light(name)) {
                let what = format!("{ours}, latency at light load");
                // Half of a wide-area delay tells apart what takes as many of them and what takes one more.
                let is_met = ms < papers + 25.0;
                let target = format!("no more delays than {papers:.0} ms have");
                rows.push((what, target, format!("{ms:.0} ms"), is_met));
            }
        }
    }
    rows.extend(runs.iter().zip(reports).filter_map(|(run, report)| light_load(run, report)));
    rows.extend(runs.iter().zip(reports).filter_map(|(run, report)| recovery(run, report)));
    if rows.is_empty() {
        return None;
    }
    let mut text = String::from("| what | target | measured | met |\n|---|---|---|---|\n");
    for (what, target, measured, is_met) in rows {
        let _ = writeln!(text, "| {what} | {target} | {measured} | {} |", if is_met { "yes" } else { "no" });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_takes_as_many_delays_as_its_client_waits_for() {
        let thousandths = |wide, clients| (1000.0 * delays(wide, clients, 5)).round();
        assert_eq!(
            [1, 5, 10].map(|clients| thousandths(LevelProtocol::Paxos, clients)),
            [2000.0, 2727.0, 2727.0]
        );
        assert_eq!([1, 5].map(|clients| thousandths(LevelProtocol::Pbft, clients)), [3000.0, 3750.0]);
    }
}
