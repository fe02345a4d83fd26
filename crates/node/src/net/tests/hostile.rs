use std::time::{Duration, Instant};

use althing_types::GroupId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

use super::{super::*, support::*};
use crate::channel::{ChannelError, Local, PublicKey, Refusal, Role, initiate};

/// Shows that the node still serves a client in good standing.
async fn assert_serves(node: &mut Node, keys: &Keys, id: Principal) {
    let mut user = Node::start(keys.config(id, &[(replica(0), node.address())])).await;
    user.connected(replica(0)).await;
    user.send(replica(0), "still there?".into()).await;
    loop {
        let (from, bytes) = node.frame().await;
        if from == id {
            assert_eq!(bytes, "still there?");
            break;
        }
    }
    node.send(id, "yes".into()).await;
    assert_eq!(user.frame().await.1, "yes");
    user.handle.shutdown().await;
    node.disconnected(id).await;
}

/// Sends the bytes, and waits for the node to close the connection.
async fn send_raw(node: &Node, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(node.address()).await.unwrap();
    // The node may close in the middle.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = soon(stream.read_to_end(&mut answer)).await;
    answer
}

#[tokio::test]
async fn hostile_bytes_are_refused_and_the_node_goes_on() {
    let keys = Keys::of(&[replica(0), client(1)]);
    let mut node = Node::start(keys.config(replica(0), &[])).await;
    let mut refused = 0;
    let mut noise = vec![0; 10_000];
    for _ in 0..100 {
        getrandom::fill(&mut noise).unwrap();
        send_raw(&node, &noise).await;
        // Likewise random, but with a length that is allowed.
        noise[..4].copy_from_slice(&1000_u32.to_le_bytes());
        send_raw(&node, &noise).await;
        refused += 2;
    }
    for bytes in [&b""[..], &[0xff; 4], b"GET / HTTP/1.1\r\n\r\n", &[0; 100], &[0, 4, 0, 0], &[1]] {
        send_raw(&node, bytes).await;
        refused += 1;
    }
    until(|| node.handle.stats().refused == refused).await;
    assert_serves(&mut node, &keys, client(1)).await;
}

/// Forwards one connection to the node, and returns what the dialler sent in it.
async fn tap(listener: TcpListener, node: std::net::SocketAddr) -> Vec<u8> {
    let (mut near, _) = listener.accept().await.unwrap();
    let mut far = TcpStream::connect(node).await.unwrap();
    let (mut from_dialler, mut to_dialler) = near.split();
    let (mut from_node, mut to_node) = far.split();
    let mut sent = Vec::new();
    let forward = async {
        let mut buffer = [0; 4096];
        loop {
            let len = from_dialler.read(&mut buffer).await.unwrap_or(0);
            if len == 0 {
                break;
            }
            sent.extend_from_slice(&buffer[..len]);
            to_node.write_all(&buffer[..len]).await.unwrap();
        }
        to_node.shutdown().await.unwrap();
    };
    let back = tokio::io::copy(&mut from_node, &mut to_dialler);
    let _ = tokio::join!(forward, back);
    sent
}

#[tokio::test]
async fn a_replayed_conversation_is_refused_and_replaces_nothing() {
    let keys = Keys::of(&[replica(0), client(1), client(2)]);
    let mut node = Node::start(keys.config(replica(0), &[])).await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let tapped = listener.local_addr().unwrap();
    let tap = tokio::spawn(tap(listener, node.address()));
    let user = Node::start(keys.config(client(1), &[(replica(0), tapped)])).await;
    user.handle.clone().send(replica(0), "early".into());
    node.connected(client(1)).await;
    user.send(replica(0), "pay him".into()).await;
    assert_eq!(node.frame().await.1, "pay him");
    user.handle.shutdown().await;
    node.disconnected(client(1)).await;
    let sent = soon(tap).await.unwrap();

    // The client is back, and must not be thrown out by the replay.
    let user = Node::start(keys.config(client(1), &[(replica(0), node.address())])).await;
    node.connected(client(1)).await;
    for cut in [4, 50, 80, 100, sent.len() - 1, sent.len()] {
        let refused = node.handle.stats().refused;
        send_raw(&node, &sent[..cut]).await;
        until(|| node.handle.stats().refused == refused + 1).await;
    }
    assert_eq!(node.events.try_recv(), None);
    assert_eq!(user.stats(replica(0)).connections, 1);
    assert_serves(&mut node, &keys, client(2)).await;
}

