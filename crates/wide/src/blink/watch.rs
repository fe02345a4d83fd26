use super::{LinkPace, LinkProgress};
use alloc::collections::VecDeque;
use althing_types::Instant;
use core::time::Duration;

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
/// is above the floor is never behind. Nor can a link be ahead: whenever something arrives, what still waits is due as if
/// all of it had been queued just then, if that is earlier. Or else a forwarder that was faster than the floor for long
/// could stop for as long.
///
/// Time runs from when this server has first seen a message to be queued. Agreed time would not do: a faulty
/// server that leads the site's group can have it stand still, and run ahead.
#[derive(Debug, Clone, Default)]
pub struct LinkWatch {
    /// The [round](LinkProgress::round) in which what is watched is owed.
    round: u64,
    /// What is not acknowledged, by number.
    pending: VecDeque<Pending>,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    number: u64,
    /// How long it takes at the floor's pace.
    takes: Duration,
    /// When it would have been carried at that pace.
    carried: Instant,
}

impl LinkWatch {
    /// The last number that is watched.
    #[must_use]
    pub fn last(&self, progress: &LinkProgress) -> Option<u64> {
        self.pending.back().map(|last| last.number).filter(|_| self.round == progress.round())
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
            (self.round, self.pending) = (progress.round(), VecDeque::new());
        }
        self.settle(now, progress.settled());
        for (number, bytes) in queued {
            let last = self.pending.back();
            if last.is_none_or(|last| last.number < number) {
                let start = last.map_or(now, |last| now.max(last.carried));
                let takes = pace.carrying(bytes).saturating_mul(progress.patience());
                self.pending.push_back(Pending { number, takes, carried: start + takes });
            }
        }
    }

    /// Messages up to this number have arrived: what was saved up with them is lost.
    fn settle(&mut self, now: Instant, number: u64) {
        let arrived = self.pending.partition_point(|pending| pending.number <= number);
        if arrived == 0 {
            return;
        }
        self.pending.drain(..arrived);
        let mut at_best = now;
        for pending in &mut self.pending {
            at_best = at_best + pending.takes;
            pending.carried = pending.carried.min(at_best);
        }
    }

    /// What the virtual link owes first, if anything: what it owes then is owed later.
    #[must_use]
    pub fn obligation(&self, progress: &LinkProgress, pace: &LinkPace) -> Option<Obligation> {
        let Pending { number, carried, .. } = *self.pending.front()?;
        let by = carried + pace.timeout().saturating_mul(progress.patience());
        Some(Obligation { turn: progress.turn().number, number, by })
    }
}
