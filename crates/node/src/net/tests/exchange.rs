use std::time::Duration;

use bytes::Bytes;

use super::{super::*, support::*};
use crate::channel::{ChannelError, Role};

/// The `n`th of many frames: mixed lengths, and content that shows which it is.
fn nth(n: u32) -> Bytes {
    let len = match n % 1000 {
        0 => 200_000,
        m if m % 10 == 0 => 1500,
        m => m as usize % 200,
    };
    let mut frame = n.to_le_bytes().to_vec();
    frame.resize(4 + len, n as u8);
    frame.into()
}

async fn exchange(node: &mut Node, peer: Principal, count: u32) {
    let handle = node.handle.clone();
    let sender = async {
        for n in 0..count {
            while handle.send(peer, nth(n)) == Sent::Full {
                tokio::time::sleep(Duration::from_micros(500)).await;
            }
        }
    };
    let receiver = async {
        for n in 0..count {
            let (from, bytes) = node.frame().await;
            assert_eq!((from, bytes), (peer, nth(n)), "frame {n}");
        }
    };
    tokio::join!(sender, receiver);
}

#[tokio::test]
async fn a_hundred_thousand_frames_arrive_whole_and_in_order() {
    let keys = Keys::of(&[replica(0), replica(1)]);
    let mut nodes = group(&keys, 2, |_| {}).await;
    let mut one = nodes.pop().unwrap();
    let mut zero = nodes.pop().unwrap();
    tokio::join!(exchange(&mut zero, replica(1), 50_000), exchange(&mut one, replica(0), 50_000));
    assert_eq!(zero.stats(replica(1)).received_frames, 50_000);
    assert_eq!(one.stats(replica(0)).connections, 1);
}

/// The networks run on one thread, and are used from another.
#[tokio::test]
async fn handles_and_events_work_from_other_threads() {
    let keys = Keys::of(&[replica(0), replica(1)]);
    let (give, nodes) = tokio::sync::oneshot::channel();
    let (done, over) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert!(give.send(group(&keys, 2, |_| {}).await).is_ok());
            let _ = over.await;
        });
    });
    let mut nodes = soon(nodes).await.unwrap();
    let mut one = nodes.pop().unwrap();
    let mut zero = nodes.pop().unwrap();
    tokio::join!(exchange(&mut zero, replica(1), 5000), exchange(&mut one, replica(0), 5000));
    soon(zero.handle.shutdown()).await;
    soon(one.handle.shutdown()).await;
    done.send(()).unwrap();
    thread.join().unwrap();
}

#[tokio::test]
async fn replicas_and_clients_reach_each_other() {
    let everybody = [replica(0), replica(1), replica(2), replica(3), client(7)];
    let keys = Keys::of(&everybody);
    let mut nodes = group(&keys, 4, |_| {}).await;
    let addresses: Vec<_> = nodes.iter().zip(0..).map(|(n, id)| (replica(id), n.address())).collect();
    let mut user = Node::start(keys.config(client(7), &addresses)).await;
    for id in 0..4 {
        until(|| user.handle.is_connected(replica(id))).await;
        user.send(replica(id), "request".into()).await;
    }
    for (node, id) in nodes.iter_mut().zip(0..4) {
        let (from, bytes) = node.frame().await;
        assert_eq!((from, &bytes[..]), (client(7), &b"request"[..]));
        assert_eq!(node.handle.send(client(7), format!("reply {id}").into()), Sent::Queued);
        for other in (0..4).filter(|other| *other != id) {
            assert_eq!(node.handle.send(replica(other), Bytes::new()), Sent::Queued);
        }
    }
    let mut replies = Vec::new();
    for _ in 0..4 {
        replies.push(user.frame().await);
    }
    replies.sort();
    let expected: Vec<_> = (0..4).map(|id| (replica(id), Bytes::from(format!("reply {id}")))).collect();
    assert_eq!(replies, expected);
    for node in &mut nodes {
        for _ in 0..3 {
            assert!(node.frame().await.1.is_empty());
        }
        assert_eq!(node.handle.send(client(8), Bytes::new()), Sent::NotConnected);
        assert_eq!(node.handle.stats().unroutable_frames, 1);
    }
}

