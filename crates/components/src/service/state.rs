use super::table::{ServiceTable, Source};
use crate::outbox::Outbox;
use crate::plan::WireId;
use crate::voter::Voter;
use borsh::{BorshDeserialize, BorshSerialize};
use std::collections::BTreeMap;

/// The most bytes of a reason that the state keeps.
const MAX_REASON_BYTES: usize = 256;

/// What is replicated of a component's service besides the component itself.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct State {
    /// Events that the component was given.
    pub(super) events: u64,
    /// Events that it, or the type of a port, refused.
    pub(super) refused_events: u64,
    /// The wire and the reason of the last such event.
    pub(super) last_refusal: Option<(WireId, String)>,
    /// Operations that were refused.
    pub(super) refused_operations: u64,
    pub(super) incoming: BTreeMap<WireId, Inlet>,
    pub(super) outgoing: BTreeMap<WireId, Outbox>,
}

/// The receiving end of a wire.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) enum Inlet {
    /// From the edge: a count of the events taken.
    Edge {
        /// Events taken.
        accepted: u64,
    },
    /// From a group: the vote.
    Group(Voter),
}

impl Inlet {
    pub(super) fn accepted(&self) -> u64 {
        match self {
            Self::Edge { accepted } => *accepted,
            Self::Group(voter) => voter.accepted(),
        }
    }
}

impl State {
    pub(super) fn new(table: &ServiceTable) -> Self {
        let inlet = |source: &Source| match source {
            Source::Edge { .. } => Inlet::Edge { accepted: 0 },
            Source::Group { n, f, .. } => Inlet::Group(Voter::new(*n, *f, 0)),
        };
        Self {
            events: 0,
            refused_events: 0,
            last_refusal: None,
            refused_operations: 0,
            incoming: table
                .incoming
                .iter()
                .map(|(&wire, incoming)| (wire, inlet(&incoming.source)))
                .collect(),
            outgoing: table
                .outgoing
                .iter()
                .map(|(&wire, outgoing)| {
                    let (voices, faulty) = outgoing.sink.voices();
                    (wire, Outbox::new(voices, faulty))
                })
                .collect(),
        }
    }

    /// The vote of a wire that comes from a group.
    pub(super) fn voter(&mut self, wire: WireId) -> &mut Voter {
        match self.incoming.get_mut(&wire) {
            Some(Inlet::Group(voter)) => voter,
            _ => panic!("{wire} comes from no group"),
        }
    }

    pub(super) fn refuse(&mut self, wire: WireId, reason: &str) {
        self.refused_events += 1;
        let end = reason.floor_char_boundary(MAX_REASON_BYTES);
        self.last_refusal = Some((wire, reason[..end].to_owned()));
    }

    /// Whether this is a state of a service with this table: what comes from another replica has
    /// been checked against an agreed digest, but a table can have changed meanwhile.
    pub(super) fn is_consistent(&self, table: &ServiceTable) -> bool {
        let inlets = self.incoming.len() == table.incoming.len()
            && self.incoming.iter().all(|(wire, inlet)| {
                match (inlet, table.incoming.get(wire).map(|i| &i.source)) {
                    (Inlet::Edge { .. }, Some(Source::Edge { .. })) => true,
                    (Inlet::Group(voter), Some(Source::Group { n, f, .. })) => voter.is_consistent(*n, *f),
                    _ => false,
                }
            });
        let outboxes = self.outgoing.len() == table.outgoing.len()
            && self.outgoing.iter().all(|(wire, outbox)| {
                table.outgoing.get(wire).is_some_and(|outgoing| {
                    let (voices, faulty) = outgoing.sink.voices();
                    outbox.is_consistent(voices, faulty)
                })
            });
        inlets && outboxes
    }
}
