//! One replica as a process: the engine, and around it a network, a log on disk, timers, the wall
//! clock, a control socket and the couriers to other groups.

mod calls;
mod courier;
mod flood;
mod key_refresh;
mod leaving;
mod members;
mod outgoing;
mod recovery;
mod runtime;
mod service;
mod site;
mod startup;

pub use startup::wipe;

use std::io;
use std::path::PathBuf;

use althing_protocol::AnyProtocol;
use althing_protocol::unreplicated::Unreplicated;
use althing_replica::storage::{begin_recovery, is_recovering};
use althing_replica::{KeptState, Limits, Replica, ReplicaConfig, StateError};
use althing_types::{Instant, Principal};

use crate::clock::WallClock;
use crate::config::{ConfigError, GroupConfig, ReplicaFile, Rule};
use crate::control::{ControlError, ControlServer};
use crate::log::{Files, LogError};
use crate::net::{Network, StartError};
use crate::process_component::StartProgramError;
use crate::roster::Roster;
use crate::services::Services;
use crate::wiring;
use runtime::{NodeProtocol, Runtime};
use service::NodeService;
use site::SitePart;
use startup::Started;

/// Why a replica did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// Its files are unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its network did not start.
    #[error(transparent)]
    Network(#[from] StartError),
    /// Its control socket can't be opened.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// It is to doubt its disk, and nobody else has what is on it.
    #[error("there are too few others to recover from in a group of this size: start it without `--recover`")]
    NobodyToRecoverFrom,
    /// Its disk failed. It stops, since a replica that forgets what it voted for is a faulty one.
    #[error("the disk failed, and the replica stops: {0}")]
    Storage(#[from] LogError),
    /// The system gives no randomness for a new key.
    #[error("no randomness for a new key, and the replica stops: {0}")]
    Random(getrandom::Error),
    /// The system gives no thread for the log.
    #[error("no thread for the log: {0}")]
    Thread(io::Error),
    /// It is to run a service that this program does not have.
    #[error("this program has no service `{0}`: it runs only in the program that brings it along")]
    NoSuchService(String),
    /// Its component can't be made.
    #[error("the component: {0}")]
    Component(Rule),
    /// Its component is a program that does not start.
    #[error(transparent)]
    Program(StartProgramError),
    /// Its component no longer works; what it answered since is worth nothing.
    #[error("the component of this replica no longer works, and the replica stops: {0}")]
    Broken(String),
    /// Its service does not take back a state that it had.
    #[error("the service does not take back a state of its own, and the replica stops: {0}")]
    State(StateError),
}

/// How to run a replica.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Whether the group is new: no replica of it has ever run. It does not count for one that has.
    pub is_genesis: bool,
    /// The binary through which programs are started, so that they end with this process; it has to
    /// call [`launch`](crate::launch) for [`LAUNCH_COMMAND`](crate::LAUNCH_COMMAND).
    pub launcher: Option<PathBuf>,
    /// The services that this program brings along.
    pub services: Services,
    /// When the process before this one [ended to recover](Ended::ToRecover), in nanoseconds since the Unix
    /// epoch: this one then takes what is on its disk for what somebody else may have left there.
    pub recovering_since_ns: Option<u64>,
}

/// How a replica ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    AsTold,
    /// It is its turn to recover: it is to be started again at once, from a fresh image of its program.
    ToRecover {
        /// When that was, for [`RunOptions::recovering_since_ns`].
        at_ns: u64,
    },
}

/// Runs a replica until `shutdown` resolves, it is told to end over its control socket, or it fails.
///
/// # Errors
/// See [`ReplicaError`].
pub async fn run_replica(
    file: ReplicaFile,
    options: RunOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<Ended, ReplicaError> {
    match file.group().settings() {
        Some(settings) => {
            let protocol = AnyProtocol::new(file.replica(), file.group().quorums(), &settings);
            let protocol = protocol.expect("checked when the file was read");
            run_protocol(protocol, file, options, shutdown).await
        }
        None => run_protocol(Unreplicated::default(), file, options, shutdown).await,
    }
}

async fn run_protocol<P: NodeProtocol>(
    protocol: P,
    file: ReplicaFile,
    options: RunOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<Ended, ReplicaError> {
    let group = file.group();
    let me = Principal::Replica(file.replica());
    let limits = Limits::default();
    let is_to_recover = options.recovering_since_ns.is_some();
    // Where nobody else has what is on the disk it is believed, whatever says that it is to be doubted.
    let has_others = group.quorums().n() > group.quorums().agreement();
    if is_to_recover && !has_others {
        return Err(ReplicaError::NobodyToRecoverFrom);
    }
    // The disk first: whoever holds its lock runs this replica already.
    let mut files = startup::claim(file.data(), is_to_recover, has_others)?;
    if is_to_recover {
        begin_recovery(&mut files)?;
    }
    // Or the process before this one has not come to the end of it.
    let recovers = has_others && is_recovering(&mut files)?;
    let service = NodeService::new(file.service(), &options)?;
    let config = ReplicaConfig {
        replica: file.replica(),
        quorums: group.quorums(),
        keyring: group.keyring(me, file.identity().clone()),
        limits: limits.clone(),
        engine: group.engine(),
        durability: group.durability(),
        membership: group.membership(),
    };
    let replica = Replica::new(config, protocol, service);
    let disk = files.shared()?;
    let started = open(files, recovers, &replica, group, &options)?;
    let roster = Roster::new(group, me, file.identity().public());
    let network = wiring::network(group, &roster, me, file.identity(), &limits);
    let (network, events) = Network::start(network).await?;
    let (control, calls) = ControlServer::open(file.control())?;
    let couriers = courier::start(&file).await?;
    let site = SitePart::start(&file, WallClock::default().now(), &limits).await?;
    let startup = started.startup;
    let mut runtime = Runtime::new(file, replica, (network, roster), started.log, couriers);
    runtime.site = site;
    runtime.recovery.started = runtime.clock.now();
    let since = options.recovering_since_ns.map(Instant);
    runtime.recovery.since = recovers.then(|| since.unwrap_or(runtime.clock.now()));
    runtime.recovery.disk = Some(disk);
    let result = runtime.run(startup, events, calls, shutdown).await;
    drop(control);
    result
}

/// Opens the disk, believed or in doubt.
fn open<P: NodeProtocol>(
    files: Files,
    is_doubtful: bool,
    replica: &Replica<P, NodeService>,
    group: &GroupConfig,
    options: &RunOptions,
) -> Result<Started, ReplicaError> {
    let is_sound = |records: &[Vec<u8>], kept: Option<&mut KeptState>| replica.is_sound(records, kept);
    let how = match is_doubtful {
        true => startup::How::Doubted(&is_sound),
        false => startup::How::Believed { is_genesis: options.is_genesis },
    };
    startup::open(files, group.durability(), &how)
}
