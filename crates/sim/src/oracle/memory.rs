use super::{Verdict, Violation};
use crate::keys::CLIENTS;
use crate::plan::{LARGEST_LOG, Plan};
use crate::world::LARGEST;

/// What a replica holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holdings {
    /// The protocol's elements: votes, batches, requests, view changes.
    pub(crate) protocol: usize,
    pub(crate) checkpoints: usize,
    pub(crate) outstanding: usize,
    /// Records on its disk.
    pub(crate) records: usize,
}

/// The most that a replica of a run may hold, whatever happens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryBound(Holdings);

/// Batches that a log keeps for one number at most, beside those that replicas vote for.
const BATCHES: usize = 9;

impl MemoryBound {
    pub(crate) fn new(plan: &Plan) -> Self {
        let small = |number: u64| usize::try_from(number).expect("small");
        let n = if plan.membership.is_some() { LARGEST } else { plan.quorums.n() };
        // Whose members change have other settings in later epochs, which may be those of Paxos, with a window of
        // two logs; and one checkpoint more: the start. What Paxos holds of a number is less than half as much.
        let (log, checkpoints) = match &plan.membership {
            Some(_) => (small(LARGEST_LOG.0), 2 * small(LARGEST_LOG.1) + 3),
            None => (small(plan.window()), small(plan.window() / plan.settings.checkpoint_period) + 2),
        };
        let clients = small(CLIENTS);
        // Each number: itself, its batches, two votes a replica, and the batches pre-prepared there.
        let protocol = log * (1 + BATCHES + n + 2 * n + BATCHES) + checkpoints * (n + 1) + n + clients;
        // Beyond the log, of as many numbers: a proposal, and two votes a replica.
        let protocol = protocol + log * (1 + 2 * n);
        // What waits for the disk is at most two records a number, and those of view changes.
        let protocol = protocol + 2 * log + 100;
        Self(Holdings { protocol, checkpoints, outstanding: clients, records: 20_000 })
    }

    pub(crate) fn check(&self, host: usize, held: Holdings) -> Verdict {
        let rules = [
            ("elements in its protocol", held.protocol, self.0.protocol),
            ("checkpoints", held.checkpoints, self.0.checkpoints),
            ("outstanding requests", held.outstanding, self.0.outstanding),
            ("records on its disk", held.records, self.0.records),
        ];
        for (what, actual, most) in rules {
            if actual > most {
                let message = format!("host {host} holds {actual} {what}, more than {most}");
                return Err(Violation::new("memory", message));
            }
        }
        Ok(())
    }
}
