//! A group and its clients in memory, under virtual time: messages arrive at once and in order,
//! except those to and from replicas that are down.

use crate::disk::Disk;
use crate::ledger::{Ledger, Operation};
use althing_crypto::{Identity, Keyring};
use althing_protocol::pbft::Pbft;
use althing_protocol::zyzzyva::Composition;
use althing_protocol::{Evidence, Protocol};
use althing_replica::membership::{Member, Membership, Reconfigure, ReconfigureOutcome};
use althing_replica::*;
use althing_types::{ClientId, GroupId, Instant, Principal, Quorums, ReplicaId, RequestNumber, Seq, encode};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const CLIENTS: u64 = 3;

/// The group as its clients know it.
pub(crate) const ROOT: GroupId = GroupId([9; 16]);

/// Machines that a group may come to run on, beyond those that it starts with.
const MACHINES: u16 = 30;

/// The secret keys of a machine or a client.
pub(crate) fn identity(who: Principal) -> Identity {
    Identity::from_secret_bytes(&match who {
        Principal::Replica(id) => [1 + id.0 as u8; 64],
        Principal::Client(id) => [128 + id.0 as u8; 64],
    })
}

/// Who may change a group.
pub(crate) fn admin() -> Identity {
    Identity::from_secret_bytes(&[250; 64])
}

/// A machine as a member.
pub(crate) fn member(machine: u16) -> Member {
    let key = identity(Principal::Replica(ReplicaId(machine))).public();
    Member { key, address: format!("machine {machine}") }
}

/// The machine in a place.
fn machine_at(membership: &Membership, place: ReplicaId) -> Option<ReplicaId> {
    let key = membership.member(place)?.key;
    (0..MACHINES).map(ReplicaId).find(|id| member(id.0).key == key)
}

pub(crate) fn keyring(n: usize, me: Principal) -> Keyring {
    let replicas = (0..n as u16).map(|i| identity(Principal::Replica(ReplicaId(i))).public()).collect();
    let clients =
        (0..CLIENTS).map(|i| (ClientId(i), identity(Principal::Client(ClientId(i))).public())).collect();
    Keyring::new(ROOT, me, identity(me), replicas, clients)
}

struct ClientNode {
    client: Client,
    timer: Option<Instant>,
    events: Vec<ClientOutput>,
    /// By whose places it calls replicas.
    membership: Option<Membership>,
}

pub(crate) struct Settings {
    pub(crate) quorums: Quorums,
    pub(crate) limits: Limits,
    pub(crate) engine: EngineSettings,
    pub(crate) durability: Durability,
    pub(crate) reads: ReadPolicy,
    /// As of the clients; the replicas have theirs from the protocol that they are given.
    pub(crate) separate_bytes: usize,
}

impl Settings {
    pub(crate) fn new(n: usize) -> Self {
        Self {
            quorums: Quorums::byzantine(n, (n - 1) / 3).unwrap(),
            limits: Limits::default(),
            engine: EngineSettings::default(),
            durability: Durability::Sync,
            reads: ReadPolicy::Ordered,
            separate_bytes: 0,
        }
    }
}

/// Replicas that take no MACs of clients.
pub(crate) fn signatures_only() -> EngineSettings {
    EngineSettings { request_auth: RequestAuthPolicy::SignatureOnly, ..EngineSettings::default() }
}

