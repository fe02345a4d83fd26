//! Four PBFT replicas, of which one is the fuzzer's. The other three run the production code over a
//! network that delivers at once, and must agree whatever the fourth says.

use althing_crypto::{Authenticator, Mac, Proof, hash};
use althing_protocol::pbft::{Pbft, PbftConfig, PbftMessage, PbftSettings};
use althing_protocol::{
    Action, Answers, Auth, Decision, Event, Message, Protocol, Request, RequestAuth, RequestKind, Start,
    TimerId,
};
use althing_types::{ClientId, Digest, Epoch, Instant, Quorums, ReplicaId, RequestNumber, Seq, View, encode};
use borsh::BorshDeserialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

const N: u16 = 4;
/// Replicas that have to say the same for a tentative result to be final.
const AGREEMENT: usize = 3;
/// Operations so large go from their clients to all.
const SEPARATE_BYTES: usize = 2;
/// More than what one input can lead to when nothing feeds on itself.
const MAX_DELIVERIES: usize = 20_000;
/// Elements that a replica may hold: a few for each number of the log, replica and client.
const MAX_FOOTPRINT: usize = 2_000;

/// A correct replica and what stands in for its engine, storage and clock.
struct Host {
    replica: Pbft,
    timers: BTreeMap<TimerId, Instant>,
    executed: Seq,
    tentative: Option<Decision>,
    state: Digest,
    states: BTreeMap<Seq, Digest>,
    transfer: Option<(Seq, Digest)>,
}

/// A message on its way.
struct Parcel {
    from: ReplicaId,
    to: ReplicaId,
    message: PbftMessage,
    is_transferable: bool,
}

/// The group, and what has to hold of it.
pub struct Group {
    hostile: ReplicaId,
    now: Instant,
    hosts: BTreeMap<ReplicaId, Host>,
    network: VecDeque<Parcel>,
    /// What correct replicas have signed.
    signed: BTreeSet<(ReplicaId, Vec<u8>)>,
    /// What clients have asked for.
    requests: BTreeSet<Digest>,
    numbers: BTreeMap<ClientId, RequestNumber>,
    decided: BTreeMap<Seq, (Digest, Digest)>,
    /// Who has executed what tentatively.
    tentative: BTreeMap<(View, Seq, Digest), BTreeSet<ReplicaId>>,
    /// What a client may hold to be final.
    promised: BTreeMap<Seq, Digest>,
    /// What correct replicas said, for the fuzzer to say again, and for seeds.
    pub heard: Vec<PbftMessage>,
}

impl Group {
    /// A group in which `hostile` says only what [`Group::step`] is told.
    ///
    /// # Panics
    /// Never: the settings are valid.
    #[must_use]
    pub fn new(hostile: ReplicaId) -> Self {
        let mut group = Self {
            hostile,
            now: Instant(1_000_000_000),
            hosts: BTreeMap::new(),
            network: VecDeque::new(),
            signed: BTreeSet::new(),
            requests: BTreeSet::new(),
            numbers: BTreeMap::new(),
            decided: BTreeMap::new(),
            tentative: BTreeMap::new(),
            promised: BTreeMap::new(),
            heard: Vec::new(),
        };
        let quorums = Quorums::byzantine(usize::from(N), 1).expect("3f + 1");
        for me in quorums.replicas().filter(|me| *me != hostile) {
            let settings = PbftSettings {
                checkpoint_period: 4,
                log_size: 8,
                separate_bytes: SEPARATE_BYTES,
                ..PbftSettings::default()
            };
            let config = PbftConfig::new(me, quorums, settings).expect("valid settings");
            let host = Host {
                replica: Pbft::new(config),
                timers: BTreeMap::new(),
                executed: Seq(0),
                tentative: None,
                state: Digest::NULL,
                states: BTreeMap::new(),
                transfer: None,
            };
            group.hosts.insert(me, host);
            group.handle(me, Event::Start(Start::Genesis));
        }
        group
    }

    /// Reads one step from `input` and carries it out; `None` at the end of what makes sense.
    pub fn step(&mut self, input: &mut &[u8]) -> Option<()> {
        let (kind, argument) = <(u8, u8)>::deserialize(input).ok()?;
        match kind % 6 {
            0 => {
                let message = PbftMessage::deserialize(input).ok()?;
                self.say(argument, message);
            }
            1 => self.request(argument, true),
            2 => self.request(argument, false),
            3 => self.advance(Duration::from_millis(u64::from(argument) * 20)),
            4 => {
                let place = usize::from(argument) % self.heard.len().max(1);
                let message = self.heard.len().checked_sub(1 + place).map(|at| self.heard[at].clone())?;
                self.say(0xff, message);
            }
            _ => {
                let place = usize::from(argument) % self.heard.len().max(1);
                let at = self.heard.len().checked_sub(1 + place)?;
                let message = self.heard[at].contradiction()?;
                self.say(argument, message);
            }
        }
        self.settle();
        Some(())
    }

