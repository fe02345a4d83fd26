//! A group of real processes, and clients that work on a few keys together while a test does something
//! to the replicas. What they were told is judged in the end.

use althing_node::GroupClient;
use althing_node::config::{ClientFile, ProtocolKind, RawPbft, RawService};
use althing_node::control::{self, Fault, ReplicaReport, Request, Response, Status};
use althing_node::deployment::{Deployment, ProvisionOptions, ServiceGroup, provision_service};
use althing_node::supervisor::{Launch, Supervisor};
use althing_replica::Durability;
use althing_services::KvOperation;
use althing_sim::judge::History;
use althing_types::{ClientId, RequestNumber};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How long an operation may take while replicas come and go: far longer than it does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Clients that work at the same time.
pub(crate) const CLIENTS: usize = 6;

/// Keys that they share at any time.
const KEYS: u64 = 4;

/// A group of real processes, and a supervisor that starts them again only when it is told to.
pub(crate) struct Group {
    pub(crate) deployment: Deployment,
    pub(crate) supervisor: Arc<Supervisor>,
    _home: TempDir,
}

impl Group {
    pub(crate) async fn start(durability: Durability) -> Self {
        Self::start_recovering(durability, 0).await
    }

    /// Three replicas that crash and do not lie.
    pub(crate) async fn start_paxos(durability: Durability) -> Self {
        Self::start_with((ProtocolKind::Paxos, 1), durability, Self::often(), 0).await
    }

    /// Replicas that run PBFT, of which `f` may be faulty, with this view timeout at first.
    pub(crate) async fn start_large(f: usize, view_timeout: Duration) -> Self {
        let view_timeout_ms = u64::try_from(view_timeout.as_millis()).expect("a short time");
        let pbft = RawPbft { view_timeout_ms, ..Self::often() };
        Self::start_with((ProtocolKind::Pbft, f), Durability::Sync, pbft, 0).await
    }

    /// One in which each replica recovers once in so many milliseconds, or never.
    pub(crate) async fn start_recovering(durability: Durability, proactive_recovery_ms: u64) -> Self {
        Self::start_with((ProtocolKind::Pbft, 1), durability, Self::often(), proactive_recovery_ms).await
    }

    /// Checkpoints, and with them new logs, come often.
    fn often() -> RawPbft {
        RawPbft {
            checkpoint_period: 16,
            log_size: 64,
            view_timeout_ms: 500,
            status_period_ms: 50,
            ..RawPbft::default()
        }
    }

    async fn start_with(
        (protocol, f): (ProtocolKind, usize),
        durability: Durability,
        pbft: RawPbft,
        proactive_recovery_ms: u64,
    ) -> Self {
        let home = TempDir::new().expect("a temporary directory");
        let group = ServiceGroup {
            name: "kv".to_owned(),
            n: protocol.least_replicas(f),
            f,
            protocol,
            durability,
            service: RawService::Kv,
            clients: CLIENTS + 1,
            sessions: 1,
        };
        let options = ProvisionOptions {
            pbft,
            allow_injection: true,
            proactive_recovery_ms,
            ..ProvisionOptions::default()
        };
        let deployment = provision_service(&home.path().join("run"), &group, &options).expect("a deployment");
        let (ended, _) = mpsc::unbounded_channel();
        let binary = Path::new(env!("CARGO_BIN_EXE_althing"));
        let supervisor = Supervisor::start(binary, Launch::all_of(&deployment), ended).await;
        Self { deployment, supervisor: Arc::new(supervisor.expect("the replicas start")), _home: home }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.supervisor.names().map(str::to_owned).collect()
    }

    /// SIGKILL to all of these, at once.
    pub(crate) async fn kill(&self, names: &[String]) {
        let mut kills = JoinSet::new();
        for name in names {
            let (name, supervisor) = (name.clone(), Arc::clone(&self.supervisor));
            kills.spawn(async move { supervisor.kill(&name).await });
        }
        while let Some(killed) = kills.join_next().await {
            killed.expect("no panic").expect("a replica can be killed");
        }
    }

    pub(crate) async fn restart(&self, names: &[String]) {
        for name in names {
            self.supervisor.restart(name, false).await.expect("a replica can be started");
        }
    }

    pub(crate) async fn client(&self, index: usize) -> GroupClient {
        let file = self.deployment.client_file(&format!("client-{index}"));
        let file = ClientFile::load(&file).expect("a client's file");
        GroupClient::connect(&file).await.expect("a client can be started")
    }

