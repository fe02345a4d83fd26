//! `bench`: what a service costs replicated, next to what it costs alone.

mod attack;
mod contender;
mod injection;
mod load;
mod machine;
mod plot;
mod report;
mod settings;
mod statistics;
mod suite;
mod table;
mod usage;

pub(crate) use attack::RunAttack;
pub(crate) use injection::kill;
pub(crate) use load::RunLoad;

use super::named_settings;
use crate::output;
use crate::running::block_on;
use althing_node::config::{ProtocolKind, RawPbft, ReadKind, RequestAuthKind};
use althing_replica::Durability;
use attack::{Attack, Beside};
use clap::Args;
use contender::{Contender, Run};
use injection::Injection;
use load::{Arrivals, Load, ServiceKind, Workload};
use machine::Machine;
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use report::{Report, Row};
use settings::{ContenderSettings, Settings};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use tempfile::TempDir;

/// Clients of a closed loop, unless they are told.
const USUAL_CLIENTS: [usize; 3] = [1, 16, 64];

/// Clients of an open loop: the most operations under way.
const USUAL_OPEN_CLIENTS: usize = 64;

/// Measure throughput, latency and processor time under load, next to the same service unreplicated
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  althing bench\n  althing bench --clients 1,64,256 --request-bytes 1024 --svg bench.svg\n  \
    althing bench --rate 1000,5000,20000              open loop: operations due at fixed times\n  \
    althing bench --service kv --read-share 0.9 --durability none,sync --json > bench.json\n  \
    althing bench --rate 2000 --seconds 10 --inject crash:primary@3\n  \
    althing bench --clients 64 --attack garbage,handshakes  what floods cost clients that behave\n  \
    althing bench --suite docs/src --quick            the page of benchmarks, in about two minutes\n\n\
    Rounds alternate between the contenders, since machines drift. In a closed loop a group that stalls\n\
    is not asked meanwhile; what users see during a stall shows in an open loop only (--rate)."
)]
pub(crate) struct Bench {
    /// Numbers of clients, each with one operation under way [default: 1,16,64; with --rate 64]
    #[arg(long, value_delimiter = ',', value_name = "N,N")]
    clients: Vec<usize>,
    /// Open loop: so many operations are due in a second, whatever became of the last. A latency counts
    /// from when its operation was due
    #[arg(long, value_delimiter = ',', value_name = "OPS,OPS")]
    rate: Vec<f64>,
    /// How operations of an open loop follow each other
    #[arg(long, value_enum, default_value = "poisson")]
    arrivals: Arrivals,
    /// What is drawn at random follows from it: times, keys, and which operations read
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Processes that the clients are shared out among
    #[arg(long, default_value_t = 1, value_name = "K")]
    load_processes: u32,
    /// Clients of a process that share a connection to each replica, as the requests of one application
    /// server do
    #[arg(long, default_value_t = 1, value_name = "N")]
    clients_per_connection: u16,
    /// What is executed
    #[arg(long, value_enum, default_value = "null")]
    service: ServiceKind,
    /// Bytes of a request: the operation of the null service, the value put into the store
    #[arg(long, default_value_t = 0)]
    request_bytes: usize,
    /// Bytes of the null service's reply
    #[arg(long, default_value_t = 0)]
    reply_bytes: usize,
    /// Share of operations that only read, from 0 to 1
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    read_share: f64,
    /// How the group reads: `fast` tries without ordering, and makes writes wait for more replicas
    /// [default: fast with --read-share, otherwise ordered]
    #[arg(long, value_parser = reads)]
    reads: Option<ReadKind>,
    /// Keys of the store, each used as often as the next
    #[arg(long, default_value_t = 1000)]
    keys: u64,
    /// The protocol: `pbft`, `zyzzyva`, `quorum`, `chain`, `aliph`, or `paxos` for replicas that crash and do not lie;
    /// several are compared
    #[arg(long, value_parser = super::protocol, value_delimiter = ',', default_value = "pbft")]
    protocol: Vec<ProtocolKind>,
    /// Faults that the group tolerates: 2f + 1 replicas with Paxos, 3f + 1 with the others
    #[arg(long, default_value_t = 1)]
    faults: usize,
    /// Whether votes go to disk before they leave; several are compared
    #[arg(long, value_parser = super::durability, value_delimiter = ',', default_value = "none")]
    durability: Vec<Durability>,
    /// Clients sign every request, instead of only those that they have to send again
    #[arg(long)]
    signatures: bool,
    /// A setting of PBFT as in a group file, for instance pipeline=1; may be repeated. It holds for Paxos too
    /// where it means the same there
    #[arg(long, value_name = "NAME=VALUE")]
    pbft: Vec<String>,
    /// A fault in the group during the measured time, as in crash:primary@2 (seconds); may be repeated.
    /// Each round then begins with a new group
    #[arg(long, value_name = "KIND:WHOM@SECONDS")]
    inject: Vec<Injection>,
    /// Let an attacker flood the group beside the load, one kind after the other; each run is compared with
    /// one beside a process that is as busy and attacks nobody. There is no unreplicated contender then
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND,KIND")]
    attack: Vec<Attack>,
    /// Measured seconds of a run
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    seconds: f64,
    /// Seconds before that
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    warm_up: f64,
    /// Runs of each, alternating
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Without an answer after so many seconds, an operation has failed
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    timeout: f64,
    /// Where the groups keep their files meanwhile [default: the system's place for temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Draw throughput against latency into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Measure what the project holds itself to, and write `benchmarks.md`, its plots and its JSON into
    /// this directory. Of the other options only --dir and --quick count
    #[arg(long, value_name = "DIR")]
    suite: Option<PathBuf>,
    /// A short suite: it shows that everything works, and its figures are rough
    #[arg(long, requires = "suite")]
    quick: bool,
}

