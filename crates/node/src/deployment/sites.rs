use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use althing_components::spec::{SiteService, SiteSpec, SiteSystem, Updates};
use althing_crypto::Identity;
use althing_crypto::site::SitePublic;
use althing_types::{ClientId, FaultModel, GroupId, ReplicaId, SiteId};

use super::provision::{Keys, Maker, Members, NewClient, ProvisionError, ProvisionOptions};
use super::{Content, DeployedClient, DeployedProcess, Deployment, ProcessKind, process_directory};
use crate::config::{
    ConfigError, DisseminationKind, RawMember, RawOutpostPeer, RawPaxos, RawPbft, RawResident, RawService,
    RawSiteServer, RawSystem, RawSystemSettings, RawSystemSite, ReadKind, SystemConfig, create_directory,
    deal_site, write_json, write_secret,
};

/// The ids of the clients that servers are to their own group begin here: above those of people and programs.
const FIRST_LANE: u64 = 1 << 40;

/// The ids of those who may change a site's group lie below those.
const FIRST_ADMIN: u64 = FIRST_LANE - (1 << 16);

/// The system file, from where the files of processes and clients lie.
const SYSTEM_FILE: &str = "system.json";

/// What there is beyond what the spec file of a system of sites says.
#[derive(Debug, Clone, PartialEq)]
pub struct SitesOptions {
    /// Settings of the groups that the sites are.
    pub groups: ProvisionOptions,
    /// Clients to make in each site: `SITE-client-0` and so on.
    pub clients: usize,
    /// The sessions of each client: how many operations it may have under way at a time.
    pub sessions: u16,
    /// Settings of PBFT among the sites; of Paxos as well, as far as they mean the same.
    pub pbft: RawPbft,
    /// How the sites speak to each other.
    pub settings: RawSystemSettings,
    /// Whether sites reach each other by way of relays.
    pub has_relays: bool,
}

/// How many bundles of a site may be under way: the window bounds what waits on the links.
const BUNDLES: u16 = 64;

/// The least that may wait on a link before no bundle leaves any more, in bytes.
const LEAST_WINDOW_BYTES: u64 = 16 * 1024;

impl SitesOptions {
    /// What suits the links of a system, with clients for people to try it.
    #[must_use]
    pub fn suiting(system: &SiteSystem) -> Self {
        let (links, usual) = (system.links(), RawSystemSettings::default());
        let delay_ms = u64::try_from(links.delay().as_millis()).unwrap_or(u64::MAX);
        let pbft = RawPbft::among_sites();
        // A link gets a part of the uplink that it shares with those to all other sites.
        let share = links.uplink_bps().map(|bps| bps / 8 / system.sites().len() as u64 / 4);
        let floor =
            share.map_or(usual.link_floor_bytes_per_s, |share| share.clamp(1, usual.link_floor_bytes_per_s));
        // What a link carries in a round trip, and while the sites do their part.
        let window = links.uplink_bps().map(|bps| {
            let (others, round_trip_ms) = (system.sites().len() as u64 - 1, 2 * delay_ms + 100);
            let window = bps / 8 / others.max(1) * round_trip_ms / 1000;
            window.clamp(LEAST_WINDOW_BYTES, usual.bundle_window_bytes)
        });
        let window = window.unwrap_or(usual.bundle_window_bytes);
        let settings = RawSystemSettings {
            // Several to a window, and as many under way as are being agreed on besides.
            max_bundle_bytes: usize::try_from(window / 4).unwrap_or(usize::MAX).min(usual.max_bundle_bytes),
            bundles: BUNDLES,
            bundle_window_bytes: window,
            dissemination: match system.updates() {
                Updates::Origin => DisseminationKind::Origin,
                Updates::Vouched => DisseminationKind::Vouched,
                Updates::Leader => DisseminationKind::Leader,
            },
            link_timeout_ms: usual.link_timeout_ms + 4 * delay_ms,
            link_floor_bytes_per_s: floor,
            relay_timeout_ms: usual.relay_timeout_ms + 8 * delay_ms,
            ..usual
        };
        Self {
            groups: ProvisionOptions::default(),
            clients: 4,
            sessions: 4,
            pbft: RawPbft {
                view_timeout_ms: pbft.view_timeout_ms + 16 * delay_ms,
                separate_patience_ms: pbft.separate_patience_ms + 4 * delay_ms,
                ..pbft
            },
            settings,
            has_relays: links.is_imposed(),
        }
    }
}

