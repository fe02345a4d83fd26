//! What is executed before its place in the order is final, and the way back from it.

use crate::execution::{Effect, State, StateError};
use crate::frame::{ClientMessage, Execution, Given};
use crate::pages::PageTree;
use crate::replica::Replica;
use crate::{Output, Service, StopReason};
use alloc::vec::Vec;
use althing_crypto::Proof;
use althing_protocol::{Decision, Protocol, Share, Speculation};
use althing_types::{ClientId, RequestNumber, Seq, View};

/// On what an answer to a client rests.
#[derive(Debug, Clone)]
pub(crate) enum Certainty {
    /// The batch's place is final.
    Final,
    /// The batch has its place unless the view ends before it is decided.
    Tentative,
    /// This replica has not heard yet what the others have at that place. It has signed what it has, if a client
    /// wanted that. What it tells clients may be settled already.
    Speculative(Speculation, Option<Proof>, Option<Share>),
}

impl Certainty {
    /// What a client is told of a request in a batch that was executed early. It counts in the view of its
    /// execution.
    pub(crate) fn reply(&self, decision: &Decision, number: RequestNumber, given: Given) -> ClientMessage {
        match self {
            Self::Final => said(decision.view, number, Execution::Final(decision.seq), given),
            Self::Tentative => said(decision.view, number, Execution::Tentative(decision.seq), given),
            Self::Speculative(speculation, proof, _) => {
                ClientMessage::Speculated { number, speculation: *speculation, proof: proof.clone(), given }
            }
        }
    }
}

/// What a client is told of a request that was executed thus.
pub(crate) fn said(view: View, number: RequestNumber, execution: Execution, given: Given) -> ClientMessage {
    match given {
        Given::Whole(outcome) => ClientMessage::Reply { view, number, execution, outcome },
        Given::Digest(outcome) => ClientMessage::ReplyDigest { view, number, execution, outcome },
    }
}

/// A batch that was executed before it was final. What it emits waits.
#[derive(Debug)]
pub(crate) struct Tentative {
    pub(crate) decision: Decision,
    pub(crate) effects: Vec<Effect>,
    pub(crate) certainty: Certainty,
    /// Whether the epoch ends with what is executed up to it.
    pub(crate) is_epoch_ending: bool,
}

impl Tentative {
    /// Whether it gave this request its result: it executed it, or what an earlier batch had deferred.
    pub(crate) fn settles(&self, client: ClientId, number: RequestNumber) -> bool {
        self.has(client, number)
            || self
                .effects
                .iter()
                .flat_map(|effect| &effect.late)
                .any(|late| (late.0, late.1) == (client, number))
    }

    /// Whether it executed this request. A batch may hold one that was executed before, and skips it.
    fn has(&self, client: ClientId, number: RequestNumber) -> bool {
        self.effects.iter().any(|effect| (effect.client, effect.number) == (client, number))
    }

    /// What the client of a request that it settles is told: nothing yet of one that had been deferred.
    pub(crate) fn reply(
        &self,
        client: ClientId,
        number: RequestNumber,
        given: Given,
    ) -> Option<ClientMessage> {
        self.has(client, number).then(|| self.certainty.reply(&self.decision, number, given))
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
        !self.tentative.is_empty()
    }

    /// The batch that gave this request its result, if that may have to be taken back.
    pub(crate) fn early_execution(&self, client: ClientId, number: RequestNumber) -> Option<&Tentative> {
        self.tentative.iter().rev().find(|tentative| tentative.settles(client, number))
    }

    /// Executes a batch right after the last one that was executed, to be made final or taken back later.
    pub(crate) fn execute_early(
        &mut self,
        decision: Decision,
        certainty: Certainty,
        outputs: &mut Vec<Output>,
    ) {
        let is_past_checkpoint = self.tentative.back().is_some_and(|last| last.decision.is_checkpoint);
        assert!(!is_past_checkpoint, "nothing is executed beyond a checkpoint that is not final");
        if self.history.base.is_none() {
            let (_, tree) = self.state.checkpoint();
            self.history.start(self.state.executed(), tree);
        }
        let effects = self.state.execute(&decision, self.limits.settings().max_reply_bytes);
        for effect in &effects {
            self.answer(&decision, effect, &certainty, outputs);
        }
        if effects.iter().any(|effect| !effect.emissions.is_empty()) {
            outputs.push(Output::Flush);
        }
        let is_epoch_ending = self.ends_epoch();
        self.tentative.push_back(Tentative { decision, effects, certainty, is_epoch_ending });
    }

    /// What the batch has led to, if it is the first of those that were executed early. If it is another, all
    /// of them are taken back.
    pub(crate) fn confirm(&mut self, decision: &Decision, outputs: &mut Vec<Output>) -> Option<Tentative> {
        let first = &self.tentative.front()?.decision;
        if (first.seq, first.digest) == (decision.seq, decision.digest) {
            return self.tentative.pop_front();
        }
        self.roll_back(outputs);
        None
    }

    /// Brings back the last final state. A replica whose service does not take that has none to go on
    /// with, and stops.
    pub(crate) fn roll_back(&mut self, outputs: &mut Vec<Output>) {
        if self.tentative.is_empty() {
            return;
        }
        self.tentative.clear();
        if let Err(error) = self.history.restore(&mut self.state, self.limits.settings().max_reply_bytes) {
            self.stop(StopReason::State(error), outputs);
        }
    }
}
