//! Operations whose results come later.

use crate::ledger::Operation;
use crate::net::{Net, Settings};
use crate::recovery::pbft;
use althing_protocol::pbft::Pbft;
use althing_replica::*;
use althing_types::{ClientId, ReplicaId, RequestNumber};
use std::time::Duration;

fn group() -> Net<Pbft> {
    let quorums = Settings::new(4).quorums;
    Net::new(Settings::new(4), move |id| pbft(id, quorums))
}

fn results(net: &mut Net<Pbft>, client: u64) -> Vec<(RequestNumber, Vec<u8>)> {
    let completed = |event| match event {
        ClientOutput::Completed { number, result, .. } => Some((number, result)),
        _ => None,
    };
    net.take_events(client).into_iter().filter_map(completed).collect()
}

fn settle(net: &mut Net<Pbft>, number: RequestNumber, result: &[u8]) {
    let operation = Operation::Settle(ClientId(0), number, result.to_vec());
    net.call(1, &operation, OperationKind::Ordered);
    net.run_for(Duration::from_millis(10));
}

#[test]
fn a_client_waits_for_a_deferred_result_and_asking_again_executes_nothing() {
    let mut net = group();
    let number = net.submit(0, &Operation::Defer, OperationKind::Ordered);
    net.run_for(Duration::from_secs(20));
    assert_eq!(results(&mut net, 0), []);
    assert_eq!(net.replica(0).service().contexts.len(), 1, "it has asked again for long");
    settle(&mut net, RequestNumber(number.0 - 1), b"another's");
    assert_eq!(results(&mut net, 0), []);
    settle(&mut net, number, b"done");
    assert_eq!(results(&mut net, 0), [(number, b"done".to_vec())]);
}

#[test]
fn who_restarts_or_fetches_the_state_knows_who_waits_and_what_was_answered() {
    let mut net = group();
    let number = net.submit(0, &Operation::Defer, OperationKind::Ordered);
    net.run_for(Duration::from_millis(10));
    net.cut_off.insert(ReplicaId(3));
    for i in 0..40u32 {
        net.call(1, &Operation::Write(1, i.to_le_bytes().to_vec()), OperationKind::Ordered);
    }
    net.stop(ReplicaId(1));
    net.cut_off.clear();
    net.restart_from_disk(ReplicaId(1));
    let is_here = |report: &Report| matches!(report, Report::TransferFinished { .. });
    net.run_until("the state is fetched", |net| net.has_report(3, is_here));
    // Two of the three that are left have to answer, so one of those that came back does.
    net.stop(ReplicaId(0));
    net.run_for(Duration::from_secs(5));
    settle(&mut net, number, b"done");
    net.run_for(Duration::from_secs(5));
    assert_eq!(results(&mut net, 0), [(number, b"done".to_vec())]);
}
