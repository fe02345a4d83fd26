use super::attack::{Attack, Attacker, Beside};
use super::injection::{Injected, Injection, Whom};
use super::load::{
    Gap, Load, LoadProcesses, Observed, Role, ServiceKind, Window, Workload, monotonic_ns, sleep_until,
};
use super::settings::{ContenderSettings, Settings};
use super::usage::{Meter, Part, Used, forget_peak_memory};
use crate::running::{Running, ask};
use althing_node::config::{ProtocolKind, RawService};
use althing_node::control::{Fault, Request};
use althing_node::deployment::{ProvisionOptions, ServiceGroup, provision_service};
use miette::{IntoDiagnostic, Result, miette};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between the order to begin and the begin: enough for all load processes to have it.
const ORDER_AHEAD: Duration = Duration::from_millis(50);

/// What one run found.
pub(super) struct Run {
    pub(super) observed: Observed,
    pub(super) used: Vec<Used>,
    /// Cores that everything else on the machine kept busy.
    pub(super) foreign_cores: f64,
    pub(super) injected: Vec<Injected>,
    /// Views that replicas left, over all of them.
    pub(super) views_left: u64,
    /// Cores that an attacker kept busy, or who was as busy.
    pub(super) attacker_cores: Option<f64>,
}

/// A group that runs, and the processes that put it under load.
pub(super) struct Contender<'a> {
    pub(super) settings: &'a ContenderSettings,
    bench: &'a Settings,
    home: PathBuf,
    /// How often it was made anew.
    generation: u32,
    /// Whether faults were injected into it.
    is_spent: bool,
    running: Running,
    load: LoadProcesses,
}

/// The replicas of a group that runs.
pub(super) struct Replicas<'a> {
    pub(super) running: &'a Running,
    pub(super) names: Vec<String>,
}

impl<'a> Contender<'a> {
    /// Makes the group below `home`, and starts it.
    pub(super) async fn start(
        settings: &'a ContenderSettings,
        bench: &'a Settings,
        home: &Path,
    ) -> Result<Self> {
        let home = home.join(&settings.name);
        let (running, load) = start(settings, bench, &home.join("0")).await?;
        Ok(Self { settings, bench, home, generation: 0, is_spent: false, running, load })
    }

    /// Puts it under a load, with this beside it, and measures. `busy` knows how many cores each attacker kept
    /// busy in the run before.
    pub(super) async fn run(
        &mut self,
        load: Load,
        beside: Option<Beside>,
        busy: &mut BTreeMap<Attack, f64>,
    ) -> Result<Run> {
        if self.is_spent {
            self.renew().await?;
        }
        self.load.connect(load.clients()).await?;
        let before = self.pids().await;
        let load_pids = self.load.pids();
        before.values().chain(&load_pids).for_each(|pid| forget_peak_memory(*pid));
        let left_before = self.views_left().await;
        let attacking = self.attack(beside, busy).await?;

        let start_ns = monotonic_ns() + nanos(ORDER_AHEAD);
        let from_ns = start_ns + nanos(self.bench.warm_up());
        let window = Window { start_ns, from_ns, until_ns: from_ns + nanos(self.bench.measured()) };
        self.load.begin(load, window).await?;
        sleep_until(window.from_ns).await;
        let began_ns = monotonic_ns();
        let mut processes = metered(&before, &load_pids);
        processes.extend(attacking.pid().map(|pid| ("attacker".to_owned(), Part::Attacker, pid)));
        let mut meter = Meter::begin(processes);
        let mut injected = self.inject_all(&window, &mut meter).await?;
        sleep_until(window.until_ns).await;
        let after = if self.is_spent { self.pids().await } else { before };
        let elapsed = Duration::from_nanos(monotonic_ns() - began_ns);
        let (used, foreign_cores) = meter.end(elapsed, |name| after.get(name).copied());

        let observed = self.load.observed(&window).await?;
        injected.iter_mut().for_each(|injected| injected.look_at(&observed));
        // One that was started again counts from nothing.
        let views_left = self.views_left().await.saturating_sub(left_before);
        let attacker_cores = attacking.cores(&used, elapsed);
        if let (Some(Beside::Attacker(attack)), Some(cores)) = (beside, attacker_cores) {
            busy.insert(attack, cores);
        }
        self.end_attack(attacking).await?;
        Ok(Run { observed, used, foreign_cores, injected, views_left, attacker_cores })
    }

