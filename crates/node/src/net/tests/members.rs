//! Peers that come and go.

use super::{super::*, support::*};

fn peer(keys: &Keys, of: Principal, node: &Node, is_dialled: bool) -> Peer {
    Peer { id: of, address: node.address(), key: keys.public(of), is_dialled }
}

#[tokio::test]
async fn peers_that_join_are_dialled_and_those_that_stay_keep_their_connections() {
    let keys = Keys::of(&[replica(0), replica(1), replica(2)]);
    let mut nodes = group(&keys, 2, |_| {}).await;
    let newcomer = Node::start(keys.config(replica(2), &[(replica(0), nodes[0].address())])).await;
    let peers = [peer(&keys, replica(1), &nodes[1], true), peer(&keys, replica(2), &newcomer, true)];
    nodes[0].handle.set_peers(&peers);
    until(|| nodes[0].handle.is_connected(replica(2)) && newcomer.handle.is_connected(replica(0))).await;
    assert_eq!(nodes[0].stats(replica(1)).connections, 1);
    nodes[0].send(replica(2), b"welcome"[..].into()).await;
    let mut newcomer = newcomer;
    assert_eq!(newcomer.frame().await, (replica(0), b"welcome"[..].into()));
    nodes[0].send(replica(1), b"still here"[..].into()).await;
    assert_eq!(nodes[1].frame().await, (replica(0), b"still here"[..].into()));
}

#[tokio::test]
async fn channels_to_those_that_leave_are_closed_whoever_dialled() {
    let keys = Keys::of(&[replica(0), replica(1), replica(2)]);
    let mut nodes = group(&keys, 3, |_| {}).await;
    // Of a connection that nobody has heard of, nobody hears that it ended.
    for other in [0u16, 2] {
        nodes[usize::from(other)].connected(replica(1)).await;
    }
    // The middle one is dialled by the first and dials the last.
    nodes[1].handle.set_peers(&[]);
    for other in [0u16, 2] {
        nodes[usize::from(other)].disconnected(replica(1)).await;
        until(|| nodes[1].handle.send(replica(other), b"gone"[..].into()) == Sent::NotConnected).await;
    }
    // It is no peer of the middle one any more.
    until(|| nodes[1].handle.stats().refused > 0).await;
    assert!(nodes[0].handle.is_connected(replica(2)));
    tokio::time::timeout(std::time::Duration::from_secs(60), nodes[1].handle.shutdown()).await.unwrap();
}

#[tokio::test]
async fn one_that_is_hung_up_on_may_call_again_if_it_is_for_it_to_dial() {
    let keys = Keys::of(&[replica(0), replica(1)]);
    let mut nodes = group(&keys, 2, |_| {}).await;
    nodes[1].connected(replica(0)).await;
    nodes[1].handle.hang_up(replica(0));
    nodes[1].disconnected(replica(0)).await;
    nodes[1].connected(replica(0)).await;
}

#[tokio::test]
async fn who_moves_is_dialled_where_it_has_moved_to() {
    let keys = Keys::of(&[replica(0), replica(1)]);
    let mut nodes = group(&keys, 2, |_| {}).await;
    nodes[0].connected(replica(1)).await;
    let moved = Node::start(keys.config(replica(1), &[(replica(0), nodes[0].address())])).await;
    nodes[0].handle.set_peers(&[peer(&keys, replica(1), &moved, true)]);
    // Until it has left its old place it is heard from there.
    nodes[1].send(replica(0), b"before"[..].into()).await;
    assert_eq!(nodes[0].frame().await, (replica(1), b"before"[..].into()));
    nodes[1].handle.shutdown().await;
    nodes[0].disconnected(replica(1)).await;
    nodes[0].connected(replica(1)).await;
    moved.send(replica(0), b"after"[..].into()).await;
    assert_eq!(nodes[0].frame().await, (replica(1), b"after"[..].into()));
}
