use crate::PersistId;
use crate::pending::Pending;

/// What an instance leaves to its successor, whatever that runs.
#[derive(Debug)]
pub(crate) struct Legacy {
    /// The requests that wait and are good for the others of the next epoch too, and what was executed.
    pub(crate) pending: Pending,
    /// Whether some of those are here by the word of others alone, who are not believed everywhere.
    pub(crate) is_hearsay: bool,
    /// The last record that was handed to storage.
    pub(crate) last_id: PersistId,
    /// Whether the replica has lost its past and does not vote.
    pub(crate) has_forgotten: bool,
    /// Whether somebody else may have spoken for it.
    pub(crate) is_doubtful: bool,
}

impl Legacy {
    /// The requests, as far as this replica has checked them itself. The others come again from their clients.
    pub(crate) fn checked_pending(&mut self) -> Pending {
        let pending = core::mem::take(&mut self.pending);
        if self.is_hearsay { pending.executed_only() } else { pending }
    }
}
