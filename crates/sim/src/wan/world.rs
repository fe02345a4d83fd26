use super::config::{Carriage, Composition, WanConfig};
use super::meter::{LEADER, Meter, SiteCounts};
use super::report::WanReport;
use super::site::{Site, Submitted, Wide};
use super::trial::{Faulty, LinkFault, Turns};
use crate::clock::Clock;
use crate::dice::{Dice, nanos};
use crate::network::Weather;
use crate::sites::keys::{SYSTEM, client_identity, lane_client};
use crate::sites::symbolic::SIGNATURE_BYTES;
use crate::sites::uplinks::Uplinks;
use althing_crypto::Identity;
use althing_replica::{Context, Service};
use althing_types::{ClientId, Digest, ReplicaId, RequestNumber, Seq, SiteId, decode, encode};
use althing_wide::{
    Answer, Lane, OutpostInput, OutpostOutput, OutpostTimer, Resident, SiteOperation, Update, link_headers,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What UDP and IP put around each datagram between sites, and what one has room for on an Ethernet.
const DATAGRAM_OVERHEAD_BYTES: usize = 28;
const DATAGRAM_BYTES: usize = 1472;

/// What carries so many bytes between sites: as many datagrams as it takes, each with its own headers.
pub(super) fn on_the_wire(bytes: usize) -> usize {
    bytes + bytes.div_ceil(DATAGRAM_BYTES) * DATAGRAM_OVERHEAD_BYTES
}

/// How long a client's own signature is: where the cost table has longer ones the update is longer by the difference.
const CLIENT_SIGNATURE_BYTES: usize = 64;

/// Something that is going to happen.
enum Happening {
    /// A message between sites leaves the first one, by this server of it, for that one of the second.
    Leaving { link: (SiteId, SiteId), servers: (ReplicaId, ReplicaId), bytes: Arc<[u8]> },
    /// It arrives.
    Arrival { link: (SiteId, SiteId), servers: (ReplicaId, ReplicaId), bytes: Arc<[u8]> },
    /// What a server of a site tells another arrives.
    Told { site: SiteId, from: ReplicaId, to: ReplicaId, bytes: Arc<[u8]> },
    /// Something is to be ordered in a site.
    Submission(SiteId, Submitted),
    /// A site's processor is free again.
    Waking(SiteId),
    /// A site has ordered a batch, and has checked by then what can be checked ahead.
    Ordered(SiteId, Vec<Submitted>, u64),
    /// A timer of an outpost expires, unless it was set again.
    Timer { site: SiteId, server: usize, timer: OutpostTimer, generation: u64 },
    /// Servers fail.
    Strike(LinkFault),
    /// A client makes its next update.
    Turn(ClientId),
    /// A client has the answer to an update.
    Answered(ClientId, RequestNumber),
}

/// A client: one update after the other.
struct Worker {
    site: SiteId,
    identity: Identity,
    number: RequestNumber,
    called: u64,
}

pub(super) struct World<'a, W: Wide> {
    config: &'a WanConfig,
    now: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    scheduled: u64,
    /// By how much a site's signature is longer than what stands for it.
    site_signature_excess: usize,
    /// By how much a client's is, where it leaves the site with the update.
    client_signature_excess: usize,
    sites: Vec<Site<W>>,
    uplinks: Uplinks,
    timers: BTreeMap<(SiteId, usize, OutpostTimer), u64>,
    workers: BTreeMap<ClientId, Worker>,
    /// The last number that was sent over each link.
    last_sent: BTreeMap<(SiteId, SiteId), u64>,
    /// What the sites have executed, in order.
    executed: Vec<Digest>,
    faulty: Faulty,
    meter: Meter,
}

