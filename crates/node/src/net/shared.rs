use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use althing_types::Principal;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    allowance::Allowance,
    callers::Callers,
    config::{NetworkConfig, Peer},
    envelope::Enveloped,
    inbox::Inbox,
    outbox::{Outbox, Sent},
    peers::{Entry, Peers},
    stats::{Counters, NetworkStats},
    throttle::Throttle,
};
use crate::channel::{ChannelError, Local, PublicKey, Refusal, Role};

/// What all tasks of a network share.
pub(super) struct Shared {
    pub(super) config: NetworkConfig,
    pub(super) local: Local,
    pub(super) inbox: Arc<Inbox>,
    pub(super) callers: Callers,
    /// For handshakes with callers that are known, and with strangers.
    handshakes: [Allowance; 2],
    peers: Peers,
    logged: Throttle<&'static str>,
    refused: AtomicU64,
    evicted: AtomicU64,
    unroutable: AtomicU64,
}

/// A connection in its place. Dropping it takes it out.
pub(super) struct Attached {
    pub(super) peer: Principal,
    pub(super) number: u64,
    pub(super) outbox: Arc<Outbox>,
    pub(super) counters: Arc<Counters>,
    /// Resolves when a newer connection has taken the place.
    pub(super) replaced: oneshot::Receiver<()>,
    shared: Arc<Shared>,
}

/// Tells a task to end, and by being dropped that it has.
#[derive(Clone)]
pub(super) struct Stop {
    pub(super) stopped: watch::Receiver<bool>,
    pub(super) _running: mpsc::Sender<()>,
}

impl Stop {
    /// Waits until the network stops.
    pub(super) async fn wait(&mut self) {
        // An error means that every handle is gone, which stops the network as well.
        let _ = self.stopped.wait_for(|stopped| *stopped).await;
    }
}

impl Shared {
    pub(super) fn new(config: NetworkConfig) -> Self {
        Self {
            local: Local { secret: config.secret.clone(), group: config.group },
            inbox: Arc::new(Inbox::new(config.limits)),
            callers: Callers::new(&config.peers),
            handshakes: [config.limits.handshakes, config.limits.strange_handshakes].map(Allowance::new),
            peers: Peers::new(&config.peers),
            logged: Throttle::new(config.timing.log_interval),
            refused: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            unroutable: AtomicU64::new(0),
            config,
        }
    }

    /// At whose expense a handshake with this caller is computed.
    pub(super) fn handshakes(&self, caller: IpAddr) -> &Allowance {
        let [of_known, of_strangers] = &self.handshakes;
        if self.callers.are_known(caller) { of_known } else { of_strangers }
    }

    /// Decides on a dialler that has proven its key, and gives it its place.
    pub(super) fn admit(self: &Arc<Self>, key: PublicKey, role: Role) -> Result<Attached, Refusal> {
        let peer = (self.config.directory)(&key).ok_or(Refusal::UnknownKey)?;
        let may_dial = match peer {
            Principal::Replica(_) => self.peers.is_awaited(peer),
            Principal::Client(_) => true,
        };
        if Role::from(peer) != role || !may_dial {
            return Err(Refusal::Role);
        }
        self.attach(peer)
    }

    /// Puts a connection in its place, instead of an older one of the same peer.
    pub(super) fn attach(self: &Arc<Self>, peer: Principal) -> Result<Attached, Refusal> {
        let mut peers = self.peers.lock();
        let is_new_client = matches!(peer, Principal::Client(_)) && !self.inbox.contains(peer);
        if is_new_client && self.inbox.clients() >= self.config.limits.max_clients {
            return Err(Refusal::Busy);
        }
        // In this order and under the lock, so that both agree on which connection is the newest.
        let number = self.inbox.open(peer);
        let outbox = Arc::new(Outbox::new(self.config.limits.queue(peer)));
        let (counters, replaced) = peers.connect(peer, number, Arc::clone(&outbox));
        Ok(Attached { peer, number, outbox, counters, replaced, shared: Arc::clone(self) })
    }