    /// Waits until the report of a replica is as wished, and returns it.
    pub(crate) async fn until(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&ReplicaReport) -> bool,
    ) -> ReplicaReport {
        let started = Instant::now();
        loop {
            let answer = control::request(&self.deployment.control_socket(name), &Request::Status).await;
            if let Ok(Response::Status(status)) = &answer
                && let Status::Replica(report) = &**status
                && is_so(report)
            {
                return report.clone();
            }
            assert!(started.elapsed() < PATIENCE, "{name} is not {what}: {answer:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What the clients share.
struct Work {
    epoch: Instant,
    history: Mutex<History>,
    done: AtomicU64,
    keys: AtomicU64,
    /// What the slowest operation took since somebody last looked, in nanoseconds.
    slowest: AtomicU64,
    /// When an operation was done last.
    done_at: AtomicU64,
    /// The longest time in which none was done, since somebody last looked, in nanoseconds.
    pause: AtomicU64,
    is_over: AtomicBool,
}

impl Work {
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).expect("a short test")
    }

    async fn ask(&self, client: &GroupClient, who: (ClientId, RequestNumber), operation: KvOperation) {
        let (id, number) = who;
        let bytes = operation.encode();
        let called = self.now();
        self.history.lock().expect("no panic").called(called, id, number, operation);
        let answer = client.invoke_within(bytes, PATIENCE).await;
        let answer = answer.unwrap_or_else(|error| panic!("{id} {number}: {error}"));
        let verdict = self.history.lock().expect("no panic").returned(self.now(), id, number, &answer.result);
        verdict.unwrap_or_else(|violation| panic!("{}", violation.message));
        let now = self.now();
        self.slowest.fetch_max(now - called, Ordering::SeqCst);
        self.pause.fetch_max(now - self.done_at.swap(now, Ordering::SeqCst), Ordering::SeqCst);
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    /// One client: one operation after the other.
    async fn run(self: Arc<Self>, client: GroupClient, index: usize) -> RequestNumber {
        let id = ClientId(index as u64);
        let mut dice = ChaCha8Rng::seed_from_u64(index as u64);
        let mut number = RequestNumber(0);
        let mut known: Option<Vec<u8>> = None;
        while !self.is_over.load(Ordering::SeqCst) {
            number.0 += 1;
            let key = key(self.keys.load(Ordering::SeqCst), dice.next_u64() % KEYS);
            let value = format!("{index}:{}", number.0).into_bytes();
            let operation = match dice.next_u64() % 20 {
                0..7 => KvOperation::Get { key },
                7..13 => KvOperation::Put { key, value: value.clone() },
                13..19 => KvOperation::Cas { key, expected: known.take(), new: Some(value.clone()) },
                _ => KvOperation::Delete { key },
            };
            known = Some(value);
            self.ask(&client, (id, number), operation).await;
            sleep(Duration::from_millis(dice.next_u64() % 6)).await;
        }
        number
    }
}

fn key(keys: u64, index: u64) -> Vec<u8> {
    format!("{keys}-{index}").into_bytes()
}

/// Clients at work.
pub(crate) struct Load {
    work: Arc<Work>,
    clients: JoinSet<RequestNumber>,
}

impl Load {
    pub(crate) async fn start(group: &Group) -> Self {
        let work = Arc::new(Work {
            epoch: Instant::now(),
            history: Mutex::new(History::default()),
            done: AtomicU64::new(0),
            keys: AtomicU64::new(0),
            slowest: AtomicU64::new(0),
            done_at: AtomicU64::new(0),
            pause: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let mut clients = JoinSet::new();
        for index in 0..CLIENTS {
            clients.spawn(Arc::clone(&work).run(group.client(index).await, index));
        }
        Self { work, clients }
    }

    /// Waits until so many more operations are done.
    pub(crate) async fn progress(&mut self, operations: u64) {
        let goal = self.done() + operations;
        let started = Instant::now();
        while self.done() < goal {
            assert!(started.elapsed() < PATIENCE, "no progress after {} operations", self.done());
            if let Some(ended) = self.clients.try_join_next() {
                panic!("a client ended: {ended:?}");
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// The clients go on to other keys: a history of one key has to stay short enough to check.
    pub(crate) fn turn_to_other_keys(&self) {
        self.work.keys.fetch_add(1, Ordering::SeqCst);
    }

    /// Operations that are done.
    pub(crate) fn done(&self) -> u64 {
        self.work.done.load(Ordering::SeqCst)
    }

    /// What the slowest operation took that ended since this was asked last.
    pub(crate) fn take_slowest(&self) -> Duration {
        Duration::from_nanos(self.work.slowest.swap(0, Ordering::SeqCst))
    }

    /// The longest time in which no client had an operation done, of those times that ended since this was asked last.
    pub(crate) fn take_pause(&self) -> Duration {
        Duration::from_nanos(self.work.pause.swap(0, Ordering::SeqCst))
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.work.epoch.elapsed()
    }

    /// Ends the load. What clients were told is linearizable, and all that was ever acknowledged is still
    /// there for `last`, a client that has asked nothing yet.
    pub(crate) async fn judge(self, last: &GroupClient) {
        self.work.is_over.store(true, Ordering::SeqCst);
        self.clients.join_all().await;
        let mut number = RequestNumber(0);
        let all_keys = 0..=self.work.keys.load(Ordering::SeqCst);
        for (keys, index) in all_keys.flat_map(|keys| (0..KEYS).map(move |index| (keys, index))) {
            number.0 += 1;
            let read = KvOperation::Get { key: key(keys, index) };
            self.work.ask(last, (ClientId(CLIENTS as u64), number), read).await;
        }
        let verdict = self.work.history.lock().expect("no panic").check();
        verdict.unwrap_or_else(|violation| panic!("{}", violation.message));
    }
}

pub(crate) fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(test);
}

/// Makes a replica faulty, or honest again.
pub(crate) async fn make(group: &Group, name: &str, fault: Fault) {
    let answer = control::request(&group.deployment.control_socket(name), &Request::Inject { fault }).await;
    assert!(matches!(answer, Ok(Response::Done)), "{name} shall be {fault:?}: {answer:?}");
}

/// Memory of a process, in KiB.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}
