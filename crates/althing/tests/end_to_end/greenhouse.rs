//! The heater gets exactly the commands that its readings call for, whatever becomes of replicas.

use super::deployment::{Deployment, pid};
use super::mqtt::{Broker, Publisher, Subscriber, heater_and_sensor};
use super::process::{edited, example, is_alive, own_program, signal, until};
use rustix::process::Signal;
use std::fs;
use std::path::Path;

const GROUP: &str = "thermostat";

/// A deployment with a sensor and a heater.
struct Greenhouse {
    deployment: Deployment,
    sensor: Publisher,
    heater: Subscriber,
    readings: usize,
    commands: usize,
}

impl Greenhouse {
    fn open(deployment: Deployment) -> Self {
        let (heater, sensor) = heater_and_sensor(deployment.mqtt_port());
        Self { deployment, sensor, heater, readings: 0, commands: 0 }
    }

    /// So many readings, far below and far above the band in turn: each calls for one command.
    fn read(&mut self, count: usize) {
        for _ in 0..count {
            self.sensor.publish(if self.readings.is_multiple_of(2) { "15" } else { "27.5" });
            self.readings += 1;
        }
    }

    /// Takes the commands for all readings so far. One too many shows as a wrong one after it.
    #[track_caller]
    fn heat(&mut self) {
        while self.commands < self.readings {
            let right = if self.commands.is_multiple_of(2) { "on" } else { "off" };
            assert_eq!(self.heater.message(), right, "command {}", self.commands);
            self.commands += 1;
        }
    }

    #[track_caller]
    fn step(&mut self, count: usize) {
        self.read(count);
        self.heat();
    }

    /// One backup lies, and is outvoted.
    fn a_backup_lies(&mut self) {
        let (primary, _) = self.deployment.primary(GROUP);
        let replicas = self.deployment.replicas(GROUP);
        let backup = replicas.iter().find(|replica| replica["name"] != primary.as_str()).expect("a backup");
        let name = backup["name"].as_str().expect("a name");
        // One that restarted a moment ago is not heard yet, and so can't lie.
        until("a connection of the edge to all", || {
            let edge = self.deployment.process("edge")?;
            (edge["groups"][0]["connected"] == replicas.len()).then_some(())
        });
        self.deployment.tell(&["inject", name, "lie"]);
        self.step(6);
        let replica = backup["replica"].as_u64().expect("a number");
        until("a lie that is outvoted", || {
            let edge = self.deployment.process("edge")?;
            let outvoted = &edge["groups"][0]["outgoing"][0]["disagreements"][replica as usize];
            (outvoted.as_u64() > Some(0)).then_some(())
        });
        self.deployment.tell(&["inject", name, "heal"]);
        self.step(2);
    }

    /// The primary is killed among readings; `empty`: it also loses all that it keeps.
    fn the_primary_is_killed(&mut self, empty: bool) {
        let (name, killed) = self.deployment.primary(GROUP);
        self.read(3);
        let executed = |replica: &serde_json::Value| replica["executed"].as_u64().unwrap_or_default();
        let before = self.deployment.replicas(GROUP).iter().map(executed).max().expect("replicas");
        signal(killed, Signal::KILL);
        if empty {
            until("the end of the primary", || (!is_alive(killed)).then_some(()));
            fs::remove_dir_all(self.deployment.data(&name)).expect("its directory can be removed");
        }
        self.read(3);
        self.heat();
        // It needs the others to go on in order to catch up with them.
        until("a new process in its place that votes", || {
            self.step(4);
            let status = self.deployment.process(&name)?;
            if pid(&status) == killed {
                return None;
            }
            // Having lost its votes it must not vote where it may have voted before.
            let is_voting = status["is_voting"] == true;
            assert!(
                !empty || !is_voting || status["stable"].as_u64() > Some(before),
                "votes too soon: {status}"
            );
            is_voting.then_some(())
        });
        self.step(2);
    }

    /// Nothing came that was not called for, not even after the last command.
    fn close(self) {
        self.deployment.has_published(GROUP, self.commands as u64);
        self.deployment.end();
    }
}

