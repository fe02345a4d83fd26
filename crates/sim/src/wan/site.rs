use super::config::{Carriage, Composition, WanConfig};
use super::costs::LocalCosts;
use super::cpu::{Cpu, Work, share};
use super::meter::SiteCounts;
use super::tally::Tally;
use crate::sites::LevelProtocol;
use crate::sites::keys::{SYSTEM, lane_client};
use crate::sites::symbolic::{SymbolicSigner, SymbolicVerifier};
use crate::sites::{paxos_settings, quorums};
use althing_crypto::site::{SiteKeys, SiteSignature, SiteStatement, SiteVerifier};
use althing_protocol::Replicable;
use althing_protocol::paxos::{Paxos, PaxosConfig};
use althing_protocol::pbft::{Pbft, PbftConfig, PbftSettings};
use althing_replica::Service;
use althing_types::{ClientId, Quorums, ReplicaId, RequestNumber, Seq, SiteId};
use althing_wide::{
    Dissemination, Lane, LinkConfig, LinkPace, LogicalMachine, MachineConfig, Outpost, OutpostConfig,
    Resident,
};
use spin::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Longer than any update waits, however many clients there are: no experiment is about a leader that seems slow.
const NEVER: Duration = Duration::from_secs(3000);

/// A wide-area protocol as the experiments run it.
pub(super) trait Wide: Replicable {
    /// Site `me`'s part in it.
    fn of_site(me: SiteId, sites: usize, settings: PbftSettings) -> Self;
}

impl Wide for Pbft {
    fn of_site(me: SiteId, sites: usize, settings: PbftSettings) -> Self {
        let quorums = quorums(LevelProtocol::Pbft, sites);
        Self::new(PbftConfig::new(ReplicaId(me.0), quorums, settings).expect("valid settings"))
    }
}

impl Wide for Paxos {
    fn of_site(me: SiteId, sites: usize, settings: PbftSettings) -> Self {
        let quorums = quorums(LevelProtocol::Paxos, sites);
        let settings = paxos_settings(&settings);
        Self::new(PaxosConfig::new(ReplicaId(me.0), quorums, settings).expect("valid settings"))
    }
}

/// How the wide-area protocol is set: where each update is a message of its own, as in the paper, or where bundles are
/// ordered by name, several at once.
fn wide_settings(carriage: Carriage) -> PbftSettings {
    let common = PbftSettings {
        checkpoint_period: 1000,
        log_size: 4000,
        max_batch_bytes: 1 << 20,
        tentative_requests: 0,
        piggyback_commits: false,
        primary_slack: 0,
        primary_passes: 0,
        view_timeout: NEVER,
        status_period: Duration::from_secs(10),
        ..PbftSettings::default()
    };
    match carriage {
        Carriage::Leader => {
            PbftSettings { pipeline: 2000, adaptive_batching: false, max_batch_requests: 1, ..common }
        }
        Carriage::Origin | Carriage::Vouched => PbftSettings {
            pipeline: 16,
            gather_from: 8,
            max_batch_requests: 256,
            separate_bytes: 1,
            separate_patience: Duration::from_secs(1),
            status_period: Duration::from_secs(2),
            ..common
        },
    }
}

/// Checks symbols, and counts how often for a site.
#[derive(Debug)]
struct CountingVerifier {
    me: SiteId,
    /// When it is asked.
    asked: Count,
    /// Before that, where it has the processors for it.
    ahead: Option<Count>,
    /// What was checked before it was asked for. There is one thread; whoever verifies has to be good for more.
    foreseen: Mutex<BTreeSet<(SiteStatement, SiteSignature)>>,
}

/// How many signatures were checked.
#[derive(Debug, Default)]
struct Count {
    /// Of this site.
    own: AtomicU64,
    /// Of others.
    others: AtomicU64,
}

