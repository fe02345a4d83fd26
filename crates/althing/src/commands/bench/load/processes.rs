use super::observed::{Observed, Window};
use super::{Answer, Load, Order, Role};
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The load processes of one group. They end when this is dropped.
pub(in super::super) struct LoadProcesses(Vec<LoadProcess>);

struct LoadProcess {
    /// Killed when it is dropped.
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl LoadProcesses {
    /// Starts `count` processes and shares the clients of `role` out among them, one by one.
    pub(in super::super) async fn start(count: u32, role: &Role) -> Result<Self> {
        let mut processes = Vec::new();
        for index in 0..count {
            let mut process = LoadProcess::spawn()?;
            let role = Role {
                client_files: share(&role.client_files, index, count),
                index,
                of: count,
                ..role.clone()
            };
            process.order(&Order::Begin(Box::new(role))).await?;
            processes.push(process);
        }
        let mut started = Self(processes);
        started.until_done().await?;
        Ok(started)
    }

    /// Their process ids.
    pub(in super::super) fn pids(&self) -> Vec<u32> {
        self.0.iter().filter_map(|process| process.child.id()).collect()
    }

    /// Connects `clients` of their clients.
    pub(in super::super) async fn connect(&mut self, clients: usize) -> Result<()> {
        let count = self.0.len();
        for (index, process) in self.0.iter_mut().enumerate() {
            // As many as there are in its share of the first `clients`.
            let clients = (clients + count - 1 - index) / count;
            process.order(&Order::Connect { clients }).await?;
        }
        self.until_done().await
    }

    /// Has those that are connected run a load.
    pub(in super::super) async fn begin(&mut self, load: Load, window: Window) -> Result<()> {
        for process in &mut self.0 {
            process.order(&Order::Run { load, window }).await?;
        }
        Ok(())
    }

    /// What all saw of the load that was begun.
    pub(in super::super) async fn observed(&mut self, window: &Window) -> Result<Observed> {
        let mut all = Observed::nothing(window);
        for process in &mut self.0 {
            match process.answer().await? {
                Answer::Observed(sent) => all.add(&sent),
                _ => return Err(miette!("a load process answers something else than was asked")),
            }
        }
        Ok(all)
    }

    async fn until_done(&mut self) -> Result<()> {
        for process in &mut self.0 {
            process.answer().await?;
        }
        Ok(())
    }
}

impl LoadProcess {
    fn spawn() -> Result<Self> {
        // Clients of a replica that is down say so again and again: that would be load of its own.
        let log = std::env::var_os("ALTHING_LOG").unwrap_or_else(|| "error".into());
        let mut child = Command::new(std::env::current_exe().into_diagnostic()?)
            .env("ALTHING_LOG", log)
            .args(["load", "--die-with-parent", &std::process::id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .into_diagnostic()
            .wrap_err("a load process can't be started")?;
        let orders = child.stdin.take().expect("it is piped");
        let answers = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Ok(Self { child, orders, answers })
    }

    async fn order(&mut self, order: &Order) -> Result<()> {
        let mut line = serde_json::to_vec(order).into_diagnostic()?;
        line.push(b'\n');
        self.orders.write_all(&line).await.into_diagnostic().wrap_err("a load process has ended")
    }

    async fn answer(&mut self) -> Result<Answer> {
        let line = self.answers.next_line().await.into_diagnostic()?;
        let line = line.ok_or_else(|| miette!("a load process has ended"))?;
        match serde_json::from_str(&line).into_diagnostic()? {
            Answer::Failed { reason } => Err(miette!("a load process failed: {reason}")),
            answer => Ok(answer),
        }
    }
}

/// Those of `files` that fall to one of `count` processes.
fn share(files: &[PathBuf], index: u32, count: u32) -> Vec<PathBuf> {
    files
        .iter()
        .zip((0..count).cycle())
        .filter(|(_, turn)| *turn == index)
        .map(|(file, _)| file.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_clients_are_shared_out_evenly_and_none_is_left_out() {
        let files: Vec<PathBuf> = (0..10).map(|i| format!("client-{i}").into()).collect();
        for count in 1..5_u32 {
            for clients in 0..=files.len() {
                let all = count as usize;
                let mut used: Vec<_> = (0..count)
                    .flat_map(|index| {
                        let own = share(&files, index, count);
                        own[..(clients + all - 1 - index as usize) / all].to_vec()
                    })
                    .collect();
                used.sort();
                assert_eq!(used, files[..clients]);
            }
        }
    }
}
