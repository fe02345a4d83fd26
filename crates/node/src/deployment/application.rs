use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use althing_components::plan::{ClientRole, Group, PlannedClient, PlannedEnd, PlannedWire, Runs};
use althing_components::spec::Implementation;
use althing_components::{Plan, ServiceTable, Sink, Source};
use althing_crypto::Identity;
use althing_types::{ClientId, ReplicaId};

use super::provision::{Maker, Members, NewClient, ProvisionError, ProvisionOptions};
use super::{Content, DeployedClient, DeployedProcess, Deployment, ProcessKind, process_directory};
use crate::config::{
    ConfigError, RawBroker, RawClient, RawComponent, RawConsumer, RawCourier, RawEdge, RawEdgeGroup,
    RawEdgeWire, RawImplementation, RawIncoming, RawMember, RawOutgoing, RawPbft, RawService, RawSink,
    RawSource, create_directory, write_json,
};

/// How long a program may take for one event, in milliseconds.
const DEADLINE_MS: u64 = 1000;

/// Makes the files of a planned application, in a new or empty directory. Programs run in
/// `working_directory`: where the spec file lies.
///
/// # Errors
/// See [`ProvisionError`]; some files may have been written.
pub fn provision_application(
    directory: &Path,
    plan: &Plan,
    working_directory: &Path,
    options: &ProvisionOptions,
) -> Result<Deployment, ProvisionError> {
    let replicas: usize = plan.groups().iter().map(|group| usize::from(group.n)).sum();
    // What a component emits waits until it is decided in any case. And to take its execution back is to
    // restart a program from its snapshot: not at each view change.
    let pbft = RawPbft { tentative_requests: 0, ..options.pbft.clone() };
    let options = &ProvisionOptions { pbft, ..options.clone() };
    let maker = Maker::new(directory, options, replicas + 1)?;
    let made = Made::groups(plan, &maker, working_directory)?;
    for group in plan.groups() {
        made.replicas(group)?;
    }
    let broker = made.edge(maker.addresses[replicas])?;
    let content = Content {
        name: plan.application().to_owned(),
        groups: plan.groups().iter().map(|group| group.component.clone()).collect(),
        clients: made.operators()?,
        processes: plan
            .processes()
            .iter()
            .map(|process| deployed(process.name.clone(), &process.runs, plan))
            .collect(),
        broker,
    };
    Ok(Deployment::save(&maker.directory, content)?)
}

fn deployed(name: String, runs: &Runs, plan: &Plan) -> DeployedProcess {
    let runs = match runs {
        Runs::Edge => ProcessKind::Edge,
        Runs::Replica { group, replica } => {
            ProcessKind::Replica { group: plan.group(*group).component.clone(), replica: replica.0 }
        }
    };
    DeployedProcess { name, runs }
}

/// A plan whose keys are made.
struct Made<'a> {
    plan: &'a Plan,
    maker: &'a Maker<'a>,
    working_directory: &'a Path,
    replicas: BTreeMap<(u16, ReplicaId), Identity>,
    clients: BTreeMap<(u16, ClientId), Identity>,
}

impl<'a> Made<'a> {
    /// Makes the keys and the group files.
    fn groups(
        plan: &'a Plan,
        maker: &'a Maker<'a>,
        working_directory: &'a Path,
    ) -> Result<Self, ProvisionError> {
        let (mut replicas, mut clients) = (BTreeMap::new(), BTreeMap::new());
        let mut addresses = maker.addresses.iter().copied();
        for group in plan.groups() {
            let names: Vec<String> = group.quorums().replicas().map(|r| group.process_name(r)).collect();
            let members = Members {
                name: &group.component,
                id: group.id,
                f: usize::from(group.f),
                protocol: group.protocol.into(),
                durability: group.durability,
                proactive_recovery_ms: group.recovery_s.unwrap_or(0) * 1000,
                replicas: names.iter().map(String::as_str).collect(),
                addresses: addresses.by_ref().take(names.len()).collect(),
                // Events of a wire are delivered one after the other.
                clients: group
                    .clients
                    .iter()
                    .map(|c| NewClient { id: c.id, role: role(c.role), sessions: 1 })
                    .collect(),
                // A component keeps its replicas.
                admin: None,
                is_site: false,
            };
            let keys = maker.group(&members)?;
            let index = group.index;
            replicas.extend(group.quorums().replicas().map(|r| (index, r)).zip(keys.replicas));
            clients.extend(group.clients.iter().map(|c| (index, c.id)).zip(keys.clients));
        }
        Ok(Self { plan, maker, working_directory, replicas, clients })
    }

    fn replicas(&self, group: &Group) -> Result<(), ConfigError> {
        let table = self.plan.service_table(group.index);
        for replica in group.quorums().replicas() {
            let name = group.process_name(replica);
            let courier = self.courier(group, replica)?;
            let service = RawService::Component(Box::new(self.component(group, &table)));
            let identity = &self.replicas[&(group.index, replica)];
            self.maker.replica(&name, &group.component, replica.0, identity, |_| service, courier)?;
        }
        Ok(())
    }

    /// A client that lives in a process.
    fn inner(&self, process: &str, group: &Group, role: ClientRole) -> Result<RawClient, ConfigError> {
        let id = role.client_id(group.index);
        self.maker.inner_client(process, &group.component, id, &self.clients[&(group.index, id)])
    }