    /// Has these for peers from now on.
    pub(super) fn configure(&self, peers: &[Peer]) {
        self.callers.configure(peers);
        self.peers.lock().configure(peers);
    }

    /// Ends the connection of a peer, which may come back.
    pub(super) fn hang_up(&self, peer: Principal) {
        self.peers.lock().hang_up(peer);
    }

    pub(super) fn send(&self, to: Principal, session: u16, bytes: Bytes) -> Sent {
        let peers = self.peers.lock();
        let Some(entry) = peers.get(to) else {
            self.unroutable.fetch_add(1, Relaxed);
            return Sent::NotConnected;
        };
        let sent = match entry.outbox() {
            _ if bytes.len() > self.config.limits.frame_len(self.config.me) => Sent::TooLong,
            None => Sent::NotConnected,
            Some(outbox) => outbox.push(Enveloped { session, bytes }),
        };
        if sent != Sent::Queued {
            entry.counters.dropped(1);
        }
        sent
    }

    pub(super) fn is_connected(&self, peer: Principal) -> bool {
        self.peers.lock().get(peer).is_some_and(|entry| entry.outbox().is_some())
    }

    pub(super) fn backlog(&self, peer: Principal) -> usize {
        self.peers.lock().get(peer).and_then(Entry::outbox).map_or(0, Outbox::unsent)
    }

    pub(super) fn stats(&self) -> NetworkStats {
        let (peers, departed) = self.peers.lock().stats();
        NetworkStats {
            peers,
            departed,
            unroutable_frames: self.unroutable.load(Relaxed),
            refused: self.refused.load(Relaxed),
            evicted: self.evicted.load(Relaxed),
        }
    }

    /// Counts and, once in a while, logs a dialler that was not let in.
    pub(super) fn on_refused(&self, address: SocketAddr, error: &ChannelError) {
        self.refused.fetch_add(1, Relaxed);
        if let Some(suppressed) = self.logged.pass(kind_of(error)) {
            tracing::warn!(%address, %error, suppressed, "refused a connection");
        }
    }

    /// Counts and, once in a while, logs a half-open connection closed for a newer one.
    pub(super) fn on_evicted(&self) {
        self.evicted.fetch_add(1, Relaxed);
        if let Some(suppressed) = self.logged.pass("evicted") {
            tracing::warn!(suppressed, "too many connections in the handshake; closed the oldest");
        }
    }

    /// Logs, once in a while, that the system gives us no connection.
    pub(super) fn on_accept_failed(&self, error: &std::io::Error) {
        if let Some(suppressed) = self.logged.pass("accept failed") {
            tracing::warn!(%error, suppressed, "cannot accept connections");
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let mut peers = self.shared.peers.lock();
        self.shared.inbox.close(self.peer, self.number);
        // Nothing is added to the outbox once it is out of its place.
        peers.release(self.peer, self.number);
        self.counters.dropped(self.outbox.unsent());
        peers.remove_departed(self.peer);
    }
}

/// What is logged once per interval; a bounded number of kinds.
fn kind_of(error: &ChannelError) -> &'static str {
    match error {
        ChannelError::Closed | ChannelError::Io(_) => "connection",
        ChannelError::Frame(_) | ChannelError::NoSession | ChannelError::NotAlthing => "protocol",
        ChannelError::Version { .. } => "version",
        ChannelError::Group { .. } => "group",
        ChannelError::Role { .. } | ChannelError::Refusing(Refusal::Role) => "role",
        ChannelError::Handshake { .. } | ChannelError::Message { .. } => "handshake",
        ChannelError::Refusing(Refusal::UnknownKey) => "unknown key",
        ChannelError::Refusing(_) | ChannelError::Refused(_) => "refused",
    }
}
