use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use althing_crypto::{Identity, Keyring, PublicIdentity};
use althing_protocol::Settings;
use althing_protocol::paxos::{PaxosConfig, PaxosSettings};
use althing_protocol::pbft::{PbftConfig, PbftSettings};
use althing_protocol::zyzzyva::{Composition, ZyzzyvaConfig, ZyzzyvaSettings};
use althing_replica::membership::{Member, Membership};
use althing_replica::{Durability, EngineSettings, ReadPolicy, RequestAuthKind, RequestAuthPolicy};
use althing_types::{ClientId, Epoch, GroupId, Principal, Quorums, ReplicaId, View};
use serde::{Deserialize, Serialize};

use super::engine::{self, RawEngine};
use super::error::{ConfigError, Rule};
use super::files::{read_json, read_secret};
use super::protocols::{ProtocolKind, RawPaxos, RawPbft, RawZyzzyva};

/// How often replicas take new keys where nothing is said.
pub(crate) const DEFAULT_KEY_REFRESH_MS: u64 = 60_000;

/// Keys that are replaced faster than this would be in flight together with the ones after the next.
const LEAST_KEY_REFRESH_MS: u64 = 1_000;

/// Others believe a key for so many periods: where they are kept from hearing of the next, and longer
/// than it takes for a few announcements to get lost.
const KEY_LIFETIME_PERIODS: u32 = 5;

/// The shortest time for one replica to recover, before the next has its turn.
pub(crate) const LEAST_SLOT_MS: u64 = 2_000;

/// A group file as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawGroup {
    /// The group's name.
    pub name: String,
    /// Its id, as 32 hexadecimal digits.
    pub id: String,
    /// The epoch in which these are the replicas: 0 for the group as it was made.
    #[serde(default)]
    pub epoch: u64,
    /// The replica that leads the first view of the epoch.
    #[serde(default)]
    pub first_primary: u16,
    /// Replicas that may be faulty.
    pub f: usize,
    /// The replicas, by number.
    pub replicas: Vec<RawReplicaEntry>,
    /// The public keys, as text, of those who may change the replicas. Where there are none, nobody may.
    #[serde(default)]
    pub admins: Vec<String>,
    /// Whether it is a site of a system: one machine to the others.
    #[serde(default)]
    pub is_site: bool,
    /// The clients.
    pub clients: Vec<RawClientEntry>,
    /// The protocol.
    #[serde(default)]
    pub protocol: ProtocolKind,
    /// Settings of PBFT.
    #[serde(default)]
    pub pbft: RawPbft,
    /// Settings of Paxos.
    #[serde(default)]
    pub paxos: RawPaxos,
    /// Settings of Zyzzyva.
    #[serde(default)]
    pub zyzzyva: RawZyzzyva,
    /// What an acknowledged operation survives.
    #[serde(default)]
    pub durability: Durability,
    /// How clients authenticate requests.
    #[serde(default)]
    pub request_auth: engine::RequestAuthKind,
    /// Requests that are accepted and not yet executed, over all clients.
    #[serde(default = "default_max_outstanding")]
    pub max_outstanding: u32,
    /// How long an accepted request counts as outstanding when others want its place.
    #[serde(default = "default_outstanding_expiry_ms")]
    pub outstanding_expiry_ms: u64,
    /// How clients read.
    #[serde(default)]
    pub reads: ReadKind,
    /// How often each replica takes new keys; 0: never.
    #[serde(default = "default_key_refresh_ms")]
    pub key_refresh_ms: u64,
    /// The time in which each replica recovers once, in turn; 0: they don't.
    #[serde(default)]
    pub proactive_recovery_ms: u64,
}

impl RawGroup {
    /// What its replicas go by whatever they run.
    pub(super) fn engine(&self) -> RawEngine {
        let Self { max_outstanding, outstanding_expiry_ms, request_auth, .. } = *self;
        RawEngine { max_outstanding, outstanding_expiry_ms, request_auth }
    }
}

fn default_key_refresh_ms() -> u64 {
    DEFAULT_KEY_REFRESH_MS
}

fn default_max_outstanding() -> u32 {
    RawEngine::default().max_outstanding
}

fn default_outstanding_expiry_ms() -> u64 {
    RawEngine::default().outstanding_expiry_ms
}

/// A replica in a group file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawReplicaEntry {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its public key, as text.
    pub public_key: String,
}

