use super::state::{Inlet, State};
use super::table::ServiceTable;
use serde_json::{Value, json};

/// The figures of a component's service, for people and monitors.
pub(super) fn figures(table: &ServiceTable, state: &State) -> Value {
    let last_refusal =
        state.last_refusal.as_ref().map(|(wire, reason)| json!({ "wire": wire.0, "reason": reason }));
    let incoming: Vec<_> = state.incoming.iter().map(|(wire, inlet)| {
        let (source, producers) = match inlet {
            Inlet::Edge { .. } => ("edge", Vec::new()),
            Inlet::Group(voter) => {
                let counts = voter.equivocations().iter().zip(voter.disagreements());
                let producer = |(replica, (equivocations, disagreements))| {
                    json!({ "replica": replica, "equivocations": equivocations, "disagreements": disagreements })
                };
                ("group", counts.enumerate().map(producer).collect())
            }
        };
        json!({
            "wire": wire.0,
            "port": table.incoming[wire].port,
            "source": source,
            "accepted": inlet.accepted(),
            "producers": producers,
        })
    }).collect();
    let outgoing: Vec<_> = state
        .outgoing
        .iter()
        .map(|(wire, outbox)| {
            json!({
                "wire": wire.0,
                "port": table.outgoing[wire].port,
                "last": outbox.last(),
                "released": outbox.released(),
                "depth": outbox.depth(),
            })
        })
        .collect();
    json!({
        "component": table.component,
        "events": state.events,
        "refused_events": state.refused_events,
        "last_refusal": last_refusal,
        "refused_operations": state.refused_operations,
        "incoming": incoming,
        "outgoing": outgoing,
    })
}
