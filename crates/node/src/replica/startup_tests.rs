use super::*;

/// What the next start is one from.
fn start(data: &Path, durability: Durability, is_genesis: bool) -> Startup {
    open_files(data, durability, is_genesis).unwrap().startup
}

const ALL: [Durability; 3] = [Durability::Sync, Durability::Async, Durability::None];

#[test]
fn a_replica_is_new_once_whatever_it_is_told() {
    for durability in ALL {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        assert_eq!(start(&data, durability, true), Startup::Genesis);
        let expected = match durability {
            Durability::Sync | Durability::Async => Startup::Recovered { records: Vec::new(), kept: None },
            Durability::None => Startup::Amnesia,
        };
        assert_eq!(start(&data, durability, true), expected);
        wipe(&data).unwrap();
        assert_eq!(start(&data, durability, true), Startup::Amnesia);
    }
}

#[test]
fn a_replica_that_is_not_told_that_the_group_is_new_has_lost_its_memory() {
    for durability in ALL {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(start(&home.path().join("data"), durability, false), Startup::Amnesia);
    }
}

#[test]
fn a_replica_whose_log_was_removed_has_lost_its_memory() {
    for durability in [Durability::Sync, Durability::Async] {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        start(&data, durability, true);
        fs::remove_file(data.join("votes.log")).unwrap();
        assert_eq!(start(&data, durability, true), Startup::Amnesia);
        assert_eq!(start(&data, durability, true), Startup::Amnesia);
    }
}

/// This machine says which of its runs this is, and another run is told from it.
#[test]
fn a_log_kept_by_the_system_is_lost_with_it() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    start(&data, Durability::Async, true);
    let boot = fs::read_to_string(data.join("cached")).unwrap();
    assert_eq!(boot, fs::read_to_string(BOOT_ID).unwrap().trim());
    assert_eq!(start(&data, Durability::Async, true), Startup::Recovered { records: Vec::new(), kept: None });
    fs::write(data.join("cached"), "an earlier run").unwrap();
    assert_eq!(start(&data, Durability::Async, true), Startup::Amnesia);
}
