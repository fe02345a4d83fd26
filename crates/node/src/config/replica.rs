use std::path::{Path, PathBuf};
use std::sync::Arc;

use althing_components::{Sink, WireId};
use althing_crypto::Identity;
use althing_types::{Principal, ReplicaId};
use serde::{Deserialize, Serialize};

use super::client::{ClientFile, RawClient};
use super::error::{ConfigError, Rule};
use super::files::{read_json, read_secret, relative_to};
use super::group::{GroupConfig, checked_name};
use super::service::{RawService, ServiceConfig};

/// A replica file as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawReplica {
    /// The process's name.
    pub name: String,
    /// The group file.
    pub group: PathBuf,
    /// Which replica to run. Where the members of the group change, its key says that.
    pub replica: u16,
    /// The file with its secret key.
    pub secret_key: PathBuf,
    /// The directory of its log: what is lost when a replica restarts empty.
    pub data: PathBuf,
    /// The control socket.
    pub control: PathBuf,
    /// What it runs.
    pub service: RawService,
    /// How it carries events to other groups, if it does.
    #[serde(default)]
    pub courier: Option<RawCourier>,
    /// Whether the control socket may make it faulty.
    #[serde(default)]
    pub allow_injection: bool,
}

/// A courier as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCourier {
    /// This replica's own group, as whose client it acknowledges.
    pub own: RawClient,
    /// The groups that it delivers to.
    pub consumers: Vec<RawConsumer>,
}

/// A group that a courier delivers to, as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConsumer {
    /// The group, as whose client this replica delivers.
    pub client: RawClient,
    /// The wires that lead there.
    pub wires: Vec<u32>,
}

/// A checked replica file.
#[derive(Debug, Clone)]
pub struct ReplicaFile {
    name: String,
    group: Arc<GroupConfig>,
    replica: ReplicaId,
    identity: Identity,
    data: PathBuf,
    control: PathBuf,
    service: ServiceConfig,
    courier: Option<CourierConfig>,
    allow_injection: bool,
}

/// How a replica carries events to other groups, checked.
#[derive(Debug, Clone)]
pub struct CourierConfig {
    /// The replica as a client of its own group.
    pub own: ClientFile,
    /// The groups that it delivers to.
    pub consumers: Vec<ConsumerConfig>,
}

/// A group that a courier delivers to, checked.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// The replica as a client of that group.
    pub client: ClientFile,
    /// The wires that lead there.
    pub wires: Vec<WireId>,
}

impl ReplicaFile {
    /// Reads and checks a replica file, and the group and key files that it names.
    ///
    /// # Errors
    /// When one of them can't be read or breaks a rule.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let raw: RawReplica = read_json(path)?;
        let rule = ConfigError::rule(path);
        let secret = relative_to(path, &raw.secret_key);
        let (group, replica, identity) = own_place(path, &raw, &secret)?;
        let group = Arc::new(group);
        let service = raw.service.check(path, &group, replica)?;
        if matches!(service, ServiceConfig::Component(_)) && group.membership().is_some() {
            return Err(rule(Rule::ComponentAdmins));
        }
        if matches!(service, ServiceConfig::Component(_)) && !group.witnesses().is_empty() {
            return Err(rule(Rule::ComponentWitnesses));
        }
        let courier = raw.courier.map(|c| c.check(path, &service)).transpose()?;
        Ok(Self {
            name: checked_name(raw.name).map_err(&rule)?,
            replica,
            identity,
            data: relative_to(path, &raw.data),
            control: relative_to(path, &raw.control),
            courier,
            service,
            allow_injection: raw.allow_injection,
            group,
        })
    }

    /// The process's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &Arc<GroupConfig> {
        &self.group
    }

    /// Which replica to run.
    #[must_use]
    pub fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// Its secret keys.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The directory of its log.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The control socket.
    #[must_use]
    pub fn control(&self) -> &Path {
        &self.control
    }

    /// What it runs.
    #[must_use]
    pub fn service(&self) -> &ServiceConfig {
        &self.service
    }

    /// How it carries events to other groups, if it does.
    #[must_use]
    pub fn courier(&self) -> Option<&CourierConfig> {
        self.courier.as_ref()
    }

    /// Whether the control socket may make it faulty.
    #[must_use]
    pub fn allows_injection(&self) -> bool {
        self.allow_injection
    }
}

/// The group of a replica, which replica it is, and its secret key. Where members change, the replica goes
/// by its key: its number may be another in each epoch.
fn own_place(
    path: &Path,
    raw: &RawReplica,
    secret: &Path,
) -> Result<(GroupConfig, ReplicaId, Identity), ConfigError> {
    let file = relative_to(path, &raw.group);
    let group = GroupConfig::load(&file)?;
    let replica = ReplicaId(raw.replica);
    if group.membership().is_none() {
        let identity = group.secret_of(Principal::Replica(replica), path, secret)?;
        return Ok((group, replica, identity));
    }
    let identity: Identity = read_secret(path, secret)?;
    match GroupConfig::load_with(&file, &identity.public())? {
        Some((group, replica)) => Ok((group, replica, identity)),
        None => Err(ConfigError::rule(path)(Rule::NoPlace { path: secret.to_owned() })),
    }
}

impl RawCourier {
    fn check(self, path: &Path, service: &ServiceConfig) -> Result<CourierConfig, ConfigError> {
        let rule = ConfigError::rule(path);
        let ServiceConfig::Component(component) = service else {
            return Err(rule(Rule::UnwantedCourier));
        };
        let carries = |wire: &u32| {
            let outgoing = component.table.outgoing.get(&WireId(*wire));
            outgoing.is_some_and(|o| matches!(o.sink, Sink::Group { .. }))
        };
        let mut consumers = Vec::new();
        for RawConsumer { client, wires } in self.consumers {
            if let Some(wire) = wires.iter().find(|wire| !carries(wire)) {
                return Err(rule(Rule::WrongCourier(*wire)));
            }
            let wires = wires.into_iter().map(WireId).collect();
            consumers.push(ConsumerConfig { client: ClientFile::check(client, path)?, wires });
        }
        Ok(CourierConfig { own: ClientFile::check(self.own, path)?, consumers })
    }
}
