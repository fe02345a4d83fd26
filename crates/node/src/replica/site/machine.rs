use std::time::Duration;

use super::super::service::NodeService;
use crate::config::{ProtocolKind, SiteServerConfig};
use crate::control::{LinkReport, SiteReport};
use althing_protocol::paxos::Paxos;
use althing_protocol::pbft::Pbft;
use althing_protocol::{Evidence, Replicable};
use althing_replica::{Context, InstallError, Outcome, Pages, Service};
use althing_types::{ClientId, Instant, ReplicaId, Seq, SiteId};
use althing_wide::{LogicalMachine, MachineConfig, Station, StationInput, StationOutput};

/// A site as one machine, whatever the sites run among themselves.
pub(in crate::replica) enum SiteMachine {
    Pbft(Box<LogicalMachine<Pbft, NodeService>>),
    Paxos(Box<LogicalMachine<Paxos, NodeService>>),
}

/// Hands each call to the machine that there is.
macro_rules! each {
    ($self:expr, $machine:ident => $call:expr) => {
        match $self {
            SiteMachine::Pbft($machine) => $call,
            SiteMachine::Paxos($machine) => $call,
        }
    };
}

impl SiteMachine {
    /// The machine in its initial state, with this service.
    pub(in crate::replica) fn new(config: &SiteServerConfig, service: NodeService) -> Self {
        let (system, site) = (&config.system, config.site);
        let machine = machine_config(config);
        match system.protocol() {
            ProtocolKind::Paxos => {
                let machine = LogicalMachine::new(machine, Paxos::new(system.paxos(site)), service);
                Self::Paxos(Box::new(machine))
            }
            // The file of a system names none of the others.
            _ => {
                let machine = LogicalMachine::new(machine, Pbft::new(system.pbft(site)), service);
                Self::Pbft(Box::new(machine))
            }
        }
    }

    /// What the sites replicate.
    pub(in crate::replica) fn service(&self) -> &NodeService {
        each!(self, machine => machine.service())
    }

    /// What sites were caught at.
    pub(super) fn evidence(&self) -> &[Evidence] {
        each!(self, machine => machine.evidence())
    }

    /// Has the station beside it take an input.
    pub(super) fn attend(
        &self,
        station: &mut Station,
        (now, executed): (Instant, Seq),
        input: StationInput,
        outputs: &mut Vec<StationOutput>,
    ) {
        each!(self, machine => station.handle(now, input, (&**machine, executed), outputs));
    }

    /// Where the site stands.
    pub(super) fn report(&self, config: &SiteServerConfig) -> SiteReport {
        each!(self, machine => report(machine, config))
    }
}

fn report<W: Replicable>(machine: &LogicalMachine<W, NodeService>, config: &SiteServerConfig) -> SiteReport {
    let name = |site: SiteId| config.system.sites()[usize::from(site.0)].name.clone();
    let links = machine.link_standings().map(|link| LinkReport {
        site: name(link.site),
        turn: link.turn,
        forwarder: link.link.forwarder.0,
        peer: link.link.peer.0,
        patience: link.patience,
        acknowledged: link.acknowledged,
        unacknowledged: link.unacknowledged,
        unacknowledged_bytes: link.unacknowledged_bytes,
        received: link.received,
    });
    SiteReport {
        system: config.system.name().to_owned(),
        protocol: config.system.protocol().name().to_owned(),
        view: machine.view().0,
        leader: name(machine.leader()),
        executed: machine.executed().0,
        links: links.collect(),
        is_taken_over: machine.is_taken_over(),
        ..SiteReport::default()
    }
}

/// What is equal at all servers of the site.
fn machine_config(config: &SiteServerConfig) -> MachineConfig {
    let (system, site) = (&config.system, config.site);
    let settings = system.settings();
    let lanes = config.lanes.iter().flat_map(|(first, server)| {
        let ids = config.lane_sessions().map(|(session, _)| SiteServerConfig::lane_id(*first, session));
        ids.map(|id| (id, *server)).collect::<Vec<(ClientId, ReplicaId)>>()
    });
    MachineConfig {
        links: system.links(site),
        sites: system.quorums(),
        lanes: lanes.collect(),
        keys: system.keys(),
        residents: system.residents().clone(),
        dissemination: system.dissemination(),
        max_update_bytes: settings.max_update_bytes,
        max_reply_bytes: settings.max_reply_bytes,
        max_message_bytes: settings.max_message_bytes,
        max_unacknowledged_bytes: settings.max_unacknowledged_bytes,
        acknowledgement_delay: Duration::from_millis(settings.acknowledgement_delay_ms),
        relay_timeout: Duration::from_millis(settings.relay_timeout_ms),
    }
}

impl Service for SiteMachine {
    fn execute(&mut self, operation: &[u8], context: &Context) -> Outcome {
        each!(self, machine => machine.execute(operation, context))
    }

    fn foresee(&mut self, operation: &[u8], client: ClientId) {
        each!(self, machine => machine.foresee(operation, client));
    }

    fn query(&self, operation: &[u8], client: ClientId) -> Option<Vec<u8>> {
        each!(self, machine => machine.query(operation, client))
    }

    fn save(&mut self, pages: &mut Pages) {
        each!(self, machine => machine.save(pages));
    }

    fn install(&mut self, pages: &Pages, changed: &[u32]) -> Result<(), InstallError> {
        each!(self, machine => machine.install(pages, changed))
    }
}
