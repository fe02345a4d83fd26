use super::super::shelf::{Refused, Shelf};
use super::*;

/// One machine, from one boot to the next.
struct Machine {
    shelf: Shelf,
    boot: u32,
    durability: Durability,
}

type Failure = StorageError<Refused>;

impl Machine {
    fn new(durability: Durability) -> Self {
        Self { shelf: Shelf::default(), boot: 1, durability }
    }

    fn options(&self, is_genesis: bool) -> OpenOptions {
        let boot = Some(BootId(alloc::format!("boot {}", self.boot)));
        OpenOptions { durability: self.durability, is_genesis, boot, max_record_len: 1024 }
    }

    fn open(&self, is_genesis: bool) -> Result<Opened<Shelf>, Failure> {
        open(self.shelf.clone(), &self.options(is_genesis))
    }

    /// What a start by a supervisor is one from: it always says that the group is new.
    fn start(&self) -> Result<Startup, Failure> {
        self.open(true).map(|opened| opened.startup)
    }

    /// Starts and says something.
    fn say(&self, what: &str) -> Startup {
        let mut opened = self.open(true).unwrap();
        opened.log.append(&[what]).unwrap();
        opened.startup
    }

    /// The data directory is gone.
    fn wipe(&self) {
        [File::Log, File::Life, File::Cached].into_iter().for_each(|file| self.shelf.put(file, None));
    }

    /// Everything in the data directory, to be put back later.
    fn backup(&self) -> Vec<(File, Option<Vec<u8>>)> {
        [File::Log, File::Life, File::Cached].map(|file| (file, self.shelf.content(file))).to_vec()
    }

    fn restore(&self, backup: &[(File, Option<Vec<u8>>)]) {
        backup.iter().for_each(|(file, content)| self.shelf.put(*file, content.clone()));
    }
}

fn recovered(records: &[&str]) -> Result<Startup, Failure> {
    let records = records.iter().map(|record| record.as_bytes().to_vec()).collect();
    Ok(Startup::Recovered { records, kept: None })
}

const LOGGED: [Durability; 2] = [Durability::Sync, Durability::Async];

#[test]
fn a_replica_is_new_once_whatever_it_is_told() {
    for durability in LOGGED {
        let machine = Machine::new(durability);
        assert_eq!(machine.start(), Ok(Startup::Genesis));
        assert_eq!(machine.start(), recovered(&[]));
        machine.say("one");
        assert_eq!(machine.start(), recovered(&["one"]));
        machine.wipe();
        assert_eq!(machine.start(), Ok(Startup::Amnesia));
        assert_eq!(machine.start(), Ok(Startup::Amnesia), "it has said nothing since");
    }
    let machine = Machine::new(Durability::None);
    assert_eq!(machine.start(), Ok(Startup::Genesis));
    assert_eq!(machine.start(), Ok(Startup::Amnesia));
}

#[test]
fn a_replica_that_is_not_told_that_the_group_is_new_has_lost_its_memory() {
    for durability in [Durability::Sync, Durability::Async, Durability::None] {
        let machine = Machine::new(durability);
        assert_eq!(machine.open(false).unwrap().startup, Startup::Amnesia);
        assert_eq!(machine.open(false).unwrap().startup, Startup::Amnesia);
    }
}

#[test]
fn a_removed_log_is_a_lost_memory_for_good() {
    let machine = Machine::new(Durability::Sync);
    machine.say("one");
    machine.shelf.put(File::Log, None);
    assert_eq!(machine.start(), Ok(Startup::Amnesia));
    // Stopped before it said anything: the log is there again, and empty.
    assert_eq!(machine.start(), Ok(Startup::Amnesia));
}

#[test]
fn a_log_from_before_a_time_without_one_is_not_taken_up_again() {
    let mut machine = Machine::new(Durability::Sync);
    machine.say("old");
    machine.durability = Durability::None;
    assert_eq!(machine.start(), Ok(Startup::Amnesia));
    machine.durability = Durability::Sync;
    assert_eq!(machine.start(), Ok(Startup::Amnesia));
}

