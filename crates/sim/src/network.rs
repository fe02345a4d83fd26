use crate::dice::{Dice, nanos};
use crate::fault::{Injection, Injections};
use crate::queue::Node;
use althing_types::Principal;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How the network treats each message. Chances are per thousand.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Weather {
    pub(crate) least_delay: Duration,
    pub(crate) most_delay: Duration,
    /// Whether messages on one link arrive in the order sent.
    pub(crate) is_fifo: bool,
    pub(crate) loss: u64,
    pub(crate) duplication: u64,
    pub(crate) corruption: u64,
    /// How often a message takes up to `spike_delay` instead.
    pub(crate) spikes: u64,
    pub(crate) spike_delay: Duration,
}

impl Weather {
    /// A local network on a good day.
    pub(crate) fn fair() -> Self {
        Self {
            least_delay: Duration::from_micros(200),
            most_delay: Duration::from_millis(2),
            is_fifo: true,
            loss: 0,
            duplication: 0,
            corruption: 0,
            spikes: 0,
            spike_delay: Duration::from_millis(2),
        }
    }
}

/// Who can't reach whom.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Layout {
    /// All can reach all.
    Whole,
    /// The hosts fall into so many groups at random; clients reach everybody.
    Groups(usize),
    /// As [`Layout::Groups`], and each client belongs to a group.
    GroupsWithClients(usize),
    /// So many links at random work in one direction only.
    OneWay(usize),
    /// The primary of most replicas' view is alone.
    WithoutPrimary,
    /// One host is alone.
    WithoutOne,
}

/// A frame that was seen on the network.
#[derive(Debug, Clone)]
pub(crate) struct Captured {
    pub(crate) from: Node,
    pub(crate) as_from: Principal,
    pub(crate) to: Node,
    pub(crate) frame: Arc<[u8]>,
}

/// Everything between the nodes.
pub(crate) struct Network {
    pub(crate) weather: Weather,
    blocked: BTreeSet<(Node, Node)>,
    last_arrivals: BTreeMap<(Node, Node), u64>,
    /// Some of the frames seen, for replays.
    captured: VecDeque<Captured>,
    dice: Dice,
    injections: Injections,
}

/// Frames kept for replays.
const CAPTURED: usize = 256;

impl Network {
    pub(crate) fn new(weather: Weather, dice: Dice, injections: Injections) -> Self {
        Self {
            weather,
            blocked: BTreeSet::new(),
            last_arrivals: BTreeMap::new(),
            captured: VecDeque::new(),
            dice,
            injections,
        }
    }

    /// When what is sent now from `from` to `to` arrives: never, once or twice.
    pub(crate) fn arrivals(&mut self, now: u64, from: Node, to: Node) -> Vec<u64> {
        if self.blocked.contains(&(from, to)) {
            self.injections.note(Injection::CutOff);
            return Vec::new();
        }
        if self.dice.chance(self.weather.loss) {
            self.injections.note(Injection::Lost);
            return Vec::new();
        }
        let mut arrival = now + self.delay();
        let last = self.last_arrivals.entry((from, to)).or_default();
        if self.weather.is_fifo {
            arrival = arrival.max(*last + 1);
        } else if arrival < *last {
            self.injections.note(Injection::Overtaking);
        }
        *last = arrival.max(*last);
        let mut arrivals = vec![arrival];
        if self.dice.chance(self.weather.duplication) {
            self.injections.note(Injection::Duplicated);
            arrivals.push(arrival + self.dice.below(nanos(Duration::from_millis(300))));
        }
        arrivals
    }

    fn delay(&mut self) -> u64 {
        let weather = &self.weather;
        if self.dice.chance(weather.spikes) {
            self.injections.note(Injection::Delayed);
            return nanos(self.dice.duration(weather.most_delay, weather.spike_delay));
        }
        nanos(self.dice.duration(weather.least_delay, weather.most_delay))
    }

