use super::place::{HOME, is_deployment};
use crate::running::{Running, block_on};
use crate::spec_file::SpecFile;
use althing_components::spec::SiteSystem;
use althing_components::{Application, Plan, Spec};
use althing_node::config::RawBroker;
use althing_node::deployment::{
    Deployment, ProvisionOptions, SitesOptions, provision_application, provision_links, provision_sites,
};
use clap::Args;
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Run an application, or a system of sites, on this machine: one process a replica or server
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  althing up examples/greenhouse.yaml\n  \
    mosquitto_sub -p PORT -t greenhouse/heater &\n  \
    mosquitto_pub -p PORT -t greenhouse/temperature -m 15\n\n\
    It runs until it is interrupted. Run again, it goes on where it stopped.")]
pub(crate) struct Up {
    /// The spec file
    #[arg(value_name = "SPEC")]
    spec: PathBuf,
    /// Where keys, configurations, logs and data lie [default: .althing/NAME]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Forget an earlier run: new keys, no data
    #[arg(long)]
    fresh: bool,
    /// Where the embedded MQTT broker listens [default: a free port of 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    mqtt: Option<SocketAddr>,
    /// Let `althing inject` make replicas faulty
    #[arg(long)]
    allow_injection: bool,
}

impl Up {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let spec = SpecFile::read(&self.spec)?.spec()?;
        let directory = self.dir.clone().unwrap_or_else(|| Path::new(HOME).join(spec.name()));
        let deployment = self.deployment(&spec, &directory)?;
        block_on(run(deployment))
    }

    /// The deployment in `directory`, made if there is none.
    fn deployment(&self, spec: &Spec, directory: &Path) -> Result<Deployment> {
        if self.fresh && is_deployment(directory) {
            std::fs::remove_dir_all(directory)
                .into_diagnostic()
                .wrap_err_with(|| format!("cannot remove {}", directory.display()))?;
        }
        let copy = directory.join("spec.yaml");
        let text = std::fs::read(&self.spec).into_diagnostic()?;
        if is_deployment(directory) {
            if std::fs::read(&copy).ok().as_deref() != Some(&text[..]) {
                return Err(miette!(
                    help = "give --fresh to forget that run, or another directory with --dir DIR",
                    "{} holds a run of another version of this spec file",
                    directory.display()
                ));
            }
            return Deployment::load(directory).into_diagnostic();
        }
        let deployment = match spec {
            Spec::Application(application) => self.provision_application(application, directory)?,
            Spec::Sites(system) => self.provision_sites(system, directory)?,
        };
        std::fs::write(&copy, text).into_diagnostic()?;
        Ok(deployment)
    }

    fn provision_application(&self, application: &Application, directory: &Path) -> Result<Deployment> {
        let plan = Plan::of(application);
        let options = ProvisionOptions {
            allow_injection: self.allow_injection,
            addresses: self.addresses(&plan)?,
            ..ProvisionOptions::default()
        };
        let beside = std::path::absolute(&self.spec).into_diagnostic()?;
        let working_directory = beside.parent().unwrap_or(Path::new("/"));
        provision_application(directory, &plan, working_directory, &options).into_diagnostic()
    }

    fn provision_sites(&self, system: &SiteSystem, directory: &Path) -> Result<Deployment> {
        let mut options = SitesOptions::suiting(system);
        options.groups.allow_injection = self.allow_injection;
        options.has_relays |= self.allow_injection;
        let (deployment, relays) = provision_sites(directory, system, &options).into_diagnostic()?;
        if !options.has_relays {
            return Ok(deployment);
        }
        provision_links(deployment, system, &relays, self.allow_injection).into_diagnostic()
    }

    /// Addresses for the replicas and the broker: all free ports unless the broker's is given.
    fn addresses(&self, plan: &Plan) -> Result<Vec<SocketAddr>> {
        let Some(mqtt) = self.mqtt else { return Ok(Vec::new()) };
        let replicas = plan.groups().iter().map(|group| usize::from(group.n)).sum();
        let mut addresses = althing_node::deployment::free_ports(replicas).into_diagnostic()?;
        addresses.push(mqtt);
        Ok(addresses)
    }
}

async fn run(deployment: Deployment) -> Result<ExitCode> {
    let running = Running::start(deployment).await?;
    let (name, directory) = (running.deployment.name(), running.deployment.directory().display());
    println!("{name} runs: {} processes, their logs in {directory}", running.deployment.processes().len());
    match running.deployment.broker() {
        Some(RawBroker::Embedded { address }) => println!("MQTT broker: {address} (embedded)"),
        Some(RawBroker::External { host, port }) => println!("MQTT broker: {host}:{port}"),
        None => {}
    }
    println!("In another terminal: althing status --dir {directory}");
    println!("Ctrl-C ends it.");
    running.until_asked_to_end().await;
    Ok(ExitCode::SUCCESS)
}
