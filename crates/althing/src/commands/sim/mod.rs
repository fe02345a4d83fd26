mod sites;

use crate::output;
use althing_sim::{Family, Planted, ProtocolKind, RunReport, SimConfig, run};
use clap::Args;
use miette::{IntoDiagnostic, Result, miette};
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Run the production code of replicas and clients under thousands of faults, in virtual time
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  althing sim --protocol pbft --seeds 500\n  \
    althing sim --protocol paxos --family crash-empty --seeds 500\n  \
    althing sim --family reconfigure --protocol chain --other pbft --seeds 100\n  \
    althing sim --family twins --replicas 7 --seeds 100\n  \
    althing sim --family chaos --replicas 4 --first 17 --seeds 1     replay one seed, with its trace hash\n  \
    althing sim --planted small-quorums                              see an oracle catch a planted bug\n  \
    althing sim --sites pbft/paxos,paxos/mixed --seeds 20            whole systems of sites\n\n\
    Exit code 1 if an oracle was violated.")]
pub(crate) struct Sim {
    /// The protocol
    #[arg(long, value_parser = protocol, default_value = "pbft")]
    protocol: ProtocolKind,
    /// Where the group changes its protocol (family `reconfigure`): to this one and back, again and again
    /// [default: to any]
    #[arg(long, value_parser = protocol, value_name = "PROTOCOL", conflicts_with = "planted")]
    other: Option<ProtocolKind>,
    /// What goes wrong: `all`, or families such as loss, crash-empty, equivocate, twins, chaos
    #[arg(long, value_delimiter = ',', default_value = "all", value_name = "NAME,NAME")]
    family: Vec<String>,
    /// Sizes of the group; as many replicas are faulty as it tolerates [default: 4,7; 3,5 with Paxos]
    #[arg(long, value_delimiter = ',', value_name = "N,N")]
    replicas: Vec<usize>,
    /// Some replicas are witnesses, which agree and do not execute; of a group that runs PBFT
    #[arg(long)]
    witnesses: bool,
    /// Simulate systems of sites instead, each by its protocols: wide-area/local, or wide-area/mixed for sites of
    /// different kinds and sizes. Families are calm, faulty-servers, bad-links, partitions, sites-fail,
    /// byzantine-sites and chaos
    #[arg(long, value_delimiter = ',', value_name = "WIDE/LOCAL", conflicts_with_all = ["protocol", "other", "replicas", "planted", "witnesses"])]
    sites: Vec<String>,
    /// Seeds of each family and size
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1, value_name = "SEED")]
    first: u64,
    /// Plant a bug in what is simulated: some oracle has to catch it
    #[arg(long, value_name = "BUG")]
    planted: Option<String>,
    /// How many events before a failure are shown
    #[arg(long, default_value_t = 40, value_name = "LINES")]
    trace: usize,
    /// Print each run as one line of JSON
    #[arg(long)]
    json: bool,
}

fn protocol(name: &str) -> Result<ProtocolKind, String> {
    let found = ProtocolKind::ALL.into_iter().find(|protocol| protocol.name() == name);
    found.ok_or_else(|| {
        let names = ProtocolKind::ALL.map(ProtocolKind::name);
        format!("no protocol is named so; there are {}", names.join(", "))
    })
}

/// All runs of a family and size together.
#[derive(Default, Serialize)]
struct Sum {
    runs: u64,
    failed: u64,
    operations: u64,
    faults: u64,
    view_changes: u64,
    state_transfers: u64,
    virtual_ms: u64,
}