impl Count {
    fn add(&self, is_own: bool) {
        let count = if is_own { &self.own } else { &self.others };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Of this site and of others.
    fn both(&self) -> (u64, u64) {
        (self.own.load(Ordering::Relaxed), self.others.load(Ordering::Relaxed))
    }
}

impl CountingVerifier {
    fn new(me: SiteId, can_foresee: bool) -> Self {
        let ahead = can_foresee.then(Count::default);
        Self { me, asked: Count::default(), ahead, foreseen: Mutex::default() }
    }
}

impl SiteVerifier for CountingVerifier {
    fn verify(&self, site: SiteId, statement: &SiteStatement, signature: &SiteSignature) -> bool {
        if !self.foreseen.lock().remove(&(*statement, *signature)) {
            self.asked.add(site == self.me);
        }
        SymbolicVerifier::default().verify(site, statement, signature)
    }

    fn can_foresee(&self) -> bool {
        self.ahead.is_some()
    }

    fn foresee(&self, site: SiteId, statement: SiteStatement, signature: SiteSignature) {
        let Some(ahead) = &self.ahead else { return };
        if self.foreseen.lock().insert((statement, signature)) {
            ahead.add(site == self.me);
        }
    }
}

/// Something to be ordered in a site.
#[derive(Debug, Clone)]
pub(super) struct Submitted {
    pub(super) client: ClientId,
    pub(super) number: RequestNumber,
    pub(super) operation: Vec<u8>,
    /// Which server's outpost has submitted it on which lane; a client has, where none did.
    pub(super) by: Option<(usize, Lane)>,
}

/// What waits to be ordered: what comes from each site, and from the clients, takes turns (SRDS'07 §5.1, fairness).
#[derive(Debug, Default)]
pub(super) struct LocalQueue {
    queues: BTreeMap<Option<(usize, Lane)>, VecDeque<Submitted>>,
    last: Option<(usize, Lane)>,
}

impl LocalQueue {
    pub(super) fn push(&mut self, submitted: Submitted) {
        self.queues.entry(submitted.by).or_default().push_back(submitted);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// The next one, of the queue whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Submitted> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = self.queues.range((Excluded(self.last), Unbounded)).next().map(|(by, _)| *by);
        let by = after.or_else(|| self.queues.keys().next().copied())?;
        let queue = self.queues.get_mut(&by)?;
        let next = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&by);
        }
        self.last = by;
        next
    }
}

/// A site: the production code of one server or of all of them, and a model of what makes them one machine.
pub(super) struct Site<W: Wide> {
    pub(super) machine: LogicalMachine<W, Tally>,
    pub(super) outposts: Vec<Outpost>,
    /// What its links go by.
    pub(super) links: LinkConfig,
    pub(super) queue: LocalQueue,
    /// The first processor of the server that has most to do.
    pub(super) cpu: Cpu,
    /// Its others.
    beside: Vec<Cpu>,
    /// Those of another server, as far as it checks what was ordered.
    other: Vec<Cpu>,
    /// Those of the peers of the links from other sites, as far as they check what comes: they are different servers
    /// ([`LinkConfig::start`]).
    peers: BTreeMap<SiteId, Cpu>,
    pub(super) costs: LocalCosts,
    /// The last local batch that was executed.
    pub(super) seq: Seq,
    /// When the last one that was begun is ordered.
    pub(super) ordered_at: u64,
    /// When all that was said is signed.
    pub(super) signed_at: u64,
    /// Whether it is going to look at its queue.
    pub(super) is_waking: bool,
    /// The last number on each lane.
    pub(super) numbers: BTreeMap<(usize, Lane), u64>,
    /// Its processor's time apart.
    pub(super) counts: SiteCounts,
    /// How much of what was executed was compared with the others.
    pub(super) compared: u64,
    /// What its outposts check, and what its machine does.
    verifiers: [Arc<CountingVerifier>; 2],
    paid: Checks,
    /// How many of its own and of others the machine has checked ahead, and paid for.
    paid_ahead: (u64, u64),
}

