use althing_crypto::Identity;
use althing_replica::Limits;
use althing_types::Principal;

use crate::channel::SecretKey;
use crate::config::GroupConfig;
use crate::net::{self, NetworkConfig, QueueLimit, Timing};
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

/// Room for what all sessions of a client may have under way.
fn client_queue(group: &GroupConfig) -> QueueLimit {
    let QueueLimit { frames, bytes } = net::Limits::default().client_queue;
    let sessions = group.clients().values().map(|client| usize::from(client.sessions)).max().unwrap_or(1);
    QueueLimit { frames: frames.max(4 * sessions), bytes }
}
