//! The harness: replicas, the wires between them, their timers and disks, all under the test's hand.

use crate::oracle::{Oracle, Order};
use althing_crypto::{Authenticator, Proof};
use althing_protocol::zyzzyva::{Composition, Zyzzyva, ZyzzyvaConfig, ZyzzyvaMessage, ZyzzyvaSettings};
use althing_protocol::{
    Action, Answers, Auth, CommitCertificate, Decision, Event, Evidence, Message, PersistId, Protocol,
    Replicable, Request, RequestAuth, RequestKind, Share, Speculation, Start, TimerId,
};
use althing_types::{
    ClientId, Digest, Epoch, Instant, Quorums, ReplicaId, RequestNumber, Seq, View, decode, encode,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// The replicas of a group of four.
pub(crate) const R: [ReplicaId; 4] = [ReplicaId(0), ReplicaId(1), ReplicaId(2), ReplicaId(3)];

/// The timer that ends a view.
pub(crate) const VIEW_TIMER: TimerId = TimerId(0);

/// The MACs of client `LIAR + i` are bad at replica `i` only.
pub(crate) const LIAR: u64 = 10;

/// The MACs of client `GREAT_LIAR + i` are good at replica `i` only.
pub(crate) const GREAT_LIAR: u64 = 20;

/// Where a request of this client is final, the instance is closed.
pub(crate) const CLOSER: u64 = 99;

/// What does not happen within this time does not happen.
const PATIENCE: Duration = Duration::from_secs(600);

/// Small numbers, so that few messages reach the limits. A batch holds one request.
pub(crate) fn settings() -> ZyzzyvaSettings {
    ZyzzyvaSettings { checkpoint_period: 4, log_size: 8, max_batch_requests: 1, ..ZyzzyvaSettings::default() }
}

/// The same, where these protocols take turns, often.
pub(crate) fn composed(composition: Composition) -> ZyzzyvaSettings {
    ZyzzyvaSettings { composition, backup_requests: 3, ..settings() }
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

/// A request with MACs, good where it is handed in; see [`LIAR`] and [`GREAT_LIAR`] for where else.
pub(crate) fn with_macs(client: u64, number: u64) -> Request {
    Request { auth: RequestAuth::Macs(Authenticator::default()), ..signed(client, number) }
}

/// What stands for the signature of a replica.
pub(crate) fn proof_of(signer: ReplicaId) -> Proof {
    Proof(signer.0.to_le_bytes().to_vec())
}

/// A certificate that these have signed.
pub(crate) fn certificate(speculation: Speculation, signers: &[ReplicaId]) -> CommitCertificate {
    let votes = signers.iter().map(|signer| (*signer, proof_of(*signer))).collect();
    CommitCertificate { speculation, votes }
}

/// The digest of the state after these decisions: any injective function will do.
fn state(decisions: &[Decision]) -> Digest {
    let digests: Vec<_> = decisions.iter().map(|decision| decision.digest).collect();
    althing_crypto::hash("test state", &encode(&digests))
}

/// The last request of each client among these decisions.
fn last_requests(decisions: &[Decision]) -> Vec<(ClientId, RequestNumber)> {
    let requests = decisions.iter().flat_map(|decision| &decision.batch.requests);
    let last: BTreeMap<_, _> = requests.map(|request| (request.client, request.number)).collect();
    last.into_iter().collect()
}

/// The same instance, decoded.
fn restored(zyzzyva: &Zyzzyva) -> Zyzzyva {
    let mut restored: Zyzzyva = decode(&encode(zyzzyva), usize::MAX).expect("it encodes itself");
    restored.vouch();
    restored
}

/// Where an instance ended, with what state, and who has signed that.
type Closed = (Seq, Digest, Vec<(ReplicaId, Proof)>);

/// One replica with the little that it needs around it.
pub(crate) struct Node {
    pub(crate) zyzzyva: Zyzzyva,
    /// What is final.
    pub(crate) decisions: Vec<Decision>,
    /// What it has executed beyond that.
    pub(crate) speculative: Vec<Decision>,
    /// What it has told clients of that, and of what became final since it entered its view.
    pub(crate) told: BTreeMap<Seq, Speculation>,
    /// What it has taken back last.
    former: Vec<Decision>,
    /// What it last said to hold a certificate for.
    pub(crate) certified: Option<Speculation>,
    /// What its instance goes on from.
    start: Option<(Seq, Digest)>,
    /// Its disk.
    pub(crate) records: Vec<Vec<u8>>,
    /// Records that are not on it yet.
    pub(crate) unsynced: VecDeque<(PersistId, Option<Vec<u8>>)>,
    pub(crate) timers: BTreeMap<TimerId, Instant>,
    /// The state transfer that it asked for last.
    pub(crate) fetching: Option<(Seq, Digest)>,
    /// What it has accused others of.
    pub(crate) evidence: Vec<Evidence>,
    /// Whom it has told to sign.
    pub(crate) told_to_sign: Vec<ClientId>,
    /// How its instance ended.
    pub(crate) closed: Option<Closed>,
}

impl Node {
    fn new(zyzzyva: Zyzzyva) -> Self {
        Self {
            zyzzyva,
            decisions: vec![],
            speculative: vec![],
            told: BTreeMap::new(),
            former: vec![],
            certified: None,
            start: None,
            records: vec![],
            unsynced: VecDeque::new(),
            timers: BTreeMap::new(),
            fetching: None,
            evidence: vec![],
            told_to_sign: vec![],
            closed: None,
        }
    }

    /// All that it has executed.
    pub(crate) fn order(&self) -> Order {
        self.decisions.iter().chain(&self.speculative).map(|decision| decision.digest).collect()
    }

    fn final_order(&self) -> Order {
        self.decisions.iter().map(|decision| decision.digest).collect()
    }

    fn execute(&mut self, decision: Decision) -> Event<ZyzzyvaMessage> {
        assert_eq!(decision.seq.0 as usize, self.decisions.len() + 1, "executed out of order");
        if let Some(first) = self.speculative.first() {
            assert_eq!((first.seq, first.digest), (decision.seq, decision.digest), "not what was speculated");
            self.speculative.remove(0);
        }
        let (seq, is_checkpoint) = (decision.seq, decision.is_checkpoint);
        self.decisions.push(decision);
        let state = is_checkpoint.then(|| state(&self.decisions));
        Event::Executed { seq, state }
    }
}

/// A message under way.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) from: ReplicaId,
    pub(crate) to: ReplicaId,
    /// The nodes that play these parts.
    pub(crate) nodes: (usize, usize),
    pub(crate) message: ZyzzyvaMessage,
    pub(crate) proof: Option<Proof>,
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
    /// Replicas whose disks sync only when they are told to.
    pub(crate) stuck: Vec<ReplicaId>,
    /// Whether no state gets to a disk.
    pub(crate) keeps_for_ever: bool,
    /// Which messages the network loses, until this is set otherwise.
    pub(crate) loses: fn(&Wire) -> bool,
    pub(crate) now: Instant,
    /// How many batches were taken back and not executed again in their place, so far.
    pub(crate) taken_back: usize,
    /// Whether each replica goes on from its own encoding after each event, as a logical machine's may have to.
    pub(crate) is_restored: bool,
    pub(crate) oracle: Oracle,
    configs: Vec<ZyzzyvaConfig>,
    /// How many replicas there are: nodes beyond play the part of replica 0 too.
    n: usize,
}

impl Group {
    /// A new group, with [`settings`].
    pub(crate) fn new(n: usize) -> Self {
        Self::with(n, settings())
    }

    /// A new group.
    pub(crate) fn with(n: usize, settings: ZyzzyvaSettings) -> Self {
        let configs = (0..n).map(|i| config(i, n, &settings)).collect();
        Self::of(configs, &[])
    }

    /// A new group in which these protocols take turns.
    pub(crate) fn composed(n: usize, composition: Composition) -> Self {
        Self::with(n, composed(composition))
    }

    /// A new group whose replica 0 is the test's to make lie.
    pub(crate) fn with_a_liar(n: usize, settings: &ZyzzyvaSettings) -> Self {
        let configs = (0..n).map(|i| config(i, n, settings)).collect();
        let mut group = Self::of(configs, &[R[0]]);
        group.down.clear();
        group
    }

    /// A new group whose replica 0 is two, with one name, one key and two minds.
    pub(crate) fn with_twins(n: usize, settings: &ZyzzyvaSettings) -> Self {
        let configs = (0..n).chain([0]).map(|i| config(i, n, settings)).collect();
        let mut group = Self::of_size(n, configs, &[R[0]]);
        group.down.clear();
        group
    }

    /// A new group of which these may be anything.
    pub(crate) fn of(configs: Vec<ZyzzyvaConfig>, faulty: &[ReplicaId]) -> Self {
        Self::of_size(configs.len(), configs, faulty)
    }

    fn of_size(n: usize, configs: Vec<ZyzzyvaConfig>, faulty: &[ReplicaId]) -> Self {
        let quorums = Quorums::byzantine(n, (n - 1) / 3).expect("enough replicas");
        let composition = configs[0].composition();
        let mut group = Self {
            nodes: configs.iter().map(|config| Node::new(Zyzzyva::new(config.clone()))).collect(),
            wires: VecDeque::new(),
            history: vec![],
            down: faulty.to_vec(),
            stuck: vec![],
            keeps_for_ever: false,
            loses: |_| false,
            now: Instant(1_000_000_000),
            taken_back: 0,
            is_restored: false,
            oracle: Oracle::new(quorums, composition, faulty),
            configs,
            n,
        };
        for i in 0..group.nodes.len() {
            group.event(i, Event::Start(Start::Genesis));
        }
        group
    }

    /// Hands an event to replica `i` and carries out what follows.
    pub(crate) fn event(&mut self, i: usize, event: Event<ZyzzyvaMessage>) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut actions = vec![];
            let restored = self.is_restored.then(|| restored(&self.nodes[i].zyzzyva));
            self.nodes[i].zyzzyva.handle(self.now, event.clone(), &mut actions);
            if let Some(mut restored) = restored {
                let mut same = vec![];
                restored.handle(self.now, event, &mut same);
                assert_eq!(format!("{same:?}"), format!("{actions:?}"));
                assert_eq!(encode(&restored), encode(&self.nodes[i].zyzzyva));
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

    fn act(&mut self, i: usize, action: Action<ZyzzyvaMessage>) -> Option<Event<ZyzzyvaMessage>> {
        let node = &mut self.nodes[i];
        match action {
            Action::Send { to, message, auth } => self.send_to(i, to, message, auth),
            Action::Broadcast { message, auth } => self.broadcast(i, &message, auth),
            Action::SetTimer { id, after } => drop(node.timers.insert(id, self.now + after)),
            Action::CancelTimer(id) => drop(node.timers.remove(&id)),
            Action::Persist { id, record } if self.stuck.contains(&replica(i)) => {
                node.unsynced.push_back((id, Some(record)));
            }
            Action::Persist { id, record } => {
                node.records.push(record);
                return Some(Event::Persisted(id));
            }
            Action::KeepState { seq, state: kept } => {
                assert_eq!(kept, state(&node.decisions[..seq.0 as usize]));
                return (!self.keeps_for_ever).then_some(Event::StateKept(seq));
            }
            Action::Compact(records) => {
                node.records = records;
                node.unsynced.iter_mut().for_each(|(_, record)| *record = None);
            }
            Action::Execute(decision) => {
                let event = node.execute(decision);
                self.oracle.on_final(self.id(i), &self.nodes[i].final_order());
                return Some(event);
            }
            Action::Speculate { decision, history, share } => self.speculate(i, decision, history, share),
            Action::Certified(speculation) => {
                node.certified = Some(speculation);
                self.note_certified(i);
            }
            Action::Rollback => {
                assert!(!node.speculative.is_empty(), "there is nothing to take back");
                node.former = core::mem::take(&mut node.speculative);
            }
            Action::FetchState { seq, state } => node.fetching = Some((seq, state)),
            Action::Stable { seq, .. } => drop(node.fetching.take_if(|(fetching, _)| *fetching <= seq)),
            Action::Closed { seq, state, votes } => node.closed = Some((seq, state, votes)),
            Action::Evidence(evidence) => node.evidence.push(evidence),
            Action::MustSign { client, .. } => node.told_to_sign.push(client),
            Action::EnteredView(_) | Action::LeftView(_) => node.told.clear(),
            other => panic!("a Zyzzyva replica wants {other:?}"),
        }
        None
    }

    fn speculate(&mut self, i: usize, decision: Decision, history: Digest, share: Option<Share>) {
        let node = &mut self.nodes[i];
        assert_eq!(decision.seq.0 as usize, node.order().len() + 1, "speculated out of order");
        let last = node.speculative.last();
        assert!(!last.is_some_and(|last| last.is_checkpoint), "beyond a checkpoint that is not final");
        let told = Speculation { view: decision.view, seq: decision.seq, history };
        node.told.insert(told.seq, told);
        let former = node.former.iter().find(|former| former.seq == decision.seq);
        self.taken_back += usize::from(former.is_some_and(|former| former.digest != decision.digest));
        node.speculative.push(decision);
        if share != Some(Share::Nothing) {
            self.oracle.on_speculated(self.id(i), told.view, self.nodes[i].order());
        }
        self.note_certified(i);
    }

    /// What replica `i` holds a certificate for is all that it has executed up to there, once it has.
    fn note_certified(&mut self, i: usize) {
        let node = &self.nodes[i];
        let Some(certified) = node.certified.filter(|certified| certified.view == node.zyzzyva.view()) else {
            return;
        };
        if let Some(order) = node.order().get(..certified.seq.0 as usize) {
            self.oracle.on_certified(self.id(i), certified.view, order.to_vec());
        }
    }

    /// Whose part node `i` plays.
    fn id(&self, i: usize) -> ReplicaId {
        if i < self.n { replica(i) } else { R[0] }
    }

    /// Two nodes that play one part don't hear of each other.
    fn send_to(&mut self, from: usize, to: ReplicaId, message: ZyzzyvaMessage, auth: Auth) {
        let sender = self.id(from);
        let proof = (auth == Auth::Transferable).then(|| proof_of(sender));
        let playing = |i: &usize| self.id(*i) == to && (to != sender || *i == from);
        for node in (0..self.nodes.len()).filter(playing).collect::<Vec<_>>() {
            let (message, proof) = (message.clone(), proof.clone());
            let wire = Wire { from: sender, to, nodes: (from, node), message, proof };
            if sender != to {
                self.history.push(wire.clone());
            }
            self.wires.push_back(wire);
        }
    }

    fn broadcast(&mut self, from: usize, message: &ZyzzyvaMessage, auth: Auth) {
        for to in (0..self.n).map(replica) {
            if to != self.id(from) || auth == Auth::Transferable {
                self.send_to(from, to, message.clone(), auth);
            }
        }
    }

    /// Hands replica `i` a message that the test made up, as if `from` had sent it.
    pub(crate) fn receive(&mut self, i: usize, from: ReplicaId, message: ZyzzyvaMessage) {
        use ZyzzyvaMessage as M;
        let is_signed =
            matches!(message, M::Speculated(_) | M::Checkpoint(_) | M::ViewChange(_) | M::NewView(_));
        let proof = is_signed.then(|| proof_of(from));
        self.event(i, Event::Message { from, message, proof, key: 0 });
    }

    /// The same, signed.
    pub(crate) fn receive_signed(&mut self, i: usize, from: ReplicaId, message: ZyzzyvaMessage) {
        self.event(i, Event::Message { from, message, proof: Some(proof_of(from)), key: 0 });
    }

    /// A client shows replica `i` a certificate.
    pub(crate) fn show(&mut self, i: usize, shown: &CommitCertificate) {
        self.event(i, Event::Certificate(shown.clone()));
    }

    /// What an agreement quorum has told clients alike, as a certificate: the longest.
    pub(crate) fn certificate_of_clients(&self) -> Option<CommitCertificate> {
        let mut signers: BTreeMap<Speculation, BTreeSet<ReplicaId>> = BTreeMap::new();
        for (i, node) in self.nodes.iter().enumerate() {
            for told in node.told.values() {
                signers.entry(*told).or_default().insert(self.id(i));
            }
        }
        let enough = Quorums::byzantine(self.n, (self.n - 1) / 3).unwrap().agreement();
        let complete = signers.into_iter().filter(|(_, signers)| signers.len() >= enough);
        complete.max().map(|(told, signers)| certificate(told, &signers.into_iter().collect::<Vec<_>>()))
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

    pub(crate) fn arrive(&mut self, mut wire: Wire) {
        let is_down = self.down.contains(&wire.from) || self.down.contains(&wire.to);
        if is_down || (wire.from != wire.to && (self.loses)(&wire)) {
            return;
        }
        for request in wire.message.requests_mut() {
            let (client, to) = (request.client.0, u64::from(wire.to.0));
            if matches!(request.auth, RequestAuth::Macs(_)) && client >= LIAR {
                request.is_authentic =
                    if client >= GREAT_LIAR { client - GREAT_LIAR == to } else { client - LIAR != to };
            }
        }
        let Wire { from, nodes: (_, to), message, proof, .. } = wire;
        self.event(to, Event::Message { from, message, proof, key: 0 });
    }

    /// Delivers all messages.
    pub(crate) fn settle(&mut self) {
        self.deliver(|_| false);
    }

    /// Loses all messages that are under way, and those that follow from what replicas sent to themselves.
    pub(crate) fn lose(&mut self) {
        self.deliver(|_| true);
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
    pub(crate) fn fire_next(&mut self, end: Instant) -> bool {
        let up: Vec<_> = self.up().collect();
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

    /// The replicas that are not down.
    pub(crate) fn up(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|i| !self.down.contains(&self.id(*i)))
    }

    /// Lets the view timer of replica `i`, which must be running, expire now.
    pub(crate) fn give_up(&mut self, i: usize) {
        assert!(self.nodes[i].timers.remove(&VIEW_TIMER).is_some(), "replica {i} guards nothing");
        self.event(i, Event::Timer(VIEW_TIMER));
    }

    /// Replica `i` is about to stop.
    pub(crate) fn hand_over(&mut self, i: usize) {
        self.event(i, Event::HandOver);
    }

    pub(crate) fn describe(&self) -> String {
        let one = |node: &Node| {
            let (zyzzyva, fetching) = (&node.zyzzyva, node.fetching.map(|(seq, _)| seq));
            let (view, in_view, stable) = (zyzzyva.view(), zyzzyva.is_in_view(), zyzzyva.stable());
            let (accepted, executed, speculative) =
                (zyzzyva.accepted(), zyzzyva.executed(), node.speculative.len());
            format!(
                "{view} started {in_view}, stable {stable}, executed {executed}, accepted {accepted}, speculated {speculative}, fetches {fetching:?}"
            )
        };
        self.nodes.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    /// A client sends its request to all replicas that are up.
    pub(crate) fn submit(&mut self, request: &Request) {
        for i in self.up().collect::<Vec<_>>() {
            self.event(i, Event::Request(request.clone()));
        }
    }

    /// A client sends its request to these replicas, in this order.
    pub(crate) fn submit_to(&mut self, replicas: &[usize], request: &Request) {
        for i in replicas {
            if !self.down.contains(&self.id(*i)) {
                self.event(*i, Event::Request(request.clone()));
            }
        }
    }

    /// A client asks again for the answer to a request: who has executed it hears of that, and the others of the
    /// request.
    pub(crate) fn ask_again(&mut self, client: u64, number: u64) {
        for i in self.up().collect::<Vec<_>>() {
            let is_done = self.done(i).contains(&(client, number));
            let (client, number) = (ClientId(client), RequestNumber(number));
            self.event(
                i,
                if is_done {
                    Event::AskedAgain { client, number }
                } else {
                    Event::Request(signed(client.0, number.0))
                },
            );
        }
    }

    /// Client 1 has these requests executed, one after the other.
    pub(crate) fn work(&mut self, numbers: core::ops::RangeInclusive<u64>) {
        for number in numbers {
            self.submit(&signed(1, number));
            self.settle();
        }
    }

    /// The requests that are final at replica `i`, as clients and numbers.
    pub(crate) fn executed(&self, i: usize) -> Vec<(u64, u64)> {
        requests(&self.nodes[i].decisions)
    }

    /// The requests that it has executed beyond that.
    pub(crate) fn speculated(&self, i: usize) -> Vec<(u64, u64)> {
        requests(&self.nodes[i].speculative)
    }

    /// The requests that it has executed at all.
    pub(crate) fn done(&self, i: usize) -> Vec<(u64, u64)> {
        [self.executed(i), self.speculated(i)].concat()
    }

    /// Whether all these replicas have executed the same for good, and so much.
    pub(crate) fn have_executed(&self, replicas: &[usize], count: usize) -> bool {
        let first = self.executed(replicas[0]);
        first.len() == count && replicas.iter().all(|i| self.executed(*i) == first)
    }

    /// The views of the replicas that are up, if all of them are in one.
    pub(crate) fn common_view(&self) -> Option<View> {
        let views: BTreeSet<_> = self.up().map(|i| self.nodes[i].zyzzyva.view()).collect();
        let are_in = self.up().all(|i| self.nodes[i].zyzzyva.is_in_view());
        views.first().copied().filter(|_| are_in && views.len() == 1)
    }

    /// Replica `i`'s disk syncs the first record that it was given.
    pub(crate) fn sync_one(&mut self, i: usize) {
        if let Some((id, record)) = self.nodes[i].unsynced.pop_front() {
            self.nodes[i].records.extend(record);
            self.event(i, Event::Persisted(id));
        }
    }

    /// Replica `i`'s disk syncs all that it was given, and from now on at once.
    pub(crate) fn sync(&mut self, i: usize) {
        self.stuck.retain(|id| *id != replica(i));
        while !self.nodes[i].unsynced.is_empty() {
            self.sync_one(i);
        }
    }

    /// Replica `i` loses its memory, and what its disk had not synced, and starts from its disk.
    pub(crate) fn restart(&mut self, i: usize) {
        let node = &self.nodes[i];
        let (stable, records) = (node.zyzzyva.stable(), node.records.clone());
        let executed = last_requests(&node.decisions[..stable.0 as usize]);
        let is_closed = node.closed.as_ref().is_some_and(|(end, ..)| *end == stable);
        let (is_doubtful, has_forgotten) = (false, !node.zyzzyva.is_voting());
        let start = Start::Recovered { stable, executed, records, is_closed, has_forgotten, is_doubtful };
        self.start(i, stable, start);
    }

    /// Replica `i` loses its memory, its disk and its state.
    pub(crate) fn restart_without_disk(&mut self, i: usize) {
        self.nodes[i].records.clear();
        self.start(i, Seq(0), Start::Amnesia);
    }

    /// Replica `i`'s instance has ended: its successor takes over, in a group of `n`.
    pub(crate) fn succeed(&mut self, i: usize, n: usize) {
        let (seq, state, _) = self.nodes[i].closed.take().expect("its instance has ended");
        self.begin(i, n, (seq, state));
        self.nodes[i].records.clear();
        self.event(i, Event::Start(Start::Handover { executed: seq, has_state: true }));
    }

    /// A replica that has nothing joins the `n - 1` others, which have started from `start`.
    pub(crate) fn join(&mut self, start: (Seq, Digest), n: usize) {
        let i = self.nodes.len();
        self.configs.push(config(i, n, &settings()));
        self.nodes.push(Node::new(Zyzzyva::new(self.configs[i].clone())));
        self.begin(i, n, start);
        self.event(i, Event::Start(Start::Handover { executed: Seq(0), has_state: false }));
    }

    fn begin(&mut self, i: usize, n: usize, start: (Seq, Digest)) {
        if self.n != n {
            self.n = n;
            let quorums = Quorums::byzantine(n, (n - 1) / 3).expect("enough replicas");
            self.oracle = Oracle::new(quorums, Composition::Zyzzyva, &[]);
            self.wires.clear();
        }
        self.configs[i] = config(i, n, &settings());
        let node = &mut self.nodes[i];
        node.zyzzyva = node.zyzzyva.succeeded_by(self.configs[i].clone(), Some(start));
        node.start = Some(start);
        node.timers.clear();
        node.told.clear();
        node.certified = None;
        self.wires.retain(|wire| wire.nodes.0 != i);
    }

    fn start(&mut self, i: usize, stable: Seq, start: Start) {
        let node = &mut self.nodes[i];
        let fresh = Zyzzyva::new(self.configs[i].clone());
        node.zyzzyva = match node.start {
            Some(start) => fresh.succeeded_by(self.configs[i].clone(), Some(start)),
            None => fresh,
        };
        node.timers.clear();
        node.unsynced.clear();
        node.told.clear();
        node.fetching = None;
        node.speculative.clear();
        node.decisions.truncate(stable.0 as usize);
        self.wires.retain(|wire| wire.from != wire.to || wire.to != replica(i));
        self.event(i, Event::Start(start));
    }

    /// Carries out the state transfer that replica `i` asked for, if another one has that state.
    pub(crate) fn transfer(&mut self, i: usize) -> bool {
        let Some((seq, wanted)) = self.nodes[i].fetching else { return false };
        let length = seq.0 as usize;
        let has_it = |node: &&Node| node.decisions.get(..length).is_some_and(|own| state(own) == wanted);
        let Some(giver) = self.nodes.iter().find(has_it) else { return false };
        let decisions = giver.decisions[..length].to_vec();
        let executed = last_requests(&decisions);
        let node = &mut self.nodes[i];
        (node.decisions, node.fetching) = (decisions, None);
        node.speculative.clear();
        self.event(i, Event::StateInstalled { seq, executed });
        true
    }

    /// Runs on until `done`, with all getting the states that they ask for.
    pub(crate) fn run_with_transfers(&mut self, done: impl Fn(&Self) -> bool) {
        let end = self.now + PATIENCE;
        loop {
            self.settle();
            if done(self) {
                return;
            }
            let has_moved = self.up().collect::<Vec<_>>().into_iter().any(|i| self.transfer(i));
            assert!(has_moved || self.fire_next(end), "not done after {PATIENCE:?}: {}", self.describe());
        }
    }

    /// Nothing that anybody decided contradicts anything else.
    pub(crate) fn assert_safe(&self) {
        assert!(self.oracle.contradictions.is_empty(), "{:?}", self.oracle.contradictions);
    }
}

fn requests(decisions: &[Decision]) -> Vec<(u64, u64)> {
    let requests = decisions.iter().flat_map(|decision| &decision.batch.requests);
    requests.map(|request| (request.client.0, request.number.0)).collect()
}

pub(crate) fn replica(i: usize) -> ReplicaId {
    ReplicaId(u16::try_from(i).expect("a small group"))
}

pub(crate) fn config(i: usize, n: usize, settings: &ZyzzyvaSettings) -> ZyzzyvaConfig {
    let quorums = Quorums::byzantine(n, (n - 1) / 3).expect("enough replicas");
    ZyzzyvaConfig::new(replica(i), quorums, settings.clone()).expect("good settings")
}
