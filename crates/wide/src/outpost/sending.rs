//! What a server does as the forwarder of a virtual link, and how all watch over it (SRDS'07 §5.1).

use super::Outpost;
use super::io::{OutpostOutput, OutpostTimer, SiteMessage};
use super::signing::Haste;
use crate::blink::{LinkConfig, LinkWatch, Obligation, VirtualLink};
use crate::machine::{LEAST_WINDOW_BYTES, Link, Links, Outgoing};
use crate::message::LinkMessage;
use crate::operation::SiteEvent;
use crate::parcel::Parcel;
use alloc::vec::Vec;
use althing_types::{Instant, ReplicaId, Seq, SiteId, encode};

/// How long a parcel of several messages may be, in bytes. They arrive together, so the first waits for the last; and
/// what is longer gains little from company.
const MOST_PARCEL_BYTES: usize = 16 * 1024;

/// And what part of a link's timeout it may take at the floor's pace: nothing is acknowledged before all of it is there.
const PARCELS_PART: u32 = 8;

/// What this server has sent to a site, over the present virtual link.
#[derive(Default)]
pub(super) struct Sending {
    /// The number of that link's turn.
    turn: u64,
    /// Up to which number shares were given to the forwarder.
    shared: u64,
    /// Up to which number messages were sent.
    sent: u64,
    /// Whether the peer has been told which messages will not come.
    has_skipped: bool,
    /// Up to which number they were acknowledged when that was last looked at.
    acknowledged: u64,
    /// What may be under way, in bytes.
    window: u64,
    /// When something was last acknowledged, or sent while nothing was under way.
    moved: Instant,
    /// When what waits is due.
    watch: LinkWatch,
    /// When the timer expires by which the virtual link is watched.
    watched_until: Option<Instant>,
    /// What it was suspected of last: turn and message.
    suspected: Option<(u64, u64)>,
}

impl Outpost {
    /// Sends what may be sent. To the site that leads first, since nothing is decided before that has heard of it; but
    /// where much waits last, since it may name to the others what it is told, and they should have that by then.
    pub(super) fn forward_all(
        &mut self,
        now: Instant,
        leader: SiteId,
        links: &Links,
        outputs: &mut Vec<OutpostOutput>,
    ) {
        let is_light = links.are_light();
        let (first, last): (Vec<_>, Vec<_>) =
            links.iter().partition(|(site, _)| (*site == leader) == is_light);
        for (site, link) in first.into_iter().chain(last) {
            self.follow(now, site, link, outputs);
            self.forward(now, site, link, outputs);
            self.watch(now, site, link, outputs);
        }
    }

    /// Takes note of a new virtual link, or new acknowledgements, and gives shares for what is new.
    fn follow(&mut self, now: Instant, site: SiteId, link: &Link, outputs: &mut Vec<OutpostOutput>) {
        let window = self.config.window_bytes;
        let sending = self.sending.entry(site).or_insert_with(|| Sending { window, ..Sending::default() });
        let turn = link.progress.turn().number;
        if sending.turn != turn {
            (sending.turn, sending.shared, sending.sent) = (turn, link.acknowledged, link.acknowledged);
            (sending.window, sending.has_skipped) = (window, false);
        }
        if sending.acknowledged < link.acknowledged {
            sending.acknowledged = link.acknowledged;
            sending.sent = sending.sent.max(link.acknowledged);
            sending.window = (2 * sending.window).min(window);
            sending.moved = now;
        }
        let shared = core::mem::replace(&mut sending.shared, link.said);
        let forwarder = self.virtual_link(site, link).forwarder;
        for outgoing in after(link, shared) {
            self.give_share(outgoing.place.batch, forwarder, outputs);
        }
    }

