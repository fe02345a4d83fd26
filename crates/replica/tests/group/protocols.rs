//! From one epoch to the next: a group changes from one protocol to the other while it works, and back.

use crate::net::{Net, Settings, member};
use crate::reconfiguration::{all_in, change, command, first_membership, has_all, pbft_settings, work};
use althing_protocol::AnyProtocol;
use althing_protocol::Settings as Agreed;
use althing_protocol::paxos::PaxosSettings;
use althing_replica::membership::{Change, MembershipError, Refusal};
use althing_replica::*;
use althing_types::{Epoch, FaultModel, Quorums, ReplicaId, View};

const R: fn(u16) -> ReplicaId = ReplicaId;

fn pbft() -> Agreed {
    Agreed::Pbft(pbft_settings())
}

/// Its checkpoints lie elsewhere.
fn paxos() -> Agreed {
    Agreed::Paxos(PaxosSettings { checkpoint_period: 6, log_size: 18, ..PaxosSettings::default() })
}

fn set(settings: Agreed) -> [Change; 1] {
    [Change::Settings(settings)]
}

/// A group of `n` that stands as many faults as it can, and starts with these settings.
fn group(n: usize, agreed: Agreed) -> Net<AnyProtocol> {
    let most = match agreed.fault_model() {
        FaultModel::Byzantine => (n - 1) / 3,
        FaultModel::Crash => (n - 1) / 2,
    };
    let quorums = agreed.quorums(n, most).expect("they stand that");
    let settings = Settings { quorums, ..Settings::new(n) };
    let membership = first_membership(&settings, agreed.clone());
    Net::with_members(settings, Some(membership), move |id, quorums: Quorums| {
        // Where a file of a later epoch is of the other protocol, the successor for it takes over.
        let quorums = agreed.quorums(quorums.n(), 0).expect("any group stands no faults");
        AnyProtocol::new(id, quorums, &agreed).expect("good settings")
    })
}

fn all_go_by(net: &Net<AnyProtocol>, machines: &[u16], settings: &Agreed) -> bool {
    machines.iter().all(|id| net.settings(*id).as_ref() == Some(settings))
}

fn votes(net: &Net<AnyProtocol>, machine: u16) -> bool {
    net.protocol_of(machine).is_voting()
}

#[test]
fn a_group_goes_from_pbft_to_paxos_and_back_as_often_as_it_likes() {
    let mut net = group(5, pbft());
    work(&mut net, 0, 5);
    for (epoch, settings, f) in [(0, paxos(), 2), (1, pbft(), 1), (2, paxos(), 1), (3, pbft(), 1)] {
        let next = change(&mut net, command(epoch, f, &set(settings.clone())), &[]);
        assert_eq!((next.f, next.settings), (f, settings.clone()));
        work(&mut net, 5 + 20 * epoch as u32, 20);
        net.run_until("all are there", |net| all_in(net, &[0, 1, 2, 3, 4], epoch + 1));
        assert!(all_go_by(&net, &[0, 1, 2, 3, 4], &settings));
    }
    assert!((0..5).all(|id| has_all(&net, id, 85)));
    assert!(net.evidence.is_empty(), "{:?}", net.evidence);
}

#[test]
fn a_group_of_one_has_either_protocol() {
    let mut net = group(1, pbft());
    for (epoch, settings) in [(0, paxos()), (1, pbft())] {
        change(&mut net, command(epoch, 0, &set(settings.clone())), &[]);
        work(&mut net, 20 * epoch as u32, 20);
        net.run_until("it is there", |net| all_in(net, &[0], epoch + 1));
        assert!(all_go_by(&net, &[0], &settings));
    }
}

#[test]
fn five_that_run_paxos_go_on_without_two_and_no_longer_once_they_run_pbft() {
    let mut net = group(5, pbft());
    change(&mut net, command(0, 2, &set(paxos())), &[]);
    work(&mut net, 0, 10);
    net.run_until("all are there", |net| all_in(net, &[0, 1, 2, 3, 4], 1));
    net.stop(R(0));
    net.stop(R(1));
    work(&mut net, 10, 10);
    assert!(net.status(2).view > View(0), "the leader was one of them");
    // What a majority of those that crash can sign is enough to go back, and four are enough after that.
    net.reconfigure(1, command(1, 1, &set(pbft()))).expect("it is allowed");
    net.run_until("three are there", |net| all_in(net, &[2, 3, 4], 2));
    net.restart_from_disk(R(0));
    work(&mut net, 20, 10);
    net.run_until("four agree", |net| all_in(net, &[0, 2, 3, 4], 2));
    assert!(has_all(&net, 0, 30));
}