/// Where servers of one site are to reach a server of another, and where it really is.
///
/// Of two servers one dials, and both speak over that one connection. So what goes from one site to another is what
/// goes forward on the connections that its relays take, and what comes back on those that the relays of the other
/// way take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// The site whose servers dial.
    pub from: SiteId,
    /// The site that they dial.
    pub to: SiteId,
    /// Which of its servers.
    pub server: ReplicaId,
    /// Where the relay is to listen.
    pub listen: SocketAddr,
    /// Where it is to pass on what comes.
    pub forward: SocketAddr,
}

/// Makes the files of a system of sites, in a new or empty directory, with a process `SITE-N` for each server, and
/// says which relays there have to be.
///
/// # Errors
/// See [`ProvisionError`]; some files may have been written.
pub fn provision_sites(
    directory: &Path,
    system: &SiteSystem,
    options: &SitesOptions,
) -> Result<(Deployment, Vec<Relay>), ProvisionError> {
    // What a site has said can't be taken back.
    let pbft = RawPbft { tentative_requests: 0, ..options.groups.pbft.clone() };
    let groups = ProvisionOptions { pbft, reads: ReadKind::Ordered, ..options.groups.clone() };
    let servers: usize = system.sites().iter().map(|site| site.quorums().n()).sum();
    let relays = if options.has_relays { servers * (system.sites().len() - 1) } else { 0 };
    let maker = Maker::new(directory, &groups, 2 * servers + relays)?;
    create_directory(&maker.directory.join("sites"))?;
    let made = Made::sites(system, options, &maker)?;
    made.write_system()?;
    for site in &made.sites {
        made.write_site(site)?;
    }
    let deployment = Deployment::save(&maker.directory, made.content())?;
    Ok((deployment, made.relays))
}

/// A system whose keys are made.
struct Made<'a> {
    system: &'a SiteSystem,
    options: &'a SitesOptions,
    maker: &'a Maker<'a>,
    sites: Vec<MadeSite<'a>>,
    relays: Vec<Relay>,
}

struct MadeSite<'a> {
    id: SiteId,
    site: &'a SiteSpec,
    public: SitePublic,
    keys: Keys,
    /// Where its servers listen for the others of the system.
    addresses: Vec<SocketAddr>,
    /// Its clients for people and programs, before those that its servers are.
    residents: Vec<(String, ClientId)>,
    /// What each server keeps secret for the site.
    secrets: Vec<PathBuf>,
}

impl<'a> Made<'a> {
    /// Makes the keys and the group files.
    fn sites(
        system: &'a SiteSystem,
        options: &'a SitesOptions,
        maker: &'a Maker<'a>,
    ) -> Result<Self, ProvisionError> {
        let mut addresses = maker.addresses.iter().copied();
        let mut sites = Vec::new();
        for (id, site) in (0u16..).map(SiteId).zip(system.sites()) {
            sites.push(MadeSite::new((system, options), (id, site), maker, &mut addresses)?);
        }
        let relays = if options.has_relays { relays(&sites, addresses) } else { Vec::new() };
        Ok(Self { system, options, maker, sites, relays })
    }

