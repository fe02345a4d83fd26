//! What a server does as the peer of a virtual link: it brings what comes to its own group, as a client of that,
//! and returns acknowledgements.

use super::Outpost;
use super::held::{Held, Waiting};
use super::io::{Lane, LocalMessage, OutpostOutput, SiteMessage};
use super::signing::Haste;
use crate::machine::{Link, Links};
use crate::message::{Header, LinkMessage};
use crate::operation::{SiteEvent, SiteOperation};
use crate::parcel::Parcel;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{Instant, ReplicaId, SiteId, encode};
use borsh::object_length;
use core::ops::Range;

/// How far ahead of what is executed messages are held, in messages.
const MOST_AHEAD: u64 = 8192;

/// What comes from a site.
#[derive(Default)]
pub(super) struct Receiving {
    /// What has yet to be executed.
    pub(super) held: Held,
    /// The numbers of what was submitted last.
    pub(super) submitted: Range<u64>,
    /// The one that says most of what the sender has forgotten.
    skipping: Option<LinkMessage>,
    /// The latest that only acknowledges.
    acknowledging: Option<LinkMessage>,
    /// Who sends, and when that was last heard.
    pub(super) forwarder: Option<(ReplicaId, Instant)>,
    /// When the others were last told that this server receives.
    announced: Option<Instant>,
    /// The other servers that receive, and since when nothing else was heard of that.
    receivers: BTreeMap<ReplicaId, Instant>,
    /// Up to which number the sender was told that it was received.
    told: u64,
    /// What has come twice: the sender may not have heard that it was received.
    again: Option<LinkMessage>,
    /// Who has sent it again: the next forwarder, perhaps, which has sent nothing that is new here.
    asker: Option<ReplicaId>,
}

impl Receiving {
    /// What the site has said to itself from this number on will come again.
    pub(super) fn take_back(&mut self, first: u64) {
        self.held.drop_from(first);
        self.skipping = None;
    }
}

impl Outpost {
    /// A server of another site has sent something.
    pub(super) fn on_parcel(
        &mut self,
        now: Instant,
        (site, server): (SiteId, ReplicaId),
        parcel: Parcel,
        links: &Links,
        outputs: &mut Vec<OutpostOutput>,
    ) {
        let is_apt =
            parcel.ends() == (site, self.config.links.site) && parcel.headers().all(Header::is_possible);
        if !is_apt || self.distrust.is_distrusted(now, (site, server)) {
            return;
        }
        let last = parcel.headers().map(|header| header.number).max().unwrap_or_default();
        let (keys, tick) = (&self.config.keys, self.config.tick);
        // To say again what was received, one of what is repeated is enough; and an old one costs a check like any other.
        let repeats = parcel.headers().all(|header| links.is_repeated(header));
        if repeats && !self.distrust.may_repeat(now, (site, server), tick) {
            return;
        }
        let Some(messages) = parcel.presume(keys.system()) else {
            return self.distrust.on_wrong(now, (site, server), tick, None);
        };
        let is_presumed = self.is_presumed(now, (site, server), &messages);
        // They have one signature.
        if !is_presumed {
            let signed = messages[0].signed(keys);
            if self.distrust.is_known_wrong((site, server), &signed) {
                return;
            }
            if !messages[0].is_genuine(keys) {
                return self.distrust.on_wrong(now, (site, server), tick, Some(signed));
            }
            self.compare(now, site, &messages);
        }
        if last > 0 {
            self.note_sender(now, (site, server), last, outputs);
        }
        for message in messages {
            // With a path of its own a message may be longer than its part of what came.
            if object_length(&message).is_ok_and(|bytes| bytes <= self.longest_event()) {
                self.hold(message, is_presumed.then_some(server));
            }
        }
    }

    /// A server has sent what has numbers up to `last`. Whoever sends something new is told of what is received; who repeats
    /// what is known here is told once, since others than the forwarder may.
    fn note_sender(
        &mut self,
        now: Instant,
        (site, server): (SiteId, ReplicaId),
        last: u64,
        outputs: &mut Vec<OutpostOutput>,
    ) {
        let (tick, received) = (self.config.tick, self.received.get(&site).copied().unwrap_or_default());
        let receiving = self.receiving.entry(site).or_default();
        if last <= received {
            receiving.asker = Some(server);
        } else {
            if receiving.forwarder.is_none_or(|(known, _)| known != server) {
                receiving.told = 0;
            }
            receiving.forwarder = Some((server, now));
        }
        if receiving.announced.is_none_or(|then| now.since(then) >= tick) {
            receiving.announced = Some(now);
            self.tell_servers(&LocalMessage::Receiving { site }, outputs);
        }
    }

    /// Holds a message until its turn comes: one that a server has sent and nobody has checked, where that is given.
    pub(super) fn hold(&mut self, message: LinkMessage, unchecked: Option<ReplicaId>) {
        let header = message.header;
        let receiving = self.receiving.entry(header.from).or_default();
        let received = self.received.get(&header.from).copied().unwrap_or_default();
        if header.number == 0 {
            let known = receiving.acknowledging.as_ref().map_or(0, |known| known.header.acknowledged);
            if header.acknowledged > known {
                receiving.acknowledging = Some(message);
            }
        } else if header.number <= received {
            receiving.again = Some(message);
        } else {
            let furthest = receiving.skipping.as_ref().map_or(received + 1, |known| known.header.base);
            if header.base > furthest {
                receiving.skipping = Some(message.clone());
            }
            let is_near = header.number <= received.saturating_add(MOST_AHEAD);
            let is_next = header.number == received + 1;
            let has_room = receiving.held.bytes_beside(unchecked.is_some()) <= 2 * self.config.window_bytes;
            if is_next || (is_near && has_room) {
                receiving.held.insert(Waiting { message, unchecked });
            }
        }
    }

