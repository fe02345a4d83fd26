use super::super::shelf::{Refused, Shelf};
use super::*;
use alloc::vec;
use proptest::prelude::*;

const STATE: Digest = Digest([7; 32]);

fn content(entries: Vec<Entry>) -> SegmentContent {
    SegmentContent::new(3, 1, STATE, entries)
}

/// More than a chunk, with a page that is gone and one that is empty.
fn large() -> Vec<Entry> {
    let mut entries: Vec<Entry> = (0..10).map(|i| (i, Some(Page::from(vec![i as u8; 60_000])))).collect();
    entries.push((11, None));
    entries.push((12, Some(Page::from(vec![]))));
    entries
}

fn read(shelf: &Shelf, segment: Segment) -> Result<Vec<Entry>, StorageError<Refused>> {
    let mut entries = Vec::new();
    read_segment(&mut shelf.clone(), segment, |entry| entries.push(entry)).map(|()| entries)
}

#[test]
fn what_was_written_is_read_back_with_the_length_that_was_named() {
    for entries in [vec![], vec![(5, None)], large()] {
        let (shelf, content) = (Shelf::default(), content(entries.clone()));
        write_segments(&mut shelf.clone(), core::slice::from_ref(&content)).unwrap();
        let bytes = shelf.content(File::Segment(3)).unwrap();
        assert_eq!(bytes.len() as u64, content.segment().len);
        assert_eq!(read(&shelf, content.segment()), Ok(entries));
        assert!(content.pieces().all(|piece| piece.len() <= CHUNK_HEADER_LEN + MAX_CHUNK_BYTES));
    }
}

#[test]
fn all_segments_are_durable_and_so_are_their_names_before_anything_counts() {
    let shelf = Shelf::default();
    let contents = [content(large()), SegmentContent::new(4, 2, STATE, vec![(1, None)])];
    write_segments(&mut shelf.clone(), &contents).unwrap();
    let done = shelf.take_done();
    assert_eq!(done.iter().filter(|operation| **operation == "create").count(), 2);
    assert_eq!(done[done.len() - 2..], ["sync", "sync directory"]);
    let first = done.iter().rposition(|operation| *operation == "create").unwrap();
    assert_eq!(done[first - 1], "sync");
    for operation in ["create", "append", "sync", "sync directory"] {
        shelf.fail(Some(operation));
        assert_eq!(write_segments(&mut shelf.clone(), &contents), Err(Refused(operation)));
        for number in [3, 4] {
            assert_eq!(shelf.content(File::Segment(number)), None, "a full disk has room again");
        }
    }
}

#[test]
fn whatever_is_not_as_it_was_written_is_damage() {
    let small = vec![(1, Some(Page::from(vec![0; 20]))), (2, None)];
    let (shelf, content) = (Shelf::default(), content(small));
    let segment = content.segment();
    write_segments(&mut shelf.clone(), &[content]).unwrap();
    let bytes = shelf.content(File::Segment(3)).unwrap();
    let damaged = |changed: Option<Vec<u8>>| {
        let other = shelf.copy();
        other.put(File::Segment(3), changed);
        matches!(read(&other, segment), Err(StorageError::DamagedSegment { number: 3, .. }))
    };
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(damaged(Some(flipped)), "bit {bit}");
    }
    for cut in 0..bytes.len() {
        assert!(damaged(Some(bytes[..cut].to_vec())), "cut at {cut}");
    }
    assert!(damaged(Some([&bytes[..], &[0]].concat())), "longer than it was");
    assert!(damaged(None), "missing");
    let whole = Segment { number: 3, ..segment };
    assert!(read(&shelf, whole).is_ok());
    for other in [
        Segment { part: 0, ..segment },
        Segment { state: Digest([8; 32]), ..segment },
        Segment { len: segment.len - 1, ..segment },
        Segment { len: segment.len + 1, ..segment },
    ] {
        assert!(read(&shelf, other).is_err(), "{other:?} is another one");
    }
}

proptest! {
    #[test]
    fn no_content_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode_entries(&bytes);
        let (shelf, content) = (Shelf::default(), content(vec![(1, None)]));
        shelf.put(File::Segment(3), Some(bytes.clone()));
        prop_assert!(read(&shelf, content.segment()).is_err());
        // Behind a header that is right.
        let header = content.segment().header();
        shelf.put(File::Segment(3), Some([&header[..], &bytes].concat()));
        prop_assert!(read(&shelf, content.segment()).is_err());
    }
}
