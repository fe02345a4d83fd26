//! A group whose members change: who calls whom by what place, and the operator who changes them.

use super::World;
use super::line::Line;
use crate::adversary::Behaviour;
use crate::clock::Clock;
use crate::config::{Family, ProtocolKind};
use crate::dice::Dice;
use crate::fault::Injection;
use crate::host::Host;
use crate::keys::{MACHINES, ROOT, admin, machine_with, member};
use crate::oracle::Violation;
use crate::plan::{agreed, other_engine, other_settings, some_of};
use crate::queue::Node;
use crate::subject::Subject;
use althing_protocol::Settings;
use althing_replica::membership::{Change, Membership, Reconfigure, ReconfigureOutcome, Reconfigured};
use althing_replica::{Input, OperationKind};
use althing_types::{Principal, ReplicaId, RequestNumber, decode, encode};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The largest group that an operator makes.
pub(crate) const LARGEST: usize = 10;
/// The smallest.
const SMALLEST: usize = 4;

impl<X: Subject> World<'_, X> {
    /// The nodes that `to` names for somebody who is in this membership.
    pub(super) fn nodes_called(&self, membership: Option<&Membership>, to: Principal) -> Vec<Node> {
        match (membership, to) {
            (Some(membership), Principal::Replica(place)) => {
                let machine = membership.member(place).and_then(|member| machine_with(&member.key));
                machine.map(|id| self.nodes_of(Principal::Replica(id))).unwrap_or_default()
            }
            _ => self.nodes_of(to),
        }
    }

    /// What arrives at a host, as its runtime hands it in.
    pub(super) fn arrival(&self, host: usize, from: Principal, bytes: Vec<u8>) -> Input {
        let (Some(membership), Principal::Replica(machine)) = (&self.hosts[host].membership, from) else {
            return Input::Frame { from, bytes };
        };
        let key = member(machine).key;
        match membership.place_of(&key) {
            Some(place) => Input::Frame { from: Principal::Replica(place), bytes },
            None => Input::Stray { from: Box::new(key), bytes },
        }
    }

    /// By what place a client calls a machine; it has no channel to others.
    pub(super) fn place_for(&self, client: usize, machine: ReplicaId) -> Option<ReplicaId> {
        match self.workers.get(client).and_then(|worker| worker.membership.as_ref()) {
            None => Some(machine),
            Some(membership) => membership.place_of(&member(machine).key),
        }
    }

    /// The memberships that may still count: the latest that a correct replica is in, the one before it, the
    /// one that was granted last, and the one that is asked for.
    fn memberships(&self) -> Vec<Arc<Membership>> {
        let correct = self.hosts.iter().filter(|host| host.is_correct);
        let of_hosts: Vec<_> = correct.filter_map(|host| host.membership.clone()).collect();
        let latest = of_hosts.iter().map(|membership| membership.epoch).max().unwrap_or_default();
        let counts = |membership: &Arc<Membership>| membership.epoch.0 + 1 >= latest.0;
        let to_come = [self.granted.clone(), self.asked.clone()].into_iter().flatten();
        of_hosts.into_iter().chain(to_come).filter(counts).collect()
    }

    /// The members that are faulty, or count as it.
    fn faulty_in(&self, membership: &Membership, except: Option<usize>) -> usize {
        let is_faulty = |(index, host): &(usize, &Host<X>)| {
            (!host.is_correct || host.is_impaired())
                && Some(*index) != except
                && membership.place_of(&member(host.id).key).is_some()
        };
        self.hosts.iter().enumerate().filter(is_faulty).count()
    }

    /// Whether another replica than those that are may be faulty.
    pub(super) fn has_room_for_faults(&self, except: usize) -> bool {
        let room = |m: &Arc<Membership>| self.faulty_in(m, Some(except)) < usize::from(m.f);
        self.memberships().iter().all(room)
    }

    /// The operator asks for another change, if the faults allow one.
    pub(super) fn operator_turn(&mut self, client: usize) {
        if self.has_healed || self.workers[client].client.outstanding().is_some() {
            return;
        }
        let present = self.workers[client].client.membership().expect("the members change").clone();
        let next_turn = self.plan.think * 4;
        let Some(command) = (0..4).find_map(|_| self.choose_change(&present)) else {
            return self.turn_later(client, next_turn);
        };
        let operation = encode(&command.clone().sign(ROOT, &admin()));
        let now = Clock::TRUE.read(self.now);
        let (worker, mut outputs) = (&mut self.workers[client], Vec::new());
        let submitted =
            worker.client.submit(now, operation.clone(), OperationKind::Reconfigure, &mut outputs);
        let number = submitted.expect("nothing is outstanding and the operation is short");
        let id = worker.id;
        self.asked = command.apply(&present).ok().map(Arc::new);
        self.succession.asked(id, number, &command);
        self.injections.note(Injection::MembersChanged);
        self.trace.digest(self.now, 7, client, &operation);
        self.trace.line(self.now, Line::Submitted { client: id, number, what: format!("{command:?}") });
        self.carry_out_client(client, outputs);
    }

    /// A change at random that leaves no more faulty members than the next membership tolerates.
    fn choose_change(&mut self, present: &Membership) -> Option<Reconfigure> {
        let n = present.members.len();
        let place = ReplicaId(u16::try_from(self.dice.index(n)).expect("small"));
        let joining = self.next_machine;
        let newcomer = member(joining);
        let (change, n) = match self.dice.below(5) {
            0 | 1 if n < LARGEST => (Change::Add(newcomer), n + 1),
            0..3 if n > SMALLEST => (Change::Remove(place), n - 1),
            3 => (Change::Rekey(place, newcomer.key), n),
            _ => (Change::Replace(place, newcomer), n),
        };
        let mut joins = !matches!(change, Change::Remove(_));
        let mut changes = vec![change];
        let mut protocol = protocol_of(&present.settings);
        let other = self.other_protocol(protocol, present);
        let switches =
            other.is_some() && self.dice.chance(if self.config.other.is_some() { 700 } else { 400 });
        if switches || self.dice.chance(400) {
            if let Some(other) = other.filter(|_| switches) {
                protocol = other;
            }
            let mut settings = other_settings(&self.plan.settings, &mut self.dice);
            if self.config.has_witnesses {
                let most = n - (2 * ((n - 1) / 3) + 1);
                let count = self.dice.index(most + 1);
                settings.witnesses = some_of(n, count, &mut self.dice);
            }
            changes.push(Change::Settings(agreed(protocol, settings)));
            if n == present.members.len() && self.dice.chance(700) {
                // The settings alone.
                changes.remove(0);
                joins = false;
            }
        }
        // Drawn apart, so that it shifts nothing else.
        let mut dice =
            Dice::new(self.config.seed.wrapping_mul(43).wrapping_add(0x656e_6769 + present.epoch.0));
        if dice.chance(300) {
            changes.push(Change::Engine(other_engine(&mut dice)));
        }
        if self.dice.chance(200) {
            let last = present.members.len();
            let first = ReplicaId(u16::try_from(self.dice.index(last)).expect("small"));
            changes.push(Change::FirstPrimary(first));
        }
        let f = self.choose_f(protocol, n);
        let command = Reconfigure { epoch: present.epoch, f, changes };
        let next = command.apply(present).ok()?;
        let faulty = self.faulty_in(&next, None);
        if protocol == ProtocolKind::Paxos && self.may_lie_in(&next) {
            return None;
        }
        if faulty > usize::from(f) || joining.0 >= MACHINES {
            return None;
        }
        if joins {
            self.next_machine.0 += 1;
            // Some of those that join are faulty from the beginning on.
            let stands_lies = protocol != ProtocolKind::Paxos;
            let may_lie = stands_lies && (self.config.other.is_none() || self.config.has_liars());
            if may_lie
                && faulty < usize::from(f)
                && self.has_room_for_faults(usize::MAX)
                && self.dice.chance(150)
            {
                let behaviour = self.dice.pick(&Behaviour::ALL);
                self.plan.byzantine.insert(joining, BTreeSet::from([behaviour]));
            }
        }
        Some(command)
    }

    /// Another protocol, if the group may run one: none among liars that does not stand them, and not Zyzzyva where
    /// replicas recover, since who does would not vote any more.
    fn other_protocol(&mut self, present: ProtocolKind, members: &Membership) -> Option<ProtocolKind> {
        use ProtocolKind::{Paxos, Speculative};
        let (recovers, may_lie) = (self.config.family == Family::RecoveringMembers, self.may_lie_in(members));
        let suits = |other: &ProtocolKind| {
            *other != present
                && !(recovers && matches!(other, Speculative(_)))
                && !(may_lie && *other == Paxos)
        };
        let others: Vec<_> = match self.config.other {
            None => ProtocolKind::ALL.into_iter().filter(suits).collect(),
            Some(other) => [self.config.protocol, other].into_iter().filter(suits).collect(),
        };
        (self.subject.switches() && !others.is_empty()).then(|| self.dice.pick(&others))
    }

    /// How many of `n` may be faulty: as many as can be. Where replicas only crash, and their number is odd, none could
    /// leave then: so it is one fewer now and then.
    fn choose_f(&mut self, protocol: ProtocolKind, n: usize) -> u16 {
        let most = match protocol {
            ProtocolKind::Pbft | ProtocolKind::Speculative(_) => (n - 1) / 3,
            ProtocolKind::Paxos if n > 3 && self.dice.chance(500) => (n - 1) / 2 - 1,
            ProtocolKind::Paxos => (n - 1) / 2,
        };
        u16::try_from(most).expect("small")
    }

    /// Whether one of the members is none that only crashes.
    fn may_lie_in(&self, membership: &Membership) -> bool {
        let lies = |id: ReplicaId| self.plan.byzantine.contains_key(&id) || self.seized.contains(&id);
        membership.members.iter().filter_map(|member| machine_with(&member.key)).any(lies)
    }

    /// The group has answered the operator.
    pub(super) fn on_outcome(&mut self, client: usize, number: RequestNumber, result: &[u8]) {
        let outcome: Result<ReconfigureOutcome, _> = decode(result, 1 << 20);
        match outcome {
            Ok(Ok(Reconfigured { before, next })) => {
                if protocol_of(&before.settings) != protocol_of(&next.settings) {
                    self.injections.note(Injection::ProtocolChanged);
                }
                let id = self.workers[client].id;
                if let Err(violation) = self.succession.granted(id, number) {
                    self.violation.get_or_insert(violation);
                }
                let next = Arc::new(next);
                self.granted = Some(next.clone());
                self.start_newcomers(&next);
            }
            // It was late, and the group was in another epoch already.
            Ok(Err(_)) => self.asked = None,
            Err(error) => {
                let message = format!("the operator was told something that is no outcome: {error}");
                self.violation.get_or_insert(Violation::new("linearizability", message));
            }
        }
        let pause = self.plan.think * 4;
        self.turn_later(client, pause);
    }

    /// Who was the whole group and has lost what it knew can't find out what has become of it, and perhaps nobody else
    /// can prove it: its operator starts it with what the group is now (ADR 17).
    pub(super) fn hand_out_present_file(&mut self, host: usize) {
        let at = &mut self.hosts[host];
        let was_alone = at.file.as_ref().is_some_and(|file| file.members.len() == 1);
        let key = member(at.id).key;
        let present = self.granted.as_ref().filter(|granted| granted.place_of(&key).is_some());
        if was_alone
            && at.is_impaired()
            && let Some(present) = present
        {
            at.file = Some(present.clone());
        }
    }

    /// The operator starts the machines that have joined.
    pub(super) fn start_newcomers(&mut self, next: &Arc<Membership>) {
        for joined in &next.members {
            let Some(id) = machine_with(&joined.key) else { continue };
            if self.hosts.iter().any(|host| host.id == id) {
                continue;
            }
            let host = Host::joining(id, next.clone(), &self.plan, &mut self.dice, &self.injections);
            self.hosts.push(host);
            self.boot(self.hosts.len() - 1);
        }
    }
}

fn protocol_of(settings: &Settings) -> ProtocolKind {
    match settings {
        Settings::Pbft(_) => ProtocolKind::Pbft,
        Settings::Paxos(_) => ProtocolKind::Paxos,
        Settings::Zyzzyva(settings) => ProtocolKind::Speculative(settings.composition),
    }
}
