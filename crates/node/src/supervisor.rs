//! Runs the processes of a deployment on this machine: starts them, starts again those that end by
//! themselves, kills and empties them on request, and leaves none behind.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use crate::deployment::{DeployedProcess, Deployment, ProcessKind};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// A process that ended by itself waits this long before it is started again, at first.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// And at most this long; the wait doubles each time.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// A process that ran for this long is taken to be well again.
const WELL_AFTER: Duration = Duration::from_secs(30);
/// How long a process has to end in order before it is killed.
const GRACE: Duration = Duration::from_secs(3);
/// Orders that wait for a process's keeper, at most.
const MAX_ORDERS: usize = 16;

/// A process to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Its name.
    pub name: String,
    /// Arguments of the binary.
    pub arguments: Vec<OsString>,
    /// Where its output goes, appended.
    pub log: PathBuf,
    /// What it keeps on disk: removed when it is to start empty.
    pub data: Option<PathBuf>,
}

impl Launch {
    /// The processes of a deployment, as the binary's `replica`, `edge` and `links` commands run them. Replicas
    /// are always told that their group is new: those that have begun once know better, whatever was
    /// kept from starting with them.
    #[must_use]
    pub fn all_of(deployment: &Deployment) -> Vec<Self> {
        let launch = |process: &DeployedProcess| {
            let command: &[&str] = match process.runs {
                ProcessKind::Replica { .. } => &["replica", "--genesis"],
                ProcessKind::Edge => &["edge"],
                ProcessKind::Links => &["links"],
            };
            let name = process.name.as_str();
            let mut arguments: Vec<OsString> = command.iter().map(Into::into).collect();
            arguments.extend(["--die-with-parent".into(), std::process::id().to_string().into()]);
            arguments.extend(["--config".into(), deployment.config_file(name).into_os_string()]);
            Self {
                name: name.to_owned(),
                arguments,
                log: deployment.log_file(name),
                data: Some(deployment.data_directory(name)),
            }
        };
        deployment.processes().iter().map(launch).collect()
    }
}

/// Why something could not be done to a process.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// There is no such process.
    #[error("there is no process `{name}`; there are: {}", known.join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
        /// All names.
        known: Vec<String>,
    },
    /// It could not be started.
    #[error("the process `{name}` can't be started: {source}")]
    Start {
        /// Its name.
        name: String,
        /// The cause.
        source: io::Error,
    },
    /// What it keeps on disk could not be removed.
    #[error("{} can't be removed: {source}", path.display())]
    Wipe {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Its keeper has ended.
    #[error("the process `{name}` is no longer kept")]
    Gone {
        /// Its name.
        name: String,
    },
}

/// What happened to a process without having been asked for.
#[derive(Debug)]
pub struct Ended {
    /// Which process.
    pub name: String,
    /// How it ended.
    pub status: io::Result<ExitStatus>,
    /// After which time it is started again.
    pub again_after: Duration,
}

/// Keeps the processes of a deployment running. When it is dropped, they are killed.
#[derive(Debug)]
pub struct Supervisor {
    keepers: BTreeMap<String, Keeper>,
}

#[derive(Debug)]
struct Keeper {
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Order {
    /// SIGKILL, and no restart.
    Kill(Reply),
    /// Start it, if it does not run; empty, if so asked.
    Start { empty: bool, reply: Reply },
    /// SIGTERM, then SIGKILL, and the end.
    End(Reply),
}

type Reply = oneshot::Sender<Result<(), SupervisorError>>;

impl Supervisor {
    /// Starts all processes with `binary`. Ends that nobody asked for are told to `ended`.
    ///
    /// # Errors
    /// When one can't be started; those started before are then killed.
    pub async fn start(
        binary: &Path,
        launches: Vec<Launch>,
        ended: mpsc::UnboundedSender<Ended>,
    ) -> Result<Self, SupervisorError> {
        let mut keepers = BTreeMap::new();
        for launch in launches {
            let name = launch.name.clone();
            let kept = Kept { binary: binary.to_owned(), launch };
            let child = kept.spawn()?;
            let (orders, received) = mpsc::channel(MAX_ORDERS);
            let task = tokio::spawn(keep(kept, child, received, ended.clone()));
            keepers.insert(name, Keeper { orders, task });
        }
        Ok(Self { keepers })
    }

    /// The names of all processes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.keepers.keys().map(String::as_str)
    }

    /// Kills a process on the spot (SIGKILL). It stays down until [`Supervisor::restart`].
    ///
    /// # Errors
    /// When there is no such process.
    pub async fn kill(&self, name: &str) -> Result<(), SupervisorError> {
        self.order(name, Order::Kill).await
    }

