use super::*;
use althing_replica::storage::{BootId, OpenOptions, StorageError};
use althing_replica::{Durability, EngineRecord, KeptState, Page, Startup, StateName};
use althing_types::{Digest, encode};
use std::path::Path;

/// The log, its records, and the state that they name.
type All = (Log<Files>, Vec<Vec<u8>>, Option<KeptState>);

fn open_all(data: &Path, durability: Durability) -> Result<All, StorageError<LogError>> {
    std::fs::create_dir_all(data).unwrap();
    let boot = Some(BootId("this run".to_owned()));
    let options = OpenOptions { durability, is_genesis: true, boot, max_record_len: 1024 };
    let opened = althing_replica::storage::open(Files::open(data).unwrap(), &options)?;
    Ok(match opened.startup {
        Startup::Recovered { records, kept } => (opened.log, records, kept),
        Startup::Genesis => (opened.log, Vec::new(), None),
        Startup::Amnesia | Startup::Recovering(_) => panic!("the memory is lost"),
    })
}

fn open_with(data: &Path, durability: Durability) -> (Log<Files>, Vec<Vec<u8>>) {
    let (log, records, _) = open_all(data, durability).unwrap();
    (log, records)
}

fn open(dir: &tempfile::TempDir) -> (Log<Files>, Vec<Vec<u8>>) {
    open_with(&dir.path().join("data"), Durability::Sync)
}

#[tokio::test]
async fn every_command_is_reported_durable_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (thread, mut events) = LogThread::spawn(open(&dir).0, 16).unwrap();
    let sender = tokio::spawn(async move {
        for id in 0..1000_u64 {
            thread.append(id, Bytes::copy_from_slice(&id.to_le_bytes())).await.unwrap();
        }
        thread.close().await;
    });
    let mut durable = Vec::new();
    while let Some(event) = events.recv().await {
        let LogEvent::Durable(ids) = event else { panic!("{event:?}") };
        durable.extend(ids);
    }
    sender.await.unwrap();
    assert_eq!(durable, (0..1000).collect::<Vec<_>>());
    let (_, records) = open(&dir);
    assert_eq!(records.len(), 1000);
    assert!(records.iter().zip(0_u64..).all(|(r, id)| r[..] == id.to_le_bytes()));
}

#[tokio::test]
async fn a_rewrite_keeps_its_place_among_the_appends() {
    let dir = tempfile::tempdir().unwrap();
    let (thread, mut events) = LogThread::spawn(open(&dir).0, 16).unwrap();
    thread.append(1, "before".into()).await.unwrap();
    thread.rewrite(2, vec!["checkpoint".into()], vec![]).await.unwrap();
    thread.append(3, "after".into()).await.unwrap();
    thread.close().await;
    let mut durable = Vec::new();
    while let Some(LogEvent::Durable(ids)) = events.recv().await {
        durable.extend(ids);
    }
    assert_eq!(durable, [1, 2, 3]);
    assert_eq!(open(&dir).1, [&b"checkpoint"[..], b"after"]);
}

#[tokio::test]
async fn a_failure_is_reported_and_ends_the_thread() {
    let dir = tempfile::tempdir().unwrap();
    let (thread, mut events) = LogThread::spawn(open(&dir).0, 16).unwrap();
    thread.append(1, vec![0; 1025].into()).await.unwrap();
    let event = events.recv().await.unwrap();
    assert!(matches!(event, LogEvent::Failed(LogError::RecordTooLong { .. })), "{event:?}");
    assert!(events.recv().await.is_none());
    assert_eq!(thread.append(2, "more".into()).await, Err(LogClosed));
    thread.close().await;
}

#[tokio::test]
async fn a_failure_is_the_end_in_order_of_what_nobody_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (thread, mut events) = LogThread::spawn(open_with(&data, Durability::Async).0, 16).unwrap();
    thread.append(1, "kept".into()).await.unwrap();
    thread.append(2, vec![0; 1025].into()).await.unwrap();
    while let Some(event) = events.recv().await {
        if let LogEvent::Failed(error) = event {
            assert!(matches!(error, LogError::RecordTooLong { .. }), "{error}");
        }
    }
    thread.close().await;
    assert!(!data.join("cached").exists(), "what was written before has got to disk");
}

#[tokio::test]
async fn what_nobody_waits_for_gets_to_disk_and_is_closed_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (thread, mut events) = LogThread::spawn(open_with(&data, Durability::Async).0, 16).unwrap();
    assert!(data.join("cached").exists());
    for id in 1..=100_u64 {
        thread.append(id, Bytes::copy_from_slice(&id.to_le_bytes())).await.unwrap();
    }
    thread.rewrite(101, vec!["checkpoint".into()], vec![]).await.unwrap();
    thread.append(102, "after".into()).await.unwrap();
    thread.close().await;
    let mut written = 0;
    while let Some(LogEvent::Durable(ids)) = events.recv().await {
        written += ids.len();
    }
    assert_eq!(written, 102);
    assert!(!data.join("cached").exists(), "from here on it outlives the system");
    assert_eq!(open_with(&data, Durability::Async).1, [&b"checkpoint"[..], b"after"]);
}

#[tokio::test]
async fn a_state_is_written_beside_the_log_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let state = Digest([7; 32]);
    let entries = |byte| (0..50).map(|index| (index, Some(Page::from(vec![byte; 60_000])))).collect();
    let segments = [1, 2].map(|number| SegmentContent::new(number, 0, state, entries(number as u8)));
    let name = StateName { seq: Seq(8), state, segments: vec![segments[1].segment()] };
    let (thread, mut events) = LogThread::spawn(open(&dir).0, 16).unwrap();
    thread.keep(Seq(8), segments.to_vec()).unwrap();
    let event = events.recv().await;
    assert!(matches!(event, Some(LogEvent::Kept(Seq(8)))), "{event:?}");
    assert!(data.join("pages-1").exists());
    let record = Bytes::from(encode(&EngineRecord::State(name)));
    thread.rewrite(1, vec![record], vec![1]).await.unwrap();
    thread.close().await;
    assert!(!data.join("pages-1").exists(), "it was dropped");

    std::fs::write(data.join("pages-3"), "what a crash left").unwrap();
    let (_, records, kept) = open_all(&data, Durability::Sync).unwrap();
    assert!(records.len() == 1 && kept.is_some());
    assert!(data.join("pages-2").exists() && !data.join("pages-3").exists());

    let path = data.join("pages-2");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = LogError::of(&data, open_all(&data, Durability::Sync).unwrap_err()).to_string();
    assert!(error.contains("segment 2") && error.contains("remove this directory"), "{error}");
}
