//! A load process: it does what the lines on its standard input say, until that ends.

use super::clock::MonotonicClock;
use super::generator::{self, Target};
use super::observed::{Observed, Window};
use super::schedule::Schedule;
use super::workload::{Asked, Mix, Workload};
use super::{Answer, Load, Order, Role};
use crate::running::block_on;
use althing_node::config::ClientFile;
use althing_node::{GroupClient, die_with_parent};
use clap::Args;
use miette::{IntoDiagnostic, Result, miette};
use std::io::Write;
use std::iter;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a client may take to reach all replicas, and the store to be filled.
const PREPARE_WITHIN: Duration = Duration::from_secs(60);

/// Offer load to a group, as the lines on standard input say: what `bench` starts
#[derive(Debug, Args)]
pub(crate) struct RunLoad {
    /// End when the process that started this one, with this id, ends
    #[arg(long, value_name = "PID")]
    die_with_parent: u32,
}

impl RunLoad {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        die_with_parent(self.die_with_parent).into_diagnostic()?;
        block_on(async {
            let mut orders = orders();
            let mut generator = None;
            while let Some(line) = orders.recv().await {
                let order = serde_json::from_str(&line).into_diagnostic()?;
                let answer = match carry_out(order, &mut generator).await {
                    Ok(answer) => answer,
                    Err(error) => Answer::Failed { reason: format!("{error:#}") },
                };
                let mut line = serde_json::to_vec(&answer).into_diagnostic()?;
                line.push(b'\n');
                let mut out = std::io::stdout().lock();
                out.write_all(&line).and_then(|()| out.flush()).into_diagnostic()?;
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// The lines on standard input. They are waited for on a thread of their own, so that clients can
/// connect and disconnect meanwhile.
fn orders() -> mpsc::Receiver<String> {
    let (sender, orders) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    orders
}

async fn carry_out(order: Order, generator: &mut Option<Generator>) -> Result<Answer> {
    if let Order::Begin(role) = order {
        let begun = Generator::new(*role)?;
        begun.fill().await?;
        *generator = Some(begun);
        return Ok(Answer::Done);
    }
    let generator = generator.as_mut().ok_or_else(|| miette!("it was not told what it is there for"))?;
    match order {
        Order::Begin(_) => unreachable!("carried out above"),
        Order::Connect { clients } => {
            generator.connected = generator.connect(clients).await?;
            Ok(Answer::Done)
        }
        Order::Run { load, window } => {
            let observed = generator.run(load, window).await?;
            Ok(Answer::Observed(Box::new(observed)))
        }
    }
}

struct Generator {
    role: Role,
    workload: Arc<Workload>,
    files: Vec<ClientFile>,
    connected: Vec<Client>,
    /// Counts runs, so that each draws differently.
    runs: u64,
}

impl Generator {
    fn new(role: Role) -> Result<Self> {
        let files = role.client_files.iter().map(|path| ClientFile::load(path).into_diagnostic());
        let files = files.collect::<Result<_>>()?;
        let workload = Arc::new(role.workload.clone());
        Ok(Self { role, workload, files, connected: Vec::new(), runs: 0 })
    }

    /// Writes this process's part of the keys that reads are to find.
    async fn fill(&self) -> Result<()> {
        if self.workload.read_share <= 0.0 {
            return Ok(());
        }
        let clients = self.connect(self.files.len().min(1)).await?;
        let Some(client) = clients.first() else { return Ok(()) };
        for asked in self.workload.filling(self.role.index.into(), self.role.of.into()) {
            let filled = client.ask_within(asked, PREPARE_WITHIN).await;
            filled.map_err(|reason| miette!("the store could not be filled: {reason}"))?;
        }
        Ok(())
    }

    /// Connects the first clients, and waits until each has all its replicas. Those of one file are its
    /// sessions, and share its connections.
    async fn connect(&self, clients: usize) -> Result<Vec<Client>> {
        let mut connected = Vec::with_capacity(clients);
        for file in &self.files {
            let sessions = usize::from(file.sessions()).min(clients - connected.len());
            if sessions == 0 {
                break;
            }
            let client = GroupClient::connect(file).await.into_diagnostic()?;
            let replicas = client.group().replicas().len();
            let mut count = client.connected();
            tokio::time::timeout(PREPARE_WITHIN, count.wait_for(|count| *count == replicas))
                .await
                .map_err(|_| {
                    miette!("a client could not connect to all {replicas} replicas within {PREPARE_WITHIN:?}")
                })?
                .into_diagnostic()?;
            let client = Client {
                client,
                workload: Arc::clone(&self.workload),
                timeout: Duration::from_millis(self.role.timeout_ms),
            };
            connected.extend(iter::repeat_n(client, sessions));
        }
        Ok(connected)
    }

    async fn run(&mut self, load: Load, window: Window) -> Result<Observed> {
        let clients = std::mem::take(&mut self.connected);
        let seed = self.role.seed.wrapping_add(self.runs);
        self.runs += 1;
        // Clients of other processes have other numbers.
        let first = u64::from(self.role.index) << 32;
        let mix = |number| Mix::new(&self.workload, seed, first + number);
        let clock = MonotonicClock::new()?;
        match load {
            Load::Closed { .. } => {
                let clients = clients.into_iter().zip(0..).map(|(client, i)| (client, mix(i))).collect();
                generator::closed(clients, clock, window).await
            }
            Load::Open { offered_per_second, arrivals, .. } => {
                let schedule = Schedule::new(arrivals, offered_per_second, self.role.part(), seed);
                generator::open(clients, mix(0), schedule, clock, window).await
            }
        }
    }
}

/// A client of a group, under load.
#[derive(Clone)]
struct Client {
    client: GroupClient,
    workload: Arc<Workload>,
    timeout: Duration,
}

impl Client {
    async fn ask_within(&self, Asked { is_read, operation }: Asked, within: Duration) -> Result<(), String> {
        let answer = if is_read {
            self.client.query_within(operation, within).await
        } else {
            self.client.invoke_within(operation, within).await
        };
        let answer = answer.map_err(|error| error.to_string())?;
        self.workload.complaint(is_read, &answer.result).map_or(Ok(()), Err)
    }
}

impl Target for Client {
    async fn ask(&self, asked: Asked) -> Result<(), String> {
        self.ask_within(asked, self.timeout).await
    }
}
