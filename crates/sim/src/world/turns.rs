//! Replicas that recover in turn, and somebody who takes over one after the other.

use super::World;
use super::faults::STOPPING;
use super::keys::ROBBED;
use super::line::Line;
use crate::adversary::Behaviour;
use crate::dice::nanos;
use crate::disk::End;
use crate::fault::{Fault, Injection};
use crate::host::Host;
use crate::intruder;
use crate::queue::Happening;
use crate::subject::Subject;
use althing_types::ReplicaId;
use std::time::Duration;

/// How long a replica that recovers is down.
const DOWN: Duration = Duration::from_millis(20);

/// How long a replica that was taken over stays so, before its turn to recover comes.
const SEIZED: Duration = Duration::from_millis(200);

/// What a replica that was taken over may do. Not to run twice: it is one machine.
const MISCHIEF: [Behaviour; 7] = [
    Behaviour::Equivocate,
    Behaviour::Mute,
    Behaviour::Selective,
    Behaviour::WrongCheckpoint,
    Behaviour::WrongReply,
    Behaviour::LyingViewChange,
    Behaviour::LyingState,
];

impl<X: Subject> World<'_, X> {
    /// The next in turn recovers: mostly where all others are well, as a runtime would have it; but as it
    /// forgets nothing, it may at any time.
    pub(super) fn recover_next(&mut self) {
        let host = self.turn % self.hosts.len();
        self.turn += 1;
        let is_well = |host: usize| self.hosts[host].replica.is_some() && !self.hosts[host].is_impaired();
        let is_quiet = (0..self.hosts.len()).all(is_well);
        let at = &self.hosts[host];
        if at.is_correct && at.replica.is_some() && (is_quiet || self.dice.chance(300)) {
            self.step_down(host);
            let after = nanos(self.dice.duration(Duration::ZERO, STOPPING));
            let down = self.dice.around(DOWN);
            self.queue.schedule(self.now + after, Happening::Fault(Fault::RecoverNow { host, down }));
        }
    }

    /// A replica goes down, whatever it has been made to be, and comes back with doubts about what is on
    /// its disk. Whoever had taken it over has written there what it likes.
    pub(super) fn recover_now(&mut self, host: usize, down: Duration) {
        let is_seized = self.is_seized(&self.hosts[host]) && !self.hosts[host].is_freed;
        if self.hosts[host].replica.is_none() || !(is_seized || self.hosts[host].is_correct) {
            return;
        }
        self.injections.note(Injection::Recovered);
        if !self.subject.starts_afresh() {
            return self.hosts[host].pretend_to_recover();
        }
        self.crash(host, End::Orderly, down);
        self.hosts[host].is_to_recover = true;
        if is_seized {
            let mut dice = self.dice.fork();
            intruder::leave(&mut self.hosts[host].disk, &mut dice, &self.injections);
            self.hosts[host].free();
            // Its own new key ends what was copied.
            self.hosts[host].robbed_until = self.now + nanos(down) + nanos(ROBBED);
        }
    }

    /// Whether a replica was taken over and has not recovered since.
    pub(super) fn is_seized(&self, at: &Host<X>) -> bool {
        !at.is_correct && !self.plan.byzantine.contains_key(&at.id)
    }

    /// Whether nobody can show that this replica has ever done what no correct one does.
    pub(super) fn was_always_correct(&self, id: ReplicaId) -> bool {
        self.plan.is_correct(id) && !self.seized.contains(&id)
    }

    /// What a host runs after it was taken over has recovered: from now on it is held to what correct
    /// replicas are held to.
    pub(super) fn on_recovered(&mut self, host: usize) {
        self.trace.line(self.now, Line::Recovered { host });
        self.ledger.restarted(host);
        if let Err(violation) = self.check_start(host) {
            self.violation.get_or_insert(violation);
        }
    }

    /// Takes a replica over, if no more than are tolerated are faulty then, until its turn comes. Those that
    /// were not taken over yet come first.
    pub(super) fn seize(&mut self) {
        let is_faulty = |at: &&Host<X>| self.is_seized(at) || at.robbed_until > self.now || at.is_impaired();
        let faulty = self.hosts.iter().filter(is_faulty).count();
        let is_free = |host: &usize| {
            let at = &self.hosts[*host];
            at.is_correct && at.replica.is_some() && !at.is_impaired()
        };
        let mut victims: Vec<_> = (0..self.hosts.len()).filter(is_free).collect();
        if faulty >= self.plan.quorums.f() || victims.is_empty() {
            return;
        }
        let is_new = |host: &usize| !self.seized.contains(&self.hosts[*host].id);
        if victims.iter().any(is_new) {
            victims.retain(is_new);
        }
        let victim = self.dice.pick(&victims);
        let behaviours = (0..self.dice.between(1, 3)).map(|_| self.dice.pick(&MISCHIEF)).collect();
        self.injections.note(Injection::Seized);
        self.trace.line(self.now, Line::Seized { host: victim });
        self.copy_keys(victim);
        let lasts = nanos(self.dice.around(SEIZED));
        let choice = self.dice.chance(500).then(|| self.dice.below(u64::MAX));
        let at = &mut self.hosts[victim];
        self.seized.insert(at.id);
        at.seize(behaviours, &self.plan, &self.injections);
        if let (Some(choice), Some(replica)) = (choice, &mut at.replica)
            && replica.corrupt(choice)
        {
            self.injections.note(Injection::MemoryCorrupted);
        }
        if self.subject.recovers() {
            let recovery = Fault::RecoverNow { host: victim, down: DOWN };
            self.queue.schedule(self.now + lasts, Happening::Fault(recovery));
        }
    }

    /// The faults end: whoever is still taken over recovers now.
    pub(super) fn evict(&mut self) {
        for host in 0..self.hosts.len() {
            if self.is_seized(&self.hosts[host]) && self.subject.recovers() {
                self.recover_now(host, DOWN);
            }
        }
    }
}