impl<'a, W: Wide> World<'a, W> {
    pub(super) fn new(config: &'a WanConfig, composition: Composition) -> Self {
        let mut dice = Dice::new(config.seed);
        let signature = config.costs.of_site(composition.local);
        let client_signature_excess = match composition.carriage {
            Carriage::Leader | Carriage::Origin => {
                config.costs.plain.bytes.saturating_sub(CLIENT_SIGNATURE_BYTES)
            }
            Carriage::Vouched => 0,
        };
        let sites = || (0..config.sites).map(SiteId);
        let workers: BTreeMap<ClientId, Worker> = (0..config.clients)
            .map(|index| {
                let id = ClientId(index + 1);
                let site = config.home(index);
                (id, Worker { site, identity: client_identity(id), number: RequestNumber(0), called: 0 })
            })
            .collect();
        let resident = |worker: &Worker| Resident { site: worker.site, public: worker.identity.public() };
        let residents = workers.iter().map(|(id, worker)| (*id, resident(worker))).collect();
        let weather =
            Weather { least_delay: config.diameter, most_delay: config.diameter, ..Weather::fair() };
        // The windows of the links bound what waits; what got lost would not be sent again before long.
        let uplinks = Uplinks::new(weather, config.uplink_bits_per_s / 8, dice.fork()).unbounded();
        let mut world = Self {
            config,
            now: 0,
            queue: BTreeMap::new(),
            scheduled: 0,
            site_signature_excess: signature.bytes.saturating_sub(SIGNATURE_BYTES),
            client_signature_excess,
            sites: sites().map(|id| Site::new((config, composition), id, &residents)).collect(),
            uplinks,
            timers: BTreeMap::new(),
            workers,
            last_sent: BTreeMap::new(),
            executed: Vec::new(),
            faulty: Faulty::default(),
            meter: Meter::default(),
        };
        for site in sites() {
            for server in 0..world.site(site).outposts.len() {
                world.tell(site, server, OutpostInput::Start);
            }
        }
        let ids: Vec<ClientId> = world.workers.keys().copied().collect();
        for id in ids {
            let at = nanos(dice.duration(config.lan_delay, 4 * config.diameter));
            world.schedule(at, Happening::Turn(id));
        }
        if let Some(trial) = &config.trial {
            world.schedule(nanos(trial.at), Happening::Strike(trial.fault));
        }
        world
    }

    fn schedule(&mut self, at: u64, happening: Happening) {
        self.scheduled += 1;
        self.queue.insert((at, self.scheduled), happening);
    }

    fn site(&mut self, id: SiteId) -> &mut Site<W> {
        &mut self.sites[usize::from(id.0)]
    }

    /// Runs it to its end.
    pub(super) fn run(mut self) -> WanReport {
        let start = nanos(self.config.warm_up);
        let end = start + nanos(self.config.measured);
        while let Some(((at, _), happening)) = self.queue.pop_first() {
            if at >= end {
                break;
            }
            if at >= start && !self.meter.is_measuring() {
                let leader = self.leader_counts();
                self.meter.begin(leader, &self.uplinks.sent);
            }
            self.now = at;
            self.step(happening);
        }
        let (leader, executed, turns) = (self.leader_counts(), self.executed.len() as u64, self.turns());
        let mut report = self.meter.report(self.config, leader, &self.uplinks.sent, executed);
        let links = |site: SiteId| self.sites[usize::from(site.0)].links.clone();
        report.trial = self.config.trial.as_ref().map(|trial| {
            self.faulty.report((self.config, trial), links, &turns, &report.answered_per_100_ms)
        });
        report
    }