pub(crate) struct Net<P: Protocol> {
    settings: Settings,
    protocol: Box<dyn Fn(ReplicaId, Quorums) -> P>,
    /// What the operator gave each machine to start with, in a group whose members change.
    files: BTreeMap<ReplicaId, Membership>,
    /// By whose places each machine calls replicas.
    memberships: BTreeMap<ReplicaId, Membership>,
    pub(crate) now: Instant,
    replicas: BTreeMap<ReplicaId, Replica<P, Ledger>>,
    pub(crate) disks: BTreeMap<ReplicaId, Disk>,
    /// Replicas whose disks take for ever to write a state.
    pub(crate) slow_disks: BTreeSet<ReplicaId>,
    /// Replicas whose power fails once they have replaced their log, before they write anything more.
    pub(crate) cut_after_rewrite: BTreeSet<ReplicaId>,
    /// Machines that hear nothing, nor are heard.
    pub(crate) cut_off: BTreeSet<ReplicaId>,
    /// The states that those are writing.
    keeping: BTreeMap<ReplicaId, Seq>,
    timers: BTreeMap<(ReplicaId, Timer), Instant>,
    clients: BTreeMap<ClientId, ClientNode>,
    wire: VecDeque<(Principal, Principal, Arc<[u8]>)>,
    pub(crate) evidence: Vec<(ReplicaId, Evidence)>,
    pub(crate) reports: Vec<(ReplicaId, Report)>,
    /// Who stopped at its start.
    pub(crate) refused: Vec<(ReplicaId, RecordError)>,
    pub(crate) emitted: Vec<(ReplicaId, Emission)>,
    /// What clients were told.
    pub(crate) told: Vec<(ReplicaId, ClientMessage)>,
}

impl<P: Protocol> Net<P> {
    /// A new group, started.
    pub(crate) fn new(settings: Settings, protocol: impl Fn(ReplicaId) -> P + 'static) -> Self {
        Self::with_members(settings, None, move |id, _| protocol(id))
    }

    /// A new group, whose members may change if there are any.
    pub(crate) fn with_members(
        settings: Settings,
        membership: Option<Membership>,
        protocol: impl Fn(ReplicaId, Quorums) -> P + 'static,
    ) -> Self {
        let replicas: Vec<_> = settings.quorums.replicas().collect();
        let files = membership.iter().flat_map(|m| replicas.iter().map(|id| (*id, m.clone()))).collect();
        let mut net = Self {
            settings,
            protocol: Box::new(protocol),
            memberships: BTreeMap::clone(&files),
            files,
            now: Instant(1_000_000_000),
            replicas: BTreeMap::new(),
            disks: BTreeMap::new(),
            slow_disks: BTreeSet::new(),
            cut_after_rewrite: BTreeSet::new(),
            cut_off: BTreeSet::new(),
            keeping: BTreeMap::new(),
            timers: BTreeMap::new(),
            clients: BTreeMap::new(),
            wire: VecDeque::new(),
            evidence: Vec::new(),
            reports: Vec::new(),
            refused: Vec::new(),
            emitted: Vec::new(),
            told: Vec::new(),
        };
        (0..CLIENTS).for_each(|id| net.add_client(ClientId(id), membership.clone()));
        replicas.into_iter().for_each(|id| net.start(id, Startup::Genesis));
        net
    }

    fn add_client(&mut self, id: ClientId, membership: Option<Membership>) {
        let config = ClientConfig {
            client: id,
            keyring: keyring(self.settings.quorums.n(), Principal::Client(id)),
            quorums: self.settings.quorums,
            membership: membership.clone(),
            limits: self.settings.limits.clone(),
            auth: match self.settings.engine.request_auth {
                RequestAuthPolicy::MacsOrSignature => RequestAuthKind::Macs,
                RequestAuthPolicy::SignatureOnly => RequestAuthKind::Signed,
            },
            reads: self.settings.reads,
            answers: AnswerPolicy::default(),
            separate_bytes: self.settings.separate_bytes,
            composition: Composition::Zyzzyva,
            witnesses: Vec::new(),
            retry: Duration::from_millis(200),
            first_number: RequestNumber(1),
        };
        let client = Client::new(config);
        self.clients.insert(id, ClientNode { client, timer: None, events: Vec::new(), membership });
    }

    /// A machine gets what it needs to take part from an epoch on.
    pub(crate) fn provide(&mut self, machine: u16, membership: &Membership) {
        self.files.insert(ReplicaId(machine), membership.clone());
    }