    fn write_system(&self) -> Result<(), ProvisionError> {
        let mut id = GroupId::default();
        getrandom::fill(&mut id.0).map_err(ConfigError::Random)?;
        let site = |made: &MadeSite<'_>| RawSystemSite {
            name: made.name().to_owned(),
            protocol: made.site.local().into(),
            servers: made.site.quorums().n(),
            f: made.site.quorums().f(),
            public_key: made.public.to_string(),
        };
        let residents = self.sites.iter().flat_map(|made| {
            made.residents.iter().zip(&made.keys.clients).map(|((_, id), identity)| RawResident {
                id: id.0.to_string(),
                site: made.name().to_owned(),
                public_key: identity.public().to_string(),
                sessions: self.options.sessions,
            })
        });
        let raw = RawSystem {
            name: self.system.name().to_owned(),
            id: id.0.iter().map(|byte| format!("{byte:02x}")).collect(),
            protocol: self.system.wide().into(),
            f: self.system.quorums().f(),
            sites: self.sites.iter().map(site).collect(),
            clients: residents.collect(),
            service: match self.system.service() {
                SiteService::Kv => RawService::Kv,
            },
            paxos: RawPaxos::like(&self.options.pbft),
            pbft: self.options.pbft.clone(),
            settings: self.options.settings.clone(),
        };
        let path = self.maker.directory.join(SYSTEM_FILE);
        SystemConfig::try_from(raw.clone()).map_err(|rule| ConfigError::Rule { path: path.clone(), rule })?;
        Ok(write_json(&path, &raw)?)
    }

    fn write_site(&self, made: &MadeSite<'_>) -> Result<(), ProvisionError> {
        for (server, identity) in made.servers().zip(&made.keys.replicas) {
            let name = made.site.server_name(server);
            let service = RawService::Site(Box::new(self.place(made, server)));
            self.maker.replica(&name, made.name(), server.0, identity, |_| service, None)?;
            let directory = process_directory(&self.maker.directory, &name);
            write_secret(&directory.join("lanes.key"), made.lane_identity(server))?;
            let secret = &made.secrets[usize::from(server.0)];
            let path = directory.join("site.key");
            fs::rename(secret, &path).map_err(|source| ConfigError::Write { path, source })?;
        }
        for ((name, id), identity) in made.residents.iter().zip(&made.keys.clients) {
            let system = PathBuf::from("..").join(SYSTEM_FILE);
            self.maker.client((name, made.name()), *id, identity, Some(system))?;
        }
        if let Some(identity) = &made.keys.admin {
            let name = Deployment::site_admin(made.name());
            self.maker.client((&name, made.name()), site_admin(made.id), identity, None)?;
        }
        Ok(())
    }

    /// The place of a server in the system.
    fn place(&self, made: &MadeSite<'_>, server: ReplicaId) -> RawSiteServer {
        let lane = |of: ReplicaId| RawMember { client: lane_client(of).0.to_string(), replica: of.0 };
        let others = self.sites.iter().flat_map(|other| other.servers().map(move |server| (other, server)));
        let others = others.filter(|(other, of)| (other.id, *of) != (made.id, server));
        RawSiteServer {
            system: PathBuf::from("../..").join(SYSTEM_FILE),
            site_keys: PathBuf::from("../../sites").join(format!("{}.site.json", made.name())),
            site_secret: "site.key".into(),
            lanes: made.servers().map(lane).collect(),
            lane_secret: "lanes.key".into(),
            listen: made.address(server),
            peers: others.map(|(other, of)| self.peer(made.id, other, of)).collect(),
        }
    }

    /// A server as those of the site `from` reach it.
    fn peer(&self, from: SiteId, of: &MadeSite<'_>, server: ReplicaId) -> RawOutpostPeer {
        let is_it = |relay: &&Relay| (relay.from, relay.to, relay.server) == (from, of.id, server);
        let relay = self.relays.iter().find(is_it);
        RawOutpostPeer {
            site: of.name().to_owned(),
            server: server.0,
            address: relay.map_or(of.address(server), |relay| relay.listen),
            public_key: of.keys.replicas[usize::from(server.0)].public().to_string(),
        }
    }

    fn content(&self) -> Content {
        let of_all = || self.sites.iter();
        let client = |made: &MadeSite<'_>, name: &String| DeployedClient {
            name: name.clone(),
            group: made.name().to_owned(),
        };
        let process = |made: &MadeSite<'_>, server: ReplicaId| DeployedProcess {
            name: made.site.server_name(server),
            runs: ProcessKind::Replica { group: made.name().to_owned(), replica: server.0 },
        };
        Content {
            name: self.system.name().to_owned(),
            groups: of_all().map(|made| made.name().to_owned()).collect(),
            clients: of_all()
                .flat_map(|made| made.residents.iter().map(move |(name, _)| client(made, name)))
                .collect(),
            processes: of_all().flat_map(|made| made.servers().map(move |s| process(made, s))).collect(),
            broker: None,
        }
    }
}

