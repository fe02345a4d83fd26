use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use althing_crypto::Identity;
use althing_replica::Durability;
use althing_types::{ClientId, GroupId, QuorumsError};

use super::ports::{PortsError, free_ports};
use super::{
    ADMIN, Content, DeployedClient, DeployedProcess, Deployment, ProcessKind, group_file, process_directory,
};
use crate::config::{
    AnswerKind, ConfigError, DEFAULT_KEY_REFRESH_MS, GroupConfig, ProtocolKind, RawClient, RawClientEntry,
    RawEngine, RawGroup, RawPaxos, RawPbft, RawReplica, RawReplicaEntry, RawService, RawZyzzyva, ReadKind,
    RequestAuthKind, create_directory, generate_identity, write_json, write_secret,
};

/// Settings of everything that is provisioned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProvisionOptions {
    /// Settings of PBFT; of Paxos as well, as far as they mean the same.
    pub pbft: RawPbft,
    /// How clients authenticate requests.
    pub request_auth: RequestAuthKind,
    /// How clients read.
    pub reads: ReadKind,
    /// How often each replica takes new keys, in milliseconds; the usual period where absent, 0 for never.
    pub key_refresh_ms: Option<u64>,
    /// The time in which each replica of a plain service recovers once, in milliseconds; 0 for never. For an
    /// application the spec file says it.
    pub proactive_recovery_ms: u64,
    /// Whether control sockets may make replicas faulty.
    pub allow_injection: bool,
    /// Addresses for the replicas, in the order of the processes, and one for the embedded broker
    /// after them; free loopback ports where there are too few.
    pub addresses: Vec<SocketAddr>,
}

/// A group that runs a plain service, without an application around it.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceGroup {
    /// Its name: also that of the deployment.
    pub name: String,
    /// Replicas.
    pub n: usize,
    /// Replicas that may be faulty.
    pub f: usize,
    /// The protocol.
    pub protocol: ProtocolKind,
    /// What an acknowledged operation survives.
    pub durability: Durability,
    /// What it runs; not a component.
    pub service: RawService,
    /// Clients to make: `client-0` and so on, with ids from 1.
    pub clients: usize,
    /// The sessions of each client: how many operations it may have under way at a time.
    pub sessions: u16,
}

/// Why nothing was provisioned.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// A file can't be written, or what it should say breaks a rule.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There are not enough free ports.
    #[error(transparent)]
    Ports(#[from] PortsError),
    /// The group makes no sense.
    #[error(transparent)]
    Quorums(#[from] QuorumsError),
    /// There is a deployment already.
    #[error("{0}: there is a deployment here already; remove it, or choose another directory")]
    Exists(PathBuf),
}

/// Makes the files of a group that runs a plain service, in a new or empty directory.
///
/// # Errors
/// See [`ProvisionError`]; some files may have been written.
pub fn provision_service(
    directory: &Path,
    group: &ServiceGroup,
    options: &ProvisionOptions,
) -> Result<Deployment, ProvisionError> {
    let maker = Maker::new(directory, options, group.n)?;
    let mut id = GroupId::default();
    getrandom::fill(&mut id.0).map_err(ConfigError::Random)?;
    let names: Vec<String> = (0..group.n).map(|i| format!("{}-{i}", group.name)).collect();
    let clients: Vec<_> = (0..group.clients)
        .map(|i| (format!("client-{i}"), ClientId(1 + i as u64 * u64::from(group.sessions))))
        .collect();
    let plain = Members {
        name: &group.name,
        id,
        f: group.f,
        protocol: group.protocol,
        durability: group.durability,
        proactive_recovery_ms: options.proactive_recovery_ms,
        replicas: names.iter().map(String::as_str).collect(),
        addresses: maker.addresses[..group.n].to_vec(),
        clients: clients
            .iter()
            .map(|(_, id)| NewClient { id: *id, role: "client".to_owned(), sessions: group.sessions })
            .collect(),
        // One alone could not tell that the group has grown, should it lose its disk.
        admin: (group.n > 1 && group.protocol.has_successors())
            .then(|| ClientId(1 + group.clients as u64 * u64::from(group.sessions))),
        is_site: false,
    };
    let keys = maker.group(&plain)?;
    for (i, (name, identity)) in names.iter().zip(&keys.replicas).enumerate() {
        let replica = u16::try_from(i).expect("a group has at most 100 replicas");
        maker.replica(name, &group.name, replica, identity, |_| group.service.clone(), None)?;
    }
    for ((name, id), identity) in clients.iter().zip(&keys.clients) {
        maker.client((name, &group.name), *id, identity, None)?;
    }
    if let (Some(id), Some(identity)) = (plain.admin, &keys.admin) {
        maker.client((ADMIN, &group.name), id, identity, None)?;
    }
    let process = |(replica, name): (u16, String)| DeployedProcess {
        name,
        runs: ProcessKind::Replica { group: group.name.clone(), replica },
    };
    let content = Content {
        name: group.name.clone(),
        groups: vec![group.name.clone()],
        clients: clients
            .into_iter()
            .map(|(name, ..)| DeployedClient { name, group: group.name.clone() })
            .collect(),
        processes: (0..).zip(names).map(process).collect(),
        broker: None,
    };
    Ok(Deployment::save(&maker.directory, content)?)
}

/// Writes the files of a deployment.
pub(super) struct Maker<'a> {
    pub(super) directory: PathBuf,
    pub(super) options: &'a ProvisionOptions,
    pub(super) addresses: Vec<SocketAddr>,
}

