//! PBFT replicas in a hand-driven network: what each phase leads to, message by message. Delay, loss
//! and malice at length are the simulator's business.

use althing_crypto::Proof;
use althing_protocol::pbft::{Pbft, PbftConfig, PbftMessage, PbftSettings};
use althing_protocol::{
    Action, Auth, Batch, Decision, Event, Message, Protocol, Request, RequestAuth, Start, TimerId,
};
use althing_types::{ClientId, Digest, Instant, Quorums, ReplicaId, RequestNumber, Seq, View};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// One replica with the little that it needs around it.
struct Node {
    pbft: Pbft,
    decisions: Vec<Decision>,
    records: Vec<Vec<u8>>,
    timers: BTreeMap<TimerId, Instant>,
    fetching: Option<(Seq, Digest)>,
    evidence: usize,
}

/// A group whose messages are delivered in order, unless a test drops them.
struct Group {
    nodes: Vec<Node>,
    wires: VecDeque<(ReplicaId, ReplicaId, PbftMessage, Option<Proof>)>,
    down: Vec<ReplicaId>,
    now: Instant,
}

fn settings() -> PbftSettings {
    PbftSettings { checkpoint_period: 4, log_size: 8, max_batch_requests: 1, ..PbftSettings::default() }
}

fn pbft(i: usize, n: usize) -> Pbft {
    let quorums = Quorums::byzantine(n, (n - 1) / 3).unwrap();
    let me = ReplicaId(u16::try_from(i).unwrap());
    Pbft::new(PbftConfig::new(me, quorums, settings()).unwrap())
}

/// The digest of the state after these decisions: any injective function will do.
fn state(decisions: &[Decision]) -> Digest {
    let digests: Vec<_> = decisions.iter().map(|decision| decision.digest).collect();
    althing_crypto::hash("test state", &althing_types::encode(&digests))
}

fn request(client: u64, number: u64, auth: RequestAuth) -> Request {
    Request {
        client: ClientId(client),
        number: RequestNumber(number),
        operation: vec![1, 2, 3],
        auth,
        is_authentic: true,
    }
}

fn signed(client: u64, number: u64) -> Request {
    request(client, number, RequestAuth::Signed(Proof(vec![])))
}

impl Group {
    fn new(n: usize) -> Self {
        let node = |i| Node {
            pbft: pbft(i, n),
            decisions: vec![],
            records: vec![],
            timers: BTreeMap::new(),
            fetching: None,
            evidence: 0,
        };
        let mut group = Self {
            nodes: (0..n).map(node).collect(),
            wires: VecDeque::new(),
            down: vec![],
            now: Instant(1_000_000_000),
        };
        for i in 0..n {
            group.event(i, Event::Start(Start::Genesis));
        }
        group
    }

