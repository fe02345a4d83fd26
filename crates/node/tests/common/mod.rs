//! Whole groups in one process: each replica on a thread of its own, with real sockets and disks.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use althing_node::config::{ClientFile, EdgeConfig, RawPbft, ReplicaFile};
use althing_node::control::{self, EdgeReport, ReplicaReport, Request, Response, Status};
use althing_node::deployment::{Deployment, ProvisionOptions};
use althing_node::{EdgeError, Ended, GroupClient, ReplicaError, RunOptions, run_edge, run_replica, wipe};
use tokio::sync::{oneshot, watch};

/// Long enough for a busy machine; nobody waits for it unless something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Settings under which things happen soon.
pub(crate) fn quick() -> ProvisionOptions {
    let pbft = RawPbft {
        checkpoint_period: 8,
        log_size: 32,
        view_timeout_ms: 500,
        status_period_ms: 50,
        ..RawPbft::default()
    };
    ProvisionOptions { pbft, allow_injection: true, ..ProvisionOptions::default() }
}

/// A replica on a thread of its own.
pub(crate) struct RunningReplica {
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<Result<Ended, ReplicaError>>>,
}

impl RunningReplica {
    pub(crate) fn start(config: &Path, is_genesis: bool) -> Self {
        let file = ReplicaFile::load(config).unwrap();
        let (stop, stopped) = watch::channel(());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let mut options = RunOptions { is_genesis, ..RunOptions::default() };
            loop {
                let mut stopped = stopped.clone();
                let ended = runtime.block_on(run_replica(file.clone(), options.clone(), async move {
                    // It ends with its sender.
                    while stopped.changed().await.is_ok() {}
                }));
                // As the binary does, but for the process.
                let Ok(Ended::ToRecover { at_ns }) = ended else { return ended };
                options = RunOptions { recovering_since_ns: Some(at_ns), ..RunOptions::default() };
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }

    /// Ends the replica and returns how it ended.
    pub(crate) fn stop(mut self) -> Result<Ended, ReplicaError> {
        self.stop.take();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for RunningReplica {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // Its failure matters to those who call `stop`.
            let _ = thread.join();
        }
    }
}

/// All replicas of a deployment, by the order of its processes.
pub(crate) struct Cluster {
    pub(crate) deployment: Deployment,
    replicas: Vec<(String, Option<RunningReplica>)>,
}

impl Cluster {
    pub(crate) fn start(deployment: Deployment) -> Self {
        let names = deployment.processes().iter().map(|p| p.name.clone()).filter(|name| name != "edge");
        let replicas = names
            .map(|name| {
                let replica = RunningReplica::start(&deployment.config_file(&name), true);
                (name, Some(replica))
            })
            .collect();
        Self { deployment, replicas }
    }

    fn index(&self, name: &str) -> usize {
        self.replicas.iter().position(|(n, _)| n == name).unwrap()
    }

    pub(crate) fn stop(&mut self, name: &str) {
        let index = self.index(name);
        self.replicas[index].1.take().unwrap().stop().unwrap();
    }

    pub(crate) fn restart(&mut self, name: &str, empty: bool) {
        let index = self.index(name);
        assert!(self.replicas[index].1.is_none());
        if empty {
            wipe(&self.deployment.data_directory(name)).unwrap();
        }
        let config = self.deployment.config_file(name);
        self.replicas[index].1 = Some(RunningReplica::start(&config, false));
    }

    pub(crate) async fn client(&self, name: &str) -> GroupClient {
        let file = ClientFile::load(&self.deployment.client_file(name)).unwrap();
        GroupClient::connect(&file).await.unwrap()
    }

    pub(crate) async fn request(&self, name: &str, request: &Request) -> Response {
        self.wait_for(name, "running", |_| true).await;
        control::request(&self.deployment.control_socket(name), request).await.unwrap()
    }

    pub(crate) async fn report(&self, name: &str) -> Option<ReplicaReport> {
        let answer = control::request(&self.deployment.control_socket(name), &Request::Status).await;
        match answer.ok()? {
            Response::Status(status) => match *status {
                Status::Replica(report) => Some(report),
                Status::Edge(_) | Status::Links(_) => None,
            },
            _ => None,
        }
    }

    /// Waits until the report of a replica is as wished.
    pub(crate) async fn wait_for(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&ReplicaReport) -> bool,
    ) -> ReplicaReport {
        let started = Instant::now();
        loop {
            let report = self.report(name).await;
            if let Some(report) = report.as_ref().filter(|report| is_so(report)) {
                return report.clone();
            }
            assert!(started.elapsed() < PATIENCE, "{name} is not {what}: {report:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The edge on a thread of its own.
pub(crate) struct RunningEdge {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), EdgeError>>>,
}

impl RunningEdge {
    pub(crate) fn start(deployment: &Deployment) -> Self {
        let config = EdgeConfig::load(&deployment.config_file("edge")).unwrap();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run_edge(config, async {
                let _ = stopped.await;
            }))
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn stop(mut self) -> Result<(), EdgeError> {
        self.stop.take();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for RunningEdge {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // Its failure matters to those who call `stop`.
            let _ = thread.join();
        }
    }
}

/// Waits until the report of the edge is as wished.
pub(crate) async fn wait_for_edge(
    deployment: &Deployment,
    what: &str,
    is_so: impl Fn(&EdgeReport) -> bool,
) -> EdgeReport {
    let started = Instant::now();
    loop {
        let answer = control::request(&deployment.control_socket("edge"), &Request::Status).await;
        if let Ok(Response::Status(status)) = &answer
            && let Status::Edge(report) = &**status
            && is_so(report)
        {
            return report.clone();
        }
        assert!(started.elapsed() < PATIENCE, "the edge is not {what}: {answer:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A directory for a test.
pub(crate) fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deployment");
    (directory, path)
}

/// Shows what happens when a test is run with `RUST_LOG`.
pub(crate) fn show_logs() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}
