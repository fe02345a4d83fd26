use super::super::shelf::Shelf;
use super::super::{Segment, write_segments};
use super::*;
use crate::checkpoints::Checkpoint;
use crate::pages::PageTree;
use crate::records::{EngineRecord, decode_record, rewrite};
use crate::storage::{BootId, open};
use alloc::vec;
use althing_types::encode;

const PAGES: u32 = 100;

fn options() -> OpenOptions {
    let boot = Some(BootId("boot 1".into()));
    OpenOptions { durability: Durability::Sync, is_genesis: true, boot, max_record_len: 1 << 20 }
}

/// A disk with a state of two chunks, in a segment, and what follows it in the log.
fn disk() -> (Shelf, Segment, Vec<Vec<u8>>) {
    let shelf = Shelf::default();
    let mut log = open(shelf.clone(), &options()).unwrap().log;
    let mut tree = PageTree::default();
    for index in 0..PAGES {
        tree.set(index, vec![index as u8; 4000]);
    }
    let checkpoint = Checkpoint { state: tree.refresh(), tree, is_hollow: false };
    let mut kept = KeptState::default();
    let (contents, _) = kept.advance(Seq(8), &checkpoint);
    write_segments(&mut shelf.clone(), &contents).unwrap();
    let records = rewrite(Some(&kept), None, vec![vec![3], vec![4]]);
    log.replace(&records, true).unwrap();
    (shelf, contents[0].segment(), records)
}

fn recover(shelf: &Shelf, is_sound: bool) -> Remains {
    match open_to_recover(shelf.clone(), &options(), 1 << 24, |_, _| is_sound).unwrap().startup {
        Startup::Recovering(remains) => remains,
        other => panic!("unexpected {other:?}"),
    }
}

/// How many pages were found.
fn found(remains: Remains) -> usize {
    assert_eq!(remains.records, None);
    remains.kept.map_or(0, |kept| kept.into_pages().pages().len())
}

fn flip(shelf: &Shelf, file: File, at: usize) {
    let mut content = shelf.content(file).unwrap();
    content[at] ^= 1;
    shelf.put(file, Some(content));
}

fn start(shelf: &Shelf) -> Startup {
    open(shelf.clone(), &options()).unwrap().startup
}

#[test]
fn what_is_sound_stays_as_it_is() {
    let (shelf, _, records) = disk();
    let remains = recover(&shelf, true);
    assert_eq!(remains.records.as_ref(), Some(&records));
    assert_eq!(remains.kept.unwrap().seq(), Seq(8));
    assert!(matches!(start(&shelf), Startup::Recovered { records: left, .. } if left == records));
}

#[test]
fn what_is_not_is_forgotten_for_good_but_for_the_pages() {
    let (shelf, segment, _) = disk();
    assert_eq!(found(recover(&shelf, false)), PAGES as usize);
    assert_eq!(shelf.content(File::Segment(segment.number)), None);
    assert_eq!(start(&shelf), Startup::Amnesia);
}

#[test]
fn a_damaged_chunk_voids_the_records_and_spares_the_others_pages() {
    let (shelf, segment, _) = disk();
    flip(&shelf, File::Segment(segment.number), 1000);
    let left = found(recover(&shelf, true));
    assert!(0 < left && left < PAGES as usize, "{left} pages");
}

#[test]
fn without_a_log_the_pages_speak_for_themselves() {
    for spoil in [|shelf: &Shelf| flip(shelf, File::Log, 40), |shelf: &Shelf| shelf.put(File::Log, None)] {
        let (shelf, ..) = disk();
        spoil(&shelf);
        assert_eq!(found(recover(&shelf, true)), PAGES as usize);
        assert_eq!(start(&shelf), Startup::Amnesia);
    }
}

#[test]
fn nothing_is_refused() {
    type Spoil = fn(&Shelf);
    let spoils: [Spoil; 5] = [
        |shelf| flip(shelf, File::Life, 3),
        |shelf| flip(shelf, File::Begun, 3),
        |shelf| shelf.put(File::Life, None),
        |shelf| shelf.put(File::Begun, None),
        |shelf| {
            let old = shelf.content(File::Life);
            start(shelf);
            shelf.put(File::Life, old);
        },
    ];
    for (case, spoil) in spoils.into_iter().enumerate() {
        let (shelf, ..) = disk();
        spoil(&shelf);
        assert!(open(shelf.clone(), &options()).is_err() || case == 3, "case {case}");
        assert_eq!(found(recover(&shelf, true)), PAGES as usize, "case {case}");
        assert_eq!(start(&shelf), Startup::Amnesia, "case {case}");
    }
}