    fn event(&mut self, i: usize, event: Event<PbftMessage>) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut actions = vec![];
            self.nodes[i].pbft.handle(self.now, event, &mut actions);
            for action in actions {
                self.act(i, action, &mut events);
            }
        }
    }

    fn act(&mut self, i: usize, action: Action<PbftMessage>, events: &mut VecDeque<Event<PbftMessage>>) {
        let me = ReplicaId(u16::try_from(i).unwrap());
        let n = u16::try_from(self.nodes.len()).unwrap();
        let node = &mut self.nodes[i];
        let proof = |auth| (auth == Auth::Transferable).then(|| Proof(vec![i as u8]));
        match action {
            Action::Send { to, message, auth } => self.wires.push_back((me, to, message, proof(auth))),
            Action::Broadcast { message, auth } => {
                for to in (0..n).map(ReplicaId).filter(|to| *to != me) {
                    self.wires.push_back((me, to, message.clone(), proof(auth)));
                }
                if auth == Auth::Transferable {
                    events.push_back(Event::Message { from: me, message, proof: proof(auth) });
                }
            }
            Action::SetTimer { id, after } => drop(node.timers.insert(id, self.now + after)),
            Action::CancelTimer(id) => drop(node.timers.remove(&id)),
            Action::Persist { id, record } => {
                node.records.push(record);
                events.push_back(Event::Persisted(id));
            }
            Action::Compact(records) => node.records = records,
            Action::Execute(decision) => {
                assert_eq!(decision.seq.0 as usize, node.decisions.len() + 1, "executed out of order");
                let (seq, is_checkpoint) = (decision.seq, decision.is_checkpoint);
                node.decisions.push(decision);
                let state = is_checkpoint.then(|| state(&node.decisions));
                events.push_back(Event::Executed { seq, state });
            }
            Action::FetchState { seq, state } => node.fetching = Some((seq, state)),
            Action::Evidence(_) => node.evidence += 1,
            Action::Stable { .. } | Action::EnteredView(_) | Action::LeftView(_) => {}
        }
    }

    /// Delivers messages until none is left, dropping those that `drops` says.
    fn deliver(&mut self, mut drops: impl FnMut(ReplicaId, ReplicaId, &PbftMessage) -> bool) {
        while let Some((from, to, message, proof)) = self.wires.pop_front() {
            let is_down = self.down.contains(&from) || self.down.contains(&to);
            if !is_down && !drops(from, to, &message) {
                self.event(to.0.into(), Event::Message { from, message, proof });
            }
        }
    }

    fn settle(&mut self) {
        self.deliver(|_, _, _| false);
    }

    /// Lets time pass until `done`, timers and deliveries included.
    fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..10_000 {
            self.settle();
            if done(self) {
                return;
            }
            let next = self.nodes.iter().flat_map(|node| node.timers.values()).min().copied().unwrap();
            self.now = self.now.max(next);
            for i in 0..self.nodes.len() {
                let due: Vec<_> = self.nodes[i]
                    .timers
                    .iter()
                    .filter(|(_, at)| **at <= self.now)
                    .map(|(id, _)| *id)
                    .collect();
                for id in due {
                    self.nodes[i].timers.remove(&id);
                    if !self.down.contains(&ReplicaId(i as u16)) {
                        self.event(i, Event::Timer(id));
                    }
                }
            }
        }
        panic!("not done after 10,000 timers");
    }

    fn submit(&mut self, request: &Request) {
        for i in 0..self.nodes.len() {
            if !self.down.contains(&ReplicaId(i as u16)) {
                self.event(i, Event::Request(request.clone()));
            }
        }
    }

    /// The requests that replica `i` executed, null requests left out.
    fn executed(&self, i: usize) -> Vec<(u64, u64)> {
        let requests = self.nodes[i].decisions.iter().flat_map(|decision| &decision.batch.requests);
        requests.map(|request| (request.client.0, request.number.0)).collect()
    }

    fn restart(&mut self, i: usize, start: impl FnOnce(&Node) -> Start) {
        let start = start(&self.nodes[i]);
        let n = self.nodes.len();
        let stable = match &start {
            Start::Recovered { stable, .. } => stable.0 as usize,
            _ => 0,
        };
        let node = &mut self.nodes[i];
        node.pbft = pbft(i, n);
        node.timers.clear();
        node.decisions.truncate(stable);
        self.event(i, Event::Start(start));
    }

    /// Carries out the state transfer that replica `i` asked for, from replica `from`.
    fn transfer(&mut self, i: usize, from: usize) {
        let (seq, wanted) = self.nodes[i].fetching.take().expect("a transfer was asked for");
        let decisions = self.nodes[from].decisions[..seq.0 as usize].to_vec();
        assert_eq!(state(&decisions), wanted);
        let mut last = BTreeMap::new();
        for request in decisions.iter().flat_map(|decision| &decision.batch.requests) {
            last.insert(request.client, request.number);
        }
        self.nodes[i].decisions = decisions;
        self.event(i, Event::StateInstalled { seq, executed: last.into_iter().collect() });
    }
}

#[test]
fn a_request_to_any_replica_is_executed_by_all() {
    for n in [1, 4, 5, 6, 7] {
        let mut group = Group::new(n);
        group.event(n - 1, Event::Request(signed(1, 1)));
        group.settle();
        for i in 0..n {
            assert_eq!(group.executed(i), [(1, 1)], "replica {i} of {n}");
        }
    }
}

#[test]
fn a_request_is_executed_once_however_often_it_arrives() {
    let mut group = Group::new(4);
    for _ in 0..3 {
        group.submit(&signed(1, 1));
        group.settle();
    }
    assert_eq!(group.executed(2), [(1, 1)]);
}