#[test]
fn a_cached_log_is_believed_until_the_system_goes_down() {
    let mut machine = Machine::new(Durability::Async);
    machine.say("one");
    assert_eq!(machine.start(), recovered(&["one"]), "the process was killed");
    machine.boot += 1;
    assert_eq!(machine.start(), Ok(Startup::Amnesia), "the power failed");
    machine.say("since");
    assert_eq!(machine.start(), recovered(&["since"]));
}

#[test]
fn a_cached_log_that_the_power_tore_is_not_damage() {
    let mut machine = Machine::new(Durability::Async);
    machine.say("one");
    let mut torn = machine.shelf.content(File::Log).unwrap();
    torn[40..50].fill(0);
    machine.shelf.put(File::Log, Some(torn));
    assert!(matches!(machine.start(), Err(StorageError::Damaged(_))), "in the same run it is");
    machine.boot += 1;
    assert_eq!(machine.start(), Ok(Startup::Amnesia));
}

#[test]
fn a_log_that_was_closed_in_order_outlives_the_system() {
    let mut machine = Machine::new(Durability::Async);
    let mut log = machine.open(true).unwrap().log;
    log.append(&["one"]).unwrap();
    log.close().unwrap();
    machine.boot += 1;
    assert_eq!(machine.start(), recovered(&["one"]));
    let log = machine.open(true).unwrap().log;
    machine.shelf.fail(Some("sync"));
    assert!(log.close().is_err());
    machine.shelf.fail(None);
    machine.boot += 1;
    assert_eq!(machine.start(), Ok(Startup::Amnesia), "what was not written in order may be lost");
}

#[test]
fn a_log_that_could_not_be_written_back_is_not_believed_in_the_same_run_either() {
    let machine = Machine::new(Durability::Async);
    let mut log = machine.open(true).unwrap().log;
    log.append(&["one"]).unwrap();
    machine.shelf.fail(Some("sync"));
    log.sync().unwrap_err();
    log.disown().unwrap();
    machine.shelf.fail(None);
    assert_eq!(machine.start(), Ok(Startup::Amnesia));
}

#[test]
fn a_log_that_could_not_be_written_back_is_not_believed_where_there_is_no_room_to_say_so() {
    for operation in ["draft", "publish"] {
        let machine = Machine::new(Durability::Async);
        let mut log = machine.open(true).unwrap().log;
        log.append(&["one"]).unwrap();
        machine.shelf.fail(Some("sync"));
        log.sync().unwrap_err();
        machine.shelf.fail(Some(operation));
        log.disown().unwrap();
        machine.shelf.fail(None);
        assert_eq!(machine.start(), Ok(Startup::Amnesia), "{operation}");
    }
}

#[test]
fn changing_between_logged_durabilities_keeps_the_memory() {
    let mut machine = Machine::new(Durability::Async);
    machine.say("one");
    machine.durability = Durability::Sync;
    assert_eq!(machine.say("two"), recovered(&["one"]).unwrap());
    machine.boot += 1;
    machine.durability = Durability::Async;
    assert_eq!(machine.start(), recovered(&["one", "two"]));
}

#[test]
fn without_a_boot_id_nothing_is_kept_in_memory() {
    let machine = Machine::new(Durability::Async);
    let options = OpenOptions { boot: None, ..machine.options(true) };
    assert!(matches!(open(machine.shelf.clone(), &options), Err(StorageError::NoBootId)));
    machine.say("one");
    let options = OpenOptions { durability: Durability::Sync, ..options };
    assert_eq!(open(machine.shelf.clone(), &options).unwrap().startup, Startup::Amnesia);
}

#[test]
fn an_old_copy_is_refused_and_left_alone() {
    let machine = Machine::new(Durability::Sync);
    machine.say("one");
    let backup = machine.backup();
    machine.say("two");
    machine.restore(&backup);
    let content = machine.shelf.content(File::Log);
    assert_eq!(machine.start(), Err(StorageError::Stale { known: 1, begun: 2 }));
    assert_eq!(machine.start(), Err(StorageError::Stale { known: 1, begun: 2 }));
    assert_eq!(machine.shelf.content(File::Log), content);
    machine.wipe();
    assert_eq!(machine.start(), Ok(Startup::Amnesia), "as the operator was told");
    // And the wiped disk does not come back either.
    machine.restore(&backup);
    assert!(matches!(machine.start(), Err(StorageError::Stale { .. })));
}

