use crate::message::{Header, Kind, body_digest};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{ReplicaId, Seq, SiteId};
use borsh::{BorshDeserialize, BorshSerialize};

/// For so many local batches a message that only acknowledges can be sent again.
const MOST_KEPT: u64 = 256;

/// Where a message stands among those that get one signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub(crate) struct Place {
    /// The local batch whose execution led to it: what is said during one is signed together.
    pub(crate) batch: Seq,
    /// How many messages come before it.
    pub(crate) index: u32,
}

/// A message that is not acknowledged yet.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
pub(crate) struct Outgoing {
    pub(crate) header: Header,
    pub(crate) body: Arc<[u8]>,
    pub(crate) place: Place,
}

/// What a site has said to another and heard from it.
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct Link {
    /// The last number that was given out.
    pub(crate) said: u64,
    /// Up to which number the other site has received.
    pub(crate) acknowledged: u64,
    /// What it has not, ascending by number.
    pub(crate) queue: VecDeque<Outgoing>,
    /// How many bytes that is.
    bytes: u64,
    /// The virtual link's place in the order of selection.
    pub(crate) via: u64,
    /// The servers that suspect it.
    suspecting: BTreeSet<ReplicaId>,
    /// Up to which number this site has received.
    pub(crate) received: u64,
    /// Whether the other one has yet to hear of that.
    is_due: bool,
    /// The last message that told it so and nothing else.
    pub(crate) acknowledgement: Option<(Header, Place)>,
}

impl Link {
    /// The lowest number that the other site may still be sent.
    fn base(&self) -> u64 {
        self.queue.front().map_or(self.said + 1, |first| first.header.number)
    }

    fn pop(&mut self) {
        if let Some(first) = self.queue.pop_front() {
            self.bytes -= first.body.len() as u64;
        }
    }
}

/// The links of a site, with itself too: what it says to itself is signed on the way.
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct Links {
    links: BTreeMap<SiteId, Link>,
    /// What was said during each local batch, as long as a message of it may still be sent.
    batches: BTreeMap<Seq, Vec<Vec<u8>>>,
}

impl Links {
    /// The link to a site, if anything was ever said or heard there.
    pub(crate) fn link(&self, site: SiteId) -> Option<&Link> {
        self.links.get(&site)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SiteId, &Link)> {
        self.links.iter().map(|(site, link)| (*site, link))
    }

    pub(crate) fn batches(&self) -> &BTreeMap<Seq, Vec<Vec<u8>>> {
        &self.batches
    }

    /// Says something to a site, during the execution of the local batch `now`. Where more than `most_bytes`
    /// wait for it the oldest are forgotten: a protocol repeats what matters.
    pub(crate) fn say(
        &mut self,
        (now, from, to): (Seq, SiteId, SiteId),
        kind: Kind,
        body: Arc<[u8]>,
        most_bytes: u64,
    ) {
        let link = self.links.entry(to).or_default();
        link.said += 1;
        link.bytes += body.len() as u64;
        while link.bytes > most_bytes && !link.queue.is_empty() {
            link.pop();
        }
        let base = if link.queue.is_empty() { link.said } else { link.base() };
        let (number, acknowledged) = (link.said, link.received);
        let header = Header { from, to, number, base, acknowledged, kind };
        // It acknowledges on the way.
        (link.is_due, link.acknowledgement) = (false, None);
        let place = file(&mut self.batches, now, header.statement(body_digest(&body)));
        link.queue.push_back(Outgoing { header, body, place });
    }

    /// Acknowledges what has been received and not been acknowledged on the way.
    pub(crate) fn acknowledge_due(&mut self, now: Seq, from: SiteId) {
        for (to, link) in &mut self.links {
            // Who asks for one that is so old is given a new one.
            link.acknowledgement.take_if(|(_, place)| place.batch.0 + MOST_KEPT < now.0);
            if core::mem::take(&mut link.is_due) {
                let (acknowledged, base) = (link.received, link.base());
                let kind = Kind::Acknowledgement;
                let header = Header { from, to: *to, number: 0, base, acknowledged, kind };
                let place = file(&mut self.batches, now, header.statement(body_digest(&[])));
                link.acknowledgement = Some((header, place));
            }
        }
        self.forget_batches();
    }

    /// A site has said something; says whether it is the next that was to come from there.
    pub(crate) fn on_heard(&mut self, header: &Header) -> bool {
        let link = self.links.entry(header.from).or_default();
        // What a site says to itself is acknowledged by coming.
        let acknowledged = if header.from == header.to { header.number } else { header.acknowledged };
        if acknowledged > link.acknowledged && acknowledged <= link.said {
            link.acknowledged = acknowledged;
            link.suspecting.clear();
            while link.queue.front().is_some_and(|first| first.header.number <= acknowledged) {
                link.pop();
            }
            self.forget_batches();
        }
        let link = self.links.entry(header.from).or_default();
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
        is_next
    }

    /// Whether anything could follow from hearing this: whoever wants to know who said it need not look if not.
    pub(crate) fn is_news(&self, header: &Header) -> bool {
        let (received, acknowledged) =
            self.links.get(&header.from).map_or((0, 0), |link| (link.received, link.acknowledged));
        header.number <= received.saturating_add(1)
            || header.base.saturating_sub(1) > received
            || header.acknowledged > acknowledged
    }

