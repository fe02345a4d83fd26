//! What it costs to go from one protocol to another, as text.

use althing_sim::lab::{LabProtocol, SwitchConfig, SwitchReport};
use std::fmt::Write;

/// A switch, and what it has cost: of all rounds, the one with the median pause.
pub(super) struct Switched {
    pub(super) config: SwitchConfig,
    pub(super) report: SwitchReport,
}

impl Switched {
    pub(super) fn of(config: SwitchConfig, mut rounds: Vec<SwitchReport>) -> Self {
        rounds.sort_by(|a, b| a.pause_ms.total_cmp(&b.pause_ms));
        Self { report: rounds.swap_remove(rounds.len() / 2), config }
    }
}

/// The page: a table with a line for each pair and load, and how long clients stood still from each to each.
pub(super) fn of(switches: &[Switched]) -> String {
    let mut page = String::from("# From one protocol to another\n\n");
    let Some(Switched { config, .. }) = switches.first() else { return page };
    let group = &config.group;
    let _ = writeln!(
        page,
        "f = {}, {} replicas; each on a machine with one core; messages take {} µs from one machine to another; a frame\n\
         costs a replica {:.1} µs beside its handling, which is measured; nothing on disk; requests of {} bytes with MACs;\n\
         all settings are the defaults. An operation is stalled if it took longer than any did before or afterwards.\n",
        group.f,
        3 * group.f + 1,
        group.delay.as_micros(),
        group.frame_cost.as_secs_f64() * 1e6,
        group.request_bytes,
    );
    let mut loads: Vec<_> = switches.iter().map(|switch| switch.config.group.clients).collect();
    loads.sort_unstable();
    loads.dedup();
    for clients in loads {
        let of: Vec<_> = switches.iter().filter(|switch| switch.config.group.clients == clients).collect();
        let _ = write!(page, "## With {clients} client(s)\n\n{}\n{}\n", matrix(&of), table(&of));
    }
    page
}

/// Milliseconds without any operation, from each to each.
fn matrix(switches: &[&Switched]) -> String {
    let mut protocols: Vec<_> = switches.iter().map(|switch| switch.config.to).collect();
    protocols.sort_unstable();
    protocols.dedup();
    let mut text =
        String::from("Milliseconds without any operation, and operations stalled:\n\n| from, to |");
    protocols.iter().for_each(|to| text += &format!(" {} |", to.name()));
    text += &format!("\n|---|{}\n", "--:|".repeat(protocols.len()));
    let cell = |from: LabProtocol, to: LabProtocol| {
        let found =
            switches.iter().find(|switch| (switch.config.group.protocol, switch.config.to) == (from, to));
        found.map_or_else(String::new, |found| {
            format!("{:.2}, {}", found.report.pause_ms, found.report.stalled)
        })
    };
    for from in &protocols {
        text += &format!("| {} |", from.name());
        protocols.iter().for_each(|to| text += &format!(" {} |", cell(*from, *to)));
        text += "\n";
    }
    text
}

fn table(switches: &[&Switched]) -> String {
    let mut text = String::from(
        "| from | to | command answered, ms | last replica over, ms | no operation for, ms | operations stalled \
         | slowest operation, ms | slowest usually, ms |\n|---|---|--:|--:|--:|--:|--:|--:|\n",
    );
    for Switched { config, report } in switches {
        let (from, to) = (config.group.protocol.name(), config.to.name());
        let _ = writeln!(text, "| {from} | {to} | {} |", figures(report, 2).join(" | "));
    }
    text
}

/// What a switch has shown, in the order in which both the table and the lines have it.
fn figures(report: &SwitchReport, decimals: usize) -> [String; 6] {
    let ms = |time: f64| format!("{time:.decimals$}");
    let SwitchReport { answered_ms, entered_ms, pause_ms, stalled, slowest_ms, usual_slowest_ms } = *report;
    [ms(answered_ms), ms(entered_ms), ms(pause_ms), stalled.to_string(), ms(slowest_ms), ms(usual_slowest_ms)]
}

/// All switches, a line each.
pub(super) fn csv(switches: &[Switched]) -> String {
    let mut csv = String::from(
        "from,to,f,clients,request_bytes,answered_ms,entered_ms,pause_ms,stalled,slowest_ms,usual_slowest_ms\n",
    );
    for Switched { config: SwitchConfig { group, to }, report } in switches {
        let of = [group.protocol.name(), to.name()];
        let load =
            [group.f as u64, group.clients, group.request_bytes as u64].map(|number| number.to_string());
        let _ = writeln!(csv, "{},{},{}", of.join(","), load.join(","), figures(report, 4).join(","));
    }
    csv
}

#[cfg(test)]
mod tests {
    use super::*;
    use althing_sim::lab::LabConfig;

    fn report(pause_ms: f64) -> SwitchReport {
        SwitchReport {
            answered_ms: 1.0,
            entered_ms: 2.0,
            pause_ms,
            stalled: 7,
            slowest_ms: 4.0,
            usual_slowest_ms: 0.5,
        }
    }

    #[test]
    fn each_pair_has_its_place_and_the_median_of_its_rounds() {
        let switched = |(from, to)| {
            let config = SwitchConfig { group: LabConfig::new(from, 16), to };
            Switched::of(config, vec![report(9.0), report(1.0), report(2.5)])
        };
        let switches: Vec<_> = SwitchConfig::pairs().map(switched).collect();
        let page = of(&switches);
        assert!(page.contains("| from, to | paxos | pbft | zyzzyva |"), "{page}");
        assert!(page.contains("| paxos |  | 2.50, 7 | 2.50, 7 |"), "{page}");
        assert!(page.contains("| zyzzyva | pbft | 1.00 | 2.00 | 2.50 | 7 | 4.00 | 0.50 |"), "{page}");
        assert_eq!(csv(&switches).lines().count(), 1 + switches.len());
    }
}
