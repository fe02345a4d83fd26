use super::said::{Place, Said};
use crate::blink::{LinkConfig, LinkProgress, Suspect};
use crate::message::{Header, Kind, body_digest};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use althing_types::{Instant, ReplicaId, Seq, SiteId};
use borsh::{BorshDeserialize, BorshSerialize};

/// For so many local batches a message that only acknowledges can be sent again.
const MOST_KEPT: u64 = 256;

/// What a message that goes alone takes beside its body, about: header, signature and path.
const OVERHEAD_BYTES: u64 = 256;

/// The least that a forwarder has under way to a site that does not acknowledge, in bytes.
pub(crate) const LEAST_WINDOW_BYTES: u64 = 16 * 1024;

/// A message that is not acknowledged yet.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
pub(crate) struct Outgoing {
    pub(crate) header: Header,
    pub(crate) body: Arc<[u8]>,
    pub(crate) place: Place,
}

impl Outgoing {
    /// How many bytes it takes, with all that goes with it.
    pub(crate) fn bytes(&self) -> u64 {
        self.body.len() as u64 + OVERHEAD_BYTES
    }
}

/// What a site has said to another and heard from it.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
pub(crate) struct Link {
    /// The last number that was given out.
    pub(crate) said: u64,
    /// Up to which number the other site has received.
    pub(crate) acknowledged: u64,
    /// What it has not, ascending by number.
    pub(crate) queue: VecDeque<Outgoing>,
    /// How many bytes that is.
    bytes: u64,
    /// Which virtual link has its turn, and what it owes.
    pub(crate) progress: LinkProgress,
    /// The servers that suspect it, each of owing this message.
    suspecting: BTreeMap<ReplicaId, u64>,
    /// Up to which number this site has received.
    pub(crate) received: u64,
    /// Whether the other one has yet to hear of that.
    is_due: bool,
    /// What is to tell it so among other things.
    riding: Option<Riding>,
    /// Whether such things arrive, as far as is known.
    may_ride: bool,
    /// The last message that told it so and nothing else.
    pub(crate) acknowledgement: Option<(Header, Place)>,
}

/// Messages on which acknowledgements ride, and which are not acknowledged themselves: the virtual link that carries them may be
/// faulty, and the one in the other direction must not be blamed for that.
#[derive(Debug, Clone, Copy, BorshSerialize, BorshDeserialize)]
struct Riding {
    /// The number of the first one.
    first: u64,
    /// And of the last one.
    last: u64,
    /// Which was the last one when the timer expired last.
    seen: u64,
}

impl Link {
    fn new(progress: LinkProgress) -> Self {
        Self {
            said: 0,
            acknowledged: 0,
            queue: VecDeque::new(),
            bytes: 0,
            progress,
            suspecting: BTreeMap::new(),
            received: 0,
            is_due: false,
            riding: None,
            may_ride: true,
            acknowledgement: None,
        }
    }

    /// The lowest number that the other site may still be sent.
    fn base(&self) -> u64 {
        self.queue.front().map_or(self.said + 1, |first| first.header.number)
    }

    /// What is to be acknowledged is so by a message on its way.
    fn ride(&mut self, number: u64) {
        let was_due = core::mem::take(&mut self.is_due);
        if self.acknowledgement.take().is_some() || was_due {
            let riding = self.riding.get_or_insert(Riding { first: number, last: number, seen: 0 });
            riding.last = number;
        }
    }

    /// Messages up to this one have arrived, with what rode on them: so those after them may.
    fn on_arrived(&mut self, number: u64) {
        self.may_ride = true;
        if let Some(riding) = &mut self.riding {
            riding.first = riding.first.max(number.saturating_add(1));
        }
        self.riding.take_if(|riding| riding.first > riding.last);
    }

    /// Whether something has ridden for a whole period of the timer, which has now expired. Then it is said by itself, and
    /// nothing rides any more until something arrives.
    fn has_ridden_in_vain(&mut self) -> bool {
        let is_late = self.riding.take_if(|riding| riding.first <= riding.seen).is_some();
        if let Some(riding) = &mut self.riding {
            riding.seen = riding.last;
        }
        self.may_ride &= !is_late;
        is_late
    }