/// Signatures that were checked and paid for.
#[derive(Debug, Clone, Copy, Default)]
struct Checks {
    /// Of sites, by outposts.
    coming: u64,
    /// Of other sites, by the machine.
    executed: u64,
    /// Of this site, by the machine.
    own: u64,
    /// Of clients.
    clients: u64,
}

impl<W: Wide> Site<W> {
    pub(super) fn new(
        (config, composition): (&WanConfig, Composition),
        id: SiteId,
        residents: &BTreeMap<ClientId, Resident>,
    ) -> Self {
        let Composition { wide, local, carriage } = composition;
        // Plain signatures are checked when they are asked for.
        let is_ahead = config.processors > 1 && local == LevelProtocol::Pbft;
        let verifiers = [false, is_ahead].map(|is_ahead| Arc::new(CountingVerifier::new(id, is_ahead)));
        let processors = |count| std::iter::repeat_with(Cpu::default).take(count).collect();
        let build = Build { config, id, group: group(config, local), verifiers: &verifiers };
        let protocol = W::of_site(id, usize::from(config.sites), wide_settings(carriage));
        let machine =
            LogicalMachine::new(build.machine(residents.clone(), wide, carriage), protocol, Tally::default());
        Self {
            machine,
            outposts: build.group.replicas().map(|server| Outpost::new(build.outpost(server))).collect(),
            links: build.links(),
            queue: LocalQueue::default(),
            cpu: Cpu::default(),
            beside: processors(config.processors.saturating_sub(1)),
            other: processors(config.processors),
            peers: BTreeMap::new(),
            costs: LocalCosts::new(&config.costs, local, config.servers, config.lan_delay),
            seq: Seq(0),
            ordered_at: 0,
            signed_at: 0,
            is_waking: false,
            numbers: BTreeMap::new(),
            counts: SiteCounts::default(),
            compared: 0,
            paid: Checks::default(),
            paid_ahead: (0, 0),
            verifiers,
        }
    }

    /// Has processors do what was checked since the last time; says when that is done.
    ///
    /// What has come from a site, `from`, and is checked before it is put in order is checked by the peer of that link. What
    /// is executed is checked by all servers: by the one that is followed, which is no peer and has combined itself what its
    /// own site has signed, and where servers may lie by others that the site waits for. The machine stands for these.
    pub(super) fn pay_for_checks(&mut self, now: u64, from: Option<SiteId>) -> u64 {
        let [outposts, machine] = self.verifiers.each_ref().map(|verifier| verifier.asked.both());
        let checks = Checks {
            // What its own site has signed is accounted for with that.
            coming: outposts.1,
            executed: machine.1,
            own: machine.0,
            clients: self.machine.checked(),
        };
        let paid = core::mem::replace(&mut self.paid, checks);
        let clients = (checks.clients - paid.clients) * self.costs.verify_client;
        let coming = (checks.coming - paid.coming) * self.costs.verify_site;
        let executed = checks.executed - paid.executed;
        let followed = executed * self.costs.verify_site + clients;
        let others = executed + checks.own - paid.own;
        let others = others * self.costs.verify_site_by_others + clients;
        let take = |cpu: &mut Cpu, busy| if busy == 0 { now } else { cpu.take(now, Work::of(busy)) };
        let peer = from.map_or(&mut self.cpu, |from| self.peers.entry(from).or_default());
        let came = take(peer, coming);
        came.max(take(&mut self.cpu, followed)).max(take(&mut self.other[0], others))
    }

    /// Has what was signed and sent by `sent` checked: by another processor, if there is one.
    pub(super) fn check_signed(&mut self, now: u64, sent: u64) {
        let cost = self.costs.check_signed;
        if self.beside.is_empty() {
            self.cpu.take(now, Work::of(cost));
        } else {
            share(&mut self.beside, sent, (1, cost));
        }
    }