impl<'a> MadeSite<'a> {
    fn new(
        (system, options): (&SiteSystem, &SitesOptions),
        (id, site): (SiteId, &'a SiteSpec),
        maker: &Maker<'_>,
        addresses: &mut impl Iterator<Item = SocketAddr>,
    ) -> Result<Self, ProvisionError> {
        let quorums = site.quorums();
        let f = (quorums.model() == FaultModel::Byzantine).then_some(quorums.f());
        let dealt = deal_site(&maker.directory.join("sites"), site.name(), quorums.n(), f)?;
        let first = u64::from(id.0) * options.clients as u64;
        let residents: Vec<_> = (0..options.clients as u64)
            .map(|i| {
                let id = ClientId(1 + (first + i) * u64::from(options.sessions));
                (format!("{}-client-{i}", site.name()), id)
            })
            .collect();
        let client = |id, role: &str, sessions| NewClient { id, role: role.to_owned(), sessions };
        let people = residents.iter().map(|(_, id)| client(*id, "client", options.sessions));
        let lanes = u16::try_from(system.sites().len() + 1).unwrap_or(u16::MAX);
        let servers = quorums.replicas().map(|server| client(lane_client(server), "server", lanes));
        let names: Vec<String> = quorums.replicas().map(|server| site.server_name(server)).collect();
        let mut group = GroupId::default();
        getrandom::fill(&mut group.0).map_err(ConfigError::Random)?;
        let keys = maker.group(&Members {
            name: site.name(),
            id: group,
            f: quorums.f(),
            protocol: site.local().into(),
            durability: system.durability(),
            proactive_recovery_ms: 0,
            replicas: names.iter().map(String::as_str).collect(),
            addresses: addresses.take(quorums.n()).collect(),
            clients: people.chain(servers).collect(),
            // One alone could not tell that the group has changed, should it lose its disk.
            admin: (quorums.n() > 1).then_some(site_admin(id)),
            is_site: true,
        })?;
        let addresses = addresses.take(quorums.n()).collect();
        let (public, secrets) = (dealt.public, dealt.secret_files);
        Ok(Self { id, site, public, keys, addresses, residents, secrets })
    }

    fn servers(&self) -> impl Iterator<Item = ReplicaId> + use<> {
        self.site.quorums().replicas()
    }

    fn name(&self) -> &str {
        self.site.name()
    }

    fn address(&self, server: ReplicaId) -> SocketAddr {
        self.addresses[usize::from(server.0)]
    }

    fn lane_identity(&self, server: ReplicaId) -> &Identity {
        &self.keys.clients[self.residents.len() + usize::from(server.0)]
    }
}

/// Who may change a site's group, as a client of it.
fn site_admin(site: SiteId) -> ClientId {
    ClientId(FIRST_ADMIN + u64::from(site.0))
}

/// The client that a server is to its own group, by its first session.
fn lane_client(server: ReplicaId) -> ClientId {
    ClientId(FIRST_LANE + (u64::from(server.0) << 16))
}

/// A relay for each site to each server of each other one.
fn relays(sites: &[MadeSite<'_>], mut addresses: impl Iterator<Item = SocketAddr>) -> Vec<Relay> {
    let pairs = sites.iter().flat_map(|from| sites.iter().map(move |to| (from.id, to)));
    let pairs = pairs.filter(|(from, to)| *from != to.id);
    let servers = pairs.flat_map(|(from, to)| to.servers().map(move |server| (from, to, server)));
    let relay = |(from, to, server): (SiteId, &MadeSite<'_>, ReplicaId)| {
        let listen = addresses.next()?;
        Some(Relay { from, to: to.id, server, listen, forward: to.address(server) })
    };
    servers.map_while(relay).collect()
}
