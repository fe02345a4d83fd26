//! A group that runs the key-value store, over real sockets, with real disks.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use althing_node::config::{ProtocolKind, RawService};
use althing_node::control::{Fault, ReplicaCounters as Counters, Request, Response, Role};
use althing_node::deployment::{ServiceGroup, provision_service};
use althing_node::{GroupClient, InvokeError};
use althing_replica::Durability;
use althing_services::{KvOperation, KvResult};
use common::{Cluster, PATIENCE, directory, quick, show_logs};

fn group(n: usize, f: usize) -> ServiceGroup {
    ServiceGroup {
        name: "store".to_owned(),
        n,
        f,
        protocol: ProtocolKind::Pbft,
        durability: Durability::Sync,
        service: RawService::Kv,
        clients: 2,
        sessions: 1,
    }
}

fn start(path: &std::path::Path) -> Cluster {
    show_logs();
    Cluster::start(provision_service(path, &group(4, 1), &quick()).unwrap())
}

async fn ask(client: &GroupClient, operation: KvOperation) -> KvResult {
    let answer = client.invoke_within(operation.encode(), PATIENCE).await.unwrap();
    KvResult::decode(&answer.result).unwrap()
}

async fn put(client: &GroupClient, key: &str, value: &str) -> KvResult {
    ask(client, KvOperation::Put { key: key.into(), value: value.into() }).await
}

async fn get(client: &GroupClient, key: &str) -> KvResult {
    ask(client, KvOperation::Get { key: key.into() }).await
}

fn value(text: &str) -> KvResult {
    KvResult::Value(Some(text.as_bytes().to_vec()))
}

#[tokio::test]
async fn puts_gets_and_swaps() {
    let (_directory, path) = directory();
    let cluster = start(&path);
    let client = cluster.client("client-0").await;
    assert_eq!(put(&client, "colour", "red").await, KvResult::Stored);
    assert_eq!(get(&client, "colour").await, value("red"));
    let swap = |expected: &str, new: &str| KvOperation::Cas {
        key: b"colour".to_vec(),
        expected: Some(expected.as_bytes().to_vec()),
        new: Some(new.as_bytes().to_vec()),
    };
    assert_eq!(ask(&client, swap("red", "blue")).await, KvResult::Stored);
    let mismatch = KvResult::Mismatch { actual: Some(b"blue".to_vec()) };
    assert_eq!(ask(&client, swap("red", "green")).await, mismatch);
    let read = KvOperation::Get { key: b"colour".to_vec() }.encode();
    let read = client.query_within(read, PATIENCE).await.unwrap();
    assert_eq!(KvResult::decode(&read.result).unwrap(), value("blue"));
}

#[tokio::test]
async fn goes_on_without_its_primary_which_comes_back_empty_and_votes_again() {
    let (_directory, path) = directory();
    let mut cluster = start(&path);
    let client = cluster.client("client-0").await;
    put(&client, "before", "1").await;
    cluster.stop("store-0");
    assert_eq!(put(&client, "during", "2").await, KvResult::Stored);
    cluster.restart("store-0", true);
    cluster.wait_for("store-0", "a voter again", |r| r.is_voting && !r.is_transferring && r.stable > 0).await;
    cluster.stop("store-1");
    // Now every vote of the replica that came back is needed.
    for i in 0..20 {
        assert_eq!(put(&client, &format!("after-{i}"), "3").await, KvResult::Stored);
    }
    for (key, expected) in [("before", "1"), ("during", "2"), ("after-19", "3")] {
        assert_eq!(get(&client, key).await, value(expected));
    }
    let report = cluster.report("store-0").await.unwrap();
    assert!(report.counters.transfers > 0 || report.executed > 0, "{report:#?}");
}

#[tokio::test]
async fn a_whole_group_comes_back_from_its_disks() {
    let (_directory, path) = directory();
    let mut cluster = start(&path);
    let client = cluster.client("client-0").await;
    for i in 0..30 {
        put(&client, &format!("key-{i}"), "kept").await;
    }
    let names = ["store-0", "store-1", "store-2", "store-3"];
    names.iter().for_each(|name| cluster.stop(name));
    names.iter().for_each(|name| cluster.restart(name, false));
    for i in 0..30 {
        assert_eq!(get(&client, &format!("key-{i}")).await, value("kept"));
    }
}

#[tokio::test]
async fn one_faulty_replica_of_any_kind_changes_no_answer() {
    let (_directory, path) = directory();
    let cluster = start(&path);
    let client = cluster.client("client-0").await;
    let faults = [Fault::Lie, Fault::Mute, Fault::Equivocate, Fault::Delay { ms: 30 }, Fault::None];
    for (i, fault) in faults.into_iter().enumerate() {
        assert_eq!(cluster.request("store-0", &Request::Inject { fault }).await, Response::Done);
        let text = format!("{i}");
        assert_eq!(put(&client, "key", &text).await, KvResult::Stored);
        assert_eq!(get(&client, "key").await, value(&text));
    }
    let report = cluster.report("store-0").await.unwrap();
    assert_eq!(report.fault, Fault::None);
}

