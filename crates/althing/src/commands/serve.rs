use super::place::{HOME, is_deployment};
use crate::running::{Running, block_on};
use althing_node::Services;
use althing_node::config::{ProtocolKind, RawService};
use althing_node::deployment::{Deployment, ProvisionOptions, ServiceGroup, provision_service};
use althing_replica::Durability;
use clap::Args;
use miette::{IntoDiagnostic, Result, miette};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The key-value store, as a service is named.
const KV: &str = "kv";

/// Run a replicated service on this machine, one process a replica, until interrupted
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  althing serve kv\n  althing serve kv --faults 2 --durability none\n  \
    althing serve kv --protocol paxos      three replicas that crash and do not lie\n\n\
    A program of your own can bring more services along: see \"Writing a service\" in the guide.")]
pub(crate) struct Serve {
    /// The service: `kv`, or one that this program brings along
    service: String,
    /// The protocol: `pbft` where replicas may do anything, `paxos` where they crash and do not lie
    #[arg(long, value_parser = super::protocol, default_value = "pbft")]
    protocol: ProtocolKind,
    /// Faults to tolerate: 3f + 1 replicas with PBFT, 2f + 1 with Paxos
    #[arg(long, default_value_t = 1)]
    faults: usize,
    /// Clients that a new group knows, named client-0 and so on: two programs at once must be
    /// different ones
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// How many operations each client may have under way at a time
    #[arg(long, default_value_t = 16)]
    sessions: u16,
    /// Where keys, configurations, logs and data lie [default: .althing/SERVICE]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// What an acknowledged operation survives: `sync` the power failing everywhere at once, `async`
    /// all processes being killed and the power failing at f machines, `none` only f faulty replicas
    /// at a time
    #[arg(long, value_parser = super::durability, default_value = "sync")]
    durability: Durability,
    /// Let `althing inject` make replicas faulty
    #[arg(long)]
    allow_injection: bool,
}

impl Serve {
    pub(crate) fn run(self, services: &Services) -> Result<ExitCode> {
        let directory = self.dir.clone().unwrap_or_else(|| Path::new(HOME).join(&self.service));
        let deployment = if is_deployment(&directory) {
            Deployment::load(&directory).into_diagnostic()?
        } else {
            self.provision(&directory, services)?
        };
        block_on(async {
            let running = Running::start(deployment).await?;
            let replicas = running.deployment.processes().len();
            println!("`{}` runs: {replicas} replicas, in {}", self.service, directory.display());
            println!("In another terminal: althing status --dir {}", directory.display());
            println!("Ctrl-C ends it.");
            running.until_asked_to_end().await;
            Ok(ExitCode::SUCCESS)
        })
    }

    fn provision(&self, directory: &Path, services: &Services) -> Result<Deployment> {
        let service = if services.names().any(|name| name == self.service) {
            RawService::Own { name: self.service.clone() }
        } else if self.service == KV {
            RawService::Kv
        } else {
            let known: Vec<_> = services.names().chain([KV]).collect();
            return Err(miette!("there is no service `{}`; there are: {}", self.service, known.join(", ")));
        };
        let group = ServiceGroup {
            name: self.service.clone(),
            n: self.protocol.least_replicas(self.faults),
            f: self.faults,
            protocol: self.protocol,
            durability: self.durability,
            service,
            clients: self.clients,
            sessions: self.sessions,
        };
        let options =
            ProvisionOptions { allow_injection: self.allow_injection, ..ProvisionOptions::default() };
        provision_service(directory, &group, &options).into_diagnostic()
    }
}