    /// How many bytes wait, with all that goes with them, and with so many more messages.
    fn bytes_with(&self, more: u64) -> u64 {
        self.bytes + (self.queue.len() as u64 + more) * OVERHEAD_BYTES
    }

    fn pop(&mut self) {
        if let Some(first) = self.queue.pop_front() {
            self.bytes -= first.body.len() as u64;
        }
    }

    /// The virtual link owes nothing any more of what waits no more, and is suspected of that no more.
    fn settle(&mut self, now: Instant, config: &LinkConfig) {
        self.progress.on_settled(now, self.base() - 1, &config.pace);
        let (progress, turn) = (&self.progress, self.progress.turn().number);
        self.suspecting.retain(|_, number| progress.is_owed(turn, *number));
    }
}

/// The links of a site, with itself too: what it says to itself is signed on the way.
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct Links {
    links: BTreeMap<SiteId, Link>,
    /// What was said during each local batch, as long as a message of it may still be sent.
    batches: BTreeMap<Seq, Said>,
}

impl Links {
    /// The link to a site, if anything was ever said or heard there.
    pub(crate) fn link(&self, site: SiteId) -> Option<&Link> {
        self.links.get(&site)
    }

    /// Whether so little waits to be acknowledged, by any site, that it may all be under way.
    pub(crate) fn are_light(&self) -> bool {
        self.links.values().all(|link| link.bytes_with(0) <= LEAST_WINDOW_BYTES)
    }

    /// How many bytes of bodies wait to be acknowledged by a site.
    pub(crate) fn waiting_bytes(&self, site: SiteId) -> u64 {
        self.links.get(&site).map_or(0, |link| link.bytes)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SiteId, &Link)> {
        self.links.iter().map(|(site, link)| (*site, link))
    }

    pub(crate) fn batches(&self) -> &BTreeMap<Seq, Said> {
        &self.batches
    }

    fn link_mut(&mut self, site: SiteId, config: &LinkConfig) -> &mut Link {
        self.links.entry(site).or_insert_with(|| Link::new(LinkProgress::new(config.start(site))))
    }

    /// Says something to a site, during the execution of a local batch at this agreed time. Where more than
    /// `most_bytes` wait for it the oldest are forgotten, and where more is said at once than one signature can
    /// cover the rest is not said: a protocol repeats what matters.
    pub(crate) fn say(
        &mut self,
        (batch, now): (Seq, Instant),
        (to, kind, body): (SiteId, Kind, Arc<[u8]>),
        most_bytes: u64,
        config: &LinkConfig,
    ) {
        if self.batches.get(&batch).is_some_and(|said| !said.has_room()) {
            return;
        }
        let link = self.link_mut(to, config);
        link.said += 1;
        link.bytes += body.len() as u64;
        while link.bytes > most_bytes && !link.queue.is_empty() {
            link.pop();
        }
        let base = if link.queue.is_empty() { link.said } else { link.base() };
        let (number, acknowledged) = (link.said, link.received);
        let header = Header { from: config.site, to, number, base, acknowledged, kind };
        // It acknowledges on the way, unless it may have to wait for an acknowledgement itself: two sites that both do
        // would wait for each other. Nor does it where such things don't arrive.
        if link.may_ride && (link.queue.is_empty() || link.bytes_with(1) <= LEAST_WINDOW_BYTES) {
            link.ride(number);
        }
        let place = file(&mut self.batches, batch, &header, &body);
        let outgoing = Outgoing { header, body, place };
        let link = self.link_mut(to, config);
        link.progress.on_queued(number);
        link.queue.push_back(outgoing);
        link.settle(now, config);
    }

