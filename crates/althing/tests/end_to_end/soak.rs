//! One replica after the other is faulty, each second another one in another way, while clients work.
//! No correct client sees an error, and the memory of the replicas stays what it was.

use super::load::{CLIENTS, Group, Load, block_on, make, resident};
use althing_node::control::Fault;
use althing_replica::Durability;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A fault comes, goes, and the next one comes.
const PERIOD: Duration = Duration::from_secs(1);

/// How long a fault lasts.
const FAULTY: Duration = Duration::from_millis(600);

/// Faults after which clients go on to other keys.
const FAULTS_PER_KEYS: u32 = 3;

/// What a replica is in its turn; `None`: it is killed.
const KINDS: [Option<Fault>; 5] =
    [None, Some(Fault::Lie), Some(Fault::Mute), Some(Fault::Equivocate), Some(Fault::Delay { ms: 40 })];

/// Memory may grow by this much from the second quarter of a soak to the last one: buffers reach their
/// sizes late, but what leaks does not stop at a tenth.
const GROWTH: f64 = 1.1;

/// Has so many faults come and go; returns the memory of all replicas together after each, in KiB.
async fn soak(faults: u32) -> Vec<u64> {
    let group = Group::start(Durability::Sync).await;
    let names = group.names();
    let mut load = Load::start(&group).await;
    load.progress(1).await;
    let started = Instant::now();
    let mut memory = Vec::new();
    for turn in 0..faults {
        let place = turn as usize;
        let name = &names[place % names.len()];
        let kind = KINDS[place / names.len() % KINDS.len()];
        match kind {
            Some(fault) => make(&group, name, fault).await,
            None => group.kill(std::slice::from_ref(name)).await,
        }
        sleep_until(started + PERIOD * turn + FAULTY).await;
        match kind {
            Some(_) => make(&group, name, Fault::None).await,
            None => group.restart(std::slice::from_ref(name)).await,
        }
        // It serves again, and with it the whole group, before another one is faulty.
        group.until(name, "there again", |report| report.is_voting && !report.is_transferring).await;
        load.progress(1).await;
        let mut sum = 0;
        for name in &names {
            sum += resident(group.until(name, "there", |_| true).await.pid);
        }
        memory.push(sum);
        if turn % FAULTS_PER_KEYS == 0 {
            load.turn_to_other_keys();
        }
        sleep_until(started + PERIOD * (turn + 1)).await;
    }
    let (operations, elapsed) = (load.done(), load.elapsed());
    load.judge(&group.client(CLIENTS).await).await;
    println!("{faults} faults, {operations} operations in {elapsed:?}");
    memory
}

#[test]
fn a_fault_each_second_is_seen_by_no_client() {
    block_on(async { drop(soak(20).await) });
}

/// As above, for ten minutes: `just soak`.
#[test]
#[ignore = "takes ten minutes"]
fn ten_minutes_with_a_fault_each_second() {
    block_on(async {
        let memory = soak(600).await;
        let most = |part: &[u64]| part.iter().copied().max().expect("some were taken");
        let by_minute: Vec<_> = memory.chunks(60).map(most).collect();
        println!("memory of all replicas in each minute, in KiB at most: {by_minute:?}");
        let (early, late) = (most(&memory[150..300]), most(&memory[450..]));
        assert!(late as f64 <= early as f64 * GROWTH, "{early} KiB became {late} KiB");
    });
}