    /// The hostile replica says something to those in `mask`, if its keys let it.
    fn say(&mut self, mask: u8, message: PbftMessage) {
        let is_forged = message
            .signed_parts()
            .into_iter()
            .any(|part| part.signer != self.hostile && !self.signed.contains(&(part.signer, part.bytes)));
        if is_forged {
            return;
        }
        for to in (0..N).map(ReplicaId).filter(|to| mask & (1 << to.0) != 0) {
            let message = message.clone();
            self.network.push_back(Parcel { from: self.hostile, to, message, is_transferable: true });
        }
    }

    /// A client asks for something new, of the correct replicas in the upper half of `argument`. The operations
    /// of clients 2 and 3 are large, and shown to the others.
    fn request(&mut self, argument: u8, is_signed: bool) {
        let client = ClientId(u64::from(argument & 3));
        let number = self.numbers.entry(client).or_default();
        number.0 += 1;
        let auth = if is_signed {
            RequestAuth::Signed(Proof(vec![1]))
        } else {
            let good = |i: u16| Mac([u8::from((argument >> 2) & (1 << i) != 0); 16]);
            RequestAuth::Macs(Authenticator((0..N).map(good).collect()))
        };
        let bytes = if client.0 < 2 { 1 } else { SEPARATE_BYTES };
        let (operation, answers) = (vec![argument; bytes], Answers::All);
        let request = Request {
            client,
            number: *number,
            kind: RequestKind::Service,
            operation,
            epoch: Epoch(0),
            answers,
            auth,
            is_authentic: true,
        };
        self.requests.insert(request.digest());
        for to in self.hosts.keys().copied().collect::<Vec<_>>() {
            if self.is_authentic(to, &request) {
                let is_asked = (argument >> 4) & (1 << to.0) != 0;
                let event = if is_asked { Event::Request } else { Event::Body };
                self.handle(to, event(request.clone()));
            }
        }
    }

    fn is_authentic(&self, at: ReplicaId, request: &Request) -> bool {
        let holds = match &request.auth {
            RequestAuth::Signed(proof) => proof.0 == [1],
            RequestAuth::Macs(macs) => macs.mac_for(at).is_some_and(|mac| mac.0 == [1; 16]),
        };
        holds && self.requests.contains(&request.digest())
    }

