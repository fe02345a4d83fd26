use althing_components::plan::SitePlan;
use althing_components::spec::SiteSystem;
use althing_types::SiteId;

use super::{DeployedProcess, Deployment, ProcessKind, Relay, process_directory};
use crate::config::{ConfigError, RawLinks, RawWay, create_directory, write_json};

/// Adds the process of the links between its sites to a deployment, with these ways.
///
/// # Errors
/// When its files can't be written.
pub fn provision_links(
    deployment: Deployment,
    system: &SiteSystem,
    relays: &[Relay],
    allow_injection: bool,
) -> Result<Deployment, ConfigError> {
    let Deployment { directory, mut content } = deployment;
    let own = process_directory(&directory, SitePlan::LINKS);
    create_directory(&own)?;
    write_json(&own.join("config.json"), &links(system, relays, allow_injection))?;
    // First, so that the servers find what they connect through.
    let process = DeployedProcess { name: SitePlan::LINKS.to_owned(), runs: ProcessKind::Links };
    content.processes.insert(0, process);
    Deployment::save(&directory, content)
}

fn links(system: &SiteSystem, relays: &[Relay], allow_injection: bool) -> RawLinks {
    let name = |site: SiteId| system.sites()[usize::from(site.0)].name().to_owned();
    let way = |relay: &Relay| RawWay {
        from: name(relay.from),
        to: name(relay.to),
        listen: relay.listen,
        server: relay.forward,
    };
    RawLinks {
        system: system.name().to_owned(),
        control: "control.sock".into(),
        delay_ms: u64::try_from(system.links().delay().as_millis()).unwrap_or(u64::MAX),
        uplink_bps: system.links().uplink_bps(),
        allow_injection,
        sites: system.sites().iter().map(|site| site.name().to_owned()).collect(),
        ways: relays.iter().map(way).collect(),
    }
}
