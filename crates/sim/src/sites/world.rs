use super::config::SitesConfig;
use super::keys::{RESIDENTS, SYSTEM, SiteMaterial, client_identity, lane_client, resident};
use super::plan::{RECOVERY, ServerFault, SitesFault, SitesPlan};
use super::server::{Blueprint, Server, client};
use super::uplinks::Uplinks;
use crate::clock::Clock;
use crate::dice::{Dice, nanos};
use crate::oracle::{History, Ledger, Verdict, Violation};
use crate::report::Failure;
use crate::trace::Trace;
use crate::witness::labelled;
use althing_replica::{
    Client, ClientInput, ClientOutput, Input, OperationKind, Output, ReplyOutcome, Report, Startup,
};
use althing_services::KvOperation;
use althing_types::{ClientId, Instant, Principal, ReplicaId, RequestNumber, Seq, SiteId, decode, encode};
use althing_wide::{
    Answer, Lane, OutpostTimer, Resident, ServerInput, ServerOutput, ServerTimer, SiteOperation, Update,
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Events of one run at most.
const MAX_EVENTS: u64 = 5_000_000;

/// Operations that each client still has to complete once the faults have ended.
const AFTER_HEALING: u64 = 2;

/// Updates that a client of a treacherous site makes at most: each may take effect at any time, which the oracle has
/// to try.
const MOST_OF_TRAITORS: u64 = 6;

/// A place in the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Server(SiteId, ReplicaId),
    Client(ClientId),
}

/// Something that is going to happen.
#[derive(Debug, Clone)]
enum Happening {
    Input(SiteId, ReplicaId, ServerInput),
    Timer(SiteId, ReplicaId, ServerTimer, u64),
    ToClient(ClientId, ReplicaId, Vec<u8>),
    ClientTimer(ClientId, u64),
    Turn(ClientId),
    Fault(SitesFault),
}

impl Happening {
    /// What of it goes into the trace: which kind of thing happens where, and what is said.
    fn essence(&self) -> (u8, usize, &[u8]) {
        let at = |site: &SiteId, me: &ReplicaId| usize::from(site.0) << 16 | usize::from(me.0);
        match self {
            Self::Input(site, me, input) => match input {
                ServerInput::Replica(Input::Frame { bytes, .. }) => (0, at(site, me), bytes),
                ServerInput::ForLane { bytes, .. } => (1, at(site, me), bytes),
                ServerInput::FromServer { bytes, .. } => (2, at(site, me), bytes),
                ServerInput::FromSite { bytes, .. } => (3, at(site, me), bytes),
                ServerInput::Replica(_) | ServerInput::Timer(_) => (4, at(site, me), &[]),
            },
            Self::Timer(site, me, ..) => (5, at(site, me), &[]),
            Self::ToClient(_, from, bytes) => (6, usize::from(from.0), bytes),
            Self::ClientTimer(..) => (7, 0, &[]),
            Self::Turn(_) => (8, 0, &[]),
            Self::Fault(_) => (9, 0, &[]),
        }
    }
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SitesReport {
    /// What was run.
    pub config: SitesConfig,
    /// The digest of all events, in hexadecimal: equal for equal runs.
    pub trace_hash: String,
    /// Events delivered.
    pub events: u64,
    /// How long the run took in virtual time, in milliseconds.
    pub virtual_time_ms: u64,
    /// How much of that came after the faults had ended, in milliseconds.
    pub recovery_ms: u64,
    /// Updates of clients of correct sites that completed.
    pub updates: u64,
    /// How long such an update took on average, in microseconds.
    pub mean_latency_us: u64,
    /// Bytes that left all sites.
    pub wide_area_bytes: u64,
    /// Messages that left all sites.
    pub wide_area_messages: u64,
    /// The oracle that was violated, if one was.
    pub failure: Option<Failure>,
}

impl SitesReport {
    /// Whether all oracles were content.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.failure.is_none()
    }
}

