use super::*;
use crate::oracle::Promised;
use althing_replica::storage::{BootId, Log, LogWrite, OpenOptions, Opened, StorageError, open};
use althing_replica::{Durability, Startup};

fn medium(seed: u64) -> Medium {
    Medium::new(Dice::new(seed), Injections::default())
}

fn published(medium: &mut Medium, content: &[u8]) {
    medium.draft(File::Log, content).unwrap();
    medium.sync_draft(File::Log).unwrap();
    medium.publish(File::Log).unwrap();
    medium.sync_directory(File::Log).unwrap();
}

#[test]
fn what_was_synced_survives_and_the_rest_may_in_every_shape() {
    let durable = vec![1; 700];
    let mut shapes = BTreeSet::new();
    for seed in 0..300 {
        let mut medium = medium(seed);
        published(&mut medium, &durable);
        medium.append(File::Log, &[2; 1500]).unwrap();
        medium.cut_power();
        let after = medium.read(File::Log).unwrap().unwrap();
        assert_eq!(after[..700], durable);
        assert!(after.len() <= 2200 && after[700..].iter().all(|byte| [0, 2].contains(byte)));
        let has_hole = after[700..].contains(&0);
        shapes.insert(match after.len() {
            700 => "lost",
            2200 if !has_hole => "kept",
            _ if has_hole => "out of order",
            _ => "torn",
        });
    }
    assert_eq!(shapes, BTreeSet::from(["lost", "kept", "torn", "out of order"]));
}

#[test]
fn a_name_is_durable_once_its_directory_is() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let mut medium = medium(seed);
        published(&mut medium, b"old");
        medium.draft(File::Log, b"new").unwrap();
        medium.sync_draft(File::Log).unwrap();
        medium.publish(File::Log).unwrap();
        assert_eq!(medium.read(File::Log).unwrap().unwrap(), b"new");
        medium.cut_power();
        seen.insert(medium.read(File::Log).unwrap().unwrap());
    }
    assert_eq!(seen, BTreeSet::from([b"old".to_vec(), b"new".to_vec()]));
}

#[test]
fn a_sync_after_one_that_failed_proves_nothing() {
    let lost = (0..50).filter(|seed| {
        let mut medium = medium(*seed);
        published(&mut medium, b"");
        medium.append(File::Log, &[2; 1500]).unwrap();
        medium.fail_sync();
        assert_eq!(medium.sync(File::Log), Err(DiskFault::Sync));
        medium.sync(File::Log).unwrap();
        assert_eq!(medium.read(File::Log).unwrap().unwrap(), [2; 1500], "programs still see it");
        medium.cut_power();
        medium.read(File::Log).unwrap().unwrap() != [2; 1500]
    });
    assert!(lost.count() > 25);
}

/// What a replica knows, in one word.
fn kind(startup: &Startup) -> String {
    match startup {
        Startup::Genesis => "new".to_owned(),
        Startup::Recovered { records, .. } => format!("{} records", records.len()),
        Startup::Amnesia | Startup::Recovering(_) => "nothing".to_owned(),
    }
}

/// A start may be cut off after each of its steps, by a kill or by the power: the next one comes to
/// what the first would have come to.
#[test]
fn a_start_that_is_cut_off_anywhere_changes_nothing() {
    type Prepare = fn(&mut Medium);
    let options = |is_genesis| OpenOptions {
        durability: Durability::Sync,
        is_genesis,
        boot: Some(BootId("boot".to_owned())),
        max_record_len: 1024,
    };
    let cases: [(&str, bool, Prepare); 6] = [
        ("new", true, |_| {}),
        ("nothing", false, |_| {}),
        ("2 records", true, |medium| say(medium, 2)),
        ("nothing", true, |medium| {
            say(medium, 2);
            medium.remove(File::Log).unwrap();
            medium.sync_directory(File::Log).unwrap();
        }),
        ("nothing", true, |medium| {
            say(medium, 1);
            medium.lose(false);
        }),
        ("0 records", true, |medium| say(medium, 0)),
    ];
    for (expected, is_genesis, prepare) in cases {
        for steps in 0..40 {
            for seed in 0..12 {
                let mut medium = medium(seed);
                prepare(&mut medium);
                medium.set_breath(Some(steps));
                let first = open(medium.clone(), &options(is_genesis));
                medium.set_breath(None);
                if let Ok(Opened { startup, .. }) = first {
                    assert_eq!(kind(&startup), expected, "{steps} steps");
                    continue;
                }
                if seed % 2 == 0 {
                    medium.cut_power();
                }
                let second = open(medium, &options(is_genesis)).unwrap();
                // Who has just been born and has not said anything knows that.
                let again = if expected == "new" { vec!["new", "0 records"] } else { vec![expected] };
                let found = kind(&second.startup);
                assert!(again.contains(&&found[..]), "{expected}, cut off after {steps}: {found}");
            }
        }
    }
}

/// A replica that starts here and says so much.
fn say(medium: &mut Medium, records: usize) {
    let options = OpenOptions {
        durability: Durability::Sync,
        is_genesis: true,
        boot: Some(BootId("boot".to_owned())),
        max_record_len: 1024,
    };
    let mut log = open(medium.clone(), &options).unwrap().log;
    log.append(&vec![b"record"; records]).unwrap();
}

