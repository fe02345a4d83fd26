//! The harness: replicas, the wires between them, their timers and disks, all under the test's hand.

use althing_crypto::{Authenticator, Proof};
use althing_protocol::paxos::{Paxos, PaxosConfig, PaxosMessage, PaxosSettings};
use althing_protocol::{
    Action, Answers, Auth, Decision, Event, Evidence, PersistId, Protocol, Replicable, Request, RequestAuth,
    RequestKind, Start, TimerId,
};
use althing_types::{
    ClientId, Digest, Epoch, Instant, Quorums, ReplicaId, RequestNumber, Seq, decode, encode,
};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The replicas of a group of five.
pub(crate) const R: [ReplicaId; 5] = [ReplicaId(0), ReplicaId(1), ReplicaId(2), ReplicaId(3), ReplicaId(4)];

/// A client whose requests end the instance, as a change of the members does.
pub(crate) const CLOSER: u64 = 99;

/// The timer that ends a view.
pub(crate) const VIEW_TIMER: TimerId = TimerId(0);

/// What does not happen within this time does not happen.
const PATIENCE: Duration = Duration::from_secs(600);

/// Small numbers, so that few messages reach the limits. A batch holds one request.
pub(crate) fn settings() -> PaxosSettings {
    PaxosSettings { checkpoint_period: 4, log_size: 8, max_batch_requests: 1, ..PaxosSettings::default() }
}

/// A request with its client's signature.
pub(crate) fn signed(client: u64, number: u64) -> Request {
    Request {
        client: ClientId(client),
        number: RequestNumber(number),
        kind: RequestKind::Service,
        operation: vec![1, 2, 3],
        epoch: Epoch(0),
        answers: Answers::All,
        auth: RequestAuth::Signed(Proof(vec![])),
        is_authentic: true,
    }
}

/// A request with MACs, good where it is handed in.
pub(crate) fn with_macs(client: u64, number: u64) -> Request {
    Request { auth: RequestAuth::Macs(Authenticator::default()), ..signed(client, number) }
}

/// What stands for a signature.
pub(crate) fn proof_of(signer: ReplicaId) -> Proof {
    Proof(signer.0.to_le_bytes().to_vec())
}

/// The digest of the state after these decisions: any injective function will do.
pub(crate) fn state(decisions: &[Decision]) -> Digest {
    let digests: Vec<_> = decisions.iter().map(|decision| decision.digest).collect();
    althing_crypto::hash("test state", &althing_types::encode(&digests))
}

fn last_requests(decisions: &[Decision]) -> Vec<(ClientId, RequestNumber)> {
    let requests = decisions.iter().flat_map(|decision| &decision.batch.requests);
    let last: BTreeMap<_, _> = requests.map(|request| (request.client, request.number)).collect();
    last.into_iter().collect()
}

/// The same instance, decoded.
fn restored(paxos: &Paxos) -> Paxos {
    let mut restored: Paxos = decode(&encode(paxos), usize::MAX).expect("it encodes itself");
    restored.vouch();
    restored
}

/// Where an instance ended, with what state, and who has signed that.
pub(crate) type Closed = (Seq, Digest, Vec<(ReplicaId, Proof)>);

/// One replica with the little that it needs around it.
pub(crate) struct Node {
    pub(crate) paxos: Paxos,
    pub(crate) decisions: Vec<Decision>,
    /// Its disk.
    pub(crate) records: Vec<Vec<u8>>,
    /// Records that are not on it yet.
    pub(crate) unsynced: Vec<(PersistId, Vec<u8>)>,
    pub(crate) timers: BTreeMap<TimerId, Instant>,
    /// The state transfer that it asked for last.
    pub(crate) fetching: Option<(Seq, Digest)>,
    pub(crate) evidence: Vec<Evidence>,
    /// How its instance has ended.
    pub(crate) closed: Option<Closed>,
}

impl Node {
    pub(crate) fn new(paxos: Paxos) -> Self {
        Self {
            paxos,
            decisions: vec![],
            records: vec![],
            unsynced: vec![],
            timers: BTreeMap::new(),
            fetching: None,
            evidence: vec![],
            closed: None,
        }
    }
}

