use crate::dice::{Dice, nanos};
use crate::network::Weather;
use althing_types::SiteId;
use std::collections::{BTreeMap, BTreeSet};

/// The wide-area network: each site has one link out, which takes so many bytes a second, and what leaves it takes
/// its time to each other site.
pub(crate) struct Uplinks {
    weather: Weather,
    bytes_per_second: u64,
    /// How long what leaves a site may have to wait for its link, in nanoseconds.
    most_wait: u64,
    /// When each site's link is free again.
    free_at: BTreeMap<SiteId, u64>,
    cut: BTreeSet<(SiteId, SiteId)>,
    dice: Dice,
    /// Bytes that left each site.
    pub(crate) sent: BTreeMap<SiteId, u64>,
}

impl Uplinks {
    pub(crate) fn new(weather: Weather, bytes_per_second: u64, dice: Dice) -> Self {
        Self {
            weather,
            bytes_per_second,
            most_wait: 1_000_000_000,
            free_at: BTreeMap::new(),
            cut: BTreeSet::new(),
            dice,
            sent: BTreeMap::new(),
        }
    }

    /// Has links queue as much as there is.
    pub(crate) fn unbounded(self) -> Self {
        Self { most_wait: u64::MAX, ..self }
    }

    /// When what leaves `from` now arrives at `to`: never, once or twice. A link whose queue is longer than
    /// it may be drops what comes.
    pub(crate) fn arrivals(&mut self, now: u64, from: SiteId, to: SiteId, bytes: usize) -> Vec<u64> {
        let free_at = self.free_at.entry(from).or_default();
        let start = now.max(*free_at);
        if start - now > self.most_wait {
            return Vec::new();
        }
        *self.sent.entry(from).or_default() += bytes as u64;
        *free_at = start + bytes as u64 * 1_000_000_000 / self.bytes_per_second;
        let left = *free_at;
        if self.cut.contains(&(from, to)) || self.dice.chance(self.weather.loss) {
            return Vec::new();
        }
        let mut arrivals = vec![left + self.delay()];
        if self.dice.chance(self.weather.duplication) {
            arrivals.push(left + self.delay());
        }
        arrivals
    }

    fn delay(&mut self) -> u64 {
        let Weather { least_delay, most_delay, spikes, spike_delay, .. } = self.weather;
        nanos(if self.dice.chance(spikes) {
            self.dice.duration(most_delay, spike_delay)
        } else {
            self.dice.duration(least_delay, most_delay)
        })
    }

    /// Cuts all links between these sites and all others.
    pub(super) fn split(&mut self, group: &[SiteId], all: impl Iterator<Item = SiteId>) {
        for other in all.filter(|site| !group.contains(site)) {
            for site in group {
                self.cut.extend([(*site, other), (other, *site)]);
            }
        }
    }

    /// The faults have ended.
    pub(super) fn mend(&mut self) {
        self.cut.clear();
    }

    /// No weather any more.
    pub(super) fn clear_up(&mut self) {
        self.mend();
        (self.weather.loss, self.weather.duplication, self.weather.spikes) = (0, 0, 0);
    }
}
