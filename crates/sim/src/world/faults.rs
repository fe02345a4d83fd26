//! The faults of the plan, at their time.

use super::line::Line;
use super::{World, is_loud};
use crate::dice::nanos;
use crate::fault::{Fault, Injection};
use crate::network::{Layout, Weather};
use crate::queue::Happening;
use crate::subject::Subject;
use althing_types::View;
use std::collections::BTreeMap;
use std::time::Duration;

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
            Fault::Restart(host) => {
                if self.hosts[host].replica.is_none() {
                    self.boot(host);
                }
            }
            Fault::Replay => self.replay(),
            Fault::RogueTurn { client } => self.rogue_turn(client),
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
        let primary = self.plan.quorums.primary(most.map_or(View(0), |(view, _)| view));
        self.hosts.iter().position(|host| host.id == primary).unwrap_or(0)
    }

    /// A correct replica crashes. One whose disk survives is merely slow; one that forgets counts as
    /// faulty until it votes again, and there are never more of those than are tolerated.
    fn crash_one(&mut self, loses_disk: bool, down: Duration) {
        let is_up = |host: &usize| self.hosts[*host].is_correct && self.hosts[*host].replica.is_some();
        let candidates: Vec<_> = (0..self.hosts.len()).filter(is_up).collect();
        if candidates.is_empty() {
            return;
        }
        let victim = self.dice.pick(&candidates);
        let impaired =
            (0..self.hosts.len()).filter(|host| self.hosts[*host].is_impaired() && *host != victim);
        let faulty = self.plan.byzantine.len() + impaired.filter(|host| self.hosts[*host].is_correct).count();
        if loses_disk && faulty >= self.plan.quorums.f() {
            return;
        }
        self.crash(victim, loses_disk, down);
    }

    fn power_failure(&mut self, down: Duration) {
        self.injections.note(Injection::PowerFailed);
        for host in 0..self.hosts.len() {
            if self.hosts[host].replica.is_some() {
                let down = self.dice.around(down);
                self.crash(host, false, down);
            }
        }
    }

    fn crash(&mut self, host: usize, loses_disk: bool, down: Duration) {
        self.injections.note(Injection::Crashed);
        if loses_disk {
            self.injections.note(Injection::DiskLost);
        }
        self.trace.line(self.now, Line::Crashed { host });
        self.hosts[host].crash(loses_disk);
        self.queue.schedule(self.now + nanos(down), Happening::Fault(Fault::Restart(host)));
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
        self.network.weather = Weather::fair();
        self.lay_out(&Layout::Whole);
        for host in 0..self.hosts.len() {
            if self.hosts[host].replica.is_none() {
                self.boot(host);
            }
        }
        self.healed_at = self.last_executed().next();
        for client in 0..self.workers.len() {
            self.workers[client].wind_up();
            let pause = nanos(self.dice.around(self.plan.think));
            self.queue.schedule(self.now + pause, Happening::ClientTurn { client });
        }
    }
}