/// A client in a group file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawClientEntry {
    /// Its id, as decimal text: it does not fit the numbers of all JSON readers.
    pub id: String,
    /// What it is there for, for people.
    pub role: String,
    /// Its public key, as text.
    pub public_key: String,
    /// How many operations it may have under way at a time. Each session is a client to the group, with
    /// an id of its own: from `id` on.
    #[serde(default = "one_session")]
    pub sessions: u16,
}

/// How the clients of a group read. All of them read alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadKind {
    /// Reads are ordered like writes.
    #[default]
    Ordered,
    /// Reads are first tried without ordering; writes wait for more replicas in return.
    Fast,
}

impl From<ReadKind> for ReadPolicy {
    fn from(kind: ReadKind) -> Self {
        match kind {
            ReadKind::Ordered => Self::Ordered,
            ReadKind::Fast => Self::Fast,
        }
    }
}

/// A replica of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaEntry {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its public key.
    pub key: PublicIdentity,
}

/// A client of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientEntry {
    /// What it is there for, for people.
    pub role: String,
    /// Its public key.
    pub key: PublicIdentity,
    /// Its sessions: clients with ids from its own on.
    pub sessions: u16,
}

/// The most sessions of a client.
pub const MAX_SESSIONS: u16 = 4096;

fn one_session() -> u16 {
    1
}

/// A checked group file.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupConfig {
    name: String,
    id: GroupId,
    quorums: Quorums,
    epoch: Epoch,
    replicas: Vec<ReplicaEntry>,
    admins: Vec<PublicIdentity>,
    is_site: bool,
    clients: BTreeMap<ClientId, ClientEntry>,
    protocol: ProtocolKind,
    pbft: PbftSettings,
    paxos: PaxosSettings,
    zyzzyva: ZyzzyvaSettings,
    durability: Durability,
    engine: EngineSettings,
    reads: ReadKind,
    key_refresh: Option<Duration>,
    proactive_recovery: Option<Duration>,
}

