//! Replicas that agree and do not execute, in a group whose clients, state and members are real.

use crate::ledger::Operation;
use crate::net::{Net, Settings, member};
use crate::reconfiguration::{agreed, change, command, first_membership, has_all, pbft_settings, work};
use althing_protocol::paxos::PaxosSettings;
use althing_protocol::pbft::{Pbft, PbftConfig, PbftSettings};
use althing_protocol::{ConfigError, Settings as Agreed};
use althing_replica::membership::{Change, MembershipError, Refusal};
use althing_replica::*;
use althing_types::{Epoch, ReplicaId};

const R: fn(u16) -> ReplicaId = ReplicaId;

fn with(witnesses: &[u16]) -> PbftSettings {
    PbftSettings { witnesses: witnesses.iter().copied().map(ReplicaId).collect(), ..pbft_settings() }
}

fn set(witnesses: &[u16]) -> Change {
    Change::Settings(agreed(with(witnesses)))
}

fn group(n: usize, witnesses: &[u16]) -> Net<Pbft> {
    group_with(Settings::new(n), witnesses)
}

fn group_with(settings: Settings, witnesses: &[u16]) -> Net<Pbft> {
    let pbft = with(witnesses);
    let membership = first_membership(&settings, agreed(pbft.clone()));
    Net::with_members(settings, Some(membership), move |id, quorums| {
        // A machine that joins a group of another size goes by what its file says.
        let config = PbftConfig::new(id, quorums, pbft.clone());
        let config = config.or_else(|_| PbftConfig::new(id, quorums, pbft_settings()));
        Pbft::new(config.expect("good settings"))
    })
}

fn is_empty(net: &Net<Pbft>, machine: u16) -> bool {
    net.cells(machine).iter().all(Vec::is_empty)
}

fn are_level(net: &Net<Pbft>, machines: &[u16], epoch: u64) -> bool {
    let executed = |id: &u16| (net.membership(*id).epoch, net.status(*id).executed);
    machines.iter().all(|id| executed(id) == (Epoch(epoch), net.status(machines[0]).executed))
}

/// Whether these have stable checkpoints in this epoch.
fn run_on(net: &mut Net<Pbft>, machines: &[u16], first: u32) {
    let stable = net.status(machines[0]).stable;
    work(net, first, 20);
    net.run_until("another checkpoint", |net| machines.iter().all(|id| net.status(*id).stable > stable));
}

#[test]
fn a_witness_keeps_up_without_the_state_and_answers_nobody() {
    for reads in [ReadPolicy::Ordered, ReadPolicy::Fast] {
        let mut net = group_with(Settings { reads, ..Settings::new(4) }, &[3]);
        work(&mut net, 0, 40);
        net.run_until("all are there", |net| are_level(net, &[0, 1, 2, 3], 0));
        assert!(is_empty(&net, 3) && (0..3).all(|id| has_all(&net, id, 40)));
        assert!(net.status(3).stable.0 >= 32 && net.status(3).clients == net.status(0).clients);
        let (read, was_ordered) = net.call(1, &Operation::Read(7), OperationKind::ReadOnly);
        assert_eq!((read, was_ordered), (vec![7; 100], reads == ReadPolicy::Ordered));
        assert!(net.told.iter().all(|(from, _)| *from != R(3)), "it has nothing to say");
        assert!(net.evidence.is_empty(), "{:?}", net.evidence);
    }
}

#[test]
fn clients_are_served_by_f_plus_1_executors_and_a_witness_leads_as_well_as_any() {
    for reads in [ReadPolicy::Ordered, ReadPolicy::Fast] {
        for lost in [0, 1, 3] {
            let mut net = group_with(Settings { reads, ..Settings::new(4) }, &[1]);
            work(&mut net, 0, 3);
            net.stop(R(lost));
            work(&mut net, 3, 30);
            let (read, _) = net.call(1, &Operation::Read(7), OperationKind::ReadOnly);
            assert_eq!(read, [7; 100]);
            let up: Vec<_> = (0..4).filter(|id| *id != lost).collect();
            net.run_until("checkpoints are stable", |net| up.iter().all(|id| net.status(*id).stable.0 >= 24));
            net.restart_from_disk(R(lost));
            net.run_until("it has caught up", |net| are_level(net, &[0, 1, 2, 3], 0));
            // For an executor that was gone for so long it stands in.
            assert!(is_empty(&net, 1) == (lost == 1) && net.evidence.is_empty());
        }
    }
}

#[test]
fn a_witness_starts_again_from_the_little_that_it_keeps() {
    let mut net = group(4, &[3]);
    work(&mut net, 0, 20);
    net.run_until("all are there", |net| are_level(net, &[0, 1, 2, 3], 0));
    let clients = net.status(3).clients;
    net.stop(R(3));
    work(&mut net, 20, 2);
    net.restart_from_disk(R(3));
    assert_eq!((net.status(3).clients, net.status(3).stable.0), (clients, 16));
    // It is needed now.
    net.stop(R(0));
    run_on(&mut net, &[1, 2, 3], 22);
    // The power fails everywhere.
    (1..4).for_each(|id| net.stop(R(id)));
    (0..4).for_each(|id| net.restart_from_disk(R(id)));
    run_on(&mut net, &[0, 1, 2, 3], 50);
    net.run_until("all are there", |net| are_level(net, &[0, 1, 2, 3], 0));
    assert!(is_empty(&net, 3) && (0..3).all(|id| has_all(&net, id, 42)));
    assert!(net.evidence.is_empty() && net.refused.is_empty());
}

