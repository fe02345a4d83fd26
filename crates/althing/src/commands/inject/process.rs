use crate::commands::bench::kill;
use crate::running::{ask, block_on, status};
use althing_node::control::{Fault, Flood, Request, Status};
use althing_node::deployment::Deployment;
use clap::{Subcommand, ValueEnum};
use miette::{IntoDiagnostic, Result, miette};
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// What the names of files with pages of the state begin with.
const PAGES_PREFIX: &str = "pages-";

/// How a process is to fail.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(super) enum ProcessFault {
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
    /// A site's server: it sends nothing to other sites
    SilentForwarder,
    /// A site's server: what it sends to other sites leaves late
    SlowForwarder {
        /// By so many milliseconds
        ms: u64,
    },
    /// A site's server: it drops what other sites send
    DeafPeer,
    /// A site's server: its shares of the site's signature are wrong
    WrongShares,
    /// It is honest again
    Heal,
}

/// Where a bit goes bad.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Spot {
    /// In the service's state; its pages on disk are right
    Memory,
    /// In a page on disk; the state in memory is right
    Disk,
}

impl ProcessFault {
    /// Makes a process of a deployment fail so, and says that it does.
    pub(super) fn inject(self, deployment: &Deployment, process: &str) -> Result<()> {
        if deployment.process(process).is_none() {
            return Err(miette!("there is no process `{process}`; there are: {}", names(deployment)));
        }
        let fault = match self {
            Self::Crash => {
                let pid = crash(deployment, process)?;
                println!("{process} (process {pid}) is killed");
                return Ok(());
            }
            Self::Mute => Fault::Mute,
            Self::Lie => Fault::Lie,
            Self::Equivocate => Fault::Equivocate,
            Self::Delay { ms } => Fault::Delay { ms },
            Self::Flood { with } => Fault::Flood { with },
            Self::Corrupt { spot } => {
                match spot {
                    Spot::Memory => drop(block_on(ask(deployment, process, &Request::Corrupt))?),
                    Spot::Disk => flip_bit_of_a_page(&deployment.data_directory(process))?,
                }
                println!("a bit of the state of {process} went bad");
                return Ok(());
            }
            Self::SilentForwarder => Fault::SilentForwarder,
            Self::SlowForwarder { ms } => Fault::SlowForwarder { ms },
            Self::DeafPeer => Fault::DeafPeer,
            Self::WrongShares => Fault::WrongShares,
            Self::Heal => Fault::None,
        };
        block_on(ask(deployment, process, &Request::Inject { fault }))?;
        match fault {
            Fault::None => println!("{process} is honest again"),
            _ => println!("{process} is faulty now; `althing inject {process} heal` ends it"),
        }
        Ok(())
    }
}

/// The names of all processes, as messages show them.
pub(super) fn names(deployment: &Deployment) -> String {
    let names: Vec<_> = deployment.processes().iter().map(|process| process.name.as_str()).collect();
    names.join(", ")
}

/// Kills a process on the spot; returns which it was.
pub(super) fn crash(deployment: &Deployment, process: &str) -> Result<u32> {
    let pid = match block_on(status(deployment, process))? {
        Status::Replica(report) => report.pid,
        Status::Edge(report) => report.pid,
        Status::Links(report) => report.pid,
    };
    kill(pid)?;
    Ok(pid)
}

/// What a replica floods others with, as arguments name it.
fn flood(name: &str) -> Result<Flood, String> {
    let found = Flood::ALL.into_iter().find(|flood| flood.name() == name);
    found.ok_or_else(|| format!("`{name}` is no flood; there are {}", Flood::ALL.map(Flood::name).join(", ")))
}

/// Flips a bit in the last page of the newest file of pages: what older ones say of a page may have been replaced.
fn flip_bit_of_a_page(data: &Path) -> Result<()> {
    let mut newest = None;
    for entry in data.read_dir().into_diagnostic()? {
        let entry = entry.into_diagnostic()?;
        let number = entry.file_name().to_string_lossy().strip_prefix(PAGES_PREFIX).map(str::parse::<u64>);
        if let Some(Ok(number)) = number
            && entry.metadata().into_diagnostic()?.len() > 0
        {
            newest = newest.max(Some((number, entry.path())));
        }
    }
    let help = "it has none before its first checkpoint";
    let Some((_, path)) = newest else {
        return Err(miette!(help = help, "there is no file of pages in {}", data.display()));
    };
    let mut file = OpenOptions::new().read(true).write(true).open(path).into_diagnostic()?;
    let mut byte = [0];
    file.seek(SeekFrom::End(-1)).into_diagnostic()?;
    file.read_exact(&mut byte).into_diagnostic()?;
    byte[0] ^= 1;
    file.seek(SeekFrom::End(-1)).into_diagnostic()?;
    file.write_all(&byte).into_diagnostic()?;
    file.sync_all().into_diagnostic()
}
