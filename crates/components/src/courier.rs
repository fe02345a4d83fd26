use crate::plan::WireId;
use crate::service::{MAX_EVENTS_PER_DELIVERY, NumberedEvent, Operation, OutputCopy, Reply};
use std::collections::BTreeMap;

/// The most bytes of events that a courier puts into one delivery.
const MAX_DELIVERY_BYTES: usize = 128 * 1024;

/// The most events that a courier holds; more than an outbox keeps at once is never needed.
const MAX_HELD: usize = crate::MAX_OUTBOX_EVENTS;

/// Carries the events of one wire from a replica of the producing group, which trusts its own
/// state, to the consuming group, and the acknowledgements back. Sans-IO: it says which operations
/// to submit and takes the replies.
///
/// Submit [`Courier::delivery`] to the consumer's group whenever there is one, as the producer's
/// client there; hand the reply to [`Courier::on_reply`]. Submit [`Courier::acknowledgement`] to the
/// own group as the courier's client. After a start, or when [`Courier::is_behind`], ask the own
/// group's state with [`Courier::catch_up`] and hand over its [`Reply::Outputs`].
#[derive(Debug, Clone)]
pub struct Courier {
    wire: WireId,
    held: BTreeMap<u64, Vec<u8>>,
    /// The consumer has recorded this replica's copies up to here.
    taken: u64,
    /// The consumer has accepted the events up to here.
    accepted: u64,
    /// The own group knows so.
    acknowledged: u64,
    /// The last event that the own replica is known to have emitted.
    last: u64,
}

impl Courier {
    /// A courier for `wire` that knows nothing yet.
    #[must_use]
    pub fn new(wire: WireId) -> Self {
        Self { wire, held: BTreeMap::new(), taken: 0, accepted: 0, acknowledged: 0, last: 0 }
    }

    /// Takes an event that the own replica has emitted on this wire.
    pub fn on_output(&mut self, copy: OutputCopy) {
        if copy.wire == self.wire {
            self.last = self.last.max(copy.seq);
            self.hold(copy.seq, copy.event);
        }
    }

    /// The next delivery to the consumer's group, from the first event on that it has not recorded.
    #[must_use]
    pub fn delivery(&self) -> Option<Operation> {
        let mut events = Vec::new();
        let mut bytes = 0;
        for (&seq, event) in self.held.range(self.taken + 1..) {
            bytes += event.len();
            let is_full = events.len() == MAX_EVENTS_PER_DELIVERY || bytes > MAX_DELIVERY_BYTES;
            let leaves_gap = seq != self.taken + 1 + events.len() as u64;
            if leaves_gap || (is_full && !events.is_empty()) {
                break;
            }
            events.push(NumberedEvent { seq, event: event.clone() });
        }
        (!events.is_empty()).then_some(Operation::Deliver { wire: self.wire, events })
    }

    /// Takes the consumer's reply to `operation`: a delivery, or a [`Courier::progress`] question.
    /// Returns whether it took all events; otherwise wait a little before the next delivery.
    pub fn on_reply(&mut self, operation: &Operation, reply: &Reply) -> bool {
        let first = match operation {
            Operation::Deliver { events, .. } => events.first().map(|e| (e.seq, events.len())),
            _ => None,
        };
        let (taken, accepted, is_complete) = match (reply, first) {
            (Reply::Delivered { accepted_up_to }, Some((seq, count))) => {
                (seq - 1 + count as u64, *accepted_up_to, true)
            }
            (Reply::Busy { taken, accepted_up_to }, Some((seq, _))) => {
                (seq - 1 + u64::from(*taken), *accepted_up_to, false)
            }
            (Reply::Progress { accepted_up_to }, _) => (0, *accepted_up_to, true),
            _ => return false,
        };
        self.accepted = self.accepted.max(accepted);
        self.taken = self.taken.max(taken).max(self.accepted);
        self.held = self.held.split_off(&(self.accepted + 1));
        is_complete
    }

    /// What to ask the consumer's group while copies wait there for those of other replicas, so
    /// that their acceptance is noticed. Ask it now and then, as long as there is something to ask.
    #[must_use]
    pub fn progress(&self) -> Option<Operation> {
        (self.accepted < self.taken).then_some(Operation::Progress { wire: self.wire })
    }

