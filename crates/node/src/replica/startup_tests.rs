use super::*;
use althing_replica::storage::begin_recovery;
use std::os::unix::fs::PermissionsExt;

/// What the next start is one from.
fn start(data: &Path, durability: Durability, is_genesis: bool) -> Startup {
    open_files(claim(data, false, true).unwrap(), durability, &How::Believed { is_genesis }).unwrap().startup
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

#[test]
fn the_system_says_how_much_memory_there_is() {
    assert_eq!(total_kib("MemFree: 1 kB\nMemTotal:       16303428 kB\n"), Some(16_303_428));
    assert_eq!(total_kib("MemTotal: much\n"), None);
    assert!(memory_bytes() > 1 << 20);
}

/// Whoever had the replica could write whatever it liked where its files are, and would have it down for good.
#[test]
fn who_doubts_its_disk_starts_whatever_is_there() {
    let directory = |path: &Path| fs::create_dir_all(path.join("within")).unwrap();
    let endless = |path: &Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    // Whoever opens it waits for ever.
    let pipe = |path: &Path| {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    // It takes no room on the disk.
    let huge = |path: &Path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap();
    let locked = |path: &Path| {
        fs::write(path, "locked").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    };
    let put: [&dyn Fn(&Path); 5] = [&directory, &endless, &pipe, &huge, &locked];
    let names = ["life", "cached", "recovering", "votes.log", "votes.log.lock", "pages-7", "../begun"];
    for (kind, put) in put.into_iter().enumerate() {
        for name in names.into_iter().chain(["votes.log.new", "life.new", "../begun.new", "../data"]) {
            let home = tempfile::tempdir().unwrap();
            let data = home.path().join("data");
            start(&data, Durability::Sync, true);
            let path = match name.strip_prefix("../") {
                Some(name) => home.path().join(name),
                None => data.join(name),
            };
            match fs::symlink_metadata(&path) {
                Ok(found) if found.is_dir() => fs::remove_dir_all(&path).unwrap(),
                Ok(_) => fs::remove_file(&path).unwrap(),
                Err(_) => {}
            }
            put(&path);
            let recover = |is_told: bool| {
                let mut files = claim(&data, is_told, true).unwrap();
                begin_recovery(&mut files).unwrap();
                let how = How::Doubted(&|_, _| true);
                open_files(files, Durability::Sync, &how).unwrap().startup
            };
            assert!(matches!(recover(true), Startup::Recovering(_)), "{name}, {kind}");
            // Cut off, and started again by somebody who does not know that it recovers.
            assert!(matches!(recover(false), Startup::Recovering(_)), "{name}, {kind}");
            // Who may do all would not notice.
            let mode = path.symlink_metadata().map_or(0o600, |found| found.permissions().mode());
            assert_eq!(mode & 0o600, 0o600, "{name}, {kind}");
        }
    }
}

#[test]
fn who_doubts_its_disk_opens_directories_that_were_closed() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    start(&data, Durability::Sync, true);
    for closed in [&data, home.path()] {
        fs::set_permissions(closed, fs::Permissions::from_mode(0o000)).unwrap();
    }
    drop(claim(&data, true, true).unwrap());
    for closed in [&data, home.path()] {
        assert_eq!(closed.metadata().unwrap().permissions().mode() & 0o700, 0o700);
    }
}

#[test]
fn the_only_copy_is_not_cleared_away() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    start(&data, Durability::Sync, true);
    fs::rename(data.join("votes.log"), home.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", data.join("votes.log")).unwrap();
    fs::write(data.join("recovering"), "").unwrap();
    drop(claim(&data, false, false).unwrap());
    assert!(data.join("votes.log").is_symlink());
    drop(claim(&data, false, true).unwrap());
    assert!(!data.join("votes.log").exists());
}
