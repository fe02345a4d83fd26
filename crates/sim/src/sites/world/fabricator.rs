//! A server that makes things up: as a client of its own site, on all its lanes, and towards other sites.

use super::{Happening, Place, World};
use crate::dice::{Dice, nanos};
use crate::sites::keys::lane_client;
use crate::sites::server::client;
use althing_crypto::Proof;
use althing_crypto::site::SiteKeys;
use althing_replica::{ClientOutput, Input, OperationKind};
use althing_types::{Principal, ReplicaId, RequestNumber, SiteId, decode, encode};
use althing_wide::{Kind, Lane, LinkMessage, Parcel, ServerInput, SiteEvent, SiteOperation, Timer, Update};
use std::collections::VecDeque;
use std::time::Duration;

/// How often it does something.
const PERIOD: Duration = Duration::from_millis(120);

/// Its lanes' requests are numbered from here on: above those of the server as it would be.
const FIRST_NUMBER: u64 = 1 << 40;

/// How many messages of other sites it keeps.
const MOST_OVERHEARD: usize = 32;

/// How many parcels of its own site it keeps.
const MOST_SENT: usize = 8;

/// How what goes from site to site begins where it is a parcel.
const LINK: u8 = 0;

/// What such a server knows.
pub(super) struct Fabricator {
    dice: Dice,
    /// The public keys of all sites, to open what it overhears.
    keys: SiteKeys,
    overheard: VecDeque<LinkMessage>,
    /// What it has sent itself as a forwarder, and to which sites.
    sent: VecDeque<(SiteId, Vec<u8>)>,
    made: u64,
}

impl Fabricator {
    pub(super) fn new(dice: Dice, keys: SiteKeys) -> Self {
        Self { dice, keys, overheard: VecDeque::new(), sent: VecDeque::new(), made: 0 }
    }

    /// Another site has said something to it.
    pub(super) fn overhear(&mut self, bytes: &[u8]) {
        let Some((&LINK, parcel)) = bytes.split_first() else { return };
        let messages = decode(parcel, parcel.len()).ok().and_then(|it: Parcel| it.open(&self.keys));
        self.overheard.extend(messages.into_iter().flatten());
        let surplus = self.overheard.len().saturating_sub(MOST_OVERHEARD);
        self.overheard.drain(..surplus);
    }

    /// It has sent something to a site.
    pub(super) fn on_sent(&mut self, to: SiteId, bytes: &[u8]) {
        if bytes.first() == Some(&LINK) {
            self.sent.push_back((to, bytes.to_vec()));
            if self.sent.len() > MOST_SENT {
                self.sent.pop_front();
            }
        }
    }

    /// What it says to another site: something overheard, or what its own site says there with a bit of it changed, cut
    /// off, or as it was.
    fn parcel(&mut self, to: SiteId) -> Option<(SiteId, Vec<u8>)> {
        if self.dice.chance(500) {
            let parcel = encode(&Parcel::from(self.message()?));
            return Some((to, [vec![LINK], parcel].concat()));
        }
        let index = self.dice.index(self.sent.len().max(1));
        let (to, mut bytes) = self.sent.get(index)?.clone();
        let at = self.dice.index(bytes.len());
        match self.dice.below(4) {
            0 => bytes.truncate(at),
            1 => {}
            _ => bytes[at] ^= 1 << self.dice.below(8),
        }
        Some((to, bytes))
    }

    /// Something that a site may have said, or has said before.
    fn message(&mut self) -> Option<LinkMessage> {
        let index = self.dice.index(self.overheard.len().max(1));
        let mut message = self.overheard.get(index)?.clone();
        match self.dice.below(6) {
            0 => message.header.number = self.dice.below(300),
            1 => message.header.acknowledged = self.dice.below(1 << 20),
            2 => message.header.base = self.dice.below(300),
            3 => message.header.kind = self.dice.pick(&[Kind::Request, Kind::Statement, Kind::UrgentBundle]),
            4 if !message.body.is_empty() => {
                let at = self.dice.index(message.body.len());
                message.body[at] ^= 1;
            }
            _ => {}
        }
        Some(message)
    }

