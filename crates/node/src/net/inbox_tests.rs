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
    let events = NetEvents::new(Arc::clone(&inbox));
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
        NetEvent::Connected(peer) | NetEvent::Disconnected(peer) | NetEvent::Frame { from: peer, .. } => peer,
    }
}

/// How much of the reader's time each of those who flood gets, of so much in all, where an event of each costs
/// as long as given.
fn shares(costs: &[(Principal, u64)], time: Duration) -> Vec<f64> {
    let (inbox, mut events) = inbox(4);
    let mut spent = HashMap::<Principal, Duration>::new();
    let numbers: HashMap<_, _> = costs.iter().map(|(peer, _)| (*peer, inbox.open(*peer))).collect();
    let costs: HashMap<_, _> =
        costs.iter().map(|(peer, cost)| (*peer, Duration::from_micros(*cost))).collect();
    drain(&mut events);
    while spent.values().sum::<Duration>() < time {
        for (peer, number) in &numbers {
            fill(&inbox, *peer, *number, 4);
        }
        let from = sender(events.try_recv().expect("all flood"));
        *spent.entry(from).or_default() += costs[&from];
        events.charge(costs[&from]);
    }
    let share = |peer: &Principal| spent[peer].as_secs_f64() / time.as_secs_f64();
    let mut peers: Vec<_> = numbers.into_keys().collect();
    peers.sort();
    peers.iter().map(share).collect()
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

#[test]
fn whose_frames_cost_more_gets_no_more_of_the_readers_time() {
    let time = Duration::from_secs(1);
    let clients = shares(&[(client(1), 50), (client(2), 5), (client(3), 5)], time);
    assert!(clients.iter().all(|share| (0.28..0.40).contains(share)), "{clients:?}");
    let replicas = shares(&[(R0, 5), (R1, 1000)], time);
    assert!((0.45..0.56).contains(&replicas[1]), "{replicas:?}");
    // Replicas are as much as all clients together.
    let all = shares(&[(R0, 1000), (client(1), 5), (client(2), 500)], time);
    assert!((0.45..0.56).contains(&all[0]), "{all:?}");
    assert!((0.18..0.30).contains(&all[1]), "{all:?}");
}

/// So many events of 100 microseconds each come before the flooder has its next turn.
fn events_before(events: &mut NetEvents, flooder: Principal) -> usize {
    let mut before = 0;
    while sender(events.try_recv().expect("both wait")) != flooder {
        events.charge(Duration::from_micros(100));
        before += 1;
    }
    before
}

#[test]
fn who_was_alone_waited_for_nobody_and_owes_but_its_last_turn() {
    let (inbox, mut events) = inbox(200);
    let (a, b) = (inbox.open(client(1)), inbox.open(client(2)));
    drain(&mut events);
    fill(&inbox, client(1), a, 200);
    for _ in 0..150 {
        assert_eq!(sender(events.try_recv().expect("nobody else waits")), client(1));
        events.charge(Duration::from_millis(1));
    }
    fill(&inbox, client(2), b, 200);
    // A millisecond in turns of the other.
    assert!((9..=11).contains(&events_before(&mut events, client(1))));
}

#[test]
fn a_short_frame_is_not_charged_for_what_the_machine_did_meanwhile() {
    let time = Duration::from_secs(10);
    let shares = shares(&[(R0, 5), (R1, 100_000)], time);
    assert!(shares[1] > 0.9, "{shares:?}");
}

#[test]
fn a_long_frame_is_charged_for_its_bytes() {
    let limit = QueueLimit { frames: 10, bytes: 64 << 20 };
    let limits = Limits { replica_queue: limit, client_queue: limit, ..Limits::default() };
    let inbox = Arc::new(Inbox::new(limits));
    let mut events = NetEvents::new(Arc::clone(&inbox));
    let (a, b) = (inbox.open(client(1)), inbox.open(client(2)));
    drain(&mut events);
    let mut long: VecDeque<_> = (0..2).map(|_| frame(vec![0; 1_000_000])).collect();
    inbox.deliver_some(client(1), a, &mut long).unwrap();
    assert_eq!(sender(events.try_recv().expect("one waits")), client(1));
    events.charge(Duration::from_secs(1));
    fill(&inbox, client(2), b, 10);
    // Four milliseconds, more than ten turns of a tenth of one.
    for _ in 0..10 {
        assert_eq!(sender(events.try_recv().expect("both wait")), client(2));
        events.charge(Duration::from_micros(100));
    }
}

#[test]
fn a_lane_that_comes_back_while_its_last_event_is_served_has_one_place_in_the_turns() {
    let (inbox, mut events) = inbox(10);
    let number = inbox.open(client(1));
    fill(&inbox, client(1), number, 1);
    drain(&mut events);
    fill(&inbox, client(1), number, 1);
    assert_eq!(sender(events.try_recv().expect("it waits")), client(1));
    inbox.close(client(1), number);
    assert_eq!(events.inbox.lock().lanes.len(), 1, "its end is to be read");
    assert_eq!(events.try_recv(), Some(NetEvent::Disconnected(client(1))));
    // Being served, it is gone, and comes back.
    let number = inbox.open(client(1));
    fill(&inbox, client(1), number, 3);
    assert_eq!(drain(&mut events).len(), 4, "a connection and three frames");
    assert_eq!(events.try_recv(), None);
}