#[test]
fn a_stable_checkpoint_truncates_the_log() {
    let mut group = Group::new(4);
    for number in 1..=40 {
        group.submit(&signed(1, number));
        group.settle();
    }
    for node in &group.nodes {
        assert_eq!(node.pbft.stable(), Seq(40));
        assert_eq!(node.decisions.len(), 40);
        assert!(node.pbft.footprint() < 30, "{}", node.pbft.footprint());
    }
}

#[test]
fn a_dead_primary_is_replaced_and_what_had_prepared_survives() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    // All commits are lost: the request prepared and no replica executed it.
    group.deliver(|_, _, message| matches!(message, PbftMessage::Commit(_)));
    assert!(group.nodes.iter().all(|node| node.decisions.is_empty()));
    group.down = vec![ReplicaId(0)];
    group.submit(&signed(2, 1));
    group.run_until(|group| (1..4).all(|i| group.executed(i).len() == 2));
    for i in 1..4 {
        assert_eq!(group.executed(i), [(1, 1), (2, 1)]);
        assert_eq!(group.nodes[i].pbft.view(), View(1));
    }
}

#[test]
fn a_batch_that_only_one_replica_executed_keeps_its_number() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    group.deliver(|_, to, message| matches!(message, PbftMessage::Commit(_)) && to != ReplicaId(3));
    assert_eq!(group.executed(3), [(1, 1)]);
    // It falls silent with the primary's knowledge gone too: the others must find the batch again.
    group.down = vec![ReplicaId(3)];
    group.submit(&signed(2, 1));
    group.run_until(|group| (0..3).all(|i| group.executed(i).len() == 2));
    assert_eq!(group.nodes[1].decisions[0].digest, group.nodes[3].decisions[0].digest);
}

#[test]
fn successive_dead_primaries_are_passed_over() {
    let mut group = Group::new(7);
    group.down = vec![ReplicaId(0), ReplicaId(1)];
    group.submit(&signed(1, 1));
    group.run_until(|group| (2..7).all(|i| group.executed(i) == [(1, 1)]));
    assert_eq!(group.nodes[6].pbft.view(), View(2));
}

#[test]
fn a_request_with_macs_does_not_unseat_a_primary() {
    let mut group = Group::new(4);
    let mac = request(1, 1, RequestAuth::Macs(althing_crypto::Authenticator::default()));
    group.event(3, Event::Request(mac));
    group.wires.clear();
    let later = group.now + Duration::from_secs(30);
    let mut passed = false;
    for _ in 0..1000 {
        group.deliver(|_, _, message| matches!(message, PbftMessage::Forward(_)));
        let next = group.nodes.iter().flat_map(|node| node.timers.values()).min().copied().unwrap();
        group.now = next;
        if next > later {
            passed = true;
            break;
        }
        for i in 0..4 {
            let due: Vec<_> =
                group.nodes[i].timers.iter().filter(|(_, at)| **at <= next).map(|(id, _)| *id).collect();
            for id in due {
                group.nodes[i].timers.remove(&id);
                group.event(i, Event::Timer(id));
            }
        }
    }
    assert!(passed && group.nodes.iter().all(|node| node.pbft.is_in_view() && node.pbft.view() == View(0)));
}

#[test]
fn an_unauthenticated_request_needs_vouchers_and_gets_them() {
    // The client's MAC is bad for replica 3 only: it prepares because others vouch.
    let mut group = Group::new(4);
    let mac = request(1, 1, RequestAuth::Macs(althing_crypto::Authenticator::default()));
    group.event(0, Event::Request(mac));
    let mut wires = std::mem::take(&mut group.wires);
    for (_, to, message, _) in &mut wires {
        if *to == ReplicaId(3) {
            message.requests_mut().iter_mut().for_each(|request| request.is_authentic = false);
        }
    }
    group.wires = wires;
    group.settle();
    assert_eq!(group.executed(3), [(1, 1)]);
}

#[test]
fn a_forged_request_is_not_ordered() {
    let mut group = Group::new(4);
    group.event(0, Event::Request(signed(1, 1)));
    for (_, _, message, _) in &mut group.wires {
        message.requests_mut().iter_mut().for_each(|request| request.is_authentic = false);
    }
    group.settle();
    assert!(group.nodes.iter().all(|node| node.decisions.is_empty()));
}