/// One replica and its disk, from start to start.
struct Lives {
    medium: Medium,
    dice: Dice,
    promised: Promised,
    boots: u64,
    said: u8,
    /// The last life wrote nothing down, or left what it wrote to a system that is gone.
    may_forget: bool,
}

impl Lives {
    fn start(&mut self, durability: Durability) -> Option<(String, Log<Medium>)> {
        let options = OpenOptions {
            durability,
            is_genesis: true,
            boot: Some(BootId(format!("boot {}", self.boots))),
            max_record_len: 4096,
        };
        let breath = self.dice.chance(200).then(|| self.dice.index(25));
        self.medium.set_breath(breath);
        let opened = open(self.medium.clone(), &options);
        self.medium.set_breath(None);
        let Opened { startup, log, .. } = match opened {
            Ok(opened) => opened,
            Err(StorageError::Disk(DiskFault::Dead)) if breath.is_some() => return None,
            Err(error) => panic!("refused, and nothing has happened to it: {error}"),
        };
        if startup == Startup::Amnesia && (self.may_forget || durability == Durability::None) {
            self.promised.may_forget();
        }
        self.may_forget = false;
        self.promised.started(0, &startup).unwrap();
        Some((kind(&startup), log))
    }

    /// Says some things; gives back whether the process is still alive.
    fn live(&mut self, log: &mut Log<Medium>) -> bool {
        for _ in 0..self.dice.index(5) {
            let mut group: Vec<LogWrite<Vec<u8>>> = Vec::new();
            for id in 0..self.dice.between(1, 3) {
                self.said = self.said.wrapping_add(1);
                let record = vec![self.said; self.dice.index(1500)];
                if self.dice.chance(200) {
                    self.promised.rewrite(vec![record.clone()]);
                    group.push(LogWrite::Rewrite { id, records: vec![record], dropped: Vec::new() });
                } else {
                    self.promised.append(record.clone());
                    group.push(LogWrite::Append { id, record });
                }
            }
            let is_last = self.dice.chance(150);
            if is_last && log.is_synced() && self.dice.chance(500) {
                self.medium.fail_sync();
            } else if is_last {
                self.medium.set_breath(Some(self.dice.index(8)));
            }
            let written = log.commit(&group);
            self.medium.set_breath(None);
            self.medium.be_well();
            match written {
                Ok(()) => self.promised.kept(group.len()),
                Err(_) => return false,
            }
            if !log.is_synced() {
                self.medium.write_back();
            }
        }
        true
    }

    /// The system can't write back what it has, which an `async` log hears of.
    fn fail_in_background(&mut self, log: &mut Log<Medium>) {
        self.medium.fail_sync();
        if log.sync().is_err() {
            log.disown().unwrap();
            self.may_forget = true;
        }
        self.medium.evict();
    }

    fn end(&mut self, durability: Durability, log: Log<Medium>, is_alive: bool) {
        let is_async = durability == Durability::Async;
        let is_orderly = is_alive && self.dice.chance(300);
        let is_closed = is_orderly && durability != Durability::None && log.close().is_ok();
        self.may_forget |= durability == Durability::None;
        if self.dice.chance(400) {
            self.medium.cut_power();
            self.boots += 1;
            self.may_forget |= is_async && !is_closed;
        } else if self.dice.chance(300) {
            self.medium.evict();
        }
    }
}

/// `durability` may be another at each start, and each life may end in any way: what was said is there, or
/// the replica knows that it knows nothing.
#[test]
fn whatever_durability_each_start_has_nothing_is_forgotten_unnoticed() {
    let mut kinds = BTreeMap::<String, usize>::new();
    for seed in 0..3000 {
        let mut dice = Dice::new(seed);
        let medium = Medium::new(dice.fork(), Injections::default());
        let promised = Promised::default();
        let mut lives = Lives { medium, dice, promised, boots: 1, said: 0, may_forget: false };
        for _ in 0..12 {
            let durability = lives.dice.pick(&[
                Durability::Sync,
                Durability::Sync,
                Durability::Async,
                Durability::Async,
                Durability::None,
            ]);
            let was_cached = lives.medium.read(File::Cached).unwrap().is_some();
            let Some((kind, mut log)) = lives.start(durability) else {
                lives.may_forget |= durability == Durability::None;
                if lives.dice.chance(500) {
                    lives.medium.cut_power();
                    lives.boots += 1;
                    lives.may_forget |= was_cached || durability == Durability::Async;
                }
                continue;
            };
            *kinds.entry(kind).or_default() += 1;
            let mut is_alive = true;
            if durability != Durability::None {
                is_alive = lives.live(&mut log);
            }
            if is_alive && durability == Durability::Async && lives.dice.chance(200) {
                lives.fail_in_background(&mut log);
                is_alive = false;
            }
            lives.end(durability, log, is_alive);
        }
    }
    assert!(kinds.len() > 10 && kinds.values().sum::<usize>() > 20_000, "{kinds:?}");
}
