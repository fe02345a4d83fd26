use super::*;
use crate::blink::{LinkWatch, Obligation, Servers, VirtualLink};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use althing_types::{decode, encode};
use proptest::prelude::*;

const TIMEOUT: Duration = Duration::from_millis(500);
/// Bytes a second.
const FLOOR: u64 = 10_000;
const T0: Instant = Instant(1_000_000_000);

fn pace() -> LinkPace {
    LinkPace::new(TIMEOUT, FLOOR).unwrap()
}

fn order() -> SelectionOrder {
    let servers = Servers::byzantine(4, 1).unwrap();
    SelectionOrder::new(servers, servers)
}

fn ms(after: u64) -> Instant {
    T0 + Duration::from_millis(after)
}

/// A link as one server sees it whose clock shows the agreed time.
struct Watched {
    progress: LinkProgress,
    watch: LinkWatch,
    pace: LinkPace,
    /// Number and bytes of what is not acknowledged.
    queue: VecDeque<(u64, u64)>,
}

impl Watched {
    fn new(turn: Turn, pace: LinkPace) -> Self {
        let (progress, watch) = (LinkProgress::new(turn), LinkWatch::default());
        Self { progress, watch, pace, queue: VecDeque::new() }
    }

    fn follow(&mut self, now: Instant) {
        let settled = self.progress.settled();
        self.queue.retain(|(number, _)| *number > settled);
        let last = self.watch.last(&self.progress).unwrap_or_default();
        let new = self.queue.iter().copied().filter(|(number, _)| *number > last);
        self.watch.follow(now, &self.progress, new, &self.pace);
    }

    fn on_queued(&mut self, now: Instant, number: u64, bytes: u64) {
        self.progress.on_queued(number);
        self.queue.push_back((number, bytes));
        self.follow(now);
    }

    fn on_heard(&mut self, now: Instant) {
        self.progress.on_heard(now);
        self.follow(now);
    }

    fn on_settled(&mut self, now: Instant, number: u64) {
        self.progress.on_settled(now, number, &self.pace);
        self.follow(now);
    }

    fn on_given_up(&mut self, now: Instant, suspect: Suspect, order: &SelectionOrder) {
        self.progress.on_given_up(now, suspect, order);
        self.follow(now);
    }

    fn obligation(&self) -> Option<Obligation> {
        self.watch.obligation(&self.progress, &self.pace)
    }

    fn owed(&self) -> Option<(u64, Instant)> {
        self.obligation().map(|owed| (owed.number, owed.by))
    }
}

fn queued(messages: &[(u64, u64, u64)]) -> Watched {
    let mut link = Watched::new(Turn::default(), pace());
    for (at, number, bytes) in messages {
        link.on_queued(ms(*at), *number, *bytes);
    }
    link
}

#[test]
fn a_message_has_its_own_time_whatever_is_acknowledged_before_it() {
    // 100 bytes take 10 ms at the floor's pace.
    let mut link = queued(&[(0, 1, 100), (0, 2, 100), (0, 4, 200)]);
    assert_eq!(link.owed(), Some((1, ms(510))));
    link.on_settled(ms(505), 1);
    assert_eq!(link.owed(), Some((2, ms(520))), "no new timeout");
    link.on_settled(ms(515), 1);
    assert_eq!(link.owed(), Some((2, ms(520))));
    link.on_settled(ms(515), 3);
    assert_eq!(link.owed(), Some((4, ms(540))));
    link.on_settled(ms(535), 4);
    link.on_queued(ms(900), 5, 100);
    assert_eq!(link.owed(), Some((5, ms(1410))), "idle time is not saved up");
    link.on_settled(ms(1000), 9);
    assert_eq!(link.owed(), None);
}

