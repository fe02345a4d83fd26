use super::*;
use althing_replica::storage::record::{FILE_HEADER_LEN, RECORD_HEADER_LEN, ScanError};
use althing_replica::storage::{BootId, Log, OpenOptions as Options, Opened};
use althing_replica::{Durability, Startup};

fn try_open(directory: &Path, durability: Durability) -> Result<Opened<Files>, LogError> {
    let boot = Some(BootId("this run".to_owned()));
    let options = Options { durability, is_genesis: true, boot, max_record_len: 1024 };
    let opened = althing_replica::storage::open(Files::open(directory)?, &options);
    opened.map_err(|error| LogError::of(directory, error))
}

/// Opens the log and gives its records.
fn open(directory: &Path) -> (Log<Files>, Vec<Vec<u8>>) {
    let Opened { startup, log, .. } = try_open(directory, Durability::Sync).unwrap();
    let records = match startup {
        Startup::Genesis => Vec::new(),
        Startup::Recovered { records, .. } => records,
        Startup::Amnesia | Startup::Recovering(_) => panic!("the memory is lost"),
    };
    (log, records)
}

/// A directory for data, with room for a file beside it.
fn data(home: &tempfile::TempDir) -> PathBuf {
    let data = home.path().join("data");
    fs::create_dir(&data).unwrap();
    data
}

#[test]
fn records_survive_reopening() {
    for durability in [Durability::Sync, Durability::Async] {
        let home = tempfile::tempdir().unwrap();
        let data = data(&home);
        let mut log = try_open(&data, durability).unwrap().log;
        log.append(&["a", "", "ccc"]).unwrap();
        log.append(&["d"]).unwrap();
        drop(log);
        let opened = try_open(&data, durability).unwrap();
        let expected = ["a", "", "ccc", "d"].map(|record| record.as_bytes().to_vec()).to_vec();
        assert_eq!(opened.startup, Startup::Recovered { records: expected, kept: None });
        let mut log = opened.log;
        log.rewrite(&["checkpoint"]).unwrap();
        log.append(&["after"]).unwrap();
        drop(log);
        let expected = ["checkpoint", "after"].map(|record| record.as_bytes().to_vec()).to_vec();
        assert_eq!(
            try_open(&data, durability).unwrap().startup,
            Startup::Recovered { records: expected, kept: None }
        );
    }
}

#[test]
fn a_torn_tail_is_cut_off_and_appending_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let data = data(&home);
    let path = path_in(&data, File::Log);
    let (mut log, _) = open(&data);
    log.append(&["kept"]).unwrap();
    let kept = log.len();
    log.append(&["torn at every byte"]).unwrap();
    let whole = log.len();
    drop(log);
    let content = fs::read(&path).unwrap();
    for cut in kept..whole {
        fs::write(&path, &content[..cut as usize]).unwrap();
        let (mut log, records) = open(&data);
        assert_eq!(records, [b"kept"]);
        log.append(&["next"]).unwrap();
        drop(log);
        assert_eq!(open(&data).1, [b"kept", b"next"]);
    }
}

#[test]
fn damage_is_an_error_that_says_what_to_do_and_leaves_the_file_alone() {
    let home = tempfile::tempdir().unwrap();
    let data = data(&home);
    let (mut log, _) = open(&data);
    log.append(&["first"]).unwrap();
    log.append(&["second"]).unwrap();
    drop(log);
    let path = path_in(&data, File::Log);
    let mut content = fs::read(&path).unwrap();
    content[FILE_HEADER_LEN + RECORD_HEADER_LEN] ^= 1;
    fs::write(&path, &content).unwrap();
    let error = try_open(&data, Durability::Sync).unwrap_err();
    assert!(error.to_string().contains("remove this directory"), "{error}");
    let LogError::Damaged { source: ScanError::Corrupt { offset, .. }, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(offset, FILE_HEADER_LEN as u64);
    assert_eq!(fs::read(&path).unwrap(), content);
}

#[test]
fn a_log_of_another_release_is_refused_with_both_versions_and_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let data = data(&home);
    drop(open(&data));
    let path = path_in(&data, File::Log);
    let mut content = fs::read(&path).unwrap();
    let own = u32::from_le_bytes(content[8..12].try_into().unwrap());
    content[8..12].copy_from_slice(&(own - 1).to_le_bytes());
    let crc = crc32fast::hash(&content[..28]);
    content[28..32].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &content).unwrap();
    let error = try_open(&data, Durability::Sync).unwrap_err();
    assert!(matches!(error, LogError::OtherVersion { .. }), "{error}");
    let text = error.to_string();
    for part in [&format!("version {}", own - 1), &format!("version {own}"), "start the release of althing"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(fs::read(&path).unwrap(), content, "it is left as it is");
}

#[test]
fn a_draft_that_was_never_published_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let data = data(&home);
    let (mut log, _) = open(&data);
    log.append(&["old"]).unwrap();
    drop(log);
    fs::write(with_suffix(&path_in(&data, File::Log), ".new"), b"half of a rewr").unwrap();
    let (mut log, records) = open(&data);
    assert_eq!(records, [b"old"]);
    log.rewrite(&["new"]).unwrap();
    drop(log);
    assert_eq!(open(&data).1, [b"new"]);
}

#[test]
fn a_second_opener_is_refused() {
    for durability in [Durability::Sync, Durability::Async, Durability::None] {
        let home = tempfile::tempdir().unwrap();
        let data = data(&home);
        let mut first = try_open(&data, durability).unwrap();
        if durability != Durability::None {
            first.log.rewrite(&["new file, same lock"]).unwrap();
        }
        let error = try_open(&data, durability).unwrap_err();
        assert!(matches!(error, LogError::InUse { .. }), "{error}");
        drop(first);
        try_open(&data, durability).unwrap();
    }
}

#[test]
fn an_old_copy_is_refused_with_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let data = data(&home);
    open(&data).0.append(&["one"]).unwrap();
    let backup: Vec<_> = [File::Log, File::Life].map(|file| fs::read(path_in(&data, file)).unwrap()).into();
    open(&data).0.append(&["two"]).unwrap();
    for (file, content) in [File::Log, File::Life].into_iter().zip(backup) {
        fs::write(path_in(&data, file), content).unwrap();
    }
    let error = try_open(&data, Durability::Sync).unwrap_err();
    assert!(matches!(error, LogError::NotOwn { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains("an old copy") && error.contains("remove this directory"), "{error}");
    fs::remove_dir_all(&data).unwrap();
    fs::create_dir(&data).unwrap();
    assert_eq!(try_open(&data, Durability::Sync).unwrap().startup, Startup::Amnesia);
}

#[test]
fn a_missing_directory_is_named() {
    let home = tempfile::tempdir().unwrap();
    let error = Files::open(home.path().join("no")).unwrap_err();
    assert!(error.to_string().contains("no/votes.log"), "{error}");
}