#[test]
fn an_equivocating_primary_is_caught_or_replaced_and_nothing_diverges() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    for (_, to, message, _) in &mut group.wires {
        if to.0 % 2 == 1
            && let Some(other) = message.contradiction()
        {
            *message = other;
        }
    }
    group.run_until(|group| (1..4).all(|i| group.executed(i) == [(1, 1)]));
    assert_eq!(group.nodes[1].decisions[0].digest, group.nodes[2].decisions[0].digest);
}

#[test]
fn a_replica_that_slept_learns_the_state() {
    let mut group = Group::new(4);
    group.down = vec![ReplicaId(3)];
    for number in 1..=30 {
        group.submit(&signed(1, number));
        group.settle();
    }
    group.down.clear();
    group.run_until(|group| group.nodes[3].fetching.is_some());
    group.transfer(3, 1);
    group.run_until(|group| group.executed(3).len() == 30);
}

#[test]
fn a_replica_that_missed_some_messages_gets_them_again() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    group.deliver(|_, to, _| to == ReplicaId(2));
    assert!(group.executed(2).is_empty());
    group.run_until(|group| group.executed(2) == [(1, 1)]);
    assert_eq!(group.nodes[2].pbft.view(), View(0));
}

#[test]
fn a_replica_restarted_from_disk_knows_what_it_voted_for() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    group.deliver(|_, _, message| matches!(message, PbftMessage::Commit(_)));
    // Everybody loses power at once. The batch had prepared, so it keeps its number.
    let digest = group.nodes[0].records.clone();
    assert!(!digest.is_empty());
    for i in 0..4 {
        group.restart(i, |node| Start::Recovered {
            stable: Seq(0),
            executed: vec![],
            records: node.records.clone(),
        });
    }
    group.run_until(|group| (0..4).all(|i| group.executed(i) == [(1, 1)]));
}

#[test]
fn a_replica_without_its_disk_votes_again_only_above_what_it_may_have_voted_for() {
    let mut group = Group::new(4);
    for number in 1..=6 {
        group.submit(&signed(1, number));
        group.settle();
    }
    group.restart(3, |_| Start::Amnesia);
    assert!(!group.nodes[3].pbft.is_voting());
    group.run_until(|group| group.nodes[3].fetching.is_some());
    group.transfer(3, 1);
    // The primary fills up with null requests: no client has to come along.
    for _ in 0..100 {
        if group.nodes[3].pbft.is_voting() {
            break;
        }
        group.run_until(|group| group.nodes[3].pbft.is_voting() || group.nodes[3].fetching.is_some());
        if group.nodes[3].fetching.is_some() {
            group.transfer(3, 1);
        }
    }
    assert!(group.nodes[3].pbft.is_voting());
    assert!(group.nodes[3].pbft.stable() >= Seq(20), "4 had been stable, and twice the log is 16");
    group.down = vec![ReplicaId(1)];
    group.submit(&signed(1, 7));
    group.run_until(|group| group.executed(3).contains(&(1, 7)));
}

#[test]
fn a_primary_without_its_disk_is_voted_out() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    group.settle();
    group.restart(0, |_| Start::Amnesia);
    group.run_until(|group| (1..4).all(|i| group.nodes[i].pbft.view() == View(1)));
    group.submit(&signed(1, 2));
    group.run_until(|group| (1..4).all(|i| group.executed(i).len() == 2));
}

#[test]
fn correct_replicas_are_never_accused() {
    let mut group = Group::new(4);
    for number in 1..=20 {
        group.submit(&signed(1, number));
        group.settle();
    }
    group.down = vec![ReplicaId(0)];
    group.submit(&signed(1, 21));
    group.run_until(|group| group.executed(1).len() == 21);
    assert!(group.nodes.iter().all(|node| node.evidence == 0));
}

#[test]
fn the_null_request_has_the_null_digest() {
    assert_eq!(Batch::null().digest(), Digest::NULL);
    assert_ne!(Batch { time: Instant(1), requests: vec![] }.digest(), Digest::NULL);
}
