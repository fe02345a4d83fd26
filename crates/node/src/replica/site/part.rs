use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use althing_protocol::zyzzyva::Composition;
use althing_replica::{Client, ClientConfig, Limits, ReadPolicy};
use althing_types::{Instant, Principal, ReplicaId, RequestNumber, SiteId};
use althing_wide::{Lane, Outpost, OutpostConfig, ServerTimer, Station, StationOutput};

use super::late::Late;
use crate::config::{AnswerKind, ProtocolKind, ReplicaFile, ServiceConfig, SiteServerConfig};
use crate::net::{NetEvent, NetEvents, Network, NetworkHandle, StartError};
use crate::roster::Roster;
use crate::timers::Timers;
use crate::wiring;

/// How long a lane waits for its group before it asks all of it.
const LANE_RETRY: Duration = Duration::from_millis(300);

/// A network, and what it reports.
pub(in crate::replica) struct Line {
    pub(super) network: NetworkHandle,
    pub(super) events: NetEvents,
}

/// Something that came for a server of a site, and not for its replica.
pub(in crate::replica) enum SiteArrival {
    /// From another server of the system.
    Outpost(NetEvent),
    /// From a replica of the group, to a client that this server is.
    Lane(NetEvent),
}

/// What a server of a site has beside its replica.
pub(in crate::replica) struct SitePart {
    pub(super) config: SiteServerConfig,
    pub(super) me: ReplicaId,
    pub(super) station: Station,
    pub(super) timers: Timers<ServerTimer>,
    /// What leaves late, because the server was told to be a slow forwarder.
    pub(super) late: Late,
    /// To the other servers of the system.
    pub(super) outposts: Line,
    /// To the own group.
    pub(super) lanes: Line,
    /// Who is who among the other servers of the system, by slot.
    pub(super) slots: Vec<(SiteId, ReplicaId)>,
    pub(super) sessions: BTreeMap<u16, Lane>,
    /// What the own replica has answered to lanes.
    pub(super) answers: Vec<(Lane, Arc<[u8]>)>,
    pub(super) outputs: Vec<StationOutput>,
    pub(super) wrong_shares: u64,
    /// How much of the machine's evidence has been passed on.
    pub(super) accused: usize,
}

impl SitePart {
    /// What stands beside the replica of this file, if it is a site's.
    pub(in crate::replica) async fn start(
        file: &ReplicaFile,
        now: Instant,
        limits: &Limits,
    ) -> Result<Option<Self>, StartError> {
        let ServiceConfig::Site(config) = file.service() else { return Ok(None) };
        let slots = slots(config);
        let network =
            wiring::outposts(config, file.identity(), &slots, (config.site, file.replica()), limits);
        let (network, events) = Network::start(network).await?;
        let outposts = Line { network, events };
        let lanes = lane_network(file, config, limits).await?;
        let station = Station::new(
            file.replica(),
            Outpost::new(outpost_config(file, config, limits)),
            config
                .lane_sessions()
                .map(|(session, lane)| {
                    let id = SiteServerConfig::lane_id(config.lane_client, session);
                    (lane, (id, lane_client(file, config, session, now, limits)))
                })
                .collect(),
        );
        Ok(Some(Self {
            config: (**config).clone(),
            me: file.replica(),
            station,
            timers: Timers::default(),
            late: Late::default(),
            outposts,
            lanes,
            slots,
            sessions: config.lane_sessions().collect(),
            answers: Vec::new(),
            outputs: Vec::new(),
            wrong_shares: 0,
            accused: 0,
        }))
    }

    /// Whether the protocol among the sites goes wrong where one of them lies.
    pub(in crate::replica) fn tolerates_no_lies(&self) -> bool {
        self.config.system.protocol() == ProtocolKind::Paxos
    }

    /// When the next timer expires.
    pub(in crate::replica) fn next(&self) -> Option<tokio::time::Instant> {
        [self.timers.next(), self.late.next()].into_iter().flatten().min()
    }

    /// The network's name for a server of the system.
    pub(super) fn slot(&self, who: (SiteId, ReplicaId)) -> Option<Principal> {
        let slot = self.slots.iter().position(|known| *known == who)?;
        u16::try_from(slot).ok().map(|slot| Principal::Replica(ReplicaId(slot)))
    }

    pub(in crate::replica) async fn shutdown(&self) {
        self.outposts.network.shutdown().await;
        self.lanes.network.shutdown().await;
    }
}

/// The next thing that comes for a server of a site; never, where there is none.
pub(in crate::replica) async fn next_arrival(site: Option<&mut SitePart>) -> Option<SiteArrival> {
    match site {
        Some(site) => tokio::select! {
            event = site.outposts.events.recv() => event.map(SiteArrival::Outpost),
            event = site.lanes.events.recv() => event.map(SiteArrival::Lane),
        },
        None => std::future::pending().await,
    }
}

/// All servers of the system, in the order of their slots.
fn slots(config: &SiteServerConfig) -> Vec<(SiteId, ReplicaId)> {
    let servers = config.system.numbered();
    servers.flat_map(|(id, site)| site.quorums.replicas().map(move |server| (id, server))).collect()
}

/// The network over which the server is a client of its own group. With its own replica it speaks without one.
async fn lane_network(
    file: &ReplicaFile,
    config: &SiteServerConfig,
    limits: &Limits,
) -> Result<Line, StartError> {
    let me = Principal::Client(config.lane_client);
    let roster = Roster::new(file.group(), me, config.lane_identity.public());
    let mut network = wiring::network(file.group(), &roster, me, &config.lane_identity, limits);
    network.peers.retain(|peer| peer.id != Principal::Replica(file.replica()));
    let (network, events) = Network::start(network).await?;
    Ok(Line { network, events })
}

/// How many events an outpost has ordered at once.
const EVENTS_AT_ONCE: usize = 1024;

fn outpost_config(file: &ReplicaFile, config: &SiteServerConfig, limits: &Limits) -> OutpostConfig {
    let settings = config.system.settings();
    OutpostConfig {
        links: config.system.links(config.site),
        server: file.replica(),
        signer: Arc::new((config.secret.clone(), config.shares.clone())),
        keys: config.system.keys(),
        tick: Duration::from_millis(settings.tick_ms),
        window_bytes: settings.window_bytes,
        supply_bytes_per_second: settings.supply_bytes_per_s,
        operation_bytes: limits.settings().max_operation_bytes,
        events_at_once: EVENTS_AT_ONCE,
    }
}

fn lane_client(
    file: &ReplicaFile,
    config: &SiteServerConfig,
    session: u16,
    now: Instant,
    limits: &Limits,
) -> Client {
    let group = file.group();
    let id = SiteServerConfig::lane_id(config.lane_client, session);
    Client::new(ClientConfig {
        client: id,
        keyring: group.keyring(Principal::Client(id), config.lane_identity.clone()),
        quorums: group.quorums(),
        membership: group.membership(),
        limits: limits.clone(),
        auth: group.client_auth(),
        reads: ReadPolicy::Ordered,
        answers: AnswerKind::Few.into(),
        separate_bytes: group.separate_bytes(),
        composition: Composition::Zyzzyva,
        witnesses: Vec::new(),
        retry: LANE_RETRY,
        // The time in nanoseconds grows faster than a client can count: above all numbers of earlier lives.
        first_number: RequestNumber(now.0),
    })
}