    fn replica_config(&self, id: ReplicaId) -> ReplicaConfig {
        let membership = self.files.get(&id).cloned();
        let (place, quorums, keys) = match &membership {
            None => (id, self.settings.quorums, keyring(self.settings.quorums.n(), Principal::Replica(id))),
            Some(file) => {
                let place = file.place_of(&member(id.0).key).expect("its file has a place for it");
                let (me, secret) = (Principal::Replica(place), identity(Principal::Replica(id)));
                let others = keyring(1, Principal::Client(ClientId(0)));
                let clients = (0..CLIENTS).map(ClientId);
                let clients =
                    clients.map(|id| (id, *others.public(Principal::Client(id)).expect("it is listed")));
                let keys = file.members.iter().map(|member| member.key).collect();
                (place, file.quorums(), Keyring::new(ROOT, me, secret, keys, clients.collect()))
            }
        };
        ReplicaConfig {
            replica: place,
            quorums,
            keyring: keys,
            membership,
            limits: self.settings.limits.clone(),
            engine: self.settings.engine,
            durability: self.settings.durability,
        }
    }

    /// A replica that has not started.
    pub(crate) fn unstarted(&self, id: ReplicaId) -> Replica<P, Ledger> {
        let config = self.replica_config(id);
        let protocol = (self.protocol)(config.replica, config.quorums);
        // In a later epoch the group may have other settings.
        let of_file = config
            .membership
            .as_ref()
            .and_then(|file| protocol.successor(config.replica, config.quorums, &file.settings, None));
        let protocol = of_file.unwrap_or(protocol);
        Replica::new(config, protocol, Ledger::new())
    }

    pub(crate) fn start(&mut self, id: ReplicaId, startup: Startup) {
        self.memberships.extend(self.files.get(&id).map(|file| (id, file.clone())));
        match startup {
            Startup::Genesis => drop(self.disks.insert(id, Disk::new(self.settings.durability))),
            Startup::Amnesia | Startup::Recovering(Remains { records: None, .. }) => {
                drop(self.disks.insert(id, Disk::lost(self.settings.durability)));
            }
            Startup::Recovered { .. } | Startup::Recovering(_) => {}
        }
        self.replicas.insert(id, self.unstarted(id));
        self.input(id, Input::Start(startup));
    }

    /// Stops a replica; its disk stays.
    pub(crate) fn stop(&mut self, id: ReplicaId) {
        self.replicas.remove(&id);
        self.keeping.remove(&id);
        self.timers.retain(|(owner, _), _| *owner != id);
    }

    /// The disk of one machine is that of another from now on.
    pub(crate) fn move_disk(&mut self, from: u16, to: u16) {
        let disk = self.disks.remove(&ReplicaId(from)).expect("it has a disk");
        self.disks.insert(ReplicaId(to), disk);
    }

    /// What the next start of a replica finds on its disk.
    pub(crate) fn open_disk(&mut self, id: ReplicaId) -> Startup {
        let (disk, startup) = self.disks[&id].reopen(self.settings.durability);
        self.disks.insert(id, disk);
        startup
    }

    pub(crate) fn restart_from_disk(&mut self, id: ReplicaId) {
        let startup = self.open_disk(id);
        self.start(id, startup);
    }

    pub(crate) fn replica(&mut self, id: u16) -> &mut Replica<P, Ledger> {
        self.replicas.get_mut(&ReplicaId(id)).expect("the replica is up")
    }

