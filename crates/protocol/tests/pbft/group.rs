//! The harness: replicas, the wires between them, their timers and disks, all under the test's hand.

use althing_crypto::{Authenticator, Proof};
use althing_protocol::pbft::{
    CheckpointCertificate, Pbft, PbftConfig, PbftMessage, PbftSettings, Signed, ViewChange,
};
use althing_protocol::{
    Action, Answers, Auth, Decision, Event, Evidence, Message, Protocol, Replicable, Request, RequestAuth,
    RequestKind, Start, TimerId,
};
use althing_types::{
    ClientId, Digest, Epoch, Instant, Quorums, ReplicaId, RequestNumber, Seq, decode, encode,
};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The replicas of a group of four.
pub(crate) const R: [ReplicaId; 4] = [ReplicaId(0), ReplicaId(1), ReplicaId(2), ReplicaId(3)];

/// The timer that ends a view.
pub(crate) const VIEW_TIMER: TimerId = TimerId(0);

/// The MACs of client `LIAR + i` are good at replica `i` only.
pub(crate) const LIAR: u64 = 10;

/// Where a request of this client is executed, the instance is closed.
pub(crate) const CLOSER: u64 = 99;

/// What does not happen within this time does not happen.
const PATIENCE: Duration = Duration::from_secs(600);

/// Small numbers, so that few messages reach the limits. A batch holds one request.
pub(crate) fn settings() -> PbftSettings {
    PbftSettings {
        checkpoint_period: 4,
        log_size: 8,
        max_batch_requests: 1,
        primary_slack: 4,
        primary_passes: 2,
        ..PbftSettings::default()
    }
}

/// As [`settings`], with batches of many requests.
pub(crate) fn settings_with_batches() -> PbftSettings {
    PbftSettings { max_batch_requests: 16, ..settings() }
}

/// A request with its client's signature.
pub(crate) fn signed(client: u64, number: u64) -> Request {
    request(client, number, RequestAuth::Signed(Proof(vec![])))
}

/// A request with MACs, good where it is handed in; see [`LIAR`] for where else.
pub(crate) fn with_macs(client: u64, number: u64) -> Request {
    request(client, number, RequestAuth::Macs(Authenticator::default()))
}

fn request(client: u64, number: u64, auth: RequestAuth) -> Request {
    Request {
        client: ClientId(client),
        number: RequestNumber(number),
        kind: RequestKind::Service,
        operation: vec![1, 2, 3],
        epoch: Epoch(0),
        answers: Answers::All,
        auth,
        is_authentic: true,
    }
}

/// What stands for the signature of a replica.
pub(crate) fn proof_of(signer: ReplicaId) -> Proof {
    Proof(signer.0.to_le_bytes().to_vec())
}

/// The digest of the state after these decisions: any injective function will do.
fn state(decisions: &[Decision]) -> Digest {
    let digests: Vec<_> = decisions.iter().map(|decision| decision.digest).collect();
    althing_crypto::hash("test state", &althing_types::encode(&digests))
}

/// The last request of each client among these decisions.
fn last_requests(decisions: &[Decision]) -> Vec<(ClientId, RequestNumber)> {
    let requests = decisions.iter().flat_map(|decision| &decision.batch.requests);
    let last: BTreeMap<_, _> = requests.map(|request| (request.client, request.number)).collect();
    last.into_iter().collect()
}

/// The same instance, decoded.
fn restored(pbft: &Pbft) -> Pbft {
    let mut restored: Pbft = decode(&encode(pbft), usize::MAX).expect("it encodes itself");
    restored.vouch();
    restored
}

/// Where an instance ended, with what state, and who has signed that.
type Closed = (Seq, Digest, Vec<(ReplicaId, Proof)>);