    /// Lets time pass, and timers expire in their order.
    fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        loop {
            let timers = self
                .hosts
                .iter()
                .flat_map(|(id, host)| host.timers.iter().map(move |(timer, at)| (*at, *id, *timer)));
            let Some((at, id, timer)) = timers.min().filter(|(at, ..)| *at <= until) else { break };
            self.now = self.now.max(at);
            if let Some(host) = self.hosts.get_mut(&id) {
                host.timers.remove(&timer);
            }
            self.handle(id, Event::Timer(timer));
            self.settle();
        }
        self.now = until;
    }

    fn settle(&mut self) {
        for _ in 0..MAX_DELIVERIES {
            let Some(parcel) = self.network.pop_front() else { return };
            let Parcel { from, to, mut message, is_transferable } = parcel;
            for request in message.requests_mut() {
                request.is_authentic = self.is_authentic(to, request);
            }
            let proof = is_transferable.then(|| Proof(vec![2]));
            self.handle(to, Event::Message { from, message, proof, key: 0 });
        }
        panic!("the replicas don't stop talking");
    }

    fn handle(&mut self, id: ReplicaId, event: Event<PbftMessage>) {
        let mut events = VecDeque::from([event]);
        // As in the engine, a state is installed only between events.
        while let Some(event) = events.pop_front().or_else(|| self.install(id)) {
            let Some(host) = self.hosts.get_mut(&id) else { return };
            let mut actions = Vec::new();
            host.replica.handle(self.now, event, &mut actions);
            assert!(host.replica.footprint() <= MAX_FOOTPRINT, "{id} holds {}", host.replica.footprint());
            for action in actions {
                self.carry_out(id, action, &mut events);
            }
        }
    }

    fn carry_out(
        &mut self,
        id: ReplicaId,
        action: Action<PbftMessage>,
        events: &mut VecDeque<Event<PbftMessage>>,
    ) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&id) else { return };
        match action {
            Action::Send { to, message, auth } => self.post(id, &[to], &message, auth),
            Action::Piggyback(message) => {
                let others = (0..N).map(ReplicaId).filter(|to| *to != id);
                self.post(id, &others.collect::<Vec<_>>(), &message, Auth::Mac);
            }
            Action::Broadcast { message, auth } => {
                let others = (0..N).map(ReplicaId).filter(|to| *to != id || auth == Auth::Transferable);
                self.post(id, &others.collect::<Vec<_>>(), &message, auth);
            }
            Action::SetTimer { id: timer, after } => drop(host.timers.insert(timer, now + after)),
            Action::CancelTimer(timer) => drop(host.timers.remove(&timer)),
            Action::Persist { id, .. } => events.push_back(Event::Persisted(id)),
            Action::KeepState { seq, .. } => events.push_back(Event::StateKept(seq)),
            Action::Execute(decision) => {
                let state = self.execute(id, &decision);
                events.push_back(Event::Executed { seq: decision.seq, state });
            }
            Action::ExecuteTentatively(decision) => self.execute_tentatively(id, decision),
            Action::Rollback => assert!(host.tentative.take().is_some(), "{id} has nothing to take back"),
            Action::Stable { seq, .. } => drop(host.transfer.take_if(|(wanted, _)| *wanted <= seq)),
            Action::FetchState { seq, state } => host.transfer = Some((seq, state)),
            Action::Evidence(evidence) => {
                assert_eq!(evidence.accused, self.hostile, "{id} accuses a correct replica: {evidence:?}");
            }
            Action::Closed { .. } => unreachable!("nobody closes it"),
            Action::StandIn { .. } => unreachable!("none is a witness"),
            Action::Speculate { .. } | Action::Certified(_) => unreachable!("PBFT does not speculate"),
            Action::Compact(_) | Action::EnteredView(_) | Action::LeftView(_) => {}
            Action::Late(_) | Action::MustSign { .. } => {}
        }
    }

    fn post(&mut self, from: ReplicaId, to: &[ReplicaId], message: &PbftMessage, auth: Auth) {
        let is_transferable = auth == Auth::Transferable;
        if is_transferable {
            self.signed.insert((from, encode(message)));
        }
        self.heard.push(message.clone());
        for to in to.iter().copied().filter(|to| *to != self.hostile) {
            self.network.push_back(Parcel { from, to, message: message.clone(), is_transferable });
        }
    }

    /// Executes a decision, and holds it to agreement, order and validity.
    fn execute(&mut self, id: ReplicaId, decision: &Decision) -> Option<Digest> {
        let host = self.hosts.get_mut(&id)?;
        assert_eq!(decision.seq, host.executed.next(), "{id} executes out of order");
        assert_eq!(decision.batch.digest(), decision.digest, "{id} executes another batch than was decided");
        for request in &decision.batch.requests {
            assert!(self.requests.contains(&request.digest()), "{id} executes what no client asked for");
        }
        host.executed = decision.seq;
        host.tentative = None;
        let promised = self.promised.get(&decision.seq);
        assert!(promised.is_none_or(|digest| *digest == decision.digest), "{id} breaks what was promised");
        host.state = hash("fuzz state", &encode(&(host.state, decision.digest)));
        host.states.insert(decision.seq, host.state);
        let made = (decision.digest, host.state);
        let first = *self.decided.entry(decision.seq).or_insert(made);
        assert_eq!(first, made, "{id} disagrees at {}", decision.seq);
        decision.is_checkpoint.then_some(made.1)
    }

    /// What as many have executed tentatively in one view as a client waits for is final.
    fn execute_tentatively(&mut self, id: ReplicaId, decision: Decision) {
        let Decision { seq, view, digest, .. } = decision;
        let Some(host) = self.hosts.get_mut(&id) else { return };
        assert_eq!(seq, host.executed.next(), "{id} executes out of order");
        assert!(host.tentative.replace(decision).is_none(), "{id} executes two batches tentatively");
        let voters = self.tentative.entry((view, seq, digest)).or_default();
        voters.insert(id);
        // The hostile replica says what helps.
        if voters.len() + 1 >= AGREEMENT {
            let first = *self.promised.entry(seq).or_insert(digest);
            assert_eq!(first, digest, "{id} has promised otherwise at {seq}");
            if let Some((decided, _)) = self.decided.get(&seq) {
                assert_eq!(*decided, digest, "{id} promises otherwise than was decided at {seq}");
            }
        }
    }

    /// State transfer from any correct replica that had the state.
    fn install(&mut self, id: ReplicaId) -> Option<Event<PbftMessage>> {
        let (seq, state) = self.hosts.get(&id)?.transfer?;
        let exists = self.hosts.values().any(|host| host.states.get(&seq) == Some(&state));
        assert!(exists, "{id} wants a state at {seq} that no correct replica ever had");
        let host = self.hosts.get_mut(&id)?;
        host.transfer = None;
        host.executed = seq;
        host.tentative = None;
        host.state = state;
        host.states.insert(seq, state);
        Some(Event::StateInstalled { seq, executed: Vec::new() })
    }
}