#[test]
fn a_witness_that_is_far_behind_or_lost_its_disk_fetches_what_it_keeps_and_no_more() {
    let mut net = group(4, &[3]);
    work(&mut net, 0, 3);
    for startup in [None, Some(Startup::Amnesia)] {
        net.stop(R(3));
        for i in 0..60 {
            net.write(i, &[1; 20_000]);
        }
        net.reports.clear();
        match startup {
            None => net.restart_from_disk(R(3)),
            Some(startup) => net.start(R(3), startup),
        }
        let fetched = |report: &Report| matches!(report, Report::TransferFinished { .. });
        net.run_until("it has caught up", |net| {
            net.has_report(3, fetched) && net.votes(3) && are_level(net, &[0, 1, 2, 3], 0)
        });
        let bytes: u64 = net
            .reports
            .iter()
            .map(|(_, report)| match report {
                Report::TransferFinished { bytes, .. } => *bytes,
                _ => 0,
            })
            .sum();
        assert!(bytes < 150_000, "{bytes} bytes of 1.2 million");
        assert!(is_empty(&net, 3));
    }
    net.stop(R(1));
    run_on(&mut net, &[0, 2, 3], 100);
    assert!(net.evidence.is_empty(), "{:?}", net.evidence);
}

/// It does not ask the witness in vain for long.
#[test]
fn an_executor_that_lost_its_disk_gets_the_state_from_another_executor() {
    let mut net = group(4, &[3]);
    work(&mut net, 0, 40);
    net.stop(R(2));
    net.start(R(2), Startup::Amnesia);
    work(&mut net, 40, 3);
    net.run_until("it is whole", |net| net.votes(2) && are_level(net, &[0, 1, 2, 3], 0));
    assert!(has_all(&net, 2, 43) && net.evidence.is_empty());
}

#[test]
fn a_witness_becomes_an_executor_and_an_executor_a_witness() {
    let mut net = group(4, &[3]);
    work(&mut net, 0, 20);
    let next = change(&mut net, command(0, 1, &[set(&[0])]), &[]);
    assert_eq!(next.settings.witnesses(), [R(0)]);
    net.run_until("all are there", |net| are_level(net, &[0, 1, 2, 3], 1));
    net.run_until("it has the state", |net| has_all(net, 3, 20));
    assert!(is_empty(&net, 0), "and this one has none any more");
    run_on(&mut net, &[0, 1, 2, 3], 20);
    // It counts.
    net.stop(R(1));
    run_on(&mut net, &[0, 2, 3], 40);
    net.restart_from_disk(R(1));
    net.restart_from_disk(R(3));
    change(&mut net, command(1, 1, &[set(&[])]), &[]);
    net.run_until("four execute", |net| {
        are_level(net, &[0, 1, 2, 3], 2) && (0..4).all(|id| has_all(net, id, 60))
    });
    run_on(&mut net, &[0, 1, 2, 3], 60);
    assert!(net.evidence.is_empty() && net.refused.is_empty(), "{:?}", net.evidence);
}

/// The one correct executor that has the state at the end becomes a witness. Another one was behind, and the third says
/// no more.
#[test]
fn who_becomes_a_witness_has_the_state_until_others_do() {
    for is_restarted in [false, true] {
        let mut net = group(4, &[3]);
        work(&mut net, 0, 20);
        net.cut_off.insert(R(2));
        net.stop(R(2));
        work(&mut net, 20, 20);
        change(&mut net, command(0, 1, &[set(&[0])]), &[]);
        net.run_until("they are there", |net| {
            [0, 1, 3].iter().all(|id| net.membership(*id).epoch == Epoch(1))
        });
        net.stop(R(1));
        net.cut_off.clear();
        if is_restarted {
            net.stop(R(0));
            net.restart_from_disk(R(0));
        }
        assert!(is_empty(&net, 0));
        net.restart_from_disk(R(2));
        net.run_until("they have it", |net| has_all(net, 2, 40) && has_all(net, 3, 40));
        run_on(&mut net, &[0, 2, 3], 40);
        assert!(net.evidence.is_empty() && net.refused.is_empty());
    }
}

/// A witness that was to execute stops before it has the state.
#[test]
fn what_a_witness_had_on_disk_is_nothing_to_execute_on() {
    let mut net = group(4, &[3]);
    work(&mut net, 0, 20);
    net.cut_after_rewrite.insert(R(3));
    change(&mut net, command(0, 1, &[set(&[0])]), &[]);
    work(&mut net, 20, 10);
    net.restart_from_disk(R(3));
    net.run_until("it is whole", |net| are_level(net, &[0, 1, 2, 3], 1) && has_all(net, 3, 30));
    net.stop(R(3));
    net.restart_from_disk(R(3));
    assert!((0..16).all(|i| net.cells(3)[i] == [i as u8; 100]), "that is on its disk now");
    run_on(&mut net, &[0, 1, 2, 3], 30);
    assert!(net.evidence.is_empty() && net.refused.is_empty());
}