/// A message under way.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) from: ReplicaId,
    pub(crate) to: ReplicaId,
    pub(crate) message: PaxosMessage,
    /// The sender's signature, if it has one.
    pub(crate) proof: Option<Proof>,
}

/// A group whose messages are delivered in the order in which they were sent, unless a test loses
/// them. Every run is bounded by [`PATIENCE`].
pub(crate) struct Group {
    pub(crate) nodes: Vec<Node>,
    /// The messages under way.
    pub(crate) wires: VecDeque<Wire>,
    /// All messages ever sent.
    pub(crate) history: Vec<Wire>,
    /// Replicas that nothing reaches and that do nothing.
    pub(crate) down: Vec<ReplicaId>,
    /// Replicas whose disks have not written any state yet.
    pub(crate) unkept: Vec<ReplicaId>,
    /// Replicas whose disks do not sync any record.
    pub(crate) stuck: Vec<ReplicaId>,
    /// Which messages the network loses, until this is set otherwise.
    pub(crate) loses: fn(&Wire) -> bool,
    pub(crate) now: Instant,
    /// Whether each replica goes on from its own encoding after each event, as a logical machine's may have to.
    pub(crate) is_restored: bool,
    pub(crate) settings: PaxosSettings,
}

impl Group {
    /// A new group, with [`settings`].
    pub(crate) fn new(n: usize) -> Self {
        Self::with(n, settings())
    }

    /// A new group.
    pub(crate) fn with(n: usize, settings: PaxosSettings) -> Self {
        let node = |i| Node::new(paxos(i, n, &settings));
        let mut group = Self {
            nodes: (0..n).map(node).collect(),
            wires: VecDeque::new(),
            history: vec![],
            down: vec![],
            unkept: vec![],
            stuck: vec![],
            loses: |_| false,
            now: Instant(1_000_000_000),
            is_restored: false,
            settings,
        };
        for i in 0..n {
            group.event(i, Event::Start(Start::Genesis));
        }
        group
    }

