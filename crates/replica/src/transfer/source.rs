use super::missing::Share;
use althing_types::{Instant, Seq};
use core::time::Duration;

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
    pub(super) deadline: Instant,
}

/// A replica that can be asked.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) question: Option<Question>,
    pub(super) is_liar: bool,
    /// Questions in vain since the last good answer.
    failures: u32,
    rests_until: Instant,
}

impl Source {
    /// Whether it may be asked now.
    pub(super) fn is_askable(&self, now: Instant) -> bool {
        !self.is_liar && self.question.is_none() && self.rests_until <= now
    }

    /// Whether its last answer was a good one, if it was asked at all.
    pub(super) fn is_trusted(&self) -> bool {
        self.failures == 0
    }

    /// How long it has to answer, or is left alone.
    pub(super) fn patience(&self, timeout: Duration) -> Duration {
        timeout * (1 << self.failures.min(MAX_DOUBLINGS))
    }

    /// It has answered well.
    pub(super) fn on_success(&mut self) {
        self.failures = 0;
    }

    /// It has not answered, or could not.
    pub(super) fn on_failure(&mut self, now: Instant, timeout: Duration) {
        self.rests_until = now + self.patience(timeout);
        self.failures = self.failures.saturating_add(1);
    }

    /// It may have what it is asked for now.
    pub(super) fn rouse(&mut self) {
        self.rests_until = Instant::default();
    }

    /// When something has to be done about it: its time to answer, or its rest, is over.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        match &self.question {
            Some(question) => Some(question.deadline),
            None if self.is_liar => None,
            None => Some(self.rests_until),
        }
    }
}
