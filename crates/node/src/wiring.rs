use std::collections::BTreeMap;
use std::sync::Arc;

use althing_crypto::Identity;
use althing_replica::Limits;
use althing_types::{Principal, ReplicaId, SiteId};

use crate::channel::{PublicKey, SecretKey};
use crate::config::{GroupConfig, OutpostPeer, SiteServerConfig};
use crate::net::{self, NetworkConfig, Peer, QueueLimit, Timing};
use crate::roster::Roster;

/// The network of `me` in `group`, whose members are `roster`'s.
pub(crate) fn network(
    group: &GroupConfig,
    roster: &Roster,
    me: Principal,
    identity: &Identity,
    limits: &Limits,
) -> NetworkConfig {
    let listen = match me {
        Principal::Replica(id) => group.replicas().get(usize::from(id.0)).map(|r| r.address),
        Principal::Client(_) => None,
    };
    NetworkConfig {
        me,
        secret: SecretKey::from(*identity.exchange_secret()),
        group: group.id(),
        listen,
        peers: roster.peers(&[]),
        directory: roster.directory(),
        limits: net::Limits {
            replica_frame_len: match me {
                Principal::Replica(_) => limits.max_replica_frame_bytes(),
                Principal::Client(_) => limits.max_reply_frame_bytes(),
            },
            client_frame_len: limits.max_client_frame_bytes(),
            max_clients: group.clients().len().max(1),
            client_queue: client_queue(group),
            ..net::Limits::default()
        },
        timing: Timing::default(),
    }
}

/// Frames that wait to be sent to, or were received from, one other server of a system. What is lost is sent again.
const OUTPOST_QUEUE: QueueLimit = QueueLimit { frames: 1024, bytes: 4 << 20 };

/// The network of the server `me` of a site with all other servers of its system, who are called by their places in
/// `slots`.
pub(crate) fn outposts(
    config: &SiteServerConfig,
    identity: &Identity,
    slots: &[(SiteId, ReplicaId)],
    me: (SiteId, ReplicaId),
    limits: &Limits,
) -> NetworkConfig {
    let slot = |who: (SiteId, ReplicaId)| {
        let place = slots.iter().position(|known| *known == who).expect("each server has a place");
        Principal::Replica(ReplicaId(u16::try_from(place).expect("there are at most 100 sites of 100")))
    };
    let own = PublicKey(identity.public().exchange_bytes());
    let peer = |peer: &OutpostPeer| {
        let key = PublicKey(peer.key.exchange_bytes());
        // Who dials follows from the keys, on which both sides agree.
        Peer { id: slot((peer.site, peer.server)), address: peer.address, key, is_dialled: own < key }
    };
    let peers: Vec<Peer> = config.peers.iter().map(peer).collect();
    let owners: BTreeMap<PublicKey, Principal> = peers.iter().map(|peer| (peer.key, peer.id)).collect();
    NetworkConfig {
        me: slot(me),
        secret: SecretKey::from(*identity.exchange_secret()),
        group: config.system.id(),
        listen: Some(config.listen),
        peers,
        directory: Arc::new(move |key| owners.get(key).copied()),
        limits: net::Limits {
            replica_frame_len: limits.settings().max_operation_bytes,
            replica_queue: OUTPOST_QUEUE,
            max_clients: 0,
            ..net::Limits::default()
        },
        timing: Timing::default(),
    }
}

/// Room for what all sessions of a client may have under way.
fn client_queue(group: &GroupConfig) -> QueueLimit {
    let QueueLimit { frames, bytes } = net::Limits::default().client_queue;
    let sessions = group.clients().values().map(|client| usize::from(client.sessions)).max().unwrap_or(1);
    QueueLimit { frames: frames.max(4 * sessions), bytes }
}