    /// Starts what is to run beside the load.
    async fn attack(&self, beside: Option<Beside>, busy: &BTreeMap<Attack, f64>) -> Result<Attacking> {
        let (attack, beside) = match beside {
            None => return Ok(Attacking::Nobody),
            Some(beside @ (Beside::Attacker(attack) | Beside::Busy(attack))) => (attack, beside),
        };
        if let (Some(with), Beside::Attacker(_)) = (attack.of_replica(), beside) {
            let replicas = Replicas { running: &self.running, names: self.names() };
            let names = Whom::Backup.among(&replicas).await?;
            let name = names.into_iter().next().ok_or_else(|| miette!("there is no backup"))?;
            let fault = Fault::Flood { with };
            ask(&self.running.deployment, &name, &Request::Inject { fault }).await?;
            return Ok(Attacking::Replica(name));
        }
        let cores = busy.get(&attack).copied().unwrap_or_default();
        Ok(Attacking::Process(Attacker::start(beside, &self.attackers_file()?, cores)?))
    }

    async fn end_attack(&self, attacking: Attacking) -> Result<()> {
        match attacking {
            Attacking::Nobody => Ok(()),
            Attacking::Process(attacker) => attacker.end().await,
            Attacking::Replica(name) => {
                let request = Request::Inject { fault: Fault::None };
                ask(&self.running.deployment, &name, &request).await.map(|_| ())
            }
        }
    }

    /// The client that nobody else is.
    fn attackers_file(&self) -> Result<PathBuf> {
        let deployment = &self.running.deployment;
        let last = deployment.clients().last().ok_or_else(|| miette!("there is no client to be"))?;
        Ok(deployment.client_file(&last.name))
    }

    /// A new group in the place of one that was made faulty: each run begins with an honest one.
    async fn renew(&mut self) -> Result<()> {
        for name in self.names() {
            self.running.supervisor.kill(&name).await.into_diagnostic()?;
        }
        self.generation += 1;
        let home = self.home.join(self.generation.to_string());
        (self.running, self.load) = start(self.settings, self.bench, &home).await?;
        self.is_spent = false;
        Ok(())
    }

    /// Injects all faults, each in its time. A server that nothing backs is spared.
    async fn inject_all(&mut self, window: &Window, meter: &mut Meter) -> Result<Vec<Injected>> {
        let mut injected = Vec::new();
        if self.settings.protocol == ProtocolKind::Unreplicated {
            return Ok(injected);
        }
        let mut injections = self.bench.injections.clone();
        injections.sort_by(|a, b| a.at.total_cmp(&b.at));
        for fault in injections {
            self.is_spent = true;
            let replicas = Replicas { running: &self.running, names: self.names() };
            let due_ns = window.from_ns + nanos(Duration::from_secs_f64(fault.at));
            sleep_until(due_ns).await;
            let names = fault.inject(&replicas, meter).await?;
            let at_ms = usize::try_from((monotonic_ns() - window.from_ns) / 1_000_000).into_diagnostic()?;
            injected.push(Injected { fault, replicas: names, at_ms, longest_gap: Gap::default() });
        }
        Ok(injected)
    }

    fn names(&self) -> Vec<String> {
        self.running.replicas_of(&self.settings.name)
    }

