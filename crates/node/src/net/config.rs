use std::{collections::HashSet, fmt, net::SocketAddr, sync::Arc, time::Duration};

use althing_types::{GroupId, Principal, ReplicaId};

use crate::channel::{PublicKey, Role, SecretKey};

/// Who owns a public key; `None` if nobody known does.
pub type Directory = Arc<dyn Fn(&PublicKey) -> Option<Principal> + Send + Sync>;

/// What a network is made of.
#[derive(Clone)]
pub struct NetworkConfig {
    /// Who this is.
    pub me: Principal,
    /// This node's key.
    pub secret: SecretKey,
    /// The group: the own one of a replica, the one called by a client.
    pub group: GroupId,
    /// Where to accept connections; port 0 takes any free one. A replica needs it, a client has none.
    pub listen: Option<SocketAddr>,
    /// The replicas to be connected with, at first. A replica names all the others of its group.
    pub peers: Vec<Peer>,
    /// Whom to accept.
    pub directory: Directory,
    /// Bounds on memory.
    pub limits: Limits,
    /// Pauses and timeouts.
    pub timing: Timing,
}

/// A replica to be connected with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub id: Principal,
    /// Where it accepts connections. Not used for a replica that dials here.
    pub address: SocketAddr,
    /// Its key.
    pub key: PublicKey,
    /// Whether this node dials it, rather than being dialled by it. Of two replicas one has to.
    pub is_dialled: bool,
}

/// Bounds on the memory that others can make a network use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest frame of a replica, in bytes.
    pub replica_frame_len: usize,
    /// The longest frame of a client, in bytes.
    pub client_frame_len: usize,
    /// For each replica, in each direction.
    pub replica_queue: QueueLimit,
    /// For each client, in each direction.
    pub client_queue: QueueLimit,
    /// How many clients are connected at once, at most.
    pub max_clients: usize,
    /// How many connections may be in the middle of the handshake, at most. When one more comes,
    /// the oldest of the address that has most of them is closed.
    pub max_half_open: usize,
    /// How long handshakes keep a processor busy at most, with callers from where members are known to call.
    pub handshakes: TimeShare,
    /// And with others.
    pub strange_handshakes: TimeShare,
    /// The same for taking connections, before anything is known of who calls.
    pub connections: TimeShare,
}

/// A share of a processor's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeShare {
    /// In the long run.
    pub percent: u32,
    /// What may be saved up, for many at once.
    pub saved: Duration,
}

/// The bound of one queue. A frame is taken while both are below their limit, so that one frame
/// of any allowed length always fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimit {
    /// Frames.
    pub frames: usize,
    /// Bytes of frames.
    pub bytes: usize,
}

/// Pauses and timeouts of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// For connecting, and for the handshake.
    pub handshake_timeout: Duration,
    /// How long a side is silent before it sends an empty message.
    pub keep_alive: Duration,
    /// How long the other side may be silent before the connection is given up.
    pub idle_timeout: Duration,
    /// The first pause before dialling again; it doubles up to `max_backoff`.
    pub min_backoff: Duration,
    /// The longest pause before dialling again.
    pub max_backoff: Duration,
    /// How long a shutdown waits for queued frames to be sent.
    pub shutdown_grace: Duration,
    /// A refusal of the same kind is logged once in this time.
    pub log_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            replica_frame_len: 16 << 20,
            client_frame_len: 1 << 20,
            replica_queue: QueueLimit { frames: 8192, bytes: 32 << 20 },
            client_queue: QueueLimit { frames: 256, bytes: 2 << 20 },
            max_clients: 1024,
            max_half_open: 64,
            handshakes: TimeShare { percent: 30, saved: Duration::from_millis(500) },
            strange_handshakes: TimeShare { percent: 10, saved: Duration::from_millis(200) },
            connections: TimeShare { percent: 10, saved: Duration::from_millis(100) },
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(10),
            min_backoff: Duration::from_millis(20),
            max_backoff: Duration::from_secs(1),
            shutdown_grace: Duration::from_secs(1),
            log_interval: Duration::from_secs(10),
        }
    }
}

