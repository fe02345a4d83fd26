//! A small system of sites, each of one server whose own order is that in which things happen, under virtual time:
//! real machines, outposts, keys and protocols.

use crate::register::Register;
use crate::shadow::{Machine, Watched};
use althing_crypto::site::{SiteDeal, SiteKeys};
use althing_crypto::{Identity, KeySeed};
use althing_protocol::Replicable;
use althing_replica::{Context, Outcome, ReplyOutcome};
use althing_types::{
    ClientId, GroupId, Instant, Quorums, ReplicaId, RequestNumber, Seq, SiteId, decode, encode,
};
use althing_wide::{
    Answer, Dissemination, Lane, LinkConfig, LinkPace, LogicalMachine, MachineConfig, Outpost, OutpostConfig,
    OutpostInput, OutpostOutput, OutpostTimer, Resident, SiteEvent, SiteOperation, Treachery, Update,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const SYSTEM: GroupId = GroupId([7; 16]);
const MS: u64 = 1_000_000;
pub(crate) const SERVER: ReplicaId = ReplicaId(0);

/// What is chosen for a system.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) sites: Quorums,
    pub(crate) dissemination: Dissemination,
    pub(crate) max_unacknowledged_bytes: u64,
}

impl Setting {
    pub(crate) fn sites(&self) -> impl Iterator<Item = SiteId> + use<> {
        self.sites.replicas().map(|id| SiteId(id.0))
    }

    pub(crate) fn deal(site: SiteId) -> SiteDeal {
        SiteDeal::plain(1, &KeySeed::from([site.0.to_le_bytes()[0] + 1; 32]))
    }

    pub(crate) fn keys(&self) -> SiteKeys {
        SiteKeys::new(SYSTEM, self.sites().map(|site| *Self::deal(site).shares.public()).collect())
    }

    fn links(&self, site: SiteId) -> LinkConfig {
        let groups = vec![Quorums::crash(1, 0).expect("one is enough"); self.sites.n()];
        let pace = LinkPace::new(Duration::from_millis(500), 100_000).expect("neither is zero");
        LinkConfig { site, groups, pace }
    }

    pub(crate) fn machine_config(&self, site: SiteId) -> MachineConfig {
        let lanes = self.sites().map(Lane::From).chain([Lane::Control]);
        let residents = self.sites().flat_map(|site| [0, 1].map(|index| (site, resident(site, index))));
        let public = |id| identity(id).public();
        MachineConfig {
            links: self.links(site),
            sites: self.sites,
            lanes: lanes.map(|lane| (lane_client(lane), SERVER)).collect(),
            keys: self.keys(),
            residents: residents.map(|(site, id)| (id, Resident { site, public: public(id) })).collect(),
            dissemination: self.dissemination,
            max_update_bytes: 1000,
            max_reply_bytes: 1000,
            max_message_bytes: 100_000,
            max_unacknowledged_bytes: self.max_unacknowledged_bytes,
            acknowledgement_delay: Duration::from_millis(20),
            relay_timeout: Duration::from_secs(1),
        }
    }

    pub(crate) fn outpost_config(&self, site: SiteId) -> OutpostConfig {
        let deal = Self::deal(site);
        OutpostConfig {
            links: self.links(site),
            server: SERVER,
            signer: Arc::new((deal.secrets[0].clone(), deal.shares)),
            keys: self.keys(),
            tick: Duration::from_millis(100),
            window_bytes: 100_000,
            supply_bytes_per_second: 1_000_000,
            operation_bytes: 200_000,
            events_at_once: 1024,
        }
    }
}

/// As which client of its own group the server of a site speaks on a lane.
pub(crate) fn lane_client(lane: Lane) -> ClientId {
    ClientId(match lane {
        Lane::Control => 1000,
        Lane::From(site) => 1001 + u64::from(site.0),
    })
}

/// A client of a site.
pub(crate) fn resident(site: SiteId, index: u64) -> ClientId {
    ClientId(u64::from(site.0) * 10 + index + 1)
}

pub(crate) fn identity(client: ClientId) -> Identity {
    let mut seed = [9; 64];
    seed[..8].copy_from_slice(&client.0.to_le_bytes());
    Identity::from_secret_bytes(&seed)
}