#[tokio::test]
async fn a_restarted_peer_is_found_again() {
    let keys = Keys::of(&[replica(0), replica(1)]);
    let mut nodes = group(&keys, 2, |_| {}).await;
    let mut one = nodes.pop().unwrap();
    let mut zero = nodes.pop().unwrap();
    let (zero_address, one_address) = (zero.address(), one.address());
    zero.connected(replica(1)).await;

    // The one that is dialled goes and comes back.
    one.handle.shutdown().await;
    zero.disconnected(replica(1)).await;
    assert_eq!(zero.handle.send(replica(1), "lost".into()), Sent::NotConnected);
    assert_eq!(zero.stats(replica(1)).dropped_frames, 1);
    let mut config = keys.config(replica(1), &[(replica(0), zero_address)]);
    config.listen = Some(one_address);
    one = Node::start(config).await;
    zero.connected(replica(1)).await;
    assert_eq!(zero.stats(replica(1)).connections, 2);
    zero.send(replica(1), "to the second".into()).await;
    assert_eq!(one.frame().await.1, "to the second");

    // The one that dials goes without a word, and comes back.
    drop(zero);
    one.disconnected(replica(0)).await;
    zero = Node::start(keys.config(replica(0), &[(replica(1), one_address)])).await;
    one.connected(replica(0)).await;
    one.send(replica(0), "welcome".into()).await;
    assert_eq!(zero.frame().await.1, "welcome");
}

#[tokio::test]
async fn a_shutdown_sends_what_is_queued_and_ends_the_events() {
    let keys = Keys::of(&[replica(0), replica(1)]);
    let mut nodes = group(&keys, 2, |_| {}).await;
    let mut one = nodes.pop().unwrap();
    let mut zero = nodes.pop().unwrap();
    assert_eq!(zero.event().await, NetEvent::Connected(replica(1)));
    for n in 0..5000_u32 {
        assert_eq!(zero.handle.send(replica(1), nth(n + 1)), Sent::Queued);
    }
    let receive = async {
        for n in 0..5000_u32 {
            assert_eq!(one.frame().await.1, nth(n + 1));
        }
        one.disconnected(replica(0)).await;
    };
    tokio::join!(receive, async { soon(zero.handle.shutdown()).await });
    assert_eq!(zero.event().await, NetEvent::Disconnected(replica(1)));
    assert_eq!(soon(zero.events.recv()).await, None);
    assert_eq!(zero.stats(replica(1)).dropped_frames, 0);
    assert!(std::net::TcpStream::connect(zero.address()).is_err());
    // A second shutdown has nothing to do.
    soon(zero.handle.shutdown()).await;
}

#[tokio::test]
async fn a_shutdown_hears_the_peer_out() {
    let keys = Keys::of(&[replica(0), client(1)]);
    let mut config = keys.config(replica(0), &[]);
    config.timing.shutdown_grace = Duration::from_secs(600);
    let mut server = Node::start(config).await;
    let (local, key) = (keys.local(client(1)), keys.public(replica(0)));
    let channel = dial(server.address(), &local, Role::Client, key).await.unwrap();
    let (mut reader, mut writer) = channel.into_split(1000);
    server.connected(client(1)).await;
    assert_eq!(server.handle.send(client(1), "goodbye".into()), Sent::Queued);
    let handle = server.handle.clone();
    let shutdown = tokio::spawn(async move { handle.shutdown().await });

    let mut frames = Vec::new();
    let end = loop {
        if let Err(error) = soon(reader.read(&mut frames)).await {
            break error;
        }
    };
    assert!(matches!(end, ChannelError::Closed), "{end}");
    assert_eq!(frames, ["\0\0goodbye"]);
    writer.push(&[&[0, 0], b"see you"]);
    writer.flush().await.unwrap();
    assert_eq!(server.frame().await.1, "see you");
    // And does not wait for longer than that.
    drop((reader, writer));
    soon(shutdown).await.unwrap();
}

#[tokio::test]
async fn a_newer_connection_of_the_same_principal_replaces_the_older() {
    let keys = Keys::of(&[replica(0), client(1)]);
    let mut config = keys.config(replica(0), &[]);
    // So that the older one ends for this reason or not at all.
    config.timing.keep_alive = Duration::from_secs(600);
    config.timing.idle_timeout = Duration::from_secs(6000);
    let mut server = Node::start(config).await;
    let (local, key) = (keys.local(client(1)), keys.public(replica(0)));
    let older = dial(server.address(), &local, Role::Client, key).await.unwrap();
    assert_eq!(server.event().await, NetEvent::Connected(client(1)));
    let newer = dial(server.address(), &local, Role::Client, key).await.unwrap();
    assert_eq!(server.event().await, NetEvent::Disconnected(client(1)));
    assert_eq!(server.event().await, NetEvent::Connected(client(1)));
    let (mut older, _older_writer) = older.into_split(1000);
    let end = soon(older.read(&mut Vec::new())).await.unwrap_err();
    assert!(matches!(end, ChannelError::Closed | ChannelError::Io(_)), "{end}");
    server.send(client(1), "to the newer".into()).await;
    let (mut newer, _newer_writer) = newer.into_split(1000);
    let mut frames = Vec::new();
    soon(newer.read(&mut frames)).await.unwrap();
    assert_eq!(frames, ["\0\0to the newer"]);
}