struct Worker {
    site: SiteId,
    client: Client,
    dice: Dice,
    generation: u64,
    made: u64,
    completed: u64,
    goal: Option<u64>,
    called: u64,
}

struct World<'a> {
    config: &'a SitesConfig,
    plan: SitesPlan,
    now: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    scheduled: u64,
    servers: BTreeMap<(SiteId, ReplicaId), Box<dyn Server>>,
    timers: BTreeMap<(SiteId, ReplicaId, ServerTimer), u64>,
    generation: u64,
    workers: BTreeMap<ClientId, Worker>,
    uplinks: Uplinks,
    last_arrivals: BTreeMap<(Place, Place), u64>,
    failed: BTreeSet<SiteId>,
    dice: Dice,
    has_healed: bool,
    trace: Trace<String>,
    ledger: Ledger,
    history: History,
    shown: BTreeMap<(SiteId, ReplicaId), Seq>,
    latency: u64,
    messages: u64,
    violation: Option<Violation>,
}

/// Runs one simulation to its end.
#[must_use]
pub fn simulate(config: &SitesConfig) -> SitesReport {
    let mut world = World::new(config);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.run())) {
        let message = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_else(|| "a panic without a message".to_owned());
        world.violation = Some(Violation::new("panic", message));
    }
    world.report()
}

impl<'a> World<'a> {
    fn new(config: &'a SitesConfig) -> Self {
        let plan = SitesPlan::new(config);
        let mut dice = Dice::new(config.seed);
        let groups = &config.composition.sites;
        let sites = || (0u16..).map(SiteId).take(groups.len());
        let materials: Vec<_> = sites()
            .zip(groups)
            .map(|(site, group)| {
                let has_real_signatures = config.has_real_signatures;
                SiteMaterial::new(site, groups.len(), (group.protocol, group.servers), has_real_signatures)
            })
            .collect();
        let residents =
            sites().flat_map(|site| (0..RESIDENTS).map(move |index| (site, resident(site, index))));
        let residents: BTreeMap<ClientId, Resident> = residents
            .map(|(site, id)| (id, Resident { site, public: client_identity(id).public() }))
            .collect();
        let blueprint = Blueprint { config, plan: &plan, materials: &materials, residents: &residents };
        let mut servers = BTreeMap::new();
        for site in sites() {
            for me in materials[usize::from(site.0)].quorums.replicas() {
                let mut server = blueprint.server(site, me);
                if let Some(lie) = plan.faulty.get(&(site, me)).and_then(|fault| fault.lie()) {
                    server.tamper(lie);
                }
                servers.insert((site, me), server);
            }
        }
        let mut workers = BTreeMap::new();
        for (id, resident) in &residents {
            let material = &materials[usize::from(resident.site.0)];
            let client = client(material, *id, plan.client_retry);
            let worker = Worker {
                site: resident.site,
                client,
                dice: dice.fork(),
                generation: 0,
                made: 0,
                completed: 0,
                goal: None,
                called: 0,
            };
            workers.insert(*id, worker);
        }
        let uplinks = Uplinks::new(plan.wan.clone(), plan.uplink, dice.fork());
        let mut world = Self {
            config,
            now: 0,
            queue: BTreeMap::new(),
            scheduled: 0,
            servers,
            timers: BTreeMap::new(),
            generation: 0,
            workers,
            uplinks,
            last_arrivals: BTreeMap::new(),
            failed: BTreeSet::new(),
            dice,
            has_healed: false,
            trace: Trace::new(config.trace_lines),
            ledger: Ledger::default(),
            history: History::default(),
            shown: BTreeMap::new(),
            latency: 0,
            messages: 0,
            violation: None,
            plan,
        };
        for (at, fault) in world.plan.script.clone() {
            world.schedule(at, Happening::Fault(fault));
        }
        for (site, me) in world.servers.keys().copied().collect::<Vec<_>>() {
            let start = ServerInput::Replica(Input::Start(Startup::Genesis));
            world.schedule(0, Happening::Input(site, me, start));
        }
        for id in world.workers.keys().copied().collect::<Vec<_>>() {
            world.schedule(1_000_000, Happening::Turn(id));
        }
        world
    }