#[test]
fn a_copied_directory_is_refused() {
    let (own, mut other) = (Machine::new(Durability::Sync), Machine::new(Durability::Sync));
    own.say("one");
    let copy = Machine { shelf: own.shelf.copy(), ..Machine::new(Durability::Sync) };
    copy.shelf.put(File::Begun, None);
    assert_eq!(copy.start(), Err(StorageError::Foreign), "the data without what is beside it");
    // The other replica's data, over its own. Two disks draw different ids.
    other.shelf.random().unwrap();
    other.say("two");
    other.restore(&own.backup());
    assert_eq!(other.start(), Err(StorageError::Foreign));
}

#[test]
fn a_directory_in_which_nothing_was_said_yet_is_no_more_to_be_copied_than_any_other() {
    let own = Machine::new(Durability::Sync);
    assert_eq!(own.start(), Ok(Startup::Genesis));
    let image = own.backup();
    own.say("since");
    let other = Machine::new(Durability::Sync);
    other.restore(&image);
    assert_eq!(other.start(), Err(StorageError::Foreign));
}

#[test]
fn a_log_without_its_owner_is_refused_where_it_is_not_read_too() {
    for durability in [Durability::None, Durability::Async] {
        let mut machine = Machine::new(Durability::Async);
        machine.say("one");
        machine.shelf.put(File::Life, None);
        machine.shelf.put(File::Begun, None);
        (machine.durability, machine.boot) = (durability, 2);
        let log = machine.shelf.content(File::Log);
        assert_eq!(machine.start(), Err(StorageError::Incomplete), "{durability:?}");
        assert_eq!(machine.shelf.content(File::Log), log);
    }
}

#[test]
fn a_log_without_its_owner_is_refused() {
    let machine = Machine::new(Durability::Sync);
    machine.say("one");
    machine.shelf.put(File::Life, None);
    assert_eq!(machine.start(), Err(StorageError::Incomplete));
    machine.shelf.put(File::Begun, None);
    assert_eq!(machine.start(), Err(StorageError::Incomplete));
}

#[test]
fn damage_is_refused_and_left_alone() {
    for file in [File::Log, File::Life, File::Begun] {
        let machine = Machine::new(Durability::Sync);
        machine.say("one");
        machine.say("two");
        let mut content = machine.shelf.content(file).unwrap();
        *content.last_mut().unwrap() ^= 1;
        machine.shelf.put(file, Some(content.clone()));
        let error = machine.start().unwrap_err();
        let expected = match file {
            File::Log => matches!(error, StorageError::Damaged(_)),
            _ => error == StorageError::DamagedLife,
        };
        assert!(expected, "{file:?}: {error:?}");
        assert_eq!(machine.shelf.content(file), Some(content));
        machine.wipe();
        assert_eq!(machine.start(), Ok(Startup::Amnesia), "{file:?}");
        assert_eq!(machine.start(), Ok(Startup::Amnesia), "{file:?}");
    }
}

#[test]
fn a_torn_tail_is_cut_off_once() {
    let machine = Machine::new(Durability::Sync);
    machine.say("one");
    let mut content = machine.shelf.content(File::Log).unwrap();
    content.extend_from_slice(&[1, 2, 3]);
    machine.shelf.put(File::Log, Some(content));
    let opened = machine.open(true).unwrap();
    assert_eq!((opened.startup, opened.torn_len), (recovered(&["one"]).unwrap(), 3));
    assert_eq!(machine.open(true).unwrap().torn_len, 0);
}

#[test]
fn a_start_that_the_disk_cuts_off_is_an_error() {
    for operation in ["read", "random", "draft", "sync draft", "publish", "sync directory"] {
        let machine = Machine::new(Durability::Sync);
        machine.shelf.fail(Some(operation));
        assert_eq!(machine.start(), Err(StorageError::Disk(Refused(operation))));
    }
}
