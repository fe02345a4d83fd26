//! A primary that steps down, so that nobody has to wait for a timeout: before it stops on purpose.
//!
//! Its signed view change for the next view is all that it says. Whoever sees that the primary of its view
//! asks for a later one leaves the view at once: a correct primary that has left a view does not come back
//! to serve it, and waiting would only cost time.
//!
//! What a faulty primary makes of this: it ends its own view, which it can do by silence as well, at the
//! price of a timeout for the others. It can't choose who follows, since those that leave ask for the next
//! view whatever it asks for; it can't do it twice in its turn; and where it says it to some only, these
//! have left alone, as if their timers had run out: the others follow once *f* + 1 have, or their own
//! timers run out, or those come back (`rejoin`).

use super::{Pbft, Step};

impl Pbft {
    /// As primary: hands the view over to the next one.
    pub(super) fn on_hand_over(&mut self, step: &mut Step) {
        if self.is_leading() && self.quorums().n() > 1 {
            self.step_out(step);
        }
    }

    /// Follows the primary of this view out of it.
    pub(super) fn follow_primary(&mut self, step: &mut Step) {
        let primary = self.primary();
        let asked = self.view_changes.get(&primary).filter(|_| !self.returned.contains(&primary));
        let has_left = asked.is_some_and(|signed| signed.content.view > self.view);
        if self.is_in_view && primary != self.me() && has_left {
            self.step_out(step);
        }
    }

    /// Leaves a view that worked for the next one. It was not in vain then, so that the next primary need
    /// not be given more time, nor ask clients for signatures.
    fn step_out(&mut self, step: &mut Step) {
        let next = self.view.next();
        if self.fruitless_views > 0 || self.pending.oldest_signed().is_some() {
            self.leave_view(step, next);
        } else if self.membership.is_voter() {
            self.ask_for_view(step, next);
        }
    }
}