    pub(crate) fn input(&mut self, id: ReplicaId, input: Input) {
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        let mut outputs = Vec::new();
        replica.handle(self.now, input, &mut outputs);
        let (mut persisted, mut kept) = (None, None);
        for output in outputs {
            self.disks.get_mut(&id).expect("it has a disk").write(&output);
            if matches!(output, Output::Rewrite { .. }) && self.cut_after_rewrite.remove(&id) {
                return self.stop(id);
            }
            match output {
                Output::Flush => {}
                Output::Stop(StopReason::Records(error)) => {
                    self.replicas.remove(&id);
                    self.refused.push((id, error));
                }
                Output::Stop(reason) => panic!("{id} stops: {reason}"),
                Output::Send { to, frame } | Output::SendLazily { to, frame } => {
                    let to = self.node_of(self.memberships.get(&id), to);
                    self.wire.extend(to.map(|to| (Principal::Replica(id), to, frame)));
                }
                Output::SendStray { to, frame } => {
                    let to = (0..MACHINES).map(ReplicaId).find(|id| member(id.0).key == to);
                    self.wire.extend(to.map(|to| (Principal::Replica(id), Principal::Replica(to), frame)));
                }
                Output::Epoch { membership, .. } => drop(self.memberships.insert(id, *membership)),
                Output::SetTimer { timer, after } => {
                    self.timers.insert((id, timer), self.now + after);
                }
                Output::CancelTimer(timer) => {
                    self.timers.remove(&(id, timer));
                }
                Output::Append { id: record_id, .. } => persisted = Some(record_id),
                Output::Keep { seq, .. } => kept = Some(seq),
                Output::Rewrite { .. } => {}
                Output::Emit(emission) => self.emitted.push((id, emission)),
                Output::Evidence(evidence) => self.evidence.push((id, evidence)),
                Output::Report(report) => self.reports.push((id, report)),
            }
        }
        if let Some(record_id) = persisted {
            self.input(id, Input::Persisted(record_id));
        }
        if let Some(seq) = kept {
            self.keeping.insert(id, seq);
            if !self.slow_disks.contains(&id) {
                self.finish_keeping(id);
            }
        }
    }

    /// What a replica is writing of a state is on its disk.
    pub(crate) fn finish_keeping(&mut self, id: ReplicaId) {
        if let Some(seq) = self.keeping.remove(&id) {
            self.input(id, Input::Kept(seq));
        }
    }

    /// The machine or client that goes by this name among who calls replicas so.
    fn node_of(&self, membership: Option<&Membership>, name: Principal) -> Option<Principal> {
        match (membership, name) {
            (Some(membership), Principal::Replica(place)) => {
                machine_at(membership, place).map(Principal::Replica)
            }
            (_, name) => Some(name),
        }
    }

    /// What came from another machine, as the runtime of this one hands it in.
    fn arrival(&self, at: ReplicaId, from: Principal, bytes: Vec<u8>) -> Input {
        let (Some(membership), Principal::Replica(machine)) = (self.memberships.get(&at), from) else {
            return Input::Frame { from, bytes };
        };
        let key = member(machine.0).key;
        match membership.place_of(&key) {
            Some(place) => Input::Frame { from: Principal::Replica(place), bytes },
            None => Input::Stray { from: Box::new(key), bytes },
        }
    }

    /// A frame that somebody puts on the wire.
    pub(crate) fn inject(&mut self, from: Principal, to: ReplicaId, bytes: &[u8]) {
        self.wire.push_back((from, Principal::Replica(to), bytes.into()));
    }

    /// A frame that somebody puts on the wire to a client.
    pub(crate) fn inject_to_client(&mut self, from: Principal, to: ClientId, bytes: &[u8]) {
        self.wire.push_back((from, Principal::Client(to), bytes.into()));
    }

    /// Nothing of what is under way arrives.
    pub(crate) fn lose_all_under_way(&mut self) {
        self.wire.clear();
    }

    /// The frames under way from one to another.
    pub(crate) fn under_way(&self, from: Principal, to: Principal) -> Vec<Vec<u8>> {
        let is_it = |wire: &&(Principal, Principal, Arc<[u8]>)| (wire.0, wire.1) == (from, to);
        self.wire.iter().filter(is_it).map(|(_, _, frame)| frame.to_vec()).collect()
    }

