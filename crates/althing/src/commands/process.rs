//! The processes of a deployment: what `up` starts, one for each replica, and one for the edge or for the links between
//! sites.

use crate::running::{asked_to_end, run_to_end};
use althing_node::config::{EdgeConfig, LinksConfig, ReplicaFile};
use althing_node::{Ended, RunOptions, Services, die_with_parent, launch, run_edge, run_links, run_replica};
use clap::Args;
use miette::{IntoDiagnostic, Result};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Run one replica of a group, as its configuration says
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  althing replica --config .althing/greenhouse/processes/thermostat-0/config.json\n\n\
    Without --genesis, a replica whose directory is empty takes it that its disk is lost: it does not\n\
    vote until that is safe. Only the very first start of a new group, or of a replica that is new in it,\n\
    is a genesis."
)]
pub(crate) struct RunReplica {
    /// Its configuration, as `up` writes it
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The group is new, or this replica in it: it has never run. Does not count once it has
    #[arg(long)]
    genesis: bool,
    /// End when the process that started this one, with this id, ends
    #[arg(long, value_name = "PID")]
    die_with_parent: Option<u32>,
    /// Take what is on its disk for what somebody else may have left there, as after each turn to recover
    #[arg(long)]
    recover: bool,
    /// When the process before this one ended to recover
    #[arg(long, value_name = "NANOSECONDS", hide = true)]
    recovering_since: Option<u64>,
}

impl RunReplica {
    pub(crate) fn run(self, services: Services) -> Result<ExitCode> {
        if let Some(parent) = self.die_with_parent {
            die_with_parent(parent).into_diagnostic()?;
        }
        let file = ReplicaFile::load(&self.config).into_diagnostic()?;
        let launcher = Some(std::env::current_exe().into_diagnostic()?);
        let since = self.recover.then(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        let since = since.map(|since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        let recovering_since_ns = self.recovering_since.or(since);
        let options = RunOptions { is_genesis: self.genesis, launcher, services, recovering_since_ns };
        let ended = run_to_end(async { run_replica(file, options, asked_to_end()).await.into_diagnostic() })?;
        match ended {
            Ended::AsTold => Ok(ExitCode::SUCCESS),
            Ended::ToRecover { at_ns } => Err(self.start_afresh(at_ns)).into_diagnostic(),
        }
    }

    /// Becomes a fresh image of this program, under the same process id: whoever keeps the process, be it
    /// `up`, systemd or a container, has nothing to do. Gives back why it could not.
    fn start_afresh(&self, at_ns: u64) -> std::io::Error {
        let program = match std::env::current_exe() {
            Ok(program) => program,
            Err(error) => return error,
        };
        let mut command = std::process::Command::new(program);
        command.arg("replica").arg("--config").arg(&self.config);
        command.arg("--recovering-since").arg(at_ns.to_string());
        if let Some(parent) = self.die_with_parent {
            command.arg("--die-with-parent").arg(parent.to_string());
        }
        command.exec()
    }
}

/// Run the MQTT ends of an application's wires
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  althing edge --config .althing/greenhouse/processes/edge/config.json")]
pub(crate) struct RunEdge {
    /// Its configuration, as `up` writes it
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// End when the process that started this one, with this id, ends
    #[arg(long, value_name = "PID")]
    die_with_parent: Option<u32>,
}

impl RunEdge {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if let Some(parent) = self.die_with_parent {
            die_with_parent(parent).into_diagnostic()?;
        }
        let config = EdgeConfig::load(&self.config).into_diagnostic()?;
        run_to_end(async { run_edge(config, asked_to_end()).await.into_diagnostic() })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Run the links between the sites of a system, with the delay, the rate and the faults that are imposed on them
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  althing links --config .althing/five-sites/processes/links/config.json\n\n\
    All traffic between the sites goes through this process, sealed end to end. It is for systems of sites on\n\
    one machine: between real sites there is a real network."
)]
pub(crate) struct RunLinks {
    /// Its configuration, as `up` writes it
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// End when the process that started this one, with this id, ends
    #[arg(long, value_name = "PID")]
    die_with_parent: Option<u32>,
}

impl RunLinks {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if let Some(parent) = self.die_with_parent {
            die_with_parent(parent).into_diagnostic()?;
        }
        let config = LinksConfig::load(&self.config).into_diagnostic()?;
        run_to_end(async { run_links(config, asked_to_end()).await.into_diagnostic() })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Become another program that ends with the process that started this one
#[derive(Debug, Args)]
pub(crate) struct Launch {
    /// The process id of the one that started this one
    parent: u32,
    #[arg(last = true, required = true)]
    argv: Vec<String>,
}

impl Launch {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        Err(launch(self.parent, &self.argv)).into_diagnostic()
    }
}
