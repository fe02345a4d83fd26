//! How replicas end and go on: their disks, restarts, successors, and the states that they fetch.

use crate::group::{Group, PATIENCE, config, replica, settings};
use crate::node::{Node, last_requests, state};
use crate::oracle::Oracle;
use althing_protocol::zyzzyva::{Composition, Zyzzyva};
use althing_protocol::{Event, Start};
use althing_types::{Digest, Quorums, Seq};

impl Group {
    /// Replica `i`'s disk syncs the first record that it was given.
    pub(crate) fn sync_one(&mut self, i: usize) {
        if let Some((id, record)) = self.nodes[i].unsynced.pop_front() {
            self.nodes[i].records.extend(record);
            self.event(i, Event::Persisted(id));
        }
    }

    /// Replica `i`'s disk syncs all that it was given, and from now on at once.
    pub(crate) fn sync(&mut self, i: usize) {
        self.stuck.retain(|id| *id != replica(i));
        while !self.nodes[i].unsynced.is_empty() {
            self.sync_one(i);
        }
    }

    /// Replica `i` loses its memory, and what its disk had not synced, and starts from its disk.
    pub(crate) fn restart(&mut self, i: usize) {
        let node = &self.nodes[i];
        let (stable, records) = (node.zyzzyva.stable(), node.records.clone());
        let executed = last_requests(&node.decisions[..stable.0 as usize]);
        let is_closed = node.closed.as_ref().is_some_and(|(end, ..)| *end == stable);
        let (is_doubtful, has_forgotten) = (false, !node.zyzzyva.is_voting());
        let start = Start::Recovered { stable, executed, records, is_closed, has_forgotten, is_doubtful };
        self.start(i, stable, start);
    }

    /// Replica `i` loses its memory, its disk and its state.
    pub(crate) fn restart_without_disk(&mut self, i: usize) {
        self.nodes[i].records.clear();
        self.start(i, Seq(0), Start::Amnesia);
    }

    /// Replica `i`'s instance has ended: its successor takes over, in a group of `n`.
    pub(crate) fn succeed(&mut self, i: usize, n: usize) {
        let (seq, state, _) = self.nodes[i].closed.take().expect("its instance has ended");
        self.begin(i, n, (seq, state));
        self.nodes[i].records.clear();
        self.event(i, Event::Start(Start::Handover { executed: seq, has_state: true }));
    }

    /// A replica that has nothing joins the `n - 1` others, which have started from `start`.
    pub(crate) fn join(&mut self, start: (Seq, Digest), n: usize) {
        let i = self.nodes.len();
        self.configs.push(config(i, n, &settings()));
        self.nodes.push(Node::new(Zyzzyva::new(self.configs[i].clone())));
        self.begin(i, n, start);
        self.event(i, Event::Start(Start::Handover { executed: Seq(0), has_state: false }));
    }

    fn begin(&mut self, i: usize, n: usize, start: (Seq, Digest)) {
        if self.n != n {
            self.n = n;
            let quorums = Quorums::byzantine(n, (n - 1) / 3).expect("enough replicas");
            self.oracle = Oracle::new(quorums, Composition::Zyzzyva, &[]);
            self.wires.clear();
        }
        self.configs[i] = config(i, n, &settings());
        let node = &mut self.nodes[i];
        node.zyzzyva = node.zyzzyva.succeeded_by(self.configs[i].clone(), Some(start));
        node.start = Some(start);
        node.timers.clear();
        node.told.clear();
        node.certified = None;
        self.wires.retain(|wire| wire.nodes.0 != i);
    }

    fn start(&mut self, i: usize, stable: Seq, start: Start) {
        let node = &mut self.nodes[i];
        let fresh = Zyzzyva::new(self.configs[i].clone());
        node.zyzzyva = match node.start {
            Some(start) => fresh.succeeded_by(self.configs[i].clone(), Some(start)),
            None => fresh,
        };
        node.timers.clear();
        node.unsynced.clear();
        node.told.clear();
        node.fetching = None;
        node.speculative.clear();
        node.decisions.truncate(stable.0 as usize);
        self.wires.retain(|wire| wire.from != wire.to || wire.to != replica(i));
        self.event(i, Event::Start(start));
    }

    /// Carries out the state transfer that replica `i` asked for, if another one has that state.
    pub(crate) fn transfer(&mut self, i: usize) -> bool {
        let Some((seq, wanted)) = self.nodes[i].fetching else { return false };
        let length = seq.0 as usize;
        let has_it = |node: &&Node| node.decisions.get(..length).is_some_and(|own| state(own) == wanted);
        let Some(giver) = self.nodes.iter().find(has_it) else { return false };
        let decisions = giver.decisions[..length].to_vec();
        let executed = last_requests(&decisions);
        let node = &mut self.nodes[i];
        (node.decisions, node.fetching) = (decisions, None);
        node.speculative.clear();
        self.event(i, Event::StateInstalled { seq, executed });
        true
    }

    /// Runs on until `done`, with all getting the states that they ask for.
    pub(crate) fn run_with_transfers(&mut self, done: impl Fn(&Self) -> bool) {
        let end = self.now + PATIENCE;
        loop {
            self.settle();
            if done(self) {
                return;
            }
            let has_moved = self.up().collect::<Vec<_>>().into_iter().any(|i| self.transfer(i));
            assert!(has_moved || self.fire_next(end), "not done after {PATIENCE:?}: {}", self.describe());
        }
    }
}
