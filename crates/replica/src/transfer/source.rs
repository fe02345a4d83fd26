use super::missing::Share;
use althing_types::Seq;

/// Time, in expiries of the transfer's timer. A replica's clock may stand still or jump; only that timers
/// expire can be relied on.
pub(super) type Ticks = u64;

/// How many of them a replica has to answer, at first.
pub(super) const TICKS_PER_ANSWER: u32 = 4;
/// Waiting times double with each question in vain, this many times at most.
const MAX_DOUBLINGS: u32 = 5;

/// What a replica was asked.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) ticket: u64,
    /// The checkpoint that it was asked about.
    pub(super) seq: Seq,
    pub(super) share: Share,
    /// Whether nobody else is asked for the share.
    pub(super) is_reserved: bool,
    /// When its answer is given up.
    pub(super) deadline: Ticks,
}

/// A replica that can be asked.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) question: Option<Question>,
    pub(super) is_liar: bool,
    /// Questions in vain since the last good answer.
    failures: u32,
    rests_until: Ticks,
}

impl Source {
    /// Whether it may be asked now.
    pub(super) fn is_askable(&self, now: Ticks) -> bool {
        !self.is_liar && self.question.is_none() && self.rests_until <= now
    }

    /// Whether its last answer was a good one, if it was asked at all.
    pub(super) fn is_trusted(&self) -> bool {
        self.failures == 0
    }

    /// When it has had its time to answer, or has been left alone for long enough. The tick that is
    /// passing does not count.
    pub(super) fn patience_ends(&self, now: Ticks) -> Ticks {
        now + 1 + (Ticks::from(TICKS_PER_ANSWER) << self.failures.min(MAX_DOUBLINGS))
    }

    /// It has answered well.
    pub(super) fn on_success(&mut self) {
        self.failures = 0;
    }

    /// It has not answered, or could not.
    pub(super) fn on_failure(&mut self, now: Ticks) {
        self.rests_until = self.patience_ends(now);
        self.failures = self.failures.saturating_add(1);
    }

    /// It may have what it is asked for now.
    pub(super) fn rouse(&mut self) {
        self.rests_until = 0;
    }
}