    /// Has servers check ahead what is about to be ordered, which they have heard of by `now`; says when that is done.
    pub(super) fn check_ahead(&mut self, now: u64, batch: &[Submitted]) -> u64 {
        for Submitted { client, operation, .. } in batch {
            self.machine.foresee(operation, *client);
        }
        let Some(ahead) = &self.verifiers[1].ahead else { return now };
        let (own, others) = ahead.both();
        let (paid_own, paid_others) = core::mem::replace(&mut self.paid_ahead, (own, others));
        let (own, others) = (own - paid_own, others - paid_others);
        let followed = self.beside.iter_mut().chain([&mut self.cpu]);
        let followed = share(followed, now, (others, self.costs.verify_site));
        share(&mut self.other, now, (own + others, self.costs.verify_site_by_others)).max(followed)
    }
}

/// The servers that have an outpost of their own.
fn group(config: &WanConfig, local: LevelProtocol) -> Quorums {
    quorums(local, if config.trial.is_some() { config.servers } else { 1 })
}

/// What a site's parts are made from.
struct Build<'a> {
    config: &'a WanConfig,
    id: SiteId,
    group: Quorums,
    verifiers: &'a [Arc<CountingVerifier>; 2],
}

impl Build<'_> {
    /// The keys of all sites, and who counts.
    fn keys(verifier: &Arc<CountingVerifier>) -> SiteKeys {
        SiteKeys::with_verifier(SYSTEM, Arc::clone(verifier) as Arc<dyn SiteVerifier>)
    }

    fn links(&self) -> LinkConfig {
        let groups = vec![self.group; usize::from(self.config.sites)];
        // No experiment of the normal case is about links that seem to be slow.
        let (timeout, floor) =
            self.config.trial.map_or((NEVER, 1000), |trial| (trial.timeout, trial.floor_bytes_per_s));
        let pace =
            LinkPace::new(timeout, floor).expect("a trial gives links time, and asks something of them");
        LinkConfig { site: self.id, groups, pace }
    }

    fn machine(
        &self,
        residents: BTreeMap<ClientId, Resident>,
        wide: LevelProtocol,
        carriage: Carriage,
    ) -> MachineConfig {
        let lanes = self.group.replicas().flat_map(|server| {
            let sites = (0..self.config.sites).map(|site| Lane::From(SiteId(site)));
            let lanes = std::iter::once(Lane::Control).chain(sites);
            lanes.map(move |lane| (lane_client(server, lane), server))
        });
        MachineConfig {
            links: self.links(),
            sites: quorums(wide, usize::from(self.config.sites)),
            lanes: lanes.collect(),
            keys: Self::keys(&self.verifiers[1]),
            residents,
            dissemination: match carriage {
                Carriage::Leader => Dissemination::Leader,
                Carriage::Origin | Carriage::Vouched => Dissemination::Origin {
                    slots: 64,
                    most_bytes: 16 * 1024,
                    window_bytes: 64 * 1024,
                    is_vouching: carriage == Carriage::Vouched,
                },
            },
            max_update_bytes: 4096,
            max_reply_bytes: 4096,
            max_message_bytes: 2 << 20,
            max_unacknowledged_bytes: 64 << 20,
            acknowledgement_delay: Duration::from_millis(250),
            relay_timeout: NEVER,
        }
    }

    fn outpost(&self, server: ReplicaId) -> OutpostConfig {
        OutpostConfig {
            links: self.links(),
            server,
            signer: Arc::new(SymbolicSigner::new(self.id, self.group.one_correct(), server)),
            keys: Self::keys(&self.verifiers[0]),
            tick: Duration::from_millis(100),
            window_bytes: 256 * 1024,
            supply_bytes_per_second: 100_000,
            operation_bytes: 4 << 20,
            events_at_once: if self.config.is_optimised { 1024 } else { 1 },
        }
    }
}
