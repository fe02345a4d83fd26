//! Disks that take longer to write a state than the group takes to get to the next.

use crate::ledger::Operation;
use crate::net::{Net, Settings};
use althing_protocol::pbft::{Pbft, PbftConfig, PbftSettings};
use althing_replica::*;
use althing_types::{ReplicaId, Seq, View};
use std::time::Duration;

const PERIOD: u64 = 8;

/// A group whose log is so many checkpoint periods long.
fn group(periods: u64) -> Net<Pbft> {
    let settings = Settings::new(4);
    let quorums = settings.quorums;
    Net::new(settings, move |id| {
        let settings =
            PbftSettings { checkpoint_period: PERIOD, log_size: periods * PERIOD, ..PbftSettings::default() };
        Pbft::new(PbftConfig::new(id, quorums, settings).unwrap())
    })
}

fn all() -> impl Iterator<Item = ReplicaId> {
    (0..4).map(ReplicaId)
}

/// Each state on disk is followed by what was executed since, however many checkpoints wait for the disk.
#[test]
fn what_was_acknowledged_survives_though_checkpoints_wait_for_the_disks() {
    let mut net = group(4);
    net.slow_disks.extend(all());
    let writes = 3 * PERIOD as u32 + 1;
    for i in 0..writes {
        net.write(i, &[i as u8; 300]);
    }
    net.run_for(Duration::from_secs(1));
    // The first of three states gets to the disks, and then the power fails.
    all().for_each(|id| net.finish_keeping(id));
    all().for_each(|id| net.stop(id));
    net.slow_disks.clear();
    all().for_each(|id| net.restart_from_disk(id));
    assert_eq!(net.write(writes - 1, b"new"), [writes as u8 - 1; 300]);
    for i in 0..writes - 1 {
        assert!((0..4).any(|id| net.cells(id)[i as usize] == [i as u8; 300]), "{i}");
    }
}

/// What a replica that was away is told to fetch is there, even where the group is always busy writing.
#[test]
fn who_was_away_catches_up_though_states_wait_for_the_disks() {
    let mut net = group(2);
    let away = ReplicaId(3);
    net.stop(away);
    for i in 0..5 * PERIOD as u32 {
        net.write(i, &[i as u8; 300]);
    }
    net.run_for(Duration::from_secs(1));
    net.slow_disks.extend(all().filter(|id| *id != away));
    let stable = net.status(0).stable;
    for i in 0..2 * PERIOD as u32 - 1 {
        net.write(i, &[i as u8; 300]);
    }
    assert!(net.status(0).executed > Seq(stable.0 + PERIOD), "two more states wait for the disk");
    net.restart_from_disk(away);
    net.run_until("it has a state of the group's", |net| net.status(3).executed >= stable);
    let read = net.call(1, &Operation::Read(1), OperationKind::Ordered).0;
    assert_eq!(read, [1; 300]);
}

/// Who waits for its own disk has no reason to blame the primary.
#[test]
fn no_primary_is_replaced_because_all_disks_are_slow() {
    let mut net = group(2);
    net.slow_disks.extend(all());
    for i in 0..2 * PERIOD as u32 {
        net.write(i, &[i as u8; 300]);
    }
    let number = net.submit(1, &Operation::Write(0, b"more".to_vec()), OperationKind::Ordered);
    net.run_for(Duration::from_secs(20));
    let is_first = |net: &Net<Pbft>| (0..4).all(|id| net.status(id).view == View(0));
    assert!(is_first(&net));
    all().for_each(|id| net.finish_keeping(id));
    net.run_for(Duration::from_millis(500));
    let is_done = |event: &ClientOutput| matches!(event, ClientOutput::Completed { number: done, .. } if *done == number);
    assert!(net.take_events(1).iter().any(is_done));
    assert!(is_first(&net));
    // Once it goes on, the primary is held to its timeout as ever.
    net.slow_disks.clear();
    all().for_each(|id| net.finish_keeping(id));
    net.stop(ReplicaId(0));
    net.write(1, b"new");
    assert!((1..4).all(|id| net.status(id).view == View(1)));
}
