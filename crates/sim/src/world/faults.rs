//! The faults of the plan, at their time.

use super::line::Line;
use super::{World, is_loud};
use crate::dice::nanos;
use crate::disk::{DiskError, End};
use crate::fault::{DiskFailure, Fault, Injection};
use crate::keys::machine_with;
use crate::medium::DiskFault;
use crate::network::{Layout, Weather};
use crate::queue::Happening;
use crate::subject::Subject;
use althing_replica::storage::StorageError;
use althing_replica::{Durability, Input};
use althing_types::View;
use std::collections::BTreeMap;
use std::time::Duration;

/// A replica that is told to stop does within this time, whether or not it has handed over by then.
pub(super) const STOPPING: Duration = Duration::from_millis(60);

/// How long a supervisor waits before it starts a replica again.
const RESTART: Duration = Duration::from_millis(50);

impl<X: Subject> World<'_, X> {
    pub(super) fn on_fault(&mut self, fault: Fault) {
        if is_loud(&fault) {
            self.trace.line(self.now, Line::Fault(fault.clone()));
        }
        match fault {
            Fault::Weather(weather) => self.network.weather = weather,
            Fault::Layout(layout) => {
                self.injections.note(Injection::LayoutChanged);
                self.lay_out(&layout);
            }
            Fault::Crash { loses_disk, down } => self.crash_one(loses_disk, down),
            Fault::PowerFailure { down } => self.power_failure(down),
            Fault::Disk { failure, down } => self.fail_disk(failure, down),
            Fault::Room(host) => self.hosts[host].disk.medium.set_room(None),
            Fault::Restart(host) => {
                if self.hosts[host].replica.is_none() {
                    self.boot(host);
                }
            }
            Fault::Replay => self.replay(),
            Fault::StepDown => self.step_down(self.primary_host()),
            Fault::PlannedStop { down } => self.stop_as_planned(down),
            Fault::StopNow { host, down } => {
                if self.hosts[host].replica.is_some() {
                    self.crash(host, End::Orderly, down);
                }
            }
            Fault::Recover => self.recover_next(),
            Fault::RecoverNow { host, down } => self.recover_now(host, down),
            Fault::Seize => self.seize(),
            Fault::Theft => self.steal_keys(),
            Fault::Impersonation => self.impersonate(),
            Fault::RogueTurn { client, has_one_trick } => self.rogue_turn(client, has_one_trick),
            Fault::Heal => self.heal(),
        }
    }

    fn lay_out(&mut self, layout: &Layout) {
        let clients = self.workers.len() + self.rogues.len();
        let primary = self.primary_host();
        self.network.lay_out(layout, self.hosts.len(), clients, primary);
    }

    /// The host of the primary of the view that most correct replicas are in.
    fn primary_host(&self) -> usize {
        let mut views: BTreeMap<View, usize> = BTreeMap::new();
        for host in self.hosts.iter().filter(|host| host.is_correct) {
            if let Some(replica) = &host.replica {
                *views.entry(replica.status().view).or_default() += 1;
            }
        }
        let most = views.into_iter().max_by_key(|(view, count)| (*count, *view));
        let view = most.map_or(View(0), |(view, _)| view);
        let primary =
            match self.hosts.iter().filter(|host| host.is_correct).find_map(|h| h.membership.clone()) {
                None => self.plan.quorums.primary(view),
                Some(membership) => {
                    let place = membership.quorums().primary(view);
                    machine_with(&membership.members[usize::from(place.0)].key).unwrap_or_default()
                }
            };
        self.hosts.iter().position(|host| host.id == primary).unwrap_or(0)
    }

    /// A correct replica that is up, if there is one.
    fn victim(&mut self) -> Option<usize> {
        let is_up = |host: &usize| self.hosts[*host].is_correct && self.hosts[*host].replica.is_some();
        let candidates: Vec<_> = (0..self.hosts.len()).filter(is_up).collect();
        (!candidates.is_empty()).then(|| self.dice.pick(&candidates))
    }

    /// Whether this replica may forget what it said. One whose disk survives is merely slow; one that
    /// forgets counts as faulty until it votes again, and there are never more of those than are
    /// tolerated.
    pub(super) fn may_forget(&self, victim: usize) -> bool {
        if self.plan.membership.is_some() {
            return self.has_room_for_faults(victim);
        }
        let impaired =
            (0..self.hosts.len()).filter(|host| self.hosts[*host].is_impaired() && *host != victim);
        let seized = self.hosts.iter().filter(|at| self.is_seized(at)).count();
        let faulty =
            self.plan.byzantine.len() + seized + impaired.filter(|host| self.hosts[*host].is_correct).count();
        faulty < self.plan.quorums.f()
    }

    /// A correct replica crashes.
    fn crash_one(&mut self, loses_disk: bool, down: Duration) {
        let Some(victim) = self.victim() else { return };
        let may_forget = self.may_forget(victim);
        if loses_disk {
            if may_forget {
                self.injections.note(Injection::DiskLost);
                self.crash(victim, End::PowerCut, down);
                let with_machine = self.dice.chance(500);
                self.hosts[victim].lose(with_machine);
            }
            return;
        }
        let is_synced = self.plan.durability == Durability::Sync;
        let how = match self.dice.below(10) {
            0..3 => End::Killed,
            3 => End::Orderly,
            _ if is_synced || may_forget => End::PowerCut,
            _ => End::Killed,
        };
        self.crash(victim, how, down);
        if how == End::PowerCut && !is_synced {
            self.hosts[victim].forget();
        }
    }

    /// Everywhere at once; with a log that is not synced that may happen to processes only.
    fn power_failure(&mut self, down: Duration) {
        self.injections.note(Injection::PowerFailed);
        let is_synced = self.plan.durability == Durability::Sync;
        let how = if is_synced && self.dice.chance(800) { End::PowerCut } else { End::Killed };
        for host in 0..self.hosts.len() {
            if self.hosts[host].replica.is_some() {
                let down = self.dice.around(down);
                self.crash(host, how, down);
            }
        }
    }

    pub(super) fn step_down(&mut self, host: usize) {
        self.injections.note(Injection::SteppedDown);
        self.input(host, Input::HandOver);
    }

    /// Mostly the primary's host: others have little to hand over.
    fn stop_as_planned(&mut self, down: Duration) {
        let primary = self.primary_host();
        let host = if self.dice.chance(600) { primary } else { self.dice.index(self.hosts.len()) };
        if self.hosts[host].replica.is_none() {
            return;
        }
        self.step_down(host);
        let after = nanos(self.dice.duration(Duration::ZERO, STOPPING));
        self.queue.schedule(self.now + after, Happening::Fault(Fault::StopNow { host, down }));
    }

    pub(super) fn crash(&mut self, host: usize, how: End, down: Duration) {
        self.injections.note(match how {
            End::Killed => Injection::Killed,
            End::PowerCut => Injection::Crashed,
            End::Orderly => Injection::StoppedInOrder,
        });
        self.trace.line(self.now, Line::Crashed { host, how });
        self.hosts[host].crash(how);
        self.queue.schedule(self.now + nanos(down), Happening::Fault(Fault::Restart(host)));
    }

    fn fail_disk(&mut self, failure: DiskFailure, down: Duration) {
        let Some(victim) = self.victim() else { return };
        let is_synced = self.plan.durability == Durability::Sync;
        match failure {
            DiskFailure::Sync if is_synced => self.hosts[victim].disk.medium.fail_sync(),
            // The system forgets what it could not write.
            DiskFailure::Sync if self.may_forget(victim) => {
                self.hosts[victim].disk.fail_in_background();
                self.stop_for_disk(victim, "writing in the background failed");
                self.hosts[victim].forget();
            }
            DiskFailure::Full => {
                let room = self.dice.index(2000);
                self.hosts[victim].disk.medium.set_room(Some(room));
                self.queue.schedule(self.now + nanos(down), Happening::Fault(Fault::Room(victim)));
            }
            DiskFailure::BitFlip if self.may_forget(victim) => {
                self.crash(victim, End::PowerCut, down);
                if self.hosts[victim].disk.medium.flip_bit() {
                    self.injections.note(Injection::BitFlipped);
                    self.hosts[victim].forget();
                }
            }
            DiskFailure::Sync | DiskFailure::BitFlip => {}
        }
    }

    /// A replica stops, and its supervisor starts it again.
    pub(super) fn stop_for_disk(&mut self, host: usize, error: &str) {
        self.trace.line(self.now, Line::DiskFailed { host, error: error.to_owned() });
        self.hosts[host].stop();
        let pause = nanos(self.dice.around(RESTART));
        self.queue.schedule(self.now + pause, Happening::Fault(Fault::Restart(host)));
    }

    /// A replica did not start from its disk. Where it refused what it found, its operator does what it
    /// asks for, and gives it an empty one.
    pub(super) fn on_refused_disk(&mut self, host: usize, error: &DiskError) {
        let words = error.to_string();
        if let StorageError::Disk(fault) = error {
            self.stop_for_disk(host, &words);
            if *fault == DiskFault::Dead {
                self.injections.note(Injection::StartCutOff);
                let is_synced = self.plan.durability == Durability::Sync;
                let how = if is_synced && self.dice.chance(600) { End::PowerCut } else { End::Killed };
                self.hosts[host].crash(how);
            }
            return;
        }
        self.injections.note(Injection::DiskRefused);
        if let Err(violation) = self.hosts[host].promised.refused(host, &words) {
            self.violation.get_or_insert(violation);
        }
        self.stop_for_disk(host, &words);
        self.hosts[host].lose(false);
    }

    fn replay(&mut self) {
        let Some(captured) = self.network.recall() else { return };
        self.injections.note(Injection::Replayed);
        // Mostly on its own channel; sometimes another node gets what it was never meant to get.
        let to = if self.dice.chance(800) {
            captured.to
        } else {
            crate::queue::Node::Host(self.dice.index(self.hosts.len()))
        };
        let happening =
            Happening::Arrival { from: captured.from, as_from: captured.as_from, to, frame: captured.frame };
        self.queue.schedule(self.now, happening);
    }

    fn heal(&mut self) {
        self.has_healed = true;
        self.completed_by_then = self.workers.iter().map(|worker| worker.completed).collect();
        self.network.weather = Weather::fair();
        self.lay_out(&Layout::Whole);
        for host in 0..self.hosts.len() {
            self.hosts[host].disk.medium.be_well();
            if self.hosts[host].replica.is_none() {
                self.boot(host);
            }
        }
        self.evict();
        self.healed_at = self.last_executed().next();
        for client in 0..self.workers.len() {
            self.workers[client].wind_up();
            let pause = nanos(self.dice.around(self.plan.think));
            self.queue.schedule(self.now + pause, Happening::ClientTurn { client });
        }
    }
}
