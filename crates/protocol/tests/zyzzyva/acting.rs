//! What replicas want to have done is done.

use crate::group::{Group, R, Wire, proof_of, replica};
use crate::node::{restored, state};
use crate::requests::CLOSER;
use althing_protocol::zyzzyva::ZyzzyvaMessage;
use althing_protocol::{Action, Auth, Decision, Event, Protocol, Share, Speculation};
use althing_types::{Digest, ReplicaId, encode};
use std::collections::VecDeque;

impl Group {
    /// Hands an event to replica `i` and carries out what follows.
    pub(crate) fn event(&mut self, i: usize, event: Event<ZyzzyvaMessage>) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut actions = vec![];
            let restored = self.is_restored.then(|| restored(&self.nodes[i].zyzzyva));
            self.nodes[i].zyzzyva.handle(self.now, event.clone(), &mut actions);
            if let Some(mut restored) = restored {
                let mut same = vec![];
                restored.handle(self.now, event, &mut same);
                assert_eq!(format!("{same:?}"), format!("{actions:?}"));
                assert_eq!(encode(&restored), encode(&self.nodes[i].zyzzyva));
            }
            for action in actions {
                if let Action::Execute(decision) = &action
                    && decision.batch.requests.iter().any(|request| request.client.0 == CLOSER)
                {
                    events.push_back(Event::Close(decision.seq));
                }
                events.extend(self.act(i, action));
            }
        }
    }

    fn act(&mut self, i: usize, action: Action<ZyzzyvaMessage>) -> Option<Event<ZyzzyvaMessage>> {
        let node = &mut self.nodes[i];
        match action {
            Action::Send { to, message, auth } => self.send_to(i, to, message, auth),
            Action::Broadcast { message, auth } => self.broadcast(i, &message, auth),
            Action::SetTimer { id, after } => drop(node.timers.insert(id, self.now + after)),
            Action::CancelTimer(id) => drop(node.timers.remove(&id)),
            Action::Persist { id, record } if self.stuck.contains(&replica(i)) => {
                node.unsynced.push_back((id, Some(record)));
            }
            Action::Persist { id, record } => {
                node.records.push(record);
                return Some(Event::Persisted(id));
            }
            Action::KeepState { seq, state: kept } => {
                assert_eq!(kept, state(&node.decisions[..seq.0 as usize]));
                return (!self.keeps_for_ever).then_some(Event::StateKept(seq));
            }
            Action::Compact(records) => {
                node.records = records;
                node.unsynced.iter_mut().for_each(|(_, record)| *record = None);
            }
            Action::Execute(decision) => {
                let event = node.execute(decision);
                self.oracle.on_final(self.id(i), &self.nodes[i].final_order());
                return Some(event);
            }
            Action::Speculate { decision, history, share } => self.speculate(i, decision, history, share),
            Action::Certified(speculation) => {
                node.certified = Some(speculation);
                self.note_certified(i);
            }
            Action::Rollback => {
                assert!(!node.speculative.is_empty(), "there is nothing to take back");
                node.former = core::mem::take(&mut node.speculative);
            }
            Action::FetchState { seq, state } => node.fetching = Some((seq, state)),
            Action::Stable { seq, .. } => drop(node.fetching.take_if(|(fetching, _)| *fetching <= seq)),
            Action::Closed { seq, state, votes } => node.closed = Some((seq, state, votes)),
            Action::Evidence(evidence) => node.evidence.push(evidence),
            Action::MustSign { client, .. } => node.told_to_sign.push(client),
            Action::EnteredView(_) | Action::LeftView(_) => node.told.clear(),
            other => panic!("a Zyzzyva replica wants {other:?}"),
        }
        None
    }

    fn speculate(&mut self, i: usize, decision: Decision, history: Digest, share: Option<Share>) {
        let node = &mut self.nodes[i];
        assert_eq!(decision.seq.0 as usize, node.order().len() + 1, "speculated out of order");
        let last = node.speculative.last();
        assert!(!last.is_some_and(|last| last.is_checkpoint), "beyond a checkpoint that is not final");
        let told = Speculation { view: decision.view, seq: decision.seq, history };
        node.told.insert(told.seq, told);
        let former = node.former.iter().find(|former| former.seq == decision.seq);
        self.taken_back += usize::from(former.is_some_and(|former| former.digest != decision.digest));
        node.speculative.push(decision);
        if share != Some(Share::Nothing) {
            self.oracle.on_speculated(self.id(i), told.view, self.nodes[i].order());
        }
        self.note_certified(i);
    }

    /// What replica `i` holds a certificate for is all that it has executed up to there, once it has.
    fn note_certified(&mut self, i: usize) {
        let node = &self.nodes[i];
        let Some(certified) = node.certified.filter(|certified| certified.view == node.zyzzyva.view()) else {
            return;
        };
        if let Some(order) = node.order().get(..certified.seq.0 as usize) {
            self.oracle.on_certified(self.id(i), certified.view, order.to_vec());
        }
    }

    /// Whose part node `i` plays.
    pub(crate) fn id(&self, i: usize) -> ReplicaId {
        if i < self.n { replica(i) } else { R[0] }
    }

    /// Two nodes that play one part don't hear of each other.
    fn send_to(&mut self, from: usize, to: ReplicaId, message: ZyzzyvaMessage, auth: Auth) {
        let sender = self.id(from);
        let proof = (auth == Auth::Transferable).then(|| proof_of(sender));
        let playing = |i: &usize| self.id(*i) == to && (to != sender || *i == from);
        for node in (0..self.nodes.len()).filter(playing).collect::<Vec<_>>() {
            let (message, proof) = (message.clone(), proof.clone());
            let wire = Wire { from: sender, to, nodes: (from, node), message, proof };
            if sender != to {
                self.history.push(wire.clone());
            }
            self.wires.push_back(wire);
        }
    }

    fn broadcast(&mut self, from: usize, message: &ZyzzyvaMessage, auth: Auth) {
        for to in (0..self.n).map(replica) {
            if to != self.id(from) || auth == Auth::Transferable {
                self.send_to(from, to, message.clone(), auth);
            }
        }
    }
}
