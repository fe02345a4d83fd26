//! Replicas are killed (SIGKILL) while clients work: one, some, or all at once, also while they start.
//! Whatever a client was told before has to be true afterwards.

use althing_node::config::{ClientFile, ProtocolKind, RawPbft, RawService};
use althing_node::control::{self, ReplicaReport, Request, Response, Status};
use althing_node::deployment::{Deployment, ProvisionOptions, ServiceGroup, provision_service};
use althing_node::supervisor::{Launch, Supervisor};
use althing_node::{GroupClient, InvokeError};
use althing_replica::Durability;
use althing_services::{KvOperation, KvResult};
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
const PATIENCE: Duration = Duration::from_secs(60);

/// Clients that work at the same time.
const CLIENTS: usize = 6;

/// Keys that they share at any time.
const KEYS: u64 = 4;

/// Kills after which they go on to other keys: a history of one key has to stay short enough to check.
const CYCLES_PER_KEYS: u64 = 5;

/// Operations that have to be done between one kill and the next.
const PROGRESS: u64 = 20;

/// Starts that are cut off, in percent.
const CUT_OFF_STARTS: u64 = 20;

/// A group of real processes, and a supervisor that starts them again only when it is told to.
struct Group {
    deployment: Deployment,
    supervisor: Arc<Supervisor>,
    _home: TempDir,
}

impl Group {
    async fn start(durability: Durability) -> Self {
        let home = TempDir::new().expect("a temporary directory");
        let group = ServiceGroup {
            name: "kv".to_owned(),
            n: 4,
            f: 1,
            protocol: ProtocolKind::Pbft,
            durability,
            service: RawService::Kv,
            clients: CLIENTS + 1,
            sessions: 1,
        };
        // Checkpoints, and with them new logs, come often.
        let pbft = RawPbft {
            checkpoint_period: 16,
            log_size: 64,
            view_timeout_ms: 500,
            status_period_ms: 50,
            ..RawPbft::default()
        };
        let options = ProvisionOptions { pbft, ..ProvisionOptions::default() };
        let deployment = provision_service(&home.path().join("run"), &group, &options).expect("a deployment");
        let (ended, _) = mpsc::unbounded_channel();
        let binary = Path::new(env!("CARGO_BIN_EXE_althing"));
        let supervisor = Supervisor::start(binary, Launch::all_of(&deployment), ended).await;
        Self { deployment, supervisor: Arc::new(supervisor.expect("the replicas start")), _home: home }
    }

    fn names(&self) -> Vec<String> {
        self.supervisor.names().map(str::to_owned).collect()
    }

    /// SIGKILL to all of these, at once.
    async fn kill(&self, names: &[String]) {
        let mut kills = JoinSet::new();
        for name in names {
            let (name, supervisor) = (name.clone(), Arc::clone(&self.supervisor));
            kills.spawn(async move { supervisor.kill(&name).await });
        }
        while let Some(killed) = kills.join_next().await {
            killed.expect("no panic").expect("a replica can be killed");
        }
    }

    async fn restart(&self, names: &[String]) {
        for name in names {
            self.supervisor.restart(name, false).await.expect("a replica can be started");
        }
    }

    async fn client(&self, index: usize) -> GroupClient {
        let file = self.deployment.client_file(&format!("client-{index}"));
        let file = ClientFile::load(&file).expect("a client's file");
        GroupClient::connect(&file).await.expect("a client can be started")
    }

