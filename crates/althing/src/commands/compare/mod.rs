mod meter;
mod page;
mod picture;
mod switching;

use crate::commands::sim::run_side_by_side;
use crate::output;
use althing_sim::lab::{LabConfig, LabFault, LabProtocol, LabReport, SwitchConfig, run, switch};
use clap::Args;
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use switching::Switched;

/// Compare the protocols on equal terms, each replica on a machine with one core, in virtual time
#[derive(Debug, Args)]
#[command(
    after_help = "Replicas and clients are the production code. What handling an input takes is measured on this\n\
    machine and charged to the replica's own core; so is what a frame costs on a socket. Nothing is\n\
    on disk. `althing bench` measures real processes, which share this machine's cores.\n\n\
    Examples:\n  althing compare --out comparison\n  \
    althing compare --out comparison --protocol pbft --clients 1,64 --request-bytes 4096\n  \
    althing compare --out comparison --switching --clients 16,64"
)]
pub(crate) struct Compare {
    /// Where comparison.md, runs.csv and the pictures go, or switching.md and switching.csv; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Only this protocol; may be given more than once [default: all]
    #[arg(long, value_name = "NAME", value_parser = protocol)]
    protocol: Vec<LabProtocol>,
    /// Only with this wrong: none, uneven-links, backup-slow, backup-down or primary-down; may be given more than once
    /// [default: all, one after the other]
    #[arg(long, value_name = "NAME", value_parser = fault, conflicts_with = "switching")]
    fault: Vec<LabFault>,
    /// How many faulty replicas are tolerated
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=10))]
    f: u8,
    /// How many clients there are, each with one request under way
    #[arg(long, value_delimiter = ',', value_name = "N,N", default_value = "1,4,16,64,256",
        value_parser = clap::value_parser!(u64).range(1..=2000))]
    clients: Vec<u64>,
    /// How long requests are, in bytes
    #[arg(long, value_delimiter = ',', value_name = "N,N", default_value = "0,4096",
        value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    request_bytes: Vec<u32>,
    /// How long a message is under way between two machines, in microseconds
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    delay_us: u64,
    /// How long each run is measured, in milliseconds of virtual time
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    measured_ms: u64,
    /// How often each run is made; the one with the median throughput counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Measure instead what it costs to go from each protocol to each other under load
    #[arg(long)]
    switching: bool,
    /// Print each run as one line of JSON
    #[arg(long)]
    json: bool,
}

/// A run, and what it has shown.
struct Compared {
    config: LabConfig,
    report: LabReport,
}

impl Compare {
    pub(crate) fn run(self) -> Result<ExitCode> {
        fs::create_dir_all(&self.out)
            .into_diagnostic()
            .wrap_err_with(|| format!("{} can't be made", self.out.display()))?;
        let frame_cost = meter::frame_cost()?;
        if self.switching {
            return self.switch(frame_cost);
        }
        let configs = self.configs(frame_cost);
        let started = Instant::now();
        let compared = self.compare(&configs);
        let page = page::of(&compared);
        self.write("runs.csv", &page::csv(&compared))?;
        for (name, title, runs) in page::pictures(&compared) {
            self.write(&name, &picture::of(&title, &runs)?)?;
        }
        self.write("comparison.md", &page)?;
        if !self.json {
            println!("{page}");
        }
        let runs = configs.len() * self.rounds as usize;
        eprintln!("{runs} runs in {:.0} s", started.elapsed().as_secs_f64());
        Ok(ExitCode::SUCCESS)
    }

    fn configs(&self, frame_cost: Duration) -> Vec<LabConfig> {
        let all = LabProtocol::ALL.to_vec();
        let protocols = if self.protocol.is_empty() { &all } else { &self.protocol };
        let faults = if self.fault.is_empty() { &LabFault::ALL[..] } else { &self.fault };
        let mut configs = Vec::new();
        for fault in faults {
            for bytes in &self.request_bytes {
                for protocol in protocols.iter().filter(|p| p.has_backups() || !fault.is_of_replicas()) {
                    configs.extend(self.clients.iter().map(|clients| LabConfig {
                        fault: *fault,
                        ..self.config(*protocol, *clients, *bytes, frame_cost)
                    }));
                }
            }
        }
        configs
    }