    /// Sends what may be sent, if it is this server's turn.
    fn forward(&mut self, now: Instant, site: SiteId, link: &Link, outputs: &mut Vec<OutpostOutput>) {
        let VirtualLink { forwarder, peer } = self.virtual_link(site, link);
        if forwarder != self.config.server {
            return;
        }
        let Sending { sent, window, has_skipped, .. } = self.sending[&site];
        let has_forgotten =
            link.queue.front().is_some_and(|first| first.header.number > link.acknowledged + 1);
        if has_forgotten && !has_skipped {
            // The last one says that those before the first will not come.
            let last = link.queue.back().expect("there is a first one");
            if !self.send((site, peer), &[last], Haste::None, outputs) {
                return;
            }
            self.sending.get_mut(&site).expect("it was just there").has_skipped = true;
        }
        let waiting: Vec<_> = fitting(link, window).filter(|it| it.header.number > sent).collect();
        let (mut waiting, mut sent) = (&waiting[..], sent);
        while let Some(count) = together(waiting, self.most_parcel_bytes()) {
            let (parcel, rest) = waiting.split_at(count);
            if !self.send((site, peer), parcel, Haste::Unchecked, outputs) {
                break;
            }
            (waiting, sent) = (rest, parcel[count - 1].header.number);
        }
        let sending = self.sending.get_mut(&site).expect("it was just there");
        if sending.sent < sent {
            if sending.sent <= sending.acknowledged {
                sending.moved = now;
            }
            sending.sent = sent;
        }
    }

    /// Sends messages that follow each other in a batch, if they are signed: together, or to the own site each as it is.
    fn send(
        &mut self,
        (site, peer): (SiteId, ReplicaId),
        messages: &[&Outgoing],
        haste: Haste,
        outputs: &mut Vec<OutpostOutput>,
    ) -> bool {
        if site == self.config.links.site {
            for Outgoing { header, body, place } in messages.iter().copied() {
                let Some(proof) = self.proof((site, *place), haste, outputs) else { return false };
                // Where it was not checked when it was made it soon is, and taken back if it is wrong.
                self.hold(LinkMessage { header: *header, proof, body: body.to_vec() }, None);
            }
            return true;
        }
        let Some(proof) = self.range_proof((site, messages[0].place), messages.len(), haste, outputs) else {
            return false;
        };
        let messages = messages.iter().map(|outgoing| (outgoing.header, outgoing.body.to_vec()));
        let bytes = encode(&SiteMessage::Link(Parcel::new(proof, messages.collect()))).into();
        outputs.push(OutpostOutput::ToSite { site, server: peer, bytes });
        true
    }

    /// How long a parcel of several messages may be: no longer than the other site takes, which takes operations as this
    /// one does, nor than a slow link carries in a part of its timeout.
    fn most_parcel_bytes(&self) -> usize {
        let pace = &self.config.links.pace;
        let carried = usize::try_from(pace.bytes_in(pace.timeout() / PARCELS_PART)).unwrap_or(usize::MAX);
        MOST_PARCEL_BYTES.min(self.longest_event()).min(carried)
    }

    /// What nobody has acknowledged for long is sent again, a little at first.
    pub(super) fn resend(&mut self, now: Instant) {
        let patience = self.config.links.pace.timeout() / 2;
        for sending in self.sending.values_mut() {
            let is_stuck = now.since(sending.moved) > patience;
            if is_stuck && sending.sent > sending.acknowledged {
                (sending.sent, sending.has_skipped) = (sending.acknowledged, false);
                sending.window = LEAST_WINDOW_BYTES;
                sending.moved = now;
            }
        }
    }

    /// What was sent of a batch was wrong, and has to be sent again with all that followed.
    pub(super) fn take_back(&mut self, batch: Seq, links: &Links) {
        for (site, link) in links.iter() {
            let first = link.queue.iter().find(|outgoing| outgoing.place.batch == batch);
            if let (Some(first), Some(sending)) = (first, self.sending.get_mut(&site)) {
                sending.sent = sending.sent.min(first.header.number - 1);
                sending.has_skipped = false;
            }
            if let (Some(first), true) = (first, site == self.config.links.site)
                && let Some(receiving) = self.receiving.get_mut(&site)
            {
                receiving.take_back(first.header.number);
            }
        }
    }

    /// What the virtual link owes first, and when this server suspects it of that.
    ///
    /// Where nobody lies the forwarder is to say that its peer does not answer, if it is there itself: the others wait
    /// for that for half a timeout more.
    fn owed(&self, site: SiteId, link: &Link) -> Option<(Obligation, Instant)> {
        let LinkConfig { pace, .. } = &self.config.links;
        let owed = self.sending.get(&site)?.watch.obligation(&link.progress, pace)?;
        let order = self.config.links.order(site);
        let forwarder = order.virtual_link(link.progress.turn()).forwarder;
        let is_after = order.keeps_forwarders() && forwarder != self.config.server;
        Some((owed, if is_after { owed.by + pace.timeout() / 2 } else { owed.by }))
    }

