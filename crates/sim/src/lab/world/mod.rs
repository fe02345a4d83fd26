mod switching;

use super::config::{LabConfig, LabFault, LabLatency, LabReport};
use crate::dice::{Dice, nanos};
use althing_crypto::{Identity, Keyring};
use althing_protocol::Protocol;
use althing_protocol::zyzzyva::Composition;
use althing_replica::membership::Membership;
use althing_replica::{
    AnswerPolicy, Client, ClientConfig, ClientInput, ClientOutput, Durability, EngineSettings, Input, Limits,
    OperationKind, Output, ReadPolicy, Replica, ReplicaConfig, RequestAuthKind, Startup, Timer,
};
use althing_services::Null;
use althing_types::{ClientId, GroupId, Instant, Principal, Quorums, ReplicaId, RequestNumber};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use switching::Switching;

const ROOT: GroupId = GroupId([7; 16]);

/// Clients ask again after as long as those of real groups do by default.
const RETRY: Duration = Duration::from_millis(500);

/// What happens at a time.
enum Happening {
    Arrival {
        to: Principal,
        from: Principal,
        frame: Arc<[u8]>,
    },
    /// A replica's timer, as it was set this time.
    Timer {
        of: ReplicaId,
        timer: Timer,
        setting: u64,
    },
    /// A client's timer, as it was set this time.
    Retry {
        of: ClientId,
        setting: u64,
    },
    /// A client has its next operation.
    Next(ClientId),
    /// The administrator gives its command.
    Command,
}

/// How much longer a slow machine takes.
const SLOWNESS: u64 = 10;

/// A replica on a machine of its own.
struct Machine<P: Protocol> {
    replica: Replica<P, Null>,
    /// How often as long as another its core takes.
    slowness: u64,
    /// When its core has done what it has begun.
    is_free_at: u64,
    /// When its link has carried what it was given.
    has_sent_at: u64,
    timers: BTreeMap<Timer, u64>,
    /// How long its core has worked while the group was measured.
    busy: u64,
}

impl<P: Protocol> Machine<P> {
    fn new(replica: Replica<P, Null>, slowness: u64) -> Self {
        Self { replica, slowness, is_free_at: 0, has_sent_at: 0, timers: BTreeMap::new(), busy: 0 }
    }
}

struct Worker {
    client: Client,
    timer: Option<u64>,
    since: u64,
}

/// A group under load.
pub(super) struct World<'a, P: Protocol> {
    config: &'a LabConfig,
    meter: &'a dyn Fn() -> u64,
    /// What two looks at the meter take with nothing between them.
    looking: u64,
    now: u64,
    machines: BTreeMap<ReplicaId, Machine<P>>,
    workers: BTreeMap<ClientId, Worker>,
    queue: BTreeMap<(u64, u64), Happening>,
    dice: Dice,
    /// When the last frame from one to another arrived, or will.
    arrived: BTreeMap<(Principal, Principal), u64>,
    happenings: u64,
    settings: u64,
    /// When each operation was completed, while the group was measured, and how long it took, in nanoseconds.
    completions: Vec<(u64, u64)>,
    frames: u64,
    last_view: u64,
    /// The command that changes the group, if one does.
    switching: Option<Switching>,
}

impl<'a, P: Protocol> World<'a, P> {
    /// A group whose members and settings stay what they are.
    pub(super) fn new(
        config: &'a LabConfig,
        meter: &'a dyn Fn() -> u64,
        protocol: impl Fn(ReplicaId) -> P,
    ) -> Self {
        Self::of(config, meter, config.quorums(), None, protocol)
    }

    fn of(
        config: &'a LabConfig,
        meter: &'a dyn Fn() -> u64,
        quorums: Quorums,
        membership: Option<&Membership>,
        protocol: impl Fn(ReplicaId) -> P,
    ) -> Self {
        // Whoever gives commands comes after the clients.
        let clients = config.clients + u64::from(membership.is_some());
        let keys = Keys::new(quorums, clients);
        let (up, slow) = config.fault.of(quorums);
        let machine = |id| {
            let config = ReplicaConfig {
                replica: id,
                quorums,
                keyring: keys.ring(Principal::Replica(id)),
                limits: Limits::default(),
                engine: EngineSettings::default(),
                durability: Durability::None,
                membership: membership.cloned(),
            };
            (id, config)
        };
        let machines = up.into_iter().map(machine).map(|(id, replica)| {
            let replica = Replica::new(replica, protocol(id), Null::new(config.reply_bytes));
            let slowness = if slow.contains(&id) { SLOWNESS } else { 1 };
            (id, Machine::new(replica, slowness))
        });
        let composition = config.protocol.composition();
        let workers = (0..clients).map(ClientId).map(|id| {
            let client = Client::new(ClientConfig {
                membership: membership.cloned(),
                ..client(id, (quorums, composition), keys.ring(Principal::Client(id)))
            });
            (id, Worker { client, timer: None, since: 0 })
        });
        let looking = (0..100).map(|_| meter().abs_diff(meter())).min().unwrap_or(0);
        Self {
            config,
            meter,
            looking,
            now: 0,
            machines: machines.collect(),
            workers: workers.collect(),
            queue: BTreeMap::new(),
            dice: Dice::new(config.clients),
            arrived: BTreeMap::new(),
            happenings: 0,
            settings: 0,
            completions: Vec::new(),
            frames: 0,
            last_view: 0,
            switching: None,
        }
    }

