use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use althing_crypto::site::{SiteSecret, SiteShares};
use althing_crypto::{Identity, PublicIdentity};
use althing_types::{ClientId, Principal, Quorums, ReplicaId, SiteId};
use althing_wide::Lane;
use serde::{Deserialize, Serialize};

use super::error::{ConfigError, Rule};
use super::files::relative_to;
use super::group::{GroupConfig, parse_client_id};
use super::service::RawMember;
use super::site::SiteKeysFile;
use super::system::SystemConfig;

/// The place of a site's server in its system, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSiteServer {
    /// The system file.
    pub system: PathBuf,
    /// The file with the site's public keys.
    pub site_keys: PathBuf,
    /// The file with what this server keeps secret for its site.
    pub site_secret: PathBuf,
    /// As which client of the site's group each server puts in order what it hears, with a session for the site
    /// itself and one for each site.
    pub lanes: Vec<RawMember>,
    /// The file with this server's secret key as that client.
    pub lane_secret: PathBuf,
    /// Where it listens for the other servers of the system.
    pub listen: SocketAddr,
    /// The other servers of the system, those of its own site too.
    pub peers: Vec<RawOutpostPeer>,
}

/// Another server of a system, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawOutpostPeer {
    /// The name of its site.
    pub site: String,
    /// Which of its servers.
    pub server: u16,
    /// Where this server reaches it.
    pub address: SocketAddr,
    /// Its public key, as text: the one that it has as a replica of its group.
    pub public_key: String,
}

/// Another server of a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutpostPeer {
    /// Its site.
    pub site: SiteId,
    /// Which of its servers.
    pub server: ReplicaId,
    /// Where it is reached.
    pub address: SocketAddr,
    /// Its public key.
    pub key: PublicIdentity,
}

/// The place of a site's server in its system, checked.
#[derive(Clone)]
pub struct SiteServerConfig {
    /// The system.
    pub system: Arc<SystemConfig>,
    /// Its site.
    pub site: SiteId,
    /// How the site's key is shared.
    pub shares: SiteShares,
    /// What this server keeps secret for it.
    pub secret: SiteSecret,
    /// The client of the group that each server is, by its first session.
    pub lanes: BTreeMap<ClientId, ReplicaId>,
    /// Which of them this server is.
    pub lane_client: ClientId,
    /// Its secret key as that.
    pub lane_identity: Identity,
    /// Where it listens for the other servers of the system.
    pub listen: SocketAddr,
    /// The other servers of the system, those of its own site too.
    pub peers: Vec<OutpostPeer>,
}

impl SiteServerConfig {
    /// The lanes of a server, each with the number of its session.
    pub fn lane_sessions(&self) -> impl Iterator<Item = (u16, Lane)> + use<> {
        let sites = (0u16..).map(SiteId).take(self.system.sites().len()).map(Lane::From);
        (0u16..).zip(std::iter::once(Lane::Control).chain(sites))
    }

    /// The client of the group that is a session of the client `first`.
    #[must_use]
    pub fn lane_id(first: ClientId, session: u16) -> ClientId {
        ClientId(first.0 + u64::from(session))
    }
}

impl fmt::Debug for SiteServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SiteServerConfig")
            .field("site", &self.site)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

impl RawSiteServer {
    /// Checks what stands in the file at `path`, for a server of the site whose group this is.
    pub(super) fn check(
        self,
        path: &Path,
        group: &GroupConfig,
        server: ReplicaId,
    ) -> Result<SiteServerConfig, ConfigError> {
        let rule = ConfigError::rule(path);
        let system = Arc::new(SystemConfig::load(&relative_to(path, &self.system))?);
        let site = check_group(&system, group).map_err(&rule)?;
        let keys = SiteKeysFile::load(&relative_to(path, &self.site_keys))?;
        if *keys.shares().public() != system.sites()[usize::from(site.0)].public {
            return Err(rule(Rule::OtherSiteKey(group.name().to_owned())));
        }
        let secret = keys.load_secret(server, &relative_to(path, &self.site_secret))?;
        let lanes = check_lanes(&self.lanes, &system, group).map_err(&rule)?;
        let own = lanes.iter().find(|(_, of)| **of == server).map(|(client, _)| *client);
        let lane_client = own.expect("each server has its lanes");
        let lane_secret = relative_to(path, &self.lane_secret);
        let lane_identity = group.secret_of(Principal::Client(lane_client), path, &lane_secret)?;
        let peers = check_peers(&self.peers, &system, (site, server)).map_err(&rule)?;
        check_keys(&peers, &system, group, (site, server)).map_err(&rule)?;
        Ok(SiteServerConfig {
            shares: keys.shares().clone(),
            system,
            site,
            secret,
            lanes,
            lane_client,
            lane_identity,
            listen: self.listen,
            peers,
        })
    }
}

