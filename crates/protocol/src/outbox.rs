use crate::{Action, Actions, PersistId};
use alloc::collections::VecDeque;
use althing_types::encode;
use borsh::{BorshDeserialize, BorshSerialize};

/// Records handed to storage, and what may leave once they are durable.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
pub(crate) struct Outbox<D> {
    last_id: PersistId,
    waiting: VecDeque<(PersistId, D)>,
}

impl<D> Default for Outbox<D> {
    fn default() -> Self {
        Self { last_id: PersistId::default(), waiting: VecDeque::new() }
    }
}

impl<D> Outbox<D> {
    /// One whose ids go on after this one.
    pub(crate) fn after(last_id: PersistId) -> Self {
        Self { last_id, waiting: VecDeque::new() }
    }

    /// The id of the last record.
    pub(crate) fn last_id(&self) -> PersistId {
        self.last_id
    }

    /// Hands a record to storage; `then` happens when it is on disk.
    pub(crate) fn persist<M>(&mut self, actions: &mut Actions<M>, record: &impl BorshSerialize, then: D) {
        self.last_id.0 += 1;
        self.waiting.push_back((self.last_id, then));
        actions.push(Action::Persist { id: self.last_id, record: encode(record) });
    }

    /// The first thing that still waits, if its record is among those up to `id`.
    pub(crate) fn release(&mut self, id: PersistId) -> Option<D> {
        let first = self.waiting.pop_front_if(|(waiting, _)| *waiting <= id);
        first.map(|(_, deferred)| deferred)
    }

    /// What waits, in its order.
    pub(crate) fn waiting_mut(&mut self) -> impl Iterator<Item = &mut D> {
        self.waiting.iter_mut().map(|(_, deferred)| deferred)
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}
