//! How a replica ends on purpose: nobody should have to wait until it is missed.

use std::time::Duration;

use althing_replica::Input;
use tokio::time::Instant;

use super::runtime::{NodeProtocol, Runtime};

/// How long a replica that ends waits for another to lead.
const HANDOVER: Duration = Duration::from_millis(1500);

/// How long it then stays, to pass on what clients still send to it: they learn who leads from the next
/// replies that they get.
const LINGER: Duration = Duration::from_millis(200);

/// How a replica ends: not before another leads, if it leads, and if that takes no longer than it may.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    at_the_latest: Instant,
    /// Set once another leads.
    at: Option<Instant>,
}

impl Leaving {
    /// When to look again.
    pub(super) fn wakes(self) -> Instant {
        self.at.unwrap_or(self.at_the_latest)
    }
}

impl<P: NodeProtocol> Runtime<P> {
    /// Prepares to end: hands the view over, if it leads one that others could go on in.
    pub(super) fn leave(&mut self) {
        let now = Instant::now();
        let (me, quorums) = (self.members.me(), self.members.quorums());
        let reachable =
            self.members.present().into_iter().filter(|who| self.network.is_connected(*who)).count();
        let is_missed = self.is_leading() && reachable + 1 >= quorums.agreement();
        if is_missed && self.leaving.is_none() {
            tracing::info!(replica = %me, "hands the view over before it ends");
            self.handle(Input::HandOver);
            self.leaving = Some(Leaving { at_the_latest: now + HANDOVER, at: None });
        } else if !is_missed {
            self.leaving = Some(Leaving { at_the_latest: now, at: Some(now) });
        }
    }

    fn is_leading(&self) -> bool {
        let status = self.replica.status();
        status.is_in_view && self.members.quorums().primary(status.view) == self.members.me()
    }

    /// Whether it is time to end.
    pub(super) fn has_left(&mut self) -> bool {
        let status = self.replica.status();
        let leads = !status.is_in_view || self.is_leading();
        let Some(leaving) = &mut self.leaving else { return false };
        if !leads && leaving.at.is_none() {
            leaving.at = Some(Instant::now() + LINGER);
        }
        let at = leaving.at.map_or(leaving.at_the_latest, |at| at.min(leaving.at_the_latest));
        Instant::now() >= at
    }
}