    /// Which virtual links have their turn.
    fn turns(&self) -> Turns {
        let of_site = |site: &'_ Site<W>| {
            let from = site.links.site;
            let standings = site.machine.link_standings();
            standings.map(|standing| ((from, standing.site), standing.turn)).collect::<Vec<_>>()
        };
        self.sites.iter().flat_map(of_site).collect()
    }

    fn leader_counts(&mut self) -> SiteCounts {
        let site = self.site(LEADER);
        SiteCounts { busy: site.cpu.busy, ..site.counts }
    }

    fn step(&mut self, happening: Happening) {
        match happening {
            Happening::Leaving { link, servers, bytes } => self.leave(link, servers, bytes),
            Happening::Arrival { link: (from, to), servers: (by, server), bytes } => {
                self.meter.trace(self.now, &bytes);
                if self.faulty.is_deaf((to, server)) {
                    return;
                }
                let input = OutpostInput::FromSite { site: from, server: by, bytes: bytes.to_vec() };
                self.tell(to, usize::from(server.0), input);
            }
            Happening::Told { site, from, to, bytes } => {
                self.tell(site, usize::from(to.0), OutpostInput::FromServer { from, bytes: bytes.to_vec() });
            }
            Happening::Submission(site, submitted) => {
                self.site(site).queue.push(submitted);
                self.order(site);
            }
            Happening::Waking(site) => {
                self.site(site).is_waking = false;
                self.order(site);
            }
            Happening::Ordered(site, batch, checked) => self.execute(site, batch, checked),
            Happening::Timer { site, server, timer, generation } => {
                if self.timers.get(&(site, server, timer)) == Some(&generation) {
                    self.tell(site, server, OutpostInput::Timer(timer));
                }
            }
            Happening::Strike(fault) => {
                let (links, turns) = (self.site(LEADER).links.clone(), self.turns());
                self.faulty.strike(fault, &links, turns);
            }
            Happening::Turn(id) => self.take_turn(id),
            Happening::Answered(id, number) => self.answered(id, number),
        }
    }

    /// A client signs its next update, and a server of its site hears of it.
    fn take_turn(&mut self, id: ClientId) {
        let now = self.now;
        let worker = self.workers.get_mut(&id).expect("it is there");
        worker.number.0 += 1;
        worker.called = now;
        let mut operation = vec![0; self.config.update_bytes + self.client_signature_excess];
        let label = encode(&(id, worker.number));
        let labelled = label.len().min(operation.len());
        operation[..labelled].copy_from_slice(&label[..labelled]);
        let (site, number) = (worker.site, worker.number);
        let update = Update::new((SYSTEM, id, &worker.identity), number, operation);
        let operation = encode(&SiteOperation::Update(update));
        let at = now + nanos(self.config.lan_delay);
        self.schedule(at, Happening::Submission(site, Submitted { client: id, number, operation, by: None }));
    }

    fn answered(&mut self, id: ClientId, number: RequestNumber) {
        let worker = &self.workers[&id];
        if worker.number != number {
            return;
        }
        self.meter.answered(self.now, worker.called);
        self.take_turn(id);
    }

    /// Has a site order what waits, if its processor is free: all of it, or one thing after the other.
    fn order(&mut self, id: SiteId) {
        let (now, is_optimised) = (self.now, self.config.is_optimised);
        let site = self.site(id);
        if site.queue.is_empty() || site.is_waking {
            return;
        }
        if site.cpu.free_at <= now {
            let most = if is_optimised { usize::MAX } else { 1 };
            let batch: Vec<Submitted> = std::iter::from_fn(|| site.queue.pop()).take(most).collect();
            let ordered = site.cpu.take(now, site.costs.ordering).max(site.ordered_at);
            site.ordered_at = ordered;
            site.counts.orderings += 1;
            let checked = site.check_ahead(now + site.costs.proposing, &batch);
            self.schedule(ordered, Happening::Ordered(id, batch, checked));
        }
        let site = self.site(id);
        if !site.queue.is_empty() {
            site.is_waking = true;
            let at = site.cpu.free_at;
            self.schedule(at, Happening::Waking(id));
        }
    }

    /// A site's servers execute a batch, and sign what they say then.
    fn execute(&mut self, id: SiteId, batch: Vec<Submitted>, checked_ahead: u64) {
        let (now, time) = (self.now, Clock::TRUE.read(self.now));
        let site = self.site(id);
        site.seq = Seq(site.seq.0 + 1);
        let mut answers = Vec::new();
        for Submitted { client, number, operation, by } in &batch {
            let context = Context { client: *client, number: *number, seq: site.seq, time, seed: [0; 32] };
            let outcome = site.machine.execute(operation, &context);
            if by.is_none() && !outcome.is_deferred {
                answers.push((*client, *number, outcome.result));
            }
            answers.extend(outcome.late.into_iter().map(|late| (late.client, late.number, late.result)));
        }
        let checked = site.pay_for_checks(now, None).max(checked_ahead);
        if site.machine.said_in(site.seq) > 0 {
            site.counts.signatures += 1;
            let signed = site.cpu.take(now, site.costs.signing).max(checked + site.costs.signing.takes);
            site.check_signed(now, signed);
            site.signed_at = signed.max(site.signed_at);
        }
        for (client, number, result) in answers {
            let answer = decode::<Answer>(&result, 1 << 20).expect("a logical machine answers so");
            assert!(matches!(answer, Answer::Executed(_)), "{client} is answered {answer:?}");
            let at = checked + nanos(self.config.lan_delay);
            self.schedule(at, Happening::Answered(client, number));
        }
        self.compare(id);
        for (server, lane) in batch.iter().filter_map(|submitted| submitted.by) {
            self.tell(id, server, OutpostInput::Completed(lane));
        }
        for server in 0..self.site(id).outposts.len() {
            self.tell(id, server, OutpostInput::Observe);
        }
        self.order(id);
    }

    /// All sites execute the same updates in the same order.
    fn compare(&mut self, id: SiteId) {
        let site = &mut self.sites[usize::from(id.0)];
        let service = site.machine.service();
        for (place, digest) in service.since(site.compared) {
            let place = usize::try_from(place).expect("a run has fewer updates");
            match self.executed.get(place) {
                Some(known) => {
                    assert_eq!(*known, digest, "{id} executes another update {place} than the others")
                }
                None => {
                    assert_eq!(self.executed.len(), place, "{id} has executed updates that nobody has");
                    self.executed.push(digest);
                }
            }
        }
        site.compared = service.executed();
    }

    /// Tells an outpost something, and does what it wants.
    fn tell(&mut self, id: SiteId, server: usize, input: OutpostInput) {
        let now = self.now;
        let site = self.site(id);
        let mut outputs = Vec::new();
        let machine = (&site.machine, site.seq);
        let from = match &input {
            OutpostInput::FromSite { site, .. } | OutpostInput::Completed(Lane::From(site)) => Some(*site),
            _ => None,
        };
        site.outposts[server].handle(Clock::TRUE.read(now), input, machine, &mut outputs);
        let checked = site.pay_for_checks(now, from);
        let signed = site.signed_at.max(now);
        let me = ReplicaId(u16::try_from(server).expect("servers are few"));
        for output in outputs {
            match output {
                OutpostOutput::ToSite { site, server, bytes } => {
                    let (link, servers) = ((id, site), (me, server));
                    self.schedule(signed, Happening::Leaving { link, servers, bytes });
                }
                OutpostOutput::Submit { lane, operation } => {
                    let number = self.site(id).numbers.entry((server, lane)).or_default();
                    *number += 1;
                    let number = RequestNumber(*number);
                    let by = Some((server, lane));
                    let submitted = Submitted { client: lane_client(me, lane), number, operation, by };
                    // What the site says to itself has to be signed too.
                    let at = if lane == Lane::From(id) { signed.max(checked) } else { checked };
                    self.schedule(at, Happening::Submission(id, submitted));
                }
                OutpostOutput::SetTimer { timer, after } => {
                    let generation = self.scheduled;
                    self.timers.insert((id, server, timer), generation);
                    self.schedule(
                        now + nanos(after),
                        Happening::Timer { site: id, server, timer, generation },
                    );
                }
                OutpostOutput::ToServer { to, bytes } => {
                    let at = now + nanos(self.config.lan_delay);
                    self.schedule(at, Happening::Told { site: id, from: me, to, bytes });
                }
                OutpostOutput::WrongShare(liar) => panic!("{me} of {id} says that {liar} sent a wrong share"),
            }
        }
    }

    fn leave(&mut self, link: (SiteId, SiteId), servers: (ReplicaId, ReplicaId), bytes: Arc<[u8]>) {
        let (from, to) = link;
        let Some(lag) = self.faulty.lag((from, servers.0)) else { return };
        // It has one signature, however many messages it carries.
        let length = on_the_wire(bytes.len() + self.site_signature_excess);
        let last = self.last_sent.entry(link).or_default();
        let headers = link_headers(&bytes);
        if headers.is_empty() {
            self.meter.sent(false, false);
        }
        for header in headers {
            self.meter.sent(header.number > 0, (1..=*last).contains(&header.number));
            *last = header.number.max(*last);
        }
        for at in self.uplinks.arrivals(self.now, from, to, length) {
            self.schedule(at + lag, Happening::Arrival { link, servers, bytes: Arc::clone(&bytes) });
        }
    }
}
