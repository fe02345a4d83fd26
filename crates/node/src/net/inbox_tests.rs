use althing_types::{ClientId, ReplicaId};

use super::*;

const R0: Principal = Principal::Replica(ReplicaId(0));
const R1: Principal = Principal::Replica(ReplicaId(1));

fn client(id: u64) -> Principal {
    Principal::Client(ClientId(id))
}

fn inbox(frames: usize) -> (Arc<Inbox>, NetEvents) {
    let queue = QueueLimit { frames, bytes: 1000 };
    let limits = Limits { replica_queue: queue, client_queue: queue, ..Limits::default() };
    let inbox = Arc::new(Inbox::new(limits));
    let events = NetEvents { inbox: Arc::clone(&inbox) };
    (inbox, events)
}

fn frames(count: usize) -> VecDeque<Enveloped> {
    (0..count).map(|n| frame(vec![n as u8])).collect()
}

fn frame(content: Vec<u8>) -> Enveloped {
    Enveloped { session: 0, bytes: content.into() }
}

/// Delivers what there is room for, and returns how many frames are left.
fn fill(inbox: &Inbox, peer: Principal, number: u64, count: usize) -> usize {
    let mut frames = frames(count);
    inbox.deliver_some(peer, number, &mut frames).unwrap();
    frames.len()
}

fn drain(events: &mut NetEvents) -> Vec<NetEvent> {
    std::iter::from_fn(|| events.try_recv()).collect()
}

fn sender(event: NetEvent) -> Principal {
    match event {
        NetEvent::Frame { from, .. } => from,
        NetEvent::Connected(peer) | NetEvent::Disconnected(peer) => peer,
    }
}

#[test]
fn lanes_are_bounded_and_emptied_in_turns() {
    let (inbox, mut events) = inbox(10);
    let (a, b) = (inbox.open(client(1)), inbox.open(client(2)));
    assert_eq!(fill(&inbox, client(1), a, 50), 40);
    assert_eq!(fill(&inbox, client(2), b, 2), 0);
    let order: Vec<_> = drain(&mut events).into_iter().map(sender).collect();
    assert_eq!(order[..6], [1, 2, 1, 2, 1, 2].map(client));
    assert_eq!(order.len(), 11 + 3);
}

#[test]
fn a_lane_is_bounded_in_bytes() {
    let (inbox, _events) = inbox(1000);
    let number = inbox.open(R0);
    let mut frames: VecDeque<Enveloped> = (0..10).map(|_| frame(vec![0; 600])).collect();
    inbox.deliver_some(R0, number, &mut frames).unwrap();
    assert_eq!(frames.len(), 8);
}

#[test]
fn replicas_get_every_second_turn_however_many_clients_flood() {
    let (inbox, mut events) = inbox(100);
    for id in 0..50 {
        let number = inbox.open(client(id));
        fill(&inbox, client(id), number, 100);
    }
    let number = inbox.open(R0);
    fill(&inbox, R0, number, 20);
    let first: Vec<_> = (0..42).map(|_| sender(events.try_recv().unwrap())).collect();
    assert_eq!(first.iter().filter(|&&peer| peer == R0).count(), 21);
}

#[test]
fn a_replaced_connection_keeps_its_frames_and_adds_none() {
    let (inbox, mut events) = inbox(10);
    let old = inbox.open(R1);
    fill(&inbox, R1, old, 1);
    let new = inbox.open(R1);
    assert!(inbox.deliver_some(R1, old, &mut frames(1)).is_err());
    inbox.close(R1, old);
    fill(&inbox, R1, new, 1);
    let frame = NetEvent::Frame { from: R1, session: 0, bytes: vec![0].into() };
    let (connected, disconnected) = (NetEvent::Connected(R1), NetEvent::Disconnected(R1));
    let expected = [connected.clone(), frame.clone(), disconnected, connected, frame];
    assert_eq!(drain(&mut events), expected);
}

#[test]
fn connecting_over_and_over_fills_nothing() {
    let (inbox, mut events) = inbox(10);
    for _ in 0..1000 {
        let number = inbox.open(client(1));
        inbox.close(client(1), number);
    }
    assert!(!inbox.contains(client(1)) && events.try_recv().is_none());
    let number = inbox.open(client(1));
    fill(&inbox, client(1), number, 1);
    for _ in 0..1000 {
        inbox.open(client(1));
    }
    // The first connection and its frame, its end, and the last connection.
    assert_eq!(drain(&mut events).len(), 4);
}

#[test]
fn a_departed_clients_lane_goes_when_it_is_read() {
    let (inbox, mut events) = inbox(10);
    let number = inbox.open(client(1));
    fill(&inbox, client(1), number, 3);
    inbox.close(client(1), number);
    assert_eq!(inbox.clients(), 1);
    assert_eq!(drain(&mut events).len(), 5);
    assert_eq!(inbox.clients(), 0);
}

#[tokio::test]
async fn a_full_lane_makes_its_connection_wait_for_the_reader() {
    let (inbox, mut events) = inbox(4);
    let number = inbox.open(R0);
    let delivering = tokio::spawn({
        let inbox = Arc::clone(&inbox);
        async move { inbox.deliver(R0, number, &mut frames(100)).await }
    });
    assert_eq!(events.recv().await, Some(NetEvent::Connected(R0)));
    for n in 0..100 {
        assert_eq!(
            events.recv().await,
            Some(NetEvent::Frame { from: R0, session: 0, bytes: vec![n].into() })
        );
        assert!(inbox.lock().lanes[&R0].frames <= 4);
    }
    delivering.await.unwrap().unwrap();
    inbox.close(R0, number);
    inbox.finish();
    assert_eq!(events.recv().await, Some(NetEvent::Disconnected(R0)));
    assert_eq!(events.recv().await, None);
}

#[tokio::test]
async fn without_a_reader_frames_are_thrown_away() {
    let (inbox, events) = inbox(4);
    let number = inbox.open(R0);
    let delivering = tokio::spawn({
        let inbox = Arc::clone(&inbox);
        async move { inbox.deliver(R0, number, &mut frames(100)).await }
    });
    tokio::task::yield_now().await;
    drop(events);
    delivering.await.unwrap().unwrap();
    inbox.close(R0, number);
    let number = inbox.open(R0);
    inbox.close(R0, number);
    assert!(!inbox.contains(R0));
}
