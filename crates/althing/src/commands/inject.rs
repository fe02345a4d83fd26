use super::bench::kill;
use super::place::Place;
use crate::running::{ask, block_on, status};
use althing_node::control::{Fault, Flood, Request, Status};
use clap::{Args, Subcommand, ValueEnum};
use miette::{IntoDiagnostic, Result, miette};
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::ExitCode;

/// What the names of files with pages of the state begin with.
const PAGES_PREFIX: &str = "pages-";

/// Make a running replica faulty, on purpose
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  althing inject thermostat-2 lie\n  althing inject thermostat-0 crash\n  \
    althing inject thermostat-1 delay 300\n  althing inject thermostat-3 flood signatures\n  \
    althing inject thermostat-2 corrupt disk\n  althing inject thermostat-2 heal\n\n\
    `up` starts a crashed replica again by itself. A deployment takes faults only if it was made with\n\
    `up --allow-injection`; a crash needs no permission."
)]
pub(crate) struct Inject {
    #[command(flatten)]
    place: Place,
    /// The process, as `status` names it
    #[arg(value_name = "REPLICA")]
    process: String,
    #[command(subcommand)]
    fault: Kind,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Kind {
    /// Kill the process on the spot (SIGKILL)
    Crash,
    /// It runs and sends nothing
    Mute,
    /// It falsifies replies, events and state, with its real keys
    Lie,
    /// It tells some replicas the contrary of what it tells the others
    Equivocate,
    /// All that it sends leaves late
    Delay {
        /// By so many milliseconds
        ms: u64,
    },
    /// It floods the other replicas
    Flood {
        /// With what
        #[arg(value_parser = flood, default_value = "garbage", value_name = "garbage|signatures|repeats")]
        with: Flood,
    },
    /// A bit of its state goes bad, in memory or on disk, and it does not know
    Corrupt {
        /// Where
        #[arg(value_enum, default_value_t = Spot::Memory)]
        spot: Spot,
    },
    /// It is honest again
    Heal,
}

/// Where a bit goes bad.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Spot {
    /// In the service's state; its pages on disk are right
    Memory,
    /// In a page on disk; the state in memory is right
    Disk,
}

impl Inject {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let deployment = self.place.deployment()?;
        let known: Vec<_> = deployment.processes().iter().map(|process| process.name.as_str()).collect();
        if deployment.process(&self.process).is_none() {
            return Err(miette!("there is no process `{}`; there are: {}", self.process, known.join(", ")));
        }
        let fault = match self.fault {
            Kind::Crash => {
                let pid = match block_on(status(&deployment, &self.process))? {
                    Status::Replica(report) => report.pid,
                    Status::Edge(report) => report.pid,
                };
                kill(pid)?;
                println!("{} (process {pid}) is killed", self.process);
                return Ok(ExitCode::SUCCESS);
            }
            Kind::Mute => Fault::Mute,
            Kind::Lie => Fault::Lie,
            Kind::Equivocate => Fault::Equivocate,
            Kind::Delay { ms } => Fault::Delay { ms },
            Kind::Flood { with } => Fault::Flood { with },
            Kind::Corrupt { spot } => {
                match spot {
                    Spot::Memory => drop(block_on(ask(&deployment, &self.process, &Request::Corrupt))?),
                    Spot::Disk => flip_bit_of_a_page(&deployment.data_directory(&self.process))?,
                }
                println!("a bit of the state of {} went bad", self.process);
                return Ok(ExitCode::SUCCESS);
            }
            Kind::Heal => Fault::None,
        };
        block_on(ask(&deployment, &self.process, &Request::Inject { fault }))?;
        match fault {
            Fault::None => println!("{} is honest again", self.process),
            _ => println!("{} is faulty now; `althing inject {} heal` ends it", self.process, self.process),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What a replica floods others with, as arguments name it.
fn flood(name: &str) -> Result<Flood, String> {
    let found = Flood::ALL.into_iter().find(|flood| flood.name() == name);
    found.ok_or_else(|| format!("`{name}` is no flood; there are {}", Flood::ALL.map(Flood::name).join(", ")))
}

/// Flips a bit in the last page of the longest file of pages.
fn flip_bit_of_a_page(data: &Path) -> Result<()> {
    let mut longest = None;
    for entry in data.read_dir().into_diagnostic()? {
        let entry = entry.into_diagnostic()?;
        let is_pages = entry.file_name().to_string_lossy().starts_with(PAGES_PREFIX);
        let len = entry.metadata().into_diagnostic()?.len();
        longest = longest.max(Some((len, entry.path())).filter(|_| is_pages && len > 0));
    }
    let help = "it has none before its first checkpoint";
    let Some((len, path)) = longest else {
        return Err(miette!(help = help, "there is no file of pages in {}", data.display()));
    };
    let mut file = OpenOptions::new().read(true).write(true).open(path).into_diagnostic()?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(len - 1)).into_diagnostic()?;
    file.read_exact(&mut byte).into_diagnostic()?;
    byte[0] ^= 1;
    file.seek(SeekFrom::Start(len - 1)).into_diagnostic()?;
    file.write_all(&byte).into_diagnostic()?;
    file.sync_all().into_diagnostic()
}
