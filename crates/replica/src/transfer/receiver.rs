use super::missing::{Missing, Scope};
use super::source::{Question, Source, TICKS_PER_ANSWER, Ticks};
use super::{EngineMessage, Parts};
use crate::pages::PageTree;
use alloc::collections::BTreeMap;
use althing_types::{Digest, Quorums, ReplicaId, Seq};
use core::ops::Bound;
use core::time::Duration;

/// What a transfer does next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Ask `to`, and do the next step.
    Ask { to: ReplicaId, message: EngineMessage },
    /// An answer is still to come, or the timer, which has to be set if a time is given.
    Wait(Option<Duration>),
    /// All is there: the target's state, verified.
    Complete(PageTree),
}

/// What an answer was worth.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// It answers no open question.
    Stale,
    /// It brought the transfer forward.
    Progress,
    /// The replica can't help.
    Unavailable,
    /// It does not match the checkpoint that it was asked for: the replica lies.
    Wrong(Seq),
}

/// A state transfer under way. See the module's description.
#[derive(Debug)]
pub(crate) struct Transfer {
    /// How long the timer runs.
    tick: Duration,
    now: Ticks,
    is_timer_set: bool,
    seq: Seq,
    state: Digest,
    missing: Missing,
    sources: BTreeMap<ReplicaId, Source>,
    /// Who was asked last: the next question goes to the one after it that can be asked.
    last_asked: ReplicaId,
    next_ticket: u64,
}

impl Transfer {
    #[cfg(test)]
    pub(crate) fn new(
        place: (ReplicaId, Quorums),
        timeout: Duration,
        target: (Seq, Digest),
        base: PageTree,
        first_ticket: u64,
    ) -> Self {
        Self::within(Scope::Whole, place, timeout, target, base, first_ticket)
    }

    /// Starts to fetch so much of the state at `seq` with digest `state`, from `base`. `first_ticket` must be
    /// above all tickets used before.
    pub(crate) fn within(
        scope: Scope,
        (me, quorums): (ReplicaId, Quorums),
        timeout: Duration,
        (seq, state): (Seq, Digest),
        base: PageTree,
        first_ticket: u64,
    ) -> Self {
        let others = quorums.replicas().filter(|id| *id != me);
        Self {
            tick: timeout / TICKS_PER_ANSWER,
            now: 0,
            is_timer_set: false,
            seq,
            state,
            missing: Missing::within(scope, state, base),
            sources: others.map(|id| (id, Source::default())).collect(),
            last_asked: me,
            next_ticket: first_ticket,
        }
    }

    pub(crate) fn scope(&self) -> Scope {
        self.missing.scope()
    }

    pub(crate) fn target(&self) -> (Seq, Digest) {
        (self.seq, self.state)
    }

    pub(crate) fn fetched_bytes(&self) -> u64 {
        self.missing.fetched_bytes()
    }

    pub(crate) fn next_ticket(&self) -> u64 {
        self.next_ticket
    }

    /// Goes for a newer checkpoint instead, keeping what is still part of it.
    pub(crate) fn retarget(&mut self, seq: Seq, state: Digest) {
        (self.seq, self.state) = (seq, state);
        self.missing.retarget(state);
        // Who did not have the last one may have this one; who is mute is still given up in time.
        self.sources.values_mut().for_each(Source::rouse);
    }

    /// What to do next, after any event.
    pub(crate) fn step(&mut self) -> Step {
        if self.missing.is_complete() {
            return Step::Complete(self.missing.assemble());
        }
        if self.sources.values().all(|source| source.is_liar) {
            // More liars than can be: one of them was slandered by our own bad memory.
            for source in self.sources.values_mut() {
                source.is_liar = false;
                source.on_failure(self.now);
            }
        }
        if let Some(question) = self.ask() {
            return question;
        }
        let is_set = core::mem::replace(&mut self.is_timer_set, true);
        Step::Wait((!is_set).then_some(self.tick))
    }

    /// Asks the next replica that can be asked for a share of what is missing, if there is both.
    fn ask(&mut self) -> Option<Step> {
        let askable = self.sources.values().filter(|source| source.is_askable(self.now)).count();
        let after = self.sources.range((Bound::Excluded(self.last_asked), Bound::Unbounded));
        let upto = self.sources.range(..=self.last_asked);
        let (to, source) = after.chain(upto).find(|(_, source)| source.is_askable(self.now))?;
        // The share of one that failed before is asked of others too: nobody waits for it.
        let (to, is_trusted) = (*to, source.is_trusted());
        let open = self.missing.share(askable, is_trusted);
        let is_reserved = is_trusted && open.is_some();
        // Nor does anybody wait for one that takes its time, as it may for ever: where the group goes on,
        // whatever is late belongs to a checkpoint that nobody has any more.
        let share = open.or_else(|| self.missing.share_of_others(askable))?;
        if is_reserved {
            self.missing.reserve(&share);
        }
        let (ticket, want) = (self.next_ticket, share.want());
        let source = self.sources.get_mut(&to).expect("it was just found");
        let deadline = source.patience_ends(self.now);
        source.question = Some(Question { ticket, seq: self.seq, share, is_reserved, deadline });
        self.next_ticket += 1;
        self.last_asked = to;
        let message = EngineMessage::Fetch { seq: self.seq, state: self.state, ticket, want };
        Some(Step::Ask { to, message })
    }

    /// Takes an answer from `from`.
    pub(crate) fn on_fetched(&mut self, from: ReplicaId, ticket: u64, parts: Parts) -> Received {
        let Some(source) = self.sources.get_mut(&from) else { return Received::Stale };
        let Some(question) = source.question.take_if(|question| question.ticket == ticket) else {
            return Received::Stale;
        };
        if question.is_reserved {
            self.missing.release(&question.share);
        }
        if parts == Parts::Unavailable {
            // It may no longer have what was asked for, and have what is wanted now.
            if question.seq == self.seq {
                source.on_failure(self.now);
            }
            return Received::Unavailable;
        }
        if self.missing.take(&question.share, parts) {
            source.on_success();
            return Received::Progress;
        }
        source.is_liar = true;
        Received::Wrong(question.seq)
    }

    /// The timer has expired.
    pub(crate) fn on_timer(&mut self) {
        self.is_timer_set = false;
        self.now += 1;
        for source in self.sources.values_mut() {
            if let Some(question) = source.question.take_if(|question| question.deadline <= self.now) {
                if question.is_reserved {
                    self.missing.release(&question.share);
                }
                source.on_failure(self.now);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn pages_held(&self) -> usize {
        self.missing.pages_held()
    }
}
