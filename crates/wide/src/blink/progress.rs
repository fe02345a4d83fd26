use super::{SelectionOrder, Suspect, Turn};
use althing_types::Instant;
use borsh::{BorshDeserialize, BorshSerialize};
use core::time::Duration;
use thiserror::Error;

/// How often timeouts double at most.
const MOST_SLOWNESS: u32 = 10;

/// How often they do while nothing is heard: the other site may not be slow but away.
const MOST_UNHEARD: u32 = 3;

/// A virtual link that has done what it has to for so many timeouts shows that the network is no slower than that.
const REDEEMED_AFTER_TIMEOUTS: u32 = 64;

/// A pace that nothing could be held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LinkPaceError {
    /// No time at all.
    #[error("the timeout of a link is zero; give it several times the round trip between the sites")]
    Timeout,
    /// No bytes at all.
    #[error("the floor of a link is zero bytes a second; give it a part of what the network carries")]
    Floor,
}

/// What is asked of a virtual link: it may be late by as much as the timeout, and otherwise has to carry what there is
/// as fast as the floor says. A latency-rate server, as queueing has it (Stiliadis and Varma, INFOCOM'96).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkPace {
    timeout: Duration,
    floor_bytes_per_s: u64,
}

impl LinkPace {
    /// The timeout has to leave room for a round trip between the sites, and for what they do meanwhile: sign, order,
    /// and wait until they acknowledge. The floor has to be below what a correct link gets of the network.
    ///
    /// # Errors
    /// [`LinkPaceError`] if either is zero.
    pub fn new(timeout: Duration, floor_bytes_per_s: u64) -> Result<Self, LinkPaceError> {
        if timeout.is_zero() {
            return Err(LinkPaceError::Timeout);
        }
        if floor_bytes_per_s == 0 {
            return Err(LinkPaceError::Floor);
        }
        Ok(Self { timeout, floor_bytes_per_s })
    }

    /// How long a message may go without an acknowledgement, beside the time that its bytes take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How many bytes may take that long.
    pub(crate) fn bytes_in(&self, time: Duration) -> u64 {
        let bytes = u128::from(self.floor_bytes_per_s) * time.as_nanos() / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// How long so many bytes may take.
    pub(super) fn carrying(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.floor_bytes_per_s);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// How a logical link gets on: which virtual link has its turn, how much time it gets, and what has arrived. Part of the
/// sending site's replicated state. When something is due each server [watches](super::LinkWatch) for itself.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct LinkProgress {
    turn: Turn,
    /// How often all that waits began to be owed anew.
    round: u64,
    /// Since when the virtual link has its turn, or was last redeemed, in agreed time: whoever leads the site can have
    /// that stand still, which keeps timeouts long, or run ahead by as much as the others let it, once.
    since: Instant,
    /// The last message that is to be carried.
    queued: u64,
    /// Up to which message all have arrived, or have been forgotten and need not.
    settled: u64,
    /// How many virtual links were given up since one was redeemed, or since timeouts were doubled.
    given_up: u64,
    /// How often timeouts were doubled.
    slowness: u32,
    /// How often they were doubled beyond that, while nothing was heard.
    unheard: u32,
    /// Whether anything was acknowledged since timeouts were doubled.
    is_heard: bool,
    /// How many peers were given up since anything was acknowledged, or since the forwarder was.
    peers_given_up: u64,
}

impl LinkProgress {
    /// Nothing to carry yet, and this turn.
    #[must_use]
    pub fn new(turn: Turn) -> Self {
        Self {
            turn,
            round: 0,
            since: Instant::default(),
            queued: 0,
            settled: 0,
            given_up: 0,
            slowness: 0,
            unheard: 0,
            is_heard: false,
            peers_given_up: 0,
        }
    }

    /// Whose turn it is.
    #[must_use]
    pub fn turn(&self) -> Turn {
        self.turn
    }

    /// How many times its timeout and its carrying time a link now gets: a power of two.
    #[must_use]
    pub fn patience(&self) -> u32 {
        1 << (self.slowness + self.unheard).min(MOST_SLOWNESS)
    }

    /// How often all that waits began to be owed anew: with each virtual link, and when a site is back.
    #[must_use]
    pub fn round(&self) -> u64 {
        self.round
    }

    /// Up to which message nothing is owed any more.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// Whether the virtual link still owes this. A server that has seen it expire may have been overtaken.
    #[must_use]
    pub fn is_owed(&self, turn: u64, number: u64) -> bool {
        self.turn.number == turn && self.settled < self.queued.min(number)
    }

    /// Message `number` is to be carried, and is the last one so far.
    pub fn on_queued(&mut self, number: u64) {
        self.queued = self.queued.max(number);
    }

    /// The other site has acknowledged something, over whichever virtual link. If it was away, it is back: what timeouts
    /// were doubled for meanwhile is over, and what waits is owed from now on.
    pub fn on_heard(&mut self, now: Instant) {
        (self.is_heard, self.peers_given_up) = (true, 0);
        if core::mem::take(&mut self.unheard) > 0 {
            self.begin(now);
        }
    }

    /// Messages up to this number have arrived, or have been forgotten and need not.
    pub fn on_settled(&mut self, now: Instant, number: u64, pace: &LinkPace) {
        let has_arrived = self.settled < self.queued.min(number);
        self.settled = self.settled.max(number);
        let timeout = pace.timeout.saturating_mul(self.patience());
        if has_arrived && now >= self.since + timeout.saturating_mul(REDEEMED_AFTER_TIMEOUTS) {
            (self.given_up, self.since) = (0, now);
            self.slowness = self.slowness.saturating_sub(1);
        }
    }

    /// The virtual link is given up, and the next has its turn. It owes all that is there, from now on.
    ///
    /// Of as many as can be faulty in a row and one more, one has two correct servers. If all of them were
    /// given up, and none had its turn for long, the network is slower than was thought: timeouts double. Or else the
    /// other site is away. Then nothing is acknowledged by it, by no link and however late.
    ///
    /// A forwarder that has blamed more peers than can have failed is itself to blame: it may be cut off.
    pub fn on_given_up(&mut self, now: Instant, suspect: Suspect, order: &SelectionOrder) {
        let is_peers = suspect == Suspect::Peer && self.peers_given_up <= order.most_faulty_peers();
        self.peers_given_up = if is_peers { self.peers_given_up + 1 } else { 0 };
        self.turn = order.after(self.turn, if is_peers { Suspect::Peer } else { Suspect::Forwarder });
        self.given_up += 1;
        if self.given_up > order.most_faulty_in_a_row() {
            self.given_up = 0;
            if core::mem::take(&mut self.is_heard) {
                self.slowness = (self.slowness + 1).min(MOST_SLOWNESS);
            } else {
                self.unheard = (self.unheard + 1).min(MOST_UNHEARD);
            }
        }
        self.begin(now);
    }

    /// What waits is owed from now on.
    fn begin(&mut self, now: Instant) {
        self.since = now;
        self.round += 1;
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
