//! A deployment on one machine: its directory, what lies where in it, and how it is made.
//!
//! ```text
//! DIR/deployment.json                what there is
//! DIR/system.json                    the sites, where the groups are sites of one system
//! DIR/sites/SITE.site.json           what a site's servers sign with as one: what all may know
//! DIR/groups/GROUP.json              the members of a group, with addresses and public keys
//! DIR/groups/GROUP.epoch-3.json        its members after a change
//! DIR/clients/CLIENT.json, .key      clients for people and programs: operators, users, loads
//! DIR/clients/admin.json, .key       who may change the members of the group, where they change
//! DIR/processes/NAME/config.json     what a process is told
//! DIR/processes/NAME/*.key           its secret keys
//! DIR/processes/NAME/control.sock    its control socket, while it runs
//! DIR/processes/NAME/log.txt         what it says
//! DIR/processes/NAME/data/           what it keeps: removed when it restarts empty
//! ```

mod application;
mod links;
mod newcomer;
mod ports;
mod provision;
mod sites;

pub use application::provision_application;
pub use links::provision_links;
pub use newcomer::{Newcomer, NewcomerError, provision_replica};
pub use ports::{PortsError, free_ports};
pub use provision::{ProvisionError, ProvisionOptions, ServiceGroup, provision_service};
pub use sites::{Relay, SitesOptions, provision_sites};

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, RawBroker, read_json, write_json};

/// The client that may change the members of a group.
const ADMIN: &str = "admin";

/// What there is in a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    directory: PathBuf,
    content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    name: String,
    groups: Vec<String>,
    clients: Vec<DeployedClient>,
    processes: Vec<DeployedProcess>,
    broker: Option<RawBroker>,
}

/// A client that people and programs can be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployedClient {
    /// Its name.
    pub name: String,
    /// Its group.
    pub group: String,
}

/// A process of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployedProcess {
    /// Its name.
    pub name: String,
    /// What it runs.
    pub runs: ProcessKind,
}

/// What a process runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ProcessKind {
    /// A replica of a group.
    Replica {
        /// The group.
        group: String,
        /// Which replica.
        replica: u16,
    },
    /// The MQTT ends of all wires.
    Edge,
    /// The links between sites.
    Links,
}

impl Deployment {
    /// Reads what there is in the deployment at `directory`.
    ///
    /// # Errors
    /// When there is none, or its file is broken.
    pub fn load(directory: &Path) -> Result<Self, ConfigError> {
        let content = read_json(&directory.join("deployment.json"))?;
        Ok(Self { directory: directory.to_owned(), content })
    }

    fn save(directory: &Path, content: Content) -> Result<Self, ConfigError> {
        write_json(&directory.join("deployment.json"), &content)?;
        Ok(Self { directory: directory.to_owned(), content })
    }

    /// Where it lies.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The application's or the group's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.content.name
    }

    /// The names of the groups.
    #[must_use]
    pub fn groups(&self) -> &[String] {
        &self.content.groups
    }

    /// The clients for people and programs.
    #[must_use]
    pub fn clients(&self) -> &[DeployedClient] {
        &self.content.clients
    }

    /// The processes.
    #[must_use]
    pub fn processes(&self) -> &[DeployedProcess] {
        &self.content.processes
    }

    /// The process of this name.
    #[must_use]
    pub fn process(&self, name: &str) -> Option<&DeployedProcess> {
        self.content.processes.iter().find(|process| process.name == name)
    }

    /// The MQTT broker, where there are wires with MQTT ends.
    #[must_use]
    pub fn broker(&self) -> Option<&RawBroker> {
        self.content.broker.as_ref()
    }

    /// The group file of a group.
    #[must_use]
    pub fn group_file(&self, group: &str) -> PathBuf {
        group_file(&self.directory, group)
    }

    /// The client file of a client, for [`ClientFile::load`](crate::config::ClientFile::load).
    #[must_use]
    pub fn client_file(&self, client: &str) -> PathBuf {
        self.directory.join("clients").join(format!("{client}.json"))
    }

    /// The client file of who may change the members of the group, where they change.
    #[must_use]
    pub fn admin_file(&self) -> PathBuf {
        self.client_file(ADMIN)
    }

    /// The client of a site's group who may change that.
    #[must_use]
    pub fn site_admin(site: &str) -> String {
        format!("{site}-{ADMIN}")
    }

    /// The directory of a process.
    #[must_use]
    pub fn process_directory(&self, process: &str) -> PathBuf {
        process_directory(&self.directory, process)
    }

    /// The file of a process, for [`ReplicaFile::load`](crate::config::ReplicaFile::load) or
    /// [`EdgeConfig::load`](crate::config::EdgeConfig::load), or
    /// [`LinksConfig::load`](crate::config::LinksConfig::load).
    #[must_use]
    pub fn config_file(&self, process: &str) -> PathBuf {
        self.process_directory(process).join("config.json")
    }

    /// The control socket of a process.
    #[must_use]
    pub fn control_socket(&self, process: &str) -> PathBuf {
        self.process_directory(process).join("control.sock")
    }

    /// What a process says.
    #[must_use]
    pub fn log_file(&self, process: &str) -> PathBuf {
        self.process_directory(process).join("log.txt")
    }

    /// What a process keeps.
    #[must_use]
    pub fn data_directory(&self, process: &str) -> PathBuf {
        self.process_directory(process).join("data")
    }
}

fn group_file(directory: &Path, group: &str) -> PathBuf {
    directory.join("groups").join(format!("{group}.json"))
}

fn process_directory(directory: &Path, process: &str) -> PathBuf {
    directory.join("processes").join(process)
}