    /// Sees to it that this server wakes up when the virtual link may be suspected.
    fn watch(&mut self, now: Instant, site: SiteId, link: &Link, outputs: &mut Vec<OutpostOutput>) {
        self.follow_progress(now, site, link);
        let Some((owed, by)) = self.owed(site, link) else { return };
        let sending = self.sending.get_mut(&site).expect("it is followed");
        let is_known = sending.suspected == Some((owed.turn, owed.number));
        if !is_known && sending.watched_until.is_none_or(|until| by < until) {
            sending.watched_until = Some(by);
            outputs.push(OutpostOutput::SetTimer { timer: OutpostTimer::Watch(site), after: by.since(now) });
        }
    }

    /// Keeps up with what waits, and when it is due.
    fn follow_progress(&mut self, now: Instant, site: SiteId, link: &Link) {
        let watch = &mut self.sending.get_mut(&site).expect("it is followed").watch;
        let queued = after(link, watch.last(&link.progress).unwrap_or_default());
        let queued = queued.map(|outgoing| (outgoing.header.number, outgoing.bytes()));
        watch.follow(now, &link.progress, queued, &self.config.links.pace);
    }

    /// It wakes up; what the link owed then may have come.
    pub(super) fn on_watch_expired(&mut self, now: Instant, site: SiteId, links: &Links) {
        let owed = links.link(site).filter(|_| self.sending.contains_key(&site)).and_then(|link| {
            self.follow_progress(now, site, link);
            self.owed(site, link)
        });
        let Some(sending) = self.sending.get_mut(&site) else { return };
        sending.watched_until = None;
        if let Some((Obligation { turn, number, .. }, by)) = owed
            && by <= now
        {
            sending.suspected = Some((turn, number));
            self.control.push(SiteEvent::Suspected { site, turn, number });
        }
    }
}

/// What waits and may be under way in a window of so many bytes: one message at least.
fn fitting(link: &Link, window: u64) -> impl Iterator<Item = &Outgoing> {
    let mut under_way = 0;
    link.queue.iter().take_while(move |outgoing| {
        let is_first = under_way == 0;
        under_way += outgoing.bytes();
        is_first || under_way <= window
    })
}

/// How many of these messages, from the first on, go together: those of its batch, in a parcel of so many bytes at most;
/// one that is longer goes alone.
fn together(messages: &[&Outgoing], most_bytes: usize) -> Option<usize> {
    let takes = |outgoing: &Outgoing| Parcel::MESSAGE_OVERHEAD_BYTES + outgoing.body.len();
    // One byte says what it is.
    let mut bytes = 1 + Parcel::OVERHEAD_BYTES + takes(messages.first()?);
    let goes_along = |pair: &&[&Outgoing]| {
        bytes += takes(pair[1]);
        pair[0].place.is_before(&pair[1].place) && bytes <= most_bytes
    };
    let more = messages.windows(2).take(Parcel::MAX_MESSAGES - 1).take_while(goes_along);
    Some(1 + more.count())
}

