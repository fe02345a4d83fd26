//! Replicas that recover in turn under load, as processes: each becomes a fresh image of the binary.

use super::load::{CLIENTS, Group, Load, PATIENCE, block_on};
use super::process::run;
use althing_node::GroupClient;
use althing_node::control::ReplicaReport;
use althing_node::log::Files;
use althing_replica::Durability;
use althing_replica::storage::begin_recovery;
use althing_services::{KvOperation, KvResult};
use std::time::{Duration, Instant};

/// The time in which each replica recovers once.
const EVERY: Duration = Duration::from_secs(24);

/// Keys that nobody else writes, spread over the store's pages.
const OWN_KEYS: u64 = 300;

/// The length of their values in bytes.
const VALUE: usize = 400;

/// Bits that go bad, at most, until one shows.
const MOST_BITS: u8 = 20;

/// Operations after which clients go on to other keys.
const OPERATIONS_PER_KEYS: u64 = 200;

async fn write_own_keys(client: &GroupClient, round: u8) {
    for key in 0..OWN_KEYS {
        let key = format!("own-{key}").into_bytes();
        let operation = KvOperation::Put { key, value: vec![round; VALUE] };
        let answer = client.invoke_within(operation.encode(), PATIENCE).await.expect("an answer");
        assert_eq!(KvResult::decode(&answer.result).expect("a result of the store"), KvResult::Stored);
    }
}

fn corrupt(group: &Group, name: &str, spot: &str) {
    let directory = group.deployment.directory().to_str().expect("a path in words").to_owned();
    let output = run(["inject", "--dir", &directory, name, "corrupt", spot]);
    assert!(output.status.success(), "{output:?}");
}

/// Where nobody recovers, a bit that went bad in memory is found only once its page is written, and not even then
/// where the bit itself is written over.
async fn corruption_shows(group: &Group, own: &GroupClient) {
    write_own_keys(own, 0).await;
    let name = &group.names()[3];
    for round in 1..=MOST_BITS {
        corrupt(group, name, "memory");
        write_own_keys(own, round).await;
        let reached = group.until(&group.names()[0], "up", |_| true).await.executed;
        write_own_keys(own, round).await;
        let report = group.until(name, "past a checkpoint", |report| report.stable >= reached).await;
        if report.counters.divergences > 0 {
            return;
        }
    }
    panic!("{MOST_BITS} bits went bad, and nothing showed");
}

fn began(report: &ReplicaReport) -> u64 {
    report.recovery.map_or(0, |recovery| recovery.began_ns)
}

/// Waits until each replica has recovered once more, and gives their reports and the longest that a client
/// waited meanwhile.
async fn recoveries(group: &Group, load: &mut Load, since: &[u64]) -> (Vec<ReplicaReport>, Duration) {
    load.take_slowest();
    let mut reports = Vec::new();
    let started = Instant::now();
    for (name, since) in group.names().iter().zip(since) {
        loop {
            load.progress(OPERATIONS_PER_KEYS).await;
            load.turn_to_other_keys();
            let report = group.until(name, "up", |_| true).await;
            if began(&report) > *since {
                reports.push(report);
                break;
            }
            assert!(started.elapsed() < EVERY * 6, "{name} has not recovered: {report:#?}");
        }
    }
    (reports, load.take_slowest())
}

/// A page goes bad on disk between the end of a replica and its recovery: while it runs it may write that page again. The
/// others go on meanwhile, so that it has to fetch what it can't believe.
async fn recover_from_corrupt_disk(group: &Group, load: &mut Load, name: &str) -> ReplicaReport {
    let alone = [name.to_owned()];
    group.kill(&alone).await;
    let mut disk = Files::open(group.deployment.data_directory(name)).expect("its disk");
    begin_recovery(&mut disk).expect("its disk can be written to");
    drop(disk);
    corrupt(group, name, "disk");
    load.progress(OPERATIONS_PER_KEYS).await;
    load.turn_to_other_keys();
    group.restart(&alone).await;
    group.until(name, "right again", |report| report.is_voting && report.recovery.is_some()).await
}

#[test]
fn each_replica_recovers_in_its_turn_while_clients_work_and_what_went_bad_is_right_again() {
    block_on(async {
        // What clients have to wait for where nobody recovers.
        let calm = Group::start(Durability::Sync).await;
        let mut load = Load::start(&calm).await;
        while load.elapsed() < EVERY {
            load.progress(OPERATIONS_PER_KEYS).await;
            load.turn_to_other_keys();
        }
        let (baseline, calm_operations) = (load.take_slowest(), load.done());
        let last = calm.client(CLIENTS).await;
        load.judge(&last).await;
        corruption_shows(&calm, &last).await;
        drop(calm);

        let group = Group::start_recovering(Durability::Sync, EVERY.as_millis() as u64).await;
        let names = group.names();
        let own = group.client(CLIENTS).await;
        write_own_keys(&own, 1).await;
        let mut load = Load::start(&group).await;
        let (first, stall) = recoveries(&group, &mut load, &[0; 4]).await;
        for report in &first {
            let bytes = report.counters.transferred_bytes;
            assert!(bytes < OWN_KEYS * VALUE as u64, "its disk was right: {report:#?}");
        }

        // One has a bit of its state go bad in memory, and another one on disk.
        corrupt(&group, &names[1], "memory");
        let since: Vec<_> = first.iter().map(began).collect();
        let (second, stall_with_corruption) = recoveries(&group, &mut load, &since).await;
        let healed = recover_from_corrupt_disk(&group, &mut load, &names[2]).await;
        let fetched = healed.counters.transferred_bytes;
        assert!(0 < fetched && fetched < OWN_KEYS * VALUE as u64, "it had all but a page: {healed:#?}");

        write_own_keys(&own, 2).await;
        let reached = group.until(&names[0], "up", |_| true).await.executed;
        write_own_keys(&own, 3).await;
        for name in &names {
            let is_right = |r: &ReplicaReport| r.stable >= reached && r.counters.divergences == 0;
            group.until(name, "right at a checkpoint after all pages were written", is_right).await;
        }
        for report in first.iter().chain(&second) {
            let recovery = report.recovery.expect("it has recovered");
            println!(
                "{}: silent for {} ms, recovered in {} ms, {} bytes fetched, window {:?} ms",
                report.name,
                recovery.silent_ms,
                recovery.took_ms,
                report.counters.transferred_bytes,
                report.vulnerable_ms
            );
        }
        println!(
            "longest wait of a client: {baseline:?} in {calm_operations} operations without recoveries; \
             {stall:?} and {stall_with_corruption:?} in {} operations with them",
            load.done()
        );
        load.judge(&own).await;
    });
}