impl Bench {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let home = self.home()?;
        if let Some(directory) = &self.suite {
            suite::run(directory, self.quick, &home)?;
            return Ok(ExitCode::SUCCESS);
        }
        let settings = self.settings()?;
        let report = block_on(measure(settings, &home))?;
        if self.json {
            output::print_json(&report)?;
        } else {
            print!("{}", table::table(&report));
        }
        if let Some(path) = &self.svg {
            let svg = plot::throughput_against_latency("Throughput against latency", &report.rows)?;
            std::fs::write(path, svg)
                .into_diagnostic()
                .wrap_err_with(|| format!("{} can't be written", path.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn home(&self) -> Result<TempDir> {
        let made = match &self.dir {
            None => tempfile::tempdir(),
            Some(directory) => std::fs::create_dir_all(directory).and_then(|()| TempDir::new_in(directory)),
        };
        made.into_diagnostic().wrap_err("there is no place for the groups' files")
    }

    fn settings(&self) -> Result<Settings> {
        let settings = Settings {
            workload: Workload {
                service: self.service,
                request_bytes: self.request_bytes,
                reply_bytes: self.reply_bytes,
                read_share: self.read_share,
                keys: self.keys,
            },
            reads: self.reads.unwrap_or(if self.read_share > 0.0 {
                ReadKind::Fast
            } else {
                ReadKind::Ordered
            }),
            contenders: self.contenders(),
            loads: self.loads()?,
            pbft: named_settings::with(&RawPbft::default(), "--pbft", &self.pbft)?,
            injections: self.inject.clone(),
            attacks: self.attack.clone(),
            load_processes: self.load_processes,
            clients_per_connection: self.clients_per_connection,
            seed: self.seed,
            warm_up_seconds: self.warm_up,
            measured_seconds: self.seconds,
            rounds: self.rounds,
            timeout_seconds: self.timeout,
        };
        settings.check()?;
        Ok(settings)
    }

    fn contenders(&self) -> Vec<ContenderSettings> {
        let auth = if self.signatures { RequestAuthKind::Signatures } else { RequestAuthKind::Macs };
        let unreplicated = self.attack.is_empty().then(|| ContenderSettings::unreplicated(auth));
        let mut contenders: Vec<_> = unreplicated.into_iter().collect();
        let all =
            self.protocol.iter().flat_map(|protocol| self.durability.iter().map(move |d| (*protocol, *d)));
        for (protocol, durability) in all {
            let name = match self.durability.as_slice() {
                [_] => protocol.name().to_owned(),
                _ => format!("{}-{durability}", protocol.name()),
            };
            let group = ContenderSettings::pbft(&name, self.faults, durability, auth).running(protocol);
            if contenders.iter().all(|contender| contender.name != name) {
                contenders.push(group);
            }
        }
        contenders
    }

    fn loads(&self) -> Result<Vec<Load>> {
        if self.rate.is_empty() {
            let clients = if self.clients.is_empty() { &USUAL_CLIENTS[..] } else { &self.clients };
            return Ok(clients.iter().map(|clients| Load::Closed { clients: *clients }).collect());
        }
        let clients = match self.clients.as_slice() {
            [] => USUAL_OPEN_CLIENTS,
            [clients] => *clients,
            _ => return Err(miette!("--rate takes one number of --clients")),
        };
        let arrivals = self.arrivals;
        Ok(self.rate.iter().map(|rate| Load::Open { clients, offered_per_second: *rate, arrivals }).collect())
    }
}

/// Runs all contenders under all loads, in alternation, with their files below `home`.
async fn measure(settings: Settings, home: &TempDir) -> Result<Report> {
    let machine = Machine::here(home.path());
    let place = tempfile::tempdir_in(home.path()).into_diagnostic()?;
    let mut contenders = Vec::new();
    for contender in &settings.contenders {
        contenders.push(Contender::start(contender, &settings, place.path()).await?);
    }
    let mut rows = Vec::new();
    for load in &settings.loads {
        let entries = entries(&settings);
        let mut runs: Vec<Vec<Run>> = entries.iter().map(|_| Vec::new()).collect();
        let mut busy = BTreeMap::new();
        for round in 1..=settings.rounds {
            for ((contender, entry), runs) in entries.iter().zip(&mut runs) {
                let load_name = table::load(load);
                eprintln!("{load_name}, round {round} of {}: {}", settings.rounds, entry.name);
                runs.push(contenders[*contender].run(*load, entry.beside, &mut busy).await?);
            }
        }
        let mut of_load: Vec<Row> = Vec::new();
        for ((_, entry), runs) in entries.iter().zip(&runs) {
            let mut row = Row::of(entry, *load, runs, settings.measured());
            // Under attack that is a finding.
            if row.operations == 0 && entry.beside.is_none() {
                let reasons = row.failure_reasons.join("; ");
                return Err(miette!("{} completed no operation: {reasons}", row.contender.name));
            }
            if let Some(baseline) = of_load.first() {
                row.compare(baseline);
            }
            if let (Some(Beside::Busy(_)), Some(attacked)) = (entry.beside, of_load.last_mut()) {
                attacked.compare_with_busy(&row);
            }
            of_load.push(row);
        }
        rows.append(&mut of_load);
    }
    drop(contenders);
    Ok(Report::new(settings, machine, machine::today(), rows))
}

/// What takes its turn in each round: the contenders, and one under each attack, each with the process that
/// was as busy right after it. Each with the number of its contender.
fn entries(settings: &Settings) -> Vec<(usize, ContenderSettings)> {
    let mut entries: Vec<_> = settings.contenders.iter().cloned().enumerate().collect();
    if let Some((contender, attacked)) = entries.last().cloned() {
        for &attack in &settings.attacks {
            for beside in [Beside::Attacker(attack), Beside::Busy(attack)] {
                entries.push((contender, attacked.beside(beside)));
            }
        }
    }
    entries
}

/// A way to read, as arguments name it.
fn reads(name: &str) -> Result<ReadKind, String> {
    match name {
        "ordered" => Ok(ReadKind::Ordered),
        "fast" => Ok(ReadKind::Fast),
        other => Err(format!("`{other}` is no way to read; there are `ordered` and `fast`")),
    }
}

#[cfg(test)]
mod tests {
    use super::suite::all_settings;
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        bench: Bench,
    }

    fn settings(arguments: &str) -> Result<Settings> {
        // `bench` stands for the program's name.
        let arguments = arguments.split_whitespace().skip_while(|word| *word == "althing");
        Alone::try_parse_from(arguments).map_err(|error| miette!("{error}"))?.bench.settings()
    }

    #[test]
    fn the_command_on_the_page_measures_what_the_page_shows() {
        for shown in all_settings() {
            assert_eq!(settings(&shown.command()).expect("it is a command"), shown, "{}", shown.command());
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (arguments, name) in [
            ("bench --clients 0", "--clients"),
            ("bench --rounds 0", "--rounds"),
            ("bench --seconds 0", "--seconds"),
            ("bench --seconds nan", "--seconds"),
            ("bench --warm-up=-1", "--warm-up"),
            ("bench --timeout 0", "--timeout"),
            ("bench --rate 0", "--rate"),
            ("bench --rate inf", "--rate"),
            ("bench --rate 100 --clients 1,2", "--clients"),
            ("bench --read-share 1.5", "--read-share"),
            ("bench --service kv --keys 0", "--keys"),
            ("bench --service kv --request-bytes 100000", "--request-bytes"),
            ("bench --load-processes 0", "--load-processes"),
            ("bench --clients 1 --load-processes 2", "--load-processes"),
            ("bench --inject crash:primary@3", "--inject"),
            ("bench --inject burn:primary@1", "--inject"),
            ("bench --attack nonsense", "--attack"),
            ("bench --attack garbage --durability none,sync", "--attack"),
            ("bench --attack garbage --inject crash:primary@1", "--attack"),
            ("bench --quick", "--suite"),
            ("bench --pbft pipeline", "NAME=VALUE"),
            ("bench --pbft pipelines=1", "pipeline"),
            ("bench --pbft pipeline=x", "pipeline"),
            ("bench --pbft pipeline=-1", "--pbft"),
        ] {
            let error = settings(arguments).expect_err(arguments);
            assert!(error.to_string().contains(name), "{arguments}: {error}");
        }
    }

    #[test]
    fn settings_of_pbft_are_changed_by_name() {
        let changed = settings("bench --pbft pipeline=7 --pbft view_timeout_ms=250").expect("it makes sense");
        assert_eq!((changed.pbft.pipeline, changed.pbft.view_timeout_ms), (7, 250));
        let others = RawPbft { pipeline: 7, view_timeout_ms: 250, ..RawPbft::default() };
        assert_eq!(changed.pbft, others);
        assert_eq!(settings(&changed.command()).expect("it is a command"), changed);
    }

    #[test]
    fn each_attack_is_followed_by_who_is_as_busy() {
        let settings = settings("bench --attack garbage,handshakes").expect("it makes sense");
        let names: Vec<_> = entries(&settings).into_iter().map(|(of, entry)| (of, entry.name)).collect();
        let expected = ["pbft", "garbage", "busy-as-garbage", "handshakes", "busy-as-handshakes"];
        assert_eq!(names, expected.map(|name| (0, name.to_owned())));
        assert_eq!(self::settings(&settings.command()).expect("it is a command"), settings);
    }

    #[test]
    fn durabilities_are_contenders_and_each_counts_once() {
        let names = |arguments| {
            let settings = settings(arguments).expect("it makes sense");
            settings.contenders.into_iter().map(|contender| contender.name).collect::<Vec<_>>()
        };
        assert_eq!(names("bench --durability sync"), ["unreplicated", "pbft"]);
        let both = ["unreplicated", "pbft-sync", "pbft-none"];
        assert_eq!(names("bench --durability sync,none,sync"), both);
        assert_eq!(names("bench --protocol paxos,pbft,paxos"), ["unreplicated", "paxos", "pbft"]);
        let paxos = settings("bench --protocol paxos --faults 2").expect("it makes sense");
        assert_eq!(paxos.contenders[1].replicas(), 5);
        assert!(paxos.command().contains("--protocol paxos"), "{}", paxos.command());
    }
}