    /// Waits until the report of a replica is as wished.
    async fn until(&self, name: &str, what: &str, is_so: impl Fn(&ReplicaReport) -> bool) {
        let started = Instant::now();
        loop {
            let answer = control::request(&self.deployment.control_socket(name), &Request::Status).await;
            if let Ok(Response::Status(status)) = &answer
                && let Status::Replica(report) = &**status
                && is_so(report)
            {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{name} is not {what}: {answer:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The power fails at these machines, as far as their replicas can tell: the run of the system in
    /// which they wrote their logs is over.
    fn reboot(&self, names: &[String]) {
        for name in names {
            let cached = self.deployment.data_directory(name).join("cached");
            assert!(cached.exists(), "{} says since when the system is up", cached.display());
            std::fs::write(cached, "an earlier run").expect("the mark can be written");
        }
    }
}

/// What the clients share.
struct Work {
    epoch: Instant,
    history: Mutex<History>,
    done: AtomicU64,
    keys: AtomicU64,
    is_over: AtomicBool,
}

impl Work {
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).expect("a short test")
    }

    async fn ask(&self, client: &GroupClient, who: (ClientId, RequestNumber), operation: KvOperation) {
        let (id, number) = who;
        let bytes = operation.encode();
        self.history.lock().expect("no panic").called(self.now(), id, number, operation);
        let answer = client.invoke_within(bytes, PATIENCE).await;
        let answer = answer.unwrap_or_else(|error| panic!("{id} {number}: {error}"));
        let verdict = self.history.lock().expect("no panic").returned(self.now(), id, number, &answer.result);
        verdict.unwrap_or_else(|violation| panic!("{}", violation.message));
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

/// A part of them, never none, and often all.
fn some_of(names: &[String], dice: &mut ChaCha8Rng) -> Vec<String> {
    let mask = match dice.next_u64() % 4 {
        0 => u64::MAX,
        _ => 1 + dice.next_u64() % ((1 << names.len()) - 1),
    };
    let chosen = names.iter().enumerate().filter(|(place, _)| mask & 1 << place != 0);
    chosen.map(|(_, name)| name.clone()).collect()
}

async fn pause(dice: &mut ChaCha8Rng, most_ms: u64) {
    sleep(Duration::from_millis(dice.next_u64() % most_ms)).await;
}

/// Kills random replicas `cycles` times under load, and judges what clients saw.
async fn torture(durability: Durability, cycles: u64, seed: u64) {
    let group = Group::start(durability).await;
    let names = group.names();
    let work = Arc::new(Work {
        epoch: Instant::now(),
        history: Mutex::new(History::default()),
        done: AtomicU64::new(0),
        keys: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
    });
    let mut clients = JoinSet::new();
    for index in 0..CLIENTS {
        clients.spawn(Arc::clone(&work).run(group.client(index).await, index));
    }
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let (mut kills, mut all_at_once) = (0, 0);
    for cycle in 0..cycles {
        let goal = work.done.load(Ordering::SeqCst) + PROGRESS;
        let started = Instant::now();
        while work.done.load(Ordering::SeqCst) < goal {
            assert!(started.elapsed() < PATIENCE, "no progress after {cycle} cycles");
            if let Some(ended) = clients.try_join_next() {
                panic!("a client ended: {ended:?}");
            }
            sleep(Duration::from_millis(5)).await;
        }
        work.keys.store(cycle / CYCLES_PER_KEYS, Ordering::SeqCst);
        pause(&mut dice, 300).await;
        let victims = some_of(&names, &mut dice);
        group.kill(&victims).await;
        pause(&mut dice, 100).await;
        group.restart(&victims).await;
        if dice.next_u64() % 100 < CUT_OFF_STARTS {
            pause(&mut dice, 60).await;
            group.kill(&victims).await;
            group.restart(&victims).await;
            kills += victims.len();
        }
        kills += victims.len();
        all_at_once += usize::from(victims.len() == names.len());
    }
    for name in &names {
        group.until(name, "a voter again", |report| report.is_voting && !report.is_transferring).await;
    }
    work.is_over.store(true, Ordering::SeqCst);
    clients.join_all().await;
    // And all that was ever acknowledged is there in the end.
    let last = group.client(CLIENTS).await;
    let mut number = RequestNumber(0);
    for (keys, index) in (0..=cycles / CYCLES_PER_KEYS).flat_map(|keys| (0..KEYS).map(move |i| (keys, i))) {
        number.0 += 1;
        let read = KvOperation::Get { key: key(keys, index) };
        work.ask(&last, (ClientId(CLIENTS as u64), number), read).await;
    }
    work.history
        .lock()
        .expect("no panic")
        .check()
        .unwrap_or_else(|violation| panic!("{}", violation.message));
    println!(
        "{durability:?}: {cycles} cycles, {kills} kills, {all_at_once} times all replicas at once, {} operations, {:?}",
        work.done.load(Ordering::SeqCst),
        work.epoch.elapsed()
    );
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(test);
}

#[test]
fn nothing_acknowledged_is_lost_when_replicas_are_killed() {
    block_on(torture(Durability::Sync, 10, 1));
}

#[test]
fn nothing_acknowledged_is_lost_when_replicas_that_do_not_sync_are_killed() {
    block_on(torture(Durability::Async, 6, 2));
}

/// As the two before it, for longer: `just torture`.
#[test]
#[ignore = "takes minutes"]
fn two_hundred_kills() {
    block_on(torture(Durability::Sync, 200, 3));
}

/// As above, without waiting for the disk.
#[test]
#[ignore = "takes minutes"]
fn two_hundred_kills_without_syncs() {
    block_on(torture(Durability::Async, 200, 4));
}

async fn put(client: &GroupClient, value: &str) -> Result<KvResult, InvokeError> {
    let operation = KvOperation::Put { key: b"key".to_vec(), value: value.into() };
    let answer = client.invoke_within(operation.encode(), PATIENCE).await?;
    Ok(KvResult::decode(&answer.result).expect("a result of the store"))
}

#[test]
fn without_syncs_one_machine_may_lose_its_power_and_if_all_do_the_group_stops() {
    block_on(async {
        let group = Group::start(Durability::Async).await;
        let names = group.names();
        let client = group.client(0).await;
        assert_eq!(put(&client, "before").await.expect("an answer"), KvResult::Stored);
        group.kill(&names[1..2]).await;
        group.reboot(&names[1..2]);
        group.restart(&names[1..2]).await;
        assert_eq!(put(&client, "during").await.expect("an answer"), KvResult::Stored);
        group.until(&names[1], "a voter again", |report| report.is_voting && !report.is_transferring).await;
        group.kill(&names).await;
        group.reboot(&names);
        group.restart(&names).await;
        for name in &names {
            group.until(name, "a learner", |report| !report.is_voting).await;
        }
        // It does not guess what it once said, and clients are told nothing rather than something wrong.
        let read = KvOperation::Get { key: b"key".to_vec() };
        let answer = client.invoke_within(read.encode(), Duration::from_secs(3)).await;
        assert!(matches!(answer, Err(InvokeError::TimedOut { .. })), "{answer:?}");
    });
}
