//! The harness: replicas, the wires between them, their timers and disks, all under the test's hand.

use crate::node::Node;
use crate::oracle::Oracle;
use crate::requests::{GREAT_LIAR, LIAR, signed};
use althing_crypto::Proof;
use althing_protocol::zyzzyva::{Composition, Zyzzyva, ZyzzyvaConfig, ZyzzyvaMessage, ZyzzyvaSettings};
use althing_protocol::{
    CommitCertificate, Decision, Event, Message, Request, RequestAuth, Speculation, Start, TimerId,
};
use althing_types::{ClientId, Instant, Quorums, ReplicaId, RequestNumber, View};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// The replicas of a group of four.
pub(crate) const R: [ReplicaId; 4] = [ReplicaId(0), ReplicaId(1), ReplicaId(2), ReplicaId(3)];

/// The timer that ends a view.
pub(crate) const VIEW_TIMER: TimerId = TimerId(0);

/// What does not happen within this time does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// Small numbers, so that few messages reach the limits. A batch holds one request.
pub(crate) fn settings() -> ZyzzyvaSettings {
    ZyzzyvaSettings { checkpoint_period: 4, log_size: 8, max_batch_requests: 1, ..ZyzzyvaSettings::default() }
}

/// The same, where these protocols take turns, often.
pub(crate) fn composed(composition: Composition) -> ZyzzyvaSettings {
    ZyzzyvaSettings { composition, backup_requests: 3, ..settings() }
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
    pub(crate) configs: Vec<ZyzzyvaConfig>,
    /// How many replicas there are: nodes beyond play the part of replica 0 too.
    pub(crate) n: usize,
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
