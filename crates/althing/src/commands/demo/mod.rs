mod greenhouse;

use crate::output;
use crate::running::{Running, ask, block_on};
use althing_components::{Application, Plan};
use althing_node::config::RawBroker;
use althing_node::control::{Fault, Request, Role, Status};
use althing_node::deployment::{ProvisionOptions, provision_application};
use clap::Args;
use greenhouse::Greenhouse;
use miette::{IntoDiagnostic, Result, miette};
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const SPEC: &str = include_str!("../../../../../examples/greenhouse.yaml");
const GROUP: &str = "thermostat";

/// A primary that does not serve is left after this: quicker than by default, since one watches.
const VIEW_TIMEOUT_MS: u64 = 500;

/// How long each fault may take to be overcome before the demo counts as failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// See a small system survive a liar, a crash and a lost disk, in under a minute
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  althing demo\n\n\
    It needs nothing but this binary, uses free ports of 127.0.0.1, and leaves nothing behind.\n\
    Exit code 1 if the heater ever saw a wrong command, or missed one.")]
pub(crate) struct Demo {
    /// Print only the summary, as JSON
    #[arg(long)]
    json: bool,
}

/// What the demo measured.
#[derive(Debug, Serialize)]
struct Summary {
    readings: u64,
    commands: usize,
    wrong_commands: usize,
    missing_commands: usize,
    lies_outvoted: u64,
    reaction_ms_median: f64,
    reaction_ms_while_lying_median: f64,
    longest_reaction_after_kill_ms: f64,
    empty_replica_votes_again_after_ms: f64,
    state_fetched_bytes: u64,
    seconds: f64,
}

/// The system, the greenhouse around it, and the narrator.
struct Stage {
    started: Instant,
    quiet: bool,
    running: Running,
    greenhouse: Greenhouse,
}

impl Demo {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let home = tempfile::tempdir().into_diagnostic()?;
        let summary = block_on(play(home.path(), self.json))?;
        let is_right = summary.wrong_commands == 0 && summary.missing_commands == 0;
        if self.json {
            output::print_json(&summary)?;
        } else {
            print(&summary);
        }
        Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::from(output::FAILED) })
    }
}

async fn play(home: &Path, quiet: bool) -> Result<Summary> {
    let stage = Stage::set(home, quiet).await?;
    let normal = stage.calm().await?;
    let (lies, lying) = stage.a_replica_lies().await?;
    let (killed, worst) = stage.the_primary_is_killed().await?;
    let (again, bytes) = stage.it_comes_back_empty(&killed).await?;
    stage.end(normal, lies, lying, worst, again, bytes).await
}

impl Stage {
    async fn set(home: &Path, quiet: bool) -> Result<Self> {
        let started = Instant::now();
        let application = Application::parse(SPEC).map_err(|problems| miette!("{problems}"))?;
        let plan = Plan::of(&application);
        let mut options = ProvisionOptions { allow_injection: true, ..ProvisionOptions::default() };
        options.pbft.view_timeout_ms = VIEW_TIMEOUT_MS;
        if !quiet {
            println!("A greenhouse: a sensor, a thermostat, a heater. This is all that its file says:\n");
            SPEC.lines().filter(|line| !line.starts_with('#')).for_each(|line| println!("    {line}"));
            println!("\nWithout the `replicate` line there would be one thermostat. With it:\n");
        }
        let deployment = provision_application(&home.join("run"), &plan, home, &options).into_diagnostic()?;
        let running = Running::start(deployment).await?;
        let broker = match running.deployment.broker() {
            Some(RawBroker::Embedded { address }) => *address,
            _ => return Err(miette!("the greenhouse has an MQTT broker of its own")),
        };
        let greenhouse = Greenhouse::open(broker).await?;
        let stage = Self { started, quiet, running, greenhouse };
        stage.say(&format!(
            "4 thermostats, each a process of its own, and an MQTT broker at {broker}. Every reading is ordered"
        ));
        stage.say("into all four; a command reaches the heater only when 2 of them say the same.");
        Ok(stage)
    }

    /// One line of narration.
    fn say(&self, text: &str) {
        if !self.quiet {
            println!("{:>5.1}s  {text}", self.started.elapsed().as_secs_f64());
        }
    }

    /// Lets `commands` more commands come, at most for as long as patience lasts.
    async fn let_come(&self, commands: usize) -> Result<()> {
        let enough = self.greenhouse.record().came.len() + commands;
        let what = format!("{commands} more commands");
        self.running
            .until(&what, PATIENCE, async |_| (self.greenhouse.record().came.len() >= enough).then_some(()))
            .await
    }

    async fn inject(&self, replica: &str, fault: Fault) -> Result<()> {
        ask(&self.running.deployment, replica, &Request::Inject { fault }).await.map(drop)
    }

    async fn primary(&self) -> Result<String> {
        let replicas = self.running.replicas_of(GROUP);
        self.running
            .until("a view with a primary", PATIENCE, async |running| {
                for name in &replicas {
                    let is_primary =
                        running.replica(name).await.is_ok_and(|r| r.role == Role::Primary && r.is_in_view);
                    if is_primary {
                        return Some(name.clone());
                    }
                }
                None
            })
            .await
    }

