//! Checkpoints, state transfer and restarts in a PBFT group.

use crate::ledger::Operation;
use crate::net::{Net, Settings};
use althing_protocol::Misbehaviour;
use althing_protocol::pbft::{Pbft, PbftConfig, PbftSettings};
use althing_replica::*;
use althing_types::{ClientId, Principal, Quorums, ReplicaId, Seq};
use std::time::Duration;

const R3: ReplicaId = ReplicaId(3);

pub(crate) fn pbft(me: ReplicaId, quorums: Quorums) -> Pbft {
    let settings = PbftSettings { checkpoint_period: 8, log_size: 16, ..PbftSettings::default() };
    Pbft::new(PbftConfig::new(me, quorums, settings).unwrap())
}

fn group(durability: Durability) -> Net<Pbft> {
    let settings = Settings { durability, ..Settings::new(4) };
    let quorums = settings.quorums;
    Net::new(settings, move |id| pbft(id, quorums))
}

/// Writes `count` cells, each with what identifies the write.
fn work(net: &mut Net<Pbft>, first: u32, count: u32) {
    for i in first..first + count {
        net.write(i % 400, &[i as u8; 300]);
    }
}

fn all_agree(net: &Net<Pbft>, ids: &[u16]) -> bool {
    ids.iter().all(|id| {
        net.cells(*id) == net.cells(ids[0]) && net.status(*id).executed == net.status(ids[0]).executed
    })
}

#[test]
fn a_group_agrees_and_forgets_old_checkpoints() {
    let mut net = group(Durability::None);
    work(&mut net, 0, 100);
    net.call(1, &Operation::Emit(3, b"event".to_vec()), OperationKind::Ordered);
    net.run_until("all execute all", |net| all_agree(net, &[0, 1, 2, 3]) && net.emitted.len() == 4);
    assert!(net.emitted.iter().all(|(_, emission)| emission.payload == b"event"));
    for id in 0..4 {
        let status = net.status(id);
        assert!(status.stable >= Seq(80) && status.checkpoints <= 3, "{status:?}");
        assert_eq!((status.clients, status.outstanding), (2, 0));
    }
    assert!(net.evidence.is_empty(), "{:?}", net.evidence);
}

#[test]
fn a_replica_that_lost_everything_is_brought_up_to_date_by_others_of_which_one_lies() {
    for liar in 0..3 {
        let mut net = group(Durability::None);
        work(&mut net, 0, 10);
        net.stop(R3);
        work(&mut net, 10, 190);
        net.replica(liar).set_tamper(Some(Box::new(Injected::Lie)));
        net.start(R3, Startup::Amnesia);
        work(&mut net, 200, 40);
        net.run_until("it has caught up", |net| all_agree(net, &[0, 1, 2, 3]));
        assert!(
            net.has_report(
                3,
                |report| matches!(report, Report::TransferFinished { bytes, .. } if *bytes > 0)
            )
        );
        for (by, evidence) in &net.evidence {
            assert_eq!((by.0, evidence.accused.0), (3, liar));
            assert!(matches!(evidence.misbehaviour, Misbehaviour::WrongState(_)));
        }
        // Its client table came with the state: what was executed before is not executed again.
        assert_eq!(net.status(3).clients, net.status(0).clients);
    }
}

#[test]
fn the_liar_is_caught_if_it_is_asked() {
    let mut net = group(Durability::None);
    net.stop(R3);
    work(&mut net, 0, 60);
    // A transfer starts with the replica after the one that needs it.
    net.replica(0).set_tamper(Some(Box::new(Injected::Lie)));
    net.start(R3, Startup::Amnesia);
    net.run_until("it has the state", |net| {
        net.has_report(3, |r| matches!(r, Report::TransferFinished { .. }))
    });
    assert!(net.evidence.iter().any(|(by, e)| *by == R3 && e.accused == ReplicaId(0)));
}

#[test]
fn a_replica_restarts_from_its_disk() {
    let mut net = group(Durability::Sync);
    work(&mut net, 0, 50);
    net.run_until("all execute all", |net| all_agree(net, &[0, 1, 2, 3]));
    let stable = net.status(3).stable;
    net.stop(R3);
    net.reports.clear();
    net.restart_from_disk(R3);
    assert_eq!(net.status(3).stable, stable);
    assert!(net.status(3).executed >= stable && stable > Seq(40));
    // It has what it had, and is told the rest; nothing is fetched.
    net.run_until("it has caught up", |net| all_agree(net, &[0, 1, 2, 3]));
    work(&mut net, 50, 10);
    net.run_until("it takes part", |net| all_agree(net, &[0, 1, 2, 3]));
    assert!(
        !net.has_report(3, |report| matches!(report, Report::TransferFinished { bytes, .. } if *bytes > 0))
    );
}

