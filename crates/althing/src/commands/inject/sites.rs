use super::process::crash;
use crate::running::{ask, block_on, status};
use althing_node::control::{Fault, LinkFault, LinkSelection, Request, Status};
use althing_node::deployment::{Deployment, ProcessKind};
use clap::Subcommand;
use miette::{Result, miette};

/// Stands for each site.
const ALL: &str = "all";

/// How many batches later than its latest one a site is to betray the others: time to tell all its servers.
const BATCHES_AHEAD: u64 = 50;

/// How a link between sites is to fail.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(super) enum LinkKind {
    /// Nothing arrives, and nobody is told
    Cut,
    /// It takes longer, and carries less
    Slow {
        /// By so many milliseconds longer
        ms: u64,
        /// And so many megabits a second at most
        #[arg(long, value_name = "MBPS", value_parser = megabits)]
        mbps: Option<u64>,
    },
    /// Bits are flipped on the way
    Corrupt {
        /// In so many of a thousand packets
        #[arg(value_name = "PER_MILLE", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
        per_mille: u16,
    },
    /// It is as it should be again
    Mend,
}

/// How a whole site is to fail.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(super) enum SiteKind {
    #[command(flatten)]
    Links(LinkKind),
    /// Kill all its servers on the spot (SIGKILL)
    Crash,
    /// Its servers run and send nothing
    Mute,
    /// All its servers are taken over: it contradicts itself towards other sites, and signs that
    Lie,
}

impl LinkKind {
    fn fault(self) -> LinkFault {
        match self {
            Self::Cut => LinkFault::Cut,
            Self::Slow { ms, mbps } => LinkFault::Slow { delay_ms: ms, bps: mbps },
            Self::Corrupt { per_mille } => LinkFault::Corrupt { per_mille },
            Self::Mend => LinkFault::None,
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Slow { .. } => "slow",
            Self::Corrupt { .. } => "corrupt",
            Self::Mend => "as it should be",
        }
    }
}

/// Makes what one site sends to another fail.
pub(super) fn inject_link(deployment: &Deployment, from: &str, to: &str, kind: LinkKind) -> Result<()> {
    let sites = deployment.groups();
    let named =
        |name: &str| -> Vec<String> { if name == ALL { sites.to_vec() } else { vec![name.to_owned()] } };
    if (from, to) == (ALL, ALL) {
        impose(deployment, LinkSelection::All, kind)?;
    } else {
        for from in named(from) {
            for to in named(to).into_iter().filter(|to| *to != from) {
                impose(deployment, LinkSelection::Pair { from: from.clone(), to }, kind)?;
            }
        }
    }
    println!(
        "the link from {from} to {to} is {} now{}",
        kind.done(),
        remedy(kind, &format!("link {from} {to}"))
    );
    Ok(())
}

/// Makes a whole site fail.
pub(super) fn inject_site(deployment: &Deployment, site: &str, kind: SiteKind) -> Result<()> {
    let servers = servers(deployment, site)?;
    match kind {
        SiteKind::Links(kind) => {
            if matches!(kind, LinkKind::Mend) {
                heal(deployment, &servers);
            }
            impose(deployment, LinkSelection::Site { site: site.to_owned() }, kind)?;
            println!(
                "what {site} sends and receives is {} now{}",
                kind.done(),
                remedy(kind, &format!("site {site}"))
            );
        }
        SiteKind::Crash => {
            for server in &servers {
                crash(deployment, server)?;
            }
            println!("the {} servers of {site} are killed", servers.len());
        }
        SiteKind::Lie => {
            let fault = betrayal(deployment, &servers)?;
            for server in &servers {
                block_on(ask(deployment, server, &Request::Inject { fault }))?;
            }
            println!(
                "{site} tells the other sites what it likes now; `althing inject site {site} mend` ends it"
            );
        }
        SiteKind::Mute => {
            for server in &servers {
                block_on(ask(deployment, server, &Request::Inject { fault: Fault::Mute }))?;
            }
            println!(
                "the {} servers of {site} are mute now; `althing inject site {site} mend` ends it",
                servers.len()
            );
        }
    }
    Ok(())
}

/// What has all servers of a site betray the others alike: from a batch on that none of them has come to.
fn betrayal(deployment: &Deployment, servers: &[String]) -> Result<Fault> {
    let mut latest = 0;
    for server in servers {
        if let Status::Replica(report) = block_on(status(deployment, server))? {
            latest = latest.max(report.executed);
        }
    }
    Ok(Fault::Betray { from: latest + BATCHES_AHEAD, seed: u64::from(std::process::id()) })
}

fn remedy(kind: LinkKind, what: &str) -> String {
    match kind {
        LinkKind::Mend => String::new(),
        _ => format!("; `althing inject {what} mend` ends it"),
    }
}

/// The processes of a site's servers.
fn servers(deployment: &Deployment, site: &str) -> Result<Vec<String>> {
    let is_of_site = |runs: &ProcessKind| matches!(runs, ProcessKind::Replica { group, .. } if group == site);
    let processes = deployment.processes().iter().filter(|process| is_of_site(&process.runs));
    let servers: Vec<_> = processes.map(|process| process.name.clone()).collect();
    if servers.is_empty() {
        return Err(miette!("there is no site `{site}`; there are {}", deployment.groups().join(", ")));
    }
    Ok(servers)
}

/// Those that are down come back honest.
fn heal(deployment: &Deployment, servers: &[String]) {
    for server in servers {
        if let Err(error) = block_on(ask(deployment, server, &Request::Inject { fault: Fault::None })) {
            eprintln!("{error}");
        }
    }
}

fn impose(deployment: &Deployment, links: LinkSelection, kind: LinkKind) -> Result<()> {
    let process = deployment.processes().iter().find(|process| process.runs == ProcessKind::Links);
    let Some(process) = process else {
        return Err(miette!(
            help = "`up` a system of sites with `links:` in its file, or with --allow-injection",
            "{} has no links that can fail",
            deployment.name()
        ));
    };
    let request = Request::InjectLink { links, fault: kind.fault() };
    block_on(ask(deployment, &process.name, &request)).map(drop)
}

/// A rate in bits a second.
fn megabits(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(mbps) if (0.001..=100_000.0).contains(&mbps) => Ok((mbps * 1e6).round() as u64),
        _ => Err("give a number of megabits a second, from 0.001 to 100000".to_owned()),
    }
}