/// One replica with the little that it needs around it.
pub(crate) struct Node {
    pub(crate) pbft: Pbft,
    pub(crate) decisions: Vec<Decision>,
    /// What it has executed tentatively.
    pub(crate) tentative: Option<Decision>,
    /// Its disk.
    pub(crate) records: Vec<Vec<u8>>,
    pub(crate) timers: BTreeMap<TimerId, Instant>,
    /// The state transfer that it asked for last.
    pub(crate) fetching: Option<(Seq, Digest)>,
    /// The state that it wants to execute on, as a witness.
    pub(crate) standing_in: Option<(Seq, Digest)>,
    /// What it has accused others of.
    pub(crate) evidence: Vec<Evidence>,
    /// How its instance ended.
    pub(crate) closed: Option<Closed>,
}

impl Node {
    fn new(pbft: Pbft) -> Self {
        Self {
            pbft,
            decisions: vec![],
            tentative: None,
            records: vec![],
            timers: BTreeMap::new(),
            fetching: None,
            standing_in: None,
            evidence: vec![],
            closed: None,
        }
    }

    /// Executes what was decided, and says so.
    pub(crate) fn execute(&mut self, decision: Decision) -> Event<PbftMessage> {
        assert_eq!(decision.seq.0 as usize, self.decisions.len() + 1, "executed out of order");
        let (seq, is_checkpoint) = (decision.seq, decision.is_checkpoint);
        self.tentative = None;
        self.decisions.push(decision);
        // A witness has none.
        let has_state = is_checkpoint && !self.pbft.is_witness();
        let state = has_state.then(|| state(&self.decisions));
        Event::Executed { seq, state }
    }
}

/// A message under way.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) from: ReplicaId,
    pub(crate) to: ReplicaId,
    pub(crate) message: PbftMessage,
    pub(crate) proof: Option<Proof>,
}

pub(crate) fn is_checkpoint(wire: &Wire) -> bool {
    matches!(wire.message, PbftMessage::Checkpoint(_))
}

/// A group whose messages are delivered in the order in which they were sent, unless a test loses
/// them. Every run is bounded by [`PATIENCE`].
pub(crate) struct Group {
    pub(crate) nodes: Vec<Node>,
    /// The messages under way.
    pub(crate) wires: VecDeque<Wire>,
    /// All messages ever sent to others.
    pub(crate) history: Vec<Wire>,
    /// Replicas that nothing reaches and that do nothing.
    pub(crate) down: Vec<ReplicaId>,
    /// Replicas whose disks have not written any state yet.
    pub(crate) unkept: Vec<ReplicaId>,
    /// Which messages the network loses, until this is set otherwise.
    pub(crate) loses: fn(&Wire) -> bool,
    pub(crate) now: Instant,
    /// Whether each replica goes on from its own encoding after each event, as a logical machine's may have to.
    pub(crate) is_restored: bool,
    settings: PbftSettings,
}

impl Group {
    /// A new group, with [`settings`].
    pub(crate) fn new(n: usize) -> Self {
        Self::with(n, settings())
    }