    /// Acknowledges what has been received and not been acknowledged on the way.
    pub(crate) fn acknowledge_due(&mut self, now: Seq, from: SiteId) {
        for (to, link) in &mut self.links {
            // Who asks for one that is so old is given a new one.
            link.acknowledgement.take_if(|(_, place)| place.batch.0 + MOST_KEPT < now.0);
            let has_room = self.batches.get(&now).is_none_or(Said::has_room);
            if has_room && core::mem::take(&mut link.is_due) {
                let (acknowledged, base) = (link.received, link.base());
                let kind = Kind::Acknowledgement;
                let header = Header { from, to: *to, number: 0, base, acknowledged, kind };
                let place = file(&mut self.batches, now, &header, &[]);
                (link.acknowledgement, link.riding) = (Some((header, place)), None);
            }
        }
        self.forget_batches();
    }

    /// Acknowledges by itself what has ridden on something for a whole period that is not acknowledged yet.
    pub(crate) fn acknowledge_again(&mut self, now: Seq, from: SiteId) {
        for link in self.links.values_mut() {
            link.is_due |= link.has_ridden_in_vain();
        }
        self.acknowledge_due(now, from);
    }

    /// A site has said something; says whether it is the next that was to come from there.
    pub(crate) fn on_heard(&mut self, now: Instant, header: &Header, config: &LinkConfig) -> bool {
        let link = self.link_mut(header.from, config);
        // What a site says to itself is acknowledged by coming.
        let acknowledged = if header.from == header.to { header.number } else { header.acknowledged };
        let is_news = acknowledged > link.acknowledged && acknowledged <= link.said;
        if is_news {
            link.acknowledged = acknowledged;
            link.on_arrived(acknowledged);
            link.progress.on_heard(now);
            while link.queue.front().is_some_and(|first| first.header.number <= acknowledged) {
                link.pop();
            }
            link.settle(now, config);
        }
        // What it has forgotten will not come.
        if header.base.saturating_sub(1) > link.received {
            link.received = header.base - 1;
            link.is_due = header.from != header.to;
        }
        let is_next = link.received.checked_add(1) == Some(header.number);
        if is_next {
            link.received = header.number;
        }
        // What comes twice may not have been acknowledged.
        if (1..=link.received).contains(&header.number) {
            link.is_due = header.from != header.to;
        }
        if is_news {
            self.forget_batches();
        }
        is_next
    }

    /// Up to which number this site has received what another has said.
    pub(super) fn received(&self, from: SiteId) -> u64 {
        self.links.get(&from).map_or(0, |link| link.received)
    }

    /// Whether anything could follow from hearing this: whoever wants to know who said it need not look if not.
    pub(crate) fn is_news(&self, header: &Header) -> bool {
        let (received, acknowledged) =
            self.links.get(&header.from).map_or((0, 0), |link| (link.received, link.acknowledged));
        header.number <= received.saturating_add(1)
            || header.base.saturating_sub(1) > received
            || header.acknowledged > acknowledged
    }

    /// Whether this site knows all that this says, its numbers and what it acknowledges.
    pub(crate) fn is_repeated(&self, header: &Header) -> bool {
        let link = self.links.get(&header.from);
        link.is_some_and(|link| {
            header.number <= link.received
                && header.base.saturating_sub(1) <= link.received
                && header.acknowledged <= link.acknowledged
        })
    }

    /// Whether something received has yet to be acknowledged.
    pub(crate) fn is_due(&self) -> bool {
        self.links.values().any(|link| link.is_due)
    }

    /// Whether an acknowledgement rides on something that may not have arrived.
    pub(crate) fn is_riding(&self) -> bool {
        self.links.values().any(|link| link.riding.is_some())
    }

    /// A server says that the virtual link to a site owes this message since too long; when `enough` do, the next is
    /// taken. Where nobody lies its forwarder is believed at once that it is the peer.
    pub(crate) fn on_suspected(
        &mut self,
        now: Instant,
        (site, turn, number): (SiteId, u64, u64),
        (server, enough): (ReplicaId, usize),
        config: &LinkConfig,
    ) {
        let Some(link) = self.links.get_mut(&site) else { return };
        if !link.progress.is_owed(turn, number) {
            return;
        }
        let order = config.order(site);
        let is_forwarder = order.virtual_link(link.progress.turn()).forwarder == server;
        let suspect = if order.keeps_forwarders() && is_forwarder {
            Suspect::Peer
        } else {
            link.suspecting.insert(server, number);
            if link.suspecting.len() < enough {
                return;
            }
            Suspect::Forwarder
        };
        link.suspecting.clear();
        link.progress.on_given_up(now, suspect, &order);
    }