    fn schedule(&mut self, at: u64, happening: Happening) {
        self.scheduled += 1;
        self.queue.insert((at, self.scheduled), happening);
    }

    fn run(&mut self) {
        let end = self.plan.heal_at + nanos(RECOVERY);
        while self.violation.is_none() && !self.is_done() {
            let Some(((at, _), happening)) = self.queue.pop_first() else {
                return self.fail(Violation::new("liveness", "nothing is going to happen any more"));
            };
            if at > end || self.trace.events() > MAX_EVENTS {
                return self.fail(self.stuck());
            }
            self.now = at;
            if let Err(violation) = self.step(happening) {
                return self.fail(violation);
            }
        }
        if self.violation.is_none()
            && let Err(violation) = self.history.check()
        {
            self.fail(violation);
        }
    }

    fn fail(&mut self, violation: Violation) {
        self.violation = Some(violation);
    }

    fn is_correct_site(&self, site: SiteId) -> bool {
        !self.plan.treacherous.contains_key(&site)
    }

    fn is_correct(&self, place: (SiteId, ReplicaId)) -> bool {
        self.is_correct_site(place.0) && !self.plan.faulty.contains_key(&place)
    }

    /// The clients of correct sites have done what they had to, and all correct servers of those have executed the
    /// same.
    fn is_done(&self) -> bool {
        let is_done = |worker: &Worker| {
            worker.goal.is_some_and(|goal| worker.completed >= goal) && worker.client.outstanding().is_none()
        };
        self.has_healed
            && self.workers.values().filter(|it| self.is_correct_site(it.site)).all(is_done)
            && self.is_even()
    }

    fn is_even(&self) -> bool {
        let correct = self.servers.iter().filter(|(place, _)| self.is_correct(**place));
        let mut executed = correct.map(|(_, server)| server.standing().0);
        let first = executed.next();
        executed.all(|seq| Some(seq) == first)
    }

    fn stuck(&self) -> Violation {
        let mut lines = Vec::new();
        for (id, worker) in &self.workers {
            let Worker { completed, goal, .. } = worker;
            lines.push(format!("{id} of {}: {completed} of {goal:?}", worker.site));
        }
        for ((_, me), server) in &self.servers {
            lines.push(format!("{me}: {}", server.describe()));
        }
        Violation::new("liveness", format!("not done in time:\n{}", lines.join("\n")))
    }

    fn step(&mut self, happening: Happening) -> Verdict {
        let (kind, place, bytes) = happening.essence();
        self.trace.digest(self.now, kind, place, bytes);
        if self.config.trace_lines > 0 {
            let words: String = format!("{happening:?}").chars().take(300).collect();
            self.trace.line(self.now, words);
        }
        match happening {
            Happening::Input(site, me, input) => self.input(site, me, input),
            Happening::Timer(site, me, timer, generation) => {
                if self.timers.get(&(site, me, timer)) != Some(&generation) {
                    return Ok(());
                }
                self.timers.remove(&(site, me, timer));
                self.input(site, me, ServerInput::Timer(timer))
            }
            Happening::ToClient(id, from, bytes) => self.client_input(id, ClientInput::Frame { from, bytes }),
            Happening::ClientTimer(id, generation) if self.workers[&id].generation == generation => {
                self.client_input(id, ClientInput::Timer)
            }
            Happening::ClientTimer(..) => Ok(()),
            Happening::Turn(id) => {
                self.take_turn(id);
                Ok(())
            }
            Happening::Fault(fault) => {
                self.strike(fault);
                Ok(())
            }
        }
    }