/// Who belongs to a group that is made.
pub(super) struct Members<'a> {
    pub(super) name: &'a str,
    pub(super) id: GroupId,
    pub(super) f: usize,
    pub(super) protocol: ProtocolKind,
    pub(super) durability: Durability,
    pub(super) proactive_recovery_ms: u64,
    /// The names of the replicas' processes.
    pub(super) replicas: Vec<&'a str>,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) clients: Vec<NewClient>,
    /// Who may change the group, as a client.
    pub(super) admin: Option<ClientId>,
    /// Whether it is a site of a system.
    pub(super) is_site: bool,
}

/// A client of a group that is made.
pub(super) struct NewClient {
    pub(super) id: ClientId,
    /// What it is there for, for people.
    pub(super) role: String,
    pub(super) sessions: u16,
}

/// The secret keys of a group's members, in their order.
pub(super) struct Keys {
    pub(super) replicas: Vec<Identity>,
    pub(super) clients: Vec<Identity>,
    pub(super) admin: Option<Identity>,
}

impl<'a> Maker<'a> {
    /// A maker in `directory` with so many addresses.
    pub(super) fn new(
        directory: &Path,
        options: &'a ProvisionOptions,
        addresses: usize,
    ) -> Result<Self, ProvisionError> {
        create_directory(directory)?;
        // Absolute, so that a process may run elsewhere.
        let directory = fs::canonicalize(directory)
            .map_err(|source| ConfigError::Read { path: directory.to_owned(), source })?;
        if directory.join("deployment.json").exists() {
            return Err(ProvisionError::Exists(directory));
        }
        for part in ["groups", "clients", "processes"] {
            create_directory(&directory.join(part))?;
        }
        let mut given = options.addresses.clone();
        if given.len() < addresses {
            given.extend(free_ports(addresses - given.len())?);
        }
        Ok(Self { directory, options, addresses: given })
    }