    /// A new group.
    pub(crate) fn with(n: usize, settings: PbftSettings) -> Self {
        let node = |i| Node::new(pbft(i, n, &settings));
        let mut group = Self {
            nodes: (0..n).map(node).collect(),
            wires: VecDeque::new(),
            history: vec![],
            down: vec![],
            unkept: vec![],
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
    pub(crate) fn event(&mut self, i: usize, event: Event<PbftMessage>) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut actions = vec![];
            let restored = self.is_restored.then(|| restored(&self.nodes[i].pbft));
            self.nodes[i].pbft.handle(self.now, event.clone(), &mut actions);
            if let Some(mut restored) = restored {
                let mut same = vec![];
                restored.handle(self.now, event, &mut same);
                assert_eq!(format!("{same:?}"), format!("{actions:?}"));
                assert_eq!(encode(&restored), encode(&self.nodes[i].pbft));
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

    fn act(&mut self, i: usize, action: Action<PbftMessage>) -> Option<Event<PbftMessage>> {
        let node = &mut self.nodes[i];
        match action {
            Action::Send { to, message, auth } => self.send(replica(i), to, message, auth),
            Action::Piggyback(message) => self.broadcast(replica(i), &message, Auth::Mac),
            Action::Broadcast { message, auth } => self.broadcast(replica(i), &message, auth),
            Action::SetTimer { id, after } => drop(node.timers.insert(id, self.now + after)),
            Action::CancelTimer(id) => drop(node.timers.remove(&id)),
            Action::Persist { id, record } => {
                node.records.push(record);
                return Some(Event::Persisted(id));
            }
            Action::KeepState { .. } if self.unkept.contains(&replica(i)) => {}
            Action::KeepState { seq, .. } => return Some(Event::StateKept(seq)),
            Action::Compact(records) => node.records = records,
            Action::Execute(decision) => return Some(node.execute(decision)),
            Action::ExecuteTentatively(decision) => {
                assert_eq!(decision.seq.0 as usize, node.decisions.len() + 1, "executed out of order");
                assert!(node.tentative.replace(decision).is_none(), "one at a time");
            }
            Action::Rollback => assert!(node.tentative.take().is_some(), "there is nothing to take back"),
            Action::Speculate { .. } | Action::Certified(_) => panic!("PBFT does not speculate"),
            Action::FetchState { seq, state } => node.fetching = Some((seq, state)),
            Action::StandIn { seq, state } => node.standing_in = Some((seq, state)),
            Action::Evidence(evidence) => node.evidence.push(evidence),
            Action::Stable { .. } | Action::EnteredView(_) | Action::LeftView(_) => {}
            Action::Closed { seq, state, votes } => node.closed = Some((seq, state, votes)),
            Action::Late(_) | Action::MustSign { .. } => {}
        }
        None
    }

    fn send(&mut self, from: ReplicaId, to: ReplicaId, message: PbftMessage, auth: Auth) {
        let proof = (auth == Auth::Transferable).then(|| proof_of(from));
        let wire = Wire { from, to, message, proof };
        if from != to {
            self.history.push(wire.clone());
        }
        self.wires.push_back(wire);
    }

    fn broadcast(&mut self, from: ReplicaId, message: &PbftMessage, auth: Auth) {
        for to in (0..self.nodes.len()).map(replica) {
            if to != from || auth == Auth::Transferable {
                self.send(from, to, message.clone(), auth);
            }
        }
    }

    /// Hands replica `i` a message that the test made up, as if `from` had sent it.
    pub(crate) fn receive(&mut self, i: usize, from: ReplicaId, message: PbftMessage) {
        let is_signed = matches!(
            message,
            PbftMessage::Checkpoint(_) | PbftMessage::ViewChange(_) | PbftMessage::NewView(_)
        );
        let proof = is_signed.then(|| proof_of(from));
        self.event(i, Event::Message { from, message, proof, key: 0 });
    }

    /// Delivers messages until none is left, except those that `drops` says. What a replica sends to
    /// itself always arrives.
    pub(crate) fn deliver(&mut self, mut drops: impl FnMut(&Wire) -> bool) {
        while let Some(wire) = self.wires.pop_front() {
            if wire.from == wire.to || !drops(&wire) {
                self.arrive(wire);
            }
        }
    }

    /// Replicas 0 to 2 execute the four requests of client 1 up to a checkpoint, and none of them hears
    /// of another's. Gives back the certificate that a faulty one may have gathered all the same.
    pub(crate) fn certify_unheard(&mut self) -> CheckpointCertificate {
        self.down = vec![R[3]];
        let mut made = None;
        for number in 1..=4 {
            self.submit(&signed(1, number));
            self.deliver(|wire| {
                if let PbftMessage::Checkpoint(checkpoint) = &wire.message {
                    made = Some(*checkpoint);
                }
                is_checkpoint(wire)
            });
        }
        let votes = [0, 1, 2].map(|i| (R[i], proof_of(R[i]))).to_vec();
        CheckpointCertificate { checkpoint: made.expect("one was made"), votes }
    }

    /// Delivers messages up to the first one that `stop` says, which stays under way.
    pub(crate) fn deliver_until(&mut self, stop: impl Fn(&Wire) -> bool) {
        while let Some(wire) = self.wires.pop_front() {
            if stop(&wire) {
                return self.wires.push_front(wire);
            }
            self.arrive(wire);
        }
        panic!("no such message was sent");
    }

    fn arrive(&mut self, mut wire: Wire) {
        let is_down = self.down.contains(&wire.from) || self.down.contains(&wire.to);
        if is_down || (wire.from != wire.to && (self.loses)(&wire)) {
            return;
        }
        for request in wire.message.requests_mut() {
            if matches!(request.auth, RequestAuth::Macs(_)) && request.client.0 >= LIAR {
                request.is_authentic = request.client.0 - LIAR == u64::from(wire.to.0);
            }
        }
        let Wire { from, to, message, proof } = wire;
        self.event(to.0.into(), Event::Message { from, message, proof, key: 0 });
    }

    /// Delivers all messages.
    pub(crate) fn settle(&mut self) {
        self.deliver(|_| false);
    }

    /// Loses all messages that are under way, and those that follow from what replicas sent to themselves.
    pub(crate) fn lose(&mut self) {
        self.deliver(|_| true);
    }

    /// Loses all messages under way except the view change sent to `to`, which it returns.
    pub(crate) fn intercept_view_change(&mut self, to: ReplicaId) -> Signed<ViewChange> {
        let mut found = None;
        self.deliver(|wire| {
            if let (PbftMessage::ViewChange(content), Some(proof)) = (&wire.message, &wire.proof)
                && wire.to == to
            {
                found = Some(Signed { signer: wire.from, content: content.clone(), proof: proof.clone() });
            }
            true
        });
        found.expect("a view change was sent")
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

    /// Moves to when the next timer expires, and lets all that are due then expire; says whether there
    /// was one by `end`. The timers of replicas that are down wait.
    fn fire_next(&mut self, end: Instant) -> bool {
        let is_up = |i: &usize| !self.down.contains(&replica(*i));
        let up: Vec<_> = (0..self.nodes.len()).filter(is_up).collect();
        let next = up.iter().flat_map(|i| self.nodes[*i].timers.values()).min().copied();
        let Some(next) = next.filter(|next| *next <= end) else { return false };
        self.now = self.now.max(next);
        for i in up {
            let ids: Vec<_> = self.nodes[i].timers.keys().copied().collect();
            for id in ids {
                // One that expired before may have cancelled this one or set it anew.
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
        let one = |node: &Node| {
            let (pbft, fetching) = (&node.pbft, node.fetching.map(|(seq, _)| seq));
            let (view, in_view, votes) = (pbft.view(), pbft.is_in_view(), pbft.is_voting());
            let (stable, executed) = (pbft.stable(), pbft.executed());
            format!(
                "{view} started {in_view}, votes {votes}, stable {stable}, executed {executed}, fetches {fetching:?}"
            )
        };
        self.nodes.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    /// A client sends its request to all replicas that are up.
    pub(crate) fn submit(&mut self, request: &Request) {
        for i in 0..self.nodes.len() {
            if !self.down.contains(&replica(i)) {
                self.event(i, Event::Request(request.clone()));
            }
        }
    }

    /// The requests that replica `i` executed, as clients and numbers.
    pub(crate) fn executed(&self, i: usize) -> Vec<(u64, u64)> {
        let requests = self.nodes[i].decisions.iter().flat_map(|decision| &decision.batch.requests);
        requests.map(|request| (request.client.0, request.number.0)).collect()
    }

    /// The messages that `from` has sent to others and of which `select` makes something.
    pub(crate) fn sent<T>(&self, from: ReplicaId, select: impl Fn(&Wire) -> Option<T>) -> Vec<T> {
        self.history.iter().filter(|wire| wire.from == from).filter_map(select).collect()
    }

    /// Replica `i` loses its memory and starts from its disk, with its state at the stable checkpoint.
    pub(crate) fn restart(&mut self, i: usize) {
        self.restart_as(i, false);
    }

    /// The same, as a replica that recovers: its disk may be somebody else's work.
    pub(crate) fn restart_in_doubt(&mut self, i: usize) {
        self.restart_as(i, true);
    }

    fn restart_as(&mut self, i: usize, is_doubtful: bool) {
        let node = &self.nodes[i];
        let (stable, records) = (node.pbft.stable(), node.records.clone());
        let executed = last_requests(&node.decisions[..stable.0 as usize]);
        let (is_closed, has_forgotten) = (false, false);
        self.start(
            i,
            stable,
            Start::Recovered { stable, executed, records, is_closed, has_forgotten, is_doubtful },
        );
    }

    /// Replica `i` loses its memory, its disk and its state.
    pub(crate) fn restart_without_disk(&mut self, i: usize) {
        self.nodes[i].records.clear();
        self.start(i, Seq(0), Start::Amnesia);
    }

    /// Replica `i`'s instance has ended: its successor takes over, in a group of `n`.
    pub(crate) fn succeed(&mut self, i: usize, n: usize) {
        let node = &mut self.nodes[i];
        let (seq, state, _) = node.closed.take().expect("its instance has ended");
        let quorums = Quorums::byzantine(n, (n - 1) / 3).expect("n = 3f + 1 or more");
        let settings = althing_protocol::Settings::Pbft(self.settings.clone());
        let successor = node.pbft.successor(replica(i), quorums, &settings, Some((seq, state)));
        node.pbft = successor.expect("good settings");
        node.timers.clear();
        node.records.clear();
        self.wires.retain(|wire| wire.from != replica(i));
        self.event(i, Event::Start(Start::Handover { executed: seq, has_state: true }));
    }

    /// A replica that has nothing joins the `n - 1` others, which have started from `start`.
    pub(crate) fn join(&mut self, start: (Seq, Digest), n: usize) {
        let i = self.nodes.len();
        let quorums = Quorums::byzantine(n, (n - 1) / 3).expect("n = 3f + 1 or more");
        let template = pbft(0, i, &self.settings);
        let settings = althing_protocol::Settings::Pbft(self.settings.clone());
        let successor = template.successor(replica(i), quorums, &settings, Some(start));
        let successor = successor.expect("good settings");
        self.nodes.push(Node::new(successor));
        self.event(i, Event::Start(Start::Handover { executed: Seq(0), has_state: false }));
    }

    fn start(&mut self, i: usize, stable: Seq, start: Start) {
        let n = self.nodes.len();
        let node = &mut self.nodes[i];
        node.pbft = pbft(i, n, &self.settings);
        node.timers.clear();
        node.fetching = None;
        node.tentative = None;
        node.decisions.truncate(stable.0 as usize);
        self.wires.retain(|wire| wire.from != wire.to || wire.to != replica(i));
        self.event(i, Event::Start(start));
    }

    /// Carries out the state transfer that replica `i` asked for, from replica `from`.
    pub(crate) fn transfer(&mut self, i: usize, from: usize) {
        let (seq, wanted) = self.nodes[i].fetching.take().expect("a transfer was asked for");
        let decisions = self.nodes[from].decisions[..seq.0 as usize].to_vec();
        assert_eq!(state(&decisions), wanted);
        let executed = last_requests(&decisions);
        self.nodes[i].decisions = decisions;
        self.nodes[i].tentative = None;
        self.event(i, Event::StateInstalled { seq, executed });
    }

    /// Restarts replica `i` without its disk and runs on, with replica `from` supplying state, until it
    /// votes again. No client has to come along for that.
    pub(crate) fn recover(&mut self, i: usize, from: usize) {
        self.restart_without_disk(i);
        assert!(!self.nodes[i].pbft.is_voting());
        self.run_with_transfers(i, from, |group| group.nodes[i].pbft.is_voting());
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

fn replica(i: usize) -> ReplicaId {
    ReplicaId(u16::try_from(i).expect("a small group"))
}

fn pbft(i: usize, n: usize, settings: &PbftSettings) -> Pbft {
    let quorums = Quorums::byzantine(n, (n - 1) / 3).expect("enough replicas");
    Pbft::new(PbftConfig::new(replica(i), quorums, settings.clone()).expect("good settings"))
}
