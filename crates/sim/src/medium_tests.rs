use super::*;
use althing_replica::storage::{BootId, OpenOptions, Opened, open};
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
        Startup::Recovered(records) => format!("{} records", records.len()),
        Startup::Amnesia => "nothing".to_owned(),
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
