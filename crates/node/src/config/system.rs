use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use althing_crypto::PublicIdentity;
use althing_crypto::site::{SiteKeys, SitePublic};
use althing_protocol::paxos::{PaxosConfig, PaxosSettings};
use althing_protocol::pbft::{PbftConfig, PbftSettings};
use althing_types::{ClientId, GroupId, Quorums, ReplicaId, SiteId};
use althing_wide::{Dissemination, LinkConfig, LinkPace, Resident};
use serde::{Deserialize, Serialize};

use super::error::{ConfigError, Rule};
use super::files::read_json;
use super::group::{checked_name, parse_client_id, parse_group_id};
use super::protocols::{ProtocolKind, RawPaxos, RawPbft};
use super::service::{RawService, ServiceConfig};
use super::system_settings::{DisseminationKind, RawSystemSettings};
use crate::ahead::VerifierAhead;

/// Clients from here on are names for what sites say themselves.
const RESERVED_CLIENTS: u64 = 1 << 63;

/// A system file as it is written: the same at all servers of all sites, and at their clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSystem {
    /// The system's name.
    pub name: String,
    /// Its id, as 32 hexadecimal digits.
    pub id: String,
    /// The protocol among the sites.
    pub protocol: ProtocolKind,
    /// Sites that may be faulty.
    pub f: usize,
    /// The sites, by number.
    pub sites: Vec<RawSystemSite>,
    /// The clients of all sites.
    pub clients: Vec<RawResident>,
    /// What the sites replicate.
    pub service: RawService,
    /// Settings of PBFT among the sites.
    #[serde(default = "wide_pbft")]
    pub pbft: RawPbft,
    /// Settings of Paxos among the sites.
    #[serde(default = "wide_paxos")]
    pub paxos: RawPaxos,
    /// How the sites speak to each other.
    #[serde(default)]
    pub settings: RawSystemSettings,
}

/// A site of a system, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSystemSite {
    /// Its name, which is that of its group.
    pub name: String,
    /// What its servers run among themselves.
    pub protocol: ProtocolKind,
    /// How many servers it has.
    pub servers: usize,
    /// How many of them may be faulty.
    pub f: usize,
    /// The key that it signs with, as text.
    pub public_key: String,
}

/// A client of a site, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawResident {
    /// Its id, as decimal text.
    pub id: String,
    /// The name of the site where it lives.
    pub site: String,
    /// Its public key, as text.
    pub public_key: String,
    /// Its sessions: clients with ids from its own on.
    pub sessions: u16,
}

fn wide_pbft() -> RawPbft {
    RawPbft::among_sites()
}

fn wide_paxos() -> RawPaxos {
    RawPaxos::like(&RawPbft::among_sites())
}

/// A site of a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemSite {
    /// Its name, which is that of its group.
    pub name: String,
    /// What its servers run among themselves.
    pub protocol: ProtocolKind,
    /// Their quorums.
    pub quorums: Quorums,
    /// The key that it signs with.
    pub public: SitePublic,
}

/// A checked system file.
#[derive(Debug, Clone)]
pub struct SystemConfig {
    name: String,
    id: GroupId,
    protocol: ProtocolKind,
    quorums: Quorums,
    sites: Vec<SystemSite>,
    keys: SiteKeys,
    residents: BTreeMap<ClientId, Resident>,
    service: ServiceConfig,
    pbft: PbftSettings,
    paxos: PaxosSettings,
    pace: LinkPace,
    settings: RawSystemSettings,
}

