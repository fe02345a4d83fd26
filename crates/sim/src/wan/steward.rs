//! A model of Steward: Amir et al., "Scaling Byzantine Fault-Tolerant Replication to Wide Area Networks", DSN'06, as far
//! as SRDS'07 §2 and §7 tell of it. Only its normal case, and nothing of it is code that could run outside of a
//! simulation.
//!
//! A site forwards its clients' updates to the leading site as they are. That assigns sequence numbers by one run of
//! PBFT (assign-sequence), threshold-signs a proposal for each, and sends it to all sites. A site that gets a proposal
//! does not order it, but threshold-signs an accept at once and sends that to all. Whoever has the proposal and the
//! accepts of half of the sites, its own among them, orders the update. Optimised, a site assigns numbers to all
//! updates that wait at once, and one signature with a Merkle tree covers all that waits to be said.
//!
//! As the paper tells of it each message goes alone, with that signature and a path of its own. Packed, what a site says
//! at once goes to another in packets, as our sites' messages go in parcels: with one signature, one part of the tree,
//! and nothing twice of what the messages have in common.

use super::config::{System, WanConfig};
use super::costs::LocalCosts;
use super::cpu::{Cpu, Work};
use super::meter::{LEADER, Meter, SiteCounts};
use super::report::WanReport;
use super::world::on_the_wire;
use crate::dice::{Dice, nanos};
use crate::network::Weather;
use crate::sites::LevelProtocol;
use crate::sites::uplinks::Uplinks;
use althing_crypto::MerkleTree;
use althing_types::{ClientId, Digest, SiteId, encode};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// Type, sites, view, sequence number, client and time stamp.
const HEADER_BYTES: usize = 40;

/// What of that each proposal of a packet has for itself: sequence number, client and time stamp.
const PROPOSAL_HEADER_BYTES: usize = 24;

/// And each accept: its sequence number.
const ACCEPT_HEADER_BYTES: usize = 8;

/// How long a packet may be, in bytes, but for its signature and its part of a tree: as long as a parcel of ours.
const PACKET_BYTES: usize = 16 * 1024;

/// A digest in a Merkle tree, as long as ours.
const DIGEST_BYTES: usize = 32;

/// What goes from site to site, with the number of the signature that covers it.
#[derive(Debug, Clone)]
enum Packet {
    Update(ClientId),
    /// Sequence numbers, and whose updates have them.
    Proposals {
        proposals: Arc<[(u64, ClientId)]>,
        signature: u64,
    },
    /// Of proposals with these sequence numbers.
    Accepts {
        numbers: Arc<[u64]>,
        signature: u64,
    },
}

enum Happening {
    Turn(ClientId),
    Arrival {
        from: SiteId,
        to: SiteId,
        packet: Packet,
    },
    /// What has arrived was checked.
    Checked {
        from: SiteId,
        to: SiteId,
        packet: Packet,
    },
    Waking(SiteId),
    /// The leading site has assigned numbers.
    Assigned(Vec<ClientId>),
    Signed {
        site: SiteId,
        numbers: Vec<u64>,
        signature: u64,
    },
    Answered(ClientId),
}

#[derive(Default)]
struct StewardSite {
    cpu: Cpu,
    is_waking: bool,
    /// At the leading site: what has no number yet.
    updates: VecDeque<ClientId>,
    /// What the site has to sign a proposal or an accept for.
    unsigned: VecDeque<u64>,
    proposals: BTreeMap<u64, ClientId>,
    accepts: BTreeMap<u64, BTreeSet<SiteId>>,
    /// The last number that was executed.
    executed: u64,
    /// The signatures that were checked.
    known: BTreeSet<(SiteId, u64)>,
    counts: SiteCounts,
}

pub(super) struct Steward<'a> {
    config: &'a WanConfig,
    costs: LocalCosts,
    signature_bytes: usize,
    now: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    scheduled: u64,
    sites: Vec<StewardSite>,
    uplinks: Uplinks,
    homes: BTreeMap<ClientId, SiteId>,
    called: BTreeMap<ClientId, u64>,
    numbers: u64,
    meter: Meter,
}

impl<'a> Steward<'a> {
    pub(super) fn new(config: &'a WanConfig) -> Self {
        let mut dice = Dice::new(config.seed);
        let weather =
            Weather { least_delay: config.diameter, most_delay: config.diameter, ..Weather::fair() };
        // There is no retransmission in the model.
        let uplinks = Uplinks::new(weather, config.uplink_bits_per_s / 8, dice.fork()).unbounded();
        let clients = (0..config.clients).map(|index| (ClientId(index + 1), config.home(index)));
        let mut world = Self {
            config,
            costs: LocalCosts::new(&config.costs, LevelProtocol::Pbft, config.servers, config.lan_delay),
            signature_bytes: config.costs.threshold.bytes,
            now: 0,
            queue: BTreeMap::new(),
            scheduled: 0,
            sites: (0..config.sites).map(|_| StewardSite::default()).collect(),
            uplinks,
            homes: clients.collect(),
            called: BTreeMap::new(),
            numbers: 0,
            meter: Meter::default(),
        };
        let ids: Vec<ClientId> = world.homes.keys().copied().collect();
        for id in ids {
            let at = nanos(dice.duration(config.lan_delay, 4 * config.diameter));
            world.schedule(at, Happening::Turn(id));
        }
        world
    }