#[test]
fn one_that_has_said_nothing_yet_still_knows_that_however_often_it_is_cut_off() {
    let shelf = Shelf::default();
    assert_eq!(start(&shelf), Startup::Genesis);
    let nothing = Remains { records: Some(Vec::new()), kept: None };
    assert_eq!((recover(&shelf, true), recover(&shelf, true)), (nothing.clone(), nothing));
    assert_eq!(recover(&shelf, false).records, None);
    assert_eq!(start(&shelf), Startup::Amnesia, "it was not believed once");
}

#[test]
fn no_more_is_read_than_there_is_room_for() {
    let (shelf, segment, records) = disk();
    let with_room = |bytes: u64| {
        let opened = open_to_recover(shelf.copy(), &options(), bytes, |_, _| true).unwrap();
        let Startup::Recovering(remains) = opened.startup else { panic!("it recovers") };
        let is_believed = remains.records.as_ref() == Some(&records);
        (is_believed, remains.kept.map_or(0, |kept| kept.into_pages().pages().len()))
    };
    assert_eq!(with_room(segment.len * 2), (true, PAGES as usize));
    let (is_believed, pages) = with_room(segment.len - 1);
    assert!(!is_believed && pages > 0 && pages < PAGES as usize, "{pages} pages");
    assert_eq!(with_room(10), (false, 0), "not even the log");
}

#[test]
fn one_that_recovers_does_so_until_it_has_recovered() {
    let (shelf, ..) = disk();
    let mut storage = shelf.clone();
    assert_eq!(is_recovering(&mut storage), Ok(false));
    begin_recovery(&mut storage).unwrap();
    assert_eq!(shelf.take_done().last(), Some(&"sync directory"), "it is durable");
    recover(&shelf, true);
    assert_eq!(is_recovering(&mut storage), Ok(true), "whatever comes of the start");
    end_recovery(&mut storage).unwrap();
    assert_eq!(is_recovering(&mut storage), Ok(false));
    assert_eq!(shelf.take_done().iter().rev().nth(1), Some(&"sync directory"), "that too");
}

/// A segment that is named twice would go with the first mention that is dropped, and be named still; a number
/// at the end of all leaves none for the next.
#[test]
fn segments_that_no_replica_names_so_void_the_records() {
    let (shelf, segment, records) = disk();
    let renamed = |segments: Vec<Segment>| {
        let Ok(EngineRecord::State(mut name)) = decode_record(&records[0]) else { panic!("no name") };
        name.segments = segments;
        let renamed = [vec![encode(&EngineRecord::State(name))], records[1..].to_vec()].concat();
        let shelf = shelf.copy();
        open(shelf.clone(), &options()).unwrap().log.replace(&renamed, true).unwrap();
        shelf
    };
    assert!(recover(&renamed(vec![segment]), true).records.is_some());
    let twice = renamed(vec![segment, segment]);
    assert_eq!(found(recover(&twice, true)), PAGES as usize);
    let last = Segment { number: u64::MAX, ..segment };
    assert_eq!(recover(&renamed(vec![segment, last]), true).records, None);
}

#[test]
fn who_has_forgotten_and_was_cut_off_has_forgotten_still() {
    let (shelf, ..) = disk();
    assert_eq!(recover(&shelf, false).records, None);
    // Before anything was written: the log says nothing, and is as sound as that of one that is new.
    assert_eq!(recover(&shelf, true).records, None, "it would vote from nothing");
}

/// A file full of zeros takes no room on the disk, and was read as chunks without entries, eight bytes each.
#[test]
fn a_segment_of_nothing_is_not_read_for_long() {
    let (shelf, segment, _) = disk();
    for number in [segment.number, segment.number + 1] {
        let header = shelf.content(File::Segment(segment.number)).unwrap()[..60].to_vec();
        shelf.put(File::Segment(number), Some([header, vec![0; 1 << 20]].concat()));
        shelf.take_done();
        assert_eq!(found(recover(&shelf.copy(), true)), 0);
        let copy = shelf.copy();
        recover(&copy, true);
        let reads = copy.take_done().iter().filter(|done| **done == "read at").count();
        assert!(reads < 20, "{reads} reads");
    }
}
