//! A deployment that `althing` runs for a test.

use super::process::{Kept, Lines, althing, expect, run, signal, until};
use rustix::process::Signal;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// `althing up` or `althing serve`, running.
#[derive(Debug)]
pub(crate) struct Deployment {
    process: Kept,
    announced: Vec<String>,
    home: TempDir,
}

impl Deployment {
    /// `althing up SPEC`.
    pub(crate) fn up(spec: &Path) -> Self {
        Self::start(althing(), &[OsStr::new("up"), spec.as_os_str()])
    }

    /// `althing serve kv`.
    pub(crate) fn kv() -> Self {
        Self::serve(althing(), "kv")
    }

    /// `serve SERVICE` of a program that can do that.
    pub(crate) fn serve(program: Command, service: &str) -> Self {
        Self::start(program, &["serve", service, "--durability", "none"].map(OsStr::new))
    }

    /// `althing serve kv`, with all that it promises.
    pub(crate) fn durable_kv() -> Self {
        Self::start(althing(), &["serve", "kv"].map(OsStr::new))
    }

    /// `serve SERVICE` by a command that ends with a program that can do that, of a deployment that
    /// was there before.
    pub(crate) fn again(command: Command, service: &str, home: TempDir) -> Self {
        Self::start_in(command, &["serve", service].map(OsStr::new), home)
    }

    fn start(command: Command, arguments: &[&OsStr]) -> Self {
        Self::start_in(command, arguments, TempDir::new().expect("a temporary directory"))
    }

    fn start_in(mut command: Command, arguments: &[&OsStr], home: TempDir) -> Self {
        let complaints = File::create(home.path().join("stderr")).expect("a file for standard error");
        command.args(arguments).arg("--allow-injection").arg("--dir").arg(home.path().join("run"));
        let mut process =
            Kept::start(command.stdout(Stdio::piped()).stderr(complaints), "the binary under test");
        let lines = Lines::of(process.0.stdout.take().expect("piped"));
        let mut announced = Vec::new();
        lines.next("word that it runs", |line| {
            announced.push(line.to_owned());
            line.contains("Ctrl-C").then_some(())
        });
        Self { process, announced, home }
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.home.path().join("run")
    }

    /// The port of the MQTT broker, as `up` tells it.
    pub(crate) fn mqtt_port(&self) -> u16 {
        let told = self.announced.iter().find_map(|line| line.strip_prefix("MQTT broker: "));
        let address = told.expect("`up` tells where the broker is").split(' ').next().unwrap_or_default();
        let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
        port.expect("the broker's address has a port")
    }

    /// Runs a command about this deployment, which must succeed.
    #[track_caller]
    pub(crate) fn tell(&self, arguments: &[&str]) -> String {
        expect(&self.ask(arguments), 0).0
    }

    /// Runs a command about this deployment.
    pub(crate) fn ask(&self, arguments: &[&str]) -> std::process::Output {
        let directory = self.directory();
        let place = [OsStr::new("--dir"), directory.as_os_str()];
        // Places come after the subcommand's own name and before what `inject` takes as one.
        let (name, rest) = arguments.split_at(1 + usize::from(arguments[0] == "kv"));
        run(name.iter().map(OsStr::new).chain(place).chain(rest.iter().map(OsStr::new)))
    }

    /// What `status --json` says of each process that answers.
    pub(crate) fn processes(&self) -> Vec<Value> {
        let output = self.ask(&["status", "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("`status --json` is no JSON ({error}): {output:?}"));
        let processes = report["processes"].as_array().expect("a list of processes");
        processes.iter().map(|process| process["status"].clone()).filter(|status| !status.is_null()).collect()
    }

    /// What `status --json` says of the process `name`, if it answers.
    pub(crate) fn process(&self, name: &str) -> Option<Value> {
        self.processes().into_iter().find(|status| status["name"] == name)
    }

    /// The primary of a group, and its process id, once the replicas agree on one.
    pub(crate) fn primary(&self, group: &str) -> (String, u32) {
        until("a primary that all follow", || {
            let replicas = self.replicas(group);
            let primary = replicas.iter().find(|replica| replica["role"] == "primary")?;
            let follow =
                |replica: &&Value| replica["view"] == primary["view"] && replica["is_in_view"] == true;
            let is_settled = replicas.len() as u64 == primary["n"].as_u64()?
                && replicas.iter().filter(follow).count() == replicas.len()
                && replicas.iter().all(|replica| replica["is_voting"] == true);
            is_settled.then(|| (text(&primary["name"]), pid(primary)))
        })
    }

    /// The replicas of a group that answer.
    pub(crate) fn replicas(&self, group: &str) -> Vec<Value> {
        self.processes().into_iter().filter(|status| status["group"] == group).collect()
    }

    /// The edge has published exactly so many events for a group. The broker may have passed the last
    /// one on before it told the edge that it has it.
    #[track_caller]
    pub(crate) fn has_published(&self, group: &str, events: u64) {
        until("word that the last event is published", || (self.published(group) >= events).then_some(()));
        assert_eq!(self.published(group), events);
    }

    fn published(&self, group: &str) -> u64 {
        let edge = self.process("edge").expect("the edge answers");
        let groups = edge["groups"].as_array().expect("a list of groups");
        let of_group = groups.iter().filter(|report| report["group"] == group);
        let wires = of_group.flat_map(|report| report["outgoing"].as_array().into_iter().flatten());
        wires.map(|wire| wire["published"].as_u64().expect("a count")).sum()
    }

    /// Where a process keeps what it must not lose.
    pub(crate) fn data(&self, process: &str) -> PathBuf {
        self.directory().join("processes").join(process).join("data")
    }

    /// Where a process writes what it does.
    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.directory().join("processes").join(process).join("log.txt")
    }

    /// What was printed to standard error so far.
    pub(crate) fn complaints(&self) -> String {
        fs::read_to_string(self.home.path().join("stderr")).unwrap_or_default()
    }

    /// The process ids of `up` itself and of all that it runs.
    pub(crate) fn pids(&self) -> (u32, Vec<u32>) {
        (self.process.0.id(), self.processes().iter().map(pid).collect())
    }

    /// Interrupts it, as Ctrl-C does, and checks that all processes end with it.
    pub(crate) fn end(self) {
        self.end_and_keep();
    }

    /// As [`end`](Self::end), and keeps what it left.
    pub(crate) fn end_and_keep(mut self) -> TempDir {
        let (own, others) = self.pids();
        signal(own, Signal::INT);
        assert_eq!(self.process.ended(), Some(0), "{}", self.complaints());
        let left: Vec<_> = others.into_iter().filter(|pid| super::process::is_alive(*pid)).collect();
        assert!(left.is_empty(), "still there after an orderly end: {left:?}");
        self.home
    }
}

pub(crate) fn pid(status: &Value) -> u32 {
    status["pid"].as_u64().and_then(|pid| pid.try_into().ok()).expect("a status has a process id")
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}
