//! The processes of a deployment: what `up` starts, one for each replica and one for the edge.

use crate::running::{asked_to_end, run_to_end};
use althing_node::config::{EdgeConfig, ReplicaFile};
use althing_node::{RunOptions, Services, die_with_parent, launch, run_edge, run_replica};
use clap::Args;
use miette::{IntoDiagnostic, Result};
use std::path::PathBuf;
use std::process::ExitCode;

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
}

impl RunReplica {
    pub(crate) fn run(self, services: Services) -> Result<ExitCode> {
        if let Some(parent) = self.die_with_parent {
            die_with_parent(parent).into_diagnostic()?;
        }
        let file = ReplicaFile::load(&self.config).into_diagnostic()?;
        let launcher = Some(std::env::current_exe().into_diagnostic()?);
        let options = RunOptions { is_genesis: self.genesis, launcher, services };
        run_to_end(async { run_replica(file, options, asked_to_end()).await.into_diagnostic() })?;
        Ok(ExitCode::SUCCESS)
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
