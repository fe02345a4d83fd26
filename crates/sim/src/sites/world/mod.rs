//! One run of a system of sites.

mod clients;
mod fabricator;
mod hosts;
mod operators;
mod servers;

use super::config::SitesConfig;
use super::host::Host;
use super::keys::{RESIDENTS, SiteMaterial, client_identity, operator, resident};
use super::plan::{RECOVERY, ServerFault, SitesFault, SitesPlan};
use super::report::SitesReport;
use super::server::{client, membership};
use super::uplinks::Uplinks;
use crate::clock::Clock;
use crate::dice::{Dice, nanos};
use crate::oracle::{History, Ledger, Succession, Verdict, Violation};
use crate::report::Failure;
use crate::trace::Trace;
use althing_replica::{ClientInput, Input};
use althing_types::{ClientId, Epoch, Instant, ReplicaId, RequestNumber, Seq, SiteId};
use althing_wide::{Resident, ServerInput, ServerTimer};
use clients::Worker;
use fabricator::Fabricator;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Events of one run at most.
const MAX_EVENTS: u64 = 5_000_000;

/// Operations that each client still has to complete once the faults have ended.
const AFTER_HEALING: u64 = 2;

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
    /// A machine starts its server.
    Boot(SiteId, ReplicaId),
    /// A disk has written what it was given, unless its machine has gone down since.
    Written(SiteId, ReplicaId, u32),
    /// A disk has written a state.
    Kept(SiteId, ReplicaId, u32),
    /// A server that fabricates does.
    Fabricate(SiteId, ReplicaId),
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
            Self::Boot(site, me) => (10, at(site, me), &[]),
            Self::Written(site, me, _) => (11, at(site, me), &[]),
            Self::Kept(site, me, _) => (12, at(site, me), &[]),
            Self::Fabricate(site, me) => (13, at(site, me), &[]),
        }
    }
}

struct World<'a> {
    config: &'a SitesConfig,
    plan: SitesPlan,
    materials: Vec<SiteMaterial>,
    residents: BTreeMap<ClientId, Resident>,
    now: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    scheduled: u64,
    hosts: BTreeMap<(SiteId, ReplicaId), Host>,
    fabricators: BTreeMap<(SiteId, ReplicaId), Fabricator>,
    timers: BTreeMap<(SiteId, ReplicaId, ServerTimer), u64>,
    generation: u64,
    workers: BTreeMap<ClientId, Worker>,
    /// How each site's group changes, if it does.
    successions: BTreeMap<SiteId, Succession>,
    /// The last epoch of each that its operator was granted.
    granted: BTreeMap<SiteId, Epoch>,
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
        world.violation = Some(Violation::of_panic(&*panic));
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
        let mut hosts = BTreeMap::new();
        let mut fabricators = BTreeMap::new();
        for site in sites() {
            for me in materials[usize::from(site.0)].quorums.replicas() {
                hosts.insert((site, me), Host::new(plan.durability, &mut dice));
                if plan.faulty.get(&(site, me)) == Some(&ServerFault::Fabricates) {
                    let keys = SiteMaterial::public(&materials, me);
                    fabricators.insert((site, me), Fabricator::new(dice.fork(), keys));
                }
            }
        }
        let first = |site: SiteId| membership(&plan, (site, config), &materials[usize::from(site.0)]);
        let mut workers = BTreeMap::new();
        let mut add = |id: ClientId, site: SiteId, is_operator: bool| {
            let material = &materials[usize::from(site.0)];
            let client = client(material, id, plan.client_retry, RequestNumber(1), first(site));
            let worker = Worker {
                site,
                client,
                dice: dice.fork(),
                generation: 0,
                made: 0,
                completed: 0,
                goal: None,
                called: 0,
                is_operator,
            };
            workers.insert(id, worker);
        };
        for (id, resident) in &residents {
            add(*id, resident.site, false);
        }
        let mut successions = BTreeMap::new();
        for site in sites() {
            if let Some(first) = first(site) {
                successions.insert(site, Succession::new(Some(&first)));
                add(operator(site), site, true);
            }
        }
        let uplinks = Uplinks::new(plan.wan.clone(), plan.uplink, dice.fork());
        let mut world = Self {
            config,
            now: 0,
            queue: BTreeMap::new(),
            scheduled: 0,
            hosts,
            fabricators,
            materials,
            residents,
            timers: BTreeMap::new(),
            generation: 0,
            workers,
            successions,
            granted: BTreeMap::new(),
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
        for (site, me) in world.hosts.keys().copied().collect::<Vec<_>>() {
            world.schedule(0, Happening::Boot(site, me));
        }
        for (site, me) in world.fabricators.keys().copied().collect::<Vec<_>>() {
            world.schedule(0, Happening::Fabricate(site, me));
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
        let correct = self.hosts.iter().filter(|(place, _)| self.is_correct(**place));
        let mut executed = correct.map(|(_, host)| host.server.as_ref().map(|server| server.standing().0));
        let first = executed.next().flatten();
        let are_there = |(place, host): (&(SiteId, ReplicaId), &Host)| {
            let membership = host.server.as_ref().and_then(|server| server.membership());
            let epoch = membership.map(|membership| membership.epoch);
            self.granted.get(&place.0).is_none_or(|granted| epoch.is_some_and(|epoch| epoch >= *granted))
        };
        let mut correct = self.hosts.iter().filter(|(place, _)| self.is_correct(**place));
        first.is_some() && executed.all(|seq| seq == first) && correct.all(are_there)
    }

    fn stuck(&self) -> Violation {
        let mut lines = Vec::new();
        for (id, worker) in &self.workers {
            let Worker { completed, goal, .. } = worker;
            lines.push(format!("{id} of {}: {completed} of {goal:?}", worker.site));
        }
        for ((site, me), host) in &self.hosts {
            let words = host.server.as_ref().map_or_else(|| format!("{site}: down"), |it| it.describe());
            lines.push(format!("{me}: {words}"));
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
            Happening::Boot(site, me) => self.boot(site, me),
            Happening::Written(site, me, incarnation) => self.written(site, me, incarnation),
            Happening::Kept(site, me, incarnation) => self.kept(site, me, incarnation),
            Happening::Fabricate(site, me) => {
                self.fabricate(site, me);
                Ok(())
            }
        }
    }

    fn strike(&mut self, fault: SitesFault) {
        let sites = || (0u16..).map(SiteId).take(self.config.composition.sites.len());
        match fault {
            SitesFault::Split(group) => self.uplinks.split(&group, sites()),
            SitesFault::Fail(sites) => self.failed.extend(sites),
            SitesFault::Crash(places, how, down) => {
                for (site, me) in places {
                    self.crash(site, me, how);
                    self.schedule(self.now + nanos(down), Happening::Boot(site, me));
                }
            }
            SitesFault::Mend => {
                self.failed.clear();
                self.uplinks.mend();
                if self.now >= self.plan.heal_at && !self.has_healed {
                    self.has_healed = true;
                    self.uplinks.clear_up();
                    for worker in self.workers.values_mut() {
                        let under_way = u64::from(worker.client.outstanding().is_some());
                        let more = if worker.is_operator { 0 } else { AFTER_HEALING };
                        worker.goal = Some(worker.completed + more + under_way);
                    }
                }
            }
        }
    }

    fn instant(&self) -> Instant {
        Clock::TRUE.read(self.now)
    }

    fn report(self) -> SitesReport {
        let counts = |it: &&Worker| !it.is_operator && self.is_correct_site(it.site);
        let updates: u64 = self.workers.values().filter(counts).map(|it| it.completed).sum();
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