impl GroupConfig {
    /// Reads and checks a group file.
    ///
    /// # Errors
    /// When it can't be read or breaks a rule.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::try_from(read_json::<RawGroup>(path)?).map_err(ConfigError::rule(path))
    }

    /// The group's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names the group in whatever is authenticated.
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// The group's quorums.
    #[must_use]
    pub fn quorums(&self) -> Quorums {
        self.quorums
    }

    /// The replicas, by number.
    #[must_use]
    pub fn replicas(&self) -> &[ReplicaEntry] {
        &self.replicas
    }

    /// Who belongs to the group in the epoch that the file is of; `None` where the replicas do not change.
    #[must_use]
    pub fn membership(&self) -> Option<Membership> {
        let member = |r: &ReplicaEntry| Member { key: r.key, address: r.address.to_string() };
        let settings = self.settings().filter(|_| !self.admins.is_empty())?;
        Some(Membership {
            epoch: self.epoch,
            f: u16::try_from(self.quorums.f()).expect("a group has at most 100 replicas"),
            members: self.replicas.iter().map(member).collect(),
            admins: self.admins.clone(),
            settings,
            first_primary: self.quorums.primary(View(0)),
            engine: self.engine,
            is_one_machine: self.is_site,
        })
    }

    /// Which replica has this key.
    #[must_use]
    pub fn replica_with(&self, key: &PublicIdentity) -> Option<ReplicaId> {
        self.quorums.replicas().zip(&self.replicas).find(|(_, replica)| replica.key == *key).map(|(id, _)| id)
    }

    /// The clients, by the ids of their first sessions.
    #[must_use]
    pub fn clients(&self) -> &BTreeMap<ClientId, ClientEntry> {
        &self.clients
    }

    /// The protocol that the group runs.
    #[must_use]
    pub fn protocol(&self) -> ProtocolKind {
        self.protocol
    }

    /// The settings of the protocol that the group runs; `None` where it runs none.
    #[must_use]
    pub fn settings(&self) -> Option<Settings> {
        self.settings_of(self.protocol)
    }

    /// Those that the file has for a protocol; `None` where that has none.
    #[must_use]
    pub fn settings_of(&self, protocol: ProtocolKind) -> Option<Settings> {
        match protocol {
            ProtocolKind::Pbft => Some(Settings::Pbft(self.pbft.clone())),
            ProtocolKind::Paxos => Some(Settings::Paxos(self.paxos.clone())),
            ProtocolKind::Unreplicated => None,
            speculative => {
                let composition = speculative.composition()?;
                Some(Settings::Zyzzyva(ZyzzyvaSettings { composition, ..self.zyzzyva.clone() }))
            }
        }
    }

    /// Whether replicas execute what is not decided yet.
    #[must_use]
    pub fn is_tentative(&self) -> bool {
        match self.protocol {
            ProtocolKind::Pbft => self.pbft.tentative_requests > 0,
            protocol => protocol.composition().is_some(),
        }
    }

    /// Which protocols take turns, where replicas speculate.
    #[must_use]
    pub fn composition(&self) -> Composition {
        self.protocol.composition().unwrap_or_default()
    }

    /// The replicas that agree and do not execute.
    #[must_use]
    pub fn witnesses(&self) -> &[ReplicaId] {
        match self.protocol {
            ProtocolKind::Pbft => &self.pbft.witnesses,
            _ => &[],
        }
    }

    /// What an acknowledged operation survives.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// How many requests replicas take, and which.
    #[must_use]
    pub fn engine(&self) -> EngineSettings {
        self.engine
    }

    /// How clients authenticate requests where their epoch lets them choose, or there is none.
    pub(crate) fn client_auth(&self) -> RequestAuthKind {
        match self.engine.request_auth {
            RequestAuthPolicy::SignatureOnly if self.membership().is_none() => RequestAuthKind::Signed,
            RequestAuthPolicy::SignatureOnly | RequestAuthPolicy::MacsOrSignature => RequestAuthKind::Macs,
        }
    }

    /// How clients read.
    #[must_use]
    pub fn reads(&self) -> ReadKind {
        self.reads
    }

    /// From how many bytes on an operation goes from its client to all replicas; 0: none does.
    #[must_use]
    pub fn separate_bytes(&self) -> usize {
        match self.protocol {
            ProtocolKind::Paxos => self.paxos.separate_bytes,
            ProtocolKind::Pbft | ProtocolKind::Unreplicated => self.pbft.separate_bytes,
            _ => 0,
        }
    }

    /// How often each replica takes new keys, if it does.
    #[must_use]
    pub fn key_refresh(&self) -> Option<Duration> {
        self.key_refresh
    }

    /// For how long others believe such a key at most.
    #[must_use]
    pub fn key_lifetime(&self) -> Option<Duration> {
        self.key_refresh.map(|period| period * KEY_LIFETIME_PERIODS)
    }

    /// The time in which each replica recovers once, if they do.
    #[must_use]
    pub fn proactive_recovery(&self) -> Option<Duration> {
        self.proactive_recovery
    }

    /// The public key of a member.
    #[must_use]
    pub fn key_of(&self, who: Principal) -> Option<&PublicIdentity> {
        match who {
            Principal::Replica(id) => self.replicas.get(usize::from(id.0)).map(|r| &r.key),
            Principal::Client(id) => self.session_of(id).map(|(owner, _)| &self.clients[&owner].key),
        }
    }

    /// Which session of which client has this id.
    #[must_use]
    pub fn session_of(&self, id: ClientId) -> Option<(ClientId, u16)> {
        let (first, client) = self.clients.range(..=id).next_back()?;
        let session = u16::try_from(id.0 - first.0).ok().filter(|session| *session < client.sessions)?;
        Some((*first, session))
    }

    /// The id of a session of the client whose first has the id `owner`.
    #[must_use]
    pub fn session(&self, owner: ClientId, session: u16) -> Option<ClientId> {
        let client = self.clients.get(&owner)?;
        (session < client.sessions).then(|| ClientId(owner.0 + u64::from(session)))
    }

    /// The ids of all sessions, each with its client.
    fn sessions(&self) -> impl Iterator<Item = (ClientId, &ClientEntry)> {
        self.clients.iter().flat_map(|(first, client)| {
            (0..u64::from(client.sessions)).map(move |session| (ClientId(first.0 + session), client))
        })
    }

    /// The group's keys as `me` holds them, who has `identity`.
    #[must_use]
    pub fn keyring(&self, me: Principal, identity: Identity) -> Keyring {
        let replicas = self.replicas.iter().map(|r| r.key).collect();
        let clients = match me {
            Principal::Replica(_) => self.sessions().map(|(id, client)| (id, client.key)).collect(),
            // Clients talk to replicas only.
            Principal::Client(_) => BTreeMap::new(),
        };
        let mut keyring = Keyring::new(self.id, me, identity, replicas, clients);
        self.key_lifetime().into_iter().for_each(|most| keyring.bound_lifetimes(most));
        keyring
    }

    /// Reads the secret key of `who` in the file `secret`, named by the file `config`.
    pub(super) fn secret_of(
        &self,
        who: Principal,
        config: &Path,
        secret: &Path,
    ) -> Result<Identity, ConfigError> {
        let rule = ConfigError::rule(config);
        let public = self.key_of(who).ok_or_else(|| {
            rule(match who {
                Principal::Replica(id) => {
                    Rule::NoSuchReplica { group: self.name.clone(), replica: id.0, n: self.replicas.len() }
                }
                Principal::Client(client) => Rule::NoSuchClient { group: self.name.clone(), client },
            })
        })?;
        let identity: Identity = read_secret(config, secret)?;
        if identity.public() != *public {
            return Err(rule(Rule::WrongSecret { path: secret.to_owned(), who: who.to_string() }));
        }
        Ok(identity)
    }
}