    fn config(&self, protocol: LabProtocol, clients: u64, bytes: u32, frame_cost: Duration) -> LabConfig {
        LabConfig {
            f: self.f.into(),
            request_bytes: bytes as usize,
            delay: Duration::from_micros(self.delay_us),
            frame_cost,
            measured: Duration::from_millis(self.measured_ms),
            ..LabConfig::new(protocol, clients)
        }
    }

    /// From each protocol to each other, or from those that are asked for.
    fn switch(&self, frame_cost: Duration) -> Result<ExitCode> {
        let is_asked = |from: &LabProtocol| self.protocol.is_empty() || self.protocol.contains(from);
        let mut configs = Vec::new();
        for (from, to) in SwitchConfig::pairs().filter(|(from, _)| is_asked(from)) {
            for (bytes, clients) in
                self.request_bytes.iter().flat_map(|b| self.clients.iter().map(move |c| (b, c)))
            {
                configs.push(SwitchConfig { group: self.config(from, *clients, *bytes, frame_cost), to });
            }
        }
        let reports = self.rounds_of(&configs, |config| switch(config, &meter::worked_ns));
        let switches: Vec<_> =
            configs.into_iter().zip(reports).map(|(config, rounds)| Switched::of(config, rounds)).collect();
        let page = switching::of(&switches);
        self.write("switching.csv", &switching::csv(&switches))?;
        self.write("switching.md", &page)?;
        if !self.json {
            println!("{page}");
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Makes all runs of a round before the next begins, so that what else happens on the machine hits all alike. What
    /// the rounds of each have shown, in the order of `configs`.
    fn rounds_of<C, R>(&self, configs: &[C], run: impl Fn(&C) -> R + Sync) -> Vec<Vec<R>>
    where
        C: Serialize + Sync,
        R: Serialize + Clone + Send,
    {
        let places: Vec<usize> = (0..self.rounds).flat_map(|_| 0..configs.len()).collect();
        let reports: Mutex<BTreeMap<usize, Vec<R>>> = Mutex::default();
        run_side_by_side(
            &places,
            |place| (*place, run(&configs[*place])),
            |(place, report)| {
                if self.json {
                    let _ = output::print_json(&(&configs[*place], report));
                }
                let mut reports = reports.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                reports.entry(*place).or_default().push(report.clone());
            },
        );
        let reports = reports.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        reports.into_values().collect()
    }

    fn compare(&self, configs: &[LabConfig]) -> Vec<Compared> {
        let reports = self.rounds_of(configs, |config| run(config, &meter::worked_ns));
        let median = |(config, mut rounds): (&LabConfig, Vec<LabReport>)| {
            rounds.sort_by(|a, b| a.operations_per_s.total_cmp(&b.operations_per_s));
            let report = rounds.swap_remove(rounds.len() / 2);
            Compared { config: config.clone(), report }
        };
        configs.iter().zip(reports).map(median).collect()
    }

    fn write(&self, name: &str, contents: &str) -> Result<()> {
        let path = self.out.join(name);
        fs::write(&path, contents)
            .into_diagnostic()
            .wrap_err_with(|| format!("{} can't be written", path.display()))
    }
}

fn fault(name: &str) -> Result<LabFault> {
    let found = LabFault::ALL.into_iter().find(|fault| fault.name() == name);
    let all = || LabFault::ALL.map(LabFault::name).join(", ");
    found.ok_or_else(|| miette!("`{name}` is nothing that can be wrong; there are {}", all()))
}

fn protocol(name: &str) -> Result<LabProtocol> {
    let found = LabProtocol::ALL.into_iter().find(|protocol| protocol.name() == name);
    let all = || LabProtocol::ALL.map(LabProtocol::name).join(", ");
    found.ok_or_else(|| miette!("`{name}` is none of the protocols to compare: {}", all()))
}