    /// How often each replica's word was outvoted.
    async fn outvoted(&self) -> Vec<u64> {
        let edge = self.running.deployment.processes().iter().find(|process| process.name == "edge");
        let Some(edge) = edge else { return Vec::new() };
        match self.running.status(&edge.name).await {
            Ok(Status::Edge(report)) => report
                .groups
                .iter()
                .flat_map(|group| &group.outgoing)
                .map(|wire| wire.disagreements.clone())
                .next()
                .unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    async fn calm(&self) -> Result<Duration> {
        let since = Instant::now();
        self.let_come(8).await?;
        let median = median(&self.greenhouse.record().delays_since(since));
        self.say(&format!(
            "No fault yet: the heater's commands come {} after the reading that calls for them.",
            millis(median)
        ));
        Ok(median)
    }

    async fn a_replica_lies(&self) -> Result<(u64, Duration)> {
        let primary = self.primary().await?;
        let replicas = self.running.replicas_of(GROUP);
        let liar = replicas.iter().rposition(|name| *name != primary).unwrap_or_default();
        self.say("");
        self.say(&format!(
            "FAULT: {} is taken over. It lies about every command, with its real keys.",
            replicas[liar]
        ));
        let since = Instant::now();
        self.inject(&replicas[liar], Fault::Lie).await?;
        let enough = 5;
        let outvoted = self
            .running
            .until("that the liar is outvoted", PATIENCE, async |_| {
                self.outvoted().await.get(liar).copied().filter(|count| *count >= enough)
            })
            .await?;
        let median = median(&self.greenhouse.record().delays_since(since));
        self.say(&format!(
            "It was outvoted {outvoted} times: one voice is not 2. The heater saw {} wrong commands, and the",
            self.greenhouse.record().wrong()
        ));
        self.say(&format!("right ones came after {}. It is honest again now.", millis(median)));
        self.inject(&replicas[liar], Fault::None).await?;
        Ok((outvoted, median))
    }

    async fn the_primary_is_killed(&self) -> Result<(String, Duration)> {
        let primary = self.primary().await?;
        self.say("");
        self.say(&format!("FAULT: {primary}, the primary, is killed (SIGKILL). It ordered the readings."));
        let since = Instant::now();
        self.running.supervisor.kill(&primary).await.into_diagnostic()?;
        self.let_come(6).await?;
        let next = self.primary().await?;
        let view = self.running.replica(&next).await?.view;
        let worst = self.greenhouse.record().delays_since(since).last().copied().unwrap_or_default();
        self.say(&format!(
            "The others noticed that readings were not ordered, and agreed on view {view}: {next} leads."
        ));
        self.say(&format!("The slowest command took {}; none was lost or came twice.", millis(worst)));
        Ok((primary, worst))
    }

    async fn it_comes_back_empty(&self, name: &str) -> Result<(Duration, u64)> {
        self.say("");
        self.say(&format!(
            "{name} comes back with an empty disk: it knows neither the state nor its own votes."
        ));
        let since = Instant::now();
        self.running.supervisor.restart(name, true).await.into_diagnostic()?;
        let report = self
            .running
            .until("that the empty replica votes again", PATIENCE, async |running| {
                running
                    .replica(name)
                    .await
                    .ok()
                    .filter(|report| report.is_voting && report.counters.transfers > 0)
            })
            .await?;
        let (took, bytes) = (since.elapsed(), report.counters.transferred_bytes);
        self.say(&format!(
            "It fetched {bytes} bytes of state, verified against what 3 replicas signed, and votes again after {}.",
            millis(took)
        ));
        self.let_come(4).await?;
        Ok((took, bytes))
    }

    async fn end(
        self,
        normal: Duration,
        lies_outvoted: u64,
        lying: Duration,
        worst: Duration,
        again: Duration,
        bytes: u64,
    ) -> Result<Summary> {
        self.greenhouse.stop_reading();
        self.running
            .until("the last command", PATIENCE, async |_| {
                (self.greenhouse.record().missing() == 0).then_some(())
            })
            .await?;
        let in_millis = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let summary = {
            let record = self.greenhouse.record();
            Summary {
                readings: record.readings,
                commands: record.came.len(),
                wrong_commands: record.wrong(),
                missing_commands: record.missing(),
                lies_outvoted,
                reaction_ms_median: in_millis(normal),
                reaction_ms_while_lying_median: in_millis(lying),
                longest_reaction_after_kill_ms: in_millis(worst),
                empty_replica_votes_again_after_ms: in_millis(again),
                state_fetched_bytes: bytes,
                seconds: self.started.elapsed().as_secs_f64(),
            }
        };
        self.running.supervisor.shut_down().await;
        Ok(summary)
    }
}

fn median(ascending: &[Duration]) -> Duration {
    ascending.get(ascending.len() / 2).copied().unwrap_or_default()
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

fn print(summary: &Summary) {
    println!();
    println!("What was measured in {:.0} s", summary.seconds);
    println!("  readings sent                        {:>8}", summary.readings);
    println!("  commands that reached the heater     {:>8}", summary.commands);
    println!("  of these wrong, or more than due     {:>8}", summary.wrong_commands);
    println!("  commands that never came             {:>8}", summary.missing_commands);
    println!("  lies outvoted                        {:>8}", summary.lies_outvoted);
    println!("  reaction, median                     {:>8.1} ms", summary.reaction_ms_median);
    println!("  reaction with a liar, median         {:>8.1} ms", summary.reaction_ms_while_lying_median);
    println!("  slowest reaction, primary killed     {:>8.1} ms", summary.longest_reaction_after_kill_ms);
    println!("  empty replica votes again after      {:>8.1} ms", summary.empty_replica_votes_again_after_ms);
    println!();
    println!("Next:");
    println!("  althing plan examples/greenhouse.yaml     how the application is re-wired");
    println!("  althing up examples/greenhouse.yaml --allow-injection");
    println!("                                            run it; in another terminal: althing inject");
    println!("  althing sim --seeds 100                   thousands of faults, in virtual time");
    println!("  althing bench                             what it costs");
}
