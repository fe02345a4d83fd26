//! What replicas and clients ask for, carried out.

use super::World;
use super::line::Line;
use crate::clock::Clock;
use crate::dice::nanos;
use crate::fault::Injection;
use crate::keys::machine_with;
use crate::network::Captured;
use crate::oracle::spoke_after_leaving;
use crate::queue::{Happening, Node};
use crate::subject::{Message as Said, Subject};
use althing_protocol::{Evidence, Message};
use althing_replica::membership::Membership;
use althing_replica::{
    ClientFrame, ClientInput, ClientOutput, Input, Limits, Output, Report, Room, decode_client_frame,
    decode_envelope,
};
use althing_services::KvResult;
use althing_types::{ClientId, Digest, Epoch, Principal, Seq, decode};
use std::sync::Arc;
use std::time::Duration;

/// An epoch, and where it started, as far as a replica knows.
type Entered = (Arc<Membership>, Option<(Seq, Digest)>);

/// Writing a state takes so many times as long as writing a group of records.
const KEEPING_SLOWNESS: u32 = 4;

/// What a correct replica has told in one go.
#[derive(Default)]
pub(super) struct Told {
    /// Each with the epoch in which it was told.
    pub(super) reports: Vec<(Epoch, Report)>,
    pub(super) evidence: Vec<(Option<Arc<Membership>>, Evidence)>,
    /// The epochs that it came to be in, and where they started.
    pub(super) epochs: Vec<Entered>,
}