    pub(super) fn run(mut self) -> LabReport {
        self.run_until(nanos(self.config.measured_from() + self.config.measured));
        self.report()
    }

    fn run_until(&mut self, end: u64) {
        let ids: Vec<_> = self.machines.keys().copied().collect();
        for id in ids {
            self.input(id, Input::Start(Startup::Genesis));
        }
        for id in 0..self.config.clients {
            // Not all at once: each has its own moment.
            self.schedule(1_000_000 + 7_919 * id, Happening::Next(ClientId(id)));
        }
        while let Some(((at, _), happening)) = self.queue.pop_first() {
            if at >= end {
                break;
            }
            self.now = at;
            self.happen(happening);
        }
    }

    fn schedule(&mut self, at: u64, happening: Happening) {
        self.happenings += 1;
        self.queue.insert((at, self.happenings), happening);
    }

    fn is_measured(&self) -> bool {
        self.now >= nanos(self.config.measured_from())
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrival { to: Principal::Replica(to), from, frame } => {
                self.input(to, Input::Frame { from, bytes: frame.to_vec() });
            }
            Happening::Arrival { to: Principal::Client(to), from: Principal::Replica(from), frame } => {
                self.hear(to, ClientInput::Frame { from, bytes: frame.to_vec() });
            }
            Happening::Arrival { .. } => {}
            Happening::Timer { of, timer, setting } => {
                let Some(machine) = self.machines.get_mut(&of) else { return };
                if machine.timers.get(&timer) == Some(&setting) {
                    machine.timers.remove(&timer);
                    self.input(of, Input::Timer(timer));
                }
            }
            Happening::Retry { of, setting } => {
                if self.workers.get(&of).is_some_and(|worker| worker.timer == Some(setting)) {
                    self.hear(of, ClientInput::Timer);
                }
            }
            Happening::Next(id) => {
                self.submit(id, vec![0; self.config.request_bytes], OperationKind::Ordered);
            }
            Happening::Command => self.command(),
        }
    }

    /// Has a replica handle something as soon as its core is free, and keeps that busy meanwhile.
    fn input(&mut self, id: ReplicaId, input: Input) {
        let is_measured = self.is_measured();
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let frame_cost = nanos(self.config.frame_cost) * machine.slowness;
        let began = machine.is_free_at.max(self.now);
        let taken = if matches!(input, Input::Frame { .. }) { frame_cost } else { 0 };
        let mut outputs = Vec::new();
        let before = (self.meter)();
        machine.replica.handle(Instant(began), input, &mut outputs);
        let worked = (self.meter)().saturating_sub(before).saturating_sub(self.looking);
        let mut at = began + taken + worked * machine.slowness;
        for output in outputs {
            match output {
                Output::Send { to, frame } | Output::SendLazily { to, frame } => {
                    at += frame_cost;
                    self.send(id, to, frame, at);
                }
                Output::SetTimer { timer, after } => self.set_timer(id, timer, at + nanos(after)),
                Output::CancelTimer(timer) => {
                    self.machines.get_mut(&id).map(|machine| machine.timers.remove(&timer));
                }
                Output::Report(althing_replica::Report::EnteredView(view)) => {
                    self.last_view = self.last_view.max(view.0);
                }
                Output::Epoch { .. } => self.on_epoch(id),
                Output::Stop(reason) => panic!("{id} stops: {reason}"),
                // Nothing is on disk and nothing is emitted.
                _ => {}
            }
        }
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.is_free_at = at;
            machine.busy += if is_measured { at - began } else { 0 };
        }
    }

    fn set_timer(&mut self, id: ReplicaId, timer: Timer, at: u64) {
        self.settings += 1;
        let setting = self.settings;
        self.machines.get_mut(&id).map(|machine| machine.timers.insert(timer, setting));
        self.schedule(at, Happening::Timer { of: id, timer, setting });
    }

    /// Has a frame leave once the link has carried what was before it.
    fn send(&mut self, from: ReplicaId, to: Principal, frame: Arc<[u8]>, at: u64) {
        self.frames += u64::from(self.is_measured());
        let carried = frame.len() as u64 * 8 * 1_000_000_000 / self.config.bits_per_s;
        let Some(machine) = self.machines.get_mut(&from) else { return };
        machine.has_sent_at = machine.has_sent_at.max(at) + carried;
        let left = machine.has_sent_at;
        self.carry(Principal::Replica(from), to, frame, left);
    }

    /// Has a frame arrive, after all that took the same way before.
    fn carry(&mut self, from: Principal, to: Principal, frame: Arc<[u8]>, left: u64) {
        let delay = nanos(self.config.delay);
        let more = match self.config.fault {
            LabFault::UnevenLinks => self.dice.below(delay + 1),
            _ => 0,
        };
        let before = self.arrived.entry((from, to)).or_default();
        *before = (left + delay + more).max(*before);
        let at = *before;
        self.schedule(at, Happening::Arrival { to, from, frame });
    }

    fn submit(&mut self, id: ClientId, operation: Vec<u8>, kind: OperationKind) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let mut outputs = Vec::new();
        worker.since = self.now;
        let submitted = worker.client.submit(Instant(self.now), operation, kind, &mut outputs);
        submitted.expect("nothing is outstanding and the operation is short");
        self.carry_out(id, outputs);
    }

    fn hear(&mut self, id: ClientId, input: ClientInput) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let mut outputs = Vec::new();
        worker.client.handle(Instant(self.now), input, &mut outputs);
        self.carry_out(id, outputs);
    }

    fn carry_out(&mut self, id: ClientId, outputs: Vec<ClientOutput>) {
        for output in outputs {
            let now = self.now;
            match output {
                ClientOutput::Send { to, frame } => {
                    self.carry(Principal::Client(id), Principal::Replica(to), frame, now);
                }
                ClientOutput::SetTimer { after } => {
                    self.settings += 1;
                    let setting = self.settings;
                    self.workers.get_mut(&id).map(|worker| worker.timer.replace(setting));
                    self.schedule(now + nanos(after), Happening::Retry { of: id, setting });
                }
                ClientOutput::CancelTimer => {
                    self.workers.get_mut(&id).map(|worker| worker.timer.take());
                }
                ClientOutput::Completed { result, .. } if id.0 >= self.config.clients => {
                    self.on_answer(&result);
                }
                ClientOutput::Completed { .. } => {
                    if self.is_measured() {
                        let since = self.workers.get(&id).map_or(now, |worker| worker.since);
                        self.completions.push((now, now - since));
                    }
                    self.schedule(now, Happening::Next(id));
                }
                _ => {}
            }
        }
    }

    fn report(self) -> LabReport {
        let mut latencies: Vec<_> = self.completions.iter().map(|(_, took)| *took).collect();
        latencies.sort_unstable();
        let operations = latencies.len() as u64;
        let measured = self.config.measured.as_secs_f64();
        let each = |total: u64| total as f64 / operations.max(1) as f64;
        let busy = || self.machines.values().map(|machine| machine.busy);
        let at = |share: usize| {
            let place = (latencies.len() * share / 100).min(latencies.len().saturating_sub(1));
            latencies.get(place).map(|ns| *ns as f64 / 1000.0)
        };
        let latency = at(50).zip(at(99)).map(|(median_us, p99_us)| LabLatency {
            mean_us: each(latencies.iter().sum()) / 1000.0,
            median_us,
            p99_us,
        });
        LabReport {
            operations,
            operations_per_s: operations as f64 / measured,
            latency,
            busiest_core: busy().max().unwrap_or(0) as f64 / 1e9 / measured,
            core_us_per_operation: each(busy().sum()) / 1000.0,
            frames_per_operation: each(self.frames),
            last_view: self.last_view,
        }
    }
}

