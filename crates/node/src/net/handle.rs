use std::{
    collections::HashMap,
    io, mem,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use althing_types::Principal;
use bytes::Bytes;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::AbortHandle,
};

use super::{
    config::{ConfigError, NetworkConfig, Peer},
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
    diallers: Mutex<Diallers>,
}

/// Who dials the peers.
struct Diallers {
    running: HashMap<Principal, Dialler>,
    /// `None` once the network stops.
    stop: Option<Stop>,
}

/// What keeps the connection to a peer up.
struct Dialler {
    task: AbortHandle,
    /// Where the peer is to be found.
    address: watch::Sender<SocketAddr>,
}

impl Dialler {
    fn start(peer: Peer, shared: &Arc<Shared>, stop: &Stop) -> Self {
        let (address, moves) = watch::channel(peer.address);
        let task = tokio::spawn(dialler::run(peer, moves, Arc::clone(shared), stop.clone())).abort_handle();
        Self { task, address }
    }

    /// Dials the peer there from now on. A connection that is up stays: who moves may be reached a while longer.
    fn follow(&self, address: SocketAddr) {
        self.address.send_if_modified(|known| mem::replace(known, address) != address);
    }
}

impl Diallers {
    /// Dials those of `peers` that are to be, from now on, and nobody else.
    fn dial(&mut self, peers: &[Peer], shared: &Arc<Shared>) {
        let Some(stop) = &self.stop else { return };
        let wanted = || peers.iter().filter(|peer| peer.is_dialled);
        // The connection ends with the task.
        self.running
            .extract_if(|id, _| !wanted().any(|peer| peer.id == *id))
            .for_each(|(_, dialler)| dialler.task.abort());
        for peer in wanted() {
            let dialler = self.running.entry(peer.id);
            dialler.or_insert_with(|| Dialler::start(*peer, shared, stop)).follow(peer.address);
        }
    }
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
        let mut diallers = Diallers { running: HashMap::new(), stop: Some(stopped) };
        diallers.dial(&shared.config.peers, &shared);
        let inbox = Arc::clone(&shared.inbox);
        let (ending, ended) = watch::channel(false);
        let last_inbox = Arc::clone(&inbox);
        tokio::spawn(async move {
            // Resolves when every task has dropped its end.
            let _ = all_ended.recv().await;
            last_inbox.finish();
            let _ = ending.send(true);
        });
        let inner = Arc::new(Inner { shared, local_address, stop, ended, diallers: Mutex::new(diallers) });
        Ok((NetworkHandle { inner }, NetEvents::new(inbox)))
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

    /// Has these replicas for peers from now on. Connections of others end; of those that stay none does.
    ///
    /// # Panics
    /// If one of them is a client, or outside of the runtime on which the network was started.
    pub fn set_peers(&self, peers: &[Peer]) {
        let are_replicas = peers.iter().all(|peer| matches!(peer.id, Principal::Replica(_)));
        assert!(are_replicas, "only replicas are dialled, or dial");
        self.inner.shared.configure(peers);
        let mut diallers = self.inner.diallers.lock().expect("no holder panics");
        diallers.dial(peers, &self.inner.shared);
    }

    /// Ends the connection of a peer. It may come back where it is for the peer to dial.
    pub fn hang_up(&self, peer: Principal) {
        self.inner.shared.hang_up(peer);
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

    /// How many frames wait to be sent to this peer.
    #[must_use]
    pub fn backlog(&self, peer: Principal) -> usize {
        self.inner.shared.backlog(peer)
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
        self.inner.diallers.lock().expect("no holder panics").stop = None;
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
