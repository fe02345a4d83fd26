use crate::plan::WireId;
use crate::service::{NumberedEvent, OutputCopy};
use crate::voter::{Offer, Voter};
use althing_types::{DecodeError, ReplicaId};
use thiserror::Error;

/// Why an emission was refused: the replica that sent it broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EdgeError {
    /// Not the payload of an emission.
    #[error("not an output copy: {0}")]
    Malformed(#[from] DecodeError),
    /// A copy for another wire than the one it came on.
    #[error("a copy for wire {} on wire {}", found.0, expected.0)]
    WrongWire {
        /// The wire of the voter.
        expected: WireId,
        /// The wire that the copy names.
        found: WireId,
    },
    /// Another value than this replica has sent for this event before.
    #[error("a second, different value for event {seq}")]
    Equivocation {
        /// Number of the event.
        seq: u64,
    },
    /// The group has no such replica.
    #[error("{0} is no replica of this group")]
    UnknownReplica(ReplicaId),
}

/// The consumer's side of a wire outside of any group: turns the emissions of a group's replicas
/// into the one stream of events that the group as a whole emitted, each event once and in order.
///
/// Emissions can get lost. [`EdgeVoter::missing_from`] says when events have to be asked for with
/// [`Operation::Outputs`](crate::Operation::Outputs), whose agreed answer [`EdgeVoter::fill`] takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeVoter {
    wire: WireId,
    voter: Voter,
    faulty: u16,
    /// The highest number that each replica has sent.
    highest: Vec<u64>,
}

impl EdgeVoter {
    /// A voter for the events of `wire` after number `after` (0 from the start), emitted by a group
    /// of `replicas` of which `faulty` may lie.
    #[must_use]
    pub fn new(wire: WireId, replicas: u16, faulty: u16, after: u64) -> Self {
        Self {
            wire,
            voter: Voter::new(replicas, faulty, after),
            faulty,
            highest: vec![after; usize::from(replicas)],
        }
    }

