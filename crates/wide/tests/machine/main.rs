//! Logical machines, hand-driven and in small systems with real keys.

mod ahead;
mod checks;
mod distrust;
mod parcels;
mod presumed;
mod register;
mod shadow;
mod system;
mod vouching;
mod window;

use althing_protocol::Replicable;
use althing_protocol::paxos::{Paxos, PaxosConfig, PaxosSettings};
use althing_protocol::pbft::{Pbft, PbftConfig, PbftSettings};
use althing_types::{Quorums, ReplicaId, Seq, SiteId};
use althing_wide::{Dissemination, Treachery};
use std::time::Duration;
use system::{Setting, System, resident};

const CHECKPOINT_PERIOD: u64 = 4;

fn paxos(me: ReplicaId, sites: Quorums) -> Paxos {
    let settings = PaxosSettings {
        checkpoint_period: CHECKPOINT_PERIOD,
        log_size: 4 * CHECKPOINT_PERIOD,
        separate_bytes: 1,
        view_timeout: Duration::from_secs(1),
        status_period: Duration::from_millis(200),
        ..PaxosSettings::default()
    };
    Paxos::new(PaxosConfig::new(me, sites, settings).expect("valid settings"))
}

fn pbft(me: ReplicaId, sites: Quorums) -> Pbft {
    let settings = PbftSettings {
        checkpoint_period: CHECKPOINT_PERIOD,
        log_size: 4 * CHECKPOINT_PERIOD,
        separate_bytes: 1,
        tentative_requests: 0,
        piggyback_commits: false,
        primary_slack: 0,
        primary_passes: 0,
        view_timeout: Duration::from_secs(1),
        status_period: Duration::from_millis(200),
        ..PbftSettings::default()
    };
    Pbft::new(PbftConfig::new(me, sites, settings).expect("valid settings"))
}

fn setting(sites: Quorums, dissemination: Dissemination) -> Setting {
    Setting { sites, dissemination, max_unacknowledged_bytes: 3000 }
}

const ORIGIN: Dissemination =
    Dissemination::Origin { slots: 2, most_bytes: 2000, window_bytes: 100_000, is_vouching: false };
const VOUCHED: Dissemination =
    Dissemination::Origin { slots: 2, most_bytes: 2000, window_bytes: 100_000, is_vouching: true };

/// A site is cut off until it has to be brought up, then the leading one until another leads. Every operation is
/// also executed by a machine that was just brought to the state before it, and by one that was behind
/// (`shadow.rs`): whatever goes on meanwhile, they do the same.
fn who_is_brought_to_a_state_goes_on_as_the_original<W: Replicable>(
    setting: Setting,
    make: fn(ReplicaId, Quorums) -> W,
) {
    let last = SiteId(u16::try_from(setting.sites.n() - 1).expect("few sites"));
    let mut system = System::new(setting.clone(), make);
    system.run(600);
    let before = system.machine(last).executed();
    assert!(before.0 > 0, "updates are executed");
    system.cut(last, true);
    system.run(2500);
    system.cut(last, false);
    system.run(1500);
    assert!(system.machine(last).installed() > before, "it was brought to a state of the others");
    let view = system.machine(last).view();
    let leader = SiteId(setting.sites.primary(view).0);
    let other = setting.sites().find(|site| *site != leader).expect("there are several");
    system.cut(leader, true);
    system.run(2500);
    assert!(system.machine(other).view() > view, "another site leads");
    system.cut(leader, false);
    system.run(1500);
    system.fall_silent();
    let is_even = |system: &System<W>| {
        let clients = || setting.sites().flat_map(|site| [0, 1].map(|index| resident(site, index)));
        setting.sites().all(|site| {
            let service = system.machine(site).service();
            clients().all(|client| service.said(client).len() as u64 == system.answered[&client])
        })
    };
    let even = (0..60).any(|_| {
        system.run(200);
        is_even(&system)
    });
    assert!(even, "every site knows what every client was answered");
    let count = &system.count;
    let least = [count.deferred, count.incoming, count.expired, count.fetched].into_iter().min();
    assert!(least > Some(3) && count.suspected > 0, "too little went on: {count:?}");
}

#[test]
fn brought_to_a_state_with_paxos_and_the_leader_disseminating() {
    let sites = Quorums::crash(3, 1).expect("valid");
    who_is_brought_to_a_state_goes_on_as_the_original(setting(sites, Dissemination::Leader), paxos);
}

#[test]
fn brought_to_a_state_with_paxos_and_all_disseminating() {
    let sites = Quorums::crash(3, 1).expect("valid");
    who_is_brought_to_a_state_goes_on_as_the_original(setting(sites, ORIGIN), paxos);
}

#[test]
fn brought_to_a_state_with_pbft_and_the_leader_disseminating() {
    let sites = Quorums::byzantine(4, 1).expect("valid");
    who_is_brought_to_a_state_goes_on_as_the_original(setting(sites, Dissemination::Leader), pbft);
}

#[test]
fn brought_to_a_state_with_pbft_and_all_disseminating() {
    let sites = Quorums::byzantine(4, 1).expect("valid");
    who_is_brought_to_a_state_goes_on_as_the_original(setting(sites, ORIGIN), pbft);
}

#[test]
fn brought_to_a_state_with_pbft_and_all_answering_for_their_clients() {
    let sites = Quorums::byzantine(4, 1).expect("valid");
    who_is_brought_to_a_state_goes_on_as_the_original(setting(sites, VOUCHED), pbft);
}

/// Whoever is brought to a state, or was behind, betrays the others just as the original does (`shadow.rs`), and ends it
/// at the same operation.
#[test]
fn a_site_that_is_taken_over_stays_one_machine_and_is_honest_again_when_it_is_let_go() {
    let sites = Quorums::byzantine(4, 1).expect("valid");
    let mut system = System::new(setting(sites, ORIGIN), pbft);
    let taken = SiteId(2);
    system.run(600);
    let treachery =
        Treachery { from: Seq(0), seed: 7, contradicts: 500, keeps_silent: 100, is_deaf_to: None };
    system.take_over(taken, Some(treachery));
    let accused = |system: &System<Pbft>| {
        let others = system.setting().sites().filter(|site| *site != taken);
        let evidence = others.flat_map(|site| system.machine(site).evidence().to_vec());
        evidence.filter(|it| it.accused == ReplicaId(taken.0)).count()
    };
    let is_caught = (0..60).any(|_| {
        system.run(200);
        accused(&system) > 0
    });
    assert!(is_caught && system.machine(taken).is_taken_over(), "the others see that it contradicts itself");
    system.take_over(taken, None);
    system.run(400);
    assert!(!system.machine(taken).is_taken_over());
    // What it said before has to arrive.
    system.run(1500);
    let before = (accused(&system), system.machine(taken).executed());
    system.run(2000);
    assert_eq!(accused(&system), before.0, "it says nothing wrong any more");
    assert!(system.machine(taken).executed() > before.1, "it goes on with the others");
}
