use std::collections::BTreeMap;
use std::sync::Arc;

use althing_crypto::{Identity, PublicIdentity};
use althing_replica::Limits;
use althing_types::Principal;

use crate::channel::{PublicKey, SecretKey};
use crate::config::GroupConfig;
use crate::net::{self, Directory, NetworkConfig, Peer, QueueLimit, Timing};

/// The network of `me` in `group`.
pub(crate) fn network(
    group: &GroupConfig,
    me: Principal,
    identity: &Identity,
    limits: &Limits,
) -> NetworkConfig {
    let listen = match me {
        Principal::Replica(id) => group.replicas().get(usize::from(id.0)).map(|r| r.address),
        Principal::Client(_) => None,
    };
    let replicas = || group.quorums().replicas().map(Principal::Replica).zip(group.replicas());
    let peers = replicas().filter(|(id, _)| *id != me);
    let peers = peers.map(|(id, r)| Peer { id, address: r.address, key: channel_key(&r.key) });
    let clients = group.clients().iter().map(|(id, c)| (channel_key(&c.key), Principal::Client(*id)));
    let owners: BTreeMap<PublicKey, Principal> =
        replicas().map(|(id, r)| (channel_key(&r.key), id)).chain(clients).collect();
    let directory: Directory = Arc::new(move |key| owners.get(key).copied());
    NetworkConfig {
        me,
        secret: SecretKey::from(*identity.exchange_secret()),
        group: group.id(),
        listen,
        peers: peers.collect(),
        directory,
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

/// Room for what all sessions of a client may have under way.
fn client_queue(group: &GroupConfig) -> QueueLimit {
    let QueueLimit { frames, bytes } = net::Limits::default().client_queue;
    let sessions = group.clients().values().map(|client| usize::from(client.sessions)).max().unwrap_or(1);
    QueueLimit { frames: frames.max(4 * sessions), bytes }
}

fn channel_key(identity: &PublicIdentity) -> PublicKey {
    PublicKey(identity.exchange_bytes())
}