#[tokio::test]
async fn silence_is_kept_alive_and_a_dead_peer_is_noticed() {
    let keys = Keys::of(&[replica(0), client(1), client(2)]);
    let mut config = keys.config(replica(0), &[]);
    config.timing.keep_alive = Duration::from_millis(50);
    config.timing.idle_timeout = Duration::from_millis(1000);
    let timing = config.timing;
    let mut server = Node::start(config).await;
    let mut config = keys.config(client(1), &[(replica(0), server.address())]);
    config.timing = timing;
    let alive = Node::start(config).await;
    server.connected(client(1)).await;
    // Connects and then says nothing, as a machine does that has lost its power.
    let local = keys.local(client(2));
    let server_key = keys.public(replica(0));
    let dead = dial(server.address(), &local, Role::Client, server_key).await.unwrap();
    server.connected(client(2)).await;
    assert_eq!(server.event().await, NetEvent::Disconnected(client(2)));
    drop(dead);
    assert_eq!(alive.stats(replica(0)).connections, 1);
    assert!(server.handle.is_connected(client(1)));
}

#[tokio::test]
async fn configurations_that_make_no_sense_are_refused() {
    let keys = Keys::of(&[replica(0), replica(1), client(1)]);
    let somewhere = ([127, 0, 0, 1], 1).into();
    let check = |me, peers: &[Principal], adjust: fn(&mut NetworkConfig)| {
        let peers: Vec<_> = peers.iter().map(|peer| (*peer, somewhere)).collect();
        let mut config = keys.config(me, &peers);
        adjust(&mut config);
        config.check()
    };
    let (r0, r1, c1) = (replica(0), replica(1), client(1));
    assert_eq!(check(r0, &[r1], |_| {}), Ok(()));
    let Principal::Replica(id) = r0 else { unreachable!() };
    assert_eq!(check(r0, &[r1], |c| c.listen = None), Err(ConfigError::NoListenAddress(id)));
    let listens = |c: &mut NetworkConfig| c.listen = Some(([127, 0, 0, 1], 0).into());
    assert_eq!(check(c1, &[r1], listens), Err(ConfigError::ClientListens(c1)));
    assert_eq!(check(r0, &[c1], |_| {}), Err(ConfigError::PeerIsClient(c1)));
    assert_eq!(check(r0, &[r0], |_| {}), Err(ConfigError::PeerIsMe(r0)));
    assert_eq!(check(r0, &[r1, r1], |_| {}), Err(ConfigError::DuplicatePeer(r1)));
    let same_key = |c: &mut NetworkConfig| c.peers[0].key = c.peers[1].key;
    assert_eq!(check(c1, &[r0, r1], same_key), Err(ConfigError::DuplicateKey(r1)));
    let zero = |c: &mut NetworkConfig| c.limits.client_queue.bytes = 0;
    assert_eq!(check(r0, &[r1], zero), Err(ConfigError::ZeroLimit("client_queue.bytes")));
    let impatient = |c: &mut NetworkConfig| c.timing.idle_timeout = c.timing.keep_alive;
    assert!(matches!(check(r0, &[r1], impatient), Err(ConfigError::IdleTimeout { .. })));
    let spinning = |c: &mut NetworkConfig| c.timing.min_backoff = Duration::ZERO;
    assert!(matches!(check(r0, &[r1], spinning), Err(ConfigError::Backoff { .. })));
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let keys = Keys::of(&[replica(0)]);
    let first = Node::start(keys.config(replica(0), &[])).await;
    let mut config = keys.config(replica(0), &[]);
    config.listen = Some(first.address());
    let error = Network::start(config).await.unwrap_err();
    assert!(error.to_string().contains(&first.address().to_string()), "{error}");
}
