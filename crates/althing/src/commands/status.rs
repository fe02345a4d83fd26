use super::named_settings;
use super::place::Place;
use crate::output;
use crate::running::{block_on, status};
use althing_node::config::{ProtocolKind, RawEngine, RawPaxos, RawPbft, RawSettings, RawZyzzyva};
use althing_node::control::{
    Accused, EdgeReport, Fault, LinkFault, LinksReport, ReplicaReport, Role, SiteReport, Status,
};
use althing_node::deployment::Deployment;
use althing_types::ReplicaId;
use clap::Args;
use miette::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Show where each process of a running deployment stands
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  althing status\n  althing status --json | jq '.processes[].status.view'\n\n\
    Exit code 1 if a process does not answer."
)]
pub(crate) struct ShowStatus {
    #[command(flatten)]
    place: Place,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct DeploymentReport {
    deployment: String,
    processes: Vec<ProcessReport>,
}

#[derive(Serialize)]
struct ProcessReport {
    name: String,
    status: Option<Status>,
    error: Option<String>,
}

impl ShowStatus {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let deployment = self.place.deployment()?;
        let processes = block_on(async { Ok(ask_all(&deployment).await) })?;
        let all_answer = processes.iter().all(|process| process.status.is_some());
        if self.json {
            let deployment = deployment.name().to_owned();
            output::print_json(&DeploymentReport { deployment, processes })?;
        } else {
            print(&processes);
        }
        Ok(if all_answer { ExitCode::SUCCESS } else { ExitCode::from(output::FAILED) })
    }
}

async fn ask_all(deployment: &Deployment) -> Vec<ProcessReport> {
    let mut reports = Vec::new();
    for process in deployment.processes() {
        let asked = status(deployment, &process.name).await;
        reports.push(ProcessReport {
            name: process.name.clone(),
            error: asked.as_ref().err().map(ToString::to_string),
            status: asked.ok(),
        });
    }
    reports
}

fn print(processes: &[ProcessReport]) {
    println!(
        "{:<20} {:<9} {:>6} {:>9} {:>9} {:>8}  remarks",
        "process", "role", "view", "executed", "stable", "pid"
    );
    for process in processes {
        match &process.status {
            Some(Status::Replica(report)) => print_replica(report),
            Some(Status::Edge(report)) => print_edge(report),
            Some(Status::Links(report)) => print_links(report),
            None => println!("{:<20} down: {}", process.name, process.error.as_deref().unwrap_or_default()),
        }
    }
    for line in settings_of(processes) {
        println!("{line}");
    }
}

/// What each group has agreed on, where that is not what a group goes by if nothing is said: as those of its replicas
/// say that are in the latest epoch.
fn settings_of(processes: &[ProcessReport]) -> Vec<String> {
    let mut latest: BTreeMap<&str, (u64, &RawSettings, &RawEngine)> = BTreeMap::new();
    for process in processes {
        let Some(Status::Replica(report)) = &process.status else { continue };
        let Some(settings) = report.settings.as_deref() else { continue };
        let said = (report.epoch, settings, &report.engine);
        let known = latest.entry(&report.group).or_insert(said);
        if report.epoch > known.0 {
            *known = said;
        }
    }
    let line = |(group, (epoch, settings, engine)): (&str, (u64, &RawSettings, &RawEngine))| {
        let usual = match settings {
            RawSettings::Pbft(_) => RawSettings::Pbft(RawPbft::default()),
            RawSettings::Paxos(_) => RawSettings::Paxos(RawPaxos::default()),
            RawSettings::Zyzzyva(_) => RawSettings::Zyzzyva(RawZyzzyva::default()),
            RawSettings::Quorum(_) => RawSettings::Quorum(RawZyzzyva::default()),
            RawSettings::Chain(_) => RawSettings::Chain(RawZyzzyva::default()),
            RawSettings::Aliph(_) => RawSettings::Aliph(RawZyzzyva::default()),
        };
        let mut changed = named_settings::differences(&usual, settings).ok()?;
        changed.extend(named_settings::differences(&RawEngine::default(), engine).ok()?);
        let named: Vec<_> = changed.iter().map(|it| format!("{}={}", it.name, it.after)).collect();
        (!named.is_empty()).then(|| format!("{group} in epoch {epoch} goes by {}", named.join(" ")))
    };
    latest.into_iter().filter_map(line).collect()
}

fn print_replica(report: &ReplicaReport) {
    let role = match report.role {
        Role::Primary => "primary",
        Role::Backup => "backup",
        Role::Learner => "learner",
        Role::Joining => "joining",
        Role::Retired => "retired",
        Role::Witness => "witness",
    };
    let view = if report.is_in_view { report.view.to_string() } else { format!("→{}", report.view) };
    println!(
        "{:<20} {:<9} {:>6} {:>9} {:>9} {:>8}  {}",
        report.name,
        role,
        view,
        report.executed,
        report.stable,
        report.pid,
        remarks(report).join("; ")
    );
    for evidence in &report.evidence {
        let proof = if evidence.is_transferable { "provable" } else { "seen here only" };
        let who = match evidence.of {
            Accused::Replica => "replica",
            Accused::Site => "site",
        };
        println!("{:<20}   caught {who} {}: {} ({proof})", "", evidence.accused, evidence.misbehaviour);
    }
    if let Some(site) = &report.site {
        print_site(site);
    }
}

