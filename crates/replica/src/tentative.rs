//! What is executed before its place in the order is final, and the way back from it.

use crate::Execution;
use crate::execution::{Effect, State, StateError};
use crate::pages::PageTree;
use crate::replica::Replica;
use crate::{Output, Service, StopReason};
use alloc::vec::Vec;
use althing_protocol::{Decision, Protocol};
use althing_types::{ClientId, RequestNumber, Seq, View};

/// A batch that was executed tentatively. What it emits waits.
#[derive(Debug)]
pub(crate) struct Tentative {
    pub(crate) decision: Decision,
    pub(crate) effects: Vec<Effect>,
}

impl Tentative {
    /// Whether it executed this request.
    fn has(&self, client: ClientId, number: RequestNumber) -> bool {
        let requests = &self.decision.batch.requests;
        requests.iter().any(|request| request.client == client && request.number == number)
    }
}

/// From where the present final state can be reached again: an earlier one, and the batches since. No
/// service has to be able to undo anything; that it has to be done is rare.
#[derive(Debug, Default)]
pub(crate) struct History {
    base: Option<(Seq, PageTree)>,
    since: Vec<Decision>,
}

impl History {
    /// The state at `seq` has these pages.
    pub(crate) fn start(&mut self, seq: Seq, tree: PageTree) {
        self.base = Some((seq, tree));
        self.since.clear();
    }

    /// A batch became final.
    pub(crate) fn extend(&mut self, decision: &Decision) {
        if self.base.is_some() {
            self.since.push(decision.clone());
        }
    }

    fn restore<S: Service>(&self, state: &mut State<S>, max_reply_bytes: usize) -> Result<(), StateError> {
        let (seq, tree) = self.base.as_ref().expect("it was set before anything was executed tentatively");
        state.install(*seq, tree)?;
        for decision in &self.since {
            state.execute(decision, max_reply_bytes);
        }
        Ok(())
    }
}

impl<P: Protocol, S: Service> Replica<P, S> {
    /// Whether the service's state holds what may have to be taken back.
    #[must_use]
    pub fn is_tentative(&self) -> bool {
        self.tentative.is_some()
    }

    /// In which view and where this request was executed, if that may have to be taken back.
    pub(crate) fn tentative_execution(
        &self,
        client: ClientId,
        number: RequestNumber,
    ) -> Option<(View, Execution)> {
        let tentative = self.tentative.as_ref().filter(|tentative| tentative.has(client, number))?;
        Some((tentative.decision.view, Execution::Tentative(tentative.decision.seq)))
    }

    pub(crate) fn execute_tentatively(&mut self, decision: Decision, outputs: &mut Vec<Output>) {
        assert!(self.tentative.is_none(), "one batch at a time is executed tentatively");
        if self.history.base.is_none() {
            let (_, tree) = self.state.checkpoint();
            self.history.start(self.state.executed(), tree);
        }
        let effects = self.state.execute(&decision, self.limits.settings().max_reply_bytes);
        for effect in &effects {
            self.answer(&decision, effect, true, outputs);
        }
        if effects.iter().any(|effect| !effect.emissions.is_empty()) {
            outputs.push(Output::Flush);
        }
        self.tentative = Some(Tentative { decision, effects });
    }

    /// What the batch has led to, if it is the one that was executed tentatively. If it is another, that
    /// one is taken back.
    pub(crate) fn confirm(&mut self, decision: &Decision, outputs: &mut Vec<Output>) -> Option<Vec<Effect>> {
        let tentative = &self.tentative.as_ref()?.decision;
        if (tentative.seq, tentative.digest) == (decision.seq, decision.digest) {
            return self.tentative.take().map(|tentative| tentative.effects);
        }
        self.roll_back(outputs);
        None
    }

    /// Brings back the last final state. A replica whose service does not take that has none to go on
    /// with, and stops.
    pub(crate) fn roll_back(&mut self, outputs: &mut Vec<Output>) {
        if self.tentative.take().is_none() {
            return;
        }
        if let Err(error) = self.history.restore(&mut self.state, self.limits.settings().max_reply_bytes) {
            self.stop(StopReason::State(error), outputs);
        }
    }
}