impl Sim {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if self.replicas.iter().any(|n| !(1..=SimConfig::MAX_REPLICAS).contains(n)) {
            return Err(miette!("--replicas takes sizes from 1 to {}", SimConfig::MAX_REPLICAS));
        }
        if !self.sites.is_empty() {
            let sweep = sites::Sweep {
                compositions: &self.sites,
                families: &self.family,
                seeds: self.first..self.first.saturating_add(self.seeds),
                trace_lines: self.trace,
                is_json: self.json,
            };
            return sweep.run();
        }
        match &self.planted {
            Some(name) => self.plant(name),
            None => self.sweep(),
        }
    }

    fn families(&self) -> Result<Vec<Family>> {
        if self.family == ["all"] {
            let protocol = self.protocol;
            let suits =
                |family: &Family| protocol.stands(*family) && !(self.witnesses && family.recovers_in_turn());
            return Ok(Family::ALL.into_iter().filter(suits).collect());
        }
        self.family.iter().map(|name| Family::from_str(name).into_diagnostic()).collect()
    }

    fn sizes(&self) -> Vec<usize> {
        match self.protocol {
            _ if !self.replicas.is_empty() => self.replicas.clone(),
            ProtocolKind::Paxos => vec![3, 5],
            _ => vec![4, 7],
        }
    }

    fn sweep(&self) -> Result<ExitCode> {
        let seeds = self.first..self.first.saturating_add(self.seeds);
        let mut configs = Vec::new();
        for family in self.families()? {
            for replicas in self.sizes() {
                let mut config = SimConfig::of(self.protocol, family, replicas, 0).into_diagnostic()?;
                if let Some(other) = self.other {
                    config = config.and(other).into_diagnostic()?;
                }
                let trace_lines = self.trace;
                let config = SimConfig { trace_lines, has_witnesses: self.witnesses, ..config };
                configs.extend(seeds.clone().map(|seed| SimConfig { seed, ..config.clone() }));
            }
        }
        let started = Instant::now();
        let sums = Mutex::new(BTreeMap::<(Family, usize), Sum>::new());
        run_side_by_side(&configs, run, |report| {
            let mut sums = sums.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            sums.entry((report.config.family, report.config.replicas)).or_default().add(report);
            if self.json {
                let _ = output::print_json(report);
            } else if let Some(failure) = &report.failure {
                show_failure(report, failure);
            } else if configs.len() == 1 {
                println!("trace hash {}", report.trace_hash);
            }
        });
        let sums = sums.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let failed: u64 = sums.values().map(|sum| sum.failed).sum();
        if !self.json {
            print_sums(&sums);
            println!("\n{} runs in {:.0} s, {failed} failed", configs.len(), started.elapsed().as_secs_f64());
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(output::FAILED) })
    }

    /// Runs a planted bug until an oracle catches it.
    fn plant(&self, name: &str) -> Result<ExitCode> {
        let planted = Planted::ALL.into_iter().find(|planted| planted.name() == name).ok_or_else(|| {
            miette!(
                "there is no planted bug `{name}`; there are {}",
                Planted::ALL.map(Planted::name).join(", ")
            )
        })?;
        for seed in self.first..self.first.saturating_add(self.seeds) {
            let report = planted.run(&planted.config(seed));
            if let Some(failure) = &report.failure {
                if self.json {
                    output::print_json(&report)?;
                } else {
                    show_failure(&report, failure);
                    println!("\nplanted: {name}; caught by the oracle `{}` at seed {seed}", failure.oracle);
                }
                return Ok(ExitCode::SUCCESS);
            }
        }
        eprintln!("the planted bug `{name}` was not caught in {} seeds", self.seeds);
        Ok(ExitCode::from(output::FAILED))
    }
}

/// Runs all configurations on as many threads as there are cores.
pub(super) fn run_side_by_side<C: Sync, R>(
    configs: &[C],
    run: impl Fn(&C) -> R + Sync,
    report: impl Fn(&R) + Sync,
) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(config) = configs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    report(&run(config));
                }
            });
        }
    });
}

impl Sum {
    fn add(&mut self, report: &RunReport) {
        self.runs += 1;
        self.failed += u64::from(!report.is_success());
        self.operations += report.operations;
        self.faults += report.faults_injected.values().sum::<u64>();
        self.view_changes += report.view_changes;
        self.state_transfers += report.state_transfers;
        self.virtual_ms += report.virtual_time_ms;
    }
}

fn show_failure(report: &RunReport, failure: &althing_sim::Failure) {
    let SimConfig { protocol, other, family, replicas, seed, .. } = &report.config;
    let other = other.map(|other| format!(" --other {other}")).unwrap_or_default();
    let witnesses = if report.config.has_witnesses { " --witnesses" } else { "" };
    println!("FAILED: {family}, {replicas} replicas, seed {seed}: {}: {}", failure.oracle, failure.message);
    failure.trace_tail.iter().for_each(|line| println!("    {line}"));
    println!("    trace hash {}", report.trace_hash);
    println!(
        "    again: althing sim --protocol {protocol}{other}{witnesses} --family {family} --replicas {replicas} --first {seed} --seeds 1"
    );
}

fn print_sums(sums: &BTreeMap<(Family, usize), Sum>) {
    println!(
        "{:<18} {:>2} {:>6} {:>7} {:>11} {:>10} {:>6} {:>10} {:>10}",
        "family", "n", "runs", "failed", "operations", "faults", "views", "transfers", "virtual s"
    );
    for ((family, replicas), sum) in sums {
        println!(
            "{:<18} {:>2} {:>6} {:>7} {:>11} {:>10} {:>6} {:>10} {:>10}",
            family.name(),
            replicas,
            sum.runs,
            sum.failed,
            sum.operations,
            sum.faults,
            sum.view_changes,
            sum.state_transfers,
            sum.virtual_ms / 1000
        );
    }
}