#[test]
fn a_link_that_was_fast_has_no_time_saved_up() {
    // Five times as fast as the floor, with two messages always on the way.
    let mut link = Watched::new(Turn::default(), pace());
    for number in 1..=100 {
        link.on_queued(ms(20 * number), number, 1000);
        link.on_settled(ms(20 * number + 10), number - 1);
    }
    assert_eq!(link.owed(), Some((100, ms(2010 + 100 + 500))));
    link.on_queued(ms(2020), 101, 1000);
    link.on_settled(ms(2030), 100);
    assert_eq!(link.owed(), Some((101, ms(2030 + 100 + 500))));
}

#[test]
fn the_next_link_owes_all_from_when_its_turn_begins() {
    let mut link = queued(&[(0, 1, 100), (0, 2, 100)]);
    link.on_given_up(ms(510), Suspect::Forwarder, &order());
    assert_eq!(link.progress.turn().number, 1);
    assert_eq!(link.owed(), Some((1, ms(1020))));
    link.on_settled(ms(600), 1);
    assert_eq!(link.owed(), Some((2, ms(1030))));
    assert!(!link.progress.is_owed(0, 2), "somebody else's");
    assert!(!link.progress.is_owed(1, 1), "it has come");
    assert!(link.progress.is_owed(1, 2) && link.progress.is_owed(1, 7));
}

#[test]
fn timeouts_double_when_a_link_with_two_correct_servers_was_of_no_use() {
    let mut link = queued(&[(0, 1, 100)]);
    let patience: Vec<u32> = (1..=7)
        .map(|_| {
            link.on_heard(ms(0));
            link.on_given_up(ms(0), Suspect::Forwarder, &order());
            link.progress.patience()
        })
        .collect();
    assert_eq!(patience, [1, 1, 2, 2, 2, 4, 4]);
    assert_eq!(link.owed(), Some((1, ms(4 * 510))));
    link.on_queued(ms(0), 2, 100);
    link.on_queued(ms(0), 3, 100);
    link.on_settled(ms(64 * 2000 - 1), 1);
    assert_eq!(link.progress.patience(), 4);
    link.on_settled(ms(64 * 2000), 1);
    assert_eq!(link.progress.patience(), 4, "nothing has come");
    link.on_settled(ms(64 * 2000), 2);
    assert_eq!(link.progress.patience(), 2);
    link.on_settled(ms(64 * 2000 + 1), 3);
    assert_eq!(link.progress.patience(), 2, "not at once again");
    for _ in 0..100 {
        link.on_heard(ms(0));
        link.on_given_up(ms(0), Suspect::Forwarder, &order());
    }
    assert_eq!(link.progress.patience(), 1024);
}

#[test]
fn a_site_that_was_away_is_held_to_the_old_timeouts_when_it_is_back() {
    let mut link = queued(&[(0, 1, 100), (0, 2, 100)]);
    for _ in 0..100 {
        link.on_given_up(ms(0), Suspect::Forwarder, &order());
    }
    assert_eq!(link.progress.patience(), 8);
    link.on_heard(ms(9000));
    link.on_settled(ms(9000), 1);
    assert_eq!((link.progress.patience(), link.owed()), (1, Some((2, ms(9510)))));
}

#[test]
fn a_forwarder_that_blames_more_peers_than_can_have_failed_is_given_up() {
    let servers = Servers::benign(5, 2).unwrap();
    let order = SelectionOrder::new(servers, servers);
    let mut link = queued(&[(0, 1, 100), (0, 2, 100)]);
    let links: Vec<(u16, u16)> = (1..=8)
        .map(|step| {
            if step == 6 {
                link.on_heard(ms(0));
            }
            link.on_given_up(ms(0), Suspect::Peer, &order);
            let servers = order.virtual_link(link.progress.turn());
            (servers.forwarder.0, servers.peer.0)
        })
        .collect();
    assert_eq!(links, [(0, 1), (0, 2), (0, 3), (1, 3), (1, 4), (1, 0), (1, 1), (1, 2)]);
}

