use super::{LinkPace, LinkProgress};
use alloc::collections::VecDeque;
use althing_types::Instant;

/// What the present virtual link owes: the acknowledgement of a message by a time. A server that sees that time pass
/// suspects the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Obligation {
    /// The number of the [turn](super::Turn) of the virtual link that owes it.
    pub turn: u64,
    /// The message that has to be acknowledged, and all before it.
    pub number: u64,
    /// By when, by the clock of the server that watches.
    pub by: Instant,
}

/// What one server makes of a logical link's progress, by its own clock.
///
/// Each message gets the time by which a link at the floor's pace would have carried it, if nothing but what was there
/// before it were in its way; and the timeout beyond that to be acknowledged. So a forwarder that brings one message
/// at a time, each just before some timeout, is behind soon, and stays what it is: too slow. A correct one whose pace
/// is above the floor is never behind.
///
/// Time runs from when this server has first seen a message to be queued. Agreed time would not do: a faulty
/// server that leads the site's group can have it stand still, and run ahead.
#[derive(Debug, Clone, Default)]
pub struct LinkWatch {
    /// The [round](LinkProgress::round) in which what is watched is owed.
    round: u64,
    /// When what is not acknowledged would have been carried at the floor's pace, by number.
    carried: VecDeque<(u64, Instant)>,
}

impl LinkWatch {
    /// The last number that is watched.
    #[must_use]
    pub fn last(&self, progress: &LinkProgress) -> Option<u64> {
        self.carried.back().map(|(number, _)| *number).filter(|_| self.round == progress.round())
    }

    /// Takes note of how far the link has come, and of what is queued beyond what is watched: numbers in their order,
    /// each with how many bytes it takes with all that goes with it.
    pub fn follow(
        &mut self,
        now: Instant,
        progress: &LinkProgress,
        queued: impl IntoIterator<Item = (u64, u64)>,
        pace: &LinkPace,
    ) {
        if self.round != progress.round() {
            (self.round, self.carried) = (progress.round(), VecDeque::new());
        }
        while self.carried.front().is_some_and(|(number, _)| *number <= progress.settled()) {
            self.carried.pop_front();
        }
        for (number, bytes) in queued {
            let last = self.carried.back();
            if last.is_none_or(|(last, _)| *last < number) {
                let start = last.map_or(now, |(_, carried)| now.max(*carried));
                let carried = start + pace.carrying(bytes).saturating_mul(progress.patience());
                self.carried.push_back((number, carried));
            }
        }
    }

    /// What the virtual link owes first, if anything: what it owes then is owed later.
    #[must_use]
    pub fn obligation(&self, progress: &LinkProgress, pace: &LinkPace) -> Option<Obligation> {
        let (number, carried) = *self.carried.front()?;
        let by = carried + pace.timeout().saturating_mul(progress.patience());
        Some(Obligation { turn: progress.turn().number, number, by })
    }
}
