use super::*;

/// What the next start is one from. The log is closed again.
fn start(data: &Path, durability: Durability, is_genesis: bool) -> Startup {
    let started = open(data, durability, is_genesis).unwrap();
    if let Some((log, _events)) = started.log {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(log.close());
    }
    started.startup
}

const BOTH: [Durability; 2] = [Durability::Sync, Durability::None];

#[test]
fn a_replica_is_new_once_whatever_it_is_told() {
    for durability in BOTH {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        assert!(matches!(start(&data, durability, true), Startup::Genesis));
        match durability {
            Durability::Sync => {
                let Startup::Recovered(records) = start(&data, durability, true) else { panic!() };
                assert!(records.is_empty());
            }
            Durability::None => assert!(matches!(start(&data, durability, true), Startup::Amnesia)),
        }
        wipe(&data).unwrap();
        assert!(matches!(start(&data, durability, true), Startup::Amnesia));
    }
}

#[test]
fn a_replica_that_is_not_told_that_the_group_is_new_has_lost_its_memory() {
    for durability in BOTH {
        let home = tempfile::tempdir().unwrap();
        assert!(matches!(start(&home.path().join("data"), durability, false), Startup::Amnesia));
    }
}

/// The power may fail while a replica starts for the first time.
#[test]
fn a_first_start_that_was_cut_off_is_a_first_start_again() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    // Nothing but an empty log was there.
    create_directory(&data).unwrap();
    drop(Log::open(data.join(LOG), LogOptions::default()).unwrap());
    assert!(matches!(start(&data, Durability::Sync, true), Startup::Genesis));
}

#[test]
fn a_replica_whose_log_was_removed_has_lost_its_memory() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    start(&data, Durability::Sync, true);
    fs::remove_file(data.join(LOG)).unwrap();
    assert!(matches!(start(&data, Durability::Sync, true), Startup::Amnesia));
}
