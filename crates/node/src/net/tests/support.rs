use std::{collections::HashMap, future::Future, net::SocketAddr, time::Duration};

use althing_types::{ClientId, GroupId, ReplicaId};
use bytes::Bytes;

use super::super::*;
use crate::channel::{Channel, ChannelError, Local, PublicKey, Role, SecretKey, initiate};
pub(super) use althing_types::Principal;
pub(super) use std::sync::Arc;

pub(super) const GROUP: GroupId = GroupId([9; 16]);
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn replica(id: u16) -> Principal {
    Principal::Replica(ReplicaId(id))
}

pub(super) fn client(id: u64) -> Principal {
    Principal::Client(ClientId(id))
}

/// Waits long for what must happen soon.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it should have happened by now")
}

/// Waits until the condition holds.
pub(super) async fn until(mut condition: impl FnMut() -> bool) {
    soon(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// The keys of everybody in a test.
#[derive(Clone)]
pub(super) struct Keys {
    secrets: HashMap<Principal, SecretKey>,
    publics: HashMap<Principal, PublicKey>,
}

impl Keys {
    pub(super) fn of(everybody: &[Principal]) -> Self {
        let mut keys = Self { secrets: HashMap::new(), publics: HashMap::new() };
        for id in everybody {
            let (secret, public) = key_pair();
            keys.secrets.insert(*id, secret);
            keys.publics.insert(*id, public);
        }
        keys
    }

    pub(super) fn public(&self, id: Principal) -> PublicKey {
        self.publics[&id]
    }

    fn directory(&self) -> Directory {
        let owners: HashMap<_, _> = self.publics.iter().map(|(id, key)| (*key, *id)).collect();
        Arc::new(move |key| owners.get(key).copied())
    }

    pub(super) fn config(&self, me: Principal, peers: &[(Principal, SocketAddr)]) -> NetworkConfig {
        let is_replica = matches!(me, Principal::Replica(_));
        let peer = |&(id, address): &(Principal, SocketAddr)| {
            let is_dialled = !is_replica || me < id;
            Peer { id, address, key: self.public(id), is_dialled }
        };
        NetworkConfig {
            me,
            secret: self.secrets[&me].clone(),
            group: GROUP,
            listen: is_replica.then(|| SocketAddr::from(([127, 0, 0, 1], 0))),
            peers: peers.iter().map(peer).collect(),
            directory: self.directory(),
            limits: Limits::default(),
            timing: Timing::default(),
        }
    }

    pub(super) fn local(&self, id: Principal) -> Local {
        Local { secret: self.secrets[&id].clone(), group: GROUP }
    }
}

pub(super) fn key_pair() -> (SecretKey, PublicKey) {
    let pattern = "Noise_XK_25519_AESGCM_BLAKE2s".parse().unwrap();
    let pair = snow::Builder::new(pattern).generate_keypair().unwrap();
    let bytes = |key: Vec<u8>| <[u8; 32]>::try_from(key).unwrap();
    (bytes(pair.private).into(), PublicKey(bytes(pair.public)))
}

/// A network and its events.
pub(super) struct Node {
    pub(super) handle: NetworkHandle,
    pub(super) events: NetEvents,
}

impl Node {
    pub(super) async fn start(config: NetworkConfig) -> Self {
        let (handle, events) = Network::start(config).await.unwrap();
        Self { handle, events }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.handle.local_address().unwrap()
    }

    pub(super) async fn event(&mut self) -> NetEvent {
        soon(self.events.recv()).await.expect("the network goes on")
    }

    /// The next frame, past other events.
    pub(super) async fn frame(&mut self) -> (Principal, Bytes) {
        loop {
            if let NetEvent::Frame { from, bytes, .. } = self.event().await {
                return (from, bytes);
            }
        }
    }

    /// Waits for a connection, past other events.
    pub(super) async fn connected(&mut self, peer: Principal) {
        while self.event().await != NetEvent::Connected(peer) {}
    }

    pub(super) async fn disconnected(&mut self, peer: Principal) {
        while self.event().await != NetEvent::Disconnected(peer) {}
    }

    pub(super) fn stats(&self, peer: Principal) -> PeerStats {
        let stats = self.handle.stats();
        stats.peers.iter().find(|(id, _)| *id == peer).map(|(_, stats)| *stats).unwrap_or_default()
    }

    /// Sends when there is room.
    pub(super) async fn send(&self, to: Principal, frame: Bytes) {
        soon(async {
            while self.handle.send(to, frame.clone()) != Sent::Queued {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        })
        .await;
    }
}

/// Replicas `0..n`, each with the others as peers, connected.
pub(super) async fn group(keys: &Keys, n: u16, adjust: impl Fn(&mut NetworkConfig)) -> Vec<Node> {
    // The higher ids are dialled, so they start first and their addresses are known.
    let mut nodes: Vec<Node> = Vec::new();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    for id in (0..n).rev() {
        let lower = (0..id).map(|other| (replica(other), nowhere));
        let higher = (id + 1..n).rev().zip(&nodes).map(|(other, node)| (replica(other), node.address()));
        let mut config = keys.config(replica(id), &lower.chain(higher).collect::<Vec<_>>());
        adjust(&mut config);
        nodes.push(Node::start(config).await);
    }
    nodes.reverse();
    for (id, node) in nodes.iter().enumerate() {
        let others = (0..n).filter(|other| usize::from(*other) != id);
        until(|| others.clone().all(|other| node.handle.is_connected(replica(other)))).await;
    }
    nodes
}

/// Dials a node by hand.
pub(super) async fn dial(
    node: SocketAddr,
    local: &Local,
    role: Role,
    remote: PublicKey,
) -> Result<Channel<tokio::net::TcpStream>, ChannelError> {
    let stream = tokio::net::TcpStream::connect(node).await.unwrap();
    soon(initiate(stream, local, role, remote)).await
}
