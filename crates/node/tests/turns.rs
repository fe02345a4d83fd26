//! Replicas that take new keys, and that stop and start again in turn, under load.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use althing_node::GroupClient;
use althing_node::config::{ClientFile, ProtocolKind, RawPbft, RawService};
use althing_node::control::RecoveryReport;
use althing_node::deployment::{ProvisionOptions, ServiceGroup, provision_service};
use althing_replica::Durability;
use althing_services::{KvOperation, KvResult};
use common::{Cluster, PATIENCE, directory, quick, show_logs};

const NAMES: [&str; 4] = ["store-0", "store-1", "store-2", "store-3"];

/// So long that nothing that waits for it goes unnoticed.
const VIEW_TIMEOUT: Duration = Duration::from_secs(20);

fn start(path: &Path, options: &ProvisionOptions) -> Cluster {
    show_logs();
    let group = ServiceGroup {
        name: "store".to_owned(),
        n: 4,
        f: 1,
        protocol: ProtocolKind::Pbft,
        service: RawService::Kv,
        clients: 3,
        durability: Durability::Sync,
        sessions: 1,
    };
    Cluster::start(provision_service(path, &group, options).unwrap())
}

/// Clients that write and read one after the other, each on a key of its own, until they are told to end.
struct Load {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Load {
    /// On a thread of its own, so that it goes on while the test waits for a replica to end.
    fn start(cluster: &Cluster) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let files = (0..3).map(|i| cluster.deployment.client_file(&format!("client-{i}")));
        let files: Vec<_> = files.map(|path| ClientFile::load(&path).unwrap()).collect();
        let until = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let tasks = files.into_iter().map(|file| tokio::spawn(work(file, Arc::clone(&until))));
                let tasks: Vec<_> = tasks.collect();
                let mut took = Vec::new();
                for task in tasks {
                    took.extend(task.await.unwrap());
                }
                took
            })
        });
        Self { is_over, thread }
    }

    /// Ends it; how many operations there were, and how long the longest took.
    fn end(self) -> (usize, Duration) {
        self.is_over.store(true, Relaxed);
        let took = self.thread.join().unwrap();
        (took.len(), took.into_iter().max().unwrap())
    }
}

async fn work(file: ClientFile, is_over: Arc<AtomicBool>) -> Vec<Duration> {
    let client = GroupClient::connect(&file).await.unwrap();
    let key = file.client().0.to_le_bytes().to_vec();
    let mut took = Vec::new();
    while !is_over.load(Relaxed) {
        let value = took.len().to_le_bytes().to_vec();
        let put = KvOperation::Put { key: key.clone(), value: value.clone() };
        let get = KvOperation::Get { key: key.clone() };
        for (operation, expected) in [(put, KvResult::Stored), (get, KvResult::Value(Some(value)))] {
            let asked = Instant::now();
            let answer = client.invoke_within(operation.encode(), PATIENCE).await.unwrap();
            took.push(asked.elapsed());
            assert_eq!(KvResult::decode(&answer.result).unwrap(), expected);
        }
    }
    took
}

#[tokio::test]
async fn keys_are_replaced_under_load_and_no_client_notices() {
    let (_directory, path) = directory();
    let options = ProvisionOptions { key_refresh_ms: Some(1000), ..quick() };
    let cluster = start(&path, &options);
    let load = Load::start(&cluster);
    for name in NAMES {
        let what = "on its fourth key, with those of the others";
        cluster
            .wait_for(name, what, |r| r.counters.keys_refreshed >= 4 && r.counters.keys_learned >= 9)
            .await;
    }
    let (operations, longest) = load.end();
    println!("{operations} operations, the longest took {longest:?}");
    for name in NAMES {
        let report = cluster.report(name).await.unwrap();
        assert_eq!((report.view, report.evidence.len()), (0, 0), "{report:#?}");
    }
}

#[tokio::test]
async fn each_replica_stops_and_starts_again_and_nobody_waits_for_a_timeout() {
    let (_directory, path) = directory();
    let pbft = RawPbft { view_timeout_ms: VIEW_TIMEOUT.as_millis() as u64, ..quick().pbft };
    let mut cluster = start(&path, &ProvisionOptions { pbft, ..quick() });
    let load = Load::start(&cluster);
    for (turn, name) in NAMES.into_iter().enumerate() {
        let report = cluster.wait_for(name, "leading", |r| r.primary == r.replica && r.executed > 0).await;
        assert_eq!(report.view, turn as u64);
        cluster.stop(name);
        cluster.restart(name, false);
        let next = NAMES[(turn + 1) % NAMES.len()];
        let reached = cluster.report(next).await.unwrap().executed + 20;
        let what = "where the others are";
        cluster
            .wait_for(name, what, |r| r.is_in_view && r.view == turn as u64 + 1 && r.executed > reached)
            .await;
    }
    let (operations, longest) = load.end();
    println!("{operations} operations, the longest took {longest:?}");
    assert!(longest < VIEW_TIMEOUT / 2, "somebody waited for {longest:?}");
}

#[tokio::test]
async fn each_replica_recovers_in_its_turn_and_no_client_notices() {
    let (_directory, path) = directory();
    // What the others do while one starts again has to be in their logs still.
    let (checkpoint_period, log_size) = (32, 128);
    let view_timeout_ms = VIEW_TIMEOUT.as_millis() as u64;
    let pbft = RawPbft { view_timeout_ms, checkpoint_period, log_size, ..quick().pbft };
    let options = ProvisionOptions { pbft, proactive_recovery_ms: 24_000, ..quick() };
    let cluster = start(&path, &options);
    let load = Load::start(&cluster);
    for name in NAMES {
        let report = cluster.wait_for(name, "recovered", |r| r.recovery.is_some() && r.is_voting).await;
        let RecoveryReport { silent_ms, took_ms, .. } = report.recovery.unwrap();
        println!("{name} was silent for {silent_ms} ms and recovered in {took_ms} ms");
        // Its disk was right: of what the others have it lacks at most what they did meanwhile.
        assert_eq!(report.counters.divergences, 0, "{report:#?}");
    }
    let (operations, longest) = load.end();
    println!("{operations} operations, the longest took {longest:?}");
    assert!(longest < VIEW_TIMEOUT / 2, "somebody waited for {longest:?}");
}
