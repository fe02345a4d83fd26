//! One server of a simulated site, whatever its composition.

use super::config::{SitesConfig, SitesPlanted};
use super::keys::{SiteMaterial, lane_client};
use super::plan::SitesPlan;
use crate::oracle::{Execution, Ledger, Succession, Verdict};
use crate::sites::LevelProtocol;
use crate::witness::Witness;
use althing_crypto::site::SiteKeys;
use althing_protocol::paxos::{Paxos, PaxosConfig, PaxosSettings};
use althing_protocol::pbft::{Pbft, PbftConfig, PbftSettings};
use althing_protocol::zyzzyva::Composition;
use althing_protocol::{Protocol, Replicable, Settings};
use althing_replica::membership::Membership;
use althing_replica::{
    AnswerPolicy, Client, ClientConfig, Durability, EngineSettings, Injected, LimitSettings, Limits,
    ReadPolicy, Replica, ReplicaConfig, RequestAuthKind,
};
use althing_services::Kv;
use althing_types::{ClientId, Digest, Instant, Quorums, ReplicaId, RequestNumber, Seq, SiteId};
use althing_wide::{
    Dissemination, Lane, LinkConfig, LinkPace, LogicalMachine, MachineConfig, Outpost, OutpostConfig,
    Resident, ServerInput, ServerOutput, SiteServer, Treachery,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// A server, whatever protocols it runs.
pub(super) trait Server {
    fn handle(&mut self, now: Instant, input: ServerInput, outputs: &mut Vec<ServerOutput>);
    /// The last wide-area batch that it executed, and the digest of the service then.
    fn standing(&self) -> (Seq, Digest);
    /// Shows the ledger what it has executed since `from`, or since it was brought to a state.
    fn show(&self, host: usize, from: Seq, ledger: &mut Ledger) -> Verdict;
    /// What its site's group is now, as far as it knows, where that changes.
    fn membership(&self) -> Option<&Membership>;
    /// Whether its replica goes by what that epoch has agreed on.
    fn check_settings(&self, host: usize) -> Verdict;
    /// The sites that it has caught at something.
    fn accused(&self) -> Vec<SiteId>;
    fn describe(&self) -> String;
    /// Has it lie in its site's protocol.
    fn tamper(&mut self, lie: Injected);
    /// Has it betray the other sites.
    fn betray(&mut self, treachery: Treachery);
}

impl<L: Protocol, W: Replicable + std::fmt::Debug> Server for SiteServer<L, W, Witness<Kv>> {
    fn handle(&mut self, now: Instant, input: ServerInput, outputs: &mut Vec<ServerOutput>) {
        SiteServer::handle(self, now, input, outputs);
    }

    fn standing(&self) -> (Seq, Digest) {
        let machine = self.replica().service();
        (machine.executed(), machine.service().state())
    }

    fn show(&self, host: usize, from: Seq, ledger: &mut Ledger) -> Verdict {
        let machine = self.replica().service();
        let mut from = from;
        if machine.installed() > from {
            from = machine.installed();
            ledger.standing(host, from);
        }
        for seq in (from.0 + 1..=machine.executed().0).map(Seq) {
            let witnessed = Some(machine.service().at(seq).iter().collect());
            let execution = Execution { seq, batch: Digest::NULL, requests: &[], witnessed };
            ledger.executed(host, &execution)?;
        }
        ledger.state(host, machine.executed(), machine.service().state())
    }

    fn membership(&self) -> Option<&Membership> {
        self.replica().membership()
    }

    fn check_settings(&self, host: usize) -> Verdict {
        let replica = self.replica();
        let Some(membership) = replica.membership() else { return Ok(()) };
        Succession::goes_by(host, membership, replica.settings().as_ref(), replica.engine_settings())
    }

    fn tamper(&mut self, lie: Injected) {
        self.replica_mut().set_tamper(Some(Box::new(lie)));
    }

    fn betray(&mut self, treachery: Treachery) {
        self.replica_mut().service_mut().set_treachery(Some(treachery));
    }

    fn accused(&self) -> Vec<SiteId> {
        self.replica().service().evidence().iter().map(|evidence| SiteId(evidence.accused.0)).collect()
    }

    fn describe(&self) -> String {
        let (replica, machine) = (self.replica(), self.replica().service());
        let local = replica.status();
        format!(
            "{}: local {} {} in view {}, executed {}; wide {} executed {}, evidence {:?}",
            machine.site(),
            local.view,
            local.executed,
            local.is_in_view,
            local.executed,
            machine.view(),
            machine.executed(),
            machine.evidence()
        )
    }
}

/// The bounds of a site's group.
pub(super) fn limits() -> Limits {
    let settings = LimitSettings {
        max_operation_bytes: 2 << 20,
        max_message_bytes: 4 << 20,
        transfer_timeout: Duration::from_millis(100),
        ..LimitSettings::default()
    };
    Limits::new(settings).expect("valid bounds")
}

/// The quorums of a group that runs `protocol`.
pub(crate) fn quorums(protocol: LevelProtocol, n: usize) -> Quorums {
    match protocol {
        LevelProtocol::Pbft => Quorums::byzantine(n, (n - 1) / 3).expect("f follows from n"),
        LevelProtocol::Paxos => Quorums::crash(n, (n - 1) / 2).expect("f follows from n"),
    }
}

/// The same settings for Paxos, as far as it has them.
pub(crate) fn paxos_settings(settings: &PbftSettings) -> PaxosSettings {
    PaxosSettings {
        checkpoint_period: settings.checkpoint_period,
        log_size: settings.log_size,
        pipeline: settings.pipeline,
        adaptive_batching: settings.adaptive_batching,
        gather_from: settings.gather_from,
        max_batch_requests: settings.max_batch_requests,
        max_batch_bytes: settings.max_batch_bytes,
        separate_bytes: settings.separate_bytes,
        separate_patience: settings.separate_patience,
        view_timeout: settings.view_timeout,
        status_period: settings.status_period,
    }
}

/// A client of a site's group.
pub(super) fn client(
    material: &SiteMaterial,
    id: ClientId,
    retry: Duration,
    first_number: RequestNumber,
    membership: Option<Membership>,
) -> Client {
    Client::new(ClientConfig {
        client: id,
        keyring: material.client(id),
        quorums: material.quorums,
        membership,
        limits: limits(),
        auth: RequestAuthKind::Macs,
        reads: ReadPolicy::Ordered,
        answers: AnswerPolicy::Few,
        separate_bytes: 0,
        composition: Composition::Zyzzyva,
        witnesses: Vec::new(),
        retry,
        first_number,
    })
}

/// The first epoch of a site's group, where that changes.
pub(super) fn membership(
    plan: &SitesPlan,
    (site, config): (SiteId, &SitesConfig),
    material: &SiteMaterial,
) -> Option<Membership> {
    let protocol = config.composition.sites[usize::from(site.0)].protocol;
    plan.is_changing.then(|| material.membership(local_settings(protocol, &plan.local)))
}

/// What the servers of a site go by that runs this protocol.
pub(super) fn local_settings(protocol: LevelProtocol, settings: &PbftSettings) -> Settings {
    match protocol {
        LevelProtocol::Pbft => Settings::Pbft(settings.clone()),
        LevelProtocol::Paxos => Settings::Paxos(paxos_settings(settings)),
    }
}

/// All that servers are made from.
pub(super) struct Blueprint<'a> {
    pub(super) config: &'a SitesConfig,
    pub(super) plan: &'a SitesPlan,
    pub(super) materials: &'a [SiteMaterial],
    pub(super) residents: &'a BTreeMap<ClientId, Resident>,
}