    fn strike(&mut self, fault: SitesFault) {
        let sites = || (0u16..).map(SiteId).take(self.config.composition.sites.len());
        match fault {
            SitesFault::Split(group) => self.uplinks.split(&group, sites()),
            SitesFault::Fail(sites) => self.failed.extend(sites),
            SitesFault::Mend => {
                self.failed.clear();
                self.uplinks.mend();
                if self.now >= self.plan.heal_at && !self.has_healed {
                    self.has_healed = true;
                    self.uplinks.clear_up();
                    for worker in self.workers.values_mut() {
                        let under_way = u64::from(worker.client.outstanding().is_some());
                        worker.goal = Some(worker.completed + AFTER_HEALING + under_way);
                    }
                }
            }
        }
    }

    fn instant(&self) -> Instant {
        Clock::TRUE.read(self.now)
    }

    fn input(&mut self, site: SiteId, me: ReplicaId, input: ServerInput) -> Verdict {
        let fault = self.plan.faulty.get(&(site, me)).copied();
        let is_from_site = matches!(input, ServerInput::FromSite { .. });
        let is_cut_off = self.failed.contains(&site) && !matches!(input, ServerInput::Timer(_));
        if is_cut_off
            || fault == Some(ServerFault::Down)
            || (is_from_site && fault == Some(ServerFault::DeafPeer))
        {
            return Ok(());
        }
        let mut outputs = Vec::new();
        let server = self.servers.get_mut(&(site, me)).expect("it is there");
        server.handle(Clock::TRUE.read(self.now), input, &mut outputs);
        for output in outputs {
            self.output(site, me, output)?;
        }
        self.check(site, me)
    }

    /// Holds a correct server of a correct site to what it has executed.
    fn check(&mut self, site: SiteId, me: ReplicaId) -> Verdict {
        let place = (site, me);
        if !self.is_correct(place) {
            return Ok(());
        }
        let host = usize::from(site.0) * 100 + usize::from(me.0);
        let server = &self.servers[&place];
        let seq = server.standing().0;
        let from = self.shown.insert(place, seq).unwrap_or_default();
        if seq > from { server.show(host, from, &mut self.ledger) } else { Ok(()) }
    }

    /// Carries out what a server wants.
    fn output(&mut self, site: SiteId, me: ReplicaId, output: ServerOutput) -> Verdict {
        let fault = self.plan.faulty.get(&(site, me)).copied();
        let from = Place::Server(site, me);
        match output {
            ServerOutput::Replica(output) => return self.replica_output(site, me, *output),
            ServerOutput::FromLane { lane, to, frame } => {
                let from_client = Principal::Client(lane_client(me, lane));
                let bytes = frame.to_vec();
                let input = ServerInput::Replica(Input::Frame { from: from_client, bytes });
                self.deliver(from, Place::Server(site, to), Happening::Input(site, to, input));
            }
            ServerOutput::ToServer { to, bytes } => {
                let mut bytes = bytes.to_vec();
                if fault == Some(ServerFault::WrongShares) && !bytes.is_empty() {
                    let last = bytes.len() - 1;
                    bytes[last] ^= 1;
                }
                let input = ServerInput::FromServer { from: me, bytes };
                self.deliver(from, Place::Server(site, to), Happening::Input(site, to, input));
            }
            ServerOutput::ToSite { site: to, server, bytes } => {
                let lag = match fault {
                    Some(ServerFault::SilentForwarder) => return Ok(()),
                    Some(ServerFault::SlowForwarder(lag)) => nanos(lag),
                    _ => 0,
                };
                if self.failed.contains(&site) {
                    return Ok(());
                }
                self.messages += 1;
                for at in self.uplinks.arrivals(self.now, site, to, bytes.len()) {
                    let input = ServerInput::FromSite { site, server: me, bytes: bytes.to_vec() };
                    self.schedule(at + lag, Happening::Input(to, server, input));
                }
            }
            ServerOutput::SetTimer { timer, after } => {
                let is_of_site = matches!(timer, ServerTimer::Outpost(OutpostTimer::Machine(_)));
                let is_at_once = is_of_site && fault == Some(ServerFault::Hasty);
                let after = if is_at_once { Duration::ZERO } else { after };
                self.generation += 1;
                self.timers.insert((site, me, timer), self.generation);
                let generation = self.generation;
                self.schedule(self.now + nanos(after), Happening::Timer(site, me, timer, generation));
            }
            ServerOutput::CancelTimer(timer) => drop(self.timers.remove(&(site, me, timer))),
            ServerOutput::WrongShare(liar) => {
                if self.is_correct((site, me)) && self.is_correct((site, liar)) {
                    let message = format!("{me} of {site} says that {liar} sent a wrong share");
                    return Err(Violation::new("accusation", message));
                }
            }
        }
        Ok(())
    }