    fn schedule(&mut self, at: u64, happening: Happening) {
        self.scheduled += 1;
        self.queue.insert((at, self.scheduled), happening);
    }

    fn site(&mut self, id: SiteId) -> &mut StewardSite {
        &mut self.sites[usize::from(id.0)]
    }

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
            self.meter.trace(at, &happening.essence());
            self.step(happening);
        }
        let (leader, executed) = (self.leader_counts(), self.sites.iter().map(|site| site.executed).max());
        self.meter.report(self.config, leader, &self.uplinks.sent, executed.unwrap_or_default())
    }

    fn leader_counts(&mut self) -> SiteCounts {
        let site = self.site(LEADER);
        SiteCounts { busy: site.cpu.busy, ..site.counts }
    }

    fn step(&mut self, happening: Happening) {
        let lan = nanos(self.config.lan_delay);
        match happening {
            Happening::Turn(id) => {
                self.called.insert(id, self.now);
                let home = self.homes[&id];
                if home == LEADER {
                    let (from, to, packet) = (home, home, Packet::Update(id));
                    self.schedule(self.now + lan, Happening::Arrival { from, to, packet });
                } else {
                    // The server that has it passes it on.
                    self.send(home, LEADER, Packet::Update(id), 0, self.now + lan);
                }
            }
            Happening::Arrival { from, to, packet } => self.arrive(from, to, packet),
            Happening::Checked { from, to, packet } => self.take_in(from, to, packet),
            Happening::Waking(id) => {
                self.site(id).is_waking = false;
                self.work(id);
            }
            Happening::Assigned(clients) => {
                for client in clients {
                    self.numbers += 1;
                    let number = self.numbers;
                    let leader = self.site(LEADER);
                    leader.proposals.insert(number, client);
                    leader.unsigned.push_back(number);
                }
                self.work(LEADER);
            }
            Happening::Signed { site, numbers, signature } => self.say(site, &numbers, signature),
            Happening::Answered(id) => {
                self.meter.answered(self.now, self.called[&id]);
                self.step(Happening::Turn(id));
            }
        }
    }

    /// Checks what has come: the clients' signatures on updates, and the site's unless it is known.
    fn arrive(&mut self, from: SiteId, to: SiteId, packet: Packet) {
        let (updates, signature) = match &packet {
            Packet::Update(_) => (1, None),
            Packet::Proposals { proposals, signature } => (proposals.len() as u64, Some(*signature)),
            Packet::Accepts { signature, .. } => (0, Some(*signature)),
        };
        let LocalCosts { verify_client, verify_site, .. } = self.costs;
        let now = self.now;
        let site = self.site(to);
        let is_new = signature.is_some_and(|signature| site.known.insert((from, signature)));
        let busy = updates * verify_client + if is_new { verify_site } else { 0 };
        let at = if busy > 0 { site.cpu.take(now, Work::of(busy)) } else { now };
        self.schedule(at, Happening::Checked { from, to, packet });
    }

    fn take_in(&mut self, from: SiteId, to: SiteId, packet: Packet) {
        let site = self.site(to);
        match packet {
            Packet::Update(client) => site.updates.push_back(client),
            Packet::Proposals { proposals, .. } => {
                site.unsigned.extend(proposals.iter().map(|(number, _)| *number));
                site.proposals.extend(proposals.iter().copied());
            }
            Packet::Accepts { numbers, .. } => {
                for number in numbers.iter().copied() {
                    site.accepts.entry(number).or_default().insert(from);
                }
            }
        }
        self.execute(to);
        self.work(to);
    }

    /// Has a site assign numbers or sign, as soon as its processor is free: for all that waits, or for one update.
    fn work(&mut self, id: SiteId) {
        let (now, costs) = (self.now, self.costs.clone());
        let most = if self.config.is_optimised { usize::MAX } else { 1 };
        let site = self.site(id);
        if site.is_waking {
            return;
        }
        if site.cpu.free_at <= now {
            if !site.unsigned.is_empty() {
                let many = site.unsigned.len().min(most);
                let numbers: Vec<u64> = site.unsigned.drain(..many).collect();
                site.counts.signatures += 1;
                let signature = site.counts.signatures;
                let at = site.cpu.take(now, costs.signing);
                self.schedule(at, Happening::Signed { site: id, numbers, signature });
            } else if !site.updates.is_empty() {
                let many = site.updates.len().min(most);
                let clients = site.updates.drain(..many).collect();
                site.counts.orderings += 1;
                let at = site.cpu.take(now, costs.ordering);
                self.schedule(at, Happening::Assigned(clients));
            }
        }
        let site = self.site(id);
        if !(site.unsigned.is_empty() && site.updates.is_empty()) {
            site.is_waking = true;
            let at = site.cpu.free_at;
            self.schedule(at, Happening::Waking(id));
        }
    }

    /// Says to all sites what was signed: proposals, or accepts.
    fn say(&mut self, id: SiteId, numbers: &[u64], signature: u64) {
        if id != LEADER {
            for number in numbers {
                self.site(id).accepts.entry(*number).or_default().insert(id);
            }
        }
        let mut start = 0;
        for together in numbers.chunks(self.together(id)) {
            let places = start..start + together.len();
            start = places.end;
            let path_bytes = self.path_bytes(places, numbers.len());
            let packet = self.packet(id, together, signature);
            for to in (0..self.config.sites).map(SiteId).filter(|to| *to != id) {
                self.send(id, to, packet.clone(), path_bytes, self.now);
            }
        }
        self.execute(id);
        self.work(id);
    }

    fn packet(&self, id: SiteId, numbers: &[u64], signature: u64) -> Packet {
        if id == LEADER {
            let client = |number: &u64| self.sites[usize::from(id.0)].proposals[number];
            let proposals = numbers.iter().map(|number| (*number, client(number))).collect();
            Packet::Proposals { proposals, signature }
        } else {
            Packet::Accepts { numbers: numbers.into(), signature }
        }
    }

    fn is_packed(&self) -> bool {
        self.config.system == System::PackedSteward
    }

    /// How many of its messages a site sends in one packet.
    fn together(&self, id: SiteId) -> usize {
        let bytes =
            if id == LEADER { PROPOSAL_HEADER_BYTES + self.update_bytes() } else { ACCEPT_HEADER_BYTES };
        if self.is_packed() { (PACKET_BYTES / bytes).max(1) } else { 1 }
    }

    /// What shows that messages in these places of a batch were signed with it, in bytes. Packed, it is what our own
    /// tree has for them.
    fn path_bytes(&self, places: Range<usize>, batch: usize) -> usize {
        if self.is_packed() {
            encode(&MerkleTree::new(&vec![Digest::default(); batch]).range(places)).len()
        } else {
            DIGEST_BYTES * usize::try_from(batch.next_power_of_two().ilog2()).expect("small")
        }
    }

    /// An update with its client's signature.
    fn update_bytes(&self) -> usize {
        self.config.update_bytes + self.config.costs.plain.bytes
    }

    fn send(&mut self, from: SiteId, to: SiteId, packet: Packet, path_bytes: usize, at: u64) {
        let signed = self.signature_bytes + path_bytes;
        let (messages, own_header, body) = match &packet {
            Packet::Update(_) => (1, 0, self.update_bytes()),
            Packet::Proposals { proposals, .. } => {
                (proposals.len(), PROPOSAL_HEADER_BYTES, proposals.len() * self.update_bytes() + signed)
            }
            Packet::Accepts { numbers, .. } => (numbers.len(), ACCEPT_HEADER_BYTES, signed),
        };
        (0..messages).for_each(|_| self.meter.sent(true, false));
        let bytes = HEADER_BYTES + (messages - 1) * own_header + body;
        for arrival in self.uplinks.arrivals(at, from, to, on_the_wire(bytes)) {
            self.schedule(arrival, Happening::Arrival { from, to, packet: packet.clone() });
        }
    }

    /// Executes what is proposed and accepted by a majority, in order.
    fn execute(&mut self, id: SiteId) {
        let accepts = usize::from(self.config.sites / 2);
        let at = self.now + nanos(self.config.lan_delay);
        loop {
            let site = self.site(id);
            let next = site.executed + 1;
            let is_accepted = site.accepts.get(&next).is_some_and(|from| from.len() >= accepts);
            let Some(client) = site.proposals.get(&next).copied().filter(|_| is_accepted) else { return };
            site.executed = next;
            (site.accepts, site.proposals) =
                (site.accepts.split_off(&(next + 1)), site.proposals.split_off(&(next + 1)));
            if self.homes[&client] == id {
                self.schedule(at, Happening::Answered(client));
            }
        }
    }
}

impl Happening {
    /// What of it goes into the trace.
    fn essence(&self) -> [u8; 17] {
        let (kind, place, what) = match self {
            Self::Turn(id) => (0, 0, id.0),
            Self::Arrival { to, packet, .. } => (1, to.0, packet.name()),
            Self::Checked { to, packet, .. } => (2, to.0, packet.name()),
            Self::Waking(id) => (3, id.0, 0),
            Self::Assigned(clients) => (4, 0, clients.len() as u64),
            Self::Signed { site, numbers, .. } => (5, site.0, numbers.len() as u64),
            Self::Answered(id) => (6, 0, id.0),
        };
        let mut essence = [0; 17];
        essence[0] = kind;
        essence[1..3].copy_from_slice(&u16::to_le_bytes(place));
        essence[3..11].copy_from_slice(&what.to_le_bytes());
        essence
    }
}

impl Packet {
    /// What the first of it is about.
    fn name(&self) -> u64 {
        match self {
            Self::Update(client) => client.0,
            Self::Proposals { proposals, .. } => proposals[0].0,
            Self::Accepts { numbers, .. } => numbers[0],
        }
    }
}