    fn courier(&self, group: &Group, replica: ReplicaId) -> Result<Option<RawCourier>, ConfigError> {
        let process = group.process_name(replica);
        let mut wires: BTreeMap<u16, Vec<u32>> = BTreeMap::new();
        for wire in self.plan.courier_wires(group.index) {
            if let Some(consumer) = wire.to.group() {
                wires.entry(consumer).or_default().push(wire.id.0);
            }
        }
        if wires.is_empty() {
            return Ok(None);
        }
        let own = self.inner(&process, group, ClientRole::Courier { replica })?;
        let mut consumers = Vec::new();
        for (consumer, wires) in wires {
            let role = ClientRole::Producer { group: group.index, replica };
            let client = self.inner(&process, self.plan.group(consumer), role)?;
            consumers.push(RawConsumer { client, wires });
        }
        Ok(Some(RawCourier { own, consumers }))
    }

    fn component(&self, group: &Group, table: &ServiceTable) -> RawComponent {
        let implementation = match &group.implementation {
            Implementation::Builtin { name, config } => {
                RawImplementation::Builtin { name: name.name().to_owned(), config: config.clone() }
            }
            Implementation::Process { argv } => RawImplementation::Process {
                argv: argv.clone(),
                working_directory: self.working_directory.to_owned(),
                deadline_ms: DEADLINE_MS,
            },
        };
        RawComponent {
            name: group.component.clone(),
            implementation,
            inputs: group.inputs.clone(),
            outputs: group.outputs.clone(),
            incoming: table
                .incoming
                .iter()
                .map(|(wire, i)| RawIncoming {
                    wire: wire.0,
                    port: i.port.clone(),
                    source: source(&i.source),
                })
                .collect(),
            outgoing: table
                .outgoing
                .iter()
                .map(|(wire, o)| RawOutgoing { wire: wire.0, port: o.port.clone(), sink: sink(&o.sink) })
                .collect(),
            observers: table.observers.iter().map(|id| id.0.to_string()).collect(),
        }
    }

    /// The file of the edge, if there is one, and the broker.
    fn edge(&self, embedded: SocketAddr) -> Result<Option<RawBroker>, ConfigError> {
        if self.plan.edge_wires().next().is_none() {
            return Ok(None);
        }
        let broker = match self.plan.broker() {
            Some(broker) => RawBroker::External { host: broker.host().to_owned(), port: broker.port() },
            None => RawBroker::Embedded { address: embedded },
        };
        let directory = process_directory(&self.maker.directory, Plan::EDGE);
        create_directory(&directory)?;
        let mut groups = Vec::new();
        for group in self.plan.groups() {
            let wires = |from: bool| self.plan.edge_wires().filter_map(move |w| edge_wire(w, group, from));
            let (incoming, outgoing): (Vec<_>, Vec<_>) = (wires(false).collect(), wires(true).collect());
            if incoming.is_empty() && outgoing.is_empty() {
                continue;
            }
            let client = self.inner(Plan::EDGE, group, ClientRole::Edge)?;
            groups.push(RawEdgeGroup { client, incoming, outgoing });
        }
        let raw = RawEdge {
            application: self.plan.application().to_owned(),
            broker: broker.clone(),
            control: "control.sock".into(),
            data: "data".into(),
            groups,
        };
        write_json(&directory.join("config.json"), &raw)?;
        Ok(Some(broker))
    }

    /// Writes the files of the operators, one a group.
    fn operators(&self) -> Result<Vec<DeployedClient>, ConfigError> {
        let mut operators = Vec::new();
        for group in self.plan.groups() {
            let is_operator = |client: &&PlannedClient| client.role == ClientRole::Operator;
            for client in group.clients.iter().filter(is_operator) {
                let name = format!("{}-operator", group.component);
                let identity = &self.clients[&(group.index, client.id)];
                self.maker.client((&name, &group.component), client.id, identity, None)?;
                operators.push(DeployedClient { name, group: group.component.clone() });
            }
        }
        Ok(operators)
    }
}

/// The edge's side of a wire of `group`: one that leaves it, or one that leads to it.
fn edge_wire(wire: &PlannedWire, group: &Group, leaves: bool) -> Option<RawEdgeWire> {
    let (own, other): (&PlannedEnd, &PlannedEnd) =
        if leaves { (&wire.from, &wire.to) } else { (&wire.to, &wire.from) };
    let topic = other.topic()?.to_owned();
    (own.group() == Some(group.index)).then_some(RawEdgeWire {
        wire: wire.id.0,
        topic,
        carries: wire.carries,
    })
}

fn role(role: ClientRole) -> String {
    match role {
        ClientRole::Producer { group, replica } => {
            format!("producer: replica {} of group {group}", replica.0)
        }
        ClientRole::Courier { replica } => format!("courier of replica {}", replica.0),
        ClientRole::Edge => "edge".to_owned(),
        ClientRole::Operator => "operator".to_owned(),
    }
}

fn members(clients: &BTreeMap<ClientId, ReplicaId>) -> Vec<RawMember> {
    let member = |(client, replica): (&ClientId, &ReplicaId)| RawMember {
        client: client.0.to_string(),
        replica: replica.0,
    };
    clients.iter().map(member).collect()
}

fn source(source: &Source) -> RawSource {
    match source {
        Source::Edge { client } => RawSource::Edge { client: client.0.to_string() },
        Source::Group { f, clients, .. } => RawSource::Group { f: *f, members: members(clients) },
    }
}

fn sink(sink: &Sink) -> RawSink {
    match sink {
        Sink::Edge { client } => RawSink::Edge { client: client.0.to_string() },
        Sink::Group { couriers, .. } => RawSink::Couriers { members: members(couriers) },
    }
}