/// The site that the group is, if it can be.
fn check_group(system: &SystemConfig, group: &GroupConfig) -> Result<SiteId, Rule> {
    let id = system.site_named(group.name())?;
    let site = &system.sites()[usize::from(id.0)];
    // Who leads it first is its own affair.
    let of = |quorums: Quorums| (quorums.n(), quorums.f(), quorums.model());
    if (of(site.quorums), site.protocol) != (of(group.quorums()), group.protocol()) {
        return Err(Rule::OtherSite(site.name.clone()));
    }
    if group.membership().is_some_and(|membership| !membership.is_one_machine) {
        return Err(Rule::SiteAdmins);
    }
    if group.proactive_recovery().is_some() {
        return Err(Rule::SiteRecovery);
    }
    if group.is_tentative() {
        return Err(Rule::SiteTentative);
    }
    if !group.witnesses().is_empty() {
        return Err(Rule::SiteWitnesses);
    }
    Ok(id)
}

/// Each server has one client of the group, with a session for each lane.
fn check_lanes(
    raw: &[RawMember],
    system: &SystemConfig,
    group: &GroupConfig,
) -> Result<BTreeMap<ClientId, ReplicaId>, Rule> {
    let mut lanes = BTreeMap::new();
    let needed = u16::try_from(system.sites().len() + 1).expect("a system has at most 100 sites");
    for RawMember { client, replica } in raw {
        let client = parse_client_id(client)?;
        let entry = group.clients().get(&client);
        let entry = entry.ok_or_else(|| Rule::NoSuchClient { group: group.name().to_owned(), client })?;
        if entry.sessions != needed {
            return Err(Rule::LaneSessions { client, sessions: entry.sessions, needed });
        }
        lanes.insert(client, ReplicaId(*replica));
    }
    let mut servers: Vec<ReplicaId> = lanes.values().copied().collect();
    servers.sort_unstable();
    if lanes.len() == raw.len() && servers.into_iter().eq(group.quorums().replicas()) {
        return Ok(lanes);
    }
    Err(Rule::WrongLanes { n: group.quorums().n() })
}

/// Every server of the system but this one is there, once.
fn check_peers(
    raw: &[RawOutpostPeer],
    system: &SystemConfig,
    me: (SiteId, ReplicaId),
) -> Result<Vec<OutpostPeer>, Rule> {
    let mut peers = BTreeMap::new();
    for peer in raw {
        let site = system.site_named(&peer.site)?;
        let server = ReplicaId(peer.server);
        let wrong = || Rule::WrongPeer { site: peer.site.clone(), server };
        let who = (site, server);
        if who == me || !system.sites()[usize::from(site.0)].quorums.has(server) {
            return Err(wrong());
        }
        let who_text = || format!("{server} of the site `{}`", peer.site);
        let key = peer.public_key.parse();
        let key = key.map_err(|source| Rule::PublicKey { who: who_text(), source })?;
        if peers.insert(who, OutpostPeer { site, server, address: peer.address, key }).is_some() {
            return Err(wrong());
        }
    }
    for (id, site) in system.numbered() {
        let missing = site.quorums.replicas().find(|s| (id, *s) != me && !peers.contains_key(&(id, *s)));
        if let Some(server) = missing {
            return Err(Rule::MissingPeer { site: site.name.clone(), server });
        }
    }
    Ok(peers.into_values().collect())
}

/// Channels tell servers of the system apart by their keys, and from its clients. What is in the group file itself was
/// checked with it.
fn check_keys(
    peers: &[OutpostPeer],
    system: &SystemConfig,
    group: &GroupConfig,
    (site, server): (SiteId, ReplicaId),
) -> Result<(), Rule> {
    let of_site =
        |site: SiteId, server| format!("{server} of the site `{}`", system.sites()[usize::from(site.0)].name);
    let own = group.key_of(Principal::Replica(server)).map(|key| (key, of_site(site, server)));
    let servers = peers.iter().map(|peer| (&peer.key, of_site(peer.site, peer.server)));
    let residents = system.residents().iter().map(|(id, it)| (&it.public, format!("client {id}")));
    let others = group.clients().iter().filter(|(id, _)| !system.residents().contains_key(id));
    let others = others.map(|(id, client)| (&client.key, format!("client {id} of the group")));
    let mut known: BTreeMap<[u8; 32], String> = BTreeMap::new();
    for (key, who) in own.into_iter().chain(servers) {
        if let Some(first) = known.insert(key.exchange_bytes(), who.clone()) {
            return Err(Rule::SharedKey { first, second: who });
        }
    }
    for (key, who) in residents.chain(others) {
        if let Some(server) = known.get(&key.exchange_bytes()) {
            return Err(Rule::SharedKey { first: server.clone(), second: who });
        }
    }
    Ok(())
}