#[test]
fn a_pace_of_nothing_is_refused_and_a_huge_one_is_no_harm() {
    assert_eq!(LinkPace::new(Duration::ZERO, 1), Err(LinkPaceError::Timeout));
    assert_eq!(LinkPace::new(TIMEOUT, 0), Err(LinkPaceError::Floor));
    let slow = LinkPace::new(Duration::MAX, 1).unwrap();
    let mut link = Watched::new(Turn::default(), slow);
    link.on_queued(T0, u64::MAX - 1, u64::MAX);
    link.on_queued(T0, u64::MAX, u64::MAX);
    for _ in 0..40 {
        link.on_given_up(T0, Suspect::Forwarder, &order());
    }
    assert_eq!(link.obligation().unwrap().by, Instant(u64::MAX));
}

#[test]
fn what_agreed_time_does_has_no_part_in_when_a_message_is_owed() {
    let mut link = Watched::new(Turn::default(), pace());
    link.on_queued(ms(0), 1, 100);
    // The leading server has time stand still, and then run ahead.
    for agreed in [Instant(0), ms(10_000)] {
        link.progress.on_given_up(agreed, Suspect::Forwarder, &order());
        link.follow(ms(600));
        assert_eq!(link.owed(), Some((1, ms(600 + 510))));
    }
}

#[test]
fn a_server_that_comes_to_it_late_watches_from_then_on() {
    let link = queued(&[(0, 1, 100), (0, 2, 100)]);
    let mut watch = LinkWatch::default();
    watch.follow(ms(5000), &link.progress, link.queue.iter().copied(), &pace());
    let owed = watch.obligation(&link.progress, &pace()).unwrap();
    assert_eq!((owed.number, owed.by), (1, ms(5510)));
}

/// What a virtual link with a faulty server does.
#[derive(Debug, Clone, Copy)]
enum Tactic {
    /// Carries nothing.
    Drop,
    /// Sends what comes later first: the receiving site takes nothing out of order.
    Reorder,
    /// Carries one message at a time, each just before a timeout has passed since the last.
    SlowRoll,
    /// Carries everything a little before it is owed.
    LastMoment,
    /// Carries one message correctly and then no more.
    Tease,
    /// Carries half of all that there is to come, as fast as it comes, and then no more.
    Turn,
    /// Carries everything far too late.
    Delay,
}

/// A network in which links with two correct servers have this latency, and twice the floor's throughput.
struct Model {
    order: SelectionOrder,
    faulty: (u16, u16),
    tactics: Vec<Tactic>,
    /// The last message of the first half.
    half: u64,
    latency: Duration,
    link: Watched,
    now: Instant,
    /// When the virtual link's turn began.
    began: Instant,
    /// Number, bytes and when it was queued, of what is not acknowledged.
    waiting: VecDeque<(u64, u64, Instant)>,
    /// When the last message was carried on this virtual link.
    last: Instant,
    carried: u64,
    /// What correct links that were given up still bring: when which message is acknowledged.
    late: VecDeque<(Instant, u64)>,
}

impl Model {
    fn virtual_link(&self) -> VirtualLink {
        self.order.virtual_link(self.link.progress.turn())
    }

    fn is_correct(&self) -> bool {
        let link = self.virtual_link();
        self.faulty.0 >> link.forwarder.0 & 1 == 0 && self.faulty.1 >> link.peer.0 & 1 == 0
    }