/// Why a configuration makes no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A replica without an address to accept connections at.
    #[error("replica {0} has no address to listen at")]
    NoListenAddress(ReplicaId),
    /// A client with an address to accept connections at.
    #[error("{0} is a client and accepts no connections; give it no address to listen at")]
    ClientListens(Principal),
    /// A client among the peers.
    #[error("{0} is a client and cannot be dialled; name only replicas as peers")]
    PeerIsClient(Principal),
    /// The node itself among the peers.
    #[error("{0} is named as its own peer")]
    PeerIsMe(Principal),
    /// A peer named twice.
    #[error("peer {0} is named twice")]
    DuplicatePeer(Principal),
    /// Two peers with the same key.
    #[error("peer {0} has the same key as another peer")]
    DuplicateKey(Principal),
    /// A limit that lets nothing pass.
    #[error("the limit {0} is zero")]
    ZeroLimit(&'static str),
    /// A timeout that would cut healthy connections.
    #[error("the idle timeout {idle_timeout:?} must be more than twice the keep-alive {keep_alive:?}")]
    IdleTimeout {
        /// The idle timeout.
        idle_timeout: Duration,
        /// The keep-alive interval.
        keep_alive: Duration,
    },
    /// The pauses before dialling again are out of order.
    #[error(
        "the first pause {min:?} before dialling again must be above zero and at most the longest, {max:?}"
    )]
    Backoff {
        /// The first pause.
        min: Duration,
        /// The longest pause.
        max: Duration,
    },
}

impl NetworkConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match (self.me, self.listen) {
            (Principal::Replica(id), None) => return Err(ConfigError::NoListenAddress(id)),
            (Principal::Client(_), Some(_)) => return Err(ConfigError::ClientListens(self.me)),
            _ => {}
        }
        self.check_peers()?;
        self.limits.check()?;
        self.timing.check()
    }

    fn check_peers(&self) -> Result<(), ConfigError> {
        let (mut ids, mut keys) = (HashSet::new(), HashSet::new());
        for peer in &self.peers {
            if matches!(peer.id, Principal::Client(_)) {
                return Err(ConfigError::PeerIsClient(peer.id));
            }
            if peer.id == self.me {
                return Err(ConfigError::PeerIsMe(peer.id));
            }
            if !ids.insert(peer.id) {
                return Err(ConfigError::DuplicatePeer(peer.id));
            }
            if !keys.insert(peer.key) {
                return Err(ConfigError::DuplicateKey(peer.id));
            }
        }
        Ok(())
    }
}

impl Limits {
    fn check(&self) -> Result<(), ConfigError> {
        let limits = [
            (self.replica_frame_len, "replica_frame_len"),
            (self.client_frame_len, "client_frame_len"),
            (self.replica_queue.frames, "replica_queue.frames"),
            (self.replica_queue.bytes, "replica_queue.bytes"),
            (self.client_queue.frames, "client_queue.frames"),
            (self.client_queue.bytes, "client_queue.bytes"),
            (self.max_half_open, "max_half_open"),
        ];
        let shares = [
            (self.handshakes, "handshakes"),
            (self.strange_handshakes, "strange_handshakes"),
            (self.connections, "connections"),
        ];
        if let Some((_, name)) = shares.iter().find(|(share, _)| share.percent == 0 || share.saved.is_zero())
        {
            return Err(ConfigError::ZeroLimit(name));
        }
        match limits.iter().find(|(limit, _)| *limit == 0) {
            Some((_, name)) => Err(ConfigError::ZeroLimit(name)),
            None => Ok(()),
        }
    }

    /// The longest frame sent by `sender`, in bytes.
    pub(super) fn frame_len(&self, sender: Principal) -> usize {
        let len = match Role::from(sender) {
            Role::Replica => self.replica_frame_len,
            Role::Client => self.client_frame_len,
        };
        len.min(u32::MAX as usize)
    }

    /// The bound of the queues to and from `peer`.
    pub(super) fn queue(&self, peer: Principal) -> QueueLimit {
        match Role::from(peer) {
            Role::Replica => self.replica_queue,
            Role::Client => self.client_queue,
        }
    }
}

impl QueueLimit {
    pub(super) fn has_room(&self, frames: usize, bytes: usize) -> bool {
        frames < self.frames && bytes < self.bytes
    }
}

impl Timing {
    fn check(&self) -> Result<(), ConfigError> {
        let &Self { idle_timeout, keep_alive, min_backoff: min, max_backoff: max, .. } = self;
        if idle_timeout <= 2 * keep_alive {
            return Err(ConfigError::IdleTimeout { idle_timeout, keep_alive });
        }
        if min.is_zero() || min > max {
            return Err(ConfigError::Backoff { min, max });
        }
        Ok(())
    }
}

impl fmt::Debug for NetworkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkConfig")
            .field("me", &self.me)
            .field("group", &self.group)
            .field("listen", &self.listen)
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}
