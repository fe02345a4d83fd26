//! Leaving a view because its way of ordering does not do any more, which is nobody's fault that anybody could prove.

use super::mode::Mode;
use super::{Step, Zyzzyva, ZyzzyvaSettings};
use crate::Request;
use althing_types::{ClientId, Instant, RequestNumber, Seq};

impl Zyzzyva {
    /// Goes on to the next view. Its primary need not be given more time for that, nor clients asked for signatures.
    pub(super) fn abort(&mut self, step: &mut Step) {
        if self.is_voting() && self.is_in_view {
            self.ask_for_view(step, self.view.next());
        }
    }

    /// A client has not believed what it was told, or was not told by all that it needs, and asks again (Aublin et al.
    /// §4.2.2, PANIC). Any client may say so of its own requests of this view. What was accepted just now it can't have
    /// been told yet when it asked.
    pub(super) fn on_asked_again(&mut self, step: &mut Step, client: ClientId, number: RequestNumber) {
        let (now, view, brought) = (step.now, self.view, self.brought_to());
        let patience = self.config.settings.settle_patience * 2;
        let is_old = |at: Instant| now.since(at) >= patience;
        let is_it = |request: &Request| (request.client, request.number) == (client, number);
        let is_of_view = self.log.after(brought).any(|(_, slot)| {
            slot.view == view && is_old(slot.accepted_at) && slot.batch.requests.iter().any(is_it)
        });
        if self.mode().needs_all() && is_of_view {
            self.abort(step);
        }
    }

    /// Clients show certificates where not all have answered them. With one client that is quick enough; with several
    /// each number waits for the one before, and nothing else ends that. So certificates of two clients within a view
    /// timeout do, unless they are so near each other that one replica may just have been late once.
    pub(super) fn note_shown_in_quorum(&mut self, step: &mut Step, seq: Seq) {
        let slot = self.log.get(seq).filter(|_| self.mode() == Mode::Quorum);
        let Some(client) = slot.and_then(|slot| slot.batch.requests.first()).map(|request| request.client)
        else {
            return;
        };
        let ZyzzyvaSettings { view_timeout, settle_patience, .. } = self.config.settings;
        match self.trials.shown {
            Some((first, at)) if step.now.since(at) <= view_timeout => {
                if first != client && step.now.since(at) > settle_patience {
                    self.abort(step);
                }
            }
            _ => self.trials.shown = Some((client, step.now)),
        }
    }

    /// Follows whoever leaves a view that needs it: the primary, which does not come back if it is correct, and where
    /// all are needed everybody.
    pub(super) fn follow_leavers(&mut self, step: &mut Step) {
        if !self.is_in_view {
            return;
        }
        let (primary, needs_all) = (self.primary(), self.mode().needs_all());
        let mut leavers = self.view_changes.values().filter(|signed| signed.content.view > self.view);
        if !leavers.any(|signed| needs_all || signed.signer == primary) {
            return;
        }
        let next = self.next_view_of_trials(step.now);
        if next == self.view.next() {
            self.step_out(step);
        } else if self.is_voting() {
            self.ask_for_view(step, next);
        }
    }
}
