use super::{DeployedProcess, Deployment, ProcessKind, process_directory};
use crate::config::{ConfigError, RawLinks, create_directory, write_json};

/// The process of the links between sites.
const LINKS: &str = "links";

/// Adds the process of the links between its sites to a deployment.
///
/// # Errors
/// When its files can't be written.
pub fn provision_links(deployment: Deployment, links: &RawLinks) -> Result<Deployment, ConfigError> {
    let Deployment { directory, mut content } = deployment;
    let own = process_directory(&directory, LINKS);
    create_directory(&own)?;
    write_json(&own.join("config.json"), links)?;
    // First, so that the servers find what they connect through.
    content.processes.insert(0, DeployedProcess { name: LINKS.to_owned(), runs: ProcessKind::Links });
    Deployment::save(&directory, content)
}
