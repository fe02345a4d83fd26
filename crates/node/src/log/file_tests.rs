use super::*;
use crate::log::record::ScanError;

/// A real file whose n-th call fails, as a dying disk does.
struct Failing {
    file: File,
    calls_left: u32,
}

impl Failing {
    fn call(&mut self) -> io::Result<()> {
        self.calls_left = self.calls_left.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
        Ok(())
    }
}

impl Appendable for Failing {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.call()?;
        self.file.append(bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.call()?;
        Appendable::sync_data(&mut self.file)
    }
}

fn open(path: &Path) -> (Log, Recovery) {
    Log::open(path, LogOptions::default()).unwrap()
}

fn path(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("replica.log")
}

#[test]
fn records_survive_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, recovery) = open(&path(&dir));
    assert!(recovery.created && recovery.records.is_empty() && log.is_empty());
    log.append(&["a", "", "ccc"]).unwrap();
    log.append(&["d"]).unwrap();
    log.append::<&str>(&[]).unwrap();
    drop(log);
    let (mut log, recovery) = open(&path(&dir));
    assert_eq!(recovery.records, ["a", "", "ccc", "d"]);
    assert!(!recovery.created && recovery.torn_len == 0);
    log.append(&["e"]).unwrap();
    drop(log);
    assert_eq!(open(&path(&dir)).1.records.last().unwrap(), "e");
}

#[test]
fn a_torn_tail_is_cut_off_once_and_appending_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(&path(&dir));
    log.append(&["kept"]).unwrap();
    let kept = log.len();
    log.append(&["torn at every byte"]).unwrap();
    let whole = log.len();
    drop(log);
    let content = fs::read(path(&dir)).unwrap();
    for cut in kept..whole {
        fs::write(path(&dir), &content[..cut as usize]).unwrap();
        let (mut log, recovery) = open(&path(&dir));
        assert_eq!(recovery.records, ["kept"]);
        assert_eq!(recovery.torn_len, cut - kept);
        log.append(&["next"]).unwrap();
        drop(log);
        let (_, recovery) = open(&path(&dir));
        assert_eq!(recovery.records, ["kept", "next"]);
        assert_eq!(recovery.torn_len, 0);
    }
}

#[test]
fn damage_is_an_error_and_leaves_the_file_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(&path(&dir));
    log.append(&["first"]).unwrap();
    log.append(&["second"]).unwrap();
    drop(log);
    let mut content = fs::read(path(&dir)).unwrap();
    let first = record::FILE_HEADER_LEN + record::RECORD_HEADER_LEN;
    content[first] ^= 1;
    fs::write(path(&dir), &content).unwrap();
    let error = Log::open(path(&dir), LogOptions::default()).unwrap_err();
    let LogError::Damaged { source: ScanError::Corrupt { offset, .. }, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(offset, record::FILE_HEADER_LEN as u64);
    assert_eq!(fs::read(path(&dir)).unwrap(), content);
}

#[test]
fn a_rewrite_replaces_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(&path(&dir));
    log.append(&["old"; 100]).unwrap();
    log.rewrite(&["checkpoint"]).unwrap();
    log.append(&["after"]).unwrap();
    drop(log);
    assert_eq!(open(&path(&dir)).1.records, ["checkpoint", "after"]);
}

#[test]
fn a_rewrite_cut_short_leaves_the_old_log() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(&path(&dir));
    log.append(&["old"]).unwrap();
    drop(log);
    fs::write(with_suffix(&path(&dir), ".new"), b"half of a rewr").unwrap();
    let (mut log, recovery) = open(&path(&dir));
    assert_eq!(recovery.records, ["old"]);
    log.rewrite(&["new"]).unwrap();
    drop(log);
    assert_eq!(open(&path(&dir)).1.records, ["new"]);
}

#[test]
fn a_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(&path(&dir));
    log.rewrite(&["new file, same lock"]).unwrap();
    let error = Log::open(path(&dir), LogOptions::default()).unwrap_err();
    assert!(matches!(error, LogError::InUse { .. }), "{error}");
    drop(log);
    open(&path(&dir));
}

#[test]
fn a_failed_write_or_sync_poisons_the_log() {
    for calls_left in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = open(&path(&dir));
        log.append(&["kept"]).unwrap();
        let file = open_at(&path(&dir)).unwrap();
        log.file = Box::new(Failing { file, calls_left });
        let failed = log.append(&["lost"]).unwrap_err();
        assert!(matches!(failed, LogError::Io { .. }), "{failed}");
        // The disk is well again, but what it holds is not known.
        log.file = Box::new(open_at(&path(&dir)).unwrap());
        assert!(matches!(log.append(&["more"]), Err(LogError::Poisoned { .. })));
        assert!(matches!(log.rewrite(&["more"]), Err(LogError::Poisoned { .. })));
        drop(log);
        assert_eq!(open(&path(&dir)).1.records[0], "kept");
    }
}

#[test]
fn a_long_record_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(path(&dir), LogOptions { max_record_len: 4 }).unwrap();
    let error = log.append(&["ok", "too long"]).unwrap_err();
    assert!(matches!(error, LogError::RecordTooLong { len: 8, limit: 4 }), "{error}");
    log.append(&["fits"]).unwrap();
    drop(log);
    assert_eq!(open(&path(&dir)).1.records, ["fits"]);
}

#[test]
fn a_missing_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = Log::open(dir.path().join("no/replica.log"), LogOptions::default()).unwrap_err();
    assert!(error.to_string().contains("no/replica.log"), "{error}");
}