impl TryFrom<RawGroup> for GroupConfig {
    type Error = Rule;

    fn try_from(raw: RawGroup) -> Result<Self, Rule> {
        let quorums = raw.protocol.quorums(raw.replicas.len(), raw.f)?;
        let first_primary = ReplicaId(raw.first_primary);
        if !quorums.has(first_primary) {
            return Err(Rule::FirstPrimary { replica: first_primary, n: raw.replicas.len() });
        }
        let quorums = quorums.led_first_by(first_primary);
        if raw.protocol == ProtocolKind::Unreplicated && (raw.replicas.len(), raw.f) != (1, 0) {
            return Err(Rule::Unreplicated { n: raw.replicas.len(), f: raw.f });
        }
        if raw.key_refresh_ms != 0 && raw.key_refresh_ms < LEAST_KEY_REFRESH_MS {
            return Err(Rule::KeyRefresh { ms: raw.key_refresh_ms, least: LEAST_KEY_REFRESH_MS });
        }
        let least = LEAST_SLOT_MS * raw.replicas.len() as u64;
        // Who recovers has to learn from so many others what it may have said.
        let can_ask = raw.replicas.len() > quorums.agreement();
        if raw.proactive_recovery_ms != 0 && raw.key_refresh_ms == 0 {
            return Err(Rule::RecoveryWithoutKeys);
        }
        if raw.proactive_recovery_ms != 0 && !can_ask {
            let (n, others) = (raw.replicas.len(), quorums.agreement());
            return Err(Rule::NobodyToRecoverFrom { n, others });
        }
        if raw.proactive_recovery_ms != 0 && raw.proactive_recovery_ms < least {
            return Err(Rule::ProactiveRecovery { ms: raw.proactive_recovery_ms, least });
        }
        let (pbft, paxos, zyzzyva) = (
            raw.pbft.settings(),
            raw.paxos.settings(),
            raw.zyzzyva.settings(raw.protocol.composition().unwrap_or_default()),
        );
        match raw.protocol {
            ProtocolKind::Paxos => {
                PaxosConfig::new(ReplicaId(0), quorums, paxos.clone()).map_err(Rule::Paxos)?;
            }
            ProtocolKind::Pbft => {
                PbftConfig::new(ReplicaId(0), quorums, pbft.clone()).map_err(Rule::Pbft)?;
            }
            ProtocolKind::Unreplicated => {
                // Its one server executes, whatever those do that it is compared with.
                let alone = PbftSettings { witnesses: Vec::new(), ..pbft.clone() };
                PbftConfig::new(ReplicaId(0), quorums, alone).map_err(Rule::Pbft)?;
            }
            _ => {
                ZyzzyvaConfig::new(ReplicaId(0), quorums, zyzzyva.clone()).map_err(Rule::Zyzzyva)?;
            }
        }
        if raw.protocol == ProtocolKind::Pbft && !pbft.witnesses.is_empty() && raw.proactive_recovery_ms != 0
        {
            return Err(Rule::RecoveryOfWitnesses);
        }
        // A group that can change may run PBFT, and recover, in another epoch.
        let is_fixed = raw.admins.is_empty();
        if raw.protocol == ProtocolKind::Paxos && is_fixed && raw.proactive_recovery_ms != 0 {
            return Err(Rule::RecoveryOfPaxos);
        }
        if raw.protocol.composition().is_some() && is_fixed && raw.proactive_recovery_ms != 0 {
            return Err(Rule::RecoveryOfZyzzyva);
        }
        let engine = raw.engine().settings();
        engine.check()?;
        let group = Self {
            name: checked_name(raw.name)?,
            id: parse_group_id(&raw.id)?,
            quorums,
            epoch: Epoch(raw.epoch),
            is_site: raw.is_site,
            admins: raw.admins.iter().map(|text| parse_admin(text)).collect::<Result<_, _>>()?,
            replicas: quorums.replicas().zip(&raw.replicas).map(parse_replica).collect::<Result<_, _>>()?,
            clients: parse_clients(&raw.clients)?,
            protocol: raw.protocol,
            pbft,
            paxos,
            zyzzyva,
            durability: raw.durability,
            engine,
            reads: raw.reads,
            proactive_recovery: (raw.proactive_recovery_ms > 0)
                .then(|| Duration::from_millis(raw.proactive_recovery_ms)),
            key_refresh: (raw.key_refresh_ms > 0).then(|| Duration::from_millis(raw.key_refresh_ms)),
        };
        group.check_distinct()?;
        if group.is_site && group.is_tentative() {
            return Err(Rule::SiteTentative);
        }
        match group.membership() {
            Some(membership) => drop(membership.check()?),
            None if raw.epoch > 0 => return Err(Rule::EpochWithoutAdmins(raw.epoch)),
            None => {}
        }
        if group.quorums.n() == 1 && !group.admins.is_empty() {
            return Err(Rule::AdminsOfOne);
        }
        Ok(group)
    }
}