/// An update that a client has signed.
pub(crate) fn update(client: ClientId, number: u64, operation: &[u8]) -> Update {
    Update::new((SYSTEM, client, &identity(client)), RequestNumber(number), operation.to_vec())
}

/// How often each kind of operation was executed.
#[derive(Debug, Default, Clone)]
pub(crate) struct Count {
    pub(crate) deferred: usize,
    pub(crate) incoming: usize,
    pub(crate) expired: usize,
    pub(crate) suspected: usize,
    pub(crate) fetched: usize,
}

enum Happening {
    Order(SiteId, Lane, Vec<u8>),
    Arrive { from: SiteId, to: SiteId, bytes: Vec<u8> },
    Timer(SiteId, OutpostTimer, u64),
    Update(ClientId),
}

struct Site<W: Replicable> {
    watched: Watched<W>,
    outpost: Outpost,
    executed: u64,
    timers: BTreeMap<OutpostTimer, u64>,
}

/// The sites, and what is going to happen.
pub(crate) struct System<W: Replicable> {
    setting: Setting,
    configs: BTreeMap<SiteId, MachineConfig>,
    make: fn(ReplicaId, Quorums) -> W,
    sites: BTreeMap<SiteId, Site<W>>,
    queue: BTreeMap<(u64, u64), Happening>,
    scheduled: u64,
    now: u64,
    cut: BTreeSet<SiteId>,
    is_quiet: bool,
    /// What each client has had answered.
    pub(crate) answered: BTreeMap<ClientId, u64>,
    pub(crate) count: Count,
}

impl<W: Replicable> System<W> {
    pub(crate) fn new(setting: Setting, make: fn(ReplicaId, Quorums) -> W) -> Self {
        let mut system = Self {
            sites: BTreeMap::new(),
            queue: BTreeMap::new(),
            scheduled: 0,
            now: 1000 * MS,
            cut: BTreeSet::new(),
            is_quiet: false,
            answered: BTreeMap::new(),
            count: Count::default(),
            configs: setting.sites().map(|site| (site, setting.machine_config(site))).collect(),
            setting,
            make,
        };
        for site in system.setting.sites() {
            let watched = Watched::new(|| new_machine(&system.setting, &system.configs[&site], make));
            let outpost = Outpost::new(system.setting.outpost_config(site));
            system.sites.insert(site, Site { watched, outpost, executed: 0, timers: BTreeMap::new() });
        }
        for site in system.setting.sites() {
            system.outpost(site, OutpostInput::Start);
            for index in [0, 1] {
                system.schedule(u64::from(site.0) + index, Happening::Update(resident(site, index)));
            }
        }
        system
    }

    pub(crate) fn setting(&self) -> &Setting {
        &self.setting
    }

    pub(crate) fn machine(&self, site: SiteId) -> &Machine<W> {
        self.sites[&site].watched.machine()
    }

    /// Cuts a site off, or no longer.
    pub(crate) fn cut(&mut self, site: SiteId, is_cut: bool) {
        if is_cut {
            self.cut.insert(site)
        } else {
            self.cut.remove(&site)
        };
    }

    /// Somebody takes a site over, or does no more.
    pub(crate) fn take_over(&mut self, site: SiteId, treachery: Option<Treachery>) {
        self.outpost(site, OutpostInput::TakeOver(treachery));
    }

    /// Clients go on to no other update.
    pub(crate) fn fall_silent(&mut self) {
        self.is_quiet = true;
    }

