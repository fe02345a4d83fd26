use std::time::Duration;

use bytes::Bytes;

use super::{super::*, support::*};
use crate::channel::{ChannelError, Refusal, Role};

#[tokio::test]
async fn a_slow_reader_loses_frames_and_holds_up_nobody() {
    let keys = Keys::of(&[replica(0), replica(1), replica(2)]);
    let mut nodes = group(&keys, 3, |config| {
        config.limits.replica_queue = QueueLimit { frames: 64, bytes: 1 << 20 };
    })
    .await;
    let mut fast = nodes.pop().unwrap();
    let mut slow = nodes.pop().unwrap();
    let sender = nodes.pop().unwrap();
    // More than all buffers on the way hold, the operating system's too, so that most of it
    // cannot leave while the slow one does not read.
    let frame = Bytes::from(vec![1; 32 << 10]);
    let count = 4000_u64;
    let send = async {
        for n in 0..count {
            sender.handle.send(replica(1), frame.clone());
            sender.send(replica(2), n.to_le_bytes().to_vec().into()).await;
        }
    };
    let receive = async {
        for n in 0..count {
            let (from, bytes) = fast.frame().await;
            assert_eq!((from, &bytes[..]), (replica(0), &n.to_le_bytes()[..]));
        }
    };
    tokio::join!(send, receive);
    let dropped = sender.stats(replica(1)).dropped_frames;
    assert!(dropped > count / 4, "only {dropped} dropped");
    assert_eq!(sender.stats(replica(1)).connections, 1);

    // When it reads again, it gets what was queued, and then what is sent.
    let kept = count - dropped;
    for _ in 0..kept {
        assert_eq!(slow.frame().await, (replica(0), frame.clone()));
    }
    sender.send(replica(1), "now".into()).await;
    assert_eq!(slow.frame().await.1, "now");
    assert_eq!(sender.stats(replica(1)).dropped_frames, dropped);
}

#[tokio::test]
async fn a_flooding_client_does_not_starve_a_replica() {
    let keys = Keys::of(&[replica(0), replica(1), client(1), client(2)]);
    let mut nodes = group(&keys, 2, |_| {}).await;
    let one = nodes.pop().unwrap();
    let mut zero = nodes.pop().unwrap();
    let peers = [(replica(0), zero.address())];
    let mut floods = Vec::new();
    for id in [1, 2] {
        let flooder = Node::start(keys.config(client(id), &peers)).await;
        zero.connected(client(id)).await;
        floods.push(tokio::spawn(async move {
            loop {
                flooder.handle.send(replica(0), vec![0; 1000].into());
                tokio::task::yield_now().await;
            }
        }));
    }
    // The floods have filled their lanes before the replica speaks.
    let full = Limits::default().client_queue.frames as u64;
    for id in [1, 2] {
        until(|| zero.stats(client(id)).received_frames > full).await;
    }
    for n in 0..100_u8 {
        assert_eq!(one.handle.send(replica(0), vec![n].into()), Sent::Queued);
    }
    until(|| zero.stats(replica(1)).received_frames == 100).await;
    let mut from_clients = 0;
    let mut from_replica = 0;
    while from_replica < 100 {
        match zero.frame().await {
            (Principal::Client(_), _) => from_clients += 1,
            (Principal::Replica(_), bytes) => {
                assert_eq!(bytes[0], from_replica);
                from_replica += 1;
            }
        }
    }
    assert!(from_clients <= 101, "{from_clients} frames of clients came before 100 of a replica");
    floods.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn clients_are_bounded_in_number() {
    let keys = Keys::of(&[replica(0), client(1), client(2), client(3)]);
    let mut config = keys.config(replica(0), &[]);
    config.limits.max_clients = 2;
    let mut node = Node::start(config).await;
    let peers = [(replica(0), node.address())];
    let first = Node::start(keys.config(client(1), &peers)).await;
    node.connected(client(1)).await;
    let _second = Node::start(keys.config(client(2), &peers)).await;
    node.connected(client(2)).await;

    let key = keys.public(replica(0));
    let third = dial(node.address(), &keys.local(client(3)), Role::Client, key).await;
    assert!(matches!(third, Err(ChannelError::Refused(Refusal::Busy))), "{third:?}");
    // One that is connected may come again.
    assert!(dial(node.address(), &keys.local(client(2)), Role::Client, key).await.is_ok());

    first.handle.shutdown().await;
    node.disconnected(client(1)).await;
    assert!(dial(node.address(), &keys.local(client(3)), Role::Client, key).await.is_ok());
    until(|| node.handle.stats().departed.connections >= 1).await;
}

#[tokio::test]
async fn frames_that_nobody_would_take_are_not_sent() {
    let keys = Keys::of(&[replica(0), client(1)]);
    let mut node = Node::start(keys.config(replica(0), &[])).await;
    let mut config = keys.config(client(1), &[(replica(0), node.address())]);
    config.limits.client_frame_len = 100;
    let user = Node::start(config).await;
    node.connected(client(1)).await;
    until(|| user.handle.is_connected(replica(0))).await;
    assert_eq!(user.handle.send(replica(0), vec![0; 101].into()), Sent::TooLong);
    user.send(replica(0), vec![0; 100].into()).await;
    assert_eq!(node.frame().await.1.len(), 100);
    assert_eq!(user.stats(replica(0)).dropped_frames, 1);
}

#[tokio::test]
async fn a_peer_that_never_was_there_is_dialled_without_end() {
    let keys = Keys::of(&[replica(0), replica(1)]);
    // A port that is free, and then taken by the peer.
    let later = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = later.local_addr().unwrap();
    drop(later);
    let mut config = keys.config(replica(0), &[(replica(1), address)]);
    config.timing.max_backoff = Duration::from_millis(40);
    let mut zero = Node::start(config).await;
    let mut config = keys.config(replica(1), &[(replica(0), zero.address())]);
    config.listen = Some(address);
    let one = Node::start(config).await;
    zero.connected(replica(1)).await;
    until(|| one.handle.is_connected(replica(0))).await;
}
