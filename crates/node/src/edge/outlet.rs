use std::time::Duration;

use althing_components::{EdgeVoter, NumberedEvent, Operation, Reply, parse};
use althing_types::ReplicaId;
use tokio::time::Instant;

use super::publisher::Publication;
use crate::config::EdgeWire;
use crate::control::OutgoingReport;

/// How long a gap may be there before the group is asked for what is missing: copies of other
/// replicas may still be under way.
const GAP: Duration = Duration::from_millis(100);

/// How often the group is asked anyway: the last event of all may have got lost at every replica, and
/// no later one shows it.
const ANYWAY: Duration = Duration::from_secs(10);

/// One wire to MQTT: the vote over what the replicas emit on it.
#[derive(Debug)]
pub(super) struct Outlet {
    wire: EdgeWire,
    replicas: u16,
    faulty: u16,
    /// None until the group has said where it is.
    voter: Option<EdgeVoter>,
    published: u64,
    acknowledged: u64,
    refused: u64,
    /// Since when events are known to be missing.
    gap: Option<Instant>,
    ask_at: Instant,
}

impl Outlet {
    /// A wire from a group of `replicas` of which `faulty` may lie.
    pub(super) fn new(wire: &EdgeWire, replicas: u16, faulty: u16) -> Self {
        Self {
            wire: wire.clone(),
            replicas,
            faulty,
            voter: None,
            published: 0,
            acknowledged: 0,
            refused: 0,
            gap: None,
            ask_at: Instant::now(),
        }
    }

    /// Takes what a replica says that the group emitted, and returns what is agreed on by it.
    pub(super) fn on_emission(&mut self, from: ReplicaId, payload: &[u8]) -> Vec<Publication> {
        // Before the group has said where it is, nothing can be made of it; it is asked for later.
        let Some(voter) = &mut self.voter else { return Vec::new() };
        let agreed = voter.offer(from, payload).unwrap_or_else(|error| {
            self.refused += 1;
            tracing::warn!(wire = %self.wire.wire, %from, %error, "refused an emission");
            Vec::new()
        });
        match voter.missing_from() {
            Some(_) => self.gap = self.gap.or_else(|| Some(Instant::now())),
            None => self.gap = None,
        }
        if !agreed.is_empty() {
            self.gap = self.gap.map(|_| Instant::now());
        }
        self.to_publish(agreed)
    }

    /// What a replica has said that the group emitted, and others have not, counts no longer.
    pub(super) fn forget(&mut self, replica: ReplicaId) {
        self.voter.iter_mut().for_each(|voter| voter.forget(replica));
    }

    /// Whether the group has to be asked for events, now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.due()
    }

    /// When the group has to be asked for events.
    pub(super) fn due(&self) -> Instant {
        self.gap.map_or(self.ask_at, |gap| self.ask_at.min(gap + GAP))
    }

    /// Something may have got lost: the group is asked soon.
    pub(super) fn suspect(&mut self) {
        self.ask_at = self.ask_at.min(Instant::now() + 2 * GAP);
    }

    /// The group is not asked before this.
    pub(super) fn postpone(&mut self, until: Instant) {
        (self.gap, self.ask_at) = (None, until);
    }

    /// What to ask the group.
    pub(super) fn question(&self) -> Operation {
        let from = self.voter.as_ref().map_or(0, |voter| voter.accepted() + 1);
        Operation::Outputs { wire: self.wire.wire, from }
    }

    /// Takes the group's answer, and returns what follows.
    pub(super) fn on_answer(&mut self, reply: Reply) -> Vec<Publication> {
        let now = Instant::now();
        let Reply::Outputs { released_up_to, last, events } = reply else {
            tracing::error!(wire = %self.wire.wire, ?reply, "the group does not tell what it emitted");
            self.ask_at = now + ANYWAY;
            return Vec::new();
        };
        let is_first = self.voter.is_none();
        let (wire, n, f) = (self.wire.wire, self.replicas, self.faulty);
        let voter = self.voter.get_or_insert_with(|| EdgeVoter::new(wire, n, f, released_up_to));
        let agreed = voter.fill(events);
        if is_first {
            (self.published, self.acknowledged) = (released_up_to, released_up_to);
        }
        self.gap = voter.missing_from().map(|_| now);
        self.ask_at = match voter.accepted() < last {
            true if !agreed.is_empty() => now,
            // What was emitted while nobody voted here got lost.
            _ if is_first => now + 2 * GAP,
            _ => now + ANYWAY,
        };
        self.to_publish(agreed)
    }

    /// The broker has taken an event.
    pub(super) fn on_published(&mut self, seq: u64) {
        self.published = self.published.max(seq);
    }

    /// What to tell the group, if anything.
    pub(super) fn acknowledgement(&self) -> Option<Operation> {
        (self.published > self.acknowledged)
            .then_some(Operation::Acknowledge { wire: self.wire.wire, up_to: self.published })
    }

    /// The group knows that events up to this one are published.
    pub(super) fn on_acknowledged(&mut self, up_to: u64) {
        self.acknowledged = self.acknowledged.max(up_to);
    }

    /// Where the wire stands.
    pub(super) fn report(&self) -> OutgoingReport {
        let voter = self.voter.as_ref().map(EdgeVoter::voter);
        OutgoingReport {
            wire: self.wire.wire.0,
            topic: self.wire.topic.clone(),
            agreed: voter.map_or(0, althing_components::Voter::accepted),
            published: self.published,
            acknowledged: self.acknowledged,
            disagreements: voter.map(|v| v.disagreements().to_vec()).unwrap_or_default(),
            equivocations: voter.map(|v| v.equivocations().to_vec()).unwrap_or_default(),
            refused: self.refused,
        }
    }

    fn to_publish(&self, events: Vec<NumberedEvent>) -> Vec<Publication> {
        let publication = |NumberedEvent { seq, event }: NumberedEvent| {
            let payload = match parse(&event) {
                Ok(value) => self.wire.carries.write_payload(&value),
                // The group checks what it emits, so f + 1 replicas lie; it is passed on as it is.
                Err(_) => event,
            };
            Publication { wire: self.wire.wire, seq, topic: self.wire.topic.clone(), payload }
        };
        events.into_iter().map(publication).collect()
    }
}