    /// The number of the last event yielded: what to acknowledge.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.voter.accepted()
    }

    /// The vote with its counts.
    #[must_use]
    pub fn voter(&self) -> &Voter {
        &self.voter
    }

    /// Takes the payload of an emission that `replica` sent and returns the events that are agreed
    /// on by it, in order.
    ///
    /// # Errors
    /// When the replica broke the protocol. Nothing is yielded then, and nothing lost.
    pub fn offer(&mut self, replica: ReplicaId, payload: &[u8]) -> Result<Vec<NumberedEvent>, EdgeError> {
        let OutputCopy { wire, seq, event } = OutputCopy::decode(payload)?;
        if wire != self.wire {
            return Err(EdgeError::WrongWire { expected: self.wire, found: wire });
        }
        match self.voter.offer(replica, seq, &event) {
            Offer::UnknownReplica => return Err(EdgeError::UnknownReplica(replica)),
            Offer::Equivocation => return Err(EdgeError::Equivocation { seq }),
            _ => {}
        }
        let highest = &mut self.highest[usize::from(replica.0)];
        *highest = seq.max(*highest);
        Ok(self.yield_agreed())
    }

    /// What a replica has sent and was not yielded yet counts no longer: a key has ended under which it was sent.
    pub fn forget(&mut self, replica: ReplicaId) {
        self.voter.forget(replica);
        if let Some(highest) = self.highest.get_mut(usize::from(replica.0)) {
            *highest = self.voter.accepted();
        }
    }

    /// The number from which on events have to be asked for: f + 1 replicas have sent later ones, so
    /// that at least one correct replica has emitted them. `None` while nothing is known to be missing.
    ///
    /// Copies under way can still fill the gap; ask when it has been there for a while.
    #[must_use]
    pub fn missing_from(&self) -> Option<u64> {
        let mut descending = self.highest.clone();
        descending.sort_unstable_by(|a, b| b.cmp(a));
        let vouched = descending[usize::from(self.faulty)];
        (vouched > self.accepted()).then_some(self.accepted() + 1)
    }

    /// Takes events that the group has answered to a query, and that the client has therefore
    /// found equal at enough replicas. Returns those that come next, and others agreed on after them.
    pub fn fill(&mut self, events: Vec<NumberedEvent>) -> Vec<NumberedEvent> {
        let mut yielded = Vec::new();
        for event in events {
            if self.voter.skip(event.seq) {
                yielded.push(event);
                yielded.extend(self.yield_agreed());
            }
        }
        yielded
    }

    fn yield_agreed(&mut self) -> Vec<NumberedEvent> {
        let agreed = std::iter::from_fn(|| self.voter.accept());
        agreed.map(|(seq, event)| NumberedEvent { seq, event }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(seq: u64, event: &str) -> Vec<u8> {
        OutputCopy { wire: WireId(3), seq, event: event.into() }.encode()
    }

    fn numbers(events: &[NumberedEvent]) -> Vec<u64> {
        events.iter().map(|e| e.seq).collect()
    }

    #[test]
    fn yields_each_event_once_and_in_order() {
        let mut edge = EdgeVoter::new(WireId(3), 4, 1, 0);
        let mut yielded = Vec::new();
        for replica in [2, 0, 1, 3] {
            for seq in [2, 1] {
                let payload = copy(seq, if replica == 2 { "\"lie\"" } else { "\"on\"" });
                yielded.extend(edge.offer(ReplicaId(replica), &payload).unwrap());
            }
        }
        assert_eq!(numbers(&yielded), [1, 2]);
        assert!(yielded.iter().all(|e| e.event == b"\"on\""));
        assert_eq!(edge.voter().disagreements(), [0, 0, 2, 0]);
    }

    #[test]
    fn asks_for_lost_events_and_takes_the_answer() {
        let mut edge = EdgeVoter::new(WireId(3), 4, 1, 6);
        assert_eq!(edge.missing_from(), None);
        edge.offer(ReplicaId(3), &copy(u64::MAX, "1")).unwrap();
        assert_eq!(edge.missing_from(), None);
        edge.offer(ReplicaId(0), &copy(9, "9")).unwrap();
        edge.offer(ReplicaId(1), &copy(9, "9")).unwrap();
        assert_eq!(edge.missing_from(), Some(7));
        let answer = [6, 7, 8].map(|seq| NumberedEvent { seq, event: b"0".to_vec() });
        assert_eq!(numbers(&edge.fill(answer.to_vec())), [7, 8, 9]);
        assert_eq!(edge.missing_from(), None);
        assert_eq!(edge.accepted(), 9);
    }

    #[test]
    fn lies_of_different_times_do_not_add_up() {
        let mut edge = EdgeVoter::new(WireId(3), 4, 1, 0);
        edge.offer(ReplicaId(3), &copy(7, "\"open\"")).unwrap();
        edge.offer(ReplicaId(3), &copy(1, "\"open\"")).unwrap();
        edge.forget(ReplicaId(3));
        edge.offer(ReplicaId(2), &copy(7, "\"open\"")).unwrap();
        assert_eq!(edge.missing_from(), None);
        assert_eq!(edge.offer(ReplicaId(2), &copy(1, "\"open\"")), Ok(Vec::new()));
        assert_eq!(numbers(&edge.offer(ReplicaId(3), &copy(1, "\"open\"")).unwrap()), [1]);
    }

    #[test]
    fn names_what_a_replica_did_wrong() {
        let mut edge = EdgeVoter::new(WireId(3), 4, 1, 0);
        let wrong_wire = OutputCopy { wire: WireId(4), seq: 1, event: Vec::new() };
        assert!(matches!(edge.offer(ReplicaId(0), &wrong_wire.encode()), Err(EdgeError::WrongWire { .. })));
        assert!(matches!(edge.offer(ReplicaId(0), b"junk"), Err(EdgeError::Malformed(_))));
        edge.offer(ReplicaId(0), &copy(1, "1")).unwrap();
        assert_eq!(edge.offer(ReplicaId(0), &copy(1, "2")), Err(EdgeError::Equivocation { seq: 1 }));
        assert_eq!(edge.offer(ReplicaId(4), &copy(1, "2")), Err(EdgeError::UnknownReplica(ReplicaId(4))));
    }
}
