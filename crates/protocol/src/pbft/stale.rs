//! New views that follow from view changes which nobody stands for any more.
//!
//! A view change is *stale* once its signer votes below it: it came back (`rejoin`), or lost its disk and
//! votes again (`recovery`). Where no former self was faulty, a new view counts none: whoever came back
//! saw a quorum commit far above, and one of that quorum is counted too. A former self that was faulty may
//! have signed *after* it was of that quorum. So replicas judge a new view by what they know themselves.
//!
//! Let a new view for `w` start at `s` and count stale view changes; of their signers let Z be the one that
//! came back first. Z builds on `h`, `s` < `h` + L, and came back when a quorum had committed `c` above its
//! bar, `h` + 4L. The new view counts one that was correct in that quorum then, and that signed its
//! part while it was faulty, later: so nobody entered `w` before those commits.
//! - A correct replica of that quorum has `c` in its log, or a stable checkpoint at or above it. It does not
//!   enter `w`, since `s` + L < `c`. If it has lost its disk since it may be in `w`, and votes for nothing
//!   there, since its stable checkpoint lies above `s` + 2L. Either changes only where an agreement quorum
//!   votes in `w`, which takes one of these. So nothing prepares in `w`.
//! - Anybody else stands in `w` for numbers up to `s` + 2L < `h` + 3L. Another new view that counts
//!   one of the quorum as it is starts above `c` − L > `h` + 3L, where that is void; any other is as this one.
//!
//! What that costs: a new view that follows from no stale view changes starts at most L below whatever was
//! committed before. So it is refused only by one that has slept while the group went on in it for more than
//! a log, until that sees the others commit. It asks for a null request, so that no client has to come along.

use super::message::{NewView, PbftMessage, Vote};
use super::{Pbft, Step};
use althing_types::{Seq, View};

impl Pbft {
    /// Notes that this replica commits: an agreement quorum has prepared that.
    pub(super) fn note_own_commit(&mut self, vote: Vote) {
        self.proven = Some(vote.view);
        self.last_commit = Some(vote);
    }

    /// Notes that an agreement quorum commits in the present view, or a later one.
    pub(super) fn note_proven(&mut self, view: View) {
        if view >= self.view {
            self.proven = Some(view);
        }
    }

    /// Whether a new view starts further below what this replica knows to be committed than a log is long,
    /// and the others were not seen to vote in it either.
    pub(super) fn is_forgetful(&self, content: &NewView) -> bool {
        let known = self.log.prepared().last().map_or(self.stable, |claim| claim.seq);
        let reach = content.start().0 + self.config.settings.log_size;
        known.0 > reach && self.proven != Some(content.view)
    }

    /// Does not follow such a view for now, and asks for something to be committed there.
    pub(super) fn wait_for_proof(&self, step: &mut Step) {
        step.broadcast(PbftMessage::FillTo { target: self.executed.next() });
    }

    /// Whether this replica may stand for something at a number in its view.
    pub(super) fn may_stand_at(&self, seq: Seq) -> bool {
        let is_near = |start: Seq| seq.0 <= start.0 + 2 * self.config.settings.log_size;
        let start = self.new_view.as_ref().map(|signed| signed.content.start());
        start.is_none_or(is_near) || self.proven == Some(self.view)
    }
}
