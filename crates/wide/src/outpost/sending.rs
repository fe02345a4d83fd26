//! What a server does as the forwarder of a virtual link, and how all watch over it (SRDS'07 §5.1).

use super::Outpost;
use super::io::{OutpostOutput, OutpostTimer, SiteMessage};
use crate::machine::{Link, Links, Outgoing};
use crate::message::LinkMessage;
use crate::operation::SiteEvent;
use alloc::vec::Vec;
use althing_types::{Instant, ReplicaId, SiteId, encode};
use core::time::Duration;

/// Who sends and who receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VirtualLink {
    pub(super) forwarder: ReplicaId,
    pub(super) peer: ReplicaId,
}

/// The least that is under way to a site that does not acknowledge, in bytes.
const LEAST_WINDOW_BYTES: usize = 16 * 1024;

/// What this server has sent to a site, over the present virtual link.
#[derive(Default)]
pub(super) struct Sending {
    via: u64,
    /// Up to which number shares were given to the forwarder.
    shared: u64,
    /// Up to which number messages were sent.
    sent: u64,
    /// Whether the peer has been told which messages will not come.
    has_skipped: bool,
    /// Up to which number they were acknowledged when that was last looked at.
    acknowledged: u64,
    /// What may be under way, in bytes.
    window: usize,
    /// When something was last sent or acknowledged.
    moved: Instant,
    watch: Option<Watch>,
}

/// Up to which number a virtual link has to be acknowledged by the time that a timer expires.
struct Watch {
    via: u64,
    goal: u64,
}

impl Outpost {
    pub(super) fn forward_all(&mut self, now: Instant, links: &Links, outputs: &mut Vec<OutpostOutput>) {
        for (site, link) in links.iter() {
            self.follow(now, site, link, outputs);
            self.forward(now, site, link, outputs);
            self.watch(site, link, outputs);
        }
    }

    /// Takes note of a new virtual link, or new acknowledgements, and gives shares for what is new.
    fn follow(&mut self, now: Instant, site: SiteId, link: &Link, outputs: &mut Vec<OutpostOutput>) {
        let window = self.config.window_bytes;
        let sending = self.sending.entry(site).or_insert_with(|| Sending { window, ..Sending::default() });
        if sending.via != link.via {
            (sending.via, sending.shared, sending.sent) = (link.via, link.acknowledged, link.acknowledged);
            (sending.window, sending.has_skipped) = (window, false);
        }
        if sending.acknowledged < link.acknowledged {
            sending.acknowledged = link.acknowledged;
            sending.sent = sending.sent.max(link.acknowledged);
            sending.window = (2 * sending.window).min(window);
            sending.moved = now;
        }
        let shared = core::mem::replace(&mut sending.shared, link.said);
        let forwarder = self.virtual_link(site, link.via).forwarder;
        for outgoing in after(link, shared) {
            self.give_share(outgoing.place.batch, forwarder, outputs);
        }
    }

    /// Sends what may be sent, if it is this server's turn.
    fn forward(&mut self, now: Instant, site: SiteId, link: &Link, outputs: &mut Vec<OutpostOutput>) {
        let VirtualLink { forwarder, peer } = self.virtual_link(site, link.via);
        if forwarder != self.config.server {
            return;
        }
        let Sending { sent, window, has_skipped, .. } = self.sending[&site];
        let has_forgotten =
            link.queue.front().is_some_and(|first| first.header.number > link.acknowledged + 1);
        if has_forgotten && !has_skipped {
            // The last one says that those before the first will not come.
            let last = link.queue.back().expect("there is a first one");
            if !self.send(site, peer, last, outputs) {
                return;
            }
            self.sending.get_mut(&site).expect("it was just there").has_skipped = true;
        }
        let mut sent = sent;
        let mut under_way: usize = 0;
        for outgoing in &link.queue {
            under_way += outgoing.body.len() + 256;
            if outgoing.header.number <= sent {
                continue;
            }
            let is_first = under_way == outgoing.body.len() + 256;
            let is_over = under_way > window && !is_first;
            if is_over || !self.send(site, peer, outgoing, outputs) {
                break;
            }
            sent = outgoing.header.number;
        }
        let sending = self.sending.get_mut(&site).expect("it was just there");
        if sending.sent < sent {
            (sending.sent, sending.moved) = (sent, now);
        }
    }

    /// Sends a message, if it is signed.
    fn send(
        &mut self,
        site: SiteId,
        peer: ReplicaId,
        outgoing: &Outgoing,
        outputs: &mut Vec<OutpostOutput>,
    ) -> bool {
        let Some(proof) = self.proof(outgoing.place, outputs) else { return false };
        let message = LinkMessage { header: outgoing.header, proof, body: outgoing.body.to_vec() };
        if site == self.config.site {
            self.take_in(message);
        } else {
            let bytes = encode(&SiteMessage::Link(message)).into();
            outputs.push(OutpostOutput::ToSite { site, server: peer, bytes });
        }
        true
    }

    /// What nobody has acknowledged for long is sent again, a little at first.
    pub(super) fn resend(&mut self, now: Instant) {
        for sending in self.sending.values_mut() {
            let is_stuck = now.since(sending.moved) > self.config.acknowledgement_timeout / 2;
            if is_stuck && sending.sent > sending.acknowledged {
                (sending.sent, sending.has_skipped) = (sending.acknowledged, false);
                sending.window = LEAST_WINDOW_BYTES;
                sending.moved = now;
            }
        }
    }

    /// Sees to it that what waits is acknowledged in time: as a whole, so that a forwarder which brings over one
    /// message now and then is found out too.
    fn watch(&mut self, site: SiteId, link: &Link, outputs: &mut Vec<OutpostOutput>) {
        let sending = self.sending.get_mut(&site).expect("it is followed");
        let is_watched = sending
            .watch
            .as_ref()
            .is_some_and(|watch| watch.via == link.via && link.acknowledged < watch.goal);
        let Some(last) = link.queue.back() else {
            sending.watch = None;
            return;
        };
        if !is_watched {
            sending.watch = Some(Watch { via: link.via, goal: last.header.number });
            let bytes: u64 = link.queue.iter().map(|outgoing| outgoing.body.len() as u64 + 256).sum();
            let needed = bytes * 1_000_000 / self.config.floor_bytes_per_second.max(1);
            let after = self.config.acknowledgement_timeout + Duration::from_micros(needed);
            outputs.push(OutpostOutput::SetTimer { timer: OutpostTimer::Watch(site), after });
        }
    }

    /// The time is over in which what waited had to be acknowledged.
    pub(super) fn on_watch_expired(&mut self, site: SiteId, links: &Links) {
        let Some(link) = links.link(site) else { return };
        let Some(sending) = self.sending.get_mut(&site) else { return };
        let Some(watch) = sending.watch.take() else { return };
        if watch.via == link.via && link.acknowledged < watch.goal {
            self.control.push(SiteEvent::Suspected { site, link: link.via });
        }
    }
}

/// What waits above a number.
fn after(link: &Link, number: u64) -> impl Iterator<Item = &Outgoing> {
    let first = link.queue.partition_point(|outgoing| outgoing.header.number <= number);
    link.queue.range(first..)
}
