use super::super::record::scan;
use super::super::shelf::{Refused, Shelf};
use super::*;
use alloc::vec;

const LIMIT: usize = 1024;

fn open(shelf: &Shelf, durability: Durability) -> Log<Shelf> {
    let mut log = Log::new(shelf.clone(), durability, LIMIT);
    log.replace::<&str>(&[], true).unwrap();
    shelf.take_done();
    log
}

fn records(shelf: &Shelf) -> Vec<Vec<u8>> {
    let content = shelf.content(File::Log).unwrap();
    let found = scan(&content, LIMIT).unwrap();
    assert_eq!(found.end, content.len());
    found.bodies(&content).collect()
}

fn append(id: u64, record: &str) -> LogWrite<&str> {
    LogWrite::Append { id, record }
}

#[test]
fn what_was_written_is_there_in_order() {
    let shelf = Shelf::default();
    let mut log = open(&shelf, Durability::Sync);
    assert!(log.is_empty());
    log.append(&["a", "", "ccc"]).unwrap();
    log.append(&["d"]).unwrap();
    log.append::<&str>(&[]).unwrap();
    assert_eq!(records(&shelf), [&b"a"[..], b"", b"ccc", b"d"]);
    log.rewrite(&["checkpoint"]).unwrap();
    log.append(&["after"]).unwrap();
    assert_eq!(records(&shelf), [&b"checkpoint"[..], b"after"]);
    assert_eq!(log.len(), shelf.content(File::Log).unwrap().len() as u64);
}

#[test]
fn a_group_costs_one_sync_and_a_rewrite_takes_what_stood_before_it() {
    let shelf = Shelf::default();
    let mut log = open(&shelf, Durability::Sync);
    log.commit(&[append(1, "one"), append(2, "two")]).unwrap();
    assert_eq!(shelf.take_done(), ["append", "sync"]);
    let rewrite = LogWrite::Rewrite { id: 4, records: vec!["checkpoint"], dropped: vec![7] };
    log.commit(&[append(3, "three"), rewrite, append(5, "five")]).unwrap();
    let replaced = ["random", "draft", "sync draft", "publish", "sync directory", "remove", "append", "sync"];
    assert_eq!(shelf.take_done(), replaced);
    assert_eq!(records(&shelf), [&b"checkpoint"[..], b"five"]);
}

#[test]
fn what_the_system_is_to_write_later_waits_for_nothing() {
    let shelf = Shelf::default();
    let mut log = open(&shelf, Durability::Async);
    log.append(&["one"]).unwrap();
    log.rewrite(&["checkpoint"]).unwrap();
    assert!(shelf.take_done().iter().all(|operation| !operation.starts_with("sync")));
    log.sync().unwrap();
    assert_eq!(shelf.take_done(), ["sync", "sync directory"]);
}

#[test]
fn a_disk_that_failed_gets_nothing_more() {
    for operation in ["append", "sync"] {
        let shelf = Shelf::default();
        let mut log = open(&shelf, Durability::Sync);
        log.append(&["kept"]).unwrap();
        shelf.fail(Some(operation));
        assert_eq!(log.append(&["lost"]), Err(StorageError::Disk(Refused(operation))));
        // The disk is well again, but what it holds is not known.
        shelf.fail(None);
        shelf.take_done();
        assert_eq!(log.append(&["more"]), Err(StorageError::Poisoned));
        assert_eq!(log.rewrite(&["more"]), Err(StorageError::Poisoned));
        assert_eq!(log.sync(), Err(StorageError::Poisoned));
        assert!(shelf.take_done().is_empty());
        assert_eq!(records(&shelf)[0], b"kept");
    }
    for operation in ["draft", "sync draft", "publish", "sync directory"] {
        let shelf = Shelf::default();
        let mut log = open(&shelf, Durability::Sync);
        shelf.fail(Some(operation));
        assert_eq!(log.rewrite(&["lost"]), Err(StorageError::Disk(Refused(operation))));
        assert_eq!(log.append(&["more"]), Err(StorageError::Poisoned));
    }
}

#[test]
fn a_long_record_is_refused_and_changes_nothing() {
    let shelf = Shelf::default();
    let mut log = open(&shelf, Durability::Sync);
    let long = "x".repeat(LIMIT + 1);
    let refused = Err(StorageError::RecordTooLong { len: LIMIT + 1, limit: LIMIT });
    assert_eq!(log.append(&["fits", &long]), refused);
    assert_eq!(log.rewrite(&[&long]), refused);
    log.append(&["fits"]).unwrap();
    assert_eq!(records(&shelf), [b"fits"]);
}