impl<X: Subject> World<'_, X> {
    /// Hands an input to a host's replica, if it is up, and carries out what follows.
    pub(super) fn input(&mut self, host: usize, input: Input) {
        let at = &mut self.hosts[host];
        let clock = at.clock;
        let Some(replica) = &mut at.replica else { return };
        let mut outputs = Vec::new();
        at.has_left = replica.is_retired();
        replica.handle(clock.read(self.now), input, &mut outputs);
        let mut told = Told::default();
        for output in outputs {
            self.carry_out(host, output, &mut told);
        }
        self.write(host);
        if let Err(error) = self.hosts[host].end_recovery() {
            return self.stop_for_disk(host, &error.to_string());
        }
        if self.hosts[host].recovers() {
            // What it has just told it told as one that counts as faulty.
            self.on_recovered(host);
        } else if self.hosts[host].is_correct
            && let Err(violation) = self.check_host(host, told)
        {
            self.violation.get_or_insert(violation);
        }
    }

    fn carry_out(&mut self, host: usize, output: Output, told: &mut Told) {
        let at = &mut self.hosts[host];
        match output {
            Output::Flush => {}
            Output::Stop(reason) => {
                if at.is_correct {
                    let message = format!("host {host} stops: {reason}");
                    self.violation.get_or_insert(crate::oracle::Violation::new("checkpoint", message));
                }
            }
            Output::Send { to, frame } | Output::SendLazily { to, frame } => {
                self.send_from_host(host, to, &frame)
            }
            Output::SendStray { to, frame } => {
                if let Some(id) = machine_with(&to) {
                    let from = (Node::Host(host), Principal::Replica(at.id));
                    let at = self.now + at.lag;
                    for node in self.nodes_of(Principal::Replica(id)) {
                        self.post(at, from, node, &frame);
                    }
                }
            }
            Output::Epoch { membership, start, .. } => {
                self.trace.line(self.now, Line::Entered { host, membership: membership.clone(), start });
                at.enter(*membership, &self.plan, &self.injections);
                if let Some(replica) = &mut at.replica {
                    self.subject.on_epoch(replica, &self.plan);
                }
                told.epochs.extend(at.membership.clone().map(|membership| (membership, start)));
            }
            Output::SetTimer { timer, after } => {
                at.generation += 1;
                at.timers.insert(timer, at.generation);
                let (incarnation, generation) = (at.incarnation, at.generation);
                let due = self.now.saturating_add(at.clock.virtual_time(after));
                self.queue.schedule(due, Happening::Timer { host, incarnation, timer, generation });
            }
            Output::CancelTimer(timer) => drop(at.timers.remove(&timer)),
            Output::Append { id, record } => {
                at.promised.append(record.clone());
                at.disk.append(id, record);
            }
            Output::Rewrite { records, dropped } => {
                at.promised.rewrite(records.clone());
                at.disk.rewrite(records, dropped);
            }
            Output::Keep { seq, segments } => {
                at.disk.keep(seq, segments);
                let incarnation = at.incarnation;
                let delay = nanos(self.dice.around(self.plan.disk_delay * KEEPING_SLOWNESS));
                self.queue.schedule(self.now + delay, Happening::Kept { host, incarnation });
            }
            Output::Emit(_) => {}
            Output::Evidence(evidence) => {
                self.trace.line(self.now, Line::Accused { host, evidence: evidence.clone() });
                told.evidence.push((self.hosts[host].membership.clone(), evidence));
            }
            Output::Report(report) => {
                self.trace.line(self.now, Line::Reported { host, report: report.clone() });
                let epoch = self.hosts[host].membership.as_ref().map_or(Epoch(0), |m| m.epoch);
                if let Report::Retired { .. } = report {
                    self.on_retired(host);
                }
                told.reports.push((epoch, report));
            }
        }
    }

    fn on_retired(&mut self, host: usize) {
        let at = &mut self.hosts[host];
        at.has_left = true;
        if let Some((to, frame)) = at.last_word.take().filter(|_| !self.subject.forgets_leavers()) {
            self.send_from_host(host, to, &frame);
        }
    }

    fn send_from_host(&mut self, host: usize, to: Principal, frame: &Arc<[u8]>) {
        let at = &mut self.hosts[host];
        if at.has_left
            && at.is_correct
            && let Some(message) = protocol_message::<X>(frame)
        {
            self.violation.get_or_insert(spoke_after_leaving(host, message.kind()));
        }
        if !self.subject.forgets_leavers() && protocol_message::<X>(frame).is_some() {
            at.last_word = Some((to, frame.clone()));
        }
        let (as_from, mut lag) = (Principal::Replica(at.id), at.lag);
        if lag > 0 {
            self.injections.note(Injection::Slowed);
        }
        let membership = at.membership.clone();
        if at.proposal_lag > 0 && is_proposal::<X>(frame) {
            self.injections.note(Injection::HeldBack);
            lag = at.proposal_lag;
        }
        let keyring = || at.replica.as_ref().map(|replica| replica.keyring().clone());
        let forger = at.forger.as_mut();
        let more = forger.and_then(|forger| forger.more(to, frame, self.config.replicas, keyring));
        for frame in [Some(frame.clone()), more].into_iter().flatten() {
            for node in self.nodes_called(membership.as_deref(), to) {
                self.post(self.now + lag, (Node::Host(host), as_from), node, &frame);
            }
        }
    }

    /// The nodes that go by the name of `to`: two hosts, where it has a twin.
    pub(super) fn nodes_of(&self, to: Principal) -> Vec<Node> {
        match to {
            Principal::Replica(id) => {
                let hosts = (0..self.hosts.len()).filter(|host| self.hosts[*host].id == id);
                hosts.map(Node::Host).collect()
            }
            Principal::Client(id) => {
                let index = usize::try_from(id.0).unwrap_or(usize::MAX);
                (index < self.workers.len()).then_some(Node::Client(index)).into_iter().collect()
            }
        }
    }

    /// Puts a frame on the network at time `at`.
    pub(super) fn post(&mut self, at: u64, (from, as_from): (Node, Principal), to: Node, frame: &Arc<[u8]>) {
        self.network.capture(|| Captured { from, as_from, to, frame: frame.clone() });
        for arrival in self.network.arrivals(at, from, to) {
            let frame = self.network.carry(frame);
            self.queue.schedule(arrival, Happening::Arrival { from, as_from, to, frame });
        }
    }

    /// A client is to do something after about this time.
    pub(super) fn turn_later(&mut self, client: usize, pause: Duration) {
        let pause = nanos(self.dice.around(pause));
        self.queue.schedule(self.now + pause, Happening::ClientTurn { client });
    }

    pub(super) fn client_turn(&mut self, client: usize) {
        if self.workers[client].is_operator {
            return self.operator_turn(client);
        }
        // Whoever stays faulty may keep the others from standing still together, so they don't.
        let is_past_healing = self.last_executed() >= self.healed_at;
        let may_stop = (self.plan.byzantine.is_empty() && is_past_healing) || self.stragglers().is_empty();
        let is_over = self.workers[client].is_done() && may_stop;
        let worker = &mut self.workers[client];
        if is_over || worker.client.outstanding().is_some() {
            return;
        }
        let (operation, kind, bytes) = worker.next();
        let id = worker.id;
        let mut outputs = Vec::new();
        let now = Clock::TRUE.read(self.now);
        let submitted = worker.client.submit(now, bytes.clone(), kind, &mut outputs);
        let number = submitted.expect("nothing is outstanding and the operation is short");
        self.trace.digest(self.now, 5, client, &bytes);
        self.trace.line(self.now, Line::Submitted { client: id, number, what: format!("{operation:?}") });
        self.ledger.submitted(id, bytes);
        self.history.called(self.now, id, number, operation);
        self.carry_out_client(client, outputs);
    }

    pub(super) fn client_input(&mut self, client: usize, input: ClientInput) {
        let Some(worker) = self.workers.get_mut(client) else { return };
        let mut outputs = Vec::new();
        worker.client.handle(Clock::TRUE.read(self.now), input, &mut outputs);
        self.carry_out_client(client, outputs);
    }

    pub(super) fn carry_out_client(&mut self, client: usize, outputs: Vec<ClientOutput>) {
        for output in outputs {
            let worker = &mut self.workers[client];
            let id = worker.id;
            match output {
                ClientOutput::Send { to, frame } => {
                    let from = (Node::Client(client), Principal::Client(id));
                    let membership = worker.membership.clone();
                    for node in self.nodes_called(membership.as_deref(), Principal::Replica(to)) {
                        self.post(self.now, from, node, &frame);
                    }
                }
                ClientOutput::Epoch(membership) => {
                    let membership = Arc::new(*membership);
                    worker.membership = Some(membership.clone());
                    if worker.is_operator {
                        // Those that are to join may be needed for the group to answer.
                        self.start_newcomers(&membership);
                    }
                }
                ClientOutput::SetTimer { after } => {
                    worker.generation += 1;
                    let happening = Happening::ClientTimer { client, generation: worker.generation };
                    self.queue.schedule(self.now + nanos(after), happening);
                }
                ClientOutput::CancelTimer => worker.generation += 1,
                ClientOutput::Completed { number, result, .. } if worker.is_operator => {
                    worker.complete(None);
                    self.trace.line(self.now, Line::Completed { client: id, number, result: result.clone() });
                    self.on_outcome(client, number, &result);
                }
                ClientOutput::Completed { number, result, .. } => {
                    worker.complete(seen(&result));
                    self.trace.line(self.now, Line::Completed { client: id, number, result: result.clone() });
                    if let Err(violation) = self.history.returned(self.now, id, number, &result) {
                        self.violation.get_or_insert(violation);
                    }
                    self.turn_later(client, self.plan.think);
                }
                ClientOutput::ResultTooLong { number, bytes } => {
                    let message = format!("{id} was told that the result of {number} has {bytes} bytes");
                    self.violation.get_or_insert(crate::oracle::Violation::new("linearizability", message));
                }
                ClientOutput::Renumbered { .. } | ClientOutput::Superseded { .. } => {
                    let message = format!("{id} was told that its numbers were used before");
                    self.violation.get_or_insert(crate::oracle::Violation::new("liveness", message));
                }
                ClientOutput::Busy { .. }
                | ClientOutput::Emission { .. }
                | ClientOutput::EmissionsEnded { .. }
                | ClientOutput::Refused { .. } => {}
            }
        }
    }

    pub(super) fn rogue_turn(&mut self, client: usize, has_one_trick: bool) {
        let announced: Vec<_> = self.announced().collect();
        let rogue = &mut self.rogues[client - self.workers.len()];
        rogue.learn(self.now, announced);
        let mischief = rogue.turn(has_one_trick);
        self.injections.note(Injection::BadRequest);
        let id = althing_types::ClientId(client as u64);
        for operation in mischief.submitted {
            self.ledger.submitted(id, operation);
        }
        for (to, frame) in mischief.frames {
            for node in self.nodes_of(Principal::Replica(to)) {
                self.post(self.now, (Node::Client(client), Principal::Client(id)), node, &frame);
            }
        }
    }
}

/// Whether a frame among replicas is a proposal.
fn is_proposal<X: Subject>(frame: &[u8]) -> bool {
    protocol_message::<X>(frame).is_some_and(|message| message.kind() == "pre-prepare")
}

/// The client whose request a frame brings, by itself or passed on.
pub(super) fn bringer<X: Subject>(frame: &[u8]) -> Option<ClientId> {
    let forwarded = protocol_message::<X>(frame).and_then(|message| X::forwarded(&message));
    let own = || match decode_client_frame(frame, &Limits::default()) {
        Ok(ClientFrame::Request(request)) => Some(request.client),
        _ => None,
    };
    forwarded.or_else(own)
}

fn protocol_message<X: Subject>(frame: &[u8]) -> Option<Said<X>> {
    let envelope = decode_envelope(frame, &Limits::default()).ok()?;
    decode(&envelope.body, envelope.body.len()).ok().filter(|_| envelope.room == Room::Protocol)
}

/// The value that a result shows, if it shows one.
fn seen(result: &[u8]) -> Option<Option<Vec<u8>>> {
    match KvResult::decode(result).ok()? {
        KvResult::Value(value) | KvResult::Mismatch { actual: value } => Some(value),
        _ => None,
    }
}
