use super::process::crash;
use crate::output;
use crate::running::{ask, block_on};
use althing_node::control::{Fault, LinkFault, LinkSelection, Request};
use althing_node::deployment::{Deployment, ProcessKind};
use clap::Subcommand;
use miette::{Result, miette};
use std::process::ExitCode;

/// Stands for each site.
const ALL: &str = "all";

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

/// Makes a whole site fail. Where some of its servers do not answer the others fail all the same, and the exit code says
/// that it is not all of them.
pub(super) fn inject_site(deployment: &Deployment, site: &str, kind: SiteKind) -> Result<ExitCode> {
    let servers = servers(deployment, site)?;
    let ends = format!("`althing inject site {site} mend` ends it");
    let inject = |fault: Fault| {
        at_each(&servers, |server| block_on(ask(deployment, server, &Request::Inject { fault })).map(drop))
    };
    match kind {
        SiteKind::Links(kind) => {
            let told = match kind {
                LinkKind::Mend => inject(Fault::None).map(Told::exit_code).unwrap_or_else(|error| {
                    eprintln!(
                        "no server of {site} answers, and those that are down come back honest: {error}"
                    );
                    ExitCode::from(output::FAILED)
                }),
                _ => ExitCode::SUCCESS,
            };
            impose(deployment, LinkSelection::Site { site: site.to_owned() }, kind)?;
            println!(
                "what {site} sends and receives is {} now{}",
                kind.done(),
                remedy(kind, &format!("site {site}"))
            );
            Ok(told)
        }
        SiteKind::Crash => {
            let told = at_each(&servers, |server| crash(deployment, server).map(drop))?;
            println!("{} of {site} are killed", told.count());
            Ok(told.exit_code())
        }
        SiteKind::Lie => {
            let told = inject(Fault::Betray { seed: u64::from(std::process::id()) })?;
            println!("{} of {site} tell the other sites what they like now; {ends}", told.count());
            Ok(told.exit_code())
        }
        SiteKind::Mute => {
            let told = inject(Fault::Mute)?;
            println!("{} of {site} are mute now; {ends}", told.count());
            Ok(told.exit_code())
        }
    }
}

/// How many servers of a site did what they were told.
#[derive(Debug, Clone, Copy)]
struct Told {
    done: usize,
    servers: usize,
}

impl Told {
    fn count(self) -> String {
        match self {
            Self { done, servers } if done == servers => format!("the {servers} servers"),
            Self { done, servers } => format!("{done} of {servers} servers"),
        }
    }

    fn exit_code(self) -> ExitCode {
        if self.done == self.servers { ExitCode::SUCCESS } else { ExitCode::from(output::FAILED) }
    }
}

/// Does something to each server, and says which it can't be done to, and why.
///
/// # Errors
/// When it can't be done to any: as the last one says.
fn at_each(servers: &[String], mut tell: impl FnMut(&str) -> Result<()>) -> Result<Told> {
    let failed: Vec<_> =
        servers.iter().filter_map(|server| tell(server).err().map(|error| (server, error))).collect();
    let told = Told { done: servers.len() - failed.len(), servers: servers.len() };
    if told.done > 0 {
        failed.iter().for_each(|(server, error)| eprintln!("not {server}: {error}"));
        return Ok(told);
    }
    let last = failed.into_iter().next_back();
    Err(last.expect("a site has servers").1)
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
