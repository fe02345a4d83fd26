use super::bench::kill;
use super::place::Place;
use crate::running::{ask, block_on, status};
use althing_node::control::{Fault, Flood, Request, Status};
use clap::{Args, Subcommand};
use miette::{Result, miette};
use std::process::ExitCode;

/// Make a running replica faulty, on purpose
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  althing inject thermostat-2 lie\n  althing inject thermostat-0 crash\n  \
    althing inject thermostat-1 delay 300\n  althing inject thermostat-3 flood signatures\n  althing inject thermostat-2 heal\n\n\
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
    /// It is honest again
    Heal,
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
