//! What a comparison has shown, as text.

use super::Compared;
use althing_sim::lab::{LabConfig, LabFault};
use std::fmt::Write;

/// What all runs of a table or a picture have in common.
type Setting = (LabFault, usize);

fn setting(config: &LabConfig) -> Setting {
    (config.fault, config.request_bytes)
}

fn settings(runs: &[Compared]) -> Vec<Setting> {
    let mut settings: Vec<_> = runs.iter().map(|run| setting(&run.config)).collect();
    settings.sort_unstable();
    settings.dedup();
    settings
}

fn in_words((fault, bytes): Setting) -> String {
    let fault = match fault {
        LabFault::None => "all replicas up",
        LabFault::UnevenLinks => "all replicas up, and messages that take up to twice as long",
        LabFault::BackupSlow => "as many backups ten times slower as are tolerated",
        LabFault::BackupDown => "as many backups down as are tolerated",
        LabFault::PrimaryDown => "the first primary down",
    };
    format!("requests of {bytes} bytes, {fault}")
}

fn file((fault, bytes): Setting) -> String {
    format!("comparison-{bytes}-{}.svg", fault.name())
}

/// The pictures: each one's file, its title, and what it shows.
pub(super) fn pictures(runs: &[Compared]) -> Vec<(String, String, Vec<&Compared>)> {
    let of = |of: Setting| runs.iter().filter(move |run| setting(&run.config) == of).collect();
    settings(runs).into_iter().map(|setting| (file(setting), in_words(setting), of(setting))).collect()
}

/// The page: who wins where, and a table with a picture for each setting.
pub(super) fn of(runs: &[Compared]) -> String {
    let mut page = String::from("# The protocols compared\n\n");
    let Some(Compared { config, .. }) = runs.first() else { return page };
    let _ = writeln!(
        page,
        "f = {}; each replica on a machine with one core; messages take {} µs from one machine to another, over links\n\
         of {} Gbit/s; a frame costs a replica {:.1} µs beside its handling, which is measured; nothing on disk;\n\
         results of {} bytes; requests with MACs. `unreplicated` is the baseline: one server that nothing backs.\n",
        config.f,
        config.delay.as_micros(),
        config.bits_per_s / 1_000_000_000,
        config.frame_cost.as_secs_f64() * 1e6,
        config.reply_bytes,
    );
    page += "## Who wins where\n\nAmong those that replicate.\n\n";
    page += "| setting | lowest median latency | highest throughput |\n|---|---|---|\n";
    for one in settings(runs) {
        let _ = writeln!(page, "| {} | {} | {} |", in_words(one), quickest(runs, one), strongest(runs, one));
    }
    for one in settings(runs) {
        page += &table(runs, one);
    }
    page
}

fn replicated(runs: &[Compared], of: Setting) -> impl Iterator<Item = &Compared> {
    runs.iter().filter(move |run| setting(&run.config) == of && run.config.protocol.has_backups())
}

fn quickest(runs: &[Compared], of: Setting) -> String {
    let latency = |run: &&Compared| run.report.latency.map_or(f64::INFINITY, |latency| latency.median_us);
    let best = replicated(runs, of).min_by(|a, b| latency(a).total_cmp(&latency(b)));
    best.map_or_else(String::new, |run| {
        let Compared { config, .. } = run;
        format!("{}, {:.0} µs with {} client(s)", config.protocol.name(), latency(&run), config.clients)
    })
}

fn strongest(runs: &[Compared], of: Setting) -> String {
    let best =
        replicated(runs, of).max_by(|a, b| a.report.operations_per_s.total_cmp(&b.report.operations_per_s));
    best.map_or_else(String::new, |Compared { config, report }| {
        format!(
            "{}, {:.0}/s with {} client(s)",
            config.protocol.name(),
            report.operations_per_s,
            config.clients
        )
    })
}

