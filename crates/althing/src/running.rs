//! A deployment that runs on this machine, under a supervisor that lives in this process.

use althing_node::control::{self, ReplicaReport, Request, Response, Status};
use althing_node::deployment::{Deployment, ProcessKind};
use althing_node::supervisor::{Ended, Launch, Supervisor};
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// How often a condition is looked at that somebody waits for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long processes may take to start.
const START_WITHIN: Duration = Duration::from_secs(30);

pub(crate) struct Running {
    pub(crate) deployment: Deployment,
    pub(crate) supervisor: Supervisor,
    /// Processes that ended without being asked to.
    ended: mpsc::UnboundedReceiver<Ended>,
}

impl Running {
    /// Starts all processes of `deployment` and waits until each answers, and until the edge hears the
    /// topics that it is to hear: what is published from then on arrives.
    pub(crate) async fn start(deployment: Deployment) -> Result<Self> {
        let binary = std::env::current_exe().into_diagnostic()?;
        let (ending, ended) = mpsc::unbounded_channel();
        let launches = Launch::all_of(&deployment);
        let supervisor = Supervisor::start(&binary, launches, ending).await.into_diagnostic()?;
        let mut running = Self { deployment, supervisor, ended };
        running.until_ready().await?;
        Ok(running)
    }

    async fn until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        for process in self.deployment.processes().to_vec() {
            loop {
                let status = self.status(&process.name).await;
                if status.as_ref().is_ok_and(hears_everything) {
                    break;
                }
                if let Ok(ended) = self.ended.try_recv() {
                    return Err(self.why(&ended));
                }
                if Instant::now() > deadline && status.is_ok() {
                    eprintln!("`{}` has not reached the MQTT broker yet, and goes on trying", process.name);
                    break;
                }
                if Instant::now() > deadline {
                    let log = self.deployment.log_file(&process.name);
                    let (name, log) = (process.name, log.display());
                    return Err(miette!("`{name}` does not answer after {START_WITHIN:?}; see {log}"));
                }
                sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// Keeps everything running, and tells what ends by itself, until the user asks it to end.
    pub(crate) async fn until_asked_to_end(mut self) {
        let ending = asked_to_end();
        tokio::pin!(ending);
        loop {
            tokio::select! {
                () = &mut ending => break,
                Some(ended) = self.ended.recv() => {
                    eprintln!("{:?}", self.why(&ended));
                    eprintln!("`{}` is started again in {:?}", ended.name, ended.again_after);
                }
            }
        }
        println!("ending");
        self.supervisor.shut_down().await;
    }

    /// Why a process ended, in its own last words.
    fn why(&self, ended: &Ended) -> miette::Report {
        let path = self.deployment.log_file(&ended.name);
        let log = std::fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(8)..].join("\n");
        let status = match &ended.status {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        miette!(
            help = format!("all it said is in {}", path.display()),
            "`{}` ended ({status}):\n{last}",
            ended.name
        )
    }

    /// Where a process stands.
    pub(crate) async fn status(&self, process: &str) -> Result<Status> {
        status(&self.deployment, process).await
    }

    /// Where a replica stands.
    pub(crate) async fn replica(&self, process: &str) -> Result<ReplicaReport> {
        match self.status(process).await? {
            Status::Replica(report) => Ok(report),
            Status::Edge(_) | Status::Links(_) => Err(miette!("`{process}` is no replica")),
        }
    }

    /// The replicas of a group, by number.
    pub(crate) fn replicas_of(&self, group: &str) -> Vec<String> {
        let of_group =
            |runs: &ProcessKind| matches!(runs, ProcessKind::Replica { group: own, .. } if own == group);
        let processes = self.deployment.processes().iter();
        processes.filter(|process| of_group(&process.runs)).map(|process| process.name.clone()).collect()
    }

    /// Waits until `look` finds something, for at most `within`.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        within: Duration,
        mut look: impl AsyncFnMut(&Self) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(found) = look(self).await {
                return Ok(found);
            }
            if Instant::now() > deadline {
                let logs = self.deployment.directory().display();
                return Err(miette!("{what} has not happened within {within:?}; the logs are in {logs}"));
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// Where a process of a deployment stands.
pub(crate) async fn status(deployment: &Deployment, process: &str) -> Result<Status> {
    match ask(deployment, process, &Request::Status).await? {
        Response::Status(status) => Ok(*status),
        _ => Err(miette!("`{process}` answers something else than was asked")),
    }
}

/// Asks a process of a deployment over its control socket.
pub(crate) async fn ask(deployment: &Deployment, process: &str, request: &Request) -> Result<Response> {
    match control::request(&deployment.control_socket(process), request).await.into_diagnostic()? {
        Response::Refused { reason } => Err(miette!("`{process}` refuses: {reason}")),
        response => Ok(response),
    }
}

/// Runs a future on a runtime of its own thread, as all commands do.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .into_diagnostic()
        .wrap_err("the system gives no resources for an event loop")?
        .block_on(future)
}

/// Runs what a process is there for to its end, as a task: each wake of what the event loop itself waits for is
/// a system call.
pub(crate) fn run_to_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    block_on(async { tokio::spawn(work).await.into_diagnostic()? })
}

/// Resolves when the user, or the system, asks this process to end.
pub(crate) async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        // Without a handler the default applies: the process ends at once.
        Err(_) => std::future::pending().await,
    }
}

/// Whether a process has subscribed to all topics that it is to hear. Replicas hear none.
fn hears_everything(status: &Status) -> bool {
    match status {
        Status::Replica(_) | Status::Links(_) => true,
        Status::Edge(report) => {
            report.groups.iter().flat_map(|group| &group.incoming).all(|wire| wire.is_connected)
        }
    }
}
