//! Bringing a site to a checkpoint of the others. What is fetched comes by way of the site's own order, so that all
//! its servers have it, and install it at the same moment. None of it has to be trusted: it has the digest that the
//! wide-area protocol asks for, or it is not taken.
//!
//! While that lasts no batch is executed. So what the state lacks follows from it and from what was taken, also
//! for a server that was itself brought up meanwhile.

use super::LogicalMachine;
use alloc::vec::Vec;
use althing_protocol::{Decision, Event, Replicable};
use althing_replica::{Gathering, Parts, Service, Want};
use althing_types::{Digest, Seq};
use borsh::{BorshDeserialize, BorshSerialize};

/// How a state came to be gathered, step by step.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
enum Step {
    Aim(Digest),
    Take(Parts),
}

/// A state that is being fetched.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
pub(super) struct Fetching {
    seq: Seq,
    state: Digest,
    steps: Vec<Step>,
    /// What was decided meanwhile.
    held: Vec<Decision>,
}

impl<P: Replicable, S: Service> LogicalMachine<P, S> {
    /// What this site lacks of a checkpoint that it is to be brought to: the checkpoint, the digest of its state, and
    /// what to ask for next.
    pub(crate) fn wanted(&self) -> Option<(Seq, Digest, Want)> {
        let fetching = self.core.fetching.as_ref()?;
        let want = self.gathering.as_ref()?.want()?;
        Some((fetching.seq, fetching.state, want))
    }

    /// Parts of a checkpoint of this site's own.
    pub(crate) fn supply(&self, seq: Seq, state: Digest, want: &Want) -> Option<Parts> {
        let (known, tree) = self.checkpoints.get(&seq)?;
        if *known == state { tree.parts(want) } else { None }
    }

    /// The protocol wants the state at this checkpoint.
    pub(super) fn fetch(&mut self, seq: Seq, state: Digest) {
        match &mut self.core.fetching {
            Some(fetching) if fetching.seq >= seq => return,
            Some(fetching) => {
                (fetching.seq, fetching.state) = (seq, state);
                fetching.steps.push(Step::Aim(state));
            }
            None => {
                let (steps, held) = (alloc::vec![Step::Aim(state)], Vec::new());
                self.core.fetching = Some(Fetching { seq, state, steps, held });
            }
        }
        match &mut self.gathering {
            Some(gathering) => gathering.retarget(state),
            None => self.gathering = Some(self.nested.gather(state)),
        }
        self.install_if_complete();
    }

    /// Something was fetched, or a server says so.
    pub(super) fn on_fetched(&mut self, parts: Parts) {
        let (Some(fetching), Some(gathering)) = (&mut self.core.fetching, &mut self.gathering) else {
            return;
        };
        if gathering.take(parts.clone()) {
            fetching.steps.push(Step::Take(parts));
            self.install_if_complete();
        }
    }

    /// What was decided waits while a state is fetched; says whether it does.
    pub(super) fn holds(&mut self, decision: &Decision) -> bool {
        let Some(fetching) = &mut self.core.fetching else { return false };
        fetching.held.push(decision.clone());
        true
    }

    fn install_if_complete(&mut self) {
        if !self.gathering.as_ref().is_some_and(Gathering::is_complete) {
            return;
        }
        let (Some(fetching), Some(gathering)) = (self.core.fetching.take(), self.gathering.take()) else {
            return;
        };
        let Fetching { seq, state, held, .. } = fetching;
        if self.nested.become_gathered(seq, &gathering).is_err() {
            // As in a replica: the state is what the sites agree on, and this service does not take it.
            return;
        }
        (self.core.executed, self.installed) = (seq, seq);
        let (own, tree) = self.nested.checkpoint();
        assert_eq!(own, state, "what was gathered has the digest that was asked for");
        self.checkpoints.insert(seq, (own, tree));
        let executed = self.nested.last_requests();
        for (client, number) in &executed {
            self.core.bundler.on_executed(*client, *number);
        }
        self.answer_known();
        self.to_handle.push_back(Event::StateInstalled { seq, executed });
        for decision in held {
            if decision.seq == self.core.executed.next() {
                self.execute_decision(&decision);
            }
        }
    }

    /// After this server was brought to a state of its site: gathers again what the site had gathered.
    pub(super) fn gather_again(&mut self) {
        self.gathering = None;
        for step in self.core.fetching.iter_mut().flat_map(|fetching| &fetching.steps) {
            match (step, &mut self.gathering) {
                (Step::Aim(state), None) => self.gathering = Some(self.nested.gather(*state)),
                (Step::Aim(state), Some(gathering)) => gathering.retarget(*state),
                (Step::Take(parts), Some(gathering)) => drop(gathering.take(parts.clone())),
                (Step::Take(_), None) => {}
            }
        }
    }
}