    /// The process ids of those replicas that answer.
    async fn pids(&self) -> BTreeMap<String, u32> {
        let mut pids = BTreeMap::new();
        for name in self.names() {
            if let Ok(report) = self.running.replica(&name).await {
                pids.insert(name, report.pid);
            }
        }
        pids
    }

    async fn views_left(&self) -> u64 {
        let mut left = 0;
        for name in self.names() {
            left += self.running.replica(&name).await.map_or(0, |report| report.counters.views_left);
        }
        left
    }
}

async fn start(
    settings: &ContenderSettings,
    bench: &Settings,
    home: &Path,
) -> Result<(Running, LoadProcesses)> {
    let Workload { service, reply_bytes, .. } = bench.workload;
    let sessions = usize::from(bench.clients_per_connection);
    // Each load process has connections of its own.
    let processes = bench.load_processes as usize;
    let attackers = usize::from(!bench.attacks.is_empty());
    let group = ServiceGroup {
        name: settings.name.clone(),
        n: settings.replicas(),
        f: settings.f,
        protocol: settings.protocol,
        durability: settings.durability,
        service: match service {
            ServiceKind::Null => RawService::Null { reply_bytes },
            ServiceKind::Kv => RawService::Kv,
        },
        clients: processes * bench.clients().div_ceil(processes).div_ceil(sessions) + attackers,
        sessions: bench.clients_per_connection,
    };
    let options = ProvisionOptions {
        pbft: bench.pbft.clone(),
        request_auth: settings.request_auth,
        reads: bench.reads,
        allow_injection: bench.injections.iter().any(Injection::needs_permission) || attackers > 0,
        ..ProvisionOptions::default()
    };
    let deployment = provision_service(home, &group, &options).into_diagnostic()?;
    let clients = deployment.clients();
    let clients = clients[..clients.len() - attackers].iter();
    let role = Role {
        client_files: clients.map(|c| deployment.client_file(&c.name)).collect(),
        workload: bench.workload.clone(),
        timeout_ms: u64::try_from(bench.timeout().as_millis()).unwrap_or(u64::MAX),
        seed: bench.seed,
        index: 0,
        of: 1,
    };
    let running = Running::start(deployment).await?;
    let load = LoadProcesses::start(bench.load_processes, &role).await?;
    Ok((running, load))
}

/// Who attacks, in a run.
enum Attacking {
    Nobody,
    Process(Attacker),
    /// A replica of the group.
    Replica(String),
}

impl Attacking {
    fn pid(&self) -> Option<u32> {
        match self {
            Self::Process(attacker) => attacker.pid(),
            Self::Nobody | Self::Replica(_) => None,
        }
    }

    /// How many cores it kept busy: in the case of a replica, more than the others did.
    fn cores(&self, used: &[Used], elapsed: Duration) -> Option<f64> {
        let seconds = |used: &Used| used.usage.cpu.as_secs_f64();
        let busy = match self {
            Self::Nobody => return None,
            Self::Process(_) => used.iter().filter(|used| used.part == Part::Attacker).map(seconds).sum(),
            Self::Replica(name) => {
                let replicas = || used.iter().filter(|used| used.part == Part::Replica);
                let own = replicas().find(|used| used.name == *name).map_or(0.0, seconds);
                let others: Vec<_> = replicas().filter(|used| used.name != *name).map(seconds).collect();
                let count = u32::try_from(others.len()).ok()?.max(1);
                (own - others.iter().sum::<f64>() / f64::from(count)).max(0.0)
            }
        };
        Some(busy / elapsed.as_secs_f64())
    }
}

/// What is metered: the replicas, and the load processes by number.
fn metered(replicas: &BTreeMap<String, u32>, load: &[u32]) -> Vec<(String, Part, u32)> {
    let replicas = replicas.iter().map(|(name, pid)| (name.clone(), Part::Replica, *pid));
    let load = load.iter().enumerate().map(|(i, pid)| (format!("load-{i}"), Part::Load, *pid));
    replicas.chain(load).collect()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
