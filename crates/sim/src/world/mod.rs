//! One run: hosts, clients and the network between them, and the oracles that watch.

mod checks;
mod effects;
mod faults;
mod keys;
mod line;
mod members;
mod turns;

pub(crate) use members::LARGEST;

use crate::config::SimConfig;
use crate::dice::{Dice, nanos};
use crate::fault::{Fault, Injection, Injections};
use crate::host::Host;
use crate::network::Network;
use crate::oracle::{History, Ledger, MemoryBound, Succession, Violation, hold_to_share};
use crate::plan::{Plan, RECOVERY};
use crate::queue::{Happening, Node, Queue};
use crate::report::{Failure, RunReport};
use crate::rogue::Rogue;
use crate::subject::Subject;
use crate::trace::Trace;
use crate::workload::Worker;
use althing_replica::membership::Membership;
use althing_replica::{ClientInput, Input, Remains, Startup};
use althing_types::{Principal, ReplicaId, Seq, View};
use keys::Thief;
use line::Line;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Events of one run at most: one that goes on is stuck in a loop without time passing.
const MAX_EVENTS: u64 = 3_000_000;

/// Steps of the disk after which a start that is cut off ends, at most: more than a start has.
const MOST_STEPS: usize = 24;

/// See the module's description.
pub(crate) struct World<'a, X: Subject> {
    subject: &'a X,
    config: &'a SimConfig,
    plan: Plan,
    now: u64,
    queue: Queue,
    network: Network,
    hosts: Vec<Host<X>>,
    workers: Vec<Worker>,
    rogues: Vec<Rogue>,
    thief: Thief,
    /// Whose turn it is to recover.
    turn: usize,
    /// Who was ever taken over.
    seized: BTreeSet<ReplicaId>,
    dice: Dice,
    /// For what is drawn for keys, so that it shifts nothing else.
    key_dice: Dice,
    injections: Injections,
    has_healed: bool,
    /// What all correct replicas have to execute after the faults have ended.
    healed_at: Seq,
    /// What each correct client had completed when they did.
    completed_by_then: Vec<u64>,
    /// And how many they had all together in a run without faults, where they are held to that.
    undisturbed: Option<u64>,
    trace: Trace<Line>,
    ledger: Ledger,
    succession: Succession,
    /// The membership that the operator has asked for.
    asked: Option<Arc<Membership>>,
    /// The last that it was granted. Nobody may be in it yet, and the operator may ask for another.
    granted: Option<Arc<Membership>>,
    /// The next machine that may join.
    next_machine: ReplicaId,
    history: History,
    memory: MemoryBound,
    violation: Option<Violation>,
    views: BTreeSet<View>,
    state_transfers: u64,
    evidence: BTreeMap<&'static str, u64>,
}

/// Runs `config` with `subject`.
pub(crate) fn simulate<X: Subject>(subject: &X, config: &SimConfig) -> RunReport {
    let mut world = World::of(subject, config, Plan::new(config));
    if let (Some(share), None) = (config.family.least_share(), &world.violation) {
        let calm = World::of(subject, config, Plan::undisturbed(config));
        if calm.violation.is_some() {
            // What shows why is what happened there.
            return calm.report();
        }
        world.violation = hold_to_share(share, &world.completed_by_then, &calm.completed_by_then).err();
        world.undisturbed = Some(calm.completed_by_then.iter().sum());
    }
    world.report()
}

