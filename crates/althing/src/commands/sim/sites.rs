//! Systems of sites.

use super::run_side_by_side;
use crate::output;
use althing_sim::sites::{Composition, SitesConfig, SitesFamily, SitesReport, simulate};
use miette::{IntoDiagnostic, Result};
use std::collections::BTreeMap;
use std::ops::Range;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::Instant;

/// One run in so many has the signatures that sites make outside of simulations: such a run takes long.
const REAL_SIGNATURES: u64 = 64;

/// What is to be run.
pub(super) struct Sweep<'a> {
    pub(super) compositions: &'a [String],
    pub(super) families: &'a [String],
    pub(super) seeds: Range<u64>,
    pub(super) trace_lines: usize,
    pub(super) is_json: bool,
}

/// All runs of a composition and family together.
#[derive(Default)]
struct Sum {
    runs: u64,
    failed: u64,
    updates: u64,
    messages: u64,
    slowest_recovery_ms: u64,
}

impl Sum {
    fn add(&mut self, report: &SitesReport) {
        self.runs += 1;
        self.failed += u64::from(!report.is_success());
        self.updates += report.updates;
        self.messages += report.wide_area_messages;
        self.slowest_recovery_ms = self.slowest_recovery_ms.max(report.recovery_ms);
    }
}

impl Sweep<'_> {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let configs = self.configs()?;
        let started = Instant::now();
        let sums = Mutex::new(BTreeMap::<(usize, SitesFamily), Sum>::new());
        let simulate = |(place, config): &(usize, SitesConfig)| (*place, simulate(config));
        run_side_by_side(&configs, simulate, |(place, report)| {
            let mut sums = sums.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            sums.entry((*place, report.config.family)).or_default().add(report);
            if self.is_json {
                let _ = output::print_json(report);
            } else if report.failure.is_some() {
                self.show_failure(&self.compositions[*place], report);
            } else if configs.len() == 1 {
                println!("trace hash {}", report.trace_hash);
            }
        });
        let sums = sums.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let failed: u64 = sums.values().map(|sum| sum.failed).sum();
        if !self.is_json {
            self.print_sums(&sums);
            println!("\n{} runs in {:.0} s, {failed} failed", configs.len(), started.elapsed().as_secs_f64());
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(output::FAILED) })
    }

    /// All runs, each with the place of its composition. Who disseminates updates changes from seed to seed.
    fn configs(&self) -> Result<Vec<(usize, SitesConfig)>> {
        let families: Vec<SitesFamily> = if self.families == ["all"] {
            SitesFamily::ALL.to_vec()
        } else {
            let families = self.families.iter().map(|name| SitesFamily::from_str(name));
            families.collect::<Result<_, _>>().into_diagnostic()?
        };
        let mut configs = Vec::new();
        for (place, name) in self.compositions.iter().enumerate() {
            let composition = Composition::from_str(name).into_diagnostic()?;
            for family in families.iter().copied() {
                configs.extend(self.seeds.clone().map(|seed| {
                    let config = SitesConfig {
                        composition: composition.clone(),
                        is_disseminating: seed.is_multiple_of(2),
                        has_real_signatures: seed % REAL_SIGNATURES == REAL_SIGNATURES - 1,
                        family,
                        planted: None,
                        seed,
                        trace_lines: self.trace_lines,
                    };
                    (place, config)
                }));
            }
        }
        Ok(configs)
    }

    fn show_failure(&self, composition: &str, report: &SitesReport) {
        let (Some(failure), SitesConfig { family, seed, .. }) = (&report.failure, &report.config) else {
            return;
        };
        println!("FAILED: {composition}, {family}, seed {seed}: {}: {}", failure.oracle, failure.message);
        failure.trace_tail.iter().for_each(|line| println!("    {line}"));
        println!("    trace hash {}", report.trace_hash);
        println!("    again: althing sim --sites {composition} --family {family} --first {seed} --seeds 1");
    }

    fn print_sums(&self, sums: &BTreeMap<(usize, SitesFamily), Sum>) {
        println!(
            "{:<12} {:<16} {:>6} {:>7} {:>9} {:>11} {:>17}",
            "sites", "family", "runs", "failed", "updates", "messages", "slowest recovery"
        );
        for ((place, family), sum) in sums {
            println!(
                "{:<12} {:<16} {:>6} {:>7} {:>9} {:>11} {:>14} ms",
                self.compositions[*place],
                family.name(),
                sum.runs,
                sum.failed,
                sum.updates,
                sum.messages,
                sum.slowest_recovery_ms
            );
        }
    }
}