#[tokio::test]
async fn wrong_keys_groups_and_roles_are_told_so() {
    let everybody = [replica(0), replica(1), replica(2), replica(9), client(1)];
    let keys = Keys::of(&everybody);
    let nowhere = ([127, 0, 0, 1], 1).into();
    let mut node =
        Node::start(keys.config(replica(1), &[(replica(0), nowhere), (replica(2), nowhere)])).await;
    let (address, key) = (node.address(), keys.public(replica(1)));
    let refusal = async |local: &Local, role, remote| match dial(address, local, role, remote).await {
        Err(ChannelError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };

    let stranger = Local { secret: key_pair().0, group: GROUP };
    assert_eq!(refusal(&stranger, Role::Client, key).await, Refusal::UnknownKey);
    assert_eq!(refusal(&stranger, Role::Replica, key).await, Refusal::UnknownKey);

    let user = keys.local(client(1));
    assert_eq!(refusal(&user, Role::Client, keys.public(replica(0))).await, Refusal::Handshake);
    assert_eq!(refusal(&user, Role::Replica, key).await, Refusal::Role);
    let elsewhere = Local { group: GroupId([8; 16]), ..user.clone() };
    assert_eq!(refusal(&elsewhere, Role::Client, key).await, Refusal::Group);

    // Is dialled by this one; is no member as far as this one knows; is this one itself.
    for id in [2, 9, 1] {
        assert_eq!(refusal(&keys.local(replica(id)), Role::Replica, key).await, Refusal::Role);
    }
    assert!(dial(address, &keys.local(replica(0)), Role::Replica, key).await.is_ok());
    node.connected(replica(0)).await;
    until(|| node.handle.stats().refused == 8).await;
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_after_the_handshake_is_cut_off() {
    let keys = Keys::of(&[replica(0), client(1), client(2)]);
    let mut node = Node::start(keys.config(replica(0), &[])).await;
    let key = keys.public(replica(0));
    let endings = [
        &[0xff; 4][..],
        &[20, 0, 0, 0, 1, 2, 3],
        &[16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for bytes in endings {
        let mut channel = dial(node.address(), &keys.local(client(1)), Role::Client, key).await.unwrap();
        node.connected(client(1)).await;
        channel.stream.write_all(bytes).await.unwrap();
        channel.stream.shutdown().await.unwrap();
        node.disconnected(client(1)).await;
    }
    // A frame over the limit for clients, well sealed.
    let channel = dial(node.address(), &keys.local(client(1)), Role::Client, key).await.unwrap();
    let (_reader, mut writer) = channel.into_split(1 << 20);
    writer.push(&[&vec![0; Limits::default().client_frame_len + 3]]);
    let _ = writer.flush().await;
    node.connected(client(1)).await;
    node.disconnected(client(1)).await;
    assert_serves(&mut node, &keys, client(2)).await;
}

#[tokio::test]
async fn silent_connections_are_closed_in_time() {
    let keys = Keys::of(&[replica(0), client(1)]);
    let mut config = keys.config(replica(0), &[]);
    config.timing.handshake_timeout = Duration::from_millis(100);
    let mut node = Node::start(config).await;
    let mut silent = TcpStream::connect(node.address()).await.unwrap();
    assert_eq!(soon(silent.read(&mut [0; 1])).await.unwrap(), 0);
    assert_serves(&mut node, &keys, client(1)).await;
}

#[tokio::test]
async fn a_flood_of_silent_connections_locks_nobody_out() {
    let keys = Keys::of(&[replica(0), client(1)]);
    let mut config = keys.config(replica(0), &[]);
    config.limits.max_half_open = 8;
    config.timing.handshake_timeout = Duration::from_secs(600);
    let mut node = Node::start(config).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(node.address()).await.unwrap());
    }
    until(|| node.handle.stats().evicted == 42).await;
    assert_eq!(soon(silent[0].read(&mut [0; 1])).await.unwrap_or(0), 0);
    assert_serves(&mut node, &keys, client(1)).await;
    // Those that remain do not hold up the end.
    soon(node.handle.shutdown()).await;
}

/// What a dialler says first to whoever has this key, and could say any number of times.
async fn first_frame(local: &Local, remote: PublicKey) -> Vec<u8> {
    let (near, mut far) = tokio::io::duplex(1 << 10);
    let mut first = vec![0; 4 + 28 + 48];
    tokio::select! {
        _ = initiate(near, local, Role::Client, remote) => panic!("nobody has answered"),
        read = far.read_exact(&mut first) => read.unwrap(),
    };
    first
}

#[tokio::test]
async fn handshakes_with_strangers_hold_up_none_with_members() {
    const STRANGERS: u64 = 200;
    let keys = Keys::of(&[replica(0), client(1)]);
    let mut config = keys.config(replica(0), &[]);
    config.limits.strange_handshakes = TimeShare { percent: 1, saved: Duration::from_millis(1) };
    config.limits.max_half_open = 1000;
    config.timing.handshake_timeout = Duration::from_secs(600);
    let mut node = Node::start(config).await;
    let (member, key) = (keys.local(client(1)), keys.public(replica(0)));
    dial(node.address(), &member, Role::Client, key).await.unwrap();
    node.connected(client(1)).await;

    let first = first_frame(&Local { secret: key_pair().0, group: GROUP }, key).await;
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 66], 0).into()).unwrap();
        let mut stranger = socket.connect(node.address()).await.unwrap();
        stranger.write_all(&first).await.unwrap();
        strangers.push(stranger);
    }
    dial(node.address(), &member, Role::Client, key).await.unwrap();
    node.connected(client(1)).await;
    // Each takes a hundred times as long as computing an answer does.
    let answered = strangers.iter().filter(|stranger| stranger.try_read(&mut [0; 1]).is_ok()).count();
    assert!(answered < 100, "{answered} strangers were answered before the member");
}

#[tokio::test]
async fn connections_are_taken_at_a_bounded_rate() {
    let keys = Keys::of(&[replica(0), client(1)]);
    let mut config = keys.config(replica(0), &[]);
    // Three milliseconds for each, but the first ten.
    config.limits.connections = TimeShare { percent: 1, saved: Duration::from_micros(300) };
    let mut node = Node::start(config).await;
    let begun = Instant::now();
    for _ in 0..60 {
        let mut noise = TcpStream::connect(node.address()).await.unwrap();
        noise.write_all(&[0xff; 4]).await.unwrap();
    }
    until(|| node.handle.stats().refused == 60).await;
    assert!(begun.elapsed() > Duration::from_millis(130), "{:?}", begun.elapsed());
    assert_serves(&mut node, &keys, client(1)).await;
}