impl SystemConfig {
    /// Reads and checks a system file.
    ///
    /// # Errors
    /// When it can't be read or breaks a rule.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::try_from(read_json::<RawSystem>(path)?).map_err(ConfigError::rule(path))
    }

    /// The system's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names the system in whatever its sites and clients sign.
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// The protocol among the sites.
    #[must_use]
    pub fn protocol(&self) -> ProtocolKind {
        self.protocol
    }

    /// The quorums of sites.
    #[must_use]
    pub fn quorums(&self) -> Quorums {
        self.quorums
    }

    /// The sites, by number.
    #[must_use]
    pub fn sites(&self) -> &[SystemSite] {
        &self.sites
    }

    /// The number of the site of this name.
    ///
    /// # Errors
    /// [`Rule::UnknownSite`].
    pub fn site_named(&self, name: &str) -> Result<SiteId, Rule> {
        site_named(&self.sites, name)
    }

    /// The sites with their numbers.
    pub fn numbered(&self) -> impl Iterator<Item = (SiteId, &SystemSite)> {
        (0u16..).map(SiteId).zip(&self.sites)
    }

    /// All clients, each session by its id.
    #[must_use]
    pub fn residents(&self) -> &BTreeMap<ClientId, Resident> {
        &self.residents
    }

    /// What the sites replicate: no component, and no system in turn.
    #[must_use]
    pub fn service(&self) -> &ServiceConfig {
        &self.service
    }

    /// How the sites speak to each other.
    #[must_use]
    pub fn settings(&self) -> &RawSystemSettings {
        &self.settings
    }

    /// The public keys of all sites. Whoever asks this file shares what was found good: the parts of one server.
    #[must_use]
    pub fn keys(&self) -> SiteKeys {
        self.keys.clone()
    }

    /// What the links of a site go by.
    #[must_use]
    pub fn links(&self, site: SiteId) -> LinkConfig {
        let groups = self.sites.iter().map(|site| site.quorums).collect();
        LinkConfig { site, groups, pace: self.pace }
    }

    /// Who carries updates.
    #[must_use]
    pub fn dissemination(&self) -> Dissemination {
        match self.settings.dissemination {
            DisseminationKind::Leader => Dissemination::Leader,
            kind @ (DisseminationKind::Origin | DisseminationKind::Vouched) => Dissemination::Origin {
                slots: self.settings.bundles,
                most_bytes: self.settings.max_bundle_bytes,
                window_bytes: self.settings.bundle_window_bytes,
                is_vouching: kind == DisseminationKind::Vouched,
            },
        }
    }

    /// The settings of PBFT for one site.
    ///
    /// # Panics
    /// When there is no such site, or the sites do not run it.
    #[must_use]
    pub fn pbft(&self, site: SiteId) -> PbftConfig {
        PbftConfig::new(ReplicaId(site.0), self.quorums, self.pbft.clone())
            .expect("checked when the file was read")
    }

    /// The settings of Paxos for one site.
    ///
    /// # Panics
    /// When there is no such site, or the sites do not run it.
    #[must_use]
    pub fn paxos(&self, site: SiteId) -> PaxosConfig {
        PaxosConfig::new(ReplicaId(site.0), self.quorums, self.paxos.clone())
            .expect("checked when the file was read")
    }
}

impl TryFrom<RawSystem> for SystemConfig {
    type Error = Rule;

    fn try_from(raw: RawSystem) -> Result<Self, Rule> {
        let quorums = match raw.protocol {
            ProtocolKind::Pbft | ProtocolKind::Paxos => raw.protocol.quorums(raw.sites.len(), raw.f)?,
            _ => return Err(Rule::SystemProtocol),
        };
        let service = match raw.service {
            RawService::Kv => ServiceConfig::Kv,
            RawService::Null { reply_bytes } => ServiceConfig::Null { reply_bytes },
            RawService::Own { name } => ServiceConfig::Own(name),
            RawService::Component(_) | RawService::Site(_) => return Err(Rule::SystemService),
        };
        let sites = raw.sites.into_iter().map(RawSystemSite::check).collect::<Result<Vec<_>, _>>()?;
        check_distinct(&sites)?;
        let pbft = separating(raw.pbft.settings(), raw.settings.dissemination);
        let paxos = PaxosSettings { separate_bytes: pbft.separate_bytes, ..raw.paxos.settings() };
        let (batch_requests, batch_bytes) = match raw.protocol {
            ProtocolKind::Paxos => {
                PaxosConfig::new(ReplicaId(0), quorums, paxos.clone()).map_err(Rule::Paxos)?;
                (paxos.max_batch_requests, paxos.max_batch_bytes)
            }
            _ => {
                check_wide(&pbft)?;
                PbftConfig::new(ReplicaId(0), quorums, pbft.clone()).map_err(Rule::Pbft)?;
                (pbft.max_batch_requests, pbft.max_batch_bytes)
            }
        };
        raw.settings.check((batch_requests, batch_bytes))?;
        let timeout = Duration::from_millis(raw.settings.link_timeout_ms);
        let (name, id) = (checked_name(raw.name)?, parse_group_id(&raw.id)?);
        Ok(Self {
            name,
            id,
            protocol: raw.protocol,
            quorums,
            residents: residents(&raw.clients, &sites)?,
            keys: SiteKeys::with_verifier(
                id,
                Arc::new(VerifierAhead::new(sites.iter().map(|site| site.public).collect())),
            ),
            sites,
            service,
            pbft,
            paxos,
            pace: LinkPace::new(timeout, raw.settings.link_floor_bytes_per_s)?,
            settings: raw.settings,
        })
    }
}

