//! Backup: what clients are told is final (Aublin et al. §4.4). The primary orders, all sign what they have accepted
//! at once, and all hold the certificate, so that a batch takes three phases, as in PBFT. It works whatever f replicas
//! and any clients do. When what cannot is tried again: [`super::trials`].

use super::mode::Mode;
use super::{Step, Zyzzyva};
use althing_types::Seq;

impl Zyzzyva {
    /// As primary: has what it has accepted made final, one round of messages after the other.
    pub(super) fn settle_at_once(&mut self, step: &mut Step) {
        let is_due = self.is_leading() && self.mode() == Mode::Backup && self.is_unsettled();
        let said = self.said.filter(|said| said.view == self.view).map_or(Seq(0), |said| said.seq);
        if is_due && said <= self.executed {
            self.say(step, self.durable);
        }
    }

    /// Executes nothing early where clients are told what is final.
    pub(super) fn may_speculate_at(&self, seq: Seq) -> bool {
        match self.mode() {
            Mode::Zyzzyva | Mode::Quorum => true,
            // Of what the view started with the last of the chain do not know that all before them have it.
            Mode::Chain => seq > self.brought_to(),
            Mode::Backup => false,
        }
    }
}