    pub(crate) fn submit(
        &mut self,
        client: u64,
        operation: &Operation,
        kind: OperationKind,
    ) -> RequestNumber {
        self.submit_raw(client, encode(operation), kind)
    }

    fn submit_raw(&mut self, client: u64, operation: Vec<u8>, kind: OperationKind) -> RequestNumber {
        let node = self.clients.get_mut(&ClientId(client)).expect("the client is there");
        let mut outputs = Vec::new();
        let number = node.client.submit(self.now, operation, kind, &mut outputs).unwrap();
        self.client_outputs(ClientId(client), outputs);
        number
    }

    fn client_input(&mut self, id: ClientId, input: ClientInput) {
        let Some(node) = self.clients.get_mut(&id) else { return };
        let mut outputs = Vec::new();
        node.client.handle(self.now, input, &mut outputs);
        self.client_outputs(id, outputs);
    }

    fn client_outputs(&mut self, id: ClientId, outputs: Vec<ClientOutput>) {
        for output in outputs {
            let node = self.clients.get_mut(&id).expect("the client is there");
            match output {
                ClientOutput::Epoch(membership) => node.membership = Some(*membership),
                ClientOutput::Send { to, frame } => {
                    let membership = node.membership.clone();
                    let to = self.node_of(membership.as_ref(), Principal::Replica(to));
                    self.wire.extend(to.map(|to| (Principal::Client(id), to, frame)));
                }
                ClientOutput::SetTimer { after } => node.timer = Some(self.now + after),
                ClientOutput::CancelTimer => node.timer = None,
                event => node.events.push(event),
            }
        }
    }

    pub(crate) fn take_events(&mut self, client: u64) -> Vec<ClientOutput> {
        std::mem::take(&mut self.clients.get_mut(&ClientId(client)).unwrap().events)
    }

    /// Has a client's operation completed, and gives its result.
    pub(crate) fn call(
        &mut self,
        client: u64,
        operation: &Operation,
        kind: OperationKind,
    ) -> (Vec<u8>, bool) {
        self.call_raw(client, encode(operation), kind)
    }

    fn call_raw(&mut self, client: u64, operation: Vec<u8>, kind: OperationKind) -> (Vec<u8>, bool) {
        let wanted = self.submit_raw(client, operation, kind);
        self.run_until("the operation completes", |net| {
            net.clients[&ClientId(client)].client.outstanding().is_none()
        });
        let events = self.take_events(client);
        let done = events.into_iter().find_map(|event| match event {
            ClientOutput::Completed { number, result, was_ordered } if number == wanted => {
                Some((result, was_ordered))
            }
            _ => None,
        });
        done.expect("it completed with a result")
    }

    pub(crate) fn write(&mut self, cell: u32, bytes: &[u8]) -> Vec<u8> {
        self.call(0, &Operation::Write(cell, bytes.to_vec()), OperationKind::Ordered).0
    }

    /// Lets things happen until `is_done`, for at most a minute of virtual time.
    pub(crate) fn run_until(&mut self, what: &str, is_done: impl Fn(&Self) -> bool) {
        let deadline = self.now + Duration::from_secs(60);
        while !is_done(self) {
            assert!(self.step(deadline), "never happened: {what}");
        }
    }