    fn event(&mut self, sites: u64) -> Option<SiteEvent> {
        let site = SiteId(u16::try_from(self.dice.below(sites)).expect("small"));
        Some(match self.dice.below(4) {
            0 => {
                let protocol = Timer::Protocol(u32::try_from(self.dice.below(4)).expect("small"));
                let timer = self.dice.pick(&[protocol, Timer::Acknowledge, Timer::Relay]);
                SiteEvent::Expired { timer, generation: self.dice.below(400) }
            }
            1 => SiteEvent::Suspected { site, turn: self.dice.below(16), number: self.dice.below(300) },
            _ => SiteEvent::Incoming(self.message()?),
        })
    }

    fn operation(&mut self, sites: u64) -> Vec<u8> {
        let count = self.dice.below(40);
        let events = (0..count).filter_map(|_| self.event(sites)).collect();
        let mut bytes = match self.dice.below(8) {
            0 => encode(&SiteOperation::Update(Update {
                number: RequestNumber(self.dice.below(100)),
                operation: vec![0; self.dice.index(200)],
                proof: Proof(vec![7; 64]),
            })),
            _ => encode(&SiteOperation::Events(events)),
        };
        if self.dice.chance(200) {
            bytes.truncate(self.dice.index(bytes.len()));
        }
        bytes
    }
}

impl World<'_> {
    /// Has a server make something up, as long as there are faults.
    pub(super) fn fabricate(&mut self, site: SiteId, me: ReplicaId) {
        if self.has_healed {
            return;
        }
        let sites = self.materials.len() as u64;
        let fabricator = self.fabricators.get_mut(&(site, me)).expect("it fabricates");
        let other = SiteId(u16::try_from(fabricator.dice.below(sites)).expect("small"));
        let lane = if fabricator.dice.chance(500) { Lane::Control } else { Lane::From(other) };
        let operation = fabricator.operation(sites);
        let parcel = fabricator.parcel(other).filter(|(to, _)| *to != site);
        fabricator.made += 1;
        let number = RequestNumber(FIRST_NUMBER + fabricator.made);
        let to = fabricator.dice.pick(&[0, 1, 2, 3].map(ReplicaId));
        self.submit_as_lane((site, me), lane, number, operation);
        if let Some((other, bytes)) = parcel {
            for at in self.uplinks.arrivals(self.now, site, other, bytes.len()) {
                let input = ServerInput::FromSite { site, server: me, bytes: bytes.clone() };
                if self.hosts.contains_key(&(other, to)) {
                    self.schedule(at, Happening::Input(other, to, input));
                }
            }
        }
        let next = self.dice.around(PERIOD);
        self.schedule(self.now + nanos(next), Happening::Fabricate(site, me));
    }

    /// Sends an operation to all of a server's group, as a client that the server is. Nobody waits for the result.
    fn submit_as_lane(
        &mut self,
        (site, me): (SiteId, ReplicaId),
        lane: Lane,
        number: RequestNumber,
        operation: Vec<u8>,
    ) {
        let id = lane_client(me, lane);
        let now = self.instant();
        let material = &self.materials[usize::from(site.0)];
        let server = self.hosts[&(site, me)].server.as_ref();
        let membership = server.and_then(|server| server.membership()).cloned();
        let mut client = client(material, id, Duration::from_secs(1), number, membership);
        let mut outputs = Vec::new();
        client.submit(now, operation, OperationKind::Ordered, &mut outputs).expect("it is short");
        for output in outputs {
            if let ClientOutput::Send { to, frame } = output {
                let input = Input::Frame { from: Principal::Client(id), bytes: frame.to_vec() };
                let happening = Happening::Input(site, to, ServerInput::Replica(input));
                self.deliver(Place::Server(site, me), Place::Server(site, to), happening);
            }
        }
    }
}