    /// Makes the keys of a group and writes its file.
    pub(super) fn group(&self, members: &Members<'_>) -> Result<Keys, ProvisionError> {
        let identities = |count: usize| -> Result<Vec<Identity>, ConfigError> {
            (0..count).map(|_| generate_identity()).collect()
        };
        let keys = Keys {
            replicas: identities(members.replicas.len())?,
            clients: identities(members.clients.len())?,
            admin: members.admin.map(|_| generate_identity()).transpose()?,
        };
        let replica = |(address, identity): (&SocketAddr, &Identity)| RawReplicaEntry {
            address: *address,
            public_key: identity.public().to_string(),
        };
        let client = |(client, identity): (&NewClient, &Identity)| RawClientEntry {
            id: client.id.0.to_string(),
            role: client.role.clone(),
            public_key: identity.public().to_string(),
            sessions: client.sessions,
        };
        let clients = members.clients.iter().zip(&keys.clients).map(client);
        let admin = members.admin.zip(keys.admin.as_ref()).map(|(id, identity)| RawClientEntry {
            id: id.0.to_string(),
            role: "administrator".to_owned(),
            public_key: identity.public().to_string(),
            sessions: 1,
        });
        let engine = RawEngine::default();
        let raw = RawGroup {
            epoch: 0,
            first_primary: 0,
            is_site: members.is_site,
            admins: keys.admin.iter().map(|identity| identity.public().to_string()).collect(),
            name: members.name.to_owned(),
            id: members.id.0.iter().map(|b| format!("{b:02x}")).collect(),
            f: members.f,
            replicas: members.addresses.iter().zip(&keys.replicas).map(replica).collect(),
            clients: clients.chain(admin).collect(),
            protocol: members.protocol,
            paxos: RawPaxos::like(&self.options.pbft),
            zyzzyva: RawZyzzyva::like(&self.options.pbft),
            pbft: self.options.pbft.clone(),
            durability: members.durability,
            request_auth: self.options.request_auth,
            max_outstanding: engine.max_outstanding,
            outstanding_expiry_ms: engine.outstanding_expiry_ms,
            reads: self.options.reads,
            proactive_recovery_ms: members.proactive_recovery_ms,
            key_refresh_ms: self.options.key_refresh_ms.unwrap_or(DEFAULT_KEY_REFRESH_MS),
        };
        let path = group_file(&self.directory, members.name);
        GroupConfig::try_from(raw.clone()).map_err(|rule| ConfigError::Rule { path: path.clone(), rule })?;
        write_json(&path, &raw)?;
        Ok(keys)
    }

    /// Writes the files of a replica's process.
    pub(super) fn replica(
        &self,
        name: &str,
        group: &str,
        replica: u16,
        identity: &Identity,
        service: impl FnOnce(&Path) -> RawService,
        courier: Option<crate::config::RawCourier>,
    ) -> Result<(), ConfigError> {
        let directory = process_directory(&self.directory, name);
        create_directory(&directory)?;
        write_secret(&directory.join("replica.key"), identity)?;
        let raw = RawReplica {
            name: name.to_owned(),
            group: self.group_from_process(group),
            replica,
            secret_key: "replica.key".into(),
            data: "data".into(),
            control: "control.sock".into(),
            service: service(&directory),
            courier,
            allow_injection: self.options.allow_injection,
        };
        write_json(&directory.join("config.json"), &raw)
    }

    /// Writes the key of a client that lives in a process, and says how that process finds it.
    pub(super) fn inner_client(
        &self,
        process: &str,
        group: &str,
        id: ClientId,
        identity: &Identity,
    ) -> Result<RawClient, ConfigError> {
        let directory = process_directory(&self.directory, process);
        create_directory(&directory)?;
        let file = PathBuf::from(format!("{group}-{id}.key"));
        write_secret(&directory.join(&file), identity)?;
        // A device does not wait because a replica failed.
        Ok(RawClient::new(self.group_from_process(group), id, file, AnswerKind::All))
    }

    /// Writes the files of a client for people and programs, of a group that is a site of the system in this file if
    /// there is one.
    pub(super) fn client(
        &self,
        (name, group): (&str, &str),
        id: ClientId,
        identity: &Identity,
        system: Option<PathBuf>,
    ) -> Result<(), ConfigError> {
        let directory = self.directory.join("clients");
        let key = format!("{name}.key");
        write_secret(&directory.join(&key), identity)?;
        let group = PathBuf::from("../groups").join(format!("{group}.json"));
        let client = RawClient { system, ..RawClient::new(group, id, key.into(), AnswerKind::default()) };
        write_json(&directory.join(format!("{name}.json")), &client)
    }

    fn group_from_process(&self, group: &str) -> PathBuf {
        PathBuf::from("../../groups").join(format!("{group}.json"))
    }
}