    /// Lets things happen for this long.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let deadline = self.now + time;
        while self.step(deadline) {}
        self.now = deadline;
    }

    fn step(&mut self, deadline: Instant) -> bool {
        if let Some((from, to, frame)) = self.wire.pop_front() {
            let is_cut = |who| matches!(who, Principal::Replica(id) if self.cut_off.contains(&id));
            if is_cut(from) || is_cut(to) {
                return true;
            }
            match (from, to) {
                (_, Principal::Replica(to)) => {
                    let input = self.arrival(to, from, frame.to_vec());
                    self.input(to, input);
                }
                (Principal::Replica(from), Principal::Client(to)) => {
                    let (_, message) = decode_reply_frame(&frame, &self.settings.limits).unwrap();
                    self.told.push((from, message));
                    let from = match &self.clients[&to].membership {
                        None => from,
                        // A channel to who has no place any more is closed.
                        Some(membership) => match membership.place_of(&member(from.0).key) {
                            Some(place) => place,
                            None => return true,
                        },
                    };
                    self.client_input(to, ClientInput::Frame { from, bytes: frame.to_vec() });
                }
                (Principal::Client(_), Principal::Client(_)) => panic!("clients do not talk to each other"),
            }
            return true;
        }
        let replica = self.timers.iter().map(|(key, at)| (*at, *key)).min();
        let client = self.clients.iter().filter_map(|(id, node)| Some((node.timer?, *id))).min();
        match (replica, client) {
            (Some((at, key)), other) if at <= deadline && other.is_none_or(|(later, _)| at <= later) => {
                self.now = self.now.max(at);
                self.timers.remove(&key);
                self.input(key.0, Input::Timer(key.1));
                true
            }
            (_, Some((at, id))) if at <= deadline => {
                self.now = self.now.max(at);
                self.clients.get_mut(&id).unwrap().timer = None;
                self.client_input(id, ClientInput::Timer);
                true
            }
            _ => false,
        }
    }

    /// As [`Self::reconfigure`], and does not wait.
    pub(crate) fn submit_command(&mut self, client: u64, command: Reconfigure) {
        let operation = encode(&command.sign(ROOT, &admin()));
        self.submit_raw(client, operation, OperationKind::Reconfigure);
    }

    /// Lets so many things happen.
    pub(crate) fn take_steps(&mut self, steps: usize) {
        let deadline = self.now + Duration::from_secs(60);
        for _ in 0..steps {
            self.step(deadline);
        }
    }

    /// The membership that the replica on a machine is in.
    pub(crate) fn membership(&self, machine: u16) -> &Membership {
        self.replicas[&ReplicaId(machine)].membership().expect("the members of its group change")
    }

    pub(crate) fn takes_part(&self, machine: u16) -> bool {
        self.replicas[&ReplicaId(machine)].takes_part()
    }

    pub(crate) fn is_retired(&self, machine: u16) -> bool {
        self.replicas[&ReplicaId(machine)].is_retired()
    }

    /// Has a client submit a command, signed by the administrator, and gives its outcome.
    pub(crate) fn reconfigure(&mut self, client: u64, command: Reconfigure) -> ReconfigureOutcome {
        let operation = encode(&command.sign(ROOT, &admin()));
        let result = self.call_raw(client, operation, OperationKind::Reconfigure).0;
        althing_types::decode(&result, 1 << 20).expect("it is an outcome")
    }

    pub(crate) fn status(&self, id: u16) -> ReplicaStatus {
        self.replicas[&ReplicaId(id)].status()
    }

    /// What the replica on a machine goes by.
    pub(crate) fn settings(&self, machine: u16) -> Option<althing_protocol::Settings> {
        self.replicas[&ReplicaId(machine)].settings()
    }

    pub(crate) fn protocol_of(&self, machine: u16) -> &P {
        self.replicas[&ReplicaId(machine)].protocol()
    }

    pub(crate) fn cells(&self, id: u16) -> &[Vec<u8>] {
        self.replicas[&ReplicaId(id)].service().cells()
    }

    pub(crate) fn has_report(&self, by: u16, is_it: impl Fn(&Report) -> bool) -> bool {
        self.reports.iter().any(|(id, report)| id.0 == by && is_it(report))
    }
}

impl Net<Pbft> {
    /// Whether the replica on a machine takes part in votes.
    pub(crate) fn votes(&self, machine: u16) -> bool {
        self.protocol_of(machine).is_voting()
    }
}
