//! Replicas that recover proactively: in doubt, and by what others have.

use crate::ledger::Operation;
use crate::net::{Net, Settings};
use crate::recovery::pbft;
use althing_protocol::pbft::Pbft;
use althing_replica::*;
use althing_types::{ReplicaId, Seq, encode};
use std::time::Duration;

const R1: ReplicaId = ReplicaId(1);
const R3: ReplicaId = ReplicaId(3);

/// Pages that are written before anything happens.
const CELLS: u32 = 400;

/// A group that has executed something.
fn group() -> Net<Pbft> {
    let settings = Settings { durability: Durability::Sync, ..Settings::new(4) };
    let quorums = settings.quorums;
    let mut net = Net::new(settings, move |id| pbft(id, quorums));
    for cell in 0..CELLS + 3 {
        net.write(cell % CELLS, &[cell as u8; 300]);
    }
    net.run_until("all execute all", has_all);
    net
}

fn has_all(net: &Net<Pbft>) -> bool {
    (1..4).all(|id| net.status(id).executed == net.status(0).executed && net.cells(id) == net.cells(0))
}

/// Stops replica 3, and gives what is on its disk.
fn stopped(net: &mut Net<Pbft>) -> (Vec<Vec<u8>>, KeptState) {
    net.stop(R3);
    let Startup::Recovered { records, kept: Some(kept) } = net.open_disk(R3) else {
        panic!("it has a state")
    };
    (records, kept)
}

fn fetched(net: &Net<Pbft>) -> u64 {
    let bytes = |(by, report): &(ReplicaId, Report)| match report {
        Report::TransferFinished { bytes, .. } if *by == R3 => Some(*bytes),
        _ => None,
    };
    net.reports.iter().filter_map(bytes).sum()
}

fn is_settled(net: &mut Net<Pbft>) -> bool {
    net.replica(3).protocol().is_settled()
}

/// Works until replica 3 has recovered.
fn settle(net: &mut Net<Pbft>) {
    for round in 0..400u32 {
        if is_settled(net) {
            return net.run_until("all execute all", has_all);
        }
        net.write(CELLS + round % 100, &[round as u8; 10]);
        net.run_for(Duration::from_millis(200));
    }
    panic!("it has not recovered");
}

#[test]
fn one_with_its_disk_intact_votes_at_once_and_fetches_nothing() {
    let mut net = group();
    let (records, mut kept) = stopped(&mut net);
    assert!(net.unstarted(R3).is_sound(&records, Some(&mut kept)));
    net.reports.clear();
    net.start(R3, Startup::Recovering(Remains { records: Some(records), kept: Some(kept) }));
    assert!(net.replica(3).protocol().is_voting() && !is_settled(&mut net));
    // So there is a quorum while another is down: it is none of the faulty ones.
    net.stop(R1);
    net.write(7, b"while two are not well");
    assert!(!is_settled(&mut net), "it can't know yet what the third of the others has");
    net.restart_from_disk(R1);
    settle(&mut net);
    assert_eq!(fetched(&net), 0);
}

#[test]
fn one_whose_records_are_void_is_silent_and_fetches_what_differs() {
    let mut net = group();
    let (_, kept) = stopped(&mut net);
    net.reports.clear();
    for round in 0..20 {
        net.write(3, &[round; 300]);
    }
    net.start(R3, Startup::Recovering(Remains { records: None, kept: Some(kept) }));
    assert!(!net.replica(3).protocol().is_voting());
    net.run_until("it has fetched", |net| {
        net.has_report(3, |it| matches!(it, Report::TransferFinished { .. }))
    });
    // Three pages, and the digests that lead there, which weigh more in so small a state.
    let (bytes, state) = (fetched(&net), u64::from(CELLS) * 300);
    assert!(bytes > 0 && bytes < state / 2, "{bytes} bytes of {state}");
    settle(&mut net);
}

#[test]
fn a_state_that_went_bad_in_memory_is_as_it_was_after_the_recovery() {
    let mut net = group();
    assert!(net.replica(3).corrupt(12_345));
    assert_ne!(net.cells(3), net.cells(0));
    let (records, kept) = stopped(&mut net);
    net.start(R3, Startup::Recovering(Remains { records: Some(records), kept: Some(kept) }));
    settle(&mut net);
    assert_eq!(net.cells(3), net.cells(0));
}

/// Without a recovery it shows once its page is written, and is fetched.
#[test]
fn a_state_that_went_bad_in_memory_is_noticed_when_it_is_saved() {
    let mut net = group();
    assert!(net.replica(3).corrupt(12_345));
    let is_bad = |cell: &u32| net.cells(3)[*cell as usize] != net.cells(0)[*cell as usize];
    let bad = (0..CELLS).find(is_bad).expect("a bit went bad");
    net.reports.clear();
    for _ in 0..20 {
        net.call(0, &Operation::Touch(bad), OperationKind::Ordered);
    }
    net.run_until("it knows", |net| net.has_report(3, |it| matches!(it, Report::Diverged { .. })));
    net.run_until("all is right", has_all);
    assert!(fetched(&net) > 0);
}

#[test]
fn what_a_correct_replica_can_not_have_is_not_sound() {
    let mut net = group();
    net.call(0, &Operation::Read(1), OperationKind::Ordered);
    let (records, kept) = stopped(&mut net);
    let is_sound = |records: &[Vec<u8>], kept: Option<&KeptState>| {
        net.unstarted(R3).is_sound(records, kept.cloned().as_mut())
    };
    assert!(is_sound(&records, Some(&kept)));
    assert!(!is_sound(&records, None), "the state is missing");
    assert!(!is_sound(&records[1..], Some(&kept)), "the state is not named");
    assert!(!is_sound(&records[..1], Some(&kept)), "nothing proves the state");
    let renamed = |change: &dyn Fn(&mut StateName)| {
        let Ok(EngineRecord::State(mut name)) = decode_record(&records[0]) else { panic!("no name") };
        change(&mut name);
        [vec![encode(&EngineRecord::State(name))], records[1..].to_vec()].concat()
    };
    assert!(is_sound(&renamed(&|_| {}), Some(&kept)));
    assert!(!is_sound(&renamed(&|name| name.seq = Seq(name.seq.0 + 8)), Some(&kept)));
    assert!(!is_sound(&renamed(&|name| name.state.0[0] ^= 1), Some(&kept)));
    assert!(!is_sound(&[records.clone(), vec![vec![9, 9]]].concat(), Some(&kept)), "one can't be read");
    // The certificate stands in the records twice, and each signature in it counts.
    let of_certificates = (1..records.len()).filter(|at| records[*at].len() > 2 * 64 + 32);
    let mut flipped = 0;
    for at in of_certificates {
        let mut forged = records.clone();
        let last = forged[at].len() - 1;
        forged[at][last] ^= 1;
        flipped += usize::from(!is_sound(&forged, Some(&kept)));
    }
    assert!(flipped >= 2, "{flipped} of the records are checked to their ends");
}