    /// The next acknowledgement to the own group.
    #[must_use]
    pub fn acknowledgement(&self) -> Option<Operation> {
        (self.acknowledged < self.accepted)
            .then_some(Operation::Acknowledge { wire: self.wire, up_to: self.accepted })
    }

    /// Notes that the own group has executed `operation`, an acknowledgement.
    pub fn on_acknowledged(&mut self, operation: &Operation) {
        if let Operation::Acknowledge { up_to, .. } = operation {
            self.acknowledged = self.acknowledged.max(*up_to);
        }
    }

    /// Whether the own replica has emitted events that this courier lacks: it has skipped some by
    /// installing another replica's state, or there were too many to hold.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.taken < self.last && !self.held.contains_key(&(self.taken + 1))
    }

    /// What to ask the own replica's state after a start and when [`Courier::is_behind`].
    #[must_use]
    pub fn catch_up(&self) -> Operation {
        Operation::Outputs { wire: self.wire, from: self.taken + 1 }
    }

    /// Takes the answer to [`Courier::catch_up`]. Returns whether that was one.
    pub fn on_outputs(&mut self, reply: Reply) -> bool {
        let Reply::Outputs { released_up_to, last, events } = reply else {
            return false;
        };
        // More couriers than may lie have found these at the consumer: one of them does not.
        self.accepted = self.accepted.max(released_up_to);
        self.acknowledged = self.acknowledged.max(released_up_to);
        self.taken = self.taken.max(self.accepted);
        self.last = self.last.max(last);
        self.held = self.held.split_off(&(self.accepted + 1));
        for NumberedEvent { seq, event } in events {
            self.hold(seq, event);
        }
        true
    }

    fn hold(&mut self, seq: u64, event: Vec<u8>) {
        if seq > self.accepted && self.held.len() < MAX_HELD {
            self.held.insert(seq, event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(seq: u64) -> OutputCopy {
        OutputCopy { wire: WireId(1), seq, event: b"1".to_vec() }
    }

    fn delivered(operation: &Operation) -> Vec<u64> {
        match operation {
            Operation::Deliver { events, .. } => events.iter().map(|e| e.seq).collect(),
            other => panic!("{other:?} is no delivery"),
        }
    }

    #[test]
    fn delivers_in_order_and_acknowledges_what_was_accepted() {
        let mut courier = Courier::new(WireId(1));
        assert_eq!(courier.delivery(), None);
        for seq in 1..=3 {
            courier.on_output(output(seq));
        }
        let delivery = courier.delivery().unwrap();
        assert_eq!(delivered(&delivery), [1, 2, 3]);
        let busy = Reply::Busy { taken: 2, accepted_up_to: 0 };
        assert!(!courier.on_reply(&delivery, &busy));
        assert_eq!(courier.acknowledgement(), None);
        assert!(courier.progress().is_some());
        let delivery = courier.delivery().unwrap();
        assert_eq!(delivered(&delivery), [3]);
        assert!(courier.on_reply(&delivery, &Reply::Delivered { accepted_up_to: 3 }));
        assert_eq!((courier.delivery(), courier.progress()), (None, None));
        let acknowledgement = courier.acknowledgement().unwrap();
        courier.on_acknowledged(&acknowledgement);
        assert_eq!(courier.acknowledgement(), None);
    }

    #[test]
    fn catches_up_after_a_gap() {
        let mut courier = Courier::new(WireId(1));
        courier.on_output(output(10));
        assert!(courier.is_behind());
        assert_eq!(courier.delivery(), None);
        assert!(courier.on_outputs(Reply::Outputs {
            released_up_to: 7,
            last: 10,
            events: [8, 9].map(|seq| NumberedEvent { seq, event: b"1".to_vec() }).to_vec(),
        }));
        assert!(!courier.is_behind());
        assert_eq!(delivered(&courier.delivery().unwrap()), [8, 9, 10]);
    }

    #[test]
    fn a_delivery_is_bounded() {
        let mut courier = Courier::new(WireId(1));
        for seq in 1..=100 {
            courier.on_output(output(seq));
        }
        assert_eq!(delivered(&courier.delivery().unwrap()).len(), 64);
        let mut courier = Courier::new(WireId(1));
        for seq in 1..=100 {
            courier.on_output(OutputCopy { event: vec![0; 50_000], ..output(seq) });
        }
        assert_eq!(delivered(&courier.delivery().unwrap()), [1, 2]);
    }
}
