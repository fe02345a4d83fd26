mod costs;
mod figures;
mod picture;
mod structure;
mod table;

use crate::commands::sim::run_side_by_side;
use crate::output;
use althing_sim::wan::{CostTable, WanReport, run};
use clap::{Args, ValueEnum};
use figures::{Figure, Run, Sweep};
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Run the wide-area experiments of SRDS'07 in virtual time: five sites of sixteen servers, 10 Mbps out of each
#[derive(Debug, Args)]
#[command(
    after_help = "Figures 4 to 11 are the paper's: throughput and latency, unoptimised (4-7) and optimised\n\
    (8-11), at 50 ms (4, 5, 8, 9) and 100 ms (6, 7, 10, 11). 12 and 13 compare its way of carrying updates\n\
    with ours, at 50 ms, and 14 shows servers that fail. All of them take minutes.\n\n\
    Examples:\n  althing wan --out wan\n  althing wan --out wan --figure 8 --figure 9 --seconds 5\n  \
    althing wan --out wan --costs measured"
)]
pub(crate) struct Wan {
    /// Where runs.csv, the tables and the pictures go; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Only this figure, by its number; may be given more than once [default: all]
    #[arg(long, value_name = "NUMBER")]
    figure: Vec<u8>,
    /// What cryptography costs: the paper's RSA, or our own primitives as measured on this machine
    #[arg(long, value_enum, default_value = "paper")]
    costs: Costs,
    /// How long each run is measured, in seconds of virtual time
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How many clients there are, in place of each figure's own numbers
    #[arg(long, value_delimiter = ',', value_name = "N,N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    clients: Vec<u64>,
    /// Print each run as one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Costs {
    Paper,
    Measured,
}

impl Wan {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let figures = self.figures()?;
        fs::create_dir_all(&self.out)
            .into_diagnostic()
            .wrap_err_with(|| format!("{} can't be made", self.out.display()))?;
        let own = costs::measured();
        let costs = match self.costs {
            Costs::Paper => CostTable::paper(),
            Costs::Measured => own.clone(),
        };
        let runs = self.runs(&figures, &costs, &own);
        let started = Instant::now();
        let reports = self.reports(&runs);
        eprintln!("{} runs in {:.0} s", runs.len(), started.elapsed().as_secs_f64());
        write(&self.out, "runs.csv", &table::csv(&runs, &reports))?;
        for figure in &figures {
            let picture = picture::of(*figure, &runs, &reports)?;
            write(&self.out, &format!("figure-{}.svg", figure.number()), &picture)?;
        }
        let targets = table::targets(&runs, &reports);
        if let Some(targets) = &targets {
            write(&self.out, "targets.md", targets)?;
        }
        if !self.json {
            println!("{}", table::costs(&costs));
            println!("{}", structure::links());
            println!("{}", structure::normal_case());
            if runs.iter().any(|run| run.sweep == Sweep::Light) {
                println!("{}", table::costs(&own));
            }
            println!("{}", table::best(&runs, &reports));
            println!("{}", table::limits(&runs, &reports));
            println!("{}", table::cryptography(&runs, &reports));
            println!("{}", targets.unwrap_or_default());
        }
        Ok(ExitCode::SUCCESS)
    }

    fn figures(&self) -> Result<Vec<Figure>> {
        if self.figure.is_empty() {
            return Ok(Figure::ALL.to_vec());
        }
        let figure = |number: &u8| {
            let found = Figure::ALL.into_iter().find(|figure| figure.number() == *number);
            found.ok_or_else(|| miette!("there is no figure {number}; there are 4 to 14"))
        };
        self.figure.iter().map(figure).collect()
    }

    /// All runs that the figures need, each once.
    fn runs(&self, figures: &[Figure], costs: &CostTable, own: &CostTable) -> Vec<Run> {
        let of_figure = |figure: &Figure| figure.beside().into_iter().chain([figure.sweep()]);
        let mut sweeps: Vec<Sweep> = figures.iter().flat_map(of_figure).collect();
        sweeps.sort_unstable();
        sweeps.dedup();
        let runs = sweeps.into_iter().flat_map(|sweep| sweep.runs(&self.clients, costs, own));
        let measured = Duration::from_secs(self.seconds);
        let mut runs: Vec<Run> = runs
            .map(|mut run| {
                // What fails has a time of its own.
                if run.config.trial.is_none() {
                    run.config.measured = measured;
                }
                run
            })
            .collect();
        // What takes longest first, so that no core is left with it at the end.
        runs.sort_by_key(|run| std::cmp::Reverse((run.config.is_optimised, run.config.clients)));
        runs
    }

    /// What each run has shown, in the order of the runs.
    fn reports(&self, runs: &[Run]) -> Vec<WanReport> {
        let reports = Mutex::new(vec![None; runs.len()]);
        let done = AtomicUsize::new(0);
        let places: Vec<usize> = (0..runs.len()).collect();
        let carry_out = |place: &usize| (*place, run(&runs[*place].config));
        run_side_by_side(&places, carry_out, |(place, report)| {
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            eprintln!("{done:>4} of {}: {}", runs.len(), table::line(&runs[*place], report));
            if self.json {
                let _ = output::print_json(report);
            }
            let mut reports = reports.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            reports[*place] = Some(report.clone());
        });
        let reports = reports.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        reports.into_iter().map(|report| report.expect("each run has a report")).collect()
    }
}

fn write(directory: &Path, name: &str, contents: &str) -> Result<()> {
    let path = directory.join(name);
    fs::write(&path, contents)
        .into_diagnostic()
        .wrap_err_with(|| format!("{} can't be written", path.display()))
}