/// Where each site carries its own updates they are proposed by name; where the leading one does, they are in what it
/// proposes.
fn separating(settings: PbftSettings, dissemination: DisseminationKind) -> PbftSettings {
    PbftSettings { separate_bytes: usize::from(dissemination != DisseminationKind::Leader), ..settings }
}

/// What a logical machine can't do for the protocol that it runs.
fn check_wide(settings: &PbftSettings) -> Result<(), Rule> {
    if settings.tentative_requests != 0 {
        return Err(Rule::SystemSetting("tentative_requests"));
    }
    if settings.primary_slack != 0 {
        return Err(Rule::SystemSetting("primary_slack"));
    }
    if settings.primary_passes != 0 {
        return Err(Rule::SystemSetting("primary_passes"));
    }
    if !settings.witnesses.is_empty() {
        return Err(Rule::SystemWitnesses);
    }
    Ok(())
}

fn check_distinct(sites: &[SystemSite]) -> Result<(), Rule> {
    let (mut names, mut keys) = (BTreeSet::new(), BTreeSet::new());
    for site in sites {
        if !names.insert(&site.name) {
            return Err(Rule::DuplicateSite(site.name.clone()));
        }
        if !keys.insert(site.public.to_string()) {
            return Err(Rule::SharedSiteKey(site.name.clone()));
        }
    }
    Ok(())
}

impl RawSystemSite {
    fn check(self) -> Result<SystemSite, Rule> {
        let name = checked_name(self.name)?;
        let quorums = self.protocol.quorums(self.servers, self.f)?;
        let public: SitePublic = self
            .public_key
            .parse()
            .map_err(|source| Rule::PublicKey { who: format!("site {name}"), source })?;
        let may_lie = match self.protocol {
            ProtocolKind::Pbft => true,
            ProtocolKind::Paxos => false,
            _ => return Err(Rule::SystemProtocol),
        };
        if public.is_threshold() != may_lie {
            return Err(Rule::SiteKeyKind { site: name, may_lie });
        }
        Ok(SystemSite { name, protocol: self.protocol, quorums, public })
    }
}

/// The number of the site of this name.
fn site_named(sites: &[SystemSite], name: &str) -> Result<SiteId, Rule> {
    let found = (0u16..).zip(sites).find(|(_, site)| site.name == name);
    found.map(|(id, _)| SiteId(id)).ok_or_else(|| Rule::UnknownSite {
        name: name.to_owned(),
        known: sites.iter().map(|site| site.name.clone()).collect(),
    })
}

/// All clients, each session with its site and key.
fn residents(raw: &[RawResident], sites: &[SystemSite]) -> Result<BTreeMap<ClientId, Resident>, Rule> {
    let mut residents = BTreeMap::new();
    let mut keys = BTreeMap::new();
    for client in raw {
        let first = parse_client_id(&client.id)?;
        let site = site_named(sites, &client.site)?;
        let public: PublicIdentity = client
            .public_key
            .parse()
            .map_err(|source| Rule::PublicKey { who: format!("client {first}"), source })?;
        if let Some(other) = keys.insert(public.exchange_bytes(), first).filter(|other| *other != first) {
            let name = |client: ClientId| format!("client {client}");
            return Err(Rule::SharedKey { first: name(other), second: name(first) });
        }
        for session in 0..u64::from(client.sessions) {
            let id = ClientId(first.0.saturating_add(session));
            if id.0 >= RESERVED_CLIENTS {
                return Err(Rule::ReservedClient(id));
            }
            if residents.insert(id, Resident { site, public }).is_some() {
                return Err(Rule::DuplicateClient(id));
            }
        }
    }
    Ok(residents)
}