/// The public keys of everybody, and the secret ones.
struct Keys {
    replicas: Vec<althing_crypto::PublicIdentity>,
    clients: BTreeMap<ClientId, althing_crypto::PublicIdentity>,
}

impl Keys {
    fn new(quorums: Quorums, clients: u64) -> Self {
        let replicas = quorums.replicas().map(|id| identity(Principal::Replica(id)).public());
        let clients = (0..clients).map(ClientId).map(|id| (id, identity(Principal::Client(id)).public()));
        Self { replicas: replicas.collect(), clients: clients.collect() }
    }

    fn ring(&self, me: Principal) -> Keyring {
        Keyring::new(ROOT, me, identity(me), self.replicas.clone(), self.clients.clone())
    }
}

fn identity(who: Principal) -> Identity {
    let (kind, number) = match who {
        Principal::Replica(id) => (1, u64::from(id.0)),
        Principal::Client(id) => (2, id.0),
    };
    let mut secret = [kind; 64];
    secret[8..16].copy_from_slice(&number.to_le_bytes());
    secret[40..48].copy_from_slice(&number.to_le_bytes());
    Identity::from_secret_bytes(&secret)
}

fn client(id: ClientId, (quorums, composition): (Quorums, Composition), keyring: Keyring) -> ClientConfig {
    ClientConfig {
        client: id,
        keyring,
        quorums,
        membership: None,
        limits: Limits::default(),
        auth: RequestAuthKind::Macs,
        reads: ReadPolicy::Ordered,
        answers: AnswerPolicy::Few,
        separate_bytes: 0,
        composition,
        witnesses: Vec::new(),
        retry: RETRY,
        first_number: RequestNumber(1),
    }
}