    fn replica_output(&mut self, site: SiteId, me: ReplicaId, output: Output) -> Verdict {
        let from = Place::Server(site, me);
        match output {
            Output::Send { to: Principal::Replica(to), frame }
            | Output::SendLazily { to: Principal::Replica(to), frame } => {
                let principal = Principal::Replica(me);
                let input = ServerInput::Replica(Input::Frame { from: principal, bytes: frame.to_vec() });
                self.deliver(from, Place::Server(site, to), Happening::Input(site, to, input));
            }
            Output::Send { to: Principal::Client(to), frame }
            | Output::SendLazily { to: Principal::Client(to), frame } => {
                let bytes = frame.to_vec();
                match self.lane_of(to) {
                    Some((server, lane)) => {
                        let input = ServerInput::ForLane { lane, from: me, bytes };
                        self.deliver(
                            from,
                            Place::Server(site, server),
                            Happening::Input(site, server, input),
                        );
                    }
                    None => self.deliver(from, Place::Client(to), Happening::ToClient(to, me, bytes)),
                }
            }
            Output::Report(Report::StateRefused { seq, error }) if self.is_correct((site, me)) => {
                let message = format!("{me} of {site} refuses the state of {seq}: {error}");
                return Err(Violation::new("checkpoint", message));
            }
            Output::Report(Report::Diverged { seq }) if self.is_correct((site, me)) => {
                let message = format!("{me} of {site} has diverged at {seq}");
                return Err(Violation::new("checkpoint", message));
            }
            Output::Stop(reason) => {
                return Err(Violation::new("checkpoint", format!("{me} of {site} stops: {reason}")));
            }
            _ => {}
        }
        Ok(())
    }

    /// The server that a client of a group is a lane of, if it is one.
    fn lane_of(&self, id: ClientId) -> Option<(ReplicaId, Lane)> {
        if id.0 >> 32 != 1 {
            return None;
        }
        let server = ReplicaId(u16::try_from(id.0 >> 16 & 0xffff).ok()?);
        let lane = match u16::try_from(id.0 & 0xffff).ok()? {
            0 => Lane::Control,
            site => Lane::From(SiteId(site - 1)),
        };
        Some((server, lane))
    }

    /// Sends within a site: in order, and nothing is lost unless the site has failed.
    fn deliver(&mut self, from: Place, to: Place, happening: Happening) {
        let lan = &self.plan.lan;
        let delay = nanos(self.dice.duration(lan.least_delay, lan.most_delay));
        let last = self.last_arrivals.entry((from, to)).or_default();
        let at = (self.now + delay).max(*last + 1);
        *last = at;
        self.schedule(at, happening);
    }