impl GroupConfig {
    /// Channels tell members apart by their keys, and addresses by who listens there.
    fn check_distinct(&self) -> Result<(), Rule> {
        let mut keys: BTreeMap<[u8; 32], Principal> = BTreeMap::new();
        let mut addresses: BTreeMap<SocketAddr, ReplicaId> = BTreeMap::new();
        let replicas = || self.quorums.replicas().zip(&self.replicas);
        for (id, replica) in replicas() {
            if let Some(first) = addresses.insert(replica.address, id) {
                return Err(Rule::SharedAddress { first, second: id });
            }
        }
        let replicas = replicas().map(|(id, r)| (Principal::Replica(id), &r.key));
        let clients = self.clients.iter().map(|(id, c)| (Principal::Client(*id), &c.key));
        for (who, key) in replicas.chain(clients) {
            if let Some(first) = keys.insert(key.exchange_bytes(), who) {
                return Err(Rule::SharedKey { first: first.to_string(), second: who.to_string() });
            }
        }
        Ok(())
    }
}

/// A name that is fit to be part of file names.
pub(super) fn checked_name(name: String) -> Result<String, Rule> {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_fit) {
        return Err(Rule::Name(name));
    }
    Ok(name)
}

/// A client id from its decimal text.
pub(super) fn parse_client_id(text: &str) -> Result<ClientId, Rule> {
    text.parse().map(ClientId).map_err(|_| Rule::ClientId(text.to_owned()))
}

/// An id from its 32 hexadecimal digits.
pub(super) fn parse_group_id(text: &str) -> Result<GroupId, Rule> {
    let wrong = || Rule::GroupId(text.to_owned());
    let is_hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let number = is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten();
    Ok(GroupId(number.ok_or_else(wrong)?.to_be_bytes()))
}

fn parse_replica((id, raw): (ReplicaId, &RawReplicaEntry)) -> Result<ReplicaEntry, Rule> {
    let key = raw.public_key.parse();
    let key = key.map_err(|source| Rule::PublicKey { who: format!("replica {id}"), source })?;
    Ok(ReplicaEntry { address: raw.address, key })
}

fn parse_admin(text: &str) -> Result<PublicIdentity, Rule> {
    text.parse().map_err(|source| Rule::PublicKey { who: "an administrator".to_owned(), source })
}

fn parse_clients(raw: &[RawClientEntry]) -> Result<BTreeMap<ClientId, ClientEntry>, Rule> {
    let mut clients: BTreeMap<ClientId, ClientEntry> = BTreeMap::new();
    for entry in raw {
        let id = parse_client_id(&entry.id)?;
        let key = entry.public_key.parse();
        let key = key.map_err(|source| Rule::PublicKey { who: format!("client {id}"), source })?;
        let sessions = entry.sessions;
        if !(1..=MAX_SESSIONS).contains(&sessions) {
            return Err(Rule::Sessions { client: id, sessions });
        }
        if clients.insert(id, ClientEntry { role: entry.role.clone(), key, sessions }).is_some() {
            return Err(Rule::DuplicateClient(id));
        }
    }
    for ((first, client), second) in clients.iter().zip(clients.keys().skip(1)) {
        if second.0 - first.0 < u64::from(client.sessions) {
            return Err(Rule::SharedSessions { first: *first, second: *second });
        }
    }
    if clients.last_key_value().is_some_and(|(last, c)| last.0.checked_add(u64::from(c.sessions)).is_none()) {
        return Err(Rule::ClientId(u64::MAX.to_string()));
    }
    Ok(clients)
}