#[test]
fn faults_that_the_other_protocol_does_not_stand_are_refused_by_its_own_rule() {
    let mut net = group(5, pbft());
    let refused = |f, model| Err(Refusal::Invalid(MembershipError::Size { n: 5, f, model }));
    assert_eq!(net.reconfigure(0, command(0, 3, &set(paxos()))), refused(3, FaultModel::Crash));
    change(&mut net, command(0, 2, &set(paxos())), &[]);
    net.run_until("all are there", |net| all_in(net, &[0, 1, 2, 3, 4], 1));
    assert_eq!(net.reconfigure(1, command(1, 2, &set(pbft()))), refused(2, FaultModel::Byzantine));
    let said = refused(2, FaultModel::Byzantine).unwrap_err().to_string();
    assert_eq!(said, "5 replicas do not make a group that tolerates 2 Byzantine fault(s): it takes 7 to 100");
    work(&mut net, 0, 10);
    assert!(all_go_by(&net, &[0, 1, 2, 3, 4], &paxos()));
}

#[test]
fn the_members_of_a_group_that_runs_paxos_change() {
    let mut net = group(3, paxos());
    work(&mut net, 0, 5);
    change(&mut net, command(0, 1, &[Change::Add(member(3))]), &[3]);
    work(&mut net, 5, 10);
    net.run_until("four agree", |net| all_in(net, &[0, 1, 2, 3], 1));
    // The leader's place is taken by another machine.
    net.stop(R(0));
    change(&mut net, command(1, 1, &[Change::Replace(R(0), member(9))]), &[9]);
    work(&mut net, 15, 10);
    net.run_until("the new one agrees", |net| all_in(net, &[9, 1, 2, 3], 2));
    change(&mut net, command(2, 1, &[Change::Remove(R(1))]), &[]);
    work(&mut net, 25, 10);
    net.run_until("three agree", |net| all_in(net, &[9, 2, 3], 3));
    net.run_until("the one that left knows it", |net| net.is_retired(1));
    net.restart_from_disk(R(0));
    net.run_until("so does who slept", |net| net.is_retired(0));
    // With one of three gone the new one has to vote.
    net.stop(R(2));
    work(&mut net, 35, 10);
    assert!(has_all(&net, 9, 45));
    assert!(net.evidence.is_empty(), "{:?}", net.evidence);
}

#[test]
fn with_three_that_run_paxos_none_may_leave_at_once() {
    let mut net = group(3, paxos());
    let refused = Err(Refusal::TooManyLeave { leaving: 1, most: 0 });
    assert_eq!(net.reconfigure(0, command(0, 1, &[Change::Replace(R(0), member(9))])), refused);
}

#[test]
fn who_slept_through_protocols_is_shown_the_way_and_so_is_who_joins_the_other_one() {
    let mut net = group(4, pbft());
    work(&mut net, 0, 3);
    net.stop(R(3));
    change(&mut net, command(0, 1, &set(paxos())), &[]);
    work(&mut net, 3, 10);
    change(&mut net, command(1, 1, &set(pbft())), &[]);
    work(&mut net, 13, 10);
    change(&mut net, command(2, 1, &[Change::Add(member(4)), set(paxos())[0].clone()]), &[4]);
    work(&mut net, 23, 10);
    net.restart_from_disk(R(3));
    net.run_until("all are there", |net| all_in(net, &[0, 1, 2, 3, 4], 3));
    assert!(all_go_by(&net, &[0, 1, 2, 3, 4], &paxos()));
    assert!(has_all(&net, 3, 33) && has_all(&net, 4, 33));
}