fn print_site(site: &SiteReport) {
    let SiteReport { protocol, view, leader, executed, connected, servers, .. } = site;
    println!(
        "{:<20}   among the sites: {protocol} in view {view}, led by {leader}, executed {executed}; \
         {connected} of {} other servers connected{}",
        "",
        servers.saturating_sub(1),
        if site.is_taken_over { "; injected: the site lies to the others" } else { "" }
    );
    for link in &site.links {
        println!(
            "{:<20}     to {}: link {} → {} (turn {}), acknowledged {}, {} waiting; received {}",
            "",
            link.site,
            link.forwarder,
            link.peer,
            link.turn,
            link.acknowledged,
            link.unacknowledged,
            link.received
        );
    }
}

fn remarks(report: &ReplicaReport) -> Vec<String> {
    let mut remarks = Vec::new();
    let protocol = report.settings.as_deref().map(|raw| ProtocolKind::from(&raw.settings()).name());
    if report.epoch > 0 {
        remarks.push(format!("epoch {}", report.epoch));
    }
    // Where it is not what a group runs if nothing is said, or may have changed.
    remarks.extend(protocol.filter(|name| report.epoch > 0 || *name != "pbft").map(str::to_owned));
    match report.fault {
        Fault::None => {}
        Fault::Delay { ms } => remarks.push(format!("injected: delay {ms} ms")),
        Fault::Flood { with } => remarks.push(format!("injected: flood of {}", with.name())),
        Fault::SilentForwarder => remarks.push("injected: silent forwarder".to_owned()),
        Fault::SlowForwarder { ms } => remarks.push(format!("injected: slow forwarder, {ms} ms")),
        Fault::DeafPeer => remarks.push("injected: deaf peer".to_owned()),
        Fault::WrongShares => remarks.push("injected: wrong shares".to_owned()),
        Fault::Betray { .. } => remarks.push("injected: betrays the other sites".to_owned()),
        fault => remarks.push(format!("injected: {fault:?}").to_lowercase()),
    }
    if report.role == Role::Witness && report.primary == report.replica && report.is_in_view {
        remarks.push("leads".to_owned());
    }
    let is_meant = |raw: &RawSettings| raw.settings().witnesses().contains(&ReplicaId(report.replica));
    if report.role != Role::Witness && report.settings.as_deref().is_some_and(is_meant) {
        remarks.push("stands in for one that executes".to_owned());
    }
    if report.is_transferring {
        remarks.push("fetching the state".to_owned());
    }
    if let Some(recovery) = report.recovery {
        remarks.push(format!("recovered in {} ms", recovery.took_ms));
    }
    if let Some(vulnerable_ms) = report.vulnerable_ms {
        remarks.push(format!("window of vulnerability {} s", vulnerable_ms.div_ceil(1000)));
    }
    if report.counters.divergences > 0 {
        remarks.push(format!("diverged {} time(s)", report.counters.divergences));
    }
    remarks
}

fn print_links(report: &LinksReport) {
    let rate = match report.uplink_bps {
        Some(bps) => format!("{} Mbit/s out of each site", bps as f64 / 1e6),
        None => "any rate".to_owned(),
    };
    println!(
        "{:<20} {:<9} {:>36} {:>8}  {} ms one way, {rate}",
        report.name, "links", "", report.pid, report.delay_ms
    );
    for uplink in &report.uplinks {
        let sent = report.pairs.iter().filter(|pair| pair.from == uplink.site);
        let bytes: u64 = sent.clone().map(|pair| pair.delivered_bytes).sum();
        println!(
            "{:<20}   {}: {} kB sent, {} ms wait for the uplink",
            "",
            uplink.site,
            bytes / 1000,
            uplink.backlog_ms
        );
        for pair in sent.filter(|pair| pair.fault != LinkFault::None) {
            let fault = match pair.fault {
                LinkFault::None => continue,
                LinkFault::Cut => "cut".to_owned(),
                LinkFault::Slow { delay_ms, bps: None } => format!("{delay_ms} ms slower"),
                LinkFault::Slow { delay_ms, bps: Some(bps) } => {
                    format!("{delay_ms} ms slower, {} Mbit/s", bps as f64 / 1e6)
                }
                LinkFault::Corrupt { .. } => format!("corrupt, {} packet(s) so far", pair.corrupted),
            };
            println!("{:<20}     → {}: injected: {fault}, {} byte(s) held", "", pair.to, pair.held_bytes);
        }
    }
}

fn print_edge(report: &EdgeReport) {
    println!("{:<20} {:<9} {:>36} {:>8}  MQTT at {}", report.name, "edge", "", report.pid, report.broker);
    for group in &report.groups {
        for wire in &group.incoming {
            println!(
                "{:<20}   {} → {}: {} received, {} accepted, {} refused",
                "", wire.topic, group.group, wire.received, wire.accepted, wire.refused
            );
        }
        for wire in &group.outgoing {
            let outvoted: Vec<_> = (0u16..)
                .zip(&wire.disagreements)
                .filter(|(_, count)| **count > 0)
                .map(|(replica, count)| format!("replica {replica} outvoted {count} time(s)"))
                .collect();
            println!(
                "{:<20}   {} → {}: {} agreed on, {} published  {}",
                "",
                group.group,
                wire.topic,
                wire.agreed,
                wire.published,
                outvoted.join(", ")
            );
        }
    }
}
