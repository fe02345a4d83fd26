//! One module a command. Each turns arguments into calls of the libraries and their answers into
//! output; none decides anything.

mod bench;
mod chart;
mod check;
mod compare;
mod demo;
mod inject;
mod keygen;
mod kv;
mod named_settings;
mod place;
mod plan;
mod process;
mod reconfigure;
mod serve;
mod sim;
mod status;
mod up;
mod wan;

use althing_node::Services;
use althing_node::config::ProtocolKind;
use althing_replica::Durability;
use clap::{Parser, Subcommand};
use miette::Result;
use std::process::ExitCode;

/// Keeps a system working, correctly, while some of its machines crash, lie or are taken over
#[derive(Debug, Parser)]
#[command(name = "althing", version, about, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "First steps:\n  althing demo                       see it at work\n  \
    althing check examples/greenhouse.yaml\n  althing up examples/greenhouse.yaml\n\n\
    Exit codes: 0 done; 1 the answer is no (absent, mismatch, a process down, an oracle violated);\n\
    2 it can't be done, or makes no sense.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Log more to standard error (-v, -vv, -vvv)
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(demo::Demo),
    Check(check::Check),
    Plan(plan::ShowPlan),
    Up(up::Up),
    Status(status::ShowStatus),
    Inject(inject::Inject),
    Serve(serve::Serve),
    Kv(kv::KvCommand),
    Sim(sim::Sim),
    Wan(wan::Wan),
    Bench(bench::Bench),
    Compare(compare::Compare),
    Reconfigure(reconfigure::Reconfigure),
    Keygen(keygen::Keygen),
    Replica(process::RunReplica),
    Edge(process::RunEdge),
    Links(process::RunLinks),
    #[command(hide = true)]
    Launch(process::Launch),
    #[command(hide = true)]
    Load(bench::RunLoad),
    #[command(hide = true)]
    Attack(bench::RunAttack),
}

impl Command {
    /// Carries the command out; replicas run here may be of these services.
    pub(crate) fn run(self, services: Services) -> Result<ExitCode> {
        match self {
            Self::Demo(command) => command.run(),
            Self::Check(command) => command.run(),
            Self::Plan(command) => command.run(),
            Self::Up(command) => command.run(),
            Self::Status(command) => command.run(),
            Self::Inject(command) => command.run(),
            Self::Serve(command) => command.run(&services),
            Self::Kv(command) => command.run(),
            Self::Sim(command) => command.run(),
            Self::Wan(command) => command.run(),
            Self::Bench(command) => command.run(),
            Self::Compare(command) => command.run(),
            Self::Reconfigure(command) => command.run(),
            Self::Keygen(command) => command.run(),
            Self::Replica(command) => command.run(services),
            Self::Edge(command) => command.run(),
            Self::Links(command) => command.run(),
            Self::Launch(command) => command.run(),
            Self::Load(command) => command.run(),
            Self::Attack(command) => command.run(),
        }
    }
}

/// A durability, as arguments name it.
fn protocol(name: &str) -> Result<ProtocolKind, String> {
    let found = ProtocolKind::REPLICATED.into_iter().find(|protocol| protocol.name() == name);
    found.ok_or_else(|| format!("`{name}` is no protocol of groups; there are `pbft`, `paxos` and `zyzzyva`"))
}

fn durability(name: &str) -> Result<Durability, String> {
    Durability::named(name)
        .ok_or_else(|| format!("`{name}` is no durability; there are `sync`, `async` and `none`"))
}