fn survives_everything(spec: &Path) {
    let mut greenhouse = Greenhouse::open(Deployment::up(spec));
    greenhouse.step(1);
    greenhouse.step(9);
    greenhouse.a_backup_lies();
    greenhouse.the_primary_is_killed(false);
    greenhouse.the_primary_is_killed(true);
    greenhouse.a_backup_lies();
    greenhouse.close();
}

#[test]
fn the_greenhouse_survives_a_liar_a_crash_and_a_lost_disk() {
    survives_everything(&example("greenhouse.yaml"));
}

#[test]
fn a_program_as_component_survives_the_same() {
    survives_everything(&example("greenhouse-python.yaml"));
}

#[test]
fn a_component_in_rust_survives_the_same() {
    let (_home, spec) = edited("greenhouse-python.yaml", |text| {
        let (before, program) = text.split_once("process: ").expect("it has a program");
        let (_, after) = program.split_once('\n').expect("it goes on");
        let program = own_program("thermostat");
        format!("{before}process: [{program:?}]\n{after}")
    });
    survives_everything(&spec);
}

#[test]
fn it_works_with_a_broker_that_runs_already() {
    let broker = Broker::start();
    let (_home, spec) = edited("greenhouse.yaml", |text| {
        format!("{text}\nmqtt: {{ broker: \"127.0.0.1:{}\" }}\n", broker.port)
    });
    let mut greenhouse = Greenhouse::open(Deployment::up(&spec));
    assert_eq!(greenhouse.deployment.mqtt_port(), broker.port);
    greenhouse.step(4);
    greenhouse.a_backup_lies();
    greenhouse.the_primary_is_killed(false);
    greenhouse.close();
}

#[test]
fn replicas_that_may_only_crash_survive_a_crash_and_a_lost_disk() {
    let (_home, spec) = edited("greenhouse.yaml", |text| text.replace("faults: byzantine", "faults: crash"));
    let mut greenhouse = Greenhouse::open(Deployment::up(&spec));
    assert_eq!(greenhouse.deployment.replicas(GROUP).len(), 3);
    greenhouse.step(9);
    greenhouse.the_primary_is_killed(false);
    greenhouse.the_primary_is_killed(true);
    greenhouse.close();
}

#[test]
fn two_replicated_components_in_a_row_smooth_and_switch() {
    smooth_and_switch("greenhouse-two-stage.yaml");
}

#[test]
fn they_do_where_the_first_may_only_crash_as_well() {
    smooth_and_switch("greenhouse-two-models.yaml");
}

fn smooth_and_switch(name: &str) {
    let deployment = Deployment::up(&example(name));
    let port = deployment.mqtt_port();
    let heater = Subscriber::start(port, "greenhouse/heater", "the-heater");
    let display = Subscriber::start(port, "greenhouse/temperature", "the-display");
    let mut sensor = Publisher::start(port, "greenhouse/east/temperature");
    // The median of the last three: one wild reading changes nothing, two do.
    for (reading, median, command) in [
        ("15", "15", Some("on")),
        ("15", "15", None),
        ("15", "15", None),
        ("90", "15", None),
        ("15", "15", None),
        ("27.5", "27.5", Some("off")),
        ("27.5", "27.5", None),
        ("15", "27.5", None),
        ("15", "15", Some("on")),
    ] {
        sensor.publish(reading);
        let shown: f64 = display.message().parse().expect("a number");
        assert_eq!(shown, median.parse::<f64>().expect("a number"), "after {reading}");
        if let Some(command) = command {
            assert_eq!(heater.message(), command);
        }
    }
    deployment.has_published("smoother", 9);
    deployment.has_published(GROUP, 3);
    deployment.end();
}

#[test]
fn no_process_stays_when_up_is_killed() {
    // The one with programs of its own: these have to go too.
    let mut greenhouse = Greenhouse::open(Deployment::up(&example("greenhouse-python.yaml")));
    greenhouse.step(2);
    let (own, mut others) = greenhouse.deployment.pids();
    assert_eq!(others.len(), 5, "four replicas and the edge");
    let programs: Vec<_> = others.iter().flat_map(|pid| children(*pid)).collect();
    assert_eq!(programs.len(), 4, "a program for each replica");
    others.extend(programs);
    signal(own, Signal::KILL);
    for pid in others {
        until("the end of a process whose supervisor was killed", || (!is_alive(pid)).then_some(()));
    }
}

/// The processes that a process started, from any of its threads.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}
