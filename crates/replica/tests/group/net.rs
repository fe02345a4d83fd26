//! A group and its clients in memory, under virtual time: messages arrive at once and in order,
//! except those to and from replicas that are down.

use crate::disk::Disk;
use crate::ledger::{Ledger, Operation};
use althing_crypto::{Identity, Keyring};
use althing_protocol::{Evidence, Protocol};
use althing_replica::*;
use althing_types::{ClientId, GroupId, Instant, Principal, Quorums, ReplicaId, RequestNumber, Seq, encode};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const CLIENTS: u64 = 3;

pub(crate) fn keyring(n: usize, me: Principal) -> Keyring {
    let identity = |who: Principal| {
        Identity::from_secret_bytes(&match who {
            Principal::Replica(id) => [1 + id.0 as u8; 64],
            Principal::Client(id) => [128 + id.0 as u8; 64],
        })
    };
    let replicas = (0..n as u16).map(|i| identity(Principal::Replica(ReplicaId(i))).public()).collect();
    let clients =
        (0..CLIENTS).map(|i| (ClientId(i), identity(Principal::Client(ClientId(i))).public())).collect();
    Keyring::new(GroupId([9; 16]), me, identity(me), replicas, clients)
}

struct ClientNode {
    client: Client,
    timer: Option<Instant>,
    events: Vec<ClientOutput>,
}

pub(crate) struct Settings {
    pub(crate) quorums: Quorums,
    pub(crate) limits: Limits,
    pub(crate) request_auth: RequestAuthPolicy,
    pub(crate) durability: Durability,
    pub(crate) reads: ReadPolicy,
}

impl Settings {
    pub(crate) fn new(n: usize) -> Self {
        Self {
            quorums: Quorums::byzantine(n, (n - 1) / 3).unwrap(),
            limits: Limits::default(),
            request_auth: RequestAuthPolicy::default(),
            durability: Durability::Sync,
            reads: ReadPolicy::Ordered,
        }
    }
}

pub(crate) struct Net<P: Protocol> {
    settings: Settings,
    protocol: Box<dyn Fn(ReplicaId) -> P>,
    pub(crate) now: Instant,
    replicas: BTreeMap<ReplicaId, Replica<P, Ledger>>,
    pub(crate) disks: BTreeMap<ReplicaId, Disk>,
    /// Replicas whose disks take for ever to write a state.
    pub(crate) slow_disks: BTreeSet<ReplicaId>,
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
        let replicas: Vec<_> = settings.quorums.replicas().collect();
        let mut net = Self {
            settings,
            protocol: Box::new(protocol),
            now: Instant(1_000_000_000),
            replicas: BTreeMap::new(),
            disks: BTreeMap::new(),
            slow_disks: BTreeSet::new(),
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
        (0..CLIENTS).for_each(|id| net.add_client(ClientId(id)));
        replicas.into_iter().for_each(|id| net.start(id, Startup::Genesis));
        net
    }

    fn add_client(&mut self, id: ClientId) {
        let config = ClientConfig {
            client: id,
            keyring: keyring(self.settings.quorums.n(), Principal::Client(id)),
            quorums: self.settings.quorums,
            limits: self.settings.limits.clone(),
            auth: match self.settings.request_auth {
                RequestAuthPolicy::MacsOrSignature => RequestAuthKind::Macs,
                RequestAuthPolicy::SignatureOnly => RequestAuthKind::Signed,
            },
            reads: self.settings.reads,
            answers: AnswerPolicy::default(),
            retry: Duration::from_millis(200),
            first_number: RequestNumber(1),
        };
        let client = Client::new(config);
        self.clients.insert(id, ClientNode { client, timer: None, events: Vec::new() });
    }

    pub(crate) fn start(&mut self, id: ReplicaId, startup: Startup) {
        let config = ReplicaConfig {
            replica: id,
            quorums: self.settings.quorums,
            keyring: keyring(self.settings.quorums.n(), Principal::Replica(id)),
            limits: self.settings.limits.clone(),
            request_auth: self.settings.request_auth,
            durability: self.settings.durability,
        };
        if !matches!(startup, Startup::Recovered { .. }) {
            self.disks.insert(id, Disk::new(self.settings.durability));
        }
        self.replicas.insert(id, Replica::new(config, (self.protocol)(id), Ledger::new()));
        self.input(id, Input::Start(startup));
    }

    /// Stops a replica; its disk stays.
    pub(crate) fn stop(&mut self, id: ReplicaId) {
        self.replicas.remove(&id);
        self.keeping.remove(&id);
        self.timers.retain(|(owner, _), _| *owner != id);
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
            match output {
                Output::Flush => {}
                Output::Stop(StopReason::Records(error)) => {
                    self.replicas.remove(&id);
                    self.refused.push((id, error));
                }
                Output::Stop(reason) => panic!("{id} stops: {reason}"),
                Output::Send { to, frame } | Output::SendLazily { to, frame } => {
                    self.wire.push_back((Principal::Replica(id), to, frame))
                }
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
        let node = self.clients.get_mut(&ClientId(client)).expect("the client is there");
        let mut outputs = Vec::new();
        let number = node.client.submit(self.now, encode(operation), kind, &mut outputs).unwrap();
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
                ClientOutput::Send { to, frame } => {
                    self.wire.push_back((Principal::Client(id), Principal::Replica(to), frame));
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
        let wanted = self.submit(client, operation, kind);
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
            match (from, to) {
                (_, Principal::Replica(to)) => self.input(to, Input::Frame { from, bytes: frame.to_vec() }),
                (Principal::Replica(from), Principal::Client(to)) => {
                    let (_, message) = decode_reply_frame(&frame, &self.settings.limits).unwrap();
                    self.told.push((from, message));
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

    pub(crate) fn status(&self, id: u16) -> ReplicaStatus {
        self.replicas[&ReplicaId(id)].status()
    }

    pub(crate) fn cells(&self, id: u16) -> &[Vec<u8>] {
        self.replicas[&ReplicaId(id)].service().cells()
    }

    pub(crate) fn has_report(&self, by: u16, is_it: impl Fn(&Report) -> bool) -> bool {
        self.reports.iter().any(|(id, report)| id.0 == by && is_it(report))
    }
}