    fn take_turn(&mut self, id: ClientId) {
        let now = self.instant();
        let worker = self.workers.get_mut(&id).expect("it is there");
        let is_traitors = self.plan.treacherous.contains_key(&worker.site);
        let is_over = worker.goal.is_some_and(|goal| worker.completed >= goal)
            || (is_traitors && worker.made >= MOST_OF_TRAITORS);
        if is_over || worker.client.outstanding().is_some() {
            return;
        }
        worker.made += 1;
        let key = format!("k{}", worker.dice.below(3)).into_bytes();
        let value = format!("{id}:{}", worker.made).into_bytes();
        let operation = match worker.dice.below(3) {
            0 => KvOperation::Get { key },
            _ => KvOperation::Put { key, value },
        };
        let bytes = labelled(id.0 << 32 | worker.made, &operation.encode());
        let number = RequestNumber(worker.made);
        let update = Update::new((SYSTEM, id, &client_identity(id)), number, bytes.clone());
        let mut outputs = Vec::new();
        let submitted = encode(&SiteOperation::Update(update));
        worker.called = self.now;
        worker
            .client
            .submit(now, submitted, OperationKind::Ordered, &mut outputs)
            .expect("nothing is under way");
        // What a client of a traitor does takes effect at any time, if at all: what it is told says nothing.
        self.history.called(self.now, id, number, operation);
        self.ledger.submitted(id, bytes);
        self.client_outputs(id, outputs).expect("submitting completes nothing");
    }

    fn client_input(&mut self, id: ClientId, input: ClientInput) -> Verdict {
        let now = self.instant();
        let mut outputs = Vec::new();
        self.workers.get_mut(&id).expect("it is there").client.handle(now, input, &mut outputs);
        self.client_outputs(id, outputs)
    }

    fn client_outputs(&mut self, id: ClientId, outputs: Vec<ClientOutput>) -> Verdict {
        for output in outputs {
            let worker = self.workers.get_mut(&id).expect("it is there");
            let site = worker.site;
            match output {
                ClientOutput::Send { to, frame } => {
                    let input = Input::Frame { from: Principal::Client(id), bytes: frame.to_vec() };
                    let happening = Happening::Input(site, to, ServerInput::Replica(input));
                    self.deliver(Place::Client(id), Place::Server(site, to), happening);
                }
                ClientOutput::SetTimer { after } => {
                    worker.generation += 1;
                    let generation = worker.generation;
                    self.schedule(self.now + nanos(after), Happening::ClientTimer(id, generation));
                }
                ClientOutput::CancelTimer => worker.generation += 1,
                ClientOutput::Completed { result, .. } => self.completed(id, &result)?,
                ClientOutput::ResultTooLong { .. } | ClientOutput::Superseded { .. } => {
                    let message = format!("{id} was told {output:?}");
                    return Err(Violation::new("linearizability", message));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn completed(&mut self, id: ClientId, result: &[u8]) -> Verdict {
        let think = self.dice.around(self.plan.think);
        self.schedule(self.now + nanos(think), Happening::Turn(id));
        let worker = self.workers.get_mut(&id).expect("it is there");
        worker.completed += 1;
        let (site, made, took) = (worker.site, worker.made, self.now - worker.called);
        if !self.is_correct_site(site) {
            return Ok(());
        }
        self.latency += took;
        match decode(result, 1 << 16) {
            Ok(Answer::Executed(ReplyOutcome::Result(result))) => {
                self.history.returned(self.now, id, RequestNumber(made), &result)
            }
            answer => {
                let message = format!("{id} was answered {answer:?} to its update {made}");
                Err(Violation::new("linearizability", message))
            }
        }
    }

    fn report(self) -> SitesReport {
        let updates: u64 =
            self.workers.values().filter(|it| self.is_correct_site(it.site)).map(|it| it.completed).sum();
        let failure = self.violation.map(|violation| Failure {
            oracle: violation.oracle,
            message: violation.message,
            trace_tail: self
                .trace
                .lines()
                .map(|(at, line)| format!("{:>6}.{:03} ms {line}", at / 1_000_000, at / 1_000 % 1_000))
                .collect(),
        });
        SitesReport {
            config: self.config.clone(),
            trace_hash: self.trace.hash().to_string(),
            events: self.trace.events(),
            virtual_time_ms: self.now / 1_000_000,
            recovery_ms: self.now.saturating_sub(self.plan.heal_at) / 1_000_000,
            updates,
            mean_latency_us: self.latency / updates.max(1) / 1000,
            wide_area_bytes: self.uplinks.sent.values().sum(),
            wide_area_messages: self.messages,
            failure,
        }
    }
}