impl Blueprint<'_> {
    /// A server that has yet to be started, on a machine that was down so often.
    pub(super) fn server(&self, (site, me): (SiteId, ReplicaId), incarnation: u32) -> Box<dyn Server> {
        let settings = self.plan.wide.clone();
        let sites = quorums(self.config.composition.wide, self.materials.len());
        let mut server = match self.config.composition.wide {
            LevelProtocol::Pbft => {
                let config = PbftConfig::new(ReplicaId(site.0), sites, settings).expect("valid settings");
                self.with_wide((site, me), incarnation, Pbft::new(config))
            }
            LevelProtocol::Paxos => {
                let settings = paxos_settings(&settings);
                let config = PaxosConfig::new(ReplicaId(site.0), sites, settings).expect("valid settings");
                self.with_wide((site, me), incarnation, Paxos::new(config))
            }
        };
        if let Some(lie) = self.plan.faulty.get(&(site, me)).and_then(|fault| fault.lie()) {
            server.tamper(lie);
        }
        if self.plan.traitors.contains(&(site, me)) {
            server.betray(self.plan.treacherous[&site].clone());
        }
        server
    }

    fn with_wide<W: Replicable + std::fmt::Debug + 'static>(
        &self,
        (site, me): (SiteId, ReplicaId),
        incarnation: u32,
        wide: W,
    ) -> Box<dyn Server> {
        // The machine and the outpost of one server, of nobody else.
        let keys = SiteMaterial::public(self.materials, me);
        let config = self.machine_config((site, me), keys.clone());
        let machine = LogicalMachine::new(config, wide, Witness::new(Kv::new()));
        let material = &self.materials[usize::from(site.0)];
        match self.config.composition.sites[usize::from(site.0)].protocol {
            LevelProtocol::Pbft => {
                let settings = self.plan.local.clone();
                let config = PbftConfig::new(me, material.quorums, settings).expect("valid settings");
                Box::new(self.with_local((site, me), incarnation, Pbft::new(config), (machine, keys)))
            }
            LevelProtocol::Paxos => {
                let settings = paxos_settings(&self.plan.local);
                let config = PaxosConfig::new(me, material.quorums, settings).expect("valid settings");
                Box::new(self.with_local((site, me), incarnation, Paxos::new(config), (machine, keys)))
            }
        }
    }

    fn with_local<L: Protocol, W: Replicable>(
        &self,
        (site, me): (SiteId, ReplicaId),
        incarnation: u32,
        local: L,
        (machine, keys): (LogicalMachine<W, Witness<Kv>>, SiteKeys),
    ) -> SiteServer<L, W, Witness<Kv>> {
        let material = &self.materials[usize::from(site.0)];
        let config = ReplicaConfig {
            replica: me,
            quorums: material.quorums,
            keyring: material.replica(me),
            limits: limits(),
            engine: EngineSettings::default(),
            durability: match self.config.planted {
                Some(SitesPlanted::NoDisk) => Durability::None,
                _ => self.plan.durability,
            },
            membership: membership(self.plan, (site, self.config), material),
        };
        let lane_membership = match self.config.planted {
            Some(SitesPlanted::StuckLanes) => None,
            _ => config.membership.clone(),
        };
        let lanes = self.lanes().map(|lane| {
            let id = lane_client(me, lane);
            // One that starts again has forgotten its numbers.
            let first_number = RequestNumber(1 | u64::from(incarnation) << 32);
            let membership = lane_membership.clone();
            (lane, (id, client(material, id, self.plan.local_retry, first_number, membership)))
        });
        let outpost = Outpost::new(self.outpost_config((site, me), keys));
        SiteServer::new(me, Replica::new(config, local, machine), outpost, lanes.collect())
    }

    fn lanes(&self) -> impl Iterator<Item = Lane> {
        let sites = (0u16..).take(self.materials.len()).map(|site| Lane::From(SiteId(site)));
        std::iter::once(Lane::Control).chain(sites)
    }

    fn machine_config(&self, (site, me): (SiteId, ReplicaId), keys: SiteKeys) -> MachineConfig {
        let planted = self.config.planted;
        let material = &self.materials[usize::from(site.0)];
        let servers = material.quorums.replicas();
        let lanes =
            servers.flat_map(|server| self.lanes().map(move |lane| (lane_client(server, lane), server)));
        MachineConfig {
            links: self.link_config(site),
            sites: quorums(self.config.composition.wide, self.materials.len()),
            lanes: lanes.collect(),
            keys,
            residents: self.residents.clone(),
            dissemination: if self.config.is_disseminating {
                Dissemination::Origin {
                    slots: 4,
                    most_bytes: 16 * 1024,
                    window_bytes: 20 * 1024,
                    is_vouching: self.config.seed.is_multiple_of(4),
                }
            } else {
                Dissemination::Leader
            },
            max_update_bytes: 4096,
            max_reply_bytes: 4096,
            max_message_bytes: match planted {
                Some(SitesPlanted::ShortMessages) if site == SiteId(1) => 300,
                _ => 1 << 20,
            },
            max_unacknowledged_bytes: self.plan.max_unacknowledged_bytes,
            acknowledgement_delay: match planted {
                Some(SitesPlanted::UnevenServers) => Duration::from_millis(50 + u64::from(me.0 == 0)),
                _ => Duration::from_millis(50),
            },
            relay_timeout: self.plan.relay_timeout,
        }
    }

    fn link_config(&self, site: SiteId) -> LinkConfig {
        let groups = self.materials.iter().map(|material| material.quorums).collect();
        let pace = LinkPace::new(self.plan.acknowledgement_timeout, 20_000).expect("neither is zero");
        LinkConfig { site, groups, pace }
    }

    fn outpost_config(&self, (site, me): (SiteId, ReplicaId), keys: SiteKeys) -> OutpostConfig {
        let material = &self.materials[usize::from(site.0)];
        OutpostConfig {
            links: self.link_config(site),
            server: me,
            signer: material.signer(me),
            keys,
            tick: Duration::from_millis(100),
            window_bytes: 256 * 1024,
            supply_bytes_per_second: 100_000,
            operation_bytes: 2 << 20,
            events_at_once: 1024,
        }
    }
}