#[test]
fn the_protocol_of_an_epoch_outlasts_restarts_and_lost_disks() {
    for (first, second) in [(pbft(), paxos()), (paxos(), pbft())] {
        let mut net = group(4, first);
        work(&mut net, 0, 3);
        change(&mut net, command(0, 1, &set(second.clone())), &[]);
        work(&mut net, 3, 30);
        net.run_until("all are there", |net| all_in(net, &[0, 1, 2, 3], 1));
        (0..4).for_each(|id| net.stop(R(id)));
        (0..4).for_each(|id| net.restart_from_disk(R(id)));
        assert!(all_go_by(&net, &[0, 1, 2, 3], &second), "the log names it");
        work(&mut net, 33, 5);
        net.stop(R(2));
        net.start(R(2), Startup::Amnesia);
        assert!(!votes(&net, 2));
        net.run_until("it has learnt and votes", |net| votes(net, 2) && all_in(net, &[0, 1, 2, 3], 1));
        assert!(all_go_by(&net, &[2], &second) && has_all(&net, 2, 38));
    }
}

/// Power fails at all of them where the end of the epoch is on no disk yet, and at some once it is.
#[test]
fn power_failures_in_the_middle_of_the_change_lose_nothing() {
    for (first, second) in [(pbft(), paxos()), (paxos(), pbft())] {
        for steps in (0..400).step_by(23) {
            let mut net = group(4, first.clone());
            work(&mut net, 0, 3);
            net.slow_disks.extend((0..4).map(R));
            net.submit_command(1, command(0, 1, &set(second.clone())));
            net.take_steps(steps);
            net.finish_keeping(R(1));
            net.take_steps(7);
            (0..4).for_each(|id| net.stop(R(id)));
            net.lose_all_under_way();
            net.slow_disks.clear();
            (0..4).for_each(|id| net.restart_from_disk(R(id)));
            net.run_until("all are there", |net| all_in(net, &[0, 1, 2, 3], 1));
            work(&mut net, 3, 10);
            assert!(all_go_by(&net, &[0, 1, 2, 3], &second), "after {steps} steps");
            assert!((0..4).all(|id| has_all(&net, id, 13)));
        }
    }
}

/// In an epoch of PBFT it votes by its records, in doubt. Where nobody is to lie there is none.
#[test]
fn who_doubts_its_disk_where_paxos_runs_goes_by_it() {
    let mut net = group(4, pbft());
    change(&mut net, command(0, 1, &set(paxos())), &[]);
    work(&mut net, 0, 10);
    net.run_until("all are there", |net| all_in(net, &[0, 1, 2, 3], 1));
    let Startup::Recovered { records, kept } = net.open_disk(R(3)) else { panic!("it has a disk") };
    net.stop(R(3));
    let (replica, mut kept) = (net.unstarted(R(3)), kept);
    assert!(replica.is_sound(&records, kept.as_mut()));
    let mut broken = records.clone();
    broken.last_mut().expect("there are some").push(0);
    assert!(!replica.is_sound(&broken, kept.as_mut()), "what can't be read is no record of its own");
    net.start(R(3), Startup::Recovering(Remains { records: Some(records), kept }));
    net.run_until("it votes", |net| votes(net, 3) && net.membership(3).epoch == Epoch(1));
    // With another one down that is needed.
    net.stop(R(0));
    work(&mut net, 10, 10);
    net.restart_from_disk(R(0));
    net.run_until("all are there", |net| all_in(net, &[0, 1, 2, 3], 1));
    assert!(has_all(&net, 3, 20));
    // Where the group runs PBFT again nothing is left to doubt.
    change(&mut net, command(1, 1, &set(pbft())), &[]);
    work(&mut net, 20, 10);
    net.run_until("all are there", |net| all_in(net, &[0, 1, 2, 3], 2));
    assert!(votes(&net, 3) && net.protocol_of(3).is_settled());
}

/// Its former self may have come to the next epoch before its disk was lost.
#[test]
fn who_has_forgotten_does_so_across_protocols() {
    let mut net = group(4, paxos());
    work(&mut net, 0, 3);
    net.stop(R(3));
    net.start(R(3), Startup::Amnesia);
    change(&mut net, command(0, 1, &set(pbft())), &[]);
    net.run_until("all are there", |net| (0..4).all(|id| net.membership(id).epoch == Epoch(1)));
    assert!(!votes(&net, 3), "it does not know what it has said");
    work(&mut net, 3, 10);
    net.run_until("it votes", |net| votes(net, 3) && all_in(net, &[0, 1, 2, 3], 1));
    assert!(all_go_by(&net, &[3], &pbft()) && has_all(&net, 3, 13));
}