    /// The frame as it arrives: sometimes not as it was sent.
    pub(crate) fn carry(&mut self, frame: &Arc<[u8]>) -> Arc<[u8]> {
        if frame.is_empty() || !self.dice.chance(self.weather.corruption) {
            return frame.clone();
        }
        self.injections.note(Injection::Corrupted);
        let mut bytes = frame.to_vec();
        let place = self.dice.index(bytes.len());
        bytes[place] ^= 1 << self.dice.below(8);
        bytes.into()
    }

    /// Keeps a frame for replays, now and then.
    pub(crate) fn capture(&mut self, captured: impl FnOnce() -> Captured) {
        if self.dice.chance(100) {
            if self.captured.len() >= CAPTURED {
                let place = self.dice.index(CAPTURED);
                self.captured.remove(place);
            }
            self.captured.push_back(captured());
        }
    }

    /// A frame seen before, if there is one.
    pub(crate) fn recall(&mut self) -> Option<Captured> {
        let place = self.dice.index(self.captured.len().max(1));
        self.captured.get(place).cloned()
    }

    /// Lays the network out anew. `primary` is the host that [`Layout::WithoutPrimary`] is about.
    pub(crate) fn lay_out(&mut self, layout: &Layout, hosts: usize, clients: usize, primary: usize) {
        let host_nodes: Vec<_> = (0..hosts).map(Node::Host).collect();
        let all: Vec<_> = host_nodes.iter().copied().chain((0..clients).map(Node::Client)).collect();
        match layout {
            Layout::Whole => self.blocked.clear(),
            Layout::Groups(groups) => self.split(&host_nodes, *groups),
            Layout::GroupsWithClients(groups) => self.split(&all, *groups),
            Layout::OneWay(links) => {
                self.blocked.clear();
                for _ in 0..*links {
                    let link = (self.dice.pick(&all), self.dice.pick(&host_nodes));
                    self.blocked.insert(link);
                }
            }
            Layout::WithoutPrimary => self.isolate(Node::Host(primary), &host_nodes),
            Layout::WithoutOne => {
                let alone = self.dice.pick(&host_nodes);
                self.isolate(alone, &host_nodes);
            }
        }
    }

    fn split(&mut self, nodes: &[Node], groups: usize) {
        let places: Vec<_> = nodes.iter().map(|node| (*node, self.dice.index(groups))).collect();
        self.blocked.clear();
        for (from, group) in &places {
            let others = places.iter().filter(|(_, other)| other != group);
            self.blocked.extend(others.map(|(to, _)| (*from, *to)));
        }
    }

    fn isolate(&mut self, alone: Node, nodes: &[Node]) {
        self.blocked.clear();
        for other in nodes.iter().copied().filter(|other| *other != alone) {
            self.blocked.insert((alone, other));
            self.blocked.insert((other, alone));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Node = Node::Host(0);
    const B: Node = Node::Host(1);

    fn network(weather: Weather) -> Network {
        Network::new(weather, Dice::new(3), Injections::default())
    }

    #[test]
    fn a_fair_network_keeps_order_and_loses_nothing() {
        let mut network = network(Weather::fair());
        let mut last = 0;
        for now in (0..1_000_000).step_by(1000) {
            let arrivals = network.arrivals(now, A, B);
            assert!(arrivals.len() == 1 && arrivals[0] > last);
            last = arrivals[0];
        }
    }

    #[test]
    fn a_partition_cuts_off_and_heals() {
        let mut network = network(Weather::fair());
        network.lay_out(&Layout::WithoutPrimary, 4, 1, 1);
        assert!(network.arrivals(0, A, B).is_empty() && network.arrivals(0, B, A).is_empty());
        assert_eq!(network.arrivals(0, A, Node::Host(2)).len(), 1);
        assert_eq!(network.arrivals(0, Node::Client(0), B).len(), 1);
        network.lay_out(&Layout::Whole, 4, 1, 1);
        assert_eq!(network.arrivals(0, A, B).len(), 1);
    }

    #[test]
    fn bad_weather_loses_and_duplicates() {
        let mut network = network(Weather { loss: 300, duplication: 300, ..Weather::fair() });
        let counts: BTreeSet<_> = (0..100).map(|now| network.arrivals(now, A, B).len()).collect();
        assert_eq!(counts, BTreeSet::from([0, 1, 2]));
    }
}