    /// When the first waiting message is acknowledged, if the link is left to go on.
    fn acknowledged(&self) -> Option<Instant> {
        let (number, bytes, queued) = *self.waiting.front()?;
        let begin = queued.max(self.began);
        if self.is_correct() {
            // What was carried before it has left at the latest one latency before it was acknowledged.
            let free =
                if self.carried == 0 { begin } else { Instant(self.last.0 - self.latency.as_nanos() as u64) };
            return Some(free.max(begin) + Duration::from_secs(bytes) / (2 * FLOOR) as u32 + self.latency);
        }
        let owed = self.link.obligation().map(|owed| owed.by)?;
        match self.tactics[self.link.progress.turn().number as usize % self.tactics.len()] {
            Tactic::Drop | Tactic::Reorder => None,
            Tactic::SlowRoll => Some(self.last.max(begin) + (TIMEOUT - Duration::from_millis(1))),
            Tactic::LastMoment => Some(Instant(owed.0 - 1).max(self.now)),
            Tactic::Tease => (self.carried == 0).then_some(begin + Duration::from_millis(1)),
            Tactic::Turn => (number <= self.half).then_some(begin + Duration::from_millis(1)),
            Tactic::Delay => Some(begin + 3 * TIMEOUT),
        }
    }

    fn on_acknowledged(&mut self, number: u64) {
        if self.waiting[0].0 <= number {
            self.waiting.retain(|(waiting, ..)| *waiting > number);
            self.link.on_heard(self.now);
            self.link.on_settled(self.now, number);
        }
    }

    /// Goes on until `until`, or until nothing waits; how many virtual links were given up.
    fn run(&mut self, until: Instant) -> u64 {
        let mut given_up = 0;
        loop {
            let owed = self.link.obligation();
            assert_eq!(owed.map(|owed| owed.number), self.waiting.front().map(|first| first.0));
            let Some(owed) = owed else { return given_up };
            let acknowledged = self.acknowledged().map(|at| at.max(self.now));
            let in_time = acknowledged.filter(|at| *at <= owed.by);
            let late = self.late.front().map(|(at, _)| *at);
            let next = in_time.unwrap_or(owed.by).min(late.unwrap_or(owed.by));
            if next > until {
                self.now = until;
                return given_up;
            }
            self.now = next;
            if late == Some(next) {
                let (_, number) = self.late.pop_front().unwrap();
                self.on_acknowledged(number);
            } else if in_time == Some(next) {
                (self.last, self.carried) = (self.now, self.carried + 1);
                self.on_acknowledged(self.waiting[0].0);
            } else {
                assert!(self.latency > TIMEOUT || !self.is_correct(), "a correct link is never given up");
                if self.is_correct() {
                    self.late.extend(acknowledged.map(|at| (at, self.waiting[0].0)));
                }
                self.link.on_given_up(self.now, Suspect::Forwarder, &self.order);
                given_up += 1;
                (self.began, self.last, self.carried) = (self.now, self.now, 0);
            }
        }
    }
}

fn model(
    kinds: (usize, usize),
    faulty: (u16, u16),
    start: u64,
    tactics: Vec<Tactic>,
    latency: Duration,
) -> Model {
    let site = |kind| match kind {
        0 => Servers::byzantine(4, 1),
        1 => Servers::byzantine(7, 2),
        _ => Servers::benign(5, 2),
    };
    let order = SelectionOrder::new(site(kinds.0).unwrap(), site(kinds.1).unwrap());
    let (link, waiting) = (Watched::new(order.start(start), pace()), VecDeque::new());
    let late = VecDeque::new();
    Model {
        order,
        faulty,
        tactics,
        half: 0,
        latency,
        link,
        now: T0,
        began: T0,
        waiting,
        last: T0,
        carried: 0,
        late,
    }
}

/// Bits of which at most as many are set as servers of that kind may be faulty.
fn faulty(kind: usize, picks: [u16; 2]) -> u16 {
    let (servers, faulty) = [(4, 1), (7, 2), (5, 2)][kind];
    picks[..faulty].iter().fold(0, |bits, pick| bits | 1 << (pick % servers))
}

fn tactics() -> impl Strategy<Value = Vec<Tactic>> {
    let one = prop_oneof![
        Just(Tactic::Drop),
        Just(Tactic::Reorder),
        Just(Tactic::SlowRoll),
        Just(Tactic::LastMoment),
        Just(Tactic::Tease),
        Just(Tactic::Turn),
        Just(Tactic::Delay),
    ];
    proptest::collection::vec(one, 1..8)
}

