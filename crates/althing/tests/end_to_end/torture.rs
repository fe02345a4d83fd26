//! Replicas are killed (SIGKILL) while clients work: one, some, or all at once, also while they start.
//! Whatever a client was told before has to be true afterwards.

use super::load::{CLIENTS, Group, Load, PATIENCE, block_on};
use althing_node::{GroupClient, InvokeError};
use althing_replica::Durability;
use althing_services::{KvOperation, KvResult};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::time::Duration;
use tokio::time::sleep;

/// Kills after which clients go on to other keys.
const CYCLES_PER_KEYS: u64 = 5;

/// Operations that have to be done between one kill and the next.
const PROGRESS: u64 = 20;

/// Starts that are cut off, in percent.
const CUT_OFF_STARTS: u64 = 20;

/// A part of them, never none, and often all.
fn some_of(names: &[String], dice: &mut ChaCha8Rng) -> Vec<String> {
    let mask = match dice.next_u64() % 4 {
        0 => u64::MAX,
        _ => 1 + dice.next_u64() % ((1 << names.len()) - 1),
    };
    let chosen = names.iter().enumerate().filter(|(place, _)| mask & 1 << place != 0);
    chosen.map(|(_, name)| name.clone()).collect()
}

async fn pause(dice: &mut ChaCha8Rng, most_ms: u64) {
    sleep(Duration::from_millis(dice.next_u64() % most_ms)).await;
}

/// The power fails at these machines, as far as their replicas can tell: the run of the system in which
/// they wrote their logs is over.
fn reboot(group: &Group, names: &[String]) {
    for name in names {
        let cached = group.deployment.data_directory(name).join("cached");
        assert!(cached.exists(), "{} says since when the system is up", cached.display());
        std::fs::write(cached, "an earlier run").expect("the mark can be written");
    }
}

/// Kills random replicas `cycles` times under load, and judges what clients saw.
async fn torture(group: Group, cycles: u64, seed: u64) {
    let names = group.names();
    let mut load = Load::start(&group).await;
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let (mut kills, mut all_at_once) = (0, 0);
    for cycle in 0..cycles {
        load.progress(PROGRESS).await;
        if cycle % CYCLES_PER_KEYS == 0 {
            load.turn_to_other_keys();
        }
        pause(&mut dice, 300).await;
        let victims = some_of(&names, &mut dice);
        group.kill(&victims).await;
        pause(&mut dice, 100).await;
        group.restart(&victims).await;
        if dice.next_u64() % 100 < CUT_OFF_STARTS {
            pause(&mut dice, 60).await;
            group.kill(&victims).await;
            group.restart(&victims).await;
            kills += victims.len();
        }
        kills += victims.len();
        all_at_once += usize::from(victims.len() == names.len());
    }
    for name in &names {
        group.until(name, "a voter again", |report| report.is_voting && !report.is_transferring).await;
    }
    let (operations, elapsed) = (load.done(), load.elapsed());
    load.judge(&group.client(CLIENTS).await).await;
    println!(
        "{cycles} cycles, {kills} kills, {all_at_once} times all replicas at once, {operations} operations, {elapsed:?}"
    );
}

#[test]
fn nothing_acknowledged_is_lost_when_replicas_are_killed() {
    block_on(async { torture(Group::start(Durability::Sync).await, 10, 1).await });
}

#[test]
fn nothing_acknowledged_is_lost_when_replicas_that_do_not_sync_are_killed() {
    block_on(async { torture(Group::start(Durability::Async).await, 6, 2).await });
}

#[test]
fn nothing_acknowledged_is_lost_when_replicas_that_do_not_lie_are_killed() {
    block_on(async { torture(Group::start_paxos(Durability::Sync).await, 10, 5).await });
}

/// The leader is killed again and again, and the two others go on meanwhile.
#[test]
fn two_of_three_go_on_without_their_leader() {
    block_on(async {
        let group = Group::start_paxos(Durability::Sync).await;
        let names = group.names();
        let mut load = Load::start(&group).await;
        for round in 0..3 {
            load.progress(PROGRESS).await;
            load.turn_to_other_keys();
            let view = group.until(&names[round], "in a view", |report| report.is_in_view).await.view;
            let leader = &names[usize::try_from(view).expect("few views") % names.len()];
            group.kill(std::slice::from_ref(leader)).await;
            load.progress(PROGRESS).await;
            group.restart(std::slice::from_ref(leader)).await;
            group.until(leader, "a voter again", |report| report.is_voting && report.view > view).await;
        }
        let operations = load.done();
        load.judge(&group.client(CLIENTS).await).await;
        println!("{operations} operations, and three leaders killed");
    });
}

/// As the two before it, for longer: `just torture`.
#[test]
#[ignore = "takes minutes"]
fn two_hundred_kills() {
    block_on(async { torture(Group::start(Durability::Sync).await, 200, 3).await });
}

/// As above, without waiting for the disk.
#[test]
#[ignore = "takes minutes"]
fn two_hundred_kills_without_syncs() {
    block_on(async { torture(Group::start(Durability::Async).await, 200, 4).await });
}

async fn put(client: &GroupClient, value: &str) -> Result<KvResult, InvokeError> {
    let operation = KvOperation::Put { key: b"key".to_vec(), value: value.into() };
    let answer = client.invoke_within(operation.encode(), PATIENCE).await?;
    Ok(KvResult::decode(&answer.result).expect("a result of the store"))
}

#[test]
fn without_syncs_one_machine_may_lose_its_power_and_if_all_do_the_group_stops() {
    block_on(async {
        let group = Group::start(Durability::Async).await;
        let names = group.names();
        let client = group.client(0).await;
        assert_eq!(put(&client, "before").await.expect("an answer"), KvResult::Stored);
        group.kill(&names[1..2]).await;
        reboot(&group, &names[1..2]);
        group.restart(&names[1..2]).await;
        assert_eq!(put(&client, "during").await.expect("an answer"), KvResult::Stored);
        group.until(&names[1], "a voter again", |report| report.is_voting && !report.is_transferring).await;
        group.kill(&names).await;
        reboot(&group, &names);
        group.restart(&names).await;
        for name in &names {
            group.until(name, "a learner", |report| !report.is_voting).await;
        }
        // It does not guess what it once said, and clients are told nothing rather than something wrong.
        let read = KvOperation::Get { key: b"key".to_vec() };
        let answer = client.invoke_within(read.encode(), Duration::from_secs(3)).await;
        assert!(matches!(answer, Err(InvokeError::TimedOut { .. })), "{answer:?}");
    });
}