/// What waits above a number.
fn after(link: &Link, number: u64) -> impl Iterator<Item = &Outgoing> {
    let first = link.queue.partition_point(|outgoing| outgoing.header.number <= number);
    link.queue.range(first..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OutpostConfig;
    use crate::blink::LinkPace;
    use crate::machine::Place;
    use crate::message::{Header, Kind};
    use alloc::sync::Arc;
    use althing_crypto::KeySeed;
    use althing_crypto::site::{SiteDeal, SiteKeys};
    use althing_types::{GroupId, Quorums};
    use core::time::Duration;

    const NOW: Instant = Instant(1_000_000_000);

    /// Of the second of three sites of one server each.
    fn outpost() -> Outpost {
        let deal = SiteDeal::plain(1, &KeySeed::from([7; 32]));
        let keys = SiteKeys::new(GroupId([1; 16]), alloc::vec![*deal.shares.public(); 3]);
        let groups = alloc::vec![Quorums::crash(1, 0).expect("it tolerates none"); 3];
        let pace = LinkPace::new(Duration::from_secs(1), 1000).expect("it gives time");
        Outpost::new(OutpostConfig {
            links: LinkConfig { site: SiteId(1), groups, pace },
            server: ReplicaId(0),
            signer: Arc::new((deal.secrets[0].clone(), deal.shares)),
            keys,
            tick: Duration::from_millis(100),
            window_bytes: 1 << 20,
            supply_bytes_per_second: 1000,
            operation_bytes: 1 << 20,
            events_at_once: 64,
        })
    }

    #[test]
    fn the_site_that_leads_is_told_first_and_where_much_waits_last() {
        for (leader, waiting_bytes, expected) in
            [(0, 100, [0, 2]), (2, 100, [2, 0]), (0, 20_000, [2, 0]), (2, 20_000, [0, 2])]
        {
            let (mut outpost, mut links, mut outputs) = (outpost(), Links::default(), Vec::new());
            let config = outpost.config.links.clone();
            for to in [0, 2] {
                let bytes = if to == 2 { waiting_bytes } else { 100 };
                let said = (SiteId(to), Kind::Protocol, alloc::vec![0; bytes].into());
                links.say((Seq(1), NOW), said, 1 << 20, &config);
            }
            outpost.follow_batches(&links);
            outpost.forward_all(NOW, SiteId(leader), &links, &mut outputs);
            let told = outputs.iter().filter_map(|output| match output {
                OutpostOutput::ToSite { site, .. } => Some(site.0),
                _ => None,
            });
            assert!(told.eq(expected), "{leader}, {waiting_bytes} bytes");
        }
    }

    /// What waits: in which batch, how far there, and how long.
    fn waiting(messages: &[(u64, u32, usize)]) -> Vec<Outgoing> {
        let outgoing = |(number, (batch, index, bytes)): (u64, &(u64, u32, usize))| {
            let (from, to, kind) = (SiteId(0), SiteId(1), Kind::Protocol);
            let header = Header { from, to, number, base: 1, acknowledged: 0, kind };
            let place = Place { batch: Seq(*batch), index: *index };
            Outgoing { header, body: alloc::vec![0; *bytes].into(), place }
        };
        (1..).zip(messages).map(outgoing).collect()
    }

    fn go_together(messages: &[(u64, u32, usize)], most_bytes: usize) -> Vec<usize> {
        let waiting = waiting(messages);
        let waiting: Vec<&Outgoing> = waiting.iter().collect();
        let (mut rest, mut parcels) = (&waiting[..], Vec::new());
        while let Some(count) = together(rest, most_bytes) {
            parcels.push(count);
            rest = &rest[count..];
        }
        parcels
    }

    #[test]
    fn messages_of_a_batch_that_follow_each_other_go_together() {
        assert_eq!(go_together(&[], 1000), []);
        let places = [(4, 0, 9), (4, 1, 9), (5, 0, 9), (5, 2, 9), (5, 3, 9), (5, 4, 9), (8, 5, 9)];
        assert_eq!(go_together(&places, 1 << 20), [2, 1, 3, 1]);
    }

    #[test]
    fn a_parcel_is_only_so_long_unless_one_message_is_longer() {
        let each = Parcel::MESSAGE_OVERHEAD_BYTES + 100;
        let most = 1 + Parcel::OVERHEAD_BYTES + 3 * each;
        let places: Vec<_> = (0..7).map(|index| (1, index, 100)).collect();
        assert_eq!(go_together(&places, most), [3, 3, 1]);
        assert_eq!(go_together(&places, most - 1), [2, 2, 2, 1]);
        assert_eq!(go_together(&[(1, 0, 100), (1, 1, 9000), (1, 2, 100)], most), [1, 1, 1]);
        assert_eq!(go_together(&places, 0), [1; 7]);
        let many: Vec<_> = (0..1200).map(|index| (1, index, 0)).collect();
        assert_eq!(go_together(&many, 1 << 20), [Parcel::MAX_MESSAGES, Parcel::MAX_MESSAGES, 176]);
    }
}