/// Two sites of which one at least is Byzantine: where none lies the order is another.
fn kinds() -> impl Strategy<Value = (usize, usize)> {
    (0usize..3, 0usize..3).prop_filter("servers may lie", |kinds| *kinds != (2, 2))
}

proptest! {
    #[test]
    fn whatever_faulty_servers_do_all_is_carried_in_time(
        kinds in kinds(),
        picks in any::<[[u16; 2]; 2]>(),
        start in any::<u64>(),
        tactics in tactics(),
        messages in proptest::collection::vec((0u64..400, 1u64..3000), 1..60),
        latency_ms in 0u64..499,
    ) {
        let faulty = (faulty(kinds.0, picks[0]), faulty(kinds.1, picks[1]));
        let mut model = model(kinds, faulty, start, tactics, Duration::from_millis(latency_ms));
        model.half = messages.len() as u64 / 2;
        let (mut at, mut given_up) = (T0, 0);
        for (number, (pause_ms, bytes)) in (1..).zip(&messages) {
            at = at + Duration::from_millis(*pause_ms);
            given_up += model.run(at);
            model.now = at;
            model.link.on_queued(at, number, *bytes);
            model.waiting.push_back((number, *bytes, at));
        }
        let most = model.order.most_faulty_in_a_row();
        // Each link has a timeout, and the time that what still waits takes at the floor's pace.
        let waiting: u64 = model.waiting.iter().map(|(_, bytes, _)| bytes).sum();
        let each = TIMEOUT + Duration::from_secs(waiting) / FLOOR as u32;
        given_up += model.run(at + each * (most as u32 + 1));
        prop_assert!(model.waiting.is_empty(), "{} of {} are left", model.waiting.len(), messages.len());
        prop_assert!(given_up <= most, "{given_up} of at most {most}");
        prop_assert_eq!(model.link.progress.patience(), 1);
    }

    #[test]
    fn a_network_that_is_slower_than_was_thought_gets_more_time(
        kinds in kinds(),
        picks in any::<[[u16; 2]; 2]>(),
        start in any::<u64>(),
        slower in 2u32..100,
    ) {
        let faulty = (faulty(kinds.0, picks[0]), faulty(kinds.1, picks[1]));
        let mut model = model(kinds, faulty, start, [Tactic::Drop].into(), TIMEOUT * slower);
        for number in 1..=20 {
            model.link.on_queued(T0, number, 100);
            model.waiting.push_back((number, 100, T0));
        }
        let rounds = u64::from((slower + 1).next_power_of_two().ilog2());
        // While nothing is heard there are eight timeouts at last; each time that something is they may have doubled.
        let unheard = u64::from(slower) / 8 + (model.order.most_faulty_in_a_row() + 1) * 4;
        let most = unheard * (rounds + 1);
        let given_up = model.run(Instant(u64::MAX - 1));
        prop_assert!(model.waiting.is_empty());
        prop_assert!(given_up <= most, "{given_up} links of at most {most}");
    }

    #[test]
    fn a_restored_state_goes_on_as_the_original(
        steps in proptest::collection::vec((0u8..3, 0u64..500, 1u64..1000), 0..40),
    ) {
        let mut progress = LinkProgress::new(order().start(3));
        let (mut now, mut number) = (T0, 0);
        for (step, after, value) in steps {
            now = now + Duration::from_millis(after);
            let mut restored: LinkProgress = decode(&encode(&progress), 1 << 20).unwrap();
            for progress in [&mut progress, &mut restored] {
                match step {
                    0 => progress.on_queued(number + 1),
                    1 => progress.on_settled(now, value % (number + 1), &pace()),
                    _ => progress.on_given_up(now, Suspect::Forwarder, &order()),
                }
            }
            number += u64::from(step == 0);
            prop_assert_eq!(encode(&restored), encode(&progress));
        }
    }
}