    /// Starts a process that was killed, without what it had on disk if `empty`.
    ///
    /// # Errors
    /// When there is no such process, or it can't be emptied or started.
    pub async fn restart(&self, name: &str, empty: bool) -> Result<(), SupervisorError> {
        self.order(name, |reply| Order::Start { empty, reply }).await
    }

    /// Ends all processes in order, and those that take too long by force.
    pub async fn shut_down(mut self) {
        let keepers = std::mem::take(&mut self.keepers);
        let mut replies = Vec::new();
        for keeper in keepers.values() {
            let (reply, replied) = oneshot::channel();
            if keeper.orders.send(Order::End(reply)).await.is_ok() {
                replies.push(replied);
            }
        }
        for replied in replies {
            // A keeper that is gone has no process left.
            let _ = replied.await;
        }
    }

    async fn order(&self, name: &str, order: impl FnOnce(Reply) -> Order) -> Result<(), SupervisorError> {
        let keeper = self.keepers.get(name).ok_or_else(|| SupervisorError::Unknown {
            name: name.to_owned(),
            known: self.names().map(str::to_owned).collect(),
        })?;
        let gone = || SupervisorError::Gone { name: name.to_owned() };
        let (reply, replied) = oneshot::channel();
        keeper.orders.send(order(reply)).await.map_err(|_| gone())?;
        replied.await.map_err(|_| gone())?
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        for keeper in self.keepers.values() {
            // The child goes with the task that holds it (`kill_on_drop`).
            keeper.task.abort();
        }
    }
}

/// One process, and how to start it.
struct Kept {
    binary: PathBuf,
    launch: Launch,
}

impl Kept {
    fn spawn(&self) -> Result<Child, SupervisorError> {
        let failed = |source| SupervisorError::Start { name: self.launch.name.clone(), source };
        let log = OpenOptions::new().create(true).append(true).open(&self.launch.log).map_err(failed)?;
        let mut command = Command::new(&self.binary);
        command.args(&self.launch.arguments);
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            // The interrupt key of a terminal is for the supervisor, which ends everything in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        Ok(child)
    }

    fn wipe(&self) -> Result<(), SupervisorError> {
        let Some(path) = &self.launch.data else { return Ok(()) };
        match std::fs::remove_dir_all(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(SupervisorError::Wipe { path: path.clone(), source })
            }
            _ => Ok(()),
        }
    }
}

/// Looks after one process until it is told to end it.
async fn keep(
    kept: Kept,
    child: Child,
    mut orders: mpsc::Receiver<Order>,
    ended: mpsc::UnboundedSender<Ended>,
) {
    let mut running = Some((child, Instant::now()));
    let mut backoff = FIRST_BACKOFF;
    let mut again_at = None;
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Kill(reply)) => {
                    (again_at, backoff) = (None, FIRST_BACKOFF);
                    if let Some((mut child, _)) = running.take() {
                        // Only a child that has ended already can't be killed.
                        let _ = child.kill().await;
                    }
                    let _ = reply.send(Ok(()));
                }
                Some(Order::Start { empty, reply }) => {
                    again_at = None;
                    let started = start_again(&kept, &mut running, empty);
                    let _ = reply.send(started);
                }
                Some(Order::End(reply)) => {
                    if let Some((child, _)) = running.take() {
                        end(child).await;
                    }
                    let _ = reply.send(Ok(()));
                    return;
                }
                None => return,
            },
            status = wait_for(&mut running) => {
                let ran = running.take().map_or(Duration::ZERO, |(_, since)| since.elapsed());
                if ran >= WELL_AFTER {
                    backoff = FIRST_BACKOFF;
                }
                again_at = Some(Instant::now() + backoff);
                let _ = ended.send(Ended { name: kept.launch.name.clone(), status, again_after: backoff });
                backoff = (backoff * 2).min(LONGEST_BACKOFF);
            }
            () = sleep(again_at.map_or(Duration::ZERO, |at| at - Instant::now())), if again_at.is_some() => {
                // If it can't be started now, its next end is now too.
                again_at = match kept.spawn() {
                    Ok(child) => {
                        running = Some((child, Instant::now()));
                        None
                    }
                    Err(_) => Some(Instant::now() + backoff),
                };
            }
        }
    }
}

/// Waits for the end of the process that runs, and for ever where none does.
async fn wait_for(running: &mut Option<(Child, Instant)>) -> io::Result<ExitStatus> {
    match running {
        Some((child, _)) => child.wait().await,
        None => std::future::pending().await,
    }
}

fn start_again(
    kept: &Kept,
    running: &mut Option<(Child, Instant)>,
    empty: bool,
) -> Result<(), SupervisorError> {
    if running.is_some() {
        return Ok(());
    }
    if empty {
        kept.wipe()?;
    }
    *running = Some((kept.spawn()?, Instant::now()));
    Ok(())
}

/// Asks a process to end, and makes it end.
async fn end(mut child: Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}
