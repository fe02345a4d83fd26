use std::{io, net::SocketAddr, sync::Arc};

use althing_types::Principal;
use bytes::Bytes;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};

use super::{
    config::{ConfigError, NetworkConfig},
    dialler,
    inbox::NetEvents,
    listener,
    outbox::Sent,
    shared::{Shared, Stop},
    stats::NetworkStats,
};

/// Why a network did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address to listen at is not to be had.
    #[error("cannot listen at {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
}

/// Starts networks.
#[derive(Debug)]
pub struct Network;

/// A running network. Clones are the same network; when the last is dropped it stops.
#[derive(Clone)]
pub struct NetworkHandle {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    local_address: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
}

impl Network {
    /// Starts a network on the current tokio runtime, of either kind. It accepts connections when
    /// this returns, and dials its peers from now on.
    ///
    /// # Errors
    /// When the configuration makes no sense or the address to listen at is taken.
    pub async fn start(config: NetworkConfig) -> Result<(NetworkHandle, NetEvents), StartError> {
        config.check()?;
        let listener = match config.listen {
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                Some(bound.map_err(|source| StartError::Bind { address, source })?)
            }
            None => None,
        };
        let local_address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let (stop, stopped) = watch::channel(false);
        let (running, mut all_ended) = mpsc::channel(1);
        let stopped = Stop { stopped, _running: running };
        let shared = Arc::new(Shared::new(config));
        if let Some(listener) = listener {
            tokio::spawn(listener::run(listener, Arc::clone(&shared), stopped.clone()));
        }
        for peer in shared.config.peers.iter().filter(|peer| shared.config.dials(peer.id)) {
            tokio::spawn(dialler::run(*peer, Arc::clone(&shared), stopped.clone()));
        }
        drop(stopped);
        let inbox = Arc::clone(&shared.inbox);
        let (ending, ended) = watch::channel(false);
        let last_inbox = Arc::clone(&inbox);
        tokio::spawn(async move {
            // Resolves when every task has dropped its end.
            let _ = all_ended.recv().await;
            last_inbox.finish();
            let _ = ending.send(true);
        });
        let inner = Arc::new(Inner { shared, local_address, stop, ended });
        Ok((NetworkHandle { inner }, NetEvents { inbox }))
    }
}

impl NetworkHandle {
    /// Queues a frame for the peer. Never waits: what cannot be queued is dropped and counted.
    pub fn send(&self, to: Principal, frame: Bytes) -> Sent {
        self.send_in(0, to, frame)
    }

    /// As [`Self::send`], in this session of the client at either end.
    pub fn send_in(&self, session: u16, to: Principal, frame: Bytes) -> Sent {
        self.inner.shared.send(to, session, frame)
    }

    /// Where connections are accepted, with the port that was found if 0 was asked for.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.inner.local_address
    }

    /// Whether there is a connection to this peer.
    #[must_use]
    pub fn is_connected(&self, peer: Principal) -> bool {
        self.inner.shared.is_connected(peer)
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> NetworkStats {
        self.inner.shared.stats()
    }

    /// Stops the network: no new connections, what is queued is sent (for as long as the grace
    /// period allows), connections are closed. Returns when all is over; the events end after
    /// those that were received before.
    pub async fn shutdown(&self) {
        self.inner.stop.send_replace(true);
        // An error means that the runtime has dropped the tasks already.
        let _ = self.inner.ended.clone().wait_for(|ended| *ended).await;
    }
}

impl std::fmt::Debug for NetworkHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (config, address) = (&self.inner.shared.config, self.inner.local_address);
        f.debug_struct("NetworkHandle").field("config", config).field("local_address", &address).finish()
    }
}