#[test]
fn witnesses_keep_to_their_members_and_are_never_too_many() {
    let mut net = group(5, &[2, 4]);
    work(&mut net, 0, 5);
    let most = |leaving| Err(Refusal::TooManyExecutorsLeave { leaving, most: 0 });
    assert_eq!(
        net.reconfigure(0, command(0, 1, &[Change::Remove(R(0))])),
        Err(Refusal::Invalid(MembershipError::Settings(ConfigError::TooManyWitnesses {
            witnesses: 2,
            most: 1,
            n: 4
        }),))
    );
    assert_eq!(net.reconfigure(0, command(0, 1, &[Change::Replace(R(0), member(6))])), most(1));
    // Two have the state for certain, and two might crash.
    let paxos = Change::Settings(Agreed::Paxos(PaxosSettings::default()));
    let refused = net.reconfigure(0, command(0, 2, &[paxos]));
    assert_eq!(refused, Err(Refusal::TooFewHaveTheState { f: 2 }));
    // A witness may go, and the other one moves up.
    let next = change(&mut net, command(0, 1, &[Change::Remove(R(2))]), &[]);
    assert_eq!(next.settings.witnesses(), [R(3)]);
    run_on(&mut net, &[0, 1, 3, 4], 5);
    assert!(is_empty(&net, 4) && has_all(&net, 3, 25));
    // An executor goes once all execute.
    let replace = Change::Replace(R(0), member(6));
    assert_eq!(net.reconfigure(0, command(1, 1, core::slice::from_ref(&replace))), most(1));
    change(&mut net, command(1, 1, &[set(&[])]), &[]);
    net.run_until("all execute", |net| has_all(net, 4, 25));
    change(&mut net, command(2, 1, &[replace, set(&[1])]), &[6]);
    net.run_until("all are there", |net| are_level(net, &[6, 1, 3, 4], 3) && has_all(net, 6, 25));
    run_on(&mut net, &[6, 1, 3, 4], 30);
    assert!(is_empty(&net, 1) && net.evidence.is_empty());
}

#[test]
fn a_group_goes_on_from_witnesses_to_another_protocol_that_has_none() {
    use althing_protocol::AnyProtocol;
    let settings = Settings::new(4);
    let first = agreed(with(&[3]));
    let membership = first_membership(&settings, first.clone());
    let mut net = Net::with_members(settings, Some(membership), move |id, quorums| {
        AnyProtocol::new(id, quorums, &first).expect("good settings")
    });
    work(&mut net, 0, 20);
    let zyzzyva = Agreed::Zyzzyva(althing_protocol::zyzzyva::ZyzzyvaSettings {
        checkpoint_period: 8,
        log_size: 16,
        ..Default::default()
    });
    change(&mut net, command(0, 1, &[Change::Settings(zyzzyva)]), &[]);
    work(&mut net, 20, 20);
    net.run_until("it has the state", |net| has_all(net, 3, 40));
    change(&mut net, command(1, 1, &[set(&[2])]), &[]);
    work(&mut net, 40, 20);
    net.run_until("this one keeps none", |net| {
        net.membership(2).epoch == Epoch(2) && net.cells(2).iter().all(Vec::is_empty)
    });
    assert!(net.evidence.is_empty(), "{:?}", net.evidence);
}

#[test]
fn a_witness_stands_in_for_an_executor_that_is_gone_and_its_word_counts() {
    let mut net = group(4, &[3]);
    work(&mut net, 0, 10);
    net.stop(R(2));
    work(&mut net, 10, 20);
    assert!(is_empty(&net, 3), "it may come back");
    work(&mut net, 30, 10);
    net.run_until("it has the state", |net| has_all(net, 3, 40));
    assert!(!net.replica(3).is_witness());
    run_on(&mut net, &[0, 1, 3], 40);
    // The client's request names nobody that is not meant to execute; it takes its word all the same.
    net.told.clear();
    net.stop(R(3));
    net.restart_from_disk(R(3));
    assert!(net.replica(3).is_witness() && is_empty(&net, 3), "it has to find out again");
    work(&mut net, 60, 40);
    net.run_until("it has the state again", |net| has_all(net, 3, 100));
    net.restart_from_disk(R(2));
    net.run_until("all are there", |net| are_level(net, &[0, 1, 2, 3], 0));
    change(&mut net, command(0, 1, &[set(&[2])]), &[]);
    work(&mut net, 100, 10);
    net.run_until("roles are what was agreed on", |net| is_empty(net, 2) && has_all(net, 3, 110));
    change(&mut net, command(1, 1, &[set(&[3])]), &[]);
    work(&mut net, 110, 10);
    net.run_until("and again", |net| is_empty(net, 3) && has_all(net, 2, 120));
    assert!(net.evidence.is_empty() && net.refused.is_empty(), "{:?}", net.evidence);
}
