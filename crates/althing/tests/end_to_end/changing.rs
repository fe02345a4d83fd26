//! A group of real processes that an administrator changes while clients work.

use super::load::{Group, Load};
use althing_node::GroupClient;
use althing_node::control::{ReplicaReport, Role};
use althing_node::deployment::{Deployment, free_ports};
use althing_node::supervisor::{Launch, Supervisor};
use althing_replica::Durability;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::mpsc;

/// Operations that have to be done between one change and the next.
const PROGRESS: u64 = 60;

/// A group whose members change, and its clients.
pub(crate) struct Changing {
    pub(crate) group: Group,
    pub(crate) load: Load,
    /// Those that keep the machines that joined.
    joined: Vec<(String, Supervisor)>,
    pub(crate) epoch: u64,
    stalls: Vec<(String, Duration)>,
}

impl Changing {
    pub(crate) async fn start() -> Self {
        Self::of(Group::start(Durability::Sync).await).await
    }

    pub(crate) async fn of(group: Group) -> Self {
        let load = Load::start(&group).await;
        Self { group, load, joined: Vec::new(), epoch: 0, stalls: Vec::new() }
    }

    fn directory(&self) -> String {
        self.group.deployment.directory().display().to_string()
    }

    /// What a command prints as JSON, having ended with `code`.
    pub(crate) async fn ask(&self, arguments: &[&str], code: i32) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_althing"));
        command.args(arguments).args(["--json", "--dir", &self.directory()]);
        let output = command.output().await.expect("the binary can be started");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, error) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out} {error}");
        serde_json::from_str(&out).unwrap_or_else(|_| panic!("{arguments:?}: {out}"))
    }

    /// What people are shown of it.
    pub(crate) async fn status(&self) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_althing"));
        let output = command.args(["status", "--dir", &self.directory()]).output().await;
        String::from_utf8(output.expect("the binary can be started").stdout).expect("text")
    }

    /// The public key of a new machine.
    pub(crate) async fn make(&self, name: &str) -> String {
        let made = self.ask(&["keygen", "--replica", name], 0).await;
        made["public_key"].as_str().expect("a key").to_owned()
    }

    /// The group becomes another, while it works.
    pub(crate) async fn change(&mut self, arguments: &[&str]) -> Value {
        self.progress().await;
        let arguments = [&["reconfigure"], arguments].concat();
        let report = self.ask(&arguments, 0).await;
        self.epoch += 1;
        assert_eq!(
            (&report["outcome"], &report["epoch"]),
            (&"changed".into(), &self.epoch.into()),
            "{report}"
        );
        self.load.turn_to_other_keys();
        report
    }

    /// Starts a machine that has joined, and waits until it takes part.
    pub(crate) async fn start_newcomer(&mut self, name: &str) {
        let deployment = Deployment::load(self.group.deployment.directory()).expect("a deployment");
        let launches = Launch::all_of(&deployment).into_iter().filter(|launch| launch.name == name).collect();
        let (ended, _) = mpsc::unbounded_channel();
        let binary = Path::new(env!("CARGO_BIN_EXE_althing"));
        let supervisor = Supervisor::start(binary, launches, ended).await.expect("it can be started");
        self.joined.push((name.to_owned(), supervisor));
        self.takes_part(name).await;
    }

    pub(crate) async fn takes_part(&self, name: &str) {
        let epoch = self.epoch;
        let is_so = |report: &ReplicaReport| {
            report.epoch == epoch && report.is_voting && matches!(report.role, Role::Backup | Role::Primary)
        };
        self.group.until(name, "a member", is_so).await;
    }

    pub(crate) async fn is_retired(&self, name: &str) {
        self.group.until(name, "retired", |report| report.role == Role::Retired).await;
    }

    /// Waits until clients get answers, and takes down the longest that one waited for since this was done last.
    pub(crate) async fn settle(&mut self, what: &str) {
        self.progress().await;
        self.stalls.push((what.to_owned(), self.load.take_slowest()));
    }

    pub(crate) async fn progress(&mut self) {
        self.load.progress(PROGRESS).await;
    }

    pub(crate) async fn add(&mut self, name: &str) {
        let (key, address) = (self.make(name).await, address());
        self.change(&["--add", &format!("{address}={key}")]).await;
        self.start_newcomer(name).await;
        self.settle(&format!("add {name}")).await;
    }

    fn keeper(&self, name: &str) -> &Supervisor {
        let joined = self.joined.iter().find(|(joined, _)| joined == name);
        joined.map_or(&*self.group.supervisor, |(_, supervisor)| supervisor)
    }

    pub(crate) async fn kill(&self, name: &str) {
        self.keeper(name).kill(name).await.expect("it can be killed");
    }

    /// Ends a machine that is not needed any more.
    pub(crate) async fn stop(&mut self, name: &str) {
        self.kill(name).await;
        self.joined.retain(|(joined, _)| joined != name);
    }

    pub(crate) async fn restart(&self, name: &str) {
        self.keeper(name).restart(name, false).await.expect("it can be started");
    }

    /// Ends the load and judges what clients saw, with what `last` finds in the end.
    pub(crate) async fn judge(self, last: &GroupClient) {
        let (done, elapsed) = (self.load.done(), self.load.elapsed());
        self.load.judge(last).await;
        println!("{} epochs, {done} operations, {elapsed:?}", self.epoch);
        for (what, slowest) in &self.stalls {
            println!("{what}: the slowest operation took {slowest:?}");
        }
    }
}

/// One that is free on this machine.
pub(crate) fn address() -> String {
    free_ports(1).expect("a free port")[0].to_string()
}