    /// Whether something received has yet to be acknowledged.
    pub(crate) fn is_due(&self) -> bool {
        self.links.values().any(|link| link.is_due)
    }

    /// A server suspects the virtual link in this place to a site; when `enough` do, the next is taken.
    pub(crate) fn on_suspected(&mut self, (site, via): (SiteId, u64), server: ReplicaId, enough: usize) {
        let Some(link) = self.links.get_mut(&site).filter(|link| link.via == via) else { return };
        link.suspecting.insert(server);
        if link.suspecting.len() >= enough {
            link.suspecting.clear();
            link.via += 1;
        }
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
fn file(batches: &mut BTreeMap<Seq, Vec<Vec<u8>>>, now: Seq, statement: Vec<u8>) -> Place {
    let batch = batches.entry(now).or_default();
    batch.push(statement);
    Place { batch: now, index: u32::try_from(batch.len() - 1).expect("a batch says less than 2³² things") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SiteId = SiteId(0);
    const B: SiteId = SiteId(1);

    fn say(links: &mut Links, batch: u64, bytes: usize, most_bytes: u64) -> Header {
        links.say((Seq(batch), A, B), Kind::Protocol, alloc::vec![0; bytes].into(), most_bytes);
        links.links[&B].queue.back().expect("it was just said").header
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
        assert_eq!(links.batches().values().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        assert!(links.on_heard(&heard(1, 1, 2)));
        assert_eq!(links.links[&B].queue.len(), 1);
        assert_eq!(links.batches().keys().collect::<Vec<_>>(), [&Seq(2)]);
        assert!(links.on_heard(&heard(2, 1, 9)), "what was never said can't be acknowledged");
        assert_eq!(links.links[&B].acknowledged, 2);
        assert!(links.is_due());
        links.acknowledge_due(Seq(3), A);
        assert!(!links.is_due());
        assert_eq!(links.links[&B].acknowledgement.unwrap().0.acknowledged, 2);
        links.on_heard(&heard(3, 1, 3));
        assert_eq!(links.batches().keys().collect::<Vec<_>>(), [&Seq(3)]);
        links.acknowledge_due(Seq(300), A);
        assert_eq!(links.batches().keys().collect::<Vec<_>>(), [&Seq(300)], "the one before is superseded");
        links.acknowledge_due(Seq(300 + MOST_KEPT), A);
        assert_eq!(links.batches().len(), 1);
        links.acknowledge_due(Seq(301 + MOST_KEPT), A);
        assert_eq!(links.batches().len(), 0, "whoever still wants it is given another");
    }

    #[test]
    fn what_a_site_says_to_itself_waits_until_it_comes() {
        let mut links = Links::default();
        links.say((Seq(1), A, A), Kind::Bundle, alloc::vec![1].into(), 1000);
        let header = links.links[&A].queue[0].header;
        assert!(links.on_heard(&header) && !links.on_heard(&header) && !links.is_due());
        assert!(links.links[&A].queue.is_empty() && links.batches().is_empty());
    }

    #[test]
    fn what_comes_is_taken_in_order_and_once() {
        let mut links = Links::default();
        let heard: Vec<bool> = [1, 1, 3, 2, 3, 2].map(|number| links.on_heard(&heard(number, 1, 0))).into();
        assert_eq!(heard, [true, false, false, true, true, false]);
    }

    #[test]
    fn numbers_at_the_end_of_all_are_no_harm() {
        let mut links = Links::default();
        assert!(links.on_heard(&heard(u64::MAX, u64::MAX, u64::MAX)));
        assert!(!links.on_heard(&heard(0, u64::MAX, 0)) && !links.on_heard(&heard(1, 1, 0)));
        say(&mut links, 1, 10, 1000);
    }

    #[test]
    fn what_was_forgotten_is_not_waited_for() {
        let (mut links, mut other) = (Links::default(), Links::default());
        let headers: Vec<Header> = (1..=9).map(|batch| say(&mut links, batch, 100, 300)).collect();
        assert_eq!(links.links[&B].queue.iter().map(|o| o.header.number).collect::<Vec<_>>(), [7, 8, 9]);
        let flip = |header: Header| Header { from: B, to: A, ..header };
        assert!(!other.on_heard(&flip(headers[8])), "7 is still to come");
        let taken: Vec<bool> = headers.iter().map(|header| other.on_heard(&flip(*header))).collect();
        assert_eq!(taken, [false, false, false, false, false, false, true, true, true]);
        say(&mut links, 10, 1000, 300);
        assert_eq!(links.links[&B].queue.len(), 1, "the last one waits, however long");
    }

    #[test]
    fn enough_servers_have_the_next_virtual_link_taken() {
        let mut links = Links::default();
        say(&mut links, 1, 10, 1000);
        for (via, server) in [(0, 1), (1, 2), (0, 1)] {
            links.on_suspected((B, via), ReplicaId(server), 2);
        }
        assert_eq!(links.links[&B].via, 0);
        links.on_suspected((B, 0), ReplicaId(2), 2);
        assert_eq!(links.links[&B].via, 1);
        links.on_suspected((B, 1), ReplicaId(1), 2);
        links.on_heard(&heard(0, 1, 1));
        links.on_suspected((B, 1), ReplicaId(2), 2);
        assert_eq!(links.links[&B].via, 1, "it was acknowledged meanwhile");
    }
}