    /// Hands an event to replica `i` and carries out what follows.
    pub(crate) fn event(&mut self, i: usize, event: Event<PaxosMessage>) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut actions = vec![];
            let restored = self.is_restored.then(|| restored(&self.nodes[i].paxos));
            self.nodes[i].paxos.handle(self.now, event.clone(), &mut actions);
            if let Some(mut restored) = restored {
                let mut same = vec![];
                restored.handle(self.now, event, &mut same);
                assert_eq!(format!("{same:?}"), format!("{actions:?}"));
                assert_eq!(encode(&restored), encode(&self.nodes[i].paxos));
            }
            for action in actions {
                if let Action::Execute(decision) = &action
                    && decision.batch.requests.iter().any(|request| request.client.0 == CLOSER)
                {
                    events.push_back(Event::Close(decision.seq));
                }
                events.extend(self.act(i, action));
            }
        }
    }

    fn act(&mut self, i: usize, action: Action<PaxosMessage>) -> Option<Event<PaxosMessage>> {
        let node = &mut self.nodes[i];
        match action {
            Action::Send { to, message, auth } => self.send(replica(i), to, message, auth),
            Action::Broadcast { message, auth } => {
                for to in (0..self.nodes.len()).filter(|to| *to != i).map(replica) {
                    self.send(replica(i), to, message.clone(), auth);
                }
                if auth == Auth::Transferable {
                    let (from, proof) = (replica(i), Some(proof_of(replica(i))));
                    return Some(Event::Message { from, message, proof, key: 0 });
                }
            }
            Action::SetTimer { id, after } => drop(node.timers.insert(id, self.now + after)),
            Action::CancelTimer(id) => drop(node.timers.remove(&id)),
            Action::Persist { id, record } if self.stuck.contains(&replica(i)) => {
                node.unsynced.push((id, record));
            }
            Action::Persist { id, record } => {
                node.records.push(record);
                return Some(Event::Persisted(id));
            }
            Action::KeepState { .. } if self.unkept.contains(&replica(i)) => {}
            Action::KeepState { seq, .. } => return Some(Event::StateKept(seq)),
            Action::Compact(records) => node.records = records,
            Action::Execute(decision) => {
                assert_eq!(decision.seq.0 as usize, node.decisions.len() + 1, "executed out of order");
                let (seq, is_checkpoint) = (decision.seq, decision.is_checkpoint);
                node.decisions.push(decision);
                let state = is_checkpoint.then(|| state(&node.decisions));
                return Some(Event::Executed { seq, state });
            }
            Action::FetchState { seq, state } => node.fetching = Some((seq, state)),
            Action::Evidence(evidence) => node.evidence.push(evidence),
            Action::Closed { seq, state, votes } => node.closed = Some((seq, state, votes)),
            Action::Stable { .. } | Action::EnteredView(_) | Action::LeftView(_) => {}
            other => panic!("a Paxos replica wants {other:?}"),
        }
        None
    }

    fn send(&mut self, from: ReplicaId, to: ReplicaId, message: PaxosMessage, auth: Auth) {
        let proof = (auth == Auth::Transferable).then(|| proof_of(from));
        let wire = Wire { from, to, message, proof };
        self.history.push(wire.clone());
        self.wires.push_back(wire);
    }

    /// Hands replica `i` a message that the test made up, as if `from` had sent it.
    pub(crate) fn receive(&mut self, i: usize, from: ReplicaId, message: PaxosMessage) {
        self.event(i, Event::Message { from, message, proof: None, key: 0 });
    }

    /// Replica `i`'s disk syncs all that it was given.
    pub(crate) fn sync(&mut self, i: usize) {
        self.stuck.retain(|id| *id != replica(i));
        for (id, record) in core::mem::take(&mut self.nodes[i].unsynced) {
            self.nodes[i].records.push(record);
            self.event(i, Event::Persisted(id));
        }
    }

    /// Replica `i`'s disk syncs the first record that it was given.
    pub(crate) fn sync_one(&mut self, i: usize) {
        let (id, record) = self.nodes[i].unsynced.remove(0);
        self.nodes[i].records.push(record);
        self.event(i, Event::Persisted(id));
    }

    /// Delivers messages until none is left, except those that `drops` says.
    pub(crate) fn deliver(&mut self, mut drops: impl FnMut(&Wire) -> bool) {
        while let Some(wire) = self.wires.pop_front() {
            let is_down = self.down.contains(&wire.from) || self.down.contains(&wire.to);
            if !is_down && !(self.loses)(&wire) && !drops(&wire) {
                let Wire { from, to, message, proof } = wire;
                self.event(to.0.into(), Event::Message { from, message, proof, key: 0 });
            }
        }
    }

    /// Delivers all messages.
    pub(crate) fn settle(&mut self) {
        self.deliver(|_| false);
    }

    /// Loses all messages that are under way.
    pub(crate) fn lose(&mut self) {
        self.wires.clear();
    }

    /// Lets time pass until `done`, timers and deliveries included.
    pub(crate) fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        let end = self.now + PATIENCE;
        loop {
            self.settle();
            if done(self) {
                return;
            }
            assert!(self.fire_next(end), "not done after {PATIENCE:?}: {}", self.describe());
        }
    }

    /// Lets this much time pass, timers and deliveries included.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        while self.fire_next(end) {
            self.settle();
        }
        self.now = end;
    }

    fn fire_next(&mut self, end: Instant) -> bool {
        let up: Vec<_> = (0..self.nodes.len()).filter(|i| !self.down.contains(&replica(*i))).collect();
        let next = up.iter().flat_map(|i| self.nodes[*i].timers.values()).min().copied();
        let Some(next) = next.filter(|next| *next <= end) else { return false };
        self.now = self.now.max(next);
        for i in up {
            let ids: Vec<_> = self.nodes[i].timers.keys().copied().collect();
            for id in ids {
                if self.nodes[i].timers.get(&id).is_some_and(|at| *at <= self.now) {
                    self.nodes[i].timers.remove(&id);
                    self.event(i, Event::Timer(id));
                }
            }
        }
        true
    }

    /// Lets the view timer of replica `i`, which must be running, expire now.
    pub(crate) fn give_up(&mut self, i: usize) {
        assert!(self.nodes[i].timers.remove(&VIEW_TIMER).is_some(), "replica {i} guards nothing");
        self.event(i, Event::Timer(VIEW_TIMER));
    }

    fn describe(&self) -> String {
        let one = |Node { paxos, fetching, .. }: &Node| {
            let (view, in_view, votes) = (paxos.view(), paxos.is_in_view(), paxos.is_voting());
            let (stable, executed) = (paxos.stable(), paxos.executed());
            format!(
                "{view} started {in_view}, votes {votes}, stable {stable}, executed {executed}, fetches {fetching:?}"
            )
        };
        self.nodes.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    /// A client sends its request to all replicas that are up.
    pub(crate) fn submit(&mut self, request: &Request) {
        for i in (0..self.nodes.len()).filter(|i| !self.down.contains(&replica(*i))).collect::<Vec<_>>() {
            self.event(i, Event::Request(request.clone()));
        }
    }

    /// Client 1 has these requests executed, one after the other.
    pub(crate) fn work(&mut self, numbers: core::ops::RangeInclusive<u64>) {
        for number in numbers {
            self.submit(&signed(1, number));
            self.settle();
        }
    }

    /// The requests that replica `i` executed, as clients and numbers.
    pub(crate) fn executed(&self, i: usize) -> Vec<(u64, u64)> {
        let requests = self.nodes[i].decisions.iter().flat_map(|decision| &decision.batch.requests);
        requests.map(|request| (request.client.0, request.number.0)).collect()
    }

    /// Whether all these replicas have executed the same, and so much.
    pub(crate) fn have_executed(&self, replicas: &[usize], count: usize) -> bool {
        let first = self.executed(replicas[0]);
        first.len() == count && replicas.iter().all(|i| self.executed(*i) == first)
    }

    /// Replica `i` loses its memory, and what its disk had not synced, and starts from its disk.
    pub(crate) fn restart(&mut self, i: usize) {
        let node = &self.nodes[i];
        let (stable, records) = (node.paxos.stable(), node.records.clone());
        let executed = last_requests(&node.decisions[..stable.0 as usize]);
        let (has_forgotten, is_doubtful) = (false, false);
        let closed_at = node.closed.as_ref().map(|(seq, ..)| *seq);
        let is_closed = closed_at == Some(stable);
        let start = Start::Recovered { stable, executed, records, is_closed, has_forgotten, is_doubtful };
        self.start(i, stable, start);
    }

    /// Replica `i` loses its memory, its disk and its state.
    pub(crate) fn restart_without_disk(&mut self, i: usize) {
        self.nodes[i].records.clear();
        self.start(i, Seq(0), Start::Amnesia);
    }

    fn start(&mut self, i: usize, stable: Seq, start: Start) {
        let n = self.nodes.len();
        let node = &mut self.nodes[i];
        node.paxos = paxos(i, n, &self.settings);
        node.timers.clear();
        node.unsynced.clear();
        (node.fetching, node.closed) = (None, None);
        node.decisions.truncate(stable.0 as usize);
        self.event(i, Event::Start(start));
    }

    /// Carries out the state transfer that replica `i` asked for, from replica `from`.
    pub(crate) fn transfer(&mut self, i: usize, from: usize) {
        let (seq, wanted) = self.nodes[i].fetching.take().expect("a transfer was asked for");
        let decisions = self.nodes[from].decisions[..seq.0 as usize].to_vec();
        assert_eq!(state(&decisions), wanted);
        let executed = last_requests(&decisions);
        self.nodes[i].decisions = decisions;
        self.event(i, Event::StateInstalled { seq, executed });
    }

    /// Runs on until `done`, with replica `from` supplying replica `i` with state where it asks for that.
    pub(crate) fn run_with_transfers(&mut self, i: usize, from: usize, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            self.run_until(|group| done(group) || group.nodes[i].fetching.is_some());
            if self.nodes[i].fetching.is_some() {
                self.transfer(i, from);
            }
        }
    }
}

pub(crate) fn replica(i: usize) -> ReplicaId {
    ReplicaId(u16::try_from(i).expect("a small group"))
}

pub(crate) fn paxos(i: usize, n: usize, settings: &PaxosSettings) -> Paxos {
    let quorums = Quorums::crash(n, (n - 1) / 2).expect("enough replicas");
    Paxos::new(PaxosConfig::new(replica(i), quorums, settings.clone()).expect("good settings"))
}