#[tokio::test]
async fn hostile_bytes_at_the_ports_change_nothing() {
    let (_directory, path) = directory();
    let cluster = start(&path);
    let client = cluster.client("client-0").await;
    put(&client, "key", "kept").await;
    let group = client.group();
    for replica in group.replicas() {
        for junk in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &[0; 4096], b"\x1c\0\0\0ALTHING\n"] {
            let mut stream = TcpStream::connect(replica.address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            // A replica may close before all is written.
            let _ = stream.write_all(junk);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            assert!(answer.len() < 100, "a stranger learns nothing: {answer:?}");
        }
    }
    let mut socket =
        std::os::unix::net::UnixStream::connect(cluster.deployment.control_socket("store-1")).unwrap();
    socket.write_all(b"{\"request\":\"destroy\"}\n").unwrap();
    let mut answer = [0; 512];
    let length = socket.read(&mut answer).unwrap();
    assert!(std::str::from_utf8(&answer[..length]).unwrap().contains("refused"));
    assert_eq!(get(&client, "key").await, value("kept"));
    let report = cluster.report("store-1").await.unwrap();
    assert!(report.counters.refused_connections >= 4, "{report:#?}");
}

#[tokio::test]
async fn a_lone_server_answers_unreplicated() {
    let (_directory, path) = directory();
    show_logs();
    let lone = ServiceGroup { protocol: ProtocolKind::Unreplicated, ..group(1, 0) };
    let cluster = Cluster::start(provision_service(&path, &lone, &quick()).unwrap());
    let client = cluster.client("client-1").await;
    assert_eq!(put(&client, "key", "value").await, KvResult::Stored);
    assert_eq!(cluster.report("store-0").await.unwrap().role, Role::Primary);
}

#[tokio::test]
async fn a_client_without_a_group_is_told_so() {
    let (_directory, path) = directory();
    let mut cluster = start(&path);
    let client = cluster.client("client-0").await;
    put(&client, "key", "value").await;
    for name in ["store-0", "store-1"] {
        cluster.stop(name);
    }
    let operation = KvOperation::Get { key: b"key".to_vec() }.encode();
    let error = client.invoke_within(operation, std::time::Duration::from_millis(500)).await.unwrap_err();
    assert!(matches!(error, InvokeError::TimedOut { replicas: 4, .. }), "{error}");
    cluster.restart("store-0", false);
    assert_eq!(get(&client, "key").await, value("value"));
}

#[tokio::test]
async fn sessions_of_a_client_share_its_connection_and_batches() {
    let (_directory, path) = directory();
    show_logs();
    let shared = ServiceGroup { sessions: 64, ..group(4, 1) };
    let cluster = Cluster::start(provision_service(&path, &shared, &quick()).unwrap());
    let client = cluster.client("client-1").await;
    let put_all = |round: u32| {
        let client = client.clone();
        let puts = (0..200).map(move |i| {
            let client = client.clone();
            tokio::spawn(async move { put(&client, &format!("key-{i}"), &format!("{round}")).await })
        });
        puts.collect::<Vec<_>>()
    };
    for round in 0..5 {
        for put in put_all(round) {
            assert_eq!(put.await.unwrap(), KvResult::Stored);
        }
    }
    // More operations were given up than there are sessions: each has to become free again.
    put_all(5).iter().for_each(tokio::task::JoinHandle::abort);
    for put in put_all(6) {
        assert_eq!(put.await.unwrap(), KvResult::Stored);
    }
    for i in 0..200 {
        assert_eq!(get(&client, &format!("key-{i}")).await, value("6"));
    }
    let report = cluster.report("store-0").await.unwrap();
    let clients = report.connected.iter().filter(|who| who.starts_with('c')).count();
    assert_eq!(clients, 1, "all sessions have one connection: {:?}", report.connected);
    let Counters { requests, batches, .. } = *report.counters;
    assert!(requests > 2 * batches, "one operation at a time would make a batch each: {requests}, {batches}");
}

#[tokio::test]
async fn a_removed_log_is_noticed() {
    let (_directory, path) = directory();
    let mut cluster = start(&path);
    let client = cluster.client("client-0").await;
    put(&client, "key", "value").await;
    cluster.stop("store-2");
    std::fs::remove_file(cluster.deployment.data_directory("store-2").join("votes.log")).unwrap();
    cluster.restart("store-2", false);
    let report = cluster.wait_for("store-2", "running", |_| true).await;
    assert_eq!(report.role, Role::Learner);
}