    fn forget_batches(&mut self) {
        let first = |link: &Link| {
            let queued = link.queue.front().map(|outgoing| outgoing.place.batch);
            queued.into_iter().chain(link.acknowledgement.map(|(_, place)| place.batch)).min()
        };
        match self.links.values().filter_map(first).min() {
            Some(first) => self.batches = self.batches.split_off(&first),
            None => self.batches.clear(),
        }
    }
}

/// Files what is to be signed during the execution of a local batch.
fn file(batches: &mut BTreeMap<Seq, Said>, now: Seq, header: &Header, body: &[u8]) -> Place {
    let index = batches.entry(now).or_default().file(header.to, header.statement(body_digest(body)));
    Place { batch: now, index }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blink::LinkPace;
    use alloc::vec::Vec;
    use althing_types::Quorums;
    use core::time::Duration;

    const A: SiteId = SiteId(0);
    const B: SiteId = SiteId(1);
    const NOW: Instant = Instant(1_000_000_000);

    /// Two sites of four or of five.
    fn config(may_lie: bool) -> LinkConfig {
        let quorums = if may_lie { Quorums::byzantine(4, 1) } else { Quorums::crash(5, 2) };
        let pace = LinkPace::new(Duration::from_secs(1), 1_000_000).unwrap();
        LinkConfig { site: A, groups: alloc::vec![quorums.unwrap(); 2], pace }
    }

    fn say(links: &mut Links, batch: u64, bytes: usize, most_bytes: u64) -> Header {
        let said = (B, Kind::Protocol, alloc::vec![0; bytes].into());
        links.say((Seq(batch), NOW), said, most_bytes, &config(true));
        links.links[&B].queue.back().expect("it was just said").header
    }

    fn hear(links: &mut Links, header: Header) -> bool {
        links.on_heard(NOW, &header, &config(true))
    }

    fn heard(number: u64, base: u64, acknowledged: u64) -> Header {
        Header { from: B, to: A, number, base, acknowledged, kind: Kind::Protocol }
    }

    #[test]
    fn messages_wait_until_they_are_acknowledged_and_their_batches_with_them() {
        let mut links = Links::default();
        for batch in [1, 1, 2] {
            say(&mut links, batch, 10, 1000);
        }
        assert_eq!(links.batches().values().map(Said::len).collect::<Vec<_>>(), [2, 1]);
        assert!(hear(&mut links, heard(1, 1, 2)));
        assert_eq!(links.links[&B].queue.len(), 1);
        assert_eq!(links.batches().keys().collect::<Vec<_>>(), [&Seq(2)]);
        assert!(hear(&mut links, heard(2, 1, 9)), "what was never said can't be acknowledged");
        assert_eq!(links.links[&B].acknowledged, 2);
        assert!(links.is_due());
        links.acknowledge_due(Seq(3), A);
        assert!(!links.is_due());
        assert_eq!(links.links[&B].acknowledgement.unwrap().0.acknowledged, 2);
        hear(&mut links, heard(3, 1, 3));
        assert_eq!(links.batches().keys().collect::<Vec<_>>(), [&Seq(3)]);
        links.acknowledge_due(Seq(300), A);
        assert_eq!(links.batches().keys().collect::<Vec<_>>(), [&Seq(300)], "the one before is superseded");
        links.acknowledge_due(Seq(300 + MOST_KEPT), A);
        assert_eq!(links.batches().len(), 1);
        links.acknowledge_due(Seq(301 + MOST_KEPT), A);
        assert_eq!(links.batches().len(), 0, "whoever still wants it is given another");
    }

    #[test]
    fn an_acknowledgement_does_not_wait_behind_what_waits_for_one() {
        let mut links = Links::default();
        hear(&mut links, heard(1, 1, 0));
        say(&mut links, 1, 1 << 20, 1 << 30);
        assert!(!links.is_due(), "however long the first message is, it leaves at once");
        hear(&mut links, heard(2, 1, 0));
        assert_eq!(say(&mut links, 2, 10, 1 << 30).acknowledged, 2);
        assert!(links.is_due());
        links.acknowledge_due(Seq(3), A);
        assert_eq!(links.links[&B].acknowledgement.unwrap().0.acknowledged, 2);
        hear(&mut links, heard(3, 1, 2));
        say(&mut links, 4, 10, 1 << 30);
        assert!(!links.is_due(), "nothing is before it");
        assert_eq!(links.links[&B].acknowledgement, None);
    }

    /// The timer of acknowledgements that ride expires; up to which message one is then said by itself.
    fn expire(links: &mut Links, batch: u64) -> Option<u64> {
        links.acknowledge_again(Seq(batch), A);
        links.links[&B].acknowledgement.map(|(header, _)| header.acknowledged)
    }

    #[test]
    fn an_acknowledgement_that_rides_on_what_does_not_arrive_is_said_by_itself() {
        let mut links = Links::default();
        say(&mut links, 1, 10, 1000);
        assert!(!links.is_riding(), "there is nothing to acknowledge");
        hear(&mut links, heard(1, 1, 0));
        say(&mut links, 2, 10, 1000);
        assert!(links.is_riding() && !links.is_due());
        hear(&mut links, heard(0, 1, 1));
        assert!(links.is_riding(), "it rides on the second one");
        assert_eq!(expire(&mut links, 3), None);
        hear(&mut links, heard(2, 1, 2));
        assert!(!links.is_riding());
        say(&mut links, 4, 10, 1000);
        assert_eq!((expire(&mut links, 5), links.is_riding()), (None, true), "it is new");
        assert_eq!((expire(&mut links, 6), links.is_riding()), (Some(2), false));
        say(&mut links, 6, 10, 1000);
        assert_eq!(expire(&mut links, 7), Some(2), "it is not taken back");
        hear(&mut links, heard(3, 1, 2));
        say(&mut links, 8, 10, 1000);
        assert!(links.is_due() && !links.is_riding(), "nor does the next one ride");
        hear(&mut links, heard(4, 1, 3));
        say(&mut links, 9, 10, 1000);
        assert!(links.is_riding() && !links.is_due(), "things arrive again");
    }

    #[test]
    fn acknowledgements_that_ride_for_long_are_said_by_themselves_however_steadily_things_arrive() {
        let mut links = Links::default();
        let mut alone = 0;
        // Each period something comes and something is said; what is said arrives three periods later.
        for period in 1..=100 {
            hear(&mut links, heard(period, 1, period.saturating_sub(3)));
            say(&mut links, 2 * period, 10, 1000);
            alone += u64::from(expire(&mut links, 2 * period + 1) == Some(period));
        }
        assert!(alone > 25, "{alone}");
    }

    #[test]
    fn what_a_site_says_to_itself_waits_until_it_comes() {
        let mut links = Links::default();
        links.say((Seq(1), NOW), (A, Kind::Bundle, alloc::vec![1].into()), 1000, &config(true));
        let header = links.links[&A].queue[0].header;
        assert!(hear(&mut links, header) && !hear(&mut links, header) && !links.is_due());
        assert!(links.links[&A].queue.is_empty() && links.batches().is_empty());
    }

    #[test]
    fn what_comes_is_taken_in_order_and_once() {
        let mut links = Links::default();
        let heard: Vec<bool> = [1, 1, 3, 2, 3, 2].map(|number| hear(&mut links, heard(number, 1, 0))).into();
        assert_eq!(heard, [true, false, false, true, true, false]);
    }

    #[test]
    fn numbers_at_the_end_of_all_are_no_harm() {
        let mut links = Links::default();
        assert!(hear(&mut links, heard(u64::MAX, u64::MAX, u64::MAX)));
        assert!(!hear(&mut links, heard(0, u64::MAX, 0)) && !hear(&mut links, heard(1, 1, 0)));
        say(&mut links, 1, 10, 1000);
    }

    #[test]
    fn what_was_forgotten_is_not_waited_for() {
        let (mut links, mut other) = (Links::default(), Links::default());
        let headers: Vec<Header> = (1..=9).map(|batch| say(&mut links, batch, 100, 300)).collect();
        assert_eq!(links.links[&B].queue.iter().map(|o| o.header.number).collect::<Vec<_>>(), [7, 8, 9]);
        let flip = |header: Header| Header { from: B, to: A, ..header };
        assert!(!hear(&mut other, flip(headers[8])), "7 is still to come");
        let taken: Vec<bool> = headers.iter().map(|header| hear(&mut other, flip(*header))).collect();
        assert_eq!(taken, [false, false, false, false, false, false, true, true, true]);
        say(&mut links, 10, 1000, 300);
        assert_eq!(links.links[&B].queue.len(), 1, "the last one waits, however long");
    }

    /// What servers say in turn of the link to B, in this turn of that message; which turn it is then.
    fn suspect(links: &mut Links, may_lie: bool, said: &[(u64, u64, u16)]) -> u64 {
        for (turn, number, server) in said {
            let enough = if may_lie { 2 } else { 1 };
            let suspected = ((B, *turn, *number), (ReplicaId(*server), enough));
            links.on_suspected(NOW, suspected.0, suspected.1, &config(may_lie));
        }
        links.links[&B].progress.turn().number
    }

    #[test]
    fn enough_servers_have_the_next_virtual_link_taken() {
        let mut links = Links::default();
        say(&mut links, 1, 10, 1000);
        say(&mut links, 1, 10, 1000);
        let first = links.links[&B].progress.turn().number;
        assert_eq!(suspect(&mut links, true, &[(first, 1, 1), (first + 1, 1, 2), (first, 1, 1)]), first);
        assert_eq!(suspect(&mut links, true, &[(first, 2, 2)]), first + 1);
        assert_eq!(suspect(&mut links, true, &[(first + 1, 1, 1)]), first + 1);
        hear(&mut links, heard(0, 1, 1));
        assert_eq!(
            suspect(&mut links, true, &[(first + 1, 2, 2)]),
            first + 1,
            "what the other one missed has come"
        );
        assert_eq!(suspect(&mut links, true, &[(first + 1, 2, 3)]), first + 2);
        hear(&mut links, heard(0, 1, 2));
        assert_eq!(
            suspect(&mut links, true, &[(first + 2, 2, 0), (first + 2, 3, 1)]),
            first + 2,
            "it owes nothing"
        );
    }

    #[test]
    fn what_is_forgotten_is_owed_no_more() {
        let mut links = Links::default();
        say(&mut links, 1, 10, 15);
        let first = links.links[&B].progress.turn().number;
        suspect(&mut links, true, &[(first, 1, 1)]);
        say(&mut links, 1, 10, 15);
        assert_eq!(suspect(&mut links, true, &[(first, 1, 2), (first, 2, 2)]), first);
    }

    #[test]
    fn where_nobody_lies_the_forwarder_is_believed_about_its_peer() {
        let mut links = Links::default();
        let (config, said) = (config(false), (B, Kind::Protocol, Arc::from([0; 10])));
        links.say((Seq(1), NOW), said, 1000, &config);
        let link = |links: &Links| config.order(B).virtual_link(links.links[&B].progress.turn());
        let before = link(&links);
        let turn = links.links[&B].progress.turn().number;
        suspect(&mut links, false, &[(turn, 1, before.forwarder.0)]);
        let (peers, others) = (link(&links), ReplicaId((before.forwarder.0 + 1) % 5));
        assert_eq!((peers.forwarder, peers.peer.0), (before.forwarder, before.peer.0 + 1));
        suspect(&mut links, false, &[(turn + 1, 1, others.0)]);
        assert_eq!(link(&links).peer, peers.peer);
        assert_ne!(link(&links).forwarder, before.forwarder);
    }
}
