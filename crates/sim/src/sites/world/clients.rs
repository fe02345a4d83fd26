use super::{Happening, Place, World};
use crate::dice::{Dice, nanos};
use crate::oracle::{Verdict, Violation};
use crate::sites::keys::{SYSTEM, client_identity};
use crate::witness::labelled;
use althing_replica::{Client, ClientInput, ClientOutput, Input, OperationKind, ReplyOutcome};
use althing_services::KvOperation;
use althing_types::{ClientId, Principal, RequestNumber, SiteId, decode, encode};
use althing_wide::{Answer, ServerInput, SiteOperation, Update};

/// Updates that a client of a treacherous site makes at most: each may take effect at any time, which the oracle has
/// to try.
const MOST_OF_TRAITORS: u64 = 6;

/// A client, and what it does: one update after the other on a few keys that all share.
pub(super) struct Worker {
    pub(super) site: SiteId,
    pub(super) client: Client,
    pub(super) dice: Dice,
    pub(super) generation: u64,
    pub(super) made: u64,
    pub(super) completed: u64,
    pub(super) goal: Option<u64>,
    pub(super) called: u64,
    /// Whether it changes the site's group instead.
    pub(super) is_operator: bool,
}

impl World<'_> {
    pub(super) fn take_turn(&mut self, id: ClientId) {
        let now = self.instant();
        let worker = self.workers.get_mut(&id).expect("it is there");
        let is_traitors = self.plan.treacherous.contains_key(&worker.site);
        let is_over = worker.goal.is_some_and(|goal| worker.completed >= goal)
            || (is_traitors && worker.made >= MOST_OF_TRAITORS)
            || (worker.is_operator && self.has_healed);
        if is_over || worker.client.outstanding().is_some() {
            return;
        }
        worker.made += 1;
        if worker.is_operator {
            return self.change_site(id);
        }
        let key = format!("k{}", worker.dice.below(3)).into_bytes();
        let value = format!("{id}:{}", worker.made).into_bytes();
        let operation = match worker.dice.below(3) {
            0 => KvOperation::Get { key },
            _ => KvOperation::Put { key, value },
        };
        let bytes = labelled(id.0 << 32 | worker.made, &operation.encode());
        let number = RequestNumber(worker.made);
        let update = Update::new((SYSTEM, id, &client_identity(id)), number, bytes.clone());
        let mut outputs = Vec::new();
        let submitted = encode(&SiteOperation::Update(update));
        worker.called = self.now;
        worker
            .client
            .submit(now, submitted, OperationKind::Ordered, &mut outputs)
            .expect("nothing is under way");
        // What a client of a traitor does takes effect at any time, if at all: what it is told says nothing.
        self.history.called(self.now, id, number, operation);
        self.ledger.submitted(id, bytes);
        self.client_outputs(id, outputs).expect("submitting completes nothing");
    }

    pub(super) fn client_input(&mut self, id: ClientId, input: ClientInput) -> Verdict {
        let now = self.instant();
        let mut outputs = Vec::new();
        self.workers.get_mut(&id).expect("it is there").client.handle(now, input, &mut outputs);
        self.client_outputs(id, outputs)
    }

    pub(super) fn client_outputs(&mut self, id: ClientId, outputs: Vec<ClientOutput>) -> Verdict {
        for output in outputs {
            let worker = self.workers.get_mut(&id).expect("it is there");
            let site = worker.site;
            match output {
                ClientOutput::Send { to, frame } => {
                    let input = Input::Frame { from: Principal::Client(id), bytes: frame.to_vec() };
                    let happening = Happening::Input(site, to, ServerInput::Replica(input));
                    self.deliver(Place::Client(id), Place::Server(site, to), happening);
                }
                ClientOutput::SetTimer { after } => {
                    worker.generation += 1;
                    let generation = worker.generation;
                    self.schedule(self.now + nanos(after), Happening::ClientTimer(id, generation));
                }
                ClientOutput::CancelTimer => worker.generation += 1,
                ClientOutput::Completed { result, .. } => self.completed(id, &result)?,
                ClientOutput::ResultTooLong { .. } | ClientOutput::Superseded { .. } => {
                    let message = format!("{id} was told {output:?}");
                    return Err(Violation::new("linearizability", message));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn completed(&mut self, id: ClientId, result: &[u8]) -> Verdict {
        let worker = self.workers.get_mut(&id).expect("it is there");
        worker.completed += 1;
        if worker.is_operator {
            return self.on_outcome(id, result);
        }
        let think = self.dice.around(self.plan.think);
        self.schedule(self.now + nanos(think), Happening::Turn(id));
        let worker = &self.workers[&id];
        let (site, made, took) = (worker.site, worker.made, self.now - worker.called);
        if !self.is_correct_site(site) {
            return Ok(());
        }
        self.latency += took;
        match decode(result, 1 << 16) {
            Ok(Answer::Executed(ReplyOutcome::Result(result))) => {
                self.history.returned(self.now, id, RequestNumber(made), &result)
            }
            answer => {
                let message = format!("{id} was answered {answer:?} to its update {made}");
                Err(Violation::new("linearizability", message))
            }
        }
    }
}