    /// Goes on for so long.
    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.now + ms * MS;
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((at, _), happening) = entry.remove_entry();
            self.now = at;
            self.step(happening);
        }
        self.now = end;
    }

    /// Puts an operation of a client in the order of a site.
    pub(crate) fn order(&mut self, site: SiteId, client: ClientId, number: u64, operation: &[u8]) -> Outcome {
        self.now += 1;
        let here = self.sites.get_mut(&site).expect("there is such a site");
        here.executed += 1;
        let context = Context {
            client,
            number: RequestNumber(number),
            seq: Seq(here.executed),
            time: Instant(self.now),
            seed: [3; 32],
        };
        let (setting, config) = (&self.setting, &self.configs[&site]);
        let make = || new_machine(setting, config, self.make);
        let outcome = here.watched.execute(make, operation, &context);
        self.count(operation, &outcome);
        for late in &outcome.late {
            self.answer(late.client, &late.result);
        }
        self.outpost(site, OutpostInput::Observe);
        outcome
    }

    fn count(&mut self, operation: &[u8], outcome: &Outcome) {
        self.count.deferred += usize::from(outcome.is_deferred);
        let Ok(SiteOperation::Events(events)) = decode(operation, usize::MAX) else { return };
        for event in events {
            match event {
                SiteEvent::Incoming(_) => self.count.incoming += 1,
                SiteEvent::Expired { .. } => self.count.expired += 1,
                SiteEvent::Suspected { .. } => self.count.suspected += 1,
                SiteEvent::Fetched(_) => self.count.fetched += 1,
                SiteEvent::TakenOver(_) => {}
            }
        }
    }

    /// A client has its answer, and goes on.
    fn answer(&mut self, client: ClientId, result: &[u8]) {
        let answer: Answer = decode(result, 10_000).expect("machines answer well");
        let answered = self.answered.entry(client).or_default();
        let Answer::Executed(ReplyOutcome::Result(bytes)) = answer else { panic!("{client}: {answer:?}") };
        let (place, _, _): (u64, Instant, [u8; 32]) = decode(&bytes, 100).expect("the register answers so");
        *answered += 1;
        assert_eq!(place, *answered, "each update of {client} is executed once");
        if !self.is_quiet {
            self.schedule(80, Happening::Update(client));
        }
    }

    fn step(&mut self, happening: Happening) {
        match happening {
            Happening::Order(site, lane, operation) => {
                self.order(site, lane_client(lane), 1, &operation);
                self.outpost(site, OutpostInput::Completed(lane));
            }
            Happening::Arrive { from, to, bytes } => {
                self.outpost(to, OutpostInput::FromSite { site: from, server: SERVER, bytes });
            }
            Happening::Timer(site, timer, number) => {
                if self.sites[&site].timers.get(&timer) == Some(&number) {
                    self.outpost(site, OutpostInput::Timer(timer));
                }
            }
            Happening::Update(client) => {
                let site = SiteId(u16::try_from(client.0 / 10).expect("it is small"));
                let number = self.answered.get(&client).copied().unwrap_or_default() + 1;
                let update = update(client, number, &[number.to_le_bytes()[0]; 300]);
                let outcome = self.order(site, client, number, &encode(&SiteOperation::Update(update)));
                if !outcome.is_deferred {
                    self.answer(client, &outcome.result);
                }
            }
        }
    }

    fn schedule(&mut self, ms: u64, happening: Happening) {
        self.scheduled += 1;
        self.queue.insert((self.now + ms * MS, self.scheduled), happening);
    }

    fn outpost(&mut self, site: SiteId, input: OutpostInput) {
        let mut outputs = Vec::new();
        let here = self.sites.get_mut(&site).expect("there is such a site");
        let machine = (here.watched.machine(), Seq(here.executed));
        here.outpost.handle(Instant(self.now), input, machine, &mut outputs);
        for output in outputs {
            match output {
                OutpostOutput::ToSite { site: to, bytes, .. } => {
                    if !self.cut.contains(&site) && !self.cut.contains(&to) {
                        self.schedule(20, Happening::Arrive { from: site, to, bytes: bytes.to_vec() });
                    }
                }
                OutpostOutput::SetTimer { timer, after } => {
                    let number = self.scheduled + 1;
                    let here = self.sites.get_mut(&site).expect("it was just there");
                    here.timers.insert(timer, number);
                    let ms = u64::try_from(after.as_nanos()).expect("short").div_ceil(MS);
                    self.schedule(ms, Happening::Timer(site, timer, number));
                }
                OutpostOutput::Submit { lane, operation } => {
                    self.schedule(1, Happening::Order(site, lane, operation));
                }
                OutpostOutput::ToServer { .. } => panic!("there is no other server"),
                OutpostOutput::WrongShare(server) => panic!("{server} is accused of a wrong share"),
            }
        }
    }
}

/// A machine in its initial state, which shares with no other what it has checked.
pub(crate) fn new_machine<W: Replicable>(
    setting: &Setting,
    config: &MachineConfig,
    make: fn(ReplicaId, Quorums) -> W,
) -> Machine<W> {
    let protocol = make(ReplicaId(config.links.site.0), config.sites);
    let config = MachineConfig { keys: setting.keys(), ..config.clone() };
    LogicalMachine::new(config, protocol, Register::default())
}