#[test]
fn what_was_acknowledged_survives_the_power_failing_everywhere() {
    let mut net = group(Durability::Sync);
    work(&mut net, 0, 37);
    (0..4).for_each(|id| net.stop(ReplicaId(id)));
    (0..4).for_each(|id| net.restart_from_disk(ReplicaId(id)));
    assert_eq!(net.write(36, b"new"), [36; 300]);
    net.run_until("all have it", |net| (0..4).all(|id| net.cells(id)[36] == b"new"));
    for i in 0..36u32 {
        assert!((0..4).all(|id| net.cells(id)[i as usize] == [i as u8; 300]));
    }
}

#[test]
fn a_damaged_disk_is_refused_and_once_it_is_removed_counts_as_lost() {
    let mut net = group(Durability::Sync);
    work(&mut net, 0, 50);
    net.stop(R3);
    let Startup::Recovered { records, .. } = net.open_disk(R3) else { panic!("it has a disk") };
    // The storage refuses what is damaged; this is what the engine makes of a state that it is not given.
    net.start(R3, Startup::Recovered { records, kept: None });
    let is_named = matches!(net.refused[..], [(R3, RecordError::WrongState { found: Seq(0), .. })]);
    assert!(is_named, "{:?}", net.refused);
    net.start(R3, Startup::Amnesia);
    assert_eq!(net.status(3).executed, Seq(0));
    work(&mut net, 50, 40);
    net.run_until("it has caught up", |net| all_agree(net, &[0, 1, 2, 3]));
}

/// As when all are started with the wrong service, or with a program that reads other records: an operator
/// who sets that right has to find everything as it was.
#[test]
fn records_that_can_not_be_used_are_left_alone() {
    for replicas in [1, 4] {
        let settings = Settings::new(replicas);
        let quorums = settings.quorums;
        let mut net = Net::new(settings, move |id| pbft(id, quorums));
        work(&mut net, 0, 50);
        let all: Vec<_> = quorums.replicas().collect();
        all.iter().for_each(|id| net.stop(*id));
        let before: Vec<_> = all.iter().map(|id| net.open_disk(*id)).collect();
        for (id, startup) in all.iter().zip(&before) {
            let Startup::Recovered { records, .. } = startup.clone() else { panic!("it has a disk") };
            net.start(*id, Startup::Recovered { records, kept: None });
        }
        net.run_for(Duration::from_secs(5));
        assert_eq!(net.refused.len(), replicas);
        let after: Vec<_> = all.iter().map(|id| net.open_disk(*id)).collect();
        assert_eq!(after, before, "{replicas} replicas");
        all.iter().for_each(|id| net.restart_from_disk(*id));
        assert_eq!(net.write(49, b"new"), [49; 300]);
    }
}

#[test]
fn a_replica_that_was_cut_off_catches_up_and_executes_nothing_twice() {
    let mut net = group(Durability::Sync);
    work(&mut net, 0, 5);
    net.stop(R3);
    work(&mut net, 5, 100);
    net.restart_from_disk(R3);
    work(&mut net, 105, 20);
    net.run_until("it has caught up", |net| all_agree(net, &[0, 1, 2, 3]));
    net.run_for(Duration::from_secs(5));
    assert!(all_agree(&net, &[0, 1, 2, 3]));
}

/// The result that it remembers may be one that the group has gone beyond.
#[test]
fn a_learner_repeats_no_results() {
    let mut net = group(Durability::Sync);
    let (client, replica) = (Principal::Client(ClientId(1)), Principal::Replica(R3));
    net.submit(1, &Operation::Write(0, vec![1]), OperationKind::Ordered);
    let request = net.under_way(client, Principal::Replica(ReplicaId(0))).remove(0);
    let answers = |net: &mut Net<Pbft>| {
        net.run_for(Duration::ZERO);
        net.input(R3, Input::Frame { from: client, bytes: request.clone() });
        net.under_way(replica, client).len()
    };
    work(&mut net, 1, 40);
    assert_eq!(answers(&mut net), 1);
    net.stop(R3);
    net.start(R3, Startup::Amnesia);
    net.run_until("it has the state", |net| net.cells(3)[0] == [1]);
    assert_eq!(answers(&mut net), 0);
}

/// What it fetched from others is on its disk as well.
#[test]
fn a_replica_that_fetched_a_state_starts_from_it() {
    let mut net = group(Durability::Sync);
    work(&mut net, 0, 5);
    net.stop(R3);
    work(&mut net, 5, 100);
    net.restart_from_disk(R3);
    work(&mut net, 105, 20);
    net.run_until("it has caught up", |net| all_agree(net, &[0, 1, 2, 3]));
    let status = net.status(3);
    assert!(net.has_report(3, |report| matches!(report, Report::TransferFinished { .. })));
    net.stop(R3);
    net.reports.clear();
    net.restart_from_disk(R3);
    assert_eq!(net.status(3).stable, status.stable);
    assert!(net.refused.is_empty());
    assert!((0..4).all(|id| net.disks[&ReplicaId(id)].segments() < 10), "old segments are removed");
}