impl<'a, X: Subject> World<'a, X> {
    /// Runs to the end.
    fn of(subject: &'a X, config: &'a SimConfig, plan: Plan) -> Self {
        let mut world = World::new(subject, config, plan);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.run())) {
            world.violation = Some(Violation::of_panic(&*panic));
        }
        world
    }

    fn new(subject: &'a X, config: &'a SimConfig, plan: Plan) -> Self {
        let mut dice = Dice::new(config.seed);
        let injections = Injections::default();
        let mut hosts = Vec::new();
        for id in plan.quorums.replicas() {
            hosts.push(Host::new(id, &plan, &mut dice, &injections));
        }
        for id in &plan.twins {
            injections.note(Injection::Twinned);
            hosts.push(Host::new(*id, &plan, &mut dice, &injections));
        }
        let workers: Vec<_> = {
            // The last one changes the members, where they change.
            let operators = usize::from(plan.membership.is_some());
            let all = 0..plan.clients + operators;
            all.map(|index| Worker::new(subject, &plan, index, &mut dice)).collect()
        };
        let rogues = (plan.clients..plan.clients + plan.rogues)
            .map(|index| Rogue::new(&plan, index, &mut dice))
            .collect();
        Self {
            subject,
            config,
            now: 0,
            queue: Queue::default(),
            network: Network::new(plan.weather.clone(), dice.fork(), injections.clone()),
            hosts,
            workers,
            rogues,
            thief: Thief::default(),
            turn: 0,
            seized: BTreeSet::new(),
            key_dice: Dice::new(config.seed.wrapping_add(0x7365_6564)),
            dice,
            injections,
            has_healed: false,
            healed_at: Seq(0),
            completed_by_then: Vec::new(),
            undisturbed: None,
            trace: Trace::new(config.trace_lines),
            ledger: Ledger::default(),
            succession: Succession::new(plan.membership.as_deref()),
            asked: None,
            granted: None,
            next_machine: ReplicaId(u16::try_from(config.replicas).expect("small")),
            history: History::default(),
            memory: MemoryBound::new(&plan),
            violation: None,
            views: BTreeSet::new(),
            state_transfers: 0,
            evidence: BTreeMap::new(),
            plan,
        }
    }

    fn run(&mut self) {
        for host in 0..self.hosts.len() {
            self.boot(host);
        }
        for client in 0..self.workers.len() {
            let at = self.dice.below(nanos(self.plan.think) + 1);
            self.queue.schedule(at, Happening::ClientTurn { client });
        }
        for (at, fault) in std::mem::take(&mut self.plan.script) {
            self.queue.schedule(at, Happening::Fault(fault));
        }
        let deadline = self.plan.heal_at + nanos(RECOVERY);
        while self.violation.is_none() {
            let Some((at, happening)) = self.queue.pop() else { break };
            self.now = at;
            if at > deadline || self.trace.events() > MAX_EVENTS {
                self.violation = Some(self.explain_what_hangs());
                return;
            }
            self.happen(happening);
            if self.has_healed && self.is_settled() {
                break;
            }
        }
        if self.violation.is_none() {
            self.violation = self.history.check().err();
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrival { from, as_from, to, frame } => {
                self.trace.digest(self.now, 1, place(to), &frame);
                self.trace
                    .line(self.now, Line::Arrival { from, to, frame: frame.clone(), said: line::said::<X> });
                match (to, as_from) {
                    (Node::Host(host), _) if self.is_held_up(host, as_from, &frame) => {}
                    (Node::Host(host), _) => {
                        let input = self.arrival(host, as_from, frame.to_vec());
                        self.input(host, input);
                    }
                    (Node::Client(client), Principal::Replica(machine)) => {
                        if let Some(from) = self.place_for(client, machine) {
                            self.client_input(client, ClientInput::Frame { from, bytes: frame.to_vec() });
                        }
                    }
                    (Node::Client(_), Principal::Client(_)) => {}
                }
            }
            Happening::Timer { host, incarnation, timer, generation } => {
                let at = &mut self.hosts[host];
                if at.incarnation == incarnation && at.timers.get(&timer) == Some(&generation) {
                    at.timers.remove(&timer);
                    self.trace.digest(self.now, 2, host, &[]);
                    self.trace.line(self.now, Line::Timer { host, timer });
                    self.input(host, Input::Timer(timer));
                }
            }
            Happening::Disk { host, incarnation } => self.on_disk(host, incarnation),
            Happening::Refresh { host, incarnation } => self.refresh(host, incarnation),
            Happening::Kept { host, incarnation } => self.on_kept(host, incarnation),
            Happening::ClientTimer { client, generation } => {
                if self.workers[client].generation == generation {
                    self.trace.digest(self.now, 4, client, &[]);
                    self.trace.line(self.now, Line::ClientTimer { client });
                    self.client_input(client, ClientInput::Timer);
                }
            }
            Happening::ClientTurn { client } => self.client_turn(client),
            Happening::HeldUp { host, as_from, frame } => {
                self.trace.digest(self.now, 7, host, &frame);
                self.input(host, Input::Frame { from: as_from, bytes: frame.to_vec() });
            }
            Happening::Fault(fault) => {
                self.trace.digest(self.now, 6, 0, &[]);
                self.on_fault(fault);
            }
        }
    }

    /// Whether an unfair replica hears this later, or never.
    fn is_held_up(&mut self, host: usize, as_from: Principal, frame: &Arc<[u8]>) -> bool {
        let Some(victim) = self.plan.victim.filter(|_| self.hosts[host].is_unfair) else { return false };
        if effects::bringer::<X>(frame) != Some(victim) {
            return false;
        }
        self.injections.note(Injection::HeldBack);
        if !self.plan.lag.is_zero() {
            let happening = Happening::HeldUp { host, as_from, frame: frame.clone() };
            self.queue.schedule(self.now + nanos(self.plan.lag), happening);
        }
        true
    }

    fn on_disk(&mut self, host: usize, incarnation: u32) {
        let at = &mut self.hosts[host];
        if at.incarnation != incarnation {
            return;
        }
        self.trace.digest(self.now, 3, host, &[]);
        match at.written() {
            Ok(Some(id)) => {
                self.trace.line(self.now, Line::Persisted { host, id });
                self.input(host, Input::Persisted(id));
            }
            Ok(None) => {}
            Err(error) => return self.stop_for_disk(host, &error.to_string()),
        }
        self.write(host);
    }

    fn on_kept(&mut self, host: usize, incarnation: u32) {
        let at = &mut self.hosts[host];
        if at.incarnation != incarnation {
            return;
        }
        self.trace.digest(self.now, 7, host, &[]);
        match at.disk.finish_keeping() {
            Ok(Some(seq)) => {
                self.trace.line(self.now, Line::Kept { host, seq });
                self.input(host, Input::Kept(seq));
            }
            Ok(None) => {}
            Err(error) => self.stop_for_disk(host, &error.to_string()),
        }
    }

    /// Lets a host's disk write what waits for it.
    fn write(&mut self, host: usize) {
        let at = &mut self.hosts[host];
        if at.disk.start() {
            let delay = nanos(self.dice.around(self.plan.disk_delay));
            let happening = Happening::Disk { host, incarnation: at.incarnation };
            self.queue.schedule(self.now + delay, happening);
        }
    }

    fn boot(&mut self, host: usize) {
        self.hand_out_present_file(host);
        let at = &mut self.hosts[host];
        if !self.has_healed && self.dice.chance(self.plan.cut_off_starts) {
            at.disk.medium.set_breath(Some(self.dice.index(MOST_STEPS)));
        }
        let booted = at.boot(self.subject, &self.plan, &self.injections);
        at.disk.medium.set_breath(None);
        let startup = match booted {
            Ok(startup) => startup,
            Err(error) => return self.on_refused_disk(host, &error),
        };
        if !at.is_correct {
            at.promised.adopted(&startup);
        } else if let Err(violation) = at.promised.started(host, &startup) {
            self.violation.get_or_insert(violation);
        }
        let what = match &startup {
            Startup::Genesis => "genesis",
            Startup::Recovered { .. } => "from its disk",
            Startup::Amnesia => "with an empty disk",
            Startup::Recovering(Remains { records: Some(_), .. }) => "from its disk, in doubt",
            Startup::Recovering(_) => "with what can be read of its pages",
        };
        self.trace.line(self.now, Line::Booted { host, what });
        self.ledger.restarted(host);
        self.input(host, Input::Start(startup));
        self.refresh(host, self.hosts[host].incarnation);
        if self.hosts[host].incarnation > 0 {
            self.reconnect(host);
        }
        if let Err(violation) = self.check_start(host) {
            self.violation.get_or_insert(violation);
        }
    }

    fn report(self) -> RunReport {
        let trace_tail = |_: &Violation| self.trace.lines().map(|(at, line)| line.words(*at)).collect();
        let failure = self.violation.as_ref().map(|violation| Failure {
            oracle: violation.oracle,
            message: violation.message.clone(),
            trace_tail: trace_tail(violation),
        });
        let ms = |nanos: u64| u64::try_from(Duration::from_nanos(nanos).as_millis()).expect("small");
        let hash = self.trace.hash();
        RunReport {
            config: self.config.clone(),
            trace_hash: hash.0.iter().map(|byte| format!("{byte:02x}")).collect(),
            events: self.trace.events(),
            virtual_time_ms: ms(self.now),
            recovery_ms: ms(self.now.saturating_sub(self.plan.heal_at)),
            faults_injected: self.injections.counts(),
            operations_by_healing: self.completed_by_then.iter().sum(),
            operations_undisturbed: self.undisturbed,
            operations: self.workers.iter().map(|worker| worker.completed).sum(),
            view_changes: self.views.iter().filter(|view| view.0 > 0).count() as u64,
            state_transfers: self.state_transfers,
            evidence: self.evidence.clone(),
            failure,
        }
    }
}

fn place(node: Node) -> usize {
    match node {
        Node::Host(host) => host,
        Node::Client(client) => client + 1000,
    }
}

/// A fault for the trace, without whom it hit.
fn is_loud(fault: &Fault) -> bool {
    !matches!(fault, Fault::Replay | Fault::RogueTurn { .. } | Fault::Theft | Fault::Impersonation)
}