    /// Another server of this site says that it receives what comes from a site.
    pub(super) fn on_receiving(&mut self, now: Instant, from: ReplicaId, site: SiteId) {
        if usize::from(site.0) < self.config.links.groups.len() {
            self.receiving.entry(site).or_default().receivers.insert(from, now);
        }
    }

    /// Puts what has come in order, as far as the lanes are free, and acknowledges what was.
    pub(super) fn receive_all(&mut self, now: Instant, links: &Links, outputs: &mut Vec<OutpostOutput>) {
        for (site, link) in links.iter() {
            self.received.insert(site, link.received);
            self.acknowledge(now, site, link, outputs);
        }
        let sites: Vec<SiteId> = self.receiving.keys().copied().collect();
        for site in sites {
            if !self.busy.contains(&Lane::From(site)) {
                self.check_submitted(now, site);
                let events = self.next_events(site, links.link(site));
                self.submit(Lane::From(site), events, outputs);
            }
        }
    }

    /// What comes next from a site.
    fn next_events(&mut self, site: SiteId, link: Option<&Link>) -> Vec<SiteEvent> {
        let (received, acknowledged) = link.map_or((0, 0), |link| (link.received, link.acknowledged));
        let Some(receiving) = self.receiving.get_mut(&site) else { return Vec::new() };
        receiving.held.drop_up_to(received);
        let mut events = Vec::new();
        let mut next = received + 1;
        // What the sender has forgotten is passed over first.
        if let Some(message) = receiving.skipping.take().filter(|message| message.header.base > next) {
            next = message.header.base;
            events.push(SiteEvent::Incoming(message));
        }
        let acknowledging = receiving.acknowledging.take();
        let is_news = |message: &LinkMessage| message.header.acknowledged > acknowledged;
        events.extend(acknowledging.filter(is_news).map(SiteEvent::Incoming));
        // There is no acknowledgement to show: it has to be said anew.
        events.extend(receiving.again.take().map(SiteEvent::Incoming));
        let following =
            (next..).map_while(|number| receiving.held.at(number)).take(self.config.events_at_once);
        events.extend(following.map(|waiting| SiteEvent::Incoming(waiting.message.clone())));
        events.truncate(self.fitting(&events));
        let numbers = || events.iter().filter_map(number_of).filter(|number| *number > received);
        let submitted = numbers().min().unwrap_or_default()..numbers().max().map_or(0, |last| last + 1);
        if let Some(receiving) = self.receiving.get_mut(&site) {
            receiving.submitted = submitted;
        }
        events
    }

    /// Has the site that sends hear of what was received, by way of who sends it.
    fn acknowledge(&mut self, now: Instant, site: SiteId, link: &Link, outputs: &mut Vec<OutpostOutput>) {
        let Some((header, place)) = link.acknowledgement else { return };
        let Some(receiving) = self.receiving.get_mut(&site) else { return };
        let patience = self.config.links.pace.timeout();
        receiving.receivers.retain(|_, then| now.since(*then) < patience);
        let receivers: Vec<ReplicaId> = receiving.receivers.keys().copied().collect();
        let forwarder = receiving.forwarder.filter(|(_, then)| now.since(*then) < patience);
        let forwarder = forwarder.filter(|_| receiving.told < header.acknowledged);
        let asker = receiving.asker.filter(|_| header.acknowledged == link.received);
        if asker.is_some() {
            receiving.again = None;
        }
        let targets: BTreeSet<ReplicaId> =
            forwarder.map(|(server, _)| server).into_iter().chain(asker).collect();
        for receiver in receivers {
            self.give_share(place.batch, receiver, outputs);
        }
        if targets.is_empty() {
            return;
        }
        self.give_share(place.batch, self.config.server, outputs);
        let Some(proof) = self.range_proof((site, place), 1, Haste::None, outputs) else { return };
        let parcel = Parcel::new(proof, [(header, Vec::new())].into());
        let bytes: Arc<[u8]> = encode(&SiteMessage::Link(parcel)).into();
        let to = |server| OutpostOutput::ToSite { site, server, bytes: Arc::clone(&bytes) };
        outputs.extend(targets.into_iter().map(to));
        let receiving = self.receiving.get_mut(&site).expect("it was just there");
        if forwarder.is_some() {
            receiving.told = header.acknowledged;
        }
        if asker.is_some() {
            receiving.asker = None;
        }
    }

    /// Submits events, if there are any and nothing is under way on this lane.
    pub(super) fn submit(&mut self, lane: Lane, events: Vec<SiteEvent>, outputs: &mut Vec<OutpostOutput>) {
        if !events.is_empty() && self.busy.insert(lane) {
            let operation = encode(&SiteOperation::Events(events));
            outputs.push(OutpostOutput::Submit { lane, operation });
        }
    }
}

/// The number of a message.
fn number_of(event: &SiteEvent) -> Option<u64> {
    match event {
        SiteEvent::Incoming(message) => Some(message.header.number),
        _ => None,
    }
}