fn table(runs: &[Compared], of: Setting) -> String {
    let mut text = format!("\n## With {}\n\n![]({})\n\n", in_words(of), file(of));
    text += "| protocol | clients | operations/s | median, µs | 99th, µs | busiest core | core time an operation, µs \
             | frames an operation |\n|---|--:|--:|--:|--:|--:|--:|--:|\n";
    for Compared { config, report } in runs.iter().filter(|run| setting(&run.config) == of) {
        let (median, p99) = report.latency.map_or((f64::NAN, f64::NAN), |l| (l.median_us, l.p99_us));
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {median:.0} | {p99:.0} | {:.0}% | {:.1} | {:.1} |",
            config.protocol.name(),
            config.clients,
            report.operations_per_s,
            report.busiest_core * 100.0,
            report.core_us_per_operation,
            report.frames_per_operation,
        );
    }
    text
}

/// All runs, a line each.
pub(super) fn csv(runs: &[Compared]) -> String {
    let mut csv = String::from(
        "protocol,f,clients,request_bytes,fault,operations_per_s,latency_mean_us,latency_p50_us,latency_p99_us,\
         busiest_core,core_us_per_operation,frames_per_operation,last_view\n",
    );
    for Compared { config, report } in runs {
        let (mean, median, p99) =
            report.latency.map_or((f64::NAN, f64::NAN, f64::NAN), |l| (l.mean_us, l.median_us, l.p99_us));
        let _ = writeln!(
            csv,
            "{},{},{},{},{},{:.1},{mean:.1},{median:.1},{p99:.1},{:.4},{:.3},{:.3},{}",
            config.protocol.name(),
            config.f,
            config.clients,
            config.request_bytes,
            config.fault.name(),
            report.operations_per_s,
            report.busiest_core,
            report.core_us_per_operation,
            report.frames_per_operation,
            report.last_view,
        );
    }
    csv
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::compare::picture;
    use althing_sim::lab::{LabLatency, LabProtocol, LabReport};

    fn run(protocol: LabProtocol, clients: u64, operations_per_s: f64, median_us: f64) -> Compared {
        let latency = LabLatency { mean_us: median_us, median_us, p99_us: 2.0 * median_us };
        let report = LabReport {
            operations: 1,
            operations_per_s,
            latency: Some(latency),
            busiest_core: 1.0,
            core_us_per_operation: 1.0,
            frames_per_operation: 1.0,
            last_view: 0,
        };
        Compared { config: LabConfig::new(protocol, clients), report }
    }

    #[test]
    fn the_page_names_who_wins_among_those_that_replicate() {
        let mut runs = vec![
            run(LabProtocol::Unreplicated, 1, 90_000.0, 100.0),
            run(LabProtocol::Paxos, 1, 10_000.0, 300.0),
            run(LabProtocol::Paxos, 64, 30_000.0, 900.0),
            run(LabProtocol::Pbft, 1, 20_000.0, 200.0),
            run(LabProtocol::Pbft, 64, 10_000.0, 800.0),
        ];
        let page = of(&runs);
        let wins = "| pbft, 200 µs with 1 client(s) | paxos, 30000/s with 64 client(s) |";
        assert!(page.contains(wins), "{page}");
        // Where nothing was completed, nobody wins by that.
        runs[3].report.latency = None;
        assert!(of(&runs).contains("paxos, 300 µs"), "{}", of(&runs));
    }

    #[test]
    fn each_setting_has_a_picture_that_the_page_shows() {
        let mut runs = vec![run(LabProtocol::Paxos, 1, 1.0, 1.0), run(LabProtocol::Pbft, 1, 1.0, 1.0)];
        runs[1].config.fault = LabFault::BackupDown;
        let page = of(&runs);
        let pictures = pictures(&runs);
        assert_eq!(pictures.len(), 2);
        for (file, title, shown) in pictures {
            let svg = picture::of(&title, &shown).expect("it can be drawn");
            assert!(page.contains(&file) && svg.contains(&title) && !svg.contains("NaN"), "{svg}");
        }
        assert_eq!(csv(&runs).lines().count(), 3);
    }
}
