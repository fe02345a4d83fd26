use std::io;
use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::{ConfigError, EdgeConfig, ReplicaFile};
use crate::edge::{EdgeError, run_edge};
use crate::replica::{ReplicaError, RunOptions, run_replica};

/// Why a process ended other than it should.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Its files are unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system gives no event loop or signals.
    #[error("the system gives no event loop: {0}")]
    System(io::Error),
    /// The replica failed.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// The edge failed.
    #[error(transparent)]
    Edge(#[from] EdgeError),
}

/// The whole life of a replica's process: runs what the file at `config` says until it is told to end,
/// by a signal (`SIGTERM`, `SIGINT`) or over its control socket.
///
/// # Errors
/// See [`EntryError`].
pub fn replica_main(config: &Path, options: RunOptions) -> Result<(), EntryError> {
    let file = ReplicaFile::load(config)?;
    let runtime = runtime()?;
    runtime.block_on(async { Ok(run_replica(file, options, end_signal()?).await?) })
}

/// The whole life of the edge's process, as [`replica_main`].
///
/// # Errors
/// See [`EntryError`].
pub fn edge_main(config: &Path) -> Result<(), EntryError> {
    let config = EdgeConfig::load(config)?;
    let runtime = runtime()?;
    runtime.block_on(async { Ok(run_edge(config, end_signal()?).await?) })
}

/// The engine is called inline, so that one thread does all; the disk has its own.
fn runtime() -> Result<tokio::runtime::Runtime, EntryError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(EntryError::System)
}

fn end_signal() -> Result<impl Future<Output = ()> + Send, EntryError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(EntryError::System)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(EntryError::System)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
