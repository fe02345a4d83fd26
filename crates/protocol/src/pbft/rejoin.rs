//! Coming back to a view that this replica alone gave up on.
//!
//! A replica whose messages were late, and nobody else's, asks for a later view `w` that the others have
//! no reason to start. It follows what they commit in their view `u`, and does not vote. In the papers
//! that lasts until *f* more give up, and until then the group has one vote less than it could.
//!
//! Here the replica may take its view change back, under the condition that also lets a replica without
//! its disk vote again ([`super::recovery`]), with the stable checkpoint `h` of that view change in the
//! place of what the others report: a checkpoint at or above `bar` = `h` + 4L is stable here, and an
//! agreement quorum without this replica was seen to commit a number above the bar in `u`. Any new view
//! above `u` then starts at or above `h` + 3L, where the view changes of this replica, all made with
//! stable checkpoints up to `h`, are void. That holds also where others of the quorum have come back
//! themselves, or have lost their disks and vote again: the view changes that they took back or have
//! forgotten are void there as well, by the same argument, in the order in which they came back.
//!
//! A replica that led a view, left it and came back below it makes another new view when it leads that
//! view again. The two contradict each other in nothing that counts: what it stood for under the first lies
//! in its log of then, at most L above `h`; and among the view changes of the second is one by a correct
//! replica that had committed above `h` + 4L, so the second starts at or above `h` + 3L.

use super::message::PbftMessage;
use super::persistence::{Deferred, Record};
use super::{Pbft, Step};
use crate::Action;
use althing_types::{Seq, View};

/// A replica doubts that the others follow it once it has waited so many view timeouts.
const ALONE_AFTER_TIMEOUTS: u32 = 2;

impl Pbft {
    /// 4L above the checkpoint that this replica's view change builds on, while it waits for a view.
    fn rejoin_bar(&self) -> Option<Seq> {
        let content = self.own_view_change.as_ref().filter(|_| self.membership.is_voter())?;
        Some(Seq(content.stable_seq().0 + 4 * self.config.settings.log_size))
    }

    /// Notes that an agreement quorum committed a number in a view that this replica has left.
    pub(super) fn note_left_behind(&mut self, seq: Seq, view: View) {
        if view < self.view && self.rejoin_bar().is_some_and(|bar| seq > bar) {
            self.committing = self.committing.max(Some(view));
        }
    }

    /// The view below its own that this replica may come back to. Not from one that it has begun to
    /// lead itself: it could not make another new view for that, nor say that it stood for nothing there.
    pub(super) fn rejoinable(&self) -> Option<View> {
        let bar = self.rejoin_bar()?;
        let view = self.committing.filter(|_| self.stable >= bar && self.own_new_view.is_none())?;
        let has_led_since = self.log.pre_prepared().iter().any(|claim| claim.view > view);
        (!has_led_since).then_some(view)
    }

    /// As a replica that has asked for a view alone: asks the primary to fill up with null requests,
    /// as one that lost its disk does, so that clients need not come along for this one to return.
    pub(super) fn ask_for_return(&self, step: &mut Step) {
        let Some(bar) = self.rejoin_bar() else { return };
        let patience = self.config.settings.view_timeout * ALONE_AFTER_TIMEOUTS;
        if step.now.since(self.left_at) >= patience
            && self.peers.in_view_below(self.view) > self.quorums().f()
        {
            step.broadcast(PbftMessage::FillTo { target: self.beyond(bar) });
        }
    }

    /// Takes the view change back, for good: what this replica asks for from now on replaces it.
    pub(super) fn take_back_view_change(&mut self, step: &mut Step) {
        self.incarnation = self.next_incarnation(step.now);
        self.view_changes.remove(&self.config.me);
        let record = Record::Life { incarnation: self.incarnation, is_voter: true };
        self.outbox.persist(step.actions, &record, Deferred::Nothing);
    }

    /// Returns to view 0, which no new view starts. To others it returns by their new views.
    pub(super) fn return_to_first_view(&mut self, step: &mut Step) {
        if self.rejoinable() == Some(View(0)) {
            self.take_back_view_change(step);
            self.outbox.persist(step.actions, &Record::EnteredFirstView, Deferred::Nothing);
            self.begin_view(View(0));
            self.in_view_since = step.now;
            step.actions.push(Action::EnteredView(self.view));
            self.forward_pending(step);
        }
    }
}
