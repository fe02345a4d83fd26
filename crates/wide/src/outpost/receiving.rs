//! What a server does as the peer of a virtual link: it brings what comes to its own group, as a client of that,
//! and returns acknowledgements.

use super::Outpost;
use super::io::{Lane, LocalMessage, OutpostOutput, SiteMessage};
use crate::machine::{Link, Links};
use crate::message::{Header, LinkMessage};
use crate::operation::{SiteEvent, SiteOperation};
use crate::parcel::Parcel;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{Instant, ReplicaId, SiteId, encode};
use borsh::object_length;
use core::time::Duration;

/// How far ahead of what is executed messages are held, in messages.
const MOST_AHEAD: u64 = 8192;

/// What a message takes beside its body, about.
const OVERHEAD: u64 = 256;

/// For how many ticks a server of another site is not listened to at most.
const MOST_TICKS_DEAF: u32 = 64;

/// The servers of other sites that have sent what their sites have not signed.
///
/// To find that out costs as much as a good signature, and a correct server sends none: so each is listened to no more for
/// a while, twice as long each time.
#[derive(Default)]
pub(super) struct Distrust {
    until: BTreeMap<(SiteId, ReplicaId), (Instant, u32)>,
}

impl Distrust {
    fn is_distrusted(&self, now: Instant, who: (SiteId, ReplicaId)) -> bool {
        self.until.get(&who).is_some_and(|(until, _)| now < *until)
    }

    /// It has sent something wrong. Who has not for long begins anew.
    fn on_wrong(&mut self, now: Instant, who: (SiteId, ReplicaId), tick: Duration) {
        let most = tick * MOST_TICKS_DEAF;
        let known = self.until.get(&who).filter(|(until, _)| now.since(*until) < most);
        let ticks = known.map_or(1, |(_, ticks)| (2 * ticks).min(MOST_TICKS_DEAF));
        self.until.insert(who, (now + tick * ticks, ticks));
    }
}

/// Messages by their numbers, and how many bytes they take.
#[derive(Default)]
struct Held {
    messages: BTreeMap<u64, LinkMessage>,
    bytes: u64,
}

impl Held {
    fn insert(&mut self, message: LinkMessage) {
        self.bytes += bytes_of(&message);
        if let Some(other) = self.messages.insert(message.header.number, message) {
            self.bytes -= bytes_of(&other);
        }
    }

    fn drop_up_to(&mut self, number: u64) {
        while let Some(first) = self.messages.first_entry().filter(|first| *first.key() <= number) {
            self.bytes -= bytes_of(&first.remove());
        }
    }
}

fn bytes_of(message: &LinkMessage) -> u64 {
    message.body.len() as u64 + OVERHEAD
}

/// What comes from a site.
#[derive(Default)]
pub(super) struct Receiving {
    /// What has yet to be executed, by number.
    held: Held,
    /// The one that says most of what the sender has forgotten.
    skipping: Option<LinkMessage>,
    /// The latest that only acknowledges.
    acknowledging: Option<LinkMessage>,
    /// Who sends, and when that was last heard.
    forwarder: Option<(ReplicaId, Instant)>,
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

impl Outpost {
    /// A server of another site has sent something.
    pub(super) fn on_parcel(
        &mut self,
        now: Instant,
        (site, server): (SiteId, ReplicaId),
        parcel: Parcel,
        outputs: &mut Vec<OutpostOutput>,
    ) {
        let is_apt =
            parcel.ends() == (site, self.config.links.site) && parcel.headers().all(Header::is_possible);
        if !is_apt || self.distrust.is_distrusted(now, (site, server)) {
            return;
        }
        let last = parcel.headers().map(|header| header.number).max().unwrap_or_default();
        let Some(messages) = parcel.open(&self.config.keys) else {
            return self.distrust.on_wrong(now, (site, server), self.config.tick);
        };
        if last > 0 {
            self.note_sender(now, (site, server), last, outputs);
        }
        for message in messages {
            // With a path of its own a message may be longer than its part of what came.
            if object_length(&message).is_ok_and(|bytes| bytes <= self.longest_event()) {
                self.take_in(message);
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

    /// Holds a message until its turn comes.
    pub(super) fn take_in(&mut self, message: LinkMessage) {
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
            if is_next || (is_near && receiving.held.bytes <= 2 * self.config.window_bytes) {
                receiving.held.insert(message);
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
        let following = (next..)
            .map_while(|number| receiving.held.messages.get(&number))
            .take(self.config.events_at_once);
        events.extend(following.cloned().map(SiteEvent::Incoming));
        events.truncate(self.fitting(&events));
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
        let Some(proof) = self.range_proof((site, place), 1, outputs) else { return };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Kind;
    use althing_crypto::site::{SiteBatch, SiteDeal};
    use althing_crypto::{Domain, KeySeed};
    use althing_types::GroupId;

    const TICK: Duration = Duration::from_millis(100);

    fn message(number: u64, bytes: usize) -> LinkMessage {
        let deal = SiteDeal::plain(1, &KeySeed::from([7; 32]));
        let batch = SiteBatch::new(GroupId([1; 16]), SiteId(0), &[(Domain::Link, b"said")]);
        let shares = [(ReplicaId(0), deal.secrets[0].share(&batch.statement()))].into();
        let signature = deal.shares.combine(&batch.statement(), &shares).signature.expect("one is enough");
        let (from, to, kind) = (SiteId(0), SiteId(1), Kind::Protocol);
        let header = Header { from, to, number, base: 1, acknowledged: 0, kind };
        LinkMessage { header, proof: batch.proof(0, signature), body: alloc::vec![0; bytes] }
    }

    #[test]
    fn what_is_held_is_counted() {
        let mut held = Held::default();
        let sizes = [(5, 100), (3, 10), (9, 1), (5, 50), (3, 10)];
        sizes.into_iter().for_each(|(number, bytes)| held.insert(message(number, bytes)));
        assert_eq!(held.bytes, 3 * OVERHEAD + 61);
        held.drop_up_to(5);
        assert_eq!((held.messages.len(), held.bytes), (1, OVERHEAD + 1));
        held.drop_up_to(u64::MAX);
        assert_eq!((held.messages.len(), held.bytes), (0, 0));
    }

    #[test]
    fn no_site_gets_to_the_last_number() {
        let possible = |number, base| Header { number, base, ..message(1, 0).header }.is_possible();
        assert!(possible(0, 0) && possible(u64::MAX - 1, 1));
        assert!(!possible(u64::MAX, 1) && !possible(1, u64::MAX));
    }

    #[test]
    fn who_sends_wrong_signatures_costs_ever_less_and_begins_anew_after_a_long_while() {
        let (liar, other) = ((SiteId(1), ReplicaId(0)), (SiteId(1), ReplicaId(1)));
        let mut distrust = Distrust::default();
        let mut checked = Vec::new();
        for ms in 0..60_000 {
            let now = Instant(ms * 1_000_000);
            assert!(!distrust.is_distrusted(now, other));
            if !distrust.is_distrusted(now, liar) {
                distrust.on_wrong(now, liar, TICK);
                checked.push(ms);
            }
        }
        assert_eq!(checked[..8], [0, 100, 300, 700, 1500, 3100, 6300, 12_700]);
        assert!(checked[8..].windows(2).all(|pair| pair[1] - pair[0] == 6400) && checked.len() > 12);
        let later = Instant(1_000_000 * 1_000_000);
        distrust.on_wrong(later, liar, TICK);
        assert!(!distrust.is_distrusted(later + TICK, liar));
    }
}
